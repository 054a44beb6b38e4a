"""The follower of a round: the challenger, and the gap that bounds the leader's regret."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax.core import Tracer

from stackjax._arrays.arguments import check_shape, check_within
from stackjax.labels._arguments import check_features


class Challenge(struct.PyTreeNode):
    """One round of the game: what the leader commits to, and what the follower answers.

    Attributes:
      action: `[]` integer, the alternative that the leader plays.
      challenger: `[]` integer, the follower's alternative, another one.
      gap: `[]`, >= 0, the challenger's optimistic advantage; bounds the regret of the round.
      width: `[]`, `||phi(challenger) - phi(action)||_{V^-1}`.
      margin: `[]`, the action's score less the best score of the others; >= 0 if the action is
        greedy.
      scores: `[K]`, estimated rewards, to which the leader commits.

    Example:
      >>> scores = jnp.array([1.0, 0.5])
      >>> round = sj.labels.challenge(jnp.eye(2), scores, jnp.eye(2), 0.0)  # no doubt left
      >>> print(round.action, round.challenger, round.margin, round.gap)
      0 1 0.5 0.0
    """

    action: jax.Array
    challenger: jax.Array
    gap: jax.Array
    width: jax.Array
    margin: jax.Array
    scores: jax.Array


def challenge(
    features: jax.Array,
    theta: jax.Array,
    inverse: jax.Array,
    radius: Any,
    *,
    action: jax.Array | None = None,
) -> Challenge:
    """The follower's best response to scores `features @ theta` and to the leader's action a.

    The challenger maximises the optimistic advantage over the action,

        theta'z + rho ||z||_{V^-1},    z = phi(x, b) - phi(x, a),    b != a,

    and the gap is g = max(0, that).

    The gap bounds the regret. If `||theta - theta*||_V <= rho` and rewards have means
    phi'theta*, then for every b, by the Cauchy-Schwarz inequality in the norms of V and V^-1,

        theta*'z = theta'z + (theta* - theta)'z <= theta'z + rho ||z||_{V^-1}.

    The best alternative is either a, with regret 0 <= g, or some b != a, whose regret theta*'z is
    at most the maximum over b, which is at most g. Nothing is asked of how a was chosen. In
    particular the action is optimal wherever the gap is zero.

    Sum of the gaps with every round labelled. A greedy action has theta'z <= 0, so
    g <= rho ||z||_{V^-1} and ||z||^2 <= 2 ||phi_a||^2 + 2 ||phi_b||^2 <= 2 tr(A_t), A_t =
    Phi V^-1 Phi'. Where tr(A_t) <= 1, tr(A_t) <= 2 log det(I + A_t), and these add up to
    log det(V) - d log(regularisation) = O(d log T) (elliptical potential); each other round adds
    more than log 2 to the same sum, so that there are O(d log T) of them. Cauchy-Schwarz over
    rounds gives a regret of at most 2 rho sqrt(T O(d log T)) = O~(d sqrt(T)), the rate of
    arXiv 2602.00952 for full feedback, as rho is O(sqrt(d log T)).

    Args:
      features: phi(x, .), `[K, d]`, K >= 2.
      theta: `[d]`, the estimate.
      inverse: V^-1, `[d, d]`.
      radius: rho >= 0, `[]`.
      action: `[]` integer, the leader's alternative; by default the greedy one, the smaller index
        of a tie.

    Returns:
      A `Challenge`. Ties of the follower go to the smaller index.

    Raises:
      TypeError: `features` is not an array, or `radius` not a number.
      ValueError: shapes do not fit, there is one alternative only, `radius` is negative, or
        `action` is not the index of an alternative.

    Source: our reading of arXiv 2602.00952, of which the abstract says that the environment
    answers with challenging alternatives.

    Example:
      >>> round = sj.labels.challenge(jnp.eye(2), jnp.array([1.0, 0.0]), jnp.eye(2), 1.0)
      >>> round.action, round.challenger, round.gap
      (Array(0, dtype=int32), Array(1, dtype=int32), Array(0.41421354, dtype=float32))
    """
    check_features(features)
    check_shape("theta", theta, features.shape[1:])
    check_shape("inverse", inverse, 2 * features.shape[1:])
    check_within("radius", radius, "[0, inf)")
    if action is not None:
        _check_action(action, features.shape[0])
    scores = features @ theta
    action = (jnp.argmax(scores) if action is None else jnp.asarray(action)).astype(jnp.int32)
    apart = features - features[action][None]
    squares = jnp.sum((apart @ inverse) * apart, axis=-1)
    # The square root's derivative is not finite at zero, where z is.
    widths = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    own = jnp.arange(features.shape[0]) == action
    lead = jnp.where(own, -jnp.inf, scores - scores[action])
    advantage = lead + radius * widths
    challenger = jnp.argmax(advantage).astype(jnp.int32)
    return Challenge(
        action=action,
        challenger=challenger,
        gap=jnp.maximum(advantage[challenger], 0.0),
        width=widths[challenger],
        margin=-jnp.max(lead),
        scores=scores,
    )


def _check_action(action: Any, alternatives: int) -> None:
    check_shape("action", action, ())
    known = not isinstance(action, Tracer)
    if known and not (int(action) == action and 0 <= int(action) < alternatives):
        raise ValueError(f"`action` must be an integer in [0, {alternatives}); got {action}.")
