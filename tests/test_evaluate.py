"""The benchmarks: every format, scores against the slow three passes, whole evaluations. Real rows: lm_eval_parity.py."""

import json
import math
import shutil

import pytest
import torch
from helpers import CASES, MACHINE, VOCAB, run_here, slow_decode, slow_nll, slow_read, tiny_variant
from test_data import make_shards

import evaluate as ev
import finetune_reasoning
import finetuning
import questions
import runtime
import train
from data import tokenizer_of, train_tokenizer
from model import random_model

# A row of each task with all its oddities, as the hub's files have them
ROWS = {
    "hellaswag": {
        "activity_label": " Roof shingle removal", "ctx_b": "he Starts",
        "ctx_a": "A man is [substeps] sitting [title] on a roof.",
        "endings": ["pulls  up tiles.", "[header] goes [step] home", "is. [title] Done", "sings   loud "], "label": "2",
    },
    "arc_easy": {
        "question": "Which is a plant?", "answerKey": "2",
        "choices": {"text": ["stone", "fern", "air"], "label": ["1", "2", "3"]},
    },
    "social_iqa": {
        "context": "Ann lost.", "question": "How does Ann feel?", "label": "1",
        "answerA": "sad", "answerB": "glad", "answerC": "tall",
    },
    "piqa": {"goal": "To open a jar", "sol1": "turn the lid", "sol2": "eat the lid.", "label": 0},
    "winogrande": {
        "sentence": "The cup is not in the box as the _ is too  small.", "option1": "cup", "option2": "box", "answer": "2",
    },
}  # fmt: skip
DOCS = {
    "hellaswag": ev.Doc(
        ["Roof shingle removal: A man is sitting. on a roof. He starts"],
        [" pulls up tiles.", "  goes home", " is.. Done", " sings  loud"], 2,
    ),  # a bracket at the start leaves its blank: that choice begins with two
    "arc_easy": ev.Doc(["Question: Which is a plant?\nAnswer:"], [" stone", " fern", " air"], 1),
    "social_iqa": ev.Doc(["Q: Ann lost. How does Ann feel?\nA:"], [" sad", " glad", " tall"], 0),
    "piqa": ev.Doc(["Question: To open a jar\nAnswer:"], [" turn the lid", " eat the lid."], 0),
    "winogrande": ev.Doc(
        ["The cup is not in the box as the cup", "The cup is not in the box as the box"], [" is too  small."] * 2, 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ev.TASKS)
def test_formats(name):
    assert ev.TASKS[name].read(ROWS[name]) == DOCS[name]


def test_letters_label_arc_s_choices_too():
    row = ROWS["arc_easy"] | {"choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}
    assert ev.TASKS["arc_easy"].read(row).gold == 1


# -----------------------------------------------------------------------------
# Tokens


class Words:
    """A token is a character with the blanks before it: as in GPT-2's, a blank belongs to what follows."""

    vocab_size = VOCAB

    def encode(self, text, special=False):
        tokens, blanks = [], 0
        for x in text:
            if x == " ":
                blanks += 1
            else:
                tokens.append((ord(x) + 7 * blanks) % VOCAB)
                blanks = 0
        return tokens + [40 + i for i in range(blanks)]  # blanks at the end are tokens of their own


def test_blanks_at_the_end_of_a_context_belong_to_the_choice():
    words = Words()
    assert ev.encode_pair(words, "ab", " c") == (words.encode("ab"), words.encode(" c"))
    assert ev.encode_pair(words, "ab  ", " c") == (words.encode("ab"), words.encode("   c"))


def test_left_truncation_gives_choices_prefixes_of_their_own():
    """Every choice sees the last `room` tokens of context and choice, its own last token not counted."""
    doc = ev.Doc(["abcdefgh"], [" i", " jkl", " m", " nopq"], 0)
    for room in (20, 11, 10, 9, 6, 5, 4):
        found = ev.prefixes_of([doc], Words(), room)
        seen = {}
        for p in found:
            assert p.doc == 0 and len(p.choices) == len(p.branches)
            seen |= {i: (p.tokens, branch) for i, branch in zip(p.choices, p.branches, strict=True)}
        for i, choice in enumerate(doc.choices):
            context, branch = Words().encode(doc.contexts[0]), Words().encode(choice)
            whole = (context + branch)[-(room + 1) :]
            assert seen[i] == (whole[: -len(branch)], branch)
        assert len(found) == {20: 1, 11: 1, 10: 2}.get(room, 3)
    with pytest.raises(ValueError, match="room for 3"):
        ev.prefixes_of([doc], Words(), 3)


# -----------------------------------------------------------------------------
# Scores


def some_docs():
    lines = ["abc", "x y", "the quick brown", "no"]
    choices = [" one", " a longer", " z", " two"]
    docs = [ev.Doc([line], choices[: 2 + i % 3], 0) for i, line in enumerate(lines)]
    return [*docs, ev.Doc(["first ctx", "the second"], [" same"] * 2, 1)]


@pytest.mark.parametrize("case", CASES)
def test_a_choice_scores_as_if_it_were_alone(case, family):
    """All branches of a batch at once equal one token at a time, without a mask: every variant, 1e-9."""
    model = tiny_variant(case, family)
    docs = some_docs()
    scores = ev.log_likelihoods(model, ev.prefixes_of(docs, Words(), 50), 4, MACHINE)
    for n, doc in enumerate(docs):
        for i, choice in enumerate(doc.choices):
            context, branch = ev.encode_pair(Words(), doc.contexts[i % len(doc.contexts)], choice)
            tokens, ahead = torch.tensor(context), torch.tensor(branch)
            past = slow_read(model.base, tokens)[1]
            hidden = slow_decode(case, model, tokens, past, len(context) - 1, ahead)
            assert scores[n][i] == pytest.approx(-slow_nll(model.base, hidden, ahead).sum().item(), abs=1e-9)


@pytest.mark.parametrize("case", ["continued", "h1", "h2"])
def test_scores_do_not_depend_on_batch_order_or_ranks(case, family):
    model = tiny_variant(case, family, "auto", dtype=torch.float32)
    docs = some_docs()
    prefixes = ev.prefixes_of(docs, Words(), 50)
    first = ev.log_likelihoods(model, prefixes, 1, MACHINE)
    for batch_size in (2, 3, 32):
        again = ev.log_likelihoods(model, prefixes[::-1], batch_size, MACHINE)
        assert all(abs(again[n][i] - first[n][i]) < 1e-4 for n in first for i in first[n])
    parts = {}
    for rank in range(3):
        for n, row in ev.log_likelihoods(model, prefixes, 4, runtime.DistEnv(torch.device("cpu"), False, rank, 3)).items():
            assert not row.keys() & parts.get(n, {}).keys()
            parts.setdefault(n, {}).update(row)
    assert parts.keys() == first.keys()
    assert all(abs(parts[n][i] - first[n][i]) < 1e-4 for n in first for i in first[n])


@pytest.mark.parametrize("variant", ["h1", "h2 pushed"])
def test_what_fits_alone_fits_in_a_batch(variant):
    """Beside a context of all the room there is, with a choice of one token, lies one with a long choice."""
    model = tiny_variant(variant, "gpt2", "auto")
    docs = [
        ev.Doc(["a" * 99], [" b", " c"], 0),
        ev.Doc(["d" * 20], [" " + "e" * 25, " f"], 0),
        ev.Doc(["g" * 50], [" h", " ij"], 0),
    ]
    prefixes = ev.prefixes_of(docs, Words(), ev.room_for_text(model))
    assert max(len(p.tokens) for p in prefixes) == ev.room_for_text(model)
    alone, together = (ev.log_likelihoods(model, prefixes, size, MACHINE) for size in (1, 8))
    assert all(abs(alone[n][i] - together[n][i]) < 1e-9 for n in range(3) for i in range(2))
    lists = ev.batches(prefixes, 2, 1000)
    assert [p for chunk in lists for p in chunk] == prefixes and max(map(len, ev.batches(prefixes, 2, 1000))) == 2


def test_verdicts_and_errors():
    docs = [ev.Doc(["c"], [" ab", " abcd"], 1), ev.Doc(["c"], ["  x", " yy"], 0), ev.Doc(["c"], [" p", " q"], 1)]
    scores = [[-2.0, -3.5], [-2.0, -2.0], [-1.0, -1.0]]
    lines, raw = ([ev.grade(name, n, *pair) for n, pair in enumerate(zip(docs, scores))] for name in ("piqa", "winogrande"))  # noqa: B905
    assert [p["acc"] for p in lines] == [0, 1, 0]  # ties go to the first
    # -1 and -.875, with the first blank it would be -.67 and -.7; the second of "  x" counts: -1 and -1
    assert [p["acc_norm"] for p in lines] == [1, 1, 0]
    assert lines[0] | {"acc": 0, "acc_norm": 0} == dict(task="piqa", doc=0, ll=[-2.0, -3.5], gold=1, acc=0, acc_norm=0)
    found = ev.summary(lines)
    assert found["acc"] == pytest.approx(1 / 3) and found["items"] == 3
    assert found["acc_stderr"] == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 2))  # of the mean, n - 1
    assert ev.summary(raw).keys() == {"acc", "acc_stderr", "items"}
    assert ev.summary(lines[:1])["acc_stderr"] == 0  # of one item, and never nan: results.json is JSON


