"""The resource game's two payoffs (arXiv 2606.23026, equations 6-12), made smooth.

The leader's action is `l = (q, alpha)`, quality target and cost subsidy; the follower's response is
`r = (c, p, u)`, context retention, prompt verbosity and tool budget. With `t(r) = T(r) / T_0` the
tokens in units of the reference policy's tokens at the same context,

    U_F = w_Q Q(r) - w_C (1 - alpha) t(r) - w_G sp_k(q - Q(r))                              (8)
    U_L = w_S S(r) - w_D sp_k(tau_Q - Q(r))
          - w_B sp_k(tau_B - B) sp_k(t(r) - tau_T) - w_d ||l - l_prev||^2                   (9-11)
    S = clip(1 - t(r), -kappa, 1)

The paper prints the hinge `[z]_+`; we use `sp_k(z) = k log(1 + exp(z / k))`, which lies above it by
at most `k log 2`, because the stability bound needs a smooth follower.

The default weights put the leader's optimum at a corner. Both payoffs see the response only through
Q and t. Where the leader's shortfall counts, it gives up one unit of t for `w_S / w_D` = 1/3 of
quality; the follower already does so for `w_C (1 - alpha)`, at most 0.3. Equal rates need alpha* =
1 - (w_S / w_D) / w_C = -0.11, below the box: any subsidy makes a follower spend more that spends
too much without one. The game of a common pool (`pool_game`) has `w_C` = 3 and a price of tokens
between 0 and 3, so that its optimum is inside.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._game import Game
from stackjax.agents.game._surfaces import QualitySurface, TokenSurface
from stackjax.sets import Box

ACTION_LOWER, ACTION_UPPER = (0.6, 0.0), (0.95, 1.0)
"""Bounds of the leader's action: quality target, cost subsidy."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of both payoffs. The paper prints none; the defaults are DESIGN's and ours.

    Attributes:
      quality: `w_Q`, follower's weight of quality.
      cost: `w_C`, follower's weight of perceived cost.
      gap: `w_G`, follower's weight of falling short of the target q.
      savings: `w_S`, leader's weight of savings.
      degradation: `w_D`, leader's weight of quality below the reference's.
      budget: `w_B`, leader's weight of a dear turn while the budget is low.
      drift: `w_d`, leader's weight of changing its signal.
      kappa: savings are clipped to [-kappa, 1].
      softness: `k` of the smoothed hinges, in units of quality, budget share and `T_0`.
      low_budget: `tau_B`, the budget share below which dear turns are penalised.
      dear_turn: `tau_T`, the tokens, in units of `T_0`, above which a turn is dear.

    Example:
      >>> game = sj.agents.game.resource_game(weights=sj.agents.game.Weights(degradation=5.0))
      >>> sj.agents.game.Weights().degradation
      3.0
    """

    quality: float = 1.0
    cost: float = 0.3
    gap: float = 1.0
    savings: float = 1.0
    degradation: float = 3.0
    budget: float = 1.0
    drift: float = 0.05
    kappa: float = 1.0
    softness: float = 0.02
    low_budget: float = 0.2
    dear_turn: float = 0.5


DEFAULT = Weights()


class ResourceContext(struct.PyTreeNode):
    """All that both payoffs know about one turn. Leaves are unbatched, or with a leading `[N]`.

    Attributes:
      features: `[14]` (or `[9]`), the encoded state.
      quality: the quality surface at this state.
      tokens: the token surface at this state, in tokens.
      previous: `[2]`, the leader's previous action.
      budget: `[]`, share of the session's token budget that is left.
      reference_tokens: `[]`, `T_0`, the reference policy's predicted tokens at this state.
      target_quality: `[]`, `tau_Q`, the reference policy's predicted quality at this state.

    Source: arXiv 2606.23026, eq. (1).

    Example:
      >>> context = known_world.context()
      >>> print(context.reference_tokens, context.target_quality.round(3))
      330.0 0.725
    """

    features: jax.Array
    quality: QualitySurface
    tokens: TokenSurface
    previous: jax.Array
    budget: jax.Array
    reference_tokens: jax.Array
    target_quality: jax.Array


def resource_context(
    features: jax.Array,
    quality: QualitySurface,
    tokens: TokenSurface,
    *,
    previous: jax.Array,
    budget: jax.Array,
    reference: jax.Array,
) -> ResourceContext:
    """Complete one context with the reference response's tokens and quality.

    Args:
      features: `[F]`, the encoded state.
      quality: quality surface at the state.
      tokens: token surface at the state.
      previous: `[2]`, the leader's previous action.
      budget: `[]`, share of the token budget left.
      reference: `[3]`, the reference policy's response (Conservative).

    Example:
      >>> context = sj.agents.game.resource_context(
      ...     jnp.zeros(14), *known_world.surfaces(), previous=jnp.array([0.8, 0.5]),
      ...     budget=jnp.array(1.0), reference=jnp.zeros(3),
      ... )
      >>> print(context.reference_tokens)
      100.0
    """
    return ResourceContext(
        features=features,
        quality=quality,
        tokens=tokens,
        previous=previous,
        budget=budget,
        reference_tokens=tokens(reference),
        target_quality=quality(reference),
    )


def smooth_hinge(z: jax.Array, softness: float) -> jax.Array:
    """`sp_k(z) = k log(1 + exp(z / k))`: smooth, convex, above `[z]_+` by at most `k log 2`."""
    return softness * jax.nn.softplus(z / softness)


def relative_tokens(response: jax.Array, context: ResourceContext) -> jax.Array:
    """Tokens of `response: [3]` in units of the reference's at the same context, `[]`."""
    return context.tokens(response) / context.reference_tokens


