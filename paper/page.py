"""python -m paper.page: results/README.md and its pictures, from results/tiny.jsonl, hypotheses.txt and page.md alone."""

import os
import re
from collections import defaultdict

from configurator import one_line_errors

import numpy as np

from paper import figures, hypotheses
from paper.collect import records
from paper.hypotheses import MEASURES, NEVER, SOLVED, compare, label_of, runs_of, system_of, title_of, values_of

# -----------------------------------------------------------------------------
# Pictures of what the rows of hypotheses.txt compare


def names_in(table, runs, *measures):
    """-> {a run's name without seed and part: the first row that compares it by one of these}, where there is a value"""
    names = {}
    for row in (row for h in table for row in h.rows if row.measure in measures):
        for name in (side.partition(":")[0] for side in (row.a, row.b)):
            if values_of(runs, name, row.measure):
                names.setdefault(name, row)
    return names


def color_of(name):
    return figures.style_of(system_of(name).partition(",")[0])[1]


def forest(table, runs, out):
    """Every comparison of perplexities or accuracies, with its 95 % interval; the number before it is its hypothesis, a tick
    the limit that was asked for. Circles hold, open squares do not, diamonds are inconclusive; pale ones do not decide."""
    panels, marks = defaultdict(list), {"holds": dict(fmt="o", color="#0072B2")}
    marks["does not hold"] = dict(fmt="s", color="#D55E00", mfc="white")
    marks["inconclusive"] = dict(fmt="D", color="#7f7f7f", ms=5)
    for number, h in enumerate(table, 1):
        for row in h.rows:
            if row.measure in ("perplexity", "accuracy") and (result := compare(row, runs)).ends:
                panels[row.measure].append((number, row, result))
    figure, axes = figures.panels_of(len(panels), 2, 7.5, 1 + 0.23 * max(map(len, panels.values())))
    for ax, (measure, rows) in zip(axes, panels.items(), strict=True):
        names, most = [], 1.15 * max(abs(result.ends[0]) for _, _, result in rows)
        for y, (number, row, result) in enumerate(rows):
            mean, low, high = np.clip(result.ends, -most, most)
            style = marks[result.verdict] | dict(alpha=1 if row.decides else 0.45, lw=1.4, capsize=2)
            ax.errorbar(mean, y, xerr=[[mean - low], [high - mean]], **style)
            for limit in {row.limit, -row.limit if row.sign == "=" else row.limit}:
                ax.plot(limit, y, "|", color="black", ms=9)
            names.append(f"{number}   {title_of(row.a)}: {label_of(row, row.a)} against {label_of(row, row.b)}")
        less, more = (MEASURES[measure].less.split(), MEASURES[measure].more.split())
        ax.axvline(0, color="black", lw=0.8)
        ax.set_yticks(range(len(names)), names, fontsize=8)
        ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(-most, most), title=f"{measure}: the first named is")
        ax.set_xlabel(f"{less[1]}   \N{LEFTWARDS ARROW}   {less[0]}   \N{RIGHTWARDS ARROW}   {more[1]}")
    figure.tight_layout(w_pad=3)
    figures.save(figure, out)


def message(table, runs, out):
    """The message: what the Base makes of a run's own latents, of another example's, and of none. On text by ahead token, a
    mean over seeds; else a line is a seed, and runs on ProsQA that guess have nothing to lose, and are left out."""
    names = names_in(table, runs, "perplexity_by_message", "accuracy_by_message")
    figure, axes = figures.panels_of(len(names), 3, 3.5, 3.3)
    for ax, (name, row) in zip(axes, names.items(), strict=True):
        found, parts = runs_of(runs, name), {"untouched": "its own", "swapped": "another's", "none": "none"}
        seeds = values_of(runs, name, row.measure)
        if row.measure == "perplexity_by_message":
            nll = {part: np.mean([r["latents"]["by_ahead"][part] for r in found.values()], axis=0) for part in parts}
            for (part, label), dash in zip(parts.items(), figures.DASHES, strict=False):
                ax.plot(range(1, len(nll[part]) + 1), nll[part], color=color_of(name), ls=dash, label=label)
            ax.legend(frameon=False, fontsize=9)
            ax.set(xlabel="ahead token", ylabel="-log p", ylim=(0, None))
        else:
            scores = [values_of(runs, f"{name}:{part}", row.measure) for part in parts]
            for seed in seeds:
                ax.plot([score[seed] for score in scores], marker="o", color=color_of(name), lw=1, alpha=0.8)
            ax.set_xticks(range(3), parts.values())
            ax.set(ylabel="accuracy (%)", xlim=(-0.3, 2.3), ylim=(0, 103))
        model = figures.model_name(next(iter(found.values())))
        ax.set_title(f"{title_of(name)}: {system_of(name)}\n{model}, {len(seeds)} seeds", fontsize=9)
        ax.grid(alpha=0.25)
    figure.tight_layout()
    figures.save(figure, out)


