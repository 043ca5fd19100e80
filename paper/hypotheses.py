"""What is asked of the runs (paper/hypotheses.txt), and the statistics that answer it.

A hypothesis is decided by comparisons of A with B. They are made by seed, and accuracies also by question: runs of one seed
read the same data in the same order, and all are asked the same questions. A comparison holds if its whole 95 % interval is on
the asked side of its limit, does not hold if all of it is on the other, and is inconclusive else.
"""

import itertools
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from coprocessor import VARIANTS
from paper.collect import INTERVENTIONS
from paper.figures import differing

TASKS = {  # the first word of a run's name
    "text": "Text", "text12M": "Text, 12M tokens", "text30M": "Text, 31M tokens", "place": "Text it has read",
    "text37M": "Text, 37M parameters, pushed", "prosqa": "ProsQA", "steps": "ProsQA, steps spelled", "long": "ProsQA, 3 steps",
    "countdown": "Countdown, pushed", "equations": "Countdown",
}  # fmt: skip
PARTS = {"before": "the Base", "swapped": "another's message", "none": "no message", "tokens": "that of ordinary tokens"}


# -----------------------------------------------------------------------------
# The table


class Row(NamedTuple):
    """A comparison, as a line of hypotheses.txt has it"""

    a: str
    sign: str
    b: str
    measure: str
    limit: float
    word: str
    other_base: bool
    decides: bool


class Hypothesis(NamedTuple):
    text: str
    paper: str
    rows: list
    note: str


ROW = re.compile(r' +(- )? *(\S+) ([<>=]) (\S+) +(\w+)(?: (-?[\d.]+))?(?: "(.*)")?( other_base)?')


def hypotheses():
    """The table -> [Hypothesis]"""
    found = []
    with open(os.path.join(os.path.dirname(__file__), "hypotheses.txt"), encoding="utf-8") as f:
        lines = f.read().split("\n\n")[-1].splitlines()
    for line in lines:
        if not line.startswith(" "):
            found.append(Hypothesis(*(part.strip() for part in line.split("|")), rows=[], note=""))
        elif line.lstrip().startswith("#"):
            found[-1] = found[-1]._replace(note=f"{found[-1].note} {line.lstrip(' #')}".strip())
        else:
            places = [place.split(",") for place in re.findall("{(.*?)}", line)]
            for names in itertools.product(*places):
                row = ROW.fullmatch(re.sub("{.*?}", "{}", line).format(*names))
                assert row, f"hypotheses.txt: {line}"
                aside, a, sign, b, measure, limit, word, other_base = row.groups()
                found[-1].rows.append(Row(a, sign, b, measure, float(limit or 0), word or "", bool(other_base), not aside))
    return found


def title_of(name):
    """text_h2_8_latents -> "Text" """
    task = name.partition("_")[0]
    return TASKS.get(task, task)


def system_of(name):
    """text_h2_8_latents -> "h2, 8 latents" """
    rest = name.partition(":")[0].partition("_")[2]
    variant = max((v for v in VARIANTS if f"{rest}_".startswith(f"{v}_")), key=len, default="")
    return ", ".join(filter(None, [variant, rest.removeprefix(variant).strip("_").replace("_", " ")]))


def label_of(row, side):
    """What a side of a comparison is called: its system, or, where both sides are of one run, its part of it"""
    part = side.partition(":")[2]
    if part or side[0].isdigit():
        return PARTS.get(part, side)
    if row.a.partition(":")[0] == row.b.partition(":")[0] and not row.b.endswith(":before"):
        return "its latents" if row.measure == "capture" else "its own message"
    return system_of(side) + f" ({title_of(side)})" * (system_of(row.a) == system_of(row.b))  # then tasks are compared


# -----------------------------------------------------------------------------
# What is compared


SOLVED = 0.65  # of ProsQA's validation questions: out of reach of a guess between two (300 questions: five standard errors)
NEVER = np.inf


def solved_after(record):
    """The first epoch without a step in words that ends above SOLVED, counted from 1; NEVER if none does"""
    epochs = [line for line in record["metrics"] if {"epoch", "valid_accuracy"} <= line.keys()]
    above = (line["stage"] >= record["config"]["stages"] and line["valid_accuracy"] > SOLVED for line in epochs)
    return next((n for n, solved in enumerate(above, 1) if solved), NEVER)


def by_message(record, part):
    """The score with the run's own latents, or with what was done to them; None for a run that guesses"""
    guesses = "stages" in record["config"] and solved_after(record) == NEVER
    return None if guesses else record.get("latents", {}).get(INTERVENTIONS, {}).get(part or "untouched")


def capture(record, part):
    latents = record.get("latents", {})
    return latents.get("chance", {}).get(part) if part else latents.get("off_diagonal")


