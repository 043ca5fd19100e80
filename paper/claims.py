"""What the paper claims, and what the cells say of it.

    python -m paper.claims    # results/tiny.jsonl -> results/README.md, a row a claim, and its pictures

A claim is decided by comparisons, and holds if all of them hold, and does not if one does not. A comparison has a 95 %
interval: it holds, or does not, where the whole interval is on one side of its limit, and cannot be told where the interval
is on both. The page then says what it would cost to tell.
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
from paper.cells import all_cells, finished, hours_of

SEEDS = range(1, 11)


@dataclass
class Group:
    """Runs that are compared: {label: their name without the seed}; "name@0" is the Base before its first step."""

    runs: dict
    must: str  # "a < b; a > b + limit; a = b ± limit": all must hold; b may be a number
    also: str = ""  # comparisons that are shown and decide nothing
    unless: str = ""  # comparisons that must hold for anything to be told: the control works
    measure: str = "accuracy"
    what: str = ""  # stands before its comparisons, where a claim has several groups
    apart: bool = False  # are the runs compared from different Bases by design?
    aside: bool = False  # stands below only, and decides nothing

    def tests(self, role):
        """role: must, also or unless -> [(text, a, sign, b, limit)]"""
        found = [
            (x, re.fullmatch(r"(.+?) ([<>=]) (.+?)(?: ([+±-]) (\d+))?", x))
            for x in filter(None, getattr(self, role).split("; "))
        ]
        return [(x, m[1], m[2], m[3], float(m[5] or 0) * (-1 if m[4] == "-" else 1)) for x, m in found]

    def labels(self):
        """-> those that its comparisons are of, in order"""
        read = {x for role in ("must", "also", "unless") for _, a, _, b, _ in self.tests(role) for x in (a, b)}
        return [label for label in self.runs if label in read]


@dataclass
class Claim:
    words: str
    paper: str  # its number, "" where it does not ask
    groups: list
    note: str = ""  # what to know when reading it
    special: Callable = lambda records: []  # records -> lines on what is no comparison
    picture: str = ""


def of(pattern, labels):
    """-> {label: the pattern with the label in place of *}"""
    return {label: pattern.replace("*", label) for label in labels.split()}


TEXT = of("figure2_gpt2_*", "h2 h1 liu soft pause continued") | {"the Base": "figure2_gpt2_continued@0"}
PROSQA = of("prosqa_*", "h2 soft coconut liu h1 cot no_cot no_thought")
RESUMED = {"h2": "prosqa_h2"} | of("resume_prosqa_*", "curriculum straight literal continued")
ANALYSED = {"text, 8 latents": "latents_gpt2_h2_8", "ProsQA": "prosqa_h2", "Countdown, 3 operands": "countdown_h2_3_16"}
ANALYSED |= {"Countdown, 4 operands": "countdown_h2_4_16"}
ASIDE = {"text, 2 latents": TEXT["h2"], "ProsQA, Coconut": "prosqa_coconut"}
ARRIVE = "runs that get there"


def pair_against_plain(what, runs):
    return Group(runs, "h2 < continued", measure="perplexity", what=what, aside=True)


def within(what, names, measure, must, also="", aside=False):
    """Comparisons of what analyze_latents.py did to the latents of the same runs"""
    return Group(dict.fromkeys("untouched swapped none".split(), names), must, also, measure=measure, what=what, aside=aside)


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
    line = f"with every doubling of the budget h2's distance from continued changes by {fit.slope:+.2f} ± {half:.2f} %"
    if not fit.slope + half < 0:
        return [f"{line}: no budget can be named at which they cross"]
    # Where the line's own interval meets zero (Fieller): y.mean() + slope (at - x.mean()) against its standard error
    curve = [fit.slope**2 - half**2, 2 * fit.slope * y.mean(), y.mean() ** 2 - half**2 * x.var()]
    low, high = np.exp2(x.mean() + np.sort(np.roots(curve))) / 1e6
    return [
        f"{line}; a straight line over the doublings meets zero between {low:,.0f}M and {high:,.0f}M tokens, where the longest "
        f"run has {2 ** x.max() / 1e6:.0f}M"
    ]


CLAIMS = [
    # Figure 2
    Claim("Training both models beats freezing the Base", "perplexity about 4 below Liu et al., 2 below Hypothesis 1",
          [Group(TEXT, "h2 < liu; h2 < h1", "h2 < the Base; liu < the Base; h1 < the Base; continued < the Base",
                 measure="perplexity"),
           Group(of("short_gpt2_*", "h2 h1 liu"), "h2 < liu; h2 < h1", measure="perplexity", what="1.6M tokens",
                 aside=True)],
          "\"continued < the Base\" shows what training gives without latents.", picture="figure2_gpt2"),
    Claim("One model with soft tokens nearly matches the pair", "h2's perplexity marginally below soft's", [
          Group(TEXT, "soft = h2 ± 5", "h2 < soft; soft < pause", measure="perplexity"),
          Group(of("short_gpt2_*", "h2 soft pause"), "soft = h2 ± 5", "soft < pause", measure="perplexity",
                what="1.6M tokens", aside=True)], "pause repeats one soft token, soft has another one in each slot."),
    Claim("The pair beats plain continued pretraining", "perplexity about 2.5 below, after 40B tokens", [
          Group(TEXT, "h2 < continued", measure="perplexity"),
          pair_against_plain("one latent", {"h2": "latents_gpt2_h2_1", "continued": TEXT["continued"]}),
          *(pair_against_plain(what, of(f"{name}_gpt2_*", "h2 continued")) for what, name in (
              ("1.6M tokens", "short"), ("12.3M tokens", "long"), ("a Base of one layer", "once"),
              ("from random weights", "random")))],
          "After 4.9M tokens, where nothing else is said.", special=trend),
    Claim("More latents lower perplexity", "almost linearly",
          [Group({f"{n} latent{'s' * (n > 1)}": TEXT["h2"] if n == 2 else f"latents_gpt2_h2_{n}" for n in (1, 2, 8)},
                 "2 latents < 1 latent; 8 latents < 2 latents", "8 latents < 1 latent", measure="perplexity")]),
    Claim("One model of the pair's size is better", "expected; found in its second version", [
          Group({"h2": TEXT["h2"], "soft": TEXT["soft"], f"{kind} soft": f"{kind}_gpt2_soft"}, f"{kind} soft < h2",
                unless=f"{kind} soft < soft", measure="perplexity", apart=True) for kind in ("wide", "twice")] + [
          Group({"continued": TEXT["continued"], "wide continued": "wide_gpt2_continued"}, "wide continued < continued",
                measure="perplexity", apart=True, aside=True)],
          "wide and twice: a Base with as many parameters as the pair, by width and by depth, that has read as much."),

    # ProsQA: Table 2, Figures 3A and 7
    Claim("On ProsQA, too, the Base must learn", "h2 99.0, liu 52.6, h1 54.1 (GPT-2); 99.5, 81.0, 79.0 (Qwen-3)",
          [Group(PROSQA, "h2 > liu; h2 > h1", "soft > liu; soft > h1; coconut > liu; coconut > h1", measure=ARRIVE),
           Group(PROSQA, "h2 > liu + 10; h2 > h1 + 10", "soft > liu + 10; soft > h1 + 10", aside=True),
           Group(of("worded_prosqa_*", "soft liu h1"), "soft > liu + 10; soft > h1 + 10", aside=True, what="worded")],
          "The frozen Base of liu and h1 has never met 19 of the questions' tokens; the one called worded has met them all.",
          picture="stages"),
    Claim("On ProsQA one model, or Coconut, does as well as the pair", "soft 97.7, Coconut 97.0, h2 99.0 (GPT-2)",
          [Group(PROSQA, "soft > h2 - 5; coconut > h2 - 5", unless="coconut > no_cot"),
           Group(PROSQA, "soft < h2; coconut > h2", measure=ARRIVE, aside=True)]),
    Claim("Latents help to answer", "ProsQA 99.0, without any 76.7 (GPT-2); Countdown not tested", [
          Group(PROSQA, "h2 > no_cot; h2 > no_thought", "soft > no_thought; coconut > no_thought; cot > no_cot", measure=ARRIVE,
                what="ProsQA"),
          Group(PROSQA, "h2 > no_cot; h2 > no_thought", "soft > no_thought; coconut > no_thought", what="ProsQA", aside=True),
          *(Group({"h2": f"countdown_h2_{n}_4", "soft": f"countdown_soft_{n}_4", "no_cot": f"countdown_no_cot_{n}_0"},
                  "h2 > no_cot; soft > no_cot", what=f"Countdown, {n} operands", aside=n == 4) for n in (3, 4))],
          "no_thought: the same curriculum, whose steps give way to nothing. h2 brings a second network, too, soft only "
          "latents."),
    Claim("More latents hardly help to answer", "largely flat; on Countdown slightly up to 8, then less", [
          *(Group({f"{k} latent{'s' * (k > 1)}": f"countdown_h2_{n}_{k}" for k in (1, 4, 16)} |
                  {"4 soft tokens": f"countdown_soft_{n}_4"}, "4 latents < 1 latent + 5; 16 latents < 1 latent + 5",
                  "4 latents = 4 soft tokens ± 5", what=f"Countdown, {n} operands", aside=n == 4) for n in (3, 4)),
          Group({f"{n} operands": f"countdown_h2_{n}_4" for n in (3, 4)}, "3 operands > 4 operands + 10",
                what="Countdown, 4 latents", aside=True)],
          "With 4 operands so few answers are right that 5 points say little.", picture="figure3b"),

    # Table 4 and Figure 8: after large-scale training
    Claim("Large-scale training first hurts ProsQA", "99.0 to 97.1 (GPT-2), 99.5 to 88.3 (Qwen-3)", [
          Group(RESUMED, "curriculum < h2", "curriculum < continued; straight < h2; literal < h2; straight < literal",
                apart=True),
          Group(RESUMED, "curriculum < h2", "curriculum < continued", measure=ARRIVE, apart=True, aside=True)],
          "curriculum: h2 again, from a large-scale run. continued: from a Base that has read as much without latents. "
          "straight: from that run at once to all latents, no step in words. literal: the same, and only the first step "
          "gives way; the others stay in words, as all of them do under cot."),
    Claim("Large-scale training first helps Countdown", "above h2 and h1 at every number of operands", [
          Group(of(f"figure8_countdown_*_{n}", "resumed h2 h1 continued"), "resumed > h2; resumed > h1", "resumed > continued",
                what=f"{n} operands", apart=True, aside=n == 4) for n in (3, 4)],
          "resumed: h2 from a large-scale run. continued: from a Base that has read as much without latents. The frozen Base "
          "of h1 has never met the answer's tags.", picture="figure8"),

    # Section 4.3
    Claim("Latents crowd into one subspace", "capture 0.99 (text), 0.91 (GSM8K), 0.94 (Countdown), chance not given",
          [Group(dict.fromkeys(("latents", "ordinary tokens"), name), "latents > ordinary tokens", measure="capture", what=what,
                 aside=what in ASIDE) for what, name in (ANALYSED | ASIDE).items()] +
          [Group({"latents": name}, "latents < 0.1", measure="silhouette", what=what, aside=True)
           for what, name in (ANALYSED | ASIDE).items()],
          "Capture is how much of one latent's variance lies in another's subspace; a silhouette near 1 says that each latent "
          "keeps to itself (the paper: -0.17, -0.03, 0.45).", picture="figure4"),
]  # fmt: skip
BEYOND = [
    Claim("The Base reads what a message says", "", [
          within("text", TEXT["h2"], "perplexity by latents", "swapped > untouched + 5"),
          within("Countdown", "countdown_h2_3_16", "accuracy by latents", "swapped < untouched - 5"),
          within("ProsQA", "prosqa_h2", "accuracy by latents", "swapped < untouched - 5", aside=True)],
          "swapped: every example gets the latents of another. Text here is the 64 rows that analyze_latents.py reads. A run "
          "that guesses has nothing to lose."),
    Claim("Any message is better than none", "", [
          within("text", TEXT["h2"], "perplexity by latents", "swapped < none", "none < untouched"),
          within("Countdown", "countdown_h2_3_16", "accuracy by latents", "swapped > none"),
          within("ProsQA", "prosqa_h2", "accuracy by latents", "swapped > none", aside=True)],
          "none: the same weights, the branch begins without latents."),
    Claim("A penalty on overlap pays on Countdown, at both weights", "second version: latents specialise, and it helps", [
          Group({"h2": f"countdown_h2_{n}_16"} | {f"weight {w}": f"orthogonal_countdown_{n}_{w}" for w in ("0.01", "0.1")},
                must, measure=measure, what=f"{n} operands", aside=measure != "accuracy" or n == 4)
          for measure, must in (
              ("accuracy", "weight 0.01 > h2; weight 0.1 > h2"), ("capture", "weight 0.01 < h2; weight 0.1 < h2"),
              ("silhouette", "weight 0.01 > h2; weight 0.1 > h2")) for n in (3, 4)],
          "With 4 operands so few answers are right that 5 points say little."),
]  # fmt: skip

LARGER_TEXT = of("small_gpt2_*", "h2 h1 liu soft continued") | {"the Base": "small_gpt2_continued@0"}
LARGER = [
    Claim("With 37M parameters, training both beats freezing", CLAIMS[0].paper, [
          Group(LARGER_TEXT, "h2 < liu; h2 < h1", "h2 < the Base; liu < the Base; h1 < the Base; continued < the Base",
                measure="perplexity")]),
    Claim("With 37M parameters, one model nearly matches the pair", CLAIMS[1].paper, [
          Group(LARGER_TEXT, "soft = h2 ± 5", "h2 < soft", measure="perplexity")]),
    Claim("With 37M parameters, the pair beats continued pretraining", CLAIMS[2].paper, [
          Group(LARGER_TEXT, "h2 < continued", measure="perplexity")]),
]  # fmt: skip


# -----------------------------------------------------------------------------
# What the cells say


class Measure(NamedTuple):
    number: Callable  # (record, label) -> what is compared, None where the record does not say
    unit: str = ""
    logs: bool = False  # compared by its logarithm, told in percent
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
    "perplexity": Measure(lambda r, _: r["metrics"][-1]["val_ppl"], " % perplexity", logs=True, digits=1),
    "accuracy": Measure(lambda r, _: 100 * r["metrics"][-1]["test_accuracy"], " points", digits=1, own_digits=1, how="welch"),
    ARRIVE: Measure(lambda r, _: 100 * r["metrics"][-1]["test_accuracy"], how="arrived"),
    "perplexity by latents": Measure(by_latents, " % perplexity", logs=True, digits=1),
    "accuracy by latents": Measure(by_latents, " points", digits=1, own_digits=1),
    "capture": Measure(capture),
    "silhouette": Measure(lambda r, _: r.get("latents", {}).get("silhouette")),
}  # fmt: skip
ARRIVED = 75  # %: half of the way from a guess between two to all right
NOT_THE_SAME, BROKEN = "not the same Base", "cannot be told: the control is no better than what it controls"
QUESTIONS, NOTHING = "more questions", "no number of runs like these"  # what would tell, if not more seeds


class Found(NamedTuple):
    """What a comparison says."""

    told: str  # the difference, its interval and the number of seeds, "" if there is none
    word: str  # holds, does not hold, cannot be told, not run, not the same Base
    more: int | str = 0  # seeds that would tell, or what else would


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


def questions_variance(a, b, asked):
    """Of the difference of two mean accuracies in percent, as far as it comes from which questions were asked"""
    return sum(np.mean(x) * (100 - np.mean(x)) for x in (a, b)) / asked


def welch(a, b, asked=None):
    """Two lists of values, of seeds that are no pairs -> (mean of a - mean of b, half its 95 % interval): Welch's t

    Seeds that were asked the same questions say nothing of how hard these happened to be. asked: of accuracies in percent,
    how many questions those were; their noise then counts as well, as if the two systems were asked different ones. (The same
    ones are easy or hard for both, so the interval is on the wide side.) Raises ValueError for a single seed.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("a single seed has no interval")
    seeds = np.array([np.var(x, ddof=1) / len(x) for x in (a, b)])  # variances of the two means
    variance = seeds.sum() + (questions_variance(a, b, asked) if asked else 0.0)
    spread = np.sum(seeds**2 / (len(a) - 1, len(b) - 1))
    freedom = variance**2 / spread if spread else np.inf  # Satterthwaite's; the questions' part is known
    return np.mean(a) - np.mean(b), stats.t.ppf(0.975, freedom) * variance**0.5


