"""What it costs, as ratios measured side by side in one run.

    python bench.py                     # about four minutes on two CPU cores
    python bench.py --json=bench.json   # {"name": {"ratio": 1.2, "aim": 1.25}, ...}

Each pair of functions runs in turn, several times; the ratio is of the medians, so that a busy machine slows both.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import coprocessor
import countdown
from model import GPT2, gpt2_config

S, M, N_L, N_A = 1024, 64, 16, 16
CONFIG = gpt2_config(vocab_size=4096, context=2048, n_layer=6, n_head=6, width=384)


def seconds(*functions, rounds):
    """Median seconds of each, run in turn."""
    times = [[] for _ in functions]
    for i in range(rounds + 1):  # the first round warms up
        for f, t in zip(functions, times, strict=True):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            began = time.perf_counter()
            f()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if i:
                t.append(time.perf_counter() - began)
    return [statistics.median(t) for t in times]


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="also write the ratios to this file")
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each (default 5)")
    a = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    bf16 = device == "cuda" or torch.cpu._is_amx_tile_supported()
    torch.manual_seed(0)
    tokens = torch.randint(CONFIG.vocab_size, (4, S), device=device)
    sites = torch.randperm(S - N_A, device=device)[:M].sort().values[None]
    rows = {}

    def step(loss):
        def run():
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                loss().backward()

        return run

    # a plain step: ours, and the same of torch's own layers
    base = GPT2(CONFIG).init_weights().to(device)
    blocks = nn.Sequential(*(TorchBlock(CONFIG) for _ in range(CONFIG.n_layer)), nn.LayerNorm(CONFIG.width)).to(device)
    wte, wpe = nn.Embedding(CONFIG.vocab_size, CONFIG.width).to(device), nn.Embedding(CONFIG.context, CONFIG.width).to(device)
    place = torch.arange(S, device=device)
    plain = coprocessor.build("continued", base, 0)
    theirs = step(
        lambda: F.cross_entropy(F.linear(blocks(wte(tokens[:1]) + wpe(place))[:, :-1], wte.weight).flatten(0, 1), tokens[0, 1:])
    )
    t_ours, t_torch = seconds(step(lambda: plain(tokens[:1]).mean()), theirs, rounds=a.rounds)
    rows["plain step / the same of torch's own layers"] = (t_ours / t_torch, 1.0, t_ours, t_torch)

    # an h2 step: 4,032 positions and 1,024 targets, against a plain loss on 4,096 positions and 1,024 targets
    model = coprocessor.build("h2", GPT2(CONFIG).init_weights(), N_L).to(device)

    def equal_positions():
        hidden, _ = base.prefix(tokens)
        return coprocessor.token_nll(base, hidden[:, 3::4], tokens[:, 3::4]).mean()

    def h2(path):
        def loss():
            model.base.attention = model.coprocessor.attention = path
            return model(tokens[:1], sites, coprocessor.ahead_tokens(tokens[:1], sites, N_A)).mean()

        return step(loss)

    t_h2, t_plain, t_dense = seconds(h2("auto"), step(equal_positions), h2("dense"), rounds=a.rounds)
    rows["h2 step / plain loss at equal positions and targets"] = (t_h2 / t_plain, 1.25, t_h2, t_plain)
    rows["h2 step, dense mask / grouped or flex"] = (t_dense / t_h2, 1.5, t_dense, t_h2)

    # the Countdown generator: a minute for the paper's 262,144 problems of five operands
    began = time.perf_counter()
    countdown.generate(5, seed=0)
    t_problems = time.perf_counter() - began
    rows["262,144 five-operand problems / a minute"] = (t_problems / 60, 1.0, t_problems, 60.0)

    print(f"{device}, {torch.get_num_threads()} threads, {'bf16' if bf16 else 'fp32'}, torch {torch.__version__}")
    print("| what | ratio | aim | seconds |")
    print("|---|---|---|---|")
    for name, (ratio, aim, x, y) in rows.items():
        print(f"| {name} | {ratio:.2f} | {aim} | {x:.3f} / {y:.3f} |")
    if a.json:
        with open(a.json, "w") as f:
            json.dump({name: {"ratio": ratio, "aim": aim} for name, (ratio, aim, *_) in rows.items()}, f, indent=2)


if __name__ == "__main__":
    main()
