"""Questions: where they come from, how a model is trained on them and asked, and who decides whether an answer is right.

gsm8k          openai/gsm8k on the hub; steps are its <<48/2=24>> annotations, validation its last 500 training rows
gsm8k_aug      385,620 generated training questions (Deng et al. 2023): whynlp/gsm8k-aug on the hub
prosqa         17,886 graphs (Hao et al. 2024), downloaded once to data/prosqa
any folder     with prosqa_{train,valid,test}.json, which prosqa.py makes, too, or with {train,valid,test}.txt, whose
               lines read: question||<<48/2=24>> <<24+48=72>> #### 72
any file       to be asked only: such lines, or .json, .jsonl, .parquet with question and answer (ALIASES: other names)

What finetune_reasoning.py and countdown.py share stands here: a question is a prefix, one branch hangs at its end, and the
branch is trained on the text that should follow. Countdown's problems come from countdown.py; its verifier is here, beside
the comparison that decides for the other tasks, so that whoever asks a run can tell right from wrong.
"""

import contextlib
import http.client
import json
import math
import os
import re
import time
import urllib.request
import zlib
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch

import coprocessor
import runtime
from data import alone_in, hub_file, tokenizer_of, whole

# -----------------------------------------------------------------------------
# Rows

SPLITS = ("train", "valid", "test")
GSM8K = "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866"
GSM8K_AUG, GSM8K_AUG_ROWS = ("whynlp/gsm8k-aug", "refs/convert/parquet"), (385620, 500, 1319)
PROSQA = "https://raw.githubusercontent.com/facebookresearch/coconut/main/data/prosqa_{}.json"
PROSQA_ROWS = 17886, 300, 500


class Example(NamedTuple):
    question: str
    steps: list  # of texts
    answer: str
    where: str  # file and line


# What other files call a question and its answer: SVAMP, GSM-Hard, MultiArith
ALIASES = {"question_concat": "question", "input": "question", "Answer": "answer", "target": "answer", "final_ans": "answer"}


def parse(row, where, asked_only=False):
    """A line of text, or a dict in one of the known formats -> Example. Raises ValueError that says what is wrong.

    asked_only: the answer may also stand alone, as a text or a number, without any steps.
    """
    if isinstance(row, str):
        before = row.rpartition("####")[0] or row
        question, bars, _ = before.rpartition("||")  # the last bars before the answer: a question may hold some, too
        if not bars:
            raise ValueError("no || after the question")
        row = {"question": question, "answer": row[len(question) + len(bars) :]}
    if not isinstance(row, dict):
        raise ValueError("not a row with question and answer")
    if asked_only:
        if {"Body", "Question"} <= row.keys():  # SVAMP's own files tell and ask apart
            row = row | {"question": f"{row['Body']} {row['Question']}"}
        row = {ALIASES.get(key, key): value for key, value in row.items()}
        if isinstance(row.get("answer"), (int, float)) and not isinstance(row["answer"], bool):
            row["answer"] = str(row["answer"])
    if not isinstance(row.get("question"), str) or not isinstance(row.get("answer"), str):
        raise ValueError("not a row with question and answer")
    question, steps, answer = row["question"].strip(), row.get("steps", row.get("cot")), row["answer"]
    if steps is None and asked_only and "####" not in answer:
        steps = []
    if steps is None:  # steps and answer in one text
        steps, mark, answer = answer.rpartition("####")
        if not mark or "####" in steps:
            raise ValueError(f"{'more than one' if mark else 'no'} #### before the answer")
    if isinstance(steps, str):
        text, steps = steps, re.findall(r"<<[^<>]*>>", steps)
        if text.count("<<") != len(steps) or text.count(">>") != len(steps):
            raise ValueError("a step without << or >>")
    if not isinstance(steps, list) or not all(isinstance(s, str) and s.strip() for s in steps):
        raise ValueError("its steps are not a list of texts")
    answer = answer.replace(",", "").strip()
    if not question or not answer:
        raise ValueError(f"an empty {'answer' if question else 'question'}")
    if "#" in answer:
        raise ValueError(f"the answer {answer!r} has a # in it, and is read from behind the last # of what a model writes")
    return Example(question, steps, answer, where)


