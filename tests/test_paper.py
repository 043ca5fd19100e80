"""The laptop's version of the paper: every cell can be started, and the page says what the cells' metrics say."""

import dataclasses
import importlib
import math
import os
import re
import shutil
import sys

from configurator import configure

import numpy as np
import pytest
from helpers import ROOT
from scipy import stats
from test_data import make_shards

from coprocessor import build, checksum
from data import train_tokenizer
from model import load_pretrained, random_model
from paper import cells, claims
from runtime import write_lines

CELLS = cells.all_cells()
STARTS = "(out/paper|results/bases)/(\\w+)"


def config_of(cell):
    script, *words = cell.command.split()
    return configure(importlib.import_module(script.removesuffix(".py")).Config, "", words)


def test_every_cell_is_a_command_that_its_script_takes():
    for cell in CELLS.values():
        c = config_of(cell)
        assert c.out_dir == f"out/paper/{cell.name}" and "$" not in cell.command
        assert cell.minutes <= (98 if cell.is_base else 40), "a Base is trained once, and its weights are kept"
        if c.init_from.startswith("random:"):
            assert not cell.start
        else:
            where, start = re.fullmatch(STARTS, c.init_from).groups()
            assert start == cell.start and CELLS[start].is_base == (where == "results/bases")
    assert len(CELLS) == len({cell.command.replace(cell.name, "") for cell in CELLS.values()}), "a cell is run twice"
    bases = {name for name, cell in CELLS.items() if cell.is_base}  # their weights are kept, and no others'
    assert bases == {f"base_{size}" for size in ("gpt2", "twice", "wide", "once")} | {"statements", "worded", "sums"}
    assert sum(cell.minutes for cell in CELLS.values() if not cell.on_gpu) / 2 < 12 * 60, "more than 12 hours on two cores"
    assert sum(cell.minutes for cell in CELLS.values() if cell.on_gpu) <= 20, "more than 20 minutes of a GPU"


def test_places_of_a_name_are_lists_or_ranges(monkeypatch):
    monkeypatch.setattr(cells, "CELLS", "x.py\n    a_{b,c}_{2..11}_s{9..10}  1  --x=$1 --y=$2 --seed=$s\n    d  1")
    made = cells.all_cells()
    assert len(made) == 2 * 10 * 2 + 1 and [name for name, cell in made.items() if cell.is_base] == ["d"]
    assert made["a_c_11_s10"].command.startswith("x.py --x=c --y=11 --seed=10 ")


def test_models_that_stand_beside_the_dual_one_have_as_many_parameters():
    def count(model):
        return sum(p.numel() for p in model.parameters())

    dual = count(build("h2", random_model("tiny_gpt2", 512), 2))
    assert 0.9 < count(random_model("tiny_gpt2_twice", 512)) / dual < 1
    assert count(random_model("tiny_gpt2_wide", 512)) == pytest.approx(dual, rel=0.01)


