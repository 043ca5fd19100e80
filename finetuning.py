"""What finetune_reasoning.py and countdown.py share: a question is a prefix, one branch is attached at its end, and the branch
is trained on the text that should follow. Padding, the training step, batched answers, and where a run starts.
"""

import contextlib
import math
import os
import time
import zlib
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats

import coprocessor
import runtime

# -----------------------------------------------------------------------------
# Questions in tokens


class Written(NamedTuple):
    """A question and what is to be written after it, in ids. steps: those of its solution, whether they are written or not."""

    question: list
    text: list
    steps: list
    answer_at: int  # where in the text the answer begins


class Item:
    """An Example of questions.py in tokens."""

    def __init__(self, example, tokenizer, ends_with=()):
        """ends_with: ids that the variant wants behind a question (Variant.ends_prompts_with)"""
        self.example = example
        self.question = [*tokenizer.encode(example.question + "\n"), *ends_with]
        self.steps = [tokenizer.encode(step + "\n") for step in example.steps]
        self.answer = [*tokenizer.encode("### " + example.answer), tokenizer.eot]

    def written(self, c, stage):
        """-> Written, as the item is trained on at that stage: the steps that no latent stands for, then the answer"""
        steps = self.steps[stage:] if stage <= c.stages else []
        before = [token for step in steps for token in step]
        return Written(self.question, before + self.answer, self.steps, len(before))


def pad(rows, device):
    """Lists of ids -> (B, longest) int64 padded on the right with 0, lengths (B)"""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return runtime.to_device(padded, device), runtime.to_device(lengths, device)


def pad_steps(items, device):
    """The steps of each -> (B, most steps, longest step) padded with -1; None where there are none"""
    n, longest = max(len(item.steps) for item in items), max((len(step) for item in items for step in item.steps), default=0)
    padded = torch.full((len(items), n, longest), -1, dtype=torch.int64)
    for i, item in enumerate(items):
        for j, step in enumerate(item.steps):
            padded[i, j, : len(step)] = torch.tensor(step)
    return runtime.to_device(padded, device) if padded.numel() else None


def crc32(rows):
    """Of lists of ids, to tell data from other data."""
    crc = 0
    for ids in rows:
        crc = zlib.crc32(np.array(ids, dtype=np.uint32).tobytes(), crc)
    return crc


# -----------------------------------------------------------------------------
# Training


def check_batch(c, machine):
    """Raises ValueError if micro-batches over all ranks do not add up to the batch."""
    if c.batch_size % (c.micro_batch * machine.world):
        raise ValueError(
            f"batch_size={c.batch_size} is not a multiple of micro_batch x ranks = {c.micro_batch} x {machine.world}"
        )


def epoch_permutation(seed, epoch, count):
    """The order of an epoch's questions: a function of its number alone, so that a resumed run sees the same"""
    return np.random.default_rng((seed, epoch)).permutation(count)


def adamw(model, c, device):
    """-> the optimizer of the parameters that the variant trains, and these. Soft tokens are not decayed."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    decayed, soft = [p for n, p in trained.items() if n != "soft"], [p for n, p in trained.items() if n == "soft"]
    groups = [{"params": decayed}, {"params": soft, "weight_decay": 0.0}]
    settings = dict(lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay, fused=device.type == "cuda")
    return torch.optim.AdamW(groups, **settings), decayed + soft


def text_nll(model, items, device):
    """Written items -> the summed loss of all texts' tokens, a scalar. Padding adds exactly nothing."""
    tokens, lengths = pad([item.question for item in items], device)  # (B, S), (B)
    text, text_lengths = pad([item.text for item in items], device)  # (B, N), (B)
    # pass 1 reads the questions, pass 2 starts one branch at the end of each, pass 3 writes
    nll = model(tokens, lengths[:, None] - 1, text[:, None], pad_steps(items, device))  # (B, 1, N)
    labelled = torch.arange(text.size(1), device=device) < text_lengths[:, None]  # (B, N)
    return nll[:, 0].masked_fill(~labelled, 0).sum()


