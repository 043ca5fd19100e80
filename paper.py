"""The paper on a laptop: every claim, tested at a size that anyone can run.

    python paper.py --list            # the cells, what each costs, what is finished
    python paper.py                   # runs what is not finished, a cell per core, then writes results/README.md
    python paper.py --only=countdown  # only cells whose name begins so (and what they start from)
    python paper.py --report          # only the page

A cell is one run. When it has ended, its config, metrics, verdicts and commit go to results/tiny/<cell>/, which is committed;
its weights stay in out/paper/<cell>/. Comparisons share their Base, data order, sites and budget, and are paired by seed.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from itertools import product

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import figures
import runtime
from configurator import one_line_errors

OUT, RESULTS = "out/paper", "results/tiny"
SEEDS = (1, 2, 3)
FAMILIES = ("gpt2", "qwen3")
TRAINED = ("continued", "soft", "liu", "h1", "h2")
SYSTEMS = ("coconut", "soft", "liu", "h1", "h2")  # of Table 2
ASKED = ("cot", "no_cot", *SYSTEMS)
PLAIN = ("no_cot", "liu", "h1", "h2")  # on ProsQA with its shortcut, too
STRAIGHT = ("--stages=1", "--latents_per_step=4", "--first_stage=2", "--last_stage_epochs=5")  # straight to all latents


# -----------------------------------------------------------------------------
# The cells


@dataclass
class Cell:
    name: str
    script: str
    options: list
    minutes: float  # on one core
    after: list = field(default_factory=list)  # cells whose weights it starts from
    analyze: bool = False  # run analyze_latents.py on it, too

    @property
    def command(self):
        return ["python", self.script, *self.options, f"--out_dir={OUT}/{self.name}"]


def all_cells():
    """-> {name: Cell}, in the order in which they run"""
    cells = []

    def add(name, script, config, minutes, *options, base=None, analyze=False):
        """base: the cell it starts from; of 'statements' only the weights count, the last ones"""
        start = []
        if base:
            start = [f"--init_from={OUT}/{base}" + ("/checkpoint/base" if base == "statements" else "")]
        cells.append(
            Cell(name, f"{script}.py", [f"config/{config}.py", *start, *options], minutes, [base] if base else [], analyze)
        )

    def train(name, config, minutes, *options, **more):
        add(name, "train", config, minutes, *options, **more)

    def ask(name, config, *options, base="statements", **more):
        add(name, "finetune_reasoning", config, 1, *options, base=base, **more)

    # Figure 2: the variants; h2 by N_L; the penalty on overlap; a Base of twice the layers
    train("base_gpt2", "tiny_base", 2)
    train("base_qwen3", "tiny_qwen3_base", 3)
    train("base_twice", "tiny_base", 4, "--init_from=random:tiny_gpt2_twice")
    for s in SEEDS:
        seed = f"--seed={s}"
        for family in FAMILIES:
            for v in TRAINED:
                analyze = v == "h2" and s == 1
                train(f"figure2_{family}_{v}_s{s}", f"tiny_{v}", 2.5, seed, base=f"base_{family}", analyze=analyze)
        for n in (1, 4, 8):
            analyze = n == 8 and s == 1
            train(f"latents_gpt2_h2_{n}_s{s}", "tiny_h2", 3, seed, f"--n_latents={n}", base="base_gpt2", analyze=analyze)
        options = seed, "--n_latents=8", "--orthogonality_weight=0.1"
        train(f"orthogonal_gpt2_h2_8_s{s}", "tiny_h2", 3, *options, base="base_gpt2", analyze=s == 1)
        train(f"twice_gpt2_soft_s{s}", "tiny_soft", 3, seed, base="base_twice")

    # Table 2, Figures 3A and 7: ProsQA, depth-matched, at two learning rates; plain
    add("statements", "finetune_reasoning", "tiny_statements", 8)
    for s in SEEDS:
        seed = f"--seed={s}"
        for v in ASKED:
            ask(f"prosqa_{v}_s{s}", f"tiny_prosqa_{v}", seed, analyze=v in ("h2", "coconut") and s == 1)
        for v in ("h2", "soft"):
            for c in (1, 4):
                ask(f"prosqa_{v}_c{c}_s{s}", f"tiny_prosqa_{v}", seed, f"--latents_per_step={c}")
        for v in SYSTEMS:
            ask(f"slow_prosqa_{v}_s{s}", f"tiny_prosqa_{v}", seed, "--lr=2.5e-4")
        for v in PLAIN:
            ask(f"plain_prosqa_{v}_s{s}", f"tiny_prosqa_{v}", seed, "--data=data/prosqa_tiny_plain")

    # Table 4: h2 from a large-scale run on text in the questions' words, and from a Base that has read as much without latents
    for s in SEEDS:
        seed = f"--seed={s}"
        train(f"statements_h2_s{s}", "tiny_statements_h2", 5, seed, base="statements", analyze=s == 1)
        train(f"statements_continued_s{s}", "tiny_statements_continued", 2, seed, base="statements")
        ask(f"resume_prosqa_curriculum_s{s}", "tiny_prosqa_h2", seed, base=f"statements_h2_s{s}")
        ask(f"resume_prosqa_straight_s{s}", "tiny_prosqa_h2", seed, *STRAIGHT, base=f"statements_h2_s{s}")
        ask(f"resume_prosqa_continued_s{s}", "tiny_prosqa_h2", seed, base=f"statements_continued_s{s}")

    # Figure 3B: Countdown from random weights
    for s in SEEDS:
        for n in (3, 4):
            for v, sizes in (("h2", (1, 4, 16)), ("soft", (4,)), ("no_cot", (0,))):
                for latents in sizes:
                    options = [f"--variant={v}", f"--operands={n}", f"--n_latents={latents}", f"--seed={s}"]
                    minutes, analyze = 9 if latents == 16 else 5, (v, latents, s) == ("h2", 16, 1)
                    name = f"countdown_{v}_{n}_{latents}_s{s}"
                    add(name, "countdown", "tiny_countdown", minutes, *options, analyze=analyze)

    # Figure 8: Countdown from a Base that has read sums, from its large-scale run, and from one that has read more of them
    train("sums", "tiny_sums", 3)
    for s in SEEDS:
        seed = f"--seed={s}"
        train(f"sums_h2_s{s}", "tiny_sums_h2", 5, seed, base="sums")
        train(f"sums_continued_s{s}", "tiny_sums_continued", 2, seed, base="sums")
        starts = {"h2": "sums", "h1": "sums", "resumed": f"sums_h2_s{s}", "continued": f"sums_continued_s{s}"}
        for n in (3, 4):
            for label, base in starts.items():
                options = "--variant=" + ("h1" if label == "h1" else "h2"), f"--operands={n}", seed
                add(f"figure8_countdown_{label}_{n}_s{s}", "countdown", "tiny_countdown", 5, *options, base=base)
    # Figure 2D; and five times the tokens
    for s in SEEDS:
        for n in (1, 4, 8):
            train(f"latents_qwen3_h2_{n}_s{s}", "tiny_h2", 3, f"--seed={s}", f"--n_latents={n}", base="base_qwen3")
    for s in SEEDS:
        for v in ("continued", "soft", "h2"):
            train(f"long_gpt2_{v}_s{s}", f"tiny_long_{v}", 4 if v == "continued" else 12, f"--seed={s}", base="base_gpt2")
    return {cell.name: cell for cell in cells}


# What is made before any cell: (a file that is there afterwards, a command)
TINY_WORLD = "--nodes=7 --hops 2 3 --words 4 8".split()
DATA = (
    ("data/sample/val_000.bin", ["data.py", "sample"]),
    ("data/statements/val_000.bin",
     ["prosqa.py", "data/statements", *TINY_WORLD, "--statements", "--counts", "40000", "100", "100"]),
    ("data/prosqa_tiny/prosqa_train.json",
     ["prosqa.py", "data/prosqa_tiny", *TINY_WORLD, "--depth_matched", "--counts", "10000", "300", "500"]),
    ("data/prosqa_tiny_plain/prosqa_train.json",
     ["prosqa.py", "data/prosqa_tiny_plain", *TINY_WORLD, "--counts", "10000", "300", "500"]),
    ("data/countdown/train_000.bin", ["countdown.py", "--operands=3", "--sums"]),
    ("data/countdown/4_seed0_train.jsonl", ["countdown.py", "--operands=4", "--show=1"]),
)  # fmt: skip


def run(command, log):
    """A command of this project on one core. Raises RuntimeError with the end of its log if it fails."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(log, "a") as f:
        done = subprocess.run([sys.executable, *command], stdout=f, stderr=subprocess.STDOUT, env=env)
    if done.returncode:
        with open(log) as f:
            raise RuntimeError(f"{' '.join(command)} failed: {f.read()[-500:]}")


