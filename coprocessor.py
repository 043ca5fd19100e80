"""The variants: how does a branch start?

All systems run the same three passes over a batch of sequences with M sites each (paper, section 4.1 and Figure 5):

    pass 1  the Base reads the sequence                           -> the cache KV_theta(x)
    pass 2  a branch starts at every site                         -> latents, a cache, or soft tokens: the variant's answer
    pass 3  the Base runs what starts the branch, then the N_A    -> the loss of predicting each of them
            ahead tokens, all branches at once

A variant is one small class that answers pass 2:

    continued  with the site's own token: an ordinary language model          trains the Base           Baseline 1
    soft       with N_L soft embeddings                                       Base, soft tokens         Baseline 2
    tied       with Z, made by the Base itself: one network, three passes     Base, soft tokens         Baseline 2 (?)
    pause      with one soft embedding, N_L times                             Base, soft token          control, not there
    liu        with Z, the Coprocessor's last hidden states                   Coprocessor, soft tokens  Liu et al. 2024b
    h1         with KV_phi, the Coprocessor's cache, then the site's token    Coprocessor, soft tokens  Hypothesis 1
    h2         with Z, as liu                                                 all of them               Hypothesis 2
    rounds     with Z, made step after step (reasoning only)                  all of them               ours
    coconut    with N_L hidden states, each made from the one before          Base                      Coconut (reasoning only)
    cot        as continued, for reasoning: scored on the answer alone        Base                      reference row
    no_cot     the same, without steps; no_thought: they go stage by stage    Base                      reference rows

The Coprocessor has the Base's architecture and starts as a copy of it. It runs N_L soft tokens as branches off the
*Base's* prefix cache, so it never reads a token itself.
"""

import copy
import dataclasses
import os
import shutil
import zlib
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from data import Rows, draw_sites, name_tokens, tokenizer_of
from model import load_pretrained, random_model, token_nll, upcast
from runtime import is_run, read_json, to_device, weights_of


@dataclasses.dataclass
class Options:
    """Settings of the variants, which every training script takes."""

    text_positions: str = "own"  # own: ahead tokens stand where they stand in the text | pushed: behind the latents
    scale_latents: bool = False  # liu, h2, tied, rounds: feed Z at a learnable scale instead of plain
    step_weight: float = 0.0  # of the loss of latents that spell their step (questions only; see Variant.step_nll)
    orthogonality_weight: float = 0.0  # of the penalty on overlap between the latents of a branch


@dataclasses.dataclass
class RunOptions:
    """How a run is asked, where that is not as it was trained and tested."""

    n_latents: int = 0  # the first so many of its latents; 0: as trained
    without_latents: bool = False  # the Base alone
    checkpoint: int = 0  # the step of an earlier one (--keep_checkpoints); 0: the best, or the last
    split: str = "test"  # of its questions: test | valid | train


class Prefix(NamedTuple):
    """What pass 1 hands to pass 2."""

    tokens: torch.Tensor  # (B, S)
    kv: list  # KV_theta(x), per layer K, V (B, H_kv, S, D)
    hidden: torch.Tensor | None = None  # (B, S, C), for a variant that reads it


class BranchStart(NamedTuple):
    """What pass 2 hands to pass 3. The branch is attached at `sites`, holds `kv` already, and `x` is fed first."""

    x: torch.Tensor  # (B, M, T, C) input embeddings; the last one's output predicts the first ahead token
    sites: torch.Tensor  # (B, M) up to where it sees the prefix
    positions: torch.Tensor  # (B, M, T) of x
    ahead: torch.Tensor  # (B, M) the position of the first ahead token
    kv: list | None = None  # per layer K, V (B, H_kv, M, P, D)
    z: torch.Tensor | None = None  # (B, M, N_L, C) the latents, to look at


