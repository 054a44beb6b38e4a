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

Of passages that were retrieved for the question the context channel sends none, the best two or the
best four; the note search finds all of them. Two families have instructions and worked examples of
their own: ``documents``, and ``word_problem``, where replies run over several lines: one worked
example and 120 tokens at p = 0.5, reasoning at length in 320 tokens, without an example, at p = 1.
Version 2 added these; every other request is that of version 1.

Version 3 is a second grid, for sessions whose tool outputs stay in the history. Its context channel
has five levels, cheapest first; the other channels have the same three:

=====  ==================================================
c      context
=====  ==================================================
0      the question alone
0.25   the note that is most relevant to the question
0.5    the two most relevant notes, the best one first
0.75   the newest half of the messages
1      all messages
=====  ==================================================

Relevance is the sum of inverse document frequencies of the question's words (`relevance`). Version
3 has instructions and worked examples of its own, one set a task type, and shows two of them at
p = 0.5. `build_request` chooses by its argument `adapter`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from stackjax.agents.executor._examples import (
    AT_LENGTH,
    CALC,
    EXAMPLES,
    FIND,
    INSTRUCTIONS,
    LOOK_UP,
    REPLY_TOKENS,
    TERSE,
    Example,
)
from stackjax.agents.executor._relevance import relevance
from stackjax.agents.executor._research_examples import RESEARCH_EXAMPLES, RESEARCH_INSTRUCTIONS
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.agents.tasks._tools import search_notes

ADAPTER_VERSION = "2"
"""Version of how an action becomes a request; logs name it.

>>> sj.agents.executor.ADAPTER_VERSION
'2'
"""
T = TypeVar("T")
LEVELS = (0.0, 0.5, 1.0)
CONTEXTS = {
    "2": ("none", "newest half", "all"),
    "3": ("none", "top-1", "top-2", "newest half", "all"),
}
"""Levels of the context channel by version of the adapter, cheapest first, equally spaced in c."""

PASSAGES = 4  # sent at most

_LABELS = {"note": "Note", "passage": "Passage", "question": "Question", "reply": "Answer"}


class Message(NamedTuple):
    """One message: `kind` is ``"note"``, ``"passage"``, ``"question"`` or ``"reply"``."""

    kind: str
    text: str


class Request(NamedTuple):
    """What is sent: chat messages, the tool calls allowed, the executed action (c, p, u).

    `max_tokens` is the longest reply of one call, None for the executor's own limit; `stop` ends
    a reply.
    """

    messages: tuple[dict[str, str], ...]
    max_calls: int
    executed: tuple[float, float, float]
    max_tokens: int | None = None
    stop: tuple[str, ...] = ("\n",)


def check_adapter(adapter: str) -> None:
    """Raises `ValueError` unless `adapter` is a version that can be sent."""
    if adapter not in CONTEXTS:
        raise ValueError(f"`adapter` must be one of {', '.join(CONTEXTS)}; got {adapter!r}")


def executed_action(
    action: Sequence[float], adapter: str = ADAPTER_VERSION
) -> tuple[float, float, float]:
    """Returns the action that the adapter carries out: each channel at the nearest level.

    Args:
      action: (c, p, u), each in [0, 1].
      adapter: Version of the adapter, ``"2"`` or ``"3"``.

    Raises:
      ValueError: If the action is not three numbers in [0, 1], or the version is unknown.

    Example:
      >>> sj.agents.executor.executed_action((0.8, 0.3, 0.1))
      (1.0, 0.5, 0.0)
      >>> sj.agents.executor.executed_action((0.8, 0.3, 0.1), adapter="3")
      (0.75, 0.5, 0.0)
    """
    check_adapter(adapter)
    values = [float(value) for value in action]
    if len(values) != 3 or not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"action must be three numbers (c, p, u) in [0, 1], got {tuple(action)}")
    steps = len(CONTEXTS[adapter]) - 1, 2, 2
    c, p, u = (math.floor(k * value + 0.5) / k for k, value in zip(steps, values, strict=True))
    return c, p, u


def retained(history: Sequence[T], share: float) -> list[T]:
    """Returns the newest ``ceil(share * n)`` of n messages, oldest first."""
    count = math.ceil(share * len(history))
    return list(history[len(history) - count :])


