"""What it costs: everything measured side by side in one run, and told as ratios.

    python -m paper.bench                                   # all parts; about ten minutes on two CPU cores
    python -m paper.bench training memory                   # some of them
    python -m paper.bench growth --figure=out/growth.png    # how a step grows with S, M, N_L and N_A
    python -m paper.bench gpu                               # the paper's shapes on one CUDA device, with random weights
    python -m paper.bench --json=bench.json                 # {"name": {"ratio": 1.2, "aim": 1.25}, ...}

The two sides of a ratio run in turn, several times, and the ratio is of the medians, so that a busy machine slows both.
Memory is the peak of a process of its own, over what it held before that step.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

import coprocessor
import countdown
import model as model_file
import runtime
import train
from model import FAMILIES, GPT2, gpt2_config, random_model, token_nll
from questions import counted_passes

S, M, N_L, N_A = 1024, 64, 16, 16
GROWS_FROM = dict(seq_len=512, n_sites=32, n_latents=8, n_ahead=8)
CONFIG = gpt2_config(vocab_size=4096, context=2048, n_layer=6, n_head=6, width=384)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BF16 = DEVICE == "cuda" or torch.cpu._is_amx_tile_supported()


def seconds(*functions, rounds=5, warm_up=True):
    """Median seconds of each, run in turn."""
    times = [[] for _ in functions]
    for i in range(rounds + warm_up):
        for f, t in zip(functions, times, strict=True):
            began = time.perf_counter()
            f()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            if i >= warm_up:
                t.append(time.perf_counter() - began)
    return [statistics.median(t) for t in times]


def step(loss):
    """-> a function that runs the forward and backward passes of loss()"""

    def run():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=BF16):
            value = loss()
        value.backward()

    return run


def draw(rows, length, n_sites, n_ahead):
    """Random tokens (rows, length), sorted sites (rows, n_sites)"""
    tokens = torch.randint(CONFIG.vocab_size, (rows, length), device=DEVICE)
    sites = torch.stack([torch.randperm(length - n_ahead, device=DEVICE)[:n_sites].sort().values for _ in range(rows)])
    return tokens, sites


def build(variant, path="auto", n_latents=None):
    model = coprocessor.build(variant, GPT2(CONFIG).init_weights(), n_latents or N_L)
    model.base.attention = path
    if model.has_coprocessor:
        model.coprocessor.attention = path
    return model.to(DEVICE)


def loss_of(model, tokens, sites, n_ahead):
    return lambda: model(tokens, sites, coprocessor.ahead_tokens(tokens, sites, n_ahead)).mean()


# -----------------------------------------------------------------------------
# Each part -> {name: (ratio, aim or None, the two sides as text)}


def in_seconds(x, y, aim=None):
    return x / y, aim, f"{x:.3f} s / {y:.3f} s"


class TorchBlock(nn.Module):
    """A GPT-2 block of torch's own layers and no more."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        self.norm_1, self.norm_2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.qkv, self.out = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.mlp = nn.Sequential(nn.Linear(c.width, c.mlp_width), nn.GELU(approximate="tanh"), nn.Linear(c.mlp_width, c.width))

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (self.c.n_head, -1)).transpose(1, 2) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_2(x))


def training():
    """One step, forward and backward: plain against torch's own layers; h2 against plain at equal positions, and dense."""
    tokens, sites = draw(4, S, M, N_A)
    plain = build("continued")
    blocks = nn.Sequential(*(TorchBlock(CONFIG) for _ in range(CONFIG.n_layer)), nn.LayerNorm(CONFIG.width)).to(DEVICE)
    wte, wpe = nn.Embedding(CONFIG.vocab_size, CONFIG.width).to(DEVICE), nn.Embedding(CONFIG.context, CONFIG.width).to(DEVICE)

    def by_torch():
        hidden = blocks(wte(tokens[:1]) + wpe.weight[:S])[:, :-1]
        return F.cross_entropy(F.linear(hidden, wte.weight).flatten(0, 1), tokens[0, 1:])

    ours, theirs = seconds(step(lambda: plain(tokens[:1]).mean()), step(by_torch))
    rows = {"plain step / the same of torch's own layers": in_seconds(ours, theirs, 1.0)}

    def equal_positions():  # 4,096 positions and 1,024 targets; h2 has 4,032 and 1,024
        hidden, _ = plain.base.prefix(tokens)
        return token_nll(plain.base, hidden[:, 3::4], tokens[:, 3::4]).mean()

    one = tokens[:1], sites[:1], N_A
    fast, dense = (step(loss_of(build("h2", path), *one)) for path in ("auto", "dense"))
    t_h2, t_plain, t_dense = seconds(fast, step(equal_positions), dense)
    rows["h2 step / plain loss at equal positions and targets"] = in_seconds(t_h2, t_plain, 1.25)
    rows["dense mask / h2 step"] = in_seconds(t_dense, t_h2, 1.5)
    return rows


