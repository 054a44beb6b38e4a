"""The Responses API, as a `Wire`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stackjax.runtime.chat._messages import STANDING
from stackjax.runtime.chat._wire import (
    Body,
    ends_with,
    first_user,
    text_in,
    texts_in,
    with_texts,
)

_KNOWN = ("message", "reasoning", "web_search_call", "file_search_call", "code_interpreter_call")
"""Items that stand for themselves; with them, calls and the outputs of calls."""


class ResponsesWire:
    """``/v1/responses``: `instructions` and the items of `input`, which may be a mere text.

    With ``previous_response_id`` or ``conversation`` the earlier items are at the server: they are
    neither seen nor left out, and an output may answer a call that is not shown.
    """

    name = "responses"

    def error(self, body: Body) -> str | None:
        given = body.get("input")
        if isinstance(given, str) and given:
            return None
        if not isinstance(given, list) or not given:
            return "input is no text and not a list with at least one item"
        if not all(isinstance(item, Mapping) for item in given):
            return "input has an item that is not an object"
        referring = any(item.get("type") == "item_reference" for item in given)
        elsewhere = self._elsewhere(body) or referring
        pending: set[str] = set()
        for position, item in enumerate(given):
            kind, role = item.get("type", "message"), item.get("role")
            if not isinstance(kind, str):
                return f"item {position} has a type that is no text"
            if kind == "message" and role not in (*STANDING, "user", "assistant"):
                return f"item {position} has no role of {', '.join(STANDING)}, user, assistant"
            name = item.get("call_id")
            if not (_is_call(item) or kind.endswith("_output")):
                continue
            if not isinstance(name, str):
                return f"item {position} has no call_id"
            if _is_call(item):
                if name in pending:
                    return f"item {position} has the call_id of an open call"
                pending.add(name)
            elif name in pending:
                pending.discard(name)
            elif not elsewhere:
                return f"item {position} is the output of no open call"
        return f"the outputs of {len(pending)} calls are missing" if pending else None

    def _elsewhere(self, body: Body) -> bool:
        return any(body.get(name) for name in ("previous_response_id", "conversation", "prompt"))

    def items(self, body: Body) -> list[Any]:
        given = body["input"]
        return [{"role": "user", "content": given}] if isinstance(given, str) else given

    def with_items(self, body: Body, items: Sequence[Any]) -> Body:
        if isinstance(body["input"], str) and len(items) == 1:
            return {**body, "input": items[0]["content"]}
        return {**body, "input": list(items)}

    def role(self, item: Any) -> str:
        kind, role = item.get("type", "message"), item.get("role")
        if kind == "message":
            return "standing" if role in STANDING else str(role)
        return "tool" if kind.endswith("_output") else "assistant"

    def calls(self, item: Any) -> list[str]:
        return [item["call_id"]] if _is_call(item) else []

    def answered(self, item: Any) -> list[str]:
        return [item["call_id"]] if str(item.get("type")).endswith("_output") else []

    def results(self, item: Any) -> list[str]:
        return texts_in(item.get("output")) if self.role(item) == "tool" else []

    def with_results(self, item: Any, texts: Sequence[str]) -> Any:
        return {**item, "output": with_texts(item["output"], texts)} if texts else item

    def can_drop(self, body: Body) -> bool:
        # An item that nobody here knows, a compaction for instance, may stand for earlier ones.
        known = lambda item: (
            item.get("type", "message") in _KNOWN or self.calls(item) or self.answered(item)
        )
        return not self._elsewhere(body) and all(known(item) for item in self.items(body))

    def with_style(self, body: Body, style: str) -> Body | None:
        instructions = body.get("instructions")
        if isinstance(instructions, str) and instructions:
            return {**body, "instructions": ends_with(instructions, style)}
        items = list(self.items(body))
        leading = 0
        while leading < len(items) and self.role(items[leading]) == "standing":
            leading += 1
        place = leading - 1 if leading else first_user(self, items)
        if place is None:
            return None
        content = ends_with(items[place].get("content"), style, "input_text")
        items[place] = {**items[place], "content": content}
        return self.with_items(body, items)

    def free_tools(self, body: Body) -> bool:
        return bool(body.get("tools")) and body.get("tool_choice") in (None, "auto")

    def without_calls(self, body: Body) -> Body:
        return {**body, "tool_choice": "none"}

    def system(self, body: Body) -> str:
        instructions = body.get("instructions")
        return instructions if isinstance(instructions, str) else ""

    def text(self, item: Any) -> str:
        parts = [item.get("arguments"), item.get("input")]
        spoken = [text_in(item.get(name)) for name in ("content", "output")]
        return " ".join(text for text in (*spoken, *parts) if isinstance(text, str) and text)


def _is_call(item: Any) -> bool:
    return str(item.get("type")).endswith("_call") and "call_id" in item


RESPONSES = ResponsesWire()