def finished(cell):
    return os.path.exists(os.path.join(RESULTS, cell.name, "cell.json"))


def run_cell(cell, commit):
    """Run or resume it, analyse it, keep what is small."""
    out = os.path.join(OUT, cell.name)
    resume = "--resume" if runtime.has_checkpoint(out) else "--overwrite"
    run([*cell.command[1:], resume], os.path.join(OUT, f"{cell.name}.log"))
    if cell.analyze and not finished(cell):
        run(["analyze_latents.py", out, "--examples=1024"], os.path.join(OUT, f"{cell.name}.log"))
    if not finished(cell):
        keep(cell, commit)


def keep(cell, commit):
    """Copy a run's small files to results/, last the one that says it is finished."""
    out, to = os.path.join(OUT, cell.name), os.path.join(RESULTS, cell.name)
    shutil.rmtree(to, ignore_errors=True)
    weights = runtime.weights_of(out)
    os.makedirs(os.path.join(to, "checkpoint", "base"))
    shutil.copy(os.path.join(weights, "base", "config.json"), os.path.join(to, "checkpoint", "base"))
    shutil.copy(os.path.join(out, "checkpoint", "state.json"), os.path.join(to, "checkpoint"))
    for name in ("config.json", "metrics.jsonl", "latents.json"):
        if os.path.exists(os.path.join(out, name)):
            shutil.copy(os.path.join(out, name), to)
    if os.path.exists(os.path.join(out, "predictions.jsonl")):
        with open(os.path.join(out, "predictions.jsonl")) as f:
            lines = [{key: p[key] for key in ("correct", "reason") if key in p} for p in map(json.loads, f)]
        runtime.write_lines(os.path.join(to, "predictions.jsonl"), lines)
    seconds = runtime.read_metrics(out)[-1]["seconds"]  # over all resumptions
    about = dict(command=" ".join(cell.command), commit=commit, seconds=round(seconds), machine=platform.machine())
    with open(os.path.join(to, "cell.json"), "w") as f:
        json.dump(about | dict(python=platform.python_version(), cores=os.cpu_count()), f, indent=2)


