"""The laptop's version of the paper: every cell can be started, and the page says what the cells' metrics say."""

import importlib
import json
import math
import re

import numpy as np
import pytest

from configurator import configure
from paper import cells as paper
from paper import claims


def test_every_cell_is_a_command_that_its_script_takes():
    cells = paper.all_cells()
    for cell in cells.values():
        script = importlib.import_module(cell.script.removesuffix(".py"))
        c = configure(script.Config, "", cell.command[2:])
        assert c.out_dir == f"out/paper/{cell.name}" and cell.minutes <= 30
        assert all(name in cells for name in cell.after)
        starts = c.init_from.removeprefix("out/paper/").split("/")[0]
        assert cell.after == ([starts] if c.init_from.startswith("out/paper/") else [])
    assert len(cells) == len({tuple(cell.options) for cell in cells.values()}), "a cell is run twice"
    bases = {name for name, cell in cells.items() if cell.is_base}  # their weights are kept, and no others'
    assert bases == {"base_gpt2", "base_qwen3", "base_twice", "statements", "worded", "sums"}
    assert sum(cell.minutes for cell in cells.values()) / 2 < 8 * 60, "more than 8 hours on two cores"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fake(name, **last):
    folder = paper.os.path.join(claims.RESULTS, name)
    paper.os.makedirs(folder, exist_ok=True)
    lines = [{"step": 0, "tokens": 0, "val_ppl": 50.0}, {"step": 1, "tokens": 10**6, **last}]
    paper.runtime.write_lines(paper.os.path.join(folder, "metrics.jsonl"), lines)
    with open(paper.os.path.join(folder, "cell.json"), "w") as f:
        json.dump({"seconds": 60}, f)


def words():
    return {row.claim: row.verdict for row in claims.claims()}


def test_without_results_nothing_is_claimed(place):
    assert set(words().values()) == {"not run", "cannot be told"}  # Table 1 cannot, at this size
    paper.os.makedirs("results")
    cells = paper.all_cells()
    paper.report(cells)
    assert f"0 of {len(cells)} cells" in (place / "results" / "README.md").read_text()


def test_every_row_names_the_cells_that_it_reads(place, monkeypatch):
    cells, asked, everything = paper.all_cells(), set(), set()
    for reader in ("metrics", "latents"):
        monkeypatch.setattr(claims, reader, lambda name: asked.add(name))
    for row in claims.claims():
        named = {name for name in cells if row.cells and name.startswith(tuple(row.cells.split(",")))}
        assert asked <= named, row.claim
        everything |= asked
        asked.clear()
    assert cells.keys() == everything | {name for cell in cells.values() for name in cell.after}
    analysed = {name for name, cell in cells.items() if cell.analyze}
    monkeypatch.setattr(claims, "metrics", lambda name: None)
    assert list(claims.claims()) and asked <= analysed


# A world in which the paper is right: the first pattern that a cell's name has says what came of it.
PPL = {"_continued": 23, "_soft": 21, "_liu": 24, "_h1": 22, "latents.*_1_": 20.1, "latents.*_4_": 19.9, "latents.*_8_": 19.8}
PPL |= {"orthogonal": 19.5, "_h2": 20, "": 25}
RIGHT = {"^resume_.*continued": 95, "^resume_": 90, "figure8.*resumed_3": 70, "figure8.*resumed_4": 30, "figure8.*_3_": 60}
RIGHT |= {
    "figure8": 20,
    "^countdown_no_cot": 2,
    "countdown.*_3_": 55,
    "countdown": 8,
    "plain.*(liu|h1)": 80,
    "prosqa_no_(cot|thought)": 55,
    "(liu|h1)": 50,
    "": 95,
}
SILHOUETTE = {"countdown": 0.3, "": -0.1}


def make_world(monkeypatch, changes=()):
    """-> {cell: its metrics}, which claims.py now reads, and what analyze_latents.py would find there"""
    tables, results, analyses = [dict(changes) | table for table in (PPL, RIGHT, SILHOUETTE)], {}, {}
    for name, cell in paper.all_cells().items():
        ppl, right, silhouette = (next(x for pattern, x in t.items() if re.search(pattern, name)) for t in tables)
        noise = int(name[-1]) / 1000 if re.search("_s[0-9]$", name) else 0
        last = dict(tokens=10**6, val_ppl=ppl + noise, test_accuracy=right / 100 + noise)
        last |= dict(passes_to_answer=5 if "coconut" in name else 3, seconds_to_answer=0.1)
        results[name] = [{"tokens": 0, "val_ppl": 50.0}, last]
        if cell.analyze:
            analyses[name] = dict(off_diagonal=0.9, null=0.5 + noise, silhouette=silhouette + noise, what="accuracy")
            text = re.search("^(figure2|latents|orthogonal|statements)", name)
            analyses[name]["meddling"] = {"untouched": 20 if text else 90, "swapped": 30 + noise}
    monkeypatch.setattr(claims, "metrics", results.get)
    monkeypatch.setattr(claims, "latents", analyses.get)
    return results


