"""The paper's figures and tables, drawn from run folders.

    python figures.py figure2 out/tiny_continued out/tiny_soft out/tiny_h2 --out=out/figure2.png
    python figures.py figure5 --out=assets/figure5.png
    python figures.py table1 out/*_eval
    python figures.py table2 out/*_gsm8k_* out/*_prosqa_*

figure2  validation perplexity while training: A and B the variants (GPT-2, Qwen-3), C and D h2 by N_L. Runs that differ
         only in their seed become one line with a band from the lowest to the highest. Also prints the final numbers.
figure5  who sees whom in the three passes, for a toy sequence, from the code's own dense mask.
table1   the five benchmarks, from evaluate.py's folders: ours, the paper's, the differences from continued pretraining.
table2   accuracy on GSM8K and ProsQA after the curriculum, ours beside the paper's; figure3a and figure7 draw it against N_L.
table3   Hypothesis 2 from the base checkpoints, from a large-scale run, and from one without curriculum; table4 on ProsQA.
figure3b accuracy on Countdown against operands, a line for each N_L, and the table with 95 % intervals; figure8 at the
         largest N_L, with h2 also from a large-scale run.
figure4  cross-capture heatmaps of runs that analyze_latents.py has looked at, beside the paper's numbers; figure9 is more of
         them. table5 their silhouettes, latent by latent.
stages   validation accuracy of reasoning runs, epoch by epoch, through the stages of the curriculum.
"""

import argparse
import json
import os
import re
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from configurator import one_line_errors
from model import branch_mask
from questions import wilson
from runtime import read_metrics, weights_of

COLORS = {"continued": "#7f7f7f", "soft": "#2ca02c", "liu": "#ff7f0e", "h1": "#9467bd", "h2": "#1f77b4"}
COLORS |= {"coconut": "#8c564b", "cot": "#17becf", "no_cot": "#bcbd22", "no_thought": "#e377c2"}
NEW = "#d62728"  # a variant that the paper does not have
LABELS = {
    "continued": "continued pretraining",
    "soft": "soft embeddings",
    "liu": "Liu et al.",
    "h1": "Hypothesis 1 (frozen, cache)",
    "h2": "Hypothesis 2 (co-finetuned)",
    "coconut": "Coconut",
    "cot": "chain of thought",
    "no_cot": "no chain of thought",
    "no_thought": "curriculum without latents",
}
FAMILY_NAMES = {"gpt2": "GPT-2", "qwen3": "Qwen-3"}

# The paper's tables. Table 1: {(family, system): accuracy on the five benchmarks}
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
# Tables 2 to 4: {system: {(family, task): accuracy}}; the reference rows are those of Coconut's paper.
TASKS = {"gsm8k": "GSM8K", "prosqa": "ProsQA"}
COLUMNS = [(family, task) for family in FAMILY_NAMES for task in TASKS]
TABLE2 = {
    system: dict(zip(COLUMNS, row, strict=False))
    for system, row in {
        "cot": (42.9, 77.5), "no_cot": (16.5, 76.7), "coconut": (34.1, 97.0), "soft": (26.5, 97.7, 38.5, 99.5),
        "liu": (16.5, 52.6, 22.4, 81.0), "h1": (12.0, 54.1, 24.0, 79.0), "h2": (31.5, 99.0, 38.6, 99.5),
    }.items()
}  # fmt: skip
PROTOCOLS = ("scratch", "resume + curriculum", "straight to 16")
TABLES3AND4 = {
    ("gpt2", "gsm8k"): (31.5, 26.0, 28.2), ("qwen3", "gsm8k"): (38.6, 35.7, 37.3),
    ("gpt2", "prosqa"): (99.0, 97.1, 97.3), ("qwen3", "prosqa"): (99.5, 88.3, 84.5),
}  # fmt: skip
# Section 4.3: {setting: (mean off-diagonal capture, silhouette, silhouettes of the latents)}
LATENTS = {
    "large-scale": (
        0.9873, -0.1694, (-0.158, -0.089, -0.176, -0.173, -0.259, -0.113, -0.067, -0.143, -0.117, -0.170, -0.202, -0.252,
                          -0.193, -0.133, -0.191, -0.211),
    ),
    "GSM8K": (
        0.914, -0.031, (-0.014, -0.036, -0.036, -0.032, -0.044, -0.047, -0.047, -0.045, -0.032, -0.040, -0.022, 0.019),
    ),
    "GSM8K, no curriculum": (0.962, None, ()),
    "Countdown, 4 operands": (
        0.9382, 0.4531, (0.912, 0.506, 0.324, 0.209, 0.243, 0.550, 0.635, 0.629, 0.723, 0.742, 0.568, 0.357, 0.336, 0.461,
                         0.026, 0.030),
    ),
}  # fmt: skip


