"""What the paper claims, and what the cells of cells.py say of it: numbers, intervals, a word.

    python -m paper.cells --report    # writes results/README.md, a row a claim

Every difference is paired by seed, and its 95 % interval decides: a claim holds or does not hold where the whole interval
is on one side of its limit, and cannot be told where it is on both.
"""

import json
import os
from dataclasses import dataclass, field

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import figures
import runtime

RESULTS = "results/tiny"
SEEDS = (1, 2, 3)
FAMILIES = ("gpt2", "qwen3")
TRAINED = ("continued", "soft", "liu", "h1", "h2")
SYSTEMS = ("coconut", "soft", "liu", "h1", "h2")  # of Table 2
ASKED = ("cot", "no_cot", *SYSTEMS)
PLAIN = ("no_cot", *SYSTEMS)  # on ProsQA with its shortcut, too
PATIENT = ("no_cot", "no_thought", *SYSTEMS)  # for three times the epochs
T95 = {2: 12.706, 3: 4.303}  # Student's t, two-sided 95 %, by the number of seeds


@dataclass
class Claim:
    """A row of the page. ours: the differences that decide; cells: those that were read, as their names begin."""

    claim: str
    paper: str
    ours: list
    verdict: str
    cells: str
    values: list = field(default_factory=list)  # what lies behind the differences


def metrics(name):
    """-> the run's metrics, or None where it has not been run"""
    folder = os.path.join(RESULTS, name)
    return runtime.read_metrics(folder) if os.path.exists(os.path.join(folder, "cell.json")) else None


def latents(name):
    path = os.path.join(RESULTS, name, "latents.json")
    if os.path.exists(path):
        with open(path) as f:
            return json.load(f)


def log_ppl(pattern):
    """-> {seed: 100 ln of the final validation perplexity} of the seeds that have been run; differences are about percents"""
    found = {s: metrics(pattern.format(s=s)) for s in SEEDS}
    return {s: 100 * float(np.log(m[-1]["val_ppl"])) for s, m in found.items() if m}


def accuracy(pattern):
    """-> {seed: test accuracy in percent}"""
    found = {s: metrics(pattern.format(s=s)) for s in SEEDS}
    return {s: 100 * m[-1]["test_accuracy"] for s, m in found.items() if m}


def paired(a, b):
    """Two {seed: value} -> (mean of a - b, half its 95 % interval) over shared seeds; None for fewer than two"""
    d = np.array([a[s] - b[s] for s in sorted(a.keys() & b.keys())])
    return (d.mean(), T95[len(d)] * d.std(ddof=1) / len(d) ** 0.5) if len(d) > 1 else None


def verdict(difference, limit=0.0):
    """Of 'a - b is below the limit' -> a word"""
    if difference is None:
        return "not run"
    mean, half = difference
    return "holds" if mean + half < limit else "does not hold" if mean - half > limit else "cannot be told"


def over(difference, limit=0.0):
    """Of 'a - b is above the limit' -> a word"""
    return verdict(difference and (-difference[0], difference[1]), -limit)


def near(difference, limit):
    """Of 'a and b are less than the limit apart' -> a word"""
    return together([verdict(difference, limit), over(difference, -limit)])


def told(difference, digits=1, limit=0.0):
    if difference is None:
        return "-"
    return f"{round(difference[0] + limit, digits) + 0.0:+.{digits}f} ± {difference[1]:.{digits}f}"  # + 0.0: never "-0.0"


def spread(values, digits=1):
    return figures.spread(list(values.values()), digits)


def together(verdicts):
    """Of several comparisons that a claim needs -> one word"""
    for word in ("does not hold", "not run", "cannot be told"):
        if word in verdicts:
            return word
    return "holds"


def curve(pattern):
    """-> {seed: {tokens: ln perplexity}}"""
    found = {s: metrics(pattern.format(s=s)) for s in SEEDS}
    return {s: {r["tokens"]: float(np.log(r["val_ppl"])) for r in m if "val_ppl" in r} for s, m in found.items() if m}


def crossing(a, b):
    """From which budget on is a below b, in the mean over seeds? -> text"""
    a, b = curve(a), curve(b)
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return "not run"
    tokens = sorted(t for t in a[seeds[0]] if t)
    below = [np.mean([a[s][t] - b[s][t] for s in seeds]) < 0 for t in tokens]
    if not below[-1]:
        return f"not by {tokens[-1] / 1e6:.1f}M tokens"
    since = max((i + 1 for i, x in enumerate(below) if not x), default=0)
    return f"from {tokens[since] / 1e6:.1f}M tokens on"


