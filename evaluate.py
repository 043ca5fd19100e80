"""The paper's five benchmarks (Table 1), zero-shot, perplexity, and questions of your own, for any checkpoint and any run.

    python evaluate.py --model=openai-community/gpt2 --tasks=all --limit=50
    torchrun --nproc_per_node=8 evaluate.py --model=out/h2_gpt2
    python evaluate.py --model=out/tiny_text --tasks=perplexity
    python evaluate.py --model=out/gsm8k_gpt2 --questions=svamp.json

Of a benchmark, a choice is scored by its log-likelihood after the context. The context is read once, as a prefix, and every
choice is a branch at its end, which starts with the latents where the run has some. Formats and scores are those of
lm-evaluation-harness 0.4. A question is answered in words, greedily, and what stands after the last # is compared with the
right answer: numbers by their value (18, 18., $18 and 18.0 are the same, as are 5,000 and 5000), other texts to the letter.
"""

import argparse
import dataclasses
import math
import os
import re
from typing import NamedTuple

from configurator import Count, configure, one_line_errors

import numpy as np
import torch
from tqdm import tqdm

import coprocessor
import runtime
from data import hub_file, tokenizer_of
from finetuning import EvalSet, Item, pad, share_interval
from model import token_nll
from questions import grade_answers, read, rows_in


@dataclasses.dataclass
class Config(coprocessor.RunOptions):
    model: str = "openai-community/gpt2"  # a hub name, a folder with config.json and safetensors, or a run
    tasks: str = ""  # all, or some of: hellaswag,arc_easy,social_iqa,piqa,winogrande,perplexity; default all, or questions
    questions: str = ""  # gsm8k | gsm8k_aug | prosqa | a folder | a file (questions.py): its test questions are asked
    skip_bad: bool = False  # leave out, and count, questions that are malformed
    max_new_tokens: int = 0  # of an answer; 0: as the run was tested, or 64
    limit: int = 0  # the first so many items of each task; 0: all
    batch_size: Count = 32  # contexts, sequences or questions per rank and forward pass
    max_length: int = 0  # tokens that the model may see at once; 0: as many as it has positions
    # perplexity, of ahead tokens; 0 or "": as the run was trained
    data: str = ""  # a folder that data.py made
    seq_len: int = 0  # S
    n_sites: int = 0  # M
    n_ahead: int = 0  # N_A
    eval_rows: int = 0  # validation sequences
    # the machine
    device: str = "auto"  # auto | cpu | cuda | mps
    precision: str = "fp32"  # auto (bf16 where the hardware multiplies it) | bf16 | fp32, to equal others to the digit
    # the results
    out_dir: str = "out/<model>_<what>"  # the last part of its name; eval, or what the questions are called
    overwrite: bool = False  # delete the folder first


# -----------------------------------------------------------------------------
# The tasks


class Doc(NamedTuple):
    contexts: list  # one for all choices, or one for each
    choices: list  # with their leading blank
    gold: int


class Task(NamedTuple):
    repo: str
    file: str
    revision: str
    rows: int
    read: callable  # a row -> Doc
    normed: bool = True  # is acc_norm reported, too?


def hellaswag(row):
    def clean(text):
        text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
        return text.replace("  ", " ")

    context = clean(row["activity_label"] + ": " + row["ctx_a"] + " " + row["ctx_b"].capitalize())
    return Doc([context], [" " + clean(ending) for ending in row["endings"]], int(row["label"]))


def arc_easy(row):
    texts, labels = row["choices"]["text"], list(row["choices"]["label"])  # A to D, or 1 to 4
    return Doc([f"Question: {row['question']}\nAnswer:"], [" " + text for text in texts], labels.index(row["answerKey"]))


def social_iqa(row):
    choices = [" " + row[f"answer{x}"] for x in "ABC"]
    return Doc([f"Q: {row['context']} {row['question']}\nA:"], choices, int(row["label"]) - 1)


def piqa(row):
    return Doc([f"Question: {row['goal']}\nAnswer:"], [" " + row["sol1"], " " + row["sol2"]], row["label"])


def winogrande(row):
    before, _, after = row["sentence"].partition("_")
    return Doc([before + row["option1"], before + row["option2"]], [" " + after.strip()] * 2, int(row["answer"]) - 1)


