"""What trains on a CUDA device: its kernels, its graph, its ranks; that it waits for nothing, resumes, and fits.

`make gpu` runs this file; it needs no network, and no package that the scripts do not need but pytest. Where there is no
device most of it is skipped. Some of it then runs as a rehearsal, so that what is written here has run: on the CPU, with
the grouped path, and traced and differentiated but not turned into kernels.
"""

import sys
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import ROOT, close, cut_and_resume, random_weights, run_here, same_training
from safetensors.torch import load_file, save_file
from test_data import make_shards

import coprocessor
import model as model_file
import runtime
import train
from model import FAMILIES, Config, gpt2_config
from paper import bench

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
needs_cuda = pytest.mark.skipif(not CUDA, reason="needs CUDA")

B, S, M, N_L, N_A, VOCAB = *((3, 256) if CUDA else (2, 64)), 16, 16, 16, 512
TOKENS = torch.randint(VOCAB, (B, S), generator=torch.Generator().manual_seed(0))
SITES = torch.stack([torch.randperm(S - N_A, generator=torch.Generator().manual_seed(b))[:M] for b in range(B)])  # in no order
WEIGHTS = torch.randn(B, M, N_A, generator=torch.Generator().manual_seed(9))  # of the targets: a mean hides a permutation


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is compiled yet; fp32 is fp32; a CPU traces as a GPU does."""
    torch.compiler.reset()
    torch.set_float32_matmul_precision("highest")
    if not CUDA:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def make(case, family, head_dim, path="auto"):
    """Two layers, nothing left at its default; Qwen-3's heads share keys and values in pairs."""
    if family == "gpt2":
        config = gpt2_config(VOCAB, 320, n_layer=2, n_head=2, width=2 * head_dim)
    else:
        config = Config("qwen3", VOCAB, 320, 2, 4, 2, head_dim, 128, 256, 1e-6, 1e4)
    base = random_weights(FAMILIES[family](config))
    model = coprocessor.build(case.split()[0], base, N_L, scale_latents=case.endswith("scaled"))
    for network in (model.base, model.coprocessor) if model.has_coprocessor else (model.base,):
        network.attention = path
    return random_weights(model, seed=1).to(DEVICE)


def loss_and_gradients(case, family, head_dim, precision, path="auto", compiled=False):
    """-> {"nll": ..., each parameter's name: its gradient}, in fp64"""
    model = make(case, family, head_dim, path)
    run = runtime.wrap(model, runtime.DistEnv(DEVICE, False), compiled)
    tokens, sites = TOKENS.to(DEVICE), SITES.to(DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bf16"):
        nll = run(tokens, sites, coprocessor.ahead_tokens(tokens, sites, N_A))
    weights = WEIGHTS.to(DEVICE) if nll.shape == WEIGHTS.shape else torch.linspace(-1, 1, nll[0].numel(), device=DEVICE)
    (nll * weights).sum().backward()
    found = {"nll": nll.detach()} | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: x.double() for name, x in found.items()}


# -----------------------------------------------------------------------------
# Kernels: loss and gradients against the dense path

