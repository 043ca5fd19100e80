"""What the paper claims, and what the cells say of it: numbers, intervals, a word.

    python -m paper.claims    # results/tiny.jsonl -> results/README.md, a row a claim, and its pictures

Every difference is paired by seed, and its 95 % interval decides: a claim holds or does not hold where the whole interval
is on one side of its limit, and cannot be told where it is on both.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from configurator import one_line_errors

import numpy as np
from matplotlib import pyplot as plt
from scipy import stats

from analyze_latents import interval
from paper import figures
from paper.cells import all_cells, finished

SEEDS = range(1, 11)
SYSTEMS = "coconut soft liu h1 h2"  # of Table 2
FAMILIES = figures.FAMILY_NAMES.items()


@dataclass
class Row:
    """A claim, and what decides it: comparisons of labels, each of which stands for runs that differ in their seed."""

    claim: str
    paper: str  # what it says
    cells: str  # those that are read, as their names begin
    runs: dict = field(default_factory=dict)  # {label: their name without the seed, or "a - b", a difference}
    must: str = ""  # "a < b; a > b + limit; a = b ± limit": all must hold; b may be a number
    measure: str = "accuracy"
    also: str = ""  # comparisons that are shown and decide nothing
    line: str = ""  # how a difference is told, where not as that measure's usually are
    value: str = "{label}: {spread}"  # how what lies behind it is told
    note: str = ""
    apart: bool = False  # are the runs compared from different Bases by design?
    special: Callable = lambda records: ([], "holds", [])  # for what is no comparison: records -> (lines, a word, values)


MEASURES = {  # (a number of a run's last metrics and its latents, compared by its logarithm?, digits, how a difference is told)
    "perplexity": (lambda m, z, label: m["val_ppl"], True, 2, "{a} - {b}: {d} %"),
    "accuracy": (lambda m, z, label: 100 * m["test_accuracy"], False, 1, "{a} - {b}: {d}"),
    "capture": (lambda m, z, label: above_tokens(z), False, 2, "{a}: {d}"),
    "silhouette": (lambda m, z, label: z and z["silhouette"], False, 2, "{a}: {d}"),
    "perplexity by latents": (lambda m, z, label: z and z["meddling"].get(label), True, 1, "worse by {d} %"),
    "accuracy by latents": (lambda m, z, label: z and z["meddling"].get(label), False, 1, "worse by {d} points"),
}


def above_tokens(latents):
    """What latents capture of each other beyond what ordinary tokens do; None where an early record does not say"""
    chance = (latents or {}).get("chance", {})
    return latents["off_diagonal"] - chance["tokens"] if "tokens" in chance else None


def of(pattern, labels):
    """-> {label: the pattern with the label in place of *}"""
    return {label: pattern.replace("*", label) for label in labels.split()}


def answer_cost(records):
    found = [records[name]["metrics"][-1] for name in ("prosqa_coconut_s1", "prosqa_h2_s1") if name in records]
    if len(found) < 2:
        return [], "not run", []
    passes, ms = [m["passes_to_answer"] for m in found], [1000 * m["seconds_to_answer"] for m in found]
    line = "N_L = 4: {:.0f} and {:.0f} passes, {:.1f} and {:.1f} ms (one seed)".format(*passes, *ms)
    return [line], "holds" if passes == [5, 3] else "does not hold", []


ORDER = "liu about 1.5 above continued; h1 and h2 about 2 and 4 below liu; h1 above soft, h2 marginally below"
TABLE2 = "soft 97.7, liu 52.6, h1 54.1, h2 99.0, Coconut 97.0 (GPT-2); 99.5, 81.0, 79.0, 99.5, - (Qwen-3); N_L = 12"
UNREAD = "the frozen Base has never met 19 of the questions' tokens; for one that has, see 4d"
LATENTS = "figure2_gpt2_h2 latents_gpt2_h2_8 statements_h2 prosqa_h2"
SINCE = "{a} - {b}: {d} %, {since}"
TABLE = [
    # Figure 2, and joint training
    *(Row(f"1. Perplexity, {name}: h2 < soft < h1 < continued < liu", ORDER, f"figure2_{f}",
          of(f"figure2_{f}_*", "h2 soft h1 continued liu"), "h2 < soft; soft < h1; h1 < continued; continued < liu",
          "perplexity", line=SINCE) for f, name in FAMILIES),
    Row("1b. Tried: h2 below continued with five times the tokens, GPT-2",
        "h2 is 2.5 below after 40B tokens, by the numbers above", "long_gpt2", of("long_gpt2_*", "h2 soft continued"),
        "h2 < continued", "perplexity", also="h2 < soft; soft < continued", line=SINCE),
    Row("1c. Tried: h2 below continued on the text of the tiny questions' worlds, N_L = 4", "not tested", "statements,sums",
        {f"{x}, {v}": f"{x}_{v}" for x in ("statements", "sums") for v in ("h2", "continued")},
        "statements, h2 < statements, continued; sums, h2 < sums, continued", "perplexity", value=""),
    Row("1d. Tried: h2 below continued with Z at a learnable scale, GPT-2", "not tested", "scaled_gpt2,figure2_gpt2",
        of("figure2_gpt2_*", "h2 continued") | {"scaled h2": "scaled_gpt2_h2"}, "scaled h2 < continued", "perplexity",
        also="scaled h2 < h2"),
    *(Row(f"2. Perplexity of h2 falls as N_L grows from 1 to 8, {name}", "almost linearly", f"latents_{f},figure2_{f}_h2",
          of(f"latents_{f}_h2_*", "1 2 4 8") | {"2": f"figure2_{f}_h2"}, "2 < 1; 4 < 2; 8 < 4", "perplexity")
      for f, name in FAMILIES),
    Row("3. Joint training listens, frozen Bases hardly do: perplexity of h2 below liu's and h1's",
        "about 4 below liu, 2 below h1", "figure2",
        {f"{name}, {v}": f"figure2_{f}_{v}" for f, name in FAMILIES for v in ("liu", "h1", "h2")},
        "; ".join(f"{name}, h2 < {name}, {v}" for _, name in FAMILIES for v in ("liu", "h1")), "perplexity", value=""),
    Row("3b. The same on ProsQA: h2 more than 10 points above liu and h1",
        "h2 99.0, liu 52.6, h1 54.1 (GPT-2); 99.5, 81.0, 79.0 (Qwen-3)", "prosqa", of("prosqa_*", "h2 liu h1"),
        "h2 > liu + 10; h2 > h1 + 10", value="", note=UNREAD),
    Row("3c. Beyond: latents pay on ProsQA: h2 is above no_cot, which has none", "not tested", "prosqa_h2,prosqa_no_cot",
        of("prosqa_*", "h2 no_cot"), "h2 > no_cot"),

    # ProsQA: Table 2, Figures 3A and 7
    *(Row(claim, TABLE2, f"{world}prosqa", of(f"{world}prosqa_*", systems),
          "soft = h2 ± 5; coconut = h2 ± 5; soft > liu + 10; h2 > liu + 10; soft > h1 + 10; h2 > h1 + 10", note=note)
      for world, systems, note, claim in (
        ("", f"cot no_cot {SYSTEMS}", UNREAD, "4. ProsQA, depth-matched, N_L = 4: "
         "soft and Coconut within 5 points of h2, liu and h1 more than 10 below h2 and soft"),
        ("plain_", f"no_cot {SYSTEMS}", UNREAD, "4c. Tried: 4 on plain ProsQA, as in the paper, with its shortcut"),
        ("patient_", f"cot no_cot no_thought {SYSTEMS}", "",
         "4d. Tried: 4 from a Base that has met all of the questions' tokens, with three times the epochs"))),
    *(Row(claim, "GSM8K largely flat, can dip at larger N_L; ProsQA in a figure", name,
          {"2": f"{name}_c1", "4": name, "8": f"{name}_c4"}, "8 < 2 + 5") for name, claim in (
        ("prosqa_h2", "5. ProsQA, h2: 8 latents are less than 5 points above 2"),
        ("prosqa_soft", "5b. ProsQA, soft: 8 latents are less than 5 points above 2"))),

    # Countdown: Figure 3B
    *(Row(f"6. Countdown, h2, N_L = {k}: 3 operands are more than 10 points above 4", "falls sharply",
          f"countdown_h2_3_{k}_,countdown_h2_4_{k}_", {f"{n} operands": f"countdown_h2_{n}_{k}" for n in (3, 4)},
          "3 operands > 4 operands + 10") for k in (1, 4, 16)),
    *(Row(f"6b. Countdown with {n} operands, h2: 16 latents are within 5 points of 1", "helps slightly up to 8, then less",
          f"countdown_h2_{n}", of(f"countdown_h2_{n}_*", "1 4 16"), "16 = 1 ± 5") for n in (3, 4)),
    *(Row(f"6c. Countdown with {n} operands, N_L = 4: h2 is within 5 points of soft", "very close",
          f"countdown_h2_{n}_4,countdown_soft_{n}_4", of(f"countdown_*_{n}_4", "h2 soft"), "h2 = soft ± 5") for n in (3, 4)),
    *(Row(f"6d. Beyond: Countdown with {n} operands, N_L = 4: h2 is above no_cot, which has no latents", "not tested",
          f"countdown_h2_{n}_4,countdown_no_cot_{n}",
          {"h2": f"countdown_h2_{n}_4", "no_cot": f"countdown_no_cot_{n}_0"}, "h2 > no_cot") for n in (3, 4)),

    # Tables 3 and 4, Figure 8
    *(Row(claim, f"{paper} (GPT-2; Qwen-3), N_L = 16", f"resume_prosqa_{kind},prosqa_h2",
          {"h2": "prosqa_h2", kind: f"resume_prosqa_{kind}"}, f"{kind} < h2", apart=True) for kind, paper, claim in (
        ("curriculum", "99.0 to 97.1; 99.5 to 88.3", "7. Resuming from large-scale training hurts h2's curriculum on ProsQA"),
        ("straight", "99.0 to 97.3; 99.5 to 84.5", "7b. Going straight to all latents from there hurts, too"))),
    *(Row(f"7c. Countdown with {n} operands, N_L = 4: h2 resumed from large-scale training is above h2 and h1",
          "dominates, N_L = 16", "figure8_countdown", of(f"figure8_countdown_*_{n}", "resumed continued h2 h1"),
          "resumed > h2; resumed > h1", apart=True, note="h1's frozen Base has never met the answer's tags") for n in (3, 4)),
    Row("7d. Beyond: 7 holds also against h2 on a Base that has read as much without latents", "not tested", "resume_prosqa",
        of("resume_prosqa_*", "curriculum continued"), "curriculum < continued", apart=True),
    *(Row(f"7e. Beyond: 7c holds also against h2 on such a Base, {n} operands", "not tested", "figure8_countdown",
          of(f"figure8_countdown_*_{n}", "resumed continued"), "resumed > continued", value="", apart=True) for n in (3, 4)),

    # Section 4.3, what an answer costs, and Table 1
    *(Row(claim, paper, ",".join(f"{name}_s" for name in names.split()), of("*", names),
          "; ".join(f"{name} {sign}" for name in names.split()), measure, value="")
      for measure, names, sign, paper, claim in (
        ("capture", f"{LATENTS} countdown_h2_3_16 countdown_h2_4_16", "> 0", "0.99, 0.91, 0.94 (large-scale, GSM8K, "
         "Countdown); chance is not given", "8. Latents capture more of each other's variance than ordinary tokens do"),
        ("silhouette", LATENTS, "< 0.1", "-0.17 (large-scale), -0.03 (GSM8K)",
         "8b. Their silhouette is below 0.1 after large-scale training and after the curriculum"),
        ("silhouette", "countdown_h2_4_16", "> 0.1", "0.45", "8c. Their silhouette is above 0.1 on Countdown, 4 operands"),
        ("silhouette", "countdown_h2_3_16", "> 0.1", "not given", "8d. Beyond: 8c with 3 operands"))),
    Row("9. Until the answer begins Coconut needs N_L + 1 passes, h2 three", "17 and 3, N_L = 16", "prosqa_coconut,prosqa_h2",
        special=answer_cost),
    Row("10. Table 1: h2 is above continued pretraining on the five benchmarks",
        "by 0.4 to 1.6 (GPT-2), by -0.9 to 18.6 (Qwen-3)", "",
        special=lambda records: (["models of this size sit at chance on all five (LOG.md)",
                                  "real weights: `python evaluate.py --model=out/h2_gpt2`"], "cannot be told", [])),

    # What the paper does not have
    Row("11. Beyond: h2 is better than soft on a Base of twice the layers (twice), pretrained on as many tokens",
        "not tested; expects a single model of that size to be better", "twice_gpt2,figure2_gpt2",
        of("figure2_gpt2_*", "h2 soft") | {"twice": "twice_gpt2_soft"}, "h2 < twice", "perplexity", also="twice < soft",
        apart=True),
    Row("11c. Beyond: without ProsQA's shortcut liu and h1 lose more than 10 points more than no_cot does", "not tested",
        "plain_prosqa,prosqa", of("plain_prosqa_* - prosqa_*", f"no_cot {SYSTEMS}"), "liu > no_cot + 10; h1 > no_cot + 10",
        line="lost by {a} - {b}: {d}", value="plain - depth-matched, {label}: {spread}"),
    *(Row(claim, "not tested", f"{world}prosqa", of(f"{world}prosqa_*", f"{systems} no_cot"),
          "; ".join(f"{v} > no_cot + 10" for v in systems.split())) for world, systems, claim in (
        ("patient_", "coconut", "11d. Beyond: from a Base that needs steps (4d) Coconut is more than 10 points above no_cot"),
        ("patient_", "soft h2", "11e. Beyond: from it soft and h2 are more than 10 points above no_cot"))),
    Row("11h. Beyond: in 11e latents help, not the curriculum alone: soft is more than 10 points above no_thought",
        "not tested", "patient_prosqa_soft,patient_prosqa_no_thought", of("patient_prosqa_*", "soft no_thought"),
        "soft > no_thought + 10", note="no_thought: the same curriculum, whose steps give way to nothing"),
    *(Row(f"11{letter}. Beyond: {what}", "not tested", f"{name}_s", dict.fromkeys(labels.split(), name), must, measure)
      for letter, name, measure, labels, must, what in (
        ("i", "figure2_gpt2_h2", "perplexity by latents", "untouched swapped", "swapped > untouched + 5",
         "the latents matter: on text, of another sequence, raise perplexity by more than 5 %"),
        ("j", "prosqa_h2", "accuracy by latents", "untouched swapped", "untouched > swapped + 5",
         "the latents matter: on ProsQA, of another question, cost more than 5 points"),
        ("k", "countdown_h2_3_16", "accuracy by latents", "untouched swapped", "untouched > swapped + 5",
         "the latents matter: on Countdown, of another problem, cost more than 5 points"),
        ("l", "figure2_gpt2_h2", "perplexity by latents", "none swapped", "swapped < none",
         "any message is better than none: on text, another sequence's"),
        ("m", "prosqa_h2", "accuracy by latents", "none swapped", "swapped > none",
         "any message is better than none: on ProsQA, another question's"),
        ("n", "countdown_h2_3_16", "accuracy by latents", "none swapped", "swapped > none",
         "any message is better than none: on Countdown, another problem's"))),
]  # fmt: skip


# -----------------------------------------------------------------------------
# What the cells say

NOT_THE_SAME = "not the same Base"


def read(records, name, measure="accuracy", label=""):
    """-> {seed: number} of the runs of that name, of those that are there"""
    name, minus, other = name.partition(" - ")
    if minus:
        a, b = read(records, name, measure), read(records, other, measure)
        return {s: a[s] - b[s] for s in a.keys() & b.keys()}
    runs, number = {s: records.get(f"{name}_s{s}") for s in SEEDS}, MEASURES[measure][0]
    found = {s: number(r["metrics"][-1], r.get("latents"), label) for s, r in runs.items() if r}
    return {s: x for s, x in found.items() if x is not None}


def bases(records, name):
    """-> {seed: checksums of the Bases that its runs started from; None for runs from before there were any}"""
    names = name.split(" - ")
    runs = {s: [records[f"{n}_s{s}"] for n in names if f"{n}_s{s}" in records] for s in SEEDS}
    return {s: {r["config"].get("base_crc32") for r in found} for s, found in runs.items() if len(found) == len(names)}


def mixed(a, b):
    """Two {seed: checksums} -> do runs of one seed come from different Bases?"""
    return any(len(a[s] | b[s]) > 1 for s in a.keys() & b.keys())


def paired(a, b):
    """Two {seed: value} -> (mean of a - b, half its 95 % interval) over shared seeds; None for fewer than two"""
    d = [a[s] - b[s] for s in sorted(a.keys() & b.keys())]
    return interval(d) if len(d) > 1 else None


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
    if difference is None:
        return "not run"
    if sign == "=":
        return together([verdict(difference, "<", limit), verdict(difference, ">", -limit)])
    mean, half = (difference[0] - limit) * (1 if sign == "<" else -1), difference[1]
    return "holds" if mean + half < 0 else "does not hold" if mean - half > 0 else "cannot be told"


def told(difference, digits):
    return f"{round(difference[0], digits) + 0.0:+.{digits}f} ± {difference[1]:.{digits}f}"  # + 0.0: never "-0.0"


def together(verdicts):
    """Of several comparisons that a claim needs -> one word"""
    for word in ("does not hold", NOT_THE_SAME, "not run", "cannot be told"):
        if word in verdicts:
            return word
    return "holds"


def curve(records, name):
    """-> {seed: {tokens: ln perplexity}}"""
    found = {s: records[f"{name}_s{s}"]["metrics"] for s in SEEDS if f"{name}_s{s}" in records}
    return {s: {m["tokens"]: float(np.log(m["val_ppl"])) for m in metrics if "val_ppl" in m} for s, metrics in found.items()}


def crossing(a, b):
    """From which budget on is curve a below curve b, in the mean over seeds? -> text"""
    seeds = sorted(a.keys() & b.keys())
    tokens = sorted(t for t in a[seeds[0]] if t)
    below = [np.mean([a[s][t] - b[s][t] for s in seeds]) < 0 for t in tokens]
    if not below[-1]:
        return f"not by {tokens[-1] / 1e6:.1f}M tokens"
    since = max((i + 1 for i, x in enumerate(below) if not x), default=0)
    return f"from {tokens[since] / 1e6:.1f}M tokens on"


def weigh(row, records):
    """-> (lines of differences, one word on all that must hold, lines of what lies behind)"""
    _, percent, digits, line = MEASURES[row.measure]
    found = {label: read(records, name, row.measure, label) for label, name in row.runs.items()}
    values = {label: {s: 100 * np.log(x) if percent else x for s, x in by.items()} for label, by in found.items()}

    def compare(texts):
        lines, words = [], []
        for a, sign, b, limit in re.findall(r"(.+?) ([<>=]) (.+?)(?: [+±] (\d+))?(?:; |$)", texts):
            if b in values and not row.apart and mixed(*(bases(records, row.runs[x]) for x in (a, b))):
                words.append(NOT_THE_SAME)
                lines.append(f"{a} - {b}: {NOT_THE_SAME}")
                continue
            d = paired(values[a], values[b] if b in values else dict.fromkeys(values[a], 0.0))
            words.append(verdict(d, sign, float(limit or 0) if b in values else float(b)))
            if d:
                since = crossing(curve(records, row.runs[a]), curve(records, row.runs[b])) if row.line == SINCE else ""
                b = b.removeprefix(a.partition(", ")[0] + ", ")  # "GPT-2, h2 - liu"
                lines.append((row.line or line).format(a=a, b=b, d=told(d, digits), since=since))
        return lines, words

    (ours, words), (behind, _), (lines, word, more) = compare(row.must), compare(row.also), row.special(records)
    spreads = {label: figures.spread([*by.values()], digits) for label, by in found.items() if by and row.value}
    behind += more + [row.value.format(label=label, spread=spread) for label, spread in spreads.items()]
    return ours + lines, together([*words, word]), behind + [row.note] * bool(row.note)


# -----------------------------------------------------------------------------
# The page

PAGE = """# The paper at laptop size

