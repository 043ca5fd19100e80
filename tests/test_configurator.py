"""Defaults, then a config file, then --key=value; parsed, never executed; bad input is one line."""

import dataclasses
import functools
import glob
import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from configurator import Count, configure, one_line_errors

import pytest
from helpers import ROOT, run_here
from hypothesis import given
from hypothesis import strategies as st

import analyze_latents
import coprocessor
import countdown
import evaluate
import finetune_reasoning
import sample
import train


@dataclass
class Config:
    name: str = "a"  # a text
    steps: int = 10  # a whole number
    rate: float = 1e-3  # any number
    fast: bool = False  # a flag
    out_dir: str = ""


def test_file_overrides_defaults_and_command_line_overrides_file(tmp_path):
    file = tmp_path / "some_run.py"
    file.write_text('"""what it is"""\n# why\nsteps = 3 * 2**2  # twelve\nrate = steps * 0.25\nname = "b"\n')
    c = configure(Config, "", [str(file), "--name=c", "--fast"])
    assert c == Config("c", 12, 3.0, True, "out/some_run,name=c,fast=True")
    assert configure(Config, "", ["--steps=4e2", "--rate=2", "--fast=False"]).steps == 400


def test_include_reads_the_other_file_first(tmp_path):
    (tmp_path / "one.py").write_text("steps = 1\nrate = 0.5\n")
    (tmp_path / "two.py").write_text('include = "one.py"\nsteps = steps * 2\n')
    c = configure(Config, "", [str(tmp_path / "two.py")])
    assert (c.steps, c.rate, c.out_dir) == (2, 0.5, "out/two")


@pytest.mark.parametrize(
    "text, message",
    [
        ("stps = 3", "'stps'; the nearest is 'steps'"),
        ("steps = 2.5", "steps must be a whole number"),
        ("steps = True", "steps must be a whole number"),
        ("name = 1", "name must be a text"),
        ("fast = 1", "fast must be True or False"),
        ("steps = __import__('os').getpid()", "not a literal"),
        ("import os", "key = value"),
        ("rate = 1e200 * 10**100 * 10**100", "rate must be a number"),
        ("rate = rate**1000", "not a literal"),
    ],
)
def test_a_bad_config_file_is_one_line_with_its_place(tmp_path, text, message):
    file = tmp_path / "bad.py"
    file.write_text("rate = 1.0\n" + text + "\n")
    with pytest.raises(ValueError) as e:
        configure(Config, "", [str(file)])
    assert message in str(e.value) and "bad.py:2: " in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--stepps", "3"], "unknown key '--stepps'; the nearest is 'steps'"),
        (["-steps=3"], "unknown key '-steps'"),
        (["--steps=ten"], "steps must be a whole number"),
        (["--fast=yes"], "fast must be True or False"),
        (["a.py", "b.py"], "one config file at most"),
    ],
)
def test_a_bad_command_line_exits_with_one_line(argv, message, monkeypatch):
    monkeypatch.delenv("TRACE", raising=False)
    with pytest.raises(SystemExit) as e:
        one_line_errors(lambda: configure(Config, "", argv))
    assert message in e.value.code and "\n" not in e.value.code


@pytest.mark.parametrize(
    "argv, expected",
    [
        (["--steps", "3", "--rate=2", "--fast"], (3, 2.0, True)),
        (["--fast", "some_run.py", "--steps=5"], (5, 0.5, True)),  # a flag does not take what follows it
        (["some_run.py", "--fast=False", "--steps=40e2"], (4000, 0.5, False)),
        (["--steps=2 * 3", "--rate=10**2"], (6, 100.0, False)),
        (["--steps=0", "--rate=0"], (0, 0.0, False)),
    ],
)
def test_the_three_ways_to_write_an_option(argv, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some_run.py").write_text("rate = 0.5\n")
    c = configure(Config, "", argv)
    assert (c.steps, c.rate, c.fast) == expected and type(c.rate) is float and type(c.steps) is int


def test_a_run_of_another_script_has_no_settings_to_take(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(countdown.Config())))
    with pytest.raises(ValueError, match="config.json is of another script: it has no stages"):
        configure(finetune_reasoning.Config, "", [str(tmp_path), "--overwrite"])
    assert configure(countdown.Config, "", [str(tmp_path), "--overwrite"]) == countdown.Config(
        out_dir=str(tmp_path), overwrite=True
    )


# -----------------------------------------------------------------------------
# The folder of a run


def folder(*argv, resume_may_change=("fast",)):
    return configure(Config, "", [*argv], resume_may_change=resume_may_change).out_dir


