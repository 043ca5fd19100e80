"""GPT-2, Llama, Qwen-2.5 and Qwen-3 by hand, with their KV caches in plain sight.

Every system in this project is one picture. A *prefix* is read once, causally, and leaves a KV cache. At a *site* (the
index of a prefix token) a *branch* is attached, a short run of positions:

    prefix   x1 x2 x3 x4 x5 x6 x7 x8          S tokens, one causal pass
                   |     |
                   |     +-- z' z'' x6 x7     the branch at x5
                   +-- z' z'' x4 x5           the branch at x3

A branch position sees the prefix up to and including its site, the earlier positions of its own branch, and itself; no
other. Site -1 sees no prefix at all. What a position sees and where it stands are two things: a branch is told its
position ids, so ahead tokens keep the places that they have in the text, however many latents come before them.

All families offer the same four calls (shapes: B batch, S prefix, M sites, T branch, C width, H heads, D head size):

    x                 = model.embed(tokens)                           # (...) -> (..., C), without positions
    hidden, prefix_kv = model.prefix(tokens)                          # (B,S) -> (B,S,C); per layer K,V (B,H_kv,S,D)
    hidden, branch_kv = model.branch(                                 # x (B,M,T,C), sites (B,M), positions (B,M,T)
        x, prefix_kv, sites, positions, branch_kv)                    # -> (B,M,T,C); per layer K,V (B,H_kv,M,P+T,D), of
                                                                      # which branch_kv held P positions already
    logits            = model.logits(hidden)                          # (..., C) -> (..., V)

A cache is a list of (K, V), a value that is passed in and returned. Nothing about position lives on the model. Only
Model.generate_from writes into a cache: a copy of its own.
"""

import json
import math
import os
import re
from dataclasses import dataclass, replace

from configurator import read_json

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from data import hub_file


@dataclass(frozen=True)
class Config:
    family: str  # a key of FAMILIES
    vocab_size: int
    context: int  # the most positions a sequence may have
    n_layer: int
    n_head: int
    n_kv_head: int
    head_dim: int
    width: int
    mlp_width: int
    eps: float
    rope_theta: float = 0.0  # not in GPT-2
    tied: bool = True  # is the head the embedding? Not in Qwen-3 8B and larger
    rope_scaling: tuple | None = None  # Llama 3's: the values of LLAMA3_ROPE


