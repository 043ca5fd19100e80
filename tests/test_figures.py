"""Figures and tables say what the run folders say."""

import json

import pytest

import figures


def fake_run(folder, variant, ppl, family="gpt2", n_latents=4, scale_latents=False, lr=1.0):
    (folder / "checkpoint" / "base").mkdir(parents=True)
    (folder / "checkpoint" / "state.json").write_text("{}")
    (folder / "checkpoint" / "base" / "config.json").write_text(json.dumps({"model_type": family}))
    config = dict(variant=variant, n_latents=n_latents, scale_latents=scale_latents, seed=len(str(folder)), lr=lr)
    (folder / "config.json").write_text(json.dumps(config))
    lines = [{"step": i, "tokens": i * 10**6, "val_ppl": p} for i, p in enumerate(ppl)]
    lines.append({"step": 9, "tokens": 9, "loss": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return str(folder)


def test_figure2_prints_final_perplexities_with_their_spread(tmp_path, capsys):
    runs = [
        fake_run(tmp_path / "c", "continued", [20.0, 15.0]),
        fake_run(tmp_path / "h2_1", "h2", [30.0, 13.0]),
        fake_run(tmp_path / "h2_2", "h2", [30.0, 15.0]),
        fake_run(tmp_path / "scaled", "h2", [25.0, 16.5], scale_latents=True),
        fake_run(tmp_path / "few", "h2", [30.0, 14.5], n_latents=1),
        fake_run(tmp_path / "mine", "a_new_variant", [30.0, 17.0], family="qwen3"),
    ]
    figures.figure2(runs, str(tmp_path / "f" / "2.png"))
    table = capsys.readouterr().out
    assert "| GPT-2 | Hypothesis 2 (co-finetuned) | 4 | 1.0M | 14.00 ± 1.41 | 2 | -1.00 |" in table
    assert "| GPT-2 | Hypothesis 2 (co-finetuned), scaled Z | 4 | 1.0M | 16.50 | 1 | +1.50 |" in table
    assert "| GPT-2 | continued pretraining | - | 1.0M | 15.00 | 1 |  |" in table
    assert "| Qwen-3 | a_new_variant | 4 | 1.0M | 17.00 | 1 |  |" in table
    assert (tmp_path / "f" / "2.png").read_bytes().startswith(b"\x89PNG")


def test_figure2_refuses_what_does_not_make_a_line(tmp_path):
    runs = [fake_run(tmp_path / "a", "h2", [30.0, 13.0]), fake_run(tmp_path / "b", "h2", [30.0, 13.0], lr=2.0)]
    with pytest.raises(ValueError, match="differ in lr: 2.0 and 1.0"):
        figures.figure2(runs, str(tmp_path / "2.png"))
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        figures.figure2([str(tmp_path)], str(tmp_path / "2.png"))


def test_figure5_is_drawn(tmp_path):
    figures.figure5(str(tmp_path / "5.png"))
    assert (tmp_path / "5.png").read_bytes().startswith(b"\x89PNG")
