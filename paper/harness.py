"""lm-evaluation-harness on a run of ours, with its latents: any of its tasks (pip install lm-eval==0.4.13).

    python -m paper.harness out/h2_gpt2 --tasks=boolq,lambada_openai --limit=100

One augmentation stands where a context ends, as in evaluate.py, whose scores on its own five tasks are the same.
"""

import json
import math
import os
import sys

from configurator import Parser, one_line_errors

import torch

import evaluate as our_evaluate
import runtime
from finetuning import pad

# lm-eval's tasks import Hugging Face's `evaluate`: what is needed from this folder is there now, and they shall not find it
del sys.modules["evaluate"]
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(our_evaluate.__file__)]

from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.api.model import TemplateLM  # noqa: E402
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window  # noqa: E402


class Run(TemplateLM):
    """What the harness asks of a model. Requests are sorted by length and answered in batches."""

    def __init__(self, name, batch_size=16, device="auto", precision="fp32"):
        super().__init__()
        self.machine, self.batch = runtime.start(device, precision), batch_size
        self.model, self.run_tokenizer, _ = our_evaluate.load(name)
        self.model = self.model.to(self.machine.device).eval()
        self.room = our_evaluate.room_for_text(self.model)

    @property
    def eot_token_id(self):
        return self.run_tokenizer.eot

    def tok_encode(self, string, add_special_tokens=None, **kwargs):
        return self.run_tokenizer.encode(string)

    def in_batches(self, pairs):
        """[(a context, what follows it)] -> lists of Prefixes that still fit once padded, the longest first

        A context that is too long for what follows it loses its beginning, whatever others are in its batch.
        """
        cut = [(context[-max(1, self.room + 1 - len(ahead)) :], ahead) for context, ahead in pairs]
        prefixes = [our_evaluate.Prefix(i, context, [0], [ahead]) for i, (context, ahead) in enumerate(cut)]
        prefixes.sort(key=lambda p: -len(p.tokens) - len(p.branches[0]))
        return our_evaluate.batches(prefixes, self.batch, self.room)

    @torch.no_grad()
    def _loglikelihood_tokens(self, requests, **kwargs):
        """[(texts, context, continuation)] in tokens -> [(summed log-likelihood, would greedy decoding write it?)]"""
        out = [None] * len(requests)
        for batch in self.in_batches([(context, ahead) for _, context, ahead in requests]):
            tokens, lengths = pad([p.tokens for p in batch], self.machine.device)
            ahead, sizes = pad([p.branches[0] for p in batch], self.machine.device)
            with self.machine.autocast():
                prefix = self.model.pass1_prefix(tokens)
                start = self.model.pass2_start(prefix, lengths[:, None] - 1)
                hidden = self.model.pass3_predict(prefix, start, ahead[:, None])[:, 0, -ahead.size(1) :]  # (B, N, C)
                log_p = self.model.base.logits(hidden).float().log_softmax(dim=-1)  # (B, N, V)
            own, best = log_p.gather(2, ahead[..., None])[..., 0], log_p.argmax(dim=-1) == ahead
            for p, n, row, is_best in zip(batch, sizes.tolist(), own, best, strict=True):
                out[p.doc] = row[:n].double().sum().item(), bool(is_best[:n].all())
                if not math.isfinite(out[p.doc][0]):
                    raise ValueError(f"a log-likelihood is {out[p.doc][0]}, which no score can be made of")
        return out

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        """Whole texts, in windows of all the room there is, the first behind an end-of-text token"""
        out = []
        for (text,) in (r.args for r in requests):
            windows = get_rolling_token_windows(self.tok_encode(text), self.eot_token_id, self.room, 1)
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            out.append(sum(ll for ll, _ in self._loglikelihood_tokens(pairs)))
        return out

    def generate_until(self, requests, disable_tqdm=False):
        """Greedy, to the first of the texts that end an answer"""
        out = [None] * len(requests)
        prompts = [self.tok_encode(r.args[0]) or [self.eot_token_id] for r in requests]
        limits = [min(r.args[1].get("max_gen_toks", 256), self.room - 1) for r in requests]
        for batch in self.in_batches([(prompt, range(n + 1)) for prompt, n in zip(prompts, limits, strict=True)]):
            tokens, lengths = pad([p.tokens for p in batch], self.machine.device)
            with self.machine.autocast():
                rows = self.model.generate(tokens, lengths, max(limits[p.doc] for p in batch), eos=self.eot_token_id).tolist()
            for i, ids in zip([p.doc for p in batch], rows, strict=True):
                ids = ids[: limits[i]]
                out[i] = self.run_tokenizer.decode(ids[: ids.index(self.eot_token_id)] if self.eot_token_id in ids else ids)
                for stop in filter(None, requests[i].args[1].get("until", [])):
                    out[i] = out[i].partition(stop)[0]
        return out


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("run", help="a run folder, or any model that evaluate.py takes")
    parser.add_argument("--tasks", required=True, help="names of the harness's tasks, separated by commas")
    parser.add_argument("--limit", type=int, help="the first so many items of each task")
    parser.add_argument("--num_fewshot", type=int, help="default: the task's own")
    parser.add_argument("--batch_size", type=int, default=16, help="default 16")
    parser.add_argument("--device", default="auto", help="default auto")
    a = parser.parse_args(argv)
    lm = Run(a.run, a.batch_size, a.device)
    found = simple_evaluate(model=lm, tasks=a.tasks.split(","), limit=a.limit, num_fewshot=a.num_fewshot, bootstrap_iters=0)
    print(json.dumps(found["results"], indent=2, default=str))


if __name__ == "__main__":
    one_line_errors(main)
