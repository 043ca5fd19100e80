"""Reasoning: the questions, the curriculum, Coconut as published, ragged batches, answers, whole runs."""

import itertools
import json
import math
import random
import shutil
from collections import Counter

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from helpers import (
    MACHINE,
    WEIGHTS,
    close,
    cut_and_resume,
    cut_off,
    gradients,
    random_weights,
    run_here,
    run_ranks,
    same_bytes,
    same_training,
    slow_nll,
    tiny,
)
from transformers import AutoTokenizer

import coprocessor
import countdown as cd
import data
import finetune_reasoning as fr
import finetuning
import prosqa
import questions
import runtime
import sample
import train

VARIANTS = ["coconut", "soft", "liu", "h1", "h2", "cot"]
LINES = [
    "Ann has 3 bags of 4 nuts and eats 2. How many are left?||<<3*4=12>> <<12-2=10>> #### 10",
    "A pen costs 2.5 dollars. What do 4 cost?||<<2.5*4=10>> #### 10",
    "Tom runs 3 miles on 5 days a week. How many in 4 weeks, if he skips 6?||<<3*5=15>> <<15*4=60>> <<60-6=54>> #### 1,054",
    "What is 7?||#### 7",
]


class Letters:
    """A tokenizer of 50 characters and an end; no file, no network."""

    alphabet = "\n !#*+,-./0123456789:<=>?ABEHINTWacdehijklmnoprs|"
    name, path, eot, vocab_size = "letters", None, len(alphabet), len(alphabet) + 1

    def encode(self, text):
        return [max(0, self.alphabet.find(x)) for x in text]

    def decode(self, ids):
        return "".join(self.alphabet[i] for i in ids if i < len(self.alphabet))


def config(**changes):
    return fr.Config(**{"variant": "h2", "stages": 2, "latents_per_step": 2, **changes})


def items_of(tokenizer, ends_with=()):
    return [finetuning.Item(questions.parse(line, f"x:{i}"), tokenizer, ends_with) for i, line in enumerate(LINES)]


def pairs(items, c, stage):
    return [item.written(c, stage) for item in items]


def system(variant, family="gpt2", n_latents=4, dtype=torch.float64):
    """A tiny random model with room for the letters and, for coconut, its markers."""
    base = tiny(family, torch.float32, context=256)
    base.add_tokens(Letters.vocab_size - base.config.vocab_size + 3 * (variant == "coconut"), like=0)
    model = coprocessor.build(variant, base, n_latents, latents_per_step=min(2, n_latents))
    return random_weights(model, seed=1).to(dtype)


# -----------------------------------------------------------------------------
# The curriculum


def test_the_plan_of_the_epochs():
    c = config(stages=2, epochs_per_stage=2, last_stage_epochs=3)
    assert fr.stage_schedule(c) == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    # a frozen Base has nothing to train in stage 0
    assert fr.stage_schedule(config(variant="liu", epochs_per_stage=1, last_stage_epochs=1)) == [1, 2, 3]
    assert fr.stage_schedule(config(first_stage=3, last_stage_epochs=2)) == [3, 3]  # no curriculum
    assert fr.stage_schedule(config(variant="cot", epochs_per_stage=3)) == [0, 0, 0]
    assert fr.stage_schedule(config(variant="no_cot", last_stage_epochs=2)) == [3, 3]
    assert fr.stage_schedule(config(variant="no_thought")) == fr.stage_schedule(config(variant="soft"))
    assert [fr.latents_at(c, s) for s in range(4)] == [0, 2, 4, 4]


def test_what_is_written_at_each_stage():
    tokenizer, c = Letters(), config()
    item = items_of(tokenizer)[2]
    said = [tokenizer.decode(item.written(c, stage).text[:-1]) for stage in range(4)]
    assert said == [
        "<<3*5=15>>\n<<15*4=60>>\n<<60-6=54>>\n### 1054",
        "<<15*4=60>>\n<<60-6=54>>\n### 1054",
        "<<60-6=54>>\n### 1054",  # two steps are latents,
        "### 1054",  # and past the last stage no step is in words
    ]
    assert tokenizer.decode(item.written(config(stages=1), 2).text[:-1]) == "### 1054", "nor where two more steps were left"
    assert all(item.written(c, stage).text[-1] == tokenizer.eot for stage in range(4))
    assert tokenizer.decode(item.question).endswith("skips 6?\n")
    none = items_of(tokenizer)[3]  # a question without steps has its latents all the same
    assert none.steps == [] and fr.latents_at(c, 1) == 2 and none.written(c, 1).text == none.written(c, 0).text


# -----------------------------------------------------------------------------
# Coconut as published: no cache, n + 1 full passes, latent embeddings replaced by hidden states


def published_coconut(model, item, text, n_latents):
    """Loss per label of one example the obvious way: the whole sequence is run anew for every latent."""
    base = model.base
    start, end, latent = (base.config.vocab_size - n for n in (3, 2, 1))
    ids = [*item.question, *[latent] * n_latents, end, *text]
    assert item.question[-1] == start
    labels = [-100] * (len(item.question) + n_latents + 1) + list(text)
    embeddings = base.wte.weight[torch.tensor(ids)]  # (n, C)
    for position in [i for i, token in enumerate(ids) if token == latent]:
        hidden = full_pass(base, embeddings)
        embeddings = torch.cat([embeddings[:position], hidden[position - 1][None], embeddings[position + 1 :]])
    hidden = full_pass(base, embeddings)
    shown = [i for i in range(len(ids) - 1) if labels[i + 1] != -100]
    return slow_nll(base, hidden[shown], torch.tensor([labels[i + 1] for i in shown]))


