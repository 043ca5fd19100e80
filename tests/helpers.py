"""Tiny models with nothing left at its default, and a second, slow implementation of every variant.

The slow one goes one branch and one token per call. Its cache is a plain list of keys that each token is appended to,
cut at the site where a branch is attached: there is no mask anywhere, so nothing to get wrong in one.
"""

import importlib
import itertools
import math
import multiprocessing
import os
import signal
import socket
import types
from dataclasses import replace
from pathlib import Path

from configurator import one_line_errors

import pytest
import torch

import runtime
from coprocessor import VARIANTS, build
from model import FAMILIES, Config, gpt2_config

VOCAB, CONTEXT = 50, 64
OWN = [*(v for v in VARIANTS if v not in ("no_cot", "no_thought")), "h2 scaled"]  # these two are cot on other data
CASES = [*OWN, *(f"{case} pushed" for case in ("soft", "h1", "h2"))]  # the older reading of positions


# -----------------------------------------------------------------------------
# Tiny random models


@torch.no_grad()
def random_weights(module, seed=0):
    """Every parameter random, of ours or of theirs: a norm's weight of one or a bias of zero hides a forgotten term."""
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        noise = torch.randn(p.shape, generator=g).to(p)
        if "bias" in name:
            p.copy_(0.3 * noise)
        elif p.dim() < 2:
            p.copy_(1 + 0.3 * noise)
        elif any(part in name for part in ("wte", "embed_tokens", "soft")):
            p.copy_(0.2 * noise)
        elif "wpe" in name:
            p.copy_(noise)  # large, or the tied head would have greedy text repeat one token
        else:
            p.copy_(noise / p.shape[-1] ** 0.5)
    return module


def tiny(family, dtype=torch.float64, seed=0, context=CONTEXT):
    """head_dim is not width / n_head and KV heads are shared where the family allows it; eps and theta are unusual."""
    if family == "gpt2":
        config = gpt2_config(VOCAB, context, n_layer=2, n_head=4, width=64, mlp_width=80, eps=1e-3)
    else:
        config = Config(family, VOCAB, context, 2, 4, 2, 16, 48, 80, 1e-3, 300.0)
    if family == "llama":
        config = replace(config, rope_scaling=(8.0, 1.0, 4.0, 40))  # of 8 frequencies 1 is kept, 5 slowed, 2 between
    return random_weights(FAMILIES[family](config), seed).to(dtype).eval()


def tiny_variant(case, family, path="grouped", n_latents=3, dtype=torch.float64, context=CONTEXT, **options):
    """The Coprocessor gets weights of its own, or mixing it up with the Base would go unseen."""
    variant, *more = case.split()
    options = dict(scale_latents="scaled" in more, text_positions="pushed" if "pushed" in more else "own", **options)
    model = build(variant, tiny(family, torch.float32, context=context), n_latents, latents_per_step=1, **options)
    random_weights(model, seed=1).to(dtype)
    set_path(model, path)
    return model


def set_path(model, path):
    model.base.attention = path
    if model.has_coprocessor:
        model.coprocessor.attention = path


