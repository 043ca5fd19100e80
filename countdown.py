"""Countdown (paper, section 4.2 and appendix B): make the target out of all the numbers. More numbers are harder.

    python countdown.py --show=3                              # three problems
    python countdown.py config/tiny_countdown.py              # h2, 3 operands, N_L = 4
    torchrun --nproc_per_node=8 countdown.py config/countdown_gpt2.py --variant=h1 --operands=5

From top to bottom: the solver, which finds every solution; the generator, which keeps the solvable ones of random problems;
training, without a curriculum: one branch at the end of the problem, latents first, then the answer. The verifier parses an
answer and never evaluates it.
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
from fractions import Fraction

from configurator import Count, configure, one_line_errors

import numpy as np
import torch
from tqdm import tqdm

import coprocessor
import finetuning
import runtime
from data import atomic_write, folder_lock, shard_paths, tokenizer_of, train_tokenizer, write_text
from finetuning import EvalSet, Written, share_interval

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
    with folder_lock(folder):
        if not os.path.isfile(tokenizer):
            every = [prompt([x, x], x) + answer(f"({x} + {x} - {x} * {x}) / {x}") for x in range(TARGETS)]
            train_tokenizer(every, 512, tokenizer, TOKENS)
        if all(map(os.path.isfile, paths.values())):
            return
        for split, problems in generate(n, seed).items():
            with atomic_write(paths[split]) as unfinished, open(unfinished, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(problem) + "\n" for problem in problems)
            print(f"{paths[split]}: {len(problems):,} problems", *statistics(problems), sep="\n")


def make_sums(folder, n, seed):
    """The problems told as sums, "19 - 7 + 3=15", in shards for train.py: what a tiny Base reads before it is asked."""
    with folder_lock(folder):
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
# Right or wrong? An equation is verified, whichever it is


def prompt(numbers, target):
    """As in the paper's example; the latents follow it."""
    return (
        f"User: Using the numbers [{', '.join(map(str, numbers))}], create an equation that equals {target}.\n"
        "Assistant: Let me solve this step by step.\n"
    )


def answer(solution):
    return f"<answer> {solution} </answer>"


REASONS = ("correct", "no answer", "bad syntax", "wrong numbers", "wrong value", "division by zero")
BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "×": 2, "÷": 2}


def postfix(tokens):
    """Numbers, operators and parentheses, as strings -> the numbers and operators in postfix order, None for bad syntax.

    expression = term {("+" | "-") term};  term = factor {("*" | "/") factor};  factor = number | "(" expression ")"
    """
    out, waiting, operand_next = [], [], True
    for token in tokens:
        if operand_next != (token == "(" or token.isdigit()):
            return None
        if token.isdigit():
            out.append(token)
            operand_next = False
        elif token == "(":
            waiting.append(token)
        else:  # an operator or a closing parenthesis ends what binds as tightly
            while waiting and waiting[-1] != "(" and BINDS[waiting[-1]] >= BINDS.get(token, 0):
                out.append(waiting.pop())
            if token in BINDS:
                waiting.append(token)
                operand_next = True
            elif not waiting:
                return None
            else:
                waiting.pop()
    if operand_next or "(" in waiting:
        return None
    return out + waiting[::-1]


def work_out(x, operator, y):
    return x + y if operator == "+" else x - y if operator == "-" else x * y if operator in "*×" else Fraction(x, y)


def operations(solution):
    """The steps of a solution in the order in which they are worked out: "(36 + 55) / 7" -> 36 + 55 = 91, 91 / 7 = 13"""
    values, steps = [], []
    for token in postfix(re.findall(r"[0-9]+|[-+*/()]", solution)):
        if token.isdigit():
            values.append(int(token))
            continue
        y, x = values.pop(), values.pop()
        values.append(work_out(x, token, y))
        steps.append(f"{x} {token} {y} = {values[-1]}")
    return steps


def verify(text, numbers, target):
    """A completion that should hold one <answer>...</answer> and end with it -> (is it right?, one of REASONS).

    The expression must use every one of the numbers exactly once and be worth the target, as an exact rational. Never
    evaluates code, never raises for any text; time is linear in the text's length.
    """
    tags = text.count("<answer>"), text.count("</answer>")
    if not all(tags):
        return False, "no answer"
    inner, closed, rest = text.partition("<answer>")[2].partition("</answer>")
    if tags != (1, 1) or not closed or rest.strip() or not re.fullmatch(r"[-+*/×÷() \t\n0-9]+", inner):
        return False, "bad syntax"
    tokens = re.findall(r"[0-9]+|[^ \t\n]", inner)
    steps = postfix(tokens)
    # no more than a pair of parentheses around every number and every operation
    if steps is None or tokens.count("(") > len(steps) or any(t[0] == "0" != t for t in tokens):
        return False, "bad syntax"
    if sorted(t for t in steps if t.isdigit()) != sorted(map(str, numbers)):
        return False, "wrong numbers"
    values = []
    for step in steps:
        if step.isdigit():
            values.append(Fraction(int(step)))
            continue
        y, x = values.pop(), values.pop()
        if step in "/÷" and y == 0:
            return False, "division by zero"
        values.append(work_out(x, step, y))
    return (True, "correct") if values[0] == target else (False, "wrong value")


