"""Is evaluate.py equal to lm-evaluation-harness? On real rows, with tiny random models and the real tokenizers.

    pip install 'lm-eval[hf]==0.4.13'
    python tests/lm_eval_parity.py --limit=300               # needs the benchmarks and tokenizers, or their caches
    python tests/lm_eval_parity.py --limit=100 --speed       # and how fast both are, in turns

Prints the largest difference of a summed log-likelihood, which must be below 1e-3, and whether all scores agree; also where
contexts are cut, at a model length of 56. Not part of the test suite: test_evaluate.py pins every format on rows of its own.
"""

import argparse
import base64
import json
import sys
import tempfile
import time
from pathlib import Path

import datasets
import tiktoken
import torch
import transformers
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from transformers.convert_slow_tokenizer import TikTokenConverter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from helpers import random_weights

import evaluate
import questions
from data import hub_file
from paper.harness import Run


def gpt2(folder):
    config = transformers.GPT2Config(vocab_size=50257, n_positions=1024, n_embd=64, n_layer=2, n_head=4)
    random_weights(transformers.GPT2LMHeadModel(config)).save_pretrained(folder)
    encoding = tiktoken.get_encoding("gpt2")
    vocabulary = Path(folder) / "gpt2.tiktoken"
    ranks = sorted(encoding._mergeable_ranks.items(), key=lambda item: item[1])
    vocabulary.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks))
    fast = TikTokenConverter(str(vocabulary), encoding._pat_str, extra_special_tokens=["<|endoftext|>"]).converted()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|endoftext|>")


def qwen3(folder):
    config = transformers.Qwen3Config(
        vocab_size=151936, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    random_weights(transformers.Qwen3ForCausalLM(config)).save_pretrained(folder)
    path = Path(folder) / "tokenizer.json"
    path.write_bytes(Path(hub_file("Qwen/Qwen3-0.6B", "tokenizer.json", repo_type="model")).read_bytes())
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token="<|endoftext|>")


def from_cache(path, name=None, **_):
    """Stands in for datasets.load_dataset: the very rows that evaluate.py reads."""
    (task,) = [t for t in evaluate.TASKS.values() if t.repo == path]
    rows = [row for _, row in evaluate.rows_in(hub_file(task.repo, task.file, revision=task.revision))]
    return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("train", "validation", "test")})


def rows_that_fit(task, tokenizer, limit, max_length):
    """-> a stand-in for questions.rows_in, how many rows it gives: none with a longer choice, on which theirs stops"""

    def fits(row):
        doc = task.read(row)
        pairs = (evaluate.encode_pair(tokenizer, doc.contexts[0], choice) for choice in doc.choices)
        return not max_length or all(len(choice) <= max_length for _, choice in pairs)

    path = hub_file(task.repo, task.file, revision=task.revision)
    kept = [(where, row) for where, row in questions.rows_in(path) if fits(row)][:limit]
    return lambda path: kept, len(kept)


def timed(owner, name, clock):
    """owner.name adds its seconds to clock[0] from now on: both sides are timed from texts to log-likelihoods, no more."""
    plain = getattr(owner, name)

    def run(*args, **kwargs):
        began = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            clock[0] += time.perf_counter() - began

    setattr(owner, name, run)


def theirs(folder, tokenizer, task, limit, max_length, batch_size):
    """-> [(log-likelihoods, acc, acc_norm)] by item"""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    lm = HFLM(pretrained=model, tokenizer=tokenizer, max_length=max_length or None, batch_size=batch_size, device="cpu")
    result = simple_evaluate(model=lm, tasks=[task], limit=limit, num_fewshot=0, bootstrap_iters=0, log_samples=True)
    samples = sorted(result["samples"][task], key=lambda s: s["doc_id"])
    return [([r[0] for r in s["filtered_resps"]], s["acc"], s.get("acc_norm")) for s in samples]


def through_the_adapter(folder, task, limit, batch_size):
    """The same by way of paper/harness.py -> [(log-likelihoods, acc, acc_norm)] by item"""
    lm = Run(folder, batch_size, "cpu")
    result = simple_evaluate(model=lm, tasks=[task], limit=limit, num_fewshot=0, bootstrap_iters=0, log_samples=True)
    samples = sorted(result["samples"][task], key=lambda s: s["doc_id"])
    return [([r[0] for r in s["filtered_resps"]], s["acc"], s.get("acc_norm")) for s in samples]


def ours(folder, task, limit, max_length, batch_size, out):
    sys.argv = ["evaluate.py", f"--model={folder}", f"--tasks={task}", f"--limit={limit}", f"--max_length={max_length}"]
    sys.argv += [f"--batch_size={batch_size}", f"--out_dir={out}", "--overwrite", "--device=cpu", "--precision=fp32"]
    evaluate.main()
    lines = (Path(out) / "predictions.jsonl").read_text().splitlines()
    return [(p["ll"], p["acc"], p["acc_norm"]) for p in map(json.loads, lines)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--speed", action="store_true", help="time both, model length in full")
    a = parser.parse_args()
    datasets.load_dataset = from_cache
    slow, fast = [0.0], [0.0]
    timed(HFLM, "loglikelihood", slow)
    timed(evaluate, "prefixes_of", fast)
    timed(evaluate, "log_likelihoods", fast)
    for make in (gpt2, qwen3):
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            tokenizer = make(folder)
            slow[0] = fast[0] = 0.0
            for task in evaluate.TASKS:
                for max_length in (0,) if a.speed else (0, 56):
                    own = evaluate.load(folder)[1]
                    evaluate.rows_in, n = rows_that_fit(evaluate.TASKS[task], own, a.limit, max_length)
                    x = theirs(folder, tokenizer, task, n, max_length, a.batch_size)
                    y = ours(folder, task, n, max_length, a.batch_size, folder + "/out")
                    assert len(x) == len(y) and all(len(p[0]) == len(q[0]) for p, q in zip(x, y, strict=True))
                    largest = max(abs(s - t) for p, q in zip(x, y, strict=True) for s, t in zip(p[0], q[0], strict=True))
                    equal = all(p[1:] == q[1:] for p, q in zip(x, y, strict=True))
                    length = f"length {max_length}" if max_length else "full length"
                    print(
                        f"PARITY {make.__name__} {task}, {length}: {len(x)} items, largest difference {largest:.1e}, "
                        f"scores {'equal' if equal else 'DIFFER'}; theirs {slow[0]:.1f} s so far, ours {fast[0]:.1f} s",
                        flush=True,
                    )
                    assert largest < 1e-3 and equal
                    if not max_length:
                        z = through_the_adapter(folder, task, n, a.batch_size)
                        apart = max(abs(s - t) for p, q in zip(y, z, strict=True) for s, t in zip(p[0], q[0], strict=True))
                        assert apart < 1e-3 and all(p[1:] == q[1:] for p, q in zip(y, z, strict=True)), apart
                        print(f"PARITY {make.__name__} {task}: the adapter's differ by {apart:.1e} from evaluate.py's")
            ratio = slow[0] / fast[0]
            print(f"PARITY {make.__name__}: theirs {slow[0]:.1f} s, ours {fast[0]:.1f} s, {ratio:.2f} times as fast")


if __name__ == "__main__":
    main()