def random_tokens(*shape, seed=2):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def random_inputs(*shape, seed=3, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def following(sites, T, held=0):
    """The positions of T tokens that follow on their site, and on what their branch holds: (B, M) -> (B, M, T)"""
    return sites[..., None] + 1 + held + torch.arange(T)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same_gradients(own, expected, atol=1e-9):
    """Two dicts of gradients: of the same parameters, and equal"""
    assert own.keys() == expected.keys()
    for name in own:
        torch.testing.assert_close(own[name], expected[name], rtol=0, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def close(a, b, atol):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# -----------------------------------------------------------------------------
# The slow implementation. A past is, per layer, K and V (n, H_kv, D).


def empty_past(model):
    c, weight = model.config, next(model.parameters())
    nothing = weight.new_zeros(0, c.n_kv_head, c.head_dim)
    return [(nothing, nothing)] * c.n_layer


def cut(past, n):
    return [(k[:n], v[:n]) for k, v in past]


def slow_wavelengths(c):
    """Of each rotary pair, in positions; Llama 3's scaling case by case."""
    wavelengths = [2 * math.pi * c.rope_theta ** (2 * pair / c.head_dim) for pair in range(c.head_dim // 2)]
    if not c.rope_scaling:
        return wavelengths
    factor, low, high, context = c.rope_scaling
    scaled = []
    for w in wavelengths:
        if w > context / low:
            scaled.append(w * factor)
        elif w < context / high:
            scaled.append(w)
        else:
            kept = (context / w - low) / (high - low)
            scaled.append(1 / (kept / w + (1 - kept) / (w * factor)))
    return scaled


def slow_step(model, x, position, past):
    """One token: x (C) at `position` sees all of `past` and itself -> hidden (C), the longer past."""
    c, rope = model.config, None
    if c.family == "gpt2":
        x = x + model.wpe.weight[position]
    else:
        angle = torch.tensor([position * 2 * math.pi / wavelength for wavelength in slow_wavelengths(c)], dtype=x.dtype)
        rope = angle.cos().repeat(2), angle.sin().repeat(2)
    x, longer, share = x.view(1, 1, -1), [], c.n_head // c.n_kv_head
    for block, (keys, values) in zip(model.blocks, past, strict=True):
        q, k, v = block.qkv(x, rope)  # (1, H, 1, D)
        keys = torch.cat([keys, k[:, :, 0]])
        values = torch.cat([values, v[:, :, 0]])
        longer.append((keys, values))
        scores = torch.einsum("hd,nhd->hn", q[0, :, 0], keys.repeat_interleave(share, dim=1)) / math.sqrt(c.head_dim)
        y = torch.einsum("hn,nhd->hd", scores.softmax(dim=-1), values.repeat_interleave(share, dim=1))
        x = block.attention_out_and_mlp(x, y[None, :, None])
    return model.norm(x)[0, 0], longer


def slow_run(model, xs, positions, past):
    """Tokens one after the other, each at its own position: xs (n, C), positions a list -> hidden (n, C), the longer past."""
    hidden = []
    for x, position in zip(xs, positions, strict=True):
        h, past = slow_step(model, x, position, past)
        hidden.append(h)
    return torch.stack(hidden), past


def slow_read(model, tokens):
    """tokens (n) -> hidden (n, C), past"""
    return slow_run(model, model.wte.weight[tokens], range(len(tokens)), empty_past(model))


# How a branch starts (paper, section 3.2), a variant at a time: (model, tokens (n) and past of the whole prefix, site) -> the
# past that the branch has, the inputs that it is fed first, their positions, and that of the first ahead token. A variant of
# your own adds one entry.


def slow_continued(model, tokens, past, site):
    return cut(past, site), model.base.wte.weight[tokens[site]][None], [site], site + 1  # a language model at its own token


def slow_places(model, site):
    """Of N_L latents, and of the first ahead token: text in its own place, or pushed on by the latents"""
    n = model.n_latents
    if model.text_positions == "pushed":
        return [site + 1 + i for i in range(n)], site + 1 + n
    return [site] * n, site + 1


def slow_soft(model, tokens, past, site):
    return cut(past, site + 1), model.soft.expand(model.n_latents, -1), *slow_places(model, site)


def slow_coconut(model, tokens, past, site):
    base, before = model.base, cut(past, site + 1)
    z, end = slow_read(base, tokens[: site + 1])[0][-1], base.wte.weight[model.end]
    for i in range(model.n_latents - 1):
        z, before = slow_step(base, z, site + 1 + i, before)
    last = site + model.n_latents
    return before, torch.stack([z, end]), [last, last + 1], last + 2


def slow_latents(model, past, site):
    """-> Z, the past with KV_phi behind it"""
    return slow_run(model.coprocessor, model.soft, slow_places(model, site)[0], cut(past, site + 1))


def slow_h1(model, tokens, past, site):
    _, with_phi = slow_latents(model, past, site)
    x = model.base.wte.weight[tokens[site]][None]
    if model.text_positions == "pushed":  # once more, behind KV_phi
        return with_phi, x, [site + 1 + len(model.soft)], site + 2 + len(model.soft)
    # in its own place: the prefix before it, KV_phi without the prefix that it was made behind
    phi = [tuple(t[site + 1 :] for t in pair) for pair in with_phi]
    return (
        [tuple(map(torch.cat, zip(a, b, strict=True))) for a, b in zip(cut(past, site), phi, strict=True)],
        x,
        [site],
        site + 1,
    )


def slow_h2(model, tokens, past, site):
    return cut(past, site + 1), slow_latents(model, past, site)[0], *slow_places(model, site)


def slow_h2_scaled(model, tokens, past, site):
    before, z, *places = slow_h2(model, tokens, past, site)
    return before, slow_scaled(model, z), *places


def slow_scaled(model, z):
    return z / z.square().mean(dim=-1, keepdim=True).sqrt() * model.latent_scale


def slow_tied(model, tokens, past, site):
    places, after = slow_places(model, site)
    z, _ = slow_run(model.base, model.soft, places, cut(past, site + 1))
    return cut(past, site + 1), z, places, after


def slow_rounds(model, tokens, past, site):
    """The Coprocessor reads, token after token: the soft tokens of step 1; the latents they became; those of step 2; ..."""
    (places, after), c, own = slow_places(model, site), model.latents_per_step, cut(past, site + 1)
    z = []
    for start in range(0, model.n_latents, c):
        for i in range(start - c, start) if start else ():
            _, own = slow_step(model.coprocessor, z[i], places[i], own)
        for i in range(start, start + c):
            h, own = slow_step(model.coprocessor, model.soft[i], places[i], own)
            z.append(h)
    return cut(past, site + 1), torch.stack(z), places, after


SLOW = {"continued": slow_continued, "cot": slow_continued, "soft": slow_soft, "pause": slow_soft, "coconut": slow_coconut}
SLOW |= {"h1": slow_h1, "liu": slow_h2, "h2": slow_h2, "h2 scaled": slow_h2_scaled, "tied": slow_tied, "rounds": slow_rounds}


def slow_start(case, model, tokens, past, site):
    case = case.removesuffix(" pushed")
    if case not in SLOW:
        raise NotImplementedError(f"SLOW in tests/helpers.py says how a branch of each variant starts, but not one of {case}")
    return SLOW[case](model, tokens, past, site)


def slow_offset(case, model):
    """By how many positions the latents push on the text behind them"""
    tokens = torch.zeros(2, dtype=torch.int64)
    return slow_start(case, model, tokens, slow_read(model.base, tokens)[1], 1)[3] - 2


def slow_decode(case, model, tokens, past, site, ahead):
    """ahead (n) -> hidden (n, C), of which the i-th predicts ahead token i."""
    past, first, places, after = slow_start(case, model, tokens, past, site)
    xs = torch.cat([first, model.base.wte.weight[ahead[:-1]]])
    positions = [*places, *(after + i for i in range(len(ahead) - 1))]
    return slow_run(model.base, xs, positions, past)[0][len(first) - 1 :]


def slow_nll(base, hidden, targets):
    """hidden (n, C), targets (n) -> -log p (n)"""
    log_p = (hidden @ base.wte.weight.T).log_softmax(dim=-1)
    return -torch.stack([row[t] for row, t in zip(log_p, targets, strict=True)])


def slow_passes(case, model, tokens, sites, n_ahead):
    """-> hidden (B,M,N,C), -log p of the ahead tokens (B,M,N)"""
    hidden, nll = [], []
    for row, row_sites in zip(tokens, sites.tolist(), strict=True):
        _, past = slow_read(model.base, row)
        for site in row_sites:
            ahead = row[site + 1 : site + 1 + n_ahead]
            hidden.append(slow_decode(case, model, row, past, site, ahead))
            nll.append(slow_nll(model.base, hidden[-1], ahead))
    shape = *sites.shape, n_ahead
    return torch.stack(hidden).view(*shape, -1), torch.stack(nll).view(shape)


# -----------------------------------------------------------------------------
# Whole runs of a script: settings is a dict of its config

ROOT = Path(__file__).resolve().parent.parent
ENV = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
MACHINE = runtime.DistEnv(torch.device("cpu"), False)
WEIGHTS = [f"checkpoint/{name}" for name in ("base/model.safetensors", "added.safetensors", "optimizer.pt")]


def arguments(settings, out):
    return [*(f"--{key}={value}" for key, value in settings.items()), f"--out_dir={out}"]


def run_here(script, settings, out, *more):
    """script.main() in this process -> out"""
    script.main([*arguments(settings, out), *more])
    return out


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Processes of their own are forked from one that has imported torch, and what AdamW asks of it: most of a tiny run's time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "torch._dynamo", "train", "finetune_reasoning", "countdown"])


def child(script, argv, folder, env, log, dies_at):
    os.chdir(folder)
    os.environ.update(env)
    torch.set_num_threads(1)
    os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 1)
    os.dup2(1, 2)
    syncs, sync = itertools.count(1), runtime.sync

    def sync_or_die(path):
        if next(syncs) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(path)

    runtime.sync = sync_or_die
    one_line_errors(lambda: importlib.import_module(script).main(argv))


def launch(script, settings, out, *more, folder=None, env=None, dies_at=0):
    """A process that runs the script and writes what it says to <out>.log

    dies_at: it ends itself with SIGKILL as it syncs that many files to the disk, inside a checkpoint
    """
    argv = [*arguments(settings, out), *more]
    process = FORKS.Process(target=child, args=(script.__name__, argv, folder or out.parent, env or {}, f"{out}.log", dies_at))
    process.start()
    return process


def launch_ranks(script, settings, out, ranks, *more):
    """As torchrun starts them on one machine"""
    env = dict(WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    return [launch(script, settings, out, *more, env=env | dict(RANK=str(n), LOCAL_RANK=str(n))) for n in range(ranks)]


def run_ranks(script, settings, out, ranks, *more):
    """-> out"""
    processes = launch_ranks(script, settings, out, ranks, *more)
    for process in processes:
        process.join()
    assert not any(process.exitcode for process in processes), Path(f"{out}.log").read_text()
    return out


def cut_off(script, settings, out, stop, *more):
    """A run that is killed right after its checkpoint of that step, and has logged a little more -> out"""
    save = runtime.Run.save

    def save_then_stop(self):
        save(self)
        if self.step == stop:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runtime.Run, "save", save_then_stop)
        run_here(script, settings, out, *more)
    with open(out / "metrics.jsonl", "a") as f:
        f.write('{"step": 99, "loss": 0}\n')
    return out


def cut_and_resume(script, settings, out, stop):
    cut_off(script, settings, out, stop)
    return run_here(script, settings, out, "--resume")


def same_bytes(a, b, *names):
    """Two run folders hold the same files, and the same metrics but for timings."""
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    timeless = [[{k: v for k, v in r.items() if "seconds" not in k} for r in runtime.read_metrics(folder)] for folder in (a, b)]
    assert timeless[0] == timeless[1]


def bare_run(out, machine=None, model=None, keep_checkpoints=0):
    """A Run of no script, as if it had begun: it saves nothing but an optimizer."""
    c = types.SimpleNamespace(out_dir=str(out), resume=False, overwrite=False, wandb=False, keep_checkpoints=keep_checkpoints)
    run = runtime.Run(c, machine or MACHINE, ())
    run.model, run.write_weights, run.state, run.began = model or torch.nn.Linear(1, 1), lambda folder: None, {}, 0
    run.optimizer = torch.optim.AdamW(run.model.parameters())
    return run


def same_training(a, b):
    """Two metrics logs agree up to the order of summation. AdamW would hide a gradient of another scale."""
    one, two = runtime.read_metrics(a), runtime.read_metrics(b)
    assert len(one) == len(two)
    for x, y in zip(one, two, strict=True):
        assert abs(x.get("grad_norm", 1) / y.get("grad_norm", 1) - 1) < 1e-3
        assert abs(x.get("loss", 0) - y.get("loss", 0)) < 1e-5