def claims():
    """Yields a Claim each."""

    def differences(values, pairs, judge, text):
        """-> (the differences of these pairs, one word on all of them)"""
        found = {f"{a} - {b}": paired(values[a], values[b]) for a, b in pairs}
        return [f"{name}: {text(d)}" for name, d in found.items() if d], together([judge(d) for d in found.values()])

    def lower(values, pairs):
        """Is each perplexity below its second?"""
        return differences(values, pairs, verdict, lambda d: f"{told(d, 2)} %")

    def below(values, pairs):
        """Is each accuracy below its second?"""
        return differences(values, pairs, verdict, told)

    def above(values, pairs, margin=0.0):
        """Is each accuracy above its second, by more than the margin?"""
        return differences(values, pairs, lambda d: over(d, margin), told)

    def figure2(family, variants=TRAINED):
        return {v: log_ppl(f"figure2_{family}_{v}_s{{s}}") for v in variants}

    def prosqa(variants, prefix=""):
        return {v: accuracy(f"{prefix}prosqa_{v}_s{{s}}") for v in variants}

    def each(values):
        return [f"{name}: {spread(x)}" for name, x in values.items() if x]

    def perplexities(values):
        return [f"{v}: {spread({s: np.exp(y / 100) for s, y in x.items()}, 2)}" for v, x in values.items() if x]

    # Figure 2
    order = ("h2", "soft", "h1", "continued", "liu")
    pairs = list(zip(order, order[1:], strict=False))
    for family in FAMILIES:
        values = figure2(family, order)
        ours, word = lower(values, pairs)
        since = [crossing(*(f"figure2_{family}_{v}_s{{s}}" for v in pair)) for pair in pairs]
        ours = [f"{x}, {text}" for x, text in zip(ours, since, strict=False)]
        claim = f"1. Perplexity, {figures.FAMILY_NAMES[family]}: h2 < soft < h1 < continued < liu"
        paper = "liu about 1.5 above continued; h1 and h2 about 2 and 4 below liu; h1 above soft, h2 marginally below"
        yield Claim(claim, paper, ours, word, f"figure2_{family}", perplexities(values))

    long = {v: log_ppl(f"long_gpt2_{v}_s{{s}}") for v in ("h2", "soft", "continued")}
    ours, word = lower(long, [("h2", "continued")])
    ours = [f"{x}, {crossing('long_gpt2_h2_s{s}', 'long_gpt2_continued_s{s}')}" for x in ours]
    values = lower(long, [("h2", "soft"), ("soft", "continued")])[0] + perplexities(long)
    claim = "1b. Tried: h2 below continued with five times the tokens, GPT-2"
    yield Claim(claim, "h2 is 2.5 below after 40B tokens, by the numbers above", ours, word, "long_gpt2", values)

    claim = "1c. Tried: h2 below continued on the text of the tiny questions' worlds, N_L = 4"
    other = {x: paired(*(log_ppl(f"{x}_{v}_s{{s}}") for v in ("h2", "continued"))) for x in ("statements", "sums")}
    ours = [f"{name}, h2 - continued: {told(d, 2)} %" for name, d in other.items()]
    yield Claim(claim, "not tested", ours, together([verdict(d) for d in other.values()]), "statements,sums")

    values = figure2("gpt2", ["h2", "continued"]) | {"scaled h2": log_ppl("scaled_gpt2_h2_s{s}")}
    ours, word = lower(values, [("scaled h2", "continued")])
    claim = "1d. Tried: h2 below continued with Z at a learnable scale, GPT-2"
    values = lower(values, [("scaled h2", "h2")])[0] + perplexities(values)
    yield Claim(claim, "not tested", ours, word, "scaled_gpt2,figure2_gpt2", values)

    for family in FAMILIES:
        sizes = {n: log_ppl(f"latents_{family}_h2_{n}_s{{s}}") for n in (1, 4, 8)} | {2: figure2(family, ["h2"])["h2"]}
        ours, word = lower(sizes, [(2, 1), (4, 2), (8, 4)])
        claim = f"2. Perplexity of h2 falls as N_L grows from 1 to 8, {figures.FAMILY_NAMES[family]}"
        values = perplexities(dict(sorted(sizes.items())))
        yield Claim(claim, "almost linearly", ours, word, f"latents_{family},figure2_{family}_h2", values)

    # Joint training
    ours, words = [], []
    for family in FAMILIES:
        lines, word = lower(figure2(family), [("h2", "liu"), ("h2", "h1")])
        ours, words = ours + [f"{figures.FAMILY_NAMES[family]}, {x}" for x in lines], [*words, word]
    claim = "3. Joint training listens, frozen Bases hardly do: perplexity of h2 below liu's and h1's"
    yield Claim(claim, "about 4 below liu, 2 below h1", ours, together(words), "figure2")
    unread = "the frozen Base has never met 19 of the questions' tokens; for one that has, see 4d and 4e"
    ours, word = above(prosqa(ASKED), [("h2", "liu"), ("h2", "h1")], 10)
    claim = "3b. The same on ProsQA: h2 more than 10 points above liu and h1"
    paper = "h2 99.0, liu 52.6, h1 54.1 (GPT-2); 99.5, 81.0, 79.0 (Qwen-3)"
    yield Claim(claim, paper, ours, word, "prosqa", [unread])
    found = prosqa(["h2", "no_cot"])
    ours, word = above(found, [("h2", "no_cot")])
    claim = "3c. Beyond: latents pay on ProsQA: h2 is above no_cot, which has none"
    yield Claim(claim, "not tested", ours, word, "prosqa_h2,prosqa_no_cot", each(found))

    # Table 2
    paper = "soft 97.7, liu 52.6, h1 54.1, h2 99.0, Coconut 97.0 (GPT-2); 99.5, 81.0, 79.0, 99.5, - (Qwen-3); N_L = 12"
    table = "soft and Coconut within 5 points of h2, liu and h1 more than 10 below h2 and soft"
    for claim, prefix, systems, note in (
        (f"4. ProsQA, depth-matched, N_L = 4: {table}", "", ASKED, [unread]),
        ("4b. Tried: 4 at half the learning rate", "slow_", SYSTEMS, [unread]),
        ("4c. Tried: 4 on plain ProsQA, as in the paper, with its shortcut", "plain_", PLAIN, [unread]),
        ("4d. Tried: 4 from a Base that has met all of the questions' tokens", "worded_", (*ASKED, "no_thought"), []),
        ("4e. Tried: 4d with three times the epochs", "patient_", PATIENT, []),
    ):
        found = prosqa(systems, prefix)
        far, word = above(found, [(w, v) for v in ("liu", "h1") for w in ("soft", "h2")], 10)
        beside = {v: paired(found[v], found["h2"]) for v in ("soft", "coconut")}
        word = together([word, *(near(d, 5) for d in beside.values())])
        ours = [f"{v} - h2: {told(d)}" for v, d in beside.items()] + far
        yield Claim(claim, paper, ours, word, f"{prefix}prosqa", each(found) + note)

    # Figures 3A and 7
    paper = "GSM8K largely flat, can dip at larger N_L; ProsQA in a figure"
    for claim, v, prefix in (
        ("5. ProsQA, h2: 8 latents are less than 5 points above 2", "h2", ""),
        ("5b. ProsQA, soft: 8 latents are less than 5 points above 2", "soft", ""),
        ("5c. Tried: 5b at half the learning rate", "soft", "slow_"),
    ):
        by = dict(zip((2, 4, 8), prosqa([f"{v}_c1", v, f"{v}_c4"], prefix).values(), strict=True))
        d = paired(by[8], by[2])
        yield Claim(claim, paper, [f"8 - 2: {told(d)}"], verdict(d, 5), f"{prefix}prosqa_{v}", each(by))

    # Figure 3B
    def counted(v, n, k):
        return accuracy(f"countdown_{v}_{n}_{k}_s{{s}}")

    for k in (1, 4, 16):
        of = {f"{n} operands": counted("h2", n, k) for n in (3, 4)}
        ours, word = above(of, [("3 operands", "4 operands")], 10)
        claim = f"6. Countdown, h2, N_L = {k}: 3 operands are more than 10 points above 4"
        yield Claim(claim, "falls sharply", ours, word, f"countdown_h2_3_{k}_,countdown_h2_4_{k}_", each(of))
    for n in (3, 4):
        of = {k: counted("h2", n, k) for k in (1, 4, 16)}
        d, claim = paired(of[16], of[1]), f"6b. Countdown with {n} operands, h2: 16 latents are within 5 points of 1"
        yield Claim(
            claim, "helps slightly up to 8, then less", [f"16 - 1: {told(d)}"], near(d, 5), f"countdown_h2_{n}", each(of)
        )
    for n in (3, 4):
        of = {v: counted(v, n, 4) for v in ("h2", "soft")}
        d, claim = paired(of["h2"], of["soft"]), f"6c. Countdown with {n} operands, N_L = 4: h2 is within 5 points of soft"
        where = f"countdown_h2_{n}_4,countdown_soft_{n}_4"
        yield Claim(claim, "very close", [f"h2 - soft: {told(d)}"], near(d, 5), where, each(of))
    for n in (3, 4):
        of = {"h2": counted("h2", n, 4), "no_cot": counted("no_cot", n, 0)}
        ours, word = above(of, [("h2", "no_cot")])
        claim = f"6d. Beyond: Countdown with {n} operands, N_L = 4: h2 is above no_cot, which has no latents"
        yield Claim(claim, "not tested", ours, word, f"countdown_h2_{n}_4,countdown_no_cot_{n}", each(of))

    # Tables 3 and 4, Figure 8
    start = accuracy("prosqa_h2_s{s}")
    for claim, kind, paper in (
        ("7. Resuming from large-scale training hurts h2's curriculum on ProsQA", "curriculum", "99.0 to 97.1; 99.5 to 88.3"),
        ("7b. Going straight to all latents from there hurts, too", "straight", "99.0 to 97.3; 99.5 to 84.5"),
    ):
        found = {"h2": start, kind: accuracy(f"resume_prosqa_{kind}_s{{s}}")}
        ours, word = below(found, [(kind, "h2")])
        paper += " (GPT-2; Qwen-3), N_L = 16"
        yield Claim(claim, paper, ours, word, f"resume_prosqa_{kind},prosqa_h2", each(found))
    from_sums = {
        n: {v: accuracy(f"figure8_countdown_{v}_{n}_s{{s}}") for v in ("resumed", "continued", "h2", "h1")} for n in (3, 4)
    }
    for n, found in from_sums.items():
        ours, word = above(found, [("resumed", "h2"), ("resumed", "h1")])
        values = [*each(found), "h1's frozen Base has never met the answer's tags"]
        claim = f"7c. Countdown with {n} operands, N_L = 4: h2 resumed from large-scale training is above h2 and h1"
        yield Claim(claim, "dominates, N_L = 16", ours, word, "figure8_countdown", values)
    claim = "7d. Beyond: 7 holds also against h2 on a Base that has read as much without latents"
    found = {v: accuracy(f"resume_prosqa_{v}_s{{s}}") for v in ("curriculum", "continued")}
    ours, word = below(found, [("curriculum", "continued")])
    yield Claim(claim, "not tested", ours, word, "resume_prosqa", each(found))
    for n, found in from_sums.items():
        ours, word = above(found, [("resumed", "continued")])
        claim = f"7e. Beyond: 7c holds also against h2 on such a Base, {n} operands"
        yield Claim(claim, "not tested", ours, word, "figure8_countdown")

    # Section 4.3
    def analysed(name, what):
        found = {s: x for s in SEEDS if (x := latents(f"{name}_s{s}"))}
        return {s: x["silhouette"] if what == "silhouette" else x["off_diagonal"] - x["null"] for s, x in found.items()}

    asked = ("figure2_gpt2_h2", "latents_gpt2_h2_8", "statements_h2", "prosqa_h2")
    shared = "8. Latents capture each other's variance 0.1 or more above chance"
    captured = "0.99, 0.91, 0.94 (large-scale, GSM8K, Countdown); chance is not given"
    near_zero = "8b. Their silhouette is below 0.1 after large-scale training and after the curriculum"
    for claim, paper, what, names, judge in (
        (shared, captured, "capture", (*asked, "countdown_h2_3_16"), over),
        (near_zero, "-0.17 (large-scale), -0.03 (GSM8K)", "silhouette", asked, verdict),
        ("8c. Their silhouette is above 0.1 on Countdown, 4 operands", "0.45", "silhouette", ["countdown_h2_4_16"], over),
        ("8d. Beyond: 8c with 3 operands", "not given", "silhouette", ["countdown_h2_3_16"], over),
    ):
        values = {n: analysed(n, what) for n in names}
        apart = {n: paired(x, dict.fromkeys(x, 0.1)) for n, x in values.items()}
        ours = [f"{n}: {told(d, 2, 0.1)}" for n, d in apart.items() if d]
        yield Claim(claim, paper, ours, together([judge(d) for d in apart.values()]), ",".join(f"{n}_s" for n in names))

    # What an answer costs, and Table 1
    cost = {v: metrics(f"prosqa_{v}_s1") for v in ("coconut", "h2")}
    ours, word = [], "not run"
    if all(cost.values()):
        c, h = (cost[v][-1] for v in ("coconut", "h2"))
        ours = [f"N_L = 4: {c['passes_to_answer']:.0f} and {h['passes_to_answer']:.0f} passes, "]
        ours[0] += f"{1000 * c['seconds_to_answer']:.1f} and {1000 * h['seconds_to_answer']:.1f} ms (one seed)"
        word = "holds" if (c["passes_to_answer"], h["passes_to_answer"]) == (5, 3) else "does not hold"
    claim = "9. Until the answer begins Coconut needs N_L + 1 passes, h2 three"
    yield Claim(claim, "17 and 3, N_L = 16", ours, word, "prosqa_coconut,prosqa_h2")
    ours = ["models of this size sit at chance on all five (LOG.md)", "real weights: `python evaluate.py --model=out/h2_gpt2`"]
    claim = "10. Table 1: h2 is above continued pretraining on the five benchmarks"
    yield Claim(claim, "by 0.4 to 1.6 (GPT-2), by -0.9 to 18.6 (Qwen-3)", ours, "cannot be told", "")

    # What the paper does not have
    found = figure2("gpt2", ["h2", "soft"]) | {"twice": log_ppl("twice_gpt2_soft_s{s}")}
    ours, word = lower(found, [("h2", "twice")])
    claim = "11. Beyond: h2 is better than soft on a Base of twice the layers (twice), pretrained on as many tokens"
    paper = "not tested; expects a single model of that size to be better"
    values = lower(found, [("twice", "soft")])[0] + perplexities(found)
    yield Claim(claim, paper, ours, word, "twice_gpt2,figure2_gpt2", values)
    found = {"penalised": log_ppl("orthogonal_gpt2_h2_8_s{s}"), "plain": log_ppl("latents_gpt2_h2_8_s{s}")}
    ours, word = lower(found, [("penalised", "plain")])
    a, b = latents("orthogonal_gpt2_h2_8_s1"), latents("latents_gpt2_h2_8_s1")
    values = [f"one seed, capture: {a['off_diagonal']:.2f}, plain {b['off_diagonal']:.2f}"] if a and b else []
    claim = "11b. Beyond: a penalty on overlap lowers h2's perplexity"
    yield Claim(claim, "suggested", ours, word, "orthogonal_gpt2,latents_gpt2_h2_8", values)
    matched, plain = prosqa(PLAIN), prosqa(PLAIN, "plain_")
    lost = {v: {s: plain[v][s] - matched[v][s] for s in matched[v].keys() & plain[v].keys()} for v in PLAIN}
    ours, word = above(lost, [(v, "no_cot") for v in ("liu", "h1")], 10)
    values = [f"plain - depth-matched, {x}" for x in each(lost)]
    claim = "11c. Beyond: without ProsQA's shortcut liu and h1 lose more than 10 points more than no_cot does"
    yield Claim(claim, "not tested", [f"lost by {x}" for x in ours], word, "plain_prosqa,prosqa", values)
    for claim, names, prefix in (
        ("11d. Beyond: from a Base that needs steps (4d) Coconut is more than 10 points above no_cot", ["coconut"], "worded_"),
        ("11e. Beyond: from it soft and h2 are more than 10 points above no_cot", ["soft", "h2"], "worded_"),
        ("11f. Beyond: 11d with three times the epochs for both", ["coconut"], "patient_"),
        ("11g. Beyond: 11e with three times the epochs for all", ["soft", "h2"], "patient_"),
    ):
        found = prosqa([*names, "no_cot"], prefix)
        ours, word = above(found, [(v, "no_cot") for v in names], 10)
        yield Claim(claim, "not tested", ours, word, f"{prefix}prosqa", each(found))
    claim = "11h. Beyond: in 11g latents help, not the curriculum alone: soft is more than 10 points above no_thought"
    found = prosqa(["soft", "no_thought"], "patient_")
    ours, word = above(found, [("soft", "no_thought")], 10)
    values = [
        *each(found),
        "no_thought: the same curriculum, whose steps give way to nothing, from a second training of the same Base",
    ]
    yield Claim(claim, "not tested", ours, word, "patient_prosqa_soft,patient_prosqa_no_thought", values)

    for letter, name, where, unit in (
        ("i", "figure2_gpt2_h2", "on text, of another sequence, raise perplexity by more than 5 %", "%"),
        ("j", "prosqa_h2", "on ProsQA, of another question, cost more than 5 points", "points"),
        ("k", "countdown_h2_3_16", "on Countdown, of another problem, cost more than 5 points", "points"),
    ):
        scores = {s: x["meddling"] for s in SEEDS if (x := latents(f"{name}_s{s}"))}
        if unit == "%":
            worse = {s: 100 * float(np.log(x["swapped"] / x["untouched"])) for s, x in scores.items()}
        else:
            worse = {s: x["untouched"] - x["swapped"] for s, x in scores.items()}
        d = paired(worse, dict.fromkeys(worse, 0.0))
        values = [f"{kind}: {spread({s: x[kind] for s, x in scores.items()})}" for kind in ("untouched", "swapped") if scores]
        claim = f"11{letter}. Beyond: the latents matter: {where}"
        yield Claim(claim, "not tested", [f"worse by {told(d)} {unit}"], over(d, 5), f"{name}_s", values)


