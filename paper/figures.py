"""The paper's figures and tables, drawn from runs.

    python -m paper.figures figure2 out/tiny_text* --out=out/figure2.png
    python -m paper.figures figure5 --out=results/figure5.png
    python -m paper.figures table1 out/*_eval
    python -m paper.figures table2 out/gsm8k_* out/prosqa_*

figure2   validation perplexity while training; stages: validation accuracy, epoch by epoch
figure3a  accuracy against N_L (GSM8K; figure7: ProsQA); figure3b: against Countdown's operands (figure8: resumed runs, too)
figure4   cross-capture of runs that analyze_latents.py has looked at; figure9: more of them
figure5   who sees whom in the three passes, for a toy sequence, from the code's own dense mask
table1    the five benchmarks and their mean, from the folders of evaluate.py; table2: GSM8K and ProsQA after the curriculum
table3    Hypothesis 2 on GSM8K from scratch, from a large-scale run, and straight to all latents from one, where the steps
          behind the first stay in words or no step does; table4: on ProsQA

Runs that differ in their seed alone are one line, with a band from the lowest to the highest, or one cell. Others of one
variant are told apart by the settings in which they differ. The paper's numbers stand beside the N_L that they are of.
"""

import os
import re
import zlib
from collections import defaultdict
from functools import partial

from configurator import Parser, note, one_line_errors, read_json

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from analyze_latents import heatmap, task_of
from model import FAMILIES, branch_mask
from paper.collect import read