def run_all(cells, wanted, workers):
    """So many at a time, what others start from first. A cell that fails is told at the end, the others go on."""
    os.makedirs(OUT, exist_ok=True)
    for path, command in DATA:
        if not os.path.exists(path):
            print(f"making {path}", flush=True)
            run(command, os.path.join(OUT, "data.log"))
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    todo, lock, failed = [cell for cell in wanted if not finished(cell)], threading.Lock(), {}
    # a run whose result is here but whose weights are not is run again where others start from it
    needed = list(todo)
    for cell in needed:  # grows as it goes
        needed += [cells[name] for name in cell.after if not os.path.exists(os.path.join(OUT, name, ".done"))]
    missing = {b.name: b for b in reversed(needed[len(todo) :])}
    todo = [*missing.values(), *(cell for cell in todo if cell.name not in missing)]
    total, began = sum(cell.minutes for cell in todo), time.perf_counter()
    over = set()

    def next_cell():
        """-> a cell whose Base is ready, None to wait"""
        for cell in todo:
            if not any(name in missing and name not in over for name in cell.after):
                todo.remove(cell)
                return cell
        return None

    def work():
        while True:
            with lock:
                if not todo:
                    return
                cell = next_cell()
            if cell is None:
                time.sleep(1)
                continue
            try:
                if any(name in failed for name in cell.after):
                    raise RuntimeError(f"{cell.name}: what it starts from failed")
                run_cell(cell, commit)
                open(os.path.join(OUT, cell.name, ".done"), "w").close()
            except Exception as e:  # whatever it is, the others go on
                failed[cell.name] = f"{type(e).__name__}: {e}"
            with lock:
                over.add(cell.name)
                left = sum(c.minutes for c in todo) / workers
                spent = (time.perf_counter() - began) / 60
                state = "failed" if cell.name in failed else "finished"
                print(f"{cell.name} {state}; {len(todo)} to go, about {left:.0f} min (so far {spent:.0f})", flush=True)

    print(f"{len(todo)} cells, {total / 60:.1f} core-hours, {workers} at a time", flush=True)
    threads = [threading.Thread(target=work) for _ in range(workers)]
    for t in threads:
        t.start()
    try:
        for t in threads:
            t.join()
    except KeyboardInterrupt:  # the cells have got it, too, and save
        with lock:
            todo.clear()
        for t in threads:
            t.join()
        raise
    return failed


