"""A text comes out of a tokenizer as it went in, whatever is in it, or is refused in one line that says where it stands."""

import codecs
import json
import os
import pickle
import re
import time

import numpy as np
import pytest
import tiktoken
from helpers import run_here
from hypothesis import given
from hypothesis import strategies as st
from test_train import SMALL
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

import coprocessor
import data
import evaluate
import finetuning
import questions
import train
from model import random_model

PATTERN = __import__("tiktoken_ext.openai_public").openai_public.r50k_pat_str  # GPT-2's
RANKS = {bytes([i]): i for i in range(256)} | {x: 256 + i for i, x in enumerate((b"  ", b"\n\n", b" a", b"aa", b"\t\t"))}
OPENAI = tiktoken.Encoding("small", pat_str=PATTERN, mergeable_ranks=RANKS, special_tokens={"<|endoftext|>": 261})
SPECIAL = "before<|endoftext|>after <|im_start|>user hi<|im_end|>"
ODD = ["nul\0byte", "\ufeffmark", "a\r\nb\rc", "a\x0bb\x0cc", "a\u2028b\u2029c\x85d", "é\u0301 \u200d👩\u200d👧", " ", "\n"]
ODD += ["\x1c \x1f", "\uffff\U0010ffff"]


@pytest.fixture
def gpt2(monkeypatch):
    """GPT-2's pattern with a small vocabulary, where OpenAI's would have to be downloaded"""
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: OPENAI)
    return data.Tokenizer("gpt2")


