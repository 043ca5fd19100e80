"""Questions: the formats that they come in, and who decides whether an answer is right.

gsm8k          openai/gsm8k on the hub; steps are its <<48/2=24>> annotations, validation its last 500 training rows
gsm8k_aug      385,620 generated training questions (Deng et al. 2023): whynlp/gsm8k-aug on the hub
prosqa         17,886 graphs (Hao et al. 2024), downloaded once to data/prosqa
a folder       with a file for each of train, valid and test: train.jsonl, or else prosqa_train.json, a task's name in front
a file         to be asked only

Files are .json (a list), .jsonl, .parquet, .csv or .txt. A row has a question, an answer and perhaps steps (COLUMNS: what
else they may be called); the answer is a text, a number, or as in GSM8K "steps #### answer". A line of a .txt file reads
question||<<48/2=24>> <<24+48=72>> #### 72. Steps are a list, or one text: its <<annotations>>, or else its sentences.

Answers are compared as numbers where both are: 18, 18.0, 18., $18, +18 and 1.8e1 are the same, and so are .5 and 0.5. Others
are right where they are equal to the letter. Commas do not count.
"""

import csv
import http.client
import io
import json
import math
import os
import re
import urllib.request
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from data import atomic_write, folder_lock, hub_file, read_text

SPLITS = ("train", "valid", "test")
GSM8K = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"
GSM8K_AUG, GSM8K_AUG_ROWS = ("whynlp/gsm8k-aug", "refs/convert/parquet"), (385620, 500, 1319)
PROSQA = "https://raw.githubusercontent.com/facebookresearch/coconut/main/data/prosqa_{}.json"
PROSQA_ROWS = 17886, 300, 500


class Example(NamedTuple):
    question: str
    steps: list  # of texts
    answer: str
    where: str  # file and row


# -----------------------------------------------------------------------------
# Rows

# What other files call these: SVAMP, GSM-Hard, MultiArith. The first name that a row has counts.
COLUMNS = {
    "question": ("question", "question_concat", "input"),
    "answer": ("answer", "Answer", "target", "final_ans"),
    "steps": ("steps", "cot"),
}


def parse(row, where):
    """A line of text, or a dict -> Example. Raises ValueError that says what is wrong."""
    if isinstance(row, str):
        before = row.rpartition("####")[0] or row
        question, bars, _ = before.rpartition("||")  # the last bars before the answer: a question may hold some, too
        if not bars:
            raise ValueError("no || after the question")
        row = {"question": question, "answer": row[len(question) + len(bars) :]}
    if not isinstance(row, dict):
        raise ValueError("not a row with question and answer")
    if None in row:  # csv's: it has no name
        raise ValueError("more cells than columns: a text with a comma in it stands in quotes")
    found = {key: next((row[name] for name in names if row.get(name) is not None), None) for key, names in COLUMNS.items()}
    if found["question"] is None and {"Body", "Question"} <= row.keys():  # SVAMP's own files tell and ask apart
        found["question"] = f"{row['Body']} {row['Question']}"
    question, answer, steps = found["question"], text_of(found["answer"]), found["steps"]
    if not isinstance(question, str) or not isinstance(answer, str):
        known = "; ".join(f"{key}: {', '.join(names)}" for key, names in COLUMNS.items())
        raise ValueError(f"not a row with question and answer: it has {', '.join(map(str, row))}; known are {known}")
    if steps is None:  # steps and answer in one text, or no steps
        steps, mark, answer = answer.rpartition("####")
        if "####" in steps:
            raise ValueError("more than one #### before the answer")
        if not mark and "<<" in answer:
            raise ValueError("no #### before the answer")
    if isinstance(steps, str):
        steps = split_steps(steps)
    if not isinstance(steps, list) or not all(isinstance(s, str) and s.strip() for s in steps):
        raise ValueError("its steps are not a list of texts")
    question, answer = question.strip(), answer.replace(",", "").strip()
    if not question or not answer:
        raise ValueError(f"an empty {'answer' if question else 'question'}")
    if "#" in answer:
        raise ValueError(f"the answer {answer!r} has a # in it, and is read from behind the last # of what a model writes")
    return Example(question, steps, answer, where)


