"""Who learns, variant by variant (paper, sections 3.2 and 4.1): exactly these parameters, and no others move."""

import copy
from types import SimpleNamespace

import pytest
import torch
from helpers import CASES, close, random_inputs, random_tokens, tiny, tiny_variant

import finetuning
import train
from coprocessor import VARIANTS, ahead_tokens, build

B, S, N_L, N_A = 2, 14, 3, 4
TOKENS = random_tokens(B, S)
SITES = torch.tensor([[7, 2, 9], [0, 4, 8]])

# Of the Coprocessor under h1 only the cache is read, so what comes after the last layer's K and V has no effect.
AFTER_CACHE = {
    "gpt2": ["attn_proj_out.weight", "attn_proj_out.bias", "norm_2.weight", "norm_2.bias"]
    + ["mlp_in.weight", "mlp_in.bias", "mlp_proj_out.weight", "mlp_proj_out.bias"],
    "llama": ["q_proj.weight", "attn_proj_out.weight", "norm_2.weight", "gate.weight", "up.weight", "mlp_proj_out.weight"],
}
AFTER_CACHE["qwen3"] = ["q_norm.weight", *AFTER_CACHE["llama"]]
FINAL_NORM = {"gpt2": ["norm.weight", "norm.bias"], "llama": ["norm.weight"], "qwen3": ["norm.weight"]}


def learners(case, family):
    """The names of the parameters that should learn, from nothing but the Base's."""
    base = [name for name, _ in tiny(family).named_parameters()]
    coprocessor = {f"coprocessor.{name}" for name in base if name != "wte.weight"}
    base = {f"base.{name}" for name in base}
    dead = {f"coprocessor.blocks.1.{name}" for name in AFTER_CACHE[family]}
    dead |= {f"coprocessor.{name}" for name in FINAL_NORM[family]}
    assert dead <= coprocessor
    known = {
        "continued": base,
        "cot": base,
        "coconut": base,
        "soft": base | {"soft"},
        "pause": base | {"soft"},
        "liu": coprocessor | {"soft"},
        "h1": coprocessor - dead | {"soft"},
        "h2": base | coprocessor | {"soft"},
        "h2 scaled": base | coprocessor | {"soft", "latent_scale"},
        "tied": base | {"soft"},
        "rounds": base | coprocessor | {"soft"},
    }
    case = case.removesuffix(" pushed")
    if case not in known:  # a variant of your own learns what its class's does, or says otherwise by its facts
        own = VARIANTS[case]
        kin = [name for name in ("pause", "soft", "h1", "liu", "h2", "coconut", "continued") if issubclass(own, VARIANTS[name])]
        facts = [*base] * own.trains_base, [*coprocessor] * own.has_coprocessor, ["soft"] * own.has_soft_tokens
        return known[kin[0]] if kin else set().union(*facts)
    return known[case]


def trained(case, family, steps):
    """-> the state before, the model after some steps of AdamW, whose weight decay moves all that it holds."""
    model = tiny_variant(case, family, n_latents=N_L, dtype=torch.float32)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        model(TOKENS, SITES, ahead_tokens(TOKENS, SITES, N_A)).mean().backward()
        optimizer.step()
    return before, model


@pytest.mark.parametrize("case", CASES)
def test_exactly_these_parameters_receive_gradient(case, family):
    model = tiny_variant(case, family, n_latents=N_L)
    model(TOKENS, SITES, ahead_tokens(TOKENS, SITES, N_A)).mean().backward()
    expected = learners(case, family)
    parameters = dict(model.named_parameters())
    # asked to learn, reached by the graph, and moved: DDP stops where the first two differ
    asked = {name for name, p in parameters.items() if p.requires_grad}
    assert asked == expected, "a variant of your own has its parameters in `known`, in learners()"
    assert {name for name, p in parameters.items() if p.grad is not None} == expected
    assert {name for name, p in parameters.items() if p.grad is not None and p.grad.abs().sum() > 0} == expected


