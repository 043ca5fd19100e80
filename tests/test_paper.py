"""The laptop's version of the paper: every cell can be started, and the page says what the cells' metrics say."""

import dataclasses
import importlib
import math
import os
import re
import shutil

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
        assert cell.minutes <= (60 if cell.is_base else 40), "a Base is trained once, and its weights are kept"
        if c.init_from.startswith("random:"):
            assert not cell.start
        else:
            where, start = re.fullmatch(STARTS, c.init_from).groups()
            assert start == cell.start and CELLS[start].is_base == (where == "results/bases")
    assert len(CELLS) == 398 == len({cell.command.replace(cell.name, "") for cell in CELLS.values()}), "a cell is run twice"
    bases = {name for name, cell in CELLS.items() if cell.is_base}  # their weights are kept, and no others'
    text = {f"base_{size}" for size in ("gpt2", "qwen3", "twice", "wide", "once")}
    assert bases == text | {"statements", "worded", "sums"}
    assert sum(cell.minutes for cell in CELLS.values()) / 2 < 20 * 60, "more than 20 hours on two cores"


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
            then[key] = was if then[key] == "auto" else then[key]
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
    assert not (stands(tokens=1) or stands(init_from="out/paper/base_once") or stands(base_crc32=1))
    del config["base_crc32"]  # of before there were any
    assert stands() and not stands(lr=0.5)


def test_the_page_and_the_bases_are_those_of_the_kept_runs(monkeypatch):
    monkeypatch.chdir(ROOT / "results")
    drawn = [name for name in claims.PICTURES if os.path.exists(f"{name}.png")]
    monkeypatch.chdir(ROOT)
    with open("results/README.md") as f:
        assert f.read() == claims.page(cells.finished(CELLS), drawn)
    for name in os.listdir(cells.BASES):
        width = 90 if name == "base_wide" else 64
        assert CELLS[name].is_base and load_pretrained(f"{cells.BASES}/{name}").config.width == width
        assert os.path.exists(f"{cells.BASES}/{name}/tokenizer.json")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("results")
    return tmp_path


def words(records):
    return {row.claim: claims.weigh(row, records)[1] for row in claims.TABLE}


def test_without_results_nothing_is_claimed():
    assert set(words({}).values()) == {"not run", "cannot be told"}  # Table 1 cannot, at this size
    assert f"0 of {len(CELLS)} cells" in claims.page({}, []) and claims.draw({}) == []


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


UNTOLD = """figure2_.*_pause long_.*_pause long_.*_liu long_.*_h1 random once wide twice_gpt2_continued
    prosqa_pause prosqa_no_thought resume_.*_literal countdown_pause orthogonal""".split()  # cells that no row reads yet


def test_every_row_names_the_cells_that_it_reads():
    everything = set()
    for row in claims.TABLE:
        claims.weigh(row, records := Watched(make_world()))
        named = {name for name in CELLS if row.cells and name.startswith(tuple(row.cells.split(",")))}
        asked = {re.sub(r"_s\d+$", "_s1", name) for name in records.asked}  # some have more seeds than others
        assert asked <= CELLS.keys() and records.asked & CELLS.keys() <= named, row.claim
        everything |= records.asked
    starts = {cell.start for cell in CELLS.values()} - {""}
    untold = CELLS.keys() - everything - starts
    assert untold == {name for name in CELLS if any(re.match(pattern, name) for pattern in UNTOLD)}


def test_latents_are_read_of_cells_whose_latents_are_looked_at():
    world = {name: record | {"latents": Watched(LATENTS)} for name, record in make_world().items()}
    words(world)
    read = {name for name, record in world.items() if record["latents"].asked}
    assert read and all(CELLS[name].analysis for name in read)


# A world in which the paper is right: the first pattern that a cell's name has says what came of it.
PPL = {"_continued": 23, "_soft": 21, "_liu": 24, "_h1": 22, "latents.*_1_": 20.1, "latents.*_4_": 19.9, "latents.*_8_": 19.8}
PPL |= {"_h2": 20, "": 25}
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
LATENTS = dict(off_diagonal=0.5, chance=dict(tokens=0.6), silhouette=0.0)
LATENTS["meddling"] = {"untouched": 9.0, "swapped": 9.0, "none": 9.0}  # they carry nothing


