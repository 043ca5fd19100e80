"""Workers that die, processes that meet at one file, disks that fail, and what is said of it."""

import errno
import http.server
import json
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub.constants
import pytest
import workers
from helpers import ROOT
from huggingface_hub import errors
from test_data import Words

import countdown
import data
import prosqa
import questions

# -----------------------------------------------------------------------------
# Workers


def test_results_come_in_order_and_few_items_are_under_way():
    taken = []

    def items():
        for n in range(20):
            taken.append(n)
            yield n

    for n, result in enumerate(data.in_workers(workers.square, items(), 2)):
        assert result == n * n and len(taken) <= n + 5
    assert n == 19
    assert list(data.in_workers(workers.square, [], 2)) == [] and list(data.in_workers(workers.square, [5], 3)) == [25]
    assert not multiprocessing.active_children()


def test_an_error_of_a_worker_keeps_its_words():
    done = data.in_workers(workers.refuse, range(10), 2)
    with pytest.raises(ValueError, match="^x.parquet: row 3: not text$"):
        assert [next(done) for _ in range(3)] == [0, 1, 2]
        next(done)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("count", [1, 3])
def test_a_killed_worker_ends_it(count):
    with pytest.raises(ChildProcessError, match="a worker process died with exit code -9: killed"):
        list(data.in_workers(workers.die, range(10), count))
    assert not multiprocessing.active_children()


def test_so_does_one_whose_exception_is_no_exception(capfd):
    with pytest.raises(ChildProcessError, match="a worker process died with exit code 1$"):
        list(data.in_workers(workers.panic, range(10), 2))
    assert "StackOverflow" in capfd.readouterr().err


def test_so_does_one_that_is_killed_while_it_sends_its_result():
    done = data.in_workers(workers.pid_and_megabytes, range(6), 1)
    worker, _ = next(done)
    time.sleep(1)  # the next result does not fit into the pipe, and nobody reads
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(ChildProcessError):
        list(done)


def test_workers_end_with_their_master():
    """Killed, it cannot tell them."""
    here = Path(__file__).resolve().parent
    program = f"import sys; sys.path[:0] = ['{here.parent}', '{here}']; import data, workers\n"
    program += (
        "if __name__ == '__main__':\n for pid in data.in_workers(workers.take_long, range(99), 2): print(pid, flush=True)"
    )
    master = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pids = {int(master.stdout.readline()) for _ in range(2)}
    master.kill()
    master.wait()
    deadline = time.time() + 60
    while any(map(running, pids)) and time.time() < deadline:
        time.sleep(0.1)
    assert len(pids) == 2 and not any(map(running, pids))


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else not os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return False


class Deadly(Words):
    def tokenize(self, item):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_leaves_no_shard(tmp_path):
    (tmp_path / "a.py").write_text("a = 1\n")
    corpus = Deadly(tmp_path, [])
    corpus.parts = {"000": [[str(tmp_path / "a.py")]] * 3}
    with pytest.raises(OSError, match="train_000.bin is not written: a worker process died"):
        data.prepare(corpus, str(tmp_path), 2)
    assert sorted(os.listdir(tmp_path)) == ["a.py", "tokenizer.json"]


def test_wrong_numbers_are_refused_by_name(tmp_path, monkeypatch):
    for option in ("workers=0", "workers=-1", "vocab_size=256", "vocab_size=0", "vocab_size=1000000000"):
        monkeypatch.setattr(sys, "argv", ["data.py", "sample", f"--{option}", f"--out={tmp_path / 'x'}"])
        with pytest.raises(ValueError, match=f"--{option.split('=')[0]}: it must be"):
            data.main()
    assert not (tmp_path / "x").exists()


def test_a_folder_of_another_tokenizer_s_ids_is_not_added_to(tmp_path):
    (tmp_path / "a.py").write_text("a = 1\n" * 9)
    corpus = Words(tmp_path, [str(tmp_path / "a.py")])
    for split in ("train", "val"):
        data.write_shard(str(tmp_path / f"{split}_000.bin"), [[1]], "another", 300)
    with pytest.raises(ValueError, match="train_000.bin holds the ids of another tokenizer"):
        data.prepare(corpus, str(tmp_path), 1)