def full_pass(base, embeddings):
    """The model on embeddings (n, C), all of it, with an explicit triangle -> hidden (n, C)"""
    n = len(embeddings)
    x, rope = base.add_positions(embeddings[None], torch.arange(n))
    triangle = torch.ones(n, n, dtype=torch.bool).tril()
    for block in base.blocks:
        q, k, v = block.qkv(x, rope)
        share = q.size(1) // k.size(1)
        k, v = k.repeat_interleave(share, dim=1), v.repeat_interleave(share, dim=1)
        scores = (q @ k.transpose(2, 3) / math.sqrt(q.size(3))).masked_fill(~triangle, -math.inf)
        x = block.attention_out_and_mlp(x, scores.softmax(dim=-1) @ v)
    return base.norm(x)[0]


@pytest.mark.parametrize("stage, n_latents", [(0, 0), (1, 2), (2, 4), (3, 4), (1, 1)])
def test_coconut_equals_the_published_recipe(stage, n_latents, family):
    c = config(variant="coconut")
    model = system("coconut", family)
    model.n_latents = n_latents
    items = items_of(Letters(), model.ends_prompts_with)
    fast = finetuning.text_nll(model, pairs(items, c, stage), "cpu")
    slow = torch.cat([published_coconut(model, item, item.written(c, stage).text, n_latents) for item in items]).sum()
    close(fast, slow, 1e-9)
    model.zero_grad()
    fast.backward()
    own = gradients(model)
    model.zero_grad()
    slow.backward()
    theirs = gradients(model)
    assert own.keys() == theirs.keys()
    for name in own:
        close(own[name], theirs[name], 1e-8)


def test_markers_start_as_the_embedding_of_a_step_s_beginning():
    base = tiny("gpt2")
    before = base.wte.weight.detach().clone()
    base.add_tokens(3, like=7)
    assert base.config.vocab_size == len(before) + 3 and torch.equal(base.wte.weight[:-3], before)
    assert all(torch.equal(row, before[7]) for row in base.wte.weight[-3:])
    model = coprocessor.build("coconut", base, 2)
    assert (model.ends_prompts_with, model.end) == ([len(before)], len(before) + 1)


# -----------------------------------------------------------------------------
# Ragged batches


