"""From a response (c, p, u) to a request: context, prompt style, tool calls.

=======  ========================================  =======================  =====================
level    c, context                                p, prompt style          u, tools
=======  ========================================  =======================  =====================
0        the newest exchange, older tool results   `STYLES[0.0]`            calls up to half of
         cut                                                                the limit, if any
0.5      and at least the newer half of the        `STYLES[0.5]`            calls up to the limit,
         exchanges and of the tool results whole                            if any
1        as it came                                as it came               as it came
=======  ========================================  =======================  =====================

Below level 1 of the context, tool results are also written without the spaces of JSON that say
nothing, and repeated ones are named instead of repeated (`compact_items`). The style ends a text
that is there already, the system's or the user's first words, and stays there. Tools stay in the
request and may be called: an agent without them is no agent. Only a limit that was set ends the
calls of an exchange, by ``tool_choice`` "none"; a request that forces a tool keeps it.

No component makes a request larger: a context that would grow is left as it came, and a style is
left out unless the request is smaller all the same, or answers are known to be so long that a
tenth of one pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stackjax._arrays.arguments import check_count, check_type, check_within
from stackjax.agents.executor._adapter import executed_action
from stackjax.runtime.chat._compaction import compact_items
from stackjax.runtime.chat._wire import (
    Wire,
    exchanges,
    mean_answer,
    reply_limit,
    request_tokens,
)
from stackjax.runtime.chat._wire_chat import CHAT

CHAT_ADAPTER_VERSION = "chat-2"
STYLES: dict[float, str | None] = {
    0.0: "Answer briefly.",
    0.5: "Answer concisely: what was asked for, and no more.",
    1.0: None,
}


class Rewritten(NamedTuple):
    """A governed request beside the one that came.

    Attributes:
      body: What is sent; `original` itself if nothing changed.
      original: The request as it came, unchanged.
      changes: Of ``"context"``, ``"style"``, ``"tools"``: what differs.
      dropped: Messages left out.
      undone: Of ``"context"``, ``"style"``: what was left as it came because it would have made
        the request larger.

    Example:
      >>> Rewritten({}, {}, ("style",), 0).changes
      ('style',)
    """

    body: Mapping[str, Any]
    original: Mapping[str, Any]
    changes: tuple[str, ...]
    dropped: int
    undone: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatAdapter:
    """Carries out a response on requests of chat completions, Responses and Anthropic's messages.

    Attributes:
      styles: The instruction of each prompt level; None adds nothing.
      tool_calls: Calls in one exchange after which no further one is allowed at level 0.5, and half
        as many, at least one, at level 0; None for no limit.
      without_tools: Whether level 0 allows no call at all. It turns an agent into a chatbot.
      longest_result: Characters of an older tool result above which its middle is left out.
      style_saves: Part of an answer that a style is taken to save at least.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If a level has no style, a limit is below 1, or `style_saves` not in [0, 1].

    Example:
      >>> request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
      >>> ChatAdapter().rewrite(request, (1.0, 1.0, 1.0)).body is request
      True
      >>> ChatAdapter().rewrite(request, (1.0, 0.0, 1.0)).undone
      ('style',)
      >>> ChatAdapter().rewrite(request, (1.0, 0.0, 1.0), answer=400.0).changes
      ('style',)
    """

    styles: Mapping[float, str | None] = field(default_factory=lambda: dict(STYLES))
    tool_calls: int | None = None
    without_tools: bool = False
    longest_result: int = 2000
    style_saves: float = 0.1

    def __post_init__(self) -> None:
        if set(self.styles) != set(STYLES):
            raise ValueError(
                f"`styles` must have the levels {list(STYLES)}; got {list(self.styles)}."
            )
        if self.tool_calls is not None:
            check_count("tool_calls", self.tool_calls)
        check_type("without_tools", self.without_tools, bool, "a bool")
        check_count("longest_result", self.longest_result)
        check_within("style_saves", self.style_saves, "[0, 1]")

    @property
    def version(self) -> str:
        """What the fingerprint of a policy holds of the adapter."""
        return CHAT_ADAPTER_VERSION

    def rewrite(
        self,
        body: Mapping[str, Any],
        response: Sequence[float],
        *,
        wire: Wire = CHAT,
        answer: float | None = None,
    ) -> Rewritten:
        """The request under a response; `body` and all that it holds stay unchanged.

        A request that breaks the grammar of its format comes back as it is.

        Args:
          body: The request's arguments.
          response: (c, p, u) in [0, 1]^3; goes to the nearest level.
          wire: The request's format.
          answer: Tokens that an answer has on the mean where no style is sent; None if nobody
            knows: the answers that the request shows are taken instead.

        Raises:
          ValueError: If the response is not three numbers in [0, 1].
        """
        context, prompt, tools = executed_action(response)
        if wire.error(body) is not None:
            return Rewritten(body, body, (), 0)
        made, dropped, changes, undone = body, 0, [], []
        came = request_tokens(wire, body)
        items = wire.items(body)
        kept = compact_items(
            wire, items, context, longest=self.longest_result, drop=wire.can_drop(body)
        )
        if kept.items is not items:
            smaller = wire.with_items(body, kept.items)
            if request_tokens(wire, smaller) < came:
                made, dropped = smaller, kept.dropped
                changes.append("context")
            else:
                undone.append("context")
        style = self.styles[prompt]
        styled = wire.with_style(made, style) if style else None
        if styled is not None:
            sent = request_tokens(wire, styled)
            price = sent - request_tokens(wire, made)
            if sent <= came or price <= self.style_saves * _expected(wire, body, answer):
                made = styled
                changes.append("style")
            else:
                undone.append("style")
        if self._ends_calls(wire, body, tools):
            made = wire.without_calls(made)
            changes.append("tools")
        return Rewritten(made, body, tuple(changes), dropped, tuple(undone))

    def _ends_calls(self, wire: Wire, body: Mapping[str, Any], level: float) -> bool:
        """Whether the limit on the calls of this exchange is reached."""
        if level == 1.0 or not wire.free_tools(body):
            return False
        if level == 0.0 and self.without_tools:
            return True
        if self.tool_calls is None:
            return False
        items = wire.items(body)
        found = exchanges(wire, items)
        made = sum(len(wire.answered(items[position])) for position in (found or [[]])[-1])
        return made >= (self.tool_calls if level else max(self.tool_calls // 2, 1))


def _expected(wire: Wire, body: Mapping[str, Any], answer: float | None) -> float:
    """Tokens of the answer that may be expected, 0 where nothing is known of it."""
    known = mean_answer(wire, wire.items(body)) if answer is None else answer
    return min(known or 0.0, reply_limit(body))
