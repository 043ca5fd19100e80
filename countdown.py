"""Countdown (paper, section 4.2 and appendix B): make the target out of all the numbers. More numbers are harder.

    python countdown.py --show=3                              # three problems
    python countdown.py config/tiny_countdown.py              # h2, 3 operands, N_L = 4
    torchrun --nproc_per_node=8 countdown.py config/countdown_gpt2.py --variant=h1 --operands=5

From top to bottom: the solver, which finds every solution; the generator, which keeps the solvable ones of random problems;
the verifier, which parses an answer and never runs it; training, without a curriculum: one branch at the end of the problem,
latents first, then the answer.
"""

import ast
import dataclasses
import functools
import itertools
import multiprocessing
import operator
import os
import random
import re
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction

from configurator import Count, configure, one_line_errors

import numpy as np
import torch
from tqdm import tqdm

import coprocessor
import finetuning
import runtime
from data import folder_lock, shard_paths, tokenizer_of, train_tokenizer, write_text
from finetuning import EvalSet, Written, share_interval

# -----------------------------------------------------------------------------
# The solver: all expressions of many problems at once
#
# A form of n operands is a binary tree over them with an operator at every node. Only values of 0 and above are needed: the
# sign of a difference can always be moved outwards, and a target is not negative. So a node has four operators: the sum,
# the larger minus the smaller, the product, and the larger divided by the smaller where that leaves no remainder.

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": Fraction}


@functools.cache
def splits(operands):
    """A tuple of operands in two parts, each way once; the first operand is always on the left."""
    first, rest = operands[0], operands[1:]
    left = [more for size in range(len(rest)) for more in itertools.combinations(rest, size)]
    return [((first, *more), tuple(x for x in rest if x not in more)) for more in left]


@functools.cache
def forms(operands):
    """All of them, in the order of the values of solutions: an operand, or (operator, form, form). 1, 4, 48, 960, 26880, ..."""
    if len(operands) == 1:
        return operands
    return [(sign, a, b) for x, y in splits(operands) for sign in OPERATIONS for a in forms(x) for b in forms(y)]


def combine(a, b):
    """Values (A,1,P), (1,B,P) -> four of (A,B,P), one for each of OPERATIONS; nan where a quotient is no whole number"""
    larger, smaller = np.maximum(a, b), np.minimum(a, b)
    quotient = larger / smaller  # a division by zero is not finite, and its floor no less
    return a + b, larger - smaller, a * b, np.where(quotient - np.floor(quotient) == 0, quotient, np.nan)


def matches_target(a, b, target):
    """Which of combine(a, b) are the target, without making them: at the root, where most of the forms are. What the larger
    table has to hold is worked out from the smaller one."""
    a, b = (a, b) if a.size < b.size else (b, a)
    factor = np.where((a > 0) & (target > 0), a, np.nan)
    difference, quotient = (b == a + target) | (b == a - target), (b == factor * target) | (b == factor / target)
    return b == target - a, difference, a * b == target, quotient


def solutions(numbers, targets):
    """Numbers (n,P), targets (P), both ints -> (problem, index in forms) of every solution, sorted by problem: two arrays"""
    n, count = numbers.shape
    exact = np.float32 if int(numbers.max()) ** (n - 1) < 2**24 else np.float64
    values = {(i,): numbers[i : i + 1].astype(exact) for i in range(n)}  # {operands: (forms,P)}
    targets = targets.astype(exact)
    with np.errstate(all="ignore"):
        for size in range(2, n + 1):
            for operands in itertools.combinations(range(n), size):
                tables = []
                for left, right in splits(operands):
                    a, b = values[left][:, None], values[right][None]
                    tables += combine(a, b) if size < n else matches_target(a, b, targets)
                values[operands] = np.concatenate([table.reshape(-1, count) for table in tables])
    form, problem = np.divmod(np.flatnonzero(values[operands]), count)  # of all operands, the last
    order = np.argsort(problem, kind="stable")
    return problem[order], form[order]


def form_to_string(form, numbers, rng):
    """-> (value, text, how tightly its last operator binds); terms of + and * come in random order."""
    if isinstance(form, int):
        return numbers[form], str(numbers[form]), 3
    sign, left, right = form[0], form_to_string(form[1], numbers, rng), form_to_string(form[2], numbers, rng)
    if left[0] < right[0] if sign in "-/" else rng.random() < 0.5:
        left, right = right, left
    (x, first, first_binds), (y, second, second_binds) = left, right
    binds = 1 if sign in "+-" else 2
    if first_binds < binds:
        first = f"({first})"
    if second_binds < binds + (sign in "-/"):  # a - (b + c) and a / (b * c), but a + b - c and a * b / c
        second = f"({second})"
    return x // y if sign == "/" else OPERATIONS[sign](x, y), f"{first} {sign} {second}", binds


