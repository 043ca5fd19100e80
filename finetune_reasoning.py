"""Reasoning (paper, section 4.2 and appendix B): the staged curriculum on GSM8K and ProsQA, for every system.

    python finetune_reasoning.py config/tiny_prosqa_h2.py
    torchrun --nproc_per_node=8 finetune_reasoning.py config/h2_gsm8k_gpt2.py

The question is the prefix; one branch hangs at its end and begins with the latents. At stage k the first k steps of the
chain of thought have given way to k x c latents; after the last stage all the other steps go, too (c = 2, k = 2):

    stage 0    question |            step 1  step 2  step 3  ### answer
    stage 1    question | z z                step 2  step 3  ### answer
    stage 2    question | z z z z                    step 3  ### answer
    last       question | z z z z                            ### answer

The loss is the mean over the tokens that are written in words behind the bar.
"""

import contextlib
import dataclasses
import json
import math
import os
import time
import zlib

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

import coprocessor
import questions
import runtime
from configurator import configure, one_line_errors, show
from data import Tokenizer, tokenizer_of


@dataclasses.dataclass
class Config:
    # the system
    variant: str = "h2"  # coconut | soft | liu | h1 | h2 | cot | no_cot | no_thought: the curriculum without latents
    init_from: str = "openai-community/gpt2"  # hub name, folder, random:<size>, run: all of it, or of another variant its Base
    scale_latents: bool = False  # liu, h2: feed Z at a learnable scale instead of plain
    orthogonality_weight: float = 0.0  # of the penalty on overlap between the latents of a branch
    # the questions
    data: str = "gsm8k_aug"  # gsm8k | gsm8k_aug | prosqa | a folder (questions.py)
    tokenizer: str = "gpt2"  # gpt2 | qwen3 | a tokenizer.json
    train_limit: int = 0  # use the first so many training questions; 0: all
    valid_limit: int = 0
    test_limit: int = 0
    skip_bad: bool = False  # leave out, and count, rows that are malformed or too long
    max_new_tokens: int = 64  # of an answer with its steps
    seed: int = 1337  # of initialisation and order
    # the curriculum
    stages: int = 4  # k, the most steps that latents stand for
    latents_per_step: int = 3  # c; N_L = k c
    first_stage: int = 0  # k + 1 is the last one: no curriculum. liu and h1 have nothing to train in stage 0 and skip it
    epochs_per_stage: int = 3
    last_stage_epochs: int = 10  # of answers without steps
    reset_optimizer: bool = True  # at every epoch
    # the optimizer (AdamW, constant learning rate)
    batch_size: int = 128  # questions per optimizer step, over all ranks
    micro_batch: int = 32  # questions per rank and forward pass; accumulation follows
    lr: float = 1e-4
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    clip: float = 0.0  # of the gradient's norm; 0: none
    # logging
    log_every: int = 20  # steps
    checkpoint_every: int = 500  # steps, and after every epoch
    keep_checkpoints: int = 0  # how many earlier ones stay, as checkpoint_<step>
    # the machine
    device: str = "auto"  # auto | cpu | cuda | mps
    precision: str = "auto"  # auto (bf16 where the hardware multiplies it) | bf16 | fp32
    # the run
    out_dir: str = ""  # default: out/<name of the config file>
    resume: bool = False  # go on from the folder's checkpoint
    overwrite: bool = False  # delete the folder first


# What a resumed run may change: nothing that changes what is computed.
MAY_DIFFER = ("resume", "overwrite", "out_dir", "log_every", "checkpoint_every", "keep_checkpoints", "device")


# -----------------------------------------------------------------------------
# Curriculum


def plan(c):
    """The stage of every epoch."""
    last = c.stages + 1
    if c.variant == "cot":
        return [0] * c.epochs_per_stage
    if c.variant == "no_cot":
        return [last] * c.last_stage_epochs
    trains_base = coprocessor.VARIANTS[c.variant].trains_base
    first = c.first_stage if trains_base else max(1, c.first_stage)
    return [stage for stage in range(first, last) for _ in range(c.epochs_per_stage)] + [last] * c.last_stage_epochs


