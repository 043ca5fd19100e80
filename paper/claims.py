"""What the paper claims, and what the cells say of it.

    python -m paper.claims    # results/tiny.jsonl -> results/README.md, a row a claim, and its pictures

A claim is decided by comparisons. Each has a 95 % interval, and holds, or does not hold, where the whole interval is on one
side of its limit. It cannot be told where the interval is on both; the page then says what it would cost to tell.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from configurator import one_line_errors

import numpy as np
from matplotlib import pyplot as plt
from scipy import stats

from analyze_latents import interval
from paper import figures
from paper.cells import all_cells, finished

SEEDS = range(1, 11)


@dataclass
class Group:
    """Runs that are compared: {label: their name without the seed}; "name@0" is the Base before its first step."""

    runs: dict
    must: str  # "a < b; a > b + limit; a = b ± limit": all must hold; b may be a number
    also: str = ""  # comparisons that are shown and decide nothing
    unless: str = ""  # comparisons without which nothing can be told: the control works
    measure: str = "accuracy"
    what: str = ""  # stands before its comparisons, where a claim has several groups
    apart: bool = False  # are the runs compared from different Bases by design?
    aside: bool = False  # stands below only, and decides nothing


@dataclass
class Claim:
    words: str
    paper: str  # its number
    groups: list
    note: str = ""  # what to know when reading it
    special: Callable = lambda records: []  # records -> lines on what is no comparison
    picture: str = ""


def of(pattern, labels):
    """-> {label: the pattern with the label in place of *}"""
    return {label: pattern.replace("*", label) for label in labels.split()}


TEXT = of("figure2_gpt2_*", "h2 h1 liu soft pause continued") | {"the Base": "figure2_gpt2_continued@0"}
PROSQA = of("prosqa_*", "h2 soft coconut liu h1 cot no_cot no_thought")


def pair_against_plain(what, pattern):
    return Group(of(pattern, "h2 continued"), "h2 < continued", measure="perplexity", what=what, aside=True)


def within(what, names, measure, must):
    """Comparisons of what analyze_latents.py did to the latents of the same runs"""
    return Group(dict.fromkeys("untouched swapped none".split(), names), must, measure=measure, what=what)


CLAIMS = [
    # Figure 2
    Claim("Training both models beats freezing the Base", "perplexity about 4 below Liu et al., 2 below Hypothesis 1",
          [Group(TEXT, "h2 < liu; h2 < h1", "h2 < the Base; liu < the Base; h1 < the Base; continued < the Base",
                 measure="perplexity"),
           Group(of("short_gpt2_*", "h2 h1 liu"), "h2 < liu; h2 < h1", measure="perplexity", what="2.0M tokens",
                 aside=True)],
          "What of h2's lead is training alone, without latents, stands in the last comparison.", picture="figure2_gpt2"),
    Claim("The pair beats one model with soft tokens", "marginally", [
          Group(TEXT, "h2 < soft", measure="perplexity"),
          Group(of("short_gpt2_*", "h2 soft pause"), "h2 < soft", "soft < pause", measure="perplexity", what="2.0M tokens",
                aside=True),
          Group(TEXT, "soft < pause", measure="perplexity", what="a soft token a slot against one for all", aside=True)]),
    Claim("The pair beats plain continued pretraining", "perplexity about 2.5 below, after 40B tokens", [
          Group(TEXT, "h2 < continued", measure="perplexity"),
          pair_against_plain("2.0M tokens", "short_gpt2_*"), pair_against_plain("12.3M tokens", "long_gpt2_*"),
          Group({"h2": "latents_gpt2_h2_1", "continued": TEXT["continued"]}, "h2 < continued", measure="perplexity",
                what="one latent", aside=True),
          pair_against_plain("a Base of one layer", "once_gpt2_*"),
          pair_against_plain("from random weights", "random_gpt2_*")], special=lambda records: trend(records)),
    Claim("More latents lower perplexity", "almost linearly",
          [Group(of("latents_gpt2_h2_*", "1 2 4 8") | {"2": TEXT["h2"]}, "2 < 1; 4 < 2; 8 < 4", measure="perplexity")]),
    Claim("One model of the pair's size is better", "expected; found in its second version", [
          Group({"h2": TEXT["h2"], "soft": TEXT["soft"], f"{kind}, soft": f"{kind}_gpt2_soft"}, f"{kind}, soft < h2",
                unless=f"{kind}, soft < soft", measure="perplexity", what=what, apart=True)
          for kind, what in (("wide", "by width"), ("twice", "by depth"))] + [
          Group({"continued": TEXT["continued"]} | {f"{kind}, continued": f"{kind}_gpt2_continued"},
                f"{kind}, continued < continued", measure="perplexity", apart=True, aside=True)
          for kind in ("wide", "twice")]),

    # ProsQA: Table 2, Figures 3A and 7
    Claim("On ProsQA, too, the Base must learn", "h2 99.0, liu 52.6, h1 54.1 (GPT-2); 99.5, 81.0, 79.0 (Qwen-3)",
          [Group(PROSQA, "h2 > liu; h2 > h1", "soft > liu; soft > h1", measure="runs that get there"),
           Group(PROSQA, "h2 > liu + 10; h2 > h1 + 10", "soft > liu + 10; soft > h1 + 10", aside=True),
           Group(of("worded_prosqa_*", "h2 liu h1"), "h2 > liu + 10; h2 > h1 + 10", aside=True,
                 what="from a Base that has met all of the questions' words")],
          "The frozen Base of liu and h1 has never met 19 of the questions' tokens, but for the last two comparisons.",
          picture="stages"),
    Claim("There one model, or Coconut, does as well as the pair", "soft 97.7, Coconut 97.0, h2 99.0 (GPT-2)",
          [Group(PROSQA, "soft = h2 ± 5; coconut = h2 ± 5"),
           Group(PROSQA, "soft < h2; coconut < h2", measure="runs that get there", aside=True)]),
    Claim("Latents help to answer", "ProsQA 99.0, without any 76.7 (GPT-2); Countdown not tested", [
          Group(PROSQA, "h2 > no_cot", "h2 > no_thought; soft > no_thought; cot > no_cot", measure="runs that get there",
                what="ProsQA"),
          Group(PROSQA, "h2 > no_cot", "h2 > no_thought; soft > no_thought", what="ProsQA", aside=True),
          Group({"h2": "countdown_h2_3_4", "no_cot": "countdown_no_cot_3_0"}, "h2 > no_cot", what="Countdown, 3 operands"),
          Group({"h2": "countdown_h2_4_4", "no_cot": "countdown_no_cot_4_0"}, "h2 > no_cot", what="Countdown, 4 operands",
                aside=True)],
          "no_thought: the same curriculum, whose steps give way to nothing."),
    Claim("More latents hardly help to answer", "largely flat; on Countdown slightly up to 8, then less", [
          Group({"2": "prosqa_h2_c1", "4": "prosqa_h2", "8": "prosqa_h2_c4"}, "8 < 2 + 5", what="ProsQA"),
          *(Group(of(f"countdown_h2_{n}_*", "1 4 16"), "16 < 1 + 5", what=f"Countdown, {n} operands") for n in (3, 4)),
          Group({f"{n} operands": f"countdown_h2_{n}_16" for n in (3, 4)}, "3 operands > 4 operands + 10",
                what="with 16 latents the fourth operand costs", aside=True),
          *(Group(of(f"countdown_*_{n}_4", "h2 soft"), "h2 = soft ± 5", what=f"one model on {n} operands", aside=True)
            for n in (3, 4))], picture="figure3b"),

    # Table 4 and Figure 8: after large-scale training
    Claim("Large-scale training first hurts ProsQA", "99.0 to 97.1 (GPT-2), 99.5 to 88.3 (Qwen-3)", [
          Group({"h2": "prosqa_h2"} | of("resume_prosqa_*", "curriculum straight literal continued"), "curriculum < h2",
                "curriculum < continued; straight < h2; literal < h2", apart=True)],
          "continued: as much more reading without latents. straight and literal: at once to all latents, no step in "
          "words, and only the first one replaced."),
    Claim("Large-scale training first helps Countdown", "above h2 and h1 at every number of operands", [
          Group(of(f"figure8_countdown_*_{n}", "resumed h2 h1 continued"), "resumed > h2; resumed > h1", "resumed > continued",
                what=f"{n} operands", apart=True) for n in (3, 4)],
          "continued: as much more reading without latents. The frozen Base of h1 has never met the answer's tags.",
          picture="figure8"),

    # Section 4.3
    Claim("Latents crowd into one subspace", "capture 0.99 (text), 0.91 (GSM8K), 0.94 (Countdown), chance not given; "
          "silhouette -0.17, -0.03, 0.45",
          [Group(dict.fromkeys(("latents", "ordinary tokens"), name), "latents > ordinary tokens", measure="capture", what=what)
           for what, name in (("text", TEXT["h2"]), ("ProsQA", "prosqa_h2"), ("Countdown, 3 operands", "countdown_h2_3_16"),
                              ("Countdown, 4 operands", "countdown_h2_4_16"))] +
          [Group({"silhouette": name}, "silhouette < 0.1", measure="silhouette", what=what, aside=True)
           for what, name in (("text", TEXT["h2"]), ("text, 8 latents", "latents_gpt2_h2_8"), ("ProsQA", "prosqa_h2"),
                              ("Countdown, 4 operands", "countdown_h2_4_16"))],
          picture="figure4"),
]  # fmt: skip
BEYOND = [
    Claim("What a message says is read", "-", [
          within("text", TEXT["h2"], "perplexity by latents", "swapped > untouched + 5"),
          within("ProsQA", "prosqa_h2", "accuracy by latents", "swapped < untouched - 5"),
          within("Countdown", "countdown_h2_3_16", "accuracy by latents", "swapped < untouched - 5")],
          "swapped: every example gets the latents of another."),
    Claim("Any message is better than none", "-", [
          within("text", TEXT["h2"], "perplexity by latents", "swapped < none"),
          within("ProsQA", "prosqa_h2", "accuracy by latents", "swapped > none"),
          within("Countdown", "countdown_h2_3_16", "accuracy by latents", "swapped > none")],
          "none: the same weights, the branch begins without latents."),
    Claim("A penalty on overlap pays on Countdown", "second version: restores specialised latents, helps combinatorial tasks", [
          Group({"h2": f"countdown_h2_{n}_16"} | {f"weight {w}": f"orthogonal_countdown_{n}_{w}" for w in ("0.01", "0.1")},
                must, measure=measure, what=f"{n} operands, {measure}", aside=aside)
          for measure, must, aside in (
              ("accuracy", "weight 0.01 > h2; weight 0.1 > h2", False),
              ("capture", "weight 0.01 < h2; weight 0.1 < h2", True),
              ("silhouette", "weight 0.01 > h2; weight 0.1 > h2", True)) for n in (3, 4)]),
]  # fmt: skip
NOT_HERE = """- Table 1, the five benchmarks: models of this size sit at chance on all five. With real weights:
  `python evaluate.py out/h2_gpt2`.