def share(right, count):
    """So many of so many -> (low, high), the 95 % interval of Clopper and Pearson, which is exact: never too narrow"""
    return stats.binomtest(right, count).proportion_ci()


def fisher(right_a, count_a, right_b, count_b):
    """Do two systems get there equally often? -> p of Fisher's exact test, two-sided"""
    return float(stats.fisher_exact([[right_a, count_a - right_a], [right_b, count_b - right_b]]).pvalue)


def verdict(difference, sign="<", limit=0.0):
    """Of 'a - b is below the limit', or above it (>) -> a word"""
    mean, half = (difference[0] - limit) * (1 if sign == "<" else -1), difference[1]
    return "holds" if mean + half < 0 else "does not hold" if mean - half > 0 else "cannot be told"


def together(words):
    """Of several comparisons that a claim needs -> one word"""
    for word in ("does not hold", NOT_THE_SAME, BROKEN, "not run", "cannot be told"):
        if word in words:
            return word
    return "holds"


def same_base(group, records):
    """Did runs that name the same start begin with the same weights? And, but for groups that compare Bases, all with one?"""
    try:
        figures.refuse_other_bases(records, figures.start_of)
    except ValueError:
        return False
    return group.apart or len({figures.start_of(r)[0] for r in records}) < 2


def seeds_to_tell(distance, variance, fixed, n, sides):
    """An interval of n seeds is too wide to tell a mean so far from its limit: how many more would tell?

    variance: of a seed; fixed: what no seed takes away, the questions' variance; sides: of how many means this is the
    difference -> seeds, or what else would tell
    """

    def tells(seeds, times=1):
        """So many seeds, asked so many times as many questions"""
        return stats.t.ppf(0.975, sides * (seeds - 1)) * (variance / seeds + fixed / times) ** 0.5 < distance

    if 1.96 * fixed**0.5 >= distance:
        return QUESTIONS if any(tells(m, times=10) for m in range(n, 3 * n + 1)) else NOTHING
    return next((m - n for m in range(n + 1, 1000) if tells(m)), NOTHING)