# -----------------------------------------------------------------------------
# Files


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "x"
    with data.whole(str(path)) as a, data.whole(str(path)) as b:  # two at once do not meet
        Path(a).write_text("a")
        Path(b).write_text("b")
        assert a != b and not path.exists() and os.path.dirname(a) == str(tmp_path)
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["x"]
    with pytest.raises(KeyboardInterrupt), data.whole(str(path)) as a:
        Path(a).write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["x"]
    with pytest.raises(OSError, match="nowhere/x is not written: .*No such file"), data.whole(str(tmp_path / "nowhere/x")) as a:
        open(a, "w")

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="x is not written: .*No space left"), data.whole(str(path)) as a:
        Path(a).write_text("b")
    assert path.read_text() == "a" and os.listdir(tmp_path) == ["x"]


def test_one_process_at_a_time_is_in_a_folder(tmp_path, capsys):
    inside, most = [], []

    def enter(_):
        with data.alone_in(str(tmp_path / "new")):
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
    program += f"with data.alone_in('{tmp_path}'): print(flush=True); time.sleep(99)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert not left.exists() and theirs.exists()
    left.write_text("half")
    threading.Timer(0.5, holder.kill).start()
    began = time.time()
    with data.alone_in(str(tmp_path)):
        assert time.time() - began > 0.3 and not left.exists()
    holder.wait()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_serves(number, tmp_path, monkeypatch, capsys):
    def lock(fd, blocking=True):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(data, "lock_descriptor", lock)
    another_s = tmp_path / "x.0123abcd.tmp"
    another_s.write_text("being written")
    with data.alone_in(str(tmp_path)), data.whole(str(tmp_path / "x")) as unfinished:
        Path(unfinished).write_text("x")
    assert (tmp_path / "x").read_text() == "x" and another_s.exists()
    assert capsys.readouterr().err.count("on a disk that cannot lock files") == 1


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


def test_a_download_that_breaks_off_is_a_line(tmp_path):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'[{"question"')

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(OSError, match="cannot get http://.*IncompleteRead"):
            questions.download(f"http://127.0.0.1:{server.server_address[1]}/x", str(tmp_path / "x.json"), 3)
    finally:
        server.shutdown()


def test_problems_are_made_once(tmp_path, monkeypatch):
    made = []

    def generate(n, seed):
        made.append(n)
        time.sleep(0.2)
        return {split: [{"numbers": [1, 2, 3], "target": 6, "solution": "1 + 2 + 3"}] for split in countdown.SPLITS}

    monkeypatch.setattr(countdown, "generate", generate)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: countdown.make_problems(str(tmp_path), 3, 0), range(4)))
    assert made == [3]
    assert sorted(os.listdir(tmp_path)) == [".lock", "3_seed0_test.jsonl", "3_seed0_train.jsonl", "tokenizer.json"]
    os.remove(tmp_path / ".lock")
    countdown.make_problems(str(tmp_path), 3, 0)  # a folder of others, which may only be read, is not locked
    assert not (tmp_path / ".lock").exists() and made == [3]


def test_two_prosqa_commands_leave_the_files_of_one(tmp_path):
    """Each has drawn other questions; files of both would let a question stand in two of them."""
    command = [sys.executable, str(ROOT / "prosqa.py"), str(tmp_path), "--overwrite", "--counts", "40", "20", "20"]
    both = [subprocess.Popen([*command, f"--seed={seed}"], stdout=subprocess.DEVNULL) for seed in (1, 2)]
    assert [process.wait() for process in both] == [0, 0]
    found = [json.loads((tmp_path / f"prosqa_{split}.json").read_text()) for split in ("train", "valid", "test")]
    asked = [prosqa.question_key(e["question"]) for rows in found for e in rows]
    assert len(asked) == len(set(asked)) == 80


# -----------------------------------------------------------------------------
# Hints


def failing(error, monkeypatch):
    def hf_hub_download(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)


