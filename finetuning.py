"""What finetune_reasoning.py and countdown.py share: a question is a prefix, one branch is attached at its end, and the branch
is trained on the text that should follow. Padding, an epoch of training, batched answers, and where a run starts.
"""

import contextlib
import dataclasses
import itertools
import math
import os
import time
import zlib
from typing import NamedTuple

from configurator import Count, note

import numpy as np
import torch
from scipy import stats
from torch.nn.utils.rnn import pad_sequence

import coprocessor
import questions
import runtime
from data import hub_file


@dataclasses.dataclass
class Options(coprocessor.Options):
    # the optimizer (AdamW, constant learning rate)
    batch_size: Count = 128  # questions per optimizer step, over all ranks
    micro_batch: Count = 32  # questions per rank and forward pass; accumulation follows
    lr: float = 1e-4
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 0.0  # of the gradient's norm; 0: none
    seed: int = 1337  # of initialisation and order
    # the machine
    device: str = "auto"  # auto | cpu | cuda | mps
    precision: str = "auto"  # auto (bf16 where the hardware multiplies it) | bf16 | fp32
    # the run
    keep_checkpoints: int = 0  # how many earlier ones stay, as checkpoint_<step>
    wandb: bool = False  # also log to Weights & Biases (pip install wandb)
    out_dir: str = ""  # default: out/<config file>, then the settings of the command line
    resume: bool = False  # go on from the folder's checkpoint
    overwrite: bool = False  # delete the folder first


# What a resumed run may change: nothing that changes what is computed (device and micro_batch change its last bits).
RESUME_MAY_CHANGE = ("resume", "overwrite", "out_dir", "log_every", "checkpoint_every", "keep_checkpoints", "wandb", "device")
RESUME_MAY_CHANGE += ("micro_batch",)

# -----------------------------------------------------------------------------
# Questions in tokens


class Written(NamedTuple):
    """A question and what is to be written after it, in ids. steps: those of its solution, whether they are written or not."""

    question: list
    text: list
    steps: list


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
        in_words = self.steps[stage:] if stage <= c.stages else []
        return Written(self.question, [*itertools.chain(*in_words), *self.answer], self.steps)


def pad(rows, device):
    """Lists of ids -> (B, longest) int64 padded on the right with 0, lengths (B)"""
    lengths = torch.tensor([len(row) for row in rows])
    padded = pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)
    return runtime.to_device(padded, device), runtime.to_device(lengths, device)


def pad_steps(items, device):
    """The steps of each -> (B, most steps, longest step) padded with -1; None where there are none"""
    n, longest = max(len(item.steps) for item in items), max((len(step) for item in items for step in item.steps), default=0)
    padded = torch.full((len(items), n, longest), -1, dtype=torch.int64)
    for i, item in enumerate(items):
        for j, step in enumerate(item.steps):
            padded[i, j, : len(step)] = torch.tensor(step)
    return runtime.to_device(padded, device) if padded.numel() else None


# -----------------------------------------------------------------------------
# Training


def steps_per_epoch(c, machine, count):
    """How many batches so many questions fill. Raises ValueError for none, and for a batch that ranks cannot share evenly."""
    if c.batch_size % (c.micro_batch * machine.world):
        raise ValueError(
            f"batch_size={c.batch_size} is not a multiple of micro_batch x ranks = {c.micro_batch} x {machine.world}"
        )
    if count < c.batch_size:
        raise ValueError(f"{count} training questions do not fill a batch of {c.batch_size}")
    return count // c.batch_size


def adamw(model, c, device):
    """The optimizer of the parameters that the variant trains. Soft tokens are not decayed."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    soft = [trained.pop("soft")] if "soft" in trained else []
    groups = [{"params": [*trained.values()]}, {"params": soft, "weight_decay": 0.0}]
    settings = dict(lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay, fused=device.type == "cuda")
    return torch.optim.AdamW(groups, **settings)


def begin(run, model, tokenizer, ids, settings, **state):
    """Makes the run's folder, or goes on from its checkpoint -> the optimizer

    ids: lists of ids, all that the run is trained on and asked. settings, state: see Run.begin.
    """
    c, crc, path = run.c, 0, tokenizer.path
    if model.adds_tokens and not path:  # GPT-2's, which needs no file until tokens are added to it
        try:
            path = hub_file("openai-community/gpt2", "tokenizer.json", repo_type="model")
        except FileNotFoundError as e:
            note(f"the weights are saved without a tokenizer that has their markers: {e}")
    for row in ids:
        crc = zlib.crc32(np.array(row, dtype=np.uint32).tobytes(), crc)
    optimizer, state = adamw(model, c, run.machine.device), dict(data_crc32=crc, tokens=0, **state)
    run.begin(
        model, optimizer, lambda folder: coprocessor.save(model, folder, c.out_dir), path, settings, state
    )  # fmt: skip
    return optimizer


def text_nll(model, items, device):
    """Written items -> the summed loss of all texts' tokens, a scalar. Padding adds exactly nothing."""
    tokens, lengths = pad([item.question for item in items], device)  # (B, S), (B)
    text, text_lengths = pad([item.text for item in items], device)  # (B, N), (B)
    # pass 1 reads the questions, pass 2 starts one branch at the end of each, pass 3 writes
    nll = model(tokens, lengths[:, None] - 1, text[:, None], pad_steps(items, device))  # (B, 1, N)
    labelled = torch.arange(text.size(1), device=device) < text_lengths[:, None]  # (B, N)
    return nll[:, 0].masked_fill(~labelled, 0).sum()


