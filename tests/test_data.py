"""Shards are whole or refused; a row is a pure function of (seed, n)."""

import codecs
import os
import types

import numpy as np
import pytest

import data


def make_shards(folder, counts=(1000, 333), vocab_size=50, split="train", tokenizer="gpt2"):
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(0)
    texts = [(rng.random(n) ** 3 * vocab_size).astype(int) for n in counts]  # skewed, so that there is something to learn
    for i, ids in enumerate(texts):
        data.write_shard(f"{folder}/{split}_{i:03d}.bin", [ids[:7], ids[7:]], tokenizer, vocab_size)
    return texts


def make_corpus(folder, words="a few words"):
    """Shards, of ids below 300, with a tokenizer"""
    data.train_tokenizer([words], 300, os.path.join(folder, "tokenizer.json"))
    for split, count in (("train", 3000), ("val", 600)):
        make_shards(folder, [count], 300, split, data.tokenizer_of(str(folder)).name)


@pytest.mark.parametrize("vocab_size, dtype", [(50, "uint16"), (2**16, "uint16"), (2**16 + 1, "uint32"), (151669, "uint32")])
def test_what_is_written_is_read(tmp_path, vocab_size, dtype):
    ids = np.array([0, 1, vocab_size - 1, 3])
    assert data.write_shard(str(tmp_path / "a.bin"), [ids[:1], ids[1:]], "test", vocab_size) == 4
    read, header = data.open_shard(tmp_path / "a.bin")
    assert read.dtype == dtype and np.array_equal(read, ids) and header["vocab_size"] == vocab_size
    data.check_shard(tmp_path / "a.bin")


def test_every_damage_is_found(tmp_path):
    """Any bit of the header, any missing or added byte on opening; any bit of the tokens in the full check."""
    make_shards(tmp_path, [100])
    path = tmp_path / "train_000.bin"
    good = path.read_bytes()
    header = len(good[: data.HEADER_BYTES].rstrip())
    for position in [*range(0, header, 5), data.HEADER_BYTES, len(good) - 1]:
        bad = bytearray(good)
        bad[position] ^= 4
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="train_000.bin"):
            data.check_shard(path)
    for bad in (good[:-1], good[: data.HEADER_BYTES], good[:100], b"", good + b"x"):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="train_000.bin"):
            data.open_shard(path)