OTHERS = [*(v for v in coprocessor.VARIANTS if v not in ("h2", "no_cot", "no_thought")), "h2 scaled"]
CASES = [("h2", *more) for more in product(("gpt2", "qwen3"), (64, 128), ("fp32", "bf16"), (False, True))]
CASES += [
    (case, ("gpt2", "qwen3")[n % 2], (64, 128)[n // 2 % 2], "bf16", case not in coprocessor.REASONING)
    for n, case in enumerate(OTHERS)
]
REHEARSED = [("h2", "gpt2", 64, "fp32", True), ("h1", "qwen3", 128, "bf16", True)]


@pytest.mark.parametrize("case, family, head_dim, precision, compiled", CASES if CUDA else REHEARSED)
def test_what_trains_computes_what_the_dense_path_does(case, family, head_dim, precision, compiled, monkeypatch):
    """fp32 to 1e-4; bf16 is no farther from dense fp32 than twice what dense bf16 is."""
    monkeypatch.setattr(model_file, "MAX_LOGITS_PER_CHUNK", 100 * VOCAB)  # the loss in several chunks
    ours = loss_and_gradients(case, family, head_dim, precision, compiled=compiled)
    exact = loss_and_gradients(case, family, head_dim, "fp32", "dense")
    rough = loss_and_gradients(case, family, head_dim, "bf16", "dense") if precision == "bf16" else exact
    assert ours.keys() == exact.keys()
    for name, x in exact.items():
        bound = 2 * (rough[name] - x).norm() + (2e-3 if precision == "bf16" else 1e-4) * x.norm() + 1e-5
        error = (ours[name] - x).norm()
        assert error <= bound, f"{name}: off by {error:.2e}, {error / x.norm():.1e} of it; {bound:.2e} are allowed"


@needs_cuda
@torch.no_grad()
def test_the_batches_of_an_evaluation_are_exact():
    """A last batch of one row, odd lengths, another number of sites; the dense path is what they are compared with."""
    fast, dense = (make("h2", "gpt2", 64, path).eval() for path in ("auto", "dense"))
    for rows, length, sites_each in ((3, 256, 16), (1, 256, 16), (2, 251, 16), (3, 256, 13)):
        tokens, sites = TOKENS[:rows, :length].to(DEVICE), SITES[:rows, :sites_each].clamp(max=length - N_A - 1).to(DEVICE)
        ahead = coprocessor.ahead_tokens(tokens, sites, N_A)
        close(fast.ahead_nll(tokens, sites, ahead), dense.ahead_nll(tokens, sites, ahead), 1e-3)


@needs_cuda
@torch.no_grad()
def test_one_shape_too_many_is_an_error_and_not_slow_in_silence(monkeypatch):
    monkeypatch.setattr(model_file, "FLEX_SHAPES", 1)
    model = make("soft", "gpt2", 64, "flex").eval()  # one pass with branches, so one shape a batch

    def ask(rows):
        tokens, sites = TOKENS[:rows].to(DEVICE), SITES[:rows].to(DEVICE)
        return model.ahead_nll(tokens, sites, coprocessor.ahead_tokens(tokens, sites, N_A))

    with torch._dynamo.config.patch(recompile_limit=8):  # which is also what it is afterwards
        ask(3)
        ask(3)
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            ask(2)


def test_fp32_takes_the_kernel_only_where_it_fits(monkeypatch):
    """By the device's shared memory: an A100's 163 KB are enough, an RTX 4090's 99 KB are not; bf16 fits both."""
    sites = torch.zeros(2, 16, dtype=torch.int64)
    for kilobytes, fits in ((163, True), (99, False)):
        device = type("Device", (), {"shared_memory_per_block_optin": kilobytes * 1024})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, device=device: device)
        assert model_file.flex_pays(sites, 16) == fits
        assert not model_file.flex_pays(sites[:, :8], 16) and not model_file.flex_pays(sites, 7)
        with monkeypatch.context() as m:
            m.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
            assert model_file.flex_pays(sites, 16)


# -----------------------------------------------------------------------------
# One program: compiled as one graph, in DDP or not


PLAIN_COMPILE = torch.compile


def one_step(rank, world, folder, device):
    """A rank's share of four rows, through what trains, compiled; rank 0 writes loss, gradients and how many graphs."""
    torch.set_num_threads(1)
    graphs = []

    def trace(graph, inputs):
        from torch._dynamo.backends.debugging import aot_eager

        graphs.append(graph)
        return aot_eager(graph, inputs)

    machine = runtime.DistEnv(torch.device(device, rank) if device == "cuda" else torch.device(device), False, rank, world)
    if device == "cuda":
        torch.cuda.set_device(machine.device)
    else:
        torch.compile = partial(PLAIN_COMPILE, backend=trace)
    if world > 1:
        backend = "nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    base = random_weights(FAMILIES["gpt2"](gpt2_config(VOCAB, 320, n_layer=1, n_head=2, width=128)))  # 2 MB: two buckets
    model = random_weights(coprocessor.build("h2", base, N_L), seed=1).to(machine.device)
    run = runtime.wrap(model, machine, compiled=True)
    g = torch.Generator().manual_seed(0)
    tokens, sites = torch.randint(VOCAB, (4, 64), generator=g), torch.randint(64 - N_A, (4, M), generator=g)
    tokens, sites = (x[rank * 4 // world : (rank + 1) * 4 // world].to(machine.device) for x in (tokens, sites))
    loss = run(tokens, sites, coprocessor.ahead_tokens(tokens, sites, N_A)).mean()
    loss.backward()
    total = machine.all_reduce_sum(loss.detach().clone()) / world
    if rank == 0:
        found = {name: p.grad.cpu() for name, p in model.named_parameters()} | {"loss": total.cpu()}
        save_file(found | {"graphs": torch.tensor(len(graphs))}, f"{folder}/{world}.safetensors")
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


two_cards = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=two_cards)])
def test_two_compiled_ranks_equal_one_and_are_one_graph(device, tmp_path):
    one_step(0, 1, tmp_path, device)
    torch.multiprocessing.spawn(one_step, (2, str(tmp_path), device), nprocs=2)
    one, two = (load_file(tmp_path / f"{world}.safetensors") for world in (1, 2))
    if device == "cpu":
        assert one.pop("graphs") == two.pop("graphs") == 1
    for name, x in one.items():
        torch.testing.assert_close(two[name], x, rtol=1e-3, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")


def test_another_shape_is_compiled_and_one_beyond_the_limit_is_an_error():
    run = runtime.wrap(torch.nn.Linear(5, 5).to(DEVICE), runtime.DistEnv(DEVICE, False), compiled=True)
    with torch._dynamo.config.patch(recompile_limit=2):
        for rows in (4, 3, 4):
            run(torch.zeros(rows, 5, device=DEVICE))
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            run(torch.zeros(2, 5, device=DEVICE))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_flex_attention_is_part_of_the_graph():
    flex, dense = make("h2", "qwen3", 64, "flex"), make("h2", "qwen3", 64, "dense")
    run = runtime.wrap(flex, runtime.DistEnv(DEVICE, False), compiled=True)  # fullgraph: it breaks nothing
    tokens, sites = TOKENS[:1].to(DEVICE), SITES[:1].to(DEVICE)
    ahead = coprocessor.ahead_tokens(tokens, sites, N_A)
    close(run(tokens, sites, ahead), dense(tokens, sites, ahead), 1e-3)


# -----------------------------------------------------------------------------
# Whole runs


@pytest.fixture
def settings(tmp_path):
    """Of a tiny run whose branches are many enough for FlexAttention"""
    make_shards(tmp_path / "corpus", [30000])
    make_shards(tmp_path / "corpus", [3000], split="val")
    return dict(
        data=tmp_path / "corpus", init_from="random:tiny_gpt2", seq_len=64, n_sites=16, n_ahead=8, n_latents=8, lr=1e-3,
        batch_size=2, tokens_per_step=256, tokens=12 * 256, eval_every=6, eval_rows=3, log_every=1, checkpoint_every=3,
        device=DEVICE.type, precision="fp32", compile=CUDA,
    )  # fmt: skip


@needs_cuda
def test_a_run_goes_on_where_it_was_killed(settings, tmp_path):
    whole = run_here(train, settings, tmp_path / "whole")
    cut = cut_and_resume(train, settings, tmp_path / "cut", 6)
    same_training(whole, cut)


def test_between_two_lines_of_the_log_nothing_waits_for_the_device(settings, tmp_path, monkeypatch):
    """On CUDA torch itself watches; elsewhere, our code is seen where it asks a tensor for its value."""
    clip, asked, steps = torch.nn.utils.clip_grad_norm_, [], []

    def watched(name, method):
        def asks(x, *more):
            code = sys._getframe(1).f_code
            if 3 <= len(steps) < 9 and Path(code.co_filename).parent == ROOT:
                asked.append(f"{name} in {code.co_name}")
            return method(x, *more)

        return asks

    def at_every_step(parameters, norm):
        steps.append(0)
        if CUDA:
            torch.cuda.set_sync_debug_mode("error" if 3 <= len(steps) < 9 else "default")
        return clip(parameters, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", at_every_step)
    for name in ("item", "tolist", "cpu", "numpy", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, watched(name, getattr(torch.Tensor, name)))
    settings |= dict(log_every=100, eval_every=100, checkpoint_every=100)
    try:
        run_here(train, settings, tmp_path / "run")
    finally:
        if CUDA:
            torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 12 and asked == []


# -----------------------------------------------------------------------------
# Memory


@pytest.mark.parametrize("size", bench.SHAPES)
def test_a_full_size_step_takes_no_more_memory_than_is_said(size):
    most = bench.PEAK_GB[size]
    if not CUDA or torch.cuda.get_device_properties(0).total_memory < (most + 2) * 2**30:
        pytest.skip(f"needs a CUDA device of {most + 2} GB")
    found = bench.throughput(size, "h2", bench.SHAPES[size][1], steps=2)
    assert 0.5 * most < found["peak_gb"] <= most