def download(url, path, count):
    """A JSON list of `count` items -> path, which appears only when it is whole. Raises OSError or ValueError."""
    with alone_in(os.path.dirname(path)):
        if os.path.isfile(path):
            return
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                body = response.read()
        except (OSError, http.client.HTTPException) as e:
            raise OSError(f"cannot get {url} ({e}); copy it to {path}, or generate such questions with prosqa.py") from None
        found = len(from_json(body, url))
        if found != count:
            raise ValueError(f"{url} has {found:,} rows, not {count:,}: it has changed, or was cut short")
        with whole(path) as unfinished, open(unfinished, "wb") as f:
            f.write(body)


def numbered(path):
    """A file -> [("path:number", row)] of all its rows. Raises OSError, or ValueError that names the file and the row."""
    if path.endswith(".parquet"):
        import pyarrow.parquet as parquet

        try:
            rows = parquet.read_table(path).to_pylist()
        except ValueError as e:  # pyarrow's own errors are ValueErrors
            raise ValueError(f"{path}: damaged, or not a parquet file ({e})") from None
        return [(f"{path}:{n}", row) for n, row in enumerate(rows, start=1)]
    with open(path, "rb") as f:
        raw = f.read()
    try:
        text = raw.decode("utf-8-sig")  # a byte-order mark is not part of the first question
    except UnicodeDecodeError as e:
        number = raw.count(b"\n", 0, e.start) + 1
        raise ValueError(f"{path}:{number}: not UTF-8 text ({e.reason} at byte {e.start})") from None
    if path.endswith(".json"):
        rows = from_json(text, path)
        if not isinstance(rows, list):
            raise ValueError(f"{path}: not a list of questions")
    else:
        # a line ends at a line feed and nowhere else: questions hold form feeds, U+2028 and others that splitlines() cuts at
        rows = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    rows = [(f"{path}:{n}", row) for n, row in enumerate(rows, start=1)]
    return [(where, from_json(row, where)) for where, row in rows] if path.endswith(".jsonl") else rows


def from_json(text, where):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{where}: not JSON ({e})") from None


def rows_of(source, split):
    """-> [(where, row)] of one split. Raises OSError where it cannot be got."""
    index = SPLITS.index(split)
    if source == "gsm8k":
        rows = numbered(
            hub_file(GSM8K[0], f"main/{'test' if split == 'test' else 'train'}-00000-of-00001.parquet", revision=GSM8K[1])
        )
        return {"train": rows[:-500], "valid": rows[-500:], "test": rows}[split]
    if source == "gsm8k_aug":
        name = ("train", "validation", "test")[index]
        rows = numbered(hub_file(GSM8K_AUG[0], f"default/{name}/0000.parquet", revision=GSM8K_AUG[1]))
        if len(rows) != GSM8K_AUG_ROWS[index]:
            raise ValueError(f"{GSM8K_AUG[0]}, {name}: {len(rows):,} rows, not {GSM8K_AUG_ROWS[index]:,}")
        return rows
    if source == "prosqa":
        path = os.path.join("data", "prosqa", f"prosqa_{split}.json")
        if not os.path.isfile(path):
            download(PROSQA.format(split), path, PROSQA_ROWS[index])
        return numbered(path)
    for name in (f"prosqa_{split}.json", f"{split}.txt"):
        path = os.path.join(source, name)
        if os.path.isfile(path):
            return numbered(path)
    made = f": `python prosqa.py {source} --help` says how to make it" if source.startswith("data/prosqa") else ""
    raise FileNotFoundError(
        f"{source} is none of gsm8k, gsm8k_aug, prosqa, and no folder with prosqa_{split}.json or {split}.txt{made}"
    )