class Measure(NamedTuple):
    of: Callable  # (record, part) -> a number, or None where the record does not say
    more: str  # told where A is above B
    less: str
    log: bool = False  # compared by its logarithm, told in percent
    digits: int = 1


MEASURES = {
    "perplexity": Measure(lambda r, part: r["metrics"][0 if part == "before" else -1]["val_ppl"], "% worse", "% better", True),
    "accuracy": Measure(lambda r, _: 100 * r["metrics"][-1]["test_accuracy"], "points better", "points worse"),
    "likelier": Measure(lambda r, _: r.get("likelier"), "points better, by likelihood,", "points worse, by likelihood,"),
    "epochs": Measure(lambda r, _: solved_after(r), "later", "sooner", digits=-1),
    "perplexity_by_message": Measure(by_message, "% worse", "% better", True),
    "accuracy_by_message": Measure(by_message, "points better", "points worse"),
    "capture": Measure(capture, "higher", "lower", digits=2),
    "silhouette": Measure(lambda r, _: r.get("latents", {}).get("silhouette"), "higher", "lower", digits=2),
}


def runs_of(records, name):
    """-> {seed: record} of a run's seeds that are there"""
    pattern = re.compile(re.escape(name.partition(":")[0]) + r"_s(\d+)")
    return {int(m[1]): record for key, record in sorted(records.items()) if (m := pattern.fullmatch(key))}


def values_of(records, side, measure):
    """A name of runs, or name:part -> {seed: what is compared} of those that say"""
    found = {seed: MEASURES[measure].of(record, side.partition(":")[2]) for seed, record in runs_of(records, side).items()}
    return {seed: x for seed, x in found.items() if x is not None}


def check_comparable(row, *sides):
    """Raises ValueError if runs are not seeds of one another, or did not start from the same weights as they should have."""
    for name, runs in zip((row.a, row.b), sides, strict=True):
        if runs and (apart := differing([*runs.values()])):
            raise ValueError(f"runs of {name} differ in {', '.join(apart)}, not in their seed alone")
    for seed in () if row.other_base else sides[0].keys() & sides[1].keys():
        a, b = (runs[seed]["config"] for runs in sides)
        key = "base_crc32" if "base_crc32" in a and "base_crc32" in b else "init_from"  # of before there were checksums
        if a[key] != b[key]:
            raise ValueError(f"{row.a} and {row.b}, seed {seed}, are not from the same Base: {key} is {a[key]} and {b[key]}")


# -----------------------------------------------------------------------------
# Statistics


def question_variance(a, b):
    """Of a difference of mean accuracies, in points, as far as it comes from which questions were asked -> (it, its freedom)

    a, b: records of the same seeds; no b where A is compared with a number. They are compared question by question; early
    records have only the number of right answers, and count as if they had been asked different questions.
    """
    if not b or not all("correct" in r for r in a + b):
        shares = [np.mean([100 * r["metrics"][-1]["test_accuracy"] for r in side]) for side in (a, b) if side]
        return sum(x * (100 - x) for x in shares) / a[0]["asked"], a[0]["asked"] - 1
    packed = [[np.frombuffer(bytes.fromhex(r["correct"]), np.uint8) for r in side] for side in (a, b)]
    answers = np.unpackbits(packed, axis=2, count=a[0]["asked"])  # (2, seeds, questions)
    d = 100 * np.subtract(*answers.astype(float))  # (seeds, questions)
    rest = d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()
    shared = np.square(rest).sum() / (d.shape[0] - 1) / (d.shape[1] - 1) / d.size  # the seeds' variance has it already
    return max(0.0, d.mean(axis=0).var(ddof=1) / d.shape[1] - shared), d.shape[1] - 1


def interval(d, extra=0.0, extra_freedom=1):
    """Differences, one a seed, and a further variance of their mean -> Student's t, with Satterthwaite's freedom"""
    own = np.var(d, ddof=1) / len(d)
    parts = own**2 / (len(d) - 1) + extra**2 / extra_freedom
    return stats.t((own + extra) ** 2 / parts if parts else np.inf, np.mean(d), max((own + extra) ** 0.5, 1e-12))


def verdict_of(low, high, sign, limits):
    """The interval of A - B, and the limits that it is to be between (=), below (<) or above (>)"""
    inside, outside = high < limits[0], low > limits[0]
    if sign == ">":
        inside, outside = outside, inside
    if sign == "=":
        inside, outside = limits[0] < low and high < limits[1], high < limits[0] or limits[1] < low
    return "holds" if inside else "does not hold" if outside else "inconclusive"


def holm(ps):
    """p-values of several tests -> adjusted, so that 0.05 for each is 0.05 for a single false finding among all"""
    order, adjusted = np.argsort(ps), np.empty(len(ps))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.sort(ps) * np.arange(len(ps), 0, -1)))
    return adjusted.tolist()


