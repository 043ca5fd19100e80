"""How every script gets its settings: defaults in the script, then a config file, then --key=value.

A script declares its defaults as a dataclass whose comments explain the keys:

    @dataclass
    class Config:
        lr: float = 6e-4  # peak learning rate
        batch_size: Count = 12  # a whole number from 1 on

    c = configure(Config, __doc__)     # python train.py config/h2_gpt2.py --lr=3e-4

A config file is a list of assignments. Values are literals and simple arithmetic, and may use names assigned before; they
are parsed, never executed. `include = "other.py"` reads another file of the same folder first. A number is finite and not
negative, or within the limits of its type: anything else is refused by name.

A run's folder says what it is: unless out_dir is given, `config/h2_gpt2.py --n_latents=4` writes out/h2_gpt2,n_latents=4.
"""

import argparse
import ast
import dataclasses
import difflib
import functools
import inspect
import io
import json
import operator
import os
import re
import sys
import time
import tokenize
from typing import Annotated, get_args

LIMITS = {int: (0, 2**63 - 1), float: (0, 3.4e38)}  # unless a key's type says otherwise; torch takes no larger ones
Count = Annotated[int, 1, LIMITS[int][1]]
Share = Annotated[float, 0, 1]
Decay = Annotated[float, 0, 1 - 1e-9]  # of an average: with 1 nothing new would ever count

ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def value_of(node, names):
    """A literal, a name assigned before, or arithmetic on them -> its value. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -value_of(node.operand, names)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [value_of(e, names) for e in node.elts]
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        left, right = value_of(node.left, names), value_of(node.right, names)
        if not all(isinstance(x, (int, float)) for x in (left, right)):
            raise ValueError(f"{ast.unparse(node)!r} is not arithmetic on numbers")
        if isinstance(node.op, ast.Pow) and abs(right) > 100:
            raise ValueError(f"{ast.unparse(node)!r} is too large")  # it could take for ever
        return ARITHMETIC[type(node.op)](left, right)
    raise ValueError(f"{ast.unparse(node)!r} is not a literal or simple arithmetic")


def convert(value, like, key, where):
    """value as the type of the default `like`. Raises ValueError if it is of another."""
    wanted = type(like)
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is int and type(value) is float and value.is_integer():
        return int(value)  # 40e9 tokens
    if type(value) is not wanted:
        raise ValueError(f"{where}: {key} must be of type {wanted.__name__}, not {value!r}")
    return value


class UnknownKey(ValueError):
    pass


def check_limits(key, value, annotation):
    """Raises ValueError if a number is not finite or outside its limits: those of `annotation`, or LIMITS."""
    low, high = get_args(annotation)[1:] or LIMITS[annotation]
    if not low <= value <= high:
        most = f"at most {high:g}" if high == round(high) else f"below {round(high)}"
        wanted = most if value > high else f"at least {low}" if value < low else "a number"
        raise ValueError(f"{key} must be {wanted}, not {value}")


class Parser(argparse.ArgumentParser):
    """argparse, for the scripts that no config file is for; what is wrong is one line, as everywhere."""

    def __init__(self, description=None, **more):
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **more)

    def error(self, message):
        raise ValueError(f"{message} (--help lists the options)")


def at_least(low, high=LIMITS[int][1], kind=int):
    """The limits of an option of a Parser: `type=at_least(1)`."""

    def parse(text):
        value = kind(text)
        try:
            check_limits("it", value, Annotated[kind, low, high])
        except ValueError as e:
            raise argparse.ArgumentTypeError(str(e)) from None
        return value

    parse.__name__ = kind.__name__  # argparse's own message names it: "invalid int value"
    return parse


def check_key(key, defaults, where):
    if key not in defaults:
        near = difflib.get_close_matches(key, defaults, n=1, cutoff=0)
        hint = f"the nearest is {near[0]!r}"
        if key == "n_latents" and "latents_per_step" in defaults:
            hint = "N_L is stages x latents_per_step here"
        raise UnknownKey(f"{where}: unknown key {key!r}; {hint}")


def read_file(path, defaults, including=()):
    """A config file -> {key: value}. Raises ValueError or FileNotFoundError, naming file and line."""
    if path in including:
        raise ValueError(f"{path} includes itself")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no config file {path}")
    with open(path, encoding="utf-8") as f:
        source = f.read()
    try:
        tree = ast.parse(source)
    except SyntaxError as e:
        raise ValueError(f"{path}:{e.lineno}: {e.msg}") from None
    values = {}
    for node in tree.body:
        where = f"{path}:{node.lineno}"
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise ValueError(f"{where}: a config file holds lines of the form key = value")
        key = node.targets[0].id
        try:
            value = value_of(node.value, values)
        except (ValueError, TypeError, ArithmeticError) as e:
            raise ValueError(f"{where}: {e}") from None
        if key == "include":
            other = os.path.join(os.path.dirname(path), str(value))
            values = read_file(other, defaults, (*including, path)) | values
            continue
        check_key(key, defaults, where)
        values[key] = convert(value, defaults[key], key, where)
    return values


def read_argument(argument, defaults):
    """--key=value, or --flag for a boolean -> (key, value)"""
    key, equals, text = argument[2:].partition("=")
    check_key(key, defaults, argument)
    if isinstance(defaults[key], str) and equals:
        return key, text
    if isinstance(defaults[key], bool) and not equals:
        return key, True
    try:
        value = value_of(ast.parse(text, mode="eval").body, {})
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError):
        value = text
    return key, convert(value, defaults[key], key, argument)


def joined(argv, defaults):
    """--key value is --key=value, but for flags"""
    out = []
    for argument in argv:
        before = out[-1][2:] if out and out[-1].startswith("--") else ""
        if before in defaults and not isinstance(defaults[before], bool) and not argument.startswith("--"):
            out[-1] += f"={argument}"
        else:
            out.append(argument)
    return out


def help_text(doc, source):
    """Every key with its default and its comment, as they stand in the source of a Config class."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    lines = [doc.strip(), "", f"usage: python {os.path.basename(sys.argv[0])} [config file] [--key=value ...]", ""]
    for n, line in enumerate(source.splitlines(), start=1):
        key, colon, rest = line.strip().partition(":")
        if n in comments and line.strip().startswith("#"):
            lines += ["", line.strip()]
        elif colon and key.isidentifier() and "=" in rest:
            default = rest.partition("=")[2].partition("  #")[0].strip()
            lines.append(f"  --{key}={default}".ljust(40) + " " + comments.get(n, "").lstrip("# "))
    text = "\n".join(lines)
    return text + "".join(options_of_variants(text)) * ("--variant=" in text)


