"""The run as a whole: it resumes to the byte, ranks agree, validation is shared, and bad input is one clear line."""

import json
import math
import os
import resource
import shutil
from pathlib import Path

from configurator import one_line_errors

import numpy as np
import pytest
import torch
from helpers import MACHINE, cut_and_resume, run_here, run_ranks, same_bytes
from test_data import make_shards

import coprocessor
import data
import runtime
import train
from model import random_model


@pytest.fixture
def run(train_settings, tmp_path):
    """run(name, **changes): train.py in this process, or its one line of error -> the run's folder"""

    def run(name, *more, **changes):
        one_line_errors(lambda: run_here(train, train_settings | changes, tmp_path / name, *more))
        return tmp_path / name

    return run


def metrics(out):
    """without the timings"""
    return [{k: v for k, v in r.items() if k != "seconds"} for r in runtime.read_metrics(out)]


def weights(out):
    return {f.relative_to(out): f.read_bytes() for f in sorted(Path(out).rglob("*.safetensors"))}


@pytest.mark.parametrize("variant", [v for v in coprocessor.VARIANTS if v not in coprocessor.REASONING])
def test_every_variant_trains_saves_and_loads(variant, tmp_path, run, capsys):
    run("a", variant=variant)
    lines = metrics(tmp_path / "a")
    assert [r["step"] for r in lines] == list(range(9)) and [r["step"] for r in lines if "val_ppl" in r] == [0, 4, 8]
    assert lines[-1]["tokens"] == 8 * 96 and lines[-1]["val_ppl"] < lines[0]["val_ppl"]
    assert "8/8" in capsys.readouterr().out
    model, config = coprocessor.load_run(tmp_path / "a")
    assert config.pop("started_in") == os.getcwd() and config.pop("base_crc32")
    c = train.Config(**config)
    batches = coprocessor.Batches(data.Rows(c.data, "val", 24), c, 21, torch.device("cpu"))
    assert coprocessor.validate(model, batches, c, MACHINE).items() <= lines[-1].items()


def test_a_run_s_folder_stands_for_its_settings(tmp_path, run, capsys):
    run("a", tokens=4 * 96)
    for argv in (["--resume"], ["--resume", "--log_every=3"]):
        train.main([str(tmp_path / "a"), *argv])
        assert '"n_latents": 2' in capsys.readouterr().out
    for argv, message in (([], "exists: --resume goes on"), (["--lr=1", "--resume"], "another config: lr was 0.001, now 1.0")):
        with pytest.raises((FileExistsError, ValueError), match=message):
            train.main([str(tmp_path / "a"), *argv])


def test_a_base_that_has_read_another_tokenizer_s_ids_is_refused(tmp_path, run):
    """They would fit, and mean something else; a copy of the same tokenizer, under another name, is the same."""
    random_model("tiny_gpt2", 300).save_pretrained(tmp_path / "base")
    (tmp_path / "corpus").mkdir()
    for name, words in (("corpus", "a few words"), ("base", "other words, of course")):
        data.train_tokenizer([words], 300, str(tmp_path / name / "tokenizer.json"))
    own = data.tokenizer_of(str(tmp_path / "corpus")).name
    for split, size in (("train", 3000), ("val", 600)):
        make_shards(tmp_path / "corpus", [size], split=split, tokenizer=own)
    with pytest.raises(SystemExit, match="base has read another tokenizer's ids than those of .*corpus"):
        run("a", data=tmp_path / "corpus", init_from=tmp_path / "base")
    shutil.copy(tmp_path / "corpus" / "tokenizer.json", tmp_path / "base" / "tokenizer.json")
    run("a", data=tmp_path / "corpus", init_from=tmp_path / "base", tokens=2 * 96)
    data.train_tokenizer(["other words, of course"], 300, str(tmp_path / "corpus" / "tokenizer.json"))  # of other shards
    with pytest.raises(SystemExit, match="_000.bin holds the ids of another tokenizer than .*corpus has"):
        run("b", data=tmp_path / "corpus", tokens=2 * 96)


def test_killed_between_the_two_renames_the_old_checkpoint_loads(tmp_path, run):
    run("a", tokens=4 * 96)
    os.rename(tmp_path / "a" / "checkpoint", tmp_path / "a" / "checkpoint.old")
    (tmp_path / "a" / "checkpoint.new").mkdir()
    assert runtime.checkpoint_of(tmp_path / "a").endswith("checkpoint.old")
    assert coprocessor.load_run(tmp_path / "a")[1]["variant"] == "h2"
    run("a", tokens=4 * 96, resume=True)