def in_context(history: Sequence[Message], question: str, level: str) -> list[Message]:
    """Returns the messages that a level of the context channel sends.

    Args:
      history: Messages before the question, oldest first.
      question: The question.
      level: One of the names in `CONTEXTS`.
    """
    if level in ("none", "newest half", "all"):
        return retained(history, {"none": 0.0, "newest half": 0.5, "all": 1.0}[level])
    notes = [message for message in history if message.kind == "note"]
    score = relevance(question, [note.text for note in notes])
    # Of equally relevant notes the newest is the best. The best stands first: what top-1 sent is
    # then the beginning of what top-2 sends, and a server need not read it again.
    order = sorted(range(len(notes)), key=lambda i: (score[i], i), reverse=True)
    return [notes[i] for i in order[: 1 if level == "top-1" else 2]]


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
    history: Sequence[Message],
    question: str,
    task: str,
    action: Sequence[float],
    *,
    family: str = "",
    passages: Sequence[str] = (),
    adapter: str = ADAPTER_VERSION,
) -> Request:
    """Builds the request for one turn.

    Args:
      history: Messages before the question, oldest first.
      question: The question.
      task: Task type.
      action: (c, p, u) in [0, 1]^3.
      family: The question's family; where it has a prompt of its own, that one is sent.
      passages: Retrieved for the question, the best one last; version 3 sends none.
      adapter: Version, ``"2"`` or ``"3"``.

    Raises:
      ValueError: If the action is outside [0, 1]^3 or not a number, or the task or the version is
        unknown.
    """
    if task not in TASK_TYPES:
        raise ValueError(f"task must be one of {', '.join(TASK_TYPES)}, got {task!r}")
    c, p, u = executed_action(action, adapter)
    calls = round(2 * u)
    if adapter == "3":
        kept = in_context(history, question, CONTEXTS["3"][round(4 * c)])
        return _research_request(kept, question, task, calls, (c, p, u))
    style = family if family in INSTRUCTIONS else task
    at_length = p == 1.0 and style in AT_LENGTH
    system = [AT_LENGTH[style] if at_length else INSTRUCTIONS[style] if p > 0 else TERSE]
    system += [CALC] if calls >= 1 else []
    system += [FIND] if calls >= 2 and style in LOOK_UP else []
    messages = [{"role": "system", "content": " ".join(system)}]
    examples = EXAMPLES[style]
    shown = 0 if at_length else {0.0: 0, 0.5: 1, 1.0: len(examples)}[p]
    for example in examples[len(examples) - shown :]:
        messages += _example_messages(example, calls)
    kept = retained(history, c)
    kept += [Message("passage", text) for text in retained(passages[-PASSAGES:], c)]
    messages.append({"role": "user", "content": render(kept, question)})
    if p == 0.0 or style not in REPLY_TOKENS:
        return Request(tuple(messages), calls, (c, p, u))
    limit = REPLY_TOKENS[style][1 if at_length else 0]
    return Request(tuple(messages), calls, (c, p, u), limit, ())


def _research_request(
    kept: Sequence[Message],
    question: str,
    task: str,
    calls: int,
    executed: tuple[float, float, float],
) -> Request:
    """The request of version 3: prompts by task type alone, two worked examples at p = 0.5."""
    p = executed[1]
    system = [RESEARCH_INSTRUCTIONS[task] if p > 0 else TERSE]
    system += [CALC] if calls >= 1 else []
    system += [FIND] if calls >= 2 else []
    messages = [{"role": "system", "content": " ".join(system)}]
    examples = RESEARCH_EXAMPLES[task]
    shown = {0.0: 0, 0.5: 2, 1.0: len(examples)}[p]
    for example in examples[len(examples) - shown :]:
        messages += _example_messages(example, calls)
    messages.append({"role": "user", "content": render(kept, question)})
    return Request(tuple(messages), calls, executed)


def _example_messages(example: Example, calls: int) -> list[dict[str, str]]:
    """A worked example as chat messages, with the calls that are allowed."""
    look_up = calls >= 2 and bool(example.find)
    notes = [] if look_up else [Message(example.kind, note) for note in example.notes]
    steps = [("FIND", example.find, search_notes(example.find, example.notes))] if look_up else []
    if calls and example.calc:
        steps.append(("CALC", example.calc, example.answer))
    messages = [{"role": "user", "content": render(notes, example.question)}]
    for tool, argument, result in steps:
        messages += [
            {"role": "assistant", "content": f"{tool}: {argument}"},
            {"role": "user", "content": tool_message(tool, result, example.question)},
        ]
    answer = example.answer if steps else example.steps or example.answer
    return [*messages, {"role": "assistant", "content": answer}]