# -----------------------------------------------------------------------------
# What came of them

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571}  # Student's t, two-sided 95 %, by the number of seeds


def metrics(name):
    """-> the run's metrics, or None where it has not been run"""
    folder = os.path.join(RESULTS, name)
    return runtime.read_metrics(folder) if os.path.exists(os.path.join(folder, "cell.json")) else None


def latents(name):
    path = os.path.join(RESULTS, name, "latents.json")
    if os.path.exists(path):
        with open(path) as f:
            return json.load(f)


def log_ppl(pattern):
    """-> {seed: ln of the final validation perplexity} of the seeds that have been run"""
    found = {s: metrics(pattern.format(s=s)) for s in SEEDS}
    return {s: float(np.log(m[-1]["val_ppl"])) for s, m in found.items() if m}


def accuracy(pattern):
    """-> {seed: test accuracy in percent}"""
    found = {s: metrics(pattern.format(s=s)) for s in SEEDS}
    return {s: 100 * m[-1]["test_accuracy"] for s, m in found.items() if m}


def paired(a, b):
    """Two {seed: value} -> (mean of a - b, half its 95 % interval) over shared seeds; None for fewer than two"""
    d = np.array([a[s] - b[s] for s in sorted(a.keys() & b.keys())])
    return (d.mean(), T95[len(d)] * d.std(ddof=1) / len(d) ** 0.5) if len(d) > 1 else None


def verdict(difference, limit=0.0):
    """Of 'a - b is below the limit' -> a word"""
    if difference is None:
        return "not run"
    mean, half = difference
    return "holds" if mean + half < limit else "does not hold" if mean - half > limit else "cannot be told"


def near(difference, limit):
    """Of 'a and b are less than the limit apart' -> a word"""
    if difference is None:
        return "not run"
    mean, half = difference
    return together([verdict((mean, half), limit), verdict((-mean, half), limit)])


def told(difference):
    return "-" if difference is None else f"{difference[0]:+.3g} ± {difference[1]:.2g}"


def spread(values):
    return figures.spread(list(values.values())) if values else "-"


def together(verdicts):
    """Of several comparisons that a claim needs -> one word"""
    for word in ("not run", "does not hold", "cannot be told"):
        if word in verdicts:
            return word
    return "holds"


def curve(pattern):
    """-> {seed: {tokens: ln perplexity}}"""
    found = {s: metrics(pattern.format(s=s)) for s in SEEDS}
    return {s: {r["tokens"]: float(np.log(r["val_ppl"])) for r in m if "val_ppl" in r} for s, m in found.items() if m}


def crossing(a, b):
    """From which budget on is a below b, in the mean over seeds? -> text"""
    a, b = curve(a), curve(b)
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return "not run"
    tokens = sorted(t for t in a[seeds[0]] if t)
    below = [np.mean([a[s][t] - b[s][t] for s in seeds]) < 0 for t in tokens]
    if not below[-1]:
        return f"not by {tokens[-1] / 1e6:.1f}M tokens"
    since = max((i + 1 for i, x in enumerate(below) if not x), default=0)
    return f"from {tokens[since] / 1e6:.1f}M tokens on"