TASKS = {
    "hellaswag": Task(
        "Rowan/hellaswag", "data/validation-00000-of-00001.parquet", "218ec52e09a7e7462a5400043bb9a69a41d06b76",
        10042, hellaswag,
    ),
    "arc_easy": Task(
        "allenai/ai2_arc", "ARC-Easy/test-00000-of-00001.parquet", "210d026faf9955653af8916fad021475a3f00453",
        2376, arc_easy,
    ),
    "social_iqa": Task(
        "lighteval/siqa", "data/validation-00000-of-00001-90bb85eab85fcfa8.parquet", "54c6a1f8cb6daf4f5abf24a601852612fb35eb25",
        1954, social_iqa, normed=False,
    ),
    "piqa": Task("baber/piqa", "piqa_validation.parquet", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1", 1838, piqa),
    "winogrande": Task(
        "allenai/winogrande", "winogrande_xl/validation-00000-of-00001.parquet", "01e74176c63542e6b0bcb004dcdea22d94fb67b5",
        1267, winogrande, normed=False,
    ),
}  # fmt: skip


def read_docs(name, limit):
    """-> the task's first so many (0: all) Docs. Raises OSError where it cannot be got, ValueError if it has other rows."""
    task = TASKS[name]
    rows = rows_in(hub_file(task.repo, task.file, revision=task.revision))
    if len(rows) != task.rows and not limit or len(rows) < min(limit, task.rows):
        raise ValueError(f"{name}: {task.repo} has {len(rows):,} rows, not {task.rows:,}; --limit={len(rows)} takes them")
    return [task.read(row) for _, row in rows[: limit or None]]


# -----------------------------------------------------------------------------
# Scores


class Prefix(NamedTuple):
    """What is read once, and the branches that are attached at its end."""

    doc: int
    tokens: list
    choices: list  # their numbers in the Doc
    branches: list  # their tokens


def encode_pair(tokenizer, context, choice):
    """-> ids of the context, ids of the choice. They are encoded together: blanks at the context's end belong to the choice.

    A benchmark's text is read as lm-evaluation-harness reads it, where "<|endoftext|>" is a token.
    """
    n = len(tokenizer.encode(context.rstrip(), special=True))
    ids = tokenizer.encode(context + choice, special=True)
    return ids[:n], ids[n:]


def prefixes_of(docs, tokenizer, room):
    """Docs -> Prefixes. room: positions for context and choice but its last token, which is never fed.

    A context that is too long loses its beginning, and where choices then differ in what they see, each gets its own prefix.
    """
    out = []
    for number, doc in enumerate(docs):
        found = {}  # tokens: Prefix
        for i, choice in enumerate(doc.choices):
            context, branch = encode_pair(tokenizer, doc.contexts[i % len(doc.contexts)], choice)
            keep = room + 1 - len(branch)
            if not context or not branch or keep < 1:
                sizes = f"{len(context)} tokens of context, {len(branch)} of choice {i}"
                raise ValueError(f"item {number}: {sizes}; room for {room}")
            tokens = context[-keep:]
            prefix = found.setdefault(tuple(tokens), Prefix(number, tokens, [], []))
            prefix.choices.append(i)
            prefix.branches.append(branch)
        out += found.values()
    return out


def room_for_text(model):
    """Positions that are left for context and choice but its last token, which is never fed."""
    return model.base.config.context - model.branch_offset()


def batches(prefixes, batch_size, room):
    """Sorted Prefixes -> lists of them with as many branches each, which still fit once padded to the longest."""
    chunk = []
    for p in prefixes:
        more = [*chunk, p]
        padded = max(len(q.tokens) for q in more) + max(len(b) for q in more for b in q.branches) - 1
        if chunk and (len(chunk) == batch_size or len(p.branches) != len(chunk[0].branches) or padded > room):
            yield chunk
            more = [p]
        chunk = more
    if chunk:
        yield chunk


@torch.no_grad()
def log_likelihoods(model, prefixes, batch_size, machine, name=""):
    """-> {doc: {choice: summed log-likelihood}} of this rank's share"""

    def size(prefix):  # as many branches each, and about as many positions
        return len(prefix.branches), len(prefix.tokens) + len(prefix.branches) * max(map(len, prefix.branches))

    out, mine = {}, sorted(prefixes, key=size, reverse=True)[machine.rank :: machine.world]  # the dearest first
    progress = tqdm(desc=name, total=sum(len(p.branches) for p in mine), unit=" choices", mininterval=1, disable=not name)
    for chunk in batches(mine, batch_size, room_for_text(model)):
        tokens, lengths = pad([p.tokens for p in chunk], machine.device)  # (B, S), (B)
        ahead, sizes = pad([b for p in chunk for b in p.branches], machine.device)  # (B M, N), (B M)
        ahead, sizes = ahead.view(len(chunk), -1, ahead.size(1)), sizes.view(len(chunk), -1)
        sites = (lengths - 1)[:, None].expand_as(sizes)  # (B, M)
        written = torch.arange(ahead.size(2), device=machine.device) < sizes[..., None]  # (B, M, N), the rest is padding
        with machine.autocast():
            prefix = model.pass1_prefix(tokens)
            start = model.pass2_start(prefix, sites)
            hidden = model.pass3_predict(prefix, start, ahead)[:, :, -ahead.size(2) :]  # (B, M, N, C)
            nll = token_nll(model.base, hidden[written], ahead[written])
        sums = torch.zeros(ahead.shape, dtype=torch.float64)
        sums[written.cpu()] = -nll.cpu().double()
        for p, row in zip(chunk, sums.sum(dim=-1).tolist(), strict=True):
            out.setdefault(p.doc, {}).update(zip(p.choices, row, strict=True))
            progress.update(len(row))
    progress.close()
    return out


def score_choices(name, docs, prefixes, model, batch_size, machine):
    """-> a line of predictions.jsonl for each Doc, on every rank. Ties go to the first choice."""
    local = log_likelihoods(model, prefixes, batch_size, machine, name if machine.master else "")
    scores = [{} for _ in docs]
    for n, row in machine.gather([*local.items()]):
        scores[n] |= row
    return [grade(name, n, doc, [scores[n][i] for i in range(len(doc.choices))]) for n, doc in enumerate(docs)]


def grade(name, n, doc, ll):
    """The log-likelihoods of a Doc's choices -> its line of predictions.jsonl"""
    if not np.isfinite(ll).all():
        raise ValueError(f"{name}, item {n}: the log-likelihoods are {ll}, which no score can be made of")
    normed = [x / len(choice[1:]) for x, choice in zip(ll, doc.choices, strict=True)]  # without the leading blank
    acc_norm = float(np.argmax(normed) == doc.gold) if TASKS[name].normed else None
    return dict(task=name, doc=n, ll=ll, gold=doc.gold, acc=float(np.argmax(ll) == doc.gold), acc_norm=acc_norm)


def summary(predictions):
    """-> {acc, acc_stderr, acc_norm, acc_norm_stderr, items}; a task without acc_norm has none"""
    n, out = len(predictions), {}
    for key in ("acc", "acc_norm"):
        if predictions[0][key] is not None:
            mean = sum(p[key] for p in predictions) / n
            out |= {key: mean, f"{key}_stderr": math.sqrt(mean * (1 - mean) / max(1, n - 1))}
    return out | {"items": n}


# The paper's, for a checkpoint that no run of ours has trained
LARGE_SCALE = dict(data="data/fineweb_edu_gpt2", seq_len=1024, n_sites=64, n_ahead=16, eval_rows=512)


def text_targets(c, model, trained, machine):
    """-> the settings and the batches of the targets that a run of those settings is validated on"""
    if trained and "seq_len" not in trained:  # it knows no text, and its data are questions
        if not c.data:
            raise ValueError(f"{c.model} was trained on questions: --data=FOLDER names the text (data.py makes some)")
        trained = {}
    settings = {key: getattr(c, key) or trained.get(key) or default for key, default in LARGE_SCALE.items()}
    t = argparse.Namespace(init_from=c.model, n_latents=model.n_latents, batch_size=c.batch_size, **settings)
    batches = coprocessor.validation_batches(t, model, c.model, machine.device)
    batches([0])  # fails now if fewer sites fit than are asked for
    return t, batches


def perplexity(model, t, batches, machine):
    """-> {perplexity, by_position (N_A,), and the settings}"""
    found = coprocessor.validate(model, batches, t, machine)
    settings = {key: getattr(t, key) for key in LARGE_SCALE}
    return dict(perplexity=found["val_ppl"], by_position=np.exp(found["val_nll"]).tolist(), **settings)


# -----------------------------------------------------------------------------
# Questions


def read_items(c, model, tokenizer):
    """-> (list of Items that fit the model, rows left out)"""
    room = model.base.config.context - model.branch_offset()  # with one to answer in

    def make(example):
        item = Item(example, tokenizer, model.ends_prompts_with)
        if len(item.question) > room:
            raise ValueError(f"{len(item.question)} tokens of question, room for {room}")
        return item

    return read(c.questions, None if c.split == "test" else c.split, c.limit, c.skip_bad, make)


def ask(c, items, model, tokenizer, trained, machine):
    """-> {questions, accuracy, its 95 % interval, right, items, cut}, a line of predictions.jsonl for each"""
    how = argparse.Namespace(max_new_tokens=c.max_new_tokens or trained.get("max_new_tokens", 64), micro_batch=c.batch_size)
    asked = EvalSet([item.question for item in items], model, tokenizer, how, machine)
    texts = asked.answer_questions(model)
    predictions = grade_answers([item.example for item in items], texts)
    right = sum(p["correct"] for p in predictions)
    asked_of = c.questions if c.split == "test" else f"{c.questions}, {c.split}"
    found = dict(questions=asked_of, accuracy=right / len(items), interval=share_interval(right, len(items)))
    return found | dict(right=right, items=len(items), cut=asked.n_cut), predictions


# -----------------------------------------------------------------------------
# The model, and what is written


def load(name, options=None):
    """A hub name, a local folder or a run -> (Variant, Tokenizer, the run's config or {})"""
    tokenizer, options = tokenizer_of(name), options or coprocessor.RunOptions()
    if runtime.is_run(name):
        model, config = coprocessor.load_run_as(name, options)
        return model, tokenizer, config
    if options.n_latents or options.checkpoint:
        raise ValueError(f"{name} is no run, which alone has latents and checkpoints")
    base = coprocessor.load_base(name, tokenizer, name)
    return coprocessor.build("continued", base, 0), tokenizer, {}


def table(results):
    """-> the text of results.md"""
    what = results["variant"] + (f", N_L = {results['n_latents']}" if results["n_latents"] else "")
    lines = [f"{results['model']} ({results['family']}, {what})", ""]
    if results["tasks"]:
        lines += ["| task | acc | acc_norm | items |", "|---|---|---|---|"]
    for name, r in results["tasks"].items():
        cells = [f"{r[k]:.4f} ± {r[k + '_stderr']:.4f}" if k in r else "" for k in ("acc", "acc_norm")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {r['items']:,} |")
    if p := results.get("perplexity"):
        lines += ["", f"Validation perplexity {p['perplexity']:.3f} ({p['data']}, S = {p['seq_len']}), by ahead token:"]
        lines += [" ".join(f"{x:.2f}" for x in p["by_position"])]
    if q := results.get("questions"):
        share = "{:.1%} ({:.1%} to {:.1%})".format(q["accuracy"], *q["interval"])
        lines += ["", f"{q['questions']}: {q['right']} of {q['items']:,} right, {share}"]
        lines[-1] += f"; {q['cut']} answers had no end yet" if q["cut"] else ""
        lines[-1] += f"; {q['left_out']} rows left out" if q["left_out"] else ""
    return "\n".join(lines) + "\n"


def save(out_dir, results, predictions):
    runtime.write_lines(os.path.join(out_dir, "predictions.jsonl"), predictions)
    runtime.write_json(os.path.join(out_dir, "results.json"), results)
    runtime.write_file(os.path.join(out_dir, "results.md"), table(results).encode())


def main(argv=None):
    c = configure(Config, __doc__, argv)
    names = [name for name in (c.tasks or "all" * (not c.questions)).split(",") if name]
    names = [*TASKS] if names == ["all"] else names
    if unknown := [name for name in names if name not in (*TASKS, "perplexity")]:
        raise ValueError(f"unknown task {unknown[0]!r}: all, or some of {', '.join((*TASKS, 'perplexity'))}")
    what = os.path.splitext(os.path.basename(os.path.normpath(c.questions)))[0] if c.questions else "eval"
    what += coprocessor.options_in_name(c)
    c.out_dir = c.out_dir.replace("<model>", os.path.basename(os.path.normpath(c.model))).replace("<what>", what)

    # all that can go wrong, before anything is computed
    machine = runtime.start(c.device, c.precision)
    model, tokenizer, trained = load(c.model, c)
    if names and model.ends_prompts_with:
        raise ValueError("coconut needs its markers, which benchmarks and text do not have: it can be asked --questions")
    docs = {name: read_docs(name, c.limit) for name in names if name in TASKS}
    model = model.to(machine.device).eval()
    context = model.base.config.context
    if not 0 <= c.max_length <= context:
        raise ValueError(f"max_length={c.max_length}: {c.model} has {context} positions")
    room = room_for_text(model) - (context - (c.max_length or context))
    prefixes = {name: prefixes_of(docs[name], tokenizer, room) for name in docs}
    items, left_out = read_items(c, model, tokenizer) if c.questions else ([], [])
    text = text_targets(c, model, trained, machine) if "perplexity" in names else None
    if machine.master:
        runtime.new_folder(c.out_dir, c.overwrite)
        runtime.write_json(os.path.join(c.out_dir, "config.json"), dataclasses.asdict(c))

    results = dict(model=c.model, variant=trained.get("variant", "checkpoint"), family=model.base.config.family)
    results |= dict(n_latents=model.n_latents, limit=c.limit, tasks={})
    predictions = []
    for part in [*docs, *["perplexity"] * bool(text), *["questions"] * bool(c.questions)]:
        if part == "perplexity":
            results[part] = perplexity(model, *text, machine)
        elif part == "questions":
            results[part], lines = ask(c, items, model, tokenizer, trained, machine)
            results[part]["left_out"] = len(left_out)
            predictions += lines
        else:
            lines = score_choices(part, docs[part], prefixes[part], model, c.batch_size, machine)
            results["tasks"][part] = summary(lines)
            predictions += lines
        if machine.master:  # every result is written when it is there
            save(c.out_dir, results, predictions)
    if machine.master:
        print(table(results) + f"\ndone: {c.out_dir}/results.md, results.json, predictions.jsonl")
    runtime.finish()


if __name__ == "__main__":
    one_line_errors(main)
