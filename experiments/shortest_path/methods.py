"""Linear predictors of costs, trained for the path that is chosen by them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import stackjax as sj
from experiments.shortest_path.grid import FLOW, NET, PATHS, Data, best_path, draw

# What each method may choose from by validation: eight settings, and ten moments of the training.
SCALES, RATES = (0.1, 0.3, 1.0, 3.0), (0.01, 0.1)
SPO_RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
RIDGES = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)
MOMENTS, BATCH, TEST = 10, 32, 10_000


class Play(NamedTuple):
    """What the predictor's game depends on: the true costs, and the follower's scale of noise."""

    costs: jax.Array
    scale: jax.Array


def _true_cost(predicted: jax.Array, path: jax.Array, play: Play) -> jax.Array:
    return -(play.costs @ path)


def _predicted_cost(predicted: jax.Array, path: jax.Array, play: Play) -> jax.Array:
    return -(predicted @ path) / play.scale  # noise of scale 1 is then noise of that scale


FLOWS = sj.Game(
    _true_cost,
    _predicted_cost,
    response_set=sj.Polyhedron(E=FLOW, d=NET, box=sj.Box(0.0, 1.0)),
)
"""The leader predicts costs, the follower takes the path that is best by them."""

SHARES = sj.Game(
    lambda predicted, shares, play: _true_cost(predicted, shares @ PATHS, play),
    lambda predicted, shares, play: _predicted_cost(predicted, shares @ PATHS, play),
    response_set=sj.Simplex(),
)
"""The same with shares of the 70 paths for a response."""

_FLOW, _SHARE = jnp.asarray(PATHS.mean(0)), jnp.full(len(PATHS), 1 / len(PATHS))
Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _perturbed(samples: int, seed: int) -> sj.solvers.Perturbed:
    key = jax.random.key(seed)
    return sj.solvers.Perturbed(1.0, key=key, samples=samples, common=False, oracle=best_path)


@cache
def losses(samples: int, seed: int) -> dict[str, tuple[Loss, np.ndarray]]:
    """Each method's loss of `(predicted [40], costs [40], scale)`, and its settings `[8, 2]`.

    A setting is a scale of the follower's smoothing and a learning rate.

    Args:
      samples: draws of each perturbed answer.
      seed: of these.
    """
    noisy = _perturbed(samples, seed)

    def spo_plus(predicted: jax.Array, costs: jax.Array, scale: jax.Array) -> jax.Array:
        """Elmachtoub and Grigas, eq. (7); its subgradient is `2 (w*(c) - w*(2 p - c))`."""
        path, worst = best_path(-costs), lax.stop_gradient(best_path(costs - 2 * predicted))
        return (costs - 2 * predicted) @ worst + 2 * predicted @ path - costs @ path

    def fenchel_young(predicted: jax.Array, costs: jax.Array, scale: jax.Array) -> jax.Array:
        """Berthet et al., eq. (6): its gradient is `w*(c) - E w*(p + scale Z)`."""
        play = Play(costs, scale)
        answer = sj.best_response(FLOWS, predicted, play, response=_FLOW, solver=noisy).value
        return predicted @ (best_path(-costs) - lax.stop_gradient(answer))

    def through(game: sj.Game, start: jax.Array, solver: sj.solvers.Solver) -> Loss:
        """The true cost of what the follower answers."""

        def loss(predicted: jax.Array, costs: jax.Array, scale: jax.Array) -> jax.Array:
            play = Play(costs, scale)
            answer = sj.best_response(game, predicted, play, response=start, solver=solver)
            return -game.leader_utility(predicted, answer.value, play)

        return loss

    regularised = sj.solvers.Regularised
    smooth = np.array([(scale, rate) for scale in SCALES for rate in RATES])
    return {
        "SPO+": (spo_plus, np.array([(1.0, rate) for rate in SPO_RATES])),
        "Fenchel-Young, perturbed": (fenchel_young, smooth),
        "regret, perturbed": (through(FLOWS, _FLOW, noisy), smooth),
        "regret, quadratic": (through(SHARES, _SHARE, regularised(1.0)), smooth),
        "regret, entropic": (through(SHARES, _SHARE, regularised(1.0, kind="entropic")), smooth),
    }


def compare(
    degree: float, width: float, rows: int, *, seeds: int, steps: int, samples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Normalised regret on test rows of each method, and the settings it chose, one of each seed.

    Args:
      degree: of the polynomial that makes costs from features.
      width: half-width of the multiplicative noise.
      rows: training rows; a quarter as many are for validation.
      seeds: each has its own data.
      steps: of Adam, with 32 rows each.
      samples: draws of each perturbed answer.
      seed: the first.
    """
    keys = jax.vmap(jax.random.key)(jnp.arange(seed, seed + seeds))
    found = {"least squares": _least_squares(keys, degree, width, rows)}
    for name, (loss, settings) in losses(samples, seed).items():
        found[name] = _trained(keys, degree, width, settings, loss=loss, rows=rows, steps=steps)
    return {
        name: {"regret": np.asarray(regret).tolist(), "setting": np.asarray(chosen).tolist()}
        for name, (regret, chosen) in found.items()
    }