# -----------------------------------------------------------------------------
# The generator

LARGEST, TARGETS, TRAIN, HELD_OUT, CHUNK = 50, 101, 262_144, 1024, 1024
SPLITS = ("test", "train")


def key(problem):
    return (*sorted(problem["numbers"]), problem["target"])


def sample_problems(n, seed, split, chunk):
    """The solvable ones of the CHUNK random problems of that number, each with one of its solutions.

    Operands are uniform in [1, 50], the target in [0, 100]; every solution, as a tree, is as likely to be the label.
    """
    stream = (seed, n, SPLITS.index(split), chunk)
    rng, order = np.random.default_rng(stream), random.Random(repr(stream))
    problems = []
    for _ in range(0, CHUNK, 128):
        numbers, targets = rng.integers(1, LARGEST + 1, (n, 128)), rng.integers(0, TARGETS, 128)
        problem, form = solutions(numbers, targets)
        solvable, first, count = np.unique(problem, return_index=True, return_counts=True)
        chosen = form[first + (rng.random(len(first)) * count).astype(np.int64)]
        for p, f in zip(solvable.tolist(), chosen.tolist(), strict=True):
            operands = numbers[:, p].tolist()
            text = form_to_string(forms(tuple(range(n)))[f], operands, order)[1]
            problems.append({"numbers": operands, "target": int(targets[p]), "solution": text})
    return problems


def end_with_parent():
    """In a process of a pool: where its parent was killed, nobody would tell it that there is no more to do."""
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()


def generate(n, seed):
    """-> {"test": no two problems with the same operands and target, "train": none with those of a held-out one}"""
    problems, held_out = {}, set()
    # spawned: a process that is forked from one with threads may wait for a lock of theirs for ever
    pool = ProcessPoolExecutor(min(8, os.cpu_count()), multiprocessing.get_context("spawn"), end_with_parent)
    with pool, tqdm(total=HELD_OUT + TRAIN, desc=f"{n} operands") as bar:
        for split, count in (("test", HELD_OUT), ("train", TRAIN)):
            kept, chunks, sample = [], itertools.count(), functools.partial(sample_problems, n, seed, split)
            while len(kept) < count:
                for problem in itertools.chain.from_iterable(pool.map(sample, itertools.islice(chunks, 16))):
                    if key(problem) not in held_out and len(kept) < count:
                        kept.append(problem)
                        held_out.update([key(problem)] if split == "test" else [])
                        bar.update()
            problems[split] = kept
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
            texts = [prompt([x, x], x) + answer(f"({x} + {x} - {x} * {x}) / {x}") for x in range(TARGETS)]
            train_tokenizer(texts, 512, tokenizer, TOKENS)
        if all(map(os.path.isfile, paths.values())):
            return
        for split, problems in generate(n, seed).items():
            runtime.write_lines(paths[split], problems)
            print(f"{paths[split]}: {len(problems):,} problems", statistics(problems), sep="\n")


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
    """Which operators the labels use, in words"""
    count = Counter(x for problem in problems for x in problem["solution"] if x in OPERATIONS)
    parentheses = sum("(" in problem["solution"] for problem in problems) / len(problems)
    shares = ", ".join(f"{x} {count[x] / count.total():.1%}" for x in OPERATIONS)
    distinct = len(set(map(key, problems)))
    return f"    operators: {shares}; {parentheses:.1%} with parentheses; {distinct:,} distinct (operands, target)"


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
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def parse(tokens):
    """Numbers, operators and parentheses, as strings -> Python's syntax tree of them. Raises SyntaxError."""
    numbers = [token for token in tokens if token.isdigit()]
    # no more than a pair of parentheses around every number and every operation; nothing that would take Python long
    if tokens.count("(") > 2 * len(numbers) - 1 or len(tokens) > 200 or any(x[0] == "0" != x for x in numbers):
        raise SyntaxError
    tree = ast.parse(" ".join(tokens), mode="eval").body
    if any(type(node) not in (ast.BinOp, ast.Constant, *SIGNS) for node in ast.walk(tree)):
        raise SyntaxError
    return tree