def test_the_kept_runs_are_runs_of_these_commands(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert [*cells.read_records()] == sorted(cells.read_records())
    records = cells.finished(CELLS)  # those of commands that say something else by now are run anew
    assert len(records) > 40
    gone = {"sweep", "sweep_variants", "sweep_operands", "sweep_latents"}  # settings that there were when they were run
    for name, record in records.items():
        c, then = config_of(CELLS[name]), record["config"]
        now, young = ({k: v for k, v in dataclasses.asdict(x).items() if k not in gone} for x in (c, type(c)()))
        assert then.keys() - now.keys() <= {"started_from", "started_in", "base_crc32", "n_latents", *gone}
        assert "stages" not in now or then["n_latents"] in (0, c.stages * c.latents_per_step)
        then = young | {key: then[key] for key in then.keys() & now.keys()} | dict(resume=False, overwrite=False)
        if match := re.match(STARTS, then["init_from"]):
            then["init_from"] = f"{cells.BASES if CELLS[match[2]].is_base else cells.OUT}/{match[2]}"
        for key, was in (("device", "cpu"), ("precision", "fp32")):
            then[key] = was if then[key] == "auto" and not CELLS[name].on_gpu else then[key]
        assert then == now, name


def test_a_run_stands_while_its_command_and_its_base_do(place):
    cell, base = cells.Cell("x", 1, "train.py --init_from=results/bases/base_gpt2"), random_model("tiny_gpt2", 60)
    base.save_pretrained(f"{cells.BASES}/base_gpt2")
    config = dataclasses.asdict(config_of(cell)) | {"base_crc32": checksum(base)}
    record = dict(name=cell.name, config=config)

    def stands(**changes):
        write_lines(cells.RECORDS, [record | {"config": config | changes}, {"name": "gone", "config": {}}])
        return [*cells.finished({cell.name: cell})] == [cell.name]

    assert stands() and stands(device="auto", out_dir="x", overwrite=True) and stands(precision="auto")
    assert stands(init_from="out/paper/base_gpt2/checkpoint/base"), "whether the kept weights or where they come from"
    cell.name = record["name"] = "prosqa_h2_s1"
    record["latents"] = dict(null=0.3)  # of before ordinary tokens were looked at
    assert not stands()
    record["latents"] = dict(chance=dict(tokens=0.5))
    assert stands()
    assert not (stands(tokens=1) or stands(init_from="out/paper/base_once") or stands(base_crc32=1))
    later = cells.Cell("y_s2", 1, "train.py --init_from=out/paper/x_s1")  # from a run that others do not start from
    of_later = dict(name="y_s2", config=dataclasses.asdict(config_of(later)))
    for settings, left in ((config, {"x_s1", "y_s2"}), (config | {"tokens": 1}, set())):
        write_lines(cells.RECORDS, [record | {"name": "x_s1", "config": settings}, of_later])
        assert cells.finished({"x_s1": dataclasses.replace(cell, name="x_s1"), "y_s2": later}).keys() == left
    del config["base_crc32"]  # of before there were any
    assert stands() and not stands(lr=0.5)


def test_the_page_and_the_bases_are_those_of_the_kept_runs(monkeypatch):
    monkeypatch.chdir(ROOT / "results")
    drawn = [name for name in claims.PICTURES if os.path.exists(f"{name}.png")]
    monkeypatch.chdir(ROOT)
    with open("results/README.md") as f:
        text = f.read()
    assert text == claims.page(cells.finished(CELLS), drawn)
    assert {*re.findall(r"!\[.*\]\((\w+)\.png\)", text)} == {*drawn}, "pictures that are not shown, or not there"
    for name in os.listdir(cells.BASES):
        width = 90 if name == "base_wide" else 64
        assert CELLS[name].is_base and load_pretrained(f"{cells.BASES}/{name}").config.width == width
        assert os.path.exists(f"{cells.BASES}/{name}/tokenizer.json")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("results")
    return tmp_path


ALL = {claim.words: claim for claim in [*claims.CLAIMS, *claims.LARGER, *claims.BEYOND]}


def words(records):
    return {name: claims.weigh(claim, records).word for name, claim in ALL.items()}


def test_without_results_nothing_is_claimed(place):
    assert set(words({}).values()) == {"not run"}
    (place / "results/stages.png").touch()
    assert f"0 of {len(CELLS)} runs" in claims.page({}, []) and claims.draw({}) == []
    assert os.listdir("results") == [], "pictures of runs that do not stand any more go"


class Watched(dict):
    """Which of its keys have been asked for?"""

    def __init__(self, *args):
        super().__init__(*args)
        self.asked = set()

    def __contains__(self, key):
        self.asked.add(key)
        return super().__contains__(key)

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)


def test_every_claim_names_the_cells_that_it_reads_and_every_cell_is_read():
    everything = set()
    for claim in ALL.values():
        claims.weigh(claim, records := Watched(make_world()))
        asked, named = records.asked & CELLS.keys(), {cell.name for cell in claims.cells_of(claim)}
        assert asked == named, claim.words
        everything |= asked
    started = {name for name in CELLS if CELLS[name].is_base or re.match("statements_|sums_|small_base", name)}
    assert CELLS.keys() - everything == started


def test_latents_are_read_of_cells_whose_latents_are_looked_at():
    world = {name: record | {"latents": Watched(LATENTS)} for name, record in make_world().items()}
    words(world)
    read = {name for name, record in world.items() if record["latents"].asked}
    assert read and all(CELLS[name].analysis for name in read)