def latents_at(c, stage):
    return min(stage, c.stages) * c.latents_per_step


class Item:
    """An Example in tokens."""

    def __init__(self, example, tokenizer, start=None):
        self.example = example
        self.question = tokenizer.encode(example.question + "\n") + ([] if start is None else [start])
        self.steps = [tokenizer.encode(step + "\n") for step in example.steps]
        self.answer = [*tokenizer.encode("### " + example.answer), tokenizer.eot]

    def text(self, c, stage):
        """What is to be written at that stage: the steps that no latent stands for, and the answer -> ids"""
        steps = self.steps[stage:] if stage <= c.stages else []
        return [token for step in steps for token in step] + self.answer


def pad(rows, device):
    """Lists of ids -> (B, longest) int64 padded on the right with 0, lengths (B)"""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return padded.to(device), lengths.to(device)


def text_nll(model, pairs, device):
    """Pairs of (question, text) as ids -> the summed -log p of all texts, a scalar. Padding adds exactly nothing."""
    questions, texts = zip(*pairs, strict=True)
    tokens, lengths = pad(questions, device)  # (B, S), (B)
    text, text_lengths = pad(texts, device)  # (B, N), (B)
    # pass 1 reads the questions, pass 2 begins one branch at the end of each, pass 3 writes
    nll = model(tokens, lengths[:, None] - 1, text[:, None])  # (B, 1, N)
    labelled = torch.arange(text.size(1), device=device) < text_lengths[:, None]  # (B, N)
    return nll[:, 0].masked_fill(~labelled, 0).sum()


def check_batch(c, machine):
    """Raises ValueError if micro-batches over all ranks do not add up to the batch."""
    if c.batch_size % (c.micro_batch * machine.world):
        raise ValueError(
            f"batch_size={c.batch_size} is not a multiple of micro_batch x ranks = {c.micro_batch} x {machine.world}"
        )


def train_step(run, pairs, optimizer, parameters, c, machine):
    """One optimizer step on the global batch, pairs of (question, text) as ids -> (this rank's part of the loss, gradient norm)

    The loss is the mean over all tokens of the texts, whoever computes them.
    """
    pairs = sorted(pairs, key=lambda pair: len(pair[0]))  # neighbours share a micro-batch: less padding
    labels = sum(len(text) for _, text in pairs)
    loss = torch.zeros((), device=machine.device)
    starts = range(machine.rank * c.micro_batch, len(pairs), machine.world * c.micro_batch)
    for start in starts:
        with contextlib.nullcontext() if start == starts[-1] or machine.world == 1 else run.no_sync():
            with machine.autocast():
                nll = text_nll(run, pairs[start : start + c.micro_batch], machine.device)
            micro_loss = nll / labels
            (micro_loss * machine.world).backward()  # DDP averages gradients, the objective is a sum over ranks
        loss += micro_loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(parameters, c.clip or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


def adamw(model, c, device):
    """-> (optimizer, names of its parameters, the parameters): those that the variant trains"""
    names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)
    settings = dict(lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay, fused=device.type == "cuda")
    return torch.optim.AdamW(parameters, **settings), names, parameters


def crc32(rows):
    """Of lists of ids, to tell data from other data."""
    crc = 0
    for ids in rows:
        crc = zlib.crc32(np.array(ids, dtype=np.uint32).tobytes(), crc)
    return crc


def order(seed, epoch, count):
    return np.random.default_rng((seed, epoch)).permutation(count)


# -----------------------------------------------------------------------------
# Evaluation


def extract(text):
    """The answer in a text: what stands after its last #."""
    return text.split("#")[-1].replace(",", "").strip()


