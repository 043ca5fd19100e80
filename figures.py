"""The paper's figures and tables, drawn from run folders.

    python figures.py figure2 out/tiny_continued out/tiny_soft out/tiny_h2 --out=out/figure2.png
    python figures.py figure5 --out=assets/figure5.png

figure2  validation perplexity while training: A and B the variants (GPT-2, Qwen-3), C and D h2 by N_L. Runs that differ
         only in their seed become one line with a band from the lowest to the highest. Also prints the final numbers.
figure5  who sees whom in the three passes, for a toy sequence, from the code's own dense mask.
"""

import argparse
import json
import os
from collections import defaultdict

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from configurator import one_line_errors
from runtime import checkpoint_of, read_metrics

COLORS = {"continued": "#7f7f7f", "soft": "#2ca02c", "liu": "#ff7f0e", "h1": "#9467bd", "h2": "#1f77b4"}
LABELS = {
    "continued": "continued pretraining",
    "soft": "soft embeddings",
    "liu": "Liu et al.",
    "h1": "Hypothesis 1 (frozen, cache)",
    "h2": "Hypothesis 2 (co-finetuned)",
}
FAMILY_NAMES = {"gpt2": "GPT-2", "qwen3": "Qwen-3"}


def read_run(folder):
    """-> ((family, variant, N_L, label), config, tokens (n,), validation perplexity (n,))"""
    try:
        with open(os.path.join(folder, "config.json")) as f:
            config = json.load(f)
        with open(os.path.join(checkpoint_of(folder), "base", "config.json")) as f:
            family = json.load(f)["model_type"]
        curve = [(r["tokens"], r["val_ppl"]) for r in read_metrics(folder) if "val_ppl" in r]
    except FileNotFoundError as e:
        raise FileNotFoundError(f"{folder} is not a finished run: {e}") from None
    variant = config["variant"]
    label = LABELS.get(variant, variant) + (", scaled Z" if config["scale_latents"] else "")
    return (family, variant, config["n_latents"], label), config, *np.array(curve).T


def groups_of(folders):
    """Runs that differ only in their seed belong together -> {(family, variant, N_L, label): (tokens, ppl (seeds, n))}"""
    groups = defaultdict(list)
    for folder in folders:
        key, config, tokens, ppl = read_run(folder)
        groups[key].append((config, tokens, ppl))
    for key, runs in groups.items():
        for config, _, _ in runs:
            other = runs[0][0]
            for name in sorted(config.keys() - {"seed", "out_dir", "init_from", "resume", "overwrite"}):
                if config[name] != other.get(name):
                    raise ValueError(f"runs of {key[3]}, N_L={key[2]}, differ in {name}: {config[name]} and {other.get(name)}")
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
                lines[label] = (COLORS.get(variant, "#d62728"), "--" if "scaled" in label else "-", *v)
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
        ax.legend(frameon=False, title="final perplexity", alignment="left", loc="center left", bbox_to_anchor=(1.0, 0.5))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
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
    import torch

    from model import branch_mask

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


def save(figure, out):
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    figure.tight_layout()
    figure.savefig(out, dpi=130)
    print(f"wrote {out}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    two = commands.add_parser("figure2", help="validation perplexity while training")
    two.add_argument("runs", nargs="+", help="run folders")
    five = commands.add_parser("figure5", help="the masks of the three passes")
    for name, p in (("figure2", two), ("figure5", five)):
        p.add_argument("--out", default=f"out/{name}.png", help=f"default out/{name}.png")
    a = parser.parse_args()
    if a.command == "figure2":
        figure2(a.runs, a.out)
    else:
        figure5(a.out)


if __name__ == "__main__":
    one_line_errors(main)
