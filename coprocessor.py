"""The variants: how does a branch begin?

All systems run the same three passes over a batch of sequences with M sites each (paper, section 4.1 and Figure 5):

    pass 1  the Base reads the sequence                          -> the cache KV_theta(x)
    pass 2  the branch begins at every site                      -> latents, a cache, or soft tokens: the variant's answer
    pass 3  the Base runs what begins the branch, then the N_A   -> the loss of predicting each of them
            ahead tokens, all branches at once

A variant is one small class that answers pass 2:

    continued  with the site's own token: an ordinary language model          trains the Base           Baseline 1
    soft       with N_L soft embeddings                                       Base, soft tokens         Baseline 2
    pause      with one soft embedding, N_L times                             Base, soft token          control, not there
    liu        with Z, the Coprocessor's last hidden states                   Coprocessor, soft tokens  Liu et al. 2024b
    h1         with KV_phi, the Coprocessor's cache, and the site's token     Coprocessor, soft tokens  Hypothesis 1
    h2         with Z, as liu                                                 all of them               Hypothesis 2
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
from safetensors.torch import save_file

from data import draw_sites
from model import load_pretrained, random_model, token_nll, upcast
from runtime import is_run, load_tensors, read_json, send, weights_of


class Beginning(NamedTuple):
    """What pass 2 hands to pass 3. The branch hangs at `sites`, holds `kv` already, and `x` is fed first."""

    x: torch.Tensor  # (B, M, T, C) input embeddings; the last one's output predicts the first ahead token
    sites: torch.Tensor  # (B, M)
    kv: list | None = None  # per layer K, V (B, H_kv, M, P, D)
    z: torch.Tensor | None = None  # (B, M, N_L, C) the latents, to look at


class Variant(nn.Module):
    """A Base, and what a variant adds to it. Subclasses set four facts and give pass2_begin."""

    trains_base = True
    has_latents = True
    has_soft_tokens = True
    has_coprocessor = False
    ends_prompts_with = []  # ids that it wants behind a prompt: Coconut's marker
    # settings of its own, {name: (default, what it means)}: every script takes them as --name=value, every run keeps them, and
    # the variant finds them as self.name
    options = {}

    def __init__(self, base, n_latents, **options):
        """base: a Model, used as it is (not copied). n_latents: N_L. options: values for some of self.options.

        The attribute n_latents may be lowered afterwards: a branch then begins with the first n_latents slots.
        orthogonality_weight may be raised: see `forward`.
        """
        super().__init__()
        for name, (default, _) in self.options.items():
            setattr(self, name, options.get(name, default))
        self.orthogonality_weight = 0.0
        self.base = base.requires_grad_(self.trains_base)
        self.n_latents = n_latents if self.has_latents else 0
        if self.has_soft_tokens:
            if n_latents < 1:
                raise ValueError(f"{type(self).__name__} needs n_latents >= 1, not {n_latents}")
            mean = base.wte.weight.detach().mean(dim=0)  # (C)
            self.soft = nn.Parameter(mean + 0.02 * torch.randn(n_latents, base.config.width).to(mean))  # (N_L, C)
        if self.has_coprocessor:
            tables = base.wte, base.head
            base.wte = base.head = None  # it never reads or writes a token, so it gets no embedding and no head
            self.coprocessor = copy.deepcopy(base).requires_grad_()
            base.wte, base.head = tables

    # The three passes

    def pass1_read(self, tokens):
        """tokens (B,S) -> KV_theta(x), per layer K, V (B,H_kv,S,D). A frozen Base builds no graph."""
        with torch.set_grad_enabled(self.trains_base and torch.is_grad_enabled()):
            return self.base.prefix(tokens, cache_only=True)[1]

    def pass2_begin(self, tokens, sites, prefix_kv):
        """How does a branch begin? tokens (B,S), sites (B,M) -> Beginning. Every variant answers this."""
        raise NotImplementedError

    def pass3_decode(self, begin, ahead, prefix_kv):
        """ahead (B,M,N) token ids -> hidden (B,M,N,C), of which position i predicts ahead token i.

        The last ahead token is not fed: nothing is predicted from it.
        """
        x = torch.cat([begin.x, self.base.embed(ahead[..., :-1])], dim=2)  # (B, M, T0 + N - 1, C)
        hidden, _ = self.base.branch(x, prefix_kv, begin.sites, begin.kv)
        return hidden[:, :, begin.x.size(2) - 1 :]

    def begin(self, tokens, sites):
        """Passes 1 and 2: tokens (B,S), sites (B,M) -> KV_theta(x), Beginning"""
        prefix_kv = self.pass1_read(tokens)
        return prefix_kv, self.pass2_begin(tokens, sites, prefix_kv)

    def ahead_nll(self, tokens, sites, ahead):
        """All three passes -> -log p of each ahead token: tokens (B,S), sites (B,M), ahead (B,M,N) -> (B,M,N).

        A branch is causal, so ahead may be padded at its end and the padding's values thrown away.
        """
        prefix_kv, begin = self.begin(tokens, sites)
        return token_nll(self.base, self.pass3_decode(begin, ahead, prefix_kv), ahead)

    def forward(self, tokens, sites, ahead):
        """The training loss per target, of which the mean over all is the objective: shapes as in ahead_nll.

        With orthogonality_weight, the overlap of a branch's latents is added to the loss of each of its targets.
        """
        prefix_kv, begin = self.begin(tokens, sites)
        nll = token_nll(self.base, self.pass3_decode(begin, ahead, prefix_kv), ahead)  # (B, M, N)
        if self.orthogonality_weight and begin.z is not None:
            nll = nll + self.orthogonality_weight * overlap(begin.z)[..., None]
        return nll

    # What the variants' answers are made of

    def latents(self, sites, prefix_kv, cache_only=False):
        """Pass 2 of the dual models: the Coprocessor runs the soft tokens -> Z (B,M,N_L,C), KV_phi."""
        soft = self.soft_tokens(sites)
        return self.coprocessor.branch(soft, prefix_kv, sites, cache_only=cache_only)

    def soft_tokens(self, sites):
        return self.soft[: self.n_latents].expand(*sites.shape, self.n_latents, -1)  # (B, M, N_L, C)

    def as_input(self, z):
        """Z as input embeddings: plain, as in the paper, or with scale_latents at a learnable rms that starts at theirs."""
        if not hasattr(self, "latent_scale"):
            return z
        return F.rms_norm(z, z.shape[-1:]) * self.latent_scale

    def site_embedding(self, tokens, sites):
        """The embedding of each site's own token: (B,M,1,C)."""
        return self.base.embed(tokens.gather(1, sites))[:, :, None]

    @torch.no_grad()
    def span(self):
        """How many positions a branch has taken when its first ahead token comes: what `begin` holds and feeds, measured."""
        site = torch.zeros((1, 1), dtype=torch.int64, device=self.base.wte.weight.device)
        begin = self.begin(site, site)[1]  # a prefix of one token, and a branch at it
        held = max((k.size(3) for k, _ in begin.kv), default=0) if begin.kv else 0
        return int(begin.sites) + held + begin.x.size(2)

    @torch.no_grad()
    def generate(self, tokens, lengths, n_tokens, with_latents=True, **how):
        """Continue prompts with one augmentation at the end of each: tokens (B,S) padded on the right, lengths (B).

        -> tokens (B, n <= n_tokens); `how` as in Model.decode. Without latents it is the Base alone.
        """
        if not with_latents:
            return self.base.generate(tokens, lengths, n_tokens, **how)
        prefix_kv, begin = self.begin(tokens, (lengths - 1)[:, None])
        hidden, branch_kv = self.base.branch(begin.x, prefix_kv, begin.sites, begin.kv)
        return self.base.decode(hidden[:, 0, -1], prefix_kv, begin.sites, branch_kv, n_tokens, **how)


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

    def pass2_begin(self, tokens, sites, prefix_kv):
        return Beginning(self.site_embedding(tokens, sites), sites - 1)  # x_site in its own place: the plain causal pass

    def forward(self, tokens, sites=None, ahead=None):
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
    never fed, are the last three rows of the embedding.
    """

    has_soft_tokens = False

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        self.ends_prompts_with, self.end = [base.config.vocab_size - 3], base.config.vocab_size - 2

    def begin(self, tokens, sites):
        """N_L passes: one over the prefix, whose last hidden state is the first latent, then one for each later latent."""
        hidden, prefix_kv = self.base.prefix(tokens)
        end = self.base.embed(torch.full_like(sites, self.end))[:, :, None]  # (B, M, 1, C)
        if not self.n_latents:
            return prefix_kv, Beginning(end, sites)
        z, kv = [hidden.gather(1, sites[:, :, None].expand(-1, -1, hidden.size(-1)))[:, :, None]], None  # (B, M, 1, C) each
        for _ in range(self.n_latents - 1):
            more, kv = self.base.branch(z[-1], prefix_kv, sites, kv)
            z.append(more)
        return prefix_kv, Beginning(torch.cat([z[-1], end], dim=2), sites, kv, torch.cat(z, dim=2))


class Soft(Variant):
    """Baseline 2: one network, and the same number of latent slots as soft tokens. There is no pass 2 to run."""

    def pass2_begin(self, tokens, sites, prefix_kv):
        soft = self.soft_tokens(sites)
        return Beginning(soft, sites, z=soft)


class Pause(Soft):
    """Goyal et al. 2023, a control: as Soft, but every slot holds the same learnable token."""

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        self.soft = nn.Parameter(self.soft.detach()[:1].clone())  # (1, C)


class H2(Variant):
    """Hypothesis 2: the Base reads Z as input embeddings, and both models learn."""

    has_coprocessor = True
    options = {"scale_latents": (False, "feed Z at a learnable scale instead of plain")}

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        if self.scale_latents:
            self.latent_scale = nn.Parameter(base.wte.weight.detach().square().mean().sqrt())

    def pass2_begin(self, tokens, sites, prefix_kv):
        z, _ = self.latents(sites, prefix_kv)
        return Beginning(self.as_input(z), sites, z=z)


class Liu(H2):
    """Liu et al. 2024b: as H2 in every respect, but the Base is frozen."""

    trains_base = False


class H1(Variant):
    """Hypothesis 1: the frozen Base attends to the Coprocessor's cache in every layer; x_site, fed again, asks."""

    trains_base = False
    has_coprocessor = True

    def __init__(self, base, n_latents, **options):
        super().__init__(base, n_latents, **options)
        for p in self.coprocessor.after_cache():
            p.requires_grad_(False)  # only its cache is read, so these would never get a gradient

    def pass2_begin(self, tokens, sites, prefix_kv):
        unread = self.training and not self.orthogonality_weight  # Z then has no use
        z, kv_phi = self.latents(sites, prefix_kv, cache_only=unread)
        return Beginning(self.site_embedding(tokens, sites), sites, kv_phi, z)


