"""An upstream that speaks chat completions, the Responses API and Anthropic's messages in full.

It streams, calls tools, counts tokens (a quarter of the characters that it read), knows which
beginning of a prompt it has seen before, refuses what breaks a format's rules, and fails as the
model's name says: parts joined by ``+``, of

    tools:2         calls two tools one after another, then answers
    words:50        answers in 50 words
    zip:gzip        packs its answers (gzip, deflate, raw: deflate without a header; br: rubbish)
    silent          names no counts
    500:TEXT        answers 500 if the body holds TEXT, and so for any other status
    cut:3           breaks off after three pieces
    wait:0.1        waits before each piece
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from experiments.runtime.upstream import Received, RecordingUpstream, Reply


class FullUpstream(RecordingUpstream):
    """The upstream; `cached` has the tokens that each request shared with an earlier one."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.cached: list[int] = []
        self._prompts: list[str] = []
        self._stored: dict[str, list[Any]] = {}

    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of the requests, decoded."""
        return [json.loads(received.body) for received in self.received if received.body]

    def _answer(self, received: Received, number: int) -> Reply:
        path = received.head.split(b" ")[1].decode().partition("?")[0]
        if not received.body or not received.head.startswith(b"POST"):
            return Reply(b'{"object": "list", "data": []}')
        try:
            text = received.body.decode()
            body = json.loads(text, parse_constant=_refuse)
        except ValueError:
            return _error(400, "no JSON")
        model = str(body.get("model", ""))
        text = text.replace(json.dumps(model), "")
        named = [part.partition(":") for part in model.split("+") if part]
        features: dict[str, str] = {name: value for name, _, value in named}
        for name, value in features.items():
            if name.isdigit() and value in text:
                return _error(int(name), f"{value} is refused")
        speaks = next((s for end, s in _FORMATS.items() if path.endswith(end)), None)
        if speaks is None:
            return Reply(b'{"object": "list", "data": []}')
        turns = speaks.read(body, self._stored)
        if turns is None:
            return _error(400, "the conversation breaks the rules of the format")
        prompt = json.dumps(
            [body.get("tools"), body.get("system"), body.get("instructions"), turns]
        )
        counts = self._count(prompt)
        calls = _next_call(body, turns, int(features.get("tools", 0)))
        words = " ".join(f"w{i}" for i in range(int(features.get("words", 3))))
        usage = None if "silent" in features else counts
        if body.get("stream"):
            pieces: Any = tuple(speaks.events(body, number, words, calls, usage))
            kind = "text/event-stream; charset=utf-8"
        else:
            answer = speaks.whole(body, number, words, calls, usage)
            self._stored[answer["id"]] = [*turns, *_said(words, calls)]
            pieces, kind = json.dumps(answer).encode(), "application/json"
        headers: tuple[str, ...] = ()
        if "zip" in features:
            headers = (f"Content-Encoding: {features['zip'].replace('raw', 'deflate')}",)
            whole = pieces if isinstance(pieces, bytes) else b"".join(pieces)
            pieces = _PACK[features["zip"]](whole)
            if body.get("stream"):
                pieces = tuple(pieces[i : i + 50] for i in range(0, len(pieces), 50))
        kill = int(features["cut"]) if "cut" in features else None
        delay = float(features.get("wait", 0.0))
        return Reply(pieces, delay=delay, content_type=kind, kill=kill, headers=headers)

    def _count(self, prompt: str) -> dict[str, int]:
        shared = 0
        for earlier in self._prompts:
            differs = (i for i, (a, b) in enumerate(zip(prompt, earlier)) if a != b)
            shared = max(shared, next(differs, min(len(prompt), len(earlier))))
        self._prompts.append(prompt)
        self.cached.append(shared // 4)
        return {"prompt": len(prompt) // 4, "cached": shared // 4}


def _refuse(name: str) -> None:
    raise ValueError(name)


def _error(status: int, message: str) -> Reply:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": None}}
    return Reply(json.dumps(error).encode(), status)


def _raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


_PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": _raw, "br": lambda data: b"\x8b"}


def _next_call(body: dict, turns: list[tuple], wanted: int) -> tuple[str, str, str] | None:
    """Name, identifier and arguments of the call that is made next, if any.

    A turn is (role, text, identifiers of its calls or results).
    """
    since = 0
    for role, _, names in turns:
        since = 0 if role == "user" else since + len(names) * (role == "tool")
    choice = body.get("tool_choice")
    off = choice == "none" or (isinstance(choice, dict) and choice.get("type") == "none")
    if since >= wanted or off or not body.get("tools"):
        return None
    tool = body["tools"][since % len(body["tools"])]
    schema = tool.get("function", tool)
    properties = (schema.get("parameters") or schema.get("input_schema") or {}).get(
        "properties", {}
    )
    arguments = {k: 3 if p.get("type") == "integer" else "x" for k, p in properties.items()}
    return schema["name"], f"call_{len(turns)}", json.dumps(arguments)


def _said(words: str, call: Any) -> list[tuple]:
    return [("assistant", words, [call[1]] if call else [])]


def _events(objects: list[dict], *, named: bool, done: bool) -> list[bytes]:
    lines = [
        (f"event: {o['type']}\n" if named else "") + f"data: {json.dumps(o)}\n\n" for o in objects
    ]
    return [line.encode() for line in lines] + ([b"data: [DONE]\n\n"] if done else [])


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content)


class Chat:
    """``/v1/chat/completions``."""

    def read(self, body: dict, stored: dict) -> list[tuple] | None:
        turns: list[Any] = []
        open_calls: list[Any] = []
        for message in body.get("messages") or [{"role": ""}]:
            calls: Any = message.get("tool_calls") or ()
            role, names = message["role"], [call["id"] for call in calls]
            if role == "tool":
                names = [message["tool_call_id"]]
                if names[0] not in open_calls:
                    return None
                open_calls.remove(names[0])
            elif open_calls or role not in ("system", "developer", "user", "assistant"):
                return None
            else:
                open_calls = list(names)
            turns.append((role, _plain(message.get("content")), names))
        return None if open_calls else turns

    def _usage(self, counts: Any, words: str) -> dict | None:
        if counts is None:
            return None
        written = len(words.split())
        return {
            "prompt_tokens": counts["prompt"],
            "completion_tokens": written,
            "total_tokens": counts["prompt"] + written,
            "prompt_tokens_details": {"cached_tokens": counts["cached"]},
        }

    def whole(self, body: dict, number: int, words: str, call: Any, counts: Any) -> dict:
        message: dict[str, Any] = {"role": "assistant", "content": None if call else words}
        if call:
            function = {"name": call[0], "arguments": call[2]}
            message["tool_calls"] = [{"id": call[1], "type": "function", "function": function}]
        reason = "tool_calls" if call else "stop"
        made = {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        }  # fmt: skip
        usage = self._usage(counts, words)
        return {**made, **({"usage": usage} if usage else {})}

    def events(self, body: dict, number: int, words: str, call: Any, counts: Any) -> list[bytes]:
        asked = (body.get("stream_options") or {}).get("include_usage") and counts is not None
        base: dict[str, Any] = {
            "id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 0,
            "model": body["model"], **({"usage": None} if asked else {}),
        }  # fmt: skip
        deltas: list[dict] = [{"role": "assistant", "content": None if call else ""}]
        if call:
            head = {"index": 0, "id": call[1], "type": "function"}
            deltas.append(
                {"tool_calls": [{**head, "function": {"name": call[0], "arguments": ""}}]}
            )
            deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": call[2]}}]})
        else:
            deltas += [{"content": word + " "} for word in words.split()]
        choices = [{"index": 0, "delta": d, "finish_reason": None} for d in deltas]
        reason = "tool_calls" if call else "stop"
        choices.append({"index": 0, "delta": {}, "finish_reason": reason})
        made = [{**base, "choices": [choice]} for choice in choices]
        if asked:
            made.append({**base, "choices": [], "usage": self._usage(counts, words)})
        return _events(made, named=False, done=True)


class Responses:
    """``/v1/responses``."""

    def read(self, body: dict, stored: dict) -> list[tuple] | None:
        turns = list(stored.get(body.get("previous_response_id") or "", []))
        given = body.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        open_calls = list(turns[-1][2]) if turns and turns[-1][0] == "assistant" else []
        for item in items or [{"type": ""}]:
            kind = item.get("type", "message")
            if kind == "message":
                if open_calls:
                    return None
                turns.append((item["role"], _plain(item["content"]), []))
            elif kind == "function_call":
                open_calls.append(item["call_id"])
                turns.append(("assistant", item["arguments"], [item["call_id"]]))
            elif kind == "function_call_output":
                if item["call_id"] not in open_calls:
                    return None
                open_calls.remove(item["call_id"])
                turns.append(("tool", _plain(item["output"]), [item["call_id"]]))
            elif kind != "reasoning":
                return None
        return None if open_calls else turns

    def whole(self, body: dict, number: int, words: str, call: Any, counts: Any) -> dict:
        name = f"resp_{number}"
        text = {"type": "output_text", "text": words, "annotations": [], "logprobs": []}
        output: list[dict] = [
            {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed",
             "content": [text]}
        ]  # fmt: skip
        if call:
            output = [
                {"type": "function_call", "id": f"fc_{number}", "call_id": call[1],
                 "name": call[0], "arguments": call[2], "status": "completed"}
            ]  # fmt: skip
        usage = None
        if counts is not None:
            written = len(words.split())
            usage = {
                "input_tokens": counts["prompt"], "output_tokens": written,
                "total_tokens": counts["prompt"] + written,
                "input_tokens_details": {"cached_tokens": counts["cached"]},
                "output_tokens_details": {"reasoning_tokens": 0},
            }  # fmt: skip
        return {
            "id": name, "object": "response", "created_at": 0, "status": "completed",
            "model": body["model"], "output": output, "usage": usage, "error": None,
            "incomplete_details": None, "instructions": body.get("instructions"), "metadata": {},
            "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0,
            "tool_choice": body.get("tool_choice", "auto"), "tools": body.get("tools", []),
            "previous_response_id": body.get("previous_response_id"),
        }  # fmt: skip

    def events(self, body: dict, number: int, words: str, call: Any, counts: Any) -> list[bytes]:
        whole = self.whole(body, number, words, call, counts)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        item = whole["output"][0]
        made: list[dict] = [{"type": "response.created", "response": begun}]
        place: dict[str, Any] = {"output_index": 0, "item_id": item["id"]}
        if call:
            empty = {**item, "arguments": "", "status": "in_progress"}
            made.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
            made.append(
                {"type": "response.function_call_arguments.delta", **place, "delta": call[2]}
            )
            done = {"type": "response.function_call_arguments.done", **place, "name": call[0]}
            made.append({**done, "arguments": call[2]})
        else:
            empty = {**item, "content": [], "status": "in_progress"}
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            made.append({"type": "response.output_item.added", "output_index": 0, "item": empty})
            place["content_index"] = 0
            made.append({"type": "response.content_part.added", **place, "part": part})
            for word in words.split():
                delta = {"type": "response.output_text.delta", **place, "delta": word + " "}
                made.append({**delta, "logprobs": []})
            made.append(
                {"type": "response.output_text.done", **place, "text": words, "logprobs": []}
            )
            part = item["content"][0]
            made.append({"type": "response.content_part.done", **place, "part": part})
        made.append({"type": "response.output_item.done", "output_index": 0, "item": item})
        made.append({"type": "response.completed", "response": whole})
        made = [{**event, "sequence_number": i} for i, event in enumerate(made)]
        return _events(made, named=True, done=False)


class Messages:
    """``/v1/messages``."""

    def read(self, body: dict, stored: dict) -> list[tuple] | None:
        turns: list[Any] = []
        open_calls: list[Any] = []
        for message in body.get("messages") or [{"role": ""}]:
            role, content = message["role"], message.get("content")
            blocks = [] if isinstance(content, str) else list(content or ())
            results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
            calls = [b["id"] for b in blocks if b["type"] == "tool_use"]
            if role not in ("user", "assistant") or sorted(results) != sorted(open_calls):
                return None
            open_calls = calls
            turns.append(("tool" if results else role, _plain(content), results or calls))
        return None if open_calls or turns[0][0] != "user" else turns

    def _usage(self, counts: Any, words: str) -> dict:
        read = counts["cached"]
        return {
            "input_tokens": counts["prompt"] - read, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": 0, "output_tokens": len(words.split()),
        }  # fmt: skip

    def whole(self, body: dict, number: int, words: str, call: Any, counts: Any) -> dict:
        block: dict[str, Any] = {"type": "text", "text": words}
        if call:
            block = {"type": "tool_use", "id": call[1], "name": call[0]}
            block["input"] = json.loads(call[2])
        usage = self._usage(counts or {"prompt": 0, "cached": 0}, words)
        return {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"],
            "content": [block], "stop_reason": "tool_use" if call else "end_turn",
            "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    def events(self, body: dict, number: int, words: str, call: Any, counts: Any) -> list[bytes]:
        whole = self.whole(body, number, words, call, counts)
        begun = {**whole, "content": [], "stop_reason": None}
        begun["usage"] = {**whole["usage"], "output_tokens": 1}
        block = whole["content"][0]
        empty = {**block, "input": {}} if call else {"type": "text", "text": ""}
        made: list[dict] = [{"type": "message_start", "message": begun}]
        made.append({"type": "content_block_start", "index": 0, "content_block": empty})
        made.append({"type": "ping"})
        deltas = [{"type": "text_delta", "text": word + " "} for word in words.split()]
        if call:
            deltas = [{"type": "input_json_delta", "partial_json": call[2]}]
        for delta in deltas:
            made.append({"type": "content_block_delta", "index": 0, "delta": delta})
        made.append({"type": "content_block_stop", "index": 0})
        stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        usage = {"output_tokens": whole["usage"]["output_tokens"]}
        made.append({"type": "message_delta", "delta": stop, "usage": usage})
        made.append({"type": "message_stop"})
        return _events(made, named=True, done=False)


_FORMATS: dict[str, Any] = {
    "/chat/completions": Chat(),
    "/responses": Responses(),
    "/messages": Messages(),
}
