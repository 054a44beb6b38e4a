"""Session metadata out of a chat request, for agents that tell nothing but the request.

What the agent tells (headers, or `session_scope`) goes first. What it does not tell is guessed by
fixed, coarse rules: they are features for a policy, not a judgement of the text, and a policy
should be calibrated in shadow mode on the traffic that it is to govern.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import math
import re
from collections.abc import Generator, Mapping
from typing import Any

from stackjax._arrays.arguments import check_choice
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime.chat._wire import Wire, exchanges, item_tokens, request_tokens
from stackjax.runtime.chat._wire_chat import CHAT
from stackjax.runtime.governor._metadata import SessionMetadata

HEADERS = {
    "x-stackjax-session": "identifier",
    "x-stackjax-task": "task",
    "x-stackjax-complexity": "task_complexity",
    "x-stackjax-pool": "pool",
}
"""Headers by which an agent tells the metadata; they never leave for the upstream."""

_TASKS = (
    (
        "code_generation",
        r"```|\bdef \w+\(|\b(code|function|script|bug|compile|refactor|regex|sql)\b",
    ),
    ("data_analysis", r"\b(table|column|rows?|csv|dataset|chart|average|median|statistics)\b"),
    (
        "complex_reasoning",
        r"\b(why|prove|calculate|how many|how much|step by step|plan)\b|\d\s*[-+*/]\s*\d",
    ),
    ("text_writing", r"\b(write|draft|rewrite|essay|letter|email|summari[sz]e|translate|poem)\b"),
    ("casual_chat", r"^\W*(hi|hello|hey|thanks|thank you|good (morning|evening)|bye)\b"),
)
_FORCED: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar(
    "stackjax_session", default=None
)


@contextlib.contextmanager
def session_scope(identifier: str, **fields: Any) -> Generator[SessionMetadata]:
    """Names the session of all requests that a governed client sends inside of the block.

    Args:
      identifier: The session's name.
      **fields: Further fields of `SessionMetadata`.

    Raises:
      TypeError: If there is no such field.
      ValueError: If the identifier is empty.

    Example:
      >>> with session_scope("session-7", task="simple_qa") as session:
      ...     session.task
      'simple_qa'
    """
    session = SessionMetadata(identifier, **fields)
    token = _FORCED.set({"identifier": identifier, **fields})
    try:
        yield session
    finally:
        _FORCED.reset(token)


def scoped() -> dict[str, Any]:
    """The fields told by the `session_scope` around the caller; empty without one."""
    return dict(_FORCED.get() or {})


def checked_defaults(defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of the defaults: a name that is misspelt here would be a fallback in every turn.

    Raises:
      TypeError: If there is no such field.
      ValueError: If the task type is unknown.
    """
    made = dict(defaults or {})
    names = [field.name for field in dataclasses.fields(SessionMetadata)]
    unknown = [name for name in made if name not in names]
    if unknown:
        raise TypeError(
            f"`defaults` must have fields of {names}; got {', '.join(map(str, unknown))}."
        )
    if made.get("task") is not None:
        check_choice("defaults['task']", made["task"], TASK_TYPES)
    return made


def told_by_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    """The fields told by the headers `HEADERS`; a complexity that is no number is left out."""
    told: dict[str, Any] = {HEADERS[k]: v for k, v in headers.items() if k in HEADERS and v}
    if "task_complexity" in told:
        with contextlib.suppress(ValueError):
            told["task_complexity"] = float(told["task_complexity"])
        if isinstance(told["task_complexity"], str):
            del told["task_complexity"]
    return told


def identify_session(
    body: Mapping[str, Any],
    told: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
    *,
    wire: Wire = CHAT,
    credential: str = "",
) -> SessionMetadata:
    """The metadata of the session that a request belongs to.

    Without a name the session is known by its beginning: the credential, the standing messages and
    the first user's message, with ``prompt_cache_key`` and ``user`` if given. Two conversations
    that begin alike are then one session. The turn index is that of its accounts, or the number of
    earlier exchanges in the request where that is larger.

    The tokens of the context are all that is sent but the newest question: system text, schemas of
    tools, history, and results of tools.

    The complexity is not guessed. That of recorded turns was given by what made them, and no rule
    on a message's words was found that agrees with it (a message's length: correlation .12).
    """
    items = wire.items(body)
    found = exchanges(wire, items)
    newest = [items[i] for i in found[-1]] if found else []
    asked = [item for item in newest if wire.role(item) == "user"]
    context = request_tokens(wire, body) - item_tokens(wire, asked)
    fields: dict[str, Any] = {
        "task": guess_task(" ".join(wire.text(item) for item in asked)),
        "task_complexity": math.nan,
        "context_tokens": float(max(context, 0)),
        "earlier_turns": float(max(len(found) - 1, 0)),
        "calls": sum(bool(wire.calls(item)) for item in newest),
        "tool_calls": sum(len(wire.answered(item)) for item in newest),
        "tools": bool(body.get("tools")),
        **(defaults or {}),
        **told,
    }
    if not fields.get("identifier"):
        fields["identifier"] = fingerprint(body, wire, credential)
    return SessionMetadata(**fields)


def guess_task(question: str) -> str:
    """A task type by key words, ``"simple_qa"`` where none is found."""
    text = question[:4000].lower()
    return next((task for task, words in _TASKS if re.search(words, text)), "simple_qa")


def fingerprint(body: Mapping[str, Any], wire: Wire = CHAT, credential: str = "") -> str:
    """A name for a session that nobody named, of what its requests begin with."""
    digest = hashlib.sha256(credential.encode())
    for name in ("prompt_cache_key", "user"):
        digest.update(f"{body.get(name)}\x1f".encode("utf-8", "surrogatepass"))
    texts = [wire.system(body)] if wire.system(body) else []
    for item in wire.items(body):
        texts.append(wire.text(item))
        if wire.role(item) != "standing":
            break
    for text in texts:
        digest.update(text[:4000].encode("utf-8", "surrogatepass") + b"\x1f")
    return digest.hexdigest()
