"""Countdown: the solver against brute force, the verifier against mutations, the generator, whole runs."""

import ast
import contextlib
import functools
import itertools
import json
import os
import random
import re
import shutil
import time
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import run_here
from hypothesis import given, settings
from hypothesis import strategies as st

import coprocessor
import countdown as cd
import data
import runtime


def value_of(text, allowed=lambda value: True):
    """A second evaluator, by Python's own parser -> the exact value; allowed is asked of every intermediate one."""

    def walk(node):
        if isinstance(node, ast.Constant):
            return Fraction(node.value)
        x, y = walk(node.left), walk(node.right)
        kind = type(node.op)
        value = x + y if kind is ast.Add else x - y if kind is ast.Sub else x * y if kind is ast.Mult else x / y
        assert allowed(value), text
        return value

    return walk(ast.parse(text.replace("×", "*").replace("÷", "/"), mode="eval").body)


def numbers_in(text):
    return sorted(map(int, re.findall("[0-9]+", text)))


def told(form, numbers, seed=0):
    """The form of that index -> its value and text"""
    return cd.form_to_string(cd.forms(tuple(range(len(numbers))))[form], numbers, random.Random(seed))[:2]


# -----------------------------------------------------------------------------
# The solver


@functools.cache
def reachable(numbers):
    """Brute force, with negative values too: replace any two numbers by any result of theirs -> all integers reached"""
    if len(numbers) == 1:
        return {numbers[0]}
    found = set()
    for i, j in itertools.permutations(range(len(numbers)), 2):
        x, y = numbers[i], numbers[j]
        rest = [numbers[k] for k in range(len(numbers)) if k not in (i, j)]
        results = [x + y, x - y, x * y] + ([x // y] if y and x % y == 0 else [])
        for value in results:
            found |= reachable(tuple(sorted((*rest, value))))
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=4))
def test_the_solver_finds_exactly_what_brute_force_finds(numbers):
    """All targets at once; and every form that it calls a solution is one, with values of 0 and above on the way."""
    targets = np.arange(101)
    problem, forms = cd.solutions(np.repeat(np.array(numbers)[:, None], 101, axis=1), targets)
    assert {*problem.tolist()} == reachable(tuple(numbers)) & {*range(101)}
    assert list(problem) == sorted(problem)
    for target, form in itertools.islice(zip(problem.tolist(), forms.tolist(), strict=True), 0, None, 7):
        value, text = told(form, numbers, seed=form)
        assert value == target == value_of(text) and numbers_in(text) == sorted(numbers)


@pytest.mark.parametrize("seed", range(3))
def test_the_solver_agrees_on_five_operands(seed):
    numbers = np.random.default_rng(seed).integers(1, 51, 5)
    problem, forms = cd.solutions(np.repeat(numbers[:, None], 101, axis=1), np.arange(101))
    assert {*problem.tolist()} == reachable(tuple(numbers.tolist())) & {*range(101)}
    for target, form in zip(problem.tolist()[::50], forms.tolist()[::50], strict=True):
        assert told(form, numbers.tolist())[0] == target


@pytest.mark.parametrize("target", [0, 1, 13, 65])
def test_every_form_of_that_value_is_found_and_no_other(target):
    """Four primes: the indices that the solver gives are those of the expressions with that value."""
    numbers = [31, 2, 7, 3]
    assert len(cd.forms((0, 1, 2, 3))) == 15 * 4**3
    right = set()
    for form in range(15 * 4**3):
        with contextlib.suppress(ZeroDivisionError, AssertionError):
            value, text = told(form, numbers)
            if value_of(text, lambda v: v >= 0 and v.denominator == 1) == target == value:
                right.add(form)
    _, forms = cd.solutions(np.array(numbers)[:, None], np.array([target]))
    assert right == {*forms.tolist()} and len(forms) == len(right)


@pytest.mark.parametrize("numbers, target", [((5, 0, 3, 0), 7), ((5, 0, 3, 0), 0), ((1, 5, 5, 2, 7, 7), 3)])
def test_no_solution_divides_by_zero(numbers, target):
    _, forms = cd.solutions(np.array(numbers)[:, None], np.array([target]))
    for form in forms.tolist()[::97]:
        assert value_of(told(form, numbers, seed=form)[1]) == target
    assert (target in reachable(numbers)) == (len(forms) > 0)


