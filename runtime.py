"""Where the code runs: device, precision and ranks; and what a run leaves behind: its folder, checkpoints, metrics.

A run writes one folder:

    out/<run>/config.json      every setting, resolved
              metrics.jsonl    one JSON object per logged step
              tokenizer.json   if the data had one of its own
              checkpoint/      base/, which transformers can load; added.safetensors; optimizer.safetensors; state.json
              checkpoint_<n>/  earlier ones, with --keep_checkpoints
"""

import contextlib
import datetime
import glob
import json
import math
import os
import re
import shutil
import signal
import sys
import time
import uuid
import warnings
import weakref
from dataclasses import dataclass

from configurator import note, parse_json, read_json

import torch
import torch.distributed as dist
from filelock import lock_descriptor
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from data import Tokenizer, sync, whole

# Dense bf16 peaks in FLOP/s, from the makers' data sheets.
PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "RTX 4090": 165e12}


@dataclass
class Machine:
    device: torch.device
    bf16: bool
    rank: int = 0
    world: int = 1

    @property
    def master(self):
        return self.rank == 0

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def total(self, tensor):
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

    def wait(self):
        """Until all ranks are here. (An all-reduce would hold up a CUDA device alone, not the program.)"""
        if self.world > 1:
            dist.barrier()

    @contextlib.contextmanager
    def rank_0_first(self):
        """Rank 0 goes through the block, then the others, who find what it has downloaded. No collective inside.

        If rank 0 fails, the others are let in all the same: nobody waits for ever.
        """
        if not self.master:
            self.wait()
        try:
            yield
        finally:
            if self.master:
                self.wait()

    def peak_flops(self):
        """Of this device's bf16 matrix units, or None where it is not known."""
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else ""
        return next((peak for chip, peak in PEAK_FLOPS.items() if chip in name and self.bf16), None)

    def __str__(self):
        return f"{self.device.type} x {self.world}, {'bf16 autocast' if self.bf16 else 'fp32'}"


def nvidia(root="/"):
    """What the system tells of NVIDIA, without torch -> (does it show a device?, the driver's version, or None)"""
    elsewhere = sys.platform == "win32" or os.path.exists(f"{root}dev/dxg")  # Windows, and Linux inside it, have no nodes
    shown = bool(glob.glob(f"{root}dev/nvidia[0-9]*") or elsewhere and shutil.which("nvidia-smi"))
    with contextlib.suppress(OSError), open(f"{root}proc/driver/nvidia/version", encoding="utf-8") as f:
        return shown, next(iter(re.findall(r"[0-9]+\.[0-9.]+", f.readline())), None)
    return shown, None


def cuda_available():
    """Can torch use a CUDA device? Raises ValueError, which says why not, if there is an NVIDIA device that it cannot use.

    A CUDA_VISIBLE_DEVICES that names no device is the user's wish to do without.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return True
    shown, driver = nvidia()
    if not re.match(r"[0-9]|GPU-|MIG-", os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip()):
        return False
    if not shown:
        if driver:
            note(f"there is an NVIDIA driver ({driver}), but no device: a container has to be started with its GPUs")
        return False
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
    why = f" ({str(said[0].message).splitlines()[0].partition('. Please')[0]})" if said else ""
    raise ValueError(
        f"this machine has an NVIDIA device (driver {driver or 'unknown'}) that torch {torch.__version__}, {built}, cannot "
        f"use{why}. Install a newer driver (torch's usual wheel wants 580.65), or the torch that fits this one; --device=cpu "
        "goes on without it"
    )


def start(device="auto", precision="auto"):
    """Join the other ranks if torchrun started this process, and choose device and precision.

    device: auto | cpu | cuda | mps. precision: auto (bf16 where the hardware multiplies it) | bf16 | fp32.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    available = {"cpu": True, "cuda": device != "cpu" and cuda_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(d for d in ("cuda", "mps", "cpu") if available[d])
    if not available.get(device):
        raise ValueError(f"device must be auto or one of {[d for d in available if available[d]]}, not {device!r}")
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    device = torch.device(device)
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"precision must be auto, bf16 or fp32, not {precision!r}")
    fast = {"cuda": lambda: torch.cuda.is_bf16_supported(False), "cpu": torch.cpu._is_amx_tile_supported}
    bf16 = precision == "bf16" or (precision == "auto" and fast.get(device.type, lambda: False)())
    if world > 1:
        # others wait for a rank that compiles (minutes) or saves (a checkpoint of 12 GB to a slow disk: many); a rank that
        # dies is no reason for less, torchrun sees that at once
        patience = datetime.timedelta(minutes=60)
        if device.type == "cuda":
            dist.init_process_group("nccl", timeout=patience, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=patience)
    return Machine(device, bf16, rank, world)


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