def fast_tokenizer(path, **changes):
    """A byte-level tokenizer.json in Qwen's manner: special tokens, and one that is a word like others."""
    fast = FastTokenizer(models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[]))
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast.add_special_tokens(changes.pop("special", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    fast.add_tokens([AddedToken("<think>", normalized=False)])
    body = json.loads(fast.to_str())
    path.write_text(json.dumps(body | changes), encoding="utf-8")
    return data.Tokenizer(str(path))


@pytest.fixture(params=["gpt2", "a file"])
def tokenizer(request, gpt2, tmp_path):
    return gpt2 if request.param == "gpt2" else fast_tokenizer(tmp_path / "tokenizer.json")


# -----------------------------------------------------------------------------
# Texts


def parts(text, at_once):
    before, data.BLANKS_AT_ONCE = data.BLANKS_AT_ONCE, at_once
    try:
        return data.parts_for_tiktoken(text)
    finally:
        data.BLANKS_AT_ONCE = before


@given(
    st.lists(st.tuples(st.sampled_from([*" \n\t\u2003\x1c\u200ba.é\0", "'s"]), st.integers(1, 5))), st.sampled_from([2, 3, 4])
)
def test_a_text_in_parts_has_the_ids_of_the_whole(runs, at_once):
    text = "".join(x * n for x, n in runs)
    assert "".join(parts(text, at_once)) == text
    assert sum(map(OPENAI.encode_ordinary, parts(text, at_once)), []) == OPENAI.encode_ordinary(text)


def test_a_blank_is_what_the_pattern_takes_for_one():
    """Of all characters up to the last that is one, and where it stands: two spaces are one token only in one piece."""
    for c in map(chr, range(0x3001)):
        for text in ("a  " + c + " x", c + "  x", "  " + c + "x", "a\n\n" + c):
            assert sum(map(OPENAI.encode_ordinary, parts(text, 2)), []) == OPENAI.encode_ordinary(text), (c, text)


def test_shorter_runs_take_no_time():
    began = time.process_time()
    assert len(data.parts_for_tiktoken((" " * 65_000 + "x") * 5)) == 1
    assert time.process_time() - began < 2, "each is gone through once, not once from each of its blanks"


@given(st.text())
def test_an_ordinary_text_has_the_ids_of_encode_ordinary(text):
    assert data.parts_for_tiktoken(text) == [text]
    tokenizer = data.Tokenizer.__new__(data.Tokenizer)
    tokenizer.parts, tokenizer.to_ids = data.parts_for_tiktoken, lambda text, special: OPENAI.encode_ordinary(text)
    assert tokenizer.encode(text) == OPENAI.encode_ordinary(text)


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r\n", "\xa0", "\u3000", " \n"])
def test_a_million_blanks_are_a_text(blank, gpt2):
    """tiktoken panics on such a run if something follows it. At half the length it does not, and the ids are its own."""
    run = (blank * 1_100_000)[:1_100_000]
    for text in ("head" + run + "tail", run + "." + run + " x", "head" + run):
        assert gpt2.decode(gpt2.encode(text)) == text
    half = "head" + run[:500_000] + "tail"
    assert len(data.parts_for_tiktoken(half)) == 2 and gpt2.encode(half) == OPENAI.encode_ordinary(half)


def test_any_other_panic_is_a_line(tokenizer):
    class PanicException(BaseException):  # as Rust's, which no `except Exception` sees
        pass

    def panic(*_):
        raise PanicException("StackOverflow")

    tokenizer.to_ids = panic
    with pytest.raises(ValueError, match="gives up on a text of 3 characters .StackOverflow"):
        tokenizer.encode("abc")


@pytest.mark.parametrize("text", [*ODD, SPECIAL, "<|endoftext|>", "<think>x</think>"])
def test_a_text_comes_back_as_it_was(text, tokenizer):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.eot not in ids


def test_half_a_surrogate_pair_is_a_character_that_cannot_be_shown(tokenizer):
    """JSON may hold one, and so does a command line that is not UTF-8."""
    text = json.loads('"a\\ud800b\\udc00c \\ud83d\\ude00"')
    assert tokenizer.decode(tokenizer.encode(text)) == "a\ufffdb\ufffdc 😀"
    assert tokenizer.decode(tokenizer.encode("a\udcffb")) == "a\ufffdb"


def test_special_strings_are_tokens_only_where_that_is_asked_for(tokenizer):
    assert tokenizer.encode("a<|endoftext|>b", special=True) == [*tokenizer.encode("a"), tokenizer.eot, *tokenizer.encode("b")]
    assert tokenizer.eot not in tokenizer.encode("a<|endoftext|>b"), "and what was asked for before does not last"
    assert tokenizer.eot in evaluate.encode_pair(tokenizer, "a<|endoftext|>", " b")[0]  # as lm-evaluation-harness has it
    item = finetuning.Item(questions.parse("a<|endoftext|>||#### <|endoftext|>", "x:1"), tokenizer)
    assert tokenizer.eot not in [*item.question, *item.answer[:-1]] and item.answer[-1] == tokenizer.eot


def test_a_token_that_is_no_special_one_is_a_word_like_others(tmp_path):
    tokenizer = fast_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.encode("<think>") == [259] and tokenizer.decode([259]) == "<think>"


# -----------------------------------------------------------------------------
# Tokenizers


@pytest.mark.parametrize(
    "saved",
    [
        dict(truncation=dict(direction="Right", max_length=16, strategy="LongestFirst", stride=0)),
        dict(padding=dict(strategy={"Fixed": 64}, direction="Right", pad_id=0, pad_type_id=0, pad_token="!")),
        dict(model=dict(dropout=0.5)),
    ],
    ids=["truncation", "padding", "dropout"],
)
def test_what_a_tokenizer_was_saved_with_changes_no_text(saved, tmp_path):
    text, path = "def a(): return 1\n" * 20, tmp_path / "tokenizer.json"
    data.train_tokenizer([text], 300, str(path))
    plain, body = data.Tokenizer(str(path)), json.loads(path.read_text(encoding="utf-8"))
    body["model"] |= saved.pop("model", {})
    path.write_text(json.dumps(body | saved), encoding="utf-8")
    again = data.Tokenizer(str(path))
    assert again.encode(text) == plain.encode(text) and 16 < len(plain.encode(text)) < len(text)
    assert again.encode("") == []


def test_ids_that_the_tokenizer_does_not_have_say_nothing(tokenizer):
    """A model's vocabulary is padded to a round number, and an untrained one samples from all of it."""
    ids = tokenizer.encode("ab")
    assert tokenizer.decode([ids[0], tokenizer.vocab_size, 10**9, -1, ids[1], 2**40]) == "ab"


def test_the_vocabulary_reaches_to_the_largest_id(tmp_path):
    path = tmp_path / "tokenizer.json"
    fast_tokenizer(path)
    body = json.loads(path.read_text(encoding="utf-8"))
    body["model"]["vocab"]["extra"] = 999
    path.write_text(json.dumps(body), encoding="utf-8")
    tokenizer = data.Tokenizer(str(path))
    assert tokenizer.vocab_size == 1000 and tokenizer.decode([500, *tokenizer.encode("a")]) == "a"


@pytest.mark.parametrize(
    "beside, eot",
    [
        ({"tokenizer_config.json": {"eos_token": "</s>"}}, "</s>"),
        (
            {"tokenizer_config.json": {"eos_token": {"content": "</s>"}}, "config.json": {"eos_token_id": 3}},
            "</s>",
        ),
        ({"config.json": {"eos_token_id": 257}}, "<end>"),
        ({"tokenizer_config.json": {"eos_token": None}, "config.json": {"eos_token_id": [257, 256]}}, "<end>"),
        ({"config.json": {"eos_token_id": 9999}}, None),
        ({"config.json": {"eos_token_id": None}, "tokenizer_config.json": {"eos_token": "<other>"}}, None),
        ({}, None),
    ],
)
def test_the_end_of_a_document_under_another_name(beside, eot, tmp_path):
    for name, body in beside.items():
        (tmp_path / name).write_text(json.dumps(body))
    if eot:
        tokenizer = fast_tokenizer(tmp_path / "tokenizer.json", special=["</s>", "<end>"])
        assert tokenizer.eot == {"</s>": 256, "<end>": 257}[eot]
    else:
        with pytest.raises(ValueError, match=r"tokenizer.json has no token <\|endoftext\|>"):
            fast_tokenizer(tmp_path / "tokenizer.json", special=["</s>", "<end>"])


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\0\0", b'{"version": "1.0"}', b"\xff"])
def test_a_damaged_file_is_named(raw, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="tokenizer.json: damaged"):
        data.Tokenizer(str(path))
    fast_tokenizer(tmp_path / "good.json")
    path.write_bytes((tmp_path / "good.json").read_bytes())
    data.Tokenizer(str(path))
    for name in ("tokenizer_config.json", "config.json"):
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            (tmp_path / name).write_bytes(raw if raw != b'{"version": "1.0"}' else b"5")
            fast_tokenizer(path, special=["</s>"])
        (tmp_path / name).unlink()


# -----------------------------------------------------------------------------
# Which tokenizer?


def test_a_folder_s_own_tokenizer_is_used(gpt2, tmp_path):
    """A GPT-2 that has a tokenizer.json is not read with OpenAI's, and no other family is."""
    folder = tmp_path / "model"
    random_model("tiny_gpt2", 300).save_pretrained(folder)
    assert data.tokenizer_of(str(folder)).name == "gpt2" == data.tokenizer_of(str(tmp_path)).name
    own = fast_tokenizer(folder / "tokenizer.json")
    assert data.tokenizer_of(str(folder)).name == own.name == evaluate.load(str(folder))[1].name
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps({"Ġthe": 5}))
    with pytest.raises(FileNotFoundError, match="no tokenizer.json, and its tokenizer is not GPT-2's"):
        data.tokenizer_of(str(folder))
    (folder / "vocab.json").write_text(json.dumps({"Ġthe": 262}))
    assert data.tokenizer_of(str(folder)).name == "gpt2"
    other = tmp_path / "qwen"
    random_model("tiny_qwen3", 300).save_pretrained(other)
    with pytest.raises(FileNotFoundError, match="no tokenizer.json, and its tokenizer is not GPT-2's"):
        data.tokenizer_of(str(other))


def test_so_is_a_hub_repository_s(gpt2, tmp_path, monkeypatch):
    own, asked = fast_tokenizer(tmp_path / "tokenizer.json"), []
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))

    def hub_file(repo, filename, repo_type="dataset", revision=None):
        asked.append((repo, filename, repo_type))
        if not (tmp_path / filename).exists():
            raise data.NotOnTheHub(filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(data, "hub_file", hub_file)
    assert data.tokenizer_of("openai-community/gpt2-medium").name == "gpt2" and not asked
    assert data.tokenizer_of("someone/model").name == own.name and asked == [("someone/model", "tokenizer.json", "model")]
    (tmp_path / "tokenizer.json").unlink()
    assert data.tokenizer_of("someone/model").name == "gpt2"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with pytest.raises(FileNotFoundError, match="someone/model has no tokenizer.json"):
        data.tokenizer_of("someone/model")


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_a_run_s_base_has_the_run_s_tokenizer_beside_it(family, tmp_path, monkeypatch):
    """transformers finds it, and reads it as it is: it has a reader of its own for each family, with a pattern of its own."""
    transformers = pytest.importorskip("transformers")
    folder, text = tmp_path / "corpus", "12, 34 equals  56\nit's <|endoftext|>!"
    folder.mkdir()
    data.train_tokenizer(["12, 34 equals 56\n"] * 9, 290, str(folder / "tokenizer.json"), r"[0-9]|, | equals |\n")
    for split in ("train", "val"):
        data.write_text(str(folder), split, ["12, 34 equals 56\n" * 9] * 40)
    settings = SMALL | dict(data=folder, init_from=f"random:tiny_{family}", tokens=96)
    run, tokenizer = run_here(train, settings, tmp_path / "run", monkeypatch=monkeypatch), data.tokenizer_of(str(folder))
    base = str(run / "checkpoint" / "base")
    for name in (run, base):
        assert data.tokenizer_of(str(name)).name == tokenizer.name == evaluate.load(str(name))[1].name
    theirs = transformers.AutoTokenizer.from_pretrained(base)
    assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text, special=True)
    assert theirs.eos_token_id == tokenizer.eot
    transformers.AutoModelForCausalLM.from_pretrained(base)(**theirs("12", return_tensors="pt"))