def _saved(share: jax.Array, weights: Weights) -> jax.Array:
    """`S = clip(1 - T / T_0, -kappa, 1)` (10), `[]`."""
    return jnp.clip(1.0 - share, -weights.kappa, 1.0)


def follower_payoff(
    signal: jax.Array, quality: jax.Array, share: jax.Array, weights: Weights = DEFAULT
) -> jax.Array:
    """What a turn is worth to the follower (8), `[]`.

    Args:
      signal: `[2]`, (q, alpha).
      quality: `[]`, predicted, or 1 or 0 as it came out.
      share: `[]`, the turn's tokens in units of `T_0`, predicted or spent.
      weights: the payoffs' weights.
    """
    return (
        weights.quality * quality
        - weights.cost * (1.0 - signal[1]) * share
        - weights.gap * smooth_hinge(signal[0] - quality, weights.softness)
    )


def leader_payoff(
    quality: jax.Array,
    share: jax.Array,
    context: ResourceContext,
    weights: Weights = DEFAULT,
    *,
    signal: jax.Array | None = None,
) -> jax.Array:
    """What a turn is worth to the leader (9-11), `[]`; arguments as in `follower_payoff`.

    The context's budget, target quality and previous signal count; the change of the signal is
    paid for only where `signal: [2]` is given.
    """
    shortfall = smooth_hinge(context.target_quality - quality, weights.softness)
    low = smooth_hinge(weights.low_budget - context.budget, weights.softness)
    dear = smooth_hinge(share - weights.dear_turn, weights.softness)
    worth = (
        weights.savings * _saved(share, weights)
        - weights.degradation * shortfall
        - weights.budget * low * dear
    )
    if signal is None:
        return worth
    return worth - weights.drift * jnp.sum((signal - context.previous) ** 2)


def follower_utility(
    action: jax.Array,
    response: jax.Array,
    context: ResourceContext,
    *,
    weights: Weights = DEFAULT,
) -> jax.Array:
    """The rational executor's utility (8), `[]`, strongly concave in the response.

    Args:
      action: `[2]`, (q, alpha).
      response: `[3]`, (c, p, u).
      context: the turn.
      weights: the payoffs' weights.

    Source: arXiv 2606.23026, eq. (8).

    Example:
      >>> signal, context = jnp.array([0.6, 0.0]), known_world.context()
      >>> utility = lambda r: float(sj.agents.game.follower_utility(signal, r, context))
      >>> round(utility(jnp.zeros(3)), 3), round(utility(jnp.ones(3)), 3)
      (-0.441, 0.425)
    """
    share = relative_tokens(response, context)
    return follower_payoff(action, context.quality(response), share, weights)


