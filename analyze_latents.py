"""Do latents specialise, and do they matter? (Paper, section 4.3 and appendices C and D.)

    python analyze_latents.py out/tiny_text
    python analyze_latents.py out/tiny_countdown --examples=1024

For any run with latents, over its validation sequences or its held-out questions:

capture     H_ij, the share of latent j's variance that lies in the subspace of latent i (the fewest principal components with
            97 % of its variance). Vectors that merely share a spectrum capture much of each other, so beside it stand
            chance, what the Base's states at the N_L ordinary tokens up to the site capture of each other, and the ceiling,
            what the latents do once they are shuffled across their slots: those differ in nothing.
silhouette  is an occurrence nearer to others of its own latent than to those of the nearest other latent? -1 to 1.
interventions  perplexity, also by ahead token, or accuracy, when there are no latents, when they are zeroed, replaced by their
            mean over examples, swapped between examples, reversed, or dropped one at a time.
effect      what a message is good for, in percent of perplexity or points of accuracy. Presence: another example's message
            against none. Content: an example's own against another's.
steps       of a run whose latents have to spell their steps (--step_weight): how often they do, to the letter.
words       the tokens that each latent is nearest to, read by the Base's head.

Z is the Coprocessor's last hidden state; for soft and coconut, what the Base is fed. Without a message the Base goes on as an
ordinary language model: a branch starts as under continued, with the site's own token in its own place.
"""

import argparse
import dataclasses
import math
import os
from collections import Counter
from unittest import mock

from configurator import Count, configure, one_line_errors

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import stats
from sklearn.metrics import silhouette_samples

import coprocessor
import finetuning
import runtime
from countdown import verify
from data import tokenizer_of
from questions import answers_match, extract


@dataclasses.dataclass
class Config(coprocessor.RunOptions):
    run: str = ""  # a run folder, which may stand alone; latents.json and latents.png are written there
    examples: Count = 2048  # occurrences of each latent
    batch_size: Count = 32  # sequences or questions at a time
    no_interventions: bool = False  # only look at the latents
    seed: int = 0  # of subsamples
    device: str = "auto"  # auto | cpu | cuda | mps


TAU = 0.97  # the share of variance that a latent's subspace holds (section 4.3)
SILHOUETTE_POINTS, SILHOUETTE_DRAWS = 6000, 3  # all pairs of that many occurrences are compared, for so many random draws
MAX_VALUES = 2**26  # of Z; 512 MB in fp64


# -----------------------------------------------------------------------------
# The two diagnostics. Z is (n, N_L, d): n examples of each latent


def centred(z):
    """-> X (N_L, n, d) in float64, each latent less its own mean; exactly 0 where it is constant"""
    z = np.asarray(z, dtype=np.float64)
    if not np.isfinite(z).all():
        raise ValueError("Z is not finite")
    x = z - z.mean(axis=0)
    constant = np.abs(x).max(axis=(0, 2)) <= 1e-6 * np.abs(z).max(axis=(0, 2))  # what is left of a constant is rounding
    x[:, constant] = 0
    return x.transpose(1, 0, 2)


def subspaces(z, tau=TAU):
    """-> centred X (N_L, n, d), per latent an orthonormal basis (d, rank); rank 0 where it is constant"""
    x, bases = centred(z), []
    for latent in x:
        variance, v = np.linalg.eigh(latent.T @ latent)  # ascending
        share = np.cumsum(variance[::-1]) / max(variance.sum(), np.finfo(float).tiny)
        rank = np.searchsorted(share, tau - 1e-12) + 1 if latent.any() else 0
        bases.append(v[:, ::-1][:, :rank])
    return x, bases


def cross_capture(z, tau=TAU):
    """Z (n, N_L, d) -> H (N_L, N_L): H_ij = |X_j P_i|^2 / |X_j|^2, P_i projecting on latent i's subspace.

    A latent that is the same in every example has no variance: its row and its column are 0. Raises ValueError for
    values that are not finite.
    """
    x, bases = subspaces(z, tau)
    total = np.square(x).sum(axis=(1, 2))  # (N_L)
    # |X_j P_i|^2 = tr(P_i X_j^T X_j), for all pairs in one product of (N_L, d d) matrices
    projections = np.array([(basis @ basis.T).ravel() for basis in bases])
    captured = projections @ np.array([(latent.T @ latent).ravel() for latent in x]).T
    return np.divide(captured, total, out=np.zeros_like(captured), where=total > 0)