class Variant(nn.Module):
    """A Base, and what a variant adds to it. Subclasses set these facts and give pass2_start."""

    trains_base = True
    has_latents = True
    has_soft_tokens = True
    has_coprocessor = False
    n_passes = 2  # of Base and Coprocessor, until the first token of an answer is there
    adds_tokens = ()  # names of those that it appends to the Base's embedding: Coconut's markers
    ends_prompts_with = []  # ids that it wants behind a prompt: Coconut's marker
    # settings; a variant's own stand in its class (and in Options), and build() sets them
    text_positions, step_weight, orthogonality_weight = "own", 0.0, 0.0
    latents_per_step = 0  # c, the latents that stand for one step of a question

    def __init__(self, base, n_latents, **options):
        """base: a Model, used as it is (not copied). n_latents: N_L. options: values for the settings above.

        The attribute n_latents may be lowered afterwards: a branch then starts with the first n_latents slots.
        """
        super().__init__()
        for name, value in options.items():
            setattr(self, name, value)
        self.base = base.requires_grad_(self.trains_base)
        self.n_slots = self.n_latents = n_latents if self.has_latents else 0
        if self.has_soft_tokens:
            if n_latents < 1:
                raise ValueError(f"{type(self).__name__} needs n_latents >= 1, not {n_latents}")
            mean = base.wte.weight.detach().mean(dim=0)  # (C)
            self.soft = nn.Parameter(mean + 0.02 * torch.randn(n_latents, base.config.width).to(mean))  # (N_L, C)
        if self.has_coprocessor:
            self.coprocessor = self.make_coprocessor(base).requires_grad_()

    def make_coprocessor(self, base):
        """A copy of the Base. It never reads or writes a token, so it gets no embedding and no head."""
        tables = base.wte, base.head
        base.wte = base.head = None
        coprocessor = copy.deepcopy(base)
        base.wte, base.head = tables
        return coprocessor

    # The three passes

    def pass1_prefix(self, tokens):
        """tokens (B,S) -> Prefix. A frozen Base builds no graph."""
        with torch.set_grad_enabled(self.trains_base and torch.is_grad_enabled()):
            return Prefix(tokens, self.base.prefix(tokens, cache_only=True)[1])

    def pass2_start(self, prefix, sites):
        """How does a branch start? Prefix, sites (B,M) -> BranchStart. Every variant answers this."""
        raise NotImplementedError

    def pass3_predict(self, prefix, start, ahead):
        """ahead (B,M,N) token ids -> hidden (B,M,T+N-1,C): at what starts the branch, of which the last position predicts
        ahead token 1, and at all ahead tokens but the last, from which nothing is predicted.
        """
        x = torch.cat([start.x, self.base.embed(ahead[..., :-1])], dim=2)
        along = start.ahead[..., None] + torch.arange(ahead.size(2) - 1, device=ahead.device)  # (B, M, N-1)
        positions = torch.cat([start.positions, along], dim=2)
        return self.base.branch(x, prefix.kv, start.sites, positions, start.kv)[0]

    def forward(self, tokens, sites, ahead, steps=None, penalties=True):
        """The training loss per target, of which the mean over all is the objective.

        tokens (B,S), sites (B,M), ahead (B,M,N) token ids -> (B,M,N). A branch is causal, so ahead may be padded at its end
        and the padding's values thrown away. steps (B,K,N): the text of each step of a question, padded with -1.
        What a branch's latents are charged with is added to the loss of each of its targets.
        """
        prefix = self.pass1_prefix(tokens)  # pass 1: the Base reads the sequence
        start = self.pass2_start(prefix, sites)  # pass 2: latents are made at every site
        hidden = self.pass3_predict(prefix, start, ahead)  # pass 3: the Base predicts what comes after them
        nll = token_nll(self.base, hidden[:, :, -ahead.size(2) :], ahead)  # (B, M, N)
        if penalties and self.orthogonality_weight and start.z is not None:
            nll = nll + self.orthogonality_weight * overlap(start.z)[..., None]
        if penalties and self.step_weight and steps is not None and self.n_latents:
            nll = nll + self.step_weight * self.step_nll(self.step_latents(start, hidden), steps, prefix.kv)[..., None]
        return nll

    def ahead_nll(self, tokens, sites, ahead):
        """All three passes -> -log p of each ahead token, and nothing else: shapes as in forward."""
        return Variant.forward(self, tokens, sites, ahead, penalties=False)

    def report(self):
        """-> {name: number}, which every line of metrics.jsonl gets: a gate, a part of the loss"""
        return {}

    # What the variants' answers are made of

    def latents(self, prefix, sites, cache_only=False):
        """Pass 2 of the dual models: the Coprocessor runs the soft tokens -> Z (B,M,N_L,C), KV_phi."""
        network = self.coprocessor if self.has_coprocessor else self.base
        soft = self.soft_tokens(sites)
        return network.branch(soft, prefix.kv, sites, self.latent_positions(sites, soft.size(2)), cache_only=cache_only)

    def soft_tokens(self, sites):
        return self.soft[: self.n_latents].expand(*sites.shape, self.n_latents, -1)  # (B, M, N_L, C)

    def latent_positions(self, sites, n):
        """Where n latents stand -> (B, M, n): at their site's position, so that the text keeps its own."""
        if self.text_positions == "own":
            return sites[..., None].expand(*sites.shape, n)
        return sites[..., None] + 1 + torch.arange(n, device=sites.device)

    def start_with(self, x, sites, z):
        """A branch that starts with N_L latents as inputs: x (B,M,N_L,C), sites (B,M) -> BranchStart"""
        positions = self.latent_positions(sites, x.size(2))
        ahead = sites + 1 if self.text_positions == "own" else positions[..., -1] + 1
        return BranchStart(x, sites, positions, ahead, z=z)

    def start_plain(self, prefix, sites):
        """A branch that starts with x_site in its own place: an ordinary language model -> BranchStart"""
        x = self.base.embed(prefix.tokens.gather(1, sites))[:, :, None]  # (B, M, 1, C)
        return BranchStart(x, sites - 1, sites[..., None], sites + 1)

    def send(self, x=None, kv=None):
        """The message of the Coprocessor, or the soft tokens, on its way to the Base: inputs x (B,M,N_L,C), or a cache kv."""
        return x if kv is None else kv

    def as_input(self, z):
        """Z as input embeddings: plain, as in the paper"""
        return z

    # Latents that spell their step (ours; after SIM-CoT, Wei et al. 2025)

    def step_latents(self, start, hidden):
        """-> (B,M,N_L,C), as the Base is fed them: what has to spell the steps"""
        return self.as_input(start.z)

    def step_nll(self, z, steps, prefix_kv):
        """-log p of each step's text, told its c latents and nothing else: z (B,M,N_L,C), steps (B,K,N) -> (B,M).

        A mean over a step's tokens, then over the branch's steps. The branch is at site -1, where no question is seen, and
        counts from 0, so what the latents say must be in them.
        """
        M, x = z.size(1), self.step_branches(z)  # (B, M K, c, C)
        more = x.size(1) // M - steps.size(1)  # latents stand for the first K steps: pad the others, or cut them off
        target = F.pad(steps, (0, 0, 0, more), value=-1).repeat(1, M, 1)  # (B, M K, N)
        labelled, target = target >= 0, target.clamp(min=0)
        hidden, _ = self.alone(torch.cat([x, self.base.embed(target[..., :-1])], dim=2), prefix_kv)
        nll = token_nll(self.base, hidden[:, :, x.size(2) - 1 :], target) * labelled  # (B, M K, N)
        nll = (nll.sum(-1) / labelled.sum(-1).clamp(min=1)).unflatten(1, (M, -1))  # (B, M, K)
        return nll.sum(-1) / labelled.any(-1).unflatten(1, (M, -1)).sum(-1).clamp(min=1)

    def step_branches(self, z):
        """(B,M,N_L,C) -> (B,M K,c,C): every step's latents start a branch of their own"""
        return z.unflatten(2, (-1, self.latents_per_step or z.size(2))).flatten(1, 2)

    def alone(self, x, prefix_kv):
        """The Base on branches at site -1: x (B,M,T,C) -> hidden (B,M,T,C), branch_kv. They see no prefix, nor hold one."""
        B, M, T, _ = x.shape
        positions = torch.arange(T, device=x.device).expand(B, M, T)
        return self.base.branch(x, nothing_of(prefix_kv, B), positions[..., 0] - 1, positions)

    @torch.no_grad()
    def spell(self, z, prefix_kv, n_tokens):
        """What each step's latents say, greedily: z (B,1,N_L,C) as in step_nll -> tokens (B,K,n <= n_tokens)"""
        x = self.step_branches(z).flatten(0, 1)[:, None]  # (B K, 1, c, C)
        hidden, branch_kv = self.alone(x, prefix_kv)
        sites = torch.full((len(x), 1), -1, device=x.device)
        nothing, first = nothing_of(prefix_kv, len(x)), sites + 1 + x.size(2)
        return self.base.generate_from(hidden[:, 0, -1], nothing, sites, first, branch_kv, n_tokens).view(len(z), -1, n_tokens)

    # Asking

    @torch.no_grad()
    def branch_offset(self):
        """By how many positions latents push on the text behind them: 0 where it keeps its own. Measured."""
        site = torch.zeros((1, 1), dtype=torch.int64, device=self.base.wte.weight.device)
        return int(self.pass2_start(self.pass1_prefix(site), site).ahead) - 1  # a prefix of one token, and a branch at it

    @torch.no_grad()
    def generate(self, tokens, lengths, n_tokens, with_latents=True, **how):
        """Continue prompts with one augmentation at the end of each: tokens (B,S) padded on the right, lengths (B).

        -> tokens (B, n <= n_tokens); `how` as in Model.generate_from. Without latents it is the Base alone.
        """
        if not with_latents:
            return self.base.generate(tokens, lengths, n_tokens, **how)
        prefix = self.pass1_prefix(tokens)
        start = self.pass2_start(prefix, (lengths - 1)[:, None])
        hidden, branch_kv = self.base.branch(start.x, prefix.kv, start.sites, start.positions, start.kv)
        return self.base.generate_from(hidden[:, 0, -1], prefix.kv, start.sites, start.ahead, branch_kv, n_tokens, **how)


