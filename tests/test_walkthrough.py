"""The notebook runs from top to bottom, and what it calls equal is equal."""

import json
from pathlib import Path

import matplotlib
import pytest
import torch

import coprocessor

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "walkthrough.ipynb"
STEPS = "STEPS = 200 "  # as the notebook says it, once

pytestmark = pytest.mark.xdist_group("walkthrough")  # its cells run once, not on every worker


@pytest.fixture(scope="module")
def cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def space(cells):
    """All cells run in one namespace, with hardly any training -> what they defined"""
    matplotlib.use("Agg")
    sources = ["".join(cell["source"]) for cell in cells]
    assert sum(source.count(STEPS) for source in sources) == 1
    space = {"__name__": "walkthrough"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("matplotlib.pyplot.show", lambda: matplotlib.pyplot.close("all"))
        patch.setattr(coprocessor, "VARIANTS", dict(coprocessor.VARIANTS))  # the notebook adds to it
        for n, source in enumerate(sources, start=1):
            exec(compile(source.replace(STEPS, "STEPS = 20 "), f"walkthrough.ipynb, code cell {n}", "exec"), space)
    return space


def test_what_it_calls_equal_is_equal(space):
    assert len(space["largest"]) == 7 and max(space["largest"].values()) < 1e-9
    assert torch.equal(space["after"], space["together"])  # no token after the sites moves a branch
    moved = [not torch.equal(a, b) for a, b in zip(space["beside"][0], space["together"][0], strict=True)]
    assert moved == [False, True, False]


def test_its_systems_learn(space):
    for name in ("continued", "h2", "echo"):
        (_, before), *_, (step, after) = space["curves"][name]
        assert step == 20 and after < before


def test_its_messages_are_changed_and_given_back(space):
    nll = space["messages"]
    assert torch.equal(nll["own"], space["validate"](space["h2"]))  # nothing that it replaced is left behind
    assert nll["another's"][0] > nll["own"][0]
    push, probability = space["push"](" return", 2), space["probability"]
    assert space["with_message"](push, probability, " return") > probability(" return")


def test_its_outputs_are_kept(cells):
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for output in outputs)
    assert NOTEBOOK.stat().st_size < 300_000