**Rows for the paper's claims: {own}.** Rows for what was tried, and beyond the paper: {more}.

{done} of {all} cells have been run, {hours:.1f} core-hours; each is a line of [tiny.jsonl](tiny.jsonl), with its config,
evaluations, command and commit. Written by `make paper-tiny` (paper/cells.py, paper/claims.py). These are statements
about Bases of 0.1M to 0.3M parameters, not about GPT-2 124M. The systems are those of the
[README](../README.md#the-one-idea); large-scale training is of GPT-2 shaped models where no family is named, questions
are asked of Qwen-3 shaped ones.

- *Ours*: differences, paired by seed, ± their 95 % interval (Student's t); of perplexity in percent (100 ×
  the difference of its logarithm), of accuracy in points. A claim is decided where the whole interval is on one side of
  its limit. The limits (5 and 10 points, 0.1) are this page's, not the paper's. Unless they start from random weights
  (6) or from a run of their own seed (7), all seeds of a system start from one Base: the intervals say nothing about
  another. They are not corrected for the number of rows. Between the first cells and later ones the weights were made
  again of: {again}.
- *Values*: mean ± standard deviation (seeds).
- *From 0.3M tokens on*: from there, the first evaluation, the difference stays negative.
- *Tried*: what was changed to make a claim hold that did not, or could not be told.
  *Beyond*: what the first version of the paper does not test.
- Not here: GSM8K, for which models of this size are too small (its commands are in the README), and claims 1 to 3 with a
  larger GPT-2, for which no GPU was at hand.

| claim | the paper | ours | verdict | cells |
|---|---|---|---|---|
{rows}

To run a row's cells: `python -m paper.cells --only=<its last column>`; to run them again, delete their lines of
tiny.jsonl first.

{pictures}"""


def page(records, drawn):
    """-> the text of results/README.md"""
    words, rows = {True: Counter(), False: Counter()}, []
    for row in TABLE:
        ours, word, values = weigh(row, records)
        words["Tried" in row.claim or "Beyond" in row.claim][word] += 1
        ours = "<br>".join(ours) or "-"
        if values:
            ours += f"<details><summary>values</summary>{'<br>'.join(values)}</details>"
        rows.append(f"| {row.claim} | {row.paper} | {ours} | **{word}** | {row.cells.replace(',', ',<wbr>')} |")
    own, more = (", ".join(f"{word} {n}" for word, n in words[tried].most_common()) for tried in (False, True))
    done = [records[name] for name in all_cells() if name in records]
    again = ", ".join(f"{r['name']} ({r['weights']})" for r in done if "weights" in r) or "none"
    return PAGE.format(
        own=own, more=more, done=len(done), all=len(all_cells()), hours=sum(r["seconds"] for r in done) / 3600, again=again,
        rows="\n".join(rows), pictures="\n".join(f"![{name}]({name}.png)\n" for name in drawn),
    )  # fmt: skip


def overview(records, out):
    """The three main experiments in one picture."""
    records = {r["name"]: r for r in records}
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), width_ratios=[1, 0.9, 1])
    for v in "continued soft liu h1 h2".split():
        if curves := curve(records, f"figure2_gpt2_{v}").values():
            tokens = sorted(set.intersection(*map(set, curves)) - {0})
            mean = [np.exp(np.mean([c[t] for c in curves])) for t in tokens]
            left.plot(np.array(tokens) / 1e6, mean, color=figures.COLORS[v], label=figures.LABELS[v])
    left.set(title="Text: validation perplexity", xlabel="million tokens")

    def dots(ax, names, shift=0.0, **style):
        """A dot a seed, a column a name"""
        found = [(x + shift, y) for x, name in enumerate(names.values()) for y in read(records, name).values()]
        ax.scatter([x for x, _ in found], [y for _, y in found], alpha=0.8, **style)
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right")

    systems = f"cot no_cot {SYSTEMS}"
    dots(middle, of("prosqa_*", systems), -0.15, color="black", label="from a Base that answers without steps")
    dots(middle, of("patient_prosqa_*", systems), 0.15, color="white", edgecolor="black", label="from a Base that needs steps")
    middle.axhline(50, color="#bbbbbb", ls=":", label="a guess")
    middle.set(title="ProsQA: accuracy in %", ylim=(0, 100))
    for n, color in ((3, "#d62728"), (4, "#7f7f7f")):
        names = {"no latents": f"countdown_no_cot_{n}_0", "soft, 4": f"countdown_soft_{n}_4"}
        names |= {f"h2, {k}": f"countdown_h2_{n}_{k}" for k in (1, 4, 16)}
        sums = {"h1, 4, sums": "h1", "h2, 4, sums": "h2", "h2, 4, resumed": "resumed"}
        names |= {label: f"figure8_countdown_{v}_{n}" for label, v in sums.items()}
        dots(right, names, color=color, label=f"{n} operands")
    right.set(title="Countdown: accuracy in %, by system and $N_L$", ylim=(0, 80))
    for ax, place in ((left, "best"), (middle, (0.05, 0.66)), (right, "upper right")):
        figures.finish(ax)
        ax.legend(frameon=False, fontsize="small", loc=place)
    figures.save(figure, out)


PICTURES = {  # name: (how it is drawn, of the cells whose names begin so)
    "overview": (overview, "figure2_gpt2_|prosqa_|patient_prosqa_|countdown_|figure8_"),
    "figure2_gpt2": (figures.figure2, "figure2_gpt2_"), "figure2_qwen3": (figures.figure2, "figure2_qwen3_"),
    "figure2_long": (figures.figure2, "long_gpt2_"), "stages": (figures.stages, "prosqa_"),
    "stages_patient": (figures.stages, "patient_prosqa_"),
    "figure3b": (figures.figure3b, "countdown_"), "figure8": (figures.figure8, "figure8_countdown_(h|r)"),
}  # fmt: skip


def draw(records):
    """-> the names of the pictures that are in results/ now"""
    drawn = []
    for name, (picture, pattern) in PICTURES.items():
        found = [r for cell, r in sorted(records.items()) if re.match(pattern, cell) and not re.search("_c[14]_", cell)]
        if found:
            picture(found, f"results/{name}.png")
            drawn.append(name)
    return drawn


def main():
    records = finished(all_cells())
    text = page(records, draw(records))
    with open("results/README.md", "w", encoding="utf-8") as f:
        f.write(text)
    print("wrote results/README.md")


if __name__ == "__main__":
    one_line_errors(main)
