"""Where tokens come from: tokenizers, corpora, shards, and the rows that a run reads.

    python data.py sample                                     # the Python standard library's own source: no download
    python data.py fineweb_edu --tokenizer gpt2 --shards 2    # FineWeb-Edu 100BT from the hub, 0.7B tokens a shard
    python data.py check data/sample                          # every checksum, in full

A corpus becomes a folder of shards, train_*.bin and val_*.bin. A shard is a header of 512 bytes, one JSON object that
`head -c 512` shows, then token ids as uint16 (uint32 where the vocabulary asks for it), documents divided by an
end-of-text token. A finished shard has its final name and is never made again, so an interrupted command goes on
where it was.
"""

import contextlib
import errno
import glob
import json
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import sysconfig
import tokenize
import zlib
from dataclasses import dataclass
from functools import cached_property, partial

from configurator import Parser, at_least, note, one_line_errors, read_json

import numpy as np
from filelock import lock_descriptor
from tqdm import tqdm

HEADER_BYTES = 512
MAGIC = "nanolatent tokens 1"


# -----------------------------------------------------------------------------
# Tokenizers


class Tokenizer:
    """name; path of its file, None for gpt2; vocab_size, one more than its largest id; eot, the id that ends a document."""

    def __init__(self, name):
        """name: gpt2, qwen3, or a tokenizer.json (of `tokenizers`). Raises OSError without it, ValueError for another file."""
        if name == "gpt2":
            self.name, self.path, bpe = name, None, openai_bpe()
            self.eot, self.vocab_size, self.to_text = bpe.eot_token, bpe.n_vocab, bpe.decode
            self.parts = parts_for_tiktoken
            self.to_ids = lambda text, special: (
                bpe.encode(text, allowed_special="all") if special else bpe.encode_ordinary(text)
            )
            return
        from tokenizers import Tokenizer as FastTokenizer

        if name == "qwen3":
            name = hub_file("Qwen/Qwen3-0.6B", "tokenizer.json", repo_type="model")
        if not os.path.isfile(name):
            raise FileNotFoundError(f"no tokenizer {name}: gpt2, qwen3, or the path of a tokenizer.json")
        with open(name, "rb") as f:
            raw = f.read()
        try:
            fast = FastTokenizer.from_buffer(raw)
        except Exception as e:  # it raises no other
            raise ValueError(f"{name}: damaged, or not a tokenizer.json ({e})") from None
        # what a file may have been saved with, and what would change texts without a word
        fast.no_truncation(), fast.no_padding()
        if getattr(fast.model, "dropout", None):
            fast.model.dropout = None

        def to_ids(text, special):
            fast.encode_special_tokens = not special  # to encode them means: as text
            return fast.encode(text, add_special_tokens=False).ids

        self.name, self.path = f"tokenizer.json {zlib.crc32(raw):08x}", name
        self.parts, self.to_ids, self.to_text = lambda text: [text], to_ids, fast.decode
        self.vocab_size = max(fast.get_vocab().values()) + 1  # there may be holes
        self.eot = end_of_document(fast, name)
        self.eot_text = fast.id_to_token(self.eot)

    def encode(self, text, special=False):
        """-> ids. "<|endoftext|>" in a text is thirteen characters like any others.

        special: such a string becomes the token that it names, as it does in lm-evaluation-harness. Which strings are
        special, the tokenizer's file says. Raises ValueError for a text that the library beneath cannot take.
        """
        try:
            text.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON and a command line may hold
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        try:
            ids = []
            for part in self.parts(text):
                ids += self.to_ids(part, special)
            return ids
        except BaseException as e:
            if type(e).__name__ != "PanicException":  # Rust's, which is no Exception
                raise
            raise ValueError(f"the tokenizer gives up on a text of {len(text):,} characters ({e})") from None

    def decode(self, ids):
        """-> text. A model may have more rows than its tokenizer has ids: such ids say nothing."""
        return self.to_text([i for i in ids if 0 <= i < self.vocab_size])

    def same(self, other):
        """Do both give the same ids? Files of one tokenizer differ, and OpenAI's has none."""
        text = "It's 12 o'clock:\n\tdéjà vu, 東京! <<48/2=24>> Every lorpus is a zumpus."
        return self.name == other.name or (self.vocab_size, self.encode(text)) == (other.vocab_size, other.encode(text))

    def save(self, folder):
        """tokenizer.json, and what has transformers read it as it is rather than as its model's family has it.

        OpenAI's needs no file: a GPT-2 without one is taken to have it.
        """
        if self.path is None:
            return
        with whole(os.path.join(folder, "tokenizer.json")) as unfinished:
            shutil.copyfile(self.path, unfinished)
        with whole(os.path.join(folder, "tokenizer_config.json")) as unfinished, open(unfinished, "w", encoding="utf-8") as f:
            json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.eot_text}, f, indent=2)


