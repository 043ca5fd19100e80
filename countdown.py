"""Countdown (paper, section 4.2 and appendix B): make the target out of all the numbers. More numbers are harder.

    python countdown.py --show=3                              # three problems
    python countdown.py config/tiny_countdown.py              # h2, 3 operands, N_L = 4
    torchrun --nproc_per_node=8 countdown.py config/countdown_gpt2.py --variant=h1 --operands=5

From top to bottom: the solver, which finds every solution; the generator, which keeps the solvable ones of random problems;
training, without a curriculum: one branch at the end of the problem, latents first, then the answer. The verifier, which
parses an answer and never evaluates it, stands in questions.py beside the other judges.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import os
import random
import re
from collections import Counter

from configurator import Count, Decay, configure, one_line_errors, show

import numpy as np
import torch
from tqdm import tqdm

import coprocessor
import questions
import runtime
from data import Tokenizer, alone_in, shard_paths, tokenizer_of, train_tokenizer, whole, write_text
from questions import REASONS, Answers, answer, grade_equations, prompt, verify, wilson

# -----------------------------------------------------------------------------
# The solver: all expressions of many problems at once
#
# A form of n operands is a binary tree over them with an operator at every node. Only values of 0 and above are needed: the
# sign of a difference can always be moved outwards, and a target is not negative. So a node has four operators: the sum,
# the larger minus the smaller, the product, and the larger divided by the smaller where that leaves no remainder.

OPERATORS = "+-*/"


@functools.cache
def splits(operands):
    """A tuple of operands in two parts, each way once; the first operand is always on the left."""
    first, rest = operands[0], operands[1:]
    left = [more for size in range(len(rest)) for more in itertools.combinations(rest, size)]
    return [((first, *more), tuple(x for x in rest if x not in more)) for more in left]


@functools.cache
def count_forms(n):
    """1, 4, 48, 960, 26880, ..."""
    return 4 ** (n - 1) * math.prod(range(1, 2 * n - 2, 2))


def apply(a, b, out=None):
    """Values (A,P), (B,P) -> (4AB,P), all of a and b with each of OPERATORS; nan where there is none. out: where they go."""
    a, b = a[:, None], b[None]
    shape = 4, a.shape[0], *b.shape[1:]
    out = np.empty(shape, a.dtype) if out is None else out.reshape(shape)
    np.add(a, b, out=out[0])
    np.abs(np.subtract(a, b, out=out[1]), out=out[1])
    np.multiply(a, b, out=out[2])
    np.divide(np.maximum(a, b), np.minimum(a, b), out=out[3])
    np.copyto(out[3], np.nan, where=~(out[3] - np.floor(out[3]) == 0))  # a division by zero, too
    return out.reshape(-1, out.shape[-1])


def hits(a, b, target, out):
    """Which of apply(a, b) are the target -> out (4AB,P) bool: the last step, whose values are compared and never made."""
    if len(a) == 1:  # either way round they are the same, and the same place; what is made of the shorter costs less
        a, b = b, a
    a, divisor = a[:, None], np.where((b > 0) & (target > 0), b, np.nan)
    out = out.reshape(4, a.shape[0], *b.shape)
    np.equal(a, target - b, out=out[0])
    np.logical_or(a == b + target, a == b - target, out=out[1])
    np.equal(a * b, target, out=out[2])
    np.logical_or(a == divisor * target, a == divisor / target, out=out[3])


@functools.cache
def workspace(n, count, exact):
    """-> {operands: an array (forms,P)} for solutions to fill. Made anew each time, they would take a third of it."""
    subsets = [operands for size in range(1, n + 1) for operands in itertools.combinations(range(n), size)]
    return {x: np.empty((count_forms(len(x)), count), exact if len(x) < n else bool) for x in subsets}


def solutions(numbers, targets):
    """Numbers (n,P), targets (P), both of ints -> (problem, form) of every solution, sorted by problem: two arrays."""
    n, count = numbers.shape
    exact = np.float32 if int(numbers.max()) ** (n - 1) < 2**24 else np.float64
    targets, values = targets.astype(exact), workspace(n, count, exact)
    with np.errstate(all="ignore"):
        for operands, out in values.items():
            if len(operands) == 1:
                out[:] = numbers[operands[0]]
                continue
            start = 0
            for a, b in splits(operands):
                stop = start + 4 * len(values[a]) * len(values[b])
                if len(operands) < n:
                    apply(values[a], values[b], out[start:stop])
                else:
                    hits(values[a], values[b], targets, out[start:stop])
                start = stop
    form, problem = np.divmod(np.flatnonzero(values[tuple(range(n))]), count)
    order = np.argsort(problem, kind="stable")
    return problem[order], form[order]


def express(form, numbers, rng, operands=None):
    """A form's index -> (value, text, how tightly its last operator binds); terms of + and * come in random order."""
    operands = operands or tuple(range(len(numbers)))
    if len(operands) == 1:
        return numbers[operands[0]], str(numbers[operands[0]]), 3
    for a, b in splits(operands):
        each = count_forms(len(a)) * count_forms(len(b))
        if form < 4 * each:
            break
        form -= 4 * each
    operator, form = OPERATORS[form // each], form % each
    left = express(form // count_forms(len(b)), numbers, rng, a)
    right = express(form % count_forms(len(b)), numbers, rng, b)
    if left[0] < right[0] if operator in "-/" else rng.random() < 0.5:
        left, right = right, left
    x, y = left[0], right[0]
    value = x + y if operator == "+" else x - y if operator == "-" else x * y if operator == "*" else x // y
    binds = 1 if operator in "+-" else 2
    # a - (b + c) and a / (b * c) need their parentheses, a + (b - c) and a * (b / c) do not
    tight = binds + (operator in "-/")
    texts = [f"({text})" if inner < least else text for (_, text, inner), least in ((left, binds), (right, tight))]
    return value, f" {operator} ".join(texts), binds


# -----------------------------------------------------------------------------
# The generator

LARGEST, TARGETS, TRAIN, HELD_OUT, CHUNK = 50, 101, 262_144, 1024, 1024
SPLITS = ("test", "train")


def key(problem):
    return (*sorted(problem["numbers"]), problem["target"])


def draw(task):
    """(operands, seed, split, chunk number) -> the solvable ones of CHUNK drawn problems, each with one of its solutions.

    Operands are uniform in [1, 50], the target in [0, 100]; every solution, as a tree, is as likely to be the label.
    """
    n, seed, split, chunk = task
    stream = (seed, n, SPLITS.index(split), chunk)
    rng, order = np.random.default_rng(stream), random.Random(repr(stream))
    out = []
    for _ in range(0, CHUNK, 128):
        numbers, targets = rng.integers(1, LARGEST + 1, (n, 128)), rng.integers(0, TARGETS, 128)
        problem, form = solutions(numbers, targets)
        solvable, first, count = np.unique(problem, return_index=True, return_counts=True)
        chosen = form[first + (rng.random(len(first)) * count).astype(np.int64)]
        for p, f in zip(solvable.tolist(), chosen.tolist(), strict=True):
            operands = numbers[:, p].tolist()
            out.append({"numbers": operands, "target": int(targets[p]), "solution": express(f, operands, order)[1]})
    return out


def send_drawn(pipe, n, seed, split, first, stride):
    """The life of a worker: it draws every stride-th chunk, until nobody is at the other end of the pipe."""
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for chunk in itertools.count(first, stride):
            pipe.send(draw((n, seed, split, chunk)))


def draw_in_workers(n, seed, split, workers):
    """What draw makes of chunks 0, 1, 2, ... in turn, in so many processes. Raises ChildProcessError if one dies.

    Each has a pipe of its own, which ends with it: a pool of the standard library waits for ever for a worker that is killed
    as it sends, and leaves its workers behind where it is killed itself.
    """
    spawn, pipes = multiprocessing.get_context("spawn"), []  # never fork where threads may run
    try:
        for first in range(workers):
            ours, theirs = spawn.Pipe(duplex=False)
            pipes.append(ours)
            spawn.Process(target=send_drawn, args=(theirs, n, seed, split, first, workers), daemon=True).start()
            theirs.close()  # the worker's own is then the only one
        for pipe in itertools.cycle(pipes):
            yield pipe.recv()
    except (EOFError, OSError):
        raise ChildProcessError("a worker process died, as they do where memory runs out") from None
    finally:
        for pipe in pipes:
            pipe.close()


def generate(n, seed):
    """-> {"test": no two problems with the same operands and target, "train": none with those of a held-out one}"""
    problems, held_out = {split: [] for split in SPLITS}, set()
    with tqdm(total=HELD_OUT + TRAIN, desc=f"{n} operands", mininterval=1) as bar:
        for (split, kept), count in zip(problems.items(), (HELD_OUT, TRAIN), strict=True):
            if split == "test":  # so few are not worth the workers
                chunks = map(draw, ((n, seed, split, chunk) for chunk in itertools.count()))
            else:
                chunks = draw_in_workers(n, seed, split, min(16, os.cpu_count()))
            drawn = itertools.chain.from_iterable(chunks)
            while len(kept) < count:
                problem = next(drawn)
                if key(problem) not in held_out:
                    kept.append(problem)
                    held_out.update([key(problem)] if split == "test" else [])
                    bar.update()
    return problems


TOKENS = (
    r"User: Using the numbers \[|, |\], create an equation that equals |\.\nAssistant: Let me solve this step by step\.\n"
    r"|<answer> | </answer>| [-+*/] |[0-9]+|[()]"
)


def make_problems(folder, n, seed):
    """Write the problems of n operands, and a tokenizer of one token a number for tiny models, where they are not there yet."""
    tokenizer, paths = os.path.join(folder, "tokenizer.json"), {s: problem_file(folder, n, seed, s) for s in SPLITS}
    if all(map(os.path.isfile, (tokenizer, *paths.values()))):
        return
    with alone_in(folder):
        if not os.path.isfile(tokenizer):
            every = [prompt([x, x], x) + answer(f"({x} + {x} - {x} * {x}) / {x}") for x in range(TARGETS)]
            train_tokenizer(every, 512, tokenizer, TOKENS)
        if all(map(os.path.isfile, paths.values())):
            return
        for split, problems in generate(n, seed).items():
            with whole(paths[split]) as unfinished, open(unfinished, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(problem) + "\n" for problem in problems)
            print(f"{paths[split]}: {len(problems):,} problems", *statistics(problems), sep="\n")


def make_sums(folder, n, seed):
    """The problems told as sums, "19 - 7 + 3=15", in shards for train.py: what a tiny Base reads before it is asked."""
    with alone_in(folder):
        for split, name in zip(SPLITS, ("val", "train"), strict=True):
            lines = [f"{p['solution']}={p['target']}\n" for p in read_problems(folder, n, seed, split)]
            write_text(folder, name, ("".join(lines[i : i + 16]) for i in range(0, len(lines), 16)))


def problem_file(folder, n, seed, split):
    return os.path.join(folder, f"{n}_seed{seed}_{split}.jsonl")


def read_problems(folder, n, seed, split, limit=0):
    """-> the first so many (0: all) problems: dicts of numbers, target, solution"""
    path = problem_file(folder, n, seed, split)
    return runtime.read_lines(path, like={"numbers": [], "target": 0, "solution": ""})[: limit or None]


def statistics(problems):
    """Which operators the labels use -> lines"""
    count = Counter(x for problem in problems for x in problem["solution"] if x in OPERATORS)
    parentheses = sum("(" in problem["solution"] for problem in problems) / len(problems)
    shares = ", ".join(f"{x} {count[x] / count.total():.1%}" for x in OPERATORS)
    distinct = len(set(map(key, problems)))
    return [f"    operators: {shares}; {parentheses:.1%} with parentheses; {distinct:,} distinct (operands, target)"]


# -----------------------------------------------------------------------------
# Training and evaluation


@coprocessor.with_options
@dataclasses.dataclass
class Config:
    # the system
    variant: str = "h2"  # soft | pause | liu | h1 | h2 | no_cot
    init_from: str = "openai-community/gpt2"  # hub name, folder, random:<size>, run: all of it, or of another variant its Base
    n_latents: int = 16  # N_L
    scale_latents: bool = False  # liu, h2: feed Z at a learnable scale instead of plain
    orthogonality_weight: float = 0.0  # of the penalty on overlap between the latents of a branch
    # the problems
    operands: Count = 4  # 3 | 4 | 5
    data: str = "data/countdown"  # where problems are kept, and made where there are none yet
    data_seed: int = 0  # of the problems
    tokenizer: str = "gpt2"  # gpt2 | qwen3 | a tokenizer.json; data/countdown gets one of a token a number
    train_limit: int = 0  # use the first so many of the 262,144 training problems; 0: all
    test_limit: int = 0  # of the 1,024 held-out ones
    max_new_tokens: Count = 64  # of an answer
    seed: int = 1337  # of initialisation and order
    # training (AdamW, constant learning rate, no curriculum)
    epochs: Count = 3
    batch_size: Count = 128  # problems per optimizer step, over all ranks
    micro_batch: Count = 32  # problems per rank and forward pass; accumulation follows
    lr: float = 1e-4
    weight_decay: float = 0.01
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    clip: float = 0.0  # of the gradient's norm; 0: none
    # without training
    solve: str = ""  # one problem, as "19 36 55 7 = 65": the run in out_dir answers, and so does the solver
    show: int = 0  # print that many training problems
    sums: bool = False  # write the problems as sums, running text for config/tiny_sums.py
    # logging
    log_every: Count = 100  # steps
    checkpoint_every: Count = 1000  # steps, and after every epoch
    keep_checkpoints: int = 0  # how many earlier ones stay, as checkpoint_<step>
    wandb: bool = False  # also log to Weights & Biases (pip install wandb)
    # the machine
    device: str = "auto"  # auto | cpu | cuda | mps
    precision: str = "auto"  # auto (bf16 where the hardware multiplies it) | bf16 | fp32
    # the run
    out_dir: str = ""  # default: out/<config file>, then the settings of the command line
    resume: bool = False  # go on from the folder's checkpoint
    overwrite: bool = False  # delete the folder first


# What a resumed run may change: nothing that changes what is computed.
MAY_DIFFER = ("resume", "overwrite", "out_dir", "log_every", "checkpoint_every", "keep_checkpoints", "wandb", "device")
MAY_DIFFER += ("solve", "show", "sums")
NOT_HERE = ("continued", "coconut", "cot", "no_thought")  # they want text, or steps; every other variant can be trained


def train(c, machine):
    """One run: train, then ask all held-out problems."""
    torch.manual_seed(c.seed)
    with machine.rank_0_first():
        make_problems(c.data, c.operands, c.data_seed)
        tokenizer = Tokenizer(c.tokenizer)
        model, origin, base_crc32 = questions.load_start(c, tokenizer, c.n_latents)
    model = model.to(machine.device).train()

    problems = read_problems(c.data, c.operands, c.data_seed, "train", c.train_limit)
    held_out = read_problems(c.data, c.operands, c.data_seed, "test", c.test_limit)
    pairs = [
        (tokenizer.encode(prompt(p["numbers"], p["target"])), [*tokenizer.encode(answer(p["solution"])), tokenizer.eot])
        for p in problems
    ]
    longest, context = max(len(q) + len(text) for q, text in pairs) + model.span(), model.base.config.context
    if longest > context:
        raise ValueError(f"{longest} tokens, the model has {context} positions")
    steps_per_epoch = len(pairs) // c.batch_size
    if not steps_per_epoch:
        raise ValueError(f"{len(pairs)} training problems do not fill a batch of {c.batch_size}")
    test = Answers([tokenizer.encode(prompt(p["numbers"], p["target"])) for p in held_out], model, tokenizer, c, machine)

    optimizer, names, parameters = questions.adamw(model, c, machine.device)
    checksum = questions.crc32([ids for pair in pairs for ids in pair])
    settings = dataclasses.asdict(c) | dict(started_from=origin, base_crc32=base_crc32)
    state, metrics, seconds = runtime.enter(
        c, settings, MAY_DIFFER, machine, tokenizer.path,
        lambda folder: coprocessor.load(model, folder), optimizer, names,
        dict(step=0, seconds=0.0, rows=len(pairs), data_crc32=checksum, tokens=0),
    )  # fmt: skip
    run = runtime.wrap(model, machine)

    total = c.epochs * steps_per_epoch
    if machine.master:
        print(show(c))
        print(
            f"{machine}; {origin}; {sum(p.numel() for p in parameters):,} trained of "
            f"{sum(p.numel() for p in model.parameters()):,} parameters; {len(pairs):,} problems of {c.operands} operands, "
            f"{c.epochs} epochs of {steps_per_epoch:,} steps"
        )

    def ask():
        model.eval()
        predictions = grade_equations(held_out, test.texts(model))
        model.train()
        right = sum(p["correct"] for p in predictions)
        record = dict(test_accuracy=right / len(predictions), test_questions=len(predictions))
        return predictions, record | dict(test_interval=wilson(right, len(predictions)))

    def check():
        # what the last update ruined is neither judged nor saved: the checkpoint before stays the last good one
        runtime.finite_loss(machine, state["step"], loss, norm, c.out_dir)
        runtime.finite_weights(
            machine, state["step"], lambda: questions.text_nll(model, chosen[: c.micro_batch], machine.device),
            model, optimizer, names, c.out_dir,
        )  # fmt: skip

    def save():
        check()
        if machine.master:
            now = state | {"seconds": seconds()}
            runtime.save_checkpoint(c.out_dir, lambda f: coprocessor.save(model, f), optimizer, names, now, c.keep_checkpoints)

    first, pace, interrupt = state["step"], runtime.Pace(seconds), runtime.Interrupt(machine)
    for epoch in range(first // steps_per_epoch, c.epochs):
        rows = questions.order(c.seed, epoch, len(pairs))
        for i in range(state["step"] - epoch * steps_per_epoch, steps_per_epoch):
            # the global batch, the same on every rank: pass 1 reads the problems, pass 2 begins a branch at the end of each,
            # pass 3 writes the answers; then one step of AdamW
            chosen = [pairs[n] for n in rows[i * c.batch_size : (i + 1) * c.batch_size]]
            loss, norm = questions.train_step(run, chosen, optimizer, parameters, c, machine)

            state["step"] += 1
            state["tokens"] += sum(len(question) + len(text) for question, text in chosen)
            done, epoch_ends = state["step"], i == steps_per_epoch - 1
            if done % c.log_every == 0 or epoch_ends or done == 1:
                mean = runtime.finite_loss(machine, done, loss, norm, c.out_dir)
                record = dict(step=done, epoch=epoch, tokens=state["tokens"], loss=mean, lr=c.lr, grad_norm=norm.item())
                record["seconds"] = seconds()
                line = f"step {done}/{total}: loss {mean:.4f}"
                if speed := pace(done, record["seconds"]):  # steps per second
                    line += f", {runtime.clock((total - done) / speed)} left"
                if epoch_ends and done < total:  # only looked at: nothing is chosen by it
                    check()
                    record |= ask()[1]
                    line += f", {record['test_accuracy']:.1%} of the held-out problems right"
                metrics.write(record)
                if machine.master:
                    print(line, flush=True)
            save_now = done % c.checkpoint_every == 0 or epoch_ends
            if save_now:
                save()
            if save_now or done == first + 1:
                pace.begin(done)  # what is asked and saved is no part of the speed
            interrupt.leave(done, save)

    # once, at the end, all held-out problems
    interrupt.over()
    predictions, result = ask()
    if machine.master:
        metrics.write(dict(step=total, tokens=state["tokens"], seconds=seconds(), **result))
        runtime.write_lines(os.path.join(c.out_dir, "predictions.jsonl"), predictions)
        low, high = result["test_interval"]
        reasons = Counter(p["reason"] for p in predictions)
        print(
            f"{c.variant}, {c.operands} operands, N_L = {model.n_latents}: {result['test_accuracy']:.1%} of "
            f"{len(predictions):,} held-out problems right (95 % interval {low:.1%} to {high:.1%}); "
            + ", ".join(f"{reasons[reason]} {reason}" for reason in REASONS if reasons[reason])
            + f"\ndone: {c.out_dir}/predictions.jsonl holds every answer"
        )


def solve(c):
    """The run's answer to one problem, the verdict on it, and a solution by exhaustive search."""
    parts = re.fullmatch(r"\s*([0-9]+(?: +[0-9]+){1,5}) *= *([0-9]+)\s*", c.solve)
    numbers, target = ([int(x) for x in parts[1].split()], int(parts[2])) if parts else ([], 0)
    if not parts or max(*numbers, target) > 999:
        raise ValueError(f'--solve="19 36 55 7 = 65" has 2 to 6 numbers and a target, none above 999; this is {c.solve!r}')
    if os.path.exists(os.path.join(c.out_dir, "config.json")):
        model, _ = coprocessor.load_run(c.out_dir)
        tokenizer = tokenizer_of(c.out_dir)
        machine = runtime.Machine(torch.device("cpu"), False)
        (text,) = Answers([tokenizer.encode(prompt(numbers, target))], model, tokenizer, c, machine).texts(model)
        print(f"{c.out_dir}: {text!r}  ({verify(text, numbers, target)[1]})")
    else:
        print(f"no run in {c.out_dir} to ask; --out_dir=... names one")
    _, forms = solutions(np.array(numbers)[:, None], np.array([target]))
    if len(forms):
        text = express(int(random.Random(c.seed).choice(forms)), numbers, random.Random(c.seed))[1]
        print(f"the solver: {text}  (one of {len(forms):,} expression trees)")
    else:
        print("the solver: no expression of all these numbers has that value without a fraction on the way")


def main():
    c = configure(Config, __doc__, may_differ=MAY_DIFFER)
    names = [name for name in coprocessor.VARIANTS if name not in NOT_HERE]
    if c.variant not in names:
        raise ValueError(f"unknown variant {c.variant!r}: one of {', '.join(names)}")
    c.n_latents *= coprocessor.VARIANTS[c.variant].has_latents
    if c.operands not in (3, 4, 5):
        raise ValueError(f"operands must be 3, 4 or 5, not {c.operands}")
    if c.solve:
        return solve(c)
    if c.sums:
        if shard_paths(c.data, "train"):  # written last
            raise ValueError(f"{c.data} has sums already")
        make_problems(c.data, c.operands, c.data_seed)
        return make_sums(c.data, c.operands, c.data_seed)
    if c.show:
        make_problems(c.data, c.operands, c.data_seed)
        for p in read_problems(c.data, c.operands, c.data_seed, "train", c.show):
            print(prompt(p["numbers"], p["target"]) + answer(p["solution"]), end="\n\n")
        print(*statistics(read_problems(c.data, c.operands, c.data_seed, "train")), sep="\n")
        return
    machine = runtime.start(c.device, c.precision)
    questions.check_batch(c, machine)
    train(c, machine)
    runtime.finish()


if __name__ == "__main__":
    one_line_errors(main)
