"""Decoding writes its cache in place. The reference grows a branch by torch.cat, one token a step, as training would."""

import pytest
import torch
from helpers import CASES, close, random_tokens, tiny, tiny_variant

from model import decoding_cache, sample_token

PROMPTS, N_L, N_NEW = random_tokens(6, 9, seed=6), 3, 10
LENGTHS = {
    "ragged": torch.tensor([9, 1, 5, 2, 8, 5]),
    "equal": torch.full((6,), 9),
    "one token": torch.ones(6, dtype=torch.int64),
}
ragged_or_not = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
# every variant with ragged prompts, the others with a variant that holds nothing, and one that holds a cache
PAIRS = [(case, "ragged") for case in CASES] + [(case, name) for case in ("continued", "h1") for name in ("equal", "one token")]
every_case = pytest.mark.parametrize("case, lengths", [pytest.param(case, LENGTHS[n], id=f"{case}-{n}") for case, n in PAIRS])


@torch.no_grad()
def begun(model, lengths, upper=False):
    """-> what Variant.generate hands to Model.generate_from; upper: a fork's KV_phi, in the upper layer alone"""
    prefix = model.pass1_prefix(PROMPTS)
    start = model.pass2_start(prefix, (lengths - 1)[:, None])
    kv = start.kv
    if upper:
        kv = [tuple(t[:, :, :, :0] for t in kv[0]), *kv[1:]]
    hidden, branch_kv = model.base.branch(start.x, prefix.kv, start.sites, start.positions, kv)
    return hidden[:, 0, -1], prefix.kv, start.sites, start.ahead, branch_kv


@torch.no_grad()
def functional(
    model, hidden, prefix_kv, sites, positions, branch_kv, n_tokens, temperature=0.0, top_k=0, eos=None, generator=None
):
    """Model.generate_from by Model.branch: every step makes new tensors."""
    out, done = [], torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
    while True:
        token = sample_token(model.logits(hidden), temperature, top_k, generator)
        if eos is not None:
            token = torch.where(done, eos, token)
            done = token == eos
        out.append(token)
        if len(out) == n_tokens or (eos is not None and bool(done.all())):
            return torch.stack(out, dim=1)
        place = positions[..., None] + len(out) - 1
        hidden, branch_kv = model.branch(model.embed(token)[:, None, None], prefix_kv, sites, place, branch_kv)
        hidden = hidden[:, 0, -1]


@torch.no_grad()
def compare_steps(model, hidden, prefix_kv, sites, positions, branch_kv):
    """Hidden states after the same tokens, step by step"""
    cache, mask = decoding_cache(prefix_kv, sites, branch_kv, N_NEW)
    for n, token in enumerate(random_tokens(N_NEW, len(hidden), seed=7)):
        place = positions[..., None] + n
        slow, branch_kv = model.branch(model.embed(token)[:, None, None], prefix_kv, sites, place, branch_kv)
        close(model.decode_step(token, positions + n, cache, mask, N_NEW - 1 - n), slow[:, 0, 0], 1e-9)


@every_case
def test_the_cache_in_place_equals_the_functional_one(case, lengths, family):
    model = tiny_variant(case, family, n_latents=N_L)
    compare_steps(model.base, *begun(model, lengths))


def test_layers_that_hold_different_caches(family):
    model = tiny_variant("h1", family, n_latents=N_L)
    begin = begun(model, LENGTHS["ragged"], upper=True)
    assert [k.size(3) for k, _ in begin[4]] == [1, N_L + 1]
    compare_steps(model.base, *begin)
    assert torch.equal(model.base.generate_from(*begin, N_NEW), functional(model.base, *begin, N_NEW))


@every_case
def test_the_same_tokens_greedy_sampled_and_to_an_eos(case, lengths, family):
    model = tiny_variant(case, family, n_latents=N_L)
    begin = begun(model, lengths)
    eos = int(functional(model.base, *begin, 3)[0, 2])  # which the first row says
    for how in (dict(), dict(eos=eos), dict(temperature=1.3, eos=eos), dict(temperature=0.9, top_k=5)):
        fast = model.base.generate_from(*begin, N_NEW, **how, generator=torch.Generator().manual_seed(3))
        slow = functional(model.base, *begin, N_NEW, **how, generator=torch.Generator().manual_seed(3))
        assert torch.equal(fast, slow)


def test_nothing_of_the_callers_is_written_to(family):
    model = tiny_variant("h1", family, n_latents=N_L)
    hidden, prefix_kv, sites, positions, branch_kv = begun(model, LENGTHS["ragged"])
    given = [hidden, sites, positions, *(t for kv in (prefix_kv, branch_kv) for pair in kv for t in pair)]
    before = [t.clone() for t in given]
    one, two = (model.base.generate_from(hidden, prefix_kv, sites, positions, branch_kv, N_NEW) for _ in range(2))
    assert torch.equal(one, two)
    assert all(torch.equal(t, old) for t, old in zip(given, before, strict=True))


@pytest.mark.parametrize("at", [0, 2, N_NEW - 1])
def test_no_token_is_the_likeliest_where_a_state_is_not_finite(at, monkeypatch):
    model = tiny_variant("h2", "qwen3", n_latents=N_L)
    hidden, *begin = begun(model, LENGTHS["ragged"])
    states = [hidden * (float("nan") if n == at else 1) for n in range(N_NEW)]
    monkeypatch.setattr(model.base, "decode_step", lambda *a: states[N_NEW - 1 - a[-1]])
    with pytest.raises(ValueError, match="not finite"):
        model.base.generate_from(states[0], *begin, N_NEW)


def test_room_that_is_not_there_is_refused_before_anything_is_decoded(family):
    model = tiny_variant("continued", family, context=9 + N_NEW - 1)
    begin = begun(model, LENGTHS["ragged"])
    assert model.base.generate_from(*begin, N_NEW).shape == (6, N_NEW)
    with pytest.raises(ValueError, match=f"{9 + N_NEW} positions do not fit"):
        model.base.generate_from(*begin, N_NEW + 1, eos=int(model.base.generate_from(*begin, 1)[0, 0]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@ragged_or_not
def test_a_gpu_looks_for_the_end_now_and_then_and_says_the_same(lengths, family):
    model = tiny(family)
    there = tiny(family).to("cuda")
    free = model.generate(PROMPTS, lengths, 20)
    for eos in (None, *free.unique().tolist()):
        for rows in (slice(None), slice(0, 1)):  # one row meets its eos sooner
            expected = model.generate(PROMPTS[rows], lengths[rows], 20, eos=eos)
            assert torch.equal(there.generate(PROMPTS[rows].cuda(), lengths[rows].cuda(), 20, eos=eos).cpu(), expected)
