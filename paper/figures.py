"""The paper's figures and tables, drawn from runs.

    python -m paper.figures figure2 out/tiny_text* --out=out/figure2.png
    python -m paper.figures figure5 --out=results/figure5.png
    python -m paper.figures table1 out/*_eval
    python -m paper.figures table2 out/gsm8k_* out/prosqa_* --out=out/table2.md

figure2  validation perplexity while training: A and B the variants (GPT-2, Qwen-3), C and D h2 by N_L. Runs that differ
         only in their seed become one line with a band from the lowest to the highest. Also prints the final numbers.
figure5  who sees whom in the three passes, for a toy sequence, from the code's own dense mask.
table1   the five benchmarks and their mean, from evaluate.py's folders: ours, the paper's, the differences from continued
         pretraining.
table2   accuracy on GSM8K and ProsQA after the curriculum, ours beside the paper's; figure3a and figure7 draw it against N_L.
table3   Hypothesis 2 from the base checkpoints, from a large-scale run, and straight to 16 latents from one, where the steps
         behind the first stay in words or no step does; table4 on ProsQA.
figure3b accuracy on Countdown against operands, a line for each N_L, and the table with 95 % intervals; figure8 at the
         largest N_L, with h2 also from a large-scale run.
figure4  cross-capture heatmaps of runs that analyze_latents.py has looked at, beside the paper's numbers; figure9 is more of
         them. table5 their silhouettes, latent by latent.
stages   validation accuracy of reasoning runs, epoch by epoch, through the stages of the curriculum.

The paper's numbers stand beside runs of the N_L that they are of, or under a head that says which it is.
"""

import argparse
import colorsys
import dataclasses
import os
import re
import zlib
from collections import defaultdict
from functools import partial
from itertools import zip_longest
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
from configurator import one_line_errors

import matplotlib.pyplot as plt
import numpy as np
import torch

from analyze_latents import NO_STEPS, STEPS_STAY, heatmap, protocol
from coprocessor import Options
from model import branch_mask
from questions import wilson
from runtime import read_json, read_lines, read_metrics, weights_of

# Of the variants that the paper has; style_of makes those of others from their names
COLORS = {"continued": "#7f7f7f", "soft": "#2ca02c", "liu": "#ff7f0e", "h1": "#9467bd", "h2": "#1f77b4"}
COLORS |= {"coconut": "#8c564b", "cot": "#17becf", "no_cot": "#bcbd22", "no_thought": "#e377c2"}
LABELS = {
    "continued": "continued pretraining", "soft": "soft embeddings", "liu": "Liu et al.",
    "h1": "Hypothesis 1 (frozen, cache)", "h2": "Hypothesis 2 (co-finetuned)", "coconut": "Coconut",
    "cot": "chain of thought", "no_cot": "no chain of thought", "no_thought": "curriculum without latents",
    "pause": "pause tokens",
}  # fmt: skip
FAMILY_NAMES = {"gpt2": "GPT-2", "qwen3": "Qwen-3"}
MARKERS = {"gpt2": "o", "qwen3": "s"}

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
# Table 2, N_L = 12: {system: accuracy by COLUMNS}; its reference rows are Coconut's. Tables 3 and 4, N_L = 16: {(family, task):
# accuracy of PROTOCOLS}, whose last two are readings of one
TASKS = {"gsm8k": "GSM8K", "prosqa": "ProsQA"}
COLUMNS = [(family, task) for family in FAMILY_NAMES for task in TASKS]
TABLE2 = {
    "cot": (42.9, 77.5, "-", "-"), "no_cot": (16.5, 76.7, "-", "-"), "coconut": (34.1, 97.0, "-", "-"),
    "soft": (26.5, 97.7, 38.5, 99.5), "liu": (16.5, 52.6, 22.4, 81.0), "h1": (12.0, 54.1, 24.0, 79.0),
    "h2": (31.5, 99.0, 38.6, 99.5),
}  # fmt: skip
PROTOCOLS = {
    "scratch": (False, "curriculum"), "resume + curriculum": (True, "curriculum"),
    STEPS_STAY: (True, STEPS_STAY), NO_STEPS: (True, NO_STEPS),
}  # fmt: skip
TABLES3AND4 = {
    ("gpt2", "gsm8k"): (31.5, 26.0, 28.2), ("qwen3", "gsm8k"): (38.6, 35.7, 37.3),
    ("gpt2", "prosqa"): (99.0, 97.1, 97.3), ("qwen3", "prosqa"): (99.5, 88.3, 84.5),
}  # fmt: skip
# Section 4.3: {setting: (N_L, mean off-diagonal capture, silhouette, silhouettes of the latents)}
LATENTS = {
    "large-scale": (16, 0.9873, -0.1694, (
        -0.158, -0.089, -0.176, -0.173, -0.259, -0.113, -0.067, -0.143, -0.117, -0.170, -0.202, -0.252, -0.193, -0.133, -0.191,
        -0.211,
    )),
    "GSM8K": (12, 0.914, -0.031, (
        -0.014, -0.036, -0.036, -0.032, -0.044, -0.047, -0.047, -0.045, -0.032, -0.040, -0.022, 0.019,
    )),
    "GSM8K, no curriculum": (12, 0.962, -0.031, ()),
    "Countdown, 4 operands": (16, 0.9382, 0.4531, (
        0.912, 0.506, 0.324, 0.209, 0.243, 0.550, 0.635, 0.629, 0.723, 0.742, 0.568, 0.357, 0.336, 0.461, 0.026, 0.030,
    )),
}  # fmt: skip