def solved(table, runs, out):
    """ProsQA. Above: test accuracy against the passes of Base and Coprocessor until the answer begins; a mark is a run, a full
    one had to spell its steps; half of the answers are right by chance. Below, epoch by epoch: the share of a system's runs
    that have solved it; a lane is a system, as high as all its runs."""
    lanes = [name for name in names_in(table, runs, "epochs") if not name.startswith("long")]
    figure = figures.Figure(figsize=(12, 4 + 0.32 * len(lanes)))
    grid = figure.add_gridspec(2, 2, height_ratios=[4, 0.32 * len(lanes)], wspace=0.75, hspace=0.3)
    for column, tasks in enumerate((("prosqa", "steps"), ("long",))):
        ax, ends = figure.add_subplot(grid[0, column]), []
        names = [name for name in names_in(table, runs, "accuracy", "epochs") if name.partition("_")[0] in tasks]
        for n, name in enumerate(names):
            found, color = [*runs_of(runs, name).values()], color_of(name)
            x = [r["metrics"][-1]["passes_to_answer"] + 0.02 * (n - len(names) / 2) for r in found]
            y, spells = [*values_of(runs, name, "accuracy").values()], bool(found[0]["config"].get("step_weight"))
            ax.plot(x, y, "o", ms=5, color=color, mfc=color if spells else "white")
            ends.append((x[0], np.mean(y), f"{system_of(name)}{', steps spelled' * spells}: {np.mean(y):.0f}", color))
        ax.set(title=f"chains of {2 + column} steps", xlabel="passes until the answer begins", ylabel="test accuracy (%)")
        ax.set(xlim=(1.5, 7.5), ylim=(0, 105))
        ax.axhline(50, color="black", lw=0.6, ls=":")
        ax.grid(alpha=0.25)
        figures.label_ends(ax, ends)
    ax = figure.add_subplot(grid[1, :])
    for lane, name in enumerate(lanes):
        epochs = range(2 + max(line.get("epoch", 0) for r in runs_of(runs, name).values() for line in r["metrics"]))
        when = [*values_of(runs, name, "epochs").values()]
        height = [lane - 0.8 * np.mean([w <= epoch for w in when]) for epoch in epochs]
        ax.fill_between(epochs, lane, height, step="post", color=color_of(name), alpha=0.35, lw=0)
        ax.step(epochs, height, where="post", color=color_of(name), lw=1.8)
        ax.text(epochs[-1] + 0.1, lane, f"{sum(w < NEVER for w in when)} of {len(when)} runs", fontsize=9, va="bottom")
    ax.set_yticks(range(len(lanes)), [f"{title_of(name)}: {system_of(name)}" for name in lanes])
    ax.set(ylim=(len(lanes) - 0.8, -1), xlabel="epoch")
    ax.grid(alpha=0.25, axis="x")
    figures.save(figure, out)


def distance(table, runs, out):
    """How far above continued pretraining the systems with latents are on text, as training goes on, and at its end by ahead
    token, where there are several seeds. A line is a mean over them, its band goes from the lowest to the highest."""
    panels = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in (row for h in table for row in h.rows if row.measure == "perplexity" and row.b.endswith("_continued")):
        ours, task = runs_of(runs, row.a), title_of(row.a)
        for plain, record in ((plain, ours[seed]) for seed, plain in runs_of(runs, row.b).items() if seed in ours):
            key = record["config"]["variant"], system_of(row.a)
            for line, its in zip(record["metrics"], plain["metrics"], strict=True):
                if line["tokens"]:
                    above = 100 * (line["val_ppl"] / its["val_ppl"] - 1)
                    panels[f"{task}, by millions of tokens"][key][line["tokens"] / 1e6].append(above)
            for n, nll in enumerate(np.subtract(line.get("val_nll", []), its.get("val_nll", [])) if len(ours) > 1 else (), 1):
                panels[f"{task}, by ahead token"][key][n].append(100 * np.expm1(nll))
    figures.curves(panels, out, dict(ylabel="% above continued pretraining", xlim=(0, None)))


def captured(table, runs, out):
    """How much of one latent's variance lies in another's subspace, beside ordinary tokens at the same places, and the same
    latents shuffled across their slots, which is the most there can be. A mark is a seed."""
    names = names_in(table, runs, "capture")
    figure, (ax,) = figures.panels_of(1, 1, 9, 0.42 * len(names) + 1)
    colors, labels = ("#0072B2", "#D55E00", "#7f7f7f"), ("latents", "ordinary tokens", "shuffled latents")
    for n, (part, label, color, mark) in enumerate(zip(("", "tokens", "shuffled"), labels, colors, "osx", strict=True)):
        lanes = [(x, lane) for lane, name in enumerate(names) for x in values_of(runs, f"{name}:{part}", "capture").values()]
        x, y = np.array(lanes).T
        ax.plot(x, y + 0.22 * (n - 1), mark, ms=5, label=label, color=color, mfc=color if mark == "o" else "none")
    ax.set_yticks(range(len(names)), [f"{title_of(name)}: {system_of(name)}" for name in names])
    ax.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 1.02), xlabel="capture off the diagonal")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.grid(alpha=0.25)
    figures.save(figure, out)


PICTURES = {"hypotheses": forest, "message": message, "solved": solved, "distance": distance, "capture": captured}