def test_where_the_paper_is_right_its_claims_hold(place, monkeypatch):
    make_world(monkeypatch)
    found = words()
    assert found.pop("10. Table 1: h2 is above continued pretraining on the five benchmarks") == "cannot be told"
    assert set(found.values()) == {"holds"}, found
    assert claims.overview() == ["overview"] and paper.os.path.getsize(f"{claims.RESULTS}/overview.png") > 10_000


@pytest.mark.parametrize(
    "pattern, value, refuted",
    [
        ("figure2_gpt2_continued", 21.5, "1. Perplexity, GPT-2"),
        ("figure2_qwen3_liu", 19, "3. "),
        ("figure2_qwen3_soft", 19, "1. Perplexity, Qwen-3"),
        ("long_gpt2_continued", 19, "1b."),
        ("sums_continued", 19, "1c."),
        ("scaled_gpt2", 24, "1d."),
        ("latents_gpt2_h2_8", 20, "2. Perplexity of h2 falls as N_L grows from 1 to 8, GPT-2"),
        ("latents_qwen3_h2_1", 19, "2. Perplexity of h2 falls as N_L grows from 1 to 8, Qwen-3"),
        ("^prosqa_h1", 90, "3b."),
        ("^prosqa_soft_s", 50, "4."),
        ("^prosqa_coconut", 50, "4."),
        ("slow_prosqa_liu", 94, "4b."),
        ("plain_prosqa_coconut", 50, "4c."),
        ("^prosqa_h2_c1", 50, "5."),
        ("^prosqa_soft_c1", 50, "5b."),
        ("slow_prosqa_soft_c1", 50, "5c."),
        ("^countdown_h2_4_16", 54, "6. Countdown, h2, N_L = 16"),
        ("^countdown_h2_3_16", 70, "6b. Countdown with 3"),
        ("^countdown_soft_4_4", 20, "6c. Countdown with 4"),
        ("^countdown_no_cot_3", 80, "6d. Beyond: Countdown with 3"),
        ("resume_prosqa_curriculum", 97, "7. "),
        ("resume_prosqa_straight", 97, "7b."),
        ("figure8_countdown_resumed_4", 10, "7c. Countdown with 4"),
        ("figure8_countdown_h1_3", 75, "7c. Countdown with 3"),
        ("figure8_countdown_continued_3", 80, "7e. Beyond: 7c holds also against h2 on such a Base, 3"),
        ("resume_prosqa_continued", 80, "7d."),
        ("^statements_h2", 0.5, "8b."),
        ("^countdown_h2_4_16", -0.2, "8c. Their silhouette is above 0.1 on Countdown, 4"),
        ("twice", 19, "11. "),
        ("^orthogonal", 21, "11b."),
        ("plain_prosqa_h1", 55, "11c."),
        ("worded_prosqa_coconut", 50, "11d."),
        ("worded_prosqa_h2", 50, "11e."),
        ("patient_prosqa_h2", 50, "11g."),
        ("patient_prosqa_coconut", 50, "11f."),
        ("^prosqa_no_cot", 99, "3c."),
        ("patient_prosqa_no_thought", 94, "11h."),
        ("patient_prosqa_h1", 94, "4e."),
        ("worded_prosqa_liu", 90, "4d."),
    ],
)
def test_a_claim_is_refuted_where_the_numbers_say_so(monkeypatch, pattern, value, refuted):
    make_world(monkeypatch, {pattern: value})
    (word,) = [word for claim, word in words().items() if claim.startswith(refuted)]
    assert word == "does not hold"


def test_seeds_that_disagree_tell_nothing(monkeypatch):
    results = make_world(monkeypatch)
    for s in claims.SEEDS:
        results[f"figure2_gpt2_continued_s{s}"][-1]["val_ppl"] = (21, 23, 25)[s - 1]
    assert words()["1. Perplexity, GPT-2: h2 < soft < h1 < continued < liu"] == "cannot be told"


def test_intervals_and_words():
    a, b = {1: 1.0, 2: 2.0, 3: 4.0, 9: 0.0}, {1: 2.0, 2: 2.5, 3: 6.0}
    mean, half = claims.paired(a, b)
    d = np.array([-1, -0.5, -2])
    assert mean == pytest.approx(d.mean()) and half == pytest.approx(4.303 * d.std(ddof=1) / math.sqrt(3))
    assert claims.paired({1: 1.0}, {1: 2.0}) is None
    assert [claims.verdict(d) for d in ((-2, 1), (-1, 2), (2, 1), None)] == [
        "holds",
        "cannot be told",
        "does not hold",
        "not run",
    ]
    assert [claims.verdict(d, 3) for d in ((1, 1), (3, 1), (5, 1))] == ["holds", "cannot be told", "does not hold"]
    apart = ((-1, 1), (-9, 1), (9, 1), (0, 4), None)
    words = ["holds", "does not hold", "does not hold", "cannot be told", "not run"]
    assert [claims.near(d, 3) for d in apart] == words
    assert claims.together(["holds", "cannot be told"]) == "cannot be told" and claims.together(["holds"]) == "holds"
    assert claims.together(["holds", "does not hold", "cannot be told"]) == "does not hold"
    assert (
        claims.together(["not run", "does not hold"]) == "does not hold" and claims.together(["not run", "holds"]) == "not run"
    )