def gpt2_config(vocab_size=50257, context=1024, n_layer=12, n_head=12, width=768, mlp_width=None, eps=1e-5):
    return Config("gpt2", vocab_size, context, n_layer, n_head, n_head, width // n_head, width, mlp_width or 4 * width, eps)


# Names for random weights: `--init_from=random:tiny_gpt2`. train.py sets the vocabulary to its tokenizer's.
SIZES = {
    "gpt2": gpt2_config(),
    "qwen3-0.6b": Config("qwen3", 151936, 40960, 28, 16, 8, 128, 1024, 3072, 1e-6, 1e6),
    "tiny_gpt2": gpt2_config(vocab_size=512, context=256, n_layer=2, n_head=2, width=64),
    "tiny_gpt2_twice": gpt2_config(vocab_size=512, context=256, n_layer=4, n_head=2, width=64),  # as deep as a pair of them
    "small_gpt2": gpt2_config(vocab_size=8192, n_layer=8, n_head=9, width=576),
    "tiny_qwen3": Config("qwen3", 512, 1024, 2, 2, 1, 32, 64, 160, 1e-6, 1e4),
    "tiny_llama": Config("llama", 512, 1024, 2, 2, 1, 32, 64, 160, 1e-5, 1e4),
    "mini_qwen3": Config("qwen3", 512, 1024, 3, 2, 2, 32, 64, 160, 1e-6, 1e2),
}


# -----------------------------------------------------------------------------
# Attention


def causal_attention(q, k, v):
    """The prefix: q (B,H,S,D), k and v (B,H_kv,S,D) -> (B,H,S,D)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.size(1) != k.size(1))


def branch_mask(sites, S, P, T):
    """Figure 5's mask, dense and readable: which key may each branch query see?

    sites (B,M); S prefix positions; P branch positions that are cached already; T new ones.
    Returns bool (B, M*T, S + M*(P+T)): rows are the queries, branch after branch; columns the prefix, then the keys of
    branch 0, of branch 1, and so on.
    """
    B, M = sites.shape
    site = sites.repeat_interleave(T, dim=1)  # (B, M*T) the site of each query
    branch = torch.arange(M, device=sites.device).repeat_interleave(T)  # (M*T) its branch
    step = torch.arange(T, device=sites.device).repeat(M)  # (M*T) its place among the new positions
    key = torch.arange(M * (P + T), device=sites.device)
    prefix = torch.arange(S, device=sites.device) <= site[:, :, None]  # (B, M*T, S) up to and including the site
    own = (key // (P + T) == branch[:, None]) & (key % (P + T) <= P + step[:, None])  # (M*T, M*(P+T)) own past and self
    return torch.cat([prefix, own.expand(B, -1, -1)], dim=2)


QUERIES_PER_GROUP = 256  # the fastest of 128 to 1,024 on two CPUs


def branch_attention(path, sites, S, P, T, dtype):
    """One call per branch pass: builds what all layers share (masks), returns the function that each layer calls.

    The function takes q (B,H,M,T,D) of that dtype, the prefix's k and v (B,H_kv,S,D) and the branches' (B,H_kv,M,P+T,D), and
    returns (B,H,M,T,D). Three paths compute the same thing:

      dense    one softmax over all keys under branch_mask: the reference, and the wasteful one
      grouped  the same over groups of neighbouring branches, the prefix cut at the last site of each group: any device
      flex     FlexAttention, which skips the blocks that the mask leaves empty: CUDA
    """
    if path == "auto":
        path = "flex" if sites.is_cuda and flex_pays(sites, T) else "grouped"
    if path == "flex":
        return flex_attention(sites, S, P, T)
    if path not in ("dense", "grouped"):
        raise ValueError(f"unknown attention {path!r}: dense, grouped, flex or auto")
    M = sites.size(1)
    size = M if path == "dense" else max(1, QUERIES_PER_GROUP // T)  # branches per group
    near = sites.split(size, dim=1)
    whole = M <= size or torch.compiler.is_compiling()  # a cut that depends on data would compile anew every step
    cuts = [S if whole else int(group.max()) + 1 for group in near]  # sorted sites make for short cuts
    masks = []  # as numbers that are added to the scores, which each layer would else make of them anew
    for group, cut in zip(near, cuts, strict=True):
        unseen = ~branch_mask(group, cut, P, T)[:, None]
        masks.append(torch.zeros(unseen.shape, dtype=dtype, device=sites.device).masked_fill(unseen, -torch.inf))
    ends = sorted({0, S, *cuts})  # the prefix in pieces, of which every group sees the first few
    pieces = [end - start for start, end in zip(ends, ends[1:], strict=False)]

    def attend(q, pk, pv, bk, bv):
        pk, pv = pk.split(pieces, dim=2), pv.split(pieces, dim=2)
        q, bk, bv = (x.split(size, dim=2) for x in (q, bk, bv))  # split, not sliced: the backward pass is one concatenation
        out = []
        for g, (cut, mask) in enumerate(zip(cuts, masks, strict=True)):
            n = ends.index(cut)
            k = torch.cat([*pk[:n], bk[g].flatten(2, 3)], dim=2)  # (B, H_kv, cut + G*(P+T), D)
            v = torch.cat([*pv[:n], bv[g].flatten(2, 3)], dim=2)
            shared = q[g].size(1) != k.size(1)
            y = F.scaled_dot_product_attention(q[g].flatten(2, 3), k, v, attn_mask=mask, enable_gqa=shared)
            out.append(y.unflatten(2, (-1, T)))  # (B, H, G, T, D)
        return torch.cat(out, dim=2)

    return attend


def flex_pays(sites, T):
    """On CUDA: are there enough branches for FlexAttention, and enough shared memory for its kernel?"""
    if sites.size(1) <= 8 or sites.size(1) * T < 128:
        return False  # it compiles for every shape anew, and the few branches of questions and choices come in too many
    # a tile of fp32 takes 148 KB of shared memory: an A100 has 163, an L40S or an RTX 4090 has 99
    half = torch.is_autocast_enabled("cuda")
    return half or torch.cuda.get_device_properties(sites.device).shared_memory_per_block_optin >= 148 * 2**10


FLEX_SHAPES = 64  # compiled outside of a compiled forward pass: evaluation has some four. torch's own limit is 8


def flex_attention(sites, S, P, T):
    """branch_mask once more, as a predicate from which FlexAttention builds its block mask (Dong et al. 2024)."""
    from torch.nn.attention import flex_attention as flex  # slow to import, and needed on CUDA alone

    B, M = sites.shape
    compiled = sites.is_cuda and not torch.compiler.is_compiling()  # inside a compiled forward it is compiled with it
    # A branch of 31 positions lies across the blocks of 128 that the kernel works in: it would compute 1.7 times the pairs
    # that are needed, with one more position in each branch, thrown away, 1.4 times
    more = int(T % 8 == 7)
    T += more

    def visible(b, h, query, key):
        in_prefix = (key < S) & (key <= sites[b, query // T])
        own = key - S
        in_branch = (key >= S) & (own // (P + T) == query // T) & (own % (P + T) <= P + query % T)
        return in_prefix | in_branch

    make, run = flex.create_block_mask, flex.flex_attention
    if compiled:
        torch._dynamo.config.recompile_limit = FLEX_SHAPES
        # fullgraph: beyond the limit torch raises an error, instead of going on uncompiled, which is dense
        make, run = (torch.compile(f, dynamic=False, fullgraph=True) for f in (make, run))
    mask = make(visible, B, None, M * T, S + M * (P + T), device=sites.device)

    def attend(q, pk, pv, bk, bv):
        if more:
            q, bk, bv = (F.pad(x, (0, 0, 0, more)) for x in (q, bk, bv))
        k = torch.cat([pk, bk.flatten(2, 3)], dim=2)  # (B, H_kv, S + M*(P+T), D)
        v = torch.cat([pv, bv.flatten(2, 3)], dim=2)
        y = run(q.flatten(2, 3), k, v, block_mask=mask, enable_gqa=q.size(1) != k.size(1))
        return y.unflatten(2, (-1, T))[..., : T - more, :]

    return attend


def dtype_of_products(x):
    """What x is multiplied in: autocast's dtype, where that is on"""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def heads(x, n):
    """(B, ..., T, n*D) -> (B, n, ..., T, D)"""
    return x.unflatten(-1, (n, -1)).movedim(-2, 1)


def merge_heads(y):
    """(B, H, ..., T, D) -> (B, ..., T, H*D)"""
    return y.movedim(1, -2).flatten(-2)


# -----------------------------------------------------------------------------
# What all families share: the two ways in


class Model(nn.Module):
    """Subclasses give `add_positions`, a block with `qkv`, `attention_out_and_mlp` and `kv_modules`, and their facts."""

    block_class, norm_class = None, None

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.attention = "auto"  # dense | grouped | flex: how branches attend
        self.wte = nn.Embedding(config.vocab_size, config.width)
        self.head = None if config.tied else nn.Linear(config.width, config.vocab_size, bias=False)
        self.blocks = nn.ModuleList(self.block_class(config) for _ in range(config.n_layer))
        self.norm = self.norm_class(config.width, eps=config.eps)

    def embed(self, tokens):
        return self.wte(tokens)

    def add_tokens(self, n, like):
        """Append n rows to the embedding, each a copy of the row of token `like`."""
        for module in (self.wte, self.head) if self.head else (self.wte,):
            weight = module.weight.detach()
            module.weight = nn.Parameter(torch.cat([weight, weight[like].expand(n, -1)]))
        self.config = replace(self.config, vocab_size=self.config.vocab_size + n)

    @property
    def unembedding(self):
        return (self.head or self.wte).weight  # (V, C)

    def logits(self, hidden):
        return F.linear(hidden, self.unembedding)

    def prefix(self, tokens, cache_only=False):
        """Read tokens (B,S) causally -> hidden (B,S,C) after the final norm, and the KV cache.

        With cache_only, stop once the last layer's K and V are there: hidden is None.
        """
        self.check_positions(tokens.size(1))
        x, rope = self.add_positions(self.embed(tokens), torch.arange(tokens.size(1), device=tokens.device))  # (B, S, C)
        kv = []
        for block in self.blocks:
            q, k, v = block.qkv(x, rope)  # (B, H, S, D), (B, H_kv, S, D) twice
            kv.append((k, v))
            if cache_only and len(kv) == len(self.blocks):
                return None, kv
            x = block.attention_out_and_mlp(x, causal_attention(q, k, v))
        return self.norm(x), kv

    def branch(self, x, prefix_kv, sites, positions, branch_kv=None, cache_only=False):
        """Run T new positions on each of M branches per row.

        x (B,M,T,C) input embeddings; sites (B,M) int64 in [-1, S-1], up to which the prefix is seen; positions (B,M,T) int64,
        the position ids; branch_kv what the same branches hold already, in some layers perhaps less than in others.
        Returns hidden (B,M,T,C) after the final norm (None with cache_only, as in prefix) and the longer branch_kv.
        Raises ValueError for a site outside the prefix and a position outside the model (not on CUDA, nor when compiled).
        """
        B, M, T, C = x.shape
        S = prefix_kv[0][0].size(2)
        held = [k.size(3) for k, _ in branch_kv] if branch_kv else [0] * len(self.blocks)
        if not sites.is_cuda and not torch.compiler.is_compiling():  # on CUDA looking would wait for the device
            if not -1 <= int(sites.min()) <= int(sites.max()) < S:
                raise ValueError(f"sites must lie in [-1, {S - 1}], the prefix has {S} positions")
            self.check_positions(int(positions.max()) + 1)
        x, rope = self.add_positions(x, positions)
        dtype = dtype_of_products(x)
        # one for all layers, as a rule: in some a branch may hold less than in others
        attend = {n: branch_attention(self.attention, sites, S, n, T, dtype) for n in set(held)}
        kv = []
        for i, block in enumerate(self.blocks):
            q, k, v = block.qkv(x, rope)  # (B, H, M, T, D), (B, H_kv, M, T, D) twice
            if branch_kv:
                k = torch.cat([branch_kv[i][0], k], dim=3)  # (B, H_kv, M, P+T, D); a new tensor: autograd needs the old
                v = torch.cat([branch_kv[i][1], v], dim=3)
            kv.append((k, v))
            if cache_only and len(kv) == len(self.blocks):
                return None, kv
            x = block.attention_out_and_mlp(x, attend[held[i]](q, *prefix_kv[i], k, v))
        return self.norm(x), kv

    def unused_if_cache_only(self):
        """The parameters that only touch what comes after the last layer's K and V: dead where only the cache is used."""
        block = self.blocks[-1]
        rest = [module for name, module in block.named_children() if name not in block.kv_modules]
        return [p for module in (*rest, self.norm) for p in module.parameters()]

    def check_positions(self, n):
        if n > self.config.context:
            raise ValueError(f"{n} positions do not fit this model, which has {self.config.context}")

    # decoding

    @torch.no_grad()
    def generate_from(
        self, hidden, prefix_kv, sites, positions, branch_kv, n_tokens, temperature=0.0, top_k=0, eos=None, generator=None
    ):
        """Carry on B branches that have begun (M = 1), one token a step.

        hidden (B,C) is the last position's; sites (B,1); positions (B,1) are those of the first new token. temperature 0 is
        greedy. Returns tokens (B, n <= n_tokens); after a row's eos it holds eos only, and all stop when every row has met
        it. Raises ValueError where n_tokens do not fit.
        """
        cache, mask = decoding_cache(prefix_kv, sites, branch_kv, n_tokens - 1)  # the last token is not fed
        self.check_positions(int(positions.max()) + n_tokens - 1)
        out, done, finite = [], torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device), hidden.isfinite().all()
        for n in range(n_tokens):
            if n:
                hidden = self.decode_step(out[-1], positions + n - 1, cache, mask, n_tokens - 1 - n)
                finite &= hidden.isfinite().all()
            token = sample_token(self.logits(hidden), temperature, top_k, generator)  # (B)
            if eos is not None:
                token = torch.where(done, eos, token)
                done = token == eos
            out.append(token)
            if eos is not None and (n % 8 == 7 or not done.is_cuda) and bool(done.all()):  # to look, one waits for a GPU
                break
        if not finite:
            raise ValueError("the model's hidden states are not finite, so it has no likeliest token")
        out = torch.stack(out, dim=1)
        return out if eos is None else out[:, : 1 + int((out != eos).any(dim=0).sum())]  # up to where all have met it

    @torch.inference_mode()  # no_grad's views keep books of their own: a seventh of a small step
    def decode_step(self, token, positions, cache, mask, left):
        """Feed one token (B) to each row at positions (B,1) -> hidden (B,C). The cache then has room for `left` more."""
        x, rope = self.add_positions(self.embed(token)[:, None], positions)  # (B, 1, C)
        for block, (k, v) in zip(self.blocks, cache, strict=True):
            q, new_k, new_v = block.qkv(x, rope)  # (B, H, 1, D), (B, H_kv, 1, D) twice
            end = k.size(2) - left
            k[:, :, end - 1 : end] = new_k
            v[:, :, end - 1 : end] = new_v
            q = q.reshape(len(q), k.size(1), -1, q.size(-1))  # heads that share K and V, as queries of one head
            seen = None if mask is None else mask[..., :end]
            y = F.scaled_dot_product_attention(q, k[:, :, :end], v[:, :, :end], attn_mask=seen)  # (B, H_kv, H/H_kv, D)
            x = block.attention_out_and_mlp(x, y.reshape(len(q), -1, 1, q.size(-1)))
        return self.norm(x)[:, 0]

    @torch.no_grad()
    def generate(self, tokens, lengths, n_tokens, **how):
        """Continue prompts: tokens (B,S) padded on the right with anything, lengths (B) >= 1 -> tokens (B, n <= n_tokens).

        Ragged prompts are nothing special: each row's branch begins with its own last token, attached one place before it.
        """
        last = (lengths - 1)[:, None]  # (B, 1)
        _, prefix_kv = self.prefix(tokens, cache_only=True)
        x = self.embed(tokens.gather(1, last))[:, :, None]  # (B, 1, 1, C)
        hidden, branch_kv = self.branch(x, prefix_kv, last - 1, last[..., None])
        return self.generate_from(hidden[:, 0, -1], prefix_kv, last - 1, last + 1, branch_kv, n_tokens, **how)

    # weights

    def init_weights(self):
        """N(0, 0.02), what writes to the residual stream scaled by its depth, as GPT-2; wider for a narrow Qwen-3."""
        std = 0.02 if self.config.family == "gpt2" else self.config.width**-0.5
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=std / math.sqrt(2 * self.config.n_layer) if "proj_out" in name else std)
        return self

    def tensor_names(self):
        """Our parameter name -> (its name in a Hugging Face file, whether it is stored transposed there)."""
        names = {}
        for ours, _ in self.named_parameters():
            parts = ours.split(".")
            hf = ".".join(self.hf_names.get(part, part) for part in parts)
            names[ours] = hf, parts[-1] == "weight" and parts[-2] in self.hf_transposed
        return names

    def hf_config(self, **more):
        c = self.config
        values = dict(model_type=c.family, architectures=[self.hf_class])
        values |= {key: getattr(c, field) for key, field in self.hf_keys.items()}
        return values | more | self.hf_written | dict(tie_word_embeddings=c.tied, bos_token_id=None, eos_token_id=None)

    def save_pretrained(self, folder):
        """Write config.json and model.safetensors, which transformers' from_pretrained reads."""
        os.makedirs(folder, exist_ok=True)
        state = self.state_dict()
        tensors = {hf: (state[ours].T if t else state[ours]).contiguous() for ours, (hf, t) in self.tensor_names().items()}
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(self.hf_config(), f, indent=2)