def help_at_once():
    """--help of a script that has a Config, before it imports anything else: scripts import this module first."""
    path = getattr(sys.modules["__main__"], "__file__", None) or ""
    here = os.path.dirname(os.path.abspath(path)) == os.path.dirname(os.path.abspath(__file__))
    if not here or not {"--help", "-h"} & {*sys.argv[1:]}:
        return
    with open(path, encoding="utf-8") as f:
        source = f.read()
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            print(help_text(ast.get_docstring(tree), ast.get_source_segment(source, node)))
            sys.exit(0)


def options_of_variants(text):
    """What variants of coprocessor.py declare in `options` and the text does not list yet -> lines of help"""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "coprocessor.py"), encoding="utf-8") as f:
        tree = ast.parse(f.read())
    for variant in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for node in variant.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "options":
                for found in (x for x in ast.walk(node.value) if isinstance(x, ast.Dict)):
                    for name, (default, meaning) in ast.literal_eval(found).items():
                        if f"--{name}=" not in text:
                            yield f"\n  --{name}={default}".ljust(41) + f" {meaning} ({variant.name})"


def scripts_of(path):
    """The scripts that a config file itself shows how to start with it: "torchrun ... train.py config/h2_gpt2.py"."""
    with open(path, encoding="utf-8") as f:
        return set(re.findall(rf"(\w+\.py) (?:\S*/)?{re.escape(os.path.basename(path))}(?!\S)", f.read()))


def encode(unfit, text):
    return re.sub(unfit, lambda found: f"%{ord(found[0]):02X}", text)


def run_name(file, argv, may_differ):
    """The file's name, then ,key=value for each setting of the command line that is not in may_differ, as it was written.

    What some system does not have in a file's name, and the signs that divide the parts, become %XX: no two settings share
    a name. Raises ValueError if the name is too long for a file system.
    """
    settings = {}
    for argument in argv:
        key, equals, text = argument[2:].partition("=")
        if argument.startswith("--") and key not in (*may_differ, "out_dir"):
            settings[key] = text if equals else "True"
    unfit = r'[\x00-\x1f\x7f/\\:*?"<>|%,=]'
    name = encode(unfit, os.path.splitext(os.path.basename(file))[0])
    name += "".join(f",{key}={encode(unfit, text)}" for key, text in settings.items())
    name = encode(r"^\.|[. ]\Z", name)
    if len(os.fsencode(name)) > 255:
        raise ValueError(f"the run's settings make too long a name for a folder ({name[:60]}...): give it one by --out_dir=")
    return name


