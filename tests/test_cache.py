"""A cache changes nothing: at every split, in chunks after latents, and in batched generation from ragged prompts."""

import pytest
import torch
from helpers import (
    CASES,
    VOCAB,
    close,
    following,
    random_tokens,
    slow_offset,
    slow_read,
    slow_run,
    slow_start,
    tiny,
    tiny_variant,
)

from coprocessor import ahead_tokens
from model import sample_token

B, S, N_L, N_A = 2, 10, 3, 5
TOKENS = random_tokens(B, S)


def split(n, chunks):
    """The lengths of the chunks that n positions come in."""
    if chunks == "whole":
        return [n]
    if chunks == "single":
        return [1] * n
    sizes = []
    while sum(sizes) < n:
        sizes.append(min(len(sizes) % 3 + 1, n - sum(sizes)))  # 1, 2, 3, 1, ...
    return sizes


def run_in_chunks(model, x, prefix_kv, sites, positions, kv, chunks):
    hidden, sizes = [], split(x.size(2), chunks)
    for part, places in zip(x.split(sizes, dim=2), positions.split(sizes, dim=2), strict=True):
        h, kv = model.branch(part, prefix_kv, sites, places, kv)
        hidden.append(h)
    return torch.cat(hidden, dim=2), kv


# -----------------------------------------------------------------------------
# Hidden states


@pytest.mark.parametrize("chunks", ["whole", "single", "ragged"])
@torch.no_grad()
def test_plain_text_split_anywhere(chunks, family):
    model = tiny(family, torch.float32)
    hidden, whole_kv = model.prefix(TOKENS)
    for s in range(S):  # the rest begins at s; at 0 all of it is the branch
        _, short_kv = model.prefix(TOKENS[:, : max(s, 1)])
        for prefix_kv in (short_kv, whole_kv):  # a prefix that ends at the site, and one that goes on
            sites, rest = torch.full((B, 1), s - 1), model.embed(TOKENS[:, None, s:])
            branch, kv = run_in_chunks(model, rest, prefix_kv, sites, following(sites, S - s), None, chunks)
            close(branch[:, 0], hidden[:, s:], 1e-5)
            close(model.logits(branch[:, 0]), model.logits(hidden[:, s:]), 1e-5)
            for (k, v), (whole_k, whole_v) in zip(kv, whole_kv, strict=True):
                close(k[:, :, 0], whole_k[:, :, s:], 1e-5)
                close(v[:, :, 0], whole_v[:, :, s:], 1e-5)