@pytest.mark.parametrize(
    "variant, stage", [*((v, 1) for v in VARIANTS), ("coconut", 0), ("soft", 0), ("coconut", 3), ("h2", 3)]
)
def test_a_ragged_batch_is_its_examples_one_by_one(variant, stage, family):
    """Loss, gradients; and the mean is over all label tokens, not over examples."""
    c = config(variant=variant)
    model = system(variant, family)
    items = items_of(Letters(), model.ends_prompts_with)
    model.n_latents = fr.latents_at(c, stage) if model.has_latents else 0
    if (variant, stage) == ("soft", 0):  # without latents, the Base alone
        model = coprocessor.CoT(model.base, 0)
    together = finetuning.text_nll(model, pairs(items, c, stage), "cpu")
    together.backward()
    expected = gradients(model)
    model.zero_grad()
    alone = [finetuning.text_nll(model, pairs([item], c, stage), "cpu") for item in items]
    sum(alone).backward()
    close(together, sum(alone), 1e-9)
    for name, grad in gradients(model).items():
        close(grad, expected[name], 1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_do_not_depend_on_the_batch(variant, family):
    c, tokenizer = config(variant=variant, max_new_tokens=12), Letters()
    model = system(variant, family).eval()
    items = items_of(tokenizer, model.ends_prompts_with)
    texts = []
    for micro_batch in (1, 3, 4):
        c.micro_batch = micro_batch
        asked = finetuning.EvalSet([item.question for item in items], model, tokenizer, c, MACHINE)
        texts.append(asked.answer_questions(model))
    assert texts[0] == texts[1] == texts[2] and len(set(texts[0])) > 1


def test_every_written_token_has_one_term_and_the_question_none():
    items, seen = items_of(Letters()), []

    class Count(torch.nn.Module):
        def forward(self, tokens, sites, ahead, steps):
            seen.append(ahead.shape)
            return torch.ones(ahead.shape)

    loss = finetuning.text_nll(Count(), pairs(items, config(), 1), "cpu")
    assert loss == sum(len(item.written(config(), 1).text) for item in items) and seen[0][1] == 1  # one branch each


# -----------------------------------------------------------------------------
# What an answer costs


def test_forward_passes_are_counted_not_computed():
    costs = {}
    for variant in VARIANTS:
        for n_latents in (2, 4):
            model = system(variant, n_latents=n_latents, dtype=torch.float32).eval()
            tokens = torch.tensor([items_of(Letters())[0].question])
            answers = finetuning.EvalSet(tokens.tolist(), model, Letters(), config(max_new_tokens=1), MACHINE)
            costs[variant, n_latents] = answers.cost(model, lambda text: True)["passes_per_answer"]
            assert costs[variant, n_latents] == model.n_passes
    assert costs["h2", 2] == costs["h2", 4] == 3  # the paper's three passes, whatever N_L
    assert costs["liu", 4] == costs["h1", 4] == 3
    assert costs["soft", 4] == costs["cot", 4] == 2
    assert (costs["coconut", 2], costs["coconut", 4]) == (3, 5)  # N_L + 1


def test_cost_until_the_answer_counts_the_steps_written_before_it():
    tokenizer = Letters()
    model = system("soft", dtype=torch.float32).eval()
    text = tokenizer.encode("<<1+1=2>>\n### 2") + [tokenizer.eot]

    def scripted(tokens, lengths, n_tokens, eos):
        for _ in range(2):
            model.base.prefix(tokens[:1])
        for _ in range(min(n_tokens, len(text)) - 1):
            model.base.prefix(tokens[:1, :1])
        return torch.tensor([text[:n_tokens]])

    model.generate = scripted
    question = items_of(tokenizer)[0].question
    answers = finetuning.EvalSet([question], model, tokenizer, config(max_new_tokens=40), MACHINE)
    cost = answers.cost(model, lambda text: "#" in text)
    assert cost["passes_to_answer"] == 2 + text.index(tokenizer.encode("#")[0])
    assert cost["passes_per_answer"] == 2 + len(text) - 1


@pytest.mark.parametrize(
    "text, answer",
    [
        ("<<3*4=12>>\n### 12", "12"),
        ("### 1,054 ", "1054"),
        ("### Tom is a b.", "Tom is a b."),
        ("12", "12"),
        ("### 3 # 4", "4"),
        ("", ""),
    ],
)
def test_extraction(text, answer):
    assert questions.extract(text) == answer


# -----------------------------------------------------------------------------
# Questions


def test_formats_of_questions():
    icot = questions.parse(LINES[2], "f:3")
    assert icot == (icot.question, ["<<3*5=15>>", "<<15*4=60>>", "<<60-6=54>>"], "1054", "f:3")
    hub = {"question": " How? ", "answer": "He has 48/2 = <<48/2=24>>24.\nThen <<24+48=72>>72.\n#### 1,072"}
    assert questions.parse(hub, "f:1")[:3] == ("How?", ["<<48/2=24>>", "<<24+48=72>>"], "1072")
    aug = {"question": "How?", "steps": ["<<1+1=2>>"], "answer": "2"}
    assert questions.parse(aug, "f:1")[:3] == ("How?", ["<<1+1=2>>"], "2")
    graph = prosqa.sample_question(random.Random(0), prosqa.Kind())
    assert questions.parse(graph, "f:1")[:3] == (graph["question"], graph["steps"], graph["answer"])


BAD = [
    ("How many <<1+1=2>> #### 2", "no || after the question"),
    ("||<<1+1=2>> #### 2", "an empty question"),
    ("How?||<<1+1=2>> 2", "no #### before the answer"),
    ("How?||<<1+1=2>> #### 2 #### 3", "more than one ####"),
    ("How?" + "x" * 300 + "||#### 2", "tokens, the model has 256 positions"),
]


@pytest.mark.parametrize("line, reason", BAD)
def test_a_bad_row_is_one_line_with_its_place_or_is_counted(line, reason, tmp_path):
    (tmp_path / "train.txt").write_text("\n".join([LINES[0], line, LINES[1]]))
    c, model = config(data=str(tmp_path)), system("h2", dtype=torch.float32)
    with pytest.raises(ValueError) as e:
        fr.read_items(c, "train", Letters(), model)
    assert f"{tmp_path}/train.txt:2: " in str(e.value) and reason in str(e.value) and "\n" not in str(e.value)
    c.skip_bad = True
    items, bad = fr.read_items(c, "train", Letters(), model)
    assert len(items) == 2 and len(bad) == 1 and reason in bad[0]


def test_a_question_is_a_line_whatever_is_in_it(tmp_path):
    """Lines end at a line feed, bars divide before the answer; a byte-order mark and carriage returns are no text."""
    odd = [f"a{x}b" for x in ("\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x00", "\r", "\t")]
    odd += ["x || y", "||", "|| a || b", "#", "a # b", "#### 3 ||", "<|endoftext|> <|im_end|>", "  ", "é\u0301\U0001f600"]
    lines = [f"How {x} many?||<<1+1=2>> #### {i}" for i, x in enumerate(odd)] + ["Bars?||#### 3||4"]
    for end, start in (("\n", ""), ("\r\n", "\ufeff")):
        (tmp_path / "train.txt").write_bytes((start + end.join(lines) + end).encode())
        found, _ = questions.read(str(tmp_path), "train")
        assert [e.question for e in found] == [f"How {x} many?" for x in odd] + ["Bars?"]
        assert [e.answer for e in found] == [str(i) for i in range(len(odd))] + ["3||4"]
        assert [e.where for e in found] == [f"{tmp_path}/train.txt:{n}" for n in range(1, len(lines) + 1)]


def test_a_download_counts_the_rows_and_leaves_no_half_file(tmp_path):
    source = tmp_path / "source.json"
    source.write_text(json.dumps([{"question": "q"}] * 3))
    path = tmp_path / "data" / "x.json"
    with pytest.raises(ValueError, match="has 3 rows, not 4"):
        questions.download(source.as_uri(), str(path), 4)
    assert not path.exists()
    questions.download(source.as_uri(), str(path), 3)
    assert len(json.loads(path.read_text())) == 3


# -----------------------------------------------------------------------------
# The generator of ProsQA


def reachable(example, start):
    """Every node below one, by following edges until nothing new appears."""
    found = {start}
    while True:
        more = found | {c for p, c in example["edges"] if p in found}
        if more == found:
            return found
        found = more


@pytest.mark.parametrize(
    "kind", [{}, {"depth_matched": True}, {"nodes": 9, "hops": (2, 3), "words": (4, 10), "depth_matched": True}]
)
def test_generated_questions_have_one_answer_and_follow_from_the_text(kind):
    rng = random.Random(3)
    for _ in range(60):
        e = prosqa.sample_question(rng, prosqa.Kind(**kind))
        words, told = e["idx_to_symbol"], set(e["question"].split(". ")[:-1])
        assert told == {prosqa.statement(words, p, c)[:-1] for p, c in e["edges"]} and len(told) == len(e["edges"])
        assert len(set(words)) == len(words) and {v for edge in e["edges"] for v in edge} == set(range(len(words)))
        below = reachable(e, e["root"])
        assert e["target"] in below and e["neg_target"] not in below
        parents = {p for p, _ in e["edges"]}
        assert e["target"] not in parents and e["neg_target"] not in parents, "both are leaves"
        name, a, b = words[e["root"]], words[e["target"]], words[e["neg_target"]]
        assert e["question"].endswith((f"Is {name} a {a} or {b}?", f"Is {name} a {b} or {a}?"))
        assert e["answer"] == f"{name} is a {a}."
        assert {s[:-1] for s in e["steps"]} <= told and e["steps"][0].startswith(name) and e["steps"][-1].endswith(a + ".")
        low, high = kind.get("hops", (3, 6))
        assert low <= len(e["steps"]) <= high and len(e["steps"]) == distance(e, e["root"], e["target"])
        if kind.get("depth_matched"):
            other = min(distance(e, v, e["neg_target"]) for v in parents - {c for _, c in e["edges"]} if v != e["root"])
            assert other <= len(e["steps"])


def distance(example, start, goal):
    """Hops from start to goal: the sets of nodes within 0, 1, 2, ... hops (inf if it is never in one)."""
    within = {start}
    for hops in range(len(example["idx_to_symbol"]) + 1):
        if goal in within:
            return hops
        within = within | {c for p, c in example["edges"] if p in within}
    return math.inf


def test_statistics_are_those_of_the_original():
    rng = random.Random(1)
    examples = [prosqa.sample_question(rng, prosqa.Kind()) for _ in range(400)]
    nodes, edges = (np.mean([len(e[key]) for e in examples]) for key in ("idx_to_symbol", "edges"))
    hops = [np.mean([len(e["steps"]) == n for e in examples]) for n in (3, 4, 5, 6)]
    assert abs(nodes - 22.8) < 1 and abs(edges - 36) < 1.5
    assert np.abs(np.array(hops) - [0.41, 0.44, 0.13, 0.02]).max() < 0.13
    first = np.mean([e["question"].split(" a ")[-1].startswith(e["idx_to_symbol"][e["target"]] + " ") for e in examples])
    assert 0.4 < first < 0.6, "the right concept is named first as often as second"


def test_depth_matched_questions_cannot_be_answered_without_the_entity():
    """The same graph asks for either founder as often, and the deeper concept is right half of the time."""
    rng = random.Random(2)
    examples = [prosqa.sample_question(rng, prosqa.Kind(12, (2, 4), depth_matched=True)) for _ in range(400)]
    assert 0.4 < np.mean([e["root"] == 0 for e in examples]) < 0.6
    line = prosqa.statistics(examples)[-1]
    assert 45 < float(line.split()[-2]) < 55, line
    plain = prosqa.statistics([prosqa.sample_question(rng, prosqa.Kind()) for _ in range(200)])[-1]
    assert float(plain.split()[-2]) > 80, "the shortcut that the depth-matched set closes"


def test_the_generator_is_a_function_of_its_seed_and_splits_share_no_question(tmp_path):
    for out in ("a", "b"):
        prosqa.main([str(tmp_path / out), *"--nodes=8 --hops 2 3 --counts 40 20 20".split()])
    a, b = ([json.loads((tmp_path / out / f"prosqa_{s}.json").read_text()) for s in questions.SPLITS] for out in "ab")
    train, valid, test = ({prosqa.structure(e) for e in split} for split in a)
    assert len(test) > 3 and not (train & valid or train & test or valid & test)
    assert a == b and [len(x) for x in a] == [40, 20, 20]
    assert len({prosqa.question_key(e["question"]) for split in a for e in split}) == 80
    told = "Ada is a b. Every b is a c.", "Every b is a c. Ada is a b."
    assert prosqa.question_key(f"{told[0]} Is Ada a c or d?") == prosqa.question_key(f"{told[1]} Is Ada a d or c?")
    assert prosqa.question_key("Ada is a b. Is Ada a b or c?") != prosqa.question_key("Ada is a b. Is Bo a b or c?")


def test_a_structure_is_a_graph_up_to_isomorphism_with_its_candidates():
    """Against the smallest telling of all: nodes renumbered in every way, the candidates first."""
    rng, pairs = random.Random(5), set()
    for _ in range(120):
        e = prosqa.sample_question(rng, prosqa.Kind(7, (2, 3), (4, 8)))
        both = e["target"], e["neg_target"]
        others, ways = set(range(len(e["idx_to_symbol"]))) - {*both}, []
        for order in itertools.product(itertools.permutations(both), itertools.permutations(others)):
            number = {v: n for n, v in enumerate(itertools.chain(*order))}
            ways.append(sorted((number[p], number[c]) for p, c in e["edges"]))
        pairs.add((prosqa.structure(e), str(min(ways))))
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) > 50