BLANKS_AT_ONCE = 2**16


def parts_for_tiktoken(text):
    """A text, cut where GPT-2's pattern cuts it, too: tiktoken panics on a million blanks that something follows.

    Its pattern takes a run of blanks but for the last one, which may belong to the word behind it, as one piece.
    """
    if len(text) < BLANKS_AT_ONCE:
        return [text]
    blank = r"[^\S\x1c-\x1f]"  # Unicode's, which does not count these four that Python does
    # looking behind, a shorter run is not gone through again from each of its blanks
    runs = re.finditer(rf"(?<!{blank}){blank}{{{BLANKS_AT_ONCE},}}", text)
    cuts = [0, *(run.end() - 1 for run in runs if run.end() < len(text)), len(text)]
    return [text[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


def openai_bpe():
    import tiktoken

    try:
        return tiktoken.get_encoding("gpt2")
    except Exception as e:  # a network error of whichever client tiktoken uses
        if local_fault(e):
            raise OSError(f"cannot keep GPT-2's tokenizer: {local_fault(e)}; TIKTOKEN_CACHE_DIR names its folder") from None
        raise OSError(
            f"cannot get GPT-2's tokenizer ({type(e).__name__}). With a network, run this again; without one, copy a folder "
            "that has it (`TIKTOKEN_CACHE_DIR=folder python -c \"import tiktoken; tiktoken.get_encoding('gpt2')\"`) and "
            "point TIKTOKEN_CACHE_DIR at it"
        ) from None


def end_of_document(fast, path):
    """The id of <|endoftext|>, or else of what the files beside a tokenizer.json call eos. Raises ValueError without one."""
    eot, folder = fast.token_to_id("<|endoftext|>"), os.path.dirname(path)
    if eot is None:
        token = object_in(os.path.join(folder, "tokenizer_config.json")).get("eos_token")
        eot = fast.token_to_id(token.get("content", "") if isinstance(token, dict) else token or "")
    if eot is None:
        eot = object_in(os.path.join(folder, "config.json")).get("eos_token_id")
        eot = eot[0] if isinstance(eot, list) and eot else eot
    if not isinstance(eot, int) or fast.id_to_token(eot) is None:
        raise ValueError(
            f"{path} has no token <|endoftext|>, which ends a document, and tokenizer_config.json beside it names no eos_token"
        )
    return eot


def object_in(path):
    """What a JSON file holds; {} where there is none."""
    return read_json(path) if path and os.path.isfile(path) else {}


def tokenizer_of(name):
    """The tokenizer of a data folder, a run, a model's folder or a hub name: its own tokenizer.json, or else GPT-2's.

    Raises FileNotFoundError or ValueError if GPT-2's would be another than its own.
    """
    if name.startswith("openai-community/gpt2"):
        return Tokenizer("gpt2")  # the same, and one download less
    own = file_of(name, "tokenizer.json")
    if own:
        return Tokenizer(own)
    family = object_in(file_of(name, "config.json")).get("model_type", "gpt2")
    vocabulary = file_of(name, "vocab.json")
    if family != "gpt2" or vocabulary and read_json(vocabulary).get("Ġthe") != 262:
        raise FileNotFoundError(
            f"{name} has no tokenizer.json, and its tokenizer is not GPT-2's: copy it there. Where only older files are, "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) of transformers writes it"
        )
    return Tokenizer("gpt2")


def file_of(name, filename):
    """A file of a folder or of a hub repository -> its path; None if there is none."""
    if os.path.isdir(name):
        path = os.path.join(name, filename)
        return path if os.path.isfile(path) else None
    try:
        return hub_file(name, filename, repo_type="model")
    except NotOnTheHub:
        return None


class NotOnTheHub(FileNotFoundError):
    """The repository is there, the file is not."""


def hub_file(repo, filename, repo_type="dataset", revision=None):
    """A file of the hub -> its path in the local cache; the hub's client retries what may pass, waiting longer each time.

    Raises FileNotFoundError in one line that says what was missing; NotOnTheHub if the repository has no such file.
    """
    import huggingface_hub as hub
    from huggingface_hub import constants, errors

    place, what = dict(repo_type=repo_type, revision=revision), f"{filename} of {repo}"
    try:
        return hub.hf_hub_download(repo, filename, **place)
    except errors.EntryNotFoundError as e:
        known = hub.try_to_load_from_cache(repo, filename, **place) is hub._CACHED_NO_EXIST
        if known or not isinstance(e, errors.LocalEntryNotFoundError):
            raise NotOnTheHub(f"the hub has no {what}") from None
        error = e
    except Exception as e:  # the hub's client raises a dozen unrelated types
        error = e
    if local_fault(error):
        place = constants.HF_HUB_CACHE
        raise FileNotFoundError(f"cannot keep {what} in {place}: {local_fault(error)}; HF_HUB_CACHE names another folder")
    said = f"({type(error).__name__})"
    if isinstance(error, (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.GatedRepoError)):
        raise FileNotFoundError(f"the hub has no {what}, or not for everyone: `hf auth login` says who you are {said}")
    command = f"hf download {repo} {filename}" + (f" --repo-type {repo_type}" if repo_type != "model" else "")
    command += f" --revision {revision}" if revision else ""
    raise FileNotFoundError(
        f"cannot get {what} from the hub {said}. With a network, run this again; without one, copy a cache that has it "
        f"(`{command}`) and point HF_HUB_CACHE at it"
    )


def local_fault(e):
    """The error of a download -> what is wrong with this machine's disk, in words; "" if it is not the disk."""
    while e:
        if isinstance(e, OSError) and (e.errno in (errno.ENOSPC, errno.EDQUOT) or e.errno and e.filename):
            return f"{e.strerror} ({e.filename})" if e.filename else e.strerror
        if "(os error 28)" in str(e):  # the same from the Rust beneath the hub's client
            return os.strerror(errno.ENOSPC)
        e = e.__cause__ or e.__context__
    return ""


# -----------------------------------------------------------------------------
# Files that appear whole, and processes that share a folder


@contextlib.contextmanager
def whole(path):
    """-> a name to write to. What is written there appears as path once it is whole and on the disk, or not at all."""
    unfinished = f"{path}.{secrets.token_hex(4)}.tmp"  # nobody else's, whatever locks are worth here
    try:
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
        sync(os.path.dirname(path) or ".")
    except OSError as e:
        raise OSError(f"{path} is not written: {e}") from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)


