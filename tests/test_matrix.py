"""Every script on every kind of run, from another folder than it was made in and after it was moved."""

import json
import os
import shutil

from configurator import one_line_errors

import pytest
import safetensors.torch
from helpers import run_here
from test_data import make_corpus

import analyze_latents
import coprocessor
import countdown
import evaluate
import finetune_reasoning
import sample
import train
from paper import figures

pytestmark = pytest.mark.xdist_group("matrix")  # its runs are made once, not on every worker


class Upper(coprocessor.H1):
    """A variant of one's own, as a fork would add it: Hypothesis 1 on the upper half of the layers."""

    def pass2_start(self, prefix, sites):
        start = super().pass2_start(prefix, sites)
        half = len(start.kv) // 2
        nothing = [tuple(t[:, :, :, :0] for t in pair) for pair in start.kv[:half]]
        return start._replace(kv=nothing + start.kv[half:])


@pytest.fixture(scope="module")
def runs(tmp_path_factory, countdown_settings, reasoning_settings):
    """-> {(kind, variant): a run's folder}, made in one place with relative names and moved to another."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    (here / "corpus").mkdir()
    make_corpus(here / "corpus")
    text = dict(
        init_from="random:tiny_llama", data="corpus", seq_len=32, n_sites=4, n_ahead=4, n_latents=3, tokens=384,
        tokens_per_step=64, batch_size=2, eval_rows=4, device="cpu", precision="fp32",
    )  # fmt: skip
    scripts = dict(
        text=(train, text),
        reasoning=(finetune_reasoning, reasoning_settings | dict(last_stage_epochs=1)),
        countdown=(countdown, countdown_settings | dict(epochs=1)),
    )
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(coprocessor.VARIANTS, "upper", Upper)
        patch.chdir(here)
        for kind, variant in RUNS:
            script, settings = scripts[kind]
            run_here(script, settings | dict(variant=variant), f"{kind}_{variant}")
            found[kind, variant] = shutil.move(here / f"{kind}_{variant}", there / f"{kind}_{variant}")
        yield found


RUNS = [("text", v) for v in ("h2", "h1", "soft", "continued", "upper")]
RUNS += [("reasoning", v) for v in ("h2", "coconut", "cot", "upper")] + [("countdown", v) for v in ("h2", "no_cot", "upper")]


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """call(script, *arguments) -> what it printed, or its one line of error"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(coprocessor.VARIANTS, "upper", Upper)

    def run(script, *arguments):
        capsys.readouterr()
        try:
            one_line_errors(lambda: script.main([*map(str, arguments)]))
        except SystemExit as e:
            assert "\n" not in str(e.code)
            return f"refused: {e.code}"
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("kind, variant", RUNS)
def test_sample(kind, variant, runs, call):
    said = call(sample, runs[kind, variant], "--n_tokens=5")
    latents = variant not in ("continued", "cot", "no_cot")
    assert ("latents every" in said) == latents and "the Base alone" in said
    assert {"text": "'def '", "reasoning": "is a ", "countdown": "Using the numbers ["}[kind] in said.splitlines()[0]


@pytest.mark.parametrize("kind, variant", RUNS)
def test_analyze(kind, variant, runs, call):
    said = call(analyze_latents, runs[kind, variant], "--examples=8", "--device=cpu")
    if variant in ("continued", "cot", "no_cot"):
        assert said.startswith("refused: ") and "has no latents" in said
        return
    with open(os.path.join(runs[kind, variant], "latents.json")) as f:
        found = json.load(f)
    assert found["examples"] == 8 or kind == "reasoning" and found["examples"] == 6
    assert (found["interventions"] == {}) == (variant == "coconut")


@pytest.mark.parametrize("kind, variant", RUNS)
def test_evaluate(kind, variant, runs, call, tmp_path, countdown_settings):
    (tmp_path / "two.json").write_text('[{"question": "Is 1 a 2 or 3?", "answer": 3}, {"question": "x", "answer": "y"}]')
    said = call(evaluate, f"--model={runs[kind, variant]}", "--questions=two.json", "--device=cpu", "--max_new_tokens=3")
    assert "two.json: 0 of 2 right" in said
    said = call(evaluate, f"--model={runs[kind, variant]}", "--tasks=perplexity", "--device=cpu")
    if kind == "text":
        with open(os.path.join(runs[kind, variant], "metrics.jsonl")) as f:
            assert f"perplexity {json.loads(f.readlines()[-1])['val_ppl']:.3f}" in said
    else:
        assert said.startswith("refused: ") and ("was trained on questions" in said or "needs its markers" in said)


