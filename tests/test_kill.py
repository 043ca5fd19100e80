"""Runs are killed, told to stop, spread over agents, deprived of a rank, and come to the same end.

SOAK=5 python -m pytest -q -s tests/test_kill.py     # make soak: five kills of every script, instead of two
"""

import copy
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from configurator import one_line_errors, read_json

import numpy as np
import pytest
import torch
from helpers import (
    ENV,
    MACHINE,
    ROOT,
    WEIGHTS,
    arguments,
    bare_run,
    cut_off,
    free_port,
    launch,
    launch_ranks,
    run_here,
    run_ranks,
    same_bytes,
    same_training,
)

import countdown
import finetune_reasoning
import finetuning
import runtime
import train
from model import random_model
from runtime import DistEnv

KILLS = int(os.environ.get("SOAK", 2))


one_worker = pytest.mark.xdist_group("kill")  # the runs that the killed ones are compared with are made once
both_loops = pytest.mark.parametrize("job", ["train", "finetune_reasoning"], indirect=True)  # countdown.py has the latter's


@pytest.fixture(params=["train", "finetune_reasoning", "countdown"])
def job(request):
    """-> a script, the settings of a run of some thirty steps with a checkpoint at each, the files that its end is known by"""
    name = request.param
    if name == "train":
        settings = request.getfixturevalue("train_settings") | dict(tokens=40 * 96, checkpoint_every=1)
        return train, settings, WEIGHTS
    if name == "countdown":
        settings = request.getfixturevalue("countdown_settings") | dict(epochs=6, checkpoint_every=1)
        return countdown, settings, [*WEIGHTS, "predictions.jsonl"]
    settings = request.getfixturevalue("reasoning_settings") | dict(epochs_per_stage=2, last_stage_epochs=3, checkpoint_every=1)
    return finetune_reasoning, settings, [*WEIGHTS, "best/base/model.safetensors", "predictions.jsonl"]


def logged(out):
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def said(out):
    return Path(f"{out}.log").read_text()


def wait_for_news(process, out):
    """Until it has logged more than it had: importing torch takes most of the time."""
    seen = logged(out)
    while process.is_alive() and logged(out) <= seen + 1:
        time.sleep(0.003)


def resume_of(out):
    return ["--resume"] if (out / "checkpoint").exists() or (out / "checkpoint.old").exists() else ["--overwrite"]


@pytest.fixture(scope="module")
def wholes():
    """{script: a run of it that nothing has disturbed}, each made once; how often it saves does not change how it ends"""
    return {}


@pytest.fixture
def whole(job, wholes, tmp_path_factory):
    script, settings, _ = job
    if script not in wholes:
        wholes[script] = run_here(script, settings | dict(checkpoint_every=10**6), tmp_path_factory.mktemp("whole") / "run")
    return wholes[script]


@one_worker
def test_killed_at_any_moment_a_run_ends_with_the_same_bytes(job, whole, tmp_path):
    (script, settings, files), out = job, tmp_path / "cut"
    rng, kills = np.random.default_rng(), 0
    for n in range(KILLS):
        if n % 2:  # inside a checkpoint
            process = launch(script, settings, out, *resume_of(out), dies_at=rng.integers(1, 60))
        else:
            process = launch(script, settings, out, *resume_of(out))
            wait_for_news(process, out)
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), said(out)
        kills += process.exitcode != 0
    assert kills >= 1, "the run was over before it could be killed"
    run_here(script, settings, out, *resume_of(out))
    same_bytes(whole, out, *files)
    run_here(script, settings, out, "--resume")  # there is nothing left to do
    same_bytes(whole, out, *files)
    print(f"{script.__name__}: {kills} kills, same bytes")


