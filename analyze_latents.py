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
            mean over examples, swapped between examples, reversed, or dropped one at a time. What does not get worse did not
            matter.
effect      what a message is good for, in two parts. Presence: another example's message against none. Content: an example's
            own against another's. In percent of perplexity, or points of accuracy.
steps       of a run whose latents have to spell their steps (--step_weight): how often they do, to the letter.
words       the tokens that each latent is nearest to, read by the Base's head.

Z is the Coprocessor's last hidden state; for soft and coconut, what the Base is fed.

None means that the Base goes on as an ordinary language model: a branch starts as under continued, with the site's own token
in its own place. So soft tokens (soft, pause), Z (liu, h2) or KV_phi (h1) are not there at all. coconut makes each latent from
the one before, so there is no message to swap or to leave out.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
from collections import Counter
from functools import partial

import matplotlib

matplotlib.use("Agg")
from configurator import Count, configure, one_line_errors

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats
from sklearn.metrics import silhouette_samples

import coprocessor
import finetuning
import runtime
from countdown import verify
from data import Rows, tokenizer_of
from questions import answers_match, extract


@dataclasses.dataclass
class Config:
    run: str = ""  # a run folder, which may stand alone; latents.json and latents.png are written there
    examples: Count = 2048  # occurrences of each latent
    batch_size: Count = 32  # sequences or questions at a time
    no_interventions: bool = False  # only look at the latents
    seed: int = 0  # of subsamples
    device: str = "auto"  # auto | cpu | cuda | mps


TAU = 0.97
SILHOUETTE_POINTS, SILHOUETTE_DRAWS = 6000, 3  # all pairs of that many occurrences are compared, for so many random draws


# -----------------------------------------------------------------------------
# The two diagnostics


def check(z):
    """Z (n, N_L, d) as float64. Raises ValueError if it is of another shape, empty, or not finite."""
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 3 or 0 in z.shape:
        raise ValueError(f"Z must be (examples, N_L, width) and not empty, not {z.shape}")
    if not np.isfinite(z).all():
        bad = sorted({int(i) for i in np.argwhere(~np.isfinite(z))[:, 1]})
        raise ValueError(f"Z is not finite, in latents {', '.join(str(i + 1) for i in bad)}")
    return z


def centred(z):
    """Z (n, N_L, d) -> X (N_L, n, d), each latent less its own mean; exactly 0 where it is constant"""
    z = check(z)
    x = (z - z.mean(axis=0)).transpose(1, 0, 2)
    for latent, largest in zip(x, np.abs(z).max(axis=(0, 2)), strict=True):
        if np.abs(latent).max() <= 1e-6 * largest:  # what is left of a constant is rounding
            latent[:] = 0
    return x


def subspaces(z, tau=TAU):
    """Z (n, N_L, d) -> centred X (N_L, n, d), per latent an orthonormal basis (d, rank); rank 0 where it is constant."""
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
    values that are not finite and for another shape.
    """
    x, bases = subspaces(z, tau)
    total = np.square(x).sum(axis=(1, 2))  # (N_L)
    projections = np.array([(basis @ basis.T).ravel() for basis in bases])  # (N_L, d d)
    captured = projections @ np.array([(latent.T @ latent).ravel() for latent in x]).T  # |X_j P_i|^2 = tr(P_i X_j^T X_j)
    return np.divide(captured, total, out=np.zeros_like(captured), where=total > 0)


def off_diagonal(h):
    """The mean of H beside its diagonal; None for one latent, which has no others."""
    n = len(h)
    return float((h.sum() - np.trace(h)) / (n * (n - 1))) if n > 1 else None


def shuffled(z, seed=0):
    """Z (n, N_L, d) -> the same centred latents, those of each example in an order of its own: all slots are alike"""
    x, (n, n_latents, _) = centred(z).transpose(1, 0, 2), z.shape
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(n_latents), (n, 1)), axis=1)  # (n, N_L)
    return np.take_along_axis(x, orders[:, :, None], axis=1)


def interval(values):
    """(n) -> their mean, and half of its 95 % interval (Student's t; None for a single value)"""
    n = len(values)
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5) if n > 1 else None


