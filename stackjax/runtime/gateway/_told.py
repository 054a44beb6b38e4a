"""What an answer tells of what was done with its request: headers, and refusals."""

from __future__ import annotations

import json
from typing import Any

from stackjax.runtime.chat._wire import Wire
from stackjax.runtime.gateway._bridge import Turn
from stackjax.runtime.gateway._upstream import Headers

ERRORS = {
    404: ("not_found", "this proxy serves paths below /v1/ and /openai/ only"),
    408: ("request_timeout", "the request did not arrive in time"),
    413: ("too_large", "the body is too large"),
    429: ("budget_exhausted", "the session has used up its budget"),
    502: ("upstream_unreachable", "the upstream could not be reached or broke off"),
    503: ("overloaded", "no connection to the upstream is free"),
    504: ("upstream_timeout", "the upstream did not answer in time"),
}
"""Errors of our own by status: a name, and what it means."""


def told_headers(turn: Turn | None) -> Headers:
    """Headers that say what was done: mode, cell, estimated tokens, fallback.

    ============================  ==============================================================
    header                        value
    ============================  ==============================================================
    ``x-stackjax-mode``           label of the roll-out, ``canary:0.05``
    ``x-stackjax-cell``           (c, p, u) that was carried out; absent if the request was left
    ``x-stackjax-changes``        what differs: ``context,style``
    ``x-stackjax-tokens-before``  estimated prompt tokens of the request as it came
    ``x-stackjax-tokens-after``   the same of what was sent
    ``x-stackjax-fallback``       why the policy was not followed
    ============================  ==============================================================
    """
    if turn is None:
        return []
    plan = turn.ready()
    told: dict[str, str] = {"mode": turn.governor.rollout.label}
    decision, sent = plan.decision, turn.sent
    if decision is not None:
        if sent and decision.response is not None:
            told["cell"] = ",".join(f"{level:g}" for level in decision.response)
        if sent and plan.changes:
            told["changes"] = ",".join(plan.changes)
        told["tokens-before"] = str(plan.estimates[0])
        told["tokens-after"] = str(plan.estimates[bool(sent)])
    reason = turn.fallback_code
    if reason is not None:
        told["fallback"] = reason
    return [(f"x-stackjax-{name}".encode(), value.encode()) for name, value in told.items()]


def error_answer(
    status: int, wire: Wire | None = None, message: str | None = None, turn: Turn | None = None
) -> tuple[Headers, bytes]:
    """Headers and body of an error of our own, in the form that clients of the format know."""
    kind, meaning = ERRORS[status]
    wire = turn.caller.wire if wire is None and turn is not None else wire
    error: dict[str, Any] = {"message": message or meaning, "type": kind, "code": kind}
    if wire is not None and wire.name == "messages":
        name = "rate_limit_error" if status == 429 else "api_error"
        error = {"type": "error", "error": {"type": name, "message": error["message"]}}
    else:
        error = {"error": error}
    content = json.dumps(error).encode()
    headers = [(b"content-type", b"application/json"), (b"x-stackjax-error", kind.encode())]
    if status in (408, 413):  # the rest of the body is not awaited
        headers.append((b"connection", b"close"))
    if status == 429:  # a budget does not come back by waiting
        headers.append((b"x-should-retry", b"false"))
    headers.append((b"content-length", str(len(content)).encode()))
    return [*headers, *told_headers(turn)], content