def test_questions_after_either_candidate_of_a_graph_stay_together():
    rng = random.Random(6)
    for _ in range(50):
        e = prosqa.sample_question(rng, prosqa.Kind())
        order = rng.sample(range(len(e["idx_to_symbol"])), len(e["idx_to_symbol"]))
        told = rng.sample([[order[p], order[c]] for p, c in e["edges"]], len(e["edges"]))
        other = e | dict(edges=told, target=order[e["neg_target"]], neg_target=order[e["target"]])
        assert prosqa.structure(other) == prosqa.structure(e) and prosqa.split_of(other) == prosqa.split_of(e)
        assert prosqa.structure(e | dict(edges=e["edges"][1:])) != prosqa.structure(e)


@pytest.mark.parametrize("worded", [False, True])
def test_statements_are_also_shards_and_only_worded_ones_have_all_the_questions_words(worded, tmp_path):
    options = "--nodes=7 --hops 2 3 --words 4 8 --counts 400 20 20 --statements".split()
    prosqa.main([str(tmp_path), *options, *["--worded"] * worded])
    tokenizer, seen = data.tokenizer_of(str(tmp_path)), set()
    for name, split in (("train", "train"), ("val", "valid")):
        ids, _ = data.open_shard(str(tmp_path / f"{name}_000.bin"))
        texts = [prosqa.as_text(e) for e in json.loads((tmp_path / f"prosqa_{split}.json").read_text())]
        assert ids.tolist() == [i for text in texts for i in (*tokenizer.encode(text), tokenizer.eot)]
        seen |= set(ids.tolist())
    rng = random.Random(0)
    asked = [prosqa.sample_question(rng, prosqa.Kind(7, (2, 3), (4, 8), True))["question"] for _ in range(100)]
    assert worded == ({i for question in asked for i in tokenizer.encode(question)} <= seen)


