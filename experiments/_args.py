"""Command lines from dataclasses: a field is an option, its doc is the help text."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

A = TypeVar("A")


class _Parser(argparse.ArgumentParser):
    """Leaves with status 2 and one line, without the usage in front of it."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def parse(cls: type[A], argv: Sequence[str] | None = None) -> A:
    """Builds an instance of a dataclass from the command line.

    The class's docstring is the description; each field's help is its entry under ``Attributes:``
    in that docstring. Fields are ``bool`` (a pair ``--x/--no-x``), ``int``, ``float``, ``str``,
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
    parser = _Parser(description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    for field in fields:
        kind = _plain_type(hints[field.name])
        options: dict[str, Any] = {"dest": field.name, "help": docs.get(field.name, "")}
        if field.default is not dataclasses.MISSING:
            options["default"] = field.default
            options["help"] = f"{options['help']} (default: {field.default})".replace("%", "%%")
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
