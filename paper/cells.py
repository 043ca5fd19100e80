"""The paper at laptop size: every run of it as a command, and a runner for those that are not finished.

    python -m paper.cells --list            # the commands, what each takes on one core, what is finished
    python -m paper.cells                   # runs what is not finished, a cell a core
    python -m paper.cells --only=countdown  # only cells whose name begins so, and what they start from
    python -m paper.claims                  # what came of it: results/README.md

A cell is one run, in out/paper/<cell>/. When it has ended it becomes a line of results/tiny.jsonl, and the weights of a Base
go to results/bases/, so that whatever is run later starts from the same. Both are committed; all else may be deleted. The
runner resumes what it finds in out/paper/, so that it also takes in what you ran by hand. A cell whose settings, or whose
Base in results/bases/, are no longer those of its line is not finished: it runs anew, and its line is replaced.
"""

import argparse
import importlib
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from configurator import configure, one_line_errors

import torch

import runtime
from coprocessor import checksum
from model import load_pretrained
from paper import figures

OUT, RECORDS, BASES = "out/paper", "results/tiny.jsonl", "results/bases"
SAME = 1e-2  # how far, relatively, a run's last loss may be from the kept run's: last bits differ by machine, and grow
LOCK = threading.Lock()  # of RECORDS

# A command, and below it what runs with it: a name, minutes on one core, more options. A name's {a,b} are a cell each, as are
# {1..10}; $1 is what the first such place holds, $2 the second, $s the last. Every command also gets
# --out_dir=out/paper/<name> and, if it names no device, --device=cpu --precision=fp32 wherever it runs, so that its numbers
# can stand beside the others'. A cell with --device=cuda is run where there is a GPU; its minutes are an H100's.
CELLS = """
# The Bases of the runs on text, all on as many tokens: GPT-2 shaped; of a single layer; with as many parameters as Base and
# Coprocessor have together, by width (wide) and by depth (twice)
train.py config/tiny_base.py
    base_gpt2                                                 66
    base_once                                                 30   --init_from=random:tiny_gpt2_once
    base_wide                                                 86   --init_from=random:tiny_gpt2_wide
    base_twice                                                98   --init_from=random:tiny_gpt2_twice

# Figure 2: variants; h2 by N_L. At a third of that budget, and at two and a half times of it
train.py config/tiny_text.py --tokens=4915200 --eval_every=300 --seed=$s --init_from=results/bases/base_gpt2
    figure2_gpt2_continued_s{1..3}                            3    --variant=continued
    figure2_gpt2_{soft,pause,liu,h1,h2}_s{1..3}               8    --variant=$1
    latents_gpt2_h2_{1,8}_s{1..3}                             11   --n_latents=$1
train.py config/tiny_text.py --seed=$s --init_from=results/bases/base_gpt2
    short_gpt2_{continued,soft,pause,liu,h1,h2}_s{1..3}       2.5  --variant=$1
train.py config/tiny_text.py --tokens=12288000 --eval_every=500 --seed=$s --init_from=results/bases/base_gpt2
    long_gpt2_{continued,h2}_s{1,2}                           15   --variant=$1
# Other Bases; and from random weights: no Base that latents could disturb
train.py config/tiny_text.py --tokens=4915200 --eval_every=300 --seed=$s
    once_gpt2_{continued,h2}_s{1..3}                          4    --variant=$1 --init_from=results/bases/base_once
    wide_gpt2_continued_s{1..3}                               5    --variant=continued --init_from=results/bases/base_wide
    {wide,twice}_gpt2_soft_s{1,2}                             14   --variant=soft --init_from=results/bases/base_$1
train.py config/tiny_base.py --tokens=4915200 --eval_every=300 --seed=$s
    random_gpt2_{continued,h2}_s{1,2}                         6    --variant=$1

# Figure 2 once more, on a GPU, with a GPT-2 of 37M parameters
train.py config/small_text.py --device=cuda --seed=$s
    small_gpt2_{continued,soft,liu,h1,h2}_s{1..3}             1    --variant=$1 --init_from=out/paper/small_base
train.py config/small_text.py --device=cuda --variant=continued --init_from=random:small_gpt2 --lr=1e-3 --tokens=100000000
    small_base                                                3

# Table 2, Figures 3A and 7: ProsQA, depth-matched. All train for 15 epochs: liu and h1 have no stage 0, cot no other, no_cot
# only the last
finetune_reasoning.py config/tiny_statements.py
    statements                                                10
finetune_reasoning.py config/tiny_prosqa.py --seed=$s --init_from=results/bases/statements
    prosqa_{h2,soft,no_thought}_s{1..6}                       5.5  --variant=$1
    prosqa_coconut_s{1..5}                                    8    --variant=coconut
    prosqa_no_cot_s{1..5}                                     5    --variant=no_cot --last_stage_epochs=15
    prosqa_{liu,h1}_s{1..5}                                   4    --variant=$1 --last_stage_epochs=9
    prosqa_cot_s{1,2}                                         6    --variant=cot --epochs_per_stage=15
# From a Base that has met all of the questions' words
finetune_reasoning.py config/tiny_statements.py --data=data/worded_9 --tokenizer=data/worded_9/tokenizer.json
    worded                                                    10
finetune_reasoning.py config/tiny_prosqa.py --seed=$s --init_from=results/bases/worded --tokenizer=data/worded_9/tokenizer.json
    worded_prosqa_soft_s{1,2}                                 6    --variant=soft
    worded_prosqa_{liu,h1}_s{1,2}                             4    --variant=$1 --last_stage_epochs=9

# Table 4: h2 from a large-scale run on text in the questions' words, and from a Base that has read as much without latents.
# Straight to all latents, in two readings: without any step in words, and with latents for the first step alone
train.py config/tiny_text.py --tokens=2457600 --eval_every=150 --seed=$s --init_from=results/bases/statements
    statements_h2_s{1..3}                                     6.5  --data=data/statements_9 --n_latents=4
    statements_continued_s{1..3}                              1.5  --data=data/statements_9 --variant=continued
finetune_reasoning.py config/tiny_prosqa.py --seed=$s
    resume_prosqa_curriculum_s{1..3}                          6    --init_from=out/paper/statements_h2_s$s
    resume_prosqa_continued_s{1..3}                           6    --init_from=out/paper/statements_continued_s$s
finetune_reasoning.py config/tiny_prosqa.py --seed=$s --stages=1 --latents_per_step=4 --init_from=out/paper/statements_h2_s$s
    resume_prosqa_straight_s{1,2}                             5    --first_stage=2 --last_stage_epochs=15
    resume_prosqa_literal_s{1,2}                              5    --first_stage=1 --epochs_per_stage=15 --last_stage_epochs=0

# Figure 3B: Countdown from random weights; a penalty on overlap
countdown.py config/tiny_countdown.py --seed=$s
    countdown_h2_{3,4}_{1,4}_s{1..3}                          6    --operands=$1 --n_latents=$2
    countdown_h2_3_16_s{1..3}                                 10   --operands=3 --n_latents=16
    countdown_h2_4_16_s{1,2}                                  11   --operands=4 --n_latents=16
    countdown_soft_{3,4}_4_s{1..3}                            5    --variant=soft --operands=$1
    countdown_no_cot_{3,4}_0_s{1..3}                          4.5  --variant=no_cot --operands=$1 --n_latents=0
    orthogonal_countdown_{3,4}_{0.01,0.1}_s{1,2}              11   --n_latents=16 --operands=$1 --orthogonality_weight=$2
# Figure 8: Countdown from a Base that has read sums, from its large-scale run, and from one that has read more of them
    figure8_countdown_{h2,h1}_3_s{1..3}                       4    --variant=$1 --operands=3 --init_from=results/bases/sums
    figure8_countdown_resumed_3_s{1..3}                       5    --operands=3 --init_from=out/paper/sums_h2_s$s
    figure8_countdown_continued_3_s{1..3}                     5    --operands=3 --init_from=out/paper/sums_continued_s$s
    figure8_countdown_{h2,h1}_4_s{2,3}                        5    --variant=$1 --operands=4 --init_from=results/bases/sums
    figure8_countdown_resumed_4_s{2,3}                        7    --operands=4 --init_from=out/paper/sums_h2_s$s
    figure8_countdown_continued_4_s{2,3}                      7    --operands=4 --init_from=out/paper/sums_continued_s$s
train.py config/tiny_sums.py
    sums                                                      2
train.py config/tiny_text.py --tokens=2457600 --eval_every=150 --seed=$s --init_from=results/bases/sums
    sums_h2_s{1..3}                                           5    --data=data/countdown --n_latents=4
    sums_continued_s{1..3}                                    1.5  --data=data/countdown --variant=continued
"""
ANALYZED = r"((figure2_gpt2|prosqa)_h2|prosqa_coconut|latents_gpt2_h2_8|countdown_h2_[34]_16|orthogonal.*)_s\d+"