def claims():
    """-> rows of (claim, the paper, ours as a list of lines, verdict, cells)"""
    rows = []

    def row(claim, paper, ours, word, cells):
        rows.append((claim, paper, ours, word, cells))

    def steps(values, pairs, limit=0.0):
        """Is each first below its second, or their difference below the limit? -> (the differences, one word)"""
        found = {f"{a} - {b}": paired(values[a], values[b]) for a, b in pairs}
        return [f"{name}: {told(d)}" for name, d in found.items()], together([verdict(d, limit) for d in found.values()])

    ppl = {family: {v: log_ppl(f"figure2_{family}_{v}_s{{s}}") for v in TRAINED} for family in FAMILIES}
    order = ("h2", "soft", "h1", "continued", "liu")
    pairs = list(zip(order, order[1:], strict=False))
    for family, paper in (("gpt2", "h1 about 0.5 under continued, liu about 1.5 over it"), ("qwen3", "h1 close to h2")):
        ours, word = steps(ppl[family], pairs)
        since = [crossing(*(f"figure2_{family}_{v}_s{{s}}" for v in pair)) for pair in pairs]
        claim = f"1. Perplexity, {figures.FAMILY_NAMES[family]}: h2 < soft < h1 < continued < liu"
        ours = [f"{x}, {text}" for x, text in zip(ours, since, strict=True)]
        row(claim, paper, ["ln ppl, and from which budget on it is negative", *ours], word, f"figure2_{family}")
    patterns = {v: f"long_gpt2_{v}_s{{s}}" for v in ("h2", "soft", "continued")}
    ours, _ = steps({v: log_ppl(x) for v, x in patterns.items()}, [("h2", "soft"), ("soft", "continued"), ("h2", "continued")])
    since = crossing(patterns["h2"], patterns["continued"])
    word = verdict(paired(log_ppl(patterns["h2"]), log_ppl(patterns["continued"])))
    claim = "1b. Tried: with five times the tokens h2 is below continued, GPT-2"
    row(claim, "about 2 points after 40B tokens", ["ln ppl", *ours[:2], f"{ours[2]}, {since}"], word, "long_gpt2")

    other = {name: paired(*(log_ppl(f"{name}_{v}_s{{s}}") for v in ("h2", "continued"))) for name in ("statements", "sums")}
    ours = ["ln ppl, h2 - continued", *(f"{name}: {told(d)}" for name, d in other.items())]
    claim = "1c. Tried: h2 is below continued on the tiny worlds' own text, N_L = 4"
    word = together([verdict(d) for d in other.values()])
    row(claim, "not tested", ours, word, "statements,sums")

    for family in FAMILIES:
        sizes = {n: log_ppl(f"latents_{family}_h2_{n}_s{{s}}") for n in (1, 4, 8)} | {2: ppl[family]["h2"]}
        ours, word = steps(sizes, [(2, 1), (4, 2), (8, 4)])
        claim = f"2. Perplexity falls with N_L under h2, {figures.FAMILY_NAMES[family]}"
        row(claim, "falls from 1 to 16", ["ln ppl, N_L:", *ours], word, f"latents_{family},figure2_{family}_h2")

    def right(v, prefix=""):
        return accuracy(f"{prefix}prosqa_{v}_s{{s}}")

    asked = {v: right(v) for v in ASKED}
    trained = steps(ppl["gpt2"], [("h2", "liu"), ("h2", "h1")])
    answered = steps(asked, [("liu", "h2"), ("h1", "h2")])
    ours, word = ["ln ppl", *trained[0], "accuracy", *answered[0]], together([trained[1], answered[1]])
    paper = "ProsQA: h2 99.0, liu 52.6, h1 54.1"
    row("3. Joint training listens, frozen Bases hardly do", paper, ours, word, "figure2_gpt2,prosqa")

    paper = "soft 97.7, liu 52.6, h1 54.1, h2 99.0, Coconut 97.0"
    for claim, prefix, systems in (
        ("4. ProsQA: soft and Coconut within 5 points of h2; liu and h1 more than 10 below soft and h2", "", ASKED),
        ("4b. Tried: the same at half the learning rate", "slow_", SYSTEMS),
    ):
        found = {v: right(v, prefix) for v in systems}
        far, word = steps(found, [(v, w) for v in ("liu", "h1") for w in ("soft", "h2")], limit=-10)
        beside = {v: paired(found[v], found["h2"]) for v in ("soft", "coconut")}
        word = together([word, *(near(d, 5) for d in beside.values())])
        ours = [f"{v} {spread(found[v])}" for v in systems] + [f"{v} - h2: {told(d)}" for v, d in beside.items()] + far
        row(claim, paper, ours, word, f"{prefix}prosqa")

    for v in ("h2", "soft"):
        by = {2: right(f"{v}_c1"), 4: asked[v], 8: right(f"{v}_c4")}
        d = paired(by[8], by[2])
        ours = [*(f"N_L = {n}: {spread(x)}" for n, x in by.items()), f"8 - 2: {told(d)}"]
        row(f"5. ProsQA, {v}: 8 latents are at most 2 points above 2", "flat or dipping", ours, verdict(d, 2), "prosqa")

    sizes = [("h2", 1), ("h2", 4), ("h2", 16), ("soft", 4), ("no_cot", 0)]
    sweep = {(v, n, k): accuracy(f"countdown_{v}_{n}_{k}_s{{s}}") for v, k in sizes for n in (3, 4)}
    means = [f"{v}, N_L = {k}: {spread(sweep[v, 3, k])}, {spread(sweep[v, 4, k])}" for v, k in sizes]
    falls = [paired(sweep["h2", 4, k], sweep["h2", 3, k]) for k in (1, 4, 16)]
    ours = ["3, 4 operands", *means, f"h2, 4 - 3 operands, N_L = 1, 4, 16: {', '.join(map(told, falls))}"]
    row("6a. Countdown: accuracy falls with operands", "steeply", ours, together([verdict(d) for d in falls]), "countdown")
    more = [paired(sweep["h2", n, 16], sweep["h2", n, 1]) for n in (3, 4)]
    ours = [f"{n} operands, 16 against 1: {told(d)}" for n, d in zip((3, 4), more, strict=True)]
    row("6b. 16 latents are at most 5 points above 1", "flat", ours, together([verdict(d, 5) for d in more]), "countdown")
    close = [paired(sweep["h2", n, 4], sweep["soft", n, 4]) for n in (3, 4)]
    ours = [f"{n} operands, N_L = 4, h2 - soft: {told(d)}" for n, d in zip((3, 4), close, strict=True)]
    row("6c. h2 and soft are within 5 points", "close", ours, together([near(d, 5) for d in close]), "countdown")

    large = {v: accuracy(f"resume_prosqa_{v}_s{{s}}") for v in ("curriculum", "straight", "continued")} | {"h2": asked["h2"]}
    ours, word = steps(large, [("curriculum", "h2"), ("straight", "h2")])
    ours = [*(f"{v} {spread(x)}" for v, x in large.items()), *ours]
    ours += steps(large, [("curriculum", "continued")])[0]
    claim = "7a. Resuming from large-scale training hurts on ProsQA, with the curriculum and straight to all latents"
    row(claim, "99.0 to 97.1 and 97.3", ours, word, "resume_prosqa,prosqa_h2")
    kinds = ("resumed", "continued", "h2", "h1")
    by = {(v, n): accuracy(f"figure8_countdown_{v}_{n}_s{{s}}") for v in kinds for n in (3, 4)}
    better = [paired(by["h2", n], by["resumed", n]) for n in (3, 4)]
    ours = [f"{n} operands: " + ", ".join(f"{v} {spread(by[v, n])}" for v in kinds) for n in (3, 4)]
    ours += [f"{n} operands, h2 - resumed: {told(d)}" for n, d in zip((3, 4), better, strict=True)]
    ours += [f"{n} operands, continued - resumed: {told(paired(by['continued', n], by['resumed', n]))}" for n in (3, 4)]
    word = together([verdict(d) for d in better])
    row("7b. Resuming helps on Countdown", "resumed h2 above h2 and h1", ours, word, "figure8_countdown")

    text = ("figure2_gpt2_h2_s1", "latents_gpt2_h2_8_s1", "statements_h2_s1")
    counted = ("countdown_h2_3_16_s1", "countdown_h2_4_16_s1")
    found = {name: latents(name) for name in (*text, "prosqa_h2_s1", *counted)}
    ours = [f"{name}: {x['off_diagonal']:.2f} ({x['null']:.2f}), {x['silhouette']:.2f}" for name, x in found.items() if x]
    word = "not run"
    if all(found.values()):
        high = all(x["off_diagonal"] > x["null"] + 0.1 for x in found.values())
        mixed = all(found[name]["silhouette"] < 0.1 for name in text)
        apart = all(found[name]["silhouette"] > 0.1 for name in counted)
        word = "holds" if high and apart and mixed else "does not hold"
    claim = "8. Capture is 0.1 or more above chance (in brackets); silhouette below 0.1 on text, above on Countdown"
    row(claim, "0.99, 0.91, 0.94; -0.17, -0.03, 0.45", ["one seed", *ours], word, ",".join(found))

    cost = {v: metrics(f"prosqa_{v}_s1") for v in ("coconut", "h2")}
    ours, word = [], "not run"
    if all(cost.values()):
        c, h = (cost[v][-1] for v in ("coconut", "h2"))
        ours = ["one seed, N_L = 4", f"{c['passes_to_answer']:.0f} and {h['passes_to_answer']:.0f} passes"]
        ours += [f"{1000 * c['seconds_to_answer']:.1f} and {1000 * h['seconds_to_answer']:.1f} ms"]
        word = "holds" if (c["passes_to_answer"], h["passes_to_answer"]) == (5, 3) else "does not hold"
    claim = "9. Until the answer begins Coconut needs N_L + 1 passes, h2 three"
    row(claim, "17 and 3", ours, word, "prosqa_coconut,prosqa_h2")

    ours = ["models of this size sit at chance on all five", "real weights: `evaluate.py --model=out/h2_gpt2`"]
    row("10. Table 1", "GPT-2: h2 up to 1.6 points above continued", ours, "cannot be told", "")

    twice = paired(ppl["gpt2"]["h2"], log_ppl("twice_gpt2_soft_s{s}"))
    claim = "11a. Beyond: h2 is better than soft with twice the layers, pretrained on the same tokens"
    row(claim, "not tested", [f"ln ppl, h2 - soft: {told(twice)}"], verdict(twice), "twice_gpt2,figure2_gpt2_h2")
    apart = paired(log_ppl("orthogonal_gpt2_h2_8_s{s}"), log_ppl("latents_gpt2_h2_8_s{s}"))
    a, b = latents("orthogonal_gpt2_h2_8_s1"), latents("latents_gpt2_h2_8_s1")
    ours = [f"ln ppl {told(apart)}"] + ([f"capture {a['off_diagonal']:.2f} against {b['off_diagonal']:.2f}"] if a and b else [])
    claim = "11b. Beyond: a penalty on overlap lowers perplexity"
    row(claim, "suggested", ours, verdict(apart), "orthogonal_gpt2,latents_gpt2_h2_8")
    plain = {v: right(v, "plain_") for v in PLAIN}
    gains = {v: paired(asked[v], plain[v]) for v in PLAIN}
    ours = [f"{v} {spread(plain[v])}, depth-matched - plain: {told(gains[v])}" for v in PLAIN]
    claim = "11c. Beyond: without ProsQA's shortcut the frozen systems lose more than 10 points"
    word = together([verdict(gains[v], -10) for v in ("liu", "h1")])
    row(claim, "not tested", ours, word, "plain_prosqa,prosqa")
    ours, names = [], ("figure2_gpt2_h2_s1", "prosqa_h2_s1", "countdown_h2_3_16_s1")
    for name in names:
        if x := latents(name):
            scores = x["meddling"]
            ours.append(f"{name}: {x['what']} {scores['untouched']:.1f}, with another's latents {scores['swapped']:.1f}")
    word, ours = ("see there", ["one seed", *ours]) if ours else ("not run", [])
    row("11d. Beyond: do the latents matter?", "not tested", ours, word, ",".join(names))
    return rows