@one_worker
@pytest.mark.parametrize("job, number", [("train", signal.SIGTERM), ("finetune_reasoning", signal.SIGINT)], indirect=["job"])
def test_told_to_stop_a_run_saves_and_leaves(job, number, whole, tmp_path):
    """By a scheduler or by Ctrl-C, no checkpoint due for long; resumed, it ends as if nothing had been."""
    (script, settings, files), out = job, tmp_path / "cut"
    settings = settings | dict(checkpoint_every=10**6)
    process = launch(script, settings, out)
    wait_for_news(process, out)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 128 + number and "Traceback" not in said(out)
    (step,) = re.findall(r"stopped at step ([0-9]+) and saved: --resume goes on", said(out))
    assert read_json(out / "checkpoint/state.json")["step"] == int(step)
    run_here(script, settings, out, "--resume")
    same_bytes(whole, out, *files)


# -----------------------------------------------------------------------------
# Ranks


def script_alone(settings, out, *before):
    """train.py as a command of its own, whose output is read here; before: torchrun's part of the command line"""
    command = [sys.executable, *before, str(ROOT / "train.py"), *arguments(settings, out)]
    return subprocess.Popen(command, cwd=out.parent, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def torchrun(settings, out, *where, ranks=2):
    """One agent with so many ranks"""
    return script_alone(settings, out, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", *(where or ["--standalone"]))


def test_two_agents_that_meet_over_the_network_equal_one_process(tmp_path, train_settings):
    settings = train_settings | dict(batch_size=2)
    one = run_here(train, settings, tmp_path / "one")
    where = ["--nnodes=2", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--rdzv_id=test"]
    agents = [torchrun(settings, tmp_path / "two", *where, "--local_addr=127.0.0.1", ranks=1) for _ in range(2)]
    for agent in agents:
        _, problem = agent.communicate(timeout=120)
        assert agent.returncode == 0, problem[-2000:]
    same_training(one, tmp_path / "two")


def test_torchrun_that_is_told_to_stop_leaves_a_checkpoint_of_the_step_that_both_ranks_name(tmp_path, train_settings):
    settings = train_settings | dict(batch_size=2, tokens=10**5 * 96, checkpoint_every=10**6, eval_every=10**6, log_every=5)
    out = tmp_path / "run"
    agent = torchrun(settings, out)
    while agent.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.01)
    agent.terminate()
    told, _ = agent.communicate(timeout=60)
    (step,) = re.findall(r"stopped at step ([0-9]+) and saved", told)
    assert agent.returncode and read_json(out / "checkpoint/state.json")["step"] == int(step)


def test_two_ranks_whose_update_ruins_the_weights_both_say_so(tmp_path, train_settings):
    agent = torchrun(train_settings | dict(batch_size=2, checkpoint_every=1, lr=1e30), tmp_path / "run")
    _, problem = agent.communicate(timeout=60)
    for rank in range(2):
        assert f"error: rank {rank}: step 1: after the update the loss is not finite; there is no checkpoint yet" in problem
    assert agent.returncode and not (tmp_path / "run" / "checkpoint").exists()


def test_two_ranks_that_are_told_to_stop_save_at_the_same_step(tmp_path, train_settings):
    settings = train_settings | dict(batch_size=2, tokens=10**5 * 96, checkpoint_every=10**6, eval_every=10**6, log_every=5)
    out = tmp_path / "run"
    ranks = launch_ranks(train, settings, out, 2)
    wait_for_news(ranks[0], out)
    for rank in ranks[::-1]:
        rank.terminate()
    for rank in ranks:
        rank.join(60)
        assert rank.exitcode == 128 + signal.SIGTERM
    (step,) = re.findall(r"stopped at step ([0-9]+) and saved", said(out))
    assert read_json(out / "checkpoint/state.json")["step"] == int(step)


def test_a_rank_that_dies_ends_the_others_and_the_run_goes_on(tmp_path, train_settings):
    """With as many ranks to the same bytes, with another number as far as sums in another order allow."""
    settings = train_settings | dict(batch_size=2, tokens=60 * 96, checkpoint_every=5, eval_every=1000)
    out = tmp_path / "two"
    agent = torchrun(settings, out)
    while agent.poll() is None and not (out / "checkpoint" / "state.json").exists():
        time.sleep(0.01)
    workers = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True).stdout.split()
    began = time.perf_counter()
    os.kill(int(workers[-1]), signal.SIGKILL)
    _, problem = agent.communicate(timeout=60)
    assert agent.returncode and "SIGKILL" in problem and time.perf_counter() - began < 60
    shutil.copytree(out, tmp_path / "alone")
    whole = run_ranks(train, settings, tmp_path / "whole", 2)
    same_bytes(whole, run_ranks(train, settings, out, 2, "--resume"), *WEIGHTS)
    same_training(whole, run_here(train, settings, tmp_path / "alone", "--resume"))


def test_ranks_that_disagree_are_told_so(tmp_path):
    class Two(DistEnv):
        def gather(self, items):
            return [*items, items[0] | {"training rows": 99, "data": "elsewhere"}]

    run = bare_run(tmp_path, Two(torch.device("cpu"), False, 0, 2))
    run.check_ranks({"lr": 1.0, "training rows": 99, "data": "here"})
    with pytest.raises(ValueError, match="ranks disagree: training rows is 99 on rank 1, 100 on this one"):
        run.check_ranks({"lr": 1.0, "training rows": 100, "data": "here"})


class RankOne(DistEnv):
    """Of two ranks; rank 0 has a loss of 1 and got no signal."""

    def gather(self, items):
        return [0, *items]

    def all_reduce_sum(self, tensor):
        return tensor + 1


def test_a_loss_that_is_not_finite_names_step_and_checkpoint(tmp_path):
    run, nan = bare_run(tmp_path, RankOne(torch.device("cpu"), False, 1, 2)), torch.tensor(float("nan"))
    run.step = 7
    assert run.finite_loss(torch.tensor(2.0), 3.0) == 3
    with pytest.raises(ValueError, match="step 7: loss nan, .*; there is no checkpoint yet"):
        run.finite_loss(nan, 1.0)
    run.saved = 4
    with pytest.raises(ValueError, match="norm inf; the last good checkpoint is that of step 4"):
        run.finite_loss(torch.tensor(2.0), float("inf"))


def test_ranks_stop_at_a_step_that_is_logged_and_a_second_sigterm_changes_nothing(tmp_path):
    """Two ranks, one of them signalled twice, as by a scheduler and by torchrun."""
    run = bare_run(tmp_path, RankOne(torch.device("cpu"), False, 1, 2))
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run.listen()
    try:
        assert not run.interrupted(True)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert not run.interrupted(False) and run.interrupted(True)
        run.machine = DistEnv(torch.device("cpu"), False)
        assert run.interrupted(False), "a single process stops after any step"
        with pytest.raises(SystemExit) as e:
            run.leave()
        assert e.value.code == 143
    finally:
        run.stop_listening()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@torch.no_grad()
def spoil(optimizer, what):
    """After an update: a weight, or what the optimizer remembers, is not finite; or all is finite and of no use."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p in optimizer.state]
    if what == "weight":
        parameters[-1].view(-1)[-1] = -math.inf
    if what == "moment":
        optimizer.state[parameters[0]]["exp_avg_sq"].view(-1)[0] = math.nan
    if what == "useless":
        for p in parameters:
            p.fill_(3e38 if p.dim() == 1 else 1)  # a norm's weight


@pytest.mark.parametrize(
    "job, what, last",
    [("train", "moment", False), ("train", "useless", True), ("finetune_reasoning", "weight", True)],
    indirect=["job"],
)
def test_an_update_that_ruins_the_weights_is_not_saved(what, last, job, tmp_path, monkeypatch, capsys):
    """Neither by the run's last checkpoint, nor by one that a signal asks for between two looks; the run before goes on."""
    script, settings, files = job
    brief = dict(tokens=6 * 96, checkpoint_every=4, eval_every=3)
    brief = brief if script is train else dict(epochs=2, epochs_per_stage=1, last_stage_epochs=1, checkpoint_every=1000)
    settings = settings | {key: value for key, value in brief.items() if key in script.Config.__dataclass_fields__}
    settings |= dict(log_every=1000)
    whole, out = run_here(script, settings, tmp_path / "whole"), tmp_path / "cut"
    total, update, steps, before = runtime.read_metrics(whole)[-1]["step"], torch.optim.AdamW.step, [], {}
    assert "done: " in capsys.readouterr().out

    def weights():
        return {p: p.read_bytes() for name in ("checkpoint", "best") for p in sorted((out / name).rglob("*")) if p.is_file()}

    def update_then_spoil(self, *more):
        update(self, *more)
        steps.append(0)
        if len(steps) == total - (not last):
            before.update(weights())
            spoil(self, what)
            if not last:
                os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as m:
        m.setattr(torch.optim.AdamW, "step", update_then_spoil)
        with pytest.raises(SystemExit) as e:
            one_line_errors(lambda: run_here(script, settings, out))
    tensor = dict(weight=r"\S+", moment=r"\S+/exp_avg_sq", useless="the loss")[what]
    good = read_json(out / "checkpoint/state.json")["step"]
    told = f"step {len(steps)}: after the update {tensor} is not finite; the last good checkpoint is that of step {good}"
    assert re.fullmatch(rf"error: {told} \(TRACE=1 shows where\)", e.value.code), e.value.code
    assert before and weights() == before and 0 < good < len(steps)
    assert "done: " not in capsys.readouterr().out
    run_here(script, settings, out, "--resume")
    same_bytes(whole, out, *files)


def test_no_number_that_is_not_finite_is_overlooked():
    """Wherever it stands, on whichever rank; a tensor without numbers is no offence."""
    model = torch.nn.Linear(300, 7)
    model.register_parameter("none", torch.nn.Parameter(torch.zeros(0, 7)))
    run = bare_run("nowhere", copy.copy(MACHINE), model)
    run.step = 1

    def check():
        run.check(torch.zeros(()), 1.0, lambda: torch.zeros(()))

    check()
    for bad in (math.nan, math.inf, -math.inf):
        for i in (0, 1234, 2099):
            x = model.weight.detach().view(-1)
            x[i], was = bad, x[i].item()
            with pytest.raises(ValueError, match="step 1: after the update weight is not finite; there is no checkpoint yet"):
                check()
            x[i] = was
    check()
    for loss, norm in ((math.nan, 1.0), (0.0, math.inf)):  # a signal came before the next look at them
        with pytest.raises(ValueError, match=f"step 1: loss {loss}.*norm {norm}"):
            run.check(torch.tensor(loss), norm, lambda: torch.zeros(()))
    run.machine.gather = lambda found: [*found, "weight of another rank"]
    with pytest.raises(ValueError, match="weight of another rank is not finite"):
        check()


def test_nodes_may_keep_things_in_different_places(tmp_path, train_settings):
    """Two ranks, each with its own working directory, data and Base."""
    random_model("tiny_gpt2", 50).save_pretrained(tmp_path / "0" / "base")
    shutil.copytree(train_settings["data"], tmp_path / "0" / "corpus")
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    ranks, meet = [], dict(WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    for rank in range(2):
        here = tmp_path / str(rank)
        settings = train_settings | dict(data=here / "corpus" if rank else "corpus", init_from=here / "base", batch_size=2)
        env = meet | dict(RANK=str(rank), LOCAL_RANK=str(rank))
        ranks.append(launch(train, settings, tmp_path / "two", folder=here, env=env))
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0, said(tmp_path / "two")
    settings = train_settings | dict(init_from=tmp_path / "0" / "base")
    same_training(run_here(train, settings, tmp_path / "one"), tmp_path / "two")


# -----------------------------------------------------------------------------
# What a run needs to go on


def with_settings(job, **changes):
    """-> the job's settings with those of the changes that its script knows, of a few steps"""
    script, settings, _ = job
    changes = dict(tokens=6 * 96, epochs=1, epochs_per_stage=1, last_stage_epochs=1, lr=1e-4, precision="fp32") | changes
    return settings | {key: value for key, value in changes.items() if key in script.Config.__dataclass_fields__}


@both_loops
def test_a_run_goes_on_from_its_checkpoint_and_its_data_alone(job, tmp_path):
    """The Base and the tokenizer that it started from are gone, and the data has moved."""
    (script, settings, files), home = job, tmp_path / "home"
    random_model("tiny_gpt2", 512).save_pretrained(home / "base")
    shutil.copytree(settings["data"], home / "data")
    if script is not train:
        shutil.copy(settings["tokenizer"], home / "tokenizer.json")
    settings = with_settings(job, init_from=home / "base", data=home / "data", tokenizer=home / "tokenizer.json")
    whole = run_here(script, settings, tmp_path / "whole")
    out = cut_off(script, settings, tmp_path / "cut", 2)
    os.rename(home / "data", tmp_path / "moved")
    shutil.rmtree(home)
    run_here(script, settings | dict(data=tmp_path / "moved"), out, "--resume")
    same_bytes(whole, out, *files)
    assert runtime.read_json(out / "config.json")["data"] == str(tmp_path / "moved")


def test_a_last_stage_whose_validation_failed_is_not_answered_by_an_earlier_one(reasoning_settings, tmp_path, monkeypatch):
    """best/ holds the weights of its stage; where none of that was validated, the test set is asked of its last ones."""
    settings = reasoning_settings | dict(epochs_per_stage=1, last_stage_epochs=1)
    answer, asked = finetuning.EvalSet.answer_questions, []

    def fail_at_last(self, model):
        asked.append(model)
        if len(asked) == 4:
            raise RuntimeError("out of memory")
        return answer(self, model)

    with monkeypatch.context() as m:
        m.setattr(finetuning.EvalSet, "answer_questions", fail_at_last)
        with pytest.raises(RuntimeError):
            run_here(finetune_reasoning, settings, tmp_path / "run")
    out = run_here(finetune_reasoning, settings, tmp_path / "run", "--resume")
    for name in ("base/model.safetensors", "added.safetensors"):
        assert (out / "best" / name).read_bytes() == (out / "checkpoint" / name).read_bytes()


@both_loops
def test_a_run_goes_on_with_smaller_batches(job, tmp_path):
    """Memory ran out: the rows of a step are the same, in smaller parts."""
    (script, _, _), settings = job, with_settings(job)
    size = "batch_size" if script is train else "micro_batch"
    whole = run_here(script, settings, tmp_path / "whole")
    out = cut_off(script, settings, tmp_path / "cut", 2)
    run_here(script, settings | {size: settings[size] // 2}, out, "--resume")
    same_training(whole, out)


# -----------------------------------------------------------------------------
# The run folder


def test_a_linked_checkpoint_stays_where_it_leads(tmp_path, train_settings, train_run):
    """On a scratch disk, put there while the run stood still"""
    settings, scratch = train_settings | dict(keep_checkpoints=1), tmp_path / "scratch"
    scratch.mkdir()
    out = cut_off(train, settings, tmp_path / "moved", 4)
    os.rename(out / "checkpoint", scratch / "moved")
    os.symlink(scratch / "moved", out / "checkpoint")
    run_here(train, settings, out, "--resume")
    assert (out / "checkpoint").is_symlink() and {p.name for p in scratch.iterdir()} == {"moved", "moved_6"}
    same_bytes(train_run, out, *WEIGHTS)
    os.rename(scratch / "moved", scratch / "moved.old")  # killed between two renames
    run_here(train, settings, out, "--resume")
    # what a link leads to is never deleted for another run
    with pytest.raises(FileExistsError, match="exists: --resume goes on"):
        run_here(train, settings, out)
    run_here(train, settings, out, "--overwrite")
    assert (scratch / "moved.old").exists() and not (out / "checkpoint").is_symlink()


def test_earlier_checkpoints_stay_where_they_are_asked_for(tmp_path, train_settings, train_run):
    settings = train_settings | dict(keep_checkpoints=2)  # 8 steps, a checkpoint every 2
    out = run_here(train, settings, tmp_path / "run")
    assert sorted(p.name for p in out.glob("checkpoint*")) == ["checkpoint", "checkpoint_4", "checkpoint_6"]
    assert sorted(p.name for p in train_run.glob("checkpoint*")) == ["checkpoint"]
    (out / "checkpoint_of_my_own").mkdir()
    for keep, step in ((2, 8), (0, 9)):  # once more; not asked for
        again = bare_run(out, keep_checkpoints=keep)
        again.saved, again.step = 8, step
        again.save()
    kept = sorted(p.name for p in out.glob("checkpoint*"))
    assert kept == ["checkpoint", "checkpoint_4", "checkpoint_6", "checkpoint_of_my_own"]
    # going back is putting one in the last one's place
    shutil.rmtree(out / "checkpoint")
    os.rename(out / "checkpoint_4", out / "checkpoint")
    run_here(train, settings, out, "--resume")
    same_bytes(train_run, out, *WEIGHTS)


def test_two_processes_do_not_share_a_folder(tmp_path, train_settings):
    settings, out = train_settings | dict(tokens=10**4 * 96, eval_every=10**4), tmp_path / "run"
    process = launch(train, settings, out)
    try:
        while process.is_alive() and not (out / "checkpoint").exists():
            time.sleep(0.01)
        for more in ("--resume", "--overwrite"):
            with pytest.raises(SystemExit, match="another process is writing to"):
                one_line_errors(lambda more=more: run_here(train, settings, out, more))
        assert process.is_alive() and (out / "metrics.jsonl").exists()
    finally:
        process.kill()
        process.join()
    run_here(train, train_settings, out, "--overwrite")  # the dead hold nothing


def test_a_folder_whose_run_was_killed_as_it_began_can_be_overwritten(tmp_path, train_settings):
    for left in ([], ["metrics.jsonl"]):  # nothing but the lock; a deletion that did not get to its end
        out = tmp_path / f"run{len(left)}"
        out.mkdir()
        for name in (runtime.LOCK, *left):
            (out / name).touch()
        run_here(train, train_settings, out, "--overwrite")
        assert (out / "checkpoint").exists()


def test_a_disk_that_fills_up_loses_nothing(tmp_path, train_settings, train_run, monkeypatch):
    """No space for the log from its fifth line on: one line says so; with space again, the run ends as if nothing had been."""
    log, lines = runtime.Run.log, []

    def full(self, record, line):
        lines.append(record)
        if len(lines) > 4:
            with open(self.metrics, "a") as f:
                f.write('{"step": 4, "lo')  # what had room
            raise OSError(28, "No space left on device", self.metrics)
        log(self, record, line)

    monkeypatch.setattr(runtime.Run, "log", full)
    with pytest.raises(SystemExit, match="No space left on device.*metrics.jsonl"):
        one_line_errors(lambda: run_here(train, train_settings, tmp_path / "cut"))
    monkeypatch.setattr(runtime.Run, "log", log)
    run_here(train, train_settings, tmp_path / "cut", "--resume")
    same_bytes(train_run, tmp_path / "cut", *WEIGHTS)


def test_a_run_whose_reader_leaves_goes_on(tmp_path, train_settings, train_run):
    """As behind `| head -1`"""
    process = script_alone(train_settings, tmp_path / "run")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0
    same_bytes(train_run, tmp_path / "run", *WEIGHTS)
