"""What it costs: two sides of a ratio, measured in turn in one run, so that a busy machine slows both.

    python -m paper.bench                       # all parts but gpu; four minutes on two idle CPU cores
    python -m paper.bench training decoding     # some of training, decoding, reasoning, problems
    python -m paper.bench gpu                   # the paper's shapes on one CUDA device, with random weights
    python -m paper.bench --json=bench.json     # {"name": {"ratio": 1.2, "aim": 1.25}, ...}

The ratio is of the medians of several rounds.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace

from configurator import Parser, one_line_errors

import torch
import torch.distributed as dist

import coprocessor
import countdown
import runtime
import train
from model import FAMILIES, GPT2, gpt2_config, random_model, token_nll

S, M, N_L, N_A = 1024, 64, 16, 16
CONFIG = gpt2_config(vocab_size=4096, context=2048, n_layer=6, n_head=6, width=384)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BF16 = DEVICE == "cuda" or torch.cpu._is_amx_tile_supported()


def seconds(*functions, rounds=5):
    """Median seconds of each, run in turn, after a first round that warms up."""
    times = [[] for _ in functions]
    for _ in range(rounds + 1):
        for f, t in zip(functions, times, strict=True):
            began = time.perf_counter()
            f()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            t.append(time.perf_counter() - began)
    return [statistics.median(t[1:]) for t in times]


def step(loss):
    """-> a function that runs the forward and backward passes of loss()"""

    def run():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=BF16):
            value = loss()
        value.backward()

    return run


def build(variant, path="auto"):
    model = coprocessor.build(variant, GPT2(CONFIG).init_weights(), N_L)
    model.base.attention = path
    if model.has_coprocessor:
        model.coprocessor.attention = path
    return model.to(DEVICE)


def in_seconds(x, y, aim=None):
    return x / y, aim, f"{x:.3f} s / {y:.3f} s"


# -----------------------------------------------------------------------------
# Each part -> {name: (ratio, aim or None, the two sides as text)}


def training():
    """A step, forward and backward: h2 against plain at equal positions and targets; the dense mask against h2."""
    tokens = torch.randint(CONFIG.vocab_size, (4, S), device=DEVICE)
    sites = torch.randperm(S - N_A, device=DEVICE)[None, :M].sort().values
    plain = build("continued")

    def equal_positions():  # 4,096 positions and 1,024 targets; h2 has 4,032 and 1,024
        hidden, _ = plain.base.prefix(tokens)
        return token_nll(plain.base, hidden[:, 3::4], tokens[:, 3::4]).mean()

    def of_h2(path):
        model, ahead = build("h2", path), coprocessor.ahead_tokens(tokens[:1], sites, N_A)
        return step(lambda: model(tokens[:1], sites, ahead).mean())

    t_h2, t_plain, t_dense = seconds(of_h2("auto"), step(equal_positions), of_h2("dense"))
    return {
        "h2 step / plain loss at equal positions and targets": in_seconds(t_h2, t_plain, 1.02),
        "dense mask / h2 step": in_seconds(t_dense, t_h2, 1.5),
    }


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


def decoding():
    """Greedy decoding of 128 tokens: transformers' generate against ours."""
    shared = dict(n_kv_head=CONFIG.n_head // 2, mlp_width=8 * CONFIG.width // 3, rope_theta=1e6)
    rows = {}
    for config in (CONFIG, replace(CONFIG, family="qwen3", **shared)):
        model = FAMILIES[config.family](config).init_weights().to(DEVICE)
        generate = by_transformers(model)
        for prompt in (64, 512):
            for batch, aim in ((1, 1.3), (16, 1.5)):
                tokens = torch.randint(config.vocab_size, (batch, prompt), device=DEVICE)
                lengths = torch.full((batch,), prompt, device=DEVICE)
                theirs = lambda: generate(tokens, 128)  # noqa: E731, B023
                ours = lambda: model.generate(tokens, lengths, 128)  # noqa: E731, B023
                name = f"transformers' generate / ours, prompt {prompt}, batch {batch}, {config.family}"
                rows[name] = in_seconds(*seconds(theirs, ours, rounds=3), aim)
    return rows


def coconut_without_cache(model, tokens, answer):
    """The published recipe's arithmetic: N_L passes over all that there is so far, and one more -> loss (a scalar)

    Everything is one branch at site -1, before the first token, so that it may be fed embeddings.
    """
    base, before = model.base, torch.full((len(tokens), 1), -1, device=tokens.device)
    nothing = [tuple(t[:, :, :0] for t in pair) for pair in base.prefix(tokens[:, :1])[1]]

    def run(x):
        positions = torch.arange(x.size(1), device=x.device).expand(len(x), 1, -1)
        return base.branch(x[:, None], nothing, before, positions)[0][:, 0]  # (B, n, C)

    x = base.embed(tokens)
    for _ in range(model.n_latents):
        x = torch.cat([x, run(x)[:, -1:]], dim=1)
    end = torch.full_like(tokens[:, :1], model.end)
    hidden = run(torch.cat([x, base.embed(torch.cat([end, answer[:, :-1]], dim=1))], dim=1))
    return token_nll(base, hidden[:, x.size(1) :], answer).mean()


def reasoning():
    """A step of Coconut, as published and with a cache; a step of h2 whose latents spell theirs."""
    tokens, answer = (torch.randint(CONFIG.vocab_size - 3, (8, n), device=DEVICE) for n in (128, 16))
    model, sites = build("coconut"), torch.full((8, 1), 127, device=DEVICE)

    def cached():
        return model(tokens, sites, answer[:, None]).mean()

    def uncached():
        return coconut_without_cache(model, tokens, answer)

    def spelled(weight):
        """h2 at tiny ProsQA's shape in stage 2: two steps of six tokens, two latents each"""
        h2 = coprocessor.build("h2", random_model("mini_qwen3", 330), 4, latents_per_step=2, step_weight=weight).to(DEVICE)
        asked, steps = (torch.randint(330, shape, device=DEVICE) for shape in ((32, 140), (32, 2, 6)))
        return step(lambda: h2(asked, torch.full((32, 1), 139, device=DEVICE), asked[:, None, :8], steps).mean())

    torch.testing.assert_close(cached(), uncached(), atol=1e-4, rtol=0)
    rows = {"Coconut step, 17 full passes / ours": in_seconds(*seconds(step(uncached), step(cached), rounds=3), 10)}
    spelling = seconds(spelled(1.0), spelled(0.0), rounds=15)
    return rows | {"h2 step with step_weight 1 / without, tiny ProsQA, stage 2": in_seconds(*spelling, 1.3)}


def problems():
    """The Countdown generator: the paper's 262,144 problems of five operands."""
    began = time.perf_counter()
    countdown.generate(5, seed=0)
    return {"262,144 five-operand problems / 15 seconds": in_seconds(time.perf_counter() - began, 15.0, 1.0)}


# -----------------------------------------------------------------------------
# The paper's shapes

SHAPES = {"gpt2": (40e9, 12), "qwen3-0.6b": (8e9, 4)}  # the paper's tokens, our sequences per forward pass
PEAK_GB = {"gpt2": 27, "qwen3-0.6b": 50}  # of an h2 step at most; traced without a device: about 24 and 46
AIMS = {"A100": 0.45, "H100": 0.35, "H200": 0.35}  # of MFU; the faster the chip, the more its memory holds it up


def throughput(size, variant, batch, steps=10, compiled=True, **shape):
    """Training steps with random weights, compiled and in DDP as torchrun runs them

    -> dict of tokens_per_second, mfu (None where the chip's peak is unknown), peak_gb
    """
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

    # a rank without others: DDP has its part in what is measured, as in a run of eight
    dist.init_process_group("nccl" if DEVICE == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        run = runtime.wrap(model, machine, compiled)
        (took,) = seconds(lambda: [once() for _ in range(steps)], rounds=1)
    finally:
        dist.destroy_process_group()
    speed, peak_flops = batch * steps / took, machine.peak_flops()  # sequences per second
    return dict(
        tokens_per_second=speed * c.seq_len,
        mfu=speed * train.flops_per_sequence(model, c)[1] / peak_flops if peak_flops else None,
        peak_gb=torch.cuda.max_memory_allocated() / 2**30 if machine.device.type == "cuda" else None,
    )  # fmt: skip


def gpu():
    """Prints a table for the paper's shapes on one device, and how long its budgets would take on eight."""
    if DEVICE != "cuda":
        raise ValueError("no CUDA device here: this part is not measured")
    card, rows = torch.cuda.get_device_name(), {}
    aim = next((aim for chip, aim in AIMS.items() if chip in card), None)
    print(f"{card}, torch {torch.__version__}, bf16, compiled, one rank in DDP, fused AdamW (MFU 0: its peak is unknown)")
    print("| shape | variant | batch | tokens/s | MFU | peak GB | hours on 8 |\n|---|---|---|---|---|---|---|")
    for size, (budget, batch) in SHAPES.items():
        for variant in ("h2", "continued", "soft", "liu", "h1"):
            torch.compiler.reset()
            r = throughput(size, variant, batch)
            told = f"{r['tokens_per_second']:,.0f} | {r['mfu'] or 0:.1%} | {r['peak_gb']:.1f}"
            hours = budget / r["tokens_per_second"] / 8 / 3600
            print(f"| {size} | {variant} | {batch} | {told} | {hours:.0f} |", flush=True)
            rows |= {f"MFU of {variant} on {size}": (r["mfu"], aim, told)} if r["mfu"] else {}
    return rows


PARTS = {f.__name__: f for f in (training, decoding, reasoning, problems, gpu)}


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", choices=[*PARTS, []], help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--json", help="also write the ratios to this file")
    a = parser.parse_args(argv)
    torch.manual_seed(0)
    rows = {}
    for name in a.parts or [name for name in PARTS if name != "gpu"]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows |= PARTS[name]()
    print(f"{DEVICE}, {torch.get_num_threads()} threads, {'bf16' if BF16 else 'fp32'}, torch {torch.__version__}")
    print("| what | ratio | aim | of |\n|---|---|---|---|")
    for name, (ratio, aim, sides) in rows.items():
        print(f"| {name} | {ratio:.2f} | {f'{aim:.2f}' if aim else ''} | {sides} |")
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({name: {"ratio": ratio, "aim": aim} for name, (ratio, aim, _) in rows.items()}, f, indent=2)


if __name__ == "__main__":
    one_line_errors(main)