# What is made before any cell: a file that is there afterwards, and the rest of its command.
DATA = """
data.py
    data/sample/val_000.bin                   sample
    data/packages/val_000.bin                 sample --packages --vocab_size=8192
prosqa.py --nodes=9 --hops 2 3 --words 4 8
    data/statements_9/val_000.bin             data/statements_9 --statements --counts 40000 100 100
    data/worded_9/val_000.bin                 data/worded_9 --statements --worded --counts 40000 100 100
    data/prosqa_9/prosqa_train.json           data/prosqa_9 --depth_matched --counts 10000 300 500
countdown.py
    data/countdown/train_000.bin              --operands=3 --sums
    data/countdown/4_seed0_train.jsonl        --operands=4 --show=1
"""


@dataclass
class Cell:
    name: str
    minutes: float  # on one core, or one GPU
    command: str

    @property
    def on_gpu(self):
        return "--device=cuda" in self.command

    @property
    def start(self):
        """The cell whose weights it starts from, '' if none."""
        found = re.search(f"--init_from=({BASES}|{OUT})/(\\w+)", self.command)
        return found[2] if found else ""

    @property
    def is_base(self):
        """Others, of all seeds, start from it: its weights are kept, unless they are a GPU's, which are too large."""
        return not self.on_gpu and not re.search(r"_s\d+$", self.name)

    @property
    def analysis(self):
        """The command that looks at its latents, '' if none does."""
        return f"analyze_latents.py {OUT}/{self.name} --examples=1024" if re.fullmatch(ANALYZED, self.name) else ""