- GSM8K, for which models of this size are too small: its commands are in the [README](../README.md#reasoning).
- Qwen-3 on text: three core-hours. It was run once, from a Base that is not kept: [LOG.md](../paper/LOG.md)."""


# -----------------------------------------------------------------------------
# What the cells say


class Measure(NamedTuple):
    number: Callable  # (record, label) -> what is compared, None where the record does not say
    unit: str = ""
    logs: bool = False  # compared by its logarithm, times 100: percent
    digits: int = 2  # of a difference
    own_digits: int = 2  # of what is compared
    how: str = "paired"  # by seed; "welch": the noise of the questions counts, too; "arrived": how many runs are above ARRIVED


def by_latents(record, label):
    return record.get("latents", {}).get("meddling", {}).get(label)


def capture(record, label):
    """What latents capture of each other, or ordinary tokens do: None where an early record does not say"""
    latents = record.get("latents", {})
    return latents.get("chance", {}).get("tokens") if label == "ordinary tokens" else latents.get("off_diagonal")


MEASURES = {
    "perplexity": Measure(lambda r, _: r["metrics"][-1]["val_ppl"], " %", logs=True, digits=1),
    "accuracy": Measure(lambda r, _: 100 * r["metrics"][-1]["test_accuracy"], " points", digits=1, own_digits=1, how="welch"),
    "runs that get there": Measure(lambda r, _: 100 * r["metrics"][-1]["test_accuracy"], how="arrived"),
    "perplexity by latents": Measure(by_latents, " %", logs=True, digits=1),
    "accuracy by latents": Measure(by_latents, " points", digits=1, own_digits=1),
    "capture": Measure(capture),
    "silhouette": Measure(lambda r, _: r.get("latents", {}).get("silhouette")),
}  # fmt: skip
ARRIVED = 75  # %: half of the way from a guess between two to all right
NOT_THE_SAME, BROKEN = "not the same Base", "cannot be told: the control is no better than what it controls"


class Found(NamedTuple):
    """What a comparison says."""

    told: str  # the difference and its interval, "" if there is none
    word: str  # holds, does not hold, cannot be told, not run, not the same Base
    more: int | None = 0  # seeds that would tell; None: more questions


def runs_of(records, name):
    """-> {seed: record} of the runs of that name that are there; of "name@0" with only the first evaluation"""
    name, first, _ = name.partition("@")
    found = {s: records[f"{name}_s{s}"] for s in SEEDS if f"{name}_s{s}" in records}
    return {s: r | {"metrics": r["metrics"][:1]} for s, r in found.items()} if first else found


def numbers(records, group, label):
    """-> {seed: what is compared} of the runs of a label"""
    number = MEASURES[group.measure].number
    found = {s: number(r, label) for s, r in runs_of(records, group.runs[label]).items()}
    return {s: x for s, x in found.items() if x is not None}


def welch(a, b, asked=None):
    """Two lists of values, of seeds that are no pairs -> (mean of a - mean of b, half its 95 % interval): Welch's t

    Seeds that were asked the same questions say nothing of how hard these happened to be. asked: of accuracies in percent,
    how many questions those were; their noise then counts as well, as if the two systems were asked different ones. (The same
    ones are easy or hard for both, so the interval is on the wide side.) Raises ValueError for a single seed.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("a single seed has no interval")
    seeds = np.array([np.var(x, ddof=1) / len(x) for x in (a, b)])  # variances of the two means
    items = sum(np.mean(x) * (100 - np.mean(x)) / asked for x in (a, b)) if asked else 0.0
    variance, spread = seeds.sum() + items, np.sum(seeds**2 / (len(a) - 1, len(b) - 1))
    freedom = variance**2 / spread if spread else np.inf  # Satterthwaite's; the questions' part is known
    return np.mean(a) - np.mean(b), stats.t.ppf(0.975, freedom) * variance**0.5


def share(right, count):
    """So many of so many -> (low, high), the 95 % interval of Clopper and Pearson, which is exact: never too narrow"""
    return tuple(map(float, stats.binomtest(right, count).proportion_ci(0.95, method="exact")))


def fisher(right_a, count_a, right_b, count_b):
    """Do two systems get there equally often? -> p of Fisher's exact test, two-sided"""
    return float(stats.fisher_exact([[right_a, count_a - right_a], [right_b, count_b - right_b]]).pvalue)


def verdict(difference, sign="<", limit=0.0):
    """Of 'a - b is below the limit', above it (>), or between it and its negative (=) -> a word"""
    if sign == "=":
        return together([verdict(difference, "<", limit), verdict(difference, ">", -limit)])
    mean, half = (difference[0] - limit) * (1 if sign == "<" else -1), difference[1]
    return "holds" if mean + half < 0 else "does not hold" if mean - half > 0 else "cannot be told"


def together(words):
    """Of several comparisons that a claim needs -> one word"""
    for word in ("does not hold", NOT_THE_SAME, BROKEN, "not run", "cannot be told"):
        if word in words:
            return word
    return "holds"


def bases(runs):
    """{seed: record} -> {seed: checksum of the Base that it started from; None for runs from before there were any}"""
    return {s: r["config"].get("base_crc32") for s, r in runs.items()}


def seeds_to_tell(distance, half, fixed, n):
    """An interval of n seeds is too wide to tell: how many more would tell? -> seeds, None if no number is enough.

    half: of the interval; fixed: the part of it that does not shrink with more seeds; distance: how far off the limit is
    """
    return int(n * (half**2 - fixed**2) / (distance**2 - fixed**2)) + 1 - n if distance > fixed else None


def compare(records, group, a, sign, b, limit):
    """'a is below b by the limit' -> Found. b: a label or a number"""
    measure, labels = MEASURES[group.measure], [x for x in (a, b) if x in group.runs]
    runs = [runs_of(records, group.runs[x]) for x in labels]
    values = [numbers(records, group, x) for x in labels]
    if b not in group.runs:
        limit, values = float(b), [*values, dict.fromkeys(values[0], 0.0)]
    if measure.logs:
        values = [{s: 100 * np.log(x) for s, x in of_one.items()} for of_one in values]
    paired = sorted(values[0].keys() & values[1].keys())
    first, last = map(bases, (runs[0], runs[-1]))
    if not group.apart and any(first[s] != last[s] for s in first.keys() & last.keys()):
        return Found("", NOT_THE_SAME)
    if min(map(len, [paired] if measure.how == "paired" else values)) < 2:
        return Found("", "not run")
    if measure.how == "arrived":
        return compare_shares(*([x > ARRIVED for x in of_one.values()] for of_one in values), sign)
    if measure.how == "paired":
        difference, fixed, n = interval([values[0][s] - values[1][s] for s in paired]), 0.0, len(paired)
    else:
        a, b = ([*of_one.values()] for of_one in values)
        asked, n = min(r["asked"] for of_one in runs for r in of_one.values()), min(len(a), len(b))
        difference, fixed = welch(a, b, asked), welch([np.mean(a)] * 2, [np.mean(b)] * 2, asked)[1]
    (mean, half), word = difference, verdict(difference, sign, limit)
    distance = min(abs(mean - x) for x in ((limit, -limit) if sign == "=" else (limit,)))
    told = f"{round(mean, measure.digits) + 0.0:+.{measure.digits}f} ± {half:.{measure.digits}f}{measure.unit}"  # never "-0.0"
    return Found(told, word, seeds_to_tell(distance, half, fixed, n) if word == "cannot be told" else 0)


def compare_shares(a, b, sign):
    """Two lists of whether a run got there; sign: '<' or '>' -> Found, by Fisher's exact test"""

    def p(times=1):
        """Of so many times as many runs, of which the same share gets there"""
        return fisher(sum(a) * times, len(a) * times, sum(b) * times, len(b) * times)

    apart = sum(a) / len(a) - sum(b) / len(b)
    word = "cannot be told" if p() > 0.05 else "holds" if (apart > 0) == (sign == ">") else "does not hold"
    times = next((t for t in range(2, 21) if apart and p(t) < 0.05), None)
    told = f"{sum(a)} of {len(a)} against {sum(b)} of {len(b)} runs, p = {p():.2g}"
    return Found(told, word, 0 if word != "cannot be told" else times and (times - 1) * max(len(a), len(b)))


def parse(texts):
    """'a < b; c > d + 10' -> [(a, sign, b, limit)]"""
    found = re.findall(r"(.+?) ([<>=]) (.+?)(?: ([+±-]) (\d+))?(?:; |$)", texts)
    return [(a, sign, b, -float(limit) if way == "-" else float(limit or 0)) for a, sign, b, way, limit in found]


def labels_of(group):
    """-> the labels that its comparisons are of, in order"""
    read = {x for a, _, b, _ in parse("; ".join(filter(None, (group.must, group.also, group.unless)))) for x in (a, b)}
    return [label for label in group.runs if label in read]


def trend(records):
    """How does the pair's distance from continued pretraining change with the budget? -> lines"""
    points = []
    for name in ("short_gpt2", "figure2_gpt2", "long_gpt2"):
        h2, plain = (runs_of(records, f"{name}_{v}") for v in ("h2", "continued"))
        for s in h2.keys() & plain.keys():
            ours, theirs = h2[s]["metrics"][-1], plain[s]["metrics"][-1]
            points.append((np.log2(ours["tokens"]), 100 * np.log(ours["val_ppl"] / theirs["val_ppl"])))
    x, y = np.array(sorted(points)).reshape(-1, 2).T
    if len({*x}) < 3:
        return []
    fit = stats.linregress(x, y)
    half = stats.t.ppf(0.975, len(x) - 2) * fit.stderr
    line = f"With every doubling of the budget h2's distance from continued changes by {fit.slope:+.2f} ± {half:.2f} %"
    if not fit.slope + half < 0:
        return [f"{line}: no budget can be named at which they cross."]
    millions = [2 ** (x.mean() - y.mean() / slope) / 1e6 for slope in (fit.slope - half, fit.slope, fit.slope + half)]
    low, at, high = (f"{m:,.0f}M" for m in millions)
    return [f"{line}. If it went on like that, they would cross at {at} tokens ({low} to {high}); the largest run has "
            f"{2 ** x.max() / 1e6:.0f}M."]  # fmt: skip


class Weighed(NamedTuple):
    """What the cells say of a claim."""

    word: str  # on all that must hold
    minutes: float | None  # on one core, that would tell what cannot be told; None: more questions would
    short: list  # the differences that decide, as text
    table: list  # all comparisons, as lines of Markdown
    values: list  # what was compared, as text


def weigh(claim, records):
    words, minutes, short, table, values = [], [], [], [], []
    for group in claim.groups:
        prefix = f"{group.what}: " * bool(group.what)
        for role, texts in (("must", group.must), ("unless", group.unless), ("also", group.also)):
            for text, (a, sign, b, limit) in zip(filter(None, texts.split("; ")), parse(texts), strict=True):
                found, mark = compare(records, group, a, sign, b, limit), ""
                if role == "must" and not group.aside:
                    mark, label = "**", f"{a} - {b}" if b in group.runs else a
                    words.append(found.word)
                    minutes.append(None if found.more is None else found.more * minutes_a_seed(group))
                    short += [f"{prefix}{label}: {found.told}"] * bool(found.told)
                elif role == "unless" and not group.aside:
                    words.append(found.word if found.word in ("holds", "not run") else BROKEN)
                table.append(f"| {prefix}{text} | {found.told or '-'} | {mark}{found.word}{mark} |")
        by_label = {label: [*numbers(records, group, label).values()] for label in labels_of(group)}
        found = ", ".join(f"{label} {told_values(xs, MEASURES[group.measure])}" for label, xs in by_label.items() if xs)
        values += [f"{prefix}{group.measure}: {found}"] * bool(found)
    return Weighed(together(words), None if None in minutes else sum(minutes), short, table, [*dict.fromkeys(values)])


def told_values(xs, measure):
    """Mean ± standard deviation (seeds), or how many of them got there, with the interval of that share"""
    if measure.how != "arrived":
        return figures.spread(xs, measure.own_digits)
    right = sum(x > ARRIVED for x in xs)
    low, high = share(right, len(xs))
    return f"{right} of {len(xs)} ({100 * low:.0f} to {100 * high:.0f} %: {' '.join(f'{x:.0f}' for x in sorted(xs))})"


def minutes_a_seed(group):
    """What one seed more of everything in it takes on one core"""
    names = {group.runs[label].partition("@")[0] for label in labels_of(group)}
    return sum(cell.minutes for name in names for cell in [all_cells()[f"{name}_s1"]])


# -----------------------------------------------------------------------------
# The page

PAGE = """# The paper at laptop size

{done} of {all} runs have been made, {hours:.1f} core-hours, with Bases of 0.1M to 0.3M parameters: what follows is said of
these, not of GPT-2 124M. The systems are those of the [README](../README.md#the-one-idea).

{claims}

![text, ProsQA and Countdown, all systems](overview.png)

*Left: a tiny GPT-2, every system from the same Base on the same tokens; the mean of its seeds. Middle and right: a dot is a
seed. Middle: ProsQA. Right: Countdown from random weights, from a Base that has read sums, and resumed from large-scale
training on sums.*

Beyond the paper's first version:

{beyond}

**Here** are differences ± their 95 % interval: of perplexity in percent (100 times the difference of its logarithm), paired
by seed, and of accuracy in points, by Welch's t with the noise of the questions in it. Where some runs get there and others
stay at a guess, as on ProsQA, what counts is how many end above {arrived} %, by Fisher's exact test. A claim holds, or does
not, where the whole interval of every comparison is on one side of its limit. The limits (5 and 10 points) are this page's,
not the paper's. All seeds of a system start from one Base, but where they start from random weights or from a run of their
own seed: the intervals say nothing about another Base. They are not corrected for the number of rows. Comparisons are of
runs that start from the same weights, by their checksum, unless a row compares Bases.{again}

Not here:

{not_here}

Every run is a line of [tiny.jsonl](tiny.jsonl), with its config, evaluations, command and commit. This page is made by
`make paper-tiny` (paper/cells.py, paper/claims.py).

# Details

In **bold** what decides. Values are means ± standard deviations (seeds); of runs that get there, their number, its share's
95 % interval (Clopper and Pearson), and every run's accuracy.

{details}"""


def anchor(n, claim):
    """Where GitHub puts the heading of a claim."""
    return re.sub(r"[^\w\- ]", "", f"{n}. {claim.words}".lower()).replace(" ", "-")


def cells_of(claim):
    """-> the cells that it reads, in order"""
    names = {group.runs[label].partition("@")[0] for group in claim.groups for label in labels_of(group)}
    return [cell for cell in all_cells().values() if re.sub(r"_s\d+$", "", cell.name) in names]


def details(claim, weighed, records, drawn):
    """-> what stands below its heading"""
    cells = cells_of(claim)
    left = [cell for cell in cells if cell.name not in records]
    names = ",".join(dict.fromkeys(re.sub(r"\d+$", "", cell.name) for cell in left or cells))
    if left:
        missing = f"{len(left)} of {len(cells)} cells have not been run ({sum(c.minutes for c in left) / 60:.1f} core-hours)"
    lines = [f"The paper: {claim.paper}. Here: **{weighed.word}**.", claim.note, ""]
    lines += ["| compared | difference | |", "|---|---|---|", *weighed.table, ""]
    lines += [f"- {line}" for line in weighed.values + claim.special(records)]
    lines += [f"- {missing if left else 'to run them again'}: `python -m paper.cells --only={names}`", ""]
    return "\n".join(lines + [f"![{claim.picture}]({claim.picture}.png)", ""] * (claim.picture in drawn))


def verdict_of(n, claim, weighed):
    """-> its word, as a link to the details, and what would tell"""
    text = f"**[{weighed.word}](#{anchor(n, claim)})**"
    if weighed.word != "cannot be told":
        return text
    if weighed.minutes is None:
        return f"{text}; more questions would tell"
    hours = weighed.minutes / 60
    return f"{text}; {f'{hours:.1f}' if hours < 100 else 'more than 100'} core-hours would tell"


def page(records, drawn):
    """-> the text of results/README.md"""
    rows, below = [], []
    for n, claim in enumerate([*CLAIMS, *BEYOND], start=1):
        found = weigh(claim, records)
        rows.append(f"| {claim.words} | {claim.paper} | {'<br>'.join(found.short) or '-'} | {verdict_of(n, claim, found)} |")
        below.append(f"## {n}. {claim.words}\n\n{details(claim, found, records, drawn)}")
    head = ["| claim | the paper | here | |", "|---|---|---|---|"]
    done = [records[name] for name in all_cells() if name in records]
    again = ", ".join(f"{r['name']} ({r['weights']})" for r in done if "weights" in r)
    return PAGE.format(
        claims="\n".join(head + rows[: len(CLAIMS)]), beyond="\n".join(head + rows[len(CLAIMS) :]), details="\n".join(below),
        done=len(done), all=len(all_cells()), hours=sum(r["seconds"] for r in done) / 3600, not_here=NOT_HERE, arrived=ARRIVED,
        again=f"\n\nWeights that were made again between earlier and later cells: {again}." if again else "",
    )  # fmt: skip


def overview(records, out):
    """The three main experiments in one picture."""
    records = {r["name"]: r for r in records}
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), width_ratios=[1, 0.8, 1])
    for v in "continued soft liu h1 h2".split():
        curves = [{m["tokens"]: m["val_ppl"] for m in r["metrics"]} for r in runs_of(records, f"figure2_gpt2_{v}").values()]
        if curves:
            tokens = sorted(set.intersection(*map(set, curves)) - {0})
            mean = [np.exp(np.mean([np.log(c[t]) for c in curves])) for t in tokens]
            left.plot(np.array(tokens) / 1e6, mean, color=figures.COLORS[v], label=figures.LABELS[v])
        if curves and v == "continued":
            left.axhline(curves[0][0], color="black", ls=":", label="the Base they start from")
    left.set(title="Text: validation perplexity", xlabel="million tokens")

    def dots(ax, names, **style):
        """A dot a seed, a column a name"""
        found = [(x, r) for x, name in enumerate(names.values()) for r in runs_of(records, name).values()]
        ax.scatter([x for x, _ in found], [100 * r["metrics"][-1]["test_accuracy"] for _, r in found], alpha=0.6, **style)
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right")

    dots(middle, of("prosqa_*", "cot no_cot no_thought coconut soft h2 h1 liu"), color="black")
    middle.axhline(50, color="#bbbbbb", ls=":", label="a guess")
    middle.set(title="ProsQA: accuracy in %", ylim=(0, 100))
    for n, color in ((3, "#d62728"), (4, "#7f7f7f")):
        names = {"no latents": f"countdown_no_cot_{n}_0", "soft, 4": f"countdown_soft_{n}_4"}
        names |= {f"h2, {k}": f"countdown_h2_{n}_{k}" for k in (1, 4, 16)}
        sums = {"h1, 4, sums": "h1", "h2, 4, sums": "h2", "h2, 4, resumed": "resumed"}
        names |= {label: f"figure8_countdown_{v}_{n}" for label, v in sums.items()}
        dots(right, names, color=color, label=f"{n} operands")
    right.set(title="Countdown: accuracy in %, by system and $N_L$", ylim=(0, 80))
    for ax in (left, middle, right):
        figures.finish(ax)
        ax.legend(frameon=False, fontsize="small", loc="best")
    figures.save(figure, out)