def train_step(model, items, optimizer, c, machine):
    """One optimizer step on the global batch, Written items -> (this rank's part of the loss, gradient norm)

    The loss is the mean over all tokens of the texts, whoever computes them. model: as runtime.wrap has it.
    """
    items = sorted(items, key=lambda item: len(item.question))  # neighbours share a micro-batch: less padding
    labels = sum(len(item.text) for item in items)
    loss = torch.zeros((), device=machine.device)
    starts = range(machine.rank * c.micro_batch, len(items), machine.world * c.micro_batch)
    for start in starts:
        # ranks exchange gradients once a step, after its last micro-batch
        with contextlib.nullcontext() if start == starts[-1] or machine.world == 1 else model.no_sync():
            with machine.autocast():
                nll = text_nll(model, items[start : start + c.micro_batch], machine.device)
            micro_loss = nll / labels
            (micro_loss * machine.world).backward()  # DDP averages gradients, the objective is a sum over ranks
        loss += micro_loss.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, c.clip or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


def train_epoch(run, model, optimizer, items, epoch, epochs, evaluate=None, at_step=None, **about):
    """The epoch of that number, or what is left of it where a run goes on.

    evaluate() is called at the end -> what metrics.jsonl gets, what the line says of it. at_step(step) -> the model that is
    trained at that step, written(an item) -> Written; else it is model, and items are Written. about: what else a record tells.
    """
    c, machine, trained, n_latents = run.c, run.machine, None, run.model.n_latents
    at_step = at_step or (lambda step: (model, lambda item: item))
    order = np.random.default_rng((c.seed, epoch)).permutation(len(items))  # so that a resumed run sees the same
    steps = len(items) // c.batch_size

    def check():
        # what the last update ruined is neither judged nor saved: the checkpoint before stays the last good one
        run.check(loss, norm, lambda: text_nll(model, batch[: c.micro_batch], machine.device))

    for i in range(run.step - epoch * steps, steps):
        # the global batch, the same on every rank
        now, written = at_step(run.step)
        batch = [written(items[n]) for n in order[i * c.batch_size : (i + 1) * c.batch_size]]
        if type(now) is not type(trained):  # stage 0 trains the Base alone, and DDP has to know what learns
            trained, wrapped = now, runtime.wrap(now, machine)
        torch.manual_seed(c.seed + run.step)  # a variant that draws random numbers resumes to the same ones
        # pass 1 reads the questions, pass 2 starts a branch at the end of each, pass 3 writes; then one step of AdamW
        loss, norm = train_step(wrapped, batch, optimizer, c, machine)
        run.model.n_latents = n_latents  # of the epoch's stage, which is judged and saved, whatever this step's was
        run.step += 1
        run.state["tokens"] += sum(len(item.question) + len(item.text) for item in batch)

        # a line now and then, and after each epoch, when questions that it was not trained on are asked, too
        epoch_ends = i == steps - 1
        log_now = run.step % c.log_every == 0 or epoch_ends or run.step == 1
        if log_now:
            mean = run.finite_loss(loss, norm)
            record = dict(step=run.step, epoch=epoch, **about, tokens=run.state["tokens"], loss=mean, lr=c.lr)
            record |= dict(grad_norm=norm.item(), seconds=run.elapsed()) | model.report()
            said = "".join(f"{key} {value}, " for key, value in about.items())
            line = f"step {run.step}/{steps * epochs}: {said}loss {mean:.4f}{run.time_left(steps * epochs)}"
            if epoch_ends and evaluate:
                check()
                model.eval()
                with run.saved_if_it_fails():
                    result, said = evaluate()
                model.train()
                record, line = record | result, line + said
            run.log(record, line)
        # a checkpoint is all that a resumed run needs to end with the same bytes; who stops a run gets one, too
        stop = run.interrupted(log_now)
        if run.step % c.checkpoint_every == 0 or epoch_ends or stop:
            check()
            run.save()
        if stop:
            run.leave()


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
        return self.tokenizer.decode(ids[: ids.index(self.tokenizer.eot)] if self.tokenizer.eot in ids else ids)

    @torch.no_grad()
    def answer_ids(self, model, questions, n_tokens):
        tokens, lengths = pad(questions, self.machine.device)
        with self.machine.autocast():
            return model.generate(tokens, lengths, n_tokens, eos=self.tokenizer.eot).tolist()

    def answer_questions(self, model):
        """-> the text that it answers to each, in order, on every rank"""
        order = sorted(range(len(self.questions)), key=lambda n: len(self.questions[n]))
        left, out = order[self.machine.rank :: self.machine.world], []
        while left:
            n_tokens = self.n_tokens(self.questions[left[0]])
            batch = [n for n in left[: self.c.micro_batch] if self.n_tokens(self.questions[n]) == n_tokens]
            left = left[len(batch) :]
            answers = self.answer_ids(model, [self.questions[n] for n in batch], n_tokens)
            out += [(n, self.decode(ids), self.tokenizer.eot not in ids) for n, ids in zip(batch, answers, strict=True)]
        out = sorted(self.machine.gather(out))
        self.n_cut = sum(cut for *_, cut in out)
        return [text for _, text, _ in out]

    def told_cut(self):
        """In words: how many of the last answers had no end within max_new_tokens"""
        return f", {self.n_cut} answers cut at max_new_tokens" if self.n_cut else ""

    def cost(self, model, begins, count=16):
        """Passes and seconds of some questions, asked one at a time -> dict of means

        Until the answer proper, which begins says of a text, and until the end. Passes are counted, whatever runs them.
        """
        rows, passes = [], []
        models = [model.base] + ([model.coprocessor] if model.has_coprocessor else [])
        hooks = [m.blocks[0].norm_1.register_forward_hook(lambda *_: passes.append(1)) for m in models]  # once a pass
        for question in self.questions[:count]:
            longest, row = self.n_tokens(question), []
            (ids,) = self.answer_ids(model, [question], longest)  # also warms up
            before = next((n for n in range(len(ids)) if begins(self.decode(ids[: n + 1]))), len(ids) - 1)
            for n_tokens in (before + 1, longest):
                passes.clear()
                began = time.perf_counter()
                self.answer_ids(model, [question], n_tokens)  # ends with .tolist(), which waits for the device
                row += [len(passes), time.perf_counter() - began]
            rows.append(row)
        for hook in hooks:
            hook.remove()
        names = ("passes_to_answer", "seconds_to_answer", "passes_per_answer", "seconds_per_answer")
        return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def share_interval(right, count):
    """The 95 % interval of a share: Wilson's, which also holds near 0 and 1 -> [low, high]"""
    interval = stats.binomtest(right, count).proportion_ci(method="wilson")
    return [interval.low, interval.high]