def read(source, split, limit=0, skip_bad=False, make=lambda example: example):
    """-> (list of make(Example), list of 'file:line: reason' for the rows left out).

    limit: the first so many rows, 0 for all. make raises ValueError to refuse one. Raises ValueError for
    the first bad row unless skip_bad, OSError where there is no data. A source that is a file has no splits: it can only
    be asked.
    """
    examples, bad, asked_only = [], [], os.path.isfile(source)
    for where, row in (numbered(source) if asked_only else rows_of(source, split))[: limit or None]:
        try:
            examples.append(make(parse(row, where, asked_only)))
        except ValueError as e:
            if not skip_bad:
                raise ValueError(f"{where}: {e} (--skip_bad leaves such rows out)") from None
            bad.append(f"{where}: {e}")
    if not examples:
        raise ValueError(f"{source} has no usable {split} questions")
    return examples, bad


# -----------------------------------------------------------------------------
# Right or wrong? GSM8K and ProsQA compare the answer; Countdown's equation is verified, whichever it is


def extract(text):
    """The answer in a text: what stands after its last #."""
    return text.split("#")[-1].replace(",", "").strip()


def same(answer, gold):
    """Is it the same answer? 18, 18.0 and 18.00 are; texts are where they are equal."""
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", answer) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", gold):
        return Fraction(answer) == Fraction(gold)
    return answer == gold


def grade_answers(items, texts):
    """-> a line of predictions.jsonl for each"""
    out = []
    for n, (item, text) in enumerate(zip(items, texts, strict=True)):
        example, said = item.example, extract(text)
        record = dict(item=n, where=example.where, question=example.question, steps=example.steps)
        record |= dict(gold=example.answer, answer=said)
        out.append(record | dict(correct=same(said, example.answer), text=text))
    return out


def prompt(numbers, target):
    """As in the paper's example; the latents follow it."""
    return (
        f"User: Using the numbers [{', '.join(map(str, numbers))}], create an equation that equals {target}.\n"
        "Assistant: Let me solve this step by step.\n"
    )


def answer(solution):
    return f"<answer> {solution} </answer>"


REASONS = ("correct", "no answer", "bad syntax", "wrong numbers", "wrong value", "division by zero")
BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "×": 2, "÷": 2}


def postfix(tokens):
    """Numbers, operators and parentheses, as strings -> the numbers and operators in postfix order, None for bad syntax.

    expression = term {("+" | "-") term};  term = factor {("*" | "/") factor};  factor = number | "(" expression ")"
    """
    out, waiting, operand_next = [], [], True
    for token in tokens:
        if operand_next != (token == "(" or token.isdigit()):
            return None
        if token.isdigit():
            out.append(token)
            operand_next = False
        elif token == "(":
            waiting.append(token)
        else:  # an operator or a closing parenthesis ends what binds as tightly
            while waiting and waiting[-1] != "(" and BINDS[waiting[-1]] >= BINDS.get(token, 0):
                out.append(waiting.pop())
            if token in BINDS:
                waiting.append(token)
                operand_next = True
            elif not waiting:
                return None
            else:
                waiting.pop()
    if operand_next or "(" in waiting:
        return None
    return out + waiting[::-1]


def work_out(x, operator, y):
    return x + y if operator == "+" else x - y if operator == "-" else x * y if operator in "*×" else Fraction(x, y)


def operations(solution):
    """The steps of a solution in the order in which they are worked out: "(36 + 55) / 7" -> 36 + 55 = 91, 91 / 7 = 13"""
    values, steps = [], []
    for token in postfix(re.findall(r"[0-9]+|[-+*/()]", solution)):
        if token.isdigit():
            values.append(int(token))
            continue
        y, x = values.pop(), values.pop()
        values.append(work_out(x, token, y))
        steps.append(f"{x} {token} {y} = {values[-1]}")
    return steps