def compare(records, group, a, sign, b, limit):
    """'a is below b by the limit' -> Found. b: a label or a number"""
    measure, labels = MEASURES[group.measure], [x for x in (a, b) if x in group.runs]
    runs = [runs_of(records, group.runs[x]) for x in labels]
    values = [numbers(records, group, x) for x in labels]
    if b not in group.runs:
        limit, values = float(b), [*values, dict.fromkeys(values[0], 0.0)]
    if measure.how == "paired":
        values = [{s: of_one[s] for s in values[0].keys() & values[1].keys()} for of_one in values]
    ours, theirs = ([of_one[s] for s in sorted(of_one)] for of_one in values)
    if not same_base(group, [r for of_one in runs for r in of_one.values()]):
        return Found("", NOT_THE_SAME)
    if min(len(ours), len(theirs)) < 2:
        return Found("", "not run")
    if measure.how == "arrived":
        return compare_shares([x > ARRIVED for x in ours], [x > ARRIVED for x in theirs], sign)
    fixed, n = 0.0, min(len(ours), len(theirs))
    if measure.how == "paired":
        d = np.subtract(*(100 * np.log([ours, theirs]) if measure.logs else (ours, theirs)))
        (mean, half), variance = interval(d), np.var(d, ddof=1)
    else:
        asked = min(r["asked"] for of_one in runs for r in of_one.values())
        fixed = questions_variance(ours, theirs, asked)
        (mean, half), variance = welch(ours, theirs, asked), np.var(ours, ddof=1) + np.var(theirs, ddof=1)
    bounds = [("<", limit), (">", -limit)] if sign == "=" else [(sign, limit)]
    if measure.logs:
        bounds = [(sign, 100 * np.log1p(limit / 100)) for sign, limit in bounds]
    word = together([verdict((mean, half), *bound) for bound in bounds])
    distance = min(abs(mean - limit) for _, limit in bounds)
    more = seeds_to_tell(distance, variance, fixed, n, 1 if measure.how == "paired" else 2) if word == "cannot be told" else 0
    if measure.logs:  # told in percent
        mean, half = 100 * np.expm1(mean / 100), np.exp(mean / 100) * half
    told = f"{round(mean, measure.digits) + 0.0:+.{measure.digits}f} ± {half:.{measure.digits}f}{measure.unit}"  # never "-0.0"
    seeds = f"{n}" if len(ours) == len(theirs) else f"{len(ours)}, {len(theirs)}"
    return Found(f"{told} ({seeds})", word, more)


