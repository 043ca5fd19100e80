"""The full-size shapes on any machine: one h2 step and a round trip through save and load, with random weights.

    python tests/full_size.py            # GPT-2 124M and Qwen-3 0.6B; about 12 GB of memory

Not part of `make test`, whose time it would not fit.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from coprocessor import ahead_tokens, build
from model import load_pretrained, random_model

PARAMETERS = {"gpt2": 124_439_808, "qwen3-0.6b": 596_049_920}

for size, expected in PARAMETERS.items():
    began = time.time()
    torch.manual_seed(0)
    base = random_model(size)
    count = sum(p.numel() for p in base.parameters())
    assert count == expected, f"{size} has {count:,} parameters, not {expected:,}"
    tokens = torch.randint(base.config.vocab_size, (1, 64))
    with torch.no_grad():
        before = base.logits(base.prefix(tokens)[0][:, -1])
    with tempfile.TemporaryDirectory() as folder:
        base.save_pretrained(folder)
        again = load_pretrained(folder)
        with torch.no_grad():
            assert torch.equal(again.logits(again.prefix(tokens)[0][:, -1]), before)
        del again
    model = build("h2", base, n_latents=16)
    sites = torch.tensor([[3, 17, 40]])
    nll = model(tokens, sites, ahead_tokens(tokens, sites, 16))
    nll.mean().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing, missing
    trained = sum(p.numel() for p in model.parameters())
    print(f"{size}: {count:,} parameters, {trained:,} under h2; loss {nll.mean().item():.3f}; {time.time() - began:.0f} s")