def test_an_epoch_visits_every_window_once_and_rows_depend_on_seed_and_number_alone(tmp_path):
    texts = make_shards(tmp_path)
    windows = [t[i : i + 10] for t in texts for i in range(0, len(t) // 10 * 10, 10)]  # none spans two shards
    rows = data.Rows(tmp_path, "train", 10, seed=1)
    assert rows.count == len(windows) == 133
    for epoch in range(2):
        seen = [rows[n] for n in range(epoch * 133, (epoch + 1) * 133)]
        assert sorted(map(bytes, seen)) == sorted(bytes(w.astype(np.int64)) for w in windows)
    again = data.Rows(tmp_path, "train", 10, seed=1)
    order = [200, 3, 150, 4, 200]  # asked for in any order, across epochs
    assert all(np.array_equal(again[n], rows[n]) for n in order)
    other = data.Rows(tmp_path, "train", 10, seed=2)
    assert any(not np.array_equal(other[n], rows[n]) for n in range(5))
    assert any(not np.array_equal(rows[n], rows[n + 133]) for n in range(5)), "the second epoch has an order of its own"
    in_order = data.Rows(tmp_path, "train", 10)
    assert all(np.array_equal(in_order[n], windows[n]) for n in range(133))


def test_sites_are_distinct_uniform_and_depend_on_seed_and_number_alone():
    sites = data.draw_sites(5, range(4000), 3, 10)
    assert all(len(set(s)) == 3 for s in sites) and sites.min() == 0 and sites.max() == 9
    assert np.abs(np.bincount(sites.ravel()) / 4000 - 0.3).max() < 0.04  # 5.5 standard errors
    assert np.array_equal(data.draw_sites(5, [17, 3], 3, 10), sites[[17, 3]])
    assert not np.array_equal(data.draw_sites(6, range(5), 3, 10), sites[:5])
    assert np.array_equal(data.draw_sites(5, [0], 10, 10)[0], np.arange(10))
    with pytest.raises(ValueError, match="n_sites=11 is more than the 10 places"):
        data.draw_sites(5, [0], 11, 10)


def test_rows_refuse_what_they_cannot_serve(tmp_path):
    with pytest.raises(FileNotFoundError, match="no train shards in .*data.py"):
        data.Rows(tmp_path, "train", 10)
    make_shards(tmp_path, [9])
    with pytest.raises(ValueError, match="no train shard holds seq_len=10"):
        data.Rows(tmp_path, "train", 10)
    data.write_shard(str(tmp_path / "train_001.bin"), [np.arange(50)], "another", 50)
    with pytest.raises(ValueError, match="tokenised with another"):
        data.Rows(tmp_path, "train", 5)


def small_tokenizer(folder, text="def f(): return 'héllo'\n"):
    folder.mkdir(exist_ok=True)
    data.train_tokenizer([text], 300, str(folder / "tokenizer.json"))
    return data.Tokenizer(str(folder / "tokenizer.json"))


def documents(path):
    """What a shard holds, document by document"""
    tokenizer, (ids, header) = data.tokenizer_of(os.path.dirname(path)), data.open_shard(path)
    *found, rest = np.split(ids, np.flatnonzero(ids == tokenizer.eot) + 1)
    assert not len(rest) and header["tokenizer"] == tokenizer.name
    return [tokenizer.decode(document[:-1].tolist()) for document in found]


def test_a_corpus_becomes_shards_and_back(tmp_path):
    """Documents keep their order, each on its side; a finished part is not made again; a missing one is."""
    texts = [f"def f{i}():\n\treturn '{'héllo ' * (i % 9)}'\n" for i in range(1000)]  # several batches
    pairs = [pair for i, text in enumerate(texts) for pair in ((text, i % 7 == 0), ("", i % 2 == 0))]
    out, tokenizer = tmp_path / "out", small_tokenizer(tmp_path / "tokenizer")
    out.mkdir()
    data.prepare(str(out), {"000": iter(pairs), "001": iter(pairs[:9])}, tokenizer)
    assert documents(f"{out}/train_000.bin") == [text for i, text in enumerate(texts) if i % 7]
    assert documents(f"{out}/val_000.bin") == texts[::7]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.bin")}
    os.remove(f"{out}/val_001.bin")
    data.prepare(str(out), {"000": None, "001": iter(pairs[:9])}, tokenizer)
    assert {path: path.read_bytes() for path in out.glob("*.bin")} == {path: raw for path, (_, raw) in before.items()}
    kept = out / "train_000.bin"
    assert kept.stat().st_mtime_ns == before[kept][0]


def test_a_corpus_that_breaks_off_leaves_no_half_shard_and_goes_on(tmp_path):
    def documents():
        yield from whole[:600]
        raise OSError("the network is gone")

    whole, tokenizer = [(f"text {i}", i % 20 == 0) for i in range(700)], small_tokenizer(tmp_path / "tokenizer")
    for name in ("cut", "whole"):
        (tmp_path / name).mkdir()
    with pytest.raises(OSError, match="train_001.bin is not written: the network is gone"):
        data.prepare(str(tmp_path / "cut"), {"000": iter(whole), "001": documents()}, tokenizer)
    assert sorted(path.name for path in (tmp_path / "cut").glob("*.*")) == [
        "tokenizer.json", "tokenizer_config.json", "train_000.bin", "val_000.bin",
    ]  # fmt: skip
    for name in ("cut", "whole"):
        data.prepare(str(tmp_path / name), {"000": iter(whole), "001": iter(whole)}, tokenizer)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")} for name in ("cut", "whole")]
    assert files[0] == files[1] and len(files[0]) == 6


def test_fineweb_rows_are_read_from_parquet(tmp_path, monkeypatch):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, texts = tmp_path / "x.parquet", ["\ufeffa", None, "b\r\nc\x85d", "", *(f"text {i}" for i in range(4000))]
    monkeypatch.setattr(data, "hub_file", lambda *a, **k: str(path))
    parquet.write_table(pyarrow.table({"text": texts, "id": list(range(len(texts)))}), path, row_group_size=1000)
    found = list(data.fineweb_edu("000_00000"))
    assert [text for text, _ in found] == [text for text in texts if text]
    assert 0 < sum(for_val for _, for_val in found) < 15


def test_a_source_file_is_read_as_python_reads_it_line_ends_and_all(tmp_path, capsys):
    """What Python could not read is left out and named."""
    (tmp_path / "tests").mkdir()
    for name, raw in {
        "crlf.py": b"a = 1\r\nb = 2\rc\r\n",
        "latin.py": "# -*- coding: latin-1 -*-\né = 1\n".encode("latin-1"),
        "mark.py": codecs.BOM_UTF8 + "é = 1\n".encode(),
        "no_utf8.py": b"a = '\xff'",
        "separators.py": "x = 'a\u2028b\x85c\x0cd'\n".encode(),
        "tests/left_out.py": b"a = 1",
        "unknown.py": b"# coding: klingon\n",
    }.items():
        (tmp_path / name).write_bytes(raw)
    assert [text for text, _ in data.python_sources(str(tmp_path))] == [
        "a = 1\r\nb = 2\rc\r\n", "# -*- coding: latin-1 -*-\né = 1\n", "é = 1\n", "x = 'a\u2028b\x85c\x0cd'\n",
    ]  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "no_utf8.py is left out" in said[0] and "unknown.py is left out" in said[1]


def test_packages_are_read_beside_the_standard_library(tmp_path, monkeypatch):
    """The tokenizer is the standard library's alone."""
    monkeypatch.setattr(data.sysconfig, "get_path", lambda name: str(tmp_path / name))
    for name, text in {"stdlib/a.py": "abab" * 99, "purelib/p/b.py": "zqzq" * 99}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    out = str(tmp_path / "out")
    data.main(["sample", "--packages", "--vocab_size=260", f"--out={out}"])
    tokenizer = data.tokenizer_of(out)
    assert tokenizer.vocab_size == 260 and len(tokenizer.encode("abab" * 99)) < 200 < len(tokenizer.encode("zqzq" * 99))
    assert sorted(documents(f"{out}/train_000.bin") + documents(f"{out}/val_000.bin")) == ["abab" * 99, "zqzq" * 99]
    with pytest.raises(ValueError, match="has 260 tokens, not 261"):
        data.main(["sample", "--vocab_size=261", f"--out={out}"])


def test_text_of_one_s_own(tmp_path, capsys):
    tokenizer = small_tokenizer(tmp_path / "tokenizer")
    book, stories = "".join(f"line {i}\r\n" for i in range(1000)), [f"story {i}\x85 é \u2028\n" for i in range(500)]
    (tmp_path / "book.txt").write_bytes(codecs.BOM_UTF8 + book.encode())
    (tmp_path / "stories.txt").write_bytes("<|endoftext|>".join(stories).encode())
    command = ["text", *(str(tmp_path / f"{name}.txt") for name in ("book", "stories"))]
    command += [f"--tokenizer={tokenizer.path}", f"--out={tmp_path / 'out'}"]
    data.main(command)
    train, val = (documents(f"{tmp_path / 'out'}/{split}_000.bin") for split in ("train", "val"))
    assert train[0] + val[0] == book and 0.0499 < len(val[0]) / len(book) < 0.0501
    assert train[1:-1] + [train[-1] + val[1]] + val[2:] == stories and 20 < len(val) < 30
    assert data.tokenizer_of(str(tmp_path / "out")).name == tokenizer.name
    with pytest.raises(ValueError, match="holds a corpus already"):
        data.main(command)


def test_a_folder_of_another_tokenizer_s_ids_is_not_added_to(tmp_path):
    data.write_shard(str(tmp_path / "train_000.bin"), [[1]], "another", 300)
    with pytest.raises(ValueError, match="train_000.bin holds the ids of another tokenizer"):
        data.prepare(str(tmp_path), {"001": iter([])}, small_tokenizer(tmp_path / "tokenizer"))
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_folder_with_another_tokenizer_is_not_written_to(tmp_path, monkeypatch):
    """GPT-2's has no file that would take the place of the one that is there."""
    small_tokenizer(tmp_path / "out")
    gpt2 = types.SimpleNamespace(eot_token=256, n_vocab=257)
    monkeypatch.setattr("tiktoken.get_encoding", lambda name: gpt2)
    with pytest.raises(ValueError, match="out has another tokenizer"):
        data.prepare(str(tmp_path / "out"), {"000": iter([])}, data.Tokenizer("gpt2"))
    assert data.shard_paths(str(tmp_path / "out")) == []


def test_a_folder_is_the_one_that_is_named(tmp_path):
    """Also where its name would be a pattern that another's fits."""
    make_shards(tmp_path / "corp1", [40])
    with pytest.raises(FileNotFoundError):
        data.Rows(tmp_path / "corp[1]", "train", 10)
    make_shards(tmp_path / "corp[1]", [90])
    assert data.Rows(tmp_path / "corp[1]", "train", 10).count == 9


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(ValueError, match="a.txt:3: not UTF-8 text .invalid continuation byte at byte 11."):
        list(data.own_text([tmp_path / "a.txt"]))