def grade_equations(problems, texts):
    """-> a line of predictions.jsonl for each"""
    out = []
    for n, (problem, text) in enumerate(zip(problems, texts, strict=True)):
        ok, reason = verify(text, problem["numbers"], problem["target"])
        question = prompt(problem["numbers"], problem["target"]).removesuffix("\n")
        steps = operations(problem["solution"])
        out.append(dict(item=n, **problem, question=question, steps=steps, text=text, correct=ok, reason=reason))
    return out


# -----------------------------------------------------------------------------
# Training and evaluation


@dataclasses.dataclass
class Config(coprocessor.Options):
    # the system
    variant: str = "h2"  # soft | tied | pause | liu | h1 | h2 | rounds | no_cot
    init_from: str = "openai-community/gpt2"  # hub name, folder, random:<size>, run: all of it, or of another variant its Base
    n_latents: int = 16  # N_L
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
    beta1: float = 0.9
    beta2: float = 0.999
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


# What a resumed run may change: nothing that changes what is computed (device and micro_batch change its last bits).
RESUME_MAY_CHANGE = ("resume", "overwrite", "out_dir", "log_every", "checkpoint_every", "keep_checkpoints", "wandb", "device")
RESUME_MAY_CHANGE += ("micro_batch", "solve", "show", "sums")
NOT_HERE = ("continued", "coconut", "cot", "no_thought")  # they want text, or steps; every other variant can be trained


def written(problem, tokenizer, with_steps):
    """A problem -> Written. Its steps are never written out, only spelled by latents (--step_weight)."""
    question, text = prompt(problem["numbers"], problem["target"]), answer(problem["solution"])
    steps = [tokenizer.encode(step + "\n") for step in operations(problem["solution"])] if with_steps else []
    return Written(tokenizer.encode(question), [*tokenizer.encode(text), tokenizer.eot], steps, 0)


