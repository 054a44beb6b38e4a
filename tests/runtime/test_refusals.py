"""A spent hard budget through the proxy: 429, with the numbers, and nothing is sent."""

import pytest
from proxy_stand import Stand
from recording_upstream import Reply, StubPolicy, completion

from stackjax.runtime import Limits

for _package in ("httpx", "starlette", "uvicorn", "openai"):
    pytest.importorskip(_package, reason=f"{_package} is not installed (extra llm)")

WIDE = {"token_spread": 50.0, "high": (1.0, 1e6, 1e3, 1e6, 1.0, 2.0, 1.0, 1.0)}


def test_a_spent_hard_budget_is_429_with_the_numbers():
    limits = Limits(deadline=5.0, token_budget=10.0, hard_budget=True)
    answer = lambda received, number: Reply(completion())
    with Stand(answer, StubPolicy(**WIDE), "on", limits=limits) as stand:
        chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"x-stackjax-session": "s"}
        first = stand.client.post("/v1/chat/completions", json=chat, headers=headers)
        assert first.status_code == 200 and stand.finished()
        second = stand.client.post("/v1/chat/completions", json=chat, headers=headers)
        assert second.status_code == 429
        assert "of 10 tokens are used" in second.json()["error"]["message"]
        assert stand.upstream.count == 1