def open_run(folder):
    """-> config, family. Raises FileNotFoundError if it is no run with weights."""
    try:
        with open(os.path.join(folder, "config.json")) as f:
            config = json.load(f)
        with open(os.path.join(weights_of(folder), "base", "config.json")) as f:
            return config, json.load(f)["model_type"]
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{folder} is not a finished run: {e}") from None


def read_run(folder):
    """-> ((family, variant, N_L, label), config, tokens (n,), validation perplexity (n,))"""
    config, family = open_run(folder)
    curve = [(r["tokens"], r["val_ppl"]) for r in read_metrics(folder) if "val_ppl" in r]
    if not curve:
        raise ValueError(f"{folder} has no validation perplexity: it is no run of train.py")
    variant = config["variant"]
    label = LABELS.get(variant, variant) + options(config)
    return (family, variant, config["n_latents"], label), config, *np.array(curve).T


def options(config):
    """What a run's label says of options that the paper does not have."""
    weight = config.get("orthogonality_weight")
    return ", scaled Z" * bool(config.get("scale_latents")) + (f", orthogonality {weight:g}" if weight else "")


def label_of(variant):
    """A variant, and its options behind a comma -> what a table calls it"""
    name, comma, rest = variant.partition(",")
    return LABELS.get(name, name) + comma + rest


def place(variant, order):
    """Where a variant stands in a table: in the paper's order, what the paper does not have last."""
    name = variant.partition(",")[0]
    return [*order, name].index(name)


def refuse_mixed(label, configs):
    """Raises ValueError if runs that are to be seeds of one another are the same, or differ in more than their seed."""
    free = {"seed", "out_dir", "started_from", "resume", "overwrite"}
    # what they start from may be a run a seed
    configs = [c | {"init_from": re.sub(r"_s(eed)?_?\d+", "", c.get("init_from", ""))} for c in configs]
    for n, config in enumerate(configs):
        if config["seed"] in [other["seed"] for other in configs[:n]]:
            raise ValueError(f"two runs of {label} have seed {config['seed']}, one is {config['out_dir']}")
        for name in sorted(config.keys() & configs[0].keys() - free):
            found = config[name], configs[0][name]
            if found[0] != found[1] and "auto" not in found:  # auto does not say which it was
                raise ValueError(f"runs of {label} differ in {name}: {found[0]} and {found[1]}")


def groups_of(folders):
    """Runs that differ only in their seed belong together -> {(family, variant, N_L, label): (tokens, ppl (seeds, n))}"""
    groups = defaultdict(list)
    for folder in folders:
        key, config, tokens, ppl = read_run(folder)
        groups[key].append((config, tokens, ppl))
    for key, runs in groups.items():
        refuse_mixed(f"{key[3]}, N_L={key[2]},", [config for config, _, _ in runs])
    return {key: (runs[0][1], np.stack([ppl for _, _, ppl in runs])) for key, runs in groups.items()}


