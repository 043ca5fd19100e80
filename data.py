"""Where tokens come from: tokenizers, corpora, shards, and the rows that a run reads.

    python data.py sample                                     # the Python standard library's own source: no download
    python data.py fineweb_edu --tokenizer=gpt2 --shards=2    # FineWeb-Edu 100BT from the hub, 0.7B tokens a shard
    python data.py text books/*.txt --out=data/books          # text of your own
    python data.py check data/sample                          # every checksum, in full

A corpus becomes a folder of shards, train_*.bin and val_*.bin. A shard is a header of 512 bytes, one JSON object that
`head -c 512` shows, then token ids as uint16 (uint32 where the vocabulary asks for it), documents divided by an
end-of-text token. A finished shard has its final name and is never made again, so an interrupted command goes on
where it was.
"""

import contextlib
import glob
import io
import itertools
import json
import os
import re
import secrets
import shutil
import sysconfig
import tokenize
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

from configurator import Parser, note, one_line_errors, parse_json, read_json

import numpy as np
from filelock import lock_descriptor
from tqdm import tqdm

HEADER_BYTES = 512
MAGIC = "nanolatent tokens 1"
KEPT_TOKENIZER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "bases", "base_gpt2", "tokenizer.json")


# -----------------------------------------------------------------------------
# Tokenizers


GPT2_IDS = 50257  # <|endoftext|> is the last


class Tokenizer:
    """name; path of its file, None for gpt2; vocab_size, one more than its largest id; eot, the id that ends a document.

    Two libraries do the work: tiktoken has GPT-2's vocabulary as OpenAI published it, tokenizers reads every tokenizer.json.
    """

    def __init__(self, name):
        """name: gpt2, qwen3, or the path of a tokenizer.json. Raises OSError without it, ValueError for another file."""
        if name == "gpt2":
            self.name, self.path, self.vocab_size, self.eot = name, None, GPT2_IDS, GPT2_IDS - 1
            return
        from tokenizers import Tokenizer as FastTokenizer

        self.path = hub_file("Qwen/Qwen3-0.6B", "tokenizer.json", repo_type="model") if name == "qwen3" else name
        with open(self.path, "rb") as f:
            raw = f.read()
        try:
            fast = FastTokenizer.from_buffer(raw)
        except Exception as e:  # it raises no other
            raise ValueError(f"{self.path}: damaged, or not a tokenizer.json ({e})") from None
        # what a file may have been saved with, and what would change texts without a word
        fast.no_truncation(), fast.no_padding()
        if getattr(fast.model, "dropout", None):
            fast.model.dropout = None
        self.name, self.library = f"tokenizer.json {zlib.crc32(raw):08x}", fast
        self.vocab_size = max(fast.get_vocab().values()) + 1  # there may be holes
        self.eot = end_of_document(fast, self.path)

    @cached_property
    def library(self):
        """Of GPT-2, whose vocabulary is downloaded when a text is first met"""
        import tiktoken

        return tiktoken.get_encoding("gpt2")

    def encode(self, text, special=False):
        """-> ids. "<|endoftext|>" in a text is thirteen characters like any others.

        special: such a string becomes the token that it names, as it does in lm-evaluation-harness. Which strings are
        special, the tokenizer's file says.
        """
        if self.path is None:
            return self.library.encode(text, allowed_special="all") if special else self.library.encode_ordinary(text)
        self.library.encode_special_tokens = not special  # to encode them means: as text
        return self.library.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts):
        """Many texts, on all cores -> the ids of each"""
        if self.path is None:
            # not by encode_ordinary_batch, which makes lists: one thread at a time can do that
            with ThreadPoolExecutor() as pool:
                return list(pool.map(partial(self.library.encode_to_numpy, disallowed_special=()), texts))
        self.library.encode_special_tokens = True
        return [encoding.ids for encoding in self.library.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids):
        """-> text. A model may have more rows than its tokenizer has ids: such ids say nothing."""
        return self.library.decode([i for i in ids if 0 <= i < self.vocab_size])

    def same(self, other):
        """Do both give the same ids? Files of one tokenizer differ, and OpenAI's has none."""
        text = "It's 12 o'clock:\n\tdéjà vu, 東京! <<48/2=24>> Every lorpus is a zumpus."
        if self.path and other.path and self.library.get_vocab() != other.library.get_vocab():
            return False
        return self.vocab_size == other.vocab_size and self.encode(text) == other.encode(text)

    def save(self, folder):
        """tokenizer.json, and what has transformers read it as it is rather than as its model's family has it.

        OpenAI's needs no file: a GPT-2 without one is taken to have it.
        """
        if self.path is None:
            return
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": self.library.id_to_token(self.eot)}
        with atomic_write(os.path.join(folder, "tokenizer.json")) as new:
            shutil.copyfile(self.path, new)
        with atomic_write(os.path.join(folder, "tokenizer_config.json")) as new, open(new, "w", encoding="utf-8") as f:
            json.dump(config, f, indent=2)


