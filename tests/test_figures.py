"""Figures and tables say what the runs say."""

import itertools
import json

import matplotlib
import pytest

from paper import figures


def fake_run(folder, variant, ppl, family="gpt2", n_latents=4, **settings):
    (folder / "checkpoint" / "base").mkdir(parents=True)
    (folder / "checkpoint" / "state.json").write_text("{}")
    (folder / "checkpoint" / "base" / "config.json").write_text(json.dumps({"model_type": family}))
    config = dict(variant=variant, n_latents=n_latents, seed=1, lr=1.0, init_from="out/tiny_base", out_dir=str(folder))
    (folder / "config.json").write_text(json.dumps(config | settings))
    lines = [{"step": i, "tokens": i * 10**6, "val_ppl": p} for i, p in enumerate(ppl)]
    lines.append({"step": 9, "tokens": 9, "loss": 1.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return str(folder)


def read(runs):
    return [figures.read(run) for run in runs]


def test_a_record_is_what_figures_need_of_a_run(tmp_path):
    run = fake_run(tmp_path / "h2,seed=3", "h2", [30.0, 13.0], seed=3)
    with open(tmp_path / "h2,seed=3" / "metrics.jsonl", "a") as f:
        f.write('{"step": 10, "loss": 0.5}\n{"step": 10, "test_accuracy": 0.2}\n')
    record = figures.read(run + "/")
    assert record.keys() == {"name", "family", "config", "metrics"} and record["family"] == "gpt2"
    assert record["name"] == "h2,seed=3" and record["config"]["seed"] == 3
    assert [line["step"] for line in record["metrics"]] == [0, 1, 10, 10], "evaluations, and of the rest the last loss"
    latents = dict(capture=[[1.0, 0.123456]], silhouette=0.123456, words=[["a", 1]])
    (tmp_path / "h2,seed=3" / "latents.json").write_text(json.dumps(latents))
    (tmp_path / "h2,seed=3" / "predictions.jsonl").write_text('{"correct": true}\n{"correct": false}\n')
    record = figures.read(run)
    assert record["latents"] == dict(capture=[[1.0, 0.1235]], silhouette=0.123456)
    assert (record["right"], record["asked"]) == (1, 2)


def test_variants_of_ones_own_have_colours_of_their_own():
    names = ["pause", "both", "looped", "upper_h1", "a_new_variant", *figures.COLORS]
    colors = [matplotlib.colors.to_rgb(figures.style_of(name)["color"]) for name in names]
    apart = [max(abs(x - y) for x, y in zip(a, b, strict=True)) for a, b in itertools.combinations(colors, 2)]
    assert min(apart) > 0.1
    assert figures.style_of("both, scaled Z") == dict(color=figures.style_of("both")["color"], ls="--")
    assert figures.style_of("h2") == dict(color=figures.COLORS["h2"], ls="-") and figures.style_of("both")["ls"] == "-."


def test_figure2_prints_final_perplexities_with_their_spread(tmp_path, capsys):
    runs = [
        fake_run(tmp_path / "c", "continued", [20.0, 15.0]),
        fake_run(tmp_path / "h2_1", "h2", [30.0, 13.0]),
        fake_run(tmp_path / "h2_2", "h2", [30.0, 15.0], seed=2),
        fake_run(tmp_path / "scaled", "h2", [25.0, 16.5], scale_latents=True),
        fake_run(tmp_path / "few", "h2", [30.0, 14.5], n_latents=1),
        fake_run(tmp_path / "mine", "a_new_variant", [30.0, 17.0], family="qwen3"),
    ]
    figures.figure2(read(runs), str(tmp_path / "f" / "2.png"))
    table = capsys.readouterr().out
    assert "| GPT-2 | Hypothesis 2 (co-finetuned) | 4 | 1.0M | 14.00 ± 1.41 | 2 | -1.00 |" in table
    assert "| GPT-2 | Hypothesis 2 (co-finetuned), scaled Z | 4 | 1.0M | 16.50 | 1 | +1.50 |" in table
    assert "| GPT-2 | continued pretraining | - | 1.0M | 15.00 | 1 |  |" in table
    assert "| Qwen-3 | a_new_variant | 4 | 1.0M | 17.00 | 1 |  |" in table
    assert (tmp_path / "f" / "2.png").read_bytes().startswith(b"\x89PNG")


def test_figure2_refuses_what_does_not_make_a_line(tmp_path):
    runs = [fake_run(tmp_path / "a", "h2", [30.0, 13.0]), fake_run(tmp_path / "b", "h2", [30.0, 13.0], lr=2.0, seed=2)]
    with pytest.raises(ValueError, match="differ in lr: 2.0 and 1.0"):
        figures.figure2(read(runs), str(tmp_path / "2.png"))
    with pytest.raises(FileNotFoundError, match="not a finished run"):
        figures.read(str(tmp_path))
    again = fake_run(tmp_path / "c", "h2", [30.0, 14.0])
    with pytest.raises(ValueError, match="have seed 1"):
        figures.figure2(read([runs[0], again]), str(tmp_path / "2.png"))
    other = fake_run(tmp_path / "d", "h2", [30.0, 14.0], seed=2, init_from="out/twice")
    with pytest.raises(ValueError, match="differ in init_from"):
        figures.figure2(read([runs[0], other]), str(tmp_path / "2.png"))
    devices = [
        fake_run(tmp_path / f"on{s}", "h2", [30.0, 14.0], seed=s, device=d) for s, d in enumerate(("cpu", "auto", "cuda"))
    ]
    figures.figure2(read(devices[:2]), str(tmp_path / "2.png"))  # auto may have been the same
    with pytest.raises(ValueError, match="differ in device: cuda and cpu"):
        figures.figure2(read(devices[::2]), str(tmp_path / "2.png"))
    starts = [fake_run(tmp_path / f"e{s}", "h2", [30.0, 14.0], seed=s, init_from=f"out/sums_h2_s{s}") for s in (1, 2)]
    figures.figure2(read(starts), str(tmp_path / "2.png"))  # each from the large-scale run of its own seed
    kept = ("out/paper/sums", "/there/out/paper/sums_s2/checkpoint/base", "results/bases/sums", "results/bases/worded")
    kept = [fake_run(tmp_path / f"k{s}", "h2", [30.0, 14.0], seed=s, init_from=start) for s, start in enumerate(kept)]
    figures.figure2(read(kept[:3]), str(tmp_path / "2.png"))  # one start, by three names
    with pytest.raises(ValueError, match="differ in init_from: worded and sums"):
        figures.figure2(read(kept[2:]), str(tmp_path / "2.png"))
    unfinished = fake_run(tmp_path / "u", "h2", [30.0], seed=2)
    with pytest.raises(ValueError, match="a, u have not been evaluated equally often"):
        figures.figure2(read([runs[0], unfinished]), str(tmp_path / "2.png"))
    with pytest.raises(ValueError, match="no validation perplexity"):
        figures.figure2(read([fake_run(tmp_path / "f", "h2", [])]), str(tmp_path / "2.png"))


def test_runs_that_started_from_different_weights_are_not_put_side_by_side(tmp_path):
    def fake(name, variant, base_crc32, **settings):
        return fake_run(tmp_path / name, variant, [30.0, 14.0], base_crc32=base_crc32, **settings)

    def draw(*runs):
        figures.figure2(read(runs), str(tmp_path / "2.png"))

    h2, soft = fake("h2", "h2", 7), fake("soft", "soft", 7)
    draw(h2, soft, fake("h2_2", "h2", 7, seed=2))
    with pytest.raises(ValueError, match="h2_3 and h2 are not from the same Base"):
        draw(h2, fake("h2_3", "h2", 8, seed=3))
    with pytest.raises(ValueError, match="soft_2 and h2 are not from the same Base"):
        draw(h2, fake("soft_2", "soft", 8, init_from="out/other"))  # by whatever name
    with pytest.raises(ValueError, match="liu and h2 are not from the same Base"):
        draw(h2, fake_run(tmp_path / "liu", "liu", [30.0, 14.0]))  # from before there were checksums
    # random weights are those of their seed, and a run of every seed has weights of its own
    runs = [("a", 1, "random:x"), ("b", 2, "random:x"), ("c", 1, "out/sums_s1"), ("d", 2, "out/sums_s2")]
    runs = [fake(name, "h2", n, seed=seed, init_from=start) for n, (name, seed, start) in enumerate(runs)]
    draw(*runs[:2])
    draw(*runs[2:])
    with pytest.raises(ValueError, match="e and a are not from the same Base"):
        draw(*runs[:2], fake("e", "soft", 9, init_from="random:x"))
    draw(*runs[:2], fake_run(tmp_path / "f", "soft", [30.0, 14.0], init_from="random:x"))  # from before there were checksums


def test_figure5_is_drawn(tmp_path):
    figures.figure5(str(tmp_path / "5.png"))
    assert (tmp_path / "5.png").read_bytes().startswith(b"\x89PNG")


def fake_countdown(folder, variant, operands, right, family="gpt2", n_latents=16, started_from="the Base of x", **settings):
    base = folder / "checkpoint" / "base"
    base.mkdir(parents=True)
    (folder / "checkpoint" / "state.json").write_text("{}")
    (base / "config.json").write_text(json.dumps({"model_type": family}))
    config = dict(variant=variant, n_latents=n_latents, operands=operands, started_from=started_from, out_dir=str(folder))
    (folder / "config.json").write_text(json.dumps(config | dict(epochs=3, seed=1) | settings))
    (folder / "metrics.jsonl").write_text("")
    (folder / "predictions.jsonl").write_text("".join(json.dumps({"correct": i < right}) + "\n" for i in range(100)))
    return str(folder)


def test_figures_3b_and_8_count_the_predictions(tmp_path, capsys):
    runs = [
        fake_countdown(tmp_path / "a", "h2", 3, 60),
        fake_countdown(tmp_path / "b", "h2", 3, 70, seed=2),
        fake_countdown(tmp_path / "c", "h2", 5, 0),
        fake_countdown(tmp_path / "d", "h2", 3, 80, started_from="all of out/h2_gpt2"),
        fake_countdown(tmp_path / "e", "soft", 4, 50, family="qwen3", n_latents=4),
        fake_countdown(tmp_path / "f", "h1", 4, 25, family="qwen3"),
    ]
    figures.figure3b(read(runs), str(tmp_path / "3b.png"))
    table = capsys.readouterr().out
    assert "| family | system | N_L | 3 operands | 4 operands | 5 operands |" in table
    assert "| GPT-2 | Hypothesis 2 (co-finetuned) | 16 | 65.0 (58.2 to 71.3) | - | 0.0 (0.0 to 3.7) |" in table
    assert "| GPT-2 | Hypothesis 2 (co-finetuned), resumed | 16 | 80.0 (71.1 to 86.7) | - | - |" in table
    assert "| Qwen-3 | soft embeddings | 4 | - | 50.0 (40.4 to 59.6) | - |" in table
    figures.figure8(read(runs), str(tmp_path / "8.png"))
    table = capsys.readouterr().out
    assert "resumed | 16" in table and "Hypothesis 1" in table and "soft" not in table
    for name in ("3b.png", "8.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="on 3 operands have seed 1"):
        figures.figure3b(read([*runs, runs[0]]), str(tmp_path / "x.png"))
    longer = fake_countdown(tmp_path / "g", "h2", 3, 70, epochs=9, seed=3)
    with pytest.raises(ValueError, match="on 3 operands differ in epochs: 9 and 3"):
        figures.figure3b(read([*runs, longer]), str(tmp_path / "x.png"))
    figures.figure3b(read([fake_countdown(tmp_path / "h", "h2", 3, 10, orthogonality_weight=0.5)]), str(tmp_path / "x.png"))
    assert "co-finetuned), orthogonality 0.5 | 16 | 10.0" in capsys.readouterr().out
    figures.figure8(read([runs[1], fake_countdown(tmp_path / "o", "both", 3, 40)]), str(tmp_path / "x.png"))
    assert "| GPT-2 | both | 16 | 40.0" in capsys.readouterr().out
    with pytest.raises(ValueError, match="none of these runs is h1 or h2"):
        figures.figure8(read(runs[4:5]), str(tmp_path / "x.png"))
    with pytest.raises(ValueError, match="is not a finished run of countdown.py"):
        (tmp_path / "a" / "config.json").write_text("{}")
        figures.figure3b(read(runs), str(tmp_path / "x.png"))


def test_reasoning_takes_a_variant_of_ones_own_and_refuses_what_are_not_seeds(tmp_path, monkeypatch, capsys):
    def fake(name, variant, right, **settings):
        folder = tmp_path / name
        settings = (
            dict(data="data/prosqa", started_from="the Base of x", first_stage=0, stages=1, last_stage_epochs=1) | settings
        )
        fake_run(folder, variant, [], **settings)
        lines = [{"epoch": e, "stage": e, "valid_accuracy": right / 2} for e in range(3)] + [{"test_accuracy": right}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        return str(folder)

    runs = [fake("a", "both", 0.5), fake("b", "both", 0.7, seed=2), fake("c", "h2", 0.9)]
    figures.table2(read(runs))
    rows = capsys.readouterr().out.splitlines()
    assert rows[-1].startswith("| both | 4 | - \\| - | 60.0 ± 14.1 (2) \\| - |")
    assert rows[-3] == "| Hypothesis 2 (co-finetuned) | 4 | - \\| - | 90.0 \\| - | - \\| - | - \\| - |", (
        "the paper's is of N_L = 12"
    )
    assert rows[-2] == "| Hypothesis 2 (co-finetuned) | 12 | - \\| 31.5 | - \\| 99.0 | - \\| 38.6 | - \\| 99.5 |"
    figures.table2(read([fake("p", "h2", 0.8, n_latents=12), fake("q", "no_cot", 0.7, n_latents=0)]))
    table = capsys.readouterr().out
    assert "| Hypothesis 2 (co-finetuned) | 12 | - \\| 31.5 | 80.0 \\| 99.0 |" in table
    assert "| no chain of thought | - | - \\| 16.5 | 70.0 \\| 76.7 |" in table and "| 4 |" not in table
    resumed = dict(n_latents=16, started_from="all of x")
    many = [fake("m", "both", 0.5, n_latents=16), fake("n", "both", 0.4, **resumed)]
    many += [
        fake("o", "both", 0.3, first_stage=1, last_stage_epochs=0, **resumed),
        fake("r", "both", 0.2, first_stage=2, **resumed),
    ]
    figures.WHAT["table4"](read(many), str(tmp_path / "4.md"))
    table = capsys.readouterr().out
    assert "| model | scratch | resume + curriculum | straight (steps stay) | straight (no steps) |" in table
    theirs = "| Qwen-3 | - \\| 99.5 (+0.0) | - \\| 88.3 (-11.2) | - \\| 84.5 (-15.0) | - \\| 84.5 (-15.0) |"
    assert theirs in table, "h2 in any case, as in the paper, whose last protocol has two readings"
    ours = "| GPT-2, both | 50.0 \\| - | 40.0 (-10.0) \\| - | 30.0 (-20.0) \\| - | 20.0 (-30.0) \\| - |"
    assert ours in table, "neither reading is taken for the other or for the curriculum"
    assert table == (tmp_path / "4.md").read_text() + f"wrote {tmp_path}/4.md\n"
    drawn = []
    with monkeypatch.context() as m:
        m.setattr(figures, "plot", lambda panels, *more, **settings: drawn.append(panels))
        figures.WHAT["figure7"](read([*runs, *many]), str(tmp_path / "7.png"))
        figures.stages(read(many), str(tmp_path / "s.png"))
    (both, h2), of_stages = drawn[0][0][0], drawn[1][0][0]
    assert both[0].keys() == {4, 16} and both[0][16] == (50, 50, 50) and h2[0].keys() == {4}, "from scratch, by the curriculum"
    assert [style["label"] for _, style in of_stages] == [
        "both: 50.0", "both, resumed: 40.0",
        "both, straight (no steps), resumed: 20.0", "both, straight (steps stay), resumed: 30.0",
    ]  # fmt: skip
    figures.WHAT["figure7"](read([*runs, *many]), str(tmp_path / "7.png"))
    assert (tmp_path / "7.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="none of these runs has latents on GSM8K"):
        figures.WHAT["figure3a"](read(runs), str(tmp_path / "3a.png"))
    figures.stages(read(runs), str(tmp_path / "s.png"))
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="of both differ in lr"):
        figures.stages(read([*runs, fake("d", "both", 0.7, seed=3, lr=0.1)]), str(tmp_path / "s.png"))


def test_table1_puts_the_paper_beside_ours(tmp_path, capsys):
    def fake(name, variant, acc, family="gpt2", n_latents=0, tasks=("hellaswag", "piqa")):
        (tmp_path / name).mkdir()
        found = {task: dict(acc=acc, acc_stderr=0.011, items=9) for task in tasks}
        results = dict(model=f"out/{name}", variant=variant, family=family, n_latents=n_latents, tasks=found)
        (tmp_path / name / "results.json").write_text(json.dumps(results))
        return str(tmp_path / name)

    runs = [fake("a", "h2", 0.35, n_latents=16), fake("b", "continued", 0.3), fake("c", "soft", 0.4, "qwen3", 16)]
    runs += [fake("d", "checkpoint", 0.28)]
    figures.table1(runs)
    lines = capsys.readouterr().out.splitlines()[4:]
    assert [line.split(" |")[0] for line in lines] == [
        "| GPT-2, continued pretraining", "| GPT-2, Hypothesis 2 (co-finetuned)", "| GPT-2, d", "| Qwen-3, soft embeddings",
    ]  # fmt: skip
    assert "| 16 | 35.0 ± 1.1 (+5.0) \\| 31.2 (+0.5) | - \\| 55.8 (+1.6) |" in lines[1]
    assert "| - | 30.0 ± 1.1 \\| 30.7 (+0.0) |" in lines[0] and "| 28.0 ± 1.1 (-2.0) \\| - |" in lines[2]
    assert "| 40.0 ± 1.1 \\| 25.9 (-0.7) |" in lines[3]
    assert all(
        line.endswith(f"| - \\| {mean} |") for line, mean in zip(lines, ("47.5 (+0.0)", "48.5 (+1.0)", "-"), strict=False)
    )
    with pytest.raises(ValueError, match="second evaluation"):
        figures.table1([*runs, runs[0]])


def test_table1_has_the_means_that_the_paper_argues_with(tmp_path, capsys):
    """Section 4.1.2: GPT-2's h1 46.3, soft 48.1, h2 48.5; Qwen-3's 47.2, 40.7, 49.4; at N_L = 16 and nowhere else"""
    runs, order = [], [("gpt2", v, 16) for v in ("soft", "h1", "h2")]
    order += [("qwen3", "continued", 0), ("qwen3", "soft", 16), ("qwen3", "h1", 16), ("qwen3", "h2", 4), ("qwen3", "h2", 16)]
    for name, (family, variant, n) in zip("abcdefgh", order, strict=True):
        acc = 0.1 * (n == 4)
        found = {task: dict(acc=0.3 + acc + i / 10, acc_stderr=0.01, items=9) for i, task in enumerate(figures.BENCHMARKS)}
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(
            json.dumps(dict(model=f"out/{name}", variant=variant, family=family, n_latents=n, tasks=found))
        )
        runs.append(str(tmp_path / name))
    figures.table1(runs)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].endswith("| Winogrande | mean of the five |")
    ends = [line.rpartition(" | ")[2] for line in lines[4:]]
    theirs = ["48.1 (+0.6)", "46.3 (-1.2)", "48.5 (+1.0)", "40.7 (+0.0)", "40.7 (+0.0)", "47.2 (+6.5)", "-", "49.4 (+8.7)"]
    ours = ["50.0 ± 0.4"] * 4 + [f"{x:.1f} ± 0.4 ({x - 50:+.1f})" for x in (50, 50, 60, 50)]
    assert ends == [f"{a} \\| {b} |" for a, b in zip(ours, theirs, strict=True)]


def test_the_command_reads_runs_and_writes_what_it_is_told(tmp_path, monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["figures", *map(str, arguments)])
        figures.main()

    monkeypatch.chdir(tmp_path)
    command("figure2", "--out=x/2.png", fake_run(tmp_path / "a", "h2", [30.0, 13.0]))
    command("figure2", fake_run(tmp_path / "b", "soft", [30.0, 13.0]))
    command("figure5")
    assert [path.exists() for path in (tmp_path / "x" / "2.png", tmp_path / "out" / "figure2.png")] == [True, True]
    assert (tmp_path / "out" / "figure5.png").exists()
    results = dict(model="out/d", variant="h2", family="gpt2", n_latents=16, tasks={})
    (tmp_path / "a" / "results.json").write_text(json.dumps(results))
    command("table1", "a", "--out=x/1.md")
    assert (tmp_path / "x" / "1.md").read_text().endswith("- \\| 52.1 (+1.6) | - \\| 48.5 (+1.0) |\n")
    for wrong in (["figure5", "a"], ["table2"], ["table6", "a"]):
        with pytest.raises(SystemExit):
            command(*wrong)
    assert "table2 is drawn from runs" in capsys.readouterr().err