def test_statements_follow_from_the_telling_and_never_ask_what_the_questions_ask():
    rng, wordings = random.Random(0), Counter(yes=0, no=0)
    for n in range(80):
        e = prosqa.sample_statements(rng, prosqa.Kind(7, (2, 3), (4, 8)), worded=n % 2 == 0)
        lines = [line.removeprefix("### ") for line in [*e["steps"], e["answer"]]]
        assert "?" not in e["question"] and not any("?" in line and " or " in line for line in lines)
        if "<<" in e["question"]:
            for line in [e["question"], *lines]:
                if "=" in line:
                    left, right = line.strip("<>").split("=")
                    assert eval(left) == float(right)
            continue
        edges = {tuple(s.rstrip(".").removeprefix("Every ").split(" is a ")) for s in e["question"].split(". ")}
        follows, more = set(edges), True
        while more:
            more = {(a, d) for a, b in follows for c, d in edges if b == c} - follows
            follows |= more
        lines = iter(lines)
        for s in lines:
            if s.startswith("Is "):
                true = tuple(s[3:-1].split(" a ")) in follows
                assert next(lines) == ("Yes." if true else "No.")
                wordings["yes" if true else "no"] += 1
                continue
            who, what = s.rstrip(".").removeprefix("Every ").split(" is a ")
            assert sum((who, x) in follows for x in what.split(" or ")) == 1
            wordings["or"] += " or " in what
    assert min(wordings.values()) > 20, wordings


# -----------------------------------------------------------------------------
# Whole runs


@pytest.mark.parametrize("variant", [*VARIANTS, "no_cot", "no_thought"])
def test_every_system_runs_from_questions_to_predictions(variant, reasoning_settings, tmp_path):
    """An epoch of one step at every stage"""
    settings = reasoning_settings | dict(variant=variant, train_limit=8, last_stage_epochs=1)
    out = run_here(fr, settings, tmp_path / "run")
    records = runtime.read_metrics(out)
    stages = [r["stage"] for r in records if "stage" in r and "valid_accuracy" in r]
    expected = {"liu": [1, 2, 3], "h1": [1, 2, 3], "cot": [0], "no_cot": [3]}.get(variant, [0, 1, 2, 3])
    assert stages == expected
    assert {"test_accuracy", "passes_to_answer", "seconds_to_answer", "passes_per_answer"} <= records[-1].keys()
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(predictions) == 6 == records[-1]["test_questions"]
    assert records[-1]["test_accuracy"] == sum(p["correct"] for p in predictions) / 6
    assert all(p["correct"] == (p["answer"] == p["gold"]) for p in predictions)
    model, saved = coprocessor.load_run(str(out))  # what others start from
    assert saved["variant"] == variant and model.n_latents == dict.fromkeys(("cot", "no_cot", "no_thought"), 0).get(variant, 2)


@pytest.mark.parametrize(
    "changes, stops",
    [
        (dict(variant="h2", mix_stages=0.5, reset_optimizer="never"), (1, 7)),  # in stage 0, in the last stage
        (dict(variant="coconut", reset_optimizer="never"), (3,)),  # in stage 1
        (dict(variant="rounds", step_weight=0.5, first_stage=2), (3,)),  # which spells its steps
    ],
)
def test_resuming_is_bitwise(changes, stops, reasoning_settings, tmp_path):
    """Two steps a stage, cut off after any of them: the resumed run ends with the same bytes."""
    settings = reasoning_settings | dict(train_limit=16, last_stage_epochs=1, checkpoint_every=1) | changes
    whole = run_here(fr, settings, tmp_path / "whole")
    for stop in stops:
        out = cut_and_resume(fr, settings, tmp_path / f"cut{stop}", stop)
        same_bytes(whole, out, "best/base/model.safetensors", *WEIGHTS[1:], "predictions.jsonl")


@pytest.mark.parametrize("name, steps", [("epoch", 3), ("stage", 6), ("never", 9)])
def test_when_the_optimizer_forgets(name, steps, reasoning_settings, tmp_path):
    """Stages 2, 3 and 3, of three steps each: so many steps its moments are of in the end"""
    settings = reasoning_settings | dict(variant="soft", first_stage=2, reset_optimizer=name)
    out = run_here(fr, settings, tmp_path / "run")
    moments = torch.load(out / "checkpoint" / "optimizer.pt", weights_only=True)
    assert {int(m["step"]) for m in moments.values()} == {steps}


def test_stages_can_be_mixed():
    c, stages = config(mix_stages=0.25, epochs_per_stage=2), [0, 0, 1, 1, 2, 2, 3]
    drawn = [fr.stage_of_step(c, stages, 4, step) for step in range(4000)]
    assert Counter(drawn)[2] == pytest.approx(4000 * (0.75 + 0.25 / 4), rel=0.03)
    assert all(Counter(drawn)[other] == pytest.approx(4000 * 0.25 / 4, rel=0.2) for other in (0, 1, 3))
    assert {fr.stage_of_step(config(), stages, 4, step) for step in range(9)} == {2}
    model = system("h2")
    for step in range(20):  # the latents of the stage, and the words that it leaves
        now, written = fr.model_and_text_at(c, stages, 4, model, 4, step)
        assert now.n_latents == fr.latents_at(c, drawn[step]) and written.keywords["stage"] == drawn[step]