def first_gradient(out):
    """From AdamW's state after one step: exp_avg = (1 - beta1) x gradient."""
    saved = torch.load(out / "checkpoint" / "optimizer.pt", weights_only=True)
    return {i: moments["exp_avg"] / 0.1 for i, moments in saved.items()}


@pytest.mark.parametrize("variant", ["continued", "h2"])
def test_two_ranks_and_accumulation_equal_one_process(variant, tmp_path, train_settings, run):
    """The same 8 rows as one batch, as 4 micro-batches, on two ranks with 2 micro-batches each"""
    one_step = dict(variant=variant, tokens_per_step=8 * 24, tokens=8 * 24, clip=1e9)
    run("one", **one_step, batch_size=8)
    run("accumulated", **one_step, batch_size=2)
    run_ranks(train, train_settings | one_step | dict(batch_size=2), tmp_path / "ranks", 2)
    wanted, gradient = metrics(tmp_path / "one"), first_gradient(tmp_path / "one")
    for way in ("accumulated", "ranks"):
        for a, b in zip(metrics(tmp_path / way), wanted, strict=True):
            assert a.pop("val_nll", 0) == pytest.approx(b.get("val_nll", 0), rel=1e-6), way
            assert a == pytest.approx({key: b[key] for key in a}, rel=1e-6), way
        for name, g in first_gradient(tmp_path / way).items():
            assert torch.allclose(g, gradient[name], rtol=0, atol=1e-6), (way, name)


def test_clipping_to_zero_is_no_clipping_and_to_little_is_little(tmp_path, run):
    one_step = dict(tokens_per_step=8 * 24, tokens=8 * 24, batch_size=8)
    for clip in (0, 1e9, 0.01):
        run(str(clip), **one_step, clip=clip)
    none, all_of_it, little = (first_gradient(tmp_path / str(clip)) for clip in (0, 1e9, 0.01))
    assert all(torch.equal(none[name], all_of_it[name]) for name in none) and none.keys() == all_of_it.keys()
    assert math.sqrt(sum(g.double().square().sum() for g in little.values())) == pytest.approx(0.01, rel=1e-3)


def test_validation_targets_are_the_same_for_every_variant_and_n_latents(train_settings):
    seen = []
    for variant, n_latents in [("continued", 3), ("h1", 1), ("h2", 3), ("h2", 1)]:
        c = train.Config(**train_settings | dict(variant=variant, n_latents=n_latents, seed=n_latents))
        batches = coprocessor.Batches(data.Rows(c.data, "val", 24), c, coprocessor.site_limit(c, 25), torch.device("cpu"))
        tokens, sites = batches(range(5))
        seen.append(coprocessor.ahead_tokens(tokens, sites, c.n_ahead))
        assert sites.max() + c.n_ahead == 23, "every site has its ahead tokens, and the last place is drawn, too"
    assert all(torch.equal(s, seen[0]) for s in seen)


def test_validation_is_the_mean_over_ahead_tokens(train_settings):
    """continued, scored one target at a time by the plain causal pass"""
    c = train.Config(**train_settings | dict(variant="continued"))
    model = coprocessor.build("continued", random_model("tiny_gpt2", 50), 0)
    batches = coprocessor.Batches(data.Rows(c.data, "val", 24), c, 21, torch.device("cpu"))
    nll = [[], [], []]  # by ahead token
    for n in range(6):
        tokens, sites = batches([n])
        logp = model.base.logits(model.base.prefix(tokens)[0])[0].log_softmax(-1)
        for i in range(3):
            nll[i] += [-logp[s + i, tokens[0, s + i + 1]].item() for s in sites[0]]
    got = coprocessor.validate(model, batches, c, MACHINE)
    assert got["val_nll"] == pytest.approx([sum(x) / len(x) for x in nll], rel=1e-5)
    assert got["val_ppl"] == pytest.approx(math.exp(sum(map(sum, nll)) / sum(map(len, nll))), rel=1e-5)