VARIANTS = {
    "continued": Continued,
    "soft": Soft,
    "liu": Liu,
    "h1": H1,
    "h2": H2,
    "pause": Pause,
}
REASONING = {"coconut": Coconut, "cot": CoT, "no_cot": CoT, "no_thought": CoT}  # these know questions only
VARIANTS |= REASONING


# -----------------------------------------------------------------------------
# Making, saving and loading them


def all_options():
    """{name: (default, what it means)} of every variant"""
    return {name: option for variant in VARIANTS.values() for name, option in variant.options.items()}


def options_of(config):
    """The settings of a run, as a dict -> those of them that are some variant's own"""
    return {name: config.get(name, default) for name, (default, _) in all_options().items()}


def with_options(config_class):
    """A script's Config gets a field for every option of a variant that it does not have yet."""
    own = {field.name for field in dataclasses.fields(config_class)}
    more = [(name, type(default), default) for name, (default, _) in all_options().items() if name not in own]
    made = dataclasses.make_dataclass(config_class.__name__, more, bases=(config_class,)) if more else config_class
    made.__module__ = config_class.__module__
    return made


def build(variant, base, n_latents, orthogonality_weight=0.0, **options):
    """Name -> Variant around that Base. Raises ValueError for an unknown name, and for options that it cannot have."""
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: one of {', '.join(VARIANTS)}")
    own = VARIANTS[variant].options
    for name, value in options.items():
        if name not in own and value != all_options()[name][0]:
            owners = [v for v, found in VARIANTS.items() if name in found.options]
            raise ValueError(f"{name} is for {' and '.join(owners)}, not for {variant}")
    if orthogonality_weight < 0 or orthogonality_weight and not VARIANTS[variant].has_latents:
        raise ValueError(f"orthogonality_weight={orthogonality_weight}: 0 or more, and for variants with latents")
    model = VARIANTS[variant](base, n_latents, **{name: value for name, value in options.items() if name in own})
    model.orthogonality_weight = orthogonality_weight
    return model