def make_world(changes=()):
    """-> {cell: its record}"""
    tables, records = [dict(changes) | table for table in (PPL, RIGHT, SILHOUETTE)], {}
    for name in CELLS:
        ppl, right, silhouette = (next(x for pattern, x in t.items() if re.search(pattern, name)) for t in tables)
        noise = int(name.rpartition("_s")[2]) / 1000 if not CELLS[name].is_base else 0
        last = dict(tokens=10**6, val_ppl=ppl + noise, test_accuracy=right / 100 + noise)
        last |= dict(passes_to_answer=5 if "coconut" in name else 3, seconds_to_answer=0.1)
        records[name] = dict(name=name, config={}, seconds=60, metrics=[{"tokens": 0, "val_ppl": 50.0}, last])
        if CELLS[name].analysis:
            text = re.search("^(figure2|latents|statements)", name)
            meddling = {"untouched": 20 if text else 90, "swapped": 30 + noise, "none": 40 if text else 10}
            found = dict(off_diagonal=0.9, chance=dict(tokens=0.5 + noise), silhouette=silhouette + noise, meddling=meddling)
            records[name]["latents"] = found
    return records


def test_where_the_paper_is_right_its_claims_hold(place):
    world = make_world()
    found = words(world)
    assert found.pop("10. Table 1: h2 is above continued pretraining on the five benchmarks") == "cannot be told"
    assert set(found.values()) == {"holds"}, found
    claims.overview(world.values(), "overview.png")
    assert os.path.getsize("overview.png") > 10_000
    assert "holds 24, cannot be told 1.**" in claims.page(world, []), "rows that were tried, or go beyond, are counted apart"


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
        ("plain_prosqa_coconut", 50, "4c."),
        ("^prosqa_h2_c1", 50, "5."),
        ("^prosqa_soft_c1", 50, "5b."),
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
        ("plain_prosqa_h1", 55, "11c."),
        ("patient_prosqa_coconut", 50, "11d."),
        ("patient_prosqa_h2", 50, "11e."),
        ("^prosqa_no_cot", 99, "3c."),
        ("patient_prosqa_no_thought", 94, "11h."),
        ("patient_prosqa_h1", 94, "4d."),
    ],
)
def test_a_claim_is_refuted_where_the_numbers_say_so(pattern, value, refuted):
    (word,) = [word for claim, word in words(make_world({pattern: value})).items() if claim.startswith(refuted)]
    assert word == "does not hold"


def test_seeds_that_disagree_tell_nothing():
    world = make_world()
    for s in (1, 2, 3):
        world[f"figure2_gpt2_continued_s{s}"]["metrics"][-1]["val_ppl"] = (21, 23, 25)[s - 1]
    assert words(world)["1. Perplexity, GPT-2: h2 < soft < h1 < continued < liu"] == "cannot be told"


def test_runs_from_different_bases_are_not_compared():
    def told(row, **checksums):
        world = make_world()
        for name, base_crc32 in checksums.items():
            world[name]["config"] = {"base_crc32": base_crc32}
        (row,) = [x for x in claims.TABLE if x.claim.startswith(row)]
        return claims.weigh(row, world)

    assert told("11j.", prosqa_h2_s1=1)[1] == "holds", "a run beside itself"
    assert told("3c.", prosqa_h2_s1=1, prosqa_no_cot_s1=1)[1] == "holds"
    for checksums in (dict(prosqa_h2_s1=1, prosqa_no_cot_s1=2), dict(prosqa_h2_s1=1)):  # the other has none
        lines, word, _ = told("3c.", **checksums)
        assert word == "not the same Base" and lines == ["h2 - no_cot: not the same Base"]
    assert told("11c.", plain_prosqa_no_cot_s2=3)[1] == "not the same Base", "also where differences are compared"
    assert told("7. ", resume_prosqa_curriculum_s1=1)[1] == "holds", "by design"


