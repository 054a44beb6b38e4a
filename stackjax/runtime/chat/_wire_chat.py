"""Chat completions, as a `Wire`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackjax._arrays.arguments import check_within
from stackjax.runtime.chat._compaction import without_oldest
from stackjax.runtime.chat._messages import STANDING, grammar_error
from stackjax.runtime.chat._wire import (
    Body,
    ends_with,
    first_user,
    text_in,
    texts_in,
    with_texts,
)


class ChatWire:
    """``/v1/chat/completions``: all that is said, the system's text too, is in `messages`."""

    name = "chat"

    def error(self, body: Body) -> str | None:
        return grammar_error(body.get("messages"))

    def items(self, body: Body) -> list[Any]:
        return body["messages"]

    def with_items(self, body: Body, items: Sequence[Any]) -> Body:
        return {**body, "messages": list(items)}

    def role(self, item: Any) -> str:
        return "standing" if item["role"] in STANDING else item["role"]

    def calls(self, item: Any) -> list[str]:
        return [call["id"] for call in _calls(item)]

    def answered(self, item: Any) -> list[str]:
        return [item["tool_call_id"]] if item["role"] == "tool" else []

    def results(self, item: Any) -> list[str]:
        return texts_in(item.get("content")) if item["role"] == "tool" else []

    def with_results(self, item: Any, texts: Sequence[str]) -> Any:
        return {**item, "content": with_texts(item["content"], texts)} if texts else item

    def can_drop(self, body: Body) -> bool:
        return True

    def with_style(self, body: Body, style: str) -> Body | None:
        messages = with_style(self.items(body), style)
        return None if messages is None else self.with_items(body, messages)

    def free_tools(self, body: Body) -> bool:
        return bool(body.get("tools")) and body.get("tool_choice") in (None, "auto")

    def without_calls(self, body: Body) -> Body:
        return {**body, "tool_choice": "none"}

    def system(self, body: Body) -> str:
        return ""

    def text(self, item: Any) -> str:
        spoken = text_in(item.get("content"))
        arguments = [
            function.get("arguments")
            for call in _calls(item)
            if isinstance(function := call.get("function"), Mapping)
        ]
        return " ".join([spoken, *(text for text in arguments if isinstance(text, str))])


def _calls(item: Any) -> list[Any]:
    return (item.get("tool_calls") or []) if item["role"] == "assistant" else []


CHAT = ChatWire()


def with_style(messages: Sequence[Any], style: str) -> list[Any] | None:
    """The messages with an instruction at the end of a message that is already there.

    That is the last leading system or developer message. Where there is none, one must not be
    added: many templates have a system text of their own that a message would displace. The
    instruction then ends the user's words that open the conversation. None if nobody said anything.
    """
    messages = list(messages)
    leading = 0
    while leading < len(messages) and messages[leading]["role"] in STANDING:
        leading += 1
    place = leading - 1 if leading else first_user(CHAT, messages)
    if place is None:
        return None
    message = messages[place]
    messages[place] = {**message, "content": ends_with(message.get("content"), style)}
    return messages


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
    return without_oldest(CHAT, messages, share)