def verify(text, numbers, target):
    """A completion that should hold one <answer>...</answer> and end with it -> (is it right?, one of REASONS).

    The expression must use every one of the numbers exactly once and be worth the target, as an exact rational. Never
    evaluates code, never raises for any text; time is linear in the text's length.
    """
    tags = text.count("<answer>"), text.count("</answer>")
    if not all(tags):
        return False, "no answer"
    inner, closed, rest = text.partition("<answer>")[2].partition("</answer>")
    if tags != (1, 1) or not closed or rest.strip() or not re.fullmatch(r"[-+*/×÷() \t\n0-9]+", inner):
        return False, "bad syntax"
    tokens = re.findall(r"[0-9]+|[^ \t\n]", inner)
    steps = postfix(tokens)
    # no more than a pair of parentheses around every number and every operation
    if steps is None or tokens.count("(") > len(steps) or any(t[0] == "0" != t for t in tokens):
        return False, "bad syntax"
    if sorted(t for t in steps if t.isdigit()) != sorted(map(str, numbers)):
        return False, "wrong numbers"
    values = []
    for step in steps:
        if step.isdigit():
            values.append(Fraction(int(step)))
            continue
        y, x = values.pop(), values.pop()
        if step in "/÷" and y == 0:
            return False, "division by zero"
        values.append(work_out(x, step, y))
    return (True, "correct") if values[0] == target else (False, "wrong value")


def grade_equations(problems, texts):
    """-> a line of predictions.jsonl for each"""
    out = []
    for n, (problem, text) in enumerate(zip(problems, texts, strict=True)):
        ok, reason = verify(text, problem["numbers"], problem["target"])
        out.append(dict(item=n, **problem, text=text, correct=ok, reason=reason))
    return out


def wilson(right, count, z=1.96):
    """The 95 % interval of a share: Wilson's, which also holds near 0 and 1 -> (low, high)"""
    share = right / count
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


# -----------------------------------------------------------------------------
# Training


class Written(NamedTuple):
    """A question and what is to be written after it, in ids. steps: those of its solution, whether they are written or not."""

    question: list
    text: list
    steps: list
    answer_at: int  # where in the text the answer begins


class Item:
    """An Example in tokens."""

    def __init__(self, example, tokenizer, ends_with=()):
        """ends_with: ids that the variant wants behind a question (Variant.ends_prompts_with)"""
        self.example = example
        self.question = [*tokenizer.encode(example.question + "\n"), *ends_with]
        self.steps = [tokenizer.encode(step + "\n") for step in example.steps]
        self.answer = [*tokenizer.encode("### " + example.answer), tokenizer.eot]

    def written(self, c, stage):
        """-> Written, as the item is trained on at that stage"""
        text = self.text(c, stage)
        return Written(self.question, text, self.steps, len(text) - len(self.answer))

    def text(self, c, stage):
        """What is to be written at that stage: the steps that no latent stands for, and the answer -> ids"""
        steps = self.steps[stage:] if stage <= c.stages else []
        return [token for step in steps for token in step] + self.answer


def pad(rows, device):
    """Lists of ids -> (B, longest) int64 padded on the right with 0, lengths (B)"""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return runtime.send(padded, device), runtime.send(lengths, device)


def pad_steps(items, device):
    """The steps of each -> (B, most steps, longest step) padded with -1; None where there are none"""
    n, longest = max(len(item.steps) for item in items), max((len(step) for item in items for step in item.steps), default=0)
    padded = torch.full((len(items), n, longest), -1, dtype=torch.int64)
    for i, item in enumerate(items):
        for j, step in enumerate(item.steps):
            padded[i, j, : len(step)] = torch.tensor(step)
    return runtime.send(padded, device) if padded.numel() else None


def text_nll(model, items, device):
    """Written items -> the summed loss of all texts' tokens, a scalar. Padding adds exactly nothing."""
    tokens, lengths = pad([item.question for item in items], device)  # (B, S), (B)
    text, text_lengths = pad([item.text for item in items], device)  # (B, N), (B)
    # pass 1 reads the questions, pass 2 starts one branch at the end of each, pass 3 writes
    nll = model(tokens, lengths[:, None] - 1, text[:, None], pad_steps(items, device))  # (B, 1, N)
    labelled = torch.arange(text.size(1), device=device) < text_lengths[:, None]  # (B, N)
    return nll[:, 0].masked_fill(~labelled, 0).sum()


def check_batch(c, machine):
    """Raises ValueError if micro-batches over all ranks do not add up to the batch."""
    if c.batch_size % (c.micro_batch * machine.world):
        raise ValueError(
            f"batch_size={c.batch_size} is not a multiple of micro_batch x ranks = {c.micro_batch} x {machine.world}"
        )