PICTURES = {  # name: (how it is drawn, of the cells whose names are these)
    "overview": (overview, r"(figure2_gpt2|prosqa|countdown|figure8)_.*"),
    "figure2_gpt2": (figures.figure2, r"(figure2_gpt2|latents_gpt2)_.*"), "figure3b": (figures.figure3b, r"countdown_.*"),
    "stages": (figures.stages, r"prosqa_.*(?<!_c[14])_s\d+"), "figure8": (figures.figure8, r"figure8_countdown_[hr].*"),
    "figure4": (figures.figure4, r"(figure2_gpt2_h2|prosqa_h2|countdown_h2_4_16)_s1"),
}  # fmt: skip


def draw(records):
    """-> the names of the pictures that are in results/ now"""
    drawn = []
    for name, (picture, pattern) in PICTURES.items():
        found = [record for cell, record in sorted(records.items()) if re.fullmatch(pattern, cell)]
        if found:
            picture(found, f"results/{name}.png")
            drawn.append(name)
        elif os.path.exists(f"results/{name}.png"):
            os.remove(f"results/{name}.png")  # of runs that do not stand any more
    return drawn


def main():
    records = finished(all_cells())
    text = page(records, draw(records))
    with open("results/README.md", "w", encoding="utf-8") as f:
        f.write(text)
    print("wrote results/README.md")


if __name__ == "__main__":
    one_line_errors(main)
