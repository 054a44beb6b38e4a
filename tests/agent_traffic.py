"""Traffic of tool-calling agents for the runtime's tests: random chats, and a server that counts.

The server counts four characters a token over all that is sent, tool schemas too, which no estimate
of the runtime does.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from stackjax.runtime import Usage
from stackjax.runtime.gateway._bridge import Turn

TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "w " * 300}}]
WORDS = ("why", "the", "table", "write", "plan", "number", "of", "a", "city", "list")


class Agent:
    """One session after another: system text, turns with tool calls, a heavy-tailed length each."""

    def __init__(self, governor: Any, seed: int, *, tools: float = 0.5, scale: float = 1.0) -> None:
        self.governor, self.rng = governor, np.random.default_rng(seed)
        self.tools, self.scale = tools, scale
        self.calls: list[dict[str, Any]] = []
        self.turns: list[list[dict[str, Any]]] = []

    def text(self, mean: float) -> str:
        count = int(self.scale * np.exp(np.log(mean) + 0.6 * self.rng.normal())) + 1
        return " ".join(self.rng.choice(WORDS, size=count))

    def session(self, name: str) -> None:
        """Some turns; each asks tools up to three times and then answers."""
        messages: list[dict[str, Any]] = [{"role": "system", "content": self.text(120)}]
        for _ in range(int(self.rng.integers(1, 7))):
            messages.append({"role": "user", "content": self.text(15)})
            turn: list[dict[str, Any]] = []
            count = int(self.rng.integers(1, 4)) if self.rng.random() < self.tools else 0
            for number in range(count + 1):
                last = number == count
                turn.append(self.call(name, messages, calls=0 if last else 1))
                if last:
                    messages.append({"role": "assistant", "content": self.text(40)})
                    break
                made = f"{len(messages)}"
                function = {"name": "look_up", "arguments": "{}"}
                call = {"id": made, "type": "function", "function": function}
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
                result = {"role": "tool", "tool_call_id": made, "content": self.text(60)}
                messages.append(result)
            self.turns.append(turn)

    def call(self, name: str, messages: list[dict[str, Any]], *, calls: int) -> dict[str, Any]:
        """One model call through the bridge; what became of it."""
        body = {"model": "m", "messages": list(messages), "tools": TOOLS}
        turn = Turn(self.governor, {"identifier": name})
        if turn.shadow:
            turn.begin(body)
            assert turn._future is not None
            plan = turn._future.result(60.0)
            sent: Any = body
        else:
            plan = turn.wait(body)
            sent = plan.body or body
        written = len(self.text(40)) // 4
        usage = Usage(len(json.dumps(sent)) // 4, written, tool_calls=calls)
        decision = plan.decision
        if decision is None or decision.refusal is None:
            turn.finish(usage)
        found = {
            "name": name,
            "came": len(json.dumps(body)) // 4,
            "sent": usage.prompt_tokens,
            "decision": decision,
            "tools": sent.get("tool_choice") != "none",
        }
        self.calls.append(found)
        return found

    def run(self, sessions: int, prefix: str = "s") -> None:
        for number in range(sessions):
            self.session(f"{prefix}-{number}")

    @property
    def governed(self) -> float:
        """Share of the turns whose first call followed the policy."""
        first = [turn[0]["decision"] for turn in self.turns]
        return float(np.mean([d is not None and d.fallback is None for d in first]))