def test_two_ranks_equal_one(reasoning_settings, tmp_path):
    """Same global batch, same loss and weights; stage 0 leaves the Coprocessor out of DDP, also in the midst of others."""
    settings = reasoning_settings | dict(variant="h2", micro_batch=2, lr=1e-4, precision="fp32")
    settings |= dict(train_limit=16, last_stage_epochs=1, mix_stages=0.5, scale_latents=True)
    one = run_here(fr, settings, tmp_path / "one")
    two = run_ranks(fr, settings, tmp_path / "two", 2)
    same_training(one, two)
    for a, b in zip(runtime.read_metrics(one), runtime.read_metrics(two), strict=True):
        assert a.get("valid_accuracy") == b.get("valid_accuracy")
        assert ("latent_scale" in a) == (a.get("stage", 0) > 0), "Variant.report()"
    assert (one / "predictions.jsonl").read_text() == (two / "predictions.jsonl").read_text()


def test_where_a_run_starts(reasoning_settings, tmp_path):
    """From a run of the same variant all is taken, from another its Base; too few latents are refused."""
    settings = reasoning_settings | dict(variant="h2", first_stage=3, last_stage_epochs=1)
    run_here(fr, settings | dict(latents_per_step=2), tmp_path / "four")
    first, _ = coprocessor.load_run(str(tmp_path / "four"))
    tokenizer = data.Tokenizer(reasoning_settings["tokenizer"])

    def start(**changes):
        c = fr.Config(**(settings | dict(init_from=str(tmp_path / "four")) | changes))
        return finetuning.load_start(c, tokenizer, c.stages * c.latents_per_step, c.latents_per_step)

    same, origin, base_crc32 = start()
    assert base_crc32 == coprocessor.checksum(first.base)
    assert origin.startswith("all of") and torch.equal(same.soft, first.soft) and same.n_latents == 2
    assert torch.equal(same.coprocessor.norm.weight, first.coprocessor.norm.weight)
    soft, origin, crc32 = start(variant="soft")
    assert crc32 == base_crc32 and origin.startswith("the Base of") and torch.equal(soft.base.wte.weight, first.base.wte.weight)
    coconut, _, crc32 = start(variant="coconut")  # whose Base gets three more tokens
    assert crc32 == base_crc32 and coconut.base.config.vocab_size == first.base.config.vocab_size + 3
    with pytest.raises(ValueError, match="has 4 latents, this asks for 6"):
        start(latents_per_step=3)
    with pytest.raises(ValueError, match="has text_positions=own, this run asks for pushed"):
        start(text_positions="pushed")
    data.train_tokenizer(["other words"], 300, str(tmp_path / "other.json"))
    for init_from in ("four", "four/checkpoint/base", "four/best/base"):  # other ids would fit, and mean something else
        c = fr.Config(**(settings | dict(init_from=str(tmp_path / init_from))))
        with pytest.raises(ValueError, match="another tokenizer's ids"):
            finetuning.load_start(c, data.Tokenizer(str(tmp_path / "other.json")), 2, 1)
        if init_from != "four":  # the run has its own, also where no copy lies beside its weights
            (tmp_path / init_from / "tokenizer.json").unlink()
            with pytest.raises(ValueError, match="another tokenizer's ids"):
                finetuning.load_start(c, data.Tokenizer(str(tmp_path / "other.json")), 2, 1)


def test_settings_that_would_mean_nothing_are_refused(reasoning_settings, tmp_path):
    for changes, message in (
        (dict(batch_size=32), "24 training questions do not fill a batch of 32"),
        (dict(first_stage=9), "no epochs to train"),
        (dict(mix_stages=0.5, first_stage=3), "mix_stages=0.5 is a share, of a run of several stages"),
    ):
        with pytest.raises(ValueError, match=message):
            run_here(fr, reasoning_settings | changes, tmp_path / "x")


# -----------------------------------------------------------------------------
# Rows as others keep them


def test_a_canonical_column_wins_whatever_the_order_of_keys():
    row = {"question": "real?", "answer": "5", "input": "a passage", "target": 7, "steps": ["a"], "cot": "b"}
    for keys in (list(row), list(row)[::-1]):
        assert questions.parse({key: row[key] for key in keys}, "x:1")[:3] == ("real?", ["a"], "5")
    assert questions.parse({"input": "q", "target": 7}, "x:1")[:3] == ("q", [], "7"), "aliases fill gaps"
    with pytest.raises(ValueError, match="it has prompt, target; known are question: question, question_concat, input; answer"):
        questions.parse({"prompt": "q", "target": 7}, "x:1")


@pytest.mark.parametrize(
    "text, steps",
    [
        ("<<1+1=2>> <<2+1=3>>", ["<<1+1=2>>", "<<2+1=3>>"]),
        ("Tom has 3.5 apples. He eats one! How many?", ["Tom has 3.5 apples.", "He eats one!", "How many?"]),
        ("Ada is a b.\nEvery b is a c.", ["Ada is a b.", "Every b is a c."]),
        ("one step", ["one step"]),
        ("", []),
    ],
)
def test_steps_in_one_text_are_split(text, steps, tmp_path):
    for row in ({"question": "q", "cot": text, "answer": "1"}, {"question": "q", "answer": f"{text} #### 1"}):
        assert questions.parse(row, "x:1")[:3] == ("q", steps, "1")
    assert questions.parse(f"q||{text} #### 1", "x:1")[:3] == ("q", steps, "1")


def test_a_list_of_steps_that_was_printed_is_not_one_step():
    """As pandas writes a column of lists to CSV. Annotations are found in it all the same."""
    for steps in (["It is 3.", "It is 4."], []):
        for text in (str(steps), json.dumps(steps)):
            with pytest.raises(ValueError, match="a list that was printed"):
                questions.parse({"question": "q", "steps": text, "answer": "4"}, "x:1")
    steps = ["<<1+1=2>>", "<<2+1=3>>"]
    assert questions.parse({"question": "q", "steps": str(steps), "answer": "3"}, "x:1").steps == steps


