"""The leader learned through the executors' demand: what it sees, what it fits, what it says.

The leader sees executors at random signals on the tuning turns: their tokens and whether they were
right, where the cell that they chose is one that was tried. It sees none of their predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stackjax as sj
from experiments.pool.choose import COST, best_cell
from experiments.pool.predictors import folds
from experiments.pool.sessions import CELLS
from experiments.pool.table import Table
from experiments.pool.take import TUNING_CELLS
from experiments.pool.tuning import Tuning
from stackjax.agents.game._pool import PoolState
from stackjax.agents.game._pool_demand import LearnedDemand, PoolLeader, RevealedValue, demand_game
from stackjax.agents.tasks._tasks import TASK_TYPES

SIGNALS = 16  # drawn for each turn
LOWEST_PRICE = 0.01
FIT_STEPS, LEADER_STEPS = 200, 1200
RATE = 0.03
PRIOR, LEAST = 0.25, 0.2  # of the factors
HELD = 5  # one session in so many decides when the leader's fits of executors stop


def states_of(table: Table, load: float, stake: float = 1.0) -> PoolState:
    """The leader's states of T turns, leaves `[T]`."""
    number = lambda value: jnp.full(len(table), value, jnp.float32)
    return PoolState(
        task=jnp.asarray(table.kind, jnp.int32),
        context_tokens=jnp.asarray(table.length, jnp.float32),
        turn_index=jnp.asarray(table.turn, jnp.float32),
        budget=number(1.0),
        load=number(load),
        stake=number(stake),
    )


def observed_play(tuning: Tuning, base_tokens: float, *, seed: int) -> dict[str, np.ndarray]:
    """Play at random signals: ``row`` `[N]`, ``signal`` `[N, 2]`, ``tokens``, ``right`` `[N]`.

    Half of the signals have no floor; prices are uniform in their logarithm. The cell is tried or
    not by chance, whatever the signal, so that leaving out the others does not select.
    """
    rng = np.random.default_rng(seed)
    table, count = tuning.table, len(tuning.table)
    parts = []
    for _ in range(SIGNALS):
        floor = np.where(rng.random(count) < 0.5, 0.0, rng.random(count))
        price = np.exp(rng.uniform(np.log(LOWEST_PRICE), np.log(COST), count))
        signal = np.stack([floor, 1 - price / COST], 1)
        cells = best_cell(tuning.quality, tuning.tokens / base_tokens, price, floor)
        rows = np.flatnonzero(table.seen[np.arange(count), cells])
        chosen = cells[rows]
        used = table.tokens[rows, chosen] / base_tokens
        parts.append((rows, signal[rows], used, table.correct[rows, chosen]))
    row, signal, tokens, right = (np.concatenate(part) for part in zip(*parts))
    return {"row": row, "signal": signal, "tokens": tokens, "right": right}


