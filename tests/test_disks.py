"""Files are whole, synced, and named where they are damaged; disks, systems and consoles lack something; logs go elsewhere."""

import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

from configurator import read_json

import pytest
from helpers import ENV, ROOT, WEIGHTS, bare_run, cut_and_resume, run_here, same_bytes

import data
import runtime
import train

# -----------------------------------------------------------------------------
# Damaged files


def test_damaged_json_is_named(tmp_path):
    path = tmp_path / "state.json"
    for damaged in (b'{"step": 4, "seco', bytes(64), b'[{"step": 4}]', b'{"rows": 4}', b'{"step": "4"}'):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{path} is damaged "):
            read_json(path, like={"step": 0})
    path.write_bytes(b'\xef\xbb\xbf{"step": 4, "more": [1.5]}\r\n')  # whole, as an editor may leave it
    assert read_json(path, like={"step": 0}) == {"step": 4, "more": [1.5]}


def test_a_line_that_was_cut_off_is_left_out_and_a_damaged_one_named(tmp_path):
    path, whole = tmp_path / "metrics.jsonl", b'{"step": 1}\n{"step": 2}\n'
    for tail in (b"", b'{"step": 3, "lo', b'{"step": 3', bytes(40), b"\xff"):
        path.write_bytes(whole + tail)
        assert runtime.read_metrics(tmp_path) == [{"step": 1}, {"step": 2}], tail
        if tail:  # what is written at once has no such excuse
            with pytest.raises(ValueError, match=r"metrics.jsonl:3 is damaged"):
                runtime.read_lines(path)
    for middle in (b'{"step": 3, "lo\n', bytes(40) + b"\n", b"\n", b"3\n"):
        path.write_bytes(whole + middle + b'{"step": 4}\n')
        with pytest.raises(ValueError, match=r"metrics.jsonl:3 is damaged"):
            runtime.read_metrics(tmp_path)
    path.write_bytes(whole.replace(b"\n", b"\r\n") + b'{"text": "\xe2\x80\xa8 \xc2\x85 \\u2028"}\n')
    assert runtime.read_metrics(tmp_path)[1:] == [{"step": 2}, {"text": "\u2028 \x85 \u2028"}]