def name_tokens(folder, names, first):
    """Gives the ids from first on these names, in a folder's tokenizer.json: what transformers encodes them to"""
    path = os.path.join(folder, "tokenizer.json")
    with open(path, encoding="utf-8") as f:
        tokenizer = json.load(f)
    for i, name in enumerate(names, start=first):
        tokenizer["model"]["vocab"][name] = i  # there may be holes before it; where it was added alone it would fill them
        about = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        tokenizer["added_tokens"].append(dict(id=i, content=name, special=True) | about)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tokenizer, f, ensure_ascii=False)


def end_of_document(fast, path):
    """The id of <|endoftext|>, or else of the eos_token of tokenizer_config.json beside it. Raises ValueError without one."""
    eot, beside = fast.token_to_id("<|endoftext|>"), os.path.join(os.path.dirname(path), "tokenizer_config.json")
    if eot is None and os.path.isfile(beside):
        token = read_json(beside).get("eos_token")
        eot = fast.token_to_id(token["content"] if isinstance(token, dict) else token or "")
    if eot is None:
        raise ValueError(f"{path} has no <|endoftext|>, and no tokenizer_config.json that names its eos_token")
    return eot


def tokenizer_of(name):
    """The tokenizer of a hub name, or of a data folder, a run or a model's folder: its own tokenizer.json, or else GPT-2's.

    Raises FileNotFoundError if GPT-2's would be another than its own, ValueError for shards of another than the folder has.
    """
    if name.startswith("openai-community/gpt2"):
        return Tokenizer("gpt2")  # the same, and one download less
    if not os.path.isdir(name):
        own = hub_file(name, "tokenizer.json", repo_type="model")
        with contextlib.suppress(FileNotFoundError):
            hub_file(name, "tokenizer_config.json", repo_type="model")  # Tokenizer looks for it beside the other
        return Tokenizer(own)
    own, config, vocabulary = (os.path.join(name, f"{x}.json") for x in ("tokenizer", "config", "vocab"))
    if os.path.isfile(own):
        return check_ids(name, Tokenizer(own))
    family = read_json(config).get("model_type", "gpt2") if os.path.isfile(config) else "gpt2"
    if family != "gpt2" or os.path.isfile(vocabulary) and read_json(vocabulary).get("Ġthe") != 262:
        raise FileNotFoundError(f"{name} has no tokenizer.json, and its tokenizer is not GPT-2's: copy it there")
    return check_ids(name, Tokenizer("gpt2"))


def check_ids(folder, tokenizer):
    """-> the tokenizer. Raises ValueError where a shard of that folder holds the ids of another."""
    for path in shard_paths(folder):
        if open_shard(path)[1]["tokenizer"] != tokenizer.name:
            raise ValueError(f"{path} holds the ids of another tokenizer than {folder} has")
    return tokenizer


def hub_file(repo, filename, repo_type="dataset", revision=None):
    """A file of the hub -> its path in the local cache. Raises FileNotFoundError in the words of the hub's client."""
    import huggingface_hub

    try:
        return huggingface_hub.hf_hub_download(repo, filename, repo_type=repo_type, revision=revision)
    except Exception as e:  # it raises a dozen unrelated types
        raise FileNotFoundError(f"cannot get {filename} of {repo}: {' '.join(str(e).split())}") from None


# -----------------------------------------------------------------------------
# Files that appear whole, and processes that share a folder


@contextlib.contextmanager
def atomic_write(path):
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


def sync(path):
    """A file, or a folder's list of names, to the disk. Windows and some network disks cannot be asked for a folder's."""
    folder = os.path.isdir(path)
    with contextlib.suppress(OSError) if folder else contextlib.nullcontext():
        fd = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def lock_file(f, wait=False):
    """Lock an open file against other processes until it is closed -> True; False if another holds it; None if none can.

    The last is said once: NFS without its lock service, Lustre mounted without locks, a Python without fcntl.
    """
    try:
        return lock_descriptor(f.fileno(), blocking=wait)
    except OSError as e:
        note(f"{f.name} is on a disk that cannot lock files ({e.strerror}): see to it that no other process writes there")