def compare_shares(a, b, sign):
    """Two lists of whether a run got there; sign: '<' or '>' -> Found, by Fisher's exact test"""

    def p(times=1):
        """Of so many times as many runs, of which the same share gets there"""
        return fisher(sum(a) * times, len(a) * times, sum(b) * times, len(b) * times)

    apart = sum(a) / len(a) - sum(b) / len(b)
    word = "cannot be told" if p() > 0.05 else "holds" if (apart > 0) == (sign == ">") else "does not hold"
    times = next((t for t in range(2, 21) if apart and p(t) < 0.05), None)
    told = f"{sum(a)} of {len(a)} runs against {sum(b)} of {len(b)} (p = {p():.2g})"
    more = 0 if word != "cannot be told" else (times - 1) * max(len(a), len(b)) if times else NOTHING
    return Found(told, word, more)


class Weighed(NamedTuple):
    """What the cells say of a claim."""

    word: str  # on all that must hold
    would_tell: str  # what, where it cannot be told
    short: list  # the differences that decide, as text
    table: list  # all comparisons, as lines of Markdown
    values: list  # what was compared, as text


def weigh(claim, records):
    words, more, short, table, values = [], {}, [], [], []
    for group in claim.groups:
        measures = {other.measure for other in claim.groups if other.what == group.what}
        prefix = ", ".join(filter(None, [group.what, group.measure * (len(measures) > 1)]))
        prefix += ": " * bool(prefix)
        found = {
            role: [(test, compare(records, group, *test[1:])) for test in group.tests(role)]
            for role in ("must", "unless", "also")
        }
        if not group.aside:
            words.append(together([x.word for _, x in found["must"]]))
            if found["unless"] and words[-1] != "not run":
                control = together([x.word for _, x in found["unless"]])
                words[-1] = words[-1] if control == "holds" else BROKEN if control == "does not hold" else control
            short += [f"{prefix}{text}: {x.told}" for (text, *_), x in found["must"] if x.told]
            for (_, a, _, b, _), x in found["must"] + found["unless"]:
                for label in {a, b} & group.runs.keys():
                    more.setdefault(group.runs[label].partition("@")[0], []).append(x.more)
        for role, tests in found.items():
            for (text, *_), x in tests:
                word = x.word if group.aside or role == "also" else f"**{x.word}**"
                table.append(f"| {prefix}{text} | {x.told or '-'} | {word}{' (the control)' * (role == 'unless')} |")
        by_label = {label: [*numbers(records, group, label).values()] for label in group.labels()}
        told = ", ".join(f"{label} {told_values(xs, MEASURES[group.measure])}" for label, xs in by_label.items() if xs)
        values += [f"{f'{group.what}, ' * bool(group.what)}{group.measure}: {told}"] * bool(told)
    word = together(words)
    return Weighed(word, what_would_tell(more) if word == "cannot be told" else "", short, table, [*dict.fromkeys(values)])


