"""The device that is chosen, ranks that wait for each other, and the pace that is told."""

import threading
import warnings
from functools import partial

import pytest
import torch

import runtime
from runtime import Interrupt, Machine, Pace

CPU = torch.device("cpu")
TOO_OLD = "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020). Please update it"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system of files alone, and a torch that can use no CUDA device -> a function that adds a file, or a node"""
    monkeypatch.setattr(runtime, "nvidia", partial(runtime.nvidia, f"{tmp_path}/"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def add(path, text=""):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return add


DRIVER = "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.129.03  Release Build\n"


def test_without_an_nvidia_device_auto_is_the_cpu(system, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    system("dev/nvidiactl")  # of a driver, not of a device
    assert runtime.nvidia() == (False, None) and runtime.start().device == CPU


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_device_that_torch_cannot_use_is_no_reason_to_train_on_the_cpu(device, system, monkeypatch):
    def refuse():
        warnings.warn(TOO_OLD, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", refuse)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    system("dev/nvidia0")
    system(*DRIVER)
    with pytest.raises(ValueError) as e:
        runtime.start(device)
    said = str(e.value)
    assert "\n" not in said and "driver 535.129.03" in said and "built for CUDA 13.0" in said and "580.65" in said
    assert "too old (found version 12020)" in said and "Please" not in said and "--device=cpu" in said
    assert runtime.start("cpu").device == CPU


def test_a_torch_without_cuda_is_named_as_the_cause(system, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    system("dev/nvidia3")  # and nothing tells the driver's version
    with pytest.raises(ValueError, match=r"driver unknown.*a build without CUDA, cannot use\. Install"):
        runtime.start()


def test_linux_inside_windows_has_no_node_but_the_driver_s_program(system, monkeypatch):
    monkeypatch.setattr(runtime.shutil, "which", lambda name: "/usr/lib/wsl/lib/" + name)
    assert runtime.nvidia()[0] is False  # the program alone may have come with a package
    system("dev/dxg")
    assert runtime.nvidia()[0] is True


@pytest.mark.parametrize("visible, wanted", [("", False), ("-1", False), ("NoDevFiles", False), ("0", True), ("GPU-1a", True)])
def test_no_visible_device_is_the_user_s_wish(visible, wanted, system, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    system("dev/nvidia0")
    if wanted:
        with pytest.raises(ValueError, match="cannot use"):
            runtime.cuda_available()
    else:
        assert not runtime.cuda_available()


def test_a_container_without_its_gpus_is_told_so(system, monkeypatch):
    notes = []
    monkeypatch.setattr(runtime, "note", notes.append)
    system(*DRIVER)
    assert not runtime.cuda_available() and "a container has to be started with its GPUs" in notes[0]


# -----------------------------------------------------------------------------
# Ranks


@pytest.mark.parametrize("fails", [False, True])
def test_rank_0_goes_first_and_the_others_follow_even_if_it_fails(fails):
    meet, went = threading.Barrier(2, timeout=30), []

    class Rank(Machine):
        def wait(self):
            meet.wait()

    def go(rank):
        try:
            with Rank(CPU, False, rank, 2).rank_0_first():
                went.append(rank)
                if fails:
                    raise OSError("the disk is full")
        except OSError:
            went.append(f"{rank} failed")

    ranks = [threading.Thread(target=go, args=(rank,)) for rank in (1, 0)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [x for x in went if x in (0, 1)] == [0, 1] and len(went) == 4 - 2 * (not fails)


def test_ranks_look_for_signals_every_two_seconds_after_the_same_steps(monkeypatch):
    clock, told, looks = [0.0], {}, ([], [])
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: clock[0])

    class Rank(Machine):
        def total(self, numbers):
            looks[self.rank].append(step)
            told[self.rank] = numbers
            return sum(told.values())

    ranks = [Interrupt(Rank(CPU, False, rank, 2)) for rank in range(2)]
    try:
        for step in range(1, 101):  # noqa: B007
            clock[0] += 0.1
            ranks[0].number = 15 if step == 71 else ranks[0].number
            found = [rank.anybody(step) for rank in ranks]
            if any(found):
                break
        assert looks[0] == looks[1] and len(looks[0]) < 8 and found == [15, 15] and 71 <= step < 71 + 25
    finally:
        for rank in reversed(ranks):
            rank.over()
    alone = Interrupt(Machine(CPU, False))
    alone.over()
    alone.number = 2
    assert [alone.anybody(step) for step in (1, 2, 3)] == [2, 2, 2]  # a single process looks after every step


# -----------------------------------------------------------------------------
# Pace


def test_the_pace_is_that_of_the_steps_alone():
    clock = [0.0]
    pace = Pace(lambda: clock[0])
    clock[0] = 100.0  # the first step compiles
    assert pace(1, clock[0]) is None
    pace.begin(1)
    clock[0] += 18.0
    assert pace(10, clock[0]) == 0.5
    clock[0] += 1000.0  # it evaluates and saves
    pace.begin(10)
    clock[0] += 5.0
    assert pace(20, clock[0]) == 2.0