@pytest.mark.parametrize("name", ["config.json", "checkpoint/state.json", "metrics.jsonl"])
def test_a_run_whose_files_are_damaged_says_which_and_goes_on_when_they_are_mended(name, train_settings, train_run, tmp_path):
    out = shutil.copytree(train_run, tmp_path / "run")
    good = (out / name).read_bytes()
    incomplete = b'{"loss": 1.0}'  # without the step
    for bad in (good[: len(good) // 2], bytes(len(good)), incomplete):
        bad += b"\n{}\n" if name == "metrics.jsonl" else b""  # not its last line: that one may be cut
        (out / name).write_bytes(bad)
        with pytest.raises(ValueError, match=f"{out / name}.* is damaged" if bad != incomplete else None):
            run_here(train, train_settings, out, "--resume")
    (out / name).write_bytes(good)
    run_here(train, train_settings, out, "--resume")
    same_bytes(train_run, out, *WEIGHTS)


# -----------------------------------------------------------------------------
# What is written is whole, and on the disk


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_after(tmp_path, monkeypatch):
    calls, sync, replace = [], data.sync, os.replace
    for module in (data, runtime):
        monkeypatch.setattr(module, "sync", lambda path: calls.append(("sync", Path(path).name)) or sync(path))
    monkeypatch.setattr(os, "replace", lambda a, b: calls.append((Path(a).name, Path(b).name)) or replace(a, b))
    for write, value, text in (
        (runtime.write_json, {"a": 1.5}, '{\n  "a": 1.5\n}\n'),
        (runtime.write_lines, [{"a": 1}, {"b": "é"}], '{"a": 1}\n{"b": "\\u00e9"}\n'),
    ):
        calls.clear()
        write(tmp_path / "x", value)
        assert (tmp_path / "x").read_bytes() == text.encode() and os.listdir(tmp_path) == ["x"]
        beside = calls[0][1]
        assert calls == [("sync", beside), (beside, "x"), ("sync", tmp_path.name)] and beside.startswith("x.")
    calls.clear()
    bare_run(tmp_path).log({"step": 1, "loss": 2.0}, "")
    assert calls == [("sync", "metrics.jsonl")]
    calls.clear()
    runtime.replace_folder(str(tmp_path / "best"), lambda folder: runtime.write_json(f"{folder}/a", {}))
    assert calls[-3:] == [("sync", "a"), ("sync", "best.new"), ("sync", tmp_path.name)]


def test_a_disk_that_fails_leaves_what_was_there_and_names_the_file(tmp_path, monkeypatch):
    for write, value in ((runtime.write_json, {"a": 1}), (runtime.write_lines, [{"a": 1}])):
        write(tmp_path / "x", value)
        before = (tmp_path / "x").read_bytes()

        def fail(fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as m:
            m.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="x is not written: .*No space left"):
                write(tmp_path / "x", value | {"b": 2} if isinstance(value, dict) else value * 2)
            with pytest.raises(OSError, match="No space left"):
                bare_run(tmp_path).log({"step": 1}, "")
        assert (tmp_path / "x").read_bytes() == before


def test_what_json_cannot_say_is_not_written(tmp_path):
    runtime.write_json(tmp_path / "x", {"a": 1})
    with pytest.raises(ValueError):
        runtime.write_json(tmp_path / "x", {"a": float("nan")})
    assert read_json(tmp_path / "x") == {"a": 1}
    run = bare_run(tmp_path)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"step 3: val_ppl is {bad}"):
            run.log({"step": 3, "loss": 1.0, "val_ppl": bad}, "")
    assert not (tmp_path / "metrics.jsonl").exists()


# -----------------------------------------------------------------------------
# Disks and systems that lack something


def test_a_disk_without_locks_is_told_once_and_the_run_goes_on(train_settings, train_run, tmp_path, monkeypatch, capsys):
    def refuse(*_, **how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(data, "lock_descriptor", refuse)
    out = cut_and_resume(train, train_settings, tmp_path / "run", 4)
    same_bytes(train_run, out, *WEIGHTS)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes and len(notes) == len(set(notes)) and all("cannot lock files" in note for note in notes)
    assert any(str(out) in note for note in notes)


def test_a_folder_is_one_process_s_until_it_is_finished(tmp_path):
    """This process may lock it again; another may not."""

    def refused():
        child = os.fork()  # another process, and no import to wait for
        if not child:
            runtime.locked.clear()  # what this one holds is not the child's
            try:
                runtime.lock_folder(tmp_path)
            except FileExistsError as e:
                os._exit(1 if "another process is writing to" in str(e) else 2)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 1)
        return code == 1

    runtime.lock_folder(tmp_path)
    assert refused()
    runtime.lock_folder(tmp_path)
    assert refused()
    runtime.finish()
    assert not refused()


def test_a_folder_whose_names_cannot_be_synced_serves(tmp_path, monkeypatch):
    """The request is refused, as by some network disks, or the folder cannot be opened for it, as on Windows."""
    fsync, open_file = os.fsync, os.open

    def no_folders(fd):
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    def no_folders_to_open(path, flags, *more):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_file(path, flags, *more)

    monkeypatch.setattr(shutil, "_use_fd_functions", False)  # it would open folders to delete them
    for n, (name, fake) in enumerate([("fsync", no_folders), ("open", no_folders_to_open)], start=1):
        with monkeypatch.context() as m:
            m.setattr(os, name, fake)
            runtime.write_json(tmp_path / "x", {"n": n})
            run = bare_run(tmp_path)
            for run.step in (1, 2):
                run.save()
        assert read_json(tmp_path / "x") == {"n": n} and runtime.read_state(tmp_path / "checkpoint")["step"] == 2


@pytest.fixture
def windows(monkeypatch):
    """A folder has no name to sync; a name that is taken is not given again, and what is open keeps its name."""
    rename, open_file = os.rename, os.open

    def in_use(path):
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        with open("/proc/self/maps", encoding="utf-8") as f:
            links += [line.split(maxsplit=5)[-1].strip() for line in f]
        return any(link == path or link.startswith(path + os.sep) for link in links)

    def strict_rename(old, new):
        old, new = os.path.realpath(old), os.path.realpath(new)
        if os.path.exists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        if in_use(old):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), old)
        rename(old, new)

    def no_folders(path, flags, *more):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_file(path, flags, *more)

    monkeypatch.setattr(shutil, "_use_fd_functions", False)  # as there
    monkeypatch.setattr(os, "rename", strict_rename)
    monkeypatch.setattr(os, "open", no_folders)
    return in_use


