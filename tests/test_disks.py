"""Files are whole, synced, and named where they are damaged; disks, systems and consoles lack something; logs go elsewhere."""

import errno
import importlib.util
import json
import os
import shutil
import sys
import types
from pathlib import Path

from configurator import read_json

import pytest
from helpers import WEIGHTS, bare_run, cut_and_resume, run_here, same_bytes

import data
import runtime
import train


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


# -----------------------------------------------------------------------------
# Consoles


# -----------------------------------------------------------------------------
# Weights & Biases


class FakeWandb(types.ModuleType):
    """Remembers what it was told: inits, each with the records that were logged to it."""

    __spec__ = importlib.util.spec_from_loader("wandb", None)  # found, as if it were installed
    runs = []

    def init(self, **about):
        self.runs.append((about, logged := []))
        return types.SimpleNamespace(log=lambda record, step: logged.append((step, record)), finish=lambda: None)


def test_weights_and_biases_gets_every_line_and_a_resumed_run_goes_on_there(train_settings, tmp_path, monkeypatch):
    settings = train_settings | dict(wandb=True)
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb("wandb"))
    out = run_here(train, settings, tmp_path / "run")
    (first, logged), records = fake.runs[0], runtime.read_metrics(out)
    assert json.loads(json.dumps(logged)) == [[r["step"], r] for r in records]
    assert first["project"] == "nanolatent" and first["name"] == "run" and first["config"] == read_json(out / "config.json")
    cut_and_resume(train, settings, tmp_path / "cut", 4)
    _, (began, before), (again, after) = fake.runs
    assert began["id"] == again["id"] != first["id"]
    steps = [[step for step, _ in run] for run in (before, after)]
    assert max(steps[0]) >= 4 and min(steps[1]) == 5 and steps[1][-1] == records[-1]["step"]