# A world in which the paper is right: the first pattern that a cell's name has says what came of it.
PPL = {"wide|twice": 19, "_continued": 23, "_soft": 20.5, "_pause": 21.5, "_liu": 24, "_h1": 22}
PPL |= {"latents.*_1_": 20.5, "latents.*_8_": 19.5, "_h2": 20, "": 25}
RIGHT = {
    "resume_prosqa_cont": 93, "resume_prosqa": 85, "figure8.*resumed_3": 70, "figure8.*resumed_4": 40, "figure8.*_3_": 55,
    "figure8": 20, "countdown_no_cot": 2, "countdown_soft_3": 55, "orthogonal.*_3_": 70, "orthogonal": 25,
    "countdown.*_3_": 55, "countdown": 8, "prosqa_no_cot": 55, "prosqa_no_thought": 60, "(liu|h1)": 50, "": 95,
}  # fmt: skip
SILHOUETTE = {"orthogonal": 0.9, "countdown": 0.3, "": -0.1}
CAPTURE = {"orthogonal": 0.5, "": 0.9}
LATENTS = dict(off_diagonal=0.5, chance=dict(tokens=0.6), silhouette=0.0)
LATENTS["meddling"] = {"untouched": 9.0, "swapped": 9.0, "none": 9.0}  # they carry nothing


def make_world(changes=()):
    """-> {cell: its record}"""
    tables, records = [dict(changes) | table for table in (PPL, RIGHT, SILHOUETTE, CAPTURE)], {}
    for name in CELLS:
        ppl, right, silhouette, capture = (next(x for pattern, x in t.items() if re.search(pattern, name)) for t in tables)
        noise = sum(map(int, re.findall(r"_s(\d+)$", name))) / 1000
        tokens = 10**6 * (5 if name.startswith("long") else 1 if name.startswith("short") else 2)
        last = dict(tokens=tokens, val_ppl=ppl + noise, test_accuracy=right / 100 + noise)
        config = dict(re.findall(r"--(init_from|seed)=(\S+)", CELLS[name].command))
        records[name] = dict(
            name=name, config=config, seconds=60, asked=1000, metrics=[{"tokens": 0, "val_ppl": 50 + noise}, last]
        )
        if CELLS[name].analysis:
            text = re.search("^(figure2|latents|statements)", name)
            meddling = {"untouched": 20 if text else 90, "swapped": 30 + noise, "none": 40 if text else 10}
            found = dict(
                off_diagonal=capture, chance=dict(tokens=0.5 + noise), silhouette=silhouette + noise, meddling=meddling
            )
            records[name]["latents"] = found
    return records


def test_where_the_paper_is_right_its_claims_hold(place):
    world = make_world()
    assert set(words(world).values()) == {"holds"}, words(world)
    claims.overview(world.values(), "overview.png")
    assert os.path.getsize("overview.png") > 10_000


def test_the_page_opens_with_a_dozen_rows_that_lead_to_their_details():
    text = claims.page(make_world(), ["overview", "figure8"])
    first, larger, beyond = re.split("The first three claims again|Beyond the paper", text.split("# Details")[0])
    assert first.count("\n| ") == len(claims.CLAIMS) + 1 <= 13
    assert larger.count("\n| ") == len(claims.LARGER) + 1 and beyond.count("\n| ") == len(claims.BEYOND) + 1
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert [heading.partition(". ")[2] for heading in headings] == [*ALL]
    # GitHub: lower case, no punctuation, hyphens for spaces
    places = ["".join(x for x in heading.lower().replace(" ", "-") if x.isalnum() or x in "-_") for heading in headings]
    assert re.findall(r"\]\(#(.*?)\)", text) == places
    assert "overview.png" not in claims.page(make_world(), [])
    assert text.index("(overview.png)") < text.index("# Details") < text.index("(figure8.png)") and "(stages.png)" not in text


@pytest.mark.parametrize(
    "pattern, value, refuted",
    [
        ("figure2_gpt2_liu", 19, "Training both"),
        ("figure2_gpt2_h1", 19, "Training both"),
        ("figure2_gpt2_soft", 22, "One model with soft"),
        ("figure2_gpt2_continued", 19, "The pair beats plain"),
        ("latents_gpt2_h2_8", 20.4, "More latents lower"),
        ("latents_gpt2_h2_1", 19, "More latents lower"),
        ("wide_gpt2_soft", 20.2, "One model of the pair's size"),
        ("^prosqa_soft", 70, "On ProsQA one model"),
        ("^prosqa_coconut", 70, "On ProsQA one model"),
        ("^countdown_no_cot_3", 80, "Latents help to answer"),
        ("^countdown_h2_3_16", 68, "More latents hardly"),
        ("resume_prosqa_curriculum", 99, "Large-scale training first hurts"),
        ("figure8_countdown_resumed_3", 40, "Large-scale training first helps"),
        ("figure8_countdown_h1_3", 80, "Large-scale training first helps"),
        ("^latents_gpt2_h2_8", 0.4, "Latents crowd"),
        ("orthogonal_countdown_3_0.1", 45, "A penalty on overlap"),
    ],
)
def test_a_claim_is_refuted_where_the_numbers_say_so(pattern, value, refuted):
    (word,) = [word for claim, word in words(make_world({pattern: value})).items() if claim.startswith(refuted)]
    assert word == "does not hold"


