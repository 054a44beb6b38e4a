"""The adapter: from a response (c, p, u) in [0, 1]^3 to what is sent to the model.

Each channel has three levels, 0, 0.5 and 1; a value goes to the nearest one, ties up.

=============  ==================  ==============================  ===============================
level          c, context          p, prompt                       u, tools
=============  ==================  ==============================  ===============================
0              the question alone  "Answer briefly."               none, not even described
0.5            the newest half of  instructions for the task type  calculator, one call
               the messages        and one worked example
1              all messages        instructions and two or three   calculator and note search, two
                                   worked examples                 calls
=============  ==================  ==============================  ===============================

The newest half of n messages is the newest ceil(n / 2). The question is always sent. Worked
examples show the tools that are allowed. The same arguments give the same request.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from stackjax.agents._examples import CALC, EXAMPLES, FIND, INSTRUCTIONS, LOOK_UP, TERSE, Example
from stackjax.agents.tools import search_notes

ADAPTER_VERSION = "1"
LEVELS = (0.0, 0.5, 1.0)

_LABELS = {"note": "Note", "question": "Question", "reply": "Answer"}


class Message(NamedTuple):
    """One message of a session: `kind` is ``"note"``, ``"question"`` or ``"reply"``."""

    kind: str
    text: str


class Request(NamedTuple):
    """What is sent: chat messages, the tool calls allowed, the executed action (c, p, u)."""

    messages: tuple[dict[str, str], ...]
    max_calls: int
    executed: tuple[float, float, float]


def executed_action(action: Sequence[float]) -> tuple[float, float, float]:
    """Returns the action that the adapter carries out: each channel at the nearest level.

    Raises:
        ValueError: If the action is not three numbers in [0, 1].
    """
    values = [float(value) for value in action]
    if len(values) != 3 or not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"action must be three numbers (c, p, u) in [0, 1], got {tuple(action)}")
    c, p, u = (math.floor(2.0 * value + 0.5) / 2.0 for value in values)
    return c, p, u


def retained(history: Sequence[Message], share: float) -> list[Message]:
    """Returns the newest ``ceil(share * n)`` of n messages, oldest first."""
    count = math.ceil(share * len(history))
    return list(history[len(history) - count :])


def render(messages: Sequence[Message], question: str) -> str:
    """Writes messages and the question as labelled lines."""
    lines = [f"{_LABELS[message.kind]}: {message.text}" for message in messages]
    return "\n".join([*lines, f"Question: {question}"])


def tool_message(tool: str, result: str, question: str) -> str:
    """Returns what the model is told after a call: the note found and the question, or a number."""
    if tool == "FIND":
        return render([Message("note", result)], question)
    return f"Result: {result}"


def build_request(
    history: Sequence[Message], question: str, task: str, action: Sequence[float]
) -> Request:
    """Builds the request for one turn.

    Args:
        history: Messages before the question, oldest first.
        question: The question.
        task: Task type.
        action: (c, p, u) in [0, 1]^3.

    Raises:
        ValueError: If the action is outside [0, 1]^3 or not a number, or the task is unknown.
    """
    if task not in INSTRUCTIONS:
        raise ValueError(f"task must be one of {', '.join(INSTRUCTIONS)}, got {task!r}")
    c, p, u = executed_action(action)
    calls = round(2 * u)
    system = [INSTRUCTIONS[task] if p > 0 else TERSE]
    system += [CALC] if calls >= 1 else []
    system += [FIND] if calls >= 2 and task in LOOK_UP else []
    messages = [{"role": "system", "content": " ".join(system)}]
    examples = EXAMPLES[task]
    for example in examples[len(examples) - {0.0: 0, 0.5: 1, 1.0: len(examples)}[p] :]:
        messages += _example_messages(example, calls)
    messages.append({"role": "user", "content": render(retained(history, c), question)})
    return Request(tuple(messages), calls, (c, p, u))


def _example_messages(example: Example, calls: int) -> list[dict[str, str]]:
    """A worked example as chat messages, with the calls that are allowed."""
    look_up = calls >= 2 and bool(example.find)
    notes = [] if look_up else [Message("note", note) for note in example.notes]
    steps = [("FIND", example.find, search_notes(example.find, example.notes))] if look_up else []
    if calls and example.calc:
        steps.append(("CALC", example.calc, example.answer))
    messages = [{"role": "user", "content": render(notes, example.question)}]
    for tool, argument, result in steps:
        messages += [
            {"role": "assistant", "content": f"{tool}: {argument}"},
            {"role": "user", "content": tool_message(tool, result, example.question)},
        ]
    return [*messages, {"role": "assistant", "content": example.answer}]
