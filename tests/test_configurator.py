"""Defaults, then a config file, then --key=value; parsed, never executed; bad input is one line."""

import glob
from dataclasses import dataclass

import pytest

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


def test_help_lists_every_key_with_default_and_comment(capsys):
    with pytest.raises(SystemExit) as e:
        configure(train.Config, train.__doc__, ["--help"])
    text = capsys.readouterr().out
    assert e.value.code == 0
    for key in train.Config.__dataclass_fields__:
        assert f"--{key}=" in text
    assert "--n_latents=16" in text and "N_L, latents per augmentation" in text


@pytest.mark.parametrize("file", sorted(glob.glob("config/*.py")))
def test_every_config_fits_its_launch_line(file):
    """Steps divide over the ranks of the launch line in the file, and sites fit."""
    c = configure(train.Config, "", [file])
    with open(file) as f:
        text = f.read()
    assert f"train.py {file}" in text, "the file shows how to launch it"
    ranks = 8 if f"nproc_per_node=8 train.py {file}" in text else 1
    assert c.tokens_per_step % (c.seq_len * c.batch_size * ranks) == 0
    assert train.site_limit(c, 1024) >= c.n_sites
    assert c.tokens >= c.tokens_per_step
