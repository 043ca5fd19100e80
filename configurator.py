"""How every script gets its settings: defaults in the script, then a config file, then --key=value.

A script declares its defaults as a dataclass whose comments explain the keys:

    @dataclass
    class Config:
        lr: float = 6e-4  # peak learning rate
        batch_size: Count = 12  # a whole number from 1 on

    c = configure(Config, __doc__)     # python train.py config/h2_gpt2.py --lr=3e-4

A config file is a list of assignments. A value is a literal, a name assigned before, or a product or power of these; it is
parsed, never executed. `include = "other.py"` reads another file of the same folder first. In place of a config file there
may be the folder of a run, whose settings then hold. Numbers are finite and not negative.

A run's folder says what it is: unless out_dir is given, `config/h2_gpt2.py --n_latents=4` writes out/h2_gpt2,n_latents=4.
"""

import argparse
import ast
import contextlib
import dataclasses
import difflib
import functools
import inspect
import json
import os
import re
import sys
import time
from typing import NewType
from urllib.parse import quote

Count = NewType("Count", int)  # of a key that cannot be 0; elsewhere 0 stands for none, for all, or for "as trained"
MOST = {int: 2**63, float: 3.4e38}  # torch takes no larger ones


def configure(config_class, doc, argv=None, resume_may_change=()):
    """The command line -> an instance of config_class. --help prints every key and exits.

    resume_may_change: keys that do not change what is computed, and so are not part of a run's name.
    Bad input raises what one_line_errors prints.
    """
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & {*argv}:
        print(help_text(config_class, doc), flush=True)
        sys.exit(0)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    flags = {f"--{key}" for key, field in fields.items() if type(field.default) is bool}
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for key in fields:
        parser.add_argument(f"--{key}", default=argparse.SUPPRESS)
    given, others = parser.parse_known_args([f"{a}=True" if a in flags else a for a in argv])
    given = vars(given)  # {key: text}, in the order of the command line
    for unknown in (a for a in others if a.startswith("-")):
        check_key(unknown.partition("=")[0], fields)
    if len(others) > 1:
        raise ValueError(f"one config file at most, not {' '.join(others)}; options are --key=value")

    source, looks_at = others[0] if others else "", {"model", "run"} & fields.keys()
    if looks_at and source and not source.endswith(".py"):
        values = {looks_at.pop(): source}  # evaluate.py out/h2_gpt2
    elif os.path.isdir(source):
        values = settings_of(source, fields)  # train.py out/h2_gpt2 --resume
    else:
        values = read_file(source, fields) if source else {}
    for key, text in given.items():
        values[key] = text
        if type(fields[key].default) is not str:
            with contextlib.suppress(SyntaxError, ValueError, ArithmeticError):  # convert refuses the text
                values[key] = value_of(ast.parse(text, mode="eval").body, {})
    c = config_class(**{key: convert(key, value, fields) for key, value in values.items()})
    if getattr(c, "out_dir", None) == "":
        c.out_dir = os.path.join("out", run_name(source or inspect.getfile(config_class), given, resume_may_change))
    return c


def read_file(path, fields):
    """A config file -> {key: value}. Raises ValueError or SyntaxError, naming file and line, or OSError."""
    with open(path, "rb") as f:  # ast knows byte-order marks and encodings
        tree = ast.parse(f.read(), path)
    values = {}
    for node in tree.body:
        try:
            match node:
                case ast.Expr(ast.Constant()):  # a docstring
                    pass
                case ast.Assign([ast.Name("include")], ast.Constant(str(other))):
                    values = read_file(os.path.join(os.path.dirname(path), other), fields) | values
                case ast.Assign([ast.Name(key)], right):
                    values[key] = convert(key, value_of(right, values), fields)
                case _:
                    raise ValueError("a config file holds lines of the form key = value")
        except (ValueError, ArithmeticError) as e:
            raise ValueError(f"{path}:{node.lineno}: {e}") from None
    return values


def value_of(node, names):
    """The syntax tree of a value, and {name: value} of those assigned before -> the value"""
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name) if name in names:
            return names[name]
        case ast.BinOp(left, ast.Mult() | ast.Pow() as operator, right):
            a, b, power = value_of(left, names), value_of(right, names), isinstance(operator, ast.Pow)
            if {type(a), type(b)} <= {int, float} and not (power and b > 100):  # 10**10**10 would not end
                return a**b if power else a * b
    raise ValueError(f"{ast.unparse(node)!r} is not a literal, a name assigned before, or a product or power of numbers")