def what_would_tell(more):
    """{runs: [seeds that each comparison of them wants, or what else would tell]} -> text"""
    other = {x for wanted in more.values() for x in wanted if isinstance(x, str)}
    if NOTHING in other:
        return NOTHING
    seeds = {name: max((x for x in wanted if x not in other), default=0) for name, wanted in more.items()}
    cost = hours_of([cell for name, n in seeds.items() for cell in cells_a_seed(name) * n])
    return " and ".join([QUESTIONS] * (QUESTIONS in other) + [cost] * bool(cost))


def cells_a_seed(name):
    """-> the cells of one seed of a run: itself, and the run of the same seed that it starts from"""
    cells, found = all_cells(), []
    cell = next(cell for cell in cells.values() if re.fullmatch(rf"{name}_s\d+", cell.name))
    while cell and re.search(r"_s\d+$", cell.name):
        found, cell = [*found, cell], cells.get(cell.start)
    return found


def told_values(xs, measure):
    """Mean ± standard deviation (seeds), or how many of them got there, with the interval of that share"""
    if measure.how != "arrived":
        return figures.spread(xs, measure.own_digits) + " (1)" * (len(xs) == 1)
    right = sum(x > ARRIVED for x in xs)
    low, high = share(right, len(xs))
    accuracies = " ".join(f"{x:.0f}" for x in sorted(xs))
    return f"{right} of {len(xs)} (share {100 * low:.0f} to {100 * high:.0f} %; accuracies {accuracies})"