def peak(job):
    """In a process of its own -> (bytes by which the peak of a step exceeds that of the smallest one, seconds)

    The smallest step holds the weights and their gradients, too.
    """
    torch.manual_seed(0)
    model, small, large = MEMORY_JOBS[job]()
    small()
    model.zero_grad(set_to_none=True)
    before = peak_bytes()
    began = time.perf_counter()
    large()
    return peak_bytes() - before, time.perf_counter() - began


def peak_bytes():
    """Of this process so far; on CUDA, of the device's memory."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status", encoding="utf-8") as f:  # getrusage would also count what the parent had
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def h2_job(path):
    model = build("h2", path)
    tokens, sites = draw(1, S, M, N_A)
    return (
        model,
        step(loss_of(model, tokens[:, :64], sites[:, :1].clamp(max=40), N_A)),
        step(loss_of(model, tokens, sites, N_A)),
    )


def loss_job(at_once):
    """at_once: how many logits. The loss of 1,024 targets over Qwen-3's 151,936 entries, 1,024 wide."""
    model_file.LOGITS_AT_ONCE = at_once
    model = GPT2(gpt2_config(vocab_size=151936, context=S, n_layer=1, n_head=16, width=1024)).to(DEVICE)
    hidden = torch.randn(S, 1024, device=DEVICE, requires_grad=True)
    targets = torch.randint(151936, (S,), device=DEVICE)
    return model, *(step(lambda n=n: token_nll(model, hidden[:n], targets[:n]).mean()) for n in (1, S))


def pass1_job(variant):
    """Pass 1 of a frozen Base builds no graph; of one that learns it does, and has a backward pass."""
    model, (tokens, _) = build(variant), draw(4, S, M, N_A)

    def run(tokens):
        return lambda: sum(k.sum() + v.sum() for k, v in model.pass1_read(tokens))

    functions = run(tokens[:, :64]), run(tokens)
    return model, *(map(step, functions) if model.trains_base else functions)


MEMORY_JOBS = {
    "h2": lambda: h2_job("auto"),
    "h2, dense": lambda: h2_job("dense"),
    "chunked": lambda: loss_job(model_file.LOGITS_AT_ONCE),
    "unchunked": lambda: loss_job(2**40),
    "frozen": lambda: pass1_job("liu"),
    "learning": lambda: pass1_job("h2"),
}


def memory():
    """Peak memory of a step, and the time that pass 1 saves where the Base is frozen."""
    found = {}
    for job in MEMORY_JOBS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[job] = pool.apply(peak, (job,))

    def in_megabytes(x, y, aim=None):
        x, y = found[x][0], found[y][0]
        return x / y, aim, f"{x / 2**20:,.0f} MB / {y / 2**20:,.0f} MB"

    return {
        # 595 MB of both are what all other layers keep; 230 MB more are each group's copy of its keys and values
        "memory of the h2 step / dense mask": in_megabytes("h2", "h2, dense", 0.92),
        "memory of Qwen-3's loss / unchunked logits": in_megabytes("chunked", "unchunked", 0.3),
        "time of Qwen-3's loss / unchunked logits": in_seconds(found["chunked"][1], found["unchunked"][1]),
        "memory of pass 1, frozen / learning": in_megabytes("frozen", "learning"),
        "time of pass 1, frozen / learning": in_seconds(found["frozen"][1], found["learning"][1]),
    }


@torch.no_grad()
def recompute(model, tokens, n_tokens):
    """Greedy decoding without a cache: tokens (B,S) -> (B, n_tokens)"""
    start = tokens.size(1)
    for _ in range(n_tokens):
        hidden, _ = model.prefix(tokens)
        tokens = torch.cat([tokens, model.logits(hidden[:, -1:]).argmax(dim=-1)], dim=1)
    return tokens[:, start:]