def overview():
    """results/tiny/overview.png: the three main experiments, a dot a seed -> the names of what was drawn"""
    perplexities = {v: curve(f"figure2_gpt2_{v}_s{{s}}") for v in TRAINED}
    answers = {v: accuracy(f"prosqa_{v}_s{{s}}") for v in ASKED}
    settings = {"no latents": "no_cot_{n}_0", "soft, 4": "soft_{n}_4", "h2, 1": "h2_{n}_1", "h2, 4": "h2_{n}_4"}
    settings |= {"h2, 16": "h2_{n}_16", "h1, sums": "h1_{n}", "h2, sums": "h2_{n}", "h2, resumed": "resumed_{n}"}
    solved = {3: {}, 4: {}}
    for n, (label, name) in product((3, 4), settings.items()):
        kind = "figure8_countdown" if label.endswith(("sums", "resumed")) else "countdown"
        solved[n][label] = accuracy(f"{kind}_{name.format(n=n)}_s{{s}}")
    if not any(perplexities.values()):
        return []
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), width_ratios=[1, 0.8, 1])
    for v, curves in perplexities.items():
        if curves:
            tokens = sorted(set.intersection(*map(set, curves.values())) - {0})
            mean = [np.exp(np.mean([c[t] for c in curves.values()])) for t in tokens]
            left.plot(np.array(tokens) / 1e6, mean, color=figures.COLORS[v], label=figures.LABELS[v])
    left.set(title="Text: validation perplexity", xlabel="million tokens")
    for x, (v, found) in enumerate(answers.items()):
        middle.scatter([x] * len(found), list(found.values()), color=figures.COLORS[v], alpha=0.7)
    middle.axhline(50, color="#bbbbbb", ls=":", label="a guess")
    middle.set(title="ProsQA: accuracy in %", ylim=(0, 100))
    middle.set_xticks(range(len(answers)), answers, rotation=40, ha="right")
    for n, marker in ((3, "o"), (4, "s")):
        points = [(x, y) for x, found in enumerate(solved[n].values()) for y in found.values()]
        right.scatter(*zip(*points, strict=True) if points else ([], []), marker=marker, alpha=0.7, label=f"{n} operands")
    right.set(title="Countdown: accuracy in %, by system and $N_L$", ylim=(0, None))
    right.set_xticks(range(len(settings)), settings, rotation=40, ha="right")
    for ax in (left, middle, right):
        figures.finish(ax)
        ax.legend(frameon=False, fontsize="small")
    figures.save(figure, f"{RESULTS}/overview.png")
    return ["overview"]