# -----------------------------------------------------------------------------
# The page

PAGE = """# The paper at laptop size

{done} of {all} runs have been made, {hours:.1f} hours of one core, with Bases of 0.1M to 0.3M parameters: what follows is
said of these, not of GPT-2 124M. The systems are those of the [README](../README.md#the-one-idea), *the pair* is `h2`.

{claims}

{overview}The first three claims again, with a GPT-2 of 37M parameters: its Base has read 100M tokens of Python source, every
system 8.2M more ({gpu_minutes:.0f} minutes of a GPU, which up to six runs shared):

{larger}

Beyond the paper's first version:

{beyond}

**Here** are differences, a - b, ± half of their 95 % interval (and seeds): of perplexity in percent, where less is better,
paired by seed; of accuracy in points, by Welch's t with the noise of the questions in it. "a < b + 5": a is less than 5
above b; "a = b ± 5": they are less than 5 apart. ProsQA's runs end far apart, so rows there count those above {arrived} %, half
of the way from a guess to all right, and Fisher's exact test decides. A claim holds if all of its comparisons hold, that
is, lie with the whole interval on one side of their limit, and does not hold if one lies on the other. All limits are this
page's, not the paper's. What would tell supposes that means and spreads stay as they are: an even chance. "More
questions" are ten times as many, put to up to three times as many seeds.

What the intervals leave out: the noise of the validation text, and of the questions where the same run is looked at twice
(latents); that there are {rows} rows, and that seeds were added where nothing could be told; and another Base. The seeds of
a system share one, unless they start from random weights or from a run each. Runs that are compared began with the same
weights, by their checksum, unless a row compares Bases; {unknown} are from before there were checksums.
{again}

Not here:

{not_here}

Every run is a line of [tiny.jsonl](tiny.jsonl), with its config, evaluations, command and commit; without its line it is
run again. This page is made by `make paper-tiny` (paper/cells.py, paper/claims.py).

# Details

In **bold** what decides. Values are means ± standard deviations (seeds); of runs that get there, their number, its share's
95 % interval (Clopper and Pearson), and every run's accuracy.

{details}"""
OVERVIEW = """![text, ProsQA and Countdown, all systems](overview.png)

*Left: a tiny GPT-2, every system from the same Base on the same 4.9M tokens; the mean of its seeds. Middle and right: a dot
is a seed. Middle: ProsQA. Right: Countdown from random weights, from a Base that has read sums, and resumed from a
large-scale run on sums; the number is N_L.*

"""
NOT_HERE = """- Table 1, the five benchmarks: models of this size sit at chance on all five. With real weights:
  `python evaluate.py out/h2_gpt2`.
- ProsQA by N_L, Figure 7: of h2's runs some get there and others do not, so that a difference between two N_L would take
  tens of them.
- GSM8K, for which models of this size are too small: its commands are in the [README](../README.md#reasoning).
- Qwen-3 on text: three core-hours. It was run once, from a Base that is not kept: [LOG.md](../paper/LOG.md)."""


