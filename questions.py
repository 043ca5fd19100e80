"""Where questions come from: GSM8K, GSM8K-Aug and ProsQA, each row a question, its steps and its answer.

gsm8k          openai/gsm8k on the hub; steps are its <<48/2=24>> annotations, validation its last 500 training rows
gsm8k_aug      385,620 generated training questions (Deng et al. 2023): whynlp/gsm8k-aug on the hub
prosqa         17,886 graphs (Hao et al. 2024), downloaded once to data/prosqa
any folder     with prosqa_{train,valid,test}.json, which prosqa.py makes, too, or with {train,valid,test}.txt, whose
               lines read: question||<<48/2=24>> <<24+48=72>> #### 72
"""

import json
import os
import re
import urllib.request
from typing import NamedTuple

from data import hub_file

SPLITS = ("train", "valid", "test")
GSM8K = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"
GSM8K_AUG, GSM8K_AUG_ROWS = ("whynlp/gsm8k-aug", "refs/convert/parquet"), (385620, 500, 1319)
PROSQA = "https://raw.githubusercontent.com/facebookresearch/coconut/main/data/prosqa_{}.json"
PROSQA_ROWS = 17886, 300, 500


class Example(NamedTuple):
    question: str
    steps: list  # of texts
    answer: str
    where: str  # file and line


def parse(row, where):
    """A line of text, or a dict in one of the known formats -> Example. Raises ValueError that says what is wrong."""
    if isinstance(row, str):
        question, bars, rest = row.partition("||")
        if not bars:
            raise ValueError("no || after the question")
        row = {"question": question, "answer": rest}
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not isinstance(row.get("answer"), str):
        raise ValueError("not a row with question and answer")
    question, steps, answer = row["question"].strip(), row.get("steps", row.get("cot")), row["answer"]
    if isinstance(steps, str):
        steps = steps.split()
    if steps is None:  # steps and answer in one text
        text, mark, answer = answer.rpartition("####")
        if not mark:
            raise ValueError("no #### before the answer")
        steps = re.findall(r"<<[^<>]*>>", text)
        if text.count("<<") != len(steps) or text.count(">>") != len(steps):
            raise ValueError("a step without << or >>")
    if not isinstance(steps, list) or not all(isinstance(s, str) and s.strip() for s in steps):
        raise ValueError("its steps are not a list of texts")
    answer = answer.replace(",", "").strip()
    if not question or not answer:
        raise ValueError(f"an empty {'answer' if question else 'question'}")
    return Example(question, steps, answer, where)


def download(url, path, count):
    """A JSON list of `count` items -> path, which appears only when it is whole. Raises OSError or ValueError."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            body = response.read()
    except OSError as e:
        raise OSError(f"cannot get {url} ({e}); copy it to {path}, or generate such questions with prosqa.py") from None
    if len(json.loads(body)) != count:
        raise ValueError(f"{url} has {len(json.loads(body)):,} rows, not {count:,}: it has changed, or was cut short")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "wb") as f:
        f.write(body)
    os.replace(path + ".tmp", path)


def numbered(path):
    """A file -> its name, and (line or row number, row) of all its rows."""
    if path.endswith(".parquet"):
        import pyarrow.parquet as parquet

        rows = parquet.read_table(path).to_pylist()
    elif path.endswith(".json"):
        with open(path, encoding="utf-8") as f:
            try:
                rows = json.load(f)
            except ValueError as e:
                raise ValueError(f"{path}: not JSON ({e})") from None
        if not isinstance(rows, list):
            raise ValueError(f"{path}: not a list of questions")
    else:
        with open(path, encoding="utf-8") as f:
            rows = f.read().splitlines()
    return [(f"{path}:{n}", row) for n, row in enumerate(rows, start=1)]


def rows_of(source, split):
    """-> [(where, row)] of one split. Raises OSError where it cannot be got."""
    index = SPLITS.index(split)
    if source == "gsm8k":
        rows = numbered(
            hub_file(GSM8K[0], f"main/{'test' if split == 'test' else 'train'}-00000-of-00001.parquet", revision=GSM8K[1])
        )
        return {"train": rows[:-500], "valid": rows[-500:], "test": rows}[split]
    if source == "gsm8k_aug":
        name = ("train", "validation", "test")[index]
        rows = numbered(hub_file(GSM8K_AUG[0], f"default/{name}/0000.parquet", revision=GSM8K_AUG[1]))
        if len(rows) != GSM8K_AUG_ROWS[index]:
            raise ValueError(f"{GSM8K_AUG[0]}, {name}: {len(rows):,} rows, not {GSM8K_AUG_ROWS[index]:,}")
        return rows
    if source == "prosqa":
        path = os.path.join("data", "prosqa", f"prosqa_{split}.json")
        if not os.path.isfile(path):
            download(PROSQA.format(split), path, PROSQA_ROWS[index])
        return numbered(path)
    for name in (f"prosqa_{split}.json", f"{split}.txt"):
        path = os.path.join(source, name)
        if os.path.isfile(path):
            return numbered(path)
    made = f": `python prosqa.py {source} --help` says how to make it" if source.startswith("data/prosqa") else ""
    raise FileNotFoundError(
        f"{source} is none of gsm8k, gsm8k_aug, prosqa, and no folder with prosqa_{split}.json or {split}.txt{made}"
    )


def read(source, split, limit=0, skip_bad=False, make=lambda example: example):
    """-> (list of make(Example), list of 'file:line: reason' for the rows left out).

    limit: the first so many rows, 0 for all. make raises ValueError to refuse one. Raises ValueError for
    the first bad row unless skip_bad, OSError where there is no data.
    """
    examples, bad = [], []
    for where, row in rows_of(source, split)[: limit or None]:
        try:
            examples.append(make(parse(row, where)))
        except ValueError as e:
            if not skip_bad:
                raise ValueError(f"{where}: {e} (--skip_bad leaves such rows out)") from None
            bad.append(f"{where}: {e}")
    if not examples:
        raise ValueError(f"{source} has no usable {split} questions")
    return examples, bad
