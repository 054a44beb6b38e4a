"""Chat messages: their grammar, and compaction that keeps it.

The grammar is that of chat completions: an assistant message that calls tools is followed by the
result of each call, and by nothing else before that; a tool's result stands nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackjax._arrays.arguments import check_within
from stackjax.agents.executor._session import TOKENS_PER_WORD
from stackjax.runtime.chat._compaction import due
from stackjax.runtime.chat._wire import count_words, split_roles, text_in

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
    """The positions of the messages of each turn, see `split_roles`; standing ones are in none."""
    return split_roles("standing" if m["role"] in STANDING else m["role"] for m in messages)


def compact(messages: list[Any], share: float) -> list[Any]:
    """Drops old turns: keeps the newest turn and at least ``ceil(share * n)`` of n before it.

    For a share above 0 the number of dropped turns is 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ...: while a
    session grows the beginning of its requests then changes rarely, and a provider's cache holds.

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
    drop = due(len(older), share)
    if drop == 0:
        return messages
    gone = {position for turn in older[:drop] for position in turn}
    return [message for position, message in enumerate(messages) if position not in gone]


def text_of(message: Message) -> str:
    """The text of a message's content, whether a string or parts."""
    return text_in(message.get("content"))


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Tokens of messages without a tokenizer: words and marks times 1.35, as the turn log has it.

    Text with few spaces counts at least one word for eight characters.
    """
    return round(sum(2 + count_words(text_of(m)) for m in messages) * TOKENS_PER_WORD)
