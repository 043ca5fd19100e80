"""Defaults, then a config file, then --key=value; parsed, never executed; bad input is one line."""

import glob
from dataclasses import dataclass

import pytest

import coprocessor
import countdown
import evaluate
import finetune_reasoning
import train
from configurator import configure, one_line_errors


@dataclass
class Config:
    name: str = "a"  # a text
    steps: int = 10  # a whole number
    rate: float = 1e-3  # any number
    fast: bool = False  # a flag
    out_dir: str = ""


def test_file_overrides_defaults_and_command_line_overrides_file(tmp_path):
    file = tmp_path / "some_run.py"
    file.write_text('"""what it is"""\n# why\nsteps = 3 * 2**2  # twelve\nrate = steps / 4\nname = "b"\n')
    c = configure(Config, "", [str(file), "--name=c", "--fast"])
    assert c == Config("c", 12, 3.0, True, "out/some_run")
    assert configure(Config, "", ["--steps=4e2", "--rate=2", "--fast=False"]).steps == 400


def test_a_file_that_includes_itself_is_refused(tmp_path):
    (tmp_path / "one.py").write_text('include = "two.py"\n')
    (tmp_path / "two.py").write_text('include = "one.py"\n')
    with pytest.raises(ValueError, match="one.py includes itself"):
        configure(Config, "", [str(tmp_path / "one.py")])


def test_include_reads_the_other_file_first(tmp_path):
    (tmp_path / "one.py").write_text("steps = 1\nrate = 0.5\n")
    (tmp_path / "two.py").write_text('include = "one.py"\nsteps = steps + 1\n')
    c = configure(Config, "", [str(tmp_path / "two.py")])
    assert (c.steps, c.rate, c.out_dir) == (2, 0.5, "out/two")


@pytest.mark.parametrize(
    "text, message",
    [
        ("stps = 3", "'stps'; the nearest is 'steps'"),
        ("steps = 'x'", "steps must be of type int"),
        ("steps = 2.5", "steps must be of type int"),
        ("fast = 1", "fast must be of type bool"),
        ("steps = __import__('os').getpid()", "not a literal"),
        ("steps = unknown + 1", "not a literal"),
        ("import os", "key = value"),
        ("steps = 1 / 0", "division by zero"),
        ("steps = = 3", "invalid syntax"),
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
        (["--lerning=3"], "unknown key 'lerning'"),
        (["--steps=ten"], "must be of type int"),
        (["--steps=1e999"], "must be of type int"),
        (["--fast=yes"], "must be of type bool"),
        (["--steps"], "must be of type int"),
        (["no/such/file.py"], "no config file no/such/file.py"),
        (["a.py", "b.py"], "one config file at most"),
    ],
)
def test_a_bad_command_line_exits_with_one_line(argv, message, monkeypatch):
    monkeypatch.delenv("TRACE", raising=False)
    with pytest.raises(SystemExit) as e:
        one_line_errors(lambda: configure(Config, "", argv))
    assert message in e.value.code and "\n" not in e.value.code


@pytest.mark.parametrize("script", [train, finetune_reasoning, countdown, evaluate])
def test_help_lists_every_key_with_default_and_comment(script, capsys):
    with pytest.raises(SystemExit) as e:
        configure(script.Config, script.__doc__, ["--help"])
    lines = {line.strip().partition("=")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert e.value.code == 0
    for key, field in script.Config.__dataclass_fields__.items():
        default = lines[f"--{key}"].partition("=")[2]
        if isinstance(field.default, str):
            assert default.startswith(f'"{field.default}"')
        else:
            assert default[0] in "-.0123456789TF"
    for key in {"init_from", "model", "out_dir"} & script.Config.__dataclass_fields__.keys():
        assert lines[f"--{key}"][40:].strip(), "no comment"


def script_of(file):
    """The script that the file's launch line names, and the ranks it starts."""
    with open(file) as f:
        text = f.read()
    (script,) = {
        s for s in ("train", "finetune_reasoning", "countdown") if f"{s}.py {file}" in text
    }  # the file shows how to launch it
    return script, 8 if f"nproc_per_node=8 {script}.py {file}" in text else 1


CONFIGS = [(file, *script_of(file)) for file in sorted(glob.glob("config/*.py"))]


@pytest.mark.parametrize("file, ranks", [(file, ranks) for file, script, ranks in CONFIGS if script == "train"])
def test_every_large_scale_config_fits_its_launch_line(file, ranks):
    """Steps divide over the ranks of the launch line in the file, and sites fit."""
    c = configure(train.Config, "", [file])
    assert c.tokens_per_step % (c.seq_len * c.batch_size * ranks) == 0
    assert coprocessor.site_limit(c, 1024) >= c.n_sites
    assert c.tokens >= c.tokens_per_step


@pytest.mark.parametrize("file, ranks", [(file, ranks) for file, script, ranks in CONFIGS if script == "finetune_reasoning"])
def test_every_reasoning_config_fits_its_launch_line(file, ranks):
    """Batches divide over the ranks; the system, the task and the family are those of the file's name."""
    c = configure(finetune_reasoning.Config, "", [file])
    assert c.batch_size % (c.micro_batch * ranks) == 0 and finetune_reasoning.plan(c)
    name = file.removeprefix("config/")
    if not name.startswith("tiny"):
        assert name.startswith(c.variant + "_") and c.data.startswith("gsm8k" if "gsm8k" in name else "prosqa")
        assert (c.tokenizer == "qwen3") == (c.init_from == "Qwen/Qwen3-0.6B") == ("qwen3" in name)
        assert len(finetune_reasoning.plan(c)) <= 50 and c.lr == 1e-4


@pytest.mark.parametrize("file, ranks", [(file, ranks) for file, script, ranks in CONFIGS if script == "countdown"])
def test_every_countdown_config_fits_its_launch_line(file, ranks):
    c = configure(countdown.Config, "", [file])
    assert c.batch_size % (c.micro_batch * ranks) == 0 and c.variant in countdown.TRAINS
    name = file.removeprefix("config/")
    if not name.startswith("tiny"):
        assert name.startswith(c.variant + "_countdown_")
        assert (c.tokenizer == "qwen3") == (c.init_from == "Qwen/Qwen3-0.6B") == ("qwen3" in name)
        assert (c.epochs, c.lr, c.train_limit, c.test_limit) == (3, 1e-4, 0, 0)  # the paper's


def test_the_published_coconut_recipe():
    """Stages 1 to 3 from a CoT run, epochs 3 to 24 on GSM8K; stages 0 to 6, 50 epochs on ProsQA."""
    c = configure(finetune_reasoning.Config, "", ["config/coconut_gsm8k_gpt2.py"])
    assert finetune_reasoning.plan(c) == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 13 and c.latents_per_step == 2
    c = configure(finetune_reasoning.Config, "", ["config/coconut_prosqa_gpt2.py"])
    assert finetune_reasoning.plan(c) == [s for s in range(7) for _ in range(5)] + [7] * 15 and c.latents_per_step == 1
