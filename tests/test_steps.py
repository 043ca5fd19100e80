"""Latents that spell their step: equal to a slow, separate computation, told nothing but the latents, exact in any batch."""

from types import SimpleNamespace

import pytest
import torch
from helpers import (
    OWN,
    VOCAB,
    close,
    empty_past,
    gradients,
    random_tokens,
    same_gradients,
    slow_latents,
    slow_nll,
    slow_read,
    slow_run,
    slow_start,
    tiny_variant,
)

import finetuning

CASES = [case for case in OWN if case not in ("continued", "cot")] + ["h2 pushed"]
B, S, M, K, C, N_A, WEIGHT = 3, 9, 2, 2, 2, 4, 0.7
TOKENS, SITES = random_tokens(B, S), torch.tensor([[8, 2], [5, 0], [3, 3]])
AHEAD = random_tokens(B, M, N_A, seed=5)
# Padded with -1: a row with both steps and a third that no latent stands for, one with a single step, one with none
STEPS = random_tokens(B, 3, 5, seed=6)
STEPS[0, 1, 3:] = STEPS[1, 0, 1:] = STEPS[1, 1:] = STEPS[2] = -1


def variant_of(case, family, dtype=torch.float64):
    model = tiny_variant(case, family, n_latents=K * C, dtype=dtype)
    model.latents_per_step, model.step_weight = C, WEIGHT
    return model


def slow_step_latents(case, model, row, past, site):
    """-> (N_L, C) what has to spell the steps"""
    before, first, places, _ = slow_start(case, model, row, past, site)
    if case in ("soft", "pause"):  # what the Base makes of its soft tokens
        return slow_run(model.base, first, places, before)[0]
    if case == "h1":
        return slow_latents(model, past, site)[0]
    if case == "coconut":  # the hidden states that are fed: the prefix's last one, and each that came of the one before
        z, own = [slow_read(model.base, row[: site + 1])[0][-1]], [tuple(t[: site + 1] for t in pair) for pair in past]
        for i in range(model.n_latents - 1):
            h, own = slow_run(model.base, z[-1][None], [site + 1 + i], own)
            z.append(h[0])
        return torch.stack(z)
    return first


def slow_step_loss(case, model):
    """(B, M): the mean over a row's steps of the mean -log p of a step's tokens, one token per call"""
    rows = []
    for row, sites, steps in zip(TOKENS, SITES.tolist(), STEPS, strict=True):
        _, past = slow_read(model.base, row)
        for site in sites:
            z, losses = slow_step_latents(case, model, row, past, site), []
            for j in range(K):
                text = steps[j][steps[j] >= 0]
                if len(text):
                    xs = torch.cat([z[j * C : (j + 1) * C], model.base.wte.weight[text[:-1]]])
                    hidden, _ = slow_run(model.base, xs, range(len(xs)), empty_past(model.base))
                    losses.append(slow_nll(model.base, hidden[C - 1 :], text).mean())
            rows.append(torch.stack(losses).mean() if losses else z.new_zeros(()))
    return torch.stack(rows).view(B, M)


def gradients_of(model, loss):
    model.zero_grad()
    loss.backward()
    return gradients(model)


@pytest.mark.parametrize("case", CASES)
def test_equal_to_a_slow_separate_computation(case, family):
    model = variant_of(case, family).train()
    plain, slow = model.ahead_nll(TOKENS, SITES, AHEAD), slow_step_loss(case, model)
    assert (slow[:2] > 0).all() and (slow[2] == 0).all(), "the last row has no step"
    fast, expected = model(TOKENS, SITES, AHEAD, STEPS), plain + WEIGHT * slow[..., None]
    close(fast, expected, 1e-9)
    same_gradients(gradients_of(model, fast.sum()), gradients_of(model, expected.sum()))


@pytest.mark.parametrize("case", CASES)
def test_weight_0_is_the_loss_without_it_to_the_bit(case, family):
    model = variant_of(case, family, torch.float32).train()
    model.step_weight = 0.0
    assert torch.equal(model(TOKENS, SITES, AHEAD, STEPS), model(TOKENS, SITES, AHEAD))
    model.step_weight = WEIGHT
    assert torch.equal(model(TOKENS, SITES, AHEAD), model.ahead_nll(TOKENS, SITES, AHEAD)), "text has no steps"
    assert not torch.equal(model(TOKENS, SITES, AHEAD, STEPS), model(TOKENS, SITES, AHEAD))


def test_without_latents_there_is_nothing_to_spell_with(family):
    """Coconut's stage 0: markers, and no latent yet"""
    model = variant_of("coconut", family, torch.float32).train()
    model.n_latents = 0
    assert torch.equal(model(TOKENS, SITES, AHEAD, STEPS), model.ahead_nll(TOKENS, SITES, AHEAD))


