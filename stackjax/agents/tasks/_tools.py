"""The two tools that an executor may call: a calculator and a search through the user's notes.

Both are called by a line of text (``CALC: 12*7`` or ``FIND: Mara``) that the model itself decides
to write; nothing that a model writes is ever evaluated as code. Neither tool contains an answer:
the calculator evaluates the expression it is given, right or wrong, and the search returns a note
as the user wrote it.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeGuard

MAX_LENGTH = 120
MAX_NODES = 40
MAX_EXPONENT = 12
MAX_MAGNITUDE = 1e15

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: _power(a, b),
}
_CALL = re.compile(r"^\s*(CALC|FIND)\s*:\s*(.+?)\s*$", re.MULTILINE)


class ToolCall(NamedTuple):
    """A call found in a reply: the tool's name (``"CALC"`` or ``"FIND"``) and its argument."""

    tool: str
    argument: str


def evaluate(expression: str, variables: dict[str, float] | None = None) -> float:
    """Evaluates an arithmetic expression of numbers, ``+ - * / // % **`` and brackets.

    Args:
      expression: At most `MAX_LENGTH` characters and `MAX_NODES` syntax nodes; exponents are at
        most `MAX_EXPONENT` in size and every intermediate value at most `MAX_MAGNITUDE`.
      variables: Values of the names that the expression may use; none by default.

    Returns:
      The value, an int where the arithmetic stays whole.

    Raises:
      ValueError: If the expression is not of this kind, is too large, or has no finite value.
    """
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"expression has {len(expression)} characters; at most {MAX_LENGTH}")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"expression {expression!r} is not arithmetic") from error
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise ValueError(f"expression {expression!r} has more than {MAX_NODES} nodes")
    return _value(tree.body, variables or {})


def _value(node: ast.expr, variables: dict[str, float]) -> float:
    if isinstance(node, ast.Constant) and _is_number(node.value):
        return _bounded(node.value)
    if isinstance(node, ast.Name) and node.id in variables:
        return variables[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _value(node.operand, variables)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left, variables), _value(node.right, variables)
        try:
            return _bounded(_BINARY[type(node.op)](left, right))
        except (ZeroDivisionError, OverflowError) as error:
            raise ValueError(f"no finite value: {error}") from error
    raise ValueError(f"{type(node).__name__} is not allowed in an expression")


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > MAX_EXPONENT:
        raise ValueError(f"exponent {exponent} is larger than {MAX_EXPONENT}")
    return base**exponent


def _bounded(value: float) -> float:
    if isinstance(value, complex) or not math.isfinite(value) or abs(value) > MAX_MAGNITUDE:
        raise ValueError("value is not a real number of moderate size")
    return value


def format_number(value: float) -> str:
    """Writes a number the short way: whole numbers without a point, others to six digits."""
    if float(value).is_integer():
        return str(int(value))
    return f"{value:.6g}"


def find_call(reply: str) -> ToolCall | None:
    """Returns the first tool call written on a line of its own in `reply`, or None."""
    match = _CALL.search(reply)
    return ToolCall(match.group(1), match.group(2)) if match else None


def run_call(call: ToolCall, notes: Sequence[str]) -> str:
    """Runs one call and returns the text that is shown to the model; never raises."""
    if call.tool == "CALC":
        text = call.argument.replace("\u00d7", "*").replace("x", "*").replace("^", "**")
        try:
            return format_number(evaluate(text.split("=")[0]))
        except ValueError:
            return "error"
    return search_notes(call.argument, notes)


def search_notes(query: str, notes: Sequence[str]) -> str:
    """Returns the newest note that shares the most words with `query`, or ``"nothing found"``."""
    words = set(re.findall(r"[a-z]{3,}", query.lower()))
    best, best_score = "nothing found", 0
    for note in reversed(notes):
        score = len(words & set(re.findall(r"[a-z]{3,}", note.lower())))
        if score > best_score:
            best, best_score = note, score
    return best