def test_the_budget_from_which_two_curves_change_places(place, monkeypatch):
    curves = {
        "a{s}": {1: {10**6: 3.0, 2 * 10**6: 2.0, 3 * 10**6: 1.0}},
        "b{s}": {1: {10**6: 2.5, 2 * 10**6: 2.1, 3 * 10**6: 2}},
    }
    monkeypatch.setattr(claims, "curve", lambda pattern: curves[pattern])
    assert claims.crossing("a{s}", "b{s}") == "from 2.0M tokens on"
    assert claims.crossing("b{s}", "a{s}") == "not by 3.0M tokens"


def test_cells_run_after_what_they_start_from_and_failures_are_told(place, monkeypatch):
    starts = {"b": [], "c": ["b"], "d": [], "e": ["d"], "f": ["c"]}
    cells = {name: paper.Cell(name, "x", [], 1, after) for name, after in starts.items()}
    ran = []

    def run_cell(cell, commit):
        ran.append(cell.name)
        paper.os.makedirs(f"out/paper/{cell.name}")
        if cell.name == "d":
            raise RuntimeError("no room")
        fake(cell.name, val_ppl=1.0)

    monkeypatch.setattr(paper, "run_cell", run_cell)
    monkeypatch.setattr(paper, "DATA", ())
    failed = paper.run_all(cells, [cells[name] for name in "bcde"], 2)
    assert failed.keys() == {"d", "e"} and "no room" in failed["d"] and "starts from failed" in failed["e"]
    assert sorted(ran) == ["b", "c", "d"] and ran.index("b") < ran.index("c")
    ran.clear()
    paper.shutil.rmtree("out/paper/d")
    paper.run_all(cells, [cells["b"], cells["c"]], 2)
    assert ran == [], "finished cells are skipped"
    paper.shutil.rmtree("out/paper/b")
    paper.shutil.rmtree("results/tiny/c")
    paper.shutil.rmtree("out/paper/c")
    paper.run_all(cells, [cells["c"]], 2)
    assert ran == ["b", "c"], "weights that are gone are made again"
    ran.clear()
    for name in "bc":
        paper.shutil.rmtree(f"out/paper/{name}")
    paper.run_all(cells, [cells["f"]], 2)
    assert ran == ["b", "c", "f"], "also those of a run that starts from a run"


@pytest.mark.parametrize("loss, same", [(2.0001, True), (2.1, False)])
def test_a_run_that_is_made_again_is_compared_with_the_kept_one(place, monkeypatch, capsys, loss, same):
    fake("base", loss=2.0)
    cell = paper.Cell("base", "train.py", [], 1, is_base=True)

    def run(command, log):
        paper.os.makedirs("out/paper/base/checkpoint/base")
        paper.os.makedirs("results/tiny/base/checkpoint/base")
        for name in paper.WEIGHTS:
            (place / "out/paper/base" / name).write_text(f"{name} made again")
        lines = [{"step": 1, "loss": loss}, {"step": 1, "test_accuracy": 0.5}]
        paper.runtime.write_lines("out/paper/base/metrics.jsonl", lines)

    monkeypatch.setattr(paper, "run", run)
    if same:
        paper.run_cell(cell, "abc")
        assert "within 5e-05 of the kept run's" in capsys.readouterr().out
        paper.shutil.rmtree("out")
        paper.os.makedirs("out/paper/base")  # cut off as it began
        monkeypatch.setattr(paper, "run_cell", lambda cell, commit: ran.append(cell.name))
        monkeypatch.setattr(paper, "DATA", ())
        ran, late = [], paper.Cell("late", "train.py", [], 1, ["base"])
        paper.run_all({"base": cell, "late": late}, [late], 1)
        assert ran == ["late"], "a Base whose weights are kept is not made again"
        for name in paper.WEIGHTS:
            assert (place / "out/paper/base" / name).read_text() == f"{name} made again"
    else:
        with pytest.raises(RuntimeError, match=r"2.100000, the kept run's 2.000000"):
            paper.run_cell(cell, "abc")


def test_latents_that_are_strangers_and_carry_nothing(monkeypatch):
    make_world(monkeypatch)
    same = dict(off_diagonal=0.5, null=0.5, silhouette=0.0, meddling={"untouched": 9.0, "swapped": 9.0})
    monkeypatch.setattr(claims, "latents", lambda name: same)
    found = {claim.partition(".")[0]: word for claim, word in words().items()}
    assert [found[row] for row in ("8", "8b", "8c", "11i", "11j", "11k")] == [
        "does not hold", "holds", *["does not hold"] * 4,
    ]  # fmt: skip