def save(model, folder):
    """Weights -> folder/base, which transformers can load, and folder/added.safetensors: what the variant added."""
    base = os.path.join(folder, "base")
    model.base.save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):  # the run's, if it has one of its own
        own = os.path.join(os.path.dirname(os.path.normpath(folder)), name)
        if os.path.isfile(own):
            shutil.copy(own, base)
    added = {k: v.contiguous() for k, v in model.state_dict().items() if not k.startswith("base.")}
    save_file(added, os.path.join(folder, "added.safetensors"))


def load(model, folder, base=None):
    """The inverse of save, into a Variant of the same shape; base: its Base, if that is loaded already.

    Raises ValueError if the shapes are not the same.
    """
    base = base or load_pretrained(os.path.join(folder, "base"))
    state = {f"base.{k}": v for k, v in base.state_dict().items()} | load_tensors(os.path.join(folder, "added.safetensors"))
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        a, b = own.get(name), state.get(name)
        if a is None or b is None or a.shape != b.shape:
            raise ValueError(f"{folder}: the checkpoint of another configuration ({name} does not fit)")
    model.load_state_dict(state)


def load_base(name, vocab_size):
    """A hub name, a local folder, a run folder (its Base), or random:<size> -> Model with that many token ids or more"""
    if name.startswith("random:"):
        return random_model(name.removeprefix("random:"), vocab_size)
    if name.startswith("out/") and not os.path.exists(name):
        config = f"config/{name.split('/')[1].split(',')[0]}.py"
        raise FileNotFoundError(f"{name} is not there yet" + f": the run of {config} makes it" * os.path.exists(config))
    base = load_pretrained(os.path.join(weights_of(name), "base") if is_run(name) else name)
    check_vocabulary(base, name, vocab_size)
    return base


