"""The laptop's version of the paper: every cell can be started, and the page says what the cells' metrics say."""

import importlib
import json
import math

import numpy as np
import pytest

import paper
from configurator import configure


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
    assert sum(cell.minutes for cell in cells.values()) / 2 < 8 * 60, "more than 8 hours on two cores"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fake(name, **last):
    folder = paper.os.path.join(paper.RESULTS, name)
    paper.os.makedirs(folder, exist_ok=True)
    lines = [{"step": 0, "tokens": 0, "val_ppl": 50.0}, {"step": 1, "tokens": 10**6, **last}]
    paper.runtime.write_lines(paper.os.path.join(folder, "metrics.jsonl"), lines)
    with open(paper.os.path.join(folder, "cell.json"), "w") as f:
        json.dump({"seconds": 60}, f)


def words():
    return {claim: word for claim, _, _, word, _ in paper.claims()}


def test_without_results_nothing_is_claimed(place):
    assert set(words().values()) == {"not run", "cannot be told"}  # Table 1 cannot, at this size
    paper.os.makedirs("results")
    paper.report(paper.all_cells())
    assert "0 of 203 cells" in (place / "results" / "README.md").read_text()


def test_every_row_names_the_cells_that_it_reads(place, monkeypatch):
    cells, asked = paper.all_cells(), set()
    for reader in ("metrics", "latents"):
        monkeypatch.setattr(paper, reader, lambda name: asked.add(name))
    columns = [row[-1] for row in paper.claims()]
    named = {name for column in columns if column for name in cells if name.startswith(tuple(column.split(",")))}
    assert asked == asked & named and asked <= cells.keys()
    assert cells.keys() == asked | {name for cell in cells.values() for name in cell.after}


def test_a_claim_is_refuted_where_the_numbers_say_so(place):
    claim = "4. ProsQA: soft and Coconut within 5 points of h2; liu and h1 more than 10 below soft and h2"
    right = dict(h2=0.96, soft=0.95, coconut=0.96, liu=0.5, h1=0.6, cot=0.9, no_cot=0.9)
    for wrong, word in ((None, "holds"), (("soft", 0.5), "does not hold"), (("h1", 0.9), "does not hold")):
        for v, x in (right | dict([wrong] if wrong else [])).items():
            for s in paper.SEEDS:
                fake(f"prosqa_{v}_s{s}", test_accuracy=x + s / 1000, passes_to_answer=3, seconds_to_answer=0.1)
        assert words()[claim] == word


def test_the_order_of_perplexities(place):
    ppl = dict(zip(("h2", "soft", "h1", "continued", "liu"), (20, 21, 22, 23, 24), strict=True))
    claim = "1. Perplexity, GPT-2: h2 < soft < h1 < continued < liu"
    for v, x in ppl.items():
        for s, noise in zip(paper.SEEDS, (1.001, 1, 0.999), strict=True):
            fake(f"figure2_gpt2_{v}_s{s}", val_ppl=x * noise)
    assert words()[claim] == "holds"
    for s in paper.SEEDS:
        fake(f"figure2_gpt2_continued_s{s}", val_ppl=21.5)
    assert words()[claim] == "does not hold"
    for s in paper.SEEDS:
        fake(f"figure2_gpt2_continued_s{s}", val_ppl=(21, 23, 25)[s - 1])
    assert words()[claim] == "cannot be told"


def test_intervals_and_words():
    a, b = {1: 1.0, 2: 2.0, 3: 4.0, 9: 0.0}, {1: 2.0, 2: 2.5, 3: 6.0}
    mean, half = paper.paired(a, b)
    d = np.array([-1, -0.5, -2])
    assert mean == pytest.approx(d.mean()) and half == pytest.approx(4.303 * d.std(ddof=1) / math.sqrt(3))
    assert paper.paired({1: 1.0}, {1: 2.0}) is None
    assert [paper.verdict(d) for d in ((-2, 1), (-1, 2), (2, 1), None)] == [
        "holds",
        "cannot be told",
        "does not hold",
        "not run",
    ]
    assert [paper.verdict(d, 3) for d in ((1, 1), (3, 1), (5, 1))] == ["holds", "cannot be told", "does not hold"]
    apart = ((-1, 1), (-9, 1), (9, 1), (0, 4), None)
    words = ["holds", "does not hold", "does not hold", "cannot be told", "not run"]
    assert [paper.near(d, 3) for d in apart] == words
    assert paper.together(["holds", "cannot be told"]) == "cannot be told" and paper.together(["holds"]) == "holds"
    assert paper.together(["holds", "does not hold", "cannot be told"]) == "does not hold"


def test_the_budget_from_which_two_curves_change_places(place, monkeypatch):
    curves = {
        "a{s}": {1: {10**6: 3.0, 2 * 10**6: 2.0, 3 * 10**6: 1.0}},
        "b{s}": {1: {10**6: 2.5, 2 * 10**6: 2.1, 3 * 10**6: 2}},
    }
    monkeypatch.setattr(paper, "curve", lambda pattern: curves[pattern])
    assert paper.crossing("a{s}", "b{s}") == "from 2.0M tokens on"
    assert paper.crossing("b{s}", "a{s}") == "not by 3.0M tokens"


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