@pytest.mark.parametrize("case", ["h2", "soft", "coconut"])
def test_it_is_told_the_latents_and_nothing_else(case, family):
    """The latents held, the question may be any other: not a bit moves. A latent moves its own step, and no other."""
    model = variant_of(case, family, torch.float32)
    z = torch.randn(B, M, K * C, model.base.config.width, generator=torch.Generator().manual_seed(0))
    only = STEPS.clone()
    only[:, 1:] = -1  # step 1 alone
    with torch.no_grad():
        one, other = (model.pass1_prefix(tokens).kv for tokens in (TOKENS, (TOKENS + 1) % VOCAB))
        assert torch.equal(model.step_nll(z, STEPS, one), model.step_nll(z, STEPS, other))
        for latent in range(K * C):
            moved = z.clone()
            moved[:, :, latent, 0] += 1
            same = model.step_nll(moved, only, one) == model.step_nll(z, only, one)
            assert same[2].all() and same[:2].all() == (latent >= C) and same[:2].any() == (latent >= C)


@pytest.mark.parametrize("case", ["rounds", "h1", "coconut", "pause"])
@torch.no_grad()
def test_spelling_is_greedy_decoding_of_each_step_alone(case, family):
    model = variant_of(case, family).eval()
    prefix, sites = model.pass1_prefix(TOKENS), SITES[:, :1]
    start = model.pass2_start(prefix, sites)
    hidden, _ = model.base.branch(start.x, prefix.kv, start.sites, start.positions, start.kv)
    said = model.spell(model.step_latents(start, hidden), prefix.kv, 4)
    assert said.shape == (B, K, 4)
    for b in range(B):
        z = slow_step_latents(case, model, TOKENS[b], slow_read(model.base, TOKENS[b])[1], sites[b].item())
        for j in range(K):
            xs, new = z[j * C : (j + 1) * C], []
            while len(new) < 4:
                hidden, _ = slow_run(model.base, xs, range(len(xs)), empty_past(model.base))
                new.append((model.base.wte.weight @ hidden[-1]).argmax())
                xs = torch.cat([xs, model.base.wte.weight[new[-1]][None]])
            assert said[b, j].tolist() == new


@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_its_questions_one_by_one(case, family):
    """Ragged steps; and each question's loss of steps is counted once for each token that it writes."""
    model = variant_of(case, family)
    rng = torch.Generator().manual_seed(1)

    def ids(n):
        return torch.randint(VOCAB - 5, (n,), generator=rng).tolist()

    items = [
        finetuning.Written(ids(n), ids(n + 1), [ids(k) for k in steps]) for n, steps in ((3, (2, 4, 1)), (7, ()), (5, (3,)))
    ]
    together = finetuning.text_nll(model, items, "cpu")
    close(together, sum(finetuning.text_nll(model, [item], "cpu") for item in items), 1e-9)
    model.step_weight = 0.0
    plain = [finetuning.text_nll(model, [item], "cpu") for item in items]
    model.step_weight = WEIGHT
    charged = [finetuning.text_nll(model, [item], "cpu") for item in items]
    assert charged[1] == plain[1] and charged[0] > plain[0] and charged[2] > plain[2]


def test_one_step_of_training_is_the_same_in_any_micro_batches(family):
    c = SimpleNamespace(micro_batch=4, clip=0.0, lr=1e-3, beta1=0.9, beta2=0.99, weight_decay=0.0)
    machine = SimpleNamespace(
        rank=0, world=1, device=torch.device("cpu"), autocast=lambda: torch.autocast("cpu", enabled=False)
    )
    rows = random_tokens(4, 6, seed=9).tolist()
    items = [finetuning.Written(row[:3], row[: 2 + i], [row[: i + 1]] * (i % 3)) for i, row in enumerate(rows)]
    results = []
    for c.micro_batch in (4, 2, 1):
        model = variant_of("h2", family)
        optimizer = finetuning.adamw(model, c, machine.device)
        loss, norm = finetuning.train_step(model, items, optimizer, c, machine)
        results.append(torch.stack([loss.double(), norm]))
    close(results[1], results[0], 1e-6)  # the sum of losses is kept in fp32
    close(results[2], results[0], 1e-6)


def test_step_latents_get_their_gradient_from_the_steps(family):
    """What spells a step is not cut off from what made it: the Coprocessor learns from the steps alone."""
    model = variant_of("h2", family)
    prefix = model.pass1_prefix(TOKENS)
    start = model.pass2_start(prefix, SITES)
    loss = model.step_nll(model.step_latents(start, None), STEPS, prefix.kv).sum()
    grads = gradients_of(model, loss)
    assert all(grads[f"coprocessor.{name}"].abs().sum() > 0 for name, _ in model.coprocessor.named_parameters())
    assert grads["soft"].abs().sum() > 0