def test_a_comma_without_quotes_does_not_move_an_answer(tmp_path):
    (tmp_path / "a.csv").write_text('question,answer\n"1,000 - 1?",999\nHow many?,1,000\nTom has 1,000 apples?,5\n')
    found, bad = questions.read(str(tmp_path / "a.csv"), skip_bad=True)
    assert [e.answer for e in found] == ["999"] and len(bad) == 2 and "a.csv:2: more cells than columns" in bad[0]


def test_blank_cut_and_bad_rows(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "a", "answer": 1}\n\n{"question": "b", "answer": 2}\n{"question": "c", "ans\n   \n')
    found, bad = questions.read(str(path), skip_bad=True)
    assert [e.question for e in found] == ["a", "b"] and len(bad) == 1 and f"{path}:4: " in bad[0]
    assert len(questions.read(str(path), limit=1)[0]) == 1, "what is not asked for is not read"
    with pytest.raises(ValueError, match="test.jsonl:4: the row: not JSON"):
        questions.read(str(path))


def test_short_numbers_in_parquet_are_read_as_they_were_written(tmp_path):
    answers = pyarrow.array([0.3, 18.0, 1e17, math.nan], pyarrow.float32())
    table = pyarrow.table({"question": ["a?", "b?", "c?", "d?"], "answer": answers})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found, bad = questions.read(str(tmp_path / "a.parquet"), skip_bad=True)
    assert found[0].answer == "0.3" and len(bad) == 1 and "is not a number" in bad[0]
    assert all(questions.answers_match(e.answer, text) for e, text in zip(found, ("0.3", "18", "1" + 17 * "0"), strict=True))


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.csv", "question,answer,answer\nHow many?,1,2\n"),
        ("a.json", '[{"question": "How many?", "answer": 1, "answer": 2}]'),
        ("a.jsonl", '{"question": "How many?", "answer": 1, "answer": 2}'),
    ],
)
def test_a_column_that_is_there_twice_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="a column is there twice: question, answer, answer"):
        questions.read(str(tmp_path / name))


@pytest.mark.parametrize("name", ["{}.jsonl", "mine_{}.json", "{}.csv", "{}.txt", "{}.parquet"])
def test_a_folder_of_one_s_own(name, tmp_path):
    folder = tmp_path / "a[1]"  # a name is no pattern
    folder.mkdir()
    for i, split in enumerate(questions.SPLITS):
        path, rows = folder / name.format(split), [{"question": f"{split}, q", "answer": i}]
        texts = dict(jsonl=json.dumps(rows[0]), json=json.dumps(rows), csv=f'question,answer\n"{split}, q",{i}\n')
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        else:
            path.write_text((texts | dict(txt=f"{split}, q||#### {i}"))[path.suffix[1:]])
    for i, split in enumerate(questions.SPLITS):
        assert questions.read(str(folder), split)[0][0][:3] == (f"{split}, q", [], str(i))
    (folder / "other_train.json").write_text("[]")
    if name.startswith("{}"):  # train.txt is the one that is meant, whatever lies beside it
        assert questions.read(str(folder), "train")[0][0].question == "train, q"
        (folder / ("train.txt" if name == "{}.csv" else "train.csv")).write_text("")
    with pytest.raises(ValueError, match="several files for train"):
        questions.read(str(folder), "train")


def test_questions_that_are_trained_on_and_asked_are_counted(reasoning_settings, tmp_path, capsys):
    folder = tmp_path / "q"
    shutil.copytree(reasoning_settings["data"], folder)
    shutil.copy(next(folder.glob("*train.*")), next(folder.glob("*test.*")))
    changes = dict(data=folder, variant="no_cot", last_stage_epochs=1, test_limit=5)
    run_here(fr, reasoning_settings | changes, tmp_path / "run")
    said = capsys.readouterr().out
    assert "5 of 5 test questions are among those of training" in said and "valid questions are" not in said


def test_one_file_is_asked_and_never_trained_on(tmp_path):
    (tmp_path / "all.jsonl").write_text('{"question": "a", "answer": 1}\n')
    assert len(questions.read(str(tmp_path / "all.jsonl"))[0]) == 1
    for split in questions.SPLITS:
        with pytest.raises(ValueError, match="is one file: training needs a folder"):
            questions.read(str(tmp_path / "all.jsonl"), split)


def test_an_answer_depends_on_its_own_question_alone():
    """However long the others are, and however little room they leave."""
    tokenizer = Letters()
    model = system("h2").eval()
    asked = [item.question for item in items_of(tokenizer)]
    c = config(max_new_tokens=9)

    def answers(questions):
        return finetuning.EvalSet(questions, model, tokenizer, c, MACHINE).answer_questions(model)

    context = model.base.config.context
    longest = [(asked[0] * 100)[: context - room] for room in (1, 0, 4)]  # room for two tokens, for one, for five
    for more in (longest, longest[:1], []):
        assert answers([*asked, *more])[: len(asked)] == answers(asked)
    evalset = finetuning.EvalSet(longest, model, tokenizer, c, MACHINE)
    assert [evalset.n_tokens(q) for q in longest] == [2, 1, 5]
    evalset.answer_questions(model)
    assert evalset.n_cut == sum(tokenizer.eot not in ids for ids in (
        model.generate(torch.tensor([q]), torch.tensor([len(q)]), n, eos=tokenizer.eot)[0].tolist()
        for q, n in zip(longest, (2, 1, 5), strict=True)
    ))  # fmt: skip


# -----------------------------------------------------------------------------
# A run that is not finished, and what sample.py says of one