def checksum(base):
    """crc32 over the bytes of a Base's weights -> int: runs are compared that started from the same, wherever it was kept.

    About a second for 0.6B parameters.
    """
    crc = 0
    for _, x in sorted(base.state_dict().items()):
        crc = zlib.crc32(x.cpu().contiguous().numpy(), crc)
    return crc


def check_vocabulary(base, name, vocab_size):
    """Raises ValueError if there are more token ids than the Base called name has."""
    if base.config.vocab_size < vocab_size:
        raise ValueError(f"the tokenizer has {vocab_size} token ids, {name} only {base.config.vocab_size}")


def load_run(run):
    """A run folder -> (its trained Variant in eval mode on the CPU, its config as a dict)."""
    path = os.path.join(run, "config.json")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{run} is not a run folder: it has no config.json")
    config = read_json(path, like={"variant": "", "n_latents": 0, "data": ""})
    there = os.path.join(config.get("started_in", ""), config["data"])
    if not os.path.exists(config["data"]) and os.path.exists(there):
        config["data"] = there  # asked from another folder than it was trained in
    folder = weights_of(run)
    base = load_pretrained(os.path.join(folder, "base"))
    model = build(config["variant"], base, config["n_latents"], **options_of(config))
    load(model, folder, base)
    return model.eval(), config


# -----------------------------------------------------------------------------
# Sites in text: where branches may hang, what they predict, how well they do


def ahead_tokens(tokens, sites, n_ahead):
    """x_{s+1} .. x_{s+N_A} of every site: tokens (B,S), sites (B,M) -> (B,M,N_A)."""
    index = sites[:, :, None] + 1 + torch.arange(n_ahead, device=sites.device)  # (B, M, N_A)
    return tokens.gather(1, index.flatten(1)).view(index.shape)


def site_limit(c, context, span=0):
    """Sites lie in [0, limit): each needs N_A tokens after it, and positions for its latents and ahead tokens.

    All variants whose branch ends by site + N_L + N_A share their sites; one that takes more (span: see Variant) has fewer.
    """
    if c.seq_len > context:
        raise ValueError(f"seq_len={c.seq_len} is more than the {context} positions of {c.init_from}")
    if c.n_latents > (c.max_latents or c.n_latents):
        raise ValueError(f"n_latents={c.n_latents} is more than max_latents={c.max_latents}")
    limit = min(c.seq_len - c.n_ahead, context - c.n_ahead - max(c.max_latents or c.n_latents, span - 1))
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
        return [send(torch.from_numpy(a), self.device) for a in pair]


@torch.no_grad()
def validate(model, batches, c, machine):
    """-log p on the validation sequences, by ahead token: (N_A,) fp64, of whose mean the perplexity is exp.

    The sites are fixed: the same targets for every variant and every N_L.
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
    return machine.total(total).cpu() / machine.total(count).cpu()
