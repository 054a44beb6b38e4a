"""Choosing a threshold, or any other option, on streams whose labels cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_key
from stackjax.labels._arguments import check_count, check_number, common_length
from stackjax.labels._learner import Learner
from stackjax.labels._run import run

RULES = ("regret", "budget")


class TunedThreshold(struct.PyTreeNode):
    """C candidates on M streams.

    Attributes:
      regret: `[C]`, mean cumulative regret.
      labels: `[C]`, mean labels.
      index: `[]` integer, the candidate chosen; 0 if no candidate keeps to the budget.
      chosen: the candidate, shaped as one of them.

    Example:
      >>> streams = sj.labels.RecordedStream(
      ...     features=jax.random.normal(jax.random.key(0), (3, 20, 2, 2)),
      ...     rewards=jnp.zeros((3, 20, 2)), order=jnp.tile(jnp.arange(20), (3, 1)),
      ... )
      >>> found = sj.labels.tune_threshold(
      ...     lambda threshold: sj.labels.stacksl(budget=5), jnp.array([0.1, 0.2]), streams, 20,
      ...     key=jax.random.key(1),
      ... )
      >>> print(found.regret, found.labels, found.index, found.chosen)
      [0. 0.] [5. 5.] 0 0.1
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
    rule: str = "regret",
    budget: Any = None,
    block: int = 256,
) -> TunedThreshold:
    """Runs C candidate learners on M streams and chooses one of them.

    With streams of `imagine` this calibrates a gate to its budget on unlabelled contexts looked
    ahead, without a label: widths are exact, theta* is drawn from a prior. Nothing paces the
    labels over time: a threshold that is too low spends them all at once, where that is best.

    Args:
      make: `candidate -> Learner`; the candidate's numbers are traced.
      candidates: pytree of arrays with a common leading axis C: thresholds, or several options.
      streams: pytree of streams stacked along a leading axis M.
      rounds: T of each run.
      key: random key.
      rule: "regret", the least mean regret, under the learners' own budgets; "budget", the most
        labels that are at most `budget` on average, for learners made without a limit. Ties go to
        the smaller index.
      budget: for "budget": labels that may be spent on average.
      block: of `run`.

    Returns:
      A `TunedThreshold`. A candidate whose regret is NaN is never chosen by "regret" before
      another.

    Raises:
      TypeError: `make` is not callable, or `key` is not a key.
      ValueError: `rule` is another word, there is no candidate or no stream, lengths differ, or
        "budget" is asked for without a budget.

    Example:
      >>> streams = jax.vmap(lambda key: sj.labels.linear_stream(key, dim=2))(
      ...     jax.random.split(jax.random.key(0), 3))
      >>> found = sj.labels.tune_threshold(
      ...     lambda threshold: sj.labels.llf_stacksl(budget=10, threshold=threshold),
      ...     jnp.array([0.0, 100.0]), streams, 200, key=jax.random.key(1))
      >>> found.chosen, found.labels
      (Array(0., dtype=float32), Array([10.,  0.], dtype=float32))
    """
    if not callable(make):
        raise TypeError(f"make: got {make!r}, must be a function candidate -> Learner")
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r}, must be one of {', '.join(RULES)}")
    if rule == "budget" and budget is None:
        raise ValueError('budget: rule="budget" needs one')
    if budget is not None:
        check_number("budget", budget, at_least=0.0, finite=False)
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
    if budget is None or rule == "regret":
        index = jnp.argmin(jnp.where(jnp.isnan(regret), jnp.inf, regret))
    else:
        index = jnp.argmax(jnp.where(labels <= budget, labels, -1.0))
    index = index.astype(jnp.int32)
    return TunedThreshold(regret, labels, index, jax.tree.map(lambda x: x[index], candidates))