def test_the_learning_rate_warms_up_and_follows_a_cosine():
    c = train.Config(lr=1.0, min_lr=0.1, warmup=0.1)
    lr = [train.learning_rate(c, s, 100) for s in range(100)]
    assert lr[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert lr[10] == 1.0 and lr[55] == pytest.approx(0.55) and 0.1 < lr[99] < 0.101 and lr[10:] == sorted(lr[10:], reverse=True)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(variant="h3"), "unknown variant 'h3': one of continued, soft, liu, h1, h2"),
        (dict(seq_len=257, tokens_per_step=257 * 4, tokens=9999), "seq_len=257 is more than the 256 positions"),
        (dict(step_weight=1.0), "text has no steps to spell"),
        (dict(text_positions="theirs"), "text_positions must be own or pushed"),
        (dict(n_latents=0), "needs n_latents >= 1"),
        (dict(tokens_per_step=100), "tokens_per_step=100 is not a multiple of seq_len x batch_size x ranks = 24 x 4 x 1"),
        (dict(precision="fp8"), "precision must be"),
        (dict(tokens=95), "tokens=95 is less than one step"),
        (dict(resume=True, overwrite=True), "exclude each other"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_behind(settings, message, tmp_path, run, monkeypatch):
    monkeypatch.delenv("TRACE", raising=False)
    with pytest.raises(SystemExit) as e:
        run("a", **settings)
    assert message in e.value.code and "\n" not in e.value.code
    assert os.listdir(tmp_path) == []


def test_a_run_is_not_resumed_on_other_data(tmp_path, run):
    make_shards(tmp_path / "corpus", [3000])
    make_shards(tmp_path / "corpus", [600], split="val")
    run("a", data=tmp_path / "corpus", tokens=4 * 96)
    (tmp_path / "corpus" / "val_000.bin").rename(tmp_path / "val")
    make_shards(tmp_path / "corpus", [700], split="val")
    with pytest.raises(SystemExit, match="holds other rows"):
        run("a", data=tmp_path / "corpus", tokens=4 * 96, resume=True)
    (tmp_path / "val").rename(tmp_path / "corpus" / "val_000.bin")
    make_shards(tmp_path / "corpus", [3000, 2000])
    with pytest.raises(SystemExit, match="corpus holds other rows than when the run began"):
        run("a", data=tmp_path / "corpus", tokens=4 * 96, resume=True)
    (tmp_path / "corpus" / "train_001.bin").unlink()
    data.write_shard(str(tmp_path / "corpus" / "train_000.bin"), [np.arange(3000) % 50], "gpt2", 50)
    with pytest.raises(SystemExit, match="corpus holds other rows"):
        run("a", data=tmp_path / "corpus", tokens=4 * 96, resume=True)


def test_a_run_keeps_the_checksum_of_its_base_wherever_that_lay(tmp_path, run):
    def checksum_of(name, **settings):
        run(name, tokens=2 * 96, **settings)
        return runtime.read_json(tmp_path / name / "config.json")["base_crc32"]

    drawn = checksum_of("a")
    assert checksum_of("again", variant="soft") == drawn != checksum_of("other", seed=2), "random weights are drawn by the seed"
    base = coprocessor.load_run(str(tmp_path / "a"))[0].base
    trained = coprocessor.checksum(base)
    shutil.copytree(tmp_path / "a" / "checkpoint" / "base", tmp_path / "folder")
    assert checksum_of("b", init_from=tmp_path / "a") == trained != drawn, "another run's is of what that has trained"
    assert checksum_of("c", init_from=tmp_path / "folder", variant="continued") == trained
    # a run that goes on has its weights in its checkpoint: what lies in the place of its Base by then does not count
    random_model("tiny_gpt2", base.config.vocab_size).save_pretrained(tmp_path / "folder")
    assert checksum_of("c", init_from=tmp_path / "folder", variant="continued", resume=True) == trained
    with torch.no_grad():
        base.norm.weight[3] += 1e-6
    assert coprocessor.checksum(base) != trained


def test_a_foreign_shard_is_refused(tmp_path, run):
    make_shards(tmp_path / "corpus", [500], split="val")
    make_shards(tmp_path / "corpus", [500], vocab_size=60000)
    with pytest.raises(SystemExit, match="60000 token ids, .* only 512"):
        random_model("tiny_gpt2").save_pretrained(tmp_path / "base")
        run("a", data=tmp_path / "corpus", init_from=tmp_path / "base")
    assert not (tmp_path / "a").exists()


def test_an_existing_run_is_neither_overwritten_nor_resumed_as_another(tmp_path, run):
    run("a", tokens=4 * 96)
    before = weights(tmp_path / "a")
    with pytest.raises(SystemExit, match="exists: --resume"):
        run("a")
    with pytest.raises(SystemExit, match="another config: n_latents was 2, now 3"):
        run("a", tokens=4 * 96, n_latents=3, resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    random_model("tiny_gpt2", 50).save_pretrained(tmp_path / "model")
    for folder in ("mine", "model"):
        with pytest.raises(SystemExit, match="not a run folder"):
            run(folder, overwrite=True)
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert weights(tmp_path / "a") == before and (tmp_path / "mine" / "thesis.tex").exists()


def test_a_full_disk_while_saving_keeps_the_checkpoint_before(tmp_path, run):
    """The disk takes no file larger than 256 KB from the second checkpoint on."""
    run("a", tokens=2 * 96)
    before = weights(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | {"tokens": 4 * 96}))  # so that it goes on
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, limit[1]))
    try:
        with pytest.raises(SystemExit, match="cannot save .*checkpoint .*; the one before it is untouched"):
            run("a", tokens=4 * 96, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert weights(tmp_path / "a") == before and not (tmp_path / "a" / "checkpoint.new").exists()


# -----------------------------------------------------------------------------
# Variants as forks write them


class Nested(coprocessor.H2):
    """A random number of latents at each step of training"""

    def pass2_start(self, prefix, sites):
        start = super().pass2_start(prefix, sites)
        n = int(torch.randint(1, self.n_latents + 1, ())) if self.training else self.n_latents
        return start._replace(x=start.x[:, :, :n], positions=start.positions[:, :, :n])


class Shallow(coprocessor.H2):
    """A Coprocessor of one layer"""

    def make_coprocessor(self, base):
        made = super().make_coprocessor(base)
        made.blocks = made.blocks[:1]
        return made

    def latents(self, prefix, sites, cache_only=False):
        return super().latents(prefix._replace(kv=prefix.kv[:1]), sites, cache_only)


def test_random_numbers_of_a_variant_s_own_resume_to_the_same_bytes(tmp_path, train_settings, monkeypatch):
    monkeypatch.setitem(coprocessor.VARIANTS, "nested", Nested)
    settings = train_settings | dict(variant="nested", n_latents=3)
    whole = run_here(train, settings, tmp_path / "whole")
    out = cut_and_resume(train, settings, tmp_path / "cut", 4)
    same_bytes(whole, out, "checkpoint/base/model.safetensors", "checkpoint/added.safetensors")


def test_cost_is_that_of_the_networks_that_ran(train_settings):
    """A smaller Coprocessor costs less: by its weights, at the positions that it ran, forward and backward."""
    c, base = train.Config(**train_settings), random_model("tiny_gpt2", 50)
    whole, less = coprocessor.H2(base, c.n_latents), Shallow(base, c.n_latents)
    (positions, flops), (same, fewer) = (train.flops_per_sequence(model, c) for model in (whole, less))
    assert positions == same
    block = sum(p.numel() for p in base.blocks[1].parameters())
    keys = (coprocessor.site_limit(c, base.config.context) + 1) / 2 + c.n_latents / 2
    n = c.n_sites * c.n_latents
    assert flops - fewer == pytest.approx(3 * n * (2 * block + 4 * base.config.width * keys))


def test_validation_that_fails_does_not_take_the_steps_before_it_along(tmp_path, run, monkeypatch):
    validate = coprocessor.validate
    calls = iter([validate, lambda *_: (_ for _ in ()).throw(ValueError("broken"))])
    monkeypatch.setattr(coprocessor, "validate", lambda *a: next(calls)(*a))
    with pytest.raises(SystemExit, match="broken"):
        run("a", checkpoint_every=1000, eval_every=4)
    assert runtime.read_json(tmp_path / "a" / "checkpoint" / "state.json")["step"] == 4


def test_a_damaged_checkpoint_is_not_gone_on_with_and_its_file_is_named(tmp_path, run):
    run("a", tokens=2 * 96)
    for file, named in (("base/model.safetensors", "checkpoint/base"), ("added.safetensors", "added.safetensors: ")):
        path = tmp_path / "a" / "checkpoint" / file
        good = path.read_bytes()
        path.write_bytes(good[:-5])
        with pytest.raises(SystemExit, match=named):
            run("a", "--resume", tokens=2 * 96)
        path.write_bytes(good)