@pytest.mark.parametrize("chunks", ["single", "ragged"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_chunks_after_latents(case, chunks, family):
    model = tiny_variant(case, family, n_latents=N_L, dtype=torch.float32)
    for s in range(S - N_A):
        sites = torch.tensor([[s, (s + 3) % (S - N_A)]]).expand(B, -1)
        ahead = ahead_tokens(TOKENS, sites, N_A)
        prefix = model.pass1_prefix(TOKENS)
        start = model.pass2_start(prefix, sites)
        whole = model.pass3_predict(prefix, start, ahead)
        first, kv = run_in_chunks(model.base, start.x, prefix.kv, start.sites, start.positions, start.kv, chunks)
        x, positions = model.base.embed(ahead[..., :-1]), following(start.ahead - 1, N_A - 1)
        rest, _ = run_in_chunks(model.base, x, prefix.kv, start.sites, positions, kv, chunks)
        close(torch.cat([first, rest], dim=2), whole, 1e-5)


# -----------------------------------------------------------------------------
# Generation. Greedy tokens are compared in fp64, where no two logits are close enough for the order of a sum to matter.

PROMPTS = random_tokens(6, 7, seed=6)
LENGTHS = torch.tensor([7, 1, 4, 2, 6, 4])
N_NEW = 5


@torch.no_grad()
def greedy_without_cache(model, prompt, n):
    tokens = prompt
    for _ in range(n):
        hidden, _ = model.prefix(tokens[None])
        tokens = torch.cat([tokens, model.logits(hidden[0, -1:]).argmax(dim=-1)])
    return tokens[len(prompt) :]


@torch.no_grad()
def greedy_after_latents_without_cache(case, model, prompt, n):
    """Everything from the start, for every token."""
    new = prompt[:0]
    for _ in range(n):
        _, past = slow_read(model.base, prompt)
        past, first, places, after = slow_start(case, model, prompt, past, len(prompt) - 1)
        places = [*places, *range(after, after + len(new))]
        hidden, _ = slow_run(model.base, torch.cat([first, model.base.wte.weight[new]]), places, past)
        new = torch.cat([new, (hidden[-1:] @ model.base.wte.weight.T).argmax(dim=-1)])
    return new


def one_at_a_time(generate, *args):
    return torch.stack([generate(*args, prompt[:n], N_NEW) for prompt, n in zip(PROMPTS, LENGTHS, strict=True)])


def with_other_padding():
    padding = torch.arange(PROMPTS.size(1)) >= LENGTHS[:, None]
    return torch.where(padding, (PROMPTS + 1) % VOCAB, PROMPTS)


def test_batched_greedy_from_ragged_prompts_equals_one_by_one_without_cache(family):
    model = tiny(family)
    expected = one_at_a_time(greedy_without_cache, model)
    assert torch.equal(model.generate(PROMPTS, LENGTHS, N_NEW), expected)
    assert torch.equal(model.generate(with_other_padding(), LENGTHS, N_NEW), expected)
    assert len(expected.unique(dim=0)) >= 4  # else a mix-up of rows could pass


@pytest.mark.parametrize("case", CASES)
def test_batched_greedy_after_latents_equals_one_by_one_without_cache(case, family):
    model = tiny_variant(case, family, n_latents=N_L)
    expected = one_at_a_time(greedy_after_latents_without_cache, case, model)
    assert len(expected.unique(dim=0)) >= 4
    assert torch.equal(model.generate(PROMPTS, LENGTHS, N_NEW), expected)
    assert torch.equal(model.generate(with_other_padding(), LENGTHS, N_NEW), expected)
    alone = one_at_a_time(greedy_without_cache, model.base)
    assert torch.equal(model.generate(PROMPTS, LENGTHS, N_NEW, with_latents=False), alone)
    assert torch.equal(expected, alone) == (case in ("continued", "cot"))  # the others' latents do something


def cut_at_eos(tokens, eos):
    """What should come back, given what would come without an eos: (B, n) -> (B, as long as the longest)."""
    rows = []
    for row in tokens.tolist():
        end = row.index(eos) + 1 if eos in row else len(row)
        rows.append(row[:end])
    longest = max(map(len, rows))
    return torch.tensor([row + [eos] * (longest - len(row)) for row in rows])


def test_after_its_eos_a_row_holds_eos_only_and_the_others_go_on(family):
    model = tiny(family)
    free = model.generate(PROMPTS, LENGTHS, N_NEW)
    ends = set()
    for eos in free.unique().tolist():
        expected = cut_at_eos(free, eos)
        ends.add(int((expected == eos).any(dim=1).sum()))
        assert torch.equal(model.generate(PROMPTS, LENGTHS, N_NEW, eos=eos), expected)
    assert ends & set(range(1, len(PROMPTS)))  # some rows ended while others went on


# -----------------------------------------------------------------------------
# Sampling


def sample(model, seed, **how):
    return model.generate(PROMPTS, LENGTHS, N_NEW, generator=torch.Generator().manual_seed(seed), **how)


def test_sampling_repeats_with_its_generator_and_varies_with_the_seed(family):
    model = tiny(family)
    how = dict(temperature=1.3, top_k=10)
    assert torch.equal(sample(model, 1, **how), sample(model, 1, **how))
    assert not torch.equal(sample(model, 1, **how), sample(model, 2, **how))
    for greedy in (
        dict(temperature=1.0, top_k=1),
        dict(temperature=1e-38),
        dict(temperature=1e-320),
        dict(temperature=1e-38, top_k=3),
    ):
        assert torch.equal(sample(model, 1, **greedy), model.generate(PROMPTS, LENGTHS, N_NEW))


@torch.no_grad()
def test_every_sampled_token_is_among_the_top_k(family):
    model, k, ranks = tiny(family), 3, set()
    for seed in range(5):
        new = sample(model, seed, temperature=3.0, top_k=k)
        for prompt, n, row in zip(PROMPTS, LENGTHS, new, strict=True):
            tokens = torch.cat([prompt[:n], row])
            hidden, _ = model.prefix(tokens[None])
            logits = model.logits(hidden[0, n - 1 : -1])  # (n, V)
            ranks |= set((logits > logits.gather(1, row[:, None])).sum(dim=1).tolist())
    assert ranks == set(range(k))


@pytest.mark.parametrize("temperature, top_k", [(1.0, 0), (0.5, 0), (2.0, 0), (0.7, 3)])
def test_sampled_frequencies_are_those_of_the_tempered_softmax(temperature, top_k):
    logits, n = torch.tensor([1.0, -0.5, 0.3, 2.0, 0.9]), 40_000
    rows = logits.expand(n, -1).clone()
    picked = sample_token(rows, temperature, top_k, torch.Generator().manual_seed(0))
    p = (logits / temperature).exp()
    if top_k:
        p[logits.argsort()[:-top_k]] = 0
    close(picked.bincount(minlength=5) / n, p / p.sum(), 0.01)  # four standard deviations
    assert torch.equal(rows, logits.expand(n, -1))  # the caller's logits stay as they are


# -----------------------------------------------------------------------------
# Too long


@torch.no_grad()
def test_a_sequence_as_long_as_the_context_fits_and_one_longer_does_not(family):
    model = tiny(family, context=S)
    _, prefix_kv = model.prefix(TOKENS)
    with pytest.raises(ValueError, match=f"{S + 1}.*{S}"):
        model.prefix(random_tokens(B, S + 1))
    for s in range(S):
        sites, room = torch.tensor([[-1, s - 1]]).expand(B, -1), S - s  # the later of the two has the least
        x, positions = model.embed(random_tokens(B, 2, room + 1)), following(sites, room + 1)
        _, kv = model.branch(x[:, :, :room], prefix_kv, sites, positions[..., :room])
        with pytest.raises(ValueError, match=f"{S + 1}.*{S}"):
            model.branch(x, prefix_kv, sites, positions)
        with pytest.raises(ValueError, match=f"{S + 1}.*{S}"):
            model.branch(x[:, :, room:], prefix_kv, sites, positions[..., room:], kv)  # one after what it holds already


@pytest.mark.parametrize("case", CASES)
def test_a_variant_without_room_for_its_text_is_an_error(case):
    model = tiny_variant(case, "gpt2", n_latents=N_L)
    assert model.branch_offset() == slow_offset(case, model)
    n_fed = slow_offset(case, model) + N_A - 1  # positions after the site
    sites, ahead = torch.tensor([[5, 0]]), random_tokens(1, 2, N_A)
    fits, short = (tiny_variant(case, "gpt2", n_latents=N_L, context=6 + n) for n in (n_fed, n_fed - 1))
    fits.ahead_nll(TOKENS[:1, :6], sites, ahead)
    with pytest.raises(ValueError):
        short.ahead_nll(TOKENS[:1, :6], sites, ahead)


@pytest.mark.parametrize("case", CASES)
def test_generation_past_the_context_is_an_error(case):
    longest = int(LENGTHS.max())
    latents = slow_offset(case, tiny_variant(case, "qwen3", n_latents=N_L))
    model = tiny_variant(case, "qwen3", n_latents=N_L, context=longest + latents + N_NEW - 1)
    assert model.generate(PROMPTS, LENGTHS, N_NEW).shape == (len(PROMPTS), N_NEW)  # the last token is not fed
    with pytest.raises(ValueError):
        model.generate(PROMPTS, LENGTHS, N_NEW + 1)


def test_a_site_outside_the_prefix_is_refused(family):
    model = tiny(family)
    _, prefix_kv = model.prefix(random_tokens(1, 5))
    x = torch.zeros(1, 1, 2, model.config.width, dtype=torch.float64)
    for site in (-2, 5):
        with pytest.raises(ValueError, match=r"sites must lie in \[-1, 4\]"):
            model.branch(x, prefix_kv, torch.tensor([[site]]), torch.tensor([[[5, 6]]]))
    model.branch(x, prefix_kv, torch.tensor([[4]]), torch.tensor([[[5, 6]]]))