def check_key(key, fields):
    if key not in fields:
        (nearest,) = difflib.get_close_matches(key, fields, n=1, cutoff=0)
        raise ValueError(f"unknown key {key!r}; the nearest is {nearest!r}")


def convert(key, value, fields):
    """A value as the type of its key's default. Raises ValueError for another type, and for a number out of range."""
    check_key(key, fields)
    kind, low = type(fields[key].default), 1 if fields[key].type is Count else 0
    if kind in (int, float):
        fits = type(value) in (int, float) and low <= value < MOST[kind] and kind(value) == value  # 40e9 is whole
    else:
        fits = type(value) is kind
    if not fits:
        wanted = {int: f"a whole number from {low} on", float: "a number from 0 on", bool: "True or False", str: "a text"}
        raise ValueError(f"{key} must be {wanted[kind]}, not {value!r}")
    return kind(value)


def settings_of(run, fields):
    """A run's folder -> its settings. Raises ValueError if it is a run of another script, OSError if it is none."""
    path = os.path.join(run, "config.json")
    saved = read_json(path)
    missing = [key for key, field in fields.items() if field.type is Count and key not in saved]
    if missing:  # where another key is missing it is younger than the run, and was off
        raise ValueError(f"{path} is of another script: it has no {missing[0]}")
    return {key: saved[key] for key in fields if key in saved} | {"out_dir": run, "resume": False, "overwrite": False}


def run_name(file, given, resume_may_change):
    """The file's name, then ,key=value for each setting of the command line, as written, that is not in resume_may_change.

    Signs other than letters, digits and _.-~ become %XX, so no two settings share a name.
    """
    name = quote(os.path.splitext(os.path.basename(file))[0], safe="")
    settings = [f",{key}={quote(text, safe='')}" for key, text in given.items() if key not in (*resume_may_change, "out_dir")]
    return name + "".join(settings)


def help_text(config_class, doc):
    """Every key with its default and its comment, as they stand in the source of the dataclass and of what it inherits"""
    script = os.path.basename(inspect.getfile(config_class))
    lines = [doc.strip(), "", f"usage: python {script} [config file or run] [--key=value ...]"]
    for line in "\n".join(inspect.getsource(c) for c in config_class.__mro__[:-1]).splitlines():
        if heading := re.fullmatch(r"\s+# (.*)|\s+\"\"\"(.*)\"\"\"", line):
            lines += ["", heading[1] or heading[2]]
        elif field := re.fullmatch(r"\s+(\w+): \w+ = (.*?)(?:  # (.*))?", line):
            lines.append(f"  --{field[1]}={field[2]}".ljust(40) + f" {field[3] or ''}")
    return "\n".join(lines)


def show(config):
    """The resolved config, one JSON object: printed and saved by every run."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def Parser(description):
    """For a script that no config file is for"""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


# -----------------------------------------------------------------------------
# What scripts read and say


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


LIBRARIES = {"argparse", "huggingface_hub", "httpx2", "pyarrow", "safetensors", "tokenizers"}  # their errors are about input


def one_line_errors(main):
    """Run a script: bad input and a failing disk or network end it with their one line, any other error with its trace."""
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's cannot
        sys.stdout.reconfigure(errors="backslashreplace")  # a console that has no ± shows its number
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would complain
        sys.exit(141)  # as if SIGPIPE had ended it
    except Exception as e:
        expected = isinstance(e, (ValueError, OSError, SyntaxError)) or type(e) is Exception  # tokenizers raises these
        expected |= any(c.__module__.partition(".")[0] in LIBRARIES for c in type(e).__mro__)
        if os.environ.get("TRACE") or not expected:
            raise
        rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        line = f"error: {rank}{' '.join(str(e).split())}"
        if "TORCHELASTIC_ERROR_FILE" in os.environ:  # torchrun ends with what stands there, below its own forty lines
            extra = {"py_callstack": line, "timestamp": str(int(time.time()))}
            with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w", encoding="utf-8") as f:
                json.dump({"message": {"message": str(e), "extraInfo": extra}}, f)
        sys.exit(f"{line} (TRACE=1 shows where)")
