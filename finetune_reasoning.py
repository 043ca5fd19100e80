"""Reasoning (paper, section 4.2 and appendix B): the staged curriculum on GSM8K and ProsQA, for every system.

    python finetune_reasoning.py config/tiny_prosqa.py
    torchrun --nproc_per_node=8 finetune_reasoning.py config/gsm8k_gpt2.py --variant=h2

The question is the prefix; one branch is attached at its end and starts with the latents. At stage k the first k steps of the
chain of thought have given way to k x c latents; after the last stage all the other steps go, too (c = 2, k = 2):

    stage 0    question |            step 1  step 2  step 3  ### answer
    stage 1    question | z z                step 2  step 3  ### answer
    stage 2    question | z z z z                    step 3  ### answer
    last       question | z z z z                            ### answer

The loss is the mean over the tokens that are written in words behind the bar. With --step_weight, the c latents that stand
for a step must also spell it, told nothing else (coprocessor.py).
"""

import dataclasses
import os
from functools import partial

from configurator import Count, configure, one_line_errors

import numpy as np
import torch

import coprocessor
import finetuning
import questions
import runtime
from finetuning import RESUME_MAY_CHANGE, EvalSet, Item
from questions import grade_answers


@dataclasses.dataclass
class Config(finetuning.Options):
    # the system
    variant: str = "h2"  # coconut | soft | tied | pause | liu | h1 | h2 | rounds | cot | no_cot | no_thought: no latents
    init_from: str = "openai-community/gpt2"  # hub name, folder, random:<size>, run: all of it, or of another variant its Base
    # the questions
    data: str = "gsm8k_aug"  # gsm8k | gsm8k_aug | prosqa | a folder (questions.py)
    tokenizer: str = "gpt2"  # gpt2 | qwen3 | a tokenizer.json
    train_limit: int = 0  # use the first so many training questions; 0: all
    valid_limit: int = 0
    test_limit: int = 0
    skip_bad: bool = False  # leave out, and count, rows that are malformed or too long
    max_new_tokens: Count = 64  # of an answer with its steps
    # the curriculum
    stages: Count = 4  # k, the most steps that latents stand for
    latents_per_step: Count = 3  # c; N_L = k c
    first_stage: int = 0  # k + 1 is the last one: no curriculum. liu and h1 have nothing to train in stage 0 and skip it
    epochs_per_stage: int = 3
    last_stage_epochs: int = 10  # of answers without steps
    reset_optimizer: str = "epoch"  # epoch, as in Coconut's code | stage, as in its paper | never
    mix_stages: float = 0.0  # the share of batches that are trained at any of the run's stages (stage_of_step)
    # logging
    log_every: Count = 20  # steps
    checkpoint_every: Count = 500  # steps, and after every epoch


# -----------------------------------------------------------------------------
# Curriculum


def stage_schedule(c):
    """The stage of every epoch."""
    last = c.stages + 1
    if c.variant == "cot":
        return [0] * c.epochs_per_stage
    if c.variant == "no_cot":
        return [last] * c.last_stage_epochs
    trains_base = coprocessor.VARIANTS[c.variant].trains_base
    first = c.first_stage if trains_base else max(1, c.first_stage)
    return [stage for stage in range(first, last) for _ in range(c.epochs_per_stage)] + [last] * c.last_stage_epochs


def stage_of_step(c, stages, epoch, step):
    """The stage of its epoch, or with probability mix_stages one drawn from all of the run's, so that none is forgotten.

    Coconut's code (its uniform_prob) draws a stage for each question, among as many as the question has steps. Here a batch has
    one, since the questions of a pass share a number of latents, and the ranks of a step a set of parameters.
    """
    rng = np.random.default_rng((c.seed, step, 1))  # so that a resumed run draws the same
    return rng.choice([*{*stages}]).item() if rng.random() < c.mix_stages else stages[epoch]


def latents_at(c, stage):
    return min(stage, c.stages) * c.latents_per_step


def model_for_stage(c, stage, model, n_latents):
    """The model with the latents of that stage. The last one has as many as the one before, stage 0 has none."""
    return coprocessor.with_latents(model, min(n_latents, latents_at(c, stage)))


def model_and_text_at(c, stages, epoch, model, n_latents, step):
    """What a step trains: -> the model, whose latents start the branch; written(an Item), the words left after them"""
    stage = stage_of_step(c, stages, epoch, step)
    return model_for_stage(c, stage, model, n_latents), partial(Item.written, c=c, stage=stage)


def read_items(c, split, tokenizer, model):
    """-> (list of Items, each of which fits the model at every stage; rows left out)"""
    n_latents = model.n_latents
    offsets = {stage: model_for_stage(c, stage, model, n_latents).branch_offset() for stage in {*stage_schedule(c)}}
    model.n_latents, context = n_latents, model.base.config.context

    def make(example):
        item = Item(example, tokenizer, model.ends_prompts_with)
        longest = max(len(item.question) + offset + len(item.written(c, stage).text) for stage, offset in offsets.items())
        if longest > context:
            raise ValueError(f"{longest} tokens, the model has {context} positions")
        return item

    limit = {"train": c.train_limit, "valid": c.valid_limit, "test": c.test_limit}[split]
    return questions.read(c.data, split, limit, c.skip_bad, make)