def figure2(folders, out):
    groups = groups_of(folders)
    panels = []  # (title, {label: (color, tokens, ppl)})
    for family in ("gpt2", "qwen3"):
        runs = {k[1:]: v for k, v in groups.items() if k[0] == family}
        sweep = {n: v for (variant, n, label), v in runs.items() if (variant, label) == ("h2", LABELS["h2"])}
        main_n = max([n for v, n, _ in runs if v == "h2"] or [n for _, n, _ in runs], default=0)  # where variants are compared
        lines = {}
        for (variant, n, label), v in runs.items():
            if variant == "continued" or n == main_n:
                lines[label] = (
                    COLORS.get(variant, NEW),
                    "--" if "," in label.removeprefix(LABELS.get(variant, "")) else "-",
                    *v,
                )
        if lines:
            panels.append((f"{'AB'[family == 'qwen3']}  {FAMILY_NAMES[family]}: the variants", lines))
        if len(sweep) > 1:
            shades = plt.cm.viridis(np.linspace(0.85, 0.1, len(sweep)))
            lines = {f"$N_L$ = {n}": (shade, "-", *sweep[n]) for n, shade in zip(sorted(sweep), shades, strict=True)}
            panels.append((f"{'CD'[family == 'qwen3']}  {FAMILY_NAMES[family]}: latents under Hypothesis 2", lines))
    figure, axes = plt.subplots(1, len(panels), figsize=(8.8 * len(panels), 4.2), squeeze=False)
    for ax, (title, lines) in zip(axes[0], sorted(panels), strict=True):
        for label, (color, style, tokens, ppl) in sorted(lines.items(), key=lambda x: -x[1][-1][:, -1].mean()):
            ax.plot(tokens / 1e6, ppl.mean(0), style, color=color, label=f"{label}: {ppl[:, -1].mean():.2f}", lw=2)
            if len(ppl) > 1:
                ax.fill_between(tokens / 1e6, ppl.min(0), ppl.max(0), color=color, alpha=0.2, lw=0)
        start = 0.0
        if LABELS["continued"] in lines:  # before its first step it is the Base that all start from
            start = lines[LABELS["continued"]][-1][:, 0].mean()
            ax.axhline(start, color="black", lw=0.8, ls=":", label=f"the Base they start from: {start:.2f}")
        low, high = min(ppl.min() for *_, ppl in lines.values()), max(ppl[:, 1:].max() for *_, ppl in lines.values())
        margin = 0.05 * (max(start, high) - low) + 0.01
        ax.set_ylim(low - margin, max(start, high) + margin)
        ax.set(title=title, xlabel="tokens (millions)", ylabel="validation perplexity, ahead tokens")
        finish(ax, title="final perplexity")
    save(figure, out)

    verdicts = [""]
    print("| family | variant | N_L | tokens | perplexity | seeds | against continued |")
    print("|---|---|---|---|---|---|---|")
    for (family, variant, n, label), (tokens, ppl) in sorted(groups.items(), key=lambda g: (g[0][0], g[1][1][:, -1].mean())):
        last, spread = ppl[:, -1].mean(), f" ± {ppl[:, -1].std(ddof=1):.2f}" if len(ppl) > 1 else ""
        plain = [v for k, v in groups.items() if k[:2] == (family, "continued") and v[0][-1] == tokens[-1]]
        against = f"{last - plain[0][1][:, -1].mean():+.2f}" if plain and variant != "continued" else ""
        n = n if variant != "continued" else "-"
        budget = f"{tokens[-1] / 1e6:.1f}M"
        print(f"| {FAMILY_NAMES[family]} | {label} | {n} | {budget} | {last:.2f}{spread} | {len(ppl)} | {against} |")
        if variant == "h2" and plain:
            verdict = f"{label} ends {against[1:]} {'below' if against[0] == '-' else 'above'} continued pretraining"
            verdicts.append(f"{FAMILY_NAMES[family]}, {budget} tokens, N_L = {n}: {verdict}")
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


def table1(folders):
    rows = {}
    for folder in folders:
        try:
            with open(os.path.join(folder, "results.json")) as f:
                r = json.load(f)
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder} has no results.json: evaluate.py makes it") from None
        key = r["family"], r["variant"], r["n_latents"], r["model"]
        if key in rows:
            raise ValueError(f"{folder} is a second evaluation of {r['model']}")
        rows[key] = r["tasks"]
    print("Accuracy in % ± its standard error (difference from continued pretraining), ours \\| the paper's.\n")
    print("| model | N_L | " + " | ".join(BENCHMARKS.values()) + " |\n|---|---|" + "---|" * len(BENCHMARKS))

    def order(key):  # the paper's, then what it does not have
        return [*FAMILY_NAMES].index(key[0]), [*TABLE1, key[:2]].index(key[:2]), key[2:]

    for key in sorted(rows, key=order):
        family, variant, n_latents, model = key
        plain = [tasks for k, tasks in rows.items() if k[:2] == (family, "continued")]
        cells = []
        for task, theirs, base in zip(
            BENCHMARKS, TABLE1.get(key[:2], [None] * 5), TABLE1[family, "continued"], strict=True
        ):  # fmt: skip
            cell = "-"
            if task in rows[key]:
                r = rows[key][task]
                cell = f"{100 * r['acc']:.1f} ± {100 * r['acc_stderr']:.1f}"
                if len(plain) == 1 and variant != "continued" and task in plain[0]:
                    cell += f" ({100 * (r['acc'] - plain[0][task]['acc']):+.1f})"
            cells.append(cell + (f" \\| {theirs} ({theirs - base:+.1f})" if theirs else " \\| -"))
        label = f"{FAMILY_NAMES[family]}, {LABELS.get(variant, os.path.basename(model))}"
        print(f"| {label} | {n_latents or '-'} | " + " | ".join(cells) + " |")


