"""The measurements of `experiments.runtime`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.runtime.load import Tally, connections, leaving, quantiles, sessions
from experiments.runtime.upstream import Received, RecordingUpstream, Reply, uncounted
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.runtime import Governor, Limits, Policy, Rollout, SessionMetadata
from stackjax.stats import asymptotic_sequence, bounded_sequence, effect_scores, mixture_sequence

MODEL_SECONDS = 0.05
"""What the local upstream takes for an answer."""


def bench_decide(policy: Policy, count: int) -> dict[str, Any]:
    """Latency of the compiled program, of a decision, and of one through the deadline's thread."""
    told = [
        SessionMetadata(
            f"s{i % 64}",
            task=TASK_TYPES[i % 6],
            task_complexity=0.1 + 0.8 * (i % 9) / 8,
            context_tokens=float(20 + i % 150),
            turn_index=float(i % 6),
        )
        for i in range(count)
    ]
    found: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 2)}
    with Governor(policy, rollout=Rollout("on"), limits=Limits(deadline=1.0)) as governor:
        features = governor.judge(told[0]).features
        calls: dict[str, Callable[[SessionMetadata], Any]] = {
            "program": lambda s: policy.recommend(features, str(s.task), (0.8, 0.5)),
            "judge, in the caller's thread": governor.judge,
            "decide, under the deadline": governor.decide,
        }
        for name, call in calls.items():
            seconds = []
            for session in told[:200]:
                call(session)
            for session in told:
                start = time.perf_counter()
                call(session)
                seconds.append(time.perf_counter() - start)
            found[name] = quantiles(seconds)
        found["fallbacks"] = governor.metrics.by_label("fallbacks")
    with Governor(policy, rollout=Rollout("on")) as governor:
        for session in told:
            governor.decide(session)
            time.sleep(0.002)  # as paced requests come: a refusal takes no time at all
        late = governor.metrics.value("fallbacks", "deadline")
        found["share past a deadline of 5 ms"] = late / count
    found["traces"] = policy.traces
    return found


class Proxy(NamedTuple):
    """A running proxy: its address, and the token that switches its mode."""

    url: str
    token: str

    def switch(self, mode: str) -> None:
        """Switches the mode while it runs."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.url}/stackjax/rollout", json.dumps({"mode": mode}).encode(), headers
        )
        urllib.request.urlopen(request, timeout=10).close()

    def metrics(self) -> dict[str, float]:
        """Some of the proxy's own metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        wanted = re.compile(r"stackjax_(fallbacks|decisions|rewrites|unrecorded)_total(\{.*\})? ")
        pairs = (line.rsplit(" ", 1) for line in lines if wanted.match(line))
        return {name: float(value) for name, value in pairs}


@contextlib.contextmanager
def proxy(upstream: str, policy: Path) -> Iterator[Proxy]:
    """The proxy's command as a process of its own, while the context is open."""
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "stackjax.runtime.proxy", "--upstream", upstream]
    command += ["--policy", str(policy), "--port", str(port)]
    environment = {**os.environ, "STACKJAX_ADMIN_TOKEN": token}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(4000):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/healthz", timeout=1):
                break
            if process.poll() is not None:
                raise RuntimeError("the proxy did not start")
            time.sleep(0.1)
        yield Proxy(url, token)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def echo(received: Received, number: int) -> Reply:
    """The last message's text, after what a model takes."""
    text = json.loads(received.body)["messages"][-1]["content"]
    return Reply(uncounted(text), delay=MODEL_SECONDS)


