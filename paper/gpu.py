"""make gpu: is all well on this machine's CUDA device, and how fast is it? Nine minutes, no network, any torch from 2.11 on.

    python -m paper.gpu          # writes results/gpu-<card>.json, prints a line for README and NOTES

Four stages, one after the other. Each is a process of its own, and is ended when its time is up: however long something
compiles, all four together take no more than nine minutes.

    tests        tests/test_cuda.py but for its full-size part                       200 s
    gpt2         an h2 step at the paper's shape (bench.fitting)                     110 s
    train        config/h2_gpt2.py through torchrun, on made-up text                 130 s
    qwen3-0.6b   as gpt2                                                             what is left of 510 s
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

from configurator import one_line_errors

import numpy as np
import torch

import data
import runtime
from paper import bench

TOGETHER, LIMITS = 510, {"tests": 200, "gpt2": 110, "train": 130}  # seconds
TRAINS_FOR = 45  # seconds of steps, besides compiling, evaluating and saving
H2_GPT2 = ["config/h2_gpt2.py", "--init_from=random:gpt2", "--eval_rows=30", "--log_every=5"]  # 30: a last batch of 6


def run(command, limit):
    """-> (exit status, None if its time was up; what it said; seconds)"""
    began, status = time.perf_counter(), None
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        # its compilers are children of its own: it gets a session, which is ended as a whole
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(limit)
        finally:
            if process.poll() is None:
                process.terminate()  # torchrun then ends its ranks
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return status, said.read(), time.perf_counter() - began


def tests():
    """-> the command"""
    has_xdist = subprocess.run([sys.executable, "-c", "import xdist"], capture_output=True).returncode == 0
    workers = ["-n", str(max(1, min(8, (os.cpu_count() or 1) // 2)))] if has_xdist else []  # each compiles for itself
    return [sys.executable, "-m", "pytest", "-q", *workers, "tests/test_cuda.py", "-k", "not full_size"]


def training(folder, batch, tokens_per_second, cards):
    """-> the command. Every card does five micro-batches a step, as each of eight would."""
    text, tokens_per_step = os.path.join(folder, "text"), 5 * batch * cards * 1024
    rng = np.random.default_rng(0)
    os.mkdir(text)
    for split, count in (("train", 2**22), ("val", 2**16)):
        data.write_shard(os.path.join(text, f"{split}_000.bin"), [rng.integers(50257, size=count)], "made up", 50257)
    steps = max(10, round(TRAINS_FOR * tokens_per_second * cards / tokens_per_step))
    settings = dict(data=text, out_dir=os.path.join(folder, "run"), batch_size=batch, tokens_per_step=tokens_per_step)
    settings |= dict(tokens=steps * tokens_per_step)
    ranks = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={cards}"]
    return [sys.executable, *ranks, "train.py", *H2_GPT2, *(f"--{key}={value}" for key, value in settings.items())]


def trained(folder, said):
    """-> what a run's last line and its log say"""
    *_, last = re.finditer(r"step ([0-9]+)/.*?, ([0-9,]+) tokens/s(?:, MFU ([0-9.]+)%)?", said)
    losses = [r["loss"] for r in runtime.read_metrics(os.path.join(folder, "run")) if "loss" in r]
    found = dict(steps=int(last[1]), tokens_per_second=int(last[2].replace(",", "")), losses=[losses[0], losses[-1]])
    return found | dict(mfu=float(last[3]) / 100 if last[3] else None)


def main():
    if sys.argv[1:]:  # a stage, which prints what it found
        _, batch = bench.SHAPES[sys.argv[1]]
        return print(json.dumps(bench.fitting(sys.argv[1], "h2", batch)))
    if not runtime.cuda_available():
        raise ValueError("make gpu wants a CUDA device, and there is none here: nothing was measured")
    card, cards, began = torch.cuda.get_device_name(), torch.cuda.device_count(), time.perf_counter()
    found = dict(card=card, cards=cards, torch=torch.__version__, stages={})
    path = os.path.join("results", f"gpu-{re.sub('[^a-z0-9]+', '-', card.lower())}.json")

    def stage(name, command, read):
        """read(what it said) -> what it found, a dict"""
        left = TOGETHER - (time.perf_counter() - began)
        status, said, took = run(command, min(left, LIMITS.get(name, left)))
        result = dict(seconds=round(took), ok=status == 0) | (read(said) if status == 0 else {})
        if status != 0:
            result["said"] = ["its time was up"] * (status is None) + said.splitlines()[-40:]
        found["stages"][name] = result
        runtime.write_json(path, found)
        print(f"{name}: {json.dumps(result, indent=2)}", flush=True)
        return result

    def step(name, said):
        r = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
        return r | dict(words=bench.told(r), within_memory=r["peak_gb"] <= bench.PEAK_GB[name])

    stage("tests", tests(), lambda said: {"words": said.splitlines()[-1].strip("= ")})
    gpt2 = stage("gpt2", [sys.executable, "-m", "paper.gpu", "gpt2"], lambda said: step("gpt2", said))
    with tempfile.TemporaryDirectory() as folder:
        command = training(folder, gpt2.get("batch", 4), gpt2.get("tokens_per_second", 2e4), cards)
        stage("train", command, lambda said: trained(folder, said))
    stage("qwen3-0.6b", [sys.executable, "-m", "paper.gpu", "qwen3-0.6b"], lambda said: step("qwen3-0.6b", said))

    def words(name):
        r = found["stages"][name]
        r = r | {"words": f"{r['tokens_per_second']:,} tokens/s"} if "losses" in r else r
        return r["words"] if r["ok"] else "failed"

    print(
        f"{card} (torch {torch.__version__}): CUDA tests {words('tests')}; an h2 step of GPT-2 "
        f"{words('gpt2')}; of Qwen-3 {words('qwen3-0.6b')}; h2_gpt2 through torchrun {words('train')}\nwrote {path}"
    )
    sys.exit(not all(r["ok"] for r in found["stages"].values()))


if __name__ == "__main__":
    one_line_errors(main)
