"""Command lines from dataclasses: a field is an option, its doc is the help text."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import shutil
import sys
import tempfile
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from experiments.common.command import called

A = TypeVar("A")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as a docstring, where the terminal is."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size((100, 24)).columns, 100)
        super().__init__(prog, max_help_position=28, width=width)


class _Parser(argparse.ArgumentParser):
    """Leaves with status 2 and one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message} (--help explains the options)", file=sys.stderr)
        raise SystemExit(2)


def parse(cls: type[A], argv: Sequence[str] | None = None) -> A:
    """Builds an instance of a dataclass from the command line.

    The docstring of the script, the class's module, is the description (the class's own where there
    is none); each field's help is its entry under ``Attributes:`` in the class's docstring.
    Fields are ``bool`` (a pair ``--x/--no-x``), ``int``, ``float``, ``str``,
    ``Path`` or one of these with ``| None``; a field without a default is required. A
    ``ValueError`` of the class's ``__post_init__`` is reported like a wrong option.

    Args:
      cls: A dataclass.
      argv: Arguments without the program's name; by default those of the process.

    Raises:
      SystemExit: With status 2 and one line on stderr if an argument is wrong; with 0 after
        ``--help``.
    """
    text = inspect.getdoc(cls) or ""
    summary, docs = text.split("Attributes:")[0].strip(), _field_docs(text)
    about = inspect.getdoc(sys.modules[cls.__module__]) or summary
    parser = _Parser(
        prog=program(cls),
        description=about.replace("`", "").replace("%", "%%"),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    for field in fields:
        kind = _plain_type(hints[field.name])
        told = docs.get(field.name, "").replace("`", "")
        options: dict[str, Any] = {"dest": field.name, "help": told}
        if field.default is not dataclasses.MISSING:
            options["default"] = field.default
            shown = "" if "by default" in told else _shown(field.default)
            options["help"] = f"{told}{shown}".replace("%", "%%")
        elif field.default_factory is not dataclasses.MISSING:
            options["default"] = field.default_factory()
        else:
            options["required"] = True
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = kind
            options["metavar"] = kind.__name__.upper()
        parser.add_argument("--" + field.name.replace("_", "-"), **options)
    values = vars(parser.parse_args(argv))
    try:
        return cls(**values)
    except ValueError as error:
        parser.error(str(error))


def program(cls: type) -> str:
    """The script's name, as `--help` and errors call it."""
    path = getattr(sys.modules[cls.__module__], "__file__", None)
    return called(path or sys.argv[0])


def check_file(name: str, path: Path) -> None:
    """Refuses an option's path that is no file that can be read.

    Raises:
      ValueError: There is none, it is a folder, or reading is not allowed.
    """
    if path.is_dir():
        raise ValueError(f"{name} must be a file, {path} is a folder")
    if not path.is_file():
        raise ValueError(f"{name}: no such file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{name}: {path} may not be read")


def check_result(draw: bool, result: Path | None) -> None:
    """Refuses a result that nothing is drawn from, or that is no file.

    Raises:
      ValueError: `result` comes without `draw`, or as `check_file`.
    """
    if result is not None:
        if not draw:
            raise ValueError("result is what draw reads, give --draw with it")
        check_file("result", result)


def check_seed(seed: int) -> None:
    """Refuses what NumPy's and JAX's generators do not take.

    Raises:
      ValueError: The seed is negative, or does not fit into 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be between 0 and 2^32 - 1, got {seed}")


def check_out(name: str, path: Path, *, folder: bool = False) -> None:
    """Refuses, before hours of work, a path that cannot be written; creates its folder.

    Args:
      name: The option.
      path: A file, or a folder if `folder`.
      folder: Whether the path is a folder.

    Raises:
      ValueError: It is a folder for a file or a file for a folder, or writing is not possible.
    """
    if folder and path.is_file():
        raise ValueError(f"{name} must be a folder, {path} is a file")
    if not folder and path.is_dir():
        raise ValueError(f"{name} must be a file, {path} is a folder")
    parent = path if folder else path.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise ValueError(f"{name}: cannot write into {parent}: {error.strerror}") from error


def _shown(default: Any) -> str:
    """A default as the help text shows it."""
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return f" (default: {'yes' if default else 'no'})"
    return f" (default: {default})"


def _plain_type(hint: Any) -> type:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        hint = kinds[0] if len(kinds) == 1 else None
    if hint not in (bool, int, float, str, Path):
        raise TypeError(f"a field must be bool, int, float, str or Path, got {hint!r}")
    return hint


def _field_docs(text: str) -> dict[str, str]:
    """Reads the ``Attributes:`` section of a docstring, however deep it is indented."""
    docs: dict[str, str] = {}
    lines = text.partition("Attributes:")[2].strip("\n").splitlines()
    depth = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
    name = ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        entry = re.match(r"\s*(\w+): (.*)", line)
        if line.strip() and indent < depth:
            break
        if entry and indent == depth:
            name = entry.group(1)
            docs[name] = entry.group(2).strip()
        elif name:
            docs[name] = f"{docs[name]} {line.strip()}".strip()
    return docs
