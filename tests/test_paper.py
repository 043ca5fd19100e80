"""The laptop's version of the paper: every run can be started, and the page says what the runs' lines say."""

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

from configurator import configure

import numpy as np
import pytest
from helpers import ROOT, run_here
from scipy import stats
from test_data import make_shards

import coprocessor
import train
from coprocessor import build
from model import load_pretrained, random_model
from paper import collect, hypotheses, page
from paper.hypotheses import Row, compare

RUNS = (ROOT / "paper/runs.sh").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def listed():
    """{name: command} of paper/runs.sh"""
    done = subprocess.run(["bash", "paper/runs.sh"], cwd=ROOT, env=os.environ | {"LIST": "1"}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert len(lines) == len(dict(lines)), "a name is used twice"
    return dict(lines)


def config_of(command):
    script, *words = command.removeprefix("python ").split()
    return configure(importlib.import_module(script.removesuffix(".py")).Config, "", words)


def test_every_run_is_a_command_that_its_script_takes(listed):
    starts = set()
    for name, command in listed.items():
        c = config_of(command)
        assert c.out_dir == f"out/paper/{name}" and "@" not in command
        assert not re.search(r"_s\d", name) or c.seed == int(name.rpartition("_s")[2])
        if not c.init_from.startswith("random:"):
            where, start = re.fullmatch("(out/paper|results/bases)/(.+)", c.init_from).groups()
            assert start in listed and [*listed].index(start) < [*listed].index(name), "it starts from what comes later"
            starts |= {start} if where == "results/bases" else set()
    assert starts <= {*os.listdir(ROOT / "results/bases")} <= {*re.findall(r"^base (\w+)", RUNS, re.M)}
    assert len(listed) == len({command.replace(name, "") for name, command in listed.items()}), "one run under two names"


def test_the_kept_runs_are_runs_of_these_commands(listed, monkeypatch):
    monkeypatch.chdir(ROOT)
    runs = collect.records()
    assert [*runs] == sorted(runs) and runs.keys() <= listed.keys(), "lines that no command makes belong to archive.jsonl"
    gone = {
        "max_latents",
        "sweep",
        "sweep_variants",
        "sweep_operands",
        "sweep_latents",
    }  # settings that there were when they were run
    for name, record in runs.items():
        assert record["command"] == listed[name]
        c, then = config_of(listed[name]), record["config"]
        now, young = ({k: v for k, v in dataclasses.asdict(x).items() if k not in gone} for x in (c, type(c)()))
        assert then.keys() - now.keys() <= {"started_from", "started_in", "base_crc32", "n_latents", "latents_per_step", *gone}
        assert "stages" not in now or then["n_latents"] in (0, c.stages * c.latents_per_step)
        # a run from before there was a choice pushed its text on, if it had latents to do so
        young |= {"text_positions": "pushed" if coprocessor.VARIANTS[c.variant].has_latents else now["text_positions"]}
        then = young | {key: then[key] for key in then.keys() & now.keys()} | dict(resume=False, overwrite=False)
        if start := re.fullmatch("(?:out/paper|results/bases)/([^/]+?)(/checkpoint/base)?", then["init_from"]):
            where = "results/bases" if os.path.exists(f"results/bases/{start[1]}") else "out/paper"
            then["init_from"] = f"{where}/{start[1]}"
        for key, was in (("device", "cpu"), ("precision", "fp32")):
            then[key] = was if then[key] == "auto" and "gpu" not in record else then[key]
        assert then == now, name


def test_the_page_is_that_of_the_kept_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = Path("results/README.md").read_text(encoding="utf-8")
    assert text == page.page(hypotheses.hypotheses(), collect.records())
    shown = re.findall(r"!\[.*\]\((\w+)\.png\)", text)
    assert sorted(shown) == sorted(page.PICTURES) and len(shown) <= 5
    assert all(map(os.path.exists, map("results/{}.png".format, shown)))
    assert all(re.search(rf"\]\(\.\./paper/{name}\)", text) for name in ("runs.sh", "LOG.md"))


def test_every_row_compares_runs_of_the_list_and_every_kept_run_is_told(listed):
    rows = [row for h in hypotheses.hypotheses() for row in h.rows]
    told = {side.partition(":")[0] for row in rows for side in (row.a, row.b) if not side[0].isdigit()}
    systems = {re.sub(r"_s\d+$", "", name) for name in listed}
    assert told <= systems, "names that no run has"
    assert all(row.measure in hypotheses.MEASURES and row.sign in "<>=" and (row.sign != "=" or row.limit > 0) for row in rows)
    assert all(any(row.decides for row in h.rows) for h in hypotheses.hypotheses())
    starts = {re.sub(r"_s\d+$", "", config_of(command).init_from.rpartition("/")[2]) for command in listed.values()}
    untold = systems - told - starts - {"base_twice", "prosqa_cot"}  # kept for the runs to come; and a reference row
    assert all(name.startswith("rate_") for name in untold), "runs that decide and show nothing"
    looked_at = {row.a.partition(":")[0] for row in rows if row.measure not in ("perplexity", "accuracy", "epochs")}
    assert looked_at == {*re.findall(r"^ *look \".*?\" +(\S+)", RUNS, re.M)}, "latents are analysed where they are compared"


def test_a_model_as_large_as_the_pair_by_depth():
    count = [
        sum(p.numel() for p in m.parameters())
        for m in (build("h2", random_model("tiny_gpt2", 512), 2), random_model("tiny_gpt2_twice", 512))
    ]
    assert 0.9 < count[1] / count[0] < 1


# -----------------------------------------------------------------------------
# The table and its sentences


def fake(name, seed, **more):
    config = dict(variant="h2", seed=seed, init_from="x", base_crc32=7, lr=1.0)
    return dict(
        name=f"{name}_s{seed}", family="gpt2", parameters=1, config=config | more.pop("config", {}), metrics=[{}], **more
    )


def perplexities(name, *values, **config):
    runs = [fake(name, s, config=config) | {"metrics": [{"val_ppl": 20.0}, {"val_ppl": x}]} for s, x in enumerate(values, 1)]
    return {run["name"]: run for run in runs}


def row(text):
    """A line of hypotheses.txt"""
    aside, a, sign, b, measure, limit, word, other_base = hypotheses.ROW.fullmatch(f"    {text}").groups()
    return Row(a, sign, b, measure, float(limit or 0), word or "", bool(other_base), not aside)


def test_lines_are_read_as_they_are_written():
    assert row('text_soft = text_h2    perplexity 5 "nearly matches"') == (
        "text_soft",
        "=",
        "text_h2",
        "perplexity",
        5,
        "nearly matches",
        False,
        True,
    )
    assert row("- a_h2_1.6M > 0.9 capture -5 other_base") == ("a_h2_1.6M", ">", "0.9", "capture", -5, "", True, False)
    first = hypotheses.hypotheses()[0]
    assert first.paper.startswith("perplexity about 4") and [r.b for r in first.rows[:2]] == ["text_liu", "text_h1"]
    names = ["text_h2_8_latents", "prosqa_no_thought", "text_h2", "countdown_no_cot", "text_h2_scaled"]
    assert [hypotheses.system_of(name) for name in names] == ["h2, 8 latents", "no_thought", "h2", "no_cot", "h2, scaled"]
    assert hypotheses.title_of("steps_h2") == "ProsQA, steps spelled" and hypotheses.title_of("new_h2") == "new"


def test_a_comparison_of_perplexities_is_paired_and_told_in_percent():
    runs = perplexities("text_h2", 10, 12, 14) | perplexities("text_soft", 11, 12.5, 16)
    told, verdict, p, ends = compare(row("text_h2 < text_soft  perplexity"), runs)
    d = 100 * np.log([10 / 11, 12 / 12.5, 14 / 16])
    test = stats.ttest_1samp(d, 0)
    assert p == pytest.approx(test.pvalue)
    assert ends == pytest.approx([100 * np.expm1(x / 100) for x in (d.mean(), *test.confidence_interval())])
    assert told == "Text: h2 is 8.6 % better than soft (95 % CI -2.6 to 18.6, 3 seeds)" and verdict == "inconclusive"
    runs |= perplexities("text_soft", 10.701, 12.84, 14.979)
    told, verdict, *_ = compare(row('text_soft = text_h2  perplexity 5 "nearly matches"'), runs)
    assert told == "Text: soft is 7.0 % worse than h2 (95 % CI 7.0 to 7.0, 3 seeds; 'nearly matches' means within 5 %)"
    assert verdict == "does not hold" and compare(row("text_soft = text_h2  perplexity 8"), runs).verdict == "holds"
    told = compare(row("text_h2 < text_soft:before  perplexity"), runs).told
    assert told.startswith("Text: h2 is 40.6 % better than the Base (95 % CI")


def test_what_is_missing_is_not_run_and_what_does_not_compare_is_an_error():
    runs = perplexities("text_h2", 10, 12)
    assert compare(row("text_h2 < text_liu  perplexity"), runs)[:2] == ("Text: h2 against liu: not run", "not run")
    runs |= {"text_liu_s1": perplexities("text_liu", 11)["text_liu_s1"]}
    assert compare(row("text_h2 < text_liu  perplexity"), runs)[:2] == (
        "Text: h2 is 9.1 % better than liu (one seed)",
        "not run",
    )
    runs |= perplexities("text_liu", 11, 13)
    assert compare(row("text_h2 < text_liu  perplexity"), runs).ends
    other = runs | perplexities("text_liu", 11, 13, base_crc32=8)
    with pytest.raises(ValueError, match="text_h2 and text_liu, seed 1, are not from the same Base"):
        compare(row("text_h2 < text_liu  perplexity"), other)
    assert compare(row("text_h2 < text_liu  perplexity other_base"), other).ends, "Bases are compared by design"
    runs["text_h2_s2"]["config"]["lr"] = 2.0
    with pytest.raises(ValueError, match="runs of text_h2 differ in lr"):
        compare(row("text_h2 < text_liu  perplexity"), runs)


def test_the_table_without_runs_claims_nothing():
    results = [compare(r, {}).verdict for h in hypotheses.hypotheses() for r in h.rows]
    assert {*results} == {"not run"}
    assert hypotheses.together(["not run"]) == "not run"


def test_verdicts():
    intervals = [(-3, -1), (-3, 1), (1, 3)]
    words = ["holds", "inconclusive", "does not hold"]
    assert [hypotheses.verdict_of(*x, "<", [0]) for x in intervals] == words
    assert [hypotheses.verdict_of(*x, ">", [0]) for x in intervals[::-1]] == words
    assert [hypotheses.verdict_of(*x, "=", [-5, 5]) for x in ((-4, 4), (4, 6), (6, 7), (-7, -6), (-6, 4))] == [
        *words,
        words[2],
        words[1],
    ]
    assert hypotheses.together(["holds", "holds"]) == "reproduced" and hypotheses.together(["holds"], False) == "supported"
    assert hypotheses.together(["holds", "does not hold", "not run"]) == "mixed"
    assert hypotheses.together(["inconclusive", "does not hold"]) == "not reproduced"
    assert hypotheses.together(["holds", "inconclusive"]) == "inconclusive"
    assert hypotheses.together(["holds", "inconclusive", "not run"]) == "not run"


def test_limits_in_words():
    runs = perplexities("text_h2", 10, 12, 14) | perplexities("text_soft", 11, 12.5, 16)
    asked = {'> text_soft  perplexity 5 "x"': "by more than 5 %", '< text_soft  perplexity -5 "x"': "by more than 5 %"}
    asked |= {
        '> text_soft  perplexity -5 "x"': "no more than 5 % below",
        '< text_soft  perplexity 5 "x"': "no more than 5 % above",
    }
    for line, meaning in asked.items():
        assert compare(row(f"text_h2 {line}"), runs).told.endswith(f"'x' means {meaning})")


# -----------------------------------------------------------------------------
# Statistics


def test_holm_has_the_values_of_the_textbook():
    assert hypotheses.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert hypotheses.holm([0.5, 0.9]) == [1.0, 1.0]


def test_the_mean_of_seeds_has_student_s_interval_and_a_further_variance_widens_it():
    d = np.array([1.0, 2.0, 4.0])
    plain = stats.ttest_1samp(d, 0).confidence_interval()
    assert hypotheses.interval(d).interval(0.95) == pytest.approx((plain.low, plain.high))
    wide = hypotheses.interval(d, 1e6, 499)
    assert wide.interval(0.95) == pytest.approx((7 / 3 - 1000 * 1.965, 7 / 3 + 1000 * 1.965), rel=1e-3), "the questions decide"


def accuracies(name, answers, config=None):
    """answers: (seeds, questions) of 0 and 1"""
    runs = [
        fake(name, s, config=config or {})
        | dict(asked=len(a), correct=np.packbits(a).tobytes().hex(), metrics=[{"test_accuracy": np.mean(a)}])
        for s, a in enumerate(np.asarray(answers, np.uint8), 1)
    ]
    return {run["name"]: run for run in runs}


def test_accuracies_are_compared_by_seed_and_by_question():
    """Simulated: the variance that is told is that of the mean, over seeds and over questions."""
    rng, told, means = np.random.default_rng(0), [], []
    for _ in range(300):
        seed, question = 0.05 * rng.normal(size=(4, 1)), 0.2 * rng.normal(size=(1, 60))
        a, b = (rng.random((4, 60)) < 0.5 + seed * sign + question * sign for sign in (1, -1))
        runs = [accuracies("x_h2", a), accuracies("x_soft", b)]
        d = [100 * (x.mean() - y.mean()) for x, y in zip(a, b, strict=True)]
        variance, freedom = hypotheses.question_variance(*([*side.values()] for side in runs))
        told.append(hypotheses.interval(np.array(d), variance, freedom).args[2] ** 2)  # the scale
        means.append(np.mean(d))
    assert np.mean(told) == pytest.approx(np.var(means), rel=0.25)
    same = np.tile(rng.random((1, 60)) < 0.5, (3, 1))
    variance, _ = hypotheses.question_variance(*([*accuracies("x", same).values()] for _ in "ab"))
    assert variance == 0, "right and wrong on the same questions"


def test_records_of_before_answers_were_kept_count_their_questions_as_others():
    runs = {}
    for name, share in (("x_h2", 0.5), ("x_soft", 0.6)):
        runs |= {f"{name}_s{s}": fake(name, s) | dict(asked=400, metrics=[{"test_accuracy": share}]) for s in (1, 2)}
    mean, low, high = compare(row("x_h2 < x_soft  accuracy"), runs).ends
    half = 1.966 * 100 * np.sqrt(0.25 / 400 + 0.24 / 400)
    assert (mean, low, high) == pytest.approx((-10, -10 - half, -10 + half), rel=1e-3)


def test_an_accuracy_is_compared_with_a_number():
    answers = np.ones((2, 400))
    answers[:, :20] = 0
    told, verdict, _, (mean, low, high) = compare(row("x_h2 > 90  accuracy"), accuracies("x_h2", answers))
    half = 1.966 * 100 * np.sqrt(0.95 * 0.05 / 400)
    assert (mean, low, high) == pytest.approx((5, 5 - half, 5 + half), rel=1e-3) and verdict == "holds"
    assert told == "x: h2 is 5.0 points better than 90 (95 % CI 2.9 to 7.1, 2 seeds)"


def epochs(name, *first):
    """Runs on ProsQA of two stages that solve it after so many epochs of six"""
    runs = {}
    for seed, solved in enumerate(first, 1):
        lines = [dict(epoch=n, stage=n // 2, valid_accuracy=0.9 if n < 4 or n + 1 >= solved else 0.5) for n in range(6)]
        runs[f"{name}_s{seed}"] = fake(name, seed, config=dict(stages=2)) | dict(metrics=lines)
    return runs


def test_ranks_of_epochs_decide_where_runs_solve_it_or_do_not():
    runs = epochs("prosqa_soft", 5, 5, 5, 5) | epochs("prosqa_h2", 99, 99, 6, 99)
    told, verdict, p, ends = compare(row("prosqa_soft < prosqa_h2  epochs"), runs)
    assert p == pytest.approx(2 / 70) and verdict == "holds" and ends == (), "one of C(8, 4) ways, and its mirror image"
    soft, h2 = "soft solves it in 4 of 4 runs, after 5 epochs", "h2 solves it in 1 of 4 runs, after 6 epochs"
    assert told == f"ProsQA: {soft}; {h2} (exact rank test, p = 0.029)"
    assert compare(row("prosqa_soft > prosqa_h2  epochs"), runs).verdict == "does not hold"
    assert compare(row("prosqa_soft < prosqa_soft  epochs"), runs)[1:3] == ("inconclusive", 1.0)
    assert hypotheses.solved_after(runs["prosqa_h2_s1"]) == hypotheses.NEVER, "what is right with steps in words does not count"


def test_a_message_is_asked_of_runs_that_have_something_to_lose():
    runs = epochs("prosqa_h2", 5, 5, 99)
    for name, record in runs.items():
        record["latents"] = {collect.INTERVENTIONS: {"untouched": 90.0, "swapped": 50.0 + int(name[-1]), "none": 10.0}}
    told, verdict, *_ = compare(row('prosqa_h2:swapped < prosqa_h2  accuracy_by_message -5 "reads"'), runs)
    assert told.startswith(
        "ProsQA: another's message is 38.5 points worse than its own message (95 % CI 32.1 to 44.9, 2 seeds;"
    )
    assert verdict == "holds"


# -----------------------------------------------------------------------------
# paper/runs.sh, and what it keeps


PRETENDS = f"""#!/usr/bin/env bash
# A python that collects, and pretends to train, analyse and evaluate
echo "$@" >> calls
all="$*"
out=${{all##*--out_dir=}}
case $1 in
    -m) exec {sys.executable} "$@" ;;
    train.py) out=${{out%% *}}; [[ $* != *=red* ]] && mkdir -p $out && cp -r made/. $out ;;
    analyze_latents.py) echo '{{"capture": [[1, 0.123456]], "words": []}}' > $2/latents.json ;;
    evaluate.py) mkdir -p $2_eval && echo '{{"perplexity": {{"by_position": [9, 8]}}}}' > $2_eval/results.json ;;
esac
"""
LINES = """
base start train.py --init_from=random:tiny_gpt2
wait
look "2" late_h2 train.py --n_latents=@ --colour=blue
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """paper/runs.sh with two lines, and a finished run that they both end as"""
    make_shards(tmp_path / "corpus", [3000])
    make_shards(tmp_path / "corpus", [600], split="val")
    settings = dict(
        data=tmp_path / "corpus", init_from="random:tiny_gpt2", seq_len=32, n_sites=2, n_ahead=4, n_latents=2, tokens=256,
        tokens_per_step=128, batch_size=4, eval_rows=4, device="cpu", precision="fp32", seed=2,
    )  # fmt: skip
    run_here(train, settings, tmp_path / "made")
    (tmp_path / "made/tokenizer.json").touch()
    (tmp_path / "paper").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/tiny.jsonl").touch()
    (tmp_path / "python").write_text(PRETENDS)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "paper/runs.sh").write_text(
        f"{RUNS.partition('# The data:')[0]}{LINES}wait\n{RUNS.rstrip().rpartition(chr(10))[2]}"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_all(*arguments):
    """-> (exit status, what it says, what it calls)"""
    Path("calls").write_text("")
    env = os.environ | {"PYTHON": "./python", "WORKERS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "paper/runs.sh", *arguments], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, Path("calls").read_text().splitlines()


def test_runs_are_made_kept_and_not_made_again(place):
    code, said, calls = run_all()
    assert (code, said) == (0, "start begins\nstart is finished\nlate_h2_s2 begins\nlate_h2_s2 is finished\n")
    rest = "--device=cpu --precision=fp32 --out_dir=out/paper"
    assert calls == [
        f"train.py --init_from=random:tiny_gpt2 {rest}/start --overwrite",
        "-m paper.collect out/paper/start",
        f"train.py --n_latents=2 --colour=blue --seed=2 {rest}/late_h2_s2 --overwrite",
        "analyze_latents.py out/paper/late_h2_s2 --examples=1024",
        "-m paper.collect out/paper/late_h2_s2",
    ]
    runs = collect.records()
    late = runs["late_h2_s2"]
    assert late["command"] == f"python train.py --n_latents=2 --colour=blue --seed=2 {rest}/late_h2_s2"
    assert late["latents"] == {"capture": [[1, 0.1235]]} and late["config"]["seed"] == 2
    base = load_pretrained("results/bases/start")
    assert late["parameters"] == sum(p.numel() for p in base.parameters()) and late["family"] == "gpt2"
    assert [line["step"] for line in late["metrics"]] == [0, 2] and late["rows"] == 3000 // 32
    assert sorted(os.listdir("results/bases/start")) == ["config.json", "model.safetensors", "tokenizer.json"]

    assert run_all() == (0, "", []), "whose very command is there is finished"
    (place / "results/tiny.jsonl").write_text(json.dumps(runs["start"]) + "\n")
    assert run_all("late")[2][0].endswith("/late_h2_s2 --resume") and collect.records() == runs, "it goes on where it was"
    (place / "paper/runs.sh").write_text((place / "paper/runs.sh").read_text().replace("=blue", "=red"))
    code, said, calls = run_all()
    assert (code, said) == (1, "late_h2_s2 begins\nlate_h2_s2 failed: see out/paper/late_h2_s2.log\n")
    assert len(calls) == 1 and calls[0].endswith("/late_h2_s2 --overwrite"), "another command is another run"
    assert collect.records() == runs

    config = json.loads((place / "out/paper/start/config.json").read_text())
    (place / "out/paper/start/config.json").write_text(json.dumps(config | {"tokens": 384}))
    with pytest.raises(ValueError, match="out/paper/start stopped at step 2, before its end"):
        collect.collect("out/paper/start/")


def test_the_likelier_candidate_is_that_of_the_lower_loss(monkeypatch):
    """A model that finds a text the less likely the larger its ids: of "y" and "x" it takes x, whatever it would write."""

    class Model:
        ends_prompts_with = [7]

        def ahead_nll(self, tokens, sites, ahead):
            assert tokens[0, -1] == 7 and sites.tolist() == [[tokens.size(1) - 1]] and ahead[0, 0, -1] == 0
            return ahead.float()

    tokenizer = types.SimpleNamespace(encode=lambda text: [*text.encode()], eot=0)
    monkeypatch.setattr(coprocessor, "load_run", lambda run: (Model(), {}))
    monkeypatch.setattr(collect, "tokenizer_of", lambda run: tokenizer)
    rows = [dict(question="?", idx_to_symbol=["A", "x", "y"], root=0, target=t, neg_target=3 - t) for t in (1, 1, 2, 1)]
    assert collect.likelier("a run", rows) == 75


def test_the_answers_are_kept_bit_by_bit(tmp_path):
    answers = np.random.default_rng(0).random(21) < 0.5
    record = accuracies("x", [answers])["x_s1"]
    assert record["correct"] == np.packbits(answers).tobytes().hex() and len(record["correct"]) == 6
    a, b = [record], [accuracies("x", [~answers])["x_s1"]]
    a, b = a * 2, b * 2
    variance, freedom = hypotheses.question_variance(a, b)
    assert freedom == 20 and variance == pytest.approx(100**2 * np.var(2.0 * answers - 1, ddof=1) / 21)


# -----------------------------------------------------------------------------
# lm-evaluation-harness


def test_the_harness_finds_hugging_face_s_evaluate_and_scores_each_item_alone(tmp_path):
    """Stand-ins for both packages, of which the first imports the second as its tasks do."""
    (tmp_path / "lm_eval" / "api").mkdir(parents=True)
    (tmp_path / "lm_eval/__init__.py").write_text(
        "def simple_evaluate(model, **settings):\n    import evaluate\n"
        "    a, b = (None, [*range(model.room)], [5, 6]), (None, [1], [7] * 200)  # of which one wants another's room\n"
        "    scores = [model._loglikelihood_tokens(requests)[0][0] for requests in ([a], [a, b])]\n"
        "    return {'results': evaluate.__doc__ if abs(scores[0] - scores[1]) < 1e-3 else scores}\n"
    )
    (tmp_path / "lm_eval/api/__init__.py").touch()
    (tmp_path / "lm_eval/api/model.py").write_text("class TemplateLM:\n    pass\n")
    (tmp_path / "lm_eval/utils.py").write_text("get_rolling_token_windows = make_disjoint_window = None\n")
    (tmp_path / "evaluate.py").write_text('"""Hugging Face\'s"""\n')
    command = [sys.executable, "-m", "paper.harness", "results/bases/base_gpt2", "--tasks=x", "--device=cpu"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == '"Hugging Face\'s"\n', done.stderr
