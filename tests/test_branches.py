"""Branches are exact: all in one pass, on every attention path, equal to one token per call. And nothing leaks."""

from functools import cache

import pytest
import torch
from helpers import (
    CASES,
    VOCAB,
    close,
    cut,
    following,
    gradients,
    random_inputs,
    random_tokens,
    same_gradients,
    set_path,
    slow_nll,
    slow_passes,
    slow_read,
    slow_run,
    tiny,
    tiny_variant,
)
from torch.nn.attention import flex_attention as flex

import model as model_file
from coprocessor import VARIANTS, ahead_tokens, build
from model import branch_mask, flex_attention, random_model, token_nll

B, S, N_L, N_A = 2, 16, 3, 3
# More branches than fit one group (below), in no order, some at the same site; the last group's prefix ends early.
SITES = torch.tensor([[9, 3, 12, 0, 3, 7, 3, 1], [5, 0, 8, 8, 12, 2, 0, 4]])
M = SITES.size(1)
WEIGHTS = random_inputs(B, M, N_A, seed=7)  # of the targets in the loss: a mean would hide a permutation
TOKENS = random_tokens(B, S)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch):
    monkeypatch.setattr("model.QUERIES_PER_GROUP", 12)  # two to eight branches


@cache
def slowly(case, family):
    model = tiny_variant(case, family, n_latents=N_L)
    hidden, nll = slow_passes(case, model, TOKENS, SITES, N_A)
    (nll * WEIGHTS).sum().backward()
    return hidden.detach(), nll.detach(), gradients(model)


def three_passes(model, tokens, sites, ahead):
    """The hidden states of pass 3."""
    prefix = model.pass1_prefix(tokens)
    start = model.pass2_start(prefix, sites)
    return model.pass3_predict(prefix, start, ahead)[:, :, -ahead.size(2) :]


# -----------------------------------------------------------------------------
# Variants


