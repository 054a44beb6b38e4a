"""The executor: takes real turns through any server that speaks the OpenAI protocol.

Failures of the server never raise: after bounded retries with exponential backoff the turn gets
a fallback reply and the reason is logged.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stackjax.agents.executor._adapter import (
    ADAPTER_VERSION,
    Message,
    build_request,
    check_adapter,
    tool_message,
)
from stackjax.agents.tasks._tools import find_call, run_call

FALLBACK_ANSWER = ""


class TurnOutcome(NamedTuple):
    """What a turn gave and cost.

    Attributes:
      answer: The model's final reply, `FALLBACK_ANSWER` after a failure.
      executed: (c, p, u) as the adapter rounded it.
      prompt_tokens: The server's own count, summed over the turn's calls and failed attempts.
      completion_tokens: Likewise.
      latency: Seconds, waits between attempts included.
      tool_calls: Tool calls executed.
      fallback: ``"timeout"``, ``"connection"``, ``"http_429"`` (or another status),
        ``"malformed_reply"``, ``"empty_completion"``, or None.
      replayed: Whether every reply came from the cache.
      transcript: Replies and tool results in turn.

    Example:
      >>> found = sj.agents.executor.TurnOutcome(
      ...     "4", (1.0, 0.5, 0.0), 90, 3, 0.4, 0, None, False, ("4",)
      ... )
      >>> found.prompt_tokens + found.completion_tokens, found.fallback is None
      (93, True)
    """

    answer: str
    executed: tuple[float, float, float]
    prompt_tokens: int
    completion_tokens: int
    latency: float
    tool_calls: int
    fallback: str | None
    replayed: bool
    transcript: tuple[str, ...]


class _Reply(NamedTuple):
    text: str
    prompt_tokens: int
    completion_tokens: int
    replayed: bool
    fallback: str | None


class _Failed(Exception):
    """One attempt failed.

    Attributes:
      reason: The fallback reason.
      final: Whether another attempt is useless.
      tokens: Prompt and completion tokens that the attempt used all the same.
    """

    def __init__(self, reason: str, final: bool = False, tokens: tuple[int, int] = (0, 0)):
        super().__init__(reason)
        self.reason, self.final, self.tokens = reason, final, tokens


@dataclass(frozen=True)
class Executor:
    """Runs turns against a chat-completions server.

    Attributes:
      base_url: The server's base URL ending in ``/v1``; by default ``OPENAI_BASE_URL``.
      api_key: Key; by default ``OPENAI_API_KEY``. Never logged, cached or shown.
      model: Model's name, sent with each request.
      model_hash: What identifies the model in the cache (its file's SHA-256); `model` if None.
      cache_dir: Folder of cached replies; None for no cache.
      timeout: Seconds for one request.
      max_retries: Further attempts after the first.
      backoff: Seconds before the first retry; doubles each time.
      max_tokens: Longest reply of one call, in tokens, where the prompt does not ask for steps.
      seed: Sampling seed sent to the server (temperature is 0).
      sleep: Waits between attempts; replaceable in tests.
      adapter: Version of the adapter, ``"2"`` or ``"3"``: which contexts and prompts there are.

    Raises:
      ValueError: If a number is out of its range, the version is unknown, or no server is named.
      ImportError: If the `openai` client is not installed (extra `llm`).

    Example:
      >>> try:
      ...     sj.agents.executor.Executor(
      ...         "http://127.0.0.1:8080/v1", model="my-model", timeout=0.0
      ...     )
      ... except ValueError as error:
      ...     print(str(error).split(",")[0])
      timeout must be positive
    """

    base_url: str | None = None
    api_key: str | None = None
    model: str = "default"
    model_hash: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    timeout: float = 60.0
    max_retries: int = 3
    backoff: float = 0.5
    max_tokens: int = 28
    seed: int = 0
    sleep: Callable[[float], None] = time.sleep
    adapter: str = ADAPTER_VERSION

    def __post_init__(self) -> None:
        if self.timeout <= 0 or self.max_retries < 0 or self.backoff < 0 or self.max_tokens < 1:
            raise ValueError(
                "timeout must be positive, max_retries and backoff not negative, max_tokens at "
                f"least 1; got {self.timeout}, {self.max_retries}, {self.backoff}, "
                f"{self.max_tokens}"
            )
        check_adapter(self.adapter)
        object.__setattr__(self, "_client", self._make_client())

    def __repr__(self) -> str:
        return f"Executor(model={self.model!r})"

    def _make_client(self) -> Any:
        try:
            import openai
        except ImportError as error:
            raise ImportError("Executor needs the openai client: `pip install openai`") from error
        base_url = self.base_url or os.environ.get("OPENAI_BASE_URL")
        if not base_url:
            raise ValueError("base_url is not given and OPENAI_BASE_URL is not set")
        return openai.OpenAI(
            base_url=base_url,
            api_key=self.api_key or os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=0,
            timeout=self.timeout,
        )

    def run_turn(
        self,
        question: str,
        task: str,
        action: Sequence[float],
        *,
        history: Sequence[Message] = (),
        notes: Sequence[str] = (),
        family: str = "",
        passages: Sequence[str] = (),
    ) -> TurnOutcome:
        """Takes one turn.

        Args:
          question: The user's question; always sent.
          task: Task type, which chooses the prompt.
          action: (c, p, u), each in [0, 1].
          history: Messages before the question, oldest first.
          notes: All notes of the session, which the search tool may find.
          family: The question's family, which may have a prompt of its own.
          passages: Retrieved for the question, the best one last; the search tool finds them too.

        Raises:
          ValueError: If the action is not three numbers in [0, 1] or the task is unknown.
        """
        start = time.perf_counter()
        request = build_request(
            history,
            question,
            task,
            action,
            family=family,
            passages=passages,
            adapter=self.adapter,
        )
        findable = [*notes, *passages]
        limit = self.max_tokens if request.max_tokens is None else request.max_tokens
        messages = list(request.messages)
        prompt = completion = calls = 0
        replayed, transcript = True, []
        while True:
            reply = self._complete(messages, limit, request.stop)
            prompt += reply.prompt_tokens
            completion += reply.completion_tokens
            replayed = replayed and reply.replayed
            transcript.append(reply.text)
            call = find_call(reply.text) if request.max_calls else None
            if reply.fallback is not None or call is None or calls >= request.max_calls:
                break
            calls += 1
            result = tool_message(call.tool, run_call(call, findable), question)
            transcript.append(result)
            messages += [
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": result},
            ]
        return TurnOutcome(
            answer=FALLBACK_ANSWER if reply.fallback else reply.text,
            executed=request.executed,
            prompt_tokens=prompt,
            completion_tokens=completion,
            latency=time.perf_counter() - start,
            tool_calls=calls,
            fallback=reply.fallback,
            replayed=replayed,
            transcript=tuple(transcript),
        )

    def _complete(
        self, messages: list[dict[str, str]], max_tokens: int, stop: Sequence[str]
    ) -> _Reply:
        """One call: from the cache, or with retries from the server, or the fallback."""
        body = {
            "messages": messages,
            "temperature": 0.0,
            "seed": self.seed,
            "max_tokens": max_tokens,
            "stop": list(stop),
        }
        path = self._cache_path(body)
        cached = _read_cache(path)
        if cached is not None:
            return _Reply(*cached, replayed=True, fallback=None)
        reason, wasted = "connection", [0, 0]
        for attempt in range(self.max_retries + 1):
            if attempt:
                self.sleep(self.backoff * 2 ** (attempt - 1))
            try:
                reply = self._request(body)
            except _Failed as failure:
                reason = failure.reason
                wasted = [a + b for a, b in zip(wasted, failure.tokens, strict=True)]
                if failure.final:
                    break
                continue
            if path is not None:
                _write_cache(path, reply)
            text, prompt, completion = reply
            return _Reply(text, prompt + wasted[0], completion + wasted[1], False, None)
        return _Reply(FALLBACK_ANSWER, *wasted, replayed=False, fallback=reason)

    def _request(self, body: dict[str, Any]) -> tuple[str, int, int]:
        """One attempt: the reply's text and the server's token counts, or `_Failed`."""
        import openai

        client: Any = self._client  # pyright: ignore[reportAttributeAccessIssue]
        try:
            reply = client.chat.completions.create(model=self.model, **body)
            text = reply.choices[0].message.content
            prompt, completion = reply.usage.prompt_tokens, reply.usage.completion_tokens
        except openai.APITimeoutError as error:
            raise _Failed("timeout") from error
        except openai.APIConnectionError as error:
            raise _Failed("connection") from error
        except openai.APIStatusError as error:
            code = error.status_code
            retry = code in (408, 409, 425, 429) or code >= 500
            raise _Failed(f"http_{code}", final=not retry) from error
        except (openai.OpenAIError, ValueError, TypeError, AttributeError, LookupError) as error:
            raise _Failed("malformed_reply") from error
        if not isinstance(prompt, int) or not isinstance(completion, int):
            raise _Failed("malformed_reply")
        if text is not None and not isinstance(text, str):
            raise _Failed("malformed_reply")
        text = (text or "").strip()
        if not text:
            raise _Failed("empty_completion", tokens=(prompt, completion))
        return text, prompt, completion

    def _cache_path(self, body: dict[str, Any]) -> Path | None:
        if self.cache_dir is None:
            return None
        client: Any = self._client  # pyright: ignore[reportAttributeAccessIssue]
        model = self.model_hash or [self.model, str(client.base_url)]
        content = json.dumps([model, body], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        return Path(self.cache_dir) / digest[:2] / f"{digest}.json"


def _read_cache(path: Path | None) -> tuple[str, int, int] | None:
    """Returns a cached reply; a file that is absent or damaged counts as no reply."""
    if path is None:
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return str(data["text"]), int(data["prompt_tokens"]), int(data["completion_tokens"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(path: Path, reply: tuple[str, int, int]) -> None:
    """Writes a reply so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = dict(zip(("text", "prompt_tokens", "completion_tokens"), reply, strict=True))
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False)
    os.replace(temporary, path)