def leader_utility(
    action: jax.Array,
    response: jax.Array,
    context: ResourceContext,
    *,
    weights: Weights = DEFAULT,
) -> jax.Array:
    """The leader's utility (9-11), `[]`; arguments as in `follower_utility`.

    Source: arXiv 2606.23026, eq. (9) to (11).

    Example:
      >>> signal, context = jnp.array([0.8, 0.5]), known_world.context()
      >>> utility = lambda r: float(sj.agents.game.leader_utility(signal, r, context))
      >>> round(utility(jnp.zeros(3)), 3), round(utility(jnp.array([0.5, 1.0, 1.0])), 3)
      (-1.103, -0.052)
    """
    quality, share = context.quality(response), relative_tokens(response, context)
    return leader_payoff(quality, share, context, weights, signal=action)


def concavity_bound(context: ResourceContext, *, weights: Weights = DEFAULT) -> jax.Array:
    """A computable `mu > 0`: `follower_utility` is mu-strongly concave in r for every action.

    `mu >= w_Q m_Q + w_C (1 - alpha_max) m_T / T_0`; with `alpha_max = 1` the second term is 0. The
    hinge only adds concavity, being a non-decreasing convex function of the convex `q - Q`.

    Example:
      >>> print(sj.agents.game.concavity_bound(known_world.context()))
      0.2
    """
    cost = weights.cost * (1.0 - ACTION_UPPER[1])
    return (
        weights.quality * context.quality.curvature_floor
        + cost * context.tokens.curvature_floor / context.reference_tokens
    )


def smooth_subsidy(
    proposed: jax.Array, previous: jax.Array, *, rho: float = 0.5, delta: float = 0.15
) -> jax.Array:
    """The subsidy that is applied (12): smoothed by `rho`, moved by at most `delta`, in [0, 1].

    Args:
      proposed: the policy's subsidy.
      previous: the subsidy applied at the turn before.
      rho: weight of the previous subsidy.
      delta: largest change in one turn.

    Source: arXiv 2606.23026, eq. (12).

    Example:
      >>> print(sj.agents.game.smooth_subsidy(jnp.array([0.6, 1.0]), 0.5))
      [0.55 0.65]
    """
    lower, upper = jnp.maximum(previous - delta, 0.0), jnp.minimum(previous + delta, 1.0)
    return jnp.clip(rho * previous + (1.0 - rho) * proposed, lower, upper)


def resource_game(
    follower: Callable[..., jax.Array] | None = None, *, weights: Weights = DEFAULT
) -> Game:
    """Build the resource game on coefficient contexts.

    Args:
      follower: the follower's utility `(action, response, context) -> []`; the rational
        executor's (8) by default, a fitted `LearnedFollower` otherwise.
      weights: the payoffs' weights; keep the default for a game that traces once.

    Returns:
      A game with the action in [0.6, 0.95] x [0, 1] and the response in [0, 1]^3.

    Source: arXiv 2606.23026, eq. (6) to (12).

    Example:
      >>> game = sj.agents.game.resource_game()
      >>> print(game.action_set.lower, game.action_set.upper, game.response_set.upper)
      [0.6 0. ] [0.95 1.  ] [1. 1. 1.]
    """
    if weights == DEFAULT:
        leader, rational = leader_utility, follower_utility
    else:
        leader = functools.partial(leader_utility, weights=weights)
        rational = functools.partial(follower_utility, weights=weights)
    return Game(
        leader,
        rational if follower is None else follower,
        action_set=Box(jnp.asarray(ACTION_LOWER), jnp.asarray(ACTION_UPPER)),
        response_set=Box(jnp.zeros(3), jnp.ones(3)),
    )
