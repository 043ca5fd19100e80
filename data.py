"""Where tokens come from: tokenizers, corpora, shards, and the rows that a run reads.

    python data.py sample                                     # the Python standard library's own source: no download
    python data.py fineweb_edu --tokenizer gpt2 --shards 2    # FineWeb-Edu 100BT from the hub, 0.7B tokens a shard
    python data.py check data/sample                          # every checksum, in full

A corpus becomes a folder of shards, train_*.bin and val_*.bin. A shard is a header of 512 bytes, one JSON object that
`head -c 512` shows, then token ids as uint16 (uint32 where the vocabulary asks for it), documents divided by an
end-of-text token. A finished shard has its final name and is never made again, so an interrupted command goes on
where it was.
"""

import glob
import json
import multiprocessing
import os
import shutil
import sysconfig
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tqdm import tqdm

from configurator import Parser, one_line_errors

HEADER_BYTES = 512
MAGIC = "nanolatent tokens 1"


# -----------------------------------------------------------------------------
# Tokenizers


class Tokenizer:
    """name; path of its file, None for gpt2; vocab_size; eot, the id that ends a document; encode(text) -> ids; decode(ids)."""

    def __init__(self, name):
        """name: gpt2, qwen3, or a tokenizer.json (of `tokenizers`) that has <|endoftext|>. Raises OSError without it."""
        self.name, self.path = name, None
        if name == "gpt2":
            import tiktoken

            try:
                encoding = tiktoken.get_encoding("gpt2")
            except Exception as e:  # a network error of whichever client tiktoken uses
                raise OSError(
                    f"cannot get GPT-2's tokenizer ({type(e).__name__}). With a network, run it once and copy the folder "
                    "that TIKTOKEN_CACHE_DIR names."
                ) from None
            self.encode, self.decode = encoding.encode_ordinary, encoding.decode
            self.eot, self.vocab_size = encoding.eot_token, encoding.n_vocab
        else:
            from tokenizers import Tokenizer as FastTokenizer

            if name == "qwen3":
                name = hub_file("Qwen/Qwen3-0.6B", "tokenizer.json", repo_type="model")
            if not os.path.isfile(name):
                raise FileNotFoundError(f"no tokenizer {name}: gpt2, qwen3, or the path of a tokenizer.json")
            self.path, fast = name, FastTokenizer.from_file(name)
            with open(name, "rb") as f:
                self.name = f"tokenizer.json {zlib.crc32(f.read()):08x}"
            self.encode = lambda text: fast.encode(text, add_special_tokens=False).ids
            self.decode = fast.decode
            self.eot, self.vocab_size = fast.token_to_id("<|endoftext|>"), fast.get_vocab_size()
            if self.eot is None:
                raise ValueError(f"{name} has no token <|endoftext|>, which ends a document")


def tokenizer_of(folder):
    """The tokenizer of a data or run folder: its own tokenizer.json, or else GPT-2's."""
    own = os.path.join(folder, "tokenizer.json")
    return Tokenizer(own if os.path.isfile(own) else "gpt2")


def hub_file(repo, filename, repo_type="dataset", revision=None):
    """A file of the hub -> its path in the local cache; the hub's client retries what may pass, waiting longer each time.

    Raises FileNotFoundError in one line that says what was missing.
    """
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(repo, filename, repo_type=repo_type, revision=revision)
    except Exception as e:  # the hub's client raises a dozen unrelated types
        raise FileNotFoundError(
            f"cannot get {filename} of {repo} from the hub ({type(e).__name__}). With a network, run this again; without one, "
            f"copy a cache that has it (`hf download {repo} {filename}`) and point HF_HUB_CACHE at it"
        ) from None


# -----------------------------------------------------------------------------
# Shards