def test_figures(runs, call):
    call(analyze_latents, runs["text", "upper"], "--examples=8", "--device=cpu")
    text = [runs["text", variant] for variant in ("h2", "h1", "soft", "continued", "upper")]
    assert "| Llama-shaped, 0.1M: text | upper | 0.000384 |" in call(figures, "figure2", *text)
    assert "wrote out/figure4.png" in call(figures, "figure4", runs["text", "upper"])
    said = call(figures, "stages", *(runs["reasoning", variant] for variant in ("h2", "coconut", "upper")))
    assert "| Qwen-3-shaped, 0.1M: ProsQA | upper | 4 |" in said, "accuracy after each epoch, whose stages are marked"
    assert "| upper | 2 |" in call(figures, "table2", runs["reasoning", "upper"])
    assert "| upper |" in call(figures, "figure3b", runs["countdown", "upper"])


def test_a_run_is_asked_otherwise(runs, call, tmp_path, reasoning_settings):
    """With fewer latents, with none, at an earlier checkpoint, questions of another split; each has results of its own."""
    run = runs["reasoning", "h2"]
    assert "h2, with 1 latents every" in call(sample, run, "--n_latents=1", "--n_tokens=3")
    said = call(sample, run, "--without_latents", "--n_tokens=3", "--split=valid")
    assert "latents every" not in said and "the Base alone" in said
    first = json.load(open(os.path.join(reasoning_settings["data"], "prosqa_valid.json")))[0]
    assert repr(first["question"])[1:40] in said.splitlines()[0]

    said = call(analyze_latents, run, "--n_latents=1", "--split=valid", "--examples=4", "--device=cpu")
    with open(os.path.join(run, "latents,n_latents=1,split=valid.json")) as f:
        found = json.load(f)
    assert (found["n_latents"], found["examples"]) == (1, 4) and "h2, 1 latents, 4 occurrences" in said

    asked = f"--model={run}", f"--questions={reasoning_settings['data']}", "--device=cpu", "--max_new_tokens=3", "--limit=5"
    for options, n_latents in ((["--n_latents=1"], 1), (["--without_latents"], 0), (["--split=valid"], 2)):
        said = call(evaluate, *asked, *options)
        assert "of 5 right" in said and (", valid: " in said) == (options == ["--split=valid"])
        name = options[0].removeprefix("--") + ("=True" if "=" not in options[0] else "")
        with open(tmp_path / "out" / f"reasoning_h2_prosqa,{name}" / "results.json") as f:
            assert json.load(f)["n_latents"] == n_latents
        with open(tmp_path / "out" / f"reasoning_h2_prosqa,{name}" / "predictions.jsonl") as f:
            assert (json.loads(f.readline())["question"] == first["question"]) == (options == ["--split=valid"])

    model, config = coprocessor.load_run(run)
    coprocessor.save(model, os.path.join(run, "checkpoint_3"), run)
    added = os.path.join(run, "checkpoint_3", "added.safetensors")  # as a checkpoint of stage 1 is
    safetensors.torch.save_file(safetensors.torch.load_file(added), added, {"latents": "1 of 2"})
    assert "h2, with 1 latents every" in call(sample, run, "--checkpoint=3", "--n_tokens=3")
    assert "has 1 latents, this asks for 2" in call(sample, run, "--checkpoint=3", "--n_latents=2")
    assert "split=valid is one of questions" in call(analyze_latents, runs["text", "h2"], "--split=valid")
    assert "split=valid is one of questions" in call(evaluate, run, "--split=valid", "--tasks=perplexity")


@pytest.mark.parametrize(
    "kind, variant", [("text", "h1"), ("reasoning", "coconut"), ("reasoning", "upper"), ("countdown", "h2")]
)
def test_what_starts_from_it(kind, variant, runs, call, reasoning_settings):
    """A run of any kind can be another's Base; the questions' tokenizer must be the run's."""
    run = runs[kind, variant]
    settings = reasoning_settings | dict(init_from=run, variant="soft", first_stage=3, last_stage_epochs=1, out_dir="next")
    said = call(finetune_reasoning, *(f"--{key}={value}" for key, value in settings.items()))
    assert "test accuracy" in said if kind == "reasoning" else "has read another tokenizer's ids" in said