# -----------------------------------------------------------------------------
# Records: what all of these read


def load(*path):
    return read_json(os.path.join(*path))


def read(folder):
    """A run folder -> its record: name, family, config, metrics (the lines with an evaluation and the last with a loss) and,
    where there are such, latents (what analyze_latents.py found, without words), right and asked (of predictions.jsonl).

    Raises FileNotFoundError if it is no run with weights.
    """
    try:
        config, name = load(folder, "config.json"), os.path.basename(os.path.normpath(folder))
        family, lines = load(weights_of(folder), "base", "config.json")["model_type"], read_metrics(folder)
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{folder} is not a finished run: {e}") from None
    record = dict(name=name, family=family, config=config)
    evaluated, last = {"val_ppl", "valid_accuracy", "test_accuracy"}, [line for line in lines if "loss" in line][-1:]
    record["metrics"] = [line for line in lines if evaluated & line.keys() or line in last]
    if os.path.exists(os.path.join(folder, "latents.json")):
        latents = record["latents"] = load(folder, "latents.json")
        latents["capture"] = np.round(latents["capture"], 4).tolist()  # it is only drawn, as colours
        latents.pop("words", None)
    if os.path.exists(os.path.join(folder, "predictions.jsonl")):
        correct = [line["correct"] for line in read_lines(os.path.join(folder, "predictions.jsonl"), like={"correct": False})]
        record |= dict(right=sum(correct), asked=len(correct))
    return record


class Kind(NamedTuple):
    """What runs share that differ in their seed."""

    family: str
    system: str  # the variant, and behind commas the options that the paper does not have: "h2, scaled Z"
    resumed: bool  # all of a large-scale run, not only a Base
    protocol: str  # "curriculum", or one of the ways straight to all latents; "" for what has no steps
    n_latents: int
    task: object  # "gsm8k", "prosqa", Countdown's operands; None for text

    @property
    def variant(self):
        return self.system.partition(",")[0]


def kind_of(record):
    c = record["config"]
    weight, resumed = c.get("orthogonality_weight"), c.get("started_from", "").startswith("all of")
    system = c["variant"] + ", scaled Z" * bool(c.get("scale_latents")) + (f", orthogonality {weight:g}" if weight else "")
    more = {f.name: f.default for f in dataclasses.fields(Options) if f.name not in ("scale_latents", "orthogonality_weight")}
    system += "".join(f", {name} {c[name]}" for name in more if c.get(name, more[name]) != more[name])  # a fork's own
    if "stages" not in c:
        return Kind(record["family"], system, resumed, "", c["n_latents"], c.get("operands"))
    task = "prosqa" if "prosqa" in c["data"] else "gsm8k"
    return Kind(record["family"], system, resumed, protocol(c), c["n_latents"], task)


def label_of(system):
    variant, comma, options = system.partition(",")
    return LABELS.get(variant, variant) + comma + options