# -----------------------------------------------------------------------------
# Reasoning: sections 4.2 and appendix B


def read_reasoning(folders):
    """-> {(family, task, variant, N_L, protocol): [test accuracy in percent of each seed]}; unfinished runs are an error."""
    groups, configs = defaultdict(list), defaultdict(list)
    for folder in folders:
        c, family = open_run(folder)
        accuracy = [100 * r["test_accuracy"] for r in read_metrics(folder) if "test_accuracy" in r]
        if not accuracy:
            raise ValueError(f"{folder} is not a finished reasoning run: no test accuracy in its metrics.jsonl")
        task = "prosqa" if "prosqa" in c["data"] else "gsm8k"
        # what a run of the same system started from: a Base, or all of a large-scale run
        resumed = c["started_from"].startswith("all of")
        straight = c["first_stage"] > c["stages"]
        protocol = (
            PROTOCOLS[2] if resumed and straight else PROTOCOLS[1] if resumed else "no curriculum" if straight else "scratch"
        )
        key = family, task, c["variant"] + options(c), c["n_latents"], protocol
        configs[key].append(c)
        refuse_mixed(f"{label_of(key[2])} on {TASKS[task]}", configs[key])
        groups[key].append(accuracy[-1])
    return groups


def spread(values, digits=1):
    """'63.1 ± 0.4 (3)', the mean, standard deviation and number of seeds; '-' where there is none."""
    if not values:
        return "-"
    text = f"{np.mean(values):.{digits}f}"
    return text + (f" ± {np.std(values, ddof=1):.{digits}f} ({len(values)})" if len(values) > 1 else "")


