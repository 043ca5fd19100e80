"""paper/bench.py compares what computes the same, and every part runs."""

import json
import time
from pathlib import Path

import pytest
import torch
from helpers import VOCAB, close, random_tokens, tiny_variant

import coprocessor
from model import gpt2_config
from paper import bench, gpu


def test_coconut_without_a_cache_computes_coconut(family):
    model = tiny_variant("coconut", family)
    tokens, answer = random_tokens(3, 9), random_tokens(3, 4, seed=5) % (VOCAB - 3)
    sites = torch.full((3, 1), 8)
    close(bench.coconut_without_cache(model, tokens, answer), model(tokens, sites, answer[:, None]).mean(), 1e-9)


def test_decoding_without_a_cache_says_the_same(family):
    model = tiny_variant("continued", family).base
    tokens = random_tokens(3, 9)
    assert torch.equal(bench.recompute(model, tokens, 12), model.generate(tokens, torch.full((3,), 9), 12))


def test_transformers_decodes_the_same_weights(family, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(bench, "DEVICE", "cpu")
    model = tiny_variant("continued", family, dtype=torch.float32).base
    tokens = random_tokens(3, 9)
    assert torch.equal(bench.by_transformers(model)(tokens, 12), model.generate(tokens, torch.full((3,), 9), 12))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "CONFIG", gpt2_config(vocab_size=64, context=160, n_layer=1, n_head=2, width=16))
    for name, value in dict(S=64, M=4, N_L=3, N_A=4, GROWS_FROM=dict(seq_len=32, n_sites=2, n_latents=2, n_ahead=2)).items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "DEVICE", "cpu")
    monkeypatch.setattr(bench, "BF16", False)


def test_parts_are_named_measured_and_written(small, tmp_path, monkeypatch, capsys):
    parts = ["training", "reasoning", "growth"]
    monkeypatch.setattr("sys.argv", ["bench.py", *parts, f"--json={tmp_path}/b.json", f"--figure={tmp_path}/g.png"])
    bench.main()
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(found) == 3 + 3 + 4 and all(r.keys() == {"ratio", "aim"} and r["ratio"] > 0 for r in found.values())
    assert found["passes until the answer begins, Coconut / h2"]["ratio"] == (3 + 1) / 3  # N_L = 3
    assert found["h2 step, seq_len doubled"]["aim"] > 1
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out
    assert all(f"| {name} | " in table for name in found)
    with pytest.raises(SystemExit):
        monkeypatch.setattr("sys.argv", ["bench.py", "nothing"])
        bench.main()


def test_peak_memory_sees_what_a_step_allocates(small, monkeypatch):
    """A gigabyte, which is more than any test before this one took."""
    spare = torch.nn.Linear(1, 1)

    def job():
        return spare, lambda: None, lambda: torch.ones(2**28).sum()

    monkeypatch.setitem(bench.MEMORY_JOBS, "1 GB", job)
    assert 0.5e9 < bench.peak("1 GB")[0] < 1.2e9
    for name in ("h2", "h2, dense", "frozen", "learning"):
        model, few, all_of_it = bench.MEMORY_JOBS[name]()
        few()
        all_of_it()
        assert (name == "frozen") == all(p.grad is None for p in model.parameters())


def test_throughput_of_a_training_step(small):
    shape = dict(seq_len=32, n_sites=2, n_ahead=3, n_latents=2)
    for variant in ("continued", "soft", "liu", "h1", "h2"):
        found = bench.throughput("tiny_gpt2", variant, 2, steps=1, compiled=False, **shape)
        assert found["tokens_per_second"] > 0 and found["mfu"] is None and found["peak_gb"] is None
    with pytest.raises(SystemExit, match="not measured"):
        bench.gpu()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("variant", [v for v in coprocessor.VARIANTS if v not in coprocessor.REASONING])
