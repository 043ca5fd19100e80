"""Do latents specialise, and do they matter? (Paper, section 4.3 and appendices C and D.)

    python analyze_latents.py out/tiny_text
    python analyze_latents.py out/tiny_countdown --examples=1024

For any run with latents, over its validation sequences or its held-out questions:

capture     H_ij, the share of latent j's variance that lies in the subspace of latent i (the fewest principal components with
            97 % of its variance). Beside it what a random subspace of the same rank would capture: rank / width.
silhouette  is an occurrence nearer to others of its own latent than to those of the nearest other latent? -1 to 1.
meddling    perplexity, or accuracy, when the latents are zeroed, replaced by their mean over examples, swapped between
            examples, reversed, or dropped one at a time. What does not get worse did not matter.
words       the tokens that each latent is nearest to, read by the Base's head.

Z is the Coprocessor's last hidden state; for soft and coconut, what the Base is fed.
"""

import argparse
import contextlib
import dataclasses
import os
from collections import Counter

import matplotlib

matplotlib.use("Agg")
from configurator import Count, configure, one_line_errors

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import silhouette_samples

import coprocessor
import questions
import runtime
from data import Rows, tokenizer_of


@dataclasses.dataclass
class Config:
    run: str = ""  # a run folder, which may stand alone; latents.json and latents.png are written there
    examples: Count = 2048  # occurrences of each latent
    batch_size: Count = 32  # sequences or questions at a time
    no_meddling: bool = False  # only look at the latents
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


def subspaces(z, tau=TAU):
    """Z (n, N_L, d) -> centred X (N_L, n, d), per latent an orthonormal basis (d, rank); rank 0 where it is constant."""
    z = check(z)
    x = (z - z.mean(axis=0)).transpose(1, 0, 2)  # each latent by its own mean
    scale = np.abs(z).max(axis=(0, 2))  # below a few bits of that, what is left of a constant is rounding
    bases = []
    for latent, largest in zip(x, scale, strict=True):
        if np.abs(latent).max() <= 1e-6 * largest:
            latent[:] = 0
            bases.append(np.zeros((z.shape[2], 0)))
            continue
        _, s, v = np.linalg.svd(latent, full_matrices=False)
        share = np.cumsum(s**2) / np.sum(s**2)
        bases.append(v[: np.searchsorted(share, tau - 1e-12) + 1].T)
    return x, bases


def cross_capture(z, tau=TAU):
    """Z (n, N_L, d) -> H (N_L, N_L): H_ij = |X_j P_i|^2 / |X_j|^2, P_i projecting on latent i's subspace.

    A latent that is the same in every example has no variance: its row and its column are 0. Raises ValueError for
    values that are not finite and for another shape.
    """
    x, bases = subspaces(z, tau)
    total = np.square(x).sum(axis=(1, 2))  # (N_L)
    captured = np.array([[np.square(xj @ basis).sum() for xj in x] for basis in bases])
    return np.divide(captured, total, out=np.zeros_like(captured), where=total > 0)