def anchor(n, claim):
    """Where GitHub puts the heading of a claim."""
    return re.sub(r"[^\w\- ]", "", f"{n}. {claim.words}".lower()).replace(" ", "-")


def cells_of(claim):
    """-> the cells that it reads, in order"""
    names = {group.runs[label].partition("@")[0] for group in claim.groups for label in group.labels()}
    return [cell for cell in all_cells().values() if re.sub(r"_s\d+$", "", cell.name) in names]


def details(claim, weighed, records, drawn):
    """-> what stands below its heading"""
    every, cells = all_cells(), cells_of(claim)
    left = [cell for cell in cells if cell.name not in records]
    names = ",".join(dict.fromkeys(re.sub(r"\d+$", "", cell.name) for cell in left or cells))
    starts = {cell.start for cell in left} - records.keys() - {""}
    cost = hours_of([*left, *(every[name] for name in starts)])
    missing = f"still to be made: {len(left)} of {len(cells)} runs ({cost})"
    paper = f"The paper: {claim.paper}." if claim.paper else "The paper does not ask."
    lines = [f"{paper} Here: **{weighed.word}**. {claim.note}".strip(), ""]
    lines += ["| compared | difference | |", "|---|---|---|", *weighed.table, ""]
    lines += [f"- {line}" for line in weighed.values + claim.special(records)]
    lines += [f"- {missing if left else 'made by'}: `python -m paper.cells --only={names}`", ""]
    return "\n".join(lines + [f"![{claim.picture}]({claim.picture}.png)", ""] * (claim.picture in drawn))