def main(argv=None):
    c = configure(Config, __doc__, argv, RESUME_MAY_CHANGE)
    names = [v for v in coprocessor.VARIANTS if v != "continued"]
    if c.variant not in names:
        raise ValueError(f"unknown variant {c.variant!r}: one of {', '.join(names)}")
    stages = stage_schedule(c)
    if not stages or c.first_stage > c.stages + 1:
        raise ValueError("no epochs to train: see first_stage, epochs_per_stage and last_stage_epochs")
    if c.reset_optimizer not in ("epoch", "stage", "never"):
        raise ValueError(f"reset_optimizer must be epoch, stage or never, not {c.reset_optimizer!r}")
    if c.mix_stages and (c.mix_stages > 1 or len({*stages}) == 1):
        raise ValueError(f"mix_stages={c.mix_stages} is a share, of a run of several stages; this one has {sorted({*stages})}")
    machine = runtime.start(c.device, c.precision)
    run = runtime.Run(c, machine, RESUME_MAY_CHANGE)

    # the system, new or the checkpoint's, and its questions
    torch.manual_seed(c.seed)
    items, left_out, n_latents = {}, [], c.stages * c.latents_per_step
    tokenizer = run.tokenizer(c.tokenizer)
    model, origin, base_crc32 = finetuning.load_start(c, tokenizer, n_latents, c.latents_per_step, run.checkpoint)
    for split in questions.SPLITS:
        items[split], bad = read_items(c, split, tokenizer, model)
        left_out += bad
    trained_on = {item.example.question for item in items["train"]}
    known = {split: sum(item.example.question in trained_on for item in items[split]) for split in ("valid", "test")}
    model, n_latents = model.to(machine.device).train(), model.n_latents
    steps_per_epoch = finetuning.steps_per_epoch(c, machine, len(items["train"]))
    steps, with_steps = (sum(map(f, items["train"])) for f in (lambda i: len(i.steps), lambda i: bool(i.steps)))
    if (stages[0] <= c.stages or c.step_weight) and with_steps < 0.1 * len(items["train"]):
        raise ValueError(
            f"{c.data}: only {with_steps} of {len(items['train'])} training questions have steps, which this run writes or "
            f"spells; --variant=no_cot or --first_stage={c.stages + 1} trains on answers alone"
        )
    valid, test = (EvalSet([i.question for i in items[s]], model, tokenizer, c, machine) for s in ("valid", "test"))

    # from here on there is a folder, which nobody else writes to
    ids = (ids for split in items.values() for item in split for ids in (item.question, *item.steps, item.answer))
    settings = dict(n_latents=n_latents, started_from=origin, base_crc32=base_crc32)
    optimizer = finetuning.begin(run, model, tokenizer, ids, settings, best=-1.0)
    machine.print(
        f"{origin}; {len(items['train']):,} questions with {steps / len(items['train']):.1f} steps each; {len(stages)} epochs "
        f"of {steps_per_epoch:,} optimizer steps, stages {stages[0]} to {stages[-1]}; {len(left_out)} rows left out",
        *left_out[:5],
        *(f"{n} of {len(items[split])} {split} questions are among those of training" for split, n in known.items() if n),
    )

    def validate(model):
        """The validation questions choose which weights of the stage are kept in best/; the test set never does."""
        graded = grade_answers([item.example for item in items["valid"]], valid.answer_questions(model))
        accuracy = np.mean([p["correct"] for p in graded]).item()
        if accuracy > run.state["best"]:
            run.state["best"] = accuracy
            run.save_best()
        return dict(valid_accuracy=accuracy), f", validation accuracy {accuracy:.1%}{valid.told_cut()}"

    for epoch in range(run.step // steps_per_epoch, len(stages)):
        # a stage begins: what was best before it answered from other latents, so it no longer counts; neither do, in
        # Coconut's recipe, the optimizer's moments of an epoch ago. (A run resumed within an epoch keeps both.)
        stage, epoch_begins = stages[epoch], run.step == epoch * steps_per_epoch
        stage_begins = epoch_begins and (epoch == 0 or stage != stages[epoch - 1])
        if stage_begins:
            run.state["best"] = -1.0
        if {"epoch": epoch_begins, "stage": stage_begins, "never": False}[c.reset_optimizer]:
            optimizer.state.clear()
        asked, at_step = (
            model_for_stage(c, stage, model, n_latents),
            partial(model_and_text_at, c, stages, epoch, model, n_latents),
        )
        finetuning.train_epoch(
            run, asked, optimizer, items["train"], epoch, len(stages), partial(validate, asked), at_step, stage=stage
        )

    # once, at the end, the test set: asked of the last stage's best weights
    run.stop_listening()
    torch.manual_seed(c.seed + run.step)  # as before each step
    if run.state["best"] < 0:
        run.save_best()  # validation failed after each of its epochs, so what is in best/ is of an earlier stage
    machine.barrier()  # until the best is on the disk
    best = coprocessor.load_variant(os.path.join(c.out_dir, "best"), run.config).to(machine.device)
    asked = model_for_stage(c, stages[-1], best, n_latents).eval()
    predictions = grade_answers([item.example for item in items["test"]], test.answer_questions(asked))
    if machine.master:
        correct = sum(p["correct"] for p in predictions)
        record = dict(step=run.step, tokens=run.state["tokens"], seconds=run.elapsed(), valid_accuracy=run.state["best"])
        record |= dict(test_accuracy=correct / len(predictions), test_questions=len(predictions))
        record |= test.cost(asked, lambda text: "#" in text)
        runtime.write_lines(os.path.join(c.out_dir, "predictions.jsonl"), predictions)
        run.log(
            record,
            f"test accuracy {record['test_accuracy']:.1%} ({correct} of {len(predictions)}{test.told_cut()}); "
            f"until the answer begins {record['passes_to_answer']:.1f} forward passes, {record['seconds_to_answer']:.3f} s\n"
            f"done: {c.out_dir}/predictions.jsonl holds every answer, {c.out_dir}/best the weights",
        )
    run.finish()


if __name__ == "__main__":
    one_line_errors(main)