CANNOT_SYNC = {errno.EINVAL, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.ENOTSUP}


def sync(path):
    """A file, or a folder's list of names, to the disk. Where that cannot be asked for, this says so, once, and goes on."""
    try:
        fd = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno not in CANNOT_SYNC:
            raise
        if os.name != "nt":  # Windows keeps its folders itself
            note(f"the disk cannot be asked to sync ({e.strerror}): a power failure may take what was written last")


@contextlib.contextmanager
def alone_in(folder):
    """One process at a time: whoever comes second waits, and looks again at what there is. Not to be nested.

    On a disk that cannot lock files nobody waits; files still appear whole.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "ab") as f:
        try:
            if not lock_descriptor(f.fileno(), blocking=False):
                print(f"waiting for another process to finish in {folder}", flush=True)
                lock_descriptor(f.fileno())
        except OSError as e:  # NFS without its lock service, Lustre mounted without locks, a Python without fcntl
            note(f"{folder} is on a disk that cannot lock files ({e.strerror}): see to it that no other process writes there")
        else:
            for name in os.listdir(folder):  # a killed process left it
                if re.search(r"\.[0-9a-f]{8}\.tmp$", name):
                    os.remove(os.path.join(folder, name))
        yield


def in_workers(function, items, workers):
    """function(item) of every item, in so many processes -> the results, in the order of the items.

    No more than two items a worker are under way, so memory stays small however many there are; an item is a few KB at most.
    Raises ValueError with the words of a ValueError or OSError of the function, and ChildProcessError if a worker dies. Why
    not a pool of the standard library? They wait for ever for a worker that is killed while it sends its result. Here each
    worker has a pipe of its own, which ends with it.
    """
    spawn = multiprocessing.get_context("spawn")  # never fork where threads may run
    crew = []

    def result_of(n):
        pipe, process = crew[n % workers]
        try:
            result, error = pipe.recv()
        except (EOFError, OSError):
            process.join()
            killed = ": killed, as a system does whose memory runs out" if process.exitcode == -9 else ""
            raise ChildProcessError(f"a worker process died with exit code {process.exitcode}{killed}") from None
        if error is not None:
            raise ValueError(error)
        return result

    try:
        n = -1
        for n, item in enumerate(items):
            if n < workers:
                ours, theirs = spawn.Pipe()
                crew.append((ours, spawn.Process(target=work, args=(theirs, function), daemon=True)))
                crew[n][1].start()
                theirs.close()
            if n >= 2 * workers:
                yield result_of(n - 2 * workers)
            with contextlib.suppress(ConnectionError):  # it is dead, which its result will tell
                crew[n % workers][0].send(item)
        for m in range(max(0, n + 1 - 2 * workers), n + 1):
            yield result_of(m)
    finally:
        for pipe, process in crew:
            pipe.close()
            process.terminate()
            process.join()


def work(pipe, function):
    """The life of a worker: an item comes, (result, None) or (None, error) goes, until nobody is at the other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            item = pipe.recv()
            try:
                answer = function(item), None
            except (ValueError, OSError) as e:
                answer = None, str(e)
            pipe.send(answer)


