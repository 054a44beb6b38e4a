"""What the adapter asks of a request, whatever format it is written in.

Three formats are read: chat completions, the Responses API and Anthropic's messages. Each has a
class with the members of `Wire`; everything that is decided about a request (which exchanges go,
which results are shortened, where a style stands) is decided on this view.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from stackjax.agents.executor._session import TOKENS_PER_WORD

Body = Mapping[str, Any]


class Wire(Protocol):
    """A request format. No method changes what it is given."""

    name: str

    def error(self, body: Body) -> str | None:
        """Why a body cannot be read, without quoting it; None if it can."""
        ...

    def items(self, body: Body) -> list[Any]:
        """The conversation's items, oldest first."""
        ...

    def with_items(self, body: Body, items: Sequence[Any]) -> Body:
        """The body with other items."""
        ...

    def role(self, item: Any) -> str:
        """``"standing"``, ``"user"``, ``"assistant"`` or ``"tool"`` (results of calls)."""
        ...

    def calls(self, item: Any) -> list[str]:
        """Identifiers of the tool calls in an item."""
        ...

    def answered(self, item: Any) -> list[str]:
        """Identifiers of the calls whose results are in an item."""
        ...

    def results(self, item: Any) -> list[str]:
        """The texts of the results in an item."""
        ...

    def with_results(self, item: Any, texts: Sequence[str]) -> Any:
        """The item with other texts, as many as `results` gives."""
        ...

    def can_drop(self, body: Body) -> bool:
        """Whether exchanges may be left out: not if items refer to what is not shown."""
        ...

    def with_style(self, body: Body, style: str) -> Body | None:
        """The body with an instruction, None if there is no place for it."""
        ...

    def free_tools(self, body: Body) -> bool:
        """Whether there are tools and the model is free to call them or not."""
        ...

    def without_calls(self, body: Body) -> Body:
        """The body with its tools still described and no call allowed."""
        ...

    def system(self, body: Body) -> str:
        """The standing text that is no item."""
        ...

    def text(self, item: Any) -> str:
        """The item's text: what was said, arguments of calls, results."""
        ...


def exchanges(wire: Wire, items: Sequence[Any]) -> list[list[int]]:
    """The positions of each exchange, oldest first; standing items are in none.

    An exchange begins with a user's item, or several in a row, and holds all that the agent did in
    answer. What precedes the first user's item is an exchange of its own.
    """
    found: list[list[int]] = []
    before = None
    for position, item in enumerate(items):
        role = wire.role(item)
        if role == "standing":
            continue
        if not found or (role == "user" and before != "user"):
            found.append([])
        found[-1].append(position)
        before = role
    return found


def count_words(text: str) -> int:
    """Words of a text; one with few spaces has at least one for eight characters."""
    return max(len(text.split()), len(text) // 8)


def item_tokens(wire: Wire, items: Sequence[Any]) -> int:
    """Tokens of items without a tokenizer: words and marks times 1.35."""
    return round(sum(2 + count_words(wire.text(item)) for item in items) * TOKENS_PER_WORD)


def standing_tokens(wire: Wire, body: Body) -> int:
    """Tokens of the system text that is no item, and of the tools' schemas."""
    system = wire.system(body)
    words = 2 + count_words(system) if system else 0
    tools = body.get("tools")
    if isinstance(tools, list) and tools:
        # Schemas are short of spaces: a token is nearer to four characters than to a word.
        words += len(json.dumps(tools, default=str)) / (4 * TOKENS_PER_WORD)
    return round(words * TOKENS_PER_WORD)


def request_tokens(wire: Wire, body: Body) -> int:
    """Tokens of the whole request: system text, schemas, conversation."""
    return standing_tokens(wire, body) + item_tokens(wire, wire.items(body))


def reply_limit(body: Body) -> float:
    """The longest answer that a request allows, in tokens; infinite if it does not say."""
    given = [body.get(n) for n in ("max_tokens", "max_completion_tokens", "max_output_tokens")]
    limits = [x for x in given if isinstance(x, int | float) and not isinstance(x, bool) and x > 0]
    return min(limits, default=math.inf)


def mean_answer(wire: Wire, items: Sequence[Any]) -> float | None:
    """Mean tokens of the answers that a request shows; None if it shows none."""
    found = [
        count_words(wire.text(item)) * TOKENS_PER_WORD
        for item in items
        if wire.role(item) == "assistant" and not wire.calls(item) and wire.text(item)
    ]
    return sum(found) / len(found) if found else None


def text_in(content: Any) -> str:
    """The text of a content, whether a string or parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return " ".join(part for part in parts if isinstance(part, str))
    return ""


def texts_in(content: Any) -> list[str]:
    """The texts of a content, one for each part that is text."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    texts = [part.get("text") for part in content if isinstance(part, Mapping)]
    return [text for text in texts if isinstance(text, str)]


def with_texts(content: Any, texts: Sequence[str]) -> Any:
    """A content with other texts, as many as `texts_in` gives."""
    if isinstance(content, str):
        return texts[0]
    rest = iter(texts)
    return [
        {**part, "text": next(rest)}
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        else part
        for part in content
    ]


def ends_with(content: Any, style: str, kind: str = "text") -> Any:
    """A content with a line of its own at its end."""
    if isinstance(content, list):
        return [*content, {"type": kind, "text": style}]
    return f"{content}\n\n{style}" if content else style


def first_user(wire: Wire, items: Sequence[Any]) -> int | None:
    """The last of the user's items that open the conversation.

    An instruction there stays where it is while the conversation grows, so that a provider's cache
    of the prefix holds; at the newest message it would move with every turn.
    """
    found = exchanges(wire, items)
    for exchange in found:
        users = [position for position in exchange if wire.role(items[position]) == "user"]
        if users:
            return users[-1]
    return None