def decoding_cache(prefix_kv, sites, branch_kv, n):
    """What each row of one branch (M = 1) sees, side by side, with room for n keys more, to be written in place.

    sites (B,1) -> per layer K, V (B, H_kv, longest prefix + P + n, D); mask (B,1,1,columns), added to the scores, which hides
    what stands behind a shorter row's site, or None where all prefixes are equally long. Layers may hold different P.
    """
    longest = int(sites.max()) + 1

    def lay_out(prefix, branch):
        room = branch.new_empty(*prefix.shape[:2], n, prefix.size(3))
        return torch.cat([prefix[:, :, :longest], branch[:, :, 0], room], dim=2)

    kv = [[lay_out(*pair) for pair in zip(*layer, strict=True)] for layer in zip(prefix_kv, branch_kv, strict=True)]
    if longest == int(sites.min()) + 1:
        return kv, None
    column = torch.arange(max(k.size(2) for k, _ in kv), device=sites.device)
    unseen = (column > sites) & (column < longest)  # (B, columns)
    return kv, kv[0][0].new_zeros(unseen.shape).masked_fill(unseen, -torch.inf)[:, None, None]


def sample_token(logits, temperature, top_k, generator):
    """logits (B,V) -> token (B)"""
    if temperature < 1e-37:  # divided by less, fp32 is NaN
        return logits.argmax(dim=-1)
    logits = logits.float()
    logits = (logits - logits.max(dim=-1, keepdim=True).values) / temperature  # the likeliest is 0, however low it is
    if top_k:
        logits[logits < logits.topk(min(top_k, logits.size(-1))).values[:, -1:]] = -torch.inf
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