RESAMPLES = 20


def above(z, null, seed=0):
    """How much more the latents of Z capture of each other than those of null do -> (difference, half of its 95 % interval)

    The interval is over examples: Student's t from so many bootstrap samples; None for a single example. (Leaving examples out
    in turn would not do: ranks are whole numbers, and jump.)
    """

    def difference(*both):
        return float(np.subtract(*(off_diagonal(cross_capture(x)) for x in both)))

    n, rng = max(len(z), len(null)), np.random.default_rng(seed)
    draws = [rng.random(n) for _ in range(RESAMPLES)]  # in [0, 1): of both the same examples, where both have all of them
    found = [difference(*(x[(draw[: len(x)] * len(x)).astype(int)] for x in (z, null))) for draw in draws]
    half = float(stats.t.ppf(0.975, RESAMPLES - 1) * np.std(found, ddof=1))
    return difference(z, null), half if min(len(z), len(null)) > 1 else None


def silhouette(z):
    """Z (n, N_L, d) -> (global, per latent (N_L,)), by Euclidean distances; 0 where a latent occurs once.

    Raises ValueError for a single latent, which has nothing to be separated from, and as cross_capture does.
    """
    z = check(z)
    n, n_latents, width = z.shape
    if n_latents < 2:
        raise ValueError("a silhouette compares latents: one alone has none")
    if n == 1:
        return 0.0, np.zeros(n_latents)
    s = silhouette_samples(z.reshape(-1, width), np.tile(np.arange(n_latents), n)).reshape(n, n_latents)
    s = np.nan_to_num(s)  # 0 / 0: all distances are zero
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
# What a run is asked: batches to collect Z from, and how well it does


