"""A text comes out of a tokenizer as it went in, whatever is in it, or is refused in one line that says where it stands."""

import json

import pytest
import tiktoken
from helpers import run_here
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

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
    monkeypatch.setattr(data, "GPT2_IDS", OPENAI.n_vocab)
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


@pytest.mark.parametrize("text", [*ODD, SPECIAL, "<|endoftext|>", "<think>x</think>"])
def test_a_text_comes_back_as_it_was(text, tokenizer):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.eot not in ids


def test_many_texts_at_once_have_the_ids_of_each(tokenizer):
    texts = ["", *ODD, SPECIAL, *(f"héllo {i} 東京" * i for i in range(60))]
    each = [tokenizer.encode(text) for text in texts]
    assert [list(ids) for ids in tokenizer.encode_batch(texts)] == each
    tokenizer.encode(SPECIAL, special=True)
    assert list(tokenizer.encode_batch([SPECIAL])[0]) == tokenizer.encode(SPECIAL), "what was asked for before does not last"


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


@pytest.mark.parametrize("eos, eot", [("</s>", 256), ({"content": "<end>"}, 257), ("<other>", None), (None, None)])
def test_the_end_of_a_document_under_another_name(eos, eot, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    if eot:
        assert fast_tokenizer(tmp_path / "tokenizer.json", special=["</s>", "<end>"]).eot == eot
    else:
        with pytest.raises(ValueError, match=r"tokenizer.json has no <\|endoftext\|>"):
            fast_tokenizer(tmp_path / "tokenizer.json", special=["</s>", "<end>"])


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

    def hub_file(repo, filename, repo_type="dataset", revision=None):
        asked.append((repo, filename, repo_type))
        if not (tmp_path / filename).exists():
            raise FileNotFoundError(filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(data, "hub_file", hub_file)
    assert data.tokenizer_of("openai-community/gpt2-medium").name == "gpt2" and not asked
    assert data.tokenizer_of("someone/model").name == own.name
    assert asked == [("someone/model", f"tokenizer{what}.json", "model") for what in ("", "_config")]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    fast_tokenizer(tmp_path / "tokenizer.json", special=["</s>"])
    assert data.tokenizer_of("someone/model").eot == 256
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError):
        data.tokenizer_of("someone/model")


def test_a_run_s_base_has_the_run_s_tokenizer_beside_it(family, train_settings, tmp_path):
    """transformers finds it, and reads it as it is: it has a reader of its own for each family, with a pattern of its own."""
    transformers = pytest.importorskip("transformers")
    folder, text = tmp_path / "corpus", "12, 34 equals  56\nit's <|endoftext|>!"
    folder.mkdir()
    data.train_tokenizer(["12, 34 equals 56\n"] * 9, 290, str(folder / "tokenizer.json"), r"[0-9]|, | equals |\n")
    for split in ("train", "val"):
        data.write_text(str(folder), split, ["12, 34 equals 56\n" * 9] * 40)
    settings = train_settings | dict(data=folder, init_from=f"random:tiny_{family}", tokens=96)
    run, tokenizer = run_here(train, settings, tmp_path / "run"), data.tokenizer_of(str(folder))
    base = str(run / "checkpoint" / "base")
    for name in (run, base):
        assert data.tokenizer_of(str(name)).name == tokenizer.name == evaluate.load(str(name))[1].name
    theirs = transformers.AutoTokenizer.from_pretrained(base)
    assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text, special=True)
    assert theirs.eos_token_id == tokenizer.eot
    transformers.AutoModelForCausalLM.from_pretrained(base)(**theirs("12", return_tensors="pt"))


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


def test_tokenizers_that_differ_in_words_they_rarely_meet_are_not_the_same(tmp_path):
    for name, text in (("d", "xxqq xxqq jjvv"), ("e", "jjvv jjvv xxqq")):
        data.train_tokenizer([text], 262, str(tmp_path / f"{name}.json"))
    d, e = (data.Tokenizer(str(tmp_path / f"{name}.json")) for name in "de")
    assert d.vocab_size == e.vocab_size and d.encode("xxqq") != e.encode("xxqq") and not d.same(e)


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
    random_model("tiny_qwen3", gpt2.vocab_size + 2000).save_pretrained(folder)  # without its tokenizer
    with pytest.raises(ValueError, match="model has .* token ids, gpt2 only"):
        finetuning.load_start(c, gpt2, 2, 1)
