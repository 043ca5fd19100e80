"""What the README shows works as it stands there."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_data import make_corpus, make_shards

import train

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_new_variant_is_about_twenty_lines_and_trains(tmp_path):
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.S)
    added = [line for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert len(added) <= 25
    (tmp_path / "config").mkdir()
    for f in [*ROOT.glob("*.py"), *ROOT.glob("config/tiny_*.py")]:
        shutil.copy(f, tmp_path / f.relative_to(ROOT))
    subprocess.run(["git", "apply", "--unsafe-paths", "-"], input=diff, text=True, cwd=tmp_path, check=True)
    make_shards(tmp_path / "corpus", [3000])
    make_shards(tmp_path / "corpus", [600], split="val")
    (line,) = re.findall(
        r"python (train.py config/\S+ --variant=\w+)", README.partition("```diff")[0].rpartition("git apply")[2]
    )
    small = "--init_from=random:tiny_gpt2 --data=corpus --seq_len=32 --n_sites=2 --n_ahead=4 --eval_rows=4 --device=cpu"
    command = [sys.executable, *line.split(), *small.split(), "--tokens_per_step=128", "--batch_size=4", "--tokens=1280"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "step 10/10" in done.stdout


@pytest.mark.parametrize("script", sorted(p.name for p in ROOT.glob("*.py") if '__name__ == "__main__"' in p.read_text()))
def test_every_script_shows_its_help(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as e:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert not e.value.code and f"python {script}" in capsys.readouterr().out


def test_its_line_counts_are_about_right():
    found = re.findall(r"\| \[(\w+\.py)\]\(\1\) \| (\d+) \|", README)
    assert {name for name, _ in found} == {path.name for path in ROOT.glob("*.py")}
    for name, lines in found:
        assert abs(len((ROOT / name).read_text().splitlines()) / int(lines) - 1) < 0.05, name


def test_its_use_as_a_library(tmp_path, monkeypatch, capsys):
    """On a run of a few steps"""
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    make_corpus(tmp_path / "corpus")
    small = dict(data="corpus", init_from="random:tiny_gpt2", seq_len=32, n_sites=2, n_ahead=4, n_latents=2, eval_rows=4)
    small |= dict(tokens_per_step=128, batch_size=4, tokens=256, device="cpu", out_dir="out/tiny_text,variant=h2")
    train.main([f"--{key}={value}" for key, value in small.items()])
    capsys.readouterr()
    space = {}
    exec(snippet, space)
    assert space["latents"].shape == (1, 1, 2, 64) and len(capsys.readouterr().out) > 1


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_every_link_leads_somewhere(path):
    file, _, heading = path.partition("#")
    assert (ROOT / file).exists()
    text = (ROOT / file).read_text() if heading else ""
    assert not heading or re.search(f"^#+ {heading.replace('-', ' ')}$", text, re.MULTILINE | re.IGNORECASE)
