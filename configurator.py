"""How every script gets its settings: defaults in the script, then a config file, then --key=value.

A script declares its defaults as a dataclass whose comments explain the keys:

    @dataclass
    class Config:
        lr: float = 6e-4  # peak learning rate

    c = configure(Config, __doc__)     # python train.py config/h2_gpt2.py --lr=3e-4

A config file is a list of assignments. Values are literals and simple arithmetic, and may use names assigned before; they
are parsed, never executed. `include = "other.py"` reads another file of the same folder first.

A run's folder says what it is: unless out_dir is given, `config/h2_gpt2.py --n_latents=4` writes out/h2_gpt2,n_latents=4.
"""

import ast
import dataclasses
import difflib
import inspect
import io
import json
import operator
import os
import re
import sys
import tokenize

ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def evaluate(node, names):
    """A literal, a name assigned before, or arithmetic on them -> its value. Raises ValueError for anything else."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -evaluate(node.operand, names)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [evaluate(e, names) for e in node.elts]
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        return ARITHMETIC[type(node.op)](evaluate(node.left, names), evaluate(node.right, names))
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


def check_key(key, defaults, where):
    if key not in defaults:
        near = difflib.get_close_matches(key, defaults, n=1, cutoff=0)
        raise UnknownKey(f"{where}: unknown key {key!r}; the nearest is {near[0]!r}")


def read_file(path, defaults, including=()):
    """A config file -> {key: value}. Raises ValueError or FileNotFoundError, naming file and line."""
    if path in including:
        raise ValueError(f"{path} includes itself")
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no config file {path}")
    with open(path) as f:
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
            value = evaluate(node.value, values)
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
        value = evaluate(ast.parse(text, mode="eval").body, {})
    except (SyntaxError, ValueError, TypeError, ArithmeticError):
        value = text
    return key, convert(value, defaults[key], key, argument)


def help_text(config_class, doc):
    """Every key with its default and its comment, as they stand in the script."""
    source = inspect.getsource(config_class)
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
    return "\n".join(lines)


def scripts_of(path):
    """The scripts that a config file itself shows how to start with it: "torchrun ... train.py config/h2_gpt2.py"."""
    with open(path) as f:
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
        print(help_text(config_class, doc))
        sys.exit(0)
    defaults = dataclasses.asdict(config_class())
    files = [a for a in argv if not a.startswith("--")]
    if len(files) > 1:
        raise ValueError(f"one config file at most, not {' '.join(files)}; options are --key=value")
    values = dict(defaults)
    if files:
        try:
            values |= read_file(files[0], defaults)
        except UnknownKey as e:
            this, scripts = os.path.basename(inspect.getfile(config_class)), scripts_of(files[0])
            if not scripts or this in scripts:
                raise
            raise ValueError(f"{files[0]} is for {' and '.join(sorted(scripts))}, not for {this} ({e})") from None
    values |= dict(read_argument(a, defaults) for a in argv if a.startswith("--"))
    if values.get("out_dir") == "":
        values["out_dir"] = os.path.join("out", run_name(files[0] if files else sys.argv[0], argv, may_differ))
    return config_class(**values)


def one_line_errors(main):
    """Run a script: bad input and a failing disk or network end it with their one line, any other error with its trace."""
    try:
        main()
    except (ValueError, OSError) as e:
        if os.environ.get("TRACE"):
            raise
        where = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
        sys.exit(f"error: {where}{e} (TRACE=1 shows where)")


def show(config):
    """The resolved config, one JSON object: printed and saved by every run."""
    return json.dumps(dataclasses.asdict(config), indent=2)