def test_a_control_that_is_no_better_than_what_it_controls_tells_nothing():
    size = ALL["One model of the pair's size is better"]
    badly_trained = {"twice_gpt2_soft": 21}  # above h2, but no better than the small model with soft tokens either
    assert claims.weigh(size, make_world(badly_trained)).word == claims.BROKEN
    assert claims.weigh(size, make_world(badly_trained | {"wide_gpt2_soft": 20.2})).word == "does not hold", (
        "the other control works"
    )
    world = make_world()
    world["twice_gpt2_soft_s2"]["metrics"][-1]["val_ppl"] = 25
    assert claims.weigh(size, world).word == "cannot be told", "whether the control works cannot be told"
    world = make_world()
    world["figure2_gpt2_soft_s1"]["metrics"][-1]["val_ppl"] = 19.1
    found = claims.weigh(size, world)
    assert found.word == "cannot be told" and found.would_tell, "more runs would tell whether it works"
    del world["twice_gpt2_soft_s2"]
    assert claims.weigh(size, world).word == "not run"


def test_seeds_that_disagree_tell_nothing_and_the_page_says_what_would():
    world = make_world()
    for s in (1, 2, 3):
        world[f"figure2_gpt2_continued_s{s}"]["metrics"][-1]["val_ppl"] = (19.5, 20.5, 21.5)[s - 1]
    found = claims.weigh(ALL["The pair beats plain continued pretraining"], world)
    d = [100 * math.log((20 + s / 1000) / (18.5 + s)) for s in (1, 2, 3)]  # more seeds that are like these three
    more = next(m for m in range(4, 99) if abs(np.mean(d)) > stats.t.ppf(0.975, m - 1) * np.std(d, ddof=1) / m**0.5) - 3
    minutes = more * sum(CELLS[f"figure2_gpt2_{v}_s1"].minutes for v in ("h2", "continued"))
    assert found.word == "cannot be told" and found.would_tell == f"{minutes / 60:.1f} core-hours"
    place = "#3-the-pair-beats-plain-continued-pretraining"
    assert f"**[cannot be told]({place})**; {found.would_tell} would tell" in claims.page(world, [])


def test_what_would_tell():
    assert claims.seeds_to_tell(1, 4, 0, 3, 1) == 15, "1 > 2.1098 * 2 / sqrt(18), but not 2.1199 * 2 / sqrt(17)"
    # 1.96 * sqrt(0.3) is more than 1: ten times as many questions, of up to nine seeds
    assert claims.seeds_to_tell(1, 1.4, 0.3, 3, 1) == claims.QUESTIONS, "2.3060 * sqrt(1.4 / 9 + 0.03) = 0.99"
    assert claims.seeds_to_tell(1, 1.5, 0.3, 3, 1) == claims.NOTHING, "2.3060 * sqrt(1.5 / 9 + 0.03) = 1.02"
    assert claims.seeds_to_tell(0, 4, 0, 3, 1) == claims.seeds_to_tell(0.01, 4, 0, 3, 1) == claims.NOTHING
    h2, resumed = "countdown_h2_3_4", "figure8_countdown_resumed_3"
    minutes = [CELLS[f"{name}_s1"].minutes for name in (h2, resumed, "sums_h2")]
    assert (
        claims.what_would_tell({h2: [3, 30], resumed: [60]})
        == f"{(30 * minutes[0] + 60 * sum(minutes[1:])) / 60:.1f} core-hours"
    )
    assert claims.what_would_tell({h2: [3000]}) == "more than 100 core-hours"
    assert claims.what_would_tell({"small_gpt2_h2": [6]}) == f"{CELLS['small_gpt2_h2_s1'].minutes / 10:.1f} GPU-hours"
    assert claims.what_would_tell({h2: [claims.QUESTIONS]}) == "more questions"
    assert claims.what_would_tell({h2: [3, claims.QUESTIONS]}) == f"more questions and {3 * minutes[0] / 60:.1f} core-hours"
    assert claims.what_would_tell({h2: [claims.QUESTIONS], resumed: [claims.NOTHING]}) == "no number of runs like these"


