"""From a response (c, p, u) to a chat request: context, prompt style, tool budget.

=======  =====================================  =========================  ========================
level    c, context                             p, prompt style            u, tools
=======  =====================================  =========================  ========================
0        the newest turn                        `STYLES[0.0]`              no further call
0.5      and the newer half of the turns        `STYLES[0.5]`              calls up to a limit
1        as it came                             as it came                 as it came
=======  =====================================  =========================  ========================

The style is added to the last leading system message, or becomes one. Tool definitions stay, so
that a history with calls remains valid; ``tool_choice`` "none" ends the calls. A request that
forces a tool keeps its tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stackjax._arrays.arguments import check_count
from stackjax.agents.executor._adapter import executed_action
from stackjax.runtime.chat._messages import STANDING, compact, grammar_error, split_turns

CHAT_ADAPTER_VERSION = "chat-1"
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

    Example:
      >>> Rewritten({}, {}, ("style",), 0).changes
      ('style',)
    """

    body: Mapping[str, Any]
    original: Mapping[str, Any]
    changes: tuple[str, ...]
    dropped: int


@dataclass(frozen=True)
class ChatAdapter:
    """Carries out a response on chat-completions requests.

    Attributes:
      styles: The instruction of each prompt level; None adds nothing.
      tool_calls: Calls in one turn at level 0.5 after which no further one is allowed.

    Raises:
      TypeError: If the limit is not an integer.
      ValueError: If a level has no style, or the limit is below 1.

    Example:
      >>> request = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
      >>> ChatAdapter().rewrite(request, (1.0, 1.0, 1.0)).body is request
      True
      >>> ChatAdapter().rewrite(request, (1.0, 0.0, 1.0)).changes
      ('style',)
    """

    styles: Mapping[float, str | None] = field(default_factory=lambda: dict(STYLES))
    tool_calls: int = 4

    def __post_init__(self) -> None:
        if set(self.styles) != set(STYLES):
            raise ValueError(
                f"`styles` must have the levels {list(STYLES)}; got {list(self.styles)}."
            )
        check_count("tool_calls", self.tool_calls)

    @property
    def version(self) -> str:
        """What the fingerprint of a policy holds of the adapter."""
        return CHAT_ADAPTER_VERSION

    def rewrite(self, body: Mapping[str, Any], response: Sequence[float]) -> Rewritten:
        """The request under a response; `body` and all that it holds stay unchanged.

        A request whose messages break the grammar comes back as it is.

        Args:
          body: The arguments of a chat completion.
          response: (c, p, u) in [0, 1]^3; goes to the nearest level.

        Raises:
          ValueError: If the response is not three numbers in [0, 1].
        """
        context, prompt, tools = executed_action(response)
        messages = body.get("messages")
        if not isinstance(messages, list) or grammar_error(messages) is not None:
            return Rewritten(body, body, (), 0)
        changed: dict[str, Any] = {}
        changes = []
        kept = compact(messages, context)
        if kept is not messages:
            changes.append("context")
        style = self.styles[prompt]
        if style:
            changed["messages"] = with_style(kept, style)
            changes.append("style")
        elif kept is not messages:
            changed["messages"] = kept
        if self._ends_calls(body, messages, tools):
            changed["tool_choice"] = "none"
            changes.append("tools")
        if not changes:
            return Rewritten(body, body, (), 0)
        return Rewritten({**body, **changed}, body, tuple(changes), len(messages) - len(kept))

    def _ends_calls(
        self, body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], level: float
    ) -> bool:
        """Whether the tool budget of this turn is used up."""
        if level == 1.0 or not body.get("tools") or body.get("tool_choice") not in (None, "auto"):
            return False
        turns = split_turns(messages)
        newest = turns[-1] if turns else []
        calls = sum(messages[position]["role"] == "tool" for position in newest)
        return level == 0.0 or calls >= self.tool_calls


def with_style(messages: Sequence[Any], style: str) -> list[Any]:
    r"""The messages with an instruction in the last leading system or developer message."""
    messages = list(messages)
    leading = 0
    while leading < len(messages) and messages[leading]["role"] in STANDING:
        leading += 1
    if leading == 0:
        return [{"role": "system", "content": style}, *messages]
    last = messages[leading - 1]
    content = last.get("content")
    if isinstance(content, list):
        content = [*content, {"type": "text", "text": style}]
    else:
        content = f"{content}\n\n{style}" if content else style
    messages[leading - 1] = {**last, "content": content}
    return messages