# -----------------------------------------------------------------------------
# Shards


def write_shard(path, parts, tokenizer_name, vocab_size):
    """Token arrays -> one shard, under its final name only when it is whole on the disk. Returns the token count."""
    dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
    count, crc = 0, 0
    with whole(path) as unfinished, open(unfinished, "wb") as f:
        f.write(b" " * HEADER_BYTES)
        for part in parts:
            payload = np.asarray(part, dtype=dtype).tobytes()
            f.write(payload)
            count, crc = count + len(part), zlib.crc32(payload, crc)
        header = dict(format=MAGIC, tokenizer=tokenizer_name, vocab_size=vocab_size)
        header |= dict(dtype=dtype.name, count=count, crc32=crc)
        body = json.dumps(header)
        header["header_crc32"] = zlib.crc32(body.encode())
        f.seek(0)
        f.write(json.dumps(header).encode().ljust(HEADER_BYTES - 1) + b"\n")
    return count


def write_text(folder, split, texts):
    """Documents -> <folder>/<split>_000.bin, with the folder's tokenizer."""
    path, tokenizer = os.path.join(folder, f"{split}_000.bin"), tokenizer_of(folder)
    parts = ([*tokenizer.encode(text), tokenizer.eot] for text in texts)
    count = write_shard(path, parts, tokenizer.name, tokenizer.vocab_size)
    print(f"{path}: {count:,} tokens")


def read_header(path):
    """-> the header as a dict. Raises ValueError, naming the file, for a wrong header or a file of another length."""
    with open(path, "rb") as f:
        raw = f.read(HEADER_BYTES)
    try:
        header = json.loads(raw)
        claimed = header.pop("header_crc32")
        sound = header["format"] == MAGIC and zlib.crc32(json.dumps(header).encode()) == claimed
    except (ValueError, KeyError, AttributeError, TypeError):
        sound = False
    if not sound:
        raise ValueError(f"{path}: not a shard of this project, or its header is damaged")
    expected = HEADER_BYTES + header["count"] * np.dtype(header["dtype"]).itemsize
    if os.path.getsize(path) != expected:
        raise ValueError(f"{path}: cut short or overlong, {os.path.getsize(path):,} bytes where its header says {expected:,}")
    return header


def open_shard(path):
    """-> (memmap of ids, header)"""
    header = read_header(path)
    return np.memmap(path, dtype=header["dtype"], mode="r", offset=HEADER_BYTES, shape=(header["count"],)), header


def check_shard(path):
    """Read all of it. Raises ValueError if a single bit differs from what was written."""
    ids, header = open_shard(path)
    crc = 0
    for start in range(0, len(ids), 2**24):
        crc = zlib.crc32(ids[start : start + 2**24].tobytes(), crc)
    if crc != header["crc32"]:
        raise ValueError(f"{path}: its tokens do not match the checksum in its header")