@pytest.fixture
def some_run(tmp_path):
    file = tmp_path / "some_run.py"
    file.write_text("steps = 3\n")
    return str(file)


@pytest.mark.parametrize(
    "argv, name",
    [
        ([], "some_run"),
        (["--steps=4e2"], "some_run,steps=4e2"),  # as it was written
        (["--rate=.5", "--name=b", "--steps=7"], "some_run,rate=.5,name=b,steps=7"),  # in that order
        (["--steps=4", "--name=b", "--steps=5"], "some_run,steps=5,name=b"),  # the last one is what holds
        (["--fast", "--name="], "some_run,name="),  # fast changes nothing that is computed
        (["--name=out/h2_gpt2/checkpoint"], "some_run,name=out%2Fh2_gpt2%2Fcheckpoint"),
        (["--name=random:a"], "some_run,name=random%3Aa"),
        (["--name=50%,x=1"], "some_run,name=50%25%2Cx%3D1"),
        (["--name=größe"], "some_run,name=gr%C3%B6%C3%9Fe"),
    ],
)
def test_a_runs_folder_says_what_it_is(some_run, argv, name, tmp_path):
    assert folder(some_run, *argv) == os.path.join("out", name)
    os.makedirs(tmp_path / "out" / name)
    assert folder(some_run, *argv, "--out_dir=") == os.path.join("out", name)
    assert folder(some_run, *argv, "--out_dir=x") == folder(some_run, "--out_dir=x", *argv) == "x"


@given(st.lists(st.dictionaries(st.sampled_from(["name", "other"]), st.text(max_size=20)), min_size=2, max_size=2))
def test_two_settings_never_share_a_folder(settings):
    @dataclass
    class Two:
        name: str = ""
        other: str = ""
        out_dir: str = ""

    one, two = (configure(Two, "", [f"--{k}={v}" for k, v in s.items()]).out_dir for s in settings)
    assert (one == two) == ([*settings[0].items()] == [*settings[1].items()])
    assert not set(one.removeprefix("out" + os.sep)) & set('/\\:*?"<>|\0\n')


# -----------------------------------------------------------------------------
# The files of config/: their comments hold the lines that run them, and the shell takes these as they stand

FILES = sorted(glob.glob("config/*.py"))
SCRIPTS = {"train.py": train, "finetune_reasoning.py": finetune_reasoning, "countdown.py": countdown}
NO_SHELL = """
python() { printf 1; printf '\\t%s' "$@"; echo; }
torchrun() { printf %s "${1#--nproc_per_node=}"; shift; printf '\\t%s' "$@"; echo; }
"""  # they only say what they are asked for: ranks, script, arguments


@functools.cache
def recipe(file):
    """Every command in the file's comment -> [(ranks, script, arguments)]"""
    with open(file) as f:
        lines = "".join(line[4:] for line in f if line.startswith("#   "))
    done = subprocess.run(["sh", "-euc", NO_SHELL + lines], capture_output=True, text=True)
    assert done.returncode == 0, f"{file}: {done.stderr}"
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [(int(ranks), script, argv) for ranks, script, *argv in rows]


def runs(file):
    """Those that train -> [(ranks, script, the config file that is read, its settings)]"""
    for ranks, script, argv in recipe(file):
        if script in SCRIPTS and not {"--show", "--sums"} & {a.partition("=")[0] for a in argv}:
            module = SCRIPTS[script]
            yield ranks, script, argv[0], configure(module.Config, "", argv, resume_may_change=module.RESUME_MAY_CHANGE)


def every_run():
    return itertools.chain(*map(runs, FILES))


@pytest.mark.parametrize("file", FILES)
def test_every_config_shows_how_to_launch_it(file):
    launched = [script for _, script, argv in recipe(file) if argv == [file]]
    assert len(launched) == 1 and launched[0] in SCRIPTS, f"{file} has no launch line"
    for _, script, argv in recipe(file):
        assert os.path.isfile(script)
        assert script != "evaluate.py" or configure(evaluate.Config, "", argv)


@pytest.mark.parametrize("file", FILES)
def test_every_line_of_a_config_fits(file):
    """Batches divide over the ranks that it starts, and its settings are those of the config's name."""
    for ranks, script, config, c in runs(file):
        name = config.removeprefix("config/")
        {"train.py": large_scale, "finetune_reasoning.py": reasoning, "countdown.py": on_countdown}[script](name, c, ranks)
        if not name.startswith(("tiny", "small")):
            assert ("qwen3" in name) == (c.init_from in ("Qwen/Qwen3-0.6B", "out/h2_qwen3"))