def decoding():
    """Greedy decoding after 64 tokens, 2 layers x 128: with the cache, and without. Then CONFIG's against transformers'."""
    model = (
        GPT2(replace(CONFIG, n_layer=2, n_head=4, n_kv_head=4, head_dim=32, width=128, mlp_width=512)).init_weights().to(DEVICE)
    )
    rows = {}
    for batch in (1, 32):
        tokens = torch.randint(CONFIG.vocab_size, (batch, 64), device=DEVICE)
        lengths = torch.full((batch,), 64, device=DEVICE)
        for n in (64, 256):
            cached = lambda: model.generate(tokens, lengths, n)  # noqa: E731, B023
            slow = lambda: recompute(model, tokens, n)  # noqa: E731, B023
            t_slow, t_cached = seconds(slow, cached, rounds=3 if n == 64 else 1, warm_up=n == 64)
            rows[f"no cache / cache, {n} tokens, batch {batch}"] = in_seconds(t_slow, t_cached)
    return rows | against_transformers()


def by_transformers(model):
    """The same weights in transformers -> a function that decodes greedily: tokens (B,S), n -> (B,n)"""
    from transformers import AutoModelForCausalLM  # only tests and this comparison need it

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(DEVICE)

    def generate(tokens, n):
        how = dict(do_sample=False, min_new_tokens=n, max_new_tokens=n, eos_token_id=None, pad_token_id=0)
        return hf.generate(tokens, attention_mask=torch.ones_like(tokens), **how)[:, tokens.size(1) :]

    return generate