def test_runs_from_different_bases_are_not_compared():
    def told(claim, **checksums):
        """What comes of the claim if those runs, and no others, have a checksum"""
        world = make_world()
        for name, base_crc32 in checksums.items():
            world[name]["config"] = world[name]["config"] | {"base_crc32": base_crc32}
        return claims.weigh(ALL[claim], world).word

    joint, helps = "Training both models beats freezing the Base", "Large-scale training first helps Countdown"
    runs = [f"figure2_gpt2_{v}_s{s}" for v in ("h2", "h1", "liu", "continued") for s in (1, 2, 3)]
    assert told(joint) == told(joint, **dict.fromkeys(runs, 1)) == "holds"
    assert told(joint, **dict.fromkeys(runs[1:], 1)) == "not the same Base", "one run is from before there were checksums"
    assert told(joint, **dict.fromkeys(runs, 1) | {runs[2]: 2}) == "not the same Base", "also of another seed"
    assert told(helps, figure8_countdown_resumed_3_s1=1) == "holds", "Bases are compared by design"
    assert told(helps, figure8_countdown_h1_3_s1=1) == "not the same Base", "but h1 and h2 start from the same sums"
    world = make_world()
    world["figure2_gpt2_liu_s1"]["config"]["init_from"] = "results/bases/base_once"
    assert claims.weigh(ALL[joint], world).word == "not the same Base", "another Base, whatever its checksum"
    random = {f"random_gpt2_{v}_s{s}": s for v in ("h2", "continued") for s in (1, 2)}
    plain = ALL["The pair beats plain continued pretraining"]
    world = make_world()
    for name, base_crc32 in random.items():
        world[name]["config"] |= {"base_crc32": base_crc32, "init_from": "random:tiny_gpt2"}
    assert not any(claims.NOT_THE_SAME in line for line in claims.weigh(plain, world).table), "every seed draws its own"


def test_intervals_and_words():
    world, group = make_world(), claims.Group(dict(a="figure2_gpt2_h2", b="figure2_gpt2_soft"), "a < b", measure="perplexity")
    for name, values in (("h2", (10, 12, 14)), ("soft", (11, 12.5, 16))):
        for s, value in enumerate(values, start=1):
            world[f"figure2_gpt2_{name}_s{s}"]["metrics"][-1]["val_ppl"] = value
    d = 100 * np.log([10 / 11, 12 / 12.5, 14 / 16])
    half = 4.30265273 * d.std(ddof=1) / math.sqrt(3)
    percent = 100 * math.expm1(d.mean() / 100), math.exp(d.mean() / 100) * half
    assert claims.compare(world, group, "a", "<", "b", 0.0).told == "{:+.1f} ± {:.1f} % perplexity (3)".format(*percent)
    words = ["holds", "cannot be told", "does not hold"]
    assert [claims.verdict(d) for d in ((-2, 1), (-1, 2), (2, 1))] == words
    assert [claims.verdict(d, ">") for d in ((2, 1), (-1, 2), (-2, 1))] == words
    assert [claims.verdict(d, "<", 3) for d in ((1, 1), (3, 1), (5, 1))] == words
    assert [claims.verdict(d, ">", 3) for d in ((5, 1), (3, 1), (1, 1))] == words
    h2, soft = ([world[f"figure2_gpt2_{v}_s{s}"]["metrics"][-1] for s in (1, 2, 3)] for v in ("h2", "soft"))

    def apart(sign, *logs):
        """h2 is so far above soft, in 100 log: is it so by 5 %?"""
        for a, b, d in zip(h2, soft, logs, strict=True):
            a["val_ppl"] = b["val_ppl"] * math.exp(d / 100)
        return claims.compare(world, group, "a", sign, "b", 5.0 if sign == "=" else 0.0).word

    equal = [apart("=", x, x + 0.02, x - 0.02) for x in (4.5, -4.5, -5.0, 5.0, 9, -9)]
    assert equal == ["holds"] * 3 + ["does not hold"] * 3, "log 1.05 is 0.0488, log 0.95 is -0.0513"
    assert apart("=", 3, 5, 7) == "cannot be told"
    assert apart("<", -13 + 5.43, -13, -13 - 5.43) == "cannot be told", "-13 ± 13.5; in percent it would be -12.2 ± 11.9"
    assert claims.together(["holds", "cannot be told"]) == "cannot be told" and claims.together(["holds"]) == "holds"
    assert claims.together(["holds", "does not hold", "cannot be told"]) == "does not hold"
    assert claims.together(["not run", "does not hold"]) == "does not hold"
    assert claims.together(["not run", "holds"]) == "not run"
    del world["figure2_gpt2_soft_s1"], world["figure2_gpt2_h2_s2"]
    assert claims.compare(world, group, "a", "<", "b", 0.0).word == "not run", "a single pair has no interval"