@contextlib.contextmanager
def folder_lock(folder):
    """One process at a time: whoever comes second waits, and looks again at what there is. Not to be nested."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "ab") as f:
        locked = lock_file(f)
        if locked is False:
            print(f"waiting for another process to finish in {folder}", flush=True)
            locked = lock_file(f, wait=True)
        if locked:
            for name in os.listdir(folder):  # a killed process left it
                if re.search(r"\.[0-9a-f]{8}\.tmp$", name):
                    os.remove(os.path.join(folder, name))
        yield


# -----------------------------------------------------------------------------
# Shards


def shard_paths(folder, split="*"):
    return sorted(glob.glob(os.path.join(glob.escape(folder), f"{split}_*.bin")))


def write_shard(path, parts, tokenizer_name, vocab_size):
    """Token arrays -> one shard, under its final name only when it is whole on the disk. Returns the token count."""
    dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
    count, crc = 0, 0
    with atomic_write(path) as unfinished, open(unfinished, "wb") as f:
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


def open_shard(path):
    """-> (memmap of ids, header). Raises ValueError, naming the file, for a damaged header or a file of another length."""
    with open(path, "rb") as f:
        header = parse_json(f.read(HEADER_BYTES), path, like={"format": "", "count": 0, "crc32": 0, "header_crc32": 0})
    claimed = header.pop("header_crc32")
    if header["format"] != MAGIC or zlib.crc32(json.dumps(header).encode()) != claimed:
        raise ValueError(f"{path}: not a shard of this project, or its header is damaged")
    expected = HEADER_BYTES + header["count"] * np.dtype(header["dtype"]).itemsize
    if os.path.getsize(path) != expected:
        raise ValueError(f"{path}: cut short or overlong, {os.path.getsize(path):,} bytes where its header says {expected:,}")
    return np.memmap(path, dtype=header["dtype"], mode="r", offset=HEADER_BYTES, shape=(header["count"],)), header


def check_shard(path):
    """Read all of it. Raises ValueError if a single bit differs from what was written."""
    ids, header = open_shard(path)
    if zlib.crc32(ids) != header["crc32"]:
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
        paths = shard_paths(self.folder, self.split)
        if not paths:
            raise FileNotFoundError(f"no {self.split} shards in {self.folder}: data.py makes some")
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

    def __getitem__(self, n):
        """-> (seq_len,) int64"""
        epoch, w = divmod(n, self.count)
        if self.seed is not None:
            if epoch != self.epoch:
                self.epoch, self.order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.count)
            w = int(self.order[w])
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
# Corpora: generators of documents, each a pair (text, is it for validation?). Where a checksum of the text decides, a
# document falls on the same side whatever else is there, and so do its copies.


def python_sources(root):
    """All source below a folder but tests, line ends and all, in the encoding that Python would read it in."""
    skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
    for path in sorted(glob.glob("**/*.py", root_dir=root, recursive=True)):
        if skip & set(path.split(os.sep)):
            continue
        with open(os.path.join(root, path), "rb") as f:
            raw = f.read()
        try:
            text = raw.decode(tokenize.detect_encoding(io.BytesIO(raw).readline)[0])
        except (SyntaxError, UnicodeDecodeError) as e:  # nor could Python
            note(f"{f.name} is left out: {e}")
        else:
            yield text, zlib.crc32(text.encode()) % 20 == 0


def fineweb_edu(name):
    """FineWeb-Edu, sample/100BT: 140 parquet files of about 0.7B GPT-2 tokens each (Lozhkov et al. 2024, ODC-By)."""
    import pyarrow.parquet

    repo, revision = "HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"
    path = hub_file(repo, f"sample/100BT/{name}.parquet", revision=revision)
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["text"]):
        for text in filter(None, batch["text"].to_pylist()):
            yield text, zlib.crc32(text.encode()) % 1000 == 0


def own_text(paths):
    """Documents of text files, divided by <|endoftext|> if at all. The last twentieth of each file is for validation."""
    for path in paths:
        documents = read_text(path).split("<|endoftext|>")
        left = sum(map(len, documents)) * 19 // 20  # characters for training
        for document in documents:
            yield document[:left], False
            yield document[left:], True
            left = max(0, left - len(document))


def read_text(path):
    """A UTF-8 file, line ends and all, without its byte-order mark. Raises ValueError that names file and line."""
    with open(path, "rb") as f:
        raw = f.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = raw.count(b"\n", 0, e.start) + 1
        raise ValueError(f"{path}:{line}: not UTF-8 text ({e.reason} at byte {e.start})") from None


def train_tokenizer(texts, vocab_size, path, apart=None):
    """A small byte-level BPE, as tokenizer.json; it may end with fewer tokens, if the texts have no more to merge.

    apart: a regular expression of what stands apart from its neighbours; None: words and numbers do, as in GPT-2's.
    """
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as FastTokenizer

    fast = FastTokenizer(models.BPE())
    split = [pre_tokenizers.Split(Regex(apart), "isolated")] if apart else []
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not apart)
    fast.pre_tokenizer, fast.decoder = pre_tokenizers.Sequence([*split, in_bytes]), decoders.ByteLevel()
    settings = dict(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    fast.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=["<|endoftext|>"], **settings))
    with atomic_write(path) as new:
        fast.save(new)


def prepare(out, parts, tokenizer):
    """parts, {name: documents} -> out/train_<name>.bin and val_<name>.bin. Those that are there are not made again."""
    check_ids(out, tokenizer)
    tokenizer.save(out)
    if tokenizer_of(out).name != tokenizer.name:  # another's file is there, and GPT-2's has none that would replace it
        raise ValueError(f"{out} has another tokenizer: use another --out")
    for name, documents in parts.items():
        train, val = (os.path.join(out, f"{split}_{name}.bin") for split in ("train", "val"))
        if os.path.exists(train) and os.path.exists(val):
            print(f"{train} is there already")
            continue
        held_out = []  # a twentieth of a part at most, so it fits in memory
        n = write_shard(train, tokenized(documents, tokenizer, held_out), tokenizer.name, tokenizer.vocab_size)
        m = write_shard(val, held_out, tokenizer.name, tokenizer.vocab_size)
        print(f"{train}: {n:,} tokens; {val}: {m:,}")


def tokenized(documents, tokenizer, held_out):
    """-> the ids of each document for training, and the token that ends it. Those for validation go to held_out."""
    documents = iter(tqdm((d for d in documents if d[0]), desc="tokenising", unit=" documents", mininterval=1))
    while batch := list(itertools.islice(documents, 256)):
        ids = tokenizer.encode_batch([text for text, _ in batch])
        for document, (_, for_val) in zip(ids, batch, strict=True):
            if for_val:
                held_out += [np.array(document, np.uint32), [tokenizer.eot]]
            else:
                yield document
                yield [tokenizer.eot]


def main(argv=None):
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sample = commands.add_parser("sample", help="tokenise the Python standard library's source")
    sample.add_argument("--vocab_size", type=int, help="train a BPE of so many tokens on it (default: that of results/bases)")
    sample.add_argument("--packages", action="store_true", help="read all installed packages, too, into data/packages")
    fineweb = commands.add_parser("fineweb_edu", help="download and tokenise FineWeb-Edu 100BT")
    fineweb.add_argument("--tokenizer", choices=["gpt2", "qwen3"], default="gpt2")
    fineweb.add_argument(
        "--shards", type=int, choices=range(1, 141), default=1, metavar="N",
        help="how many of its 140 files (default 1; 40B tokens want 58)",
    )  # fmt: skip
    text = commands.add_parser("text", help="tokenise UTF-8 files of your own; the last twentieth of each is for validation")
    text.add_argument("files", nargs="+", help="a document each, or several that <|endoftext|> divides")
    text.add_argument("--tokenizer", default="gpt2", help="gpt2, qwen3, or the path of a tokenizer.json (default gpt2)")
    for p in (sample, fineweb, text):
        p.add_argument("--out", help="the folder to write (default data/<corpus>)")
    check = commands.add_parser("check", help="verify every checksum of a folder of shards")
    check.add_argument("folder")
    a = parser.parse_args(argv)
    if a.command == "check":
        paths = shard_paths(a.folder)
        if not paths:
            raise FileNotFoundError(f"no shards in {a.folder}")
        for path in tqdm(paths, desc="checking"):
            check_shard(path)
        print(f"{len(paths)} shards are sound")
        return
    corpus = f"fineweb_edu_{a.tokenizer}" if a.command == "fineweb_edu" else a.command
    out = a.out or os.path.join("data", "packages" if corpus == "sample" and a.packages else corpus)
    with folder_lock(out):
        if a.command == "sample":
            roots = [sysconfig.get_path("stdlib")] + [sysconfig.get_path("purelib")] * a.packages
            parts = {"000": itertools.chain.from_iterable(map(python_sources, roots))}
            path = os.path.join(out, "tokenizer.json")
            if a.vocab_size and not os.path.isfile(path):
                train_tokenizer((text for text, _ in python_sources(roots[0])), a.vocab_size, path)
            tokenizer = Tokenizer(path if os.path.isfile(path) else KEPT_TOKENIZER)
            if a.vocab_size not in (None, tokenizer.vocab_size):
                raise ValueError(f"{path} has {tokenizer.vocab_size} tokens, not {a.vocab_size}: use another --out")
        elif a.command == "fineweb_edu":
            names = [f"{i:03d}_{j:05d}" for i in range(14) for j in range(10)]
            parts, tokenizer = {name: fineweb_edu(name) for name in names[: a.shards]}, Tokenizer(a.tokenizer)
        else:
            if os.path.exists(os.path.join(out, "val_000.bin")):
                raise ValueError(f"{out} holds a corpus already: use another --out")
            parts, tokenizer = {"000": own_text(a.files)}, Tokenizer(a.tokenizer)
        prepare(out, parts, tokenizer)


if __name__ == "__main__":
    one_line_errors(main)