def evaluate(tree):
    """-> (value, a Fraction; the steps in the order in which they are worked out, each "36 + 55 = 91")"""
    if isinstance(tree, ast.Constant):
        return Fraction(tree.value), []
    (x, left), (y, right) = evaluate(tree.left), evaluate(tree.right)
    sign = SIGNS[type(tree.op)]
    value = OPERATIONS[sign](x, y)
    return value, [*left, *right, f"{x} {sign} {y} = {value}"]


def operations(solution):
    """The steps of a solution: "(36 + 55) / 7" -> 36 + 55 = 91, 91 / 7 = 13"""
    return evaluate(ast.parse(solution, mode="eval").body)[1]


def verify(text, numbers, target):
    """A completion that should hold one <answer>...</answer> and end with it -> (is it right?, one of REASONS).

    The expression must use every one of the numbers exactly once and be worth the target, as an exact rational. Never
    runs code, never raises for any text.
    """
    tags = text.count("<answer>"), text.count("</answer>")
    if not all(tags):
        return False, "no answer"
    inner, closed, rest = text.partition("<answer>")[2].partition("</answer>")
    if tags != (1, 1) or not closed or rest.strip() or not re.fullmatch(r"[-+*/×÷() \t\n0-9]+", inner):
        return False, "bad syntax"
    tokens = re.findall(r"[0-9]+|[^ \t\n]", inner.replace("×", "*").replace("÷", "/"))
    try:
        tree = parse(tokens)
    except (SyntaxError, ValueError):  # Python reads no number of more than 4,300 digits
        return False, "bad syntax"
    if sorted(filter(str.isdigit, tokens)) != sorted(map(str, numbers)):
        return False, "wrong numbers"
    try:
        return (True, "correct") if evaluate(tree)[0] == target else (False, "wrong value")
    except ZeroDivisionError:
        return False, "division by zero"


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
class Config(finetuning.Options):
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
    epochs: Count = 3
    # without training
    solve: str = ""  # one problem, as "19 36 55 7 = 65": the run in out_dir answers, and so does the solver
    show: int = 0  # print that many training problems
    sums: bool = False  # write the problems as sums, running text for config/tiny_sums.py
    # logging
    log_every: Count = 100  # steps
    checkpoint_every: Count = 1000  # steps, and after every epoch


RESUME_MAY_CHANGE = (*finetuning.RESUME_MAY_CHANGE, "solve", "show", "sums")
NOT_HERE = ("continued", "coconut", "cot", "no_thought")  # they want text, markers or steps


def written(problem, tokenizer, with_steps):
    """A problem -> Written. Its steps are never written out, only spelled by latents (--step_weight)."""
    question, text = prompt(problem["numbers"], problem["target"]), answer(problem["solution"])
    steps = [tokenizer.encode(step + "\n") for step in operations(problem["solution"])] if with_steps else []
    return Written(tokenizer.encode(question), [*tokenizer.encode(text), tokenizer.eot], steps)