# -----------------------------------------------------------------------------
# Rows


@dataclass
class Rows:
    """Row n of a run is a pure function of (seed, n), whatever the ranks, the batch or the accumulation.

    Every shard is cut into windows of seq_len tokens; an epoch is a permutation of all windows that (seed, epoch) draws.
    seed None: in order, for validation.
    """

    folder: str
    split: str
    seq_len: int
    seed: int | None = None

    def __post_init__(self):
        paths = sorted(glob.glob(os.path.join(self.folder, f"{self.split}_*.bin")))
        if not paths:
            corpus, _, tokenizer = os.path.basename(os.path.normpath(self.folder)).partition("_edu_")
            sample = "sample --packages" if corpus == "packages" else "sample"
            command = f"fineweb_edu --tokenizer {tokenizer}" if tokenizer else sample
            raise FileNotFoundError(
                f"no {self.split} shards in {self.folder}: `python data.py {command}` makes them (--help: more), "
                f"prosqa.py --statements and countdown.py --sums make others; it was looked for from {os.getcwd()}"
            )
        self.shards, headers = zip(*(open_shard(p) for p in paths), strict=True)
        for path, header in zip(paths, headers, strict=True):
            if header["tokenizer"] != headers[0]["tokenizer"]:
                raise ValueError(f"{path}: tokenised with {header['tokenizer']}, others with {headers[0]['tokenizer']}")
        self.vocab_size = headers[0]["vocab_size"]
        self.crc32 = zlib.crc32(json.dumps([header["crc32"] for header in headers]).encode())
        self.ends = np.cumsum([len(s) // self.seq_len for s in self.shards])  # windows up to and including each shard
        self.count = int(self.ends[-1])
        self.epoch = None
        if self.count == 0:
            raise ValueError(f"{self.folder}: no {self.split} shard holds seq_len={self.seq_len} tokens")

    def window(self, n):
        epoch, i = divmod(n, self.count)
        if self.seed is None:
            return i
        if epoch != self.epoch:
            self.epoch, self.order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.count)
        return int(self.order[i])

    def __getitem__(self, n):
        """-> (seq_len,) int64"""
        w = self.window(n)
        shard = int(np.searchsorted(self.ends, w, side="right"))
        start = (w - (self.ends[shard - 1] if shard else 0)) * self.seq_len
        return self.shards[shard][start : start + self.seq_len].astype(np.int64)

    def batch(self, rows):
        """Row numbers -> (B, seq_len) int64"""
        return np.stack([self[n] for n in rows])


def draw_sites(seed, rows, n_sites, limit):
    """M distinct sites in [0, limit) for each row number, uniform and sorted -> (B, M) int64.

    A pure function of (seed, row number). Raises ValueError where there are fewer places than sites.
    """
    if n_sites > limit:
        raise ValueError(f"n_sites={n_sites} is more than the {max(limit, 0)} places where a branch fits")
    draws = [np.random.default_rng((seed, n, 1)).choice(limit, n_sites, replace=False) for n in rows]
    return np.sort(np.stack(draws), axis=1).astype(np.int64)


# -----------------------------------------------------------------------------
# Corpora


class Corpus:
    """parts: name -> list of work items; texts(item) -> documents; where(item, n): what to call the n-th of them.

    One document in `val_every` is for validation.
    """

    def tokenize(self, item):
        """One work item, in a worker process -> (train ids, val ids, how many texts were left out).

        Raises ValueError that names the first document that is no text, or cannot be read as one.
        """
        split, empty = ([], []), 0
        for n, text in enumerate(self.texts(item)):
            if text is None or text == "":
                empty += 1
                continue
            if not isinstance(text, str):
                raise ValueError(f"{self.where(item, n)}: {type(text).__name__}, not text")
            try:
                ids = self.encode(text)
            except ValueError as e:
                raise ValueError(f"{self.where(item, n)}: {e}") from None
            # by content, so that a document falls on the same side whatever else is there, and so do its copies
            split[zlib.crc32(text.encode(errors="replace")) % self.val_every == 0].append(ids)
        return *(np.concatenate([np.zeros(0, np.uint32), *s]) for s in split), empty

    def encode(self, text):
        return np.array([*self.tokenizer.encode(text), self.tokenizer.eot], dtype=np.uint32)

    @cached_property
    def tokenizer(self):
        return Tokenizer(self.tokenizer_name)

    def __getstate__(self):  # for a worker, which makes its own tokenizer and is handed its items
        return {key: value for key, value in vars(self).items() if key not in ("files", "parts", "tokenizer")}


class Sample(Corpus):
    """The source of Python's standard library, about 10 MB of real text that every machine has; or of all packages, too."""

    val_every, packages = 20, False
    kept = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "bases", "base_gpt2")

    def __init__(self, out, vocab_size=None, packages=False):
        """vocab_size: of the BPE that is trained on the standard library; None: that of the Base in results/bases.

        packages: whatever else is installed is read as well, some hundreds of MB; what Python could not read is left out.
        """
        roots = sysconfig.get_paths()
        standard = python_files(roots["stdlib"])
        self.packages, self.files = packages, standard + (python_files(roots["purelib"]) if packages else [])
        self.parts = {"000": [self.files[i : i + 16] for i in range(0, len(self.files), 16)]}
        self.tokenizer_name = os.path.join(out, "tokenizer.json")
        if not os.path.isfile(self.tokenizer_name):
            if vocab_size:
                train_tokenizer(self.texts(standard), vocab_size, self.tokenizer_name)
            else:
                Tokenizer(os.path.join(self.kept, "tokenizer.json")).save(out)
        if vocab_size not in (None, self.tokenizer.vocab_size):
            raise ValueError(
                f"{self.tokenizer_name} has {self.tokenizer.vocab_size} tokens, not {vocab_size}: use another --out"
            )

    def texts(self, files):
        """Each as it is, line ends and all, in the encoding that Python would read it in.

        Of a file that it could not read: None where packages are read, otherwise ValueError.
        """
        for path in files:
            try:
                with open(path, "rb") as f:
                    encoding, _ = tokenize.detect_encoding(f.readline)
                    f.seek(0)
                    text = f.read().decode(encoding)
            except (SyntaxError, UnicodeDecodeError) as e:
                if not self.packages:
                    raise ValueError(f"{path}: {e}") from None
                text = None
            yield text

    def where(self, files, n):
        return files[n]


