"""The device that is chosen, a pipe that nobody reads, and the throughput that is logged."""

import os
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, bare_run

import runtime

CPU = torch.device("cpu")


@pytest.fixture
def nodes(monkeypatch):
    """A torch that can use no CUDA device -> a list of device nodes, to be filled"""
    found = []
    monkeypatch.setattr(runtime.glob, "glob", lambda pattern: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


def test_without_an_nvidia_device_auto_is_the_cpu(nodes):
    assert runtime.start().device == CPU


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_device_that_torch_cannot_use_is_no_reason_to_train_on_the_cpu(device, nodes):
    nodes.append("/dev/nvidia0")
    with pytest.raises(ValueError, match="NVIDIA device that torch .* cannot use.*--device=cpu") as e:
        runtime.start(device)
    assert "\n" not in str(e.value)
    assert runtime.start("cpu").device == CPU


@pytest.mark.parametrize("visible, wanted", [("", False), ("-1", False), ("NoDevFiles", False), ("0", True), ("GPU-1a", True)])
def test_no_visible_device_is_the_user_s_wish(visible, wanted, nodes, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nodes.append("/dev/nvidia0")
    if wanted:
        with pytest.raises(ValueError, match="cannot use"):
            runtime.cuda_available()
    else:
        assert not runtime.cuda_available()


# -----------------------------------------------------------------------------
# What is told


def test_without_a_reader_the_program_goes_on():
    """`| head -1`: a line is read, then the pipe is closed."""
    program = "import runtime, torch\nmachine = runtime.DistEnv(torch.device('cpu'), False)\n"
    program += "for n in range(2000): machine.print(n, 'x' * 99)\nprint('y' * 99, flush=True)\n"
    command, env = [sys.executable, "-c", program], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 0


def test_the_throughput_is_that_of_the_steps_alone(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: clock[0])
    run = bare_run(tmp_path)
    clock[0], run.step = 100.0, 1  # the first step compiles
    assert run.throughput() is None
    run.log({"step": 1}, "")
    clock[0], run.step = 118.0, 10
    assert run.throughput() == 0.5
    clock[0] += 1000.0  # it evaluates
    run.log({"step": 10}, "")
    clock[0] += 1000.0  # it saves
    run.save()
    clock[0], run.step = clock[0] + 5, 20
    assert run.throughput() == 2.0
