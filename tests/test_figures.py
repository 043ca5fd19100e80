"""Figures and tables say what the runs say."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from paper import collect, figures

GPT2, QWEN3 = figures.REAL_SIZE.values()


def record(name, variant="h2", family="gpt2", parameters=GPT2, metrics=(), **config):
    settings = dict(
        variant=variant, n_latents=4, seed=1, lr=1.0, init_from="out/tiny_base", base_crc32=7, out_dir=f"out/{name}"
    )
    return dict(name=name, family=family, parameters=parameters, config=settings | config, metrics=list(metrics))


def text(name, variant, ppl, **config):
    lines = [{"step": i, "tokens": i * 10**6, "val_ppl": p} for i, p in enumerate(ppl)]
    return record(name, variant, metrics=lines, **dict(seq_len=8) | config)


def reasoning(name, variant, right, **config):
    settings = dict(
        data="data/prosqa", started_from="the Base of x", stages=1, first_stage=0, last_stage_epochs=1, latents_per_step=2
    )
    lines = [{"epoch": e, "stage": e, "valid_accuracy": right / 2} for e in range(3)] + [
        {"test_accuracy": right, "passes_to_answer": 3.0}
    ]
    return record(name, variant, metrics=lines, **settings | config)


def countdown(name, variant, operands, right, **config):
    lines = [{"test_accuracy": right / 100, "test_questions": 100}]
    return record(name, variant, metrics=lines, operands=operands, started_from="the Base of x", **config)


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to be drawn as curves, instead of being drawn"""
    found = []
    monkeypatch.setattr(figures, "curves", lambda panels, *more: found.append({t: dict(lines) for t, lines in panels.items()}))
    return found


def test_a_name_with_dollars_is_drawn_as_it_is(tmp_path):
    """Not as a formula: the name of a folder of one's own, in a title and beside a line"""
    for name in ("$1_or_$2^", "a$b$c"):
        figures.curves({name: {("h2", name): {1: [1.0], 2: [2.0]}}}, str(tmp_path / "1.png"), dict(xlabel="x"))


# -----------------------------------------------------------------------------
# Records


