"""Where the code runs: device, precision and ranks; and what a run leaves behind: its folder, checkpoints, metrics.

A run writes one folder:

    out/<run>/config.json      every setting, resolved
              metrics.jsonl    one JSON object per logged step
              tokenizer.json   if the data had one of its own
              checkpoint/      base/, which transformers can load; added.safetensors; optimizer.pt; state.json
              checkpoint_<n>/  earlier ones, with --keep_checkpoints
              best/            the weights that others read, where validation chooses them
"""

import contextlib
import dataclasses
import datetime
import glob
import importlib
import json
import math
import os
import shutil
import signal
import sys
import time
import uuid

from configurator import parse_json, read_json, show

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from data import Tokenizer, atomic_write, lock_file, sync

# Dense bf16 peaks in FLOP/s, from the makers' data sheets.
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "RTX 4090": 165e12}


# -----------------------------------------------------------------------------
# Devices and ranks


@dataclasses.dataclass
class DistEnv:
    device: torch.device
    bf16: bool
    rank: int = 0
    world: int = 1

    @property
    def master(self):
        return self.rank == 0

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def all_reduce_sum(self, tensor):
        """The sum over all ranks, which must all ask for it."""
        if self.world > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor)
        return tensor

    def gather(self, items):
        """A list on every rank -> all of them, which must all ask for it."""
        if self.world == 1:
            return items
        parts = [None] * self.world
        dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def barrier(self):
        """Until all ranks are here. (An all-reduce would hold up a CUDA device alone, not the program.)"""
        if self.world > 1:
            dist.barrier()

    def print(self, *lines):
        """On rank 0 alone. When nobody reads it any more (`| head`, a lost terminal), the run goes on."""
        if not self.master:
            return
        try:
            print(*lines, sep="\n", flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def peak_flops(self):
        """Of this device's bf16 matrix units, or None where it is not known."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        return next((peak for chip, peak in PEAK_FLOPS.items() if chip in name and self.bf16), None)

    def __str__(self):
        return f"{self.device.type} x {self.world}, {'bf16 autocast' if self.bf16 else 'fp32'}"


def cuda_available():
    """Can torch use a CUDA device? Raises ValueError if there is one that it cannot use: nobody wants the CPU instead."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() not in ("", "-1", "NoDevFiles")  # Slurm's
    if torch.cuda.is_available() or not wanted or not glob.glob("/dev/nvidia[0-9]*"):
        return torch.cuda.is_available()
    raise ValueError(
        f"this machine has an NVIDIA device that torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use; "
        "--device=cpu goes on without it"
    )


def start(device="auto", precision="auto"):
    """Join the other ranks if torchrun started this process, and choose device and precision.

    device: auto | cpu | cuda | mps. precision: auto (bf16 where the hardware multiplies it) | bf16 | fp32.
    """
    available = {"cuda": device != "cpu" and cuda_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = next(d for d in available if available[d])
    if not available.get(device):
        raise ValueError(f"device must be auto or one of {[d for d in available if available[d]]}, not {device!r}")
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    cuda = device == "cuda"
    if cuda:
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    device = torch.device(device)
    fast = {"cuda": lambda: torch.cuda.is_bf16_supported(False), "cpu": torch.cpu._is_amx_tile_supported}
    bf16 = precision == "bf16" or (precision == "auto" and fast.get(device.type, lambda: False)())
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        # others wait for a rank that compiles (minutes) or saves (a checkpoint of 12 GB to a slow disk: many); a rank that
        # dies is no reason for less, torchrun sees that at once
        patience = datetime.timedelta(minutes=60)
        dist.init_process_group("nccl" if cuda else "gloo", timeout=patience, device_id=device if cuda else None)
    return DistEnv(device, bf16, rank, world)


def wrap(model, machine, compiled=False):
    """torch.compile and DDP around the one module whose forward pass runs all three passes: so DDP sees every gradient.

    A forward pass is one graph or an error, also when a batch has more shapes than are compiled: torch's answer to both would
    be to go on uncompiled, with dense attention.
    """
    if compiled:
        # DDP would cut the graph where its buckets end (h2 on GPT-2: into 38), to send gradients a little sooner: 1 % of a
        # step at most, for nearly twice the time to compile
        torch._dynamo.config.optimize_ddp = False
        model = torch.compile(model, fullgraph=True, dynamic=False)
    if dist.is_initialized():
        devices = [machine.device.index] if machine.device.type == "cuda" else None
        model = DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
    return model


def to_device(tensor, device):
    """A CPU tensor -> the same on the device. CUDA copies it from pinned memory, while this program goes on."""
    cuda = torch.device(device).type == "cuda"
    return tensor.pin_memory().to(device, non_blocking=True) if cuda else tensor.to(device)


def finish(code=0):
    """The end of a script, with that exit status; of a single process, only if it is not 0."""
    locked.clear()
    if dist.is_initialized():
        dist.barrier()  # no rank hangs up while another still saves
        dist.destroy_process_group()
        sys.stdout.flush()
        os._exit(code)  # in one of some thirty runs torch's threads abort a rank that tears itself down in the usual way
    if code:
        sys.exit(code)


# -----------------------------------------------------------------------------
# A run


class Run:
    """A training run and its folder. Every rank has one and calls all of it; rank 0 writes.

        run = Run(c, machine, RESUME_MAY_CHANGE)    looks at the folder; nothing is written yet
        run.begin(model, optimizer, ...)            makes the folder, or goes on from its checkpoint
        run.step += 1                               after every step, then log, check, save, interrupted
        run.finish()

    checkpoint: the folder that it goes on from, or None. config: what config.json holds. state: kept in every checkpoint.
    """

    def __init__(self, c, machine, may_change):
        """c: the script's Config. may_change: those of its keys that a resumed run may change; where its data lies, too."""
        self.c, self.machine, self.may_change = c, machine, {*may_change, "data"}
        self.checkpoint, self.config, self.step, self.saved = None, {}, 0, None
        self.mark = None  # (step, seconds) at the last line or checkpoint
        self.metrics = os.path.join(c.out_dir, "metrics.jsonl")
        self.wandb = None
        if c.wandb:
            importlib.import_module("wandb")  # missing, it is missed before anything is computed
        if c.resume and c.overwrite:
            raise ValueError("resume and overwrite exclude each other")
        if c.resume:
            self.checkpoint, self.config = checkpoint_of(c.out_dir), read_json(os.path.join(c.out_dir, "config.json"))
            for key, now in dataclasses.asdict(c).items():
                was = self.config.get(key, type(now)())  # an option that is younger than the run was off
                if key not in self.may_change and was != now:
                    raise ValueError(f"{c.out_dir} is the run of another config: {key} was {was!r}, now {now!r}")
            if machine.master:
                lock_folder(c.out_dir)

    def tokenizer(self, name):
        """The run's own where it goes on, so that the file it came from may be gone."""
        own = os.path.join(self.c.out_dir, "tokenizer.json")
        return Tokenizer(own if self.checkpoint and os.path.isfile(own) else name)

    def begin(self, model, optimizer, write_weights, tokenizer, settings, state):
        """The model has its weights, of a checkpoint or new ones; the optimizer is new, and loaded here.

        write_weights(folder) saves the model. tokenizer: a file to keep beside the config, where there is one. settings: what
        config.json holds beside those of c; a resumed run keeps what it had. state: what a new run begins with: data_crc32,
        of all rows, which must not change, and what the script adds.
        """
        c, machine = self.c, self.machine
        self.model, self.optimizer, self.write_weights = model, optimizer, write_weights
        self.state = {"step": 0, "seconds": 0.0} | state
        if self.checkpoint:
            moments = torch.load(os.path.join(self.checkpoint, "optimizer.pt"), map_location="cpu", weights_only=True)
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
            self.state |= read_json(os.path.join(self.checkpoint, "state.json"), like=self.state)
            if self.state["data_crc32"] != state["data_crc32"]:
                raise ValueError(f"{c.data} holds other rows than when the run began")
            self.saved = self.state["step"]
        self.step, self.began = self.state["step"], time.perf_counter() - self.state["seconds"]
        settings = dataclasses.asdict(c) | settings
        self.check_ranks(settings | {"data_crc32": state["data_crc32"], "step": self.step, "bf16": machine.bf16})

        self.config = settings | self.config | {"data": c.data, "started_in": os.getcwd()}  # where a relative data= leads
        if machine.master:
            if self.checkpoint:  # what was logged after it comes again; so does the result, the one line without a loss
                records = read_lines(self.metrics, {"step": 0}, growing=True)
                write_lines(self.metrics, [r for r in records if r["step"] <= self.step and ("loss" in r or r["step"] == 0)])
            else:
                new_folder(c.out_dir, c.overwrite)
                if tokenizer and os.path.isfile(tokenizer):
                    Tokenizer(tokenizer).save(c.out_dir)
            write_json(os.path.join(c.out_dir, "config.json"), self.config)
        machine.barrier()  # until the folder is in order
        if c.wandb:
            run_id = self.state.setdefault("wandb_id", uuid.uuid4().hex)  # a resumed run goes on with its own
            if machine.master:
                name = os.path.basename(os.path.normpath(c.out_dir))
                about = dict(name=name, id=run_id, resume="allow", config=self.config)
                self.wandb = importlib.import_module("wandb").init(project="nanolatent", **about)
        self.listen()
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        parameters = f"{trained:,} trained of {sum(p.numel() for p in model.parameters()):,} parameters"
        machine.print(show(c), f"{machine}; {parameters}")

    def check_ranks(self, facts):
        """Ranks must agree on what decides numbers, not on where things lie: those have checksums. Raises ValueError."""
        ignored = self.may_change | {"init_from", "tokenizer", "started_from"}
        for rank, theirs in enumerate(self.machine.gather([facts])):
            for key in facts:  # in their order, so that all ranks name the same
                if key not in ignored and theirs[key] != facts[key]:
                    raise ValueError(f"ranks disagree: {key} is {theirs[key]!r} on rank {rank}, {facts[key]!r} on this one")

    def elapsed(self):
        """Seconds since the run began, over all its resumptions; a CUDA device finishes its queue before each reading."""
        if self.machine.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - self.began

    def throughput(self):
        """Steps per second since the last line or checkpoint; None before the first line: the first step compiles."""
        return (self.step - self.mark[0]) / (self.elapsed() - self.mark[1]) if self.mark else None

    def time_left(self, steps):
        """-> ", 1:02:03 left" until so many steps are done; nothing where there is no throughput yet"""
        speed = self.throughput()
        return f", {datetime.timedelta(seconds=int((steps - self.step) / speed))} left" if speed else ""

    def log(self, record, line):
        """A dict to metrics.jsonl, a line to whoever looks on. Raises ValueError if a number is not finite."""
        for key, value in record.items():
            if not np.isfinite(value).all():
                raise ValueError(f"step {record['step']}: {key} is {value}")
        if self.machine.master:
            with open(self.metrics, "a", encoding="utf-8") as f:
                f.write(json.dumps(record) + "\n")
            sync(self.metrics)
        if self.wandb:
            self.wandb.log(record, step=record["step"])
        self.machine.print(line)
        self.mark = self.step, self.elapsed()  # what was evaluated meanwhile is no part of the throughput

    # Nothing that is not finite is judged, logged or saved

    def finite_loss(self, loss, norm):
        """The sum over ranks of their parts of the loss. Raises ValueError, on every rank, if it or the norm is not finite."""
        total, norm = self.machine.all_reduce_sum(loss.clone()).item(), float(norm)
        if not math.isfinite(total + norm):
            raise ValueError(f"step {self.step}: loss {total}, gradient norm {norm}; {self.last_good()}")
        return total

    def check(self, loss, norm, loss_now):
        """Before weights are judged or saved: raises ValueError, on every rank, if anything is not finite.

        loss and norm are those before the last update; loss_now(), of any batch, sees weights that are finite and of no use.
        """
        self.finite_loss(loss, norm)
        with torch.no_grad(), self.machine.autocast():
            tensors = self.model.state_dict() | {"the loss": loss_now()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": value for key, value in moments.items()}
        # the extremes: one pass that takes no memory, and NaN is both
        bad = [name for name, x in tensors.items() if x.numel() and not torch.stack(x.aminmax()).isfinite().all()]
        if bad := self.machine.gather(bad):
            raise ValueError(f"step {self.step}: after the update {bad[0]} is not finite; {self.last_good()}")

    def last_good(self):
        return f"the last good checkpoint is that of step {self.saved}" if self.saved else "there is no checkpoint yet"

    # Checkpoints

    def save(self):
        """All that a resumed run needs to end with the same bytes, to checkpoint/. If this fails, the one before stays."""
        before, self.saved = self.saved, self.step
        if not self.machine.master:
            return

        def write(folder):
            self.write_weights(folder)
            # what AdamW remembers of each parameter; one string object a key, or a resumed run would pickle to other bytes
            moments = self.optimizer.state_dict()["state"].items()
            moments = {i: {sys.intern(key): x for key, x in own.items()} for i, own in moments}
            torch.save(moments, os.path.join(folder, "optimizer.pt"))
            write_json(os.path.join(folder, "state.json"), self.state | {"step": self.step, "seconds": self.elapsed()})

        final, keep = os.path.realpath(os.path.join(self.c.out_dir, "checkpoint")), self.c.keep_checkpoints
        replace_folder(final, write, f"{final}_{before}" if keep and before not in (None, self.step) else None)
        if keep:
            ends = [path[len(final) + 1 :] for path in glob.glob(f"{glob.escape(final)}_*")]
            for step in sorted(int(end) for end in ends if end.isdigit())[:-keep]:
                shutil.rmtree(f"{final}_{step}")
        self.mark = self.step, self.elapsed()

    @contextlib.contextmanager
    def saved_if_it_fails(self):
        """Around validation: what breaks it does not take the steps since the last checkpoint with it."""
        try:
            yield
        except Exception:
            self.save()
            raise

    def save_best(self):
        """The weights as they are, to best/"""
        if self.machine.master:
            replace_folder(os.path.join(self.c.out_dir, "best"), self.write_weights)

    # SIGTERM, which schedulers send, and Ctrl-C ask the run to save and leave

    def listen(self):
        def on_signal(number, frame):
            self.signal = number
            # a second Ctrl-C ends the run at once. A second SIGTERM does not: torchrun sends one after the scheduler's
            signal.signal(signal.SIGINT, signal.default_int_handler)

        self.signal = 0
        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)

    def stop_listening(self):
        """From now on there is nothing to save, and signals do what they do elsewhere."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(self, log_now):
        """Was any rank asked to save and leave? Ranks tell each other where they meet anyway: at steps that are logged."""
        if self.machine.world > 1 and not log_now:
            return False
        if number := max(self.machine.gather([self.signal])):
            self.signal = number  # never back to 0: one may have come in just now
        return number > 0

    def leave(self):
        """After an interruption, with 128 + signal"""
        self.machine.print(f"stopped at step {self.step} and saved: --resume goes on")
        self.finish(128 + self.signal)

    def finish(self, code=0):
        if self.wandb:
            self.wandb.finish()
        finish(code)  # which waits for rank 0 to save: no second SIGTERM must end a rank before
        self.stop_listening()


# -----------------------------------------------------------------------------
# Its folder

LOCK = ".writer"
locked = {}  # {folder: its lock, an open file}: those that this process writes to, until it ends


def lock_folder(out_dir):
    """Keep other processes out of a run's folder until this one ends, however it ends. Raises FileExistsError."""
    path = os.path.realpath(out_dir)
    if path not in locked:
        f = open(os.path.join(path, LOCK), "ab")
        if lock_file(f) is False:
            raise FileExistsError(f"another process is writing to {out_dir}")
        locked[path] = f


def new_folder(out_dir, overwrite):
    """An empty folder for this process alone; overwrite deletes the run that is there. Raises FileExistsError."""
    there = set(os.listdir(out_dir)) - {LOCK} if os.path.exists(out_dir) else set()
    resumable, link = has_checkpoint(out_dir), os.path.join(out_dir, "checkpoint")
    if os.path.islink(link) and not resumable and not (os.path.isdir(link) and os.listdir(link)):
        there -= {"checkpoint"}  # it leads to where there is room, a scratch disk
    if there and not overwrite:
        go_on = "--resume goes on with it, " if resumable else ""  # a run may have ended before it had one
        raise FileExistsError(f"{out_dir} exists: {go_on}--overwrite starts anew, --out_dir=... elsewhere")
    if there and not is_run(out_dir) and not os.path.exists(os.path.join(out_dir, LOCK)):
        raise FileExistsError(f"{out_dir} is not a run folder, so it is not overwritten")
    os.makedirs(out_dir, exist_ok=True)
    lock_folder(out_dir)
    for name in there:
        old = os.path.join(out_dir, name)
        shutil.rmtree(old) if os.path.isdir(old) and not os.path.islink(old) else os.remove(old)


def replace_folder(final, write, keep_old=None):
    """write(folder) fills a new folder, which then takes the place of the old one; that is deleted, or moved to keep_old.

    Written beside, synced, then renamed, so that the last good one always loads. A link stays, and the folder that it leads
    to is replaced. Raises OSError if the disk does not take it; the folder before is then untouched.
    """
    final = os.path.realpath(final)
    new, old = final + ".new", final + ".old"
    shutil.rmtree(new, ignore_errors=True)
    try:
        os.makedirs(new)
        write(new)
        for folder, _, files in os.walk(new):
            for name in [*files, "."]:
                sync(os.path.join(folder, name))
    except Exception as e:  # torch.save's is a RuntimeError
        shutil.rmtree(new, ignore_errors=True)
        raise OSError(f"cannot save {final} ({e}); the one before it is untouched") from e
    if os.path.exists(final):
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(new, final)
    sync(os.path.dirname(final))
    if keep_old and os.path.isdir(old):
        shutil.rmtree(keep_old, ignore_errors=True)
        os.rename(old, keep_old)
    shutil.rmtree(old, ignore_errors=True)


def checkpoint_of(out_dir):
    """The last good checkpoint's folder; after a kill between two renames, the old one. Raises FileNotFoundError."""
    final = os.path.realpath(os.path.join(out_dir, "checkpoint"))
    for folder in (final, final + ".old"):
        if os.path.isfile(os.path.join(folder, "state.json")):
            return folder
    raise FileNotFoundError(f"{out_dir} has no checkpoint")


def has_checkpoint(out_dir):
    with contextlib.suppress(FileNotFoundError):
        return bool(checkpoint_of(out_dir))
    return False


def is_run(folder):
    return os.path.exists(os.path.join(folder, "metrics.jsonl"))


def weights_of(out_dir):
    """The folder that others read: the best checkpoint by validation where a run keeps one, else the last."""
    best = os.path.join(out_dir, "best")
    return best if os.path.isdir(best) else checkpoint_of(out_dir)


# -----------------------------------------------------------------------------
# Its files: whole or not at all, and on the disk before anything relies on them


def write_file(path, content):
    """Bytes -> a file that is there whole or not at all."""
    with atomic_write(path) as unfinished, open(unfinished, "wb") as f:
        f.write(content)


def write_json(path, value):
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_lines(path, records):
    """One JSON object a line."""
    write_file(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode())


def read_lines(path, like=(), growing=False):
    """A file of one JSON object a line -> list of dicts. Raises ValueError, naming file and line.

    growing: a line is written at a time, so a last one without its end was cut off, and is left out.
    """
    with open(path, "rb") as f:
        *lines, rest = f.read().split(b"\n")
    lines += [rest] if rest and not growing else []
    return [parse_json(line, f"{path}:{n}", like) for n, line in enumerate(lines, start=1)]


def read_metrics(run):
    """A run folder -> list of dicts"""
    return read_lines(os.path.join(run, "metrics.jsonl"), growing=True)