def overview():
    """results/tiny/overview.png: the three main experiments -> the names of what was drawn"""
    perplexities = {v: curve(f"figure2_gpt2_{v}_s{{s}}") for v in TRAINED}
    if not any(perplexities.values()):
        return []
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), width_ratios=[1, 0.9, 1])

    for v, curves in perplexities.items():
        if curves:
            tokens = sorted(set.intersection(*map(set, curves.values())) - {0})
            mean = [np.exp(np.mean([c[t] for c in curves.values()])) for t in tokens]
            left.plot(np.array(tokens) / 1e6, mean, color=figures.COLORS[v], label=figures.LABELS[v])
    left.set(title="Text: validation perplexity", xlabel="million tokens")

    def dots(ax, x, found, **style):
        ax.scatter([x] * len(found), list(found.values()), alpha=0.8, **style)

    for x, v in enumerate(ASKED):
        dots(middle, x - 0.15, accuracy(f"prosqa_{v}_s{{s}}"), color=figures.COLORS[v])
        dots(middle, x + 0.15, accuracy(f"worded_prosqa_{v}_s{{s}}"), edgecolor=figures.COLORS[v], color="white")
    dots(middle, 0, {}, color="black", label="from a Base that answers without steps")
    dots(middle, 0, {}, edgecolor="black", color="white", label="from a Base that needs steps")
    middle.axhline(50, color="#bbbbbb", ls=":", label="a guess")
    middle.set(title="ProsQA: accuracy in %", ylim=(0, 100))
    middle.set_xticks(range(len(ASKED)), ASKED, rotation=40, ha="right")

    scratch, pretrained = ("no_cot_{}_0", "soft_{}_4", "h2_{}_1", "h2_{}_4", "h2_{}_16"), ("h1_{}", "h2_{}", "resumed_{}")
    cells = [f"countdown_{x}_s{{{{s}}}}" for x in scratch] + [f"figure8_countdown_{x}_s{{{{s}}}}" for x in pretrained]
    labels = ["no latents", "soft, 4", "h2, 1", "h2, 4", "h2, 16", "h1, 4, sums", "h2, 4, sums", "h2, 4, resumed"]
    for n, color in ((3, "#d62728"), (4, "#7f7f7f")):
        for x, cell in enumerate(cells):
            dots(right, x, accuracy(cell.format(n)), color=color)
        dots(right, 0, {}, color=color, label=f"{n} operands")
    right.set(title="Countdown: accuracy in %, by system and $N_L$", ylim=(0, 80), xlim=(-0.5, len(cells) - 0.5))
    right.set_xticks(range(len(cells)), labels, rotation=40, ha="right")

    for ax, place in ((left, "best"), (middle, (0.05, 0.66)), (right, "upper right")):
        figures.finish(ax)
        ax.legend(frameon=False, fontsize="small", loc=place)
    figures.save(figure, f"{RESULTS}/overview.png")
    return ["overview"]