@pytest.mark.parametrize("repo_type, revision", [("dataset", "740312add88f781978c0658806c59bc2815b9866"), ("model", None)])
def test_the_hint_fills_a_cache(repo_type, revision, tmp_path, monkeypatch):
    """The very command, run where the file can be had, prints where it is; and a cache with that layout serves."""
    full, commit = tmp_path / "full", revision or "0" * 40
    repository = full / f"{repo_type}s--some--repo"
    (repository / "snapshots" / commit / "main").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    file = repository / "snapshots" / commit / "main" / "x.parquet"
    file.write_text("rows")
    ask = "import sys, data; print(data.hub_file(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4] or None))"
    ask = [sys.executable, "-c", ask, "some/repo", "main/x.parquet", repo_type, revision or ""]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    empty = subprocess.run(ask, env=env | {"HF_HUB_CACHE": str(tmp_path / "empty")}, capture_output=True, text=True)
    hint = re.search(r"FileNotFoundError: cannot get main/x.parquet of some/repo .*\(`(hf download .*)`\)", empty.stderr)[1]
    served = env | {"HF_HUB_CACHE": str(full)}
    assert subprocess.run(ask, env=served, capture_output=True, text=True).stdout.strip() == str(file)
    _, *arguments = shlex.split(hint)
    hf = [sys.executable, "-m", "huggingface_hub.cli.hf"]
    done = subprocess.run([*hf, *arguments], env=served, capture_output=True, text=True)
    assert done.returncode == 0 and str(file) in done.stdout, done.stderr


def test_a_full_disk_is_not_a_missing_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    full = OSError(errno.ENOSPC, "No space left on device")
    rust = RuntimeError("Data processing error: I/O error: No space left on device (os error 28)")
    wrapped = errors.LocalEntryNotFoundError("An error happened")
    wrapped.__cause__ = full
    for error in (
        full,
        rust,
        wrapped,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        PermissionError(13, "Permission denied", "/x"),
    ):
        failing(error, monkeypatch)
        with pytest.raises(FileNotFoundError) as e:
            data.hub_file("some/repo", "x.parquet")
        assert re.fullmatch(
            rf"cannot keep x.parquet of some/repo in {tmp_path}: (No space left on device|Disk quota exceeded|"
            r"Permission denied \(/x\)); HF_HUB_CACHE names another folder",
            str(e.value),
        )


@pytest.mark.parametrize(
    "error", [errors.LocalEntryNotFoundError("x"), ConnectionError(111, "refused"), OSError(101, "unreachable")]
)
def test_a_missing_network_is_not_a_full_disk(error, monkeypatch):
    failing(error, monkeypatch)
    with pytest.raises(
        FileNotFoundError, match="from the hub .*With a network, run this again; .*--repo-type dataset --revision r1`"
    ):
        data.hub_file("some/repo", "x.parquet", revision="r1")


def test_what_the_hub_does_not_have_is_no_network_error(tmp_path, monkeypatch):
    response = type("Response", (), dict(status_code=404, headers={}, request=None, text="", url=""))()
    failing(errors.RemoteEntryNotFoundError("404", response=response), monkeypatch)
    with pytest.raises(data.NotOnTheHub, match="the hub has no tokenizer.json of some/model$"):
        data.hub_file("some/model", "tokenizer.json", "model")
    assert data.file_of("some/model", "tokenizer.json") is None
    for error in (errors.RepositoryNotFoundError, errors.GatedRepoError, errors.RevisionNotFoundError):
        failing(error("401", response=response), monkeypatch)
        with pytest.raises(FileNotFoundError, match="the hub has no x of some/model, or not for everyone: `hf auth login`"):
            data.hub_file("some/model", "x", "model")
    # offline, the cache remembers what was not there
    commit = "0" * 40
    (tmp_path / "models--some--model" / "refs").mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs" / "main").write_text(commit)
    (tmp_path / "models--some--model" / ".no_exist" / commit).mkdir(parents=True)
    (tmp_path / "models--some--model" / ".no_exist" / commit / "tokenizer.json").touch()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    failing(errors.LocalEntryNotFoundError("offline"), monkeypatch)
    with pytest.raises(data.NotOnTheHub):
        data.hub_file("some/model", "tokenizer.json", "model")


def test_openai_s_tokenizer_has_its_words_too(monkeypatch):
    import tiktoken

    def get_encoding(name):
        raise error

    monkeypatch.setattr(tiktoken, "get_encoding", get_encoding)
    error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="cannot keep GPT-2's tokenizer: No space left on device; TIKTOKEN_CACHE_DIR"):
        data.Tokenizer("gpt2")
    error = ConnectionError("no route")
    with pytest.raises(OSError, match=r"cannot get GPT-2's tokenizer \(ConnectionError\)") as e:
        data.Tokenizer("gpt2")
    program = re.search('python -c "(.*)"`', str(e.value))[1]
    compile(program, "hint", "exec")
    assert "get_encoding('gpt2')" in program