def together(words, asked_by_paper=True):
    """The verdicts on the comparisons that decide -> the verdict on the hypothesis"""
    yes, no = ("reproduced", "not reproduced") if asked_by_paper else ("supported", "not supported")
    if "does not hold" in words:
        return "mixed" if "holds" in words else no
    return next((word for word in ("not run", "inconclusive") if word in words), yes)


class Result(NamedTuple):
    """What a comparison says."""

    told: str  # a sentence
    verdict: str  # holds, does not hold, inconclusive, not run
    p: float | None = None  # two-sided, that A - B is on the limit
    ends: tuple = ()  # mean and 95 % interval of A - B, in what the measure is told in; of ranks there is none


def compare(row, records):
    """-> Result"""
    measure, runs = MEASURES[row.measure], [runs_of(records, side) for side in (row.a, row.b)]
    a, b = (values_of(records, side, row.measure) for side in (row.a, row.b))
    b = dict.fromkeys(a, float(row.b)) if row.b[0].isdigit() else b
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return Result(f"{title_of(row.a)}: {label_of(row, row.a)} against {label_of(row, row.b)}: not run", "not run")
    check_comparable(row, *runs)
    if row.measure == "epochs":
        return compare_ranks(row, [*a.values()], [*b.values()])
    d = np.array([100 * np.log(a[s] / b[s]) if measure.log else a[s] - b[s] for s in seeds])
    if len(d) == 1:
        return Result(sentence(row, [100 * np.expm1(d[0] / 100) if measure.log else d[0]] * 3, 1), "not run")
    extra = question_variance(*([side[s] for s in seeds if side] for side in runs)) if row.measure == "accuracy" else ()
    t = interval(d, *extra)
    low, high = t.interval(0.95)
    limits = [-row.limit, row.limit] if row.sign == "=" else [row.limit]
    limits = [100 * np.log1p(x / 100) for x in limits] if measure.log else limits
    p = max(2 * min(t.cdf(x), t.sf(x)) for x in limits)
    ends = tuple(float(100 * np.expm1(x / 100) if measure.log else x) for x in (t.median(), low, high))
    return Result(sentence(row, ends, len(d)), verdict_of(low, high, row.sign, limits), float(p), ends)


def sentence(row, ends, n):
    """Text: soft is 7.1 % worse than h2 (95 % CI 6.8 to 7.3, 3 seeds; 'nearly matches' means within 5 %)"""
    measure, (a, b) = MEASURES[row.measure], [label_of(row, side) for side in (row.a, row.b)]
    size, *interval = ends if ends[0] > 0 else (-ends[0], -ends[2], -ends[1])
    size, low, high = (f"{round(x, measure.digits) + 0.0:.{measure.digits}f}" for x in (size, *interval))  # never "-0.0"
    noun = f"the {row.measure} of " * (measure.digits > 1)
    within, beyond = row.sign == "=", (row.sign == ">") == (row.limit > 0)
    how = "within" if within else "by more than" if beyond else "no more than"
    side = "" if within or beyond else " above" if row.limit > 0 else " below"
    meaning = f"; '{row.word}' means {how} {abs(row.limit):g} {measure.more.split()[0]}{side}" * bool(row.word)
    told = f"{noun}{a} is {size} {measure.more if ends[0] > 0 else measure.less} than {b}"
    return f"{title_of(row.a)}: {told} ({f'95 % CI {low} to {high}, {n} seeds' if n > 1 else 'one seed'}{meaning})"


def compare_ranks(row, a, b):
    """Which solves it sooner? An exact test of the ranks of epochs: a run that never does has no number, but a rank."""
    told = []
    for side, epochs in ((row.a, a), (row.b, b)):
        done = sorted(x for x in epochs if x < NEVER)
        when = f", after {' to '.join(map(str, dict.fromkeys([done[0], done[-1]])))} epochs" if done else ""
        told.append(f"{label_of(row, side)} solves it in {len(done)} of {len(epochs)} runs{when}")
    every_way = stats.PermutationMethod(n_resamples=10**6)  # more than there are: exact, ties and all
    p = float(stats.mannwhitneyu(a, b, method=every_way).pvalue) if min(len(a), len(b)) > 1 else None
    ranks = stats.rankdata(a + b)
    as_asked = (ranks[: len(a)].mean() < ranks[len(a) :].mean()) == (row.sign == "<")
    verdict = "not run" if p is None else "inconclusive" if p > 0.05 else "holds" if as_asked else "does not hold"
    return Result(f"{title_of(row.a)}: {told[0]}; {told[1]}" + (f" (exact rank test, p = {p:.2g})" if p else ""), verdict, p)