def send(tensor, device):
    """A CPU tensor -> the same on the device. CUDA copies it from pinned memory, while this program goes on."""
    cuda = torch.device(device).type == "cuda"
    return tensor.pin_memory().to(device, non_blocking=True) if cuda else tensor.to(device)


at_the_end = contextlib.ExitStack()  # what has to be told that the run is over


def finish(code=0):
    """The end of a script, with that exit status; of a single process, only if it is not 0."""
    at_the_end.close()
    if dist.is_initialized():
        dist.barrier()  # no rank hangs up while another still saves
        dist.destroy_process_group()
        sys.stdout.flush()
        os._exit(code)  # in one of some thirty runs torch's threads abort a rank that tears itself down in the usual way
    if code:
        sys.exit(code)


# -----------------------------------------------------------------------------
# The run folder


def open_run(out_dir, config, resume, overwrite, may_differ=()):
    """Make or reopen a run folder and write its config.json.

    config is a dict; with resume, it must equal the one the run began with but for the keys in may_differ. Returns what
    `claim` returns, to be kept for as long as the run is written to. Raises FileExistsError, FileNotFoundError or ValueError
    with a message for the user.
    """
    path = os.path.join(out_dir, "config.json")
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other")
    if resume:
        checkpoint_of(out_dir)  # raises if there is nothing to resume
        began_with = read_json(path)
        for key in sorted(config.keys() - set(may_differ)):
            was = began_with.get(key, type(config[key])())  # an option that is younger than the run was off
            if was != config[key]:
                raise ValueError(f"{out_dir} is the run of another config: {key} was {was!r}, now {config[key]!r}")
        return claim(out_dir)
    before = os.listdir(out_dir) if os.path.exists(out_dir) else []
    if set(before) - {CLAIM}:
        if not overwrite:
            go_on = "--resume goes on with it, " if has_checkpoint(out_dir) else ""  # a run may have ended before it had one
            raise FileExistsError(f"{out_dir} exists: {go_on}--overwrite starts anew, --out_dir=... elsewhere")
        try:
            ours = "out_dir" in read_json(path)  # a model's folder has a config.json, too
        except (OSError, ValueError):
            ours = CLAIM in before
        if not ours:
            raise FileExistsError(f"{out_dir} is not a run folder, so it is not overwritten")
    os.makedirs(out_dir, exist_ok=True)
    claimed = claim(out_dir)
    for name in set(before) - {CLAIM}:
        old = os.path.join(out_dir, name)
        shutil.rmtree(old) if os.path.isdir(old) and not os.path.islink(old) else os.remove(old)
    write_json(path, config)
    return claimed


CLAIM = ".writer"
claims = weakref.WeakValueDictionary()  # {(disk, inode): the locked file}: those that this process holds


def claim(out_dir):
    """Keeps other processes out of a run folder until the returned file is closed or this process ends, however it ends.

    Raises FileExistsError if another process is in it. Where the disk cannot lock files it says so, once, and goes on.
    """
    f = open(os.path.join(out_dir, CLAIM), "a", encoding="utf-8")
    place = os.fstat(f.fileno())
    place = place.st_dev, place.st_ino
    if place in claims and not claims[place].closed:
        return claims[place]
    try:
        free = lock_descriptor(f.fileno(), blocking=False)
    except OSError as e:  # NFS without its lock service, Lustre mounted without locks, a Python without fcntl
        note(f"{out_dir} is on a disk that cannot lock files ({e.strerror}): see to it that no other run writes there")
        free = True
    if not free:
        raise FileExistsError(f"another process is writing to {out_dir}")
    claims[place] = f
    return f