def off_diagonal(h):
    """The mean of H beside its diagonal; None for one latent, which has no others."""
    n = len(h)
    return float((h.sum() - np.trace(h)) / (n * (n - 1))) if n > 1 else None


def shuffled(z, seed=0):
    """-> the same centred latents, those of each example in an order of its own: all slots are alike"""
    x, (n, n_latents, _) = centred(z).transpose(1, 0, 2), z.shape
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n_latents), (n, 1)), axis=1)  # (n, N_L)
    return np.take_along_axis(x, orders[:, :, None], axis=1)


def mean_and_interval(values):
    """(n) -> their mean, and half of its 95 % interval (Student's t; None for a single value)"""
    n = len(values)
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else None


def silhouette(z):
    """Z (n, N_L, d) -> (global, per latent (N_L,)), by Euclidean distances; 0 where a latent occurs once.

    Raises ValueError for a single latent, which has nothing to be separated from, and for values that are not finite.
    """
    z = np.asarray(z, dtype=np.float64)
    n, n_latents, width = z.shape
    if n == 1 < n_latents:  # sklearn wants a latent with two occurrences
        return 0.0, np.zeros(n_latents)
    s = silhouette_samples(z.reshape(-1, width), np.tile(np.arange(n_latents), n)).reshape(n, n_latents)
    return float(s.mean()), s.mean(axis=0)


def subsampled_silhouette(z, seed=0):
    """-> (global, per latent (N_L,), standard deviation of the global over random draws; 0 where all of Z fits)"""
    n = SILHOUETTE_POINTS // z.shape[1]
    if len(z) <= n:
        return *silhouette(z), 0.0
    rng = np.random.default_rng(seed)
    draws = [silhouette(z[rng.choice(len(z), n, replace=False)]) for _ in range(SILHOUETTE_DRAWS)]
    overall, each = zip(*draws, strict=True)
    return float(np.mean(overall)), np.mean(each, axis=0), float(np.std(overall, ddof=1))


# -----------------------------------------------------------------------------
# What a run is evaluated on: batches, a list of tokens (B,S) and sites (B,M); and score() -> (n, N), the higher the better


def text_evaluation(run, config, model, examples, batch_size, machine):
    """Validation sequences, with the sites that the run itself was validated at -> batches, score"""
    c = argparse.Namespace(**config)
    read = coprocessor.validation_batches(c, model, run, machine.device)
    numbers = range(min(read.rows.count, math.ceil(examples / c.n_sites)))
    batches = [read(numbers[i : i + batch_size]) for i in range(0, len(numbers), batch_size)]

    @torch.no_grad()
    def score():
        """-> (n, N_A) the mean log-likelihood of a sequence's ahead tokens: the first of each branch, the second, ..."""
        found = []
        for tokens, sites in batches:
            with machine.autocast():
                nll = model.ahead_nll(tokens, sites, coprocessor.ahead_tokens(tokens, sites, c.n_ahead))
            found.append(-nll.cpu().double().mean(dim=1))  # over M
        return torch.cat(found).numpy()

    return batches, score


def question_evaluation(config, model, lines, tokenizer, batch_size, machine):
    """Lines of a run's predictions.jsonl, one site each, at a question's end -> batches, score"""
    prompts = [tokenizer.encode(line["question"] + "\n") + model.ends_prompts_with for line in lines]
    padded = [finetuning.pad(prompts[i : i + batch_size], machine.device) for i in range(0, len(prompts), batch_size)]
    c = argparse.Namespace(max_new_tokens=config["max_new_tokens"], micro_batch=batch_size)
    questions = finetuning.EvalSet(prompts, model, tokenizer, c, machine)

    def is_right(line, text):
        if "numbers" in line:  # Countdown: any expression that solves it
            return verify(text, line["numbers"], line["target"])[0]
        return answers_match(extract(text), line["gold"])

    def score():
        """-> (n, 1) 1 for a right answer, 0 for a wrong one"""
        texts = questions.answer_questions(model)
        return np.array([[float(is_right(line, text))] for line, text in zip(lines, texts, strict=True)])

    return [(tokens, (lengths - 1)[:, None]) for tokens, lengths in padded], score


def task_of(config):
    """What a run was trained on: text, Countdown, GSM8K, ProsQA; a task of one's own has its folder's name"""
    if "seq_len" in config or "operands" in config:
        return "text" if "seq_len" in config else "Countdown"
    folder = os.path.basename(os.path.normpath(config["data"]))
    return "GSM8K" if folder in ("gsm8k", "gsm8k_aug") else "ProsQA" if "prosqa" in folder else folder