@pytest.mark.parametrize("case", CASES)
def test_after_three_steps_all_others_are_untouched_bit_for_bit(case, family):
    before, model = trained(case, family, steps=3)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == learners(case, family)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_base_is_frozen_under_liu_and_h1_alone(variant, family):
    model = tiny_variant(variant, family)
    prefix_kv = model.pass1_prefix(TOKENS).kv
    graph = {t.requires_grad for pair in prefix_kv for t in pair}
    frozen = issubclass(VARIANTS[variant], (VARIANTS["liu"], VARIANTS["h1"]))
    assert graph == {not frozen}  # a frozen Base builds none in pass 1
    # and building one variant around a Base after another leaves nothing behind
    again = build("h2", build(variant, tiny(family), N_L).base, N_L)
    assert all(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("variant", ["liu", "h1", "h2"])
def test_the_coprocessor_starts_as_a_copy_that_never_reads_a_token(variant, family):
    base = tiny(family)
    model = build(variant, base, N_L)
    assert model.base is base and model.coprocessor.wte is None and base.wte is not None
    own, theirs = dict(model.coprocessor.named_parameters()), dict(base.named_parameters())
    assert own.keys() == theirs.keys() - {"wte.weight"}
    for name in own:
        assert torch.equal(own[name], theirs[name])
        assert own[name].data_ptr() != theirs[name].data_ptr(), name  # a copy, not the same memory


def test_soft_tokens_start_near_the_mean_embedding(family):
    base = tiny(family)
    soft = build("soft", base, 200).soft.detach()
    assert soft.shape == (200, base.config.width)
    noise = soft - base.wte.weight.mean(dim=0)
    assert abs(noise.mean().item()) < 1e-3 and abs(noise.std().item() - 0.02) < 1e-3


@pytest.mark.parametrize("make", [train.make_optimizer, finetuning.adamw])
def test_soft_tokens_are_not_decayed(make, family):
    """With no gradient anywhere, decay is all that moves a parameter."""
    model = tiny_variant("h2", family, dtype=torch.float32)
    c = SimpleNamespace(lr=0.1, beta1=0.9, beta2=0.9, weight_decay=0.5)
    optimizer = make(model, c, torch.device("cpu"))
    before = copy.deepcopy(model.state_dict())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    still = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    assert "soft" in still and "base.wte.weight" not in still


def test_the_latent_scale_starts_at_the_rms_of_the_embeddings(family):
    base = tiny(family)
    model = build("h2", base, N_L, scale_latents=True)
    x = model.pass2_start(model.pass1_prefix(TOKENS), SITES).x
    rms = base.wte.weight.square().mean().sqrt()
    close(x.square().mean(dim=-1).sqrt(), rms.expand(x.shape[:-1]), 1e-9)


@pytest.mark.parametrize("variant", ["soft", "h1", "coconut"])
def test_scaling_latents_that_are_not_fed_is_refused(variant):
    with pytest.raises(ValueError, match=f"scale_latents=True is not for {variant}"):
        build(variant, tiny("gpt2"), N_L, scale_latents=True)


# -----------------------------------------------------------------------------
# Under h2 the gradient flows on, through the latents and the prefix cache, into the Base


def through_latents_alone(variant, family):
    """-> model, the gradient of the loss with respect to the prefix cache by way of pass 2 only, and that cache."""
    model = tiny_variant(variant, family, n_latents=N_L)
    prefix = model.pass1_prefix(TOKENS)
    start = model.pass2_start(prefix, SITES)
    detached = prefix._replace(kv=[(k.detach(), v.detach()) for k, v in prefix.kv])
    ahead = random_tokens(*SITES.shape, N_A, seed=4)
    hidden = model.pass3_predict(detached, start, ahead)[:, :, -N_A:]
    return model, (hidden * random_inputs(*hidden.shape)).sum(), prefix


def test_h2_latents_pass_gradient_into_every_layer_of_the_cache_up_to_the_site(family):
    _, loss, prefix = through_latents_alone("h2", family)
    flat = [t for pair in prefix.kv for t in pair]
    for grad in torch.autograd.grad(loss, flat, retain_graph=True):
        size = grad.abs().sum(dim=(1, 3))  # (B, S)
        last = SITES.max(dim=1).values[:, None]
        assert torch.equal(size > 0, torch.arange(S) <= last)


def test_h2_latents_pass_gradient_into_the_base_by_way_of_the_cache(family):
    model, _, prefix = through_latents_alone("h2", family)
    z = model.pass2_start(prefix, SITES).x  # no parameter of the Base is used on the way, but for pass 1
    names = {name: p for name, p in model.base.named_parameters()}
    unused = {f"blocks.1.{name}" for name in AFTER_CACHE[family]} | set(FINAL_NORM[family])
    grads = torch.autograd.grad((z * random_inputs(*z.shape)).sum(), list(names.values()), allow_unused=True)
    reached = {name for name, g in zip(names, grads, strict=True) if g is not None and g.abs().sum() > 0}
    assert reached == names.keys() - unused
