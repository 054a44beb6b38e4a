"""The grammar of chat messages.

The grammar is that of chat completions: an assistant message that calls tools is followed by the
result of each call, and by nothing else before that; a tool's result stands nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STANDING = ("system", "developer")
ROLES = (*STANDING, "user", "assistant", "tool")


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
