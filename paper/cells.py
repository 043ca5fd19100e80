"""The paper on a laptop: every claim, tested at a size that anyone can run.

    python -m paper.cells --list            # the cells, what each costs, what is finished
    python -m paper.cells                   # runs what is not finished, a cell per core, then writes results/README.md
    python -m paper.cells --only=countdown  # only cells whose name begins so (and what they start from)
    python -m paper.cells --report          # only the page

A cell is one run. When it has ended, its config, metrics, verdicts and commit go to results/tiny/<cell>/, which is committed;
its weights stay in out/paper/<cell>/, but for those of the Bases, which are committed, too, so that whatever is run later
starts from the same. Comparisons share their Base, data order, sites and budget, and are paired by seed.
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
from collections import Counter
from dataclasses import dataclass, field

import figures
import runtime
from configurator import one_line_errors
from paper import claims
from paper.claims import ASKED, FAMILIES, PATIENT, PLAIN, RESULTS, SEEDS, SYSTEMS, TRAINED

OUT = "out/paper"
WEIGHTS = "tokenizer.json", "checkpoint/base/model.safetensors"  # what is kept of a Base; half a megabyte
SAME = 1e-2  # how far, relatively, a run's last loss may be from the kept run's: last bits differ by machine, and grow
WORDED = "--tokenizer=data/worded/tokenizer.json"
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
    is_base: bool = False  # others start from it, and it from nothing

    @property
    def command(self):  # on the CPU in fp32 wherever it runs, so that its numbers can stand beside the others'
        return ["python", self.script, *self.options, "--device=cpu", "--precision=fp32", f"--out_dir={OUT}/{self.name}"]


def all_cells():
    """-> {name: Cell}, in the order in which they run"""
    cells = []

    def add(name, script, config, minutes, *options, base=None, analyze=False):
        """base: the cell it starts from; of the two whose validation means little, the last weights and not the best"""
        start = []
        if base:
            start = [f"--init_from={OUT}/{base}" + ("/checkpoint/base" if base in ("statements", "worded") else "")]
        cells.append(
            Cell(name, f"{script}.py", [f"config/{config}.py", *start, *options], minutes, [base] if base else [], analyze)
        )

    def train(name, config, minutes, *options, **more):
        add(name, "train", config, minutes, *options, **more)

    def ask(name, config, *options, minutes=1, base="statements", **more):
        add(name, "finetune_reasoning", config, minutes, *options, base=base, **more)

    # Figure 2: the variants; h2 by N_L; the penalty on overlap; Z at a learnable scale; a Base of twice the layers
    train("base_gpt2", "tiny_base", 2)
    train("base_qwen3", "tiny_qwen3_base", 3)
    train("base_twice", "tiny_base", 4, "--init_from=random:tiny_gpt2_twice")
    for s in SEEDS:
        seed = f"--seed={s}"
        for family in FAMILIES:
            for v in TRAINED:
                analyze = (v, family) == ("h2", "gpt2")
                train(f"figure2_{family}_{v}_s{s}", f"tiny_{v}", 2.5, seed, base=f"base_{family}", analyze=analyze)
        for n in (1, 4, 8):
            train(f"latents_gpt2_h2_{n}_s{s}", "tiny_h2", 3, seed, f"--n_latents={n}", base="base_gpt2", analyze=n == 8)
        options = seed, "--n_latents=8", "--orthogonality_weight=0.1"
        train(f"orthogonal_gpt2_h2_8_s{s}", "tiny_h2", 3, *options, base="base_gpt2", analyze=s == 1)
        train(f"scaled_gpt2_h2_s{s}", "tiny_h2", 3, seed, "--scale_latents=True", base="base_gpt2")
        train(f"twice_gpt2_soft_s{s}", "tiny_soft", 3, seed, base="base_twice")

    # Table 2, Figures 3A and 7: ProsQA, depth-matched, at two learning rates; plain
    add("statements", "finetune_reasoning", "tiny_statements", 8)
    for s in SEEDS:
        seed = f"--seed={s}"
        for v in ASKED:
            ask(f"prosqa_{v}_s{s}", f"tiny_prosqa_{v}", seed, analyze=v in ("h2", "coconut"))
        for v in ("h2", "soft"):
            for c in (1, 4):
                ask(f"prosqa_{v}_c{c}_s{s}", f"tiny_prosqa_{v}", seed, f"--latents_per_step={c}")
        for v in SYSTEMS:
            ask(f"slow_prosqa_{v}_s{s}", f"tiny_prosqa_{v}", seed, "--lr=2.5e-4")
        for c in (1, 4):
            ask(f"slow_prosqa_soft_c{c}_s{s}", "tiny_prosqa_soft", seed, "--lr=2.5e-4", f"--latents_per_step={c}")
        for v in PLAIN:
            ask(f"plain_prosqa_{v}_s{s}", f"tiny_prosqa_{v}", seed, "--data=data/prosqa_tiny_plain")

    # Table 2 from a Base that has met all of the questions' words
    add("worded", "finetune_reasoning", "tiny_worded", 8)
    for s in SEEDS:
        for v in (*ASKED, "no_thought"):
            ask(f"worded_prosqa_{v}_s{s}", f"tiny_prosqa_{v}", f"--seed={s}", WORDED, base="worded")
        for v in PATIENT:  # and three times the epochs; without a stage 0 the frozen ones have as many, too
            last = {"no_cot": 15, "liu": 9, "h1": 9}.get(v, 6)
            more = "--epochs_per_stage=3", f"--last_stage_epochs={last}"
            ask(f"patient_prosqa_{v}_s{s}", f"tiny_prosqa_{v}", f"--seed={s}", WORDED, *more, base="worded", minutes=3)

    # Table 4: h2 from a large-scale run on text in the questions' words, and from a Base that has read as much without latents
    for s in SEEDS:
        seed = f"--seed={s}"
        train(f"statements_h2_s{s}", "tiny_statements_h2", 5, seed, base="statements", analyze=True)
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
                    minutes, analyze = 9 if latents == 16 else 5, (v, latents) == ("h2", 16)
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
    started_from = {name for cell in cells for name in cell.after}
    for cell in cells:
        cell.is_base = not cell.after and cell.name in started_from
    return {cell.name: cell for cell in cells}


# What is made before any cell: (a file that is there afterwards, a command)
TINY_WORLD = "--nodes=7 --hops 2 3 --words 4 8".split()
DATA = (
    ("data/sample/val_000.bin", ["data.py", "sample"]),
    ("data/statements/val_000.bin",
     ["prosqa.py", "data/statements", *TINY_WORLD, "--statements", "--counts", "40000", "100", "100"]),
    ("data/worded/val_000.bin",
     ["prosqa.py", "data/worded", *TINY_WORLD, "--statements", "--worded", "--counts", "40000", "100", "100"]),
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


def compare(cell):
    """A run that was made again for its weights, perhaps on another machine, with the one that is kept."""
    out, to = os.path.join(OUT, cell.name), os.path.join(RESULTS, cell.name)
    again, before = ([m["loss"] for m in runtime.read_metrics(folder) if "loss" in m][-1] for folder in (out, to))
    apart = abs(again / before - 1)
    if apart > SAME:
        raise RuntimeError(f"its last loss is {again:.6f}, the kept run's {before:.6f}")
    print(f"{cell.name} made again: its last loss is within {apart:.0e} of the kept run's", flush=True)
    with open(os.path.join(to, "cell.json")) as f:
        about = json.load(f) | {"weights": f"last loss within {apart:.0e}"}
    with open(os.path.join(to, "cell.json"), "w") as f:
        json.dump(about, f, indent=2)


def run_cell(cell, commit):
    """Run or resume it, analyse it, keep what is small."""
    out = os.path.join(OUT, cell.name)
    resume = "--resume" if runtime.has_checkpoint(out) else "--overwrite"
    run([*cell.command[1:], resume], os.path.join(OUT, f"{cell.name}.log"))
    if cell.analyze and not finished(cell):
        run(["analyze_latents.py", out, "--examples=1024"], os.path.join(OUT, f"{cell.name}.log"))
    if not finished(cell):
        keep(cell, commit)
    else:
        compare(cell)
    if cell.is_base:
        keep_base(cell)


def keep_base(cell):
    for name in WEIGHTS:
        shutil.copy(os.path.join(OUT, cell.name, name), os.path.join(RESULTS, cell.name, name))


def restore_bases(cells):
    """Bases whose weights are in results/ but no longer in out/ -> out/"""
    for name, cell in cells.items():
        here, there = os.path.join(RESULTS, name), os.path.join(OUT, name)
        if cell.is_base and os.path.exists(os.path.join(here, WEIGHTS[-1])) and not os.path.exists(f"{there}/.done"):
            shutil.copytree(here, there, dirs_exist_ok=True)
            open(f"{there}/.done", "w").close()


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
    restore_bases(cells)
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
# The page


def draw():
    """results/tiny/*.png from what is finished."""
    done = sorted(os.listdir(RESULTS)) if os.path.isdir(RESULTS) else []
    groups = {
        "figure2_gpt2": (figures.figure2, "figure2_gpt2_"), "figure2_qwen3": (figures.figure2, "figure2_qwen3_"),
        "figure2_long": (figures.figure2, "long_gpt2_"),
        "stages": (figures.stages, "prosqa_"), "stages_worded": (figures.stages, "worded_prosqa_"),
        "stages_patient": (figures.stages, "patient_prosqa_"),
        "figure3b": (figures.figure3b, "countdown_"), "figure8": (figures.figure8, "figure8_countdown_(h|r)"),
    }  # fmt: skip
    drawn = claims.overview()
    for name, (function, pattern) in groups.items():
        runs = [f"{RESULTS}/{cell}" for cell in done if re.match(pattern, cell) and "_c1_" not in cell and "_c4_" not in cell]
        runs = [r for r in runs if os.path.exists(f"{r}/cell.json")]
        if runs:
            function(runs, f"{RESULTS}/{name}.png")
            drawn.append(name)
    return drawn


PAGE = """# The paper at laptop size

**Rows for the paper's claims: {own}.** Rows for what was tried, and beyond the paper: {more}.

{done} of {all} cells have been run, {hours:.1f} core-hours; each has its config, metrics, commit and command in [tiny/](tiny).
Written by `make paper-tiny` (paper.py). These are statements about Bases of 0.1M to 0.3M parameters, not about GPT-2 124M.
The systems are those of the [README](../README.md#the-one-idea); large-scale training is of GPT-2 shaped models where no
family is named, questions are asked of Qwen-3 shaped ones.

- *Ours*: differences, paired by seed, ± their 95 % interval (Student's t, three seeds); of perplexity in percent (100 × the
  difference of its logarithm), of accuracy in points. A claim is decided where the whole interval is on one side of its
  limit. The limits (5 and 10 points, 0.1) are this page's, not the paper's. Unless they start from random weights (6) or from a
  run of their own seed (7), all seeds of a system start from one Base: the intervals say nothing about another. They are not
  corrected for the number of rows. Between the first cells and later ones the weights were made again of: {again}.
- *Values*: mean ± standard deviation (seeds).
- *From 0.3M tokens on*: from there, the first evaluation, the difference stays negative.
- *Tried*: what was changed to make a claim hold that did not, or could not be told.
  *Beyond*: what the first version of the paper does not test.
- Not here: GSM8K, for which models of this size are too small (its commands are in the README), and claims 1 to 3 with a
  larger GPT-2, for which no GPU was at hand.

| claim | the paper | ours | verdict | cells |
|---|---|---|---|---|"""


def report(cells):
    rows, drawn = list(claims.claims()), draw()
    done = [cell for cell in cells.values() if finished(cell)]
    hours, again = 0.0, []
    for cell in done:
        with open(os.path.join(RESULTS, cell.name, "cell.json")) as f:
            about = json.load(f)
        hours += about["seconds"] / 3600
        again += [f"{cell.name} ({about['weights']})"] if "weights" in about else []
    words = {True: Counter(), False: Counter()}
    for row in rows:
        words["Tried" in row.claim or "Beyond" in row.claim][row.verdict] += 1
    own, more = (", ".join(f"{word} {n}" for word, n in words[tried].most_common()) for tried in (False, True))
    lines = [PAGE.format(own=own, more=more, done=len(done), all=len(cells), hours=hours, again=", ".join(again) or "none")]
    for row in rows:
        ours = "<br>".join(row.ours) or "-"
        if row.values:
            ours += f"<details><summary>values</summary>{'<br>'.join(row.values)}</details>"
        where = row.cells.replace(",", ",<wbr>")
        lines.append(f"| {row.claim} | {row.paper} | {ours} | **{row.verdict}** | {where} |")
    again = "to run them again, delete their folders in tiny/ first."
    lines += ["", f"To run a row's cells: `python -m paper.cells --only=<its last column>`; {again}", ""]
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
    begins = tuple(x.strip() for x in a.only.split(",") if x.strip()) or ("",)
    wanted = [cell for cell in cells.values() if cell.name.startswith(begins)]
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