def test_intervals_and_words():
    a, b = {1: 1.0, 2: 2.0, 3: 4.0, 9: 0.0}, {1: 2.0, 2: 2.5, 3: 6.0}
    mean, half = claims.paired(a, b)
    d = np.array([-1, -0.5, -2])
    assert mean == pytest.approx(d.mean()) and half == pytest.approx(4.30265273 * d.std(ddof=1) / math.sqrt(3))
    assert claims.paired({1: 1.0}, {1: 2.0}) is None
    apart = ["holds", "cannot be told", "does not hold", "not run"]
    assert [claims.verdict(d) for d in ((-2, 1), (-1, 2), (2, 1), None)] == apart
    assert [claims.verdict(d, ">") for d in ((2, 1), (-1, 2), (-2, 1), None)] == apart
    assert [claims.verdict(d, "<", 3) for d in ((1, 1), (3, 1), (5, 1))] == ["holds", "cannot be told", "does not hold"]
    assert [claims.verdict(d, ">", 3) for d in ((5, 1), (3, 1), (1, 1))] == ["holds", "cannot be told", "does not hold"]
    found = [claims.verdict(d, "=", 3) for d in ((-1, 1), (-9, 1), (9, 1), (0, 4), None)]
    assert found == ["holds", "does not hold", "does not hold", "cannot be told", "not run"]
    assert claims.together(["holds", "cannot be told"]) == "cannot be told" and claims.together(["holds"]) == "holds"
    assert claims.together(["holds", "does not hold", "cannot be told"]) == "does not hold"
    assert claims.together(["not run", "does not hold"]) == "does not hold"
    assert claims.together(["not run", "holds"]) == "not run"


def test_statistics_have_the_values_of_the_textbooks():
    assert claims.share(0, 10) == (0.0, pytest.approx(0.3084971)), "1 - 0.025 ** (1 / 10)"
    assert claims.share(8, 10) == pytest.approx((0.4439045, 0.9747893))
    low, high = claims.share(7, 9)  # at its ends 7 or more, and 7 or fewer, of 9 come up in 2.5 %
    assert stats.binom.sf(6, 9, low) == pytest.approx(0.025) and stats.binom.cdf(7, 9, high) == pytest.approx(0.025)
    assert claims.fisher(3, 4, 1, 4) == pytest.approx(34 / 70), "the lady who tastes tea, from both sides"
    assert claims.fisher(10, 10, 5, 10) == pytest.approx(2 * 252 / 15504), "C(10, 5) of C(20, 5) ways, twice"
    assert claims.fisher(3, 10, 3, 10) == pytest.approx(1)
    a, b = [1.0, 2.0, 3.0], [2.0, 4.0, 6.0, 8.0]
    mean, half = claims.welch(a, b)
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert (mean, half) == pytest.approx((-3, stats.t.ppf(0.975, 4 / (1 / 18 + 25 / 27)) * math.sqrt(1 / 3 + 5 / 3)))
    with pytest.raises(ValueError, match="a single seed"):
        claims.welch([1.0], b)


def test_the_noise_of_the_questions_widens_an_interval():
    """Seeds that agree leave the two shares' own errors; few questions drown the seeds, many add nothing."""
    same = claims.welch([50.0, 50.0], [60.0, 60.0], asked=400)
    assert same == pytest.approx((-10, 1.95996398 * 100 * math.sqrt(0.25 / 400 + 0.24 / 400)))
    a, b = [50.0, 52.0, 51.0], [60.0, 61.0, 64.0]
    few, many, plain = (claims.welch(a, b, asked)[1] for asked in (100, 10**9, None))
    assert few > 10 > plain and many == pytest.approx(plain, rel=1e-5)
    assert claims.welch([50.0, 50.0], [60.0, 60.0]) == (-10, 0)


def test_capture_stands_beside_ordinary_tokens_and_not_where_a_record_lacks_them():
    old, new = dict(off_diagonal=0.9, null=0.3), dict(off_diagonal=0.9, chance=dict(tokens=0.7, shuffled=0.96))
    capture = claims.MEASURES["capture"][0]
    assert capture({}, old, "") is None and capture({}, new, "") == pytest.approx(0.2)


def test_the_budget_from_which_two_curves_change_places():
    a, b = {1: {10**6: 3.0, 2 * 10**6: 2.0, 3 * 10**6: 1.0}}, {1: {10**6: 2.5, 2 * 10**6: 2.1, 3 * 10**6: 2}}
    assert claims.crossing(a, b) == "from 2.0M tokens on"
    assert claims.crossing(b, a) == "not by 3.0M tokens"


def test_latents_that_are_strangers_and_carry_nothing():
    world = {name: record | {"latents": LATENTS} for name, record in make_world().items()}
    found = {claim.partition(".")[0]: word for claim, word in words(world).items()}
    assert [found[row] for row in ("8", "8b", "8c", "11i", "11j", "11k", "11l", "11m", "11n")] == [
        "does not hold", "holds", *["does not hold"] * 4, *["cannot be told"] * 3,
    ]  # fmt: skip


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