def draw():
    """results/tiny/*.png from what is finished."""
    done = sorted(os.listdir(RESULTS)) if os.path.isdir(RESULTS) else []
    groups = {
        "figure2_gpt2": (figures.figure2, "figure2_gpt2_"), "figure2_qwen3": (figures.figure2, "figure2_qwen3_"),
        "figure2_long": (figures.figure2, "long_gpt2_"),
        "stages": (figures.stages, r"prosqa_[a-z0-9_]+?_s"), "figure3b": (figures.figure3b, "countdown_"),
    }  # fmt: skip
    drawn = overview()
    for name, (function, pattern) in groups.items():
        runs = [f"{RESULTS}/{cell}" for cell in done if re.match(pattern, cell) and "_c1_" not in cell and "_c4_" not in cell]
        runs = [r for r in runs if os.path.exists(f"{r}/cell.json")]
        if runs:
            function(runs, f"{RESULTS}/{name}.png")
            drawn.append(name)
    return drawn


def report(cells):
    rows, drawn = claims(), draw()
    done = [cell for cell in cells.values() if finished(cell)]
    hours = 0.0
    for cell in done:
        with open(os.path.join(RESULTS, cell.name, "cell.json")) as f:
            hours += json.load(f)["seconds"] / 3600
    lines = [
        "# The paper at laptop size",
        "",
        "Written by `make paper-tiny` (paper.py). Models of 0.1M to 0.3M parameters, three seeds; differences are paired by",
        "seed, with 95 % intervals (Student's t). Perplexities are compared as natural logarithms, so +0.01 is one percent.",
        "These are statements about this size, not about GPT-2 124M.",
        "",
        f"{len(done)} of {len(cells)} cells have been run, {hours:.1f} core-hours. Each has its config, metrics, commit and",
        "command in [tiny/](tiny).",
        "",
        "| claim | the paper | ours | | cells |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {claim} | {paper} | {'<br>'.join(ours) or '-'} | **{word}** | {where.replace(',', ', ')} |"
        for claim, paper, ours, word, where in rows
    ]
    lines += ["", "To run a row's cells: `python paper.py --only=<its last column>`.", ""]
    lines += [f"![{name}](tiny/{name}.png)\n" for name in drawn]
    with open("results/README.md", "w") as f:
        f.write("\n".join(lines))
    print("wrote results/README.md")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only list the cells")
    parser.add_argument("--report", action="store_true", help="only write results/README.md from what is finished")
    parser.add_argument("--only", default="", help="only cells whose name begins with one of these, separated by commas")
    parser.add_argument(
        "--workers", type=int, default=max(1, os.cpu_count() or 1), help="cells at a time (default: one per core)"
    )
    a = parser.parse_args()
    cells = all_cells()
    wanted = [cell for cell in cells.values() if cell.name.startswith(tuple(x.strip() for x in a.only.split(",")))]
    if not wanted or a.workers < 1:
        raise ValueError(f"no cell begins with {a.only!r}" if not wanted else "workers must be at least 1")
    if not a.report:
        for cell in wanted:
            print(f"{'finished' if finished(cell) else f'{cell.minutes:g} min':>9}  {' '.join(cell.command)}")
        print(f"{sum(cell.minutes for cell in wanted if not finished(cell)) / 60:.1f} core-hours are left")
    if a.list:
        return
    failed = {} if a.report else run_all(cells, wanted, a.workers)
    os.makedirs(RESULTS, exist_ok=True)
    report(cells)
    if failed:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in failed.items()))


if __name__ == "__main__":
    one_line_errors(main)