def held_by(place):
    """What a place of a name holds: "a,b" -> ["a", "b"], "1..3" -> ["1", "2", "3"]"""
    first, dots, last = place.partition("..")
    return [str(n) for n in range(int(first), int(last) + 1)] if dots else place.split(",")


def rows(text):
    """-> (command, the words of a line below it) for each such line"""
    command = ""
    for line in text.splitlines():
        if line.startswith(" "):
            yield command, line.split()
        elif line and line[0] != "#":
            command = line


def data_commands():
    """-> (path, command) each"""
    return [(path, " ".join([command, *options])) for command, (path, *options) in rows(DATA)]


def all_cells():
    """-> {name: Cell}"""
    cells = {}
    for command, (names, minutes, *options) in rows(CELLS):
        for held in itertools.product(*map(held_by, re.findall("{(.*?)}", names))):
            name = re.sub("{.*?}", "{}", names).format(*held)
            device = [] if "--device=" in command else ["--device=cpu --precision=fp32"]
            words = " ".join([command, *options, *device, f"--out_dir={OUT}/{name}"])
            for mark, value in [*enumerate(held, start=1), *zip("s", held[-1:], strict=False)]:
                words = words.replace(f"${mark}", value)
            cells[name] = Cell(name, float(minutes), words)
    return cells