class Asked:
    """A run's own validation, in examples: sequences, or questions.

    batches() -> (tokens (B,S), sites (B,M)); scores() -> a number an example, the higher the better; overall(scores) ->
    perplexity, or accuracy in percent
    """

    def __init__(self, run, config, model, examples, batch_size, machine):
        self.machine, self.model = machine, model
        self.c = argparse.Namespace(**config)
        self.c.micro_batch = self.c.batch_size = batch_size
        self.setting = setting(config)
        if self.setting == "large-scale":
            self.what = "perplexity"
            rows = Rows(self.c.data, "val", self.c.seq_len)
            limit = coprocessor.site_limit(self.c, model.base.config.context, model.branch_offset())
            self.read = coprocessor.Batches(rows, self.c, limit, machine.device)
            self.c.eval_rows = min(rows.count, -(-examples // self.c.n_sites))
            return
        self.what, self.tokenizer = "accuracy", tokenizer_of(run)
        self.asked = finetuning.load_test_prompts(run)[:examples]
        prompts = [self.tokenizer.encode(line["question"] + "\n") + model.ends_prompts_with for line in self.asked]
        self.answers = finetuning.EvalSet(prompts, model, self.tokenizer, self.c, machine)

    def batches(self):
        if self.what == "perplexity":
            for i in range(0, self.c.eval_rows, self.c.batch_size):
                yield self.read(range(i, min(i + self.c.batch_size, self.c.eval_rows)))
        else:
            prompts = self.answers.questions
            for i in range(0, len(prompts), self.c.micro_batch):
                tokens, lengths = finetuning.pad(prompts[i : i + self.c.micro_batch], self.machine.device)
                yield tokens, (lengths - 1)[:, None]

    @torch.no_grad()
    def scores(self):
        """-> (n, N_A) the mean log-likelihood of a sequence's ahead tokens, the first of each branch, the second, ...;
        (n, 1) 1 for a right answer, 0 for a wrong one
        """
        if self.what == "accuracy":
            texts = self.answers.answer_questions(self.model)
            return np.array([[float(is_right(line, text))] for line, text in zip(self.asked, texts, strict=True)])
        found = []
        for tokens, sites in self.batches():
            ahead = coprocessor.ahead_tokens(tokens, sites, self.c.n_ahead)
            with self.machine.autocast():
                nll = self.model.ahead_nll(tokens, sites, ahead)  # (B, M, N_A)
            found.append(-nll.cpu().double().mean(dim=1))
        return torch.cat(found).numpy()

    def overall(self, scores):
        return float(np.exp(-scores.mean()) if self.what == "perplexity" else 100 * scores.mean())


def is_right(line, text):
    """A line of predictions.jsonl, another text that is answered -> is it right?"""
    if "numbers" in line:
        return verify(text, line["numbers"], line["target"])[0]
    return answers_match(extract(text), line["gold"])


STEPS_STAY, NO_STEPS = "straight (steps stay)", "straight (no steps)"


def protocol(config):
    """Of a run on GSM8K or ProsQA: "curriculum", or one of two readings of the paper's "straight to 16"

    Straight means that all latents are there from the first epoch on. They stand for the first k steps and the later ones
    stay in words to the end; or no step is ever written out.
    """
    if config["first_stage"] > config["stages"]:
        return NO_STEPS
    return STEPS_STAY if config["first_stage"] == config["stages"] and not config["last_stage_epochs"] else "curriculum"


def task_of(config):
    """What a run was trained on: text, Countdown, GSM8K, ProsQA; a task of one's own has its folder's name"""
    if "seq_len" in config or "operands" in config:
        return "text" if "seq_len" in config else "Countdown"
    folder = os.path.basename(os.path.normpath(config["data"]))
    return "GSM8K" if folder in ("gsm8k", "gsm8k_aug") else "ProsQA" if "prosqa" in folder else folder


def setting(config):
    """What a run was trained on, as the paper's section 4.3 has it"""
    task = task_of(config)
    if task == "text":
        return "large-scale"
    resumed = ", resumed" * config["started_from"].startswith("all of")
    if task == "Countdown":
        return f"Countdown, {config['operands']} operands{resumed}"
    how = protocol(config)
    if how == NO_STEPS and not resumed:
        return f"{task}, no curriculum"
    return task + f", {how}" * (how != "curriculum") + resumed


MAX_VALUES = 2**26  # of Z; 512 MB in fp64


def latents_of(model, tokens, sites):
    """-> Z (B M, N_L, C)"""
    z = model.pass2_start(model.pass1_prefix(tokens), sites).z
    if z is None:
        raise ValueError(f"{type(model).__name__} does not say what its latents are: give BranchStart a z")
    return z.flatten(0, 1)


def states_of(model, tokens, sites, slots):
    """-> the Base's last hidden states at the tokens that end at each site (n, slots, C); a site with fewer is left out"""
    hidden, _ = model.base.prefix(tokens)  # (B, S, C)
    index = sites[..., None] + torch.arange(1 - slots, 1, device=sites.device)  # (B, M, slots)
    rows = torch.arange(len(tokens), device=sites.device)[:, None, None]
    return hidden[rows, index.clamp(min=0)][index[..., 0] >= 0]


@torch.no_grad()
def collect(model, batches, examples, states=latents_of):
    """-> Z (n, N_L, d), or other states, float32, of the first so many branches, no more than MAX_VALUES"""
    width = model.base.config.width
    n, found, filled = min(examples, max(1, MAX_VALUES // (model.n_latents * width))), [], 0
    for tokens, sites in batches:
        found.append(states(model, tokens, sites)[: n - filled].float().cpu().numpy())
        filled += len(found[-1])
        if filled == n:
            break
    return np.concatenate(found)


def collect_tokens(model, asked, examples):
    """What the Base makes of ordinary tokens at the same places, those up to each site: as Z, (n, slots, d)

    There are N_L slots, as of latents. A question may be shorter: then as many as half of the examples have. Slots that are
    the same in all examples, as a template's first words, are left out.
    """
    sites = torch.cat([sites.flatten() for _, sites in asked.batches()])
    slots = min(model.n_latents, int(sites.median()) + 1)
    z = collect(model, asked.batches(), examples, partial(states_of, slots=slots))
    return z[:, centred(z).any(axis=(1, 2))]


# -----------------------------------------------------------------------------
# Do they matter?


@contextlib.contextmanager
def intervene(model, change):
    """While it lasts, the Base gets change(tensor, number) of every tensor that the model sends it: inputs, or K and V of every
    layer, in the order in which they are sent; axis -2 are the latents. Nothing is sent where change is None.
    """
    if change is None:  # x_site in its own place, as under continued
        model.pass2_start = model.start_plain
    else:
        count = itertools.count()

        def send(x=None, kv=None):
            if kv is None:
                return change(x, next(count))
            # a layer may hold nothing
            return [tuple(change(t, i) if t.size(-2) else t for t, i in zip(pair, count, strict=False)) for pair in kv]

        def pass2_start(*inputs):
            nonlocal count
            count = itertools.count()  # a batch sends its first tensor first
            return type(model).pass2_start(model, *inputs)

        model.send, model.pass2_start = send, pass2_start
    try:
        yield
    finally:
        vars(model).pop("send", None), vars(model).pop("pass2_start", None)


def sent(model, tokens, sites):
    """-> the tensors that the model sends the Base"""
    found = []
    with intervene(model, lambda t, i: found.append(t) or t):
        model.pass2_start(model.pass1_prefix(tokens), sites)
    return found


def over_examples(t):
    """The axes of a message's tensor that count examples: B and M of x (B,M,N_L,C), of K and V (B,H_kv,M,N_L,D)."""
    return (0, 1) if t.dim() == 4 else (0, 2)


@torch.no_grad()
def mean_message(model, batches):
    """-> the mean over all examples of every tensor of the message"""
    sums, count = None, 0
    for tokens, sites in batches:
        parts = [t.sum(dim=over_examples(t), keepdim=True).cpu().double() for t in sent(model, tokens, sites)]
        sums = parts if sums is None else [a + b for a, b in zip(sums, parts, strict=True)]
        count += sites.numel()
    return [total / count for total in sums]


def swap():
    """-> a change: every row gets the message of the row before it, over all batches; the first that of its batch's last."""
    last = {}

    def change(t, i):
        before = last.get(i, t[-1:])
        last[i] = t[-1:]
        return torch.cat([before, t[:-1]])

    return change


def interventions(model, asked):
    """-> {what was done: perplexity or accuracy}, {what was done: -log p by ahead token}, {a part of the message's effect: (its
    size, half of its 95 % interval)}

    Latents are dropped, not masked: of the others a branch then starts with fewer. The intervals are over examples, each
    compared with itself: a sequence with all of its sites, or a question.
    """
    n, means = model.n_latents, mean_message(model, asked.batches())
    changes = {
        "untouched": lambda t, i: t,
        "zero": lambda t, i: torch.zeros_like(t),
        "mean": lambda t, i: means[i].to(t).expand_as(t),
        "swapped": swap(),
        "none": None,
    }
    if n > 1:
        if means[-1].dim() == 4:
            changes["reversed"] = lambda t, i: t.flip(-2)
        for j in range(n):
            rest = torch.tensor([k for k in range(n) if k != j])
            changes[f"without {j + 1}"] = lambda t, i, rest=rest: t[..., rest.to(t.device), :]
    scores, overall = {}, {}
    for name, change in changes.items():
        with intervene(model, change):
            scores[name] = asked.scores()  # (n, N_A) or (n, 1)
        overall[name] = asked.overall(scores[name])
        print(f"    {name}: {asked.what} {overall[name]:.2f}" + by_ahead(-scores[name].mean(axis=0)), flush=True)
    # log-likelihoods times 100 are percent of perplexity, right answers times 100 points
    parts = {"presence": ("swapped", "none"), "content": ("untouched", "swapped")}
    effects = {part: 100 * (scores[a] - scores[b]) for part, (a, b) in parts.items()}
    nll = {name: (-found.mean(axis=0)).tolist() for name, found in scores.items()} if asked.what == "perplexity" else {}
    return overall, nll, {part: interval(effect.mean(axis=1)) for part, effect in effects.items()}


def by_ahead(nll, most=4):
    """-log p by ahead token -> in words; "" for a single number"""
    if len(nll) == 1:
        return ""
    told = " ".join(f"{x:.3f}" for x in nll[:most])
    return f"; -log p of ahead token 1 to {min(most, len(nll))}: {told}" + (
        f", then {nll[most:].mean():.3f}" if len(nll) > most else ""
    )


# -----------------------------------------------------------------------------
# What do they say?


@torch.no_grad()
def spelled(model, asked):
    """Of the questions that have a step 1, 2, ...: how many of its texts do its latents spell, greedily and to the letter?

    -> [share by step], what the first question's latents spell
    """
    steps = [[asked.tokenizer.encode(step + "\n") for step in line["steps"]] for line in asked.asked]
    longest, said = max(len(step) for each in steps for step in each), []
    for tokens, sites in asked.batches():
        prefix = model.pass1_prefix(tokens)
        start = model.pass2_start(prefix, sites)
        hidden, _ = model.base.branch(start.x, prefix.kv, start.sites, start.positions, start.kv)
        said += model.spell(model.step_latents(start, hidden), prefix.kv, longest).tolist()  # (K, longest) a question
    right = [[s[: len(step)] == step for s, step in zip(*pair, strict=False)] for pair in zip(said, steps, strict=True)]
    by_step = [[row[j] for row in right if len(row) > j] for j in range(len(said[0]))]
    first = [asked.tokenizer.decode(s).partition("\n")[0] for s in said[0]]
    return [float(np.mean(found)) if found else None for found in by_step], first


@torch.no_grad()
def words(model, z, tokenizer, top=5):
    """-> per latent the tokens that the Base's head reads in it: [(token, share of the examples)], the most frequent first"""
    device = next(model.parameters()).device
    out = []
    for latent in range(z.shape[1]):
        counts = Counter()
        for rows in torch.from_numpy(z[:, latent]).split(256):
            counts.update(model.base.logits(rows.to(device)).argmax(dim=-1).tolist())
        common = [(i, n / len(z)) for i, n in counts.most_common(top)]
        out.append([(tokenizer.decode([i]) if i < tokenizer.vocab_size else f"<{i}>", share) for i, share in common])
    return out


# -----------------------------------------------------------------------------


def told(found, digits):
    mean, half = found
    return f"{mean:+.{digits}f}" + (f" ± {half:.{digits}f}" if half is not None else "")


def told_chance(chance):
    names = {"tokens": "ordinary tokens", "shuffled": "shuffled latents (the ceiling)"}
    return ", ".join(f"{names[name]} {captured:.3f}" for name, captured in chance.items())


def heatmap(ax, latents, title):
    """latents: the contents of a latents.json"""
    n = latents["n_latents"]
    image = ax.imshow(latents["capture"], vmin=0, vmax=1, cmap="viridis", extent=(0.5, n + 0.5, n + 0.5, 0.5))
    if n > 1:
        title += f"\nmean off the diagonal {latents['off_diagonal']:.3f}"
    if latents.get("chance"):
        title += f"\n{told_chance(latents['chance'])}"
    ax.set_title(title, fontsize="medium", parse_math=False)  # a run may be called $1_or_$2
    ax.set(xlabel="variance of latent j", ylabel="in subspace of i")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def draw(result, path):
    """The heatmap, the silhouettes and what interventions did, side by side."""
    scores = result["interventions"]
    figure, axes = plt.subplots(1, 2 + bool(scores), figsize=(5 + 4.2 * (1 + bool(scores)), 4.2), squeeze=False)
    heatmap(axes[0, 0], result, result["run"])
    each = result["silhouettes"]
    axes[0, 1].bar(range(1, len(each) + 1), each, color="#1f77b4")
    axes[0, 1].axhline(0, color="black", lw=0.8)
    title = f"silhouette, {result['silhouette']:.3f} overall" if each else "silhouette: one latent has none"
    axes[0, 1].set(title=title, xlabel="latent", ylim=(-1, 1), xlim=(0.4, result["n_latents"] + 0.6))
    axes[0, 1].xaxis.get_major_locator().set_params(integer=True)
    if scores:
        ax, names = axes[0, 2], list(scores)[::-1]
        ax.barh(names, [scores[name] for name in names], color="#ff7f0e")
        ax.axvline(scores["untouched"], color="black", lw=0.8)
        ax.set(
            xlabel="accuracy (%)" if result["what"] == "accuracy" else "perplexity", title="after interventions on the latents"
        )
        if result["what"] == "perplexity":
            ax.set_xlim(left=0.9 * min(scores.values()))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    a = configure(Config, __doc__)
    if not a.run:
        raise ValueError("which run? python analyze_latents.py out/...")
    model, config = coprocessor.load_run(a.run)
    machine = runtime.start(a.device, config["precision"])  # in which it was validated
    if not model.n_latents:
        raise ValueError(f"{a.run} is a run of {config['variant']}, which has no latents")
    model = model.to(machine.device)
    asked = Asked(a.run, config, model, a.examples, a.batch_size, machine)

    z = collect(model, asked.batches(), a.examples)
    n, n_latents, width = z.shape
    _, bases = subspaces(z)
    ranks = [basis.shape[1] for basis in bases]
    h = cross_capture(z)
    overall, each, spread = subsampled_silhouette(z, a.seed) if n_latents > 1 else (None, [], None)
    result = dict(run=os.path.basename(os.path.normpath(a.run)), variant=config["variant"], n_latents=n_latents, examples=n)
    result |= dict(setting=asked.setting, width=width, capture=h.tolist(), off_diagonal=off_diagonal(h), ranks=ranks)
    result |= dict(silhouette=overall, silhouette_spread=spread, silhouettes=list(each))
    print(f"{a.run}: {config['variant']}, {n_latents} latents, {n:,} occurrences of each, {width} wide")
    constant = [i + 1 for i, rank in enumerate(ranks) if not rank]
    if constant:
        print(f"    latents {', '.join(map(str, constant))} are the same in every example: no variance, capture 0")
    if n <= width:
        print(f"    fewer occurrences than dimensions, so ranks end at {n - 1}: ask for more --examples")
    print(f"    ranks {min(ranks)} to {max(ranks)} of {width}")
    if n_latents > 1:
        nulls = {"tokens": collect_tokens(model, asked, n), "shuffled": shuffled(z, a.seed)}
        result["chance"] = {name: off_diagonal(cross_capture(null)) for name, null in nulls.items() if null.shape[1] > 1}
        print(f"    capture off the diagonal {result['off_diagonal']:.4f}; of " + told_chance(result["chance"]))
        if "tokens" in result["chance"]:  # a prompt of one token has no others to compare
            result["above_chance"] = above(z, nulls["tokens"], a.seed)
            print(f"    above ordinary tokens {told(result['above_chance'], 4)}")
        print(f"    silhouette {overall:.4f}" + (f" ± {spread:.4f} over random samples" if spread else ""))
    else:
        print("    one latent has no others to be compared with")

    result["words"] = words(model, z, tokenizer_of(a.run))
    for i, found in enumerate(result["words"]):
        print(f"    latent {i + 1} reads as " + ", ".join(f"{token!r} {share:.0%}" for token, share in found))
    if config.get("step_weight"):
        result["spelled"], first = spelled(model, asked)
        shares = ", ".join(f"step {j} {share:.1%}" for j, share in enumerate(result["spelled"], start=1) if share is not None)
        print(f"    spelled by its own latents alone: {shares}; the first question's: " + " | ".join(first))
    result |= dict(what=asked.what, interventions={}, by_ahead={}, effect={})
    if config["variant"] == "coconut":
        print("    coconut makes each latent from the one before, so there is no message to intervene on")
    elif not a.no_interventions:
        result["interventions"], result["by_ahead"], result["effect"] = interventions(model, asked)
        unit = "% of perplexity" if asked.what == "perplexity" else "points"
        for part, found in result["effect"].items():
            print(f"    {part} {told(found, 1)} {unit}")
    runtime.write_json(os.path.join(a.run, "latents.json"), result)
    draw(result, os.path.join(a.run, "latents.png"))
    print(f"wrote {a.run}/latents.png and latents.json")


if __name__ == "__main__":
    one_line_errors(main)