def against_transformers():
    """Greedy decoding of 128 tokens: transformers' generate against ours."""
    if not importlib.util.find_spec("transformers"):
        print("transformers is not installed: decoding is not compared with it", file=sys.stderr)
        return {}
    shared = dict(n_kv_head=CONFIG.n_head // 2, mlp_width=8 * CONFIG.width // 3, rope_theta=1e6)
    rows = {}
    for config in (CONFIG, replace(CONFIG, family="qwen3", **shared)):
        model = FAMILIES[config.family](config).init_weights().to(DEVICE)
        generate = by_transformers(model)
        for prompt in (64, 512):
            for batch in (1, 16):
                tokens = torch.randint(config.vocab_size, (batch, prompt), device=DEVICE)
                lengths = torch.full((batch,), prompt, device=DEVICE)
                theirs = lambda: generate(tokens, 128)  # noqa: E731, B023
                ours = lambda: model.generate(tokens, lengths, 128)  # noqa: E731, B023
                name = f"transformers' generate / ours, prompt {prompt}, batch {batch}, {config.family}"
                rows[name] = in_seconds(*seconds(theirs, ours, rounds=3, warm_up=batch == 1), 1.5)
    return rows


def coconut_without_cache(model, tokens, answer):
    """The published recipe's arithmetic: N_L passes over all that there is so far, and one more -> loss (a scalar)

    Everything is one branch that hangs before the first token, so that it may be fed embeddings.
    """
    base, before = model.base, torch.full((len(tokens), 1), -1, device=tokens.device)
    nothing = [tuple(t[:, :, :0] for t in pair) for pair in base.prefix(tokens[:, :1])[1]]

    def run(x):
        return base.branch(x[:, None], nothing, before)[0][:, 0]  # (B, n, C)

    x = base.embed(tokens)
    for _ in range(model.n_latents):
        x = torch.cat([x, run(x)[:, -1:]], dim=1)
    end = torch.full_like(tokens[:, :1], model.end)
    hidden = run(torch.cat([x, base.embed(torch.cat([end, answer[:, :-1]], dim=1))], dim=1))
    return token_nll(base, hidden[:, x.size(1) :], answer).mean()


def reasoning():
    """What the latents of Coconut cost, made one after the other, against those of h2, made all at once."""
    tokens, answer = (torch.randint(CONFIG.vocab_size - 3, (8, n), device=DEVICE) for n in (128, 16))
    lengths = torch.full((8,), 128, device=DEVICE)
    coconut, h2 = build("coconut"), build("h2")
    passes, ask = [], []
    for model in (coconut, h2):
        ask.append(lambda model=model: model.generate(tokens[:1], lengths[:1], 1))
        with counted_passes(model) as count:
            ask[-1]()
        passes.append(count[0])
    ratio = passes[0] / passes[1]
    rows = {"passes until the answer begins, Coconut / h2": (ratio, 17 / 3, f"{passes[0]} / {passes[1]}")}
    rows["time until the answer begins, Coconut / h2"] = in_seconds(*seconds(*ask, rounds=9))

    def cached():
        return coconut(tokens, lengths[:, None] - 1, answer[:, None]).mean()

    def uncached():
        return coconut_without_cache(coconut, tokens, answer)

    torch.testing.assert_close(cached(), uncached(), atol=1e-4, rtol=0)
    t_slow, t_fast = seconds(step(uncached), step(cached), rounds=3)
    rows["Coconut step, 17 full passes / ours"] = in_seconds(t_slow, t_fast, 3.0)
    return rows


def problems():
    """The Countdown generator: a minute for the paper's 262,144 problems of five operands."""
    began = time.perf_counter()
    countdown.generate(5, seed=0)
    return {"262,144 five-operand problems / a minute": in_seconds(time.perf_counter() - began, 60.0, 1.0)}


def rank_steps(rank, world, folder, rounds):
    """One rank's share of 8 sequences a step, one thread: rank 0 writes the median seconds to folder/<world>."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
    config = replace(CONFIG, n_layer=2)
    run = DistributedDataParallel(coprocessor.build("h2", GPT2(config).init_weights(), 8))
    torch.manual_seed(rank)
    tokens = torch.randint(CONFIG.vocab_size, (8 // world, 256))
    sites = torch.stack([torch.randperm(240)[:16] for _ in tokens])
    loss = loss_of(run, tokens, sites, N_A)

    def once():
        loss().backward()
        dist.barrier()

    (median,) = seconds(once, rounds=rounds)
    if rank == 0:
        with open(os.path.join(folder, str(world)), "w", encoding="utf-8") as f:
            f.write(str(median))
    dist.destroy_process_group()


def ranks():
    """One rank on one core against two on two, the same 8 sequences a step: 0.5 would be no overhead."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for world in (1, 2):
            torch.multiprocessing.spawn(rank_steps, (world, folder, 5), nprocs=world)
            with open(os.path.join(folder, str(world)), encoding="utf-8") as f:
                found.append(float(f.read()))
    return {"two ranks, a core each / one": in_seconds(found[1], found[0])}


# -----------------------------------------------------------------------------
# How a step grows


def growth(figure):
    """An h2 step as S, M, N_L and N_A double -> {name: (measured, predicted, text)}; predicted by train.row_cost."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shapes = {"start": GROWS_FROM} | {name: GROWS_FROM | {name: 2 * value} for name, value in GROWS_FROM.items()}
    steps, flops = [], []
    for shape in shapes.values():
        c = train.Config(variant="h2", **shape)
        model = build("h2", n_latents=c.n_latents)
        steps.append(step(loss_of(model, *draw(1, c.seq_len, c.n_sites, c.n_ahead), c.n_ahead)))
        flops.append(train.row_cost(model, c)[1])
    times = seconds(*steps)
    rows = {}
    for i, name in enumerate(list(shapes)[1:], 1):
        rows[f"h2 step, {name} doubled"] = (times[i] / times[0], flops[i] / flops[0], f"{times[i]:.3f} s / {times[0]:.3f} s")
    drawing, ax = plt.subplots(figsize=(6.5, 3.6))
    for offset, label, column in ((-0.2, "measured", 0), (0.2, "counted operations", 1)):
        ax.bar([i + offset for i in range(4)], [row[column] for row in rows.values()], width=0.38, label=label)
    ax.set_xticks(
        range(4), [f"{name}\n{v} to {2 * v}" for name, v in zip(("S", "M", "N_L", "N_A"), GROWS_FROM.values(), strict=True)]
    )
    ax.axhline(1, color="black", lw=0.8)
    ax.set(ylabel="times the step before doubling", title=f"An h2 step, {DEVICE}")
    ax.set_ylim(top=1.2 * max(max(row[:2]) for row in rows.values()))
    ax.legend(frameon=False, ncol=2, loc="upper right")
    ax.spines[["top", "right"]].set_visible(False)
    os.makedirs(os.path.dirname(figure) or ".", exist_ok=True)
    drawing.tight_layout()
    drawing.savefig(figure, dpi=130)
    print(f"wrote {figure}")
    return rows


# -----------------------------------------------------------------------------
# The paper's shapes

SHAPES = {"gpt2": (40e9, 12), "qwen3-0.6b": (8e9, 4)}  # the paper's tokens, our sequences per forward pass
PEAK_GB = {"gpt2": 27, "qwen3-0.6b": 50}  # of an h2 step at most; traced without a device: about 24 and 46
AIMS = {"A100": 0.45, "H100": 0.35, "H200": 0.35}  # of MFU; the faster the chip, the more its memory holds it up


@contextlib.contextmanager
def group_of_one():
    """A rank without others: DDP then has its part in what is measured, as in a run of eight."""
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def throughput(size, variant, batch, steps=10, compiled=True, **shape):
    """Training steps with random weights, compiled and in DDP as torchrun runs them -> dict of batch, tokens_per_second,
    mfu (None where the chip's peak is unknown), peak_gb."""
    c = train.Config(variant=variant, batch_size=batch, **shape)
    machine = runtime.start(DEVICE)
    base = random_model(size).to(machine.device)
    limit = coprocessor.site_limit(c, base.config.context)
    model = coprocessor.build(variant, base, c.n_latents).to(machine.device).train()
    optimizer = train.make_optimizer(model, c, machine.device)
    tokens = torch.randint(base.config.vocab_size, (batch, c.seq_len), device=machine.device)
    sites = torch.stack([torch.randperm(limit)[: c.n_sites].sort().values for _ in range(batch)]).to(machine.device)
    ahead = coprocessor.ahead_tokens(tokens, sites, c.n_ahead)
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def once():
        with machine.autocast():
            nll = run(tokens, sites, ahead)
        nll.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), c.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with group_of_one():
        run = runtime.wrap(model, machine, compiled)
        once()  # compiles
        (took,) = seconds(lambda: [once() for _ in range(steps)], rounds=1, warm_up=False)
    speed, peak_flops = batch * steps / took, machine.peak_flops()  # sequences per second
    return dict(
        batch=batch,
        tokens_per_second=speed * c.seq_len,
        mfu=speed * train.row_cost(model, c)[1] / peak_flops if peak_flops else None,
        peak_gb=torch.cuda.max_memory_allocated() / 2**30 if machine.device.type == "cuda" else None,
    )


def fitting(size, variant, batch, **more):
    """throughput with so many sequences, or half as many, and so on: the most that the device has memory for"""
    torch.compiler.reset()
    try:
        return throughput(size, variant, batch, **more)
    except torch.cuda.OutOfMemoryError:
        if batch == 1:
            raise
    torch.cuda.empty_cache()  # here, where the exception no longer holds what did not fit
    return fitting(size, variant, batch // 2, **more)


def told(found):
    """What fitting found, in words"""
    mfu = f", MFU {found['mfu']:.1%}" if found["mfu"] else ""
    return f"batch {found['batch']}, {found['tokens_per_second']:,.0f} tokens/s{mfu}, peak {found['peak_gb']:.1f} GB"


def gpu():
    """Prints a table for the paper's shapes on one device, and how long its budgets would take on eight."""
    if DEVICE != "cuda":
        raise SystemExit("no CUDA device here: this part is not measured")
    card, rows = torch.cuda.get_device_name(), {}
    aim = next((aim for chip, aim in AIMS.items() if chip in card), None)
    print(f"{card}, torch {torch.__version__}, bf16, compiled, DDP of one rank, fused AdamW")
    print("| shape | variant | | hours for the paper's budget on 8 (the paper: 72) |")
    print("|---|---|---|---|")
    for size, (budget, batch) in SHAPES.items():
        for variant in ("continued", "soft", "liu", "h1", "h2"):
            r = fitting(size, variant, batch)
            print(f"| {size} | {variant} | {told(r)} | {budget / r['tokens_per_second'] / 8 / 3600:.0f} |", flush=True)
            if r["mfu"]:
                rows[f"MFU of {variant} on {size}"] = (r["mfu"], aim, told(r))
    return rows


PARTS = {f.__name__: f for f in (training, memory, decoding, reasoning, problems, ranks)}
PARTS |= {"growth": growth, "gpu": gpu}
USUAL = [name for name in PARTS if name != "gpu"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join(PARTS)} (default: all but gpu)")
    parser.add_argument("--json", help="also write the ratios to this file")
    parser.add_argument("--figure", default="out/growth.png", help="where growth draws (default out/growth.png)")
    a = parser.parse_args()
    for name in a.parts:
        if name not in PARTS:
            parser.error(f"unknown part {name!r}: some of {', '.join(PARTS)}")
    torch.manual_seed(0)
    rows = {}
    for name in a.parts or USUAL:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows |= PARTS[name](a.figure) if name == "growth" else PARTS[name]()
    print(f"{DEVICE}, {torch.get_num_threads()} threads, {'bf16' if BF16 else 'fp32'}, torch {torch.__version__}")
    print("| what | ratio | aim, or expected | of |")
    print("|---|---|---|---|")
    for name, (ratio, aim, sides) in rows.items():
        print(f"| {name} | {ratio:.2f} | {f'{aim:.2f}' if aim else ''} | {sides} |")
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({name: {"ratio": ratio, "aim": aim} for name, (ratio, aim, _) in rows.items()}, f, indent=2)


if __name__ == "__main__":
    main()