# -----------------------------------------------------------------------------
# The loss: logits are only made where there is a target, and never all at once

MAX_LOGITS_PER_CHUNK = 2**25  # entries; 128 MB in fp32


def max_logits_per_chunk(device):
    return MAX_LOGITS_PER_CHUNK * (8 if device.type == "cuda" else 1)  # there many small products cost more than a GB


class TokenNLL(torch.autograd.Function):
    """hidden (N,C), weight (V,C), targets (N) -> -log p (N) under the logits hidden @ weight.T, which never exist all at once.

    Rows are done in chunks; the backward pass makes each chunk's logits once more and adds to one gradient of the weight.
    Compiled, they are not made again: the compiler sees that the two products are one, and keeps the first in ctx.dtype.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets):
        ctx.dtype = dtype_of_products(hidden)
        narrow, rows = weight.to(ctx.dtype), max(1, max_logits_per_chunk(hidden.device) // len(weight))
        ctx.chunks = [slice(i, min(i + rows, len(hidden))) for i in range(0, len(hidden), rows)]
        lse, own = [], []  # of each row's logits: logsumexp, and the target's
        for chunk in ctx.chunks:
            logits = upcast(hidden[chunk].to(ctx.dtype) @ narrow.T)  # (rows, V)
            lse.append(logits.logsumexp(dim=-1))
            own.append(logits.gather(1, targets[chunk, None])[:, 0])
        lse = torch.cat(lse)
        ctx.save_for_backward(hidden, weight, targets, lse)
        return lse - torch.cat(own)

    @staticmethod
    def backward(ctx, d_nll):
        hidden, weight, targets, lse = ctx.saved_tensors
        narrow, d_hidden = weight.to(ctx.dtype), torch.empty_like(hidden)
        d_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for chunk in ctx.chunks:
            h = hidden[chunk].to(ctx.dtype)
            d_logits = upcast(h @ narrow.T).sub_(lse[chunk, None]).exp_()  # p (rows, V)
            if torch.compiler.is_compiling():  # p - 1 for the target: a comparison is fused with what stands around it ...
                d_logits.add_(torch.arange(len(weight), device=weight.device) == targets[chunk, None], alpha=-1)
            else:  # ... and alone would be a pass over all entries
                d_logits.scatter_add_(1, targets[chunk, None], torch.full_like(lse[chunk, None], -1))
            d_logits = d_logits.mul_(d_nll[chunk, None]).to(ctx.dtype)
            d_hidden[chunk] = d_logits @ narrow
            if d_weight is not None:
                if d_weight.dtype == ctx.dtype:
                    d_weight.addmm_(d_logits.T, h)
                else:
                    d_weight += d_logits.T @ h
        return d_hidden, d_weight, None


def token_nll(model, hidden, targets):
    """-log p of the targets: hidden (..., C), targets (...) -> (...), fp32 (or fp64)."""
    if targets.numel() * model.config.vocab_size > max_logits_per_chunk(hidden.device):
        return TokenNLL.apply(hidden.flatten(0, -2), model.unembedding, targets.flatten()).view(targets.shape)
    return F.cross_entropy(upcast(model.logits(hidden)).flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


# -----------------------------------------------------------------------------
# GPT-2 (Radford et al. 2019): learned positions, LayerNorm, tanh GELU


class GPT2Block(nn.Module):
    kv_modules = ("norm_1", "qkv_proj")  # Q is a third of qkv_proj, so it stays with K and V; its rows get a gradient of zero

    def __init__(self, c):
        super().__init__()
        self.n_head = c.n_head
        self.norm_1 = nn.LayerNorm(c.width, eps=c.eps)
        self.qkv_proj = nn.Linear(c.width, 3 * c.width)
        self.attn_proj_out = nn.Linear(c.width, c.width)
        self.norm_2 = nn.LayerNorm(c.width, eps=c.eps)
        self.mlp_in = nn.Linear(c.width, c.mlp_width)
        self.mlp_proj_out = nn.Linear(c.mlp_width, c.width)

    def qkv(self, x, rope):
        return [heads(t, self.n_head) for t in self.qkv_proj(self.norm_1(x)).chunk(3, dim=-1)]

    def attention_out_and_mlp(self, x, y):
        x = x + self.attn_proj_out(merge_heads(y))
        return x + self.mlp_proj_out(F.gelu(self.mlp_in(self.norm_2(x)), approximate="tanh"))


class GPT2(Model):
    block_class, norm_class = GPT2Block, nn.LayerNorm
    display_name, hf_class = "GPT-2", "GPT2LMHeadModel"
    hf_keys = {  # a key of config.json -> our field
        "vocab_size": "vocab_size", "n_positions": "context", "n_embd": "width", "n_layer": "n_layer", "n_head": "n_head",
        "n_inner": "mlp_width", "layer_norm_epsilon": "eps",
    }  # fmt: skip
    hf_absent = {"n_inner": None, "layer_norm_epsilon": 1e-5}  # what it means that a key is not there
    hf_written = {"activation_function": "gelu_new"}
    hf_computed = {
        "activation_function": ["gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh"],
        "scale_attn_weights": [True], "scale_attn_by_inverse_layer_idx": [False], "sliding_window": [None],
        "tie_word_embeddings": [True],
    }  # fmt: skip
    hf_prefix = "transformer."  # in files that transformers writes today, not in the published ones, nor in ours
    hf_names = {  # a part of our parameter's name -> of theirs
        "blocks": "h", "norm": "ln_f", "norm_1": "ln_1", "norm_2": "ln_2", "qkv_proj": "attn.c_attn",
        "attn_proj_out": "attn.c_proj", "mlp_in": "mlp.c_fc", "mlp_proj_out": "mlp.c_proj",
    }  # fmt: skip
    hf_transposed = ("qkv_proj", "attn_proj_out", "mlp_in", "mlp_proj_out")  # Conv1D is [in, out]
    hf_ignored = (".attn.bias", ".attn.masked_bias")  # the causal mask, stored as if it were a weight

    def __init__(self, config):
        super().__init__(config)
        self.wpe = nn.Embedding(config.context, config.width)

    def add_positions(self, x, positions):
        return x + self.wpe(positions), None

    @staticmethod
    def read_config(raw, values):
        # transformers knows these names, too, and prefers them
        refuse_other(raw, {"num_attention_heads": [values["n_head"]], "num_hidden_layers": [values["n_layer"]]})
        return gpt2_config(**values)


# -----------------------------------------------------------------------------
# Llama (Grattafiori et al. 2024): rotary positions, RMSNorm, SwiGLU, shared KV heads, no biases. Qwen-2.5 (Qwen Team 2024)
# has biases on queries, keys and values, Qwen-3 (Yang et al. 2025) norms on queries and keys instead


def upcast(x):
    """Sums over many terms want fp32; fp64 stays what it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        y = upcast(x)
        y = y * torch.rsqrt(y.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


def apply_rotary_emb(x, rope):
    """Rotary positions on split halves: x (B,H,...,T,D), cos and sin broadcastable to (B,1,...,T,D)."""
    cos, sin = rope
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


LLAMA3_ROPE = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def scale_frequencies(frequency, factor, low, high, context):
    """Llama 3's: pairs that turn less than `low` times in the original context are slowed by factor, from `high` on kept."""
    wavelength = 2 * math.pi / frequency  # in positions; transformers' arithmetic, step by step
    kept = ((context / wavelength - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequency / factor + kept * frequency


class LlamaBlock(nn.Module):
    kv_modules = ("norm_1", "k_proj", "v_proj", "k_norm")
    qkv_bias = qk_norm = False

    def __init__(self, c):
        super().__init__()
        self.n_head, self.n_kv_head = c.n_head, c.n_kv_head
        self.norm_1 = RMSNorm(c.width, c.eps)
        self.q_proj = nn.Linear(c.width, c.n_head * c.head_dim, bias=self.qkv_bias)
        self.k_proj = nn.Linear(c.width, c.n_kv_head * c.head_dim, bias=self.qkv_bias)
        self.v_proj = nn.Linear(c.width, c.n_kv_head * c.head_dim, bias=self.qkv_bias)
        self.q_norm = RMSNorm(c.head_dim, c.eps) if self.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(c.head_dim, c.eps) if self.qk_norm else nn.Identity()
        self.attn_proj_out = nn.Linear(c.n_head * c.head_dim, c.width, bias=False)
        self.norm_2 = RMSNorm(c.width, c.eps)
        self.gate = nn.Linear(c.width, c.mlp_width, bias=False)
        self.up = nn.Linear(c.width, c.mlp_width, bias=False)
        self.mlp_proj_out = nn.Linear(c.mlp_width, c.width, bias=False)

    def qkv(self, x, rope):
        x = self.norm_1(x)
        q = apply_rotary_emb(self.q_norm(heads(self.q_proj(x), self.n_head)), rope)
        k = apply_rotary_emb(self.k_norm(heads(self.k_proj(x), self.n_kv_head)), rope)
        v = heads(self.v_proj(x), self.n_kv_head)
        return q.to(v.dtype), k.to(v.dtype), v

    def attention_out_and_mlp(self, x, y):
        x = x + self.attn_proj_out(merge_heads(y))
        h = self.norm_2(x)
        return x + self.mlp_proj_out(F.silu(self.gate(h)) * self.up(h))


class Llama(Model):
    block_class, norm_class = LlamaBlock, RMSNorm
    display_name, hf_class = "Llama", "LlamaForCausalLM"
    hf_keys = {
        "vocab_size": "vocab_size", "hidden_size": "width", "max_position_embeddings": "context",
        "num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "num_key_value_heads": "n_kv_head",
        "head_dim": "head_dim", "intermediate_size": "mlp_width", "rms_norm_eps": "eps",
    }  # fmt: skip
    hf_absent = {"num_key_value_heads": None, "head_dim": None, "rms_norm_eps": 1e-6, "rope_theta": 1e4}
    hf_written = {"hidden_act": "silu", "attention_bias": False}
    hf_computed = {
        "hidden_act": ["silu", "swish"], "attention_bias": [False], "mlp_bias": [False], "use_sliding_window": [False],
        "partial_rotary_factor": [None, 1], "tie_word_embeddings": [False, True],
    }  # fmt: skip
    hf_prefix = "model."
    hf_names = {
        "wte": "model.embed_tokens", "blocks": "model.layers", "norm": "model.norm", "head": "lm_head",
        "norm_1": "input_layernorm", "norm_2": "post_attention_layernorm",
        "q_proj": "self_attn.q_proj", "k_proj": "self_attn.k_proj", "v_proj": "self_attn.v_proj",
        "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "attn_proj_out": "self_attn.o_proj",
        "gate": "mlp.gate_proj", "up": "mlp.up_proj", "mlp_proj_out": "mlp.down_proj",
    }  # fmt: skip
    hf_transposed, hf_ignored = (), (".rotary_emb.inv_freq",)

    def add_positions(self, x, positions):
        """Angles in fp32 (fp64 for an fp64 model), with a place for the heads: (T, D) or (B, 1, M, T, D)."""
        c = self.config
        dtype = upcast(x).dtype
        frequency = c.rope_theta ** -(torch.arange(0, c.head_dim, 2, device=x.device, dtype=dtype) / c.head_dim)  # (D/2)
        if c.rope_scaling:
            frequency = scale_frequencies(frequency, *c.rope_scaling)
        angle = positions.to(dtype)[..., None] * frequency  # (..., T, D/2)
        if positions.dim() > 1:
            angle = angle[:, None]
        angle = torch.cat([angle, angle], dim=-1)
        return x, (angle.cos(), angle.sin())

    @classmethod
    def read_config(cls, raw, values):
        values["n_kv_head"] = values["n_kv_head"] or values["n_head"]
        values["head_dim"] = values["head_dim"] or values["width"] // values["n_head"]
        tied = raw.get("tie_word_embeddings", False)
        return Config(raw["model_type"], **values, **read_rope(raw, cls.hf_absent), tied=tied)

    def hf_config(self):
        theta, scaling = self.config.rope_theta, self.config.rope_scaling
        rope = {"rope_type": "llama3" if scaling else "default", "rope_theta": theta}
        if scaling:
            rope |= zip(LLAMA3_ROPE, scaling, strict=True)
        more = {"rope_scaling": rope} if scaling else {}  # where transformers 4 looks for it
        return super().hf_config(rope_theta=theta, rope_parameters=rope, **more)


class Qwen2Block(LlamaBlock):
    qkv_bias = True


class Qwen2(Llama):
    block_class = Qwen2Block
    display_name, hf_class = "Qwen-2.5", "Qwen2ForCausalLM"
    hf_absent = {"num_key_value_heads": 32, "head_dim": None, "rms_norm_eps": 1e-6}
    hf_written = {"hidden_act": "silu"}


class Qwen3Block(LlamaBlock):
    qk_norm = True


class Qwen3(Llama):
    block_class = Qwen3Block
    display_name, hf_class = "Qwen-3", "Qwen3ForCausalLM"
    hf_absent = {"num_key_value_heads": 32, "head_dim": 128, "rms_norm_eps": 1e-6}


FAMILIES = {"gpt2": GPT2, "llama": Llama, "qwen2": Qwen2, "qwen3": Qwen3}


# -----------------------------------------------------------------------------
# Hugging Face files, in and out

# Keys of any config.json that change what is computed: the values that this code computes
COMPUTED = {"is_causal": [True], "per_layer_config": [None, {}], "auto_map": [None, {}], "quantization_config": [None]}


def refuse_other(raw, computed):
    """Raises ValueError for the first key with a value that is not among those computed: something else would come out."""
    for key, value in raw.items():
        if value not in computed.get(key, [value]):
            raise ValueError(f"config.json says {key}: {value!r:.80}, which this code does not compute")


def read_config(raw):
    """A Hugging Face config.json, as a dict -> Config. Raises ValueError where this code would compute something else."""
    refuse_other(raw, COMPUTED | {"model_type": list(FAMILIES)})
    family = FAMILIES[raw["model_type"]]
    values = {field: (family.hf_absent | raw)[key] for key, field in family.hf_keys.items()}
    refuse_other(raw, family.hf_computed | {"layer_types": [None, ["full_attention"] * values["n_layer"]]})
    return family.read_config(raw, values)


def read_rope(raw, absent):
    """Theta and its scaling, from rope_scaling or else rope_parameters; transformers 4 keeps theta beside them."""
    given = raw.get("rope_scaling") or raw.get("rope_parameters") or {}
    rope = {"rope_type": given.get("type", "default")} | given
    theta = rope.get("rope_theta") or raw.get("rope_theta") or absent["rope_theta"]
    scaling = tuple(rope.pop(key) for key in LLAMA3_ROPE) if rope["rope_type"] == "llama3" else None
    refuse_other(raw, {"rope_parameters": [None, {}, given], "rope_theta": [None, theta]})
    if scaling:  # transformers 5 prefers this one
        refuse_other(raw, {"original_max_position_embeddings": [None, scaling[-1]]})
    computed = {"rope_type": ["default", "llama3"], "type": [rope["rope_type"]], "partial_rotary_factor": [None, 1]}
    refuse_other(rope, dict.fromkeys(rope, [None]) | computed | {"rope_theta": [None, theta]})
    return dict(rope_theta=float(theta), rope_scaling=scaling)


def fetch(name, filename):
    """A file of a local folder or of a hub repository -> its path. Raises FileNotFoundError."""
    if os.path.isdir(name):
        path = os.path.join(name, filename)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{name} has no {filename}")
        return path
    if os.path.exists(name) or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise FileNotFoundError(f"{name} is neither a folder nor a hub name like openai-community/gpt2")
    return hub_file(name, filename, repo_type="model")


def weight_files(name):
    """-> paths of safetensors. Larger models keep theirs in shards, with an index."""
    try:
        return [fetch(name, "model.safetensors")]
    except FileNotFoundError as e:
        try:
            index = read_json(fetch(name, "model.safetensors.index.json"))
        except FileNotFoundError:
            raise FileNotFoundError(f"{e}; if it has pytorch_model.bin, load and save it with transformers") from None
    return [fetch(name, shard) for shard in sorted(set(index["weight_map"].values()))]


def random_model(size, vocab_size=None):
    """A model of a named size with random weights. Raises ValueError for an unknown name."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}: one of {', '.join(SIZES)}")
    config = replace(SIZES[size], vocab_size=vocab_size or SIZES[size].vocab_size)
    return FAMILIES[config.family](config).init_weights().eval()


def load_pretrained(name, device="cpu"):
    """A hub name or a local folder -> a model of one of the FAMILIES, fp32, in eval mode.

    Raises FileNotFoundError where it cannot be got; ValueError naming the key of config.json that asks for something else, or
    the tensor that is missing, unknown, quantised, not finite, or of another shape than config.json says.
    """
    try:
        config = read_config(read_json(fetch(name, "config.json")))
        with torch.device("meta"):
            model = FAMILIES[config.family](config)
        state, names = {}, model.tensor_names()
        ours_of = {hf.removeprefix(model.hf_prefix): (ours, transposed) for ours, (hf, transposed) in names.items()}
        for path in weight_files(name):
            for key, tensor in load_file(path).items():
                hf, here = key.removeprefix(model.hf_prefix), f"{os.path.basename(path)}: {key}"
                if hf.endswith(model.hf_ignored):
                    continue
                if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
                    raise ValueError(f"{here} is quantised ({tensor.dtype}), which this code does not compute")
                tensor = tensor.to(torch.float32, copy=True)  # the file's own memory is unaligned: other last bits
                if not tensor.isfinite().all():
                    raise ValueError(f"{here} has a value that is not finite (NaN or infinite)")
                ours, transposed = ours_of.get(hf, (hf, False))
                if ours in state:
                    raise ValueError(f"{here} is there twice")
                state[ours] = tensor.T.contiguous() if transposed else tensor
        head = state.pop("lm_head.weight", None) if config.tied else None
        model.load_state_dict(state, assign=True)  # names what is missing, unknown, or of another shape
        if head is not None and not torch.equal(head, model.wte.weight):
            raise ValueError("lm_head.weight differs from the embedding it should be tied to")
    except KeyError as e:
        raise ValueError(f"{name}: config.json has no {e}") from None
    except (ValueError, RuntimeError, SafetensorError) as e:
        raise ValueError(f"{name}: {e}") from None
    return model.requires_grad_().to(device).eval()
