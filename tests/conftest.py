import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project is a folder of scripts, not a package
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


from helpers import run_here  # noqa: E402

import countdown  # noqa: E402
import data  # noqa: E402
import prosqa  # noqa: E402
import train  # noqa: E402
from model import FAMILIES  # noqa: E402


@pytest.fixture(params=[name for name in FAMILIES if name != "qwen2"])  # a Llama with three more biases: see test_parity.py
def family(request):
    return request.param


@pytest.fixture(params=["dense", "grouped"])
def path(request):
    return request.param


# -----------------------------------------------------------------------------
# Settings of tiny runs, each with data of its own


@pytest.fixture(scope="session")
def train_settings(tmp_path_factory):
    """Of train.py: 8 steps on random ids"""
    from test_data import make_shards

    folder = tmp_path_factory.mktemp("corpus")
    make_shards(folder, [3000, 2000])
    make_shards(folder, [600], split="val")
    return dict(
        init_from="random:tiny_gpt2", data=str(folder), seq_len=24, n_sites=4, n_ahead=3, n_latents=2, tokens_per_step=96,
        tokens=8 * 96, batch_size=4, lr=1e-3, eval_every=4, eval_rows=6, log_every=1, checkpoint_every=2, device="cpu",
        precision="fp32",
    )  # fmt: skip


@pytest.fixture(scope="session")
def reasoning_settings(tmp_path_factory):
    """Of finetune_reasoning.py: 15 steps on generated questions, with a tokenizer of their words"""
    folder = tmp_path_factory.mktemp("reasoning")
    prosqa.main([str(folder / "prosqa"), *"--nodes=7 --hops 2 3 --counts 40 20 20".split()])
    rows = json.loads((folder / "prosqa" / "prosqa_train.json").read_text())
    data.train_tokenizer([r["question"] + "\n### " + r["answer"] for r in rows], 400, str(folder / "tokenizer.json"))
    return dict(
        init_from="random:tiny_qwen3", data=str(folder / "prosqa"), tokenizer=str(folder / "tokenizer.json"), train_limit=24,
        valid_limit=6, test_limit=6, stages=2, latents_per_step=1, epochs_per_stage=1, last_stage_epochs=2, batch_size=8,
        micro_batch=4, max_new_tokens=8, lr=1e-3, device="cpu", log_every=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def countdown_settings(tmp_path_factory):
    """Of countdown.py: 8 steps on 64 problems"""
    folder = tmp_path_factory.mktemp("countdown")
    problems = [p for chunk in range(2) for p in countdown.sample_problems(3, 0, "train", chunk)]
    for split, rows in (("train", problems[:64]), ("test", problems[64:74])):
        (folder / f"3_seed0_{split}.jsonl").write_text("".join(json.dumps(p) + "\n" for p in rows))
    countdown.make_problems(str(folder), 3, 0)  # the tokenizer is not there yet, the problems are
    return dict(
        init_from="random:tiny_qwen3", operands=3, n_latents=2, data=str(folder), tokenizer=str(folder / "tokenizer.json"),
        epochs=2, batch_size=16, micro_batch=8, max_new_tokens=12, lr=1e-3, device="cpu", log_every=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def train_run(train_settings, tmp_path_factory):
    """The run of these settings, which nothing has disturbed; not to be written to"""
    return run_here(train, train_settings, tmp_path_factory.mktemp("train") / "run")