def _split(key: jax.Array, rows: int, degree: Any, width: Any) -> tuple[Data, Data, Data]:
    """For training, validation and tests; costs in units of the mean in training."""
    cuts = rows, rows + rows // 4
    data = draw(key, cuts[1] + TEST, degree, width)
    data = data._replace(costs=data.costs / jnp.mean(data.costs[:rows]))
    parts = slice(0, cuts[0]), slice(*cuts), slice(cuts[1], None)
    train, valid, test = (jax.tree.map(lambda x, part=part: x[part], data) for part in parts)
    return train, valid, test


def _predict(weights: jax.Array, features: jax.Array) -> jax.Array:
    return features @ weights[:-1] + weights[-1]


def _regret(weights: jax.Array, data: Data) -> jax.Array:
    """Of the paths that are best by predicted costs, relative to the least cost; over all rows."""
    path = jax.vmap(best_path)
    predicted = jax.vmap(lambda x: _predict(weights, x))(data.features)
    least = jnp.sum(data.costs * path(-data.costs))
    return jnp.sum(data.costs * path(-predicted)) / least - 1


def _ridge(data: Data, penalty: jax.Array) -> jax.Array:
    """`[6, 40]`, the last row the intercept, which has no penalty."""
    count = len(data.features)
    x = jnp.concatenate([data.features, jnp.ones((count, 1))], 1)
    held = jnp.diag(jnp.ones(x.shape[1]).at[-1].set(0)) * penalty
    return jnp.linalg.solve(x.T @ x / count + held, x.T @ data.costs / count)


@partial(jax.jit, static_argnums=3)
def _least_squares(
    keys: jax.Array, degree: jax.Array, width: jax.Array, rows: int
) -> tuple[jax.Array, jax.Array]:
    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        train, valid, test = _split(key, rows, degree, width)
        weights = jax.vmap(lambda penalty: _ridge(train, penalty))(jnp.asarray(RIDGES))
        chosen = jnp.argmin(jax.vmap(lambda w: _regret(w, valid))(weights))
        return _regret(weights[chosen], test), chosen

    return lax.map(one, keys)


@partial(jax.jit, static_argnames=("loss", "rows", "steps"))
def _trained(
    keys: jax.Array,
    degree: jax.Array,
    width: jax.Array,
    settings: jax.Array,
    *,
    loss: Loss,
    rows: int,
    steps: int,
) -> tuple[jax.Array, jax.Array]:
    """`[seeds]` regret in test, and the setting that was best in validation, at its best moment."""

    def descend(key: jax.Array, setting: jax.Array, data: Data) -> jax.Array:
        """`[moments, 6, 40]` weights, from those of least squares."""
        scale, rate = setting
        optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=rate)

        def step(state: tuple, key: jax.Array) -> tuple[tuple, None]:
            weights, memory = state
            at = jax.random.randint(key, (BATCH,), 0, rows)

            def mean(weights: jax.Array) -> jax.Array:
                predicted = jax.vmap(lambda x: _predict(weights, x))(data.features[at])
                each = jax.vmap(lambda p, c: loss(p, c, scale))(predicted, data.costs[at])
                return jnp.mean(each)

            update, memory = optimizer.update(jax.grad(mean)(weights), memory)
            return (optax.apply_updates(weights, update), memory), None

        def stretch(state: tuple, keys: jax.Array) -> tuple[tuple, jax.Array]:
            state, _ = lax.scan(step, state, keys)
            return state, state[0]

        start = _ridge(data, jnp.zeros(()))
        moments = jax.random.split(key, (MOMENTS, steps // MOMENTS))
        return lax.scan(stretch, (start, optimizer.init(start)), moments)[1]

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        train, valid, _ = _split(key, rows, degree, width)
        weights = jax.vmap(lambda s: descend(jax.random.fold_in(key, 1), s, train))(settings)
        regrets = jax.vmap(jax.vmap(lambda w: _regret(w, valid)))(weights)
        best = jnp.argmin(regrets)
        return weights.reshape(-1, *weights.shape[2:])[best], best // MOMENTS

    def score(both: tuple[jax.Array, jax.Array]) -> jax.Array:
        key, weights = both
        return _regret(weights, _split(key, rows, degree, width)[2])

    weights, chosen = jax.vmap(one)(keys)
    return lax.map(score, (keys, weights)), chosen
