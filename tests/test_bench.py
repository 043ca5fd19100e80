"""paper/bench.py compares what computes the same, and every part runs."""

import json

import pytest
import torch
from helpers import VOCAB, close, random_tokens, tiny_variant

import coprocessor
from model import gpt2_config
from paper import bench


def test_coconut_without_a_cache_computes_coconut(family):
    model = tiny_variant("coconut", family)
    tokens, answer = random_tokens(3, 9), random_tokens(3, 4, seed=5) % (VOCAB - 3)
    sites = torch.full((3, 1), 8)
    close(bench.coconut_without_cache(model, tokens, answer), model(tokens, sites, answer[:, None]).mean(), 1e-9)


def test_transformers_decodes_the_same_weights(family, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setattr(bench, "DEVICE", "cpu")
    model = tiny_variant("continued", family, dtype=torch.float32).base
    tokens = random_tokens(3, 9)
    assert torch.equal(bench.by_transformers(model)(tokens, 12), model.generate(tokens, torch.full((3,), 9), 12))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench, "CONFIG", gpt2_config(vocab_size=64, context=160, n_layer=1, n_head=2, width=16))
    for name, value in dict(S=64, M=4, N_L=3, N_A=4).items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(bench, "DEVICE", "cpu")
    monkeypatch.setattr(bench, "BF16", False)


def test_parts_are_named_measured_and_written(small, tmp_path, monkeypatch, capsys):
    measure = bench.seconds
    monkeypatch.setattr(bench, "seconds", lambda *functions, rounds=1: measure(*functions, rounds=1))
    bench.main(["training", "reasoning", f"--json={tmp_path}/b.json"])
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(found) == 4 and all(r.keys() == {"ratio", "aim"} and r["ratio"] > 0 for r in found.values())
    table = capsys.readouterr().out
    assert all(f"| {name} | " in table for name in found)


def test_throughput_of_a_training_step(small):
    shape = dict(seq_len=32, n_sites=2, n_ahead=3, n_latents=2)
    for variant in ("continued", "h1", "h2"):
        found = bench.throughput("tiny_gpt2", variant, 2, steps=1, compiled=False, **shape)
        assert found["tokens_per_second"] > 0 and found["mfu"] is None and found["peak_gb"] is None
    with pytest.raises(ValueError, match="no CUDA device"):
        bench.gpu()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("variant", [v for v in coprocessor.VARIANTS if v not in coprocessor.REASONING])
def test_the_gpu_path_runs_compiled(variant):
    torch.compiler.reset()
    shape = dict(seq_len=128, n_sites=16, n_ahead=8, n_latents=8)
    for size in ("tiny_gpt2", "tiny_qwen3"):
        found = bench.throughput(size, variant, 2, steps=2, **shape)
        assert found["tokens_per_second"] > 0 and found["peak_gb"] > 0