class Answers:
    """Asks a model a set of questions, lists of ids: greedy, batched, cached."""

    def __init__(self, questions, model, tokenizer, c, machine):
        self.questions, self.tokenizer, self.c, self.machine = questions, tokenizer, c, machine
        longest = max(map(len, questions))
        # the same for all, so that an answer does not depend on whom it is batched with
        self.n_tokens = min(c.max_new_tokens, model.base.config.context - longest - model.n_latents - 1)

    def decode(self, ids):
        ids = ids[: ids.index(self.tokenizer.eot)] if self.tokenizer.eot in ids else ids
        return self.tokenizer.decode([i for i in ids if i < self.tokenizer.vocab_size])

    @torch.no_grad()
    def ids(self, model, questions, n_tokens):
        tokens, lengths = pad(questions, self.machine.device)
        with self.machine.autocast():
            return model.generate(tokens, lengths, n_tokens, eos=self.tokenizer.eot).tolist()

    def texts(self, model):
        """-> what it answers to each, in order, on every rank"""
        by_length = sorted(range(len(self.questions)), key=lambda n: len(self.questions[n]))
        mine, out = by_length[self.machine.rank :: self.machine.world], []
        for i in range(0, len(mine), self.c.micro_batch):
            chunk = mine[i : i + self.c.micro_batch]
            answers = self.ids(model, [self.questions[n] for n in chunk], self.n_tokens)
            out += [(n, self.decode(ids)) for n, ids in zip(chunk, answers, strict=True)]
        return [text for _, text in sorted(self.machine.gather(out))]

    def cost(self, model, begins, count=16):
        """One question at a time: passes and seconds until the answer proper, which begins says of a text, and per answer.

        -> dict of means
        """
        rows = []
        for question in self.questions[:count]:
            (ids,) = self.ids(model, [question], self.n_tokens)  # also warms up
            before = next((n for n in range(len(ids)) if begins(self.decode(ids[: n + 1]))), len(ids) - 1)
            row = []
            for n_tokens in (before + 1, self.n_tokens):
                with counted_passes(model) as passes:
                    began = time.perf_counter()
                    self.ids(model, [question], n_tokens)  # ends with .tolist(), which waits for the device
                    row += [passes[0], time.perf_counter() - began]
            rows.append(row)
        names = ("passes_to_answer", "seconds_to_answer", "passes_per_answer", "seconds_per_answer")
        return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def judge(items, texts):
    """-> a line of predictions.jsonl for each"""
    out = []
    for n, (item, text) in enumerate(zip(items, texts, strict=True)):
        example, said = item.example, extract(text)
        record = dict(item=n, where=example.where, question=example.question, gold=example.answer, answer=said)
        out.append(record | dict(correct=said == example.answer, text=text))
    return out


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


# -----------------------------------------------------------------------------
# Where a run starts


def load_start(c, tokenizer, n_latents):
    """init_from -> Variant: a run of the same variant is taken whole, of anything else the Base."""
    for run in (c.init_from, os.path.normpath(f"{c.init_from}/../..")):  # out/x/best/base is of a run, too
        if runtime.is_run(run) and tokenizer_of(run).name != tokenizer.name:
            raise ValueError(f"{run} has read another tokenizer's ids than those of {c.tokenizer}")
    if runtime.is_run(c.init_from):
        with open(os.path.join(c.init_from, "config.json")) as f:
            before = json.load(f)
        if before["variant"] == c.variant and before["n_latents"]:
            model, _ = coprocessor.load_run(c.init_from)
            coprocessor.check_vocabulary(model.base, c.init_from, tokenizer.vocab_size)
            if before["n_latents"] < n_latents or before["scale_latents"] != c.scale_latents:
                raise ValueError(f"{c.init_from} has {before['n_latents']} latents, scale_latents={before['scale_latents']}")
            if model.has_soft_tokens:
                model.soft = torch.nn.Parameter(model.soft.detach()[:n_latents].clone())
            model.n_latents, model.orthogonality_weight = n_latents, c.orthogonality_weight
            return model, f"all of {c.init_from}"
    base = coprocessor.load_base(c.init_from, tokenizer.vocab_size)
    if c.variant == "coconut":
        base.add_tokens(3, like=tokenizer.encode("<<")[0])  # start, end, latent
    return coprocessor.build(c.variant, base, n_latents, c.scale_latents, c.orthogonality_weight), f"the Base of {c.init_from}"


