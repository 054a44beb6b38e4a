"""How often a policy leaves the region that the log supports (arXiv 2606.23026, Table 7)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape
from stackjax.agents.executor._adapter import executed_action
from stackjax.agents.game._state import State
from stackjax.agents.repair._cells import STRATA, stratum
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.sets._empirical import ActionSet, project
from stackjax.stats._bootstrap import Interval, clustered_ratio


@dataclasses.dataclass(frozen=True)
class Audit:
    """A policy's responses against the action sets of their strata.

    Attributes:
      outside: share of turns whose response, rounded to the adapter's levels, is no allowed cell.
      by_task: the same share for each task type that occurs.
      distance: mean distance of the response, not rounded, to the nearest allowed cell. farthest:
        the largest.
      turns: turns audited. episodes: their episodes.

    Example:
      >>> share = sj.stats.Interval(0.125, 0.0, 0.25)
      >>> found = sj.agents.repair.Audit(share, {"simple_qa": 0.125}, 0.05, 0.4, 8, 2)
      >>> found.farthest
      0.4
    """

    outside: Interval
    by_task: dict[str, float]
    distance: float
    farthest: float
    turns: int
    episodes: int


def audit(
    responses: jax.Array,
    states: State,
    actions: ActionSet,
    episode: np.ndarray,
    *,
    seed: int,
    level: float = 0.95,
) -> Audit:
    """Audit the responses of a policy, raw or repaired.

    Args:
      responses: `[N, 3]`, what the policy asks to execute.
      states: leaves `[N]`.
      actions: `[12, K, 3]`, the allowed cells of each stratum.
      episode: `[N]` integers.
      seed: of the bootstrap, which redraws whole episodes.
      level: confidence level.

    Raises:
      ValueError: `responses` is not `[N, 3]` in [0, 1], there are fewer than 2 episodes, states or
        episodes are not N, sets are not of 12 strata, or `level` is not in (0, 1).

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(design="random"))
      >>> sets, episode = known_world.controller().actions, np.asarray(turns.episode)
      >>> found = sj.agents.repair.audit(0.9 * turns.executed, turns.state, sets, episode, seed=0)
      >>> found.outside.estimate, found.by_task["simple_qa"], round(found.farthest, 3)
      (0.0, 0.0, 0.173)
    """
    values = np.asarray(responses, float)
    check_shape("responses", values, (len(np.asarray(episode)), 3))
    check_all_within("responses", values, "[0, 1]")
    check_shape("states", states.task, (len(values),))
    check_shape("actions", actions.actions, (STRATA, None, 3))
    if len(np.unique(np.asarray(episode))) < 2:
        raise ValueError(f"`episode` must have at least 2; got {len(np.unique(episode))}.")
    rounded = np.array([executed_action(row) for row in values], np.float32)
    distance = np.asarray(_distances(jnp.asarray(values, jnp.float32), states, actions), float)
    outside = np.asarray(_distances(jnp.asarray(rounded), states, actions)) > 1e-6
    names, number = np.unique(np.asarray(episode), return_inverse=True)
    count = np.bincount(number).astype(float)
    share = clustered_ratio(np.bincount(number, outside), count, seed=seed, level=level)
    task = np.asarray(states.task)
    return Audit(
        outside=share,
        by_task={TASK_TYPES[kind]: float(outside[task == kind].mean()) for kind in np.unique(task)},
        distance=float(distance.mean()),
        farthest=float(distance.max()),
        turns=len(values),
        episodes=len(names),
    )


@jax.jit
def _distances(responses: jax.Array, states: State, actions: ActionSet) -> jax.Array:
    def one(response: jax.Array, state: State) -> jax.Array:
        allowed = jax.tree.map(lambda leaf: leaf[stratum(state)], actions)
        return project(response, allowed).distance

    return jax.vmap(one)(responses, states)