def train(c, machine):
    """One run: train, then ask all held-out problems."""
    run = runtime.Run(c, machine, RESUME_MAY_CHANGE)

    # the system, new or the checkpoint's
    torch.manual_seed(c.seed)
    latents_per_step, uneven = divmod(c.n_latents, c.operands - 1)
    if uneven and (c.step_weight or c.variant == "rounds"):
        raise ValueError(f"n_latents={c.n_latents} cannot be shared by the {c.operands - 1} steps of a solution")
    with machine.main_process_first():
        make_problems(c.data, c.operands, c.data_seed)
        tokenizer = run.tokenizer(c.tokenizer)
        model, origin, base_crc32 = finetuning.load_start(c, tokenizer, c.n_latents, latents_per_step, run.checkpoint)
    model = model.to(machine.device).train()

    # the problems that it is trained on, and those that it is asked
    problems = read_problems(c.data, c.operands, c.data_seed, "train", c.train_limit)
    held_out = read_problems(c.data, c.operands, c.data_seed, "test", c.test_limit)
    items = [written(p, tokenizer, with_steps=c.step_weight > 0) for p in problems]
    longest = max(len(item.question) + len(item.text) for item in items) + model.branch_offset()
    context = model.base.config.context
    if longest > context:
        raise ValueError(f"{longest} tokens, the model has {context} positions")
    steps_per_epoch = len(items) // c.batch_size
    if not steps_per_epoch:
        raise ValueError(f"{len(items)} training problems do not fill a batch of {c.batch_size}")
    test = EvalSet([tokenizer.encode(prompt(p["numbers"], p["target"])) for p in held_out], model, tokenizer, c, machine)
    optimizer, parameters = finetuning.adamw(model, c, machine.device)

    # from here on there is a folder, which nobody else writes to
    checksum = finetuning.crc32([*(ids for item in items for ids in (item.question, item.text)), *test.questions])
    run.begin(
        model, optimizer, lambda folder: coprocessor.save(model, folder, c.out_dir), tokenizer.path,
        settings=dict(latents_per_step=latents_per_step, started_from=origin, base_crc32=base_crc32),
        state=dict(data_crc32=checksum, tokens=0),
    )  # fmt: skip
    wrapped, total = runtime.wrap(model, machine), c.epochs * steps_per_epoch
    machine.print(f"{origin}; {len(items):,} problems of {c.operands} operands, {c.epochs} epochs of {steps_per_epoch:,} steps")

    def ask():
        model.eval()
        predictions = grade_equations(held_out, test.answer_questions(model))
        model.train()
        right = sum(p["correct"] for p in predictions)
        record = dict(test_accuracy=right / len(predictions), test_questions=len(predictions))
        return predictions, record | dict(test_interval=share_interval(right, len(predictions)))

    def check():
        # what the last update ruined is neither judged nor saved: the checkpoint before stays the last good one
        run.check(loss, norm, lambda: finetuning.text_nll(model, chosen[: c.micro_batch], machine.device))

    for epoch in range(run.step // steps_per_epoch, c.epochs):
        rows = finetuning.epoch_permutation(c.seed, epoch, len(items))
        for i in range(run.step - epoch * steps_per_epoch, steps_per_epoch):
            # the global batch, the same on every rank: pass 1 reads the problems, pass 2 starts a branch at the end of each,
            # pass 3 writes the answers; then one step of AdamW
            chosen = [items[n] for n in rows[i * c.batch_size : (i + 1) * c.batch_size]]
            torch.manual_seed(c.seed + run.step)  # a variant that draws random numbers resumes to the same ones
            loss, norm = finetuning.train_step(wrapped, chosen, optimizer, parameters, c, machine)
            run.step += 1
            run.state["tokens"] += sum(len(item.question) + len(item.text) for item in chosen)

            # a line now and then, and after each epoch, when the held-out problems are asked, too
            epoch_ends = i == steps_per_epoch - 1
            log_now = run.step % c.log_every == 0 or epoch_ends or run.step == 1
            if log_now:
                mean = run.finite_loss(loss, norm)
                record = dict(step=run.step, epoch=epoch, tokens=run.state["tokens"], loss=mean, lr=c.lr)
                record |= dict(grad_norm=norm.item(), seconds=run.elapsed())
                line = f"step {run.step}/{total}: loss {mean:.4f}"
                if speed := run.throughput():  # steps per second
                    line += f", {runtime.format_duration((total - run.step) / speed)} left"
                if epoch_ends and run.step < total:  # only looked at: nothing is chosen by it
                    check()
                    with run.saved_if_it_fails():
                        record |= ask()[1]
                    line += f", {record['test_accuracy']:.1%} of the held-out problems right{test.told_cut()}"
                run.log(record, line)
            # a checkpoint is all that a resumed run needs to end with the same bytes; who stops a run gets one, too
            stop = run.interrupted(log_now)
            if run.step % c.checkpoint_every == 0 or epoch_ends or stop:
                check()
                run.save()
            if stop:
                run.leave()

    # once, at the end, all held-out problems
    run.stop_listening()
    predictions, result = ask()
    if machine.master:
        runtime.write_lines(os.path.join(c.out_dir, "predictions.jsonl"), predictions)
        low, high = result["test_interval"]
        reasons = Counter(p["reason"] for p in predictions)
        run.log(
            dict(step=total, tokens=run.state["tokens"], seconds=run.elapsed(), **result),
            f"{c.variant}, {c.operands} operands, N_L = {model.n_latents}: {result['test_accuracy']:.1%} of "
            f"{len(predictions):,} held-out problems right (95 % interval {low:.1%} to {high:.1%}){test.told_cut()}; "
            + ", ".join(f"{reasons[reason]} {reason}" for reason in REASONS if reasons[reason])
            + f"\ndone: {c.out_dir}/predictions.jsonl holds every answer",
        )
    run.finish()


def solve(c):
    """The run's answer to one problem, the verdict on it, and a solution by exhaustive search."""
    parts = re.fullmatch(r"\s*([0-9]+(?: +[0-9]+){1,5}) *= *([0-9]+)\s*", c.solve)
    numbers, target = ([int(x) for x in parts[1].split()], int(parts[2])) if parts else ([], 0)
    if not parts or max(*numbers, target) > 999:
        raise ValueError(f'--solve="19 36 55 7 = 65" has 2 to 6 numbers and a target, none above 999; this is {c.solve!r}')
    if os.path.exists(os.path.join(c.out_dir, "config.json")):
        model, _ = coprocessor.load_run(c.out_dir)
        tokenizer = tokenizer_of(c.out_dir)
        machine = runtime.DistEnv(torch.device("cpu"), False)
        (text,) = EvalSet([tokenizer.encode(prompt(numbers, target))], model, tokenizer, c, machine).answer_questions(model)
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
    c = configure(Config, __doc__, resume_may_change=RESUME_MAY_CHANGE)
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
    finetuning.check_batch(c, machine)
    train(c, machine)


if __name__ == "__main__":
    one_line_errors(main)