def save_run(folder, family="gpt2", parameters=6, lines=(), **config):
    base = folder / "checkpoint/base"
    base.mkdir(parents=True)
    save_file({"a": np.zeros((parameters, 1), np.float32)}, base / "model.safetensors")
    (base / "config.json").write_text(json.dumps({"model_type": family}))
    (folder / "checkpoint/state.json").write_text('{"rows": 5}')
    (folder / "config.json").write_text(json.dumps(dict(variant="h2", n_latents=4, seed=1, init_from="x", seq_len=8) | config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_a_record_is_what_figures_need_of_a_run(tmp_path):
    lines = [{"step": n, "tokens": n, "val_ppl": 9.0} for n in (0, 1)]
    lines += [{"step": 9, "loss": 1.0}, {"step": 10, "loss": 0.5}, {"step": 10, "test_accuracy": 0.2}]
    folder = tmp_path / "h2,seed=3"
    run = save_run(folder, lines=lines, seed=3)
    found = collect.read(run + "/")
    assert found.keys() == {"name", "family", "parameters", "config", "metrics"} and found["name"] == "h2,seed=3"
    assert (found["family"], found["parameters"], found["config"]["seed"]) == ("gpt2", 6, 3)
    assert [line["step"] for line in found["metrics"]] == [0, 1, 10, 10], "evaluations, and of the rest the last loss"
    (folder / "latents.json").write_text(json.dumps(dict(capture=[[1.0, 0.123456]], silhouette=0.123456, words=[["a", 1]])))
    (folder / "predictions.jsonl").write_text('{"correct": true}\n{"correct": false}\n{"correct": true}\n')
    found = collect.read(run)
    assert found["latents"] == dict(capture=[[1.0, 0.1235]], silhouette=0.123456)
    assert (found["asked"], found["correct"]) == (3, "a0"), "bits 101"
    with pytest.raises(FileNotFoundError, match="config.json"):
        collect.read(str(tmp_path))


def test_a_tiny_model_does_not_go_by_the_real_one_s_name():
    names = [
        figures.model_name(record("x", family=f, parameters=n))
        for f, n in (("gpt2", GPT2), ("gpt2", 149248), ("qwen3", QWEN3 + 3072))
    ]
    assert names == ["GPT-2", "GPT-2-shaped, 0.1M", "Qwen-3"]
    assert figures.model_name(record("x", family="llama", parameters=10**6)) == "Llama-shaped, 1.0M"


def test_what_a_run_was_trained_on_has_a_name_of_its_own():
    """Both readings of the paper's straight to 16 among them, and none is another's"""
    base, all_of = "the Base of x", "all of out/h2_gpt2"

    def name(data="prosqa", started_from=all_of, stages=1, first_stage=0, last_stage_epochs=5):
        return figures.setting(locals())

    assert figures.setting(dict(seq_len=8)) == "large-scale"
    assert figures.setting(dict(operands=4, started_from=base)) == "Countdown, 4 operands"
    assert figures.setting(dict(operands=4, started_from=all_of)) == "Countdown, 4 operands, resumed"
    assert name("gsm8k_aug", base, stages=4) == "GSM8K" and name(stages=4) == "ProsQA, resumed"
    assert name("data/mine/", base, stages=4) == "mine", "a task of one's own"
    assert name("gsm8k_aug", base, 4, first_stage=5) == "GSM8K, no curriculum"
    assert name(first_stage=1, last_stage_epochs=0) == "ProsQA, straight (steps stay), resumed"
    assert name(first_stage=2) == "ProsQA, straight (no steps), resumed"
    assert name(first_stage=1) == "ProsQA, resumed", "what goes on without steps is a curriculum, if a short one"


# -----------------------------------------------------------------------------
# Which runs are a line


def test_runs_that_differ_in_their_seed_alone_are_one_line_and_others_have_names():
    runs = [
        text("a", "h2", [9]),
        text("b", "h2", [9], seed=2),
        text("c", "h2", [9], n_latents=1),
        text("d", "soft", [9], lr=3.0),
    ]
    runs += [text("e", "h2", [9], seed=3, device="auto"), text("f", "mine", [9])]
    lines = figures.lines_of(runs)["GPT-2: text"]
    h2 = "Hypothesis 2 (co-finetuned)"
    assert {name: [r["name"] for r in seeds] for (_, name), seeds in lines.items()} == {
        "soft embeddings": ["d"], f"{h2}, N_L = 1": ["c"], f"{h2}, N_L = 4": ["a", "b", "e"], "mine": ["f"],
    }  # fmt: skip
    with pytest.raises(ValueError, match="two runs of .* have seed 1: out/a"):
        figures.lines_of([*runs, runs[0]])
    starts = [text(f"s{s}", "h2", [9], seed=s, init_from=f"out/paper/sums_h2_s{s}", base_crc32=s) for s in (1, 2)]
    assert len(figures.lines_of(starts)["GPT-2: text"]) == 1, "each from the large-scale run of its own seed"
    other = text("g", "h2", [9], seed=2, base_crc32=8)
    with pytest.raises(ValueError, match="g and b are not from the same Base"):
        figures.lines_of([*runs, other])


def test_figure2_draws_every_variant_and_every_number_of_latents(drawn, capsys):
    runs = [text("c", "continued", [20.0, 15.0]), text("h2_1", "h2", [30.0, 13.0]), text("h2_2", "h2", [30.0, 15.0], seed=2)]
    runs += [text("few", "h2", [30.0, 14.5], n_latents=1), text("liu", "liu", [30.0, 17.0], n_latents=8)]
    figures.figure2(runs, "2.png")
    (lines,) = (panel for panel in drawn[0].values())
    h2 = "Hypothesis 2 (co-finetuned)"
    assert {name: points for (_, name), points in lines.items()} == {
        "continued pretraining": {0: [20], 1: [15]}, "Liu et al.": {1: [17]}, f"{h2}, N_L = 1": {1: [14.5]},
        f"{h2}, N_L = 4": {1: [13, 15]},
    }  # fmt: skip
    assert f"| GPT-2: text | {h2}, N_L = 4 | 1 | 14.00 ± 1.41 (2) |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="h2_1, u have not been evaluated equally often"):
        figures.figure2([runs[1], text("u", "h2", [30.0], seed=2)], "2.png")
    with pytest.raises(ValueError, match="x has no val_ppl"):
        figures.figure2([reasoning("x", "h2", 0.5)], "2.png")
    with pytest.raises(ValueError, match="soft and h2_1 are not from the same Base"):
        figures.figure2([runs[1], text("soft", "soft", [30.0, 14.0], init_from="out/other", base_crc32=8)], "2.png")


def test_accuracy_is_drawn_along_latents_and_operands_and_seeds_are_not_pooled(drawn, capsys):
    runs = [
        countdown("a", "h2", 3, 60),
        countdown("b", "h2", 3, 70, seed=2),
        countdown("c", "h2", 5, 0),
        countdown("e", "soft", 4, 50),
    ]
    figures.FIGURES["figure3b"](runs, "3b.png")
    lines = {name: points for (_, name), points in drawn[0]["GPT-2: Countdown"].items()}
    assert lines == {"soft embeddings": {4: [50]}, "Hypothesis 2 (co-finetuned)": {3: [60, 70], 5: [0]}}
    out = capsys.readouterr().out
    assert "|  | system | 3 | 4 | 5 |" in out and "| Hypothesis 2 (co-finetuned) | 65.00 ± 7.07 (2) | - | 0.00 |" in out
    with pytest.raises(ValueError, match="have seed 1"):
        figures.FIGURES["figure8"]([*runs, runs[0]], "8.png")
    runs = [reasoning(f"p{n}", "h2", n / 10, n_latents=n, latents_per_step=n // 2) for n in (2, 8)]
    figures.FIGURES["figure7"]([*runs, reasoning("q", "no_cot", 0.5, n_latents=0)], "7.png")
    ((_, name), points) = next(iter(drawn[1]["GPT-2: ProsQA"].items()))
    assert points == {2: [20], 8: [80]} and name == "Hypothesis 2 (co-finetuned)"
    with pytest.raises(ValueError, match="none of these runs has n_latents"):
        figures.FIGURES["figure3a"]([reasoning("q", "no_cot", 0.5, n_latents=0)], "3a.png")


# -----------------------------------------------------------------------------
# Tables


def test_table2_puts_the_paper_beside_the_models_and_tasks_that_it_has(capsys):
    tiny = dict(family="qwen3", parameters=163072)
    runs = [reasoning("a", "both", 0.5), reasoning("b", "both", 0.7, seed=2), reasoning("p", "h2", 0.8, n_latents=12)]
    runs += [reasoning("q", "no_cot", 0.7, n_latents=0), reasoning("t", "h2", 0.9, n_latents=12, **tiny)]
    runs += [reasoning("m", "soft", 0.6, n_latents=12, data="data/mine"), reasoning("r", "h2", 0.1, started_from="all of x")]
    figures.table2(runs)
    out, err = capsys.readouterr()
    assert err == "note: not in this table: h2 with 4 latents on ProsQA, GPT-2, curriculum, resumed\n"
    title, _, head, _, *rows = out.splitlines()
    columns = "GSM8K, GPT-2 | ProsQA, GPT-2 | GSM8K, Qwen-3 | ProsQA, Qwen-3 | mine, GPT-2 | ProsQA, Qwen-3-shaped, 0.2M"
    assert head == f"| system | N_L | {columns} |"
    assert "| Hypothesis 2 (co-finetuned) | 12 | - \\| 31.5 | 80.0 \\| 99.0 | - \\| 38.6 | - \\| 99.5 | - | 90.0 |" in rows
    assert "| no chain of thought | - | - \\| 16.5 | 70.0 \\| 76.7 | - | - | - | - |" in rows
    assert "| soft embeddings | 12 | - \\| 26.5 | - \\| 97.7 | - \\| 38.5 | - \\| 99.5 | 60.0 | - |" in rows, (
        "a task of one's own"
    )
    assert "| both | 4 | - | 60.0 ± 14.1 (2) | - | - | - | - |" in rows and len(rows) == 7 + 1
    with pytest.raises(ValueError, match="a, d are one cell of the table, and differ in lr"):
        figures.table2([runs[0], reasoning("d", "both", 0.7, seed=3, lr=0.1)])
    with pytest.raises(ValueError, match="u has no passes_to_answer"):
        figures.table2([record("u", started_from="the Base of x", stages=1, first_stage=0, last_stage_epochs=1, data="gsm8k")])


def test_tables_3_and_4_tell_both_readings_apart_with_any_number_of_latents(capsys):
    resumed = dict(started_from="all of x")
    runs = [
        reasoning("m", "h2", 0.5, n_latents=16),
        reasoning("n", "h2", 0.4, n_latents=16, **resumed),
        reasoning("k", "h2", 0.6, n_latents=8),
    ]
    runs += [reasoning("o", "h2", 0.3, n_latents=16, first_stage=1, last_stage_epochs=0, **resumed)]
    runs += [
        reasoning("r", "h2", 0.2, n_latents=8, first_stage=2, **resumed),
        reasoning("g", "h2", 0.1, data="gsm8k_aug", n_latents=16),
    ]
    figures.TABLES["table4"](runs)
    out, err = capsys.readouterr()
    assert err == "note: not in this table: h2 with 16 latents on GSM8K, GPT-2, curriculum\n"
    rows = out.splitlines()
    assert "| system | N_L | model | scratch | resume + curriculum | straight (steps stay) | straight (no steps) |" in rows
    assert (
        "| h2 | 16 | GPT-2 | 50.0 \\| 99.0 | 40.0 (-10.0) \\| 97.1 (-1.9) | 30.0 (-20.0) \\| 97.3 (-1.7) | - \\| 97.3 (-1.7) |"
        in rows
    )
    assert "| h2 | 8 | GPT-2 | 60.0 | - | - | 20.0 (-40.0) |" in rows, "not 16, and told all the same"
    assert "| h2 | 16 | Qwen-3 | - \\| 99.5 | - \\| 88.3 (-11.2) | - \\| 84.5 (-15.0) | - \\| 84.5 (-15.0) |" in rows


def save_evaluation(folder, variant, accuracies, family="gpt2", n_latents=0, error=0.01):
    folder.mkdir()
    found = {task: dict(acc=acc, acc_stderr=error, items=9) for task, acc in accuracies.items()}
    results = dict(model=f"out/{folder.name}", variant=variant, family=family, n_latents=n_latents, tasks=found)
    (folder / "results.json").write_text(json.dumps(results))
    return str(folder)


def test_table1_puts_the_paper_beside_ours(tmp_path, capsys):
    def save(name, variant, acc, family="gpt2", n_latents=0, error=0.01):
        return save_evaluation(tmp_path / name, variant, dict(hellaswag=acc, piqa=acc), family, n_latents, error)

    runs = [save("a", "h2", 0.35, n_latents=16), save("b", "continued", 0.3), save("c", "soft", 0.4, "qwen3", 16)]
    runs += [save("d", "checkpoint", 0.28)]
    figures.table1(runs)
    lines = capsys.readouterr().out.splitlines()[4:]
    names = ["b | continued pretraining", "a | Hypothesis 2 (co-finetuned)", "d | checkpoint", "c | soft embeddings"]
    assert all(line.startswith(f"| {name} |") for line, name in zip(lines, names, strict=True))
    assert "| 16 | 35.0 ± 1.0 (+5.0) \\| 31.2 (+0.5) | - \\| 55.8 (+1.6) |" in lines[1]
    assert "| - | 30.0 ± 1.0 \\| 30.7 (+0.0) |" in lines[0] and "| 28.0 ± 1.0 (-2.0) \\| - |" in lines[2]
    assert "| 40.0 ± 1.0 \\| 25.9 (-0.7) |" in lines[3]
    with pytest.raises(ValueError, match="second evaluation"):
        figures.table1([*runs, runs[0]])
    results = json.loads((tmp_path / "a/results.json").read_text())
    results["tasks"]["piqa"]["items"] = 8
    (tmp_path / "a/results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match="b has 9 items of piqa, others 8: see --limit"):
        figures.table1(runs)


# -----------------------------------------------------------------------------
# The command


def test_the_command_takes_of_runs_and_evaluations_what_it_is_made_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_run(tmp_path / "run", lines=[{"step": n, "tokens": n * 10**6, "val_ppl": 9.0 - n} for n in (0, 1)])
    save_evaluation(tmp_path / "run_eval", "h2", {"piqa": 0.3}, n_latents=16)
    (tmp_path / "run_eval/config.json").write_text("{}")
    figures.main(["figure2", "run", "run_eval", "--out=x/2.png"])  # run*
    figures.main(["figure5"])
    assert all((tmp_path / path).read_bytes().startswith(b"\x89PNG") for path in ("x/2.png", "out/figure5.png"))
    capsys.readouterr()
    figures.main(["table1", "run", "run_eval"])
    assert capsys.readouterr().out.endswith("| - \\| 52.1 (+1.6) | - \\| 48.5 (+1.0) |\n")
    for what, folders, message in (("figure2", ["run_eval"], "made from runs"), ("table1", ["run"], "made from evaluations")):
        with pytest.raises(ValueError, match=message):
            figures.main([what, *folders])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        figures.main(["figure2", "run", "nowhere"])
