"""Recorded play, and the rows that a fit makes of it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import (
    as_start,
    check_all_within,
    check_columns,
    check_key,
    check_shape,
    check_type,
    concrete,
)
from stackjax._arrays.typing import PyTree
from stackjax.fit._rows import CODES, as_batch


class Observations(struct.PyTreeNode):
    """Recorded play. Every leaf has the same leading axis, N.

    Attributes:
      context: `[N, ...]` contexts.
      action: `[N, ...]` what the leader committed to.
      response: `[N, ...]` what the follower answered. NaN marks a number that was not recorded:
        it leaves the loss, and the row's other numbers stay. A row without any leaves altogether,
        and does not count as a failure.
      weight: `[N]` how much each row counts, at least 0; 1 each if None. A row of weight 0 leaves
        altogether. Only the ratios matter: the loss is the weighted mean of each minibatch.

    Example:
      >>> seen = sj.Observations(jnp.zeros(3), jnp.zeros(3), jnp.array([1.0, 2.0, jnp.nan]))
      >>> seen.bootstrap(jax.random.key(0)).weight.sum()
      Array(3., dtype=float32)
    """

    context: PyTree
    action: PyTree
    response: PyTree
    weight: jax.Array | None = None

    def bootstrap(self, key: jax.Array, *, groups: Any = None) -> "Observations":
        """A bootstrap sample: the same rows, each weighted by how often it was drawn.

        Drawn with replacement, N times of N rows (or G times of G groups, whose rows stay
        together): the weights are multinomial. Rows are not copied, so that `jax.vmap` over keys
        fits an ensemble, whose spread is the uncertainty of the fit:

            def member(key):
                sample, fit = jax.random.split(key)
                return fit_follower(module, observations.bootstrap(sample), key=fit)

            members, history = jax.jit(jax.vmap(member))(jax.random.split(key, 8))
            answer = lambda one: best_response(Game(leader, one), action, context, response=r)
            spread = jnp.std(jax.vmap(answer)(members).value, axis=0)

        Args:
          key: of the sample.
          groups: `[N]` labels; rows of one label are drawn together, as rows of one episode or
            one subject must be, which say less than as many independent ones.

        Raises:
          TypeError: `key` is not a key, or `groups` is traced.
          ValueError: `groups` has not N labels.

        Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 6.
        """
        check_key(key)
        count = len(jax.tree.leaves(self.response)[0])
        if groups is None:
            number, size = jnp.arange(count), count
        else:
            if not concrete(groups):
                raise TypeError(
                    "`groups` must be known outside of jax.jit and jax.vmap; got traced ones."
                )
            labels, inverse = np.unique(np.asarray(groups), return_inverse=True)
            check_shape("groups", groups, (count,), ", one label a row")
            number, size = jnp.asarray(inverse), len(labels)
        drawn = jnp.bincount(jax.random.randint(key, (size,), 0, size), length=size)[number]
        dtype = jnp.result_type(float) if self.weight is None else self.weight
        weight = drawn.astype(jnp.promote_types(jnp.result_type(dtype), jnp.float32))
        return self.replace(weight=weight if self.weight is None else weight * self.weight)


class Rows(struct.PyTreeNode):
    """Observations without gaps.

    Attributes:
      context: `[N, ...]`.
      action: `[N, ...]`.
      response: `[N, ...]` any finite number where nothing was recorded.
      seen: `[N, ...]` like `response`, bool; None if all is known to be recorded.
      weight: `[N]` 0 for a row that is not there; None if all are known to count alike.
    """

    context: PyTree
    action: PyTree
    response: PyTree
    seen: PyTree = None
    weight: jax.Array | None = None

    @property
    def recorded(self) -> PyTree:
        """`seen`, in any case."""
        if self.seen is not None:
            return self.seen
        return jax.tree.map(lambda y: jnp.ones(jnp.shape(y), bool), self.response)


def as_rows(observations: Any, name: str) -> Rows:
    """Checks observations, and tells what was recorded from what was not.

    Raises:
      TypeError: they are no `Observations`, or responses are not floating point.
      ValueError: leading axes differ or are 0, a value is infinite or, outside of responses, not
        a number, a weight is negative, or no row is left.
    """
    check_type(name, observations, Observations, "a stackjax.Observations")
    check_columns(observations, name, CODES)
    given = jax.tree.map(jnp.asarray, observations.response)
    seen = jax.tree.map(lambda y: ~jnp.isnan(y), given)
    zeros = jax.tree.map(lambda y, known: jnp.where(known, y, jnp.zeros_like(y)), given, seen)
    checked = as_batch(observations.replace(response=zeros), name)
    response = as_start(checked.response, f"{name}.response")
    whole = concrete(seen) and all(bool(np.all(known)) for known in jax.tree.leaves(seen))
    if whole and checked.weight is None:
        return Rows(checked.context, checked.action, response)
    leaves = [known.reshape(len(known), -1) for known in jax.tree.leaves(seen)]
    there = jnp.any(jnp.concatenate(leaves, axis=1), axis=1)
    dtype = jax.tree.leaves(response)[0].dtype
    weight = _weights(checked.weight, len(there), name).astype(jnp.promote_types(dtype, "float32"))
    weight = jnp.where(there, weight, 0)
    if concrete(weight) and not (np.asarray(weight) > 0).any():
        raise ValueError(
            f"`{name}` must hold a row of positive weight with a number in its response; got none."
        )

    def fill(y: jax.Array, known: jax.Array) -> jax.Array:
        # the mean of what was recorded: a fair starting point of the search
        total, count = jnp.sum(y, axis=0), jnp.maximum(jnp.sum(known, axis=0), 1)
        return jnp.where(known, y, (total / count).astype(y.dtype)[None])

    filled = jax.tree.map(fill, response, seen)
    return Rows(checked.context, checked.action, filled, seen, weight)


def _weights(weight: Any, count: int, name: str) -> jax.Array:
    if weight is None:
        return jnp.ones(count)
    check_shape(f"{name}.weight", weight, (count,), ", one number a row")
    check_all_within(f"{name}.weight", weight, "[0, inf]")
    return weight


def hold_out(rows: Rows, share: float, key: jax.Array) -> tuple[Rows, Rows]:
    """Splits rows by chance into training and validation rows, at least one each.

    Raises:
      ValueError: the share is not within (0, 1), or there is one row only.
    """
    if not 0 < share < 1:
        raise ValueError(f"`validation` must be a share between 0 and 1; got {share}.")
    count = len(jax.tree.leaves(rows.response)[0])
    if count < 2:
        raise ValueError(f"`validation` must have at least 2 rows to split; got {count}.")
    held = min(max(round(share * count), 1), count - 1)
    order = jax.random.permutation(key, count)
    if rows.weight is not None:
        if concrete(rows.weight) and np.sum(np.asarray(rows.weight) > 0) < 2:
            raise ValueError(
                "`validation` must have at least 2 rows of positive weight to split; got fewer."
            )
        # Those that count first, then one for either side, then evenly.
        order = order[jnp.argsort(rows.weight[order] <= 0, stable=True)]
        others = 2 + np.arange(held - 1) * (count - 2) // max(held - 1, 1)
        out = np.isin(np.arange(count), np.append(others, 1))
        order = order[np.concatenate([np.flatnonzero(out), np.flatnonzero(~out)])]
    pick = lambda index: jax.tree.map(lambda leaf: leaf[index], rows)
    return pick(order[held:]), pick(order[:held])
