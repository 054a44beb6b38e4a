"""A drop-in wrapper for the official `openai` client: same class, same methods, same results.

`govern_client` gives a copy of a client, of a subclass of its own class, that passes every chat
completion by a governor: `create` and `parse`, streamed and not, `stream`, `with_raw_response`,
`with_streaming_response`, sync and async, and copies made by `with_options`. All other resources
are the client's own. Where a rewritten request is refused by the upstream, the original is sent.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stackjax.runtime.chat._usage import counts_of, tool_calls_of
from stackjax.runtime.gateway._bridge import Caller, Turn
from stackjax.runtime.gateway._identify import checked_defaults, scoped, told_by_headers
from stackjax.runtime.gateway._memory import Memory
from stackjax.runtime.gateway._streams import failed_usage, usage_from, watch_stream
from stackjax.runtime.governor._governor import Governor

C = TypeVar("C")

REFUSALS = (400, 404, 413, 415, 422, 500, 501)
"""Statuses upon which a rewritten request is sent again as it came. Some servers answer 500 to a
message or an option that they do not expect."""


def govern_client(client: C, governor: Governor, *, defaults: Mapping[str, Any] | None = None) -> C:
    """A copy of an `openai` client whose chat completions are governed.

    Name the session by `session_scope`, or by the headers ``x-stackjax-session`` and so on in
    ``extra_headers``; else a conversation is known by its beginning.

    Args:
      client: An `openai.OpenAI` or `openai.AsyncOpenAI`, or of a subclass; not changed.
      governor: The governor.
      defaults: Fields of `SessionMetadata` for requests that do not tell them.

    Raises:
      ImportError: If `openai` is not installed.
      TypeError: If it is no such client, or a default is no field of `SessionMetadata`.
      ValueError: If the default task type is unknown.

    Example:
      >>> from importlib.util import find_spec
      >>> from stackjax.runtime import session_scope
      >>> governor = Governor(known_policy())
      >>> if find_spec("openai"):  # of the extra llm
      ...     import httpx, openai
      ...     answer = httpx.MockTransport(lambda request: httpx.Response(200, json={"id": "7"}))
      ...     client = openai.OpenAI(api_key="none", http_client=httpx.Client(transport=answer))
      ...     client = govern_client(client, governor)
      ...     with session_scope("session-7", task="simple_qa"):
      ...         reply = client.chat.completions.create(
      ...             model="m", messages=[{"role": "user", "content": "Hello"}]
      ...         )
      ...     assert reply.id == "7"
      >>> governor.close()
    """
    try:
        import openai
    except ImportError as error:
        raise ImportError(
            "`govern_client` needs the openai client: `pip install openai`."
        ) from error
    if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        raise TypeError(
            f"`client` must be an openai.OpenAI or openai.AsyncOpenAI; got {type(client).__name__}."
        )
    kind: Any = type(client)
    chat_type = _chat_type(
        isinstance(client, openai.AsyncOpenAI), governor, checked_defaults(defaults)
    )
    chat = functools.cached_property(lambda self: chat_type(self))
    governed = type(kind.__name__, (kind,), {"chat": chat, "__module__": kind.__module__})
    chat.__set_name__(governed, "chat")
    copy: Any = client.copy()
    copy.__dict__.pop("chat", None)
    copy.__class__ = governed
    return copy


def _chat_type(is_async: bool, governor: Governor, defaults: dict[str, Any]) -> type:
    """A chat resource whose completions are governed."""
    from openai.resources.chat.chat import AsyncChat, Chat
    from openai.resources.chat.completions import AsyncCompletions, Completions

    start = functools.partial(_start, governor, defaults, Memory())

    class GovernedCompletions(Completions):
        def create(self, **arguments: Any) -> Any:  # pyright: ignore
            return _call(start, super().create, arguments)

        def parse(self, **arguments: Any) -> Any:  # pyright: ignore
            return _call(start, super().parse, arguments)

    class GovernedAsyncCompletions(AsyncCompletions):
        async def create(self, **arguments: Any) -> Any:  # pyright: ignore
            return await _acall(start, super().create, arguments)

        async def parse(self, **arguments: Any) -> Any:  # pyright: ignore
            return await _acall(start, super().parse, arguments)

    completions = GovernedAsyncCompletions if is_async else GovernedCompletions
    base: Any = AsyncChat if is_async else Chat
    lazy = functools.cached_property(lambda self: completions(self._client))
    made = type(base.__name__, (base,), {"completions": lazy})
    lazy.__set_name__(made, "completions")
    return made


_Begin = Callable[[dict[str, Any]], tuple[Turn, dict[str, Any]]]


def _start(
    governor: Governor, defaults: Mapping[str, Any], memory: Memory, arguments: dict[str, Any]
) -> tuple[Turn, dict[str, Any]]:
    """A turn for a call; our own headers stay here."""
    told = scoped()
    headers = arguments.get("extra_headers")
    lowered: dict[str, str] = {}
    if isinstance(headers, Mapping):
        lowered = {str(k).lower(): v for k, v in headers.items() if isinstance(v, str)}
        named = told_by_headers(lowered)
        if named:
            told |= named
            rest = {k: v for k, v in headers.items() if not str(k).lower().startswith(_OURS)}
            arguments = {**arguments, "extra_headers": rest}
    # A raw answer is handed on unread: no chunk could be taken out of its stream.
    caller = Caller(headers=lowered, usage="never" if _RAW in lowered else "governed")
    return Turn(governor, told, defaults, caller=caller, memory=memory), arguments


_RAW = "x-stainless-raw-response"
_OURS = "x-stackjax-"


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were given a value, for reading."""
    from openai import NotGiven

    omitted: tuple[type, ...] = (NotGiven,)
    try:
        from openai import Omit

        omitted = (NotGiven, Omit)
    except ImportError:
        pass
    given = {k: v for k, v in arguments.items() if not isinstance(v, omitted)}
    if isinstance(given.get("messages"), list):
        given["messages"] = [_as_mapping(message) for message in given["messages"]]
    return given


