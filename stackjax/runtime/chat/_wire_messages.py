"""Anthropic's messages, as a `Wire`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from stackjax.runtime.chat._wire import (
    Body,
    ends_with,
    first_user,
    text_in,
    texts_in,
    with_texts,
)


class MessagesWire:
    """``/v1/messages``: `system` stands apart; calls and their results are blocks of messages."""

    name = "messages"

    def error(self, body: Body) -> str | None:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            return "messages is not a list with at least one message"
        pending: set[str] = set()
        for position, message in enumerate(messages):
            role = message.get("role") if isinstance(message, Mapping) else None
            if role not in ("user", "assistant"):
                return f"message {position} has no role of user, assistant"
            content = message.get("content")
            if not isinstance(content, str) and not (
                isinstance(content, list) and all(isinstance(part, Mapping) for part in content)
            ):
                return f"message {position} has a content that is no text and no list of blocks"
            named = [*self.calls(message), *self.answered(message)]
            if not all(named):
                return f"message {position} has a tool block without an id"
            answered = self.answered(message)
            if set(answered) != pending or len(set(answered)) != len(answered):
                return f"message {position} does not answer the calls before it"
            calls = self.calls(message)
            if len(set(calls)) != len(calls):
                return f"message {position} has tool calls without an id of their own"
            pending = set(calls)
        return f"the results of {len(pending)} tool calls are missing" if pending else None

    def items(self, body: Body) -> list[Any]:
        return body["messages"]

    def with_items(self, body: Body, items: Sequence[Any]) -> Body:
        return {**body, "messages": list(items)}

    def role(self, item: Any) -> str:
        return "tool" if self.answered(item) else item["role"]

    def calls(self, item: Any) -> list[str]:
        blocks = _blocks(item, "tool_use") if _is(item, "assistant") else []
        return [_name(block, "id") for block in blocks]

    def answered(self, item: Any) -> list[str]:
        blocks = _blocks(item, "tool_result") if _is(item, "user") else []
        return [_name(block, "tool_use_id") for block in blocks]

    def results(self, item: Any) -> list[str]:
        blocks = _blocks(item, "tool_result")
        return [text for block in blocks for text in texts_in(block.get("content"))]

    def with_results(self, item: Any, texts: Sequence[str]) -> Any:
        if not texts:
            return item
        rest, content = list(texts), []
        for block in item["content"]:
            if block.get("type") == "tool_result" and (old := texts_in(block.get("content"))):
                new, rest = rest[: len(old)], rest[len(old) :]
                block = {**block, "content": with_texts(block["content"], new)}
            content.append(block)
        return {**item, "content": content}

    def can_drop(self, body: Body) -> bool:
        return True

    def with_style(self, body: Body, style: str) -> Body | None:
        system = body.get("system")
        if system:
            # A block of its own after the marked ones: what they let the server cache stays.
            return {**body, "system": ends_with(system, style)}
        items = list(self.items(body))
        place = first_user(self, items)
        if place is None:
            return None
        items[place] = {**items[place], "content": ends_with(items[place]["content"], style)}
        return self.with_items(body, items)

    def free_tools(self, body: Body) -> bool:
        choice = body.get("tool_choice")
        free = choice is None or (isinstance(choice, Mapping) and choice.get("type") == "auto")
        return bool(body.get("tools")) and free

    def without_calls(self, body: Body) -> Body:
        return {**body, "tool_choice": {"type": "none"}}

    def system(self, body: Body) -> str:
        return text_in(body.get("system"))

    def text(self, item: Any) -> str:
        arguments = [
            json.dumps(block.get("input"), default=str) for block in _blocks(item, "tool_use")
        ]
        return " ".join([text_in(item.get("content")), *self.results(item), *arguments])


def _is(item: Any, role: str) -> bool:
    return isinstance(item, Mapping) and item.get("role") == role


def _name(block: Mapping[str, Any], key: str) -> str:
    name = block.get(key)
    return name if isinstance(name, str) else ""


def _blocks(item: Any, kind: str) -> list[Any]:
    content = item.get("content")
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if isinstance(block, Mapping) and block.get("type") == kind]


MESSAGES = MessagesWire()