@pytest.mark.parametrize("variant", ["h2", "coconut"])
def test_an_unfinished_run_is_asked_with_the_latents_that_it_was_trained_with(variant, reasoning_settings, tmp_path):
    """An epoch of one step at every stage: cut off after stage 0 and after stage 1, and run to the end"""
    settings = reasoning_settings | dict(variant=variant, train_limit=8, last_stage_epochs=1, mix_stages=0.5)
    run = tmp_path / "run"
    for stop, n_latents in ((1, 0), (2, 1)):
        cut_off(fr, settings, run, stop, *["--resume"] * (stop > 1))
        model, config = coprocessor.load_run(run)
        assert model.n_latents == n_latents and config["n_latents"] == 2
        assert type(model) is (coprocessor.CoT if stop == 1 and variant != "coconut" else coprocessor.VARIANTS[variant])
    assert coprocessor.load_run(run_here(fr, settings, run, "--resume"))[0].n_latents == 2
    assert coprocessor.load_run(run, n_latents=1)[0].n_latents == 1
    with pytest.raises(ValueError, match="has 2 latents, this asks for 3"):
        coprocessor.load_run(run, n_latents=3)


def test_a_schedule_that_writes_steps_wants_some(reasoning_settings, tmp_path):
    for split in questions.SPLITS:
        (tmp_path / f"{split}.jsonl").write_text('{"question": "Is 1 a 2?", "answer": "no"}\n' * 24)
    settings = reasoning_settings | dict(data=tmp_path, variant="cot")
    with pytest.raises(ValueError, match="only 0 of 24 training questions have steps"):
        run_here(fr, settings, tmp_path / "run")


def test_a_sample_ends_where_an_answer_ends_and_asks_with_the_marker_every_time():
    tokenizer, seen = Letters(), []
    model = system("coconut").eval()

    def scripted(tokens, lengths, n_tokens, with_latents, eos, **how):
        seen.append(tokens[0].tolist())
        return torch.tensor([[5, 6] if len(seen) < 3 else [7, tokenizer.eot]])

    model.generate = scripted
    text = sample.continue_text(model, tokenizer, "ab", 20, 2, True, tokenizer.eot)
    assert text == tokenizer.decode([5, 6, 5, 6, 7]) and len(seen) == 3
    for prompt, new in zip(seen, ([], [5, 6], [5, 6, 5, 6]), strict=True):
        assert prompt == [*tokenizer.encode("ab"), *new, *model.ends_prompts_with]


def test_a_coconut_under_another_name_has_its_markers(reasoning_settings, tmp_path, monkeypatch):
    class Noisy(coprocessor.Coconut):
        pass

    monkeypatch.setitem(coprocessor.VARIANTS, "noisy", Noisy)
    changes = dict(variant="noisy", first_stage=2, last_stage_epochs=1)
    run_here(fr, reasoning_settings | changes, tmp_path / "noisy")
    run_here(fr, reasoning_settings | changes | dict(variant="coconut"), tmp_path / "plain")
    same_bytes(tmp_path / "plain", tmp_path / "noisy", "best/base/model.safetensors", "predictions.jsonl")
    # transformers finds them in the exported Base, and words as they were
    model, _ = coprocessor.load_run(tmp_path / "noisy")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "noisy/best/base"), data.tokenizer_of(str(tmp_path / "noisy"))
    assert theirs.convert_tokens_to_ids(["<|start-latent|>", "<|end-latent|>"]) == [*model.ends_prompts_with, model.end]
    text = "Every rompus is a yumpus.<|start-latent|>"
    assert theirs.encode(text) == ours.encode(text.partition("<")[0]) + model.ends_prompts_with
    assert len(theirs.get_vocab()) == ours.vocab_size + 3 and theirs.convert_tokens_to_ids("<|latent|>") == model.end + 1
    for script in (train, cd):  # which have no markers for it
        with pytest.raises(ValueError, match="noisy"):
            script.main(["--variant=noisy"])


def test_a_variant_that_draws_while_it_answers_draws_the_same_in_a_resumed_run(reasoning_settings, tmp_path, monkeypatch):
    drawn = []

    class Restless(coprocessor.H2):
        def pass2_start(self, prefix, sites):
            start = super().pass2_start(prefix, sites)
            drawn.append(torch.rand(()).item())
            return start._replace(x=drawn[-1] * start.x)

    monkeypatch.setitem(coprocessor.VARIANTS, "restless", Restless)
    settings = reasoning_settings | dict(variant="restless", first_stage=2, last_stage_epochs=1)
    run_here(fr, settings, tmp_path / "whole")
    whole = drawn[-9:]
    cut_and_resume(fr, settings, tmp_path / "cut", 6)  # behind the last step, before the test
    assert drawn[-9:] == whole


@pytest.mark.parametrize("encoding, row", [("latin-1", 2), ("utf-16", 1)])
def test_another_encoding_is_named_with_its_row(encoding, row, tmp_path):
    (tmp_path / "train.txt").write_bytes("One?||#### 1\nWie groß?||#### 2\n".encode(encoding))
    with pytest.raises(ValueError, match=f"train.txt:{row}: not UTF-8 text"):
        questions.read(str(tmp_path), "train")


@pytest.mark.parametrize("variant", ["coconut", "rounds", "tied", "h1"])
def test_every_system_that_has_latents_can_be_told_to_spell(variant, reasoning_settings, tmp_path):
    settings = reasoning_settings | dict(variant=variant, step_weight=0.5, first_stage=2, last_stage_epochs=1)
    run = run_here(fr, settings, tmp_path / "run")
    assert "test_accuracy" in runtime.read_metrics(run)[-1]
    if variant == "rounds":
        out = cut_and_resume(fr, settings, tmp_path / "cut", 3)
        same_bytes(run, out, "best/base/model.safetensors", "best/added.safetensors", "predictions.jsonl")