def load_prompts(run, config, split="test"):
    """The questions that a run was tested on, and its answers: its predictions.jsonl. Of another split: from its data."""
    if split != "test":
        examples, _ = questions.read(config["data"], split, config[f"{split}_limit"], config["skip_bad"])
        return [dict(question=x.question, steps=x.steps, gold=x.answer) for x in examples]
    return runtime.read_lines(os.path.join(run, "predictions.jsonl"), like={"question": "", "text": "", "correct": False})


# -----------------------------------------------------------------------------
# Where a run starts


def load_start(c, tokenizer, n_latents, latents_per_step, checkpoint=None):
    """init_from -> (Variant, what it starts from in words, that Base's checksum): a run of the same variant is taken whole, of
    anything else the Base. checkpoint: the folder that a resumed run goes on from, which holds all that it needs.
    """
    settings, whole = vars(c) | dict(n_latents=n_latents, latents_per_step=latents_per_step), checkpoint
    if not checkpoint and runtime.is_run(c.init_from):
        before = runtime.read_json(os.path.join(c.init_from, "config.json"), like={"variant": "", "n_latents": 0})
        if before["variant"] == c.variant and before["n_latents"]:
            settings["n_latents"], whole = before["n_latents"], runtime.weights_of(c.init_from)
            for name in ("text_positions", "scale_latents"):
                if (had := coprocessor.options_of(before)[name]) != settings[name]:
                    raise ValueError(f"{c.init_from} has {name}={had}, this run asks for {settings[name]}")
    if whole:
        model = coprocessor.load_variant(whole, settings)
        if n_latents > model.n_slots:
            raise ValueError(f"{whole} has {model.n_slots} latents, this asks for {n_latents}")
        if not checkpoint:
            coprocessor.check_tokenizer(model.base, c.init_from, tokenizer, c.tokenizer)
        model.n_latents = n_latents
        return model, f"all of {checkpoint or c.init_from}", coprocessor.checksum(model.base)
    base = coprocessor.load_base(c.init_from, tokenizer, c.tokenizer)
    base_crc32 = coprocessor.checksum(base)  # before Coconut's tokens join it
    if added := coprocessor.VARIANTS[c.variant].adds_tokens:
        base.add_tokens(len(added), like=tokenizer.encode("<<")[0])
    model = coprocessor.build(c.variant, base, n_latents, latents_per_step=latents_per_step, **coprocessor.options_of(vars(c)))
    return model, f"the Base of {c.init_from}", base_crc32
