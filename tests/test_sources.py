"""What the sources may not contain, and what they may not need."""

import ast
import os
import subprocess
import sys

import pytest
from helpers import ROOT

SCRIPTS = sorted(ROOT.glob("*.py"))
CODE_IN_DATA = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}


def offences(source):
    """Ways in which data could become code: what is read must be safetensors, JSON or numbers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
        found += [name for name in names if name in CODE_IN_DATA]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in ("exec", "eval", "compile", "__import__", "builtins.exec", "builtins.eval"):
            found.append(called)
        if called == "torch.load" and "weights_only=True" not in map(ast.unparse, node.keywords):
            found.append(called)
        found += [f"{called}({k.arg})" for k in node.keywords if k.arg in ("allow_pickle", "trust_remote_code")]
    return found


EVERYTHING = [path.relative_to(ROOT).as_posix() for path in (*SCRIPTS, *sorted(ROOT.glob("paper/*.py")))]


@pytest.mark.parametrize("path", EVERYTHING)
def test_nothing_that_is_read_can_run(path):
    assert offences((ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from marshal import load", "exec(x)", "y = eval('1')", "torch.load(p)", "np.load(p, allow_pickle=True)"]
    + ["torch.load(p, weights_only=False)"],
)
def test_an_offence_is_seen(source):
    assert offences(source) and not offences("torch.load(p, weights_only=True)")


MODULES = {"configurator", "coprocessor", "data", "finetuning", "model", "prosqa", "questions", "runtime"}


def imports_of(path):
    """The first names of what a file imports, also inside its functions"""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


OWNERS = {"analyze_latents": {"countdown"}}  # of a pure function: Countdown's verifier


def test_imports_point_one_way():
    """paper -> scripts -> questions, coprocessor -> model; data, configurator and runtime import none of these."""
    imports = {path.stem: imports_of(path) for path in SCRIPTS}
    for name, found in imports.items():
        assert "paper" not in found, name
        assert not found & (imports.keys() - MODULES) - OWNERS.get(name, set()), f"{name} imports a script"
    assert not imports["model"] & {"coprocessor", "questions"} and "questions" not in imports["coprocessor"]
    for name in ("data", "configurator", "runtime"):
        assert not imports[name] & {"model", "coprocessor", "questions", "prosqa"}, name


def test_scripts_need_no_optional_package():
    """With only the packages of requirements.txt, and none of those that one command alone wants; nor fcntl, on Windows."""
    optional = "fcntl wandb transformers datasets lm_eval pyarrow matplotlib.animation pandas scipy.signal accelerate".split()
    block = f"import sys; sys.modules.update(dict.fromkeys({optional!r}))"
    imports = "; ".join(f"import {path.stem}" for path in SCRIPTS)
    command = [sys.executable, "-c", f"{block}; {imports}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr


def test_the_requirements_are_what_is_imported():
    known = {line.split("==")[0].lower().replace("-", "_") for line in (ROOT / "requirements.txt").read_text().splitlines()}
    known = {{"scikit_learn": "sklearn"}.get(name, name) for name in known} | {"wandb"}
    imported = set().union(*map(imports_of, SCRIPTS))
    own = {path.stem for path in SCRIPTS}
    assert imported - own - set(sys.stdlib_module_names) <= known
    assert known - {"wandb"} <= imported