def test_comparisons_are_read_as_they_are_written():
    written = "h2 < liu; soft = h2 ± 5; 3 operands > 4 operands + 10; wide soft < a - 5; x > 0.1"
    assert claims.Group({}, "", also=written).tests("also") == [
        ("h2 < liu", "h2", "<", "liu", 0), ("soft = h2 ± 5", "soft", "=", "h2", 5),
        ("3 operands > 4 operands + 10", "3 operands", ">", "4 operands", 10), ("wide soft < a - 5", "wide soft", "<", "a", -5),
        ("x > 0.1", "x", ">", "0.1", 0),
    ]  # fmt: skip
    for group in (group for claim in ALL.values() for group in claim.groups):
        for _, a, sign, b, limit in (test for role in ("must", "unless", "also") for test in group.tests(role)):
            assert a in group.runs and (b in group.runs or re.fullmatch(r"[\d.]+", b)) and (sign != "=" or limit > 0)
            assert group.measure != claims.ARRIVE or sign in "<>" and not limit, "Fisher's test has no limit"


def test_welch_has_the_values_of_the_textbook():
    a, b = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0]
    mean, half = claims.welch(a, b)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert (mean, half) == pytest.approx((-3, stats.t.ppf(0.975, 4 / (1 / 18 + 25 / 27)) * math.sqrt(1 / 3 + 5 / 3)))
    with pytest.raises(ValueError, match="a single seed"):
        claims.welch([1.0], b)


def test_how_many_runs_get_there_has_the_values_of_the_textbooks():
    assert claims.share(0, 10) == (0.0, pytest.approx(0.3084971)), "1 - 0.025 ** (1 / 10)"
    low, high = claims.share(7, 9)  # at its ends 7 or more, and 7 or fewer, of 9 come up in 2.5 %
    assert stats.binom.sf(6, 9, low) == pytest.approx(0.025) and stats.binom.cdf(7, 9, high) == pytest.approx(0.025)
    assert claims.fisher(3, 4, 1, 4) == pytest.approx(34 / 70), "the lady who tastes tea, from both sides"
    assert claims.fisher(10, 10, 5, 10) == pytest.approx(2 * 252 / 15504), "C(10, 5) of C(20, 5) ways, twice"
    all_of, half, none = [True] * 6, [True, False] * 3, [False] * 6
    assert claims.compare_shares(all_of, none, ">") == ("6 of 6 runs against 0 of 6 (p = 0.0022)", "holds", 0)
    assert claims.compare_shares(all_of, none, "<").word == "does not hold"
    found = claims.compare_shares(half, none, ">")
    assert found.word == "cannot be told" and found.more == 6 and claims.fisher(6, 12, 0, 12) < 0.05 < claims.fisher(3, 6, 0, 6)
    assert claims.compare_shares(half, half, ">")[1:] == ("cannot be told", claims.NOTHING)
    found = words(make_world({"^prosqa_(h1|no_cot|no_th)": 95, "^prosqa_h2": 60}))
    assert found["On ProsQA, too, the Base must learn"] == found["Latents help to answer"] == "does not hold"


def test_the_noise_of_the_questions_widens_an_interval():
    """Seeds that agree leave the two shares' own errors; few questions drown the seeds, many add nothing."""
    same = claims.welch([50.0, 50.0], [60.0, 60.0], asked=400)
    assert same == pytest.approx((-10, 1.95996398 * 100 * math.sqrt(0.25 / 400 + 0.24 / 400)))
    a, b = [50.0, 52.0, 51.0], [60.0, 61.0, 64.0]
    few, many, plain = (claims.welch(a, b, asked)[1] for asked in (100, 10**9, None))
    assert few > 10 > plain and many == pytest.approx(plain, rel=1e-5)
    assert claims.welch([50.0, 50.0], [60.0, 60.0]) == (-10, 0)