def train_step(run, items, optimizer, parameters, c, machine):
    """One optimizer step on the global batch, Written items -> (this rank's part of the loss, gradient norm)

    The loss is the mean over all tokens of the texts, whoever computes them.
    """
    items = sorted(items, key=lambda item: len(item.question))  # neighbours share a micro-batch: less padding
    labels = sum(len(item.text) for item in items)
    loss = torch.zeros((), device=machine.device)
    starts = range(machine.rank * c.micro_batch, len(items), machine.world * c.micro_batch)
    for start in starts:
        with contextlib.nullcontext() if start == starts[-1] or machine.world == 1 else run.no_sync():
            with machine.autocast():
                nll = text_nll(run, items[start : start + c.micro_batch], machine.device)
            micro_loss = nll / labels
            (micro_loss * machine.world).backward()  # DDP averages gradients, the objective is a sum over ranks
        loss += micro_loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(parameters, c.clip or math.inf)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, norm


def adamw(model, c, device):
    """-> (optimizer, names of its parameters, the parameters): those that the variant trains. Soft tokens are not decayed."""
    named = sorted(((n, p) for n, p in model.named_parameters() if p.requires_grad), key=lambda pair: pair[0] == "soft")
    names, parameters = zip(*named, strict=True)
    decayed = [p for n, p in named if n != "soft"]
    groups = [{"params": decayed}, {"params": parameters[len(decayed) :], "weight_decay": 0.0}]
    settings = dict(lr=c.lr, betas=(c.beta1, c.beta2), weight_decay=c.weight_decay, fused=device.type == "cuda")
    return torch.optim.AdamW(groups, **settings), names, parameters


def crc32(rows):
    """Of lists of ids, to tell data from other data."""
    crc = 0
    for ids in rows:
        crc = zlib.crc32(np.array(ids, dtype=np.uint32).tobytes(), crc)
    return crc


def order(seed, epoch, count):
    return np.random.default_rng((seed, epoch)).permutation(count)


# -----------------------------------------------------------------------------
# Asking


class Answers:
    """Asks a model a set of questions, lists of ids: greedy, batched, cached."""

    def __init__(self, questions, model, tokenizer, c, machine):
        self.questions, self.tokenizer, self.c, self.machine = questions, tokenizer, c, machine
        longest = max(map(len, questions))
        # the same for all, so that an answer does not depend on whom it is batched with
        self.n_tokens = min(c.max_new_tokens, model.base.config.context - longest - model.branch_offset() + 1)

    def decode(self, ids):
        ids = ids[: ids.index(self.tokenizer.eot)] if self.tokenizer.eot in ids else ids
        return self.tokenizer.decode([i for i in ids if i < self.tokenizer.vocab_size])

    @torch.no_grad()
    def ids(self, model, questions, n_tokens):
        tokens, lengths = pad(questions, self.machine.device)
        with self.machine.autocast():
            return model.generate(tokens, lengths, n_tokens, eos=self.tokenizer.eot).tolist()

    def texts(self, model):
        """-> what it answers to each, in order, on every rank"""
        by_length = sorted(range(len(self.questions)), key=lambda n: len(self.questions[n]))
        mine, out = by_length[self.machine.rank :: self.machine.world], []
        for i in range(0, len(mine), self.c.micro_batch):
            chunk = mine[i : i + self.c.micro_batch]
            answers = self.ids(model, [self.questions[n] for n in chunk], self.n_tokens)
            out += [(n, self.decode(ids)) for n, ids in zip(chunk, answers, strict=True)]
        return [text for _, text in sorted(self.machine.gather(out))]

    def cost(self, model, begins, count=16):
        """One question at a time: passes and seconds until the answer proper, which begins says of a text, and per answer.

        -> dict of means
        """
        rows = []
        for question in self.questions[:count]:
            (ids,) = self.ids(model, [question], self.n_tokens)  # also warms up
            before = next((n for n in range(len(ids)) if begins(self.decode(ids[: n + 1]))), len(ids) - 1)
            row = []
            for n_tokens in (before + 1, self.n_tokens):
                with counted_passes(model) as passes:
                    began = time.perf_counter()
                    self.ids(model, [question], n_tokens)  # ends with .tolist(), which waits for the device
                    row += [passes[0], time.perf_counter() - began]
            rows.append(row)
        names = ("passes_to_answer", "seconds_to_answer", "passes_per_answer", "seconds_per_answer")
        return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def asked_before(run):
    """The questions that a run was tested on, from its own predictions.jsonl

    -> [(text, a function: is this answer right?, the texts of its steps)]
    """
    path = os.path.join(run, "predictions.jsonl")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{run} has not been asked its test questions yet: it has no predictions.jsonl")
    lines = runtime.read_lines(path, like={"text": "", "correct": False})
    if not lines:
        raise ValueError(f"{path} is empty")
    if "numbers" in lines[0]:
        problems = [(p["numbers"], p["target"], operations(p["solution"])) for p in lines]
        return [(prompt(*p[:2]), lambda text, p=p: verify(text, *p[:2])[0], p[2]) for p in problems]
    return [(p["question"] + "\n", lambda text, p=p: same(extract(text), p["gold"]), p.get("steps", [])) for p in lines]