@torch.no_grad()
def test_a_cache_that_differs_by_layer_is_exact(family):
    """KV_phi in the upper layer alone: every layer masks what it holds."""
    model = tiny_variant("h1", family, n_latents=N_L)
    x, slow = random_inputs(B, M, N_A, model.base.config.width), []
    for b in range(B):
        _, past = slow_read(model.base, TOKENS[b])
        for m, site in enumerate(SITES[b].tolist()):
            before = cut(past, site + 1)
            _, with_phi = slow_run(model.coprocessor, model.soft, [site] * N_L, before)
            slow.append(slow_run(model.base, x[b, m], range(site + 1, site + 1 + N_A), [before[0], with_phi[1]])[0])
    for path in ("dense", "grouped"):
        set_path(model, path)
        prefix = model.pass1_prefix(TOKENS)
        start = model.pass2_start(prefix, SITES)
        nothing = tuple(t[:, :, :, :0] for t in start.kv[0])
        hidden, longer = model.base.branch(x, prefix.kv, SITES, following(SITES, N_A), [nothing, start.kv[1]])
        assert [k.size(3) for k, _ in longer] == [N_A, N_L + N_A]
        close(hidden, torch.stack(slow).view(x.shape), 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_variant_equals_one_branch_and_one_token_per_call(case, family, path):
    model = tiny_variant(case, family, path, n_latents=N_L)
    hidden, nll, grads = slowly(case, family)
    ahead = ahead_tokens(TOKENS, SITES, N_A)
    close(three_passes(model, TOKENS, SITES, ahead).detach(), hidden, 1e-9)
    # Continued trains on every token, and is only scored on the ahead tokens
    fast = model.ahead_nll(TOKENS, SITES, ahead) if case == "continued" else model(TOKENS, SITES, ahead)
    close(fast.detach(), nll, 1e-9)
    (fast * WEIGHTS).sum().backward()
    same_gradients(gradients(model), grads)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_built_where_its_base_is(variant):
    """On whatever device: what is on the meta device goes with nothing that is on the CPU."""
    model = build(variant, random_model("tiny_gpt2").to("meta"), 2)
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_continued_trains_on_every_token(family):
    model, slow = tiny_variant("continued", family), tiny_variant("continued", family)
    weights = random_inputs(B, S - 1, seed=8)
    fast_nll = model(TOKENS, SITES, ahead_tokens(TOKENS, SITES, N_A))
    slow_nlls = torch.stack([slow_nll(slow.base, slow_read(slow.base, row)[0][:-1], row[1:]) for row in TOKENS])
    close(fast_nll, slow_nlls, 1e-9)
    (fast_nll * weights).sum().backward()
    (slow_nlls * weights).sum().backward()
    same_gradients(gradients(model), gradients(slow))


def test_ahead_tokens_follow_the_site():
    tokens = torch.arange(B * S).view(B, S)  # each its own index
    ahead = ahead_tokens(tokens, SITES, N_A)
    for b in range(B):
        for m in range(M):
            site = SITES[b, m].item()
            assert ahead[b, m].tolist() == [b * S + site + i for i in range(1, N_A + 1)]


@pytest.mark.parametrize("case", CASES)
def test_padding_at_the_end_of_ahead_changes_nothing_before_it(case, family):
    model = tiny_variant(case, family, n_latents=N_L)
    ahead = ahead_tokens(TOKENS, SITES, N_A)
    padded = torch.cat([ahead, random_tokens(B, M, 3, seed=9)], dim=2)
    with torch.no_grad():
        close(model.ahead_nll(TOKENS, SITES, padded)[..., :N_A], model.ahead_nll(TOKENS, SITES, ahead), 1e-9)


@pytest.mark.parametrize("rows", [0, 5, 47, 48])
def test_logits_in_chunks_give_the_same_loss_and_gradients(rows, family, monkeypatch):
    n, results = B * M * N_A, []  # 48 targets: a chunk of 5 leaves a rest, one of 47 a rest of one
    for entries in (model_file.MAX_LOGITS_PER_CHUNK, rows * VOCAB + VOCAB // 2):
        monkeypatch.setattr(model_file, "MAX_LOGITS_PER_CHUNK", entries)
        model = tiny(family)
        hidden = random_inputs(B, M, N_A, model.config.width).requires_grad_()
        nll = token_nll(model, hidden, random_tokens(B, M, N_A))
        (nll * WEIGHTS).sum().backward()
        results.append([nll, hidden.grad, model.wte.weight.grad])
        if entries < n * VOCAB:  # never more at once than asked for
            sizes = [chunk.stop - chunk.start for chunk in nll.grad_fn.next_functions[0][0].chunks]
            assert max(sizes) == max(1, entries // VOCAB) and sum(sizes) == n
    for whole, chunked in zip(*results, strict=True):
        close(chunked, whole, 1e-12)


def test_logits_in_chunks_under_bf16_autocast(monkeypatch):
    """As autocast computes them unchunked, forward and backward, from fp32 weights and hidden states of either type."""
    model, n = tiny("gpt2", torch.float32), B * M * N_A
    for dtype in (torch.float32, torch.bfloat16):
        results = []
        for entries in (model_file.MAX_LOGITS_PER_CHUNK, 9 * VOCAB):
            monkeypatch.setattr(model_file, "MAX_LOGITS_PER_CHUNK", entries)
            model.zero_grad()
            hidden = random_inputs(n, 64, dtype=dtype).requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                nll = token_nll(model, hidden, random_tokens(n))
            nll.mean().backward()
            assert nll.dtype == torch.float32 and hidden.grad.dtype == dtype and model.wte.weight.grad.dtype == torch.float32
            results.append([nll.detach(), hidden.grad.float(), model.wte.weight.grad])
        for whole, chunked in zip(*results, strict=True):
            assert (whole - chunked).abs().max() < 0.02 * whole.abs().max()


# -----------------------------------------------------------------------------
# Model.branch alone


NO_PREFIX = SITES.clone()
NO_PREFIX[:, [1, 4]] = -1  # beside others that have one
NO_PREFIX[:, 6:] = -1  # and whole groups without
T_CHUNKED = 5
CHUNKS = [(5,), (1,) * 5, (2, 2, 1)]


@cache
def slow_branches(family):
    model = tiny(family)
    x = random_inputs(B, M, T_CHUNKED, model.config.width).requires_grad_()
    hidden, kv = [], []
    for b in range(B):
        _, past = slow_read(model, TOKENS[b])
        for m in range(M):
            site = NO_PREFIX[b, m].item()
            h, own = slow_run(model, x[b, m], range(site + 1, site + 1 + T_CHUNKED), cut(past, site + 1))
            hidden.append(h)
            kv.append(torch.stack([torch.stack(pair)[:, site + 1 :] for pair in own]))  # (L, 2, T, H_kv, D)
    hidden = torch.stack(hidden).view(x.shape)
    (hidden * random_inputs(*x.shape, seed=8)).sum().backward()
    kv = torch.stack(kv).unflatten(0, (B, M)).permute(2, 3, 0, 5, 1, 4, 6)  # (L, 2, B, H_kv, M, T, D)
    return x.detach(), hidden.detach(), kv.detach(), {"x": x.grad, **gradients(model)}


def in_chunks(model, x, prefix_kv, sites, chunks):
    hidden, kv, positions = [], None, following(sites, x.size(2)).split(chunks, dim=2)
    for part, places in zip(x.split(chunks, dim=2), positions, strict=True):
        h, kv = model.branch(part, prefix_kv, sites, places, kv)
        hidden.append(h)
    return torch.cat(hidden, dim=2), kv


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_branch_in_chunks_equals_one_token_per_call(chunks, family, path):
    model = tiny(family)
    model.attention = path
    inputs, slow_hidden, slow_kv, grads = slow_branches(family)
    x = inputs.clone().requires_grad_()
    hidden, kv = in_chunks(model, x, model.prefix(TOKENS)[1], NO_PREFIX, chunks)
    close(hidden, slow_hidden, 1e-9)
    close(torch.stack([torch.stack(pair) for pair in kv]), slow_kv, 1e-9)
    (hidden * random_inputs(*x.shape, seed=8)).sum().backward()
    same_gradients({"x": x.grad, **gradients(model)}, grads)


def test_prefix_equals_one_token_per_call(family):
    model = tiny(family)
    hidden, kv = model.prefix(TOKENS)
    for b in range(B):
        slow_hidden, past = slow_read(model, TOKENS[b])
        close(hidden[b], slow_hidden, 1e-9)
        for (k, v), (slow_k, slow_v) in zip(kv, past, strict=True):
            close(k[b].transpose(0, 1), slow_k, 1e-9)
            close(v[b].transpose(0, 1), slow_v, 1e-9)


def test_cache_only_gives_the_same_cache_and_no_hidden_states(family, path):
    model = tiny(family)
    model.attention = path
    _, prefix_kv = model.prefix(TOKENS)
    none, prefix_only = model.prefix(TOKENS, cache_only=True)
    x = random_inputs(B, M, 2, model.config.width)
    _, branch_kv = model.branch(x, prefix_kv, SITES, following(SITES, 2))
    nothing, branch_only = model.branch(x, prefix_kv, SITES, following(SITES, 2), cache_only=True)
    assert none is None and nothing is None
    for whole, only in ((prefix_kv, prefix_only), (branch_kv, branch_only)):
        for (k, v), (k_only, v_only) in zip(whole, only, strict=True):
            assert torch.equal(k, k_only) and torch.equal(v, v_only)


@pytest.mark.parametrize("T", [1, 3])
def test_branch_that_begins_with_its_own_token_is_the_ordinary_causal_pass(T, family, path):
    model = tiny(family)
    model.attention = path
    hidden, prefix_kv = model.prefix(TOKENS)
    first = torch.arange(S - T + 1).flip(0)  # every place where T tokens are left, last first
    index = first[:, None] + torch.arange(T)  # (M, T)
    branch, _ = model.branch(model.embed(TOKENS[:, index]), prefix_kv, (first - 1).expand(B, -1), index.expand(B, -1, -1))
    close(branch, hidden[:, index], 1e-9)


@pytest.mark.parametrize("P, T", [(0, 1), (0, 3), (2, 1), (3, 2)])
def test_branch_mask_says_who_sees_whom(P, T):
    sites, S = torch.tensor([[3, -1, 0, 3], [1, 4, 2, -1]]), 5
    M = sites.size(1)
    mask = branch_mask(sites, S, P, T)
    assert mask.shape == (2, M * T, S + M * (P + T))
    for b in range(2):
        for m in range(M):
            for t in range(T):
                sees = set(range(sites[b, m].item() + 1))  # the prefix up to and including the site
                start = S + m * (P + T)
                sees |= set(range(start, start + P + t + 1))  # what it holds, what came before in its branch, itself
                assert set(mask[b, m * T + t].nonzero().flatten().tolist()) == sees


@pytest.mark.parametrize("path, cuts", [("dense", [S]), ("grouped", [13, 5]), ("auto", [13, 5])])
def test_grouped_cuts_the_prefix_at_the_last_site_of_each_group(path, cuts, family, monkeypatch):
    seen = []
    monkeypatch.setattr("model.branch_mask", lambda sites, S, P, T: (seen.append(S), branch_mask(sites, S, P, T))[1])
    model = tiny(family)
    model.attention = path
    _, prefix_kv = model.prefix(TOKENS)
    model.branch(random_inputs(B, M, 2, model.config.width), prefix_kv, SITES, following(SITES, 2))
    assert seen == cuts  # built once, not once a layer


# -----------------------------------------------------------------------------
# FlexAttention


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_equals_one_token_per_call(family):
    model = tiny(family)  # uncompiled on the CPU: forward only
    model.attention = "flex"
    inputs, slow_hidden, _, _ = slow_branches(family)
    with torch.no_grad():
        hidden, _ = in_chunks(model, inputs, model.prefix(TOKENS)[1], NO_PREFIX, (2, 2, 1))
    close(hidden, slow_hidden, 1e-9)


@pytest.mark.parametrize("P, T, at_most", [(0, 31, 1.5), (0, 32, 1.5), (0, 16, 1.5), (16, 16, 1.75)])
def test_flex_computes_few_pairs_that_nobody_needs(P, T, at_most, monkeypatch):
    """At the paper's S and M: positions of the latents and ahead tokens, of the latents alone, of h1 after its cache."""
    masks, make = [], flex.create_block_mask
    monkeypatch.setattr(flex, "create_block_mask", lambda *a, **how: masks.append(make(*a, **how)) or masks[0])
    sites = torch.randperm(992, generator=torch.Generator().manual_seed(0))[:64].sort().values
    flex_attention(sites[None], 1024, P, T)
    blocks = masks[0].kv_num_blocks.sum() + masks[0].full_kv_num_blocks.sum()
    needed = ((sites + 1 + P) * T + T * (T + 1) // 2).sum()
    assert 1 <= blocks * 128**2 / needed < at_most


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention has a backward pass on CUDA only")
@pytest.mark.parametrize("case", CASES)
def test_flex_gradients_on_cuda_equal_the_dense_ones(case, family):
    torch._dynamo.reset()  # every shape is compiled anew; past a limit it would quietly stop compiling
    results, ahead = [], ahead_tokens(TOKENS, SITES, N_A).cuda()
    for path in ("dense", "flex"):
        model = tiny_variant(case, family, path, n_latents=N_L, dtype=torch.float32).cuda()
        nll = model.ahead_nll(TOKENS.cuda(), SITES.cuda(), ahead)
        (nll * WEIGHTS.cuda().float()).sum().backward()
        results.append({"nll": nll.detach(), **gradients(model)})
    dense, flex = results
    assert dense.keys() == flex.keys()
    for name in dense:
        scale = 1 + dense[name].abs().max().item()
        torch.testing.assert_close(flex[name], dense[name], rtol=0, atol=1e-4 * scale, msg=lambda m, name=name: f"{name}: {m}")


# -----------------------------------------------------------------------------
# Nothing leaks: bit for bit, in fp32, with shapes and sites fixed


def other(tokens):
    return (tokens + 1) % VOCAB


@pytest.mark.parametrize("case", CASES)
def test_prefix_tokens_after_the_site_are_unseen_and_all_others_seen(case, family, path):
    model = tiny_variant(case, family, path, n_latents=N_L, dtype=torch.float32)
    ahead = random_tokens(B, M, N_A, seed=5)  # fed as they are, whatever the prefix says
    with torch.no_grad():
        before = three_passes(model, TOKENS, SITES, ahead)
        for j in range(S):
            tokens = TOKENS.clone()
            tokens[:, j] = other(tokens[:, j])
            after = three_passes(model, tokens, SITES, ahead)
            unmoved = (after == before).flatten(2).all(dim=-1)  # (B, M)
            assert torch.equal(unmoved, SITES < j)


@pytest.mark.parametrize("case", CASES)
def test_ahead_tokens_are_seen_by_the_later_positions_of_their_own_branch_alone(case, family, path):
    model = tiny_variant(case, family, path, n_latents=N_L, dtype=torch.float32)
    ahead = random_tokens(B, M, N_A, seed=5)
    with torch.no_grad():
        before = three_passes(model, TOKENS, SITES, ahead)
        for m in range(M):
            for i in range(N_A):
                changed = ahead.clone()
                changed[:, m, i] = other(changed[:, m, i])
                after = three_passes(model, TOKENS, SITES, changed)
                moved = (after != before).any(dim=-1)  # (B, M, N_A)
                expected = torch.zeros_like(moved)
                expected[:, m, i + 1 :] = True  # position i predicts token i, so only those behind it may know it
                assert torch.equal(moved, expected)


def test_branch_inputs_and_caches_are_seen_by_their_own_branch_alone(family, path):
    model = tiny(family, torch.float32)
    model.attention = path
    chunks = (2, 2)
    with torch.no_grad():
        x = random_inputs(B, M, 4, model.config.width, dtype=torch.float32)
        _, prefix_kv = model.prefix(TOKENS)
        before, _ = in_chunks(model, x, prefix_kv, NO_PREFIX, chunks)
        for m in range(M):
            for t in range(4):
                changed = x.clone()
                changed[:, m, t] += 1
                changed[:, m, t, 0] += 1  # a norm that centres would not see a constant
                after, _ = in_chunks(model, changed, prefix_kv, NO_PREFIX, chunks)
                moved = (after != before).any(dim=-1)  # (B, M, T)
                expected = torch.zeros_like(moved)
                expected[:, m, t:] = True
                assert torch.equal(moved, expected)


@pytest.mark.parametrize("case", CASES)
def test_the_rows_of_a_batch_do_not_see_each_other(case, family, path):
    model = tiny_variant(case, family, path, n_latents=N_L, dtype=torch.float32)
    ahead = ahead_tokens(TOKENS, SITES, N_A)
    tokens, changed = TOKENS.clone(), ahead.clone()
    tokens[0], changed[0] = other(tokens[0]), other(changed[0])
    with torch.no_grad():
        before, after = three_passes(model, TOKENS, SITES, ahead), three_passes(model, tokens, SITES, changed)
    assert torch.equal(after[1], before[1])
    assert (after[0] != before[0]).any(dim=-1).all()


# -----------------------------------------------------------------------------
# Compiled


@pytest.mark.parametrize("variant, family, rows", [("h1", "qwen3", 0), ("h2", "gpt2", 7)])
def test_the_whole_forward_compiles_as_one_graph_to_the_same_loss_and_gradients(variant, family, rows, monkeypatch):
    """Traced and differentiated as on a GPU (fullgraph: no breaks), but not turned into kernels; logits at once, or 7 rows."""
    torch._dynamo.reset()
    if rows:
        monkeypatch.setattr(model_file, "MAX_LOGITS_PER_CHUNK", rows * VOCAB)
    model = tiny_variant(variant, family, n_latents=N_L, dtype=torch.float32)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for sites in (SITES, SITES.flip(1)):  # other sites, the same graph
        results = []
        for f in (model, compiled):
            model.zero_grad()
            nll = f(TOKENS, sites, ahead_tokens(TOKENS, sites, N_A))
            (nll * WEIGHTS.float()).sum().backward()
            results.append({"nll": nll.detach(), **gradients(model)})
        for name in results[0]:
            torch.testing.assert_close(results[1][name], results[0][name], rtol=1e-4, atol=1e-5)