def test_the_trend_names_the_budget_where_the_curves_would_cross():
    world, points = make_world(), []
    for budget, gap in (("short", 3.0), ("figure2", 2.0), ("long", 2.0 - math.log2(2.5))):  # 1 % a doubling, from 2M on 2 %
        for name in (name for name in world if name.startswith(f"{budget}_gpt2_h2")):
            other = world[name.replace("h2", "continued")]["metrics"][-1]
            wobble = 0.5 if name.endswith("1") else -0.5
            world[name]["metrics"][-1] |= dict(val_ppl=other["val_ppl"] * math.exp((gap + wobble) / 100))
            points.append((math.log2(other["tokens"]), gap + wobble))
    (line,) = claims.trend(world)
    x, y = np.array(points).T
    a = np.stack([np.ones(len(x)), x], axis=1)
    (fit, (residue,), *_), cov = np.linalg.lstsq(a, y, rcond=None), np.linalg.inv(a.T @ a)
    cov *= residue / (len(x) - 2)
    at = np.linspace(x.min(), x.max() + 9, 100_000)  # where the line's interval has zero in it
    line_at = np.stack([np.ones(len(at)), at], axis=1)
    half = stats.t.ppf(0.975, len(x) - 2) * np.sqrt(np.einsum("ni,ij,nj->n", line_at, cov, line_at))
    crosses = 2 ** at[np.abs(line_at @ fit) < half] / 1e6
    low, high = f"{crosses[0]:,.0f}M", f"{crosses[-1]:,.0f}M"
    assert low != high and f"meets zero between {low} and {high} tokens, where the longest run has 5M" in line
    assert f"changes by {fit[1]:+.2f} ± " in line
    for name in world:
        if re.match("(short|figure2|long)_gpt2_h2", name):
            world[name]["metrics"][-1]["val_ppl"] = world[name.replace("h2", "continued")]["metrics"][-1]["val_ppl"] * 1.02
    assert "no budget can be named" in claims.trend(world)[0]
    assert claims.trend({}) == []


def test_latents_that_are_strangers_and_carry_nothing():
    world = {name: record | {"latents": LATENTS} for name, record in make_world().items()}
    found = words(world)
    assert found["Latents crowd into one subspace"] == "does not hold"
    assert found["The Base reads what a message says"] == "does not hold"
    assert found["Any message is better than none"] == "cannot be told"
    for record in world.values():
        record["latents"] = dict(off_diagonal=0.9, null=0.3)  # of before ordinary tokens were looked at
    assert claims.weigh(ALL["Latents crowd into one subspace"], world).word == "not run"


# -----------------------------------------------------------------------------
# The runner


def test_cells_run_after_what_they_start_from_and_failures_are_told(place, monkeypatch):
    starts = {"b": "", "c": "b", "d": "", "e": "d", "f": "c"}
    few = {name: cells.Cell(name, 1, f"train.py --init_from=out/paper/{start}") for name, start in starts.items()}
    ran = []

    def run_cell(cell, commit):
        ran.append(cell.name)
        if cell.name == "d":
            raise RuntimeError("no room")
        with cells.LOCK:
            record = {"name": cell.name, "config": vars(config_of(cell))}
            write_lines(cells.RECORDS, [*cells.read_records().values(), record])

    monkeypatch.setattr(cells, "run_cell", run_cell)
    monkeypatch.setattr(cells, "DATA", "")

    def go(names):
        ran.clear()
        return cells.run_all(cells.unfinished(few, [few[name] for name in names]), 2)

    assert [cell.name for cell in cells.unfinished(few, [few[name] for name in "ecbd"])] == ["d", "b", "e", "c"], "Bases first"
    failed = go("ecbd")
    assert failed.keys() == {"d", "e"} and "no room" in failed["d"] and "starts from failed" in failed["e"]
    assert sorted(ran) == ["b", "c", "d"] and ran.index("b") < ran.index("c")
    assert go("bc") == {} and ran == [], "finished cells are skipped"
    assert go("f") == {} and ran == ["b", "c", "f"], "what others start from is resumed or made again, in order"
    os.remove(cells.RECORDS)
    random_model("tiny_gpt2_once", 8).save_pretrained(f"{cells.BASES}/b")
    assert go("f") == {} and ran == ["c", "f"], "a Base whose weights are kept is not made again"
    assert go("b") == {} and ran == ["b"], "but where its own line is gone"