# -----------------------------------------------------------------------------
# The text


def table_row(number, h, results, after):
    decide = [row for row in h.rows if row.decides]
    plain = hypotheses.together([results[row].verdict for row in decide], bool(h.paper))
    corrected = hypotheses.together([after[row] for row in decide], bool(h.paper))
    told = "<br>".join(results[row].told for row in decide)
    return f"| {number} | {h.text} | {h.paper or '-'} | {told} | **{plain}** | {corrected} |"


def details(number, h, results, runs):
    """Folded: every comparison, and the values that were compared"""
    lines = [f"<details><summary>{number}. {h.text}</summary>", "", *([h.note, ""] if h.note else [])]
    lines += ["| comparison | asked | | p |", "|---|---|---|---|"]
    for row in h.rows:
        told, verdict, p, _ = results[row]
        limit = f" {'±' if row.sign == '=' else '+' if row.limit > 0 else '-'} {abs(row.limit):g}" * bool(row.limit)
        asked, word = f"{row.measure}: {row.a} {row.sign} {row.b}{limit}", f"**{verdict}**" if row.decides else verdict
        lines.append(f"| {told} | {asked} | {word} | {'-' if p is None else f'{p:.2g}'} |")
    lines += ["", "| runs | | values |", "|---|---|---|"]
    for side, measure in dict.fromkeys((side, row.measure) for row in h.rows for side in (row.a, row.b)):
        values = values_of(runs, side, measure)
        told = ", ".join(f"s{seed} {x:.{MEASURES[measure].digits + 1}f}" for seed, x in values.items())
        lines += [f"| {side} | {measure} | {told.replace('inf', 'never')} |"] * bool(values)
    return "\n".join([*lines, "", "</details>", ""])


def setup(table, runs):
    """A line a task: what its first run was told"""
    lines = {}
    for name in names_in(table, runs, *MEASURES):
        record, task = next(iter(runs_of(runs, name).values())), title_of(name)
        c, epochs = record["config"], [line["epoch"] + 1 for line in record["metrics"] if "epoch" in line]
        passes = max(epochs) if epochs else f"{c['tokens'] / c['seq_len'] / record['rows']:.1f}" if "rows" in record else "-"
        sizes = {r["config"]["n_latents"] for key, r in runs.items() if title_of(key) == task} - {0}
        cells = [task, figures.model_name(record), c["init_from"], c["data"], passes]
        cells += [*(c.get(key, "-") for key in ("seq_len", "n_sites", "n_ahead")), ", ".join(map(str, sorted(sizes)))]
        cells += [f"{c['lr']:g}", c["batch_size"], len(runs_of(runs, name))]
        lines.setdefault(task, f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines.values())


def values_in_words(runs, name, measure):
    """The lowest and the highest value of a run's seeds"""
    values, digits = sorted(values_of(runs, name, measure).values()), MEASURES[measure].digits + MEASURES[measure].log
    ends = " to ".join(dict.fromkeys(f"{x:.{digits}f}" for x in values[:1] + values[-1:])) + " %" * measure.startswith("acc")
    return f"{ends} ({len(values)} seed{'s' * (len(values) > 1)})" if values else "not run"


def page(table, runs):
    """-> the text of results/README.md"""
    results = {row: compare(row, runs) for h in table for row in h.rows}
    deciding = [row for row in results if row.decides and results[row].p is not None]
    adjusted = dict(zip(deciding, hypotheses.holm([results[row].p for row in deciding]), strict=True))
    after = {row: result.verdict if adjusted.get(row, 0) < 0.05 else "inconclusive" for row, result in results.items()}
    sizes, captions = [r["parameters"] / 1e6 for r in runs.values()], {name: draw.__doc__ for name, draw in PICTURES.items()}
    with open(os.path.join(os.path.dirname(__file__), "page.md"), encoding="utf-8") as f:
        template = re.sub(r"\[\[(\S+) (\S+)\]\]", lambda m: values_in_words(runs, *m.groups()), f.read())
    return template.format(
        runs=len(runs), smallest=min(sizes), largest=max(sizes), deciding=len(deciding), above=100 * SOLVED,
        hours=sum(r["seconds"] for r in runs.values() if "gpu" not in r) / 3600,
        minutes=sum(r["seconds"] for r in runs.values() if "gpu" in r) / 60,
        pooled=sum("asked" in r and "correct" not in r for r in runs.values()),
        setup=setup(table, runs),
        table="\n".join(table_row(n, h, results, after) for n, h in enumerate(table, 1)),
        details="\n".join(details(n, h, results, runs) for n, h in enumerate(table, 1)),
        **{name: f"![{name}]({name}.png)\n\n*{' '.join(text.split())}*" for name, text in captions.items()},
    )  # fmt: skip


def main():
    table, runs = hypotheses.hypotheses(), records()
    for name, draw in PICTURES.items():
        draw(table, runs, f"results/{name}.png")
    with open("results/README.md", "w", encoding="utf-8") as f:
        f.write(page(table, runs))
    print("wrote results/README.md")


if __name__ == "__main__":
    one_line_errors(main)
