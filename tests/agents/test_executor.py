"""The executor against a server that fails in every way, and runs that are killed."""

import dataclasses
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_openai import FakeServer, Reply, completion

from experiments.collect import __main__ as collect  # pyright: ignore[reportMissingImports]
from stackjax.agents.executor._adapter import Message
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._session import Choice, SessionState, run_episode
from stackjax.agents.log._log import TurnLog, latest, read_log
from stackjax.agents.tasks._tasks import make_episode

pytest.importorskip("openai", reason="the openai client is not installed (extra llm)")

ROOT = Path(__file__).parents[2]
SECRET = "sk-secret-1234567890"


def make(server_or_url, **changes) -> Executor:
    url = getattr(server_or_url, "base_url", server_or_url)
    options = {"timeout": 5.0, "max_retries": 2, "backoff": 0.0, "api_key": SECRET} | changes
    return Executor(url, **options)


def ask(executor: Executor, action=(0.0, 0.0, 0.0), task="simple_qa", **context):
    return executor.run_turn("Where?", task, action, **context)


BAD = {
    "http_429": Reply(429, b'{"error": {"message": "slow down"}}'),
    "http_500": Reply(500, b"oops"),
    "http_503": Reply(503, b""),
    "empty_completion": completion("  "),
    "malformed_reply": Reply(200, b'{"choices": [{"mess'),
}
MALFORMED = [
    b"",
    b"not json",
    b"[]",
    b"null",
    b'"text"',
    b"{}",
    b'{"choices": []}',
    b'{"choices": [{"message": null}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
    b'{"choices": [{"message": {"content": "hi"}}]}',
    b'{"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": "x"}}',
    b'{"choices": [{"message": {"content": [1]}}],'
    b' "usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
]


def test_a_turn_reports_the_servers_own_token_counts():
    with FakeServer(lambda body, n: completion("in Rome", 41, 7)) as server:
        outcome = ask(make(server))
    assert (outcome.answer, outcome.prompt_tokens, outcome.completion_tokens) == ("in Rome", 41, 7)
    assert (outcome.fallback, outcome.tool_calls, outcome.replayed) == (None, 0, False)
    (body,) = server.bodies
    assert body["temperature"] == 0 and body["seed"] == 0 and body["stop"] == ["\n"]


@pytest.mark.parametrize("reason", BAD)
def test_a_lasting_failure_ends_in_a_fallback_with_its_reason(reason):
    waits = []
    with FakeServer(lambda body, n: BAD[reason]) as server:
        outcome = ask(make(server, backoff=0.5, sleep=waits.append))
    assert (outcome.fallback, outcome.answer) == (reason, "")
    assert len(server.bodies) == 3 and waits == [0.5, 1.0]
    wasted = 3 * 10 if reason == "empty_completion" else 0
    assert outcome.prompt_tokens == wasted, "an empty completion still costs its tokens"


@pytest.mark.parametrize("reason", BAD)
def test_a_passing_failure_is_retried(reason):
    replies = [BAD[reason], BAD["http_500"], completion("fine")]
    with FakeServer(lambda body, n: replies[n]) as server:
        outcome = ask(make(server))
    assert (outcome.fallback, outcome.answer) == (None, "fine")
    assert len(server.bodies) == 3


@pytest.mark.parametrize("body", MALFORMED)
def test_every_malformed_reply_is_recognised(body):
    with FakeServer(lambda _, n: Reply(200, body)) as server:
        outcome = ask(make(server, max_retries=0))
    assert outcome.fallback in ("malformed_reply", "empty_completion")


def test_what_cannot_be_cured_is_not_retried():
    with FakeServer(lambda body, n: Reply(401, b'{"error": {"message": "bad key"}}')) as server:
        outcome = ask(make(server))
    assert outcome.fallback == "http_401" and len(server.bodies) == 1


def test_timeouts():
    with FakeServer(lambda body, n: completion("late", delay=0.6 * (n < 2))) as server:
        assert ask(make(server, timeout=0.15, max_retries=1)).fallback == "timeout"
        assert ask(make(server, timeout=5.0)).answer == "late"