def learn_leader(
    tuning: Tuning,
    base_tokens: float,
    pools: Mapping[int, float],
    *,
    seed: int,
    steps: int = LEADER_STEPS,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fits demand, factors and the leader's policy; the policy's arrays, and what was found.

    Args:
      tuning: the tuning turns.
      base_tokens: `T_bar`.
      pools: tokens a turn by load, in units of `T_bar`.
      seed: of the signals and the networks.
      steps: of the leader's fit.
    """
    play = observed_play(tuning, base_tokens, seed=seed)
    single = states_of(tuning.table, 1.0)
    seen = jax.tree.map(lambda leaf: leaf[play["row"]], single)
    tokens = jnp.asarray(play["tokens"], jnp.float32)
    signal = jnp.asarray(play["signal"], jnp.float32)
    key, most = jax.random.key(seed), 2.0
    held = folds(tuning.table.session, seed, HELD)[0][play["row"]]
    whole = sj.fit.Observations(seen, signal, jnp.clip(tokens, 0.0, most))
    part = lambda keep: jax.tree.map(lambda leaf: leaf[keep], whole)
    demand, past = sj.fit.fit_follower(
        LearnedDemand(cost=COST, rngs=nnx.Rngs(seed)),
        part(~held),
        key=key,
        validation=part(held),
        response_set=sj.Box(jnp.zeros(()), jnp.asarray(most)),
        steps=FIT_STEPS,
    )
    worth = jax.vmap(lambda t, state: demand.worth(jnp.zeros(()), t, state))(tokens, seen)
    factor = judged(np.asarray(worth, float), play["right"], np.asarray(seen.task), play["row"])
    states = [states_of(tuning.table, load) for load in pools]
    contexts = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states)
    leader, history = sj.fit_leader(
        PoolLeader(rngs=nnx.Rngs(seed + 2)),
        demand_game(demand, RevealedValue(demand, jnp.asarray(factor, jnp.float32)), most=most),
        contexts,
        response=jnp.array(0.5),
        key=key,
        constraints=[_within(load, pool) for load, pool in pools.items()],
        steps=steps,
        batch_size=None,
        learning_rate=RATE,
    )
    error = float(jnp.nanmax(past.validation)) / float(jnp.var(tokens[held]))
    found = {
        "plays": len(tokens),
        "demand_r_squared": 1 + error,
        "factors": dict(zip(TASK_TYPES, factor)),
        "status": str(history.status),
        "converged": float(history.converged[-1]),
        "utility": float(history.utility[-1]),
        "multipliers": dict(zip(pools, np.asarray(history.multipliers[-1], float))),
    }
    return arrays_of(leader), found


def judged(worth: np.ndarray, right: np.ndarray, kind: np.ndarray, row: np.ndarray) -> np.ndarray:
    """`[6]`: by how much right answers rise with what tokens are worth to executors, by type.

    The slope of a regression within turns, with a normal prior of mean 1 and spread `PRIOR`.
    Between turns it would be too low: where more tokens are used at one price, the turn is harder.

    Args:
      worth: `[N]`, of the tokens that were used.
      right: `[N]`, 1 or 0.
      kind: `[N]`, index into `TASK_TYPES`.
      row: `[N]`, the turn.
    """
    count = np.maximum(np.bincount(row), 1)
    x, y = (values - (np.bincount(row, values) / count)[row] for values in (worth, right))
    again = SIGNALS * TUNING_CELLS / len(CELLS)  # plays of a turn, which are not independent
    factor = np.ones(len(TASK_TYPES))
    # the noise of an answer, over all types: in a type where none changed it would seem to be none
    weight = PRIOR**2 / (max(float(right.var()), 1e-2) * again)
    for i in np.unique(kind):
        a, b = x[kind == i], y[kind == i]
        factor[i] = max((weight * a @ b + 1) / (weight * a @ a + 1), LEAST)
    return factor


def _within(load: int, pool: float) -> sj.fit.Average:
    """The pool of one load: the mean over its states of tokens less the pool is at most 0."""
    excess = lambda action, response, state: jnp.where(state.load == load, response - pool, 0.0)
    return sj.fit.Average(excess, at_most=0.0)


def arrays_of(leader: PoolLeader) -> dict[str, np.ndarray]:
    """The policy as arrays, which no library is needed to read."""
    network = leader.network
    layers = (("inner", network.inner), ("outer", network.outer))
    kernels = {f"{name}_kernel": np.asarray(layer.kernel[...]) for name, layer in layers}
    biases = {f"{name}_bias": np.asarray(_bias(layer)) for name, layer in layers}
    return {**kernels, **biases, "start": np.asarray(leader.START)}


def _bias(layer: nnx.Linear) -> jax.Array:
    assert layer.bias is not None
    return layer.bias[...]


def signals(leader: Mapping[str, np.ndarray], table: Table, load: float) -> np.ndarray:
    """`[T, 2]`: the signals (q, alpha) of a policy given as arrays."""
    features = np.asarray(jax.vmap(lambda state: state.features)(states_of(table, load)), float)
    hidden = np.tanh(features @ leader["inner_kernel"] + leader["inner_bias"])
    raw = hidden @ leader["outer_kernel"] + leader["outer_bias"] + leader["start"]
    return 1 / (1 + np.exp(-raw))
