"""Processes that meet at one file, disks that fail, and what is said of it."""

import errno
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
from helpers import ROOT
from huggingface_hub import errors

import data
import prosqa
import questions

# -----------------------------------------------------------------------------
# Files


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "x"
    with data.atomic_write(str(path)) as a, data.atomic_write(str(path)) as b:  # two at once do not meet
        Path(a).write_text("a")
        Path(b).write_text("b")
        assert a != b and not path.exists() and os.path.dirname(a) == str(tmp_path)
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["x"]
    with pytest.raises(KeyboardInterrupt), data.atomic_write(str(path)) as a:
        Path(a).write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["x"]
    with (
        pytest.raises(OSError, match="nowhere/x is not written: .*No such file"),
        data.atomic_write(str(tmp_path / "nowhere/x")) as a,
    ):
        open(a, "w")

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="x is not written: .*No space left"), data.atomic_write(str(path)) as a:
        Path(a).write_text("b")
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["x"]


def test_one_process_at_a_time_is_in_a_folder(tmp_path, capsys):
    inside, most = [], []

    def enter(_):
        with data.folder_lock(str(tmp_path / "new")):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(enter, range(8)))
    assert most == [1] * 8
    assert "waiting for another process to finish in" in capsys.readouterr().out


def test_a_killed_process_frees_the_folder_and_what_it_left_is_cleared(tmp_path):
    left, theirs = tmp_path / "train_000.bin.0123abcd.tmp", tmp_path / "notes.tmp"
    for path in (left, theirs):
        path.write_text("half")
    program = f"import sys, time; sys.path.insert(0, '{ROOT}'); import data\n"
    program += f"with data.folder_lock('{tmp_path}'): print(flush=True); time.sleep(99)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert not left.exists() and theirs.exists()
    left.write_text("half")
    threading.Timer(0.5, holder.kill).start()
    began = time.time()
    with data.folder_lock(str(tmp_path)):
        assert time.time() - began > 0.3 and not left.exists()
    holder.wait()


def test_eight_ranks_download_a_file_once(tmp_path):
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            time.sleep(0.2)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([{"question": "q"}] * 3).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, path = f"http://127.0.0.1:{server.server_address[1]}/x.json", tmp_path / "prosqa" / "x.json"
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: questions.download(url, str(path), 3), range(8)))
    finally:
        server.shutdown()
    assert len(asked) == 1 and len(json.loads(path.read_text())) == 3
    assert sorted(os.listdir(path.parent)) == [".lock", "x.json"]


def test_two_prosqa_commands_leave_the_files_of_one(tmp_path):
    """Each has drawn other questions; files of both would let a question stand in two of them."""
    command = [sys.executable, str(ROOT / "prosqa.py"), str(tmp_path), "--overwrite", "--counts", "40", "20", "20"]
    both = [subprocess.Popen([*command, f"--seed={seed}"], stdout=subprocess.DEVNULL) for seed in (1, 2)]
    assert [process.wait() for process in both] == [0, 0]
    found = [json.loads((tmp_path / f"prosqa_{split}.json").read_text()) for split in ("train", "valid", "test")]
    asked = [prosqa.question_key(e["question"]) for rows in found for e in rows]
    assert len(asked) == len(set(asked)) == 80


# -----------------------------------------------------------------------------
# The hub


@pytest.mark.parametrize("error", [errors.HFValidationError("not\n\nto be had"), RuntimeError("I/O error: not to be had")])
def test_what_cannot_be_got_is_named_in_one_line(error, monkeypatch):
    def hf_hub_download(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    with pytest.raises(FileNotFoundError, match="^cannot get x.parquet of some/repo: .*not to be had$"):
        data.hub_file("some/repo", "x.parquet", revision="r1")
    with pytest.raises(FileNotFoundError, match="^cannot get tokenizer.json of some/repo: "):
        data.tokenizer_of("some/repo")  # no reason to take GPT-2's


def test_a_disk_without_locks_serves(tmp_path, monkeypatch, capsys):
    def lock(fd, blocking=True):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(data, "lock_descriptor", lock)
    another_s = tmp_path / "x.0123abcd.tmp"
    another_s.write_text("being written")
    with data.folder_lock(str(tmp_path)), data.atomic_write(str(tmp_path / "x")) as unfinished:
        Path(unfinished).write_text("x")
    assert (tmp_path / "x").read_text() == "x" and another_s.exists()
    assert capsys.readouterr().err.count("on a disk that cannot lock files") == 1