def text_of(answer):
    """An answer that is a number -> as one writes it: 18.0 is 18, 1e17 a one with 17 zeros, 0.1 + 0.2 is 0.3"""
    if type(answer) not in (int, float):
        return answer
    if not math.isfinite(answer):
        raise ValueError(f"the answer {answer} is not a number")
    if type(answer) is int or answer.is_integer():
        return f"{Decimal(repr(answer)).to_integral():f}"
    return f"{Decimal(f'{answer:.15g}'):f}"


def split_steps(text):
    """Steps in one text -> its annotations, <<48/2=24>>, or where it has none its lines and sentences"""
    steps = re.findall(r"<<[^<>]*>>", text)
    if text.count("<<") != len(steps) or text.count(">>") != len(steps):
        raise ValueError("a step without << or >>")
    if not steps and text.startswith("[") and text.endswith("]"):
        raise ValueError("its steps are a list that was printed, as a text")
    return steps or [s.strip() for s in re.split(r"\n+|(?<=[.!?])\s+", text) if s.strip()]


def rows_in(path):
    """A file -> [("path:number", row)], a .jsonl file's still as text. Raises OSError, or ValueError that names it."""
    if path.endswith(".parquet"):
        import pyarrow.parquet as parquet

        try:
            table = parquet.read_table(path)
        except ValueError as e:  # pyarrow's own errors are ValueErrors
            raise ValueError(f"{path}: damaged, or not a parquet file ({e})") from None
        rows, short = table.to_pylist(), [field.name for field in table.schema if str(field.type) == "float"]
        for row in rows:  # a number of 4 bytes as it was written: 0.3, which read as a longer one is 0.300000011920929
            row |= {name: float(str(np.float32(row[name]))) for name in short if row[name] is not None}
        return [(f"{path}:{n}", row) for n, row in enumerate(rows, start=1)]
    text = read_text(path)
    if path.endswith(".json"):
        rows = from_json(text, path)
    elif path.endswith(".csv"):
        table = csv.DictReader(io.StringIO(text, newline=""))
        without_doubles((name, None) for name in table.fieldnames or ())
        rows = list(table)
    else:
        # a line ends at a line feed and nowhere else: questions hold form feeds, U+2028 and others that splitlines() cuts at
        rows = [line.removesuffix("\r") for line in text.split("\n")]
    rows = [(f"{path}:{n}", row) for n, row in enumerate(rows, start=1)]
    return [(where, row) for where, row in rows if not isinstance(row, str) or row.strip()]


def without_doubles(pairs):
    """Pairs of a row's columns and values -> dict. Raises ValueError for a column that is there twice: one would win."""
    row = dict(pairs := [*pairs])
    if len(row) < len(pairs):
        raise ValueError(f"a column is there twice: {', '.join(name for name, _ in pairs)}")
    return row


def from_json(text, where):
    try:
        return json.loads(text, object_pairs_hook=without_doubles)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{where}: not JSON ({e})") from None