def nothing_of(prefix_kv, B):
    """A prefix of no positions for B rows, of the same kind"""
    return [tuple(t[:1, :, :0].expand(B, -1, -1, -1) for t in pair) for pair in prefix_kv]


def overlap(z):
    """How far the latents of a branch point the same way: z (..., N_L, C) -> the mean squared cosine of two of them, (...)."""
    n, unit = z.size(-2), F.normalize(upcast(z), dim=-1)
    squares = (unit @ unit.mT).square().sum(dim=(-2, -1))  # of which n are those of a latent with itself
    return (squares - n) / max(1, n * (n - 1))


# -----------------------------------------------------------------------------
# The variants: each answers pass 2


class Continued(Variant):
    """Baseline 1: the Base alone, trained further on the same tokens."""

    has_latents = has_soft_tokens = False

    def pass2_start(self, prefix, sites):
        return self.start_plain(prefix, sites)

    def forward(self, tokens, sites=None, ahead=None, steps=None):
        """Its objective is the ordinary one, over every token: (B,S) -> (B,S-1). Sites play no part."""
        hidden, _ = self.base.prefix(tokens)
        return token_nll(self.base, hidden[:, :-1], tokens[:, 1:])


class CoT(Continued):
    """The Base alone once more, trained on what follows the site and nothing else: chain of thought, and its absence."""

    forward = Variant.forward