@contextlib.contextmanager
def counted_passes(model):
    """Counts how often Base and Coprocessor run, whatever calls them -> a list of one number."""
    count = [0]

    def hook(module, args, output):
        count[0] += 1

    models = [model.base] + ([model.coprocessor] if model.has_coprocessor else [])
    hooks = [m.blocks[0].norm_1.register_forward_hook(hook) for m in models]  # once a pass
    try:
        yield count
    finally:
        for h in hooks:
            h.remove()


# -----------------------------------------------------------------------------
# Where a run starts


def load_start(c, tokenizer, n_latents, latents_per_step):
    """init_from -> (Variant, what it starts from in words, that Base's checksum): a run of the same variant is taken whole, of
    anything else the Base.
    """
    for run in (c.init_from, os.path.normpath(f"{c.init_from}/../..")):  # out/x/best/base is of a run, too
        own = run == c.init_from and os.path.isfile(os.path.join(run, "tokenizer.json"))
        if (own or runtime.is_run(run)) and not tokenizer_of(run).same(tokenizer):
            raise ValueError(f"{run} has read another tokenizer's ids than those of {c.tokenizer}")
    if runtime.is_run(c.init_from):
        before = runtime.read_json(os.path.join(c.init_from, "config.json"), like={"variant": "", "n_latents": 0})
        if before["variant"] == c.variant and before["n_latents"]:
            model, _ = coprocessor.load_run(c.init_from)
            coprocessor.check_vocabulary(model.base, c.init_from, tokenizer.vocab_size)
            for name in ("text_positions", "scale_latents"):
                if (had := coprocessor.options_of(before)[name]) != getattr(c, name):
                    raise ValueError(f"{c.init_from} has {name}={had}, this run asks for {getattr(c, name)}")
            if before["n_latents"] < n_latents:
                raise ValueError(f"{c.init_from} has {before['n_latents']} latents, this run asks for {n_latents}")
            if model.has_soft_tokens:
                model.soft = torch.nn.Parameter(model.soft.detach()[:n_latents].clone())
            model.n_latents, model.latents_per_step = n_latents, latents_per_step
            model.orthogonality_weight, model.step_weight = c.orthogonality_weight, c.step_weight
            return model, f"all of {c.init_from}", coprocessor.checksum(model.base)
    base = coprocessor.load_base(c.init_from, tokenizer.vocab_size)
    if n_latents >= base.config.context:
        raise ValueError(f"{n_latents:,} latents do not fit into the {base.config.context} positions of {c.init_from}")
    base_crc32 = coprocessor.checksum(base)  # before Coconut's tokens join it
    if added := coprocessor.VARIANTS[c.variant].adds_tokens:
        base.add_tokens(added, like=tokenizer.encode("<<")[0])
    options = coprocessor.options_of(vars(c))
    model = coprocessor.build(c.variant, base, n_latents, latents_per_step=latents_per_step, **options)
    return model, f"the Base of {c.init_from}", base_crc32
