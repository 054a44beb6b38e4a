"""Which format is spoken at a path."""

from __future__ import annotations

from stackjax.runtime.chat._wire import Wire
from stackjax.runtime.chat._wire_chat import CHAT
from stackjax.runtime.chat._wire_messages import MESSAGES
from stackjax.runtime.chat._wire_responses import RESPONSES

_PATHS: dict[str, Wire] = {
    "/chat/completions": CHAT,
    "/responses": RESPONSES,
    "/messages": MESSAGES,
}


def wire_at(path: str) -> Wire | None:
    """The format of the requests that are posted to a path; None if they are not governed.

    Example:
      >>> wire_at("/v1/responses").name, wire_at("/v1/embeddings")
      ('responses', None)
    """
    return next((wire for end, wire in _PATHS.items() if path.endswith(end)), None)