def test_refused_connections():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = ask(make(f"http://127.0.0.1:{port}/v1"))
    assert outcome.fallback == "connection" and outcome.prompt_tokens == 0


def test_a_connection_that_breaks_in_the_middle():
    with FakeServer(lambda body, n: completion("x")) as server:
        executor = make(server)
        assert ask(executor).answer == "x"
    assert ask(executor).fallback == "connection"


NOTES = ("A pen costs 4 coins.",)


def test_the_model_decides_to_call_tools_and_the_number_of_calls_is_bounded():
    script = ["FIND: pen", "CALC: 4 * 6", "CALC: 24 * 6", "24"]
    for allowed, (u, requests) in enumerate([(0.0, 1), (0.5, 2), (1.0, 3)]):
        with FakeServer(lambda body, n: completion(script[n], 10, 2)) as server:
            outcome = ask(make(server), (0.0, 0.0, u), "complex_reasoning", notes=NOTES)
        assert outcome.tool_calls == allowed and len(server.bodies) == requests
        assert outcome.prompt_tokens == 10 * requests, "summed over the calls of a turn"
        assert outcome.answer == script[requests - 1]
    last = [message["content"] for message in server.bodies[-1]["messages"][-4:]]
    note = "Note: A pen costs 4 coins.\nQuestion: Where?"
    assert last == ["FIND: pen", note, "CALC: 4 * 6", "Result: 24"]


def test_an_answer_without_a_call_uses_no_tool():
    with FakeServer(lambda body, n: completion("24")) as server:
        outcome = ask(make(server), (1.0, 1.0, 1.0), history=[Message("note", NOTES[0])])
    assert (outcome.tool_calls, len(server.bodies)) == (0, 1)


def test_a_failure_after_a_tool_call_keeps_what_was_spent():
    replies = [completion("CALC: 2 * 3", 10, 2)] + [BAD["http_500"]] * 3
    with FakeServer(lambda body, n: replies[n]) as server:
        outcome = ask(make(server), (0.0, 0.0, 0.5))
    assert (outcome.fallback, outcome.prompt_tokens, outcome.tool_calls) == ("http_500", 10, 1)


def test_a_rerun_replays_from_the_cache(tmp_path):
    with FakeServer(lambda body, n: completion(f"reply {n}", 20 + n, 5)) as server:
        first = ask(make(server, cache_dir=tmp_path))
    again = ask(make(server, cache_dir=tmp_path))  # the server is gone
    assert again.replayed and not first.replayed
    assert again._replace(latency=0, replayed=False) == first._replace(latency=0)
    others: list[dict] = [{"model_hash": "other"}, {"seed": 1}, {"max_tokens": 9}]
    for change in others:
        assert ask(make(server, cache_dir=tmp_path, **change)).fallback == "connection"
    assert ask(make(server, cache_dir=tmp_path), (0.0, 0.5, 0.0)).fallback == "connection"