def _as_mapping(message: Any) -> Any:
    """A message as the client would send it: an answer's own message object may stand in a chat."""
    if not hasattr(message, "model_dump"):
        return message
    try:
        hidden = getattr(message, "__api_exclude__", None)
        return message.model_dump(exclude_unset=True, mode="json", exclude=hidden)
    except Exception:  # not ours to refuse: the request goes as it came
        return message


def _call(start: _Begin, send: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    import openai

    turn, arguments = start(arguments)
    if turn.idle:
        return send(**arguments)
    given, sent = _plain(arguments), arguments
    if turn.shadow:
        turn.begin(given)
    else:
        plan = turn.wait(given)
        _check_refusal(turn)
        sent = _merged(arguments, plan.body)
    began = time.perf_counter()
    try:
        try:
            result = send(**sent)
        except openai.APIStatusError as error:
            if sent is arguments or error.status_code not in REFUSALS:
                raise
            turn.rejected()
            result = send(**arguments)
    except Exception as error:
        turn.finish(failed_usage(error, began))
        raise
    return _observed(turn, result, began, is_async=False)


async def _acall(start: _Begin, send: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    import openai

    turn, arguments = start(arguments)
    if turn.idle:
        return await send(**arguments)
    given, sent = _plain(arguments), arguments
    if turn.shadow:
        turn.begin(given)
    else:
        plan = await turn.await_plan(given)
        _check_refusal(turn)
        sent = _merged(arguments, plan.body)
    began = time.perf_counter()
    try:
        try:
            result = await send(**sent)
        except openai.APIStatusError as error:
            if sent is arguments or error.status_code not in REFUSALS:
                raise
            turn.rejected()
            result = await send(**arguments)
    except BaseException as error:
        turn.finish(failed_usage(error, began))
        raise
    return _observed(turn, result, began, is_async=True)


def _merged(arguments: dict[str, Any], body: Mapping[str, Any] | None) -> dict[str, Any]:
    """The caller's arguments with what the plan changed; the same object if it changed nothing."""
    if body is None:
        return arguments
    changed = {k: body[k] for k in ("messages", "tool_choice", "stream_options") if k in body}
    return {**arguments, **changed}


def _check_refusal(turn: Turn) -> None:
    """Raises what the client raises for a status of 429, if the governor refuses the request."""
    plan = turn.plan
    if plan.refusal is None:
        return
    turn.refused()
    import httpx
    import openai

    request = httpx.Request("POST", "http://stackjax.invalid/v1/chat/completions")
    body = {"message": plan.refusal, "type": "budget_exhausted", "code": "budget_exhausted"}
    response: Any = httpx.Response(429, request=request, json={"error": body})
    raise openai.RateLimitError(plan.refusal, response=response, body=body)


def _observed(turn: Turn, result: Any, began: float, *, is_async: bool) -> Any:
    """Books an answer at once, or a stream when it ends. The object itself is handed on."""
    if hasattr(result, "_iterator") and hasattr(result, "response"):
        watch_stream(turn, result, began, is_async=is_async)
        return result
    latency = time.perf_counter() - began
    result_read = _decoded(result)
    turn.finish(usage_from(counts_of(result_read), tool_calls_of(result_read), latency))
    return result


def _decoded(result: Any) -> Any:
    """The answer, also of a raw response whose body has been read."""
    try:
        return json.loads(result.http_response.content)
    except Exception:  # no raw response, or not read, or no JSON
        return result