def page(records, drawn):
    """-> the text of results/README.md"""
    rows, below = [], []
    for n, claim in enumerate([*CLAIMS, *LARGER, *BEYOND], start=1):
        found = weigh(claim, records)
        verdict = f"**[{found.word}](#{anchor(n, claim)})**" + f"; {found.would_tell} would tell" * bool(found.would_tell)
        rows.append(f"| {claim.words} | {claim.paper or '-'} | {'<br>'.join(found.short) or '-'} | {verdict} |")
        below.append(f"## {n}. {claim.words}\n\n{details(claim, found, records, drawn)}")
    head = ["| claim | the paper | here | |", "|---|---|---|---|"]
    done = [records[name] for name in all_cells() if name in records]
    again = ", ".join(f"{r['name']} ({r['weights']})" for r in done if "weights" in r)
    return PAGE.format(
        claims="\n".join(head + rows[: len(CLAIMS)]), beyond="\n".join(head + rows[-len(BEYOND) :]),
        larger="\n".join(head + rows[len(CLAIMS) : -len(BEYOND)]), details="\n".join(below), done=len(done),
        all=len(all_cells()), hours=sum(r["seconds"] for r in done if "gpu" not in r) / 3600,
        gpu_minutes=sum(r["seconds"] for r in done if "gpu" in r) / 60, not_here=NOT_HERE, arrived=ARRIVED,
        rows=len(rows), overview=OVERVIEW if "overview" in drawn else "",
        unknown=sum("base_crc32" not in r["config"] for r in done),
        again=f"Trained a second time, for their weights: {again}." if again else "",
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
    middle.set(title="ProsQA: accuracy in %", ylim=(0, 103))
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
    "stages": (figures.stages, r"prosqa_.*"), "figure8": (figures.figure8, r"figure8_countdown_[hr].*"),
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