def train_step(run, items, optimizer, parameters, c, machine):
    """One optimizer step on the global batch, Written items -> (this rank's part of the loss, gradient norm)

    The loss is the mean over all tokens of the texts, whoever computes them.
    """
    items = sorted(items, key=lambda item: len(item.question))  # neighbours share a micro-batch: less padding
    labels = sum(len(item.text) for item in items)
    loss = torch.zeros((), device=machine.device)
    starts = range(machine.rank * c.micro_batch, len(items), machine.world * c.micro_batch)
    for start in starts:
        with contextlib.nullcontext() if start == starts[-1] or machine.world == 1 else run.no_sync():
            with machine.autocast():
                nll = text_nll(run, items[start : start + c.micro_batch], machine.device)
            micro_loss = nll / labels
            (micro_loss * machine.world).backward()  # DDP averages gradients, the objective is a sum over ranks
        loss += micro_loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(parameters, c.clip or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


# -----------------------------------------------------------------------------
# Asking


class EvalSet:
    """Asks a model a set of questions, lists of ids: greedy, batched, cached."""

    def __init__(self, questions, model, tokenizer, c, machine):
        self.questions, self.tokenizer, self.c, self.machine = questions, tokenizer, c, machine
        self.room = model.base.config.context - model.branch_offset() + 1  # for a question and its answer
        self.n_cut = 0  # of the last answers: those that had no end within max_new_tokens

    def n_tokens(self, question):
        """How many tokens an answer may have: its own question decides, whatever others there are"""
        return min(self.c.max_new_tokens, self.room - len(question))

    def decode(self, ids):
        ids = ids[: ids.index(self.tokenizer.eot)] if self.tokenizer.eot in ids else ids
        return self.tokenizer.decode(ids)

    @torch.no_grad()
    def answer_ids(self, model, questions, n_tokens):
        tokens, lengths = pad(questions, self.machine.device)
        with self.machine.autocast():
            return model.generate(tokens, lengths, n_tokens, eos=self.tokenizer.eot).tolist()

    def answer_questions(self, model):
        """-> the text that it answers to each, in order, on every rank"""
        order = sorted(range(len(self.questions)), key=lambda n: len(self.questions[n]))
        mine, out = order[self.machine.rank :: self.machine.world], []
        while mine:
            n_tokens = self.n_tokens(self.questions[mine[0]])
            chunk = [n for n in mine[: self.c.micro_batch] if self.n_tokens(self.questions[n]) == n_tokens]
            mine = mine[len(chunk) :]
            answers = self.answer_ids(model, [self.questions[n] for n in chunk], n_tokens)
            out += [(n, self.decode(ids), self.tokenizer.eot not in ids) for n, ids in zip(chunk, answers, strict=True)]
        out = sorted(self.machine.gather(out))
        self.n_cut = sum(cut for *_, cut in out)
        return [text for _, text, _ in out]

    def told_cut(self):
        """In words: how many of the last answers had no end within max_new_tokens"""
        return f", {self.n_cut} answers cut at max_new_tokens" if self.n_cut else ""

    def cost(self, model, begins, count=16):
        """One question at a time: passes and seconds until the answer proper, which begins says of a text, and per answer.

        -> dict of means
        """
        rows = []
        for question in self.questions[:count]:
            most = self.n_tokens(question)
            (ids,) = self.answer_ids(model, [question], most)  # also warms up
            before = next((n for n in range(len(ids)) if begins(self.decode(ids[: n + 1]))), len(ids) - 1)
            row = []
            for n_tokens in (before + 1, most):
                with counted_passes(model) as passes:
                    began = time.perf_counter()
                    self.answer_ids(model, [question], n_tokens)  # ends with .tolist(), which waits for the device
                    row += [passes[0], time.perf_counter() - began]
            rows.append(row)
        names = ("passes_to_answer", "seconds_to_answer", "passes_per_answer", "seconds_per_answer")
        return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def share_interval(right, count):
    """The 95 % interval of a share: Wilson's, which also holds near 0 and 1 -> [low, high]"""
    interval = stats.binomtest(right, count).proportion_ci(method="wilson")
    return [interval.low, interval.high]


@contextlib.contextmanager
def counted_passes(model):
    """Counts how often Base and Coprocessor run, whatever calls them -> a list of one number."""
    count = [0]

    def hook(module, args, output):
        count[0] += 1

    models = [model.base] + ([model.coprocessor] if model.has_coprocessor else [])
    hooks = [m.blocks[0].norm_1.register_forward_hook(hook) for m in models]  # once a pass
    try:
        yield count
    finally:
        for h in hooks:
            h.remove()


def load_test_prompts(run):
    """The questions that a run was tested on, as its own predictions.jsonl has them -> its lines"""
    path = os.path.join(run, "predictions.jsonl")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{run} has not been asked its test questions yet: it has no predictions.jsonl")
    lines = runtime.read_lines(path, like={"question": "", "text": "", "correct": False})
    if not lines:
        raise ValueError(f"{path} is empty")
    return lines


# -----------------------------------------------------------------------------
# Where a run starts


def load_start(c, tokenizer, n_latents, latents_per_step, checkpoint=None):
    """init_from -> (Variant, what it starts from in words, that Base's checksum): a run of the same variant is taken whole, of
    anything else the Base. checkpoint: the folder that a resumed run goes on from, which holds all that it needs.
    """
    if checkpoint:
        settings = vars(c) | dict(n_latents=n_latents, latents_per_step=latents_per_step)
        model = coprocessor.load_variant(checkpoint, settings)
        model.n_latents = n_latents
        return model, f"all of {checkpoint}", coprocessor.checksum(model.base)
    if runtime.is_run(c.init_from):
        before = runtime.read_json(os.path.join(c.init_from, "config.json"), like={"variant": "", "n_latents": 0})
        if before["variant"] == c.variant and before["n_latents"]:
            model, _ = coprocessor.load_run(c.init_from, n_latents)
            coprocessor.check_tokenizer(model.base, c.init_from, tokenizer, c.tokenizer)
            for name in ("text_positions", "scale_latents"):
                if (had := coprocessor.options_of(before)[name]) != getattr(c, name):
                    raise ValueError(f"{c.init_from} has {name}={had}, this run asks for {getattr(c, name)}")
            model.latents_per_step = latents_per_step
            model.orthogonality_weight, model.step_weight = c.orthogonality_weight, c.step_weight
            return model, f"all of {c.init_from}", coprocessor.checksum(model.base)
    base = coprocessor.load_base(c.init_from, tokenizer, c.tokenizer)
    base_crc32 = coprocessor.checksum(base)  # before Coconut's tokens join it
    if added := coprocessor.VARIANTS[c.variant].adds_tokens:
        base.add_tokens(added, like=tokenizer.encode("<<")[0])
    model = coprocessor.build(c.variant, base, n_latents, latents_per_step=latents_per_step, **coprocessor.options_of(vars(c)))
    return model, f"the Base of {c.init_from}", base_crc32