def large_scale(name, c, ranks):
    assert c.tokens_per_step % (c.seq_len * c.batch_size * ranks) == 0
    assert coprocessor.site_limit(c, 1024) >= c.n_sites
    assert c.tokens >= c.tokens_per_step
    if not name.startswith(("tiny", "small")):
        assert name.startswith(c.variant + "_") and c.data.endswith("qwen3" if "qwen3" in name else "gpt2")


def reasoning(name, c, ranks):
    assert c.batch_size % (c.micro_batch * ranks) == 0 and finetune_reasoning.stage_schedule(c)
    if not name.startswith(("tiny", "small")):
        assert c.data.startswith("gsm8k" if "gsm8k" in name else "prosqa") and (c.tokenizer == "qwen3") == ("qwen3" in name)
        assert name.startswith((c.data.removesuffix("_aug") + "_", c.variant + "_")) and c.lr == 1e-4
        assert len(finetune_reasoning.stage_schedule(c)) <= 50


def on_countdown(name, c, ranks):
    assert c.batch_size % (c.micro_batch * ranks) == 0 and c.variant not in countdown.NOT_HERE
    if not name.startswith(("tiny", "small")):
        assert name.startswith("countdown_") and (c.tokenizer == "qwen3") == ("qwen3" in name)
        assert (c.epochs, c.lr, c.train_limit, c.test_limit) == (3, 1e-4, 0, 0)  # the paper's


def test_no_two_runs_share_a_folder():
    made = {}
    for _, script, _, c in every_run():
        assert made.setdefault(c.out_dir, (script, c)) == (script, c)
    assert len(made) >= 200
    for file in "config/countdown_gpt2.py", "config/countdown_qwen3.py", "config/tiny_countdown.py":
        assert len({c.out_dir for *_, c in runs(file)}) == len([*runs(file)]) >= 12  # the sweep of Figure 3B


def test_what_a_line_reads_is_made_by_another():
    made = {c.out_dir for *_, c in every_run()}
    needed = {c.init_from.removesuffix("/checkpoint/base") for *_, c in every_run() if c.init_from.startswith("out/")}
    for _, script, argv in itertools.chain(*map(recipe, FILES)):
        if script not in SCRIPTS:
            needed |= {a.removeprefix("--model=") for a in argv if a.removeprefix("--model=").startswith("out/")}
    assert len(needed) >= 20 and needed <= made


def test_systems_that_are_compared_train_equally_long():
    """A frozen Base has no stage 0, but as many epochs. Coconut on GSM8K is as published, and its config says so."""
    epochs = {"gsm8k_aug": 25, "prosqa": 50, "data/prosqa_9": 15, "data/prosqa_14": 18}  # by what they train on
    for *_, config, c in every_run():
        name = os.path.basename(config).removesuffix(".py").removesuffix("_gpt2").removesuffix("_qwen3")
        if name in ("gsm8k", "prosqa", "tiny_prosqa"):
            assert len(finetune_reasoning.stage_schedule(c)) == epochs[c.data], (config, c.out_dir)


def family_of(c):
    return "qwen3" if "wen3" in c.init_from else "gpt2"


def large(c):
    """Does it start from a large-scale run?"""
    return c.init_from.startswith("out/h2_")