def hours_of(cells):
    """What they cost, as text; "" if nothing"""
    hours = {unit: sum(cell.minutes for cell in cells if cell.on_gpu == (unit == "GPU")) / 60 for unit in ("core", "GPU")}
    told = [f"{n:.1f} {unit}-hours" if n < 100 else f"more than 100 {unit}-hours" for unit, n in hours.items() if n]
    return " and ".join(told)


def read_records():
    """-> {name: record} of all that has been run"""
    records = runtime.read_lines(RECORDS, like={"name": ""}) if os.path.exists(RECORDS) else []
    return {record["name"]: record for record in records}


def finished(cells):
    """-> {name: record} of those of the cells that need not be run: they, and what they start from, are what was run"""
    found = {name: record for name, record in read_records().items() if name in cells and stands(cells[name], record)}
    starts = {name: cells.get(cells[name].start) for name in found}
    return {name: found[name] for name, start in starts.items() if not start or start.is_base or start.name in found}


def stands(cell, record):
    """Is this run what the cell's command would make now: by its settings, by the Base that it started from, and by what was
    looked at in its latents?"""
    script, now = settings(cell)
    was = record["config"]
    if cell.start and cell.start == figures.start_of(record)[0]:
        was = was | {"init_from": now["init_from"]}  # whether the kept weights or those of out/paper
    shared = (now.keys() & was.keys()) - {*script.MAY_DIFFER}
    looked_at = not cell.analysis or "chance" in record.get("latents", {})  # the last thing that analyze_latents.py has learnt
    return all(was[key] in (now[key], "auto") for key in shared) and from_kept_base(cell, record) and looked_at


def settings(cell):
    """-> (its script, {setting: value})"""
    script, *words = cell.command.split()
    script = importlib.import_module(os.path.basename(script).removesuffix(".py"))
    return script, vars(configure(script.Config, "", words))


def from_kept_base(cell, record):
    """Did this run start from the weights that are in results/bases now? Of runs from before there were checksums: yes"""
    base, folder = record["config"].get("base_crc32"), f"{BASES}/{cell.start}"
    return base is None or not cell.start or not os.path.exists(folder) or base == checksum(load_pretrained(folder))


def run(command, log):
    """A command of this project on one core. Raises RuntimeError with the end of its log if it fails."""
    with open(log, "a", encoding="utf-8") as f:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *command.split()], stdout=f, stderr=subprocess.STDOUT, env=env)
    if done.returncode:
        with open(log, encoding="utf-8", errors="replace") as f:
            raise RuntimeError(f"{command} failed: {f.read()[-500:]}")


def run_cell(cell, commit):
    """Run or resume it, analyse it, and keep its line of tiny.jsonl, and the weights of a Base.

    One that is kept already was made again for its weights, perhaps on another machine. Raises RuntimeError if its last loss
    is not that of the kept one.
    """
    out, log, before = f"{OUT}/{cell.name}", f"{OUT}/{cell.name}.log", finished({cell.name: cell}).get(cell.name)
    run(f"{cell.command} {'--resume' if runtime.has_checkpoint(out) else '--overwrite'}", log)
    if cell.analysis and not before:
        run(cell.analysis, log)
    record = figures.read(out)
    if not from_kept_base(cell, record):
        raise RuntimeError(f"{out} did not start from the weights that are in {BASES}/{cell.start} now")
    if before:
        again, then = ([m["loss"] for m in r["metrics"] if "loss" in m][-1] for r in (record, before))
        apart = abs(again / then - 1)
        if apart > SAME:
            raise RuntimeError(f"its last loss is {again:.6f}, the kept run's {then:.6f}")
        print(f"{cell.name} made again: its last loss is within {apart:.0e} of the kept run's", flush=True)
        record = before | ({"weights": f"last loss within {apart:.0e}"} if apart else {})
    else:
        seconds = round(record["metrics"][-1]["seconds"])  # over all resumptions
        record |= dict(command=f"python {cell.command}", commit=commit, seconds=seconds, machine=platform.machine())
        record |= dict(python=platform.python_version(), cores=os.cpu_count())
        record |= dict(gpu=torch.cuda.get_device_name()) if cell.on_gpu else {}
    with LOCK:
        records = read_records() | {cell.name: record}
        runtime.write_lines(RECORDS, [records[name] for name in sorted(records)])
    if cell.is_base:
        os.makedirs(f"{BASES}/{cell.name}", exist_ok=True)
        for path in ("tokenizer.json", "checkpoint/base/config.json", "checkpoint/base/model.safetensors"):
            shutil.copy(f"{out}/{path}", f"{BASES}/{cell.name}")