def train(c, machine):
    """One run: train, then ask all held-out problems."""
    run = runtime.Run(c, machine, RESUME_MAY_CHANGE)

    # the system, new or the checkpoint's
    torch.manual_seed(c.seed)
    latents_per_step, uneven = divmod(c.n_latents, c.operands - 1)
    if uneven and (c.step_weight or c.variant == "rounds"):
        raise ValueError(f"n_latents={c.n_latents} cannot be shared by the {c.operands - 1} steps of a solution")
    make_problems(c.data, c.operands, c.data_seed)
    tokenizer = run.tokenizer(c.tokenizer)
    model, origin, base_crc32 = finetuning.load_start(c, tokenizer, c.n_latents, latents_per_step, run.checkpoint)
    model = model.to(machine.device).train()

    # the problems that it is trained on, and those that it is asked
    problems = read_problems(c.data, c.operands, c.data_seed, "train", c.train_limit)
    held_out = read_problems(c.data, c.operands, c.data_seed, "test", c.test_limit)
    items = [written(p, tokenizer, with_steps=c.step_weight > 0) for p in problems]
    steps_per_epoch = finetuning.steps_per_epoch(c, machine, len(items))
    test = EvalSet([tokenizer.encode(prompt(p["numbers"], p["target"])) for p in held_out], model, tokenizer, c, machine)

    # from here on there is a folder, which nobody else writes to
    ids = [*(ids for item in items for ids in (item.question, item.text)), *test.questions]
    settings = dict(latents_per_step=latents_per_step, started_from=origin, base_crc32=base_crc32)
    optimizer = finetuning.begin(run, model, tokenizer, ids, settings)
    machine.print(f"{origin}; {len(items):,} problems of {c.operands} operands, {c.epochs} epochs of {steps_per_epoch:,} steps")

    def ask():
        """The held-out problems -> what metrics.jsonl gets, what the line says. Nothing is chosen by it."""
        predictions[:] = grade_equations(held_out, test.answer_questions(model))
        right = sum(p["correct"] for p in predictions)
        low, high = share_interval(right, len(held_out))
        record = dict(test_accuracy=right / len(held_out), test_questions=len(held_out), test_interval=[low, high])
        said = f", {right / len(held_out):.1%} of {len(held_out):,} held-out problems right"
        return record, f"{said} (95 % interval {low:.1%} to {high:.1%}){test.told_cut()}"

    predictions = []
    for epoch in range(run.step // steps_per_epoch, c.epochs):
        finetuning.train_epoch(run, model, optimizer, items, epoch, c.epochs, ask if epoch < c.epochs - 1 else None)

    # once, at the end
    run.stop_listening()
    torch.manual_seed(c.seed + run.step)  # as before each step
    model.eval()
    result, said = ask()
    if machine.master:
        runtime.write_lines(os.path.join(c.out_dir, "predictions.jsonl"), predictions)
        reasons = Counter(p["reason"] for p in predictions)
        run.log(
            dict(step=run.step, tokens=run.state["tokens"], seconds=run.elapsed(), **result),
            f"{c.variant}, {c.operands} operands, N_L = {model.n_latents}{said}; "
            + ", ".join(f"{reasons[reason]} {reason}" for reason in REASONS if reasons[reason])
            + f"\ndone: {c.out_dir}/predictions.jsonl holds every answer",
        )
    run.finish()


def solve(c):
    """The run's answer to one problem, the verdict on it, and a solution by exhaustive search."""
    if not re.fullmatch(r" *[0-9]{1,3}( +[0-9]{1,3}){1,5} *= *[0-9]{1,3} *", c.solve):
        raise ValueError(f'--solve="19 36 55 7 = 65" has 2 to 6 numbers and a target, none above 999; this is {c.solve!r}')
    *numbers, target = map(int, re.findall("[0-9]+", c.solve))
    if os.path.exists(os.path.join(c.out_dir, "config.json")):
        model, _ = coprocessor.load_run(c.out_dir)
        tokenizer = tokenizer_of(c.out_dir)
        machine = runtime.DistEnv(torch.device("cpu"), False)
        (text,) = EvalSet([tokenizer.encode(prompt(numbers, target))], model, tokenizer, c, machine).answer_questions(model)
        print(f"{c.out_dir}: {text!r}  ({verify(text, numbers, target)[1]})")
    else:
        print(f"no run in {c.out_dir} to ask; --out_dir=... names one")
    _, found = solutions(np.array(numbers)[:, None], np.array([target]))
    if len(found):
        form = forms(tuple(range(len(numbers))))[random.Random(c.seed).choice(found)]
        text = form_to_string(form, numbers, random.Random(c.seed))[1]
        print(f"the solver: {text}  (one of {len(found):,} expression trees)")
    else:
        print("the solver: no expression of all these numbers has that value without a fraction on the way")


def main(argv=None):
    c = configure(Config, __doc__, argv, RESUME_MAY_CHANGE)
    names = [name for name, own in coprocessor.VARIANTS.items() if name not in NOT_HERE and not own.adds_tokens]
    if c.variant not in names:
        raise ValueError(f"unknown variant {c.variant!r}: one of {', '.join(names)}")
    c.n_latents *= coprocessor.VARIANTS[c.variant].has_latents
    if c.operands not in (3, 4, 5):
        raise ValueError(f"operands must be 3, 4 or 5, not {c.operands}")
    which = c.data, c.operands, c.data_seed
    if c.solve:
        solve(c)
    elif c.sums:
        if shard_paths(c.data, "train"):  # written last
            raise ValueError(f"{c.data} has sums already")
        make_problems(*which)
        make_sums(*which)
    elif c.show:
        make_problems(*which)
        problems = read_problems(*which, "train")
        for p in problems[: c.show]:
            print(prompt(p["numbers"], p["target"]) + answer(p["solution"]), end="\n\n")
        print(statistics(problems))
    else:
        train(c, runtime.start(c.device, c.precision))


if __name__ == "__main__":
    one_line_errors(main)