# -----------------------------------------------------------------------------
# Z, and the states of ordinary tokens to compare it with


@torch.no_grad()
def collect(model, batches):
    """-> Z (n, N_L, d), float32, a row for each branch"""
    found = []
    for tokens, sites in batches:
        z = model.pass2_start(model.pass1_prefix(tokens), sites).z
        assert z is not None, f"{type(model).__name__}.pass2_start should return its latents as z"
        found.append(z.flatten(0, 1).float().cpu())
    return torch.cat(found).numpy()


@torch.no_grad()
def collect_tokens(model, batches):
    """The Base's last hidden states at ordinary tokens at the same places, those up to each site: as Z, (n, slots, d)

    There are N_L slots, as of latents. A question may be shorter: then as many as half of the examples have, and those that
    have fewer are left out. So are slots that are the same in all examples, as a template's first words.
    """
    slots = min(model.n_latents, int(torch.cat([sites.flatten() for _, sites in batches]).median()) + 1)
    found = []
    for tokens, sites in batches:
        hidden, _ = model.base.prefix(tokens)  # (B, S, C)
        index = sites[..., None] + torch.arange(1 - slots, 1, device=sites.device)  # (B, M, slots)
        rows = torch.arange(len(tokens), device=sites.device)[:, None, None]
        found.append(hidden[rows, index.clamp(min=0)][index[..., 0] >= 0].float().cpu())
    z = torch.cat(found).numpy()
    return z[:, centred(z).any(axis=(1, 2))]


# -----------------------------------------------------------------------------
# Do they matter?


def intervene(model, change):
    """A context in which the Base gets change(tensor, key) of all that the model sends it; where change is None, nothing.

    key: "x", inputs (B,M,N_L,C), or (layer, 0 or 1), K or V (B,H_kv,M,N_L,D) of a cache.
    """
    if change is None:  # x_site in its own place, as under continued
        return mock.patch.object(model, "pass2_start", model.start_plain)

    def send(x=None, kv=None):
        if kv is None:
            return change(x, "x")
        out = []
        for layer, pair in enumerate(kv):
            out.append(tuple(change(t, (layer, i)) if t.size(-2) else t for i, t in enumerate(pair)))  # it may hold nothing
        return out

    return mock.patch.object(model, "send", send)


@torch.no_grad()
def mean_message(model, batches):
    """-> {key: the mean over all examples of that tensor of the message}"""
    sums, calls = {}, Counter()

    def add(t, key):
        sums[key] = sums.get(key, 0) + t.sum(dim=(0, -3), keepdim=True).cpu().double()  # over B and M
        calls[key] += 1
        return t

    with intervene(model, add):
        for tokens, sites in batches:
            model.pass2_start(model.pass1_prefix(tokens), sites)
    assert set(calls.values()) <= {len(batches)}, "pass2_start should send once: inputs, a cache, or both"
    n = sum(sites.numel() for _, sites in batches)
    return {key: total / n for key, total in sums.items()}


def swap():
    """-> a change: every row gets the message of the row before it, over all batches; the first that of its batch's last."""
    last = {}

    def change(t, key):
        rows = torch.cat([last.get(key, t[-1:]), t])
        last[key] = t[-1:]
        return rows[:-1]

    return change


def changes_of(model, means):
    """-> {what is done to a message: the change}. Latents are dropped, not masked: a branch starts with the others."""
    changes = {
        "untouched": lambda t, key: t,
        "zero": lambda t, key: torch.zeros_like(t),
        "mean": lambda t, key: means[key].to(t).expand_as(t),
        "swapped": swap(),
        "none": None,
    }
    n = model.n_latents
    if n > 1 and "x" in means:
        changes["reversed"] = lambda t, key: t.flip(-2)
    for dropped in range(n) if n > 1 else ():
        rest = [i for i in range(n) if i != dropped]
        changes[f"without {dropped + 1}"] = lambda t, key, rest=rest: t[..., rest, :]
    return changes


