"""Shards are whole or refused; a row is a pure function of (seed, n)."""

import json
import os

import numpy as np
import pytest

import data


def make_shards(folder, counts=(1000, 333), vocab_size=50, split="train"):
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(0)
    texts = [(rng.random(n) ** 3 * vocab_size).astype(int) for n in counts]  # skewed, so that there is something to learn
    for i, ids in enumerate(texts):
        data.write_shard(f"{folder}/{split}_{i:03d}.bin", [ids[:7], ids[7:]], "test", vocab_size)
    return texts


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


def test_a_full_disk_leaves_no_half_shard(tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="train_000.bin is not written: .*No space left"):
        make_shards(tmp_path, [100])
    assert os.listdir(tmp_path) == []


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
    with pytest.raises(FileNotFoundError, match="`python data.py sample` makes them"):
        data.Rows(tmp_path, "train", 10)
    with pytest.raises(FileNotFoundError, match="`python data.py sample --packages` makes them"):
        data.Rows(tmp_path / "packages", "train", 10)
    make_shards(tmp_path, [9])
    with pytest.raises(ValueError, match="no train shard holds seq_len=10"):
        data.Rows(tmp_path, "train", 10)
    data.write_shard(str(tmp_path / "train_001.bin"), [np.arange(50)], "another", 50)
    with pytest.raises(ValueError, match="tokenised with another"):
        data.Rows(tmp_path, "train", 5)


class Words(data.Sample):
    """The sample corpus, over files of the test's own."""

    val_every = 2

    def __init__(self, out, files):
        self.files, self.parts = files, {"000": [files[:2], files[2:]], "001": [files[:1]]}
        self.tokenizer_name = f"{out}/tokenizer.json"
        if not os.path.isfile(self.tokenizer_name):
            data.train_tokenizer(self.texts(files), 300, self.tokenizer_name)


def test_a_corpus_becomes_shards_and_back(tmp_path, capsys):
    """Documents survive, each on one side; a finished part is not made again; a missing one is."""
    texts = [f"def f{i}():\n\treturn '{'héllo ' * i}'\n" for i in range(6)]
    files = []
    for i, text in enumerate(texts):
        files.append(str(tmp_path / f"{i}.py"))
        with open(files[-1], "w", encoding="utf-8") as f:
            f.write(text)
    out = str(tmp_path / "out")
    os.makedirs(out)
    corpus = Words(out, files)
    data.prepare(corpus, out, workers=2)
    tokenizer = data.tokenizer_of(out)
    back = []
    for split in ("train", "val"):
        ids, header = data.open_shard(f"{out}/{split}_000.bin")
        ends = np.flatnonzero(ids == tokenizer.eot)
        assert len(ends) and header["tokenizer"] == tokenizer.name
        starts = [0, *(ends[:-1] + 1)]
        back += [tokenizer.decode(ids[a:b].tolist()) for a, b in zip(starts, ends, strict=True)]
    assert sorted(back) == sorted(texts)
    before = os.stat(f"{out}/train_000.bin").st_mtime_ns
    os.remove(f"{out}/val_001.bin")
    data.prepare(corpus, out, workers=2)
    assert os.stat(f"{out}/train_000.bin").st_mtime_ns == before and os.path.exists(f"{out}/val_001.bin")


def test_fineweb_rows_are_read_from_parquet(tmp_path, monkeypatch):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "000_00000.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "b", "c"], "id": [1, 2, 3]}), path, row_group_size=2)
    monkeypatch.setattr(data, "hub_file", lambda *a, **k: str(path))
    corpus = data.FineWebEdu(str(tmp_path), "gpt2", 1)
    items = list(corpus.parts["000_00000"])
    assert [corpus.texts(i) for i in items] == [["a", "b"], ["c"]]
    corpus = data.FineWebEdu(str(tmp_path), "gpt2", 1)
    corpus.tokenizer_name = Words(tmp_path, [__file__]).tokenizer_name
    data.prepare(corpus, str(tmp_path), workers=2)
    ids = [data.open_shard(tmp_path / f"{split}_000_00000.bin")[0].tolist() for split in ("train", "val")]
    assert corpus.tokenizer.decode(sum(ids, [])) in ("abc", "bca", "cab", "acb", "bac", "cba")
    parquet.write_table(pyarrow.table({"words": ["a"]}), path)
    with pytest.raises(ValueError, match="no column named text"):
        list(data.FineWebEdu(str(tmp_path), "gpt2", 1).parts["000_00000"])
    with pytest.raises(ValueError, match="1 to 140"):
        data.FineWebEdu(str(tmp_path), "gpt2", 141)


def test_the_header_is_readable_by_eye(tmp_path):
    make_shards(tmp_path, [5])
    with open(tmp_path / "train_000.bin", "rb") as f:
        assert json.loads(f.read(512).decode())["count"] == 5