class Coconut(Variant):
    """Hao et al. 2024: the Base feeds itself its last hidden state, N_L times, before it goes on in words.

    Latent j is the final-norm hidden state of the position before latent j, so latents are made one after the other. The
    prefix ends with the marker <|start-latent|>; after the last latent stands <|end-latent|>. These and <|latent|>, which is
    never fed, are the last three rows of the embedding. Positions count on, as published.
    """

    has_soft_tokens = False
    adds_tokens = ("<|start-latent|>", "<|end-latent|>", "<|latent|>")

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        self.ends_prompts_with, self.end = [base.config.vocab_size - 3], base.config.vocab_size - 2

    def pass1_prefix(self, tokens):
        hidden, kv = self.base.prefix(tokens)
        return Prefix(tokens, kv, hidden)

    def pass2_start(self, prefix, sites):
        """N_L passes, with pass 1: the prefix's last hidden state is the first latent, then one for each later latent."""
        end = self.base.embed(torch.full_like(sites, self.end))[:, :, None]  # (B, M, 1, C)
        position = sites[..., None] + 1  # (B, M, 1)
        if not self.n_latents:
            return BranchStart(end, sites, position, sites + 2)
        index = sites[:, :, None].expand(-1, -1, prefix.hidden.size(-1))
        z, kv = [prefix.hidden.gather(1, index)[:, :, None]], None  # (B, M, 1, C) each
        for _ in range(self.n_latents - 1):
            more, kv = self.base.branch(z[-1], prefix.kv, sites, position, kv)
            z.append(more)
            position = position + 1
        x, positions = torch.cat([z[-1], end], dim=2), torch.cat([position, position + 1], dim=2)
        return BranchStart(x, sites, positions, positions[..., -1] + 1, kv, torch.cat(z, dim=2))

    @property
    def n_passes(self):
        return max(2, self.n_latents + 1)