def interventions(model, batches, score, what):
    """-> {what was done: perplexity or accuracy}, {what was done: -log p by ahead token}, {a part of the message's effect: (its
    size, half of its 95 % interval)}

    The intervals are over examples, each compared with itself: a sequence with all of its sites, or a question.
    """
    means = mean_message(model, batches)
    if not means:
        # coconut makes each latent from the one before; a variant of one's own may not use Variant.send
        print("    no message is sent to the Base, so there is nothing to intervene on")
        return {}, {}, {}
    scores, overall, by_ahead = {}, {}, {}
    for name, change in changes_of(model, means).items():
        with intervene(model, change):
            found = scores[name] = score()
        overall[name] = float(np.exp(-found.mean()) if what == "perplexity" else 100 * found.mean())
        line = f"    {name}: {what} {overall[name]:.2f}"
        if what == "perplexity":
            nll = by_ahead[name] = (-found.mean(axis=0)).tolist()
            line += "; -log p by ahead token " + " ".join(f"{x:.3f}" for x in nll[:4])
            line += f", then {np.mean(nll[4:]):.3f}" if nll[4:] else ""
        print(line, flush=True)
    # differences of log-likelihood times 100 are percent of perplexity, of right answers points
    parts = {"presence": ("swapped", "none"), "content": ("untouched", "swapped")}
    effect = {part: mean_and_interval(100 * (scores[a] - scores[b]).mean(axis=1)) for part, (a, b) in parts.items()}
    return overall, by_ahead, effect


# -----------------------------------------------------------------------------
# What do they say?


@torch.no_grad()
def spelled(model, batches, lines, tokenizer):
    """Of the questions that have a step 1, 2, ...: how many of its texts do its latents spell, greedily and to the letter?

    -> [share by step], what the first question's latents spell
    """
    steps = [[tokenizer.encode(step + "\n") for step in line["steps"]] for line in lines]
    longest, said = max(len(step) for each in steps for step in each), []
    for tokens, sites in batches:
        prefix = model.pass1_prefix(tokens)
        start = model.pass2_start(prefix, sites)
        hidden, _ = model.base.branch(start.x, prefix.kv, start.sites, start.positions, start.kv)
        said += model.spell(model.step_latents(start, hidden), prefix.kv, longest).tolist()  # (K, longest) a question
    right = [[] for _ in said[0]]
    for texts, own_steps in zip(said, steps, strict=True):
        for found, text, step in zip(right, texts, own_steps, strict=False):  # as many as have both
            found.append(text[: len(step)] == step)
    first = [tokenizer.decode(text).partition("\n")[0] for text in said[0]]
    return [float(np.mean(found)) if found else None for found in right], first


@torch.no_grad()
def words(model, z, tokenizer, top=5):
    """-> per latent the tokens that the Base's head reads in it: [(token, share of the examples)], the most frequent first"""
    device, out = next(model.parameters()).device, []
    for latent in torch.from_numpy(z).unbind(dim=1):
        counts = Counter()
        for rows in latent.split(256):
            counts.update(model.base.logits(rows.to(device)).argmax(dim=-1).tolist())
        common = [(i, n / len(z)) for i, n in counts.most_common(top)]
        out.append([(tokenizer.decode([i]) if i < tokenizer.vocab_size else f"<{i}>", share) for i, share in common])
    return out


# -----------------------------------------------------------------------------


def describe_chance(chance):
    names = {"tokens": "ordinary tokens", "shuffled": "shuffled latents (the ceiling)"}
    return ", ".join(f"{names[name]} {captured:.3f}" for name, captured in chance.items())


