"""New turns for `--live`: the same fresh episodes under each arm, by a real model."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.serving import Patience
from stackjax.agents.control._controller import Controller
from stackjax.agents.evaluation._replay import Replay
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._session import Choice, Policy, SessionState, run_episode
from stackjax.agents.game._state import state_of
from stackjax.agents.log._log import TurnLog, TurnRecord
from stackjax.agents.tasks._tasks import Episode, Turn, make_episode

FRESH = 200_000
"""Index of the first fresh episode; the recorded ones lie below."""

Cell = tuple[float, float, float]


def fresh_episodes(seed: int, turns: int, arms: int) -> list[Episode]:
    """As many fresh episodes as `turns` turns over all arms allow, at least two."""
    episodes: list[Episode] = []
    left = turns
    while len(episodes) < 2 or left > 0:
        episode = make_episode(seed, FRESH + len(episodes))
        left -= arms * len(episode.turns)
        if left < 0 and len(episodes) >= 2:
            break
        episodes.append(episode)
    return episodes


def fixed_policy(name: str, cell: Cell) -> Policy:
    """Always the same cell."""
    return lambda state, turn, rng: Choice(cell, None, 1.0, name, "policy")


def controlled_policy(name: str, controller: Controller, first_action: Sequence[float]) -> Policy:
    """A controller that plays session by session; its signal is remembered within one."""
    decide = jax.jit(controller.__call__)
    previous = jnp.asarray(first_action, jnp.float32)

    def policy(state: SessionState, turn: Turn, rng: random.Random) -> Choice:
        nonlocal previous
        if state.turn_index == 0:
            previous = jnp.asarray(first_action, jnp.float32)
        made = decide(state_of(state.features(turn), turn.task), previous)
        previous = made.action
        q, alpha = (float(x) for x in made.action)
        c, p, u = (float(x) for x in made.response)
        return Choice((c, p, u), (q, alpha), 1.0, name, "policy")

    return policy


def play_arms(
    executor: Executor,
    episodes: Sequence[Episode],
    arms: dict[str, Policy],
    log: TurnLog,
    seed: int,
    tell: Callable[[str], None],
) -> dict[str, list[list[TurnRecord]]]:
    """Every episode under every arm, episode by episode; records by arm and episode."""
    played: dict[str, list[list[TurnRecord]]] = {name: [] for name in arms}
    patience = Patience(limit=10)
    for number, episode in enumerate(episodes, 1):
        for name, policy in arms.items():
            played[name].append(run_episode(executor, episode, policy, log, seed=seed))
            patience.watch(played[name][-1])
        tell(f"episode {number} of {len(episodes)} ({len(episode.turns)} turns)")
    return played


def as_replay(played: Sequence[Sequence[TurnRecord]]) -> Replay:
    """One arm's records in the shape of a replay; `cell` is not used and is -1."""
    shape = len(played), max(map(len, played))
    tokens, correct, present = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    action = np.full((*shape, 2), np.nan)
    for e, records in enumerate(played):
        for t, record in enumerate(records):
            tokens[e, t] = record.prompt_tokens + record.completion_tokens
            correct[e, t], present[e, t] = record.correct, True
            if record.signal is not None:
                action[e, t] = record.signal
    return Replay(np.full(shape, -1), tokens, correct, action, present)


def tell(line: str) -> None:
    """Progress goes to standard error."""
    print(f"  {line}", file=sys.stderr, flush=True)