def read_items(c, split, tokenizer, model):
    """-> (list of Items, each of which fits the model at every stage; rows left out)"""
    start = model.start if c.variant == "coconut" else None
    stages, context = sorted({*plan(c)}), model.base.config.context

    def make(example):
        item = Item(example, tokenizer, start)
        # a branch may also hold an end marker
        longest = max(len(item.question) + latents_at(c, s) + 1 + len(item.text(c, s)) for s in stages)
        if longest > context:
            raise ValueError(f"{longest} tokens, the model has {context} positions")
        return item

    limit = {"train": c.train_limit, "valid": c.valid_limit, "test": c.test_limit}[split]
    return questions.read(c.data, split, limit, c.skip_bad, make)


def main():
    c = configure(Config, __doc__)
    names = [v for v in coprocessor.VARIANTS if v != "continued"]
    if c.variant not in names:
        raise ValueError(f"unknown variant {c.variant!r}: one of {', '.join(names)}")
    for key in "latents_per_step stages batch_size micro_batch max_new_tokens log_every checkpoint_every".split():
        if getattr(c, key) < 1:
            raise ValueError(f"{key} must be at least 1, not {getattr(c, key)}")
    stages = plan(c)
    if not stages or c.first_stage > c.stages + 1:
        raise ValueError("no epochs to train: see first_stage, epochs_per_stage and last_stage_epochs")
    machine = runtime.start(c.device, c.precision)
    check_batch(c, machine)

    # the system and its questions
    torch.manual_seed(c.seed)
    tokenizer = Tokenizer(c.tokenizer)
    model, origin = load_start(c, tokenizer, c.stages * c.latents_per_step)
    model = model.to(machine.device).train()
    items, left_out = {}, []
    for split in questions.SPLITS:
        items[split], bad = read_items(c, split, tokenizer, model)
        left_out += bad
    steps_per_epoch = len(items["train"]) // c.batch_size
    if not steps_per_epoch:
        raise ValueError(f"{len(items['train'])} training questions do not fill a batch of {c.batch_size}")
    valid, test = (Answers([i.question for i in items[s]], model, tokenizer, c, machine) for s in ("valid", "test"))

    optimizer, parameter_names, parameters = adamw(model, c, machine.device)
    checksum = crc32([ids for item in items["train"] for ids in (item.question, *item.steps, item.answer)])
    settings = dataclasses.asdict(c) | {"n_latents": model.n_latents, "started_from": origin}
    state, metrics, seconds = runtime.begin(
        c, settings, MAY_DIFFER, machine, tokenizer.path, lambda folder: coprocessor.load(model, folder),
        optimizer, parameter_names,
        dict(step=0, seconds=0.0, rows=len(items["train"]), data_crc32=checksum, tokens=0, best=-1.0),
    )  # fmt: skip
    n_latents, total = model.n_latents, len(stages) * steps_per_epoch
    if machine.master:
        print(show(c))
        print(
            f"{machine}; {origin}; {sum(p.numel() for p in parameters):,} trained of "
            f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(items['train']):,} questions, "
            f"{len(stages)} epochs of {steps_per_epoch:,} steps, stages {stages[0]} to {stages[-1]}; "
            f"{len(left_out)} rows left out"
        )
        print(*left_out[:5], sep="\n", end="\n" if left_out else "")

    def save_weights(folder):
        coprocessor.save(model, folder)

    def save():
        runtime.finite_loss(machine, state["step"], loss, norm, c.out_dir)
        if machine.master:
            now = state | {"seconds": seconds()}
            runtime.save_checkpoint(c.out_dir, save_weights, optimizer, parameter_names, now, c.keep_checkpoints)

    started, start_step, interrupt = seconds(), state["step"], runtime.Interrupt(machine)
    for epoch in range(state["step"] // steps_per_epoch, len(stages)):
        stage = stages[epoch]
        if epoch == 0 or stage != stages[epoch - 1]:
            state["best"] = -1.0 if state["step"] == epoch * steps_per_epoch else state["best"]
        if c.reset_optimizer and state["step"] == epoch * steps_per_epoch:
            optimizer, *_ = adamw(model, c, machine.device)
        # the last stage has as many latents as the one before; without latents the Base learns alone
        model.n_latents = min(n_latents, latents_at(c, stage))
        run = model
        if not model.n_latents and c.variant != "coconut":
            run = coprocessor.CoT(model.base, 0)
        asked = run
        if machine.world > 1:
            run = DistributedDataParallel(run, device_ids=[machine.device.index] if machine.device.type == "cuda" else None)

        rows = order(c.seed, epoch, len(items["train"]))
        for i in range(state["step"] - epoch * steps_per_epoch, steps_per_epoch):
            chosen = [items["train"][n] for n in rows[i * c.batch_size : (i + 1) * c.batch_size]]
            pairs = [(item.question, item.text(c, stage)) for item in chosen]
            loss, norm = train_step(run, pairs, optimizer, parameters, c, machine)

            state["step"] += 1
            state["tokens"] += sum(len(question) + len(text) for question, text in pairs)
            done, epoch_ends = state["step"], i == steps_per_epoch - 1
            if done % c.log_every == 0 or epoch_ends or done == 1:
                total_loss = runtime.finite_loss(machine, done, loss, norm, c.out_dir)
                elapsed = seconds()
                record = dict(step=done, epoch=epoch, stage=stage, tokens=state["tokens"], loss=total_loss, lr=c.lr)
                record |= dict(grad_norm=norm.item(), seconds=elapsed)
                speed = (done - start_step) / (elapsed - started)
                line = (
                    f"step {done}/{total}: stage {stage}, loss {total_loss:.4f}, {runtime.clock((total - done) / speed)} left"
                )
                if epoch_ends:
                    asked.eval()
                    record["valid_accuracy"] = np.mean([p["correct"] for p in judge(items["valid"], valid.texts(asked))]).item()
                    asked.train()
                    line += f", validation accuracy {record['valid_accuracy']:.1%}"
                    if record["valid_accuracy"] > state["best"]:  # of this stage
                        state["best"] = record["valid_accuracy"]
                        if machine.master:
                            runtime.replace_folder(os.path.join(c.out_dir, "best"), save_weights)
                if machine.master:
                    metrics.write(record)
                    print(line, flush=True)
            if done % c.checkpoint_every == 0 or epoch_ends:
                save()
            interrupt.leave(done, save)

    interrupt.over()
    # once, at the end: the test set, asked of the last stage's best
    machine.total(torch.zeros(1))  # until the best is on the disk
    coprocessor.load(model, os.path.join(c.out_dir, "best"))
    model.n_latents = min(n_latents, latents_at(c, stages[-1]))
    model.eval()
    predictions = judge(items["test"], test.texts(model))
    if machine.master:
        correct = sum(p["correct"] for p in predictions)
        record = dict(step=total, tokens=state["tokens"], seconds=seconds(), valid_accuracy=state["best"])
        record |= dict(
            test_accuracy=correct / len(predictions),
            test_questions=len(predictions),
            **test.cost(model, lambda text: "#" in text),
        )
        metrics.write(record)
        runtime.write_lines(os.path.join(c.out_dir, "predictions.jsonl"), predictions)
        print(
            f"test accuracy {record['test_accuracy']:.1%} ({correct} of {len(predictions)}); until the answer begins "
            f"{record['passes_to_answer']:.1f} forward passes, {record['seconds_to_answer']:.3f} s\n"
            f"done: {c.out_dir}/predictions.jsonl holds every answer, {c.out_dir}/best the weights"
        )
    runtime.finish()


if __name__ == "__main__":
    one_line_errors(main)
