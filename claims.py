"""What the paper claims, and what the cells of paper.py say of it: numbers, intervals, a word.

    python paper.py --report    # writes results/README.md, a row a claim

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


def against(values, limit):
    """{seed: value} -> (mean of value - limit, half its 95 % interval)"""
    return paired(values, dict.fromkeys(values, limit))


def verdict(difference, limit=0.0):
    """Of 'a - b is below the limit' -> a word"""
    if difference is None:
        return "not run"
    mean, half = difference
    return "holds" if mean + half < limit else "does not hold" if mean - half > limit else "cannot be told"


def near(difference, limit):
    """Of 'a and b are less than the limit apart' -> a word"""
    if difference is None:
        return "not run"
    mean, half = difference
    return together([verdict((mean, half), limit), verdict((-mean, half), limit)])


def told(difference, digits=1, limit=0.0):
    if difference is None:
        return "-"
    return f"{round(difference[0] + limit, digits) + 0.0:+.{digits}f} ± {difference[1]:.{digits}f}"  # + 0.0: never "-0.0"


def spread(values, digits=1):
    return figures.spread(list(values.values()), digits)


def together(verdicts):
    """Of several comparisons that a claim needs -> one word"""
    for word in ("not run", "does not hold", "cannot be told"):
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

    def below(values, pairs, digits=1, limit=0.0):
        """Is each first below its second, or their difference below the limit? -> (the differences, one word)"""
        found = {f"{a} - {b}": paired(values[a], values[b]) for a, b in pairs}
        lines = [f"{name}: {told(d, digits)}" for name, d in found.items()]
        return lines, together([verdict(d, limit) for d in found.values()])

    def figure2(family, variants=TRAINED):
        return {v: log_ppl(f"figure2_{family}_{v}_s{{s}}") for v in variants}

    def prosqa(variants, prefix=""):
        return {v: accuracy(f"{prefix}prosqa_{v}_s{{s}}") for v in variants}

    def each(values, digits=1):
        return [f"{name}: {spread(x, digits)}" for name, x in values.items() if x]

    # Figure 2
    order = ("h2", "soft", "h1", "continued", "liu")
    pairs = list(zip(order, order[1:], strict=False))
    for family, paper in (("gpt2", "h1 about 0.5 under continued, liu about 1.5 over it"), ("qwen3", "h1 close to h2")):
        values = figure2(family)
        ours, word = below(values, pairs, 2)
        since = [crossing(*(f"figure2_{family}_{v}_s{{s}}" for v in pair)) for pair in pairs]
        ours = [f"{x} %, {text}" for x, text in zip(ours, since, strict=True)]
        values = {v: {s: np.exp(x / 100) for s, x in values[v].items()} for v in order}
        claim = f"1. Perplexity, {figures.FAMILY_NAMES[family]}: h2 < soft < h1 < continued < liu"
        yield Claim(claim, paper, ours, word, f"figure2_{family}", each(values, 2))

    long = {v: f"long_gpt2_{v}_s{{s}}" for v in ("h2", "soft", "continued")}
    ours, word = below({v: log_ppl(x) for v, x in long.items()}, [("h2", "continued")], 2)
    ours = [f"{ours[0]} %, {crossing(long['h2'], long['continued'])}"]
    values, _ = below({v: log_ppl(x) for v, x in long.items()}, [("h2", "soft"), ("soft", "continued")], 2)
    claim = "1b. Tried: with five times the tokens h2 is below continued, GPT-2"
    yield Claim(claim, "about 2 points after 40B tokens", ours, word, "long_gpt2", [f"{x} %" for x in values])

    other = {x: paired(*(log_ppl(f"{x}_{v}_s{{s}}") for v in ("h2", "continued"))) for x in ("statements", "sums")}
    ours = [f"{name}, h2 - continued: {told(d, 2)} %" for name, d in other.items()]
    claim = "1c. Tried: h2 is below continued on the text of the tiny questions' worlds, N_L = 4"
    yield Claim(claim, "not tested", ours, together([verdict(d) for d in other.values()]), "statements,sums")

    scaled = log_ppl("scaled_gpt2_h2_s{s}")
    d = paired(scaled, figure2("gpt2", ["continued"])["continued"])
    claim = "1d. Tried: h2 is below continued with Z at a learnable scale, GPT-2"
    ours = [f"scaled h2 - continued: {told(d, 2)} %"]
    values = [f"scaled h2 - h2: {told(paired(scaled, figure2('gpt2', ['h2'])['h2']), 2)} %"]
    yield Claim(claim, "not tested", ours, verdict(d), "scaled_gpt2,figure2_gpt2", values)

    for family in FAMILIES:
        sizes = {n: log_ppl(f"latents_{family}_h2_{n}_s{{s}}") for n in (1, 4, 8)} | {2: figure2(family, ["h2"])["h2"]}
        ours, word = below(sizes, [(2, 1), (4, 2), (8, 4)], 2)
        claim = f"2. Perplexity falls with N_L under h2, {figures.FAMILY_NAMES[family]}"
        ours = [f"{x} %" for x in ours]
        yield Claim(claim, "falls from 1 to 16", ours, word, f"latents_{family},figure2_{family}_h2")

    # Table 2, Figures 3A and 7
    trained = below(figure2("gpt2"), [("h2", "liu"), ("h2", "h1")], 2)
    answered = below(prosqa(ASKED), [("liu", "h2"), ("h1", "h2")], limit=-10)
    ours = [*(f"perplexity, GPT-2, {x} %" for x in trained[0]), *(f"ProsQA, {x}" for x in answered[0])]
    paper = "ProsQA: h2 99.0, liu 52.6, h1 54.1 (GPT-2); 99.5, 81.0, 79.0 (Qwen-3)"
    claim = "3. Joint training listens, frozen Bases hardly do: h2 below both in perplexity, 10 points above both on ProsQA"
    yield Claim(claim, paper, ours, together([trained[1], answered[1]]), "figure2_gpt2,prosqa")

    found = prosqa(["h2", "no_cot"])
    ours, word = below(found, [("no_cot", "h2")])
    claim = "3b. Beyond: and on ProsQA it is the latents that are listened to: h2 is above no_cot, which has none"
    yield Claim(claim, "not tested", ours, word, "prosqa_h2,prosqa_no_cot", each(found))

    paper = "soft 97.7, liu 52.6, h1 54.1, h2 99.0, Coconut 97.0 (GPT-2); 99.5, 81.0, 79.0, 99.5, - (Qwen-3); N_L = 12"
    for claim, prefix, systems in (
        (
            "4. ProsQA, depth-matched, N_L = 4: soft and Coconut within 5 points of h2; liu and h1 10 below h2 and soft",
            "",
            ASKED,
        ),
        ("4b. Tried: the same at half the learning rate", "slow_", SYSTEMS),
        ("4c. Tried: the same on plain ProsQA, as in the paper, with its shortcut", "plain_", PLAIN),
        ("4d. Tried: the same from a Base that has met all of the questions' words", "worded_", ASKED),
    ):
        found = prosqa(systems, prefix)
        far, word = below(found, [(v, w) for v in ("liu", "h1") for w in ("soft", "h2")], limit=-10)
        beside = {v: paired(found[v], found["h2"]) for v in ("soft", "coconut")}
        word = together([word, *(near(d, 5) for d in beside.values())])
        ours = [f"{v} - h2: {told(d)}" for v, d in beside.items()] + far
        yield Claim(claim, paper, ours, word, f"{prefix}prosqa", each(found))

    for claim, v, prefix in (
        ("5. ProsQA, h2: accuracy with 8 latents is within 5 points of 2", "h2", ""),
        ("5b. The same, soft", "soft", ""),
        ("5c. Tried: the same, soft at half the learning rate", "soft", "slow_"),
    ):
        by = dict(zip((2, 4, 8), prosqa([f"{v}_c1", v, f"{v}_c4"], prefix).values(), strict=True))
        d = paired(by[8], by[2])
        yield Claim(claim, "flat or dipping", [f"8 - 2: {told(d)}"], near(d, 5), f"{prefix}prosqa_{v}", each(by))

    # Figure 3B
    sizes = [("h2", 1), ("h2", 4), ("h2", 16), ("soft", 4), ("no_cot", 0)]
    found = {(v, n, k): accuracy(f"countdown_{v}_{n}_{k}_s{{s}}") for v, k in sizes for n in (3, 4)}
    falls = {k: paired(found["h2", 4, k], found["h2", 3, k]) for k in (1, 4, 16)}
    claim = "6a. Countdown: accuracy falls by more than 10 points from 3 to 4 operands, h2"
    ours, word = [f"N_L = {k}: {told(d)}" for k, d in falls.items()], together([verdict(d, -10) for d in falls.values()])
    values = [f"{v}, N_L = {k}, with 3 and 4 operands: {spread(found[v, 3, k])} and {spread(found[v, 4, k])}" for v, k in sizes]
    yield Claim(claim, "steeply", ours, word, "countdown", values)
    more = {n: paired(found["h2", n, 16], found["h2", n, 1]) for n in (3, 4)}
    ours, word = [f"{n} operands, 16 - 1: {told(d)}" for n, d in more.items()], together([near(d, 5) for d in more.values()])
    yield Claim("6b. 16 latents are within 5 points of 1, h2", "flat", ours, word, "countdown_h2")
    close = {n: paired(found["h2", n, 4], found["soft", n, 4]) for n in (3, 4)}
    ours, word = (
        [f"{n} operands, h2 - soft: {told(d)}" for n, d in close.items()],
        together([near(d, 5) for d in close.values()]),
    )
    yield Claim("6c. h2 and soft are within 5 points, N_L = 4", "close", ours, word, "countdown_h2,countdown_soft")

    # Tables 3 and 4, Figure 8
    for claim, kind, paper in (
        ("7a. Resuming from large-scale training hurts h2's curriculum on ProsQA", "curriculum", "99.0 to 97.1; 99.5 to 88.3"),
        ("7b. So does going straight to all latents from there", "straight", "99.0 to 97.3; 99.5 to 84.5"),
    ):
        found = prosqa(["h2"]) | {kind: accuracy(f"resume_prosqa_{kind}_s{{s}}")}
        ours, word = below(found, [(kind, "h2")])
        yield Claim(claim, f"{paper} (GPT-2; Qwen-3)", ours, word, f"resume_prosqa_{kind},prosqa_h2", each(found))
    counted = {
        n: {v: accuracy(f"figure8_countdown_{v}_{n}_s{{s}}") for v in ("resumed", "continued", "h2", "h1")} for n in (3, 4)
    }
    for n, found in counted.items():
        ours, word = below(found, [("h2", "resumed")])
        values = [*each(found), "h1's frozen Base has never met the answer's tags"]
        claim = f"7c. Resuming helps h2 on Countdown with {n} operands, N_L = 4"
        yield Claim(claim, "resumed h2 above h2 and h1", ours, word, "figure8_countdown", values)
    claim = "7d. Beyond: it still hurts the curriculum against h2 on a Base that has read as much without latents"
    found = {v: accuracy(f"resume_prosqa_{v}_s{{s}}") for v in ("curriculum", "continued")}
    ours, word = below(found, [("curriculum", "continued")])
    yield Claim(claim, "not tested", ours, word, "resume_prosqa", each(found))
    for n, found in counted.items():
        ours, word = below(found, [("continued", "resumed")])
        claim = f"7e. Beyond: and it still helps Countdown with {n} operands against h2 on such a Base"
        yield Claim(claim, "not tested", ours, word, "figure8_countdown")

    # Section 4.3
    text, counted = ("figure2_gpt2_h2", "latents_gpt2_h2_8", "statements_h2"), ("countdown_h2_3_16", "countdown_h2_4_16")
    words, ours = [], ["capture off the diagonal - chance; silhouette"]
    for name in (*text, "prosqa_h2", *counted):
        found = {s: x for s in SEEDS if (x := latents(f"{name}_s{s}"))}
        capture = against({s: x["off_diagonal"] - x["null"] for s, x in found.items()}, 0.1)
        silhouette = against({s: x["silhouette"] for s, x in found.items()}, 0.1)
        ours.append(f"{name}: {told(capture, 2, 0.1)}; {told(silhouette, 2, 0.1)}")
        words.append(verdict(capture and (-capture[0], capture[1])))
        if name != "prosqa_h2":
            words.append(verdict(silhouette if name in text else silhouette and (-silhouette[0], silhouette[1])))
    claim = "8. Capture is 0.1 or more above chance; silhouette below 0.1 on text, above it on Countdown"
    cells = ",".join((*text, "prosqa_h2_s", *counted))
    yield Claim(claim, "0.99, 0.91, 0.94; -0.17, -0.03, 0.45", ours, together(words), cells)

    cost = {v: metrics(f"prosqa_{v}_s1") for v in ("coconut", "h2")}
    ours, word = [], "not run"
    if all(cost.values()):
        c, h = (cost[v][-1] for v in ("coconut", "h2"))
        ours = [f"one seed, N_L = 4: {c['passes_to_answer']:.0f} and {h['passes_to_answer']:.0f} passes"]
        ours += [f"{1000 * c['seconds_to_answer']:.1f} and {1000 * h['seconds_to_answer']:.1f} ms"]
        word = "holds" if (c["passes_to_answer"], h["passes_to_answer"]) == (5, 3) else "does not hold"
    claim = "9. Until the answer begins Coconut needs N_L + 1 passes, h2 three"
    yield Claim(claim, "17 and 3, N_L = 16", ours, word, "prosqa_coconut,prosqa_h2")

    ours = ["models of this size sit at chance on all five (LOG.md)", "real weights: `evaluate.py --model=out/h2_gpt2`"]
    yield Claim("10. Table 1", "GPT-2: h2 up to 1.6 points above continued", ours, "cannot be told", "")

    # What the paper does not have
    found = figure2("gpt2", ["h2"]) | {"soft": log_ppl("twice_gpt2_soft_s{s}")}
    ours, word = below(found, [("h2", "soft")], 2)
    claim = "11a. Beyond: h2 is better than soft with twice the layers, pretrained on the same tokens"
    yield Claim(claim, "not tested", [f"{ours[0]} %"], word, "twice_gpt2,figure2_gpt2_h2")
    found = {"penalised": log_ppl("orthogonal_gpt2_h2_8_s{s}"), "plain": log_ppl("latents_gpt2_h2_8_s{s}")}
    ours, word = below(found, [("penalised", "plain")], 2)
    a, b = latents("orthogonal_gpt2_h2_8_s1"), latents("latents_gpt2_h2_8_s1")
    values = [f"one seed, capture: {a['off_diagonal']:.2f}, plain {b['off_diagonal']:.2f}"] if a and b else []
    claim = "11b. Beyond: a penalty on overlap lowers perplexity"
    yield Claim(claim, "suggested", [f"{ours[0]} %"], word, "orthogonal_gpt2,latents_gpt2_h2_8", values)
    matched, plain = prosqa(PLAIN), prosqa(PLAIN, "plain_")
    change = {v: {s: matched[v][s] - plain[v][s] for s in matched[v].keys() & plain[v].keys()} for v in PLAIN}
    ours, word = below(change, [(v, "no_cot") for v in ("liu", "h1")], limit=-10)
    values = [f"depth-matched - plain, {x}" for x in each(change)]
    claim = "11c. Beyond: without ProsQA's shortcut frozen systems lose more than 10 points more than no_cot does"
    yield Claim(claim, "not tested", ours, word, "plain_prosqa,prosqa", values)
    for claim, names, prefix in (
        ("11d. Beyond: from a Base that needs steps (4d), Coconut is more than 10 points above no_cot", ["coconut"], "worded_"),
        ("11e. Beyond: so are soft and h2", ["soft", "h2"], "worded_"),
        ("11f. Beyond: so is Coconut, both with three times the epochs", ["coconut"], "patient_"),
        ("11g. Beyond: so are soft and h2, all with three times the epochs", ["soft", "h2"], "patient_"),
    ):
        found = prosqa([*names, "no_cot"], prefix)
        ours, word = below(found, [("no_cot", v) for v in names], limit=-10)
        yield Claim(claim, "not tested", ours, word, f"{prefix}prosqa", each(found))
    ours, names = [], ("figure2_gpt2_h2_s1", "prosqa_h2_s1", "countdown_h2_3_16_s1")
    for name in names:
        if x := latents(name):
            scores = x["meddling"]
            ours.append(f"{name}: {x['what']} {scores['untouched']:.1f}, with another's latents {scores['swapped']:.1f}")
    word, ours = ("see there", ["one seed", *ours]) if ours else ("not run", [])
    yield Claim("11h. Beyond: do the latents matter?", "not tested", ours, word, ",".join(names))


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
    dots(middle, 0, {}, color="black", label="its Base finds 2 hops at once")
    dots(middle, 0, {}, edgecolor="black", color="white", label="its Base finds 1")
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
    right.set(title="Countdown: accuracy in %, by system and $N_L$", ylim=(0, None), xlim=(-0.5, len(cells) - 0.5))
    right.set_xticks(range(len(cells)), labels, rotation=40, ha="right")

    for ax in (left, middle, right):
        figures.finish(ax)
        ax.legend(frameon=False, fontsize="small")
    figures.save(figure, f"{RESULTS}/overview.png")
    return ["overview"]