# {variant: (what it is called, its colour)}, in the order of tables. The colours are Okabe and Ito's, which the colour-blind
# tell apart; lines of one colour differ in their dashes
STYLES = {
    "continued": ("continued pretraining", "#000000"), "soft": ("soft embeddings", "#009E73"),
    "liu": ("Liu et al.", "#E69F00"), "h1": ("Hypothesis 1 (frozen, cache)", "#CC79A7"),
    "h2": ("Hypothesis 2 (co-finetuned)", "#0072B2"), "coconut": ("Coconut", "#D55E00"),
    "cot": ("chain of thought", "#7f7f7f"), "no_cot": ("no chain of thought", "#7f7f7f"),
    "no_thought": ("curriculum without latents", "#7f7f7f"), "pause": ("pause tokens", "#009E73"),
    "tied": ("tied: one network, three passes", "#56B4E9"), "rounds": ("rounds", "#8c6d31"),
}  # fmt: skip
OWN_COLORS = ["#6a3d9a", "#b2182b", "#b15928"]  # of other variants, by their names
DASHES = ["-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1))]
REAL_SIZE = {"gpt2": 124_439_808, "qwen3": 596_049_920}  # parameters of what the paper calls by these names

# The paper's tables. Table 1, N_L = 16: {(family, system): accuracy on the five benchmarks}
BENCHMARKS = {
    "hellaswag": "HellaSwag", "arc_easy": "ARC-Easy", "social_iqa": "SocialIQA", "piqa": "PIQA", "winogrande": "Winogrande",
}  # fmt: skip
TABLE1 = {
    ("gpt2", "continued"): (30.7, 54.2, 37.8, 64.5, 50.5), ("gpt2", "soft"): (30.7, 55.6, 37.7, 64.6, 51.9),
    ("gpt2", "liu"): (29.0, 45.0, 37.4, 62.1, 50.7), ("gpt2", "h1"): (29.4, 48.2, 38.7, 62.9, 52.3),
    ("gpt2", "h2"): (31.2, 55.8, 38.2, 65.3, 52.1),
    ("qwen3", "continued"): (26.6, 34.5, 35.3, 55.1, 52.0), ("qwen3", "soft"): (25.9, 37.2, 34.6, 55.3, 50.4),
    ("qwen3", "liu"): (31.8, 36.5, 35.4, 58.1, 52.0), ("qwen3", "h1"): (35.2, 45.0, 39.0, 61.0, 55.7),
    ("qwen3", "h2"): (37.3, 53.1, 41.9, 63.4, 51.1),
}  # fmt: skip
# Table 2, N_L = 12: {system: accuracy by PAPERS}; its reference rows are Coconut's. Tables 3 and 4, N_L = 16: {task: {model:
# accuracy of PROTOCOLS}}, whose last two are readings of one
PAPERS = [("GPT-2", "GSM8K"), ("GPT-2", "ProsQA"), ("Qwen-3", "GSM8K"), ("Qwen-3", "ProsQA")]
TABLE2 = {
    "cot": (42.9, 77.5), "no_cot": (16.5, 76.7), "coconut": (34.1, 97.0), "soft": (26.5, 97.7, 38.5, 99.5),
    "liu": (16.5, 52.6, 22.4, 81.0), "h1": (12.0, 54.1, 24.0, 79.0), "h2": (31.5, 99.0, 38.6, 99.5),
}  # fmt: skip
STEPS_STAY, NO_STEPS = "straight (steps stay)", "straight (no steps)"
PROTOCOLS = {
    "scratch": (False, "curriculum"), "resume + curriculum": (True, "curriculum"),
    STEPS_STAY: (True, STEPS_STAY), NO_STEPS: (True, NO_STEPS),
}  # fmt: skip
TABLES3AND4 = {
    "GSM8K": {"GPT-2": (31.5, 26.0, 28.2), "Qwen-3": (38.6, 35.7, 37.3)},
    "ProsQA": {"GPT-2": (99.0, 97.1, 97.3), "Qwen-3": (99.5, 88.3, 84.5)},
}


# -----------------------------------------------------------------------------
# What a run is


def protocol(config):
    """Of a run on GSM8K or ProsQA: "curriculum", or one of two readings of the paper's "straight to 16": all latents are there
    from the first epoch on, for the first k steps, and the later ones stay in words; or no step is ever written out.
    """
    if config["first_stage"] > config["stages"]:
        return NO_STEPS
    return STEPS_STAY if config["first_stage"] == config["stages"] and not config["last_stage_epochs"] else "curriculum"


def is_resumed(config):
    """Did it start from both models of a large-scale run, or from a Base?"""
    return config["started_from"].startswith("all of")


def setting(config):
    """What a run was trained on, as the paper's section 4.3 has it"""
    task = task_of(config)
    if task == "text":
        return "large-scale"
    how = f"{config['operands']} operands" if task == "Countdown" else protocol(config)
    if how == NO_STEPS and not is_resumed(config):
        how = "no curriculum"
    return ", ".join([task, *[how] * (how != "curriculum"), *["resumed"] * is_resumed(config)])


def model_name(record):
    """A tiny model does not go by the real one's name: "GPT-2-shaped, 0.1M"."""
    name, n = FAMILIES[record["family"]].display_name, record["parameters"]
    return name if abs(n / REAL_SIZE.get(record["family"], 1) - 1) < 0.01 else f"{name}-shaped, {n / 1e6:.1f}M"


# -----------------------------------------------------------------------------
# Which runs are seeds of one another, and which may stand side by side


NOT_SETTINGS = {"seed", "out_dir", "started_from", "started_in", "base_crc32", "resume", "overwrite"}


def settings_of(record):
    """All that decides a run but its seed. A start that is a run of that seed goes by its name without it."""
    config = {key: value for key, value in record["config"].items() if key not in NOT_SETTINGS}
    return config | {"init_from": re.sub(r"(_s|,seed=)\d+", "", config.get("init_from", ""))}


def differing(records, without=()):
    """-> the names of the settings in which these runs differ, of those that all have; auto does not say what it was"""
    found = [settings_of(record) for record in records]
    shared = set.intersection(*map(set, found)) - {*without}
    return sorted(key for key in shared if len({repr(config[key]) for config in found} - {"'auto'"}) > 1)


def refuse_other_bases(records, group):
    """Raises ValueError if two runs of one seed and group(record) started from different weights."""
    first = {}
    for record in (r for r in records if "base_crc32" in r["config"]):
        other = first.setdefault((group(record), record["config"]["seed"]), record)
        if record["config"]["base_crc32"] != other["config"]["base_crc32"]:
            raise ValueError(f"{record['name']} and {other['name']} are not from the same Base: see base_crc32 in config.json")


def lines_of(records, along=()):
    """Runs -> {title: {(variant, name): runs}}: those that differ in their seed alone are together

    along: settings that a picture is drawn along. Raises ValueError for one run twice, and if one Base's name is that of two.
    """
    refuse_other_bases(records, lambda r: settings_of(r)["init_from"])
    panels, seen = defaultdict(lambda: defaultdict(list)), set()
    variants = {r["config"]["variant"] for r in records}
    for variant in [v for v in (*STYLES, *sorted(variants - STYLES.keys())) if v in variants]:
        of_variant = [r for r in records if r["config"]["variant"] == variant]
        of_variant.sort(key=lambda r: r["config"].get("n_latents", 0))
        for record in of_variant:
            title = f"{model_name(record)}: {task_of(record['config'])}"
            like = [r for r in of_variant if f"{model_name(r)}: {task_of(r['config'])}" == title]
            apart = [key for key in differing(like, along) if key != "latents_per_step"]  # n_latents says it
            name = ", ".join([style_of(variant)[0], *(f"{key}={settings_of(record)[key]}" for key in apart)])
            panels[title][variant, name.replace("n_latents=", "N_L = ")].append(record)
            found = title, name, record["config"]["seed"], *(record["config"].get(key) for key in along)
            if found in seen:
                raise ValueError(f"two runs of {name} have seed {found[2]}: {record['config']['out_dir']}")
            seen.add(found)
    return panels


def last(record, name):
    """-> what its last evaluation says. Raises ValueError if there is none."""
    for line in record["metrics"][::-1]:
        if name in line:
            return line[name]
    raise ValueError(f"{record['name']} has no {name} in its metrics.jsonl: is it unfinished, or a run of another script?")


def evaluations(records, x, y):
    """-> {x: [y of each seed]}. Raises ValueError if some have been evaluated at other x, or never."""
    found = [{line[x]: line[y] for line in record["metrics"] if {x, y} <= line.keys()} for record in records]
    if any(curve.keys() != found[0].keys() for curve in found):
        names = ", ".join(record["name"] for record in records)
        raise ValueError(f"{names} have not been evaluated equally often: is one unfinished?")
    return {n: [curve[n] for curve in found] for n in found[0]} or last(records[0], y)


# -----------------------------------------------------------------------------
# Every table, every picture


def spread(values, digits=1):
    """'63.1 ± 0.4 (3)', the mean, standard deviation and number of seeds; '-' where there is none."""
    if not values:
        return "-"
    text = f"{np.mean(values):.{digits}f}"
    return text + (f" ± {np.std(values, ddof=1):.{digits}f} ({len(values)})" if len(values) > 1 else "")


def table(title, head, rows):
    """Print a table in Markdown. head: names of columns; rows: lists of cells"""
    lines = [f"| {' | '.join(map(str, row))} |" for row in [head, *rows]]
    print(*[title, ""] * bool(title), lines[0], "|" + "---|" * len(head), *lines[1:], sep="\n")


def style_of(variant):
    """-> (what it is called, its colour)"""
    return STYLES.get(variant, (variant, OWN_COLORS[zlib.crc32(variant.encode()) % len(OWN_COLORS)]))


def panels_of(n, columns, width, height):
    """-> a Figure, its n axes, so many in a row; width and height of each in inches"""
    rows, columns = -(-n // columns), min(n, columns)
    figure = Figure(figsize=(width * columns, height * rows))
    return figure, [figure.add_subplot(rows, columns, i) for i in range(1, n + 1)]


def save(figure, out):
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=130, bbox_inches="tight", metadata={"Software": None})  # the same bytes wherever it is drawn
    print(f"wrote {out}")


def label_ends(ax, ends):
    """A line's name to the right of the axes, as high as it ends, but clear of the others. ends: [(x, y, text, color)]"""
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = sorted(((*to_axes.transform((x, y)), text, color) for x, y, text, color in ends), key=lambda end: end[1])
    gap = 0.17 / (ax.get_position().height * ax.figure.get_figheight())  # a line of text is 0.17 inches high
    steps = gap * np.arange(len(ends))
    free = np.array([y for _, y, _, _ in ends]) - steps
    heights = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2 + steps  # pushed up, pushed down
    for (x, y, text, color), height in zip(ends, heights, strict=True):
        ax.annotate(
            text, (x, y), (1.03, height), "axes fraction", "axes fraction", color=color, fontsize=9, va="center",
            annotation_clip=False, parse_math=False,
            arrowprops=dict(arrowstyle="-", color=color, lw=0.6, shrinkA=1, shrinkB=2, relpos=(0, 0.5)),
        )  # fmt: skip


def curves(panels, out, labels, marks=()):
    """Panels side by side, {title: {(variant, name): {x: [y of each seed]}}}: means, and a band from lowest to highest.

    labels: settings of the axes; marks: [(x, name)], upright
    """
    figure, axes = panels_of(len(panels), 2, 8, 4.6)
    figure.subplots_adjust(hspace=0.35, wspace=0.25 + 0.016 * max(len(name) for lines in panels.values() for _, name in lines))
    for ax, (title, lines) in zip(axes, panels.items(), strict=True):
        ends, colors = [], []
        for (variant, name), points in lines.items():
            x, color = sorted(points), style_of(variant)[1]
            mean, low, high = ([f(points[n]) for n in x] for f in (np.mean, min, max))
            dashes = dict(ls=DASHES[colors.count(color) % len(DASHES)]) | (dict(marker="o", ms=4) if len(x) < 6 else {})
            ax.plot(x, mean, lw=2, color=color, **dashes)
            ax.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
            ends.append((x[-1], mean[-1], f"{name}: {mean[-1]:.1f}", color))
            colors.append(color)
        ax.set(**labels)
        ax.set_title(title, pad=16 if marks else None, parse_math=False)  # a $ in a name is one
        ax.grid(alpha=0.25)
        for x, name in marks:
            ax.axvline(x, color="black", lw=0.6, ls=":")
            ax.text(x, 1.0, f" {name}", transform=ax.get_xaxis_transform(), fontsize=8, va="bottom")
        label_ends(ax, ends)
    save(figure, out)


# -----------------------------------------------------------------------------
# Curves: against tokens, epochs, latents and operands


def draw(lines, points, out, labels, at=(), marks=()):
    """lines_of some runs, and points(runs) -> {x: [y of each seed]}, as curves and as a table; at: its columns, else the end"""
    panels = {title: {key: points(runs) for key, runs in of_title.items()} for title, of_title in lines.items()}
    curves(panels, out, labels, marks)
    rows = []
    for title, (_, name), found in ((title, key, found) for title, of in panels.items() for key, found in of.items()):
        cells = [spread(found.get(x, []), 2) for x in at or [max(found)]]
        rows.append([title, name, *([] if at else [f"{max(found):g}"]), *cells])
    table("", ["", "system", *(at or [labels["xlabel"], labels["ylabel"]])], rows)


def figure2(records, out):
    """What is told at first, far above everything, is left out, but of continued: there it is the Base that all start from."""
    refuse_other_bases(records, model_name)  # a panel is about one Base

    def points(runs):
        plain = runs[0]["config"]["variant"] == "continued"
        return {n / 1e6: ppl for n, ppl in evaluations(runs, "tokens", "val_ppl").items() if n or plain}

    draw(lines_of(records), points, out, dict(xlabel="tokens (millions)", ylabel="validation perplexity, ahead tokens"))


def stages(records, out):
    """Validation accuracy after every epoch, and where the stages begin. All end together, some begin later."""
    last_epoch = {r["name"]: max((line["epoch"] for line in r["metrics"] if "epoch" in line), default=0) for r in records}
    ends = max(last_epoch.values()) + 1

    def points(runs):
        later = ends - last_epoch[runs[0]["name"]]
        return {n + later: [100 * x for x in y] for n, y in evaluations(runs, "epoch", "valid_accuracy").items()}

    # of a system that goes through all stages; frozen ones have no stage 0
    whole = max(records, key=lambda r: len({line["stage"] for line in r["metrics"] if "stage" in line}))
    later = ends - last_epoch[whole["name"]]
    begins = {line["stage"]: line["epoch"] + later for line in whole["metrics"][::-1] if "stage" in line}
    marks = [(epoch - 0.5, "last" if stage == max(begins) else f"stage {stage}") for stage, epoch in begins.items()]
    draw(lines_of(records), points, out, dict(xlabel="epoch", ylabel="validation accuracy (%)"), marks=marks)


def sweep(along, records, out):
    """Test accuracy along the first of some settings, a line a system. Seeds are asked the same questions: not pooled."""
    field, *_ = along
    records = [r for r in records if r["config"].get(field)]
    if not records:
        raise ValueError(f"none of these runs has {field}")
    at = sorted({r["config"][field] for r in records})

    def points(runs):
        found = {x: [100 * last(r, "test_accuracy") for r in runs if r["config"][field] == x] for x in at}
        return {x: values for x, values in found.items() if values}

    draw(lines_of(records, along), points, out, dict(xlabel=field, ylabel="test accuracy (%)", xticks=at, ylim=(0, None)), at)


# -----------------------------------------------------------------------------
# Pictures of matrices


def figure4(records, out):
    for record in records:
        if "latents" not in record:
            raise FileNotFoundError(f"{record['name']} has no latents.json: analyze_latents.py makes it")
    figure, axes = panels_of(len(records), 4, 5.2, 4.8)
    for ax, record in zip(axes, records, strict=True):
        system = style_of(record["config"]["variant"])[0]
        heatmap(ax, record["latents"], f"{setting(record['config'])}: {system}\n{model_name(record)}")
    figure.tight_layout()
    save(figure, out)


def figure5(out):
    text, sites, n_latents, n_ahead = "abcdef", [1, 3], 2, 2
    S, M = len(text), len(sites)
    soft = [text[s] + "'" * (i + 1) for s in sites for i in range(n_latents)]
    fed = [x for s in sites for x in (f"z$_{{{text[s]}'}}$", f"z$_{{{text[s]}''}}$", *text[s + 1 : s + n_ahead])]
    passes = [
        ("Pass 1: the Base reads", list(text), [], torch.ones(S, S, dtype=torch.bool).tril()),
        ("Pass 2: the Coprocessor's latents", soft, soft, branch_mask(torch.tensor([sites]), S, 0, n_latents)[0]),
        ("Pass 3: the Base predicts", fed, fed, branch_mask(torch.tensor([sites]), S, 0, len(fed) // M)[0]),
    ]
    figure = Figure(figsize=(14, 4.1))
    axes = figure.subplots(1, 3, width_ratios=[S, S + len(soft), S + len(fed)])
    for ax, (title, rows, own, mask) in zip(axes, passes, strict=True):
        kind = torch.where(mask, 1, 0)
        kind[:, S:] *= 2  # own branch in another colour
        ax.imshow(kind.numpy(), cmap=ListedColormap(["#f4f4f4", "#56B4E9", "#D55E00"]), vmin=0, vmax=2)
        for set_ticks, names in ((ax.set_xticks, list(text) + own), (ax.set_yticks, rows)):
            set_ticks(range(len(names)), names)
            set_ticks(np.arange(-0.5, len(names)), minor=True)
        ax.grid(which="minor", color="white", lw=1.5)
        ax.tick_params(which="both", length=0)
        ax.set(title=title, xlabel="key", ylabel="query")
        ax.spines[:].set_visible(False)
    sizes = f"$M$ = {M}, $N_L$ = {n_latents}, $N_A$ = {n_ahead}"
    figure.suptitle(f"abcdef with sites at b and d ({sizes}): blue, the prefix's cache; orange, the branch's own")
    figure.tight_layout()
    save(figure, out)


# -----------------------------------------------------------------------------
# Tables


def table1(folders):
    found, rows, items = {}, [], {}
    for folder in folders:
        r = read_json(os.path.join(folder, "results.json"))
        for task, its in r["tasks"].items():
            if its["items"] != items.setdefault(task, its["items"]):
                raise ValueError(f"{folder} has {its['items']} items of {task}, others {items[task]}: see --limit")
        key = r["family"], r["variant"], r["n_latents"], r["model"]
        if key in found:
            raise ValueError(f"{folder} is a second evaluation of {r['model']}")
        its = {task: r["tasks"][task] for task in BENCHMARKS if task in r["tasks"]}
        found[key] = {task: (100 * x["acc"], 100 * x["acc_stderr"]) for task, x in its.items()}
        if len(found[key]) == len(BENCHMARKS):
            accuracies, errors = zip(*found[key].values(), strict=True)
            found[key]["mean"] = [np.mean(accuracies), np.sqrt(np.sum(np.square(errors))) / len(errors)]
    order = [*STYLES, *(variant for _, variant, _, _ in found)]
    for family, variant, n, model in sorted(found, key=lambda key: (key[0], order.index(key[1]), key)):
        plain = [tasks for key, tasks in found.items() if key[:2] == (family, "continued")]
        theirs = ["-"] * 6
        if (family, variant) in TABLE1 and (variant == "continued" or n == 16):
            paper, base = ([*row, np.mean(row)] for row in (TABLE1[family, variant], TABLE1[family, "continued"]))
            theirs = [f"{x:.1f} ({round(x - y, 1) + 0.0:+.1f})" for x, y in zip(paper, base, strict=True)]  # never "-0.0"
        cells = []
        for task, its in zip([*BENCHMARKS, "mean"], theirs, strict=True):
            accuracy, error = found[family, variant, n, model].get(task, (None, None))
            ours = f"{accuracy:.1f} ± {error:.1f}" if accuracy is not None else "-"
            if accuracy is not None and len(plain) == 1 and variant != "continued" and task in plain[0]:
                ours += f" ({accuracy - plain[0][task][0]:+.1f})"
            cells.append(f"{ours} \\| {its}")
        rows.append([os.path.basename(model), style_of(variant)[0], n or "-", *cells])
    title = "Accuracy in % ± its standard error (difference from continued pretraining), ours \\| the paper's (N_L = 16)."
    table(title, ["model", "system", "N_L", *BENCHMARKS.values(), "mean of the five"], rows)


def cells_of(records):
    """Reasoning runs -> {(variant, N_L, model, task, one of PROTOCOLS): [test accuracy of each seed]}

    Raises ValueError for other runs, and if the runs of a cell are not seeds of one another.
    """
    cells = defaultdict(list)
    for r in records:
        last(r, "passes_to_answer"), last(r, "test_accuracy")  # it is a finished reasoning run
        c, way = r["config"], (is_resumed(r["config"]), protocol(r["config"]))
        cells[c["variant"], c["n_latents"], model_name(r), task_of(c), way].append(r)
    for runs in cells.values():
        if apart := differing(runs):
            names = ", ".join(r["name"] for r in runs)
            raise ValueError(f"{names} are one cell of the table, and differ in {', '.join(apart)}")
    return {key: [100 * last(r, "test_accuracy") for r in runs] for key, runs in cells.items()}


def shown(cells, belongs):
    """Those of cells_of whose key belongs to a table. The others are named."""
    for variant, n, model, task, (resumed, way) in (key for key in cells if not belongs(key)):
        note(f"not in this table: {variant} with {n} latents on {task}, {model}, {way}" + ", resumed" * resumed)
    return {key: values for key, values in cells.items() if belongs(key)}


def table2(records):
    """A column for each task and family of the paper, and one for every other model and task among the runs"""
    cells = shown(cells_of(records), lambda key: key[4] == PROTOCOLS["scratch"])
    ours = {key[:4]: values for key, values in cells.items()}
    theirs = {(v, 0 if "cot" in v else 12, *where): x for v, row in TABLE2.items() for where, x in zip(PAPERS, row)}  # noqa: B905
    columns = [*PAPERS, *sorted({key[2:] for key in ours} - {*PAPERS})]
    rows = []
    for row in dict.fromkeys(key[:2] for key in [*theirs, *sorted(ours)]):
        keys = [(*row, *where) for where in columns]
        cells = [spread(ours.get(key)) + (f" \\| {theirs[key]}" if key in theirs else "") for key in keys]
        rows.append([style_of(row[0])[0], row[1] or "-", *cells])
    table("Accuracy in %, ours \\| the paper's.", ["system", "N_L", *(f"{t}, {m}" for m, t in columns)], rows)


def tables_3_and_4(task, records):
    """A row for every system, N_L and model; the paper has h2 with 16"""
    ours, rows = shown(cells_of(records), lambda key: key[3] == task and key[1]), []
    for row in dict.fromkeys([*(("h2", 16, model) for model in TABLES3AND4[task]), *(key[:3] for key in ours)]):
        paper = TABLES3AND4[task].get(row[2]) if row[:2] == ("h2", 16) else None
        values, cells = [ours.get((*row, task, way), []) for way in PROTOCOLS.values()], []
        for n, seeds in enumerate(values):
            change = f" ({np.mean(seeds) - np.mean(values[0]):+.1f})" if n and seeds and values[0] else ""
            its = paper and f"{paper[min(n, 2)]}" + f" ({paper[min(n, 2)] - paper[0]:+.1f})" * (n > 0)
            cells.append(spread(seeds) + change + (f" \\| {its}" if its else ""))
        rows.append([*row, *cells])
    title = f"Accuracy in % on {task}, ours \\| the paper's (N_L = 16), and the change against scratch."
    table(f"{title} Its way straight to 16 can be read in two ways.", ["system", "N_L", "model", *PROTOCOLS], rows)


FIGURES = dict(figure2=figure2, stages=stages, figure4=figure4, figure9=figure4)
FIGURES |= dict.fromkeys(["figure3a", "figure7"], partial(sweep, ("n_latents", "latents_per_step")))
FIGURES |= dict.fromkeys(["figure3b", "figure8"], partial(sweep, ("operands",)))
TABLES = dict(table1=table1, table2=table2, table3=partial(tables_3_and_4, "GSM8K"), table4=partial(tables_3_and_4, "ProsQA"))


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("what", choices=["figure5", *FIGURES, *TABLES])
    parser.add_argument("runs", nargs="*", help="run folders; for table1 those of evaluate.py, for figure5 none")
    parser.add_argument("--out", help="of a figure (default: out/<what>.png); tables are printed")
    a = parser.parse_intermixed_args(argv)
    out = a.out or f"out/{a.what}.png"
    if a.what == "figure5":
        return figure5(out)
    # "out/tiny_text*" finds runs and evaluations of them: each picture leaves out what is made for the other
    of_others = "metrics.jsonl" if a.what == "table1" else "results.json"
    folders = [run for run in a.runs if not os.path.exists(os.path.join(run, of_others))]
    if not folders:
        raise ValueError(f"{a.what} is made from {'evaluations' if a.what == 'table1' else 'runs'}: name their folders")
    found = folders if a.what == "table1" else [read(run) for run in folders]
    FIGURES[a.what](found, out) if a.what in FIGURES else TABLES[a.what](found)


if __name__ == "__main__":
    one_line_errors(main)