class Soft(Variant):
    """Baseline 2: one network, and the same number of latent slots as soft tokens. There is no pass 2 to run."""

    def pass2_start(self, prefix, sites):
        soft = self.soft_tokens(sites)
        return self.start_with(self.send(x=soft), sites, z=soft)

    def step_latents(self, start, hidden):
        """Soft tokens are the same for every question; what the Base makes of them in pass 3 is not. (A control.)"""
        return hidden[:, :, : self.n_latents]


class Pause(Soft):
    """Goyal et al. 2023, a control: as Soft, but every slot holds the same learnable token."""

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        self.soft = nn.Parameter(self.soft.detach()[:1].clone())  # (1, C)


class H2(Variant):
    """Hypothesis 2: the Base reads Z as input embeddings, and both models learn."""

    has_coprocessor = True
    n_passes = 3
    scale_latents = False

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        if self.scale_latents:
            self.latent_scale = nn.Parameter(base.wte.weight.detach().square().mean().sqrt())

    def report(self):
        return {"latent_scale": self.latent_scale.item()} if self.scale_latents else {}

    def as_input(self, z):
        """Z plain, as in the paper, or with scale_latents at a learnable rms that starts at that of token embeddings."""
        return F.rms_norm(z, z.shape[-1:]) * self.latent_scale if self.scale_latents else z

    def pass2_start(self, prefix, sites):
        z, _ = self.latents(prefix, sites)
        return self.start_with(self.send(x=self.as_input(z)), sites, z=z)


class Liu(H2):
    """Liu et al. 2024b: as H2 in every respect, but the Base is frozen."""

    trains_base = False


class Tied(H2):
    """H2 with the Base as its own Coprocessor: one network, three passes. Does the gain need a second network?"""

    has_coprocessor = False