def test_where_what_is_open_keeps_its_name_checkpoints_follow_each_other(windows, tmp_path, train_settings, train_run):
    out = cut_and_resume(train, train_settings | dict(keep_checkpoints=1), tmp_path / "cut", 4)
    assert runtime.checkpoint_of(out).endswith("checkpoint")
    same_bytes(train_run, out, *WEIGHTS)
    assert not windows(os.path.realpath(tmp_path))  # nothing of a run stays open


# -----------------------------------------------------------------------------
# Consoles


def test_no_console_ends_a_run():
    """± and ideographs, and half a surrogate pair, on standard output, and in an error's one line."""
    text = "0.5 ± 0.1, \u7d71, \ud800"
    program = f"from configurator import one_line_errors\ndef main():\n    print({text!r})\n    raise ValueError({text!r})\n"
    command = [sys.executable, "-c", program + "one_line_errors(main)"]
    done = subprocess.run(command, cwd=ROOT, env=ENV | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: 0.5 ") and "Traceback" not in done.stderr
    assert done.stdout == r"0.5 \xb1 0.1, \u7d71, \ud800" + "\n"


# -----------------------------------------------------------------------------
# Weights & Biases


class FakeWandb(types.ModuleType):
    """Remembers what it was told: inits, each with the records that were logged to it."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.util.spec_from_loader("wandb", None)  # found, as if it were installed
        self.runs, self.finished = [], 0

    def init(self, **about):
        logged = []
        self.runs.append((about, logged))

        def finish():
            self.finished += 1

        return types.SimpleNamespace(log=lambda record, step: logged.append((step, record)), finish=finish)


def test_weights_and_biases_gets_every_line_and_a_resumed_run_goes_on_there(train_settings, tmp_path, monkeypatch):
    settings = train_settings | dict(wandb=True)
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    out = run_here(train, settings, tmp_path / "run")
    (first, logged), records = fake.runs[0], runtime.read_metrics(out)
    assert json.loads(json.dumps(logged)) == [[r["step"], r] for r in records] and fake.finished == 1
    assert first["project"] == "nanolatent" and first["name"] == "run" and first["resume"] == "allow"
    assert first["config"] == read_json(out / "config.json") and re.fullmatch("[0-9a-f]{32}", first["id"])

    cut_and_resume(train, settings, tmp_path / "cut", 4)
    (_, _), (began, before), (again, after) = fake.runs
    assert began["id"] == again["id"] != first["id"] and fake.finished >= 2
    steps = [[step for step, _ in run] for run in (before, after)]
    assert max(steps[0]) >= 4 and min(steps[1]) == 5 and steps[1][-1] == records[-1]["step"]
    run_here(train, settings | dict(wandb=False), tmp_path / "cut", "--resume")  # not this time
    run_here(train, settings, tmp_path / "cut", "--resume")  # and this time again
    assert len(fake.runs) == 4 and fake.runs[-1][0]["id"] == again["id"]
    run_here(train, settings, tmp_path / "cut", "--overwrite")
    assert fake.runs[-1][0]["id"] not in (first["id"], again["id"])