def write_shard(path, parts, tokenizer_name, vocab_size):
    """Token arrays -> one shard, under its final name only when it is whole on the disk. Returns the token count."""
    dtype = np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)
    count, crc, unfinished = 0, 0, path + ".tmp"
    try:
        with open(unfinished, "wb") as f:
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
            f.flush()
            os.fsync(f.fileno())
        os.replace(unfinished, path)
    except BaseException as e:
        if os.path.exists(unfinished):
            os.remove(unfinished)
        if isinstance(e, OSError):
            raise OSError(f"{path} is not written: {e}") from None
        raise
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
            _, _, tokenizer = os.path.basename(os.path.normpath(self.folder)).partition("_edu_")
            command = f"fineweb_edu --tokenizer {tokenizer}" if tokenizer else "sample"
            raise FileNotFoundError(
                f"no {self.split} shards in {self.folder}: `python data.py {command}` makes them (--help: more), "
                "prosqa.py --statements and countdown.py --sums make others"
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
    """parts: name -> list of work items; texts(item) -> documents; one document in `val_every` is for validation."""

    def tokenize(self, item):
        """One work item, in a worker process -> (train ids, val ids)."""
        split = [], []
        for text in self.texts(item):
            # by content, so that a document falls on the same side whatever else is there, and so do its copies
            split[zlib.crc32(text.encode(errors="replace")) % self.val_every == 0].append(self.encode(text))
        return tuple(np.concatenate([np.zeros(0, np.uint32), *s]) for s in split)

    def encode(self, text):
        return np.array([*self.tokenizer.encode(text), self.tokenizer.eot], dtype=np.uint32)

    @cached_property
    def tokenizer(self):
        return Tokenizer(self.tokenizer_name)

    def __getstate__(self):  # for a worker, which makes its own tokenizer and is handed its items
        return {"tokenizer_name": self.tokenizer_name}


def start_worker(corpus):
    global worker_corpus
    worker_corpus = corpus


def work(item):
    return worker_corpus.tokenize(item)


class Sample(Corpus):
    """The Python standard library's source: about 10 MB of real text that every machine has."""

    val_every = 20

    def __init__(self, out, vocab_size):
        root = sysconfig.get_paths()["stdlib"]
        files = sorted(glob.glob("**/*.py", root_dir=root, recursive=True))
        skip = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
        self.files = [os.path.join(root, f) for f in files if not skip & set(f.split(os.sep))]
        self.parts = {"000": [self.files[i : i + 16] for i in range(0, len(self.files), 16)]}
        self.tokenizer_name = os.path.join(out, "tokenizer.json")
        if not os.path.isfile(self.tokenizer_name):
            train_tokenizer(self.texts(self.files), vocab_size, self.tokenizer_name)
        if self.tokenizer.vocab_size != vocab_size:
            raise ValueError(
                f"{self.tokenizer_name} has {self.tokenizer.vocab_size} tokens, not {vocab_size}: use another --out"
            )

    def texts(self, files):
        for path in files:
            with open(path, encoding="utf-8", errors="replace") as f:
                yield f.read()


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
    fast.save(path + ".tmp")
    os.replace(path + ".tmp", path)


class FineWebEdu(Corpus):
    """FineWeb-Edu, sample/100BT: 140 parquet files of about 0.7B GPT-2 tokens each (Lozhkov et al. 2024, ODC-By)."""

    val_every = 1000
    repo, revision = "HuggingFaceFW/fineweb-edu", "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9"

    def __init__(self, out, tokenizer_name, shards):
        self.tokenizer_name = tokenizer_name
        if tokenizer_name == "qwen3":  # kept beside its tokens, for whoever reads them
            self.tokenizer_name = os.path.join(out, "tokenizer.json")
            shutil.copyfile(hub_file("Qwen/Qwen3-0.6B", "tokenizer.json", repo_type="model"), self.tokenizer_name)
        names = [f"{i:03d}_{j:05d}" for i in range(14) for j in range(10)]
        if not 1 <= shards <= len(names):
            raise ValueError(f"--shards must be 1 to {len(names)}, not {shards}")
        self.parts = {name: self.row_groups(name) for name in names[:shards]}

    def row_groups(self, name):
        """Work items of one parquet file, which is fetched when the first is asked for."""
        import pyarrow.parquet as parquet

        path = hub_file(self.repo, f"sample/100BT/{name}.parquet", revision=self.revision)
        file = parquet.ParquetFile(path)
        if "text" not in file.schema_arrow.names:
            raise ValueError(f"{path}: no column named text")
        yield from ((path, i) for i in range(file.num_row_groups))

    def texts(self, item):
        import pyarrow.parquet as parquet

        path, group = item
        return parquet.ParquetFile(path).read_row_group(group, columns=["text"])["text"].to_pylist()


def prepare(corpus, out, workers):
    """Tokenise a corpus with all cores into out/: a train and a val shard per part. Finished parts are skipped."""
    with multiprocessing.get_context("spawn").Pool(workers, start_worker, (corpus,)) as pool:
        for name, items in corpus.parts.items():
            train, val = (os.path.join(out, f"{split}_{name}.bin") for split in ("train", "val"))
            if os.path.exists(train) and os.path.exists(val):
                read_header(train), read_header(val)
                print(f"{train} is there already")
                continue
            items = list(items)
            held_out = []  # a thousandth of a part fits in memory

            def train_parts(items=items, held_out=held_out, name=name):
                for a, b in tqdm(pool.imap(work, items), total=len(items), desc=f"tokenising {name}", mininterval=1):
                    held_out.append(b)
                    yield a

            about = corpus.tokenizer.name, corpus.tokenizer.vocab_size
            n = write_shard(train, train_parts(), *about)
            m = write_shard(val, held_out, *about)
            print(f"{train}: {n:,} tokens; {val}: {m:,}")


def main():
    parser = Parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sample = commands.add_parser("sample", help="tokenise the Python standard library's source")
    sample.add_argument("--vocab_size", type=int, default=512, help="of the BPE that is trained on it (default 512)")
    fineweb = commands.add_parser("fineweb_edu", help="download and tokenise FineWeb-Edu 100BT")
    fineweb.add_argument("--tokenizer", choices=["gpt2", "qwen3"], default="gpt2")
    fineweb.add_argument("--shards", type=int, default=1, help="how many of its 140 files (default 1; 40B tokens want 58)")
    for p in (sample, fineweb):
        p.add_argument("--out", help="the folder to write (default data/<corpus>)")
        p.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)")
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
    out = a.out or os.path.join("data", "sample" if a.command == "sample" else f"fineweb_edu_{a.tokenizer}")
    os.makedirs(out, exist_ok=True)
    corpus = Sample(out, a.vocab_size) if a.command == "sample" else FineWebEdu(out, a.tokenizer, a.shards)
    prepare(corpus, out, a.workers)


if __name__ == "__main__":
    one_line_errors(main)
