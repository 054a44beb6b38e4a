"""Code blocks of a Markdown text: found, run, and what they print compared with what they say.

A block begins with a line "```python" and ends with "```"; blocks of other languages do not run.
What a `print` writes is the comment at the end of its line, or the comment lines right below it.
"""

import contextlib
import io
import re
from typing import Any

import jax


def python_blocks(text: str) -> list[str]:
    """The Python code blocks of a text, in order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def promised(code: str) -> list[str]:
    """The lines that a block says it prints."""
    lines, below = [], False
    for line in code.splitlines():
        beside = re.search(r"\bprint\(.*\)\s*# (.*)", line)
        if beside:
            lines.append(beside[1])
        elif below and line.startswith("# "):
            lines.append(line[2:])
            continue
        below = beside is None and line.lstrip().startswith("print(")
    return lines


def run_block(code: str, title: str, namespace: dict[str, Any]) -> None:
    """Runs one block in a namespace, as in a reader's session.

    Names may come from anywhere, so ranks may be promoted as by default.

    Raises:
      AssertionError: it does not print what it says, but for spaces.
    """
    printed = io.StringIO()
    with jax.numpy_rank_promotion("allow"), contextlib.redirect_stdout(printed):
        exec(compile(code, title, "exec"), namespace)
    found = [line.split() for line in printed.getvalue().splitlines()]
    assert found == [line.split() for line in promised(code)], title