def rows_of(source, split):
    """-> [(where, row)] of one split. Raises OSError where it cannot be got."""
    index = SPLITS.index(split)
    if source == "gsm8k":
        name = "test" if split == "test" else "train"
        rows = rows_in(hub_file(GSM8K[0], f"main/{name}-00000-of-00001.parquet", revision=GSM8K[1]))
        return {"train": rows[:-500], "valid": rows[-500:], "test": rows}[split]
    if source == "gsm8k_aug":
        name = ("train", "validation", "test")[index]
        rows = rows_in(hub_file(GSM8K_AUG[0], f"default/{name}/0000.parquet", revision=GSM8K_AUG[1]))
        return expect(rows, GSM8K_AUG_ROWS[index], f"{GSM8K_AUG[0]}, {name}")
    if source == "prosqa":
        path = os.path.join("data", "prosqa", f"prosqa_{split}.json")
        if not os.path.isfile(path):
            download(PROSQA.format(split), path, PROSQA_ROWS[index])
        return rows_in(path)
    if os.path.isfile(source):
        raise ValueError(f"{source} is one file: training needs a folder with a file for each of {', '.join(SPLITS)}")
    names = os.listdir(source) if os.path.isdir(source) else []
    found = [n for n in sorted(names) if re.fullmatch(rf"(.+_)?{split}\.(json|jsonl|parquet|csv|txt)", n)]
    found = [n for n in found if n.startswith(f"{split}.")] or found  # without a task's name goes before
    if len(found) > 1:
        raise ValueError(f"{source} has several files for {split}: {', '.join(found)}")
    if not found:
        made = f": `python prosqa.py {source} --help` says how to make it" * source.startswith("data/prosqa")
        raise FileNotFoundError(f"{source} is none of gsm8k, gsm8k_aug, prosqa, and no folder with a file for {split}{made}")
    return rows_in(os.path.join(source, found[0]))


def expect(rows, count, what):
    """Another number of rows than is known is other data, which no result could be compared with."""
    if len(rows) != count:
        raise ValueError(f"{what} has {len(rows):,} rows, not {count:,}: it has changed, or was cut short")
    return rows


def download(url, path, count):
    """A JSON list of `count` items -> path, which appears only when it is whole. Raises OSError or ValueError."""
    with folder_lock(os.path.dirname(path)):
        if os.path.isfile(path):
            return
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                body = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise OSError(f"cannot get {url} ({e}); copy it to {path}, or make such questions with prosqa.py") from None
        expect(from_json(body, url), count, url)
        with atomic_write(path) as unfinished, open(unfinished, "wb") as f:
            f.write(body)


def read(source, split=None, limit=0, skip_bad=False, make=lambda example: example):
    """-> (list of make(Example), list of 'file:row: reason' for the rows left out).

    split: one of SPLITS; None for questions that are only asked: a file, or the test questions of any other source.
    limit: the first so many rows, 0 for all. make raises ValueError to refuse one. Raises ValueError for the first bad
    row unless skip_bad, OSError where there is no data.
    """
    examples, bad = [], []
    rows = rows_in(source) if split is None and os.path.isfile(source) else rows_of(source, split or "test")
    for where, row in rows[: limit or None]:
        try:
            if isinstance(row, str) and where.rpartition(":")[0].endswith(".jsonl"):
                row = from_json(row, "the row")
            examples.append(make(parse(row, where)))
        except ValueError as e:
            if not skip_bad:
                raise ValueError(f"{where}: {e} (--skip_bad leaves such rows out)") from None
            bad.append(f"{where}: {e}")
    if not examples:
        raise ValueError(f"{source} has no usable {split or 'test'} questions")
    return examples, bad


# -----------------------------------------------------------------------------
# Right or wrong?


def extract(text):
    """The answer in a text: what stands after its last #."""
    return text.split("#")[-1].replace(",", "").strip()


def number(text):
    """-> Fraction, or None where the text is not one number (of a size that somebody could mean)"""
    found = re.fullmatch(r"([-+]?)\$?([0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})([eE][-+]?[0-9]{1,3})?", text)
    return Fraction(found[1] + found[2].removesuffix(".") + (found[3] or "")) if found else None


def answers_match(answer, gold):
    """Is it the same answer? Numbers are compared by value, texts to the letter."""
    a, b = number(answer), number(gold)
    return a == b if a is not None and b is not None else answer == gold


def grade_answers(examples, texts):
    """Examples, what was answered -> a line of predictions.jsonl for each"""
    out = []
    for n, (example, text) in enumerate(zip(examples, texts, strict=True)):
        question, steps, gold, where = example
        answer = extract(text)
        record = dict(item=n, where=os.path.basename(where), question=question, steps=steps, gold=gold, answer=answer)
        out.append(record | dict(correct=answers_match(answer, gold), text=text))
    return out