def test_failures_are_not_cached_and_a_damaged_file_is_no_reply(tmp_path):
    with FakeServer(lambda body, n: BAD["http_500"]) as server:
        ask(make(server, cache_dir=tmp_path))
    assert not list(tmp_path.rglob("*.*"))
    with FakeServer(lambda body, n: completion(f"reply {n}")) as server:
        ask(make(server, cache_dir=tmp_path))
        (path,) = tmp_path.rglob("*.json")
        path.write_text(path.read_text()[:10])
        assert ask(make(server, cache_dir=tmp_path)).answer == "reply 1"
        assert ask(make(server, cache_dir=tmp_path)).answer == "reply 1"
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_environment_names_the_server_and_the_key_stays_secret(tmp_path, monkeypatch):
    with FakeServer(lambda body, n: completion("Rome")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        executor = Executor(cache_dir=tmp_path / "cache")
        with TurnLog(tmp_path / "turns.jsonl") as log:
            run_episode(executor, make_episode(0, 0), grid_policy, log)
    assert server.keys[0] == f"Bearer {SECRET}"
    assert SECRET not in repr(executor)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 1 and not any(SECRET in text for text in written)


def test_settings_are_checked(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="OPENAI_BASE_URL"):
        Executor()
    for change in ({"timeout": 0}, {"max_retries": -1}, {"backoff": -1}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="timeout must be positive"):
            make("http://127.0.0.1:1/v1", **change)
    with pytest.raises(ValueError, match="action"):
        ask(make("http://127.0.0.1:1/v1"), (2.0, 0.0, 0.0))


def grid_policy(state: SessionState, turn, rng: random.Random) -> Choice:
    action = (rng.choice((0.0, 0.5, 1.0)), rng.choice((0.0, 0.5, 1.0)), 0.0)
    return Choice(action, (0.8, 0.1), 1 / 9, "grid", "random")


def test_the_state_follows_the_session(tmp_path):
    episode = make_episode(0, 0)
    replies = itertools.cycle([completion("no", 100, 20), completion("no", 60, 0), BAD["http_500"]])
    with FakeServer(lambda body, n: next(replies)) as server, TurnLog(tmp_path / "l.jsonl") as log:
        executor = make(server, max_retries=0)
        records = run_episode(executor, episode, grid_policy, log, token_budget=1000.0)
    states = [record.state for record in records]
    assert [state["turn_index"] for state in states] == list(range(len(episode.turns)))
    assert [state["mean_tokens"] for state in states[:4]] == [0, 120, 90, 60]
    assert [round(state["token_trend"], 3) for state in states[:4]] == [0, 0, -0.667, -1]
    assert [state["budget"] for state in states[:4]] == [1.0, 0.88, 0.82, 0.82]
    assert [state["recent_quality"] for state in states[:3]] == [0.5, 0.3, 0.18]
    assert [state["model_condition"] for state in states[:5]] == [1.0, 1.0, 1.0, 0.5, 0.65]
    assert records[2].fallback == "http_500" and not records[2].correct
    sizes = [state["context_tokens"] for state in states]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert all(record.correct is False for record in records)


def test_reference_histories_do_not_depend_on_the_replies_and_own_ones_do(tmp_path):
    episode = make_episode(0, 0)
    prompts = {}
    for history, text in itertools.product(("reference", "own"), ("ONE", "TWO")):
        with FakeServer(lambda body, n, text=text: completion(text)) as server:
            with TurnLog(tmp_path / f"{history}{text}.jsonl") as log:
                run_episode(make(server), episode, grid_policy, log, history=history)
        prompts[history, text] = [json.dumps(body["messages"]) for body in server.bodies]
    assert prompts["reference", "ONE"] == prompts["reference", "TWO"]
    assert prompts["own", "ONE"] != prompts["own", "TWO"]
    assert any("ONE" in prompt for prompt in prompts["own", "ONE"])
    with TurnLog(tmp_path / "x.jsonl") as log, pytest.raises(ValueError, match="history must be"):
        run_episode(make(server), episode, grid_policy, log, history="mine")  # pyright: ignore[reportArgumentType]


def answers(body: dict) -> str:
    """A reply that depends on the request only."""
    return f"reply {sum(map(ord, json.dumps(body['messages']))) % 97}"


def comparable(path: Path) -> list[dict]:
    records = [dataclasses.asdict(record) for record in read_log(path).records]
    for record in records:
        for name in ("latency", "time", "replayed"):
            del record[name]
    return sorted(records, key=lambda r: (r["episode"], r["turn"], r["policy"]))


SMALL = ["--fit-episodes", "12", "--evaluation-episodes", "0", "--no-cache"]


def start(out: Path, base_url: str) -> subprocess.Popen:
    """Starts a collection as a process of its own; its stderr goes to a file."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (out.parent / "stderr").open("w") as errors:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "experiments.collect",
                "--out",
                str(out),
                "--base-url",
                base_url,
                *SMALL,
            ],
            env=os.environ | {"PYTHONPATH": paths, "OPENAI_API_KEY": SECRET},
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def test_a_killed_run_resumes_and_loses_at_most_the_turn_in_flight(tmp_path, capsys):
    out, whole = tmp_path / "killed", tmp_path / "whole"
    log = out / "turns.jsonl"
    with FakeServer(lambda body, n: completion(answers(body), delay=0.005)) as server:
        assert collect.main(["--out", str(whole), "--base-url", server.base_url, *SMALL]) == 0
        total = len(server.bodies)
        run = start(out, server.base_url)
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_bytes().count(b"\n") < 25:
            assert time.monotonic() < deadline and run.poll() is None, "not started"
            time.sleep(0.002)
        run.send_signal(signal.SIGKILL)
        assert run.wait(timeout=10) == -signal.SIGKILL
        kept = log.read_bytes()[: log.read_bytes().rindex(b"\n") + 1]
        assert 25 <= kept.count(b"\n") < total
        with log.open("wb") as file:
            file.write(kept + b'{"episode": "s0-e0')  # what a kill within a write leaves
        with pytest.warns(UserWarning, match="torn last record removed"):
            assert collect.main(["--out", str(out), "--base-url", server.base_url, *SMALL]) == 0
    assert log.read_bytes().startswith(kept), "what was complete stays as it was"
    assert comparable(log) == comparable(whole / "turns.jsonl")
    keys = [record.key for record in read_log(log).records]
    assert len(keys) == len(set(keys))
    assert len(server.bodies) - total <= total + 1, "at most the turn in flight was lost"
    assert SECRET.encode() not in log.read_bytes()
    assert len(json.loads((out / "environment.json").read_text())) == 2
    assert f"{total}/{total} turns" in capsys.readouterr().out


def test_a_dead_server_stops_a_collection_with_one_line(tmp_path, capsys):
    with FakeServer(lambda body, n: Reply(401, b"{}")) as server:
        status = collect.main(["--out", str(tmp_path), "--base-url", server.base_url, *SMALL])
    assert status == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"collect: error: 10 turns in a row failed, the last: http_401\n", error)


def test_an_outage_is_taken_again_and_another_model_is_refused(tmp_path, capsys):
    """What no server answered is not done; a log is continued by the model that began it."""
    log = tmp_path / "turns.jsonl"
    with FakeServer(lambda body, n: Reply(401, b"{}")) as server:
        assert collect.main(["--out", str(tmp_path), "--base-url", server.base_url, *SMALL]) == 1
    lost = log.read_bytes()
    with TurnLog(log) as reopened:
        assert reopened.done == set()
    with FakeServer(lambda body, n: completion(answers(body))) as server:
        again = ["--out", str(tmp_path), "--base-url", server.base_url, *SMALL]
        assert collect.main(again) == 0
        assert log.read_bytes().startswith(lost), "nothing is rewritten"
        records = read_log(log).records
        kept = latest(records)
        assert len(kept) < len(records) and all(record.answered for record in kept)
        capsys.readouterr()
        assert collect.main([*again, "--model", "other"]) == 1
    assert "holds turns of model 'default', adapter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--threads=0", "threads and give-up-after must be at least 1"),
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("--fit-episodes=x", "invalid int value: 'x'"),
    ],
)
def test_wrong_options_end_with_one_line(option, message, capsys):
    with pytest.raises(SystemExit) as stop:
        collect.main([option])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.count("\n") == 1 and message in error


def test_help_shows_the_fields_docs(capsys):
    with pytest.raises(SystemExit) as stop:
        collect.main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Number of fitting episodes, one action a turn. (default: " in text
    assert "--cache, --no-cache" in text


def test_the_plan_alternates_and_separates_the_two_kinds_of_episodes():
    args = collect.Args(fit_episodes=20, evaluation_episodes=4)
    kinds = [kind for kind, _ in collect.plan(args)]
    names = [episode.name for _, episode in collect.plan(args)]
    assert len(set(names)) == 24 and kinds.count("evaluation") == 4
    halves = [kinds[:12].count("evaluation"), kinds[12:].count("evaluation")]
    assert halves == [2, 2]
    assert len(set(collect.CELLS)) == 27
