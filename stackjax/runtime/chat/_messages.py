"""Chat messages: their grammar, and compaction that keeps it.

The grammar is that of chat completions: an assistant message that calls tools is followed by the
result of each call, and by nothing else before that; a tool's result stands nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stackjax._arrays.arguments import check_within
from stackjax.agents.executor._session import TOKENS_PER_WORD

STANDING = ("system", "developer")
ROLES = (*STANDING, "user", "assistant", "tool")

Message = Mapping[str, Any]


def grammar_error(messages: Any) -> str | None:
    """Why a list of messages breaks the grammar, or None. Quotes nothing from the messages.

    Example:
      >>> grammar_error([{"role": "user", "content": "hi"}]) is None
      True
      >>> grammar_error([{"role": "tool", "tool_call_id": "1", "content": "4"}])
      'message 0 is the result of no open tool call'
    """
    if not isinstance(messages, list) or not messages:
        return "messages is not a list with at least one message"
    open_calls: set[str] = set()
    for position, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES:
            return f"message {position} has no role of {', '.join(ROLES)}"
        if role == "tool":
            name = message.get("tool_call_id")
            if not isinstance(name, str) or name not in open_calls:
                return f"message {position} is the result of no open tool call"
            open_calls.discard(name)
            continue
        if open_calls:
            return f"message {position} comes before the results of {len(open_calls)} tool calls"
        calls = message.get("tool_calls") if role == "assistant" else None
        if calls is None:
            continue
        if not isinstance(calls, list):
            return f"message {position} has tool_calls that are not a list"
        names = [call.get("id") if isinstance(call, Mapping) else None for call in calls]
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            return f"message {position} has tool calls without an id of their own"
        open_calls = {str(name) for name in names}
    if open_calls:
        return f"the results of {len(open_calls)} tool calls are missing"
    return None


def split_turns(messages: Sequence[Message]) -> list[list[int]]:
    """The positions of the messages of each turn, oldest first; standing messages are in none.

    A turn begins with a user's message, or several in a row, and holds all that the agent did in
    answer. What precedes the first user's message is a turn of its own.
    """
    turns: list[list[int]] = []
    before = None
    for position, message in enumerate(messages):
        role = message["role"]
        if role in STANDING:
            continue
        if not turns or (role == "user" and before != "user"):
            turns.append([])
        turns[-1].append(position)
        before = role
    return turns


def compact(messages: list[Any], share: float) -> list[Any]:
    """Drops old turns: keeps the newest turn and the newest ``ceil(share * n)`` of n before it.

    System and developer messages stay where they are. Whole turns go, so that a tool call and its
    result stay together or go together, and what was well-formed stays so. A list that breaks the
    grammar comes back as it is: it is for the model's server to refuse.

    Args:
      messages: The messages of a chat request; not changed.
      share: Part of the older turns that is kept, in [0, 1].

    Returns:
      The list itself if nothing is dropped, else a new list of the same message objects.

    Raises:
      TypeError: If `share` is not a number.
      ValueError: If it is not in [0, 1].

    Example:
      >>> chat = [{"role": r} for r in ("system", "user", "assistant", "user")]
      >>> [message["role"] for message in compact(chat, 0.0)]
      ['system', 'user']
    """
    check_within("share", share, "[0, 1]")
    if grammar_error(messages) is not None:
        return messages
    turns = split_turns(messages)
    older = turns[:-1]
    drop = len(older) - math.ceil(share * len(older))
    if drop == 0:
        return messages
    gone = {position for turn in older[:drop] for position in turn}
    return [message for position, message in enumerate(messages) if position not in gone]


def text_of(message: Message) -> str:
    """The text of a message's content, whether a string or parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return " ".join(part for part in parts if isinstance(part, str))
    return ""


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Tokens of messages without a tokenizer: words and marks times 1.35, as the turn log has it.

    Text with few spaces counts at least one word for eight characters.
    """
    words = 0
    for message in messages:
        text = text_of(message)
        words += 2 + max(len(text.split()), len(text) // 8)
    return round(words * TOKENS_PER_WORD)