def heatmap(ax, latents, title):
    """latents: the contents of a latents.json"""
    n = latents["n_latents"]
    image = ax.imshow(latents["capture"], vmin=0, vmax=1, cmap="viridis", extent=(0.5, n + 0.5, n + 0.5, 0.5))
    if n > 1:
        title += f"\nmean off the diagonal {latents['off_diagonal']:.3f}"
    if latents.get("chance"):
        title += f"\n{describe_chance(latents['chance'])}"
    ax.set_title(title, fontsize="medium", parse_math=False)  # a run may be called $1_or_$2
    ax.set(xlabel="variance of latent j", ylabel="in subspace of i")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def draw(result, path):
    """The heatmap, the silhouettes and what interventions did, side by side."""
    scores, each = result["interventions"], result["silhouettes"]
    figure = Figure(figsize=(13.4 if scores else 9.2, 4.2))
    axes = figure.subplots(1, 3 if scores else 2)
    heatmap(axes[0], result, result["run"])
    axes[1].bar(range(1, len(each) + 1), each, color="#1f77b4")
    axes[1].axhline(0, color="black", lw=0.8)
    title = f"silhouette, {result['silhouette']:.3f} overall" if each else "silhouette: one latent has none"
    axes[1].set(title=title, xlabel="latent", ylim=(-1, 1), xlim=(0.4, result["n_latents"] + 0.6))
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    if scores:
        axes[2].barh([*scores][::-1], [*scores.values()][::-1], color="#ff7f0e")
        axes[2].axvline(scores["untouched"], color="black", lw=0.8)
        label = "accuracy (%)" if result["what"] == "accuracy" else "perplexity"
        axes[2].set(xlabel=label, title="after interventions on the latents")
        if result["what"] == "perplexity":
            axes[2].set_xlim(left=0.9 * min(scores.values()))
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def specialisation(z, tokens, seed):
    """Z, and ordinary tokens in its place -> what latents.json says of capture and silhouette, printed on the way"""
    n, n_latents, width = z.shape
    h, ranks = cross_capture(z), [basis.shape[1] for basis in subspaces(z)[1]]
    result = dict(width=width, capture=h.tolist(), off_diagonal=off_diagonal(h), ranks=ranks)
    print(f"    ranks {min(ranks)} to {max(ranks)} of {width}")
    if 0 in ranks:
        constant = ", ".join(str(i) for i, rank in enumerate(ranks, 1) if not rank)
        print(f"    latents {constant} are the same in every example: no variance, capture 0")
    if n <= width:
        print(f"    fewer occurrences than dimensions, so ranks end at {n - 1}: ask for more --examples")
    if n_latents == 1:
        print("    one latent has no others to be compared with")
        return result | dict(silhouette=None, silhouette_spread=None, silhouettes=[])
    nulls = {"tokens": tokens, "shuffled": shuffled(z, seed)}  # a prompt of one token has no others to compare
    chance = result["chance"] = {name: off_diagonal(cross_capture(x)) for name, x in nulls.items() if x.shape[1] > 1}
    print(f"    capture off the diagonal {result['off_diagonal']:.4f}; of {describe_chance(chance)}")
    overall, each, spread = subsampled_silhouette(z, seed)
    print(f"    silhouette {overall:.4f}" + (f" ± {spread:.4f} over random samples" if spread else ""))
    return result | dict(silhouette=overall, silhouette_spread=spread, silhouettes=list(each))


def main(argv=None):
    a = configure(Config, __doc__, argv)
    if not a.run:
        raise ValueError("which run? python analyze_latents.py out/...")
    model, config = coprocessor.load_run_as(a.run, a)
    if not model.n_latents:
        raise ValueError(f"{a.run} is a run of {config['variant']}, which has no latents")
    machine = runtime.start(a.device, config["precision"])  # in which it was validated
    model, tokenizer = model.to(machine.device), tokenizer_of(a.run)
    examples = min(a.examples, max(1, MAX_VALUES // (model.n_latents * model.base.config.width)))
    if "seq_len" in config:
        what, unit = "perplexity", "% of perplexity"
        batches, score = text_evaluation(a.run, config, model, examples, a.batch_size, machine)
    else:
        what, unit = "accuracy", "points"
        lines = finetuning.load_prompts(a.run, config, a.split)[:examples]
        batches, score = question_evaluation(config, model, lines, tokenizer, a.batch_size, machine)

    z = collect(model, batches)[:examples]
    result = dict(run=os.path.basename(os.path.normpath(a.run)), variant=config["variant"], setting=task_of(config))
    result |= dict(n_latents=model.n_latents, examples=len(z))
    print(f"{a.run}: {config['variant']}, {model.n_latents} latents, {len(z):,} occurrences of each")
    result |= specialisation(z, collect_tokens(model, batches)[:examples], a.seed)

    result["words"] = words(model, z, tokenizer)
    for i, found in enumerate(result["words"], 1):
        print(f"    latent {i} reads as " + ", ".join(f"{token!r} {share:.0%}" for token, share in found))
    if config.get("step_weight") and model.n_latents % (model.latents_per_step or 1) == 0:
        result["spelled"], first = spelled(model, batches, lines, tokenizer)
        shares = ", ".join(f"step {j} {share:.1%}" for j, share in enumerate(result["spelled"], 1) if share is not None)
        print(f"    spelled by its own latents alone: {shares}; the first question's: " + " | ".join(first))

    overall, by_ahead, effect = ({}, {}, {}) if a.no_interventions else interventions(model, batches, score, what)
    result |= dict(what=what, interventions=overall, by_ahead=by_ahead, effect=effect)
    for part, (mean, half) in effect.items():
        print(f"    {part} {mean:+.1f}" + (f" ± {half:.1f}" if half is not None else "") + f" {unit}")
    path = os.path.join(a.run, f"latents{coprocessor.options_in_name(a)}")
    runtime.write_json(f"{path}.json", result)
    draw(result, f"{path}.png")
    print(f"wrote {path}.json and .png")


if __name__ == "__main__":
    one_line_errors(main)