def unfinished(cells, wanted):
    """-> the cells to run, in order: those that others start from come first, also where only their weights are missing"""
    todo, done = [], finished(cells)
    old = read_records().keys() - done.keys()
    for name in (cell.name for cell in wanted if cell.name not in done):
        line = []
        while name and name not in todo and not (line and os.path.exists(f"{BASES}/{name}") and name not in old):
            line, name = [name, *line], cells[name].start
        todo += line
    starts = {cells[name].start for name in todo}
    return [cells[name] for name in sorted(todo, key=lambda name: name not in starts)]


def run_all(todo, workers):
    """So many cells at a time -> {name: why it failed}; the others go on."""
    os.makedirs(OUT, exist_ok=True)
    read = {str(value) for cell in todo for value in settings(cell)[1].values()}  # folders, and files in them
    for path, command in data_commands():
        if not os.path.exists(path) and any(place.startswith(os.path.dirname(path)) for place in read):
            print(f"making {path}", flush=True)
            run(command, f"{OUT}/data.log")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()

    def work(cell, start):
        if start and start.exception():  # waits for it; it stands before this one in the queue
            raise RuntimeError("what it starts from failed")
        run_cell(cell, commit)

    jobs, failed, left = {}, {}, sum(cell.minutes for cell in todo)
    with ThreadPoolExecutor(workers) as pool:
        for cell in todo:
            jobs[cell.name] = pool.submit(work, cell, jobs.get(cell.start))
        cells_of = dict(zip(jobs.values(), todo, strict=True))
        try:
            for job in as_completed(cells_of):
                cell, error = cells_of[job], job.exception()
                if error:
                    failed[cell.name] = f"{type(error).__name__}: {error}"
                left -= cell.minutes
                print(f"{cell.name} {'failed' if error else 'finished'}; about {left / workers:.0f} min to go", flush=True)
        except KeyboardInterrupt:  # the cells have got it, too, and save
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only list the cells")
    parser.add_argument("--only", default="", help="only cells whose name begins with one of these, separated by commas")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="cells at a time (default: one per core)")
    a = parser.parse_args()
    cells = all_cells()
    begins = tuple(x.strip() for x in a.only.split(",") if x.strip()) or ("",)
    wanted = [cell for cell in cells.values() if cell.name.startswith(begins)]
    if not wanted or a.workers < 1:
        raise ValueError(f"no cell begins with {a.only!r}" if not wanted else "workers must be at least 1")
    if a.list:
        done = finished(cells)
        for path, command in data_commands():
            print(f"{'there' if os.path.exists(path) else '-':>9}  python {command}")
        for cell in wanted:
            print(f"{'finished' if cell.name in done else f'{cell.minutes:g} min':>9}  python {cell.command}")
            if cell.analysis:
                print(f"{'':>9}  python {cell.analysis}")
        return
    todo = unfinished(cells, wanted)
    if not runtime.cuda_available():
        left = [cell for cell in todo if cell.on_gpu]
        todo = [cell for cell in todo if not cell.on_gpu]
        if left:
            print(f"{len(left)} cells want a GPU, and there is none: left out", flush=True)
    print(f"{len(todo)} cells, {hours_of(todo) or 'nothing to do'}, {a.workers} at a time", flush=True)
    failed = run_all(todo, a.workers)
    if failed:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in failed.items()))


if __name__ == "__main__":
    one_line_errors(main)