class Rounds(H2):
    """H2 whose Coprocessor makes the latents step after step, the c latents of a step side by side.

    Round g reads the latents of round g - 1 as inputs, behind its own cache of the rounds before. Z is all rounds' together.
    """

    def latents(self, prefix, sites, cache_only=False):
        c = self.latents_per_step or self.n_latents
        soft = self.soft_tokens(sites).split(c, dim=2)  # a round each: (B, M, c, C)
        positions = self.latent_positions(sites, self.n_latents).split(c, dim=2)
        z, kv = [], None
        for g in range(len(soft)):
            x, stand = soft[g], positions[g]
            if g:  # the latents of the round before are read, at the places where they were made
                x, stand = torch.cat([self.as_input(z[-1]), x], dim=2), torch.cat([positions[g - 1], stand], dim=2)
            hidden, kv = self.coprocessor.branch(x, prefix.kv, sites, stand, kv)
            z.append(hidden[:, :, -soft[g].size(2) :])
        return torch.cat(z, dim=2), kv

    @property
    def n_passes(self):
        return 2 + -(-self.n_latents // (self.latents_per_step or self.n_latents))


class H1(Variant):
    """Hypothesis 1: the frozen Base attends to the Coprocessor's cache in every layer; x_site asks, in its own place."""

    trains_base = False
    has_coprocessor = True
    n_passes = 3

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        for p in self.coprocessor.unused_if_cache_only():
            p.requires_grad_(False)  # only its cache is read, so these would never get a gradient

    def pass2_start(self, prefix, sites):
        unread = self.training and not self.orthogonality_weight and not self.step_weight  # Z then has no use
        z, kv_phi = self.latents(prefix, sites, cache_only=unread)
        start = self.start_plain(prefix, sites)._replace(kv=self.send(kv=kv_phi), z=z)
        if self.text_positions == "own":
            return start
        asks = sites + 1 + max(k.size(3) for k, _ in start.kv)  # x_site once more, behind the cache
        return start._replace(sites=sites, positions=asks[..., None], ahead=asks + 1)


VARIANTS = {
    "continued": Continued,
    "soft": Soft,
    "liu": Liu,
    "h1": H1,
    "h2": H2,
    "tied": Tied,
    "pause": Pause,
}
REASONING = {"rounds": Rounds, "coconut": Coconut, "cot": CoT, "no_cot": CoT, "no_thought": CoT}  # these know questions only
VARIANTS |= REASONING


# -----------------------------------------------------------------------------
# Making, saving and loading them


def options_of(config):
    """The settings of a run, as a dict -> those that are a variant's. A run from before text_positions pushed its text."""
    config = {"text_positions": "pushed"} | config
    return {f.name: config.get(f.name, f.default) for f in dataclasses.fields(Options)}


def build(variant, base, n_latents, **options):
    """Name -> Variant around that Base. Raises ValueError for an unknown name, and for options that it does not have."""
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: one of {', '.join(VARIANTS)}")
    own = VARIANTS[variant]
    for name, value in options.items():
        if value and (not hasattr(own, name) or name.endswith("_weight") and not (own.has_latents and value > 0)):
            raise ValueError(f"{name}={value} is not for {variant}")
    if options.get("text_positions", "own") not in ("own", "pushed"):
        raise ValueError(f"text_positions must be own or pushed, not {options['text_positions']!r}")
    return own(base, n_latents, **{name: value for name, value in options.items() if hasattr(own, name)})


def save(model, folder, run):
    """Weights -> folder/base, which transformers can load, and folder/added.safetensors: what the variant added.

    run: a folder that may have a tokenizer of its own, which belongs beside the Base.
    """
    base = os.path.join(folder, "base")
    model.base.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        own = os.path.join(run, name)
        if os.path.isfile(own):
            shutil.copy(own, base)
    if model.adds_tokens and os.path.isfile(os.path.join(base, "tokenizer.json")):
        name_tokens(base, model.adds_tokens, model.base.config.vocab_size - len(model.adds_tokens))
    added = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith("base.")}
    # so many of them are trained by now. (One entry: safetensors writes several in any order, so in other bytes each time)
    latents = {"latents": f"{model.n_latents} of {model.n_slots}"}
    save_file(added, os.path.join(folder, "added.safetensors"), metadata=latents)