def test_large_numbers_stay_exact():
    """999 x 998 x 997 x 996 needs more digits than single precision has."""
    numbers = np.array([999, 998, 997, 996, 994010])[:, None]
    _, forms = cd.solutions(numbers, np.array([999 * 998 - 997 * 996 + 994010]))
    assert len(forms)
    for form in forms.tolist():
        assert told(form, numbers[:, 0].tolist())[0] == 999 * 998 - 997 * 996 + 994010


# -----------------------------------------------------------------------------
# The generator


@pytest.mark.parametrize("n", [3, 4, 5])
def test_every_label_verifies(n):
    problems = cd.sample_problems(n, 0, "train", 0)
    assert problems == cd.sample_problems(n, 0, "train", 0)
    assert problems not in [cd.sample_problems(n, *other) for other in ((1, "train", 0), (0, "test", 0), (0, "train", 1))]
    for p in problems:
        assert len(p["numbers"]) == n and {*p["numbers"]} <= {*range(1, 51)} and 0 <= p["target"] <= 100
        assert cd.verify(cd.answer(p["solution"]), p["numbers"], p["target"]) == (True, "correct")
        value_of(p["solution"], lambda value: value.denominator == 1 and value >= 0)
    # four standard errors
    share = {3: 0.064, 4: 0.26, 5: 0.83}[n]
    assert abs(len(problems) / cd.CHUNK - share) < 0.005 + 4 * (share * (1 - share) / cd.CHUNK) ** 0.5


def test_labels_are_any_of_the_solutions():
    """Of one problem, in the places where solver and writer choose: all trees, both orders of a sum."""
    numbers, target = np.array([[5], [6], [7], [8]]), np.array([26])
    _, forms = cd.solutions(numbers, target)
    texts = {told(f, [5, 6, 7, 8], seed)[1] for f in forms.tolist() for seed in range(40)}
    sums = {" + ".join(map(str, order)) for order in itertools.permutations([5, 6, 7, 8])}
    assert sums <= texts
    drawn = [p for chunk in range(8) for p in cd.sample_problems(3, 0, "train", chunk)]
    first = [p["numbers"].index(numbers_of(p)[0]) for p in drawn if re.fullmatch("[0-9]+ [+*] .*", p["solution"])]
    assert all(0.2 < first.count(i) / len(first) < 0.5 for i in range(3)), "an operand's place decides where it is used"


def numbers_of(problem):
    return [int(x) for x in re.findall("[0-9]+", problem["solution"])]


def test_held_out_problems_are_new_and_unlike_each_other(monkeypatch):
    monkeypatch.setattr(cd, "HELD_OUT", 1000)
    monkeypatch.setattr(cd, "TRAIN", 4000)
    problems = cd.generate(3, 7)
    held_out = [cd.key(p) for p in problems["test"]]
    assert len(held_out) == len({*held_out}) == 1000 and len(problems["train"]) == 4000
    assert not {*held_out} & {cd.key(p) for p in problems["train"]}
    drawn = (p for chunk in itertools.count() for p in cd.sample_problems(3, 7, "train", chunk))  # the slow way, in one process
    slow = itertools.islice((p for p in drawn if cd.key(p) not in {*held_out}), 200)
    assert list(slow) == problems["train"][:200]
    lost = [p for chunk in range(20) for p in cd.sample_problems(3, 7, "train", chunk) if cd.key(p) in {*held_out}]
    assert lost, "nothing was there to be kept apart"


def test_the_prompt_is_the_paper_s():
    text = cd.prompt([19, 36, 55, 7], 65) + cd.answer("55 + 36 - 7 - 19")
    assert text == (
        "User: Using the numbers [19, 36, 55, 7], create an equation that equals 65.\n"
        "Assistant: Let me solve this step by step.\n<answer> 55 + 36 - 7 - 19 </answer>"
    )


# -----------------------------------------------------------------------------
# The verifier

NUMBERS, TARGET = [19, 36, 55, 7], 65