def enter(c, settings, may_differ, machine, tokenizer, load, optimizer, names, state):
    """Open the run folder on every rank, and where c.resume says so go on from its checkpoint.

    state: what a new run begins with: step, seconds, rows and data_crc32 (of training data, which must not change), and what
    the script adds.
    settings: those of c, base_crc32 (coprocessor.checksum of what the run starts from; a resumed run keeps the one it had),
    and what the script adds.
    tokenizer: a file to copy beside the config, or None. load(folder) reads the weights. See open_run for the others.
    -> (state, Metrics, Stopwatch)
    """
    if c.wandb:
        try:
            import wandb  # noqa: F401
        except ImportError:
            raise ValueError("wandb=True needs Weights & Biases: pip install wandb") from None
    claimed, settings = None, settings | {"started_in": os.getcwd()}  # from where a relative data= leads to the data
    if machine.master:
        claimed = open_run(c.out_dir, settings, c.resume, c.overwrite, (*may_differ, "started_in", "base_crc32"))
        if tokenizer:
            Tokenizer(tokenizer).save(c.out_dir)
    machine.wait()  # until the folder is in order
    if c.resume:
        folder = checkpoint_of(c.out_dir)
        load(folder)
        load_optimizer(optimizer, names, folder)
        found = read_state(folder, state)
        if found["rows"] != state["rows"]:
            raise ValueError(f"{c.data} has {state['rows']:,} training rows, it had {found['rows']:,} when the run began")
        if found["data_crc32"] != state["data_crc32"]:
            raise ValueError(f"{c.data} holds other training rows than when the run began")
        state = state | found
    if c.wandb:
        state = {"wandb_id": uuid.uuid4().hex} | state  # kept in every checkpoint, so that a resumed run goes on there, too
    check_ranks(machine, settings | {"checksum of the data": state["data_crc32"], "step": state["step"]})
    metrics = Metrics(c.out_dir, state["step"] if c.resume else None, claimed, machine.master)
    if c.wandb and machine.master:
        metrics.report = start_wandb(c.out_dir, settings, state["wandb_id"])
    return state, metrics, Stopwatch(machine.device, state["seconds"])


def check_ranks(machine, facts):
    """Raises ValueError, on every rank, if a dict is not the same on all of them."""
    everyone = machine.gather([facts])
    for rank, theirs in enumerate(everyone):
        for key in everyone[0]:
            if theirs[key] != everyone[0][key]:
                raise ValueError(f"ranks disagree: {key} is {everyone[0][key]!r} on rank 0, {theirs[key]!r} on rank {rank}")


def finite_loss(machine, step, loss, norm, out_dir):
    """The sum over ranks of their parts of the loss. Raises ValueError if it or the gradient norm is not finite.

    To be called on every rank, and before every checkpoint: none may hold what is not finite.
    """
    total, norm = machine.total(loss.clone()).item(), float(norm)
    if math.isfinite(total + norm):
        return total
    bad = [rank for rank, x in enumerate(machine.gather([float(loss)])) if not math.isfinite(x)]
    where = f" (it went wrong on rank {', '.join(map(str, bad))})" if bad and machine.world > 1 else ""
    raise ValueError(f"step {step}: loss {total}, gradient norm {norm}{where}; {last_good(out_dir)}")


def finite_weights(machine, step, loss, model, optimizer, names, out_dir):
    """Raises ValueError, on every rank, if the last update left weights or an optimizer's state that are not finite.

    loss(): that of any batch after the update: weights can be finite and of no use. To be called on every rank before
    weights are saved or judged: finite_loss saw those before the update.
    """
    with torch.no_grad(), machine.autocast():
        tensors = model.state_dict() | optimizer_tensors(optimizer, names) | {"the loss": loss()}
    # the extremes: one pass that takes no memory, and NaN is both
    bad = machine.gather([name for name, x in tensors.items() if x.numel() and not torch.stack(x.aminmax()).isfinite().all()])
    if bad:
        raise ValueError(f"step {step}: after the update {bad[0]} is not finite; {last_good(out_dir)}")


def last_good(out_dir):
    try:
        return f"the last good checkpoint is that of step {read_state(checkpoint_of(out_dir))['step']}"
    except FileNotFoundError:
        return "there is no checkpoint yet"


