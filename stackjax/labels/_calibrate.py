"""Choosing a threshold, or any other option, on streams whose labels cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_count, check_key, check_type
from stackjax.labels._arguments import common_length
from stackjax.labels._learner import Learner
from stackjax.labels._run import run


class TunedThreshold(struct.PyTreeNode):
    """C candidates on M streams.

    Attributes:
      regret: `[C]`, mean cumulative regret.
      labels: `[C]`, mean labels.
      index: `[]` integer, the candidate chosen.
      chosen: the candidate, shaped as one of them.

    Example:
      >>> found = sj.labels.TunedThreshold(
      ...     regret=jnp.array([9.0, 7.0]), labels=jnp.full(2, 5.0), index=jnp.array(1), chosen=0.3
      ... )
      >>> print(found.regret[found.index], found.chosen)
      7.0 0.3
    """

    regret: jax.Array
    labels: jax.Array
    index: jax.Array
    chosen: Any


def tune_threshold(
    make: Callable[[Any], Learner],
    candidates: Any,
    streams: Any,
    rounds: int,
    *,
    key: jax.Array,
    block: int = 256,
) -> TunedThreshold:
    """Runs C candidate learners on M streams and chooses the one of least mean regret.

    With streams of `imagine` this calibrates a gate to its budget on unlabelled contexts looked
    ahead, without a label: widths are exact, theta* is drawn from a prior. Nothing paces the
    labels over time: a threshold that is too low spends them all at once, where that is best.

    Args:
      make: `candidate -> Learner`; the candidate's numbers are traced.
      candidates: pytree of arrays with a common leading axis C: thresholds, or several options.
      streams: pytree of streams stacked along a leading axis M.
      rounds: T of each run.
      key: random key.
      block: of `run`.

    Returns:
      A `TunedThreshold`. Ties go to the smaller index; a candidate whose regret is NaN is chosen
      last.

    Raises:
      TypeError: `make` is not callable, `key` is not a key, or a
        number of the wrong kind.
      ValueError: there is no candidate or no stream, or lengths differ.

    Example:
      >>> streams = jax.vmap(lambda key: sj.labels.linear_stream(key, dim=2))(
      ...     jax.random.split(jax.random.key(0), 3))
      >>> found = sj.labels.tune_threshold(
      ...     lambda threshold: sj.labels.llf_stacksl(budget=10, threshold=threshold),
      ...     jnp.array([0.0, 100.0]), streams, 200, key=jax.random.key(1))
      >>> found.chosen, found.labels
      (Array(0., dtype=float32), Array([10.,  0.], dtype=float32))
    """
    check_type("make", make, Callable, "a function candidate -> Learner")
    check_count("rounds", rounds)
    check_key(key)
    candidates = jax.tree.map(jnp.asarray, candidates)
    common_length("candidates", candidates)
    keys = jax.random.split(key, common_length("streams", streams))

    def outcome(candidate: Any, stream: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state, curves = run(make(candidate), stream, rounds, key=key, block=block)
        return curves.regret[-1], state.labels

    over_streams = jax.vmap(outcome, in_axes=(None, 0, 0))
    regret, labels = jax.vmap(over_streams, in_axes=(0, None, None))(candidates, streams, keys)
    regret, labels = regret.mean(1), labels.mean(1, dtype=regret.dtype)
    index = jnp.argmin(jnp.where(jnp.isnan(regret), jnp.inf, regret)).astype(jnp.int32)
    return TunedThreshold(regret, labels, index, jax.tree.map(lambda x: x[index], candidates))