def load_variant(folder, config):
    """What save wrote, and the settings of its run -> the Variant, with as many latents as are trained by now

    Raises ValueError for a damaged file and for a weight that is not finite, RuntimeError for one of another shape.
    """
    base, path = load_pretrained(os.path.join(folder, "base")), os.path.join(folder, "added.safetensors")
    try:
        with safe_open(path, framework="pt") as f:
            latents = (f.metadata() or {}).get("latents", "{0} of {0}".format(config["n_latents"]))
            added = {name: f.get_tensor(name) for name in f.keys()}
    except SafetensorError as e:
        raise ValueError(f"{path}: {e}") from None
    n_latents, n_slots = map(int, latents.split(" of "))
    c = config.get("latents_per_step", 0)
    model = build(config["variant"], base, n_slots, latents_per_step=c, **options_of(config))
    for name, tensor in added.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{path}: {name} is not finite")
    model.load_state_dict({f"base.{name}": x for name, x in base.state_dict().items()} | added)
    model.n_latents = n_latents
    return model


def load_base(name, tokenizer, source, vocab_size=None):
    """A hub name, a local folder, a run folder (its Base), or random:<size> -> Model that reads the ids of source

    tokenizer: that of source; vocab_size: how many ids it has, where that is known better.
    """
    if name.startswith("random:"):
        return random_model(name.removeprefix("random:"), vocab_size or tokenizer.vocab_size)
    base = load_pretrained(os.path.join(weights_of(name), "base") if is_run(name) else name)
    check_tokenizer(base, name, tokenizer, source, vocab_size)
    return base


def check_tokenizer(base, name, tokenizer, source, vocab_size=None):
    """Raises ValueError where the Base called name is given another tokenizer's ids than its own, those of source.

    Other ids fit as well, and mean something else. Where nothing says which tokenizer is its own, their number has to do.
    """
    run = os.path.normpath(os.path.join(name, "..", ".."))  # out/x/best/base is of a run, too
    try:
        own = tokenizer_of(run if is_run(run) else name)
        if own.vocab_size <= base.config.vocab_size and not own.same(tokenizer):
            raise ValueError(f"{name} has read another tokenizer's ids than those of {source}")
    except FileNotFoundError:
        vocab_size = vocab_size or tokenizer.vocab_size
        if base.config.vocab_size - vocab_size > 1024:  # more than anybody pads an embedding by
            raise ValueError(f"{name} has {base.config.vocab_size} token ids, {source} only {vocab_size}") from None
    if base.config.vocab_size < (vocab_size := vocab_size or tokenizer.vocab_size):
        raise ValueError(f"{source} has {vocab_size} token ids, {name} only {base.config.vocab_size}")


def checksum(base):
    """crc32 over the bytes of a Base's weights -> int: runs are compared that started from the same, wherever it was kept.

    About a second for 0.6B parameters.
    """
    crc = 0
    for _, x in sorted(base.state_dict().items()):
        crc = zlib.crc32(x.cpu().contiguous().numpy(), crc)
    return crc


def with_latents(model, n_latents):
    """The Variant with the first so many of its latents -> what trains and answers with them.

    With none it is the Base alone, or DDP would wait for gradients that the Coprocessor never gets. (A variant that adds
    tokens, Coconut, still has its markers.)
    """
    model.n_latents = n_latents
    return model if n_latents or model.adds_tokens or not model.has_latents else CoT(model.base, 0)


def load_run(run, n_latents=None, checkpoint=None):
    """A run folder -> (its trained Variant in eval mode on the CPU, its config as a dict).

    n_latents: the first so many of those that its weights were trained with (fewer than in the end, where a curriculum is not
    over); None: all of these. checkpoint: the step of an earlier one that --keep_checkpoints kept; else the best, or the last.
    Raises ValueError for latents that were not trained.
    """
    config = read_json(os.path.join(run, "config.json"), like={"variant": "", "n_latents": 0, "data": ""})
    there = os.path.join(config.get("started_in", ""), config["data"])
    if not os.path.exists(config["data"]) and os.path.exists(there):
        config["data"] = there  # asked from another folder than it was trained in
    model = load_variant(os.path.join(run, f"checkpoint_{checkpoint}") if checkpoint else weights_of(run), config)
    if n_latents is None:
        n_latents = model.n_latents
    if n_latents > model.n_latents:
        raise ValueError(f"{run} has {model.n_latents} latents, this asks for {n_latents}")
    return with_latents(model, n_latents).eval(), config