def test_every_run_of_the_paper_has_its_line():
    text, asked, counted, analysed = set(), set(), set(), set()
    looked_at = [argv[0] for _, script, argv in itertools.chain(*map(recipe, FILES)) if script == "analyze_latents.py"]
    for _, script, config, c in every_run():
        if "tiny" in config:
            continue
        if script == "train.py":
            found = (family_of(c), c.variant, c.n_latents)
            text.add(found)
        elif script == "finetune_reasoning.py":
            stages = tuple(sorted(set(finetune_reasoning.stage_schedule(c))))
            found = (c.data.removesuffix("_aug"), family_of(c), c.variant, c.stages * c.latents_per_step, stages, large(c))
            asked.add(found)
        else:
            found = (family_of(c), c.variant, c.operands, c.n_latents, large(c))
            counted.add(found)
        analysed |= {found} if c.out_dir in looked_at else set()

    curriculum, frozen, tasks, families = (0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5), ("gsm8k", "prosqa"), ("gpt2", "qwen3")
    evaluated = {argv[0] for _, script, argv in itertools.chain(*map(recipe, FILES)) if script == "evaluate.py"}
    for f in families:
        for v in "continued", "soft", "liu", "h1", "h2":  # Figure 2A and B, Table 1
            assert (f, v, 16) in text and f"--model=out/{v}_{f}" in evaluated
        assert {(f, "h2", n) for n in (1, 2, 4, 8)} <= text  # Figure 2C and D
        for task in tasks:
            assert {(task, f, v, 12, curriculum, False) for v in ("soft", "h2")} <= asked  # Table 2
            assert {(task, f, v, 12, frozen, False) for v in ("liu", "h1")} <= asked
            assert {(task, f, v, n, curriculum, False) for v in ("soft", "h2") for n in (4, 8, 16)} <= asked  # Figures 3A, 7
            # Tables 3 and 4: resumed; straight to 16, as it is written, and at the last stage
            assert {(task, f, "h2", 16, stages, True) for stages in (curriculum, (1,), (2,))} <= asked
        for n in 3, 4, 5:
            assert {(f, v, n, size, False) for v in ("soft", "h2") for size in (1, 2, 4, 8, 16)} <= counted  # Figure 3B
            assert {(f, "h1", n, 16, False), (f, "h2", n, 16, True)} <= counted  # Figure 8
    assert ("gsm8k", "gpt2", "coconut", 6, (1, 2, 3, 4), False) in asked  # Table 2
    assert ("prosqa", "gpt2", "coconut", 6, (*range(8),), False) in asked
    assert {("gsm8k", "gpt2", "coconut", n, frozen, False) for n in (4, 8, 12, 16)} <= asked  # Figure 3A
    # Figures 4 and 9, Table 5
    assert {("gpt2", "h2", 16), *(("gpt2", "h2", n, 16, False) for n in (3, 4, 5))} <= analysed
    assert {("gsm8k", "gpt2", "h2", 12, stages, False) for stages in (curriculum, (5,))} <= analysed


def test_the_published_coconut_recipe():
    """Stages 1 to 3 from a CoT run, epochs 3 to 24 on GSM8K; stages 0 to 6, 50 epochs on ProsQA."""
    c = configure(finetune_reasoning.Config, "", ["config/coconut_gsm8k_gpt2.py"])
    assert finetune_reasoning.stage_schedule(c) == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 13 and c.latents_per_step == 2
    c = configure(finetune_reasoning.Config, "", ["config/coconut_prosqa_gpt2.py"])
    assert finetune_reasoning.stage_schedule(c) == [s for s in range(7) for _ in range(5)] + [7] * 15
    assert c.latents_per_step == 1


@pytest.mark.parametrize("script", [train, finetune_reasoning, countdown, evaluate, analyze_latents, sample])
def test_a_number_that_means_nothing_is_refused_by_name(script):
    """Negative, not a number, infinite, larger than what torch takes"""
    for field in dataclasses.fields(script.Config):
        texts = ["-1", "nan", "inf", "10**60"] + ["0"] * (field.type is Count)
        for text in texts * (type(field.default) in (int, float)):
            with pytest.raises(ValueError, match=rf"^{field.name} must be a (whole )?number from [01] on, not "):
                configure(script.Config, "", [f"--{field.name}={text}"])


@pytest.mark.parametrize("text", ["10**10**10", "'a' * 10**9", "(" * 5000 + "1" + ")" * 5000])
def test_arithmetic_that_would_not_end_is_refused_at_once(text, tmp_path):
    with pytest.raises(ValueError, match="^tokens must be a whole number"):
        configure(train.Config, "", [f"--tokens={text}"])
    (tmp_path / "c.py").write_text(f"tokens = {text}\n")
    with pytest.raises((ValueError, SyntaxError), match="c.py:1: |c.py, line 1"):
        configure(train.Config, "", [str(tmp_path / "c.py")])


@pytest.mark.parametrize("key, text", [("warmup", "1.5"), ("min_lr", "2")])
def test_a_share_above_one_is_refused_before_there_is_a_run(key, text, tmp_path, train_settings):
    with pytest.raises(ValueError, match=f"{key}={text}"):
        run_here(train, train_settings | {key: text}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "latin-1"])
def test_a_config_is_read_in_the_encoding_that_it_says(tmp_path, encoding):
    """A byte-order mark says so, too; without either it is UTF-8."""
    file, says = tmp_path / "c.py", "# coding: latin-1\n" * (encoding == "latin-1")
    file.write_bytes(f"{says}name = 'größe'\n".encode(encoding))
    assert configure(Config, "", [str(file)]).name == "größe"
    file.write_bytes("name = 'größe'\n".encode("latin-1"))
    with pytest.raises(SyntaxError, match="c.py, line 1"):
        configure(Config, "", [str(file)])


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_pipe_that_is_closed_ends_a_script_quietly(lines):
    """Whether it notices while it writes or only at its end"""
    program = f"from configurator import one_line_errors\none_line_errors(lambda: print(*range({lines}), sep='\\n'))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
