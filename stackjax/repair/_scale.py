"""Which distances between actions matter: a scale from the sensitivity of a utility."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import check_choice, check_within
from stackjax.sets._nearest import check_rows


def sensitivity_scale(
    utility: Callable[..., Any],
    actions: Any,
    *arguments: Any,
    loss: float = 1.0,
    order: int = 1,
    floor: float = 1e-3,
) -> Any:
    """A scale for `ActionSet` and `ConvexHull` in which a distance of 1 costs the same everywhere.

    With `g_i` the root mean square, over N recorded plays, of a derivative of the utility in
    coordinate i of the action, a step of `scale_i` in that coordinate alone changes the utility by
    about `loss`, to first order or, where gradients vanish because actions were chosen well, to
    second order:

        order 1:  scale_i = loss / g_i,            g_i of dU/da_i,
        order 2:  scale_i = sqrt(2 loss / g_i),    g_i of d^2 U/da_i^2.

    A coordinate to which the utility hardly responds would get an unbounded scale: `g_i` counts
    as at least `floor` times the largest.

    For actions of the leader differentiate through the follower's answer,
    `lambda a, x: U_L(a, best_response(game, a, x, response=r).value, x)`; for executed actions of
    the follower hold the leader's, `lambda r, a, x: U_L(a, r, x)`.

    Args:
      utility: `(action, *arguments) -> scalar`, of one play.
      actions: `[N, ...]`, any pytree of floating-point arrays with a common leading axis.
      *arguments: whatever else the utility takes, with the same leading axis.
      loss: the change of utility that a distance of 1 stands for.
      order: 1 for gradients, 2 for the Hessian's diagonal.
      floor: smallest sensitivity that counts, relative to the largest.

    Returns:
      A pytree shaped as one action, positive. Under a transformation, where nothing can be raised:
      1 everywhere if no coordinate has a sensitivity, and plays with a derivative that is not
      finite are left out.

    Raises:
      ValueError: `loss`, `order` or `floor` is out of range, there is no play, leading axes
        differ, a derivative is not finite, or the utility does not respond to the actions at all.
      TypeError: an action is not floating point, or `loss` or `floor` not a number.

    Example:
      >>> actions = jnp.array([[0.0, 0.0], [1.0, 1.0]])
      >>> sj.repair.sensitivity_scale(lambda a: 4.0 * a[0] - a[1], actions, loss=0.1)
      Array([0.025, 0.1  ], dtype=float32)
    """
    check_within("loss", loss, "(0, inf)")
    check_choice("order", order, (1, 2))
    check_within("floor", floor, "(0, 1]")
    check_rows("actions", jax.tree.map(jnp.asarray, actions), None)
    for leaf in jax.tree.leaves(actions):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(f"`actions` must be floating point; got {jnp.result_type(leaf)}.")
    counts = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves((actions, arguments))}
    if len(counts) != 1:
        raise ValueError(
            f"`actions` and `arguments` must share their leading axis; got {sorted(counts)}."
        )
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], actions))

    def derivative(action: Any, *rest: Any) -> jax.Array:
        value = lambda flat: utility(unravel(flat), *rest)
        point = ravel_pytree(action)[0]
        if order == 1:
            return jax.grad(value)(point)
        along = lambda e: jnp.sum(e * jax.jvp(jax.grad(value), (point,), (e,))[1])
        return jax.vmap(along)(jnp.eye(len(point), dtype=point.dtype))

    slopes = jax.vmap(derivative)(actions, *arguments)
    sound = jnp.all(jnp.isfinite(slopes), axis=1)
    if not isinstance(slopes, Tracer) and not sound.all():
        raise ValueError(
            f"`utility` must have finite derivatives; got others at {(~sound).sum()} of the plays."
        )
    count = jnp.maximum(jnp.sum(sound), 1)
    # In units of the largest, whose square may be beyond the dtype.
    largest = jnp.max(jnp.where(sound[:, None], jnp.abs(slopes), 0))
    if not isinstance(largest, Tracer) and largest == 0:
        raise ValueError("`utility` must respond to the actions; every derivative is 0.")
    relative = jnp.where(sound[:, None], slopes, 0) / jnp.where(largest > 0, largest, 1)
    mean = jnp.sqrt(jnp.sum(relative**2, axis=0) / count)
    sensitivity = largest * jnp.maximum(mean, floor * jnp.max(mean))
    sensitivity = jnp.where(largest > 0, sensitivity, loss if order == 1 else 2 * loss)
    scale = loss / sensitivity if order == 1 else jnp.sqrt(2 * loss / sensitivity)
    return unravel(scale)