def python_files(root):
    """-> the paths of all source below a folder but tests, in order"""
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
    files = sorted(glob.glob("**/*.py", root_dir=root, recursive=True))
    return [os.path.join(root, f) for f in files if not skip & set(f.split(os.sep))]


def train_tokenizer(texts, vocab_size, path, apart=None):
    """A small byte-level BPE, as tokenizer.json; it may end with fewer tokens, if the texts have no more to merge.

    apart: a regular expression of what stands apart from its neighbours; None: words and numbers do, as in GPT-2's.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as FastTokenizer

    fast = FastTokenizer(models.BPE())
    split = [pre_tokenizers.Split(Regex(apart), "isolated")] if apart else []
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [*split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not apart)]
    )
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(texts, trainer)
    with whole(path) as unfinished:
        fast.save(unfinished)


class FineWebEdu(Corpus):
    """FineWeb-Edu, sample/100BT: 140 parquet files of about 0.7B GPT-2 tokens each (Lozhkov et al. 2024, ODC-By)."""

    val_every = 1000
    repo, revision = "HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"

    def __init__(self, out, tokenizer_name, shards):
        self.tokenizer_name = tokenizer_name
        if tokenizer_name == "qwen3":  # kept beside its tokens, for whoever reads them
            self.tokenizer_name = os.path.join(out, "tokenizer.json")
            source = hub_file("Qwen/Qwen3-0.6B", "tokenizer.json", repo_type="model")
            with whole(self.tokenizer_name) as unfinished:
                shutil.copyfile(source, unfinished)
        names = [f"{i:03d}_{j:05d}" for i in range(14) for j in range(10)]
        if not 1 <= shards <= len(names):
            raise ValueError(f"--shards must be 1 to {len(names)}, not {shards}")
        self.parts = {name: self.row_groups(name) for name in names[:shards]}

    def row_groups(self, name):
        """Work items of one parquet file, which is fetched when the first is asked for."""
        path = hub_file(self.repo, f"sample/100BT/{name}.parquet", revision=self.revision)
        file = open_parquet(path)
        if "text" not in file.schema_arrow.names:
            raise ValueError(f"{path}: no column named text")
        yield from ((path, i) for i in range(file.num_row_groups))

    def texts(self, item):
        path, group = item
        try:
            column = open_parquet(path).read_row_group(group, columns=["text"])["text"]
        except (OSError, ValueError) as e:  # pyarrow's own are among them
            raise ValueError(f"{path}: its row group {group} is damaged ({e})") from None
        try:
            return column.to_pylist()
        except UnicodeDecodeError:
            for n, cell in enumerate(column):
                try:
                    cell.as_py()
                except UnicodeDecodeError as e:
                    raise ValueError(f"{self.where(item, n)}: {e}") from None

    def where(self, item, n):
        path, group = item
        groups = open_parquet(path).metadata
        return f"{path}: row {sum(groups.row_group(i).num_rows for i in range(group)) + n + 1}"


def open_parquet(path):
    """Raises ValueError, which names the file, if it is damaged."""
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(path)
    except ValueError as e:  # pyarrow's
        raise ValueError(f"{path}: damaged, or not a parquet file ({e})") from None


def prepare(corpus, out, workers):
    """Tokenise a corpus with all cores into out/: a train and a val shard per part. Finished parts are skipped."""
    for name, items in corpus.parts.items():
        train, val = (os.path.join(out, f"{split}_{name}.bin") for split in ("train", "val"))
        if os.path.exists(train) and os.path.exists(val):
            if any(read_header(path)["tokenizer"] != corpus.tokenizer.name for path in (train, val)):
                raise ValueError(f"{train} holds the ids of another tokenizer: use another --out")
            print(f"{train} is there already")
        else:
            prepare_part(corpus, list(items), train, val, workers, f"tokenising {name}")


def prepare_part(corpus, items, train, val, workers, what):
    held_out, left_out = [], []  # a thousandth of a part fits in memory

    def train_parts():
        results = in_workers(corpus.tokenize, items, workers)
        for for_train, for_val, empty in tqdm(results, total=len(items), desc=what, mininterval=1):
            held_out.append(for_val)
            left_out.append(empty)
            yield for_train

    about = corpus.tokenizer.name, corpus.tokenizer.vocab_size
    n = write_shard(train, train_parts(), *about)
    m = write_shard(val, held_out, *about)
    without = f"; {sum(left_out):,} empty, missing or unreadable texts left out" if any(left_out) else ""
    print(f"{train}: {n:,} tokens; {val}: {m:,}{without}")


def main():
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sample = commands.add_parser("sample", help="tokenise the Python standard library's source")
    size = at_least(257, 2**16)  # every byte, and <|endoftext|>
    sample.add_argument("--vocab_size", type=size, help="train a BPE of so many tokens on it (default: that of results/bases)")
    sample.add_argument("--packages", action="store_true", help="read all installed packages, too, into data/packages")
    fineweb = commands.add_parser("fineweb_edu", help="download and tokenise FineWeb-Edu 100BT")
    fineweb.add_argument("--tokenizer", choices=["gpt2", "qwen3"], default="gpt2")
    fineweb.add_argument("--shards", type=int, default=1, help="how many of its 140 files (default 1; 40B tokens want 58)")
    for p in (sample, fineweb):
        p.add_argument("--out", help="the folder to write (default data/<corpus>)")
        p.add_argument("--workers", type=at_least(1), default=os.cpu_count(), help="processes (default: one per core)")
    check = commands.add_parser("check", help="verify every checksum of a folder of shards")
    check.add_argument("folder")
    a = parser.parse_args()

    if a.command == "check":
        paths = sorted(glob.glob(os.path.join(a.folder, "*.bin")))
        if not paths:
            raise FileNotFoundError(f"no shards in {a.folder}")
        for path in tqdm(paths, desc="checking"):
            check_shard(path)
        print(f"{len(paths)} shards are sound")
        return
    if a.command == "sample":
        name, make = "packages" if a.packages else "sample", partial(Sample, vocab_size=a.vocab_size, packages=a.packages)
    else:
        name, make = f"fineweb_edu_{a.tokenizer}", partial(FineWebEdu, tokenizer_name=a.tokenizer, shards=a.shards)
    out = a.out or os.path.join("data", name)
    with alone_in(out):
        corpus = make(out)
        prepare(corpus, out, a.workers)


if __name__ == "__main__":
    one_line_errors(main)