def test_the_gpu_path_runs_compiled(variant):
    torch.compiler.reset()
    shape = dict(seq_len=128, n_sites=16, n_ahead=8, n_latents=8)
    for size in ("tiny_gpt2", "tiny_qwen3"):
        found = bench.throughput(size, variant, 2, steps=2, **shape)
        assert found["tokens_per_second"] > 0 and found["peak_gb"] > 0


# -----------------------------------------------------------------------------
# make gpu, but for the GPU


def test_the_stages_of_make_gpu_are_written_and_told(tmp_path, monkeypatch, capsys):
    """One fails, one is out of time, and the others are kept all the same."""
    step = json.dumps(dict(batch=6, tokens_per_second=52000.0, mfu=0.41, peak_gb=26.0))
    answers = {
        "pytest": (1, "F\n1 failed, 23 passed in 99s"),
        "qwen3-0.6b": (None, "compiling"),
        "gpt2": (0, f"note\n{step}\n"),
    }
    answers["train.py"] = 0, "step 30/30: loss 10.8123, 51,234 tokens/s, MFU 40.1%, 0m00s left, validation perplexity 50000.0\n"
    limits = []

    def run(command, limit):
        limits.append(limit)
        status, said = next(answer for name, answer in answers.items() if name in command)
        for argument in command:
            if argument.startswith("--out_dir="):
                folder = Path(argument.partition("=")[2])
                folder.mkdir()
                (folder / "metrics.jsonl").write_text('{"step": 0}\n{"step": 1, "loss": 10.9}\n{"step": 30, "loss": 10.8}\n')
        return status, said, 1.0

    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    monkeypatch.setattr(gpu, "run", run)
    monkeypatch.setattr(gpu.runtime, "cuda_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4 80GB")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit) as e:
        gpu.main()
    assert e.value.code and sum(limits[:3]) + 60 < gpu.TOGETHER and limits[3] > 500
    stages = json.loads((tmp_path / "results" / "gpu-nvidia-a100-sxm4-80gb.json").read_text())["stages"]
    assert [name for name in stages if stages[name]["ok"]] == ["gpt2", "train"]
    assert stages["tests"]["said"][-1] == "1 failed, 23 passed in 99s" and stages["qwen3-0.6b"]["said"][0] == "its time was up"
    assert stages["gpt2"]["within_memory"] and stages["gpt2"]["batch"] == 6
    assert stages["train"]["losses"] == [10.9, 10.8] and stages["train"]["mfu"] == 0.401
    *_, line, _ = capsys.readouterr().out.splitlines()
    assert "CUDA tests failed" in line and "GPT-2 batch 6, 52,000 tokens/s, MFU 41.0%, peak 26.0 GB" in line
    assert line.endswith("through torchrun 51,234 tokens/s")


def test_a_stage_that_takes_too_long_is_ended_with_its_children(tmp_path):
    status, said, seconds = gpu.run(["bash", "-c", f"echo began; (sleep 3; touch {tmp_path}/late) & wait"], 0.5)
    assert status is None and said == "began\n" and seconds < 20
    time.sleep(3)
    assert not (tmp_path / "late").exists()
    assert gpu.run(["bash", "-c", "echo well; exit 3"], 60)[:2] == (3, "well\n")


def test_h2_gpt2_runs_through_torchrun_on_made_up_text(tmp_path, monkeypatch):
    tiny = "--init_from=random:tiny_gpt2 --seq_len=256 --n_sites=2 --n_ahead=2 --n_latents=2 --max_latents=2 --eval_rows=4"
    here = "--device=cpu --precision=fp32 --compile=False --lr=1e-3"
    monkeypatch.setattr(gpu, "H2_GPT2", [*gpu.H2_GPT2, *tiny.split(), *here.split()])
    status, said, _ = gpu.run(gpu.training(str(tmp_path), 2, 1.0, 1), 300)
    assert status == 0, said
    found = gpu.trained(str(tmp_path), said)
    assert found["steps"] == 10 and found["tokens_per_second"] > 0 and found["mfu"] is None
    assert found["losses"][1] < found["losses"][0]