def style_of(system):
    """A colour a variant; dashes for one with options. What the paper does not have is dash-dotted, coloured by its name."""
    variant, options, _ = system.partition(",")
    number = zlib.crc32(variant.encode())
    own = colorsys.hls_to_rgb(number % 360 / 360, 0.3 + 0.15 * (number // 360 % 3), 0.9)
    return dict(color=COLORS.get(variant, own), ls="--" if options else "-" if variant in COLORS else "-.")


def order_of(system, order):
    """To sort by: in the paper's order, what the paper does not have last."""
    variant = system.partition(",")[0]
    return [*order, variant].index(variant), system


def last(record, name):
    """-> what its last evaluation says, None if there is none"""
    return next((line[name] for line in record["metrics"][::-1] if name in line), None)


def by_seed(records, usable, complaint, key=kind_of):
    """-> {key(record): records}. Raises ValueError if one is not usable, or if what is to differ in its seed alone does not."""
    groups = defaultdict(list)
    for record in records:
        if not usable(record):
            raise ValueError(f"{record['name']} {complaint}")
        groups[key(record)].append(record)
        refuse_mixed(groups[key(record)])
    refuse_other_bases(records, start_of)
    return groups


def start_of(record):
    """What its config calls the Base that it started from; random weights are drawn by the seed, for a vocabulary."""
    c = record["config"]
    # from a run of paper/cells.py, or from the weights that are kept of it
    start = re.sub("(?:.*/)?(?:out/paper|results/bases)/([^/]+)(?:/checkpoint/base)?/?$", r"\1", c.get("init_from", ""))
    return (start, c["seed"], c.get("tokenizer", c.get("data"))) if start.startswith("random:") else (start,)


def refuse_other_bases(records, group):
    """Raises ValueError if one of the runs of a group(record) started from other weights than the others."""
    first = {}
    for record in records:
        if "base_crc32" not in record["config"] and record["config"].get("init_from", "").startswith("random:"):
            continue  # of before there were checksums: its weights follow from what start_of says of it
        other = first.setdefault(group(record), record)
        if record["config"].get("base_crc32") != other["config"].get("base_crc32"):
            raise ValueError(f"{record['name']} and {other['name']} are not from the same Base: see base_crc32 in config.json")


NOT_SETTINGS = {"seed", "out_dir", "started_from", "started_in", "base_crc32", "resume", "overwrite"}


def refuse_mixed(records):
    """Raises ValueError if the last of these runs is one of the others again, or differs from them in more than its seed."""
    starts = [re.sub(r"_s(eed)?_?\d+", "", start_of(r)[0]) for r in records]  # they may start from a run each
    *others, config = [r["config"] | dict(init_from=start) for r, start in zip(records, starts, strict=True)]
    label = label_of(kind_of(records[0]).system) + (f" on {config['operands']} operands" if "operands" in config else "")
    for other in others:
        if config["seed"] == other["seed"]:
            raise ValueError(f"two runs of {label} have seed {config['seed']}, one is {config['out_dir']}")
        for name in sorted(config.keys() & other.keys() - NOT_SETTINGS):
            found = config[name], other[name]
            if found[0] != found[1] and "auto" not in found:  # auto does not say which it was
                raise ValueError(f"runs of {label} differ in {name}: {found[0]} and {found[1]}")


def evaluations(records, x, y):
    """-> {x: [y of each seed]}. Raises ValueError if some have been evaluated at other x."""
    curves = [{line[x]: line[y] for line in record["metrics"] if {x, y} <= line.keys()} for record in records]
    if any(curve.keys() != curves[0].keys() for curve in curves):
        names = ", ".join(record["name"] for record in records)
        raise ValueError(f"{names} have not been evaluated equally often: is one unfinished?")
    return {n: [curve[n] for curve in curves] for n in curves[0]}


# -----------------------------------------------------------------------------
# Every table, every plot of lines


def spread(values, digits=1):
    """'63.1 ± 0.4 (3)', the mean, standard deviation and number of seeds; '-' where there is none."""
    if not values:
        return "-"
    text = f"{np.mean(values):.{digits}f}"
    return text + (f" ± {np.std(values, ddof=1):.{digits}f} ({len(values)})" if len(values) > 1 else "")


def table(title, head, rows, out=None):
    """Print a table in Markdown, and write it to the file `out`. head: names of columns; rows: lists of cells"""
    lines = [f"| {' | '.join(map(str, row))} |" for row in [head, *rows]]
    lines.insert(1, "|" + "---|" * len(head))
    text = "\n".join([title, "", *lines] if title else lines)
    print(text)
    if out:
        os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
        with open(out, "w", encoding="utf-8") as f:
            f.write(text + "\n")
        print(f"wrote {out}")


def plot(panels, out, width=7, legend=None, shared=False, marks=()):
    """Panels beside one another, each (lines, settings of its axes); a line is ({x: (y, lowest, highest)}, style).

    A line with a marker gets a bar at every point, others get a band. shared: one y axis, and the last panel's legend for
    all; legend: its title; marks: [(x, name)], dotted and upright.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(width * len(panels), 4.2), squeeze=False, sharey=shared)
    for ax, (lines, _) in zip(axes[0], panels, strict=True):
        for points, style in lines:
            x, (y, low, high) = sorted(points), np.array([points[x] for x in sorted(points)]).reshape(-1, 3).T
            if "marker" in style:
                ax.errorbar(x, y, np.abs([y - low, high - y]), lw=2, capsize=3, **style)
            else:
                ax.plot(x, y, lw=2, **style)
                ax.fill_between(x, low, high, color=style["color"], alpha=0.2, lw=0)
    for ax, (_, settings) in zip(axes[0], panels, strict=True):  # limits follow from all lines
        for x, name in marks:
            ax.axvline(x, color="black", lw=0.6, ls=":")
            ax.text(x + 0.1, 1.01, name, transform=ax.get_xaxis_transform(), fontsize=8)
        ax.set(**settings)
        finish(ax, legend)
        if shared and ax is not axes[0, -1]:
            ax.get_legend().remove()
    save(figure, out)


def finish(ax, title=None):
    ax.legend(frameon=False, title=title, alignment="left", loc="center left", bbox_to_anchor=(1.0, 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)


def save(figure, out):
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    figure.tight_layout()
    figure.savefig(out, dpi=130)
    plt.close(figure)
    print(f"wrote {out}")


def band(values):
    return np.mean(values), min(values), max(values)


def shades(sizes):
    return dict(zip(sizes, plt.cm.viridis(np.linspace(0.85, 0.1, len(sizes))), strict=True))


def along(field, found):
    """{Kind: value} -> {Kind without that field: {field: value}}"""
    lines = defaultdict(dict)
    for kind, value in found.items():
        lines[kind._replace(**{field: None})][getattr(kind, field)] = value
    return lines


# -----------------------------------------------------------------------------
# Large-scale training: section 4.1


def figure2(records, out):
    groups = by_seed(records, lambda r: last(r, "val_ppl"), "has no validation perplexity: it is no run of train.py")
    refuse_other_bases(records, lambda r: (r["family"], r["config"]["seed"]))  # a panel is about one Base
    runs = {kind: evaluations(seeds, "tokens", "val_ppl") for kind, seeds in groups.items()}
    ends = {kind: points[max(points)] for kind, points in runs.items()}
    panels, rows, verdicts = defaultdict(list), [], [""]
    for kind in sorted(runs, key=lambda kind: (kind.family, np.mean(ends[kind]))):
        points, ppl, label, n = runs[kind], np.mean(ends[kind]), label_of(kind.system), kind.n_latents
        family, letters = FAMILY_NAMES[kind.family], "AC" if kind.family == "gpt2" else "BD"
        title, curve = f"{letters[0]}  {family}: the variants", {x / 1e6: band(points[x]) for x in sorted(points)[1:]}
        compared = max((k.variant == "h2", k.n_latents) for k in runs if k.family == kind.family)[1]
        if kind.variant == "continued" or n == compared:
            panels[title].insert(0, (curve, style_of(kind.system) | dict(label=f"{label}: {ppl:.2f}")))
        if kind.variant == "continued":  # before its first step it is the Base that all start from
            base = np.mean(points[min(points)])
            style = dict(color="black", ls=":", label=f"the Base they start from: {base:.2f}")
            panels[title].insert(0, (dict.fromkeys(curve, (base, base, base)), style))
        sweep = sorted(k.n_latents for k in runs if k[:2] == kind[:2])
        if kind.system == "h2" and len(sweep) > 1:
            style = dict(color=shades(sweep)[n], label=f"$N_L$ = {n}: {ppl:.2f}")
            panels[f"{letters[1]}  {family}: latents under Hypothesis 2"].insert(0, (curve, style))

        plain = [ends[k] for k in runs if k[:2] == (kind.family, "continued") and max(runs[k]) == max(points)]
        against = f"{ppl - np.mean(plain[0]):+.2f}" if plain and kind.variant != "continued" else ""
        budget, n = f"{max(points) / 1e6:.1f}M", n if kind.variant != "continued" else "-"
        rows.append([family, label, n, budget, spread(ends[kind], 2).partition(" (")[0], len(ends[kind]), against])
        if kind.variant == "h2" and plain:
            verdict = f"{label} ends {against[1:]} {'below' if against[0] == '-' else 'above'} continued pretraining"
            verdicts.append(f"{family}, {budget} tokens, N_L = {n}: {verdict}")
    axes = dict(xlabel="tokens (millions)", ylabel="validation perplexity, ahead tokens")
    plot([(panels[title], axes | dict(title=title)) for title in sorted(panels)], out, 8.8, "final perplexity")
    table("", ["family", "variant", "N_L", "tokens", "perplexity", "seeds", "against continued"], rows)
    print(*verdicts, sep="\n")


def figure5(out):
    text, sites, n_latents, n_ahead = "abcdef", [1, 3], 2, 2
    S, M = len(text), len(sites)
    latents = [[text[s] + "'" * (i + 1) for i in range(n_latents)] for s in sites]
    ahead = [list(text[s + 1 : s + n_ahead]) for s in sites]
    soft = [x for branch in latents for x in branch]
    fed = [x for z, a in zip(latents, ahead, strict=True) for x in [f"z$_{{{t}}}$" for t in z] + a]
    site = torch.tensor([sites])
    passes = [
        ("Pass 1: the Base reads", list(text), [], torch.ones(S, S, dtype=torch.bool).tril()),
        ("Pass 2: the Coprocessor's latents", soft, soft, branch_mask(site, S, 0, n_latents)[0]),
        ("Pass 3: the Base predicts", fed, fed, branch_mask(site, S, 0, len(fed) // M)[0]),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.1), width_ratios=[len(text), S + len(soft), S + len(fed)])
    for ax, (title, rows, own, mask) in zip(axes, passes, strict=True):
        kind = torch.where(mask, 1, 0)
        kind[:, S:] *= 2  # own branch in another colour
        ax.imshow(kind.numpy(), cmap=matplotlib.colors.ListedColormap(["#f4f4f4", "#9ecae1", "#fd8d3c"]), vmin=0, vmax=2)
        columns = list(text) + own
        ax.set_xticks(range(len(columns)), columns)
        ax.set_yticks(range(len(rows)), rows)
        ax.set_xticks(np.arange(-0.5, len(columns)), minor=True)
        ax.set_yticks(np.arange(-0.5, len(rows)), minor=True)
        ax.grid(which="minor", color="white", lw=1.5)
        ax.tick_params(which="both", length=0)
        ax.set(title=title, xlabel="key", ylabel="query")
        ax.spines[:].set_visible(False)
    figure.suptitle(
        f"abcdef with sites at b and d ($M$ = {M}, $N_L$ = {n_latents}, $N_A$ = {n_ahead}): "
        "blue, the prefix's cache; orange, the branch's own"
    )
    save(figure, out)


# -----------------------------------------------------------------------------
# The five benchmarks; reasoning: section 4.2 and appendix B


def table1(folders, out=None):
    found, rows = {}, []
    for folder in folders:
        try:
            r = load(folder, "results.json")
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder} has no results.json: evaluate.py makes it") from None
        key = r["family"], r["variant"], r["n_latents"], r["model"]
        if key in found:
            raise ValueError(f"{folder} is a second evaluation of {r['model']}")
        found[key] = with_mean(r["tasks"])
    for key in sorted(found, key=lambda key: ([*FAMILY_NAMES].index(key[0]), order_of(key[1], LABELS), key)):
        family, variant, n_latents, model = key
        plain = [tasks for k, tasks in found.items() if k[:2] == (family, "continued")]
        theirs = ["-"] * 6
        if (family, variant) in TABLE1 and (variant == "continued" or n_latents == 16):
            paper, base = ([*row, np.mean(row)] for row in (TABLE1[family, variant], TABLE1[family, "continued"]))
            theirs = [f"{x:.1f} ({round(x - y, 1) + 0.0:+.1f})" for x, y in zip(paper, base, strict=True)]  # never "-0.0"
        row = [f"{FAMILY_NAMES[family]}, {LABELS.get(variant, os.path.basename(model))}", n_latents or "-"]
        for task, its in zip([*BENCHMARKS, "mean"], theirs, strict=True):
            ours = found[key].get(task)
            cell = f"{100 * ours['acc']:.1f} ± {100 * ours['acc_stderr']:.1f}" if ours else "-"
            if ours and len(plain) == 1 and variant != "continued" and task in plain[0]:
                cell += f" ({100 * (ours['acc'] - plain[0][task]['acc']):+.1f})"
            row.append(f"{cell} \\| {its}")
        rows.append(row)
    title = "Accuracy in % ± its standard error (difference from continued pretraining), ours \\| the paper's (N_L = 16)."
    table(title, ["model", "N_L", *BENCHMARKS.values(), "mean of the five"], rows, out)


def with_mean(tasks):
    """What evaluate.py found, {task: accuracy and its error}; where all five are there, so is their mean."""
    found = [tasks[task] for task in BENCHMARKS if task in tasks]
    if len(found) < len(BENCHMARKS):
        return tasks
    error = np.sqrt(np.sum(np.square([r["acc_stderr"] for r in found]))) / len(found)
    return tasks | {"mean": dict(acc=np.mean([r["acc"] for r in found]), acc_stderr=error)}


def reasoning(records, key=kind_of):
    """-> {key: records of seeds}"""
    complaint = "is not a finished reasoning run: no test accuracy in its metrics.jsonl"
    return by_seed(records, lambda r: "stages" in r["config"] and last(r, "test_accuracy") is not None, complaint, key)


def tested(records):
    """-> [test accuracy in percent]"""
    return [100 * last(record, "test_accuracy") for record in records]


def table2(records, out=None):
    runs, rows = reasoning(records), []
    plain = {k for k in runs if (k.resumed, k.protocol) == PROTOCOLS["scratch"]}
    theirs = {(system, 0 if system in ("cot", "no_cot") else 12): row for system, row in TABLE2.items()}
    systems = {(k.system, k.n_latents) for k in plain} | theirs.keys()
    for system, n in sorted(systems, key=lambda row: (order_of(row[0], TABLE2), row[1])):
        row = [label_of(system), n or "-"]
        for (family, task), paper in zip(COLUMNS, theirs.get((system, n), ["-"] * 4), strict=True):
            row.append(f"{spread(tested(runs[Kind(family, system, *PROTOCOLS['scratch'], n, task)]))} \\| {paper}")
        rows.append(row)
    head = ["system", "N_L", *(f"{FAMILY_NAMES[family]}, {TASKS[task]}" for family, task in COLUMNS)]
    table("Accuracy in %, ours | the paper's.", head, rows, out)


def tables_3_and_4(task, records, out=None):
    runs, rows = reasoning(records), []
    own = {(k.system, k.family) for k in runs if (k.task, k.n_latents) == (task, 16) and k.system not in COLORS}
    for system, family in [*(("h2", family) for family in FAMILY_NAMES), *sorted(own)]:
        paper, row = TABLES3AND4[family, task], [FAMILY_NAMES[family] + (f", {label_of(system)}" if system != "h2" else "")]
        found = [tested(runs[Kind(family, system, *protocol, 16, task)]) for protocol in PROTOCOLS.values()]
        for n, (ours, its) in enumerate(zip(found, [*paper, paper[-1]], strict=True)):
            change = f" ({np.mean(ours) - np.mean(found[0]):+.1f})" if n and ours and found[0] else ""
            theirs = f"{its} ({its - paper[0]:+.1f})" if system == "h2" else "-"
            row.append(f"{spread(ours)}{change} \\| {theirs}")
        rows.append(row)
    title = f"Accuracy in % on {TASKS[task]} with N_L = 16, ours | the paper's, and the change against scratch."
    title += " Its way straight to 16 can be read in two ways."
    table(title, ["model", *PROTOCOLS], rows, out)


def accuracy_against_latents(task, records, out):
    runs = {k: seeds for k, seeds in reasoning(records).items() if k.task == task and k.n_latents}
    scratch = PROTOCOLS["scratch"]
    lines = along("n_latents", {k: band(tested(seeds)) for k, seeds in runs.items() if (k.resumed, k.protocol) == scratch})
    if not lines:
        raise ValueError(f"none of these runs has latents on {TASKS[task]}")
    drawn = []
    for kind, points in sorted(lines.items()):
        label = f"{FAMILY_NAMES[kind.family]}, {label_of(kind.system)}"
        drawn.append((points, style_of(kind.system) | dict(marker=MARKERS[kind.family], label=label)))
    axes = dict(title=f"{TASKS[task]} accuracy against total latents", xlabel="$N_L$", ylabel="accuracy (%)")
    plot([(drawn, axes | dict(xticks=sorted({n for points in lines.values() for n in points})))], out)


def stages(records, out):
    """Validation accuracy after every epoch, and where the stages begin."""

    def through(record):
        kind = kind_of(record)
        return kind.system + f", {kind.protocol}" * (kind.protocol != "curriculum") + ", resumed" * kind.resumed

    runs = reasoning(records, through)
    curves = {system: evaluations(seeds, "epoch", "valid_accuracy") for system, seeds in runs.items()}
    last_epoch, lines, began = max(max(curve) for curve in curves.values()), [], {}
    for system, curve in sorted(curves.items()):
        later = last_epoch - max(curve) + 1  # all end together, some begin later; epochs count from 1
        style = style_of(system) | dict(label=f"{label_of(system)}: {spread(tested(runs[system]))}")
        lines.append(({epoch + later: band([100 * v for v in curve[epoch]]) for epoch in curve}, style))
        stage = {line["stage"]: line["epoch"] + later for line in runs[system][0]["metrics"][::-1] if "stage" in line}
        began = max(began, stage, key=len)  # of a system that goes through all of them; frozen ones have no stage 0
    marks = [(epoch - 0.5, "last" if stage == max(began) else f"stage {stage}") for stage, epoch in began.items()]
    plot([(lines, dict(xlabel="epoch", ylabel="validation accuracy (%)"))], out, 9, "test accuracy (%)", marks=marks)


# -----------------------------------------------------------------------------
# Countdown: section 4.2 and appendix B


def countdown(records):
    """-> {Kind without task: {operands: (accuracy in percent over all seeds, its 95 % interval)}}"""
    groups = by_seed(records, lambda r: "operands" in r["config"] and "asked" in r, "is not a finished run of countdown.py")
    counts = {kind: [sum(r[x] for r in seeds) for x in ("right", "asked")] for kind, seeds in groups.items()}
    return along("task", {kind: [100 * x for x in (n / of, *wilson(n, of))] for kind, (n, of) in counts.items()})


def print_countdown(lines):
    """-> settings of axes on which they are drawn"""
    operands, rows = sorted({n for points in lines.values() for n in points}), []
    for kind, points in sorted(lines.items()):
        cells = ["{:.1f} ({:.1f} to {:.1f})".format(*points[n]) if n in points else "-" for n in operands]
        rows.append([FAMILY_NAMES[kind.family], label_of(kind.system) + ", resumed" * kind.resumed, kind.n_latents, *cells])
    table("Accuracy in % with its 95 % interval.", ["family", "system", "N_L", *(f"{n} operands" for n in operands)], rows)
    limits = dict(xlim=(operands[0] - 0.5, operands[-1] + 0.5), ylim=(0, None))
    return dict(xlabel="operands", ylabel="accuracy (%)", xticks=operands) | limits


def figure3b(records, out):
    lines = countdown(records)
    axes, colors, panels = print_countdown(lines), shades(sorted({k.n_latents for k in lines})), []
    for system in sorted({k.system for k in lines}, key=lambda system: order_of(system, LABELS)):
        drawn = []  # in every panel all that are in any, so that one legend is that of all
        for n, family in sorted({(k.n_latents, k.family) for k in lines if not k.resumed}):
            style = dict(color=colors[n], marker=MARKERS[family], label=f"$N_L$ = {n}, {FAMILY_NAMES[family]}")
            drawn.append((lines.get(Kind(family, system, False, "", n, None), {}), style))
        panels.append((drawn, axes | dict(title=label_of(system))))
    plot(panels, out, 4.2 + 1.5 / len(panels), shared=True)


def figure8(records, out):
    lines = {k: points for k, points in countdown(records).items() if k.system in ("h1", "h2") or k.system not in COLORS}
    if not lines:
        raise ValueError("none of these runs is h1 or h2, or of a variant that the paper does not have")
    most = max(k.n_latents for k in lines)
    lines = {k: points for k, points in lines.items() if k.n_latents == most}
    axes, panels = print_countdown(lines), defaultdict(list)
    for kind, points in sorted(lines.items()):
        style = style_of(kind.system) | dict(label=label_of(kind.system), marker="o")
        if kind.resumed:
            style |= dict(label=f"{style['label']}, from a large-scale run", ls=":")
        panels[kind.family].append((points, style))
    titles = {family: f"{FAMILY_NAMES[family]}: Countdown, $N_L$ = {most}" for family in panels}
    plot([(drawn, axes | dict(title=titles[family])) for family, drawn in panels.items()], out)


# -----------------------------------------------------------------------------
# The latents: section 4.3 and appendix D


def analysed(records):
    """-> [(what analyze_latents.py found, the paper's of LATENTS for that setting, None if there is none)]"""
    for record in records:
        if "latents" not in record:
            raise FileNotFoundError(f"{record['name']} has no latents.json: analyze_latents.py makes it")
    found = [record["latents"] for record in records]  # the paper looks at h2 alone
    return [(r, LATENTS.get(r["setting"]) if r["variant"] == "h2" else None) for r in found]


def figure4(records, out):
    figure, axes = plt.subplots(1, len(records), figsize=(4.8 * len(records), 4.8), squeeze=False)
    rows = []
    for ax, (r, paper) in zip(axes[0], analysed(records), strict=True):
        heatmap(ax, r, f"{r['setting']}: {label_of(r['variant'])}")
        chance = r.get("chance", {})  # not in records of before 2026-11-26
        numbers = r["off_diagonal"], chance.get("tokens"), chance.get("shuffled"), r["silhouette"]
        ours = [f"{x:.3f}" if x is not None else "-" for x in numbers]
        theirs = "{1}, {2} (N_L = {0})".format(*paper) if paper else "-"
        rows.append([r["run"], r["setting"], r["variant"], r["n_latents"], *ours, theirs])
    head = ["run", "setting", "variant", "N_L", "capture off the diagonal", "of ordinary tokens", "of shuffled latents"]
    table("", [*head, "silhouette", "the paper's capture and silhouette"], rows)
    save(figure, out)


def table5(records, out=None):
    found, rows = analysed(records), []
    columns = [column for r, paper in found for column in (r["silhouettes"] or [None], paper[3] if paper else ())]
    for n, values in enumerate(zip_longest(*columns), start=1):
        cells = [f"{x:.3f}" if x is not None else "-" for x in values]
        rows.append([n, *(f"{ours} \\| {paper}" for ours, paper in zip(cells[::2], cells[1::2], strict=True))])
    theirs = [f" \\| the paper's, N_L = {paper[0]}" if paper else "" for _, paper in found]
    head = [f"{r['setting']} ({r['run']}), N_L = {r['n_latents']}{its}" for (r, _), its in zip(found, theirs, strict=True)]
    table("Silhouette of each latent, ours \\| the paper's.", ["latent", *head], rows, out)


WHAT = dict(table1=table1, table2=table2, table3=partial(tables_3_and_4, "gsm8k"), table4=partial(tables_3_and_4, "prosqa"))
WHAT |= dict(table5=table5, figure2=figure2, figure3a=partial(accuracy_against_latents, "gsm8k"), figure3b=figure3b)
WHAT |= dict(figure4=figure4, figure5=figure5, figure7=partial(accuracy_against_latents, "prosqa"), figure8=figure8)
WHAT |= dict(figure9=figure4, stages=stages)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("runs", nargs="*", help="run folders; for table1 folders of evaluate.py, for figure5 none")
    parser.add_argument("--out", help="default: out/<what>.png for a figure, none for a table, which is printed, too")
    a = parser.parse_intermixed_args()
    if bool(a.runs) == (a.what == "figure5"):
        parser.error(f"{a.what} is drawn from {'no runs' if a.runs else 'runs: name their folders'}")
    out = a.out or (None if a.what.startswith("table") else f"out/{a.what}.png")
    if a.what == "figure5":
        figure5(out)
    else:
        WHAT[a.what](a.runs if a.what == "table1" else [read(run) for run in a.runs], out)


if __name__ == "__main__":
    one_line_errors(main)