def load_run_as(run, c):
    """A run folder, RunOptions -> as load_run"""
    model, config = load_run(run, 0 if c.without_latents else c.n_latents or None, c.checkpoint)
    if c.split != "test" and not getattr(c, "questions", "valid_limit" in config):  # those that are asked, or the run's own
        raise ValueError(f"split={c.split} is one of questions: those of a run of finetune_reasoning.py, or --questions=")
    return model, config


def options_in_name(c):
    """RunOptions -> what a file's name says of them: ",n_latents=2" """
    changed = [f.name for f in dataclasses.fields(RunOptions) if getattr(c, f.name) != f.default]
    return "".join(f",{name}={getattr(c, name)}" for name in changed)


# -----------------------------------------------------------------------------
# Sites in text: where branches may be attached, what they predict, how well they do


def ahead_tokens(tokens, sites, n_ahead):
    """x_{s+1} .. x_{s+N_A} of every site: tokens (B,S), sites (B,M) -> (B,M,N_A)."""
    index = sites[:, :, None] + 1 + torch.arange(n_ahead, device=sites.device)  # (B, M, N_A)
    return tokens.gather(1, index.flatten(1)).view(index.shape)


def site_limit(c, context, offset=0):
    """Sites lie in [0, limit): each needs N_A tokens of the sequence after it.

    offset: see Variant.branch_offset. Where latents push the text on, there must be positions for it, too.
    """
    if c.seq_len > context:
        raise ValueError(f"seq_len={c.seq_len} is more than the {context} positions of {c.init_from}")
    limit = min(c.seq_len - c.n_ahead, context - c.n_ahead - max(0, offset - 1))
    if limit < 1:
        raise ValueError(f"seq_len={c.seq_len}, n_ahead={c.n_ahead}, n_latents={c.n_latents}: no place where a branch fits")
    return limit


class Batches:
    """The sequences and sites of any set of row numbers, on the device: (B,S), (B,M)."""

    def __init__(self, rows, c, limit, device):
        self.rows, self.limit, self.device, self.n_sites = rows, limit, device, c.n_sites
        self.seed = rows.seed or 0

    def __call__(self, numbers):
        pair = self.rows.batch(numbers), draw_sites(self.seed, numbers, self.n_sites, self.limit)
        return [to_device(torch.from_numpy(a), self.device) for a in pair]


def validation_batches(c, model, name, device):
    """-> the Batches of c's validation text for the model of that name, whose tokenizer it must be in"""
    rows = Rows(c.data, "val", c.seq_len)
    check_tokenizer(model.base, name, tokenizer_of(c.data), c.data, rows.vocab_size)
    return Batches(rows, c, site_limit(c, model.base.config.context, model.branch_offset()), device)


@torch.no_grad()
def validate(model, batches, c, machine):
    """The validation sequences -> {val_ppl, val_nll: -log p by ahead token, N_A numbers, of whose mean val_ppl is exp}

    The sites are fixed: the same targets for every variant and every N_L. Each rank takes its share of the sequences;
    their sums and counts are added.
    """
    model.eval()
    total, count = torch.zeros(c.n_ahead, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    mine = range(machine.rank, min(c.eval_rows, batches.rows.count), machine.world)
    for i in range(0, len(mine), c.batch_size):
        tokens, sites = batches(mine[i : i + c.batch_size])
        with machine.autocast():
            nll = model.ahead_nll(tokens, sites, ahead_tokens(tokens, sites, c.n_ahead))  # (B, M, N_A)
        total += nll.cpu().double().sum(dim=(0, 1))
        count += nll.size(0) * nll.size(1)
    model.train()
    nll = machine.all_reduce_sum(total).cpu() / machine.all_reduce_sum(count).cpu()
    if not nll.isfinite().all():
        raise ValueError(f"-log p by ahead token is {nll.tolist()}, which no perplexity can be made of")
    return dict(val_ppl=nll.mean().exp().item(), val_nll=nll.tolist())