@pytest.mark.parametrize(
    "text, reason",
    [
        ("<answer> 55 + 36 - 7 - 19 </answer>", "correct"),
        ("I try 55 first. <answer>((55 + 36) - (7)) - 19 </answer>\n", "correct"),
        ("<answer> 55 +\n36 -\t7 - 19 </answer>", "correct"),
        ("55 + 36 - 7 - 19", "no answer"),
        ("<answer> 55 + 36 - 7 - 19", "no answer"),
        ("<answer> 55 + 36 - 7 - 19 </answer> or so", "bad syntax"),
        ("<answer> 55 + 36 - 7 - 19 = 65 </answer>", "bad syntax"),
        ("<answer> 1 </answer><answer> 55 + 36 - 7 - 19 </answer>", "bad syntax"),
        ("</answer><answer> 55 + 36 - 7 - 19", "bad syntax"),
        ("<answer> 55 + 36 - 7 - 19) </answer>", "bad syntax"),
        ("<answer> () 55 + 36 - 7 - 19 </answer>", "bad syntax"),
        ("<answer> 55 + 36 - 7 19 </answer>", "bad syntax"),
        ("<answer> 55 + 36 - -7 - 19 </answer>", "bad syntax"),
        ("<answer> 55 + 36 - 07 - 19 </answer>", "bad syntax"),
        ("<answer> 55 + 36 - ７ - 19 </answer>", "bad syntax"),
        ("<answer> 55\u00a0+ 36 - 7 - 19 </answer>", "bad syntax"),
        ("<answer> 55.0 + 36 - 7 - 19 </answer>", "bad syntax"),
        ("<answer> 55 + 36 - <answer> 7 </answer> - 19 </answer>", "bad syntax"),
        ("<answer> 55 + 36 - x 7 - 19 </answer>", "bad syntax"),
        ("<answer> 55 ** 36 - 7 - 19 </answer>", "bad syntax"),
        ("<answer> 55 // 36 - 7 - 19 </answer>", "bad syntax"),
        ("<answer> 55 (36) - 7 - 19 </answer>", "bad syntax"),
        ("<answer> ((((55)) + ((36))) - ((7))) - ((19)) </answer>", "bad syntax"),
        ("<answer> </answer>", "bad syntax"),
        ("<answer> 55 + 36 - 7 - 18 </answer>", "wrong numbers"),
        ("<answer> 55 + 36 - 7 </answer>", "wrong numbers"),
        ("<answer> 55 + 36 - 7 - 19 + 7 - 7 </answer>", "wrong numbers"),
        ("<answer> 65 </answer>", "wrong numbers"),
        ("<answer> 55 - (36 - 7 - 19) </answer>", "wrong value"),
    ],
)
def test_verdicts(text, reason):
    assert cd.verify(text, NUMBERS, TARGET) == (reason == "correct", reason)


@pytest.mark.parametrize(
    "text, numbers, target, reason",
    [
        ("7 / (5 - 5)", [7, 5, 5], 1, "division by zero"),
        ("7 ÷ (5 - 5) × 3", [7, 5, 5, 3], 1, "division by zero"),
        ("1 / 3 * 6", [1, 3, 6], 2, "correct"),  # exact rationals, although no label has one
        ("8 ÷ (3 - 1)", [8, 3, 1], 4, "correct"),
        ("2 × 3 ÷ 4 × 2", [2, 2, 3, 4], 3, "correct"),  # from the left
        ("8 - 4 / 2", [8, 4, 2], 6, "correct"),
        ("1 / 3", [1, 3], 0, "wrong value"),
        ("0 * 7", [0, 7], 0, "correct"),
        ("5", [5], 5, "correct"),
    ],
)
def test_values_are_exact(text, numbers, target, reason):
    assert cd.verify(f"<answer> {text} </answer>", numbers, target) == (reason == "correct", reason)