def test_only_what_this_machine_can_run_and_the_data_that_it_reads(place, monkeypatch, capsys):
    ran = []
    shutil.copytree(ROOT / "config", "config")
    monkeypatch.setattr(cells, "run", lambda command, log: ran.append(command))
    monkeypatch.setattr(cells, "run_cell", lambda cell, commit: ran.append(cell.name))
    for has_gpu, begin in ((False, []), (True, ["data.py sample --packages --vocab_size=8192", "small_base"])):
        monkeypatch.setattr(cells.runtime, "cuda_available", lambda has_gpu=has_gpu: has_gpu)
        monkeypatch.setattr(sys, "argv", ["cells.py", "--only=small_gpt2_h2", "--workers=1"])
        ran.clear()
        cells.main()
        assert ran == begin + [f"small_gpt2_h2_s{s}" for s in (1, 2, 3)] * has_gpu
    assert capsys.readouterr().out.startswith("4 cells want a GPU, and there is none: left out\n0 cells, nothing to do")


@pytest.mark.parametrize("loss, same", [(2.0001, True), (2.1, False)])
def test_a_run_that_is_made_again_is_compared_with_the_kept_one(place, monkeypatch, capsys, loss, same):
    cell = cells.Cell("base", 1, "train.py --lr=1")
    record = dict(name="base", config=vars(config_of(cell)), metrics=[{"step": 1, "loss": 2.0}], seconds=7)
    write_lines(cells.RECORDS, [record])
    ran = []

    def run(command, log):
        ran.append(command)
        os.makedirs("out/paper/base/checkpoint/base", exist_ok=True)
        random_model("tiny_gpt2_once", 8).save_pretrained("out/paper/base/checkpoint/base")
        for name in ("config", "checkpoint/state", "tokenizer"):
            (place / f"out/paper/base/{name}.json").write_text("{}")
        lines = [{"step": 1, "loss": loss}, {"step": 1, "test_accuracy": 0.5}]
        write_lines("out/paper/base/metrics.jsonl", lines)

    monkeypatch.setattr(cells, "run", run)
    if same:
        cells.run_cell(cell, "abc")
        assert "within 5e-05 of the kept run's" in capsys.readouterr().out
        (line,) = cells.read_records().values()
        assert line["weights"] == "last loss within 5e-05" and line["seconds"] == 7 and line["metrics"][0]["loss"] == 2.0
        for name in ("config.json", "model.safetensors"):
            made = place / "out/paper/base/checkpoint/base" / name
            assert (place / cells.BASES / "base" / name).read_bytes() == made.read_bytes()
        cells.run_cell(cell, "abc")
        assert ran == ["train.py --lr=1 --overwrite", "train.py --lr=1 --resume"]
    else:
        with pytest.raises(RuntimeError, match=r"2.100000, the kept run's 2.000000"):
            cells.run_cell(cell, "abc")
        assert not os.path.exists(cells.BASES), "weights that are not the kept run's are not kept"


def test_a_base_and_what_starts_from_it_are_run_and_kept(place, monkeypatch):
    make_shards("corpus", [3000])
    make_shards("corpus", [600], split="val")
    train_tokenizer(["a few words"], 300, "corpus/tokenizer.json")
    monkeypatch.setattr(cells, "DATA", "")
    small = "--seq_len=32 --n_sites=2 --n_ahead=4 --eval_rows=4 --tokens_per_step=128 --batch_size=4 --tokens=256"
    rows = """
    late_{soft,liu}_s{1,2}  1  --init_from=results/bases/start --n_latents=2 --variant=$1 --seed=$s
    start                   1  --init_from=random:tiny_gpt2 --variant=continued"""
    monkeypatch.setattr(cells, "CELLS", f"{ROOT}/train.py --data=corpus {small}{rows}")
    few = cells.all_cells()
    assert [*few] == ["late_soft_s1", "late_soft_s2", "late_liu_s1", "late_liu_s2", "start"]
    assert cells.run_all(cells.unfinished(few, [few["late_liu_s2"]]), 2) == {}
    records = cells.read_records()
    late, start = records["late_liu_s2"], records["start"]
    assert late["command"].split()[-7:] == [
        "--init_from=results/bases/start", "--n_latents=2", "--variant=liu", "--seed=2", "--device=cpu", "--precision=fp32",
        "--out_dir=out/paper/late_liu_s2",
    ]  # fmt: skip
    assert late["metrics"][0]["val_ppl"] != start["metrics"][0]["val_ppl"] and late["family"] == "gpt2"
    assert start["metrics"][-1]["step"] == 2 and os.listdir(cells.BASES) == ["start"]
    # what was run by hand is taken in as it is
    os.remove(cells.RECORDS)
    shutil.rmtree(cells.BASES)
    assert cells.run_all([few["start"]], 1) == {}
    assert cells.read_records()["start"] == start and os.listdir(cells.BASES) == ["start"]