def off_diagonal(h):
    """The mean of H beside its diagonal; None for one latent, which has no others."""
    n = len(h)
    return float((h.sum() - np.trace(h)) / (n * (n - 1))) if n > 1 else None


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
    """A run's own validation: batches() -> (tokens (B,S), sites (B,M)); score() -> perplexity, or accuracy in percent"""

    def __init__(self, run, config, model, examples, batch_size, machine):
        self.machine, self.model = machine, model
        self.c = argparse.Namespace(**config)
        self.c.micro_batch = self.c.batch_size = batch_size
        self.setting = setting(config)
        if self.setting == "large-scale":
            self.what = "perplexity"
            rows = Rows(self.c.data, "val", self.c.seq_len)
            limit = coprocessor.site_limit(self.c, model.base.config.context, model.span())
            self.read = coprocessor.Batches(rows, self.c, limit, machine.device)
            self.c.eval_rows = min(rows.count, -(-examples // self.c.n_sites))
            return
        self.what, self.tokenizer = "accuracy", tokenizer_of(run)
        self.asked = questions.asked_before(run)[:examples]
        prompts = [self.tokenizer.encode(question) + model.ends_prompts_with for question, _ in self.asked]
        self.answers = questions.Answers(prompts, model, self.tokenizer, self.c, machine)

    def batches(self):
        if self.what == "perplexity":
            for i in range(0, self.c.eval_rows, self.c.batch_size):
                yield self.read(range(i, min(i + self.c.batch_size, self.c.eval_rows)))
        else:
            prompts = self.answers.questions
            for i in range(0, len(prompts), self.c.micro_batch):
                tokens, lengths = questions.pad(prompts[i : i + self.c.micro_batch], self.machine.device)
                yield tokens, (lengths - 1)[:, None]

    def score(self):
        if self.what == "perplexity":
            nll = coprocessor.validate(self.model, self.read, self.c, self.machine)
            self.model.eval()
            return nll.mean().exp().item()
        texts = self.answers.texts(self.model)
        return 100 * float(np.mean([right(text) for (_, right), text in zip(self.asked, texts, strict=True)]))


def setting(config):
    """What a run was trained on, as the paper's section 4.3 has it"""
    if "seq_len" in config:
        return "large-scale"
    if "operands" in config:
        return f"Countdown, {config['operands']} operands"
    straight = config["first_stage"] > config["stages"]
    resumed = config["started_from"].startswith("all of")
    task = "ProsQA" if "prosqa" in config["data"] else "GSM8K"
    return task + (", straight to 16" if straight and resumed else ", no curriculum" if straight else "")


MAX_VALUES = 2**26  # of Z; 512 MB in fp64


@torch.no_grad()
def collect(model, batches, examples):
    """-> Z (n, N_L, d) float32 of the first so many branches, no more than MAX_VALUES"""
    width = model.base.config.width
    n = min(examples, max(1, MAX_VALUES // (model.n_latents * width)))
    z, filled = np.empty((n, model.n_latents, width), dtype=np.float32), 0
    for tokens, sites in batches:
        begin = model.begin(tokens, sites)[1]
        if begin.z is None:
            raise ValueError(f"{type(model).__name__} does not say what its latents are: give Beginning a z")
        found = begin.z.flatten(0, 1)[: n - filled]  # (B M, N_L, C)
        z[filled : filled + len(found)] = found.float().cpu().numpy()
        filled += len(found)
        if filled == n:
            break
    return z[:filled]


# -----------------------------------------------------------------------------
# Do they matter?


def message(model, tokens, sites):
    """Passes 1 and 2 -> KV_theta(x), Beginning, and what the Coprocessor tells: tensors whose axis -2 are the latents.

    They are the inputs (unless those are the site's own token) and KV_phi of every layer.
    """
    prefix_kv, begin = type(model).begin(model, tokens, sites)
    reads_z = not torch.equal(begin.x, model.site_embedding(tokens, sites))
    return prefix_kv, begin, [begin.x] * reads_z + [t for pair in begin.kv or [] for t in pair]


@contextlib.contextmanager
def meddling(model, change):
    """While it lasts, the Base gets change(tensor, number) of every tensor of the message."""

    def begin(tokens, sites):
        prefix_kv, found, told = message(model, tokens, sites)
        changed = [change(t, i) if t.size(-2) else t for i, t in enumerate(told)]  # a layer may hold nothing
        kv = found.kv and changed[-2 * len(found.kv) :]
        x = changed[0] if len(changed) > 2 * len(found.kv or []) else found.x
        return prefix_kv, found._replace(x=x, kv=kv and list(zip(kv[::2], kv[1::2], strict=True)))

    model.begin = begin
    try:
        yield
    finally:
        del model.begin


def over_examples(t):
    """The axes of a message's tensor that count examples: B and M of x (B,M,N_L,C), of K and V (B,H_kv,M,N_L,D)."""
    return (0, 1) if t.dim() == 4 else (0, 2)


@torch.no_grad()
def mean_message(model, batches):
    """-> the mean over all examples of every tensor of the message"""
    sums, count = None, 0
    for tokens, sites in batches:
        told = message(model, tokens, sites)[2]
        parts = [t.sum(dim=over_examples(t), keepdim=True).cpu().double() for t in told]
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


def meddle(model, asked):
    """-> {what was done: perplexity or accuracy}

    Latents are dropped, not masked: what comes after them moves up. Under h1 the message is keys and values, which hold their
    own positions: swapped ones are those of another site, and their order means nothing.
    """
    n, means = model.n_latents, mean_message(model, asked.batches())
    changes = {
        "untouched": lambda t, i: t,
        "zero": lambda t, i: torch.zeros_like(t),
        "mean": lambda t, i: means[i].to(t).expand_as(t),
        "swapped": swap(),
    }
    if n > 1:
        if means[-1].dim() == 4:
            changes["reversed"] = lambda t, i: t.flip(-2)
        for j in range(n):
            rest = torch.tensor([k for k in range(n) if k != j])
            changes[f"without {j + 1}"] = lambda t, i, rest=rest: t[..., rest.to(t.device), :]
    scores = {}
    for name, change in changes.items():
        with meddling(model, change):
            scores[name] = asked.score()
        print(f"    {name}: {asked.what} {scores[name]:.2f}", flush=True)
    return scores


# -----------------------------------------------------------------------------
# What do they say?


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


def heatmap(ax, latents, title):
    """latents: the contents of a latents.json"""
    n = latents["n_latents"]
    image = ax.imshow(latents["capture"], vmin=0, vmax=1, cmap="viridis", extent=(0.5, n + 0.5, n + 0.5, 0.5))
    if n > 1:
        title += f"\nmean off the diagonal {latents['off_diagonal']:.3f}"
    ax.set(title=title, xlabel="variance of latent j", ylabel="in subspace of i")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def draw(result, path):
    """The heatmap, the silhouettes and what meddling did, side by side."""
    scores = result["meddling"]
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
        ax.set(xlabel="accuracy (%)" if result["what"] == "accuracy" else "perplexity", title="after meddling with the latents")
        if result["what"] == "perplexity":
            ax.set_xlim(left=0.9 * min(scores.values()))
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    a = configure(Config, __doc__)
    if not a.run:
        raise ValueError("which run? python analyze_latents.py out/...")
    machine = runtime.start(a.device)
    model, config = coprocessor.load_run(a.run)
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
    result |= dict(
        setting=asked.setting,
        width=width,
        capture=h.tolist(),
        off_diagonal=off_diagonal(h),
        ranks=ranks,
        null=np.mean(ranks) / width,
    )
    result |= dict(silhouette=overall, silhouette_spread=spread, silhouettes=list(each))
    print(f"{a.run}: {config['variant']}, {n_latents} latents, {n:,} occurrences of each, {width} wide")
    constant = [i + 1 for i, rank in enumerate(ranks) if not rank]
    if constant:
        print(f"    latents {', '.join(map(str, constant))} are the same in every example: no variance, capture 0")
    if n <= width:
        print(f"    fewer occurrences than dimensions, so ranks end at {n - 1}: ask for more --examples")
    print(f"    ranks {min(ranks)} to {max(ranks)} of {width}")
    if n_latents > 1:
        print(
            f"    capture off the diagonal {result['off_diagonal']:.4f}; random subspaces of these ranks {result['null']:.4f}"
        )
        print(f"    silhouette {overall:.4f}" + (f" ± {spread:.4f} over random samples" if spread else ""))
    else:
        print("    one latent has no others to be compared with")

    result["words"] = words(model, z, tokenizer_of(a.run))
    for i, found in enumerate(result["words"]):
        print(f"    latent {i + 1} reads as " + ", ".join(f"{token!r} {share:.0%}" for token, share in found))
    result["what"], result["meddling"] = asked.what, {}
    if config["variant"] == "coconut":
        print("    coconut makes each latent from the one before, so there is no message to meddle with")
    elif not a.no_meddling:
        result["meddling"] = meddle(model, asked)
    runtime.write_json(os.path.join(a.run, "latents.json"), result)
    draw(result, os.path.join(a.run, "latents.png"))
    print(f"wrote {a.run}/latents.png and latents.json")


if __name__ == "__main__":
    one_line_errors(main)