def test_a_run_with_openai_s_tokenizer_has_no_file_of_it(gpt2, tmp_path):
    gpt2.save(str(tmp_path))
    coprocessor.save(coprocessor.build("h2", random_model("tiny_gpt2", 270), 2), str(tmp_path / "checkpoint"))
    assert not list(tmp_path.glob("**/tokenizer*"))


def test_a_run_keeps_the_end_of_its_documents(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    tokenizer = fast_tokenizer(tmp_path / "tokenizer.json", special=["</s>"])
    tokenizer.save(str(tmp_path / "run"))
    again = data.tokenizer_of(str(tmp_path / "run"))
    assert (again.eot, again.name) == (tokenizer.eot, tokenizer.name)


def test_tokenizers_are_the_same_by_what_they_do(gpt2, tmp_path):
    """GPT-2's, as transformers saves it beside a model, is OpenAI's."""
    a, b = fast_tokenizer(tmp_path / "a.json"), fast_tokenizer(tmp_path / "b.json", padding=None, version="1.0")
    (tmp_path / "b.json").write_text((tmp_path / "b.json").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    b = data.Tokenizer(str(tmp_path / "b.json"))
    assert a.name != b.name and a.same(b) and gpt2.same(gpt2)
    assert not a.same(gpt2) and not a.same(fast_tokenizer(tmp_path / "c.json", special=["<|endoftext|>"]))


def test_a_model_is_not_trained_on_ids_of_another_tokenizer_than_its_folder_has(gpt2, tmp_path):
    folder = tmp_path / "model"
    random_model("tiny_gpt2", 300).save_pretrained(folder)
    own = fast_tokenizer(folder / "tokenizer.json")

    class c:
        init_from, variant, tokenizer = str(folder), "h2", "gpt2"
        scale_latents, orthogonality_weight = False, 0.0

    with pytest.raises(ValueError, match="another tokenizer's ids than those of gpt2"):
        finetuning.load_start(c, gpt2, 2, 1)
    finetuning.load_start(c, own, 2, 1)
    (folder / "tokenizer.json").unlink()
    finetuning.load_start(c, gpt2, 2, 1)


# -----------------------------------------------------------------------------
# Corpora


def fineweb(folder, monkeypatch, column, rows_per_group=2):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = folder / "000_00000.parquet"
    parquet.write_table(pyarrow.table({"text": column, "id": list(range(len(column)))}), path, row_group_size=rows_per_group)
    monkeypatch.setattr(data, "hub_file", lambda *a, **k: str(path))
    corpus = data.FineWebEdu(str(folder), "gpt2", 1)
    corpus.val_every = 3
    return corpus, list(corpus.parts["000_00000"])


def documents(folder, tokenizer):
    """What shards hold, document by document"""
    out = []
    for path in folder.glob("*.bin"):
        ids, _ = data.open_shard(path)
        *whole, rest = np.split(ids, np.flatnonzero(ids == tokenizer.eot) + 1)
        assert not len(rest)
        out += [tokenizer.decode(document[:-1].tolist()) for document in whole]
    return out


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
def test_rows_are_kept_as_they_are_and_empty_ones_are_counted(kind, gpt2, tmp_path, monkeypatch, capsys):
    pa = pytest.importorskip("pyarrow")
    texts = [*ODD, SPECIAL, "head" + " " * 1_100_000 + "tail", "x" * 100_000]
    column = pa.array([None, "", *texts, None, "", ""], pa.large_string() if kind == "large_string" else pa.string())
    corpus, items = fineweb(tmp_path, monkeypatch, column.dictionary_encode() if kind == "dictionary" else column)
    monkeypatch.setattr(data, "in_workers", lambda function, items, workers: map(function, items))
    corpus.parts = {"000_00000": items}
    data.prepare(corpus, str(tmp_path), 1)
    assert sorted(documents(tmp_path, gpt2)) == sorted(texts)
    assert capsys.readouterr().out.endswith("; 5 empty, missing or unreadable texts left out\n")


@pytest.mark.parametrize(
    "column, message",
    [
        ([None, 5, 7], "row 2: int, not text"),
        ([b"a", b"b"], "row 1: bytes, not text"),
        ([None, None, None, ["a"]], "row 4: list, not text"),
        ([1.5], "row 1: float, not text"),
        ([True], "row 1: bool, not text"),
        ([{"a": "b"}], "row 1: dict, not text"),
    ],
)
def test_what_is_no_text_is_named(column, message, gpt2, tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    corpus, items = fineweb(tmp_path, monkeypatch, pa.array(column))
    with pytest.raises(ValueError, match=re.escape(f"000_00000.parquet: {message}")):
        list(map(corpus.tokenize, items))


def test_bytes_that_are_no_utf8_and_a_text_that_cannot_be_read_are_named(gpt2, tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    raw = pa.array([b"good", b"fine", b"good", b"b\xffd", b"good"]).view(pa.string())  # nobody looks at them on writing
    corpus, items = fineweb(tmp_path, monkeypatch, raw)
    with pytest.raises(ValueError, match="000_00000.parquet: row 4: 'utf-8' codec can't decode byte 0xff"):
        list(map(corpus.tokenize, items))
    corpus, items = fineweb(tmp_path, monkeypatch, pa.array(["a", "b", "c"]))

    def encode(text):
        raise ValueError("no")

    corpus.tokenizer.encode = encode
    with pytest.raises(ValueError, match="000_00000.parquet: row 3: no"):
        corpus.tokenize(items[1])


def test_a_damaged_parquet_file_is_named(gpt2, tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    corpus, items = fineweb(tmp_path, monkeypatch, pa.array([f"text {i}" for i in range(500)]), 500)
    path = tmp_path / "000_00000.parquet"
    good = path.read_bytes()
    for bad in (b"", good[:100], good[:-20], good[: len(good) // 2]):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="000_00000.parquet: damaged"):
            list(data.FineWebEdu(str(tmp_path), "gpt2", 1).parts["000_00000"])
    path.write_bytes(b"PAR1" + b"\xff" * 2000 + good[2004:])
    with pytest.raises(ValueError, match="000_00000.parquet: its row group 0 is damaged"):
        corpus.tokenize(items[0])


def test_a_source_file_is_read_as_python_reads_it_line_ends_and_all(gpt2, tmp_path, monkeypatch):
    written = {
        "crlf.py": b"a = 1\r\nb = 2\rc\r\n",
        "separators.py": "x = 'a\u2028b\x85c\x0cd'\n".encode(),
        "mark.py": codecs.BOM_UTF8 + "é = 1\n".encode(),
        "latin.py": "# -*- coding: latin-1 -*-\né = 1\n".encode("latin-1"),
        "nul.py": b"a\0b",
        "empty.py": b"",
    }
    for name, raw in written.items():
        (tmp_path / name).write_bytes(raw)
    monkeypatch.setattr(data.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    fast_tokenizer(tmp_path / "tokenizer.json")
    corpus = data.Sample(str(tmp_path), 260)
    (item,) = corpus.parts["000"]
    read = dict(zip(map(os.path.basename, item), corpus.texts(item), strict=True))
    assert read["crlf.py"] == "a = 1\r\nb = 2\rc\r\n" and read["separators.py"] == "x = 'a\u2028b\x85c\x0cd'\n"
    assert (
        read["mark.py"] == "é = 1\n" and read["latin.py"] == "# -*- coding: latin-1 -*-\né = 1\n" and read["nul.py"] == "a\0b"
    )
    train, val, empty = corpus.tokenize(item)
    assert empty == 1 and (train == corpus.tokenizer.eot).sum() + (val == corpus.tokenizer.eot).sum() == 5
    for name, raw in (("no_utf8.py", b"a = '\xff'"), ("late.py", b"\n\n\n\xff"), ("unknown.py", b"# coding: klingon\n")):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=name):
            list(corpus.texts([str(tmp_path / name)]))


def test_packages_are_read_beside_the_standard_library(tmp_path, monkeypatch):
    """Tests and what Python could not read are left out; the tokenizer is the standard library's alone."""
    monkeypatch.setattr(data.sysconfig, "get_paths", lambda: {x: str(tmp_path / x) for x in ("stdlib", "purelib")})
    files = {"stdlib/a.py": b"abab" * 99, "purelib/p/b.py": b"zqzq" * 99, "purelib/p/tests/c.py": b"c", "purelib/d.py": b"\xff"}
    for name, raw in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "out").mkdir()
    corpus = data.Sample(str(tmp_path / "out"), 260, packages=True)
    assert [os.path.relpath(f, tmp_path) for f in corpus.files] == ["stdlib/a.py", "purelib/d.py", "purelib/p/b.py"]
    assert len(corpus.encode("abab" * 99)) < 200 < len(corpus.encode("zqzq" * 99))
    (item,) = corpus.parts["000"]
    train, val, left_out = pickle.loads(pickle.dumps(corpus)).tokenize(item)  # as a worker has it
    assert left_out == 1 and (np.append(train, val) == corpus.tokenizer.eot).sum() == 2
    assert data.Sample(str(tmp_path / "out")).files == corpus.files[:1]