class Interrupt:
    """SIGTERM, which schedulers send, and Ctrl-C ask a run to save and leave. A second Ctrl-C ends it at once.

    Not so a second SIGTERM: under torchrun a rank may get one from the scheduler and one from the agent.
    """

    def __init__(self, machine):
        self.machine, self.number = machine, 0
        self.next_look, self.looked = 0, (0, -math.inf)  # at which step; the last one's step and time
        self.before = {s: signal.signal(s, self.note) for s in (signal.SIGTERM, signal.SIGINT)}

    def note(self, number, frame):
        self.number = number
        signal.signal(signal.SIGINT, self.before[signal.SIGINT])

    def over(self):
        """From now on signals do what they did before."""
        for s, handler in self.before.items():
            signal.signal(s, handler)

    def anybody(self, step):
        """-> the signal that some rank has got, or 0. Ranks look about every two seconds: looking waits for all of them.

        They must look after the same step, so at each look they agree on the next: rank 0's clock decides.
        """
        if self.machine.world == 1:
            return self.number
        if step < self.next_look:
            return 0
        numbers = torch.zeros(self.machine.world + 1)
        numbers[self.machine.rank] = self.number
        if self.machine.master:
            (last, then), now = self.looked, time.perf_counter()
            self.looked, numbers[-1] = (step, now), 2 * (step - last) // max(now - then, 1e-9)
        *numbers, steps = self.machine.total(numbers).tolist()
        self.next_look = step + max(1, int(steps))
        return int(max(numbers))

    def leave(self, step, save):
        """To be called on every rank after every step. If any of them was asked: save(), and exit with 128 + signal."""
        number = self.anybody(step)
        if not number:
            return
        save()
        if self.machine.master:
            print(f"stopped at step {step} and saved: --resume goes on", flush=True)
        finish(128 + number)


class Metrics:
    """metrics.jsonl: one JSON object a line. On resuming, what was logged after the checkpoint is cut off.

    Every rank has one and writes to it; what rank 0 writes is kept.
    """

    def __init__(self, out_dir, after_step, claimed, master):
        self.path, self.master, self.report = os.path.join(out_dir, "metrics.jsonl"), master, None
        self.claimed = claimed  # for as long as it is written to
        if master and after_step is not None and os.path.exists(self.path):
            records = read_lines(self.path, {"step": 0}, growing=True)
            # a run's result, its last line, is written after the last checkpoint and has no loss
            write_lines(self.path, [r for r in records if r["step"] <= after_step and ("loss" in r or r["step"] == 0)])

    def write(self, record):
        """Raises ValueError if a number in it is not finite."""
        for key, value in record.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"step {record['step']}: {key} is {value}")
        if self.master:
            try:
                with open(self.path, "a", encoding="utf-8") as f:
                    f.write(json.dumps(record) + "\n")
                sync(self.path)
            except OSError as e:
                raise OSError(f"{self.path} is not written: {e}") from None
        if self.report:
            self.report.log(record, step=record["step"])


def start_wandb(out_dir, settings, run_id):
    """-> a run of Weights & Biases, the one of that id if there is one. Raises ValueError where it cannot start."""
    import wandb

    name = os.path.basename(os.path.normpath(out_dir))
    try:
        report = wandb.init(project="nanolatent", name=name, id=run_id, resume="allow", config=settings)
    except Exception as e:  # of no common class
        raise ValueError(f"Weights & Biases does not start ({e}); WANDB_MODE=offline needs no network") from None
    at_the_end.callback(report.finish)
    return report


# -----------------------------------------------------------------------------
# Files: whole or not at all, and on the disk before anything relies on them


def write_file(path, content):
    """Bytes -> a file that is there whole or not at all."""
    with whole(path) as unfinished, open(unfinished, "wb") as f:
        f.write(content)