def configure(config_class, doc, argv=None, may_differ=()):
    """The command line -> an instance of config_class. --help prints every key and exits.

    may_differ: keys that do not change what is computed, and so are not part of a run's name.
    Raises ValueError or FileNotFoundError with a message for the user.
    """
    argv = sys.argv[1:] if argv is None else argv
    if "--help" in argv or "-h" in argv:
        print(help_text(doc, inspect.getsource(next(c for c in config_class.__mro__[::-1] if c is not object))))
        sys.exit(0)
    defaults = dataclasses.asdict(config_class())
    argv = joined(argv, defaults)
    files = [a for a in argv if not a.startswith("--")]
    if len(files) > 1:
        raise ValueError(f"one config file at most, not {' '.join(files)}; options are --key=value")
    values = dict(defaults)
    asked = {"model", "run"} & defaults.keys()
    if files and asked and not files[0].endswith(".py"):
        values[asked.pop()] = files.pop()  # evaluate.py out/h2_gpt2
    if files and os.path.isdir(files[0]):  # train.py out/h2_gpt2 --resume: a run knows its settings
        values |= settings_of(files[0], defaults)
    elif files:
        try:
            values |= read_file(files[0], defaults)
        except UnknownKey as e:
            this, scripts = os.path.basename(inspect.getfile(config_class)), scripts_of(files[0])
            if not scripts or this in scripts:
                raise
            raise ValueError(f"{files[0]} is for {' and '.join(sorted(scripts))}, not for {this} ({e})") from None
    values |= dict(read_argument(a, defaults) for a in argv if a.startswith("--"))
    for field in dataclasses.fields(config_class):
        if type(field.default) in LIMITS:
            check_limits(field.name, values[field.name], field.type)
    if values.get("out_dir") == "":
        values["out_dir"] = os.path.join("out", run_name(files[0] if files else sys.argv[0], argv, may_differ))
    return config_class(**values)


def settings_of(run, defaults):
    """A run's folder -> its settings, as config.json has them. Raises ValueError if it is no run's, or another script's."""
    try:
        saved = read_json(os.path.join(run, "config.json"))
    except (OSError, ValueError) as e:
        raise ValueError(f"{run} is not a run's folder: its config.json cannot be read ({e})") from None
    missing = sorted(defaults.keys() - saved.keys() - {"out_dir"})
    if len(missing) > len(defaults) // 2:
        raise ValueError(f"{run} is a run of another script: it has no {missing[0]}")
    return {key: saved[key] for key in defaults if key in saved} | {"out_dir": run, "resume": False, "overwrite": False}


def parse_json(text, where, like=()):
    """The bytes of one JSON object -> dict. like: a dict of which it must have all keys, with values of the same types."""
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        for key in like:
            if type(found.get(key)) is not type(like[key]):
                raise ValueError(f"{key} is {found[key]!r}" if key in found else f"no {key}")
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{where} is damaged ({e})") from None
    return found


def read_json(path, like=()):
    """A file of one JSON object -> dict. Raises ValueError, naming it, if it is damaged or not `like` (see parse_json)."""
    with open(path, "rb") as f:
        return parse_json(f.read(), path, like)


@functools.cache
def note(text):
    """Said once, however often it happens."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def one_line_errors(main):
    """Run a script: bad input and a failing disk or network end it with their one line, any other error with its trace."""
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's cannot
        sys.stdout.reconfigure(errors="backslashreplace")  # a console that has no ± shows its number
    try:
        main()
    except (ValueError, OSError) as e:
        if os.environ.get("TRACE"):
            raise
        where = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        if "TORCHELASTIC_ERROR_FILE" in os.environ:  # torchrun ends with what stands there, below its own forty lines
            extra = {"py_callstack": f"error: {where}{e}", "timestamp": str(int(time.time()))}
            with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w", encoding="utf-8") as f:
                json.dump({"message": {"message": str(e), "extraInfo": extra}}, f)
        sys.exit(f"error: {where}{e} (TRACE=1 shows where)")


def show(config):
    """The resolved config, one JSON object: printed and saved by every run."""
    return json.dumps(dataclasses.asdict(config), indent=2)


help_at_once()