def table2(folders):
    groups = read_reasoning(folders)
    print("Accuracy in %, ours | the paper's.\n")
    print("| system | N_L | " + " | ".join(f"{FAMILY_NAMES[f]}, {TASKS[t]}" for f, t in COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    rows = {(variant, n) for _, _, variant, n, protocol in groups if protocol == "scratch"}
    for variant, n in sorted(rows, key=lambda r: (place(r[0], TABLE2), r)):
        cells = []
        for column in COLUMNS:
            ours, theirs = groups.get((*column, variant, n, "scratch"), []), TABLE2.get(variant, {}).get(column, "-")
            cells.append(f"{spread(ours)} \\| {theirs}")
        print(f"| {label_of(variant)} | {n or '-'} | " + " | ".join(cells) + " |")


def table34(folders, task):
    groups = read_reasoning(folders)
    print(f"Accuracy in % on {TASKS[task]} with N_L = 16, ours | the paper's, and the change against scratch.\n")
    print("| model | " + " | ".join(PROTOCOLS) + " |\n|---|---|---|---|")
    for family in FAMILY_NAMES:
        scratch, cells = groups.get((family, task, "h2", 16, "scratch"), []), []
        for protocol, theirs in zip(PROTOCOLS, TABLES3AND4[family, task], strict=True):
            ours = groups.get((family, task, "h2", 16, protocol), [])
            change = f" ({np.mean(ours) - np.mean(scratch):+.1f})" if ours and scratch and protocol != "scratch" else ""
            cells.append(f"{spread(ours)}{change} \\| {theirs} ({theirs - TABLES3AND4[family, task][0]:+.1f})")
        print(f"| {FAMILY_NAMES[family]} | " + " | ".join(cells) + " |")


def accuracy_against_latents(folders, task, out):
    lines = defaultdict(dict)
    for (family, found, variant, n, protocol), values in read_reasoning(folders).items():
        if found == task and protocol == "scratch" and n:
            lines[family, variant][n] = values
    if not lines:
        raise ValueError(f"none of these runs has latents on {TASKS[task]}")
    figure, ax = plt.subplots(figsize=(7, 4.2))
    for (family, variant), points in sorted(lines.items()):
        n, means = sorted(points), [np.mean(points[x]) for x in sorted(points)]
        style = ":" if variant == "soft" else "-"  # as in the paper
        label = f"{FAMILY_NAMES[family]}, {label_of(variant)}"
        ax.plot(n, means, style, marker="os"[family == "qwen3"], color=COLORS.get(variant, NEW), label=label, lw=2)
    ax.set(
        title=f"{TASKS[task]} accuracy against total latents",
        xlabel="$N_L$",
        ylabel="accuracy (%)",
        xticks=sorted({n for p in lines.values() for n in p}),
    )
    finish(ax)
    save(figure, out)


def stages(folders, out):
    """Validation accuracy after every epoch, and where the stages begin."""
    figure, ax = plt.subplots(figsize=(9, 4.2))
    runs, configs = defaultdict(list), defaultdict(list)
    for folder in folders:
        read_reasoning([folder])
        c, _ = open_run(folder)
        configs[c["variant"]].append(c)
        refuse_mixed(label_of(c["variant"]), configs[c["variant"]])
        runs[c["variant"]].append(read_metrics(folder))
    epochs_of = {
        v: [[r for r in run if {"valid_accuracy", "epoch"} <= r.keys()] for run in records] for v, records in runs.items()
    }
    last = max(len(curve) for curves in epochs_of.values() for curve in curves)  # all end together, some begin later
    spans = {}
    for variant, records in sorted(runs.items()):
        curves = epochs_of[variant]
        epochs = last - len(curves[0]) + 1 + np.arange(len(curves[0]))
        accuracy = 100 * np.array([[r["valid_accuracy"] for r in curve] for curve in curves])
        test = [100 * r["test_accuracy"] for run in records for r in run if "test_accuracy" in r]
        color = COLORS.get(variant, NEW)
        ax.plot(epochs, accuracy.mean(0), color=color, lw=2, label=f"{label_of(variant)}: {spread(test)}")
        if len(accuracy) > 1:
            ax.fill_between(epochs, accuracy.min(0), accuracy.max(0), color=color, alpha=0.2, lw=0)
        first = {r["stage"]: epoch for epoch, r in reversed([*zip(epochs, curves[0], strict=True)])}
        spans = max(spans, first, key=len)  # those of a system that goes through them all; frozen ones have no stage 0
    for stage, epoch in spans.items():
        ax.axvline(epoch - 0.5, color="black", lw=0.6, ls=":")
        name = "last" if stage == max(spans) else f"stage {stage}"
        ax.text(epoch - 0.4, 1.01, name, transform=ax.get_xaxis_transform(), fontsize=8)
    ax.set(xlabel="epoch", ylabel="validation accuracy (%)")
    finish(ax, title="test accuracy (%)")
    save(figure, out)


# -----------------------------------------------------------------------------
# Countdown: section 4.2 and appendix B


def read_countdown(folders):
    """-> {(family, variant, from a large-scale run?, N_L): {operands: [(right, asked) of each seed]}}"""
    groups, configs = defaultdict(lambda: defaultdict(list)), defaultdict(list)
    for folder in folders:
        c, family = open_run(folder)
        answers = os.path.join(folder, "predictions.jsonl")
        if "operands" not in c or not os.path.exists(answers):
            raise ValueError(f"{folder} is not a finished run of countdown.py")
        with open(answers) as f:
            correct = [json.loads(line)["correct"] for line in f]
        resumed = c["started_from"].startswith("all of")
        key = family, c["variant"] + options(c), resumed, c["n_latents"]
        configs[key, c["operands"]].append(c)
        refuse_mixed(f"{label_of(key[1])} on {c['operands']} operands", configs[key, c["operands"]])
        groups[key][c["operands"]].append((sum(correct), len(correct)))
    return groups


def against_operands(ax, points, **style):
    """Accuracy in percent with its 95 % interval, over all seeds' answers: {operands: [(right, asked)]}"""
    n = sorted(points)
    right, asked = np.array([np.sum(points[x], axis=0) for x in n]).T
    intervals = 100 * np.array([wilson(r, a) for r, a in zip(right, asked, strict=True)])
    accuracy = 100 * right / asked
    errors = np.abs(intervals.T - accuracy)
    ax.errorbar(n, accuracy, errors, lw=2, capsize=3, **style)
    ax.set(xlabel="operands", ylabel="accuracy (%)")
    ax.xaxis.get_major_locator().set_params(integer=True)


def print_countdown(groups):
    operands = sorted({n for points in groups.values() for n in points})
    print("Accuracy in % with its 95 % interval.\n")
    print("| family | system | N_L | " + " | ".join(f"{n} operands" for n in operands) + " |")
    print("|---|---|---|" + "---|" * len(operands))
    for (family, variant, resumed, n_latents), points in sorted(groups.items()):
        cells = []
        for n in operands:
            right, asked = np.sum(points.get(n, [(0, 0)]), axis=0)
            low, high = wilson(right, asked) if asked else (0, 0)
            cells.append(f"{100 * right / asked:.1f} ({100 * low:.1f} to {100 * high:.1f})" if asked else "-")
        label = label_of(variant) + (", resumed" if resumed else "")
        print(f"| {FAMILY_NAMES[family]} | {label} | {n_latents} | " + " | ".join(cells) + " |")


def figure3b(folders, out):
    groups = read_countdown(folders)
    print_countdown(groups)
    variants = sorted({key[1] for key in groups}, key=lambda v: (place(v, LABELS), v))
    sizes, operands = sorted({key[3] for key in groups}), sorted({n for points in groups.values() for n in points})
    shades = dict(zip(sizes, plt.cm.viridis(np.linspace(0.85, 0.1, len(sizes))), strict=True))
    figure, axes = plt.subplots(1, len(variants), figsize=(1.5 + 4.2 * len(variants), 4.2), squeeze=False, sharey=True)
    for ax, variant in zip(axes[0], variants, strict=True):
        for (family, found, resumed, n_latents), points in sorted(groups.items(), key=lambda group: group[0][3]):
            if found == variant and not resumed:
                style = dict(marker="os"[family == "qwen3"], color=shades[n_latents])
                against_operands(ax, points, label=f"$N_L$ = {n_latents}, {FAMILY_NAMES[family]}", **style)
        ax.set(title=label_of(variant), xticks=operands, xlim=(operands[0] - 0.5, operands[-1] + 0.5))
        finish(ax)
        ax.get_legend().remove()
    lines = {label: line for ax in axes[0] for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    lines = {label: lines[label] for n in sizes for label in lines if label.startswith(f"$N_L$ = {n},")}
    ax.legend(lines.values(), lines, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))  # one for all
    ax.set_ylim(bottom=0)
    save(figure, out)


def figure8(folders, out):
    groups = {key: points for key, points in read_countdown(folders).items() if key[1] in ("h1", "h2")}
    if not groups:
        raise ValueError("none of these runs is h1 or h2")
    most = max(key[3] for key in groups)
    groups = {key: points for key, points in groups.items() if key[3] == most}
    print_countdown(groups)
    families = [f for f in FAMILY_NAMES if any(key[0] == f for key in groups)]
    figure, axes = plt.subplots(1, len(families), figsize=(7 * len(families), 4.2), squeeze=False)
    for ax, family in zip(axes[0], families, strict=True):
        for (found, variant, resumed, _), points in sorted(groups.items()):
            if found == family:
                label = LABELS[variant] + (", from a large-scale run" if resumed else "")
                against_operands(ax, points, label=label, color=COLORS[variant], ls="--" if resumed else "-", marker="o")
        ax.set(title=f"{FAMILY_NAMES[family]}: Countdown, $N_L$ = {most}")
        ax.set_ylim(bottom=0)
        finish(ax)
    save(figure, out)


# -----------------------------------------------------------------------------
# The latents: section 4.3 and appendix D


def read_latents(folders):
    """-> what analyze_latents.py found in each run"""
    found = []
    for folder in folders:
        try:
            with open(os.path.join(folder, "latents.json")) as f:
                found.append(json.load(f))
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder} has no latents.json: analyze_latents.py makes it") from None
    return found


def heatmap(ax, latents, title):
    """latents: the contents of a latents.json"""
    n = latents["n_latents"]
    image = ax.imshow(latents["capture"], vmin=0, vmax=1, cmap="viridis", extent=(0.5, n + 0.5, n + 0.5, 0.5))
    if n > 1:
        title += f"\nmean off the diagonal {latents['off_diagonal']:.3f}"
    ax.set(title=title, xlabel="variance of latent j", ylabel="in subspace of i")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def paper_latents(latents):
    """The paper's (capture, silhouette, silhouettes) for that setting: it looks at Hypothesis 2 alone."""
    return LATENTS.get(latents["setting"] if latents["variant"] == "h2" else None, (None, None, ()))


def figure4(folders, out):
    runs = read_latents(folders)
    figure, axes = plt.subplots(1, len(runs), figsize=(4.8 * len(runs), 4.2), squeeze=False)
    print("| run | setting | variant | N_L | capture off the diagonal | random subspaces | silhouette | the paper's two |")
    print("|---|---|---|---|---|---|---|---|")
    for ax, r in zip(axes[0], runs, strict=True):
        heatmap(ax, r, f"{r['setting']}: {LABELS.get(r['variant'], r['variant'])}")
        capture, silhouette, _ = paper_latents(r)
        ours = [f"{x:.3f}" if x is not None else "-" for x in (r["off_diagonal"], r["null"], r["silhouette"])]
        theirs = ", ".join(str(x) if x is not None else "-" for x in (capture, silhouette))
        print(f"| {r['run']} | {r['setting']} | {r['variant']} | {r['n_latents']} | {' | '.join(ours)} | {theirs} |")
    save(figure, out)


def table5(folders):
    runs = read_latents(folders)
    print("Silhouette of each latent, ours \\| the paper's.\n")
    print("| latent | " + " | ".join(f"{r['setting']} ({r['run']})" for r in runs) + " |\n|---|" + "---|" * len(runs))
    theirs = [paper_latents(r)[2] for r in runs]
    for i in range(max(max(r["n_latents"], len(paper)) for r, paper in zip(runs, theirs, strict=True))):
        columns = [
            [f"{x[i]:.3f}" if i < len(x) else "-" for x in (r["silhouettes"], t)] for r, t in zip(runs, theirs, strict=True)
        ]
        print(f"| {i + 1} | " + " | ".join(" \\| ".join(pair) for pair in columns) + " |")


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawings = {
        "figure2": ("validation perplexity while training", figure2),
        "figure3a": ("GSM8K accuracy against N_L", lambda runs, out: accuracy_against_latents(runs, "gsm8k", out)),
        "figure3b": ("Countdown accuracy against operands", figure3b),
        "figure4": ("cross-capture of the latents", figure4),
        "figure5": ("the masks of the three passes", figure5),
        "figure7": ("ProsQA accuracy against N_L", lambda runs, out: accuracy_against_latents(runs, "prosqa", out)),
        "figure8": ("Countdown at the largest N_L", figure8),
        "figure9": ("cross-capture of the latents, more runs", figure4),
        "stages": ("validation accuracy through the curriculum", stages),
    }
    tables = {
        "table1": ("the five benchmarks", table1),
        "table2": ("accuracy on GSM8K and ProsQA", table2),
        "table3": ("where Hypothesis 2 starts from, GSM8K", lambda runs: table34(runs, "gsm8k")),
        "table4": ("where Hypothesis 2 starts from, ProsQA", lambda runs: table34(runs, "prosqa")),
        "table5": ("the latents' silhouettes", table5),
    }
    for name, (what, _) in (drawings | tables).items():
        p = commands.add_parser(name, help=what, description=what)
        if name != "figure5":
            p.add_argument("runs", nargs="+", help="run folders" if name != "table1" else "folders of evaluate.py")
        if name in drawings:
            p.add_argument("--out", default=f"out/{name}.png", help=f"default out/{name}.png")
    a = vars(parser.parse_args())
    _, draw = (drawings | tables)[a.pop("command")]
    draw(*a.values())


if __name__ == "__main__":
    one_line_errors(main)