def write_json(path, value):
    write_file(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_lines(path, records):
    """One JSON object a line."""
    write_file(path, "".join(json.dumps(record) + "\n" for record in records).encode())


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


# -----------------------------------------------------------------------------
# Checkpoints: written beside, synced, then renamed, so that the last good one always loads


def replace_folder(final, write, keep_old=None):
    """write(folder) fills a new folder, which then takes the place of the old one; that is deleted, or moved to keep_old.

    Raises OSError if the disk does not take it; the folder before is then untouched.
    """
    new, old = final + ".new", final + ".old"
    try:
        shutil.rmtree(new, ignore_errors=True)
        os.makedirs(new)
        write(new)
        for folder, _, files in os.walk(new):
            for name in [*files, "."]:
                sync(os.path.join(folder, name))
    except (OSError, SafetensorError) as e:
        shutil.rmtree(new, ignore_errors=True)
        reason = getattr(e, "strerror", None) or e
        raise OSError(f"cannot save {final} ({reason}); the one before it is untouched") from None
    if os.path.exists(final):
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(new, final)
    sync(os.path.dirname(final))
    if keep_old and os.path.isdir(old):
        shutil.rmtree(keep_old, ignore_errors=True)
        os.rename(old, keep_old)
    shutil.rmtree(old, ignore_errors=True)


def save_checkpoint(out_dir, write_weights, optimizer, names, state, keep=0):
    """write_weights(folder) saves the model; names are the optimizer's parameter names; state is a small dict of JSON.

    keep: how many earlier checkpoints stay, as checkpoint_<step>.
    """

    def write(folder):
        write_weights(folder)
        save_file(optimizer_tensors(optimizer, names), os.path.join(folder, "optimizer.safetensors"))
        with open(os.path.join(folder, "state.json"), "w", encoding="utf-8") as f:
            json.dump(state, f, allow_nan=False)

    final = os.path.join(out_dir, "checkpoint")
    before = read_state(final)["step"] if keep and os.path.isdir(final) else state["step"]
    replace_folder(final, write, f"{final}_{before}" if before != state["step"] else None)
    if not keep:
        return
    kept = [name for name in os.listdir(out_dir) if re.fullmatch("checkpoint_[0-9]+", name)]
    for name in sorted(kept, key=lambda name: int(name.split("_")[1]))[: max(0, len(kept) - keep)]:
        shutil.rmtree(os.path.join(out_dir, name))


def checkpoint_of(out_dir):
    """The last good checkpoint's folder; after a kill between two renames, the old one. Raises FileNotFoundError."""
    for name in ("checkpoint", "checkpoint.old"):
        if os.path.isfile(os.path.join(out_dir, name, "state.json")):
            return os.path.join(out_dir, name)
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


def optimizer_tensors(optimizer, names):
    """AdamW's state as named tensors -> {"<parameter>/exp_avg": ...}"""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{name}/{key}": value.contiguous()
        for name, p in zip(names, params, strict=True)
        for key, value in optimizer.state[p].items()
    }


def load_tensors(path):
    """A safetensors file -> {name: tensor}. Raises ValueError if it is damaged."""
    try:
        return {name: x.clone() for name, x in load_file(path).items()}  # or the file stays open: some disks keep it then
    except SafetensorError as e:
        raise ValueError(f"{path} is damaged ({e})") from None


def load_optimizer(optimizer, names, folder):
    """The inverse, into a fresh optimizer."""
    tensors = load_tensors(os.path.join(folder, "optimizer.safetensors"))
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for name, p in zip(names, params, strict=True):
        if f"{name}/step" not in tensors:
            continue  # it has not been trained yet
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = tensors[f"{name}/{key}"]
            optimizer.state[p][key] = value if key == "step" and not optimizer.defaults["fused"] else value.to(p.device)


def read_state(folder, like=None):
    return read_json(os.path.join(folder, "state.json"), like or {"step": 0})


# -----------------------------------------------------------------------------
# Telling the user


def clock(seconds):
    """3661 -> '1h01m'"""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"


class Stopwatch:
    """Seconds since the run began, over all its resumptions; a CUDA device finishes its queue before each reading."""

    def __init__(self, device, before=0.0):
        self.device, self.began = device, time.perf_counter() - before

    def __call__(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - self.began


class Pace:
    """Steps per second, of the steps alone: what is done besides (compiling, evaluating, saving) begins a new count."""

    def __init__(self, seconds):
        self.seconds, self.began = seconds, None

    def begin(self, step):
        self.began = step, self.seconds()

    def __call__(self, step, now):
        """Since the last begin, or None if there was none: the first step compiles."""
        return (step - self.began[0]) / (now - self.began[1]) if self.began else None