# -----------------------------------------------------------------------------
# Whole evaluations


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Three rows of each task in parquet files, in place of the hub."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    asked = []

    def hub_file(repo, filename, repo_type="dataset", revision=None):
        (name,) = [n for n, task in ev.TASKS.items() if task.repo == repo]
        assert (filename, revision) == (ev.TASKS[name].file, ev.TASKS[name].revision) and len(revision) == 40
        asked.append(name)
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.Table.from_pylist([ROWS[name]] * 3), path)
        return str(path)

    monkeypatch.setattr(ev, "hub_file", hub_file)
    return asked


@pytest.fixture
def checkpoint(tmp_path):
    """A local Qwen-3 folder with a tokenizer of its own"""
    folder = tmp_path / "tiny_model"
    torch.manual_seed(0)
    random_model("tiny_qwen3", 300).save_pretrained(folder)
    train_tokenizer(["Question: which is a plant?\nAnswer: a fern is not in the box"] * 3, 290, str(folder / "tokenizer.json"))
    return folder


def test_no_score_is_made_of_what_is_not_finite():
    with pytest.raises(ValueError, match="piqa, item 0: .*nan"):
        ev.grade("piqa", 0, ev.Doc(["c"], [" a", " b"], 0), [math.nan, -1.0])


def test_all_tasks_of_a_local_folder(hub, checkpoint, tmp_path, capsys):
    run_here(ev, dict(model=checkpoint, limit=2, device="cpu"), tmp_path / "<model>_eval")
    out = tmp_path / "tiny_model_eval"
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [(p["task"], p["doc"]) for p in predictions] == [(name, n) for name in ev.TASKS for n in (0, 1)] and hub == [
        *ev.TASKS
    ]
    results = json.loads((out / "results.json").read_text())
    for name, task in ev.TASKS.items():
        own = [p for p in predictions if p["task"] == name]
        assert results["tasks"][name] == ev.summary(own) and all(p["gold"] == DOCS[name].gold for p in own)
        assert all(len(p["ll"]) == len(DOCS[name].choices) and (p["acc_norm"] is not None) == task.normed for p in own)
    said = capsys.readouterr().out
    assert "| winogrande | " in said and (out / "results.md").read_text() in said
    with pytest.raises(FileExistsError, match="overwrite"):
        run_here(ev, dict(model=checkpoint, limit=2, device="cpu"), out)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(tasks="hellaswag,foo"), "unknown task 'foo'"),
        (dict(), "hellaswag: Rowan/hellaswag has 3 rows, not 10,042; --limit=3"),
        (dict(limit=4), "has 3 rows"),
        (dict(limit=1, max_length=9999), "has 1024 positions"),
        (dict(limit=1, max_length=3), "room for 3"),
    ],
)
def test_what_would_score_something_else_is_refused(changes, message, hub, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_here(ev, dict(model=checkpoint) | changes, tmp_path / "x")


@pytest.mark.parametrize("variant", ["continued", "h1", "h2"])
@pytest.mark.parametrize("seq_len", [24, 256])  # 256: all positions, so that latents leave sites less room
def test_a_run_s_perplexity_is_the_one_that_it_was_validated_on(variant, seq_len, tmp_path, monkeypatch):
    make_shards(tmp_path / "corpus", [3000])
    make_shards(tmp_path / "corpus", [1600], split="val")
    settings = dict(
        init_from="random:tiny_gpt2", variant=variant, seq_len=seq_len, n_sites=64 if seq_len == 256 else 4,
        n_ahead=3, n_latents=2 if seq_len == 24 else 20, tokens_per_step=4 * seq_len, tokens=8 * seq_len, batch_size=4,
        eval_rows=6, device="cpu", precision="fp32", data=tmp_path / "corpus",
    )  # fmt: skip
    run = run_here(train, settings, tmp_path / "run")
    monkeypatch.setattr(ev, "tokenizer_of", lambda folder: Words())
    settings = dict(model=run, tasks="perplexity", device="cpu", batch_size=4)
    out = run_here(ev, settings, tmp_path / "eval")
    found = json.loads((out / "results.json").read_text())["perplexity"]
    assert found["perplexity"] == pytest.approx(runtime.read_metrics(run)[-1]["val_ppl"], rel=1e-9)
    assert math.exp(sum(map(math.log, found["by_position"])) / 3) == pytest.approx(found["perplexity"])
    assert "by ahead token" in (out / "results.md").read_text()


@pytest.mark.parametrize("variant", ["h2", "coconut", "cot"])
def test_a_run_that_is_asked_its_own_test_questions_answers_as_it_did(variant, reasoning_settings, tmp_path):
    settings = reasoning_settings | dict(variant=variant, epochs_per_stage=1, last_stage_epochs=1, precision="fp32")
    run = run_here(finetune_reasoning, settings, tmp_path / "run")
    asked = dict(model=run, questions=settings["data"], limit=6, device="cpu", batch_size=3)
    out = run_here(ev, asked, tmp_path / "<model>_<what>").parent / "run_prosqa"
    assert (out / "predictions.jsonl").read_text() == (run / "predictions.jsonl").read_text()
    found = json.loads((out / "results.json").read_text())["questions"]
    assert found["accuracy"] == runtime.read_metrics(run)[-1]["test_accuracy"] and found["items"] == 6
    assert (
        found["interval"] == finetuning.share_interval(found["right"], 6) and "0 rows" not in (out / "results.md").read_text()
    )
    if variant == "coconut":
        with pytest.raises(ValueError, match="can be asked --questions"):
            run_here(ev, dict(model=run, tasks="piqa"), tmp_path / "x")


FILES = {  # the same two questions as others keep them, the last row of each no question at all
    "svamp.json": '[{"Body": "How", "Question": "many?", "Answer": 18.0}, {"question": "Two?", "answer": "2"}, {"x": 1}]',
    "gsm_hard.jsonl": '{"input": "How many?", "target": 18}\n{"question": "Two?", "answer": "#### 2", "more": 1}\n3\n',
    "plain.txt": "\ufeffHow many?||<<9+9=18>> #### 18.00\r\nTwo?||#### 2\r\nno bars\r\n",
}


@pytest.mark.parametrize("name", FILES)
def test_questions_from_any_file(name, checkpoint, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(FILES[name].encode())
    monkeypatch.setattr(ev.EvalSet, "answer_questions", lambda self, model: ["<<9+9=18>>\n### 18", "### 3"])
    settings = dict(model=checkpoint, questions=tmp_path / name, device="cpu")
    with pytest.raises(ValueError, match=f"{name}:3: .*skip_bad"):
        run_here(ev, settings, tmp_path / "out")
    out = run_here(ev, settings, tmp_path / "out", "--skip_bad")
    results = json.loads((out / "results.json").read_text())
    assert results["questions"] | {"interval": 0, "questions": 0} == dict(
        questions=0, accuracy=0.5, interval=0, right=1, items=2, left_out=1, cut=0
    )
    assert results["tasks"] == {} and "1 of 2 right, 50.0% (9.5% to 90.5%); 1 rows left out" in (out / "results.md").read_text()


def test_numbers_compare_as_numbers_and_texts_as_texts():
    same = questions.answers_match
    for a in ("18", "18.0", "18.00", "18.", "$18", "+18", "1.8e1"):
        assert all(same(a, b) for b in ("18", "18.0", "18.00")) and not same(a, "18.01")
    assert same("-0.5", "-.50") and not same("-0.5", "0.5") and same("0.1", "0.10")
    assert not same("100000000000000001", "100000000000000000")
    assert same("Tom is a b.", "Tom is a b.") and not same("18 apples", "18") and not same("", "0") and not same("$", "0")
    assert not same("9" * 5000, "9" * 4999) and not same("1e99999", "1e99998"), "nor does a number without end take for ever"
    assert not same("١٨", "18") and not same("nan", "nan ")


@pytest.mark.parametrize(
    "gold, said",
    [
        (1e17, "1" + "0" * 17),
        (0.00001, "0.00001"),
        (0.1 + 0.2, "0.3"),
        (18.0, "18"),
        (-3, "-3"),
        (2.0**53 - 1, "9007199254740991"),
    ],
)
def test_numbers_as_answers_are_those_that_one_writes(gold, said):
    answer = questions.parse({"question": "?", "answer": gold}, "x:1").answer
    assert answer == said and questions.answers_match(said, answer)


def test_what_cannot_be_is_said_before_anything_is_computed(hub, checkpoint, tmp_path, monkeypatch):
    make_shards(tmp_path / "corpus", [3000], split="val", tokenizer=tokenizer_of(str(checkpoint)).name)
    shutil.copy(checkpoint / "tokenizer.json", tmp_path / "corpus")
    monkeypatch.setattr(ev, "log_likelihoods", lambda *_: pytest.fail("a task is computed"))
    settings = dict(model=checkpoint, tasks="piqa,perplexity", limit=2, device="cpu", data=tmp_path / "corpus", seq_len=2000)
    with pytest.raises(ValueError, match="seq_len=2000 is more than"):
        run_here(ev, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