def bench_proxy(policy: Path, count: int, turns: int, seed: int) -> dict[str, Any]:
    """Latency with and without the proxy, with pauses between turns and without."""
    found: dict[str, Any] = {"sessions": count, "turns": turns, "upstream_ms": 1e3 * MODEL_SECONDS}
    found["load_average"] = round(os.getloadavg()[0], 2)
    loads = {"with pauses of 1 s": 1.0, "without pauses": 0.0}
    with (
        RecordingUpstream(echo, keep=False) as upstream,
        proxy(upstream.base_url, policy) as running,
    ):
        base = f"{running.url}/v1"
        asyncio.run(sessions(base, 8, 3, 0.0, seed=seed))
        for load, pause in loads.items():
            seconds: dict[str, list[float]] = {way: [] for way in ("direct", "off", "shadow", "on")}
            wrong = dict.fromkeys(seconds, 0)
            # Rounds take turns, so that what else the machine does falls on all alike.
            for block in range(3):
                for way, times in seconds.items():
                    if way != "direct":
                        running.switch(way)
                    url = upstream.base_url if way == "direct" else base
                    number = seed * 1000 + 100 * len(found) + block
                    made = asyncio.run(sessions(url, count, -(-turns // 3), pause, seed=number))
                    times += made.seconds
                    wrong[way] += made.crossed + made.failed + made.lost
            rows: dict[str, dict[str, float]] = {w: quantiles(t) for w, t in seconds.items()}
            for way in seconds:
                rows[way]["lost_crossed_or_failed"] = wrong[way]
                for name in ("p50_ms", "p99_ms"):
                    added = rows[way][name] - rows["direct"][name]
                    rows[way]["added_" + name] = round(added, 3)
            found[load] = {**rows, "load_average": round(os.getloadavg()[0], 2)}
        found["metrics"] = running.metrics()
    return found


def _row(made: Tally) -> dict[str, Any]:
    return {**quantiles(made.seconds), **{k: getattr(made, k) for k in Tally._fields[1:]}}


def faults(policy: Path, count: int, seed: int) -> dict[str, Any]:
    """The proxy, governing all sessions, while things go wrong."""
    found: dict[str, Any] = {}
    arrived: list[int] = []

    def script(received: Received, number: int) -> Reply:
        arrived.append(len(received.body))
        try:
            text = json.loads(received.body)["messages"][-1]["content"]
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return Reply(b'{"error": {"message": "malformed"}}', 400)
        slow = text.startswith(("l", "slow"))
        return Reply(uncounted(text), delay=1.0 if slow else MODEL_SECONDS)

    with RecordingUpstream(script, keep=False) as upstream:
        with proxy(upstream.base_url, policy) as running:
            running.switch("on")
            base = f"{running.url}/v1"
            found[f"{count} connections at once"] = _row(asyncio.run(connections(base, count)))
            found["16 bodies of 10 MB"] = {
                **_row(asyncio.run(sessions(base, 4, 4, 0.0, seed=seed, padding=10_000_000))),
                "arrived_whole": sum(size > 10_000_000 for size in arrived),
            }
            found["malformed bodies"] = asyncio.run(_malformed(base))
            gone = asyncio.run(leaving(base, 100, 0.3))
            after = asyncio.run(sessions(base, 8, 2, 0.0, seed=seed + 1))
            found["100 clients that leave"] = {"left": gone, "next_16_requests": _row(after)}
            found["slow upstream (1 s)"] = _row(asyncio.run(_slow(base)))
            upstream.stop()
            down = asyncio.run(sessions(base, 16, 2, 0.0, seed=seed + 2))
            found["killed upstream"] = _row(down)
            with urllib.request.urlopen(f"{running.url}/healthz", timeout=5) as answer:
                found["alive after all that"] = answer.status == 200
    return found


async def _malformed(url: str) -> dict[str, int]:
    """Bodies that are no chat completions: each gets the upstream's own answer."""
    from experiments.runtime.load import Connection

    bodies = [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"messages": 3}']
    bodies += [b'{"messages": [{"role": "tool"}]}', b'{"messages": [{}]}', b"x" * 100_000]
    statuses = [(await Connection(url).post(body)).status for body in bodies]
    return {str(status): statuses.count(status) for status in sorted(set(statuses))}


async def _slow(url: str) -> Tally:
    from experiments.runtime.load import Connection, chat_body, tally

    async def one(number: int) -> tuple[str, Any]:
        text = f"slow{number}"
        return text, await Connection(url).post(chat_body(text), text)

    return tally(list(await asyncio.gather(*(one(number) for number in range(64)))))


def bench_sequences(seed: int, runs: int = 1000, length: int = 1000) -> dict[str, Any]:
    """How often a sequence at level 0.95 ever misses the mean within some observations."""
    rng = np.random.default_rng(seed)
    missed: dict[str, int] = dict.fromkeys(
        ("bounded", "mixture", "asymptotic", "effect", "plain, looked at"), 0
    )
    for _ in range(runs):
        coins = (rng.uniform(size=length) < 0.7).astype(float)
        normal = rng.normal(2.0, 3.0, size=length)
        skew = rng.gamma(4.0, 50.0, size=length)
        arm = rng.uniform(size=length) < 0.2
        scores = effect_scores(coins, arm, np.full(length, 0.2))
        for name, sequence, mean in (
            ("bounded", bounded_sequence(coins), 0.7),
            ("mixture", mixture_sequence(normal, sigma=3.0), 2.0),
            ("asymptotic", asymptotic_sequence(skew), 200.0),
            ("effect", bounded_sequence(scores, low=-5.0, high=5.0), 0.0),
        ):
            missed[name] += bool(((sequence.low > mean) | (sequence.high < mean)).any())
        count = np.arange(20, length + 1)
        half = 1.96 * 3.0 / np.sqrt(count)
        missed["plain, looked at"] += bool(
            (np.abs(np.cumsum(normal)[19:] / count - 2.0) > half).any()
        )
    shares = {f"{name}, share of runs missed": n / runs for name, n in missed.items()}
    return {"runs": runs, "length": length, "level": 0.95, **shares}
