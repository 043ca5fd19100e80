"""Finished runs become lines of results/tiny.jsonl, one a run: what figures, tables and the page are made from.

    python -m paper.collect out/paper/text_h2_s1 ...    # paper/runs.sh does this as each run ends

A run's commit and command are the first line of its log, out/paper/<name>.log, which paper/runs.sh writes.
"""

import os
import sys

from configurator import one_line_errors, read_json

import numpy as np
import torch
from filelock import FileLock
from safetensors import safe_open

import coprocessor
import runtime
from data import Rows, tokenizer_of
from finetuning import Item
from questions import Example, rows_in

RECORDS = "results/tiny.jsonl"
EVALUATED = {"val_ppl", "valid_accuracy", "test_accuracy"}
INTERVENTIONS = "interventions"  # in latents.json: {what was done to the latents: the score then}


def read(folder):
    """A run's folder -> its record: name, family, config; parameters, of the Base; metrics, lines with an evaluation and the
    last with a loss; latents, of analyze_latents.py; asked, how many test questions, and correct, a bit for each, as hex.
    """
    folder = os.path.normpath(folder)
    config, lines = read_json(os.path.join(folder, "config.json")), runtime.read_metrics(folder)
    base = os.path.join(runtime.weights_of(folder), "base")
    family = read_json(os.path.join(base, "config.json"))["model_type"]
    with safe_open(os.path.join(base, "model.safetensors"), "np") as f:
        parameters = sum(int(np.prod(f.get_slice(name).get_shape())) for name in f.keys())
    last = [line for line in lines if "loss" in line][-1:]
    metrics = [line for line in lines if EVALUATED & line.keys() or line in last]
    config.pop("started_in", None)  # where on which machine is nobody's business
    record = dict(name=os.path.basename(folder), family=family, parameters=parameters, config=config, metrics=metrics)
    if os.path.exists(f"{folder}/latents.json"):
        latents = record["latents"] = read_json(f"{folder}/latents.json")
        latents["capture"] = np.round(latents["capture"], 4).tolist()  # it is only drawn, as colours
        latents.pop("words", None)
    if os.path.exists(f"{folder}/predictions.jsonl"):
        correct = [line["correct"] for line in runtime.read_lines(f"{folder}/predictions.jsonl")]
        record |= dict(asked=len(correct), correct=np.packbits(correct).tobytes().hex())
    return record


@torch.no_grad()
def likelier(run, rows):
    """Questions of ProsQA, as in its files -> of how many, in %, a run finds the right answer likelier, whatever it writes"""
    model, tokenizer = coprocessor.load_run(run)[0], tokenizer_of(run)

    def nll(row, candidate):
        name, concept = (row["idx_to_symbol"][row[key]] for key in ("root", candidate))
        item = Item(Example(row["question"], [], f"{name} is a {concept}.", ""), tokenizer, model.ends_prompts_with)
        sites = torch.tensor([[len(item.question) - 1]])
        return model.ahead_nll(torch.tensor([item.question]), sites, torch.tensor([[item.answer]])).sum()

    return 100 * float(np.mean([bool(nll(row, "target") < nll(row, "neg_target")) for row in rows]))


def collect(folder):
    """A run's folder -> its record, with how and where it was made; of runs on text rows, of their training data

    Raises ValueError for a run that is not at its end.
    """
    folder = os.path.normpath(folder)
    with open(f"{folder}.log", encoding="utf-8") as f:
        commit, command = f.readline().rstrip("\n").split(" ", 1)
    record = read(folder)
    config, end = record["config"], record["metrics"][-1]
    if "test_accuracy" not in end and end["tokens"] + config.get("tokens_per_step", 0) <= config.get("tokens", 0):
        raise ValueError(f"{folder} stopped at step {end['step']}, before its end")
    if "seq_len" in config:  # how much text there was to train on
        record["rows"] = Rows(config["data"], "train", config["seq_len"]).count
    record |= dict(command=command, commit=commit, seconds=round(end["seconds"]))
    asked = os.path.join(config["data"], "prosqa_test.json")
    if "stages" in config and os.path.exists(asked) and (rows := [row for _, row in rows_in(asked) if "root" in row]):
        record["likelier"] = likelier(folder, rows)
    on_gpu = config["device"] != "cpu" and torch.cuda.is_available()
    return record | (dict(gpu=torch.cuda.get_device_name()) if on_gpu else {})


def records(path=RECORDS):
    """-> {name: record}"""
    return {record["name"]: record for record in runtime.read_lines(path)}


def main(argv=None):
    new = {record["name"]: record for record in map(collect, sys.argv[1:] if argv is None else argv)}
    with FileLock("out/paper/.lock"):  # two runs may end at once
        kept = records() | new
        runtime.write_lines(RECORDS, [kept[name] for name in sorted(kept)])
    print(f"{RECORDS} has {', '.join(new)}")


if __name__ == "__main__":
    one_line_errors(main)