HOSTILE = {
    "opening parentheses": "(" * 100_000,
    "pairs around a right answer": "(" * 100_000 + "55 + 36 - 7 - 19" + ")" * 100_000,
    "a tower of powers": "9**9**9**9",
    "one number": "9" * 2**20,
    "numbers": "7*" * 2**19 + "7",
    "nested sums": "((7)+" * 2**17 + "7" + ")" * 2**17,
    "spaces": " " * 2**20,
    "tags": "<answer>" * 2**17,
    "a call": "__import__('os').abort()",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_get_a_verdict_at_once(name):
    began = time.process_time()  # of this process: others may keep the machine busy
    assert cd.verify(f"<answer> {HOSTILE[name]} </answer>", NUMBERS, TARGET) == (False, "bad syntax")
    assert time.process_time() - began < 2


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="0123456789+-*/() ×÷", max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_the_verdict_is_that_of_pythons_own_parser(text, numbers):
    """Random strings of the alphabet: what Python reads as such an expression, and only that, gets past the syntax."""
    ok, reason = cd.verify(f"<answer>{text}</answer>", numbers, 7)
    plain = text.replace("×", "*").replace("÷", "/").strip()
    try:
        node = ast.parse(plain, mode="eval").body
    except (SyntaxError, ValueError):
        node = None
    kinds = {type(n) for n in ast.walk(node)} if node else {None}
    ours = {ast.BinOp, ast.Constant, ast.Add, ast.Sub, ast.Mult, ast.Div}
    redundant = plain.count("(") > 2 * len(re.findall("[0-9]+", plain)) - 1
    leading = re.search(r"(?<![0-9])0[0-9]", plain)  # Python reads 00 as 0
    if kinds <= ours and not redundant and not leading:
        assert reason != "bad syntax"
        try:
            right = numbers_in(plain) == sorted(numbers) and value_of(plain) == 7
        except ZeroDivisionError:
            right = False
        assert ok == right
    else:
        assert reason == "bad syntax"


# -----------------------------------------------------------------------------
# Whole runs


@pytest.mark.parametrize("variant", [v for v in coprocessor.VARIANTS if v not in cd.NOT_HERE])
def test_every_system_runs_from_problems_to_predictions(variant, countdown_settings, tmp_path, capsys):
    out = run_here(cd, countdown_settings | dict(variant=variant), tmp_path / "run")
    last = runtime.read_metrics(out)[-1]
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert last["step"] == 8 and len(predictions) == 10 == last["test_questions"]
    for p in predictions:
        assert (p["correct"], p["reason"]) == cd.verify(p["text"], p["numbers"], p["target"])
    assert last["test_accuracy"] == sum(p["correct"] for p in predictions) / 10
    model, saved = coprocessor.load_run(str(out))
    assert saved["variant"] == variant and model.n_latents == (0 if variant == "no_cot" else 2)
    run_here(cd, countdown_settings | dict(solve="3 4 5 = 60"), out)
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith(f"{out}: ") and re.search(r"the solver: [345] \* [345] \* [345]  \(one of 3 ", said[-1])


def test_sums_are_the_problems_told_and_true(countdown_settings, tmp_path):
    for name in ("tokenizer.json", "3_seed0_train.jsonl", "3_seed0_test.jsonl"):
        shutil.copy(os.path.join(countdown_settings["data"], name), tmp_path)
    cd.make_sums(str(tmp_path), 3, 0)
    for split, name in (("train", "train"), ("test", "val")):
        problems = cd.read_problems(str(tmp_path), 3, 0, split)
        ids, _ = data.open_shard(str(tmp_path / f"{name}_000.bin"))
        lines = data.tokenizer_of(str(tmp_path)).decode(ids.tolist()).split("\n")[:-1]
        assert len(lines) == len(problems)
        for line, problem in zip(lines, problems, strict=True):
            left, right = line.split("=")
            assert value_of(left) == int(right) == problem["target"] and numbers_in(left) == sorted(problem["numbers"])


def test_training_learns_the_labels(countdown_settings, tmp_path):
    """The very problems that it has seen, all right in the end: prompt, latents, labels and greedy answers fit together."""
    folder = tmp_path / "seen"
    folder.mkdir()
    rows = cd.read_problems(countdown_settings["data"], 3, 0, "train", 8)
    for split in cd.SPLITS:
        (folder / f"3_seed0_{split}.jsonl").write_text("".join(json.dumps(p) + "\n" for p in rows))
    changes = dict(data=str(folder), epochs=60, batch_size=8, micro_batch=8, lr=5e-3, log_every=100, checkpoint_every=1000)
    out = run_here(cd, countdown_settings | changes | dict(init_from="random:mini_qwen3"), tmp_path / "run")
    assert runtime.read_metrics(out)[-1]["test_accuracy"] == 1


def test_a_run_resumed_from_a_large_one_takes_its_latents(countdown_settings, tmp_path):
    first = run_here(cd, countdown_settings | dict(epochs=1), tmp_path / "first")
    settings = countdown_settings | dict(init_from=str(first), n_latents=1, epochs=1, lr=0.0)
    second = run_here(cd, settings, tmp_path / "second")
    a, b = (coprocessor.load_run(str(out))[0] for out in (first, second))
    assert b.n_latents == 1 and torch.equal(b.soft, a.soft) and torch.equal(b.base.wte.weight, a.base.wte.weight)
    config = json.loads((second / "config.json").read_text())
    assert config["started_from"] == f"all of {first}" and config["base_crc32"] == coprocessor.checksum(a.base)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(variant="coconut"), "unknown variant 'coconut': one of soft"),
        (dict(batch_size=128), "64 training questions do not fill a batch of 128"),
        (dict(solve="19 36 = "), "--solve="),
    ],
)
def test_what_would_train_or_solve_something_else_is_refused(changes, message, countdown_settings, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_here(cd, countdown_settings | changes, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_solve_without_a_run_and_without_a_solution(tmp_path, capsys):
    run_here(cd, dict(solve="1 1 = 50"), tmp_path / "none")
    said = capsys.readouterr().out
    assert "no run in" in said and "no expression of all these numbers" in said


LABELS = [p for n in (3, 4, 5) for p in cd.sample_problems(n, 3, "train", 0)[:60]]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LABELS), st.data())
def test_a_mutated_answer_never_verifies(p, data):
    """Whatever is done to the numbers or the form of a right answer, the verdict is no, by the right reason."""
    tokens = re.findall("[0-9]+|[^ ]", p["solution"])
    at = data.draw(st.sampled_from([i for i, t in enumerate(tokens) if t.isdigit()]))
    operators = [i for i, t in enumerate(tokens) if t in cd.OPERATIONS]
    o = data.draw(st.sampled_from(operators))
    before, number, after = tokens[:at], tokens[at], tokens[at + 1 :]
    kind = data.draw(
        st.sampled_from("changed repeated dropped trailing doubled floor decimal unicode nested noise cut".split())
    )
    expected, tail = "bad syntax", ""
    if kind == "changed":
        other = data.draw(st.integers(0, 99).filter(lambda x: str(x) != number))
        new, expected = [*before, str(other), *after], "wrong numbers"
    elif kind == "repeated":
        new, expected = [*tokens, "+", number], "wrong numbers"
    elif kind == "dropped":
        neighbour = operators[0] if at < operators[0] else max(i for i in operators if i < at)  # goes with its number
        new = [t for i, t in enumerate(tokens) if i not in (at, neighbour)]
        expected = None if "(" in new else "wrong numbers"  # (7) may be left of (7 + 3)
    elif kind == "trailing":
        new, tail = tokens, data.draw(st.text(min_size=1).filter(lambda t: t.strip() and "answer>" not in t))
    elif kind in ("doubled", "floor"):
        new = [*tokens[:o], {"doubled": "**", "floor": "//"}[kind], *tokens[o + 1 :]]
    elif kind == "decimal":
        new = [*before, number + ".0", *after]
    elif kind == "unicode":
        new = [*before, "".join(chr(0x0660 + int(d)) for d in number), *after]
    elif kind == "nested":
        new = [*before, f"<answer> {number} </answer>", *after]
    elif kind == "noise":
        noise = data.draw(st.text(st.characters(exclude_characters="0123456789+-*/×÷() \t\n"), min_size=1))
        new = [*before, noise, number, *after]
    else:
        new = tokens[:o]
        expected = None  # half an expression, for whichever reason
    ok, reason = cd.verify(f"<answer> {' '.join(new)} </answer>{tail}", p["numbers"], p["target"])
    assert not ok and reason in cd.REASONS[1:] and expected in (None, reason)
