"""The second resource game: executors that know more than the leader, and one pool of tokens.

The leader's action is `l = (q, alpha)`, a floor of quality for the task type and the share of the
tokens that the pool pays. An executor chooses among K cells (context, prompt, tools). It reads the
request, and predicts of each cell the quality `Q_k` and the tokens `T_k`, in units of the mean
tokens `T_bar` of the reference's turns: a token costs the same in every turn. Of a mixture
`r = (r_1 .. r_K)` of cells, with `Q(r) = sum_k r_k Q_k` and `T(r) = sum_k r_k T_k`,

    U_F = sum_k r_k [Q_k - w_C (1 - alpha) T_k - w_G sp(q - Q_k)] + tau H(r)
    U_L = stake Q(r) - mu T(r)

`H(r) = -sum_k (r_k + e) log(r_k + e)` is the entropy, its slope bounded by e = 1e-4, and tau is a
small temperature. The best response is then the quantal one, a softmax of the bracket over tau, in
which a cell that would be drawn less than about once in 1 / e turns is not drawn at all. It moves
continuously with the signal; at tau = 0 it is the best cell. The pool
`E[T] <= pool(load)` is a constraint on an average (`tokens_used` in `fit.Average`), and its
multiplier is the shadow price mu; or the price is given as a weight, `PoolWeights(price=mu)`.

Without a floor, and where the executor's predictions are right, it acts for the leader at

    alpha* = 1 - mu / (stake w_C),

since the bracket is then `U_L / stake`. This lies in (0, 1) where 0 < mu < stake w_C.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.special import entr

from stackjax._arrays.arguments import check_all_within, check_number, check_within
from stackjax._game import Game
from stackjax.agents.game._payoffs import smooth_hinge
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.sets import Box, Simplex

_TOKENS, _TURNS, _DOUBLINGS = 500.0, 8.0, 4.0
_RARE = 1e-4  # e: at 0 the curvature has no bound, and shares of 1e-40 end no search


@dataclasses.dataclass(frozen=True)
class PoolWeights:
    """The weights of both payoffs. Quality is in right answers, tokens in units of `T_bar`.

    Attributes:
      cost: `w_C`, the executor's weight of the tokens that it pays.
      gap: `w_G`, the executor's weight of falling short of the floor q.
      price: `mu`, the leader's weight of tokens; 0 where the pool is a constraint.
      softness: `k` of the smoothed hinge, in units of quality.
      temperature: `tau`, how much an executor loses to indifference, in units of quality.

    Raises:
      TypeError: a weight is not a number.
      ValueError: a weight is negative, or cost, softness or temperature are not positive.

    Example:
      >>> sj.agents.game.PoolWeights().cost
      3.0
    """

    cost: float = 3.0
    gap: float = 1.0
    price: float = 0.0
    softness: float = 0.02
    temperature: float = 0.02

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            check_number(field.name, value, owner="PoolWeights: ")
            least = "[0, inf)" if field.name in ("gap", "price") else "(0, inf)"
            check_within(field.name, value, least, owner="PoolWeights: ")


DEFAULT_POOL = PoolWeights()


class PoolState(struct.PyTreeNode):
    """All that the leader knows of a turn: neither the text nor how hard it is.

    Leaves are scalars, or have a leading `[N]`.

    Attributes:
      task: index into `TASK_TYPES`.
      context_tokens: tokens of the history that could be sent.
      turn_index: turns of the session that are finished.
      budget: share of the pool's tokens that is left, 1 at first.
      load: sessions that are open, at least 1.
      stake: what a right answer is worth in this session, 1 as a rule.

    Example:
      >>> number = jnp.float32
      >>> state = sj.agents.game.PoolState(
      ...     task=jnp.int32(1), context_tokens=number(250), turn_index=number(4),
      ...     budget=number(1), load=number(8), stake=number(1),
      ... )
      >>> print(state.features)
      [0.5  0.5  1.   0.75 0.   0.   1.   0.   0.   0.   0.  ]
    """

    task: jax.Array
    context_tokens: jax.Array
    turn_index: jax.Array
    budget: jax.Array
    load: jax.Array
    stake: jax.Array

    @property
    def features(self) -> jax.Array:
        """`[11]` of one state: five numbers of size one, then a one-hot over the six types.

        Tokens are in units of 500 and turns of 8; load and stake are logarithms to base 2, the
        load's over 4; the budget is clipped to [-1, 1].
        """
        numbers = [
            self.context_tokens / _TOKENS,
            self.turn_index / _TURNS,
            jnp.clip(self.budget, -1.0, 1.0),
            jnp.log2(self.load) / _DOUBLINGS,
            jnp.log2(self.stake),
        ]
        numbers = jnp.stack([jnp.asarray(number) for number in numbers])
        kind = jax.nn.one_hot(self.task, len(TASK_TYPES), dtype=numbers.dtype)
        return jnp.concatenate([numbers, kind])


class PoolContext(struct.PyTreeNode):
    """One turn as both players know it together. Leaves are of one turn, or have a leading `[N]`.

    A leader's policy must read `state` only: quality and tokens are the executor's own. Its mean
    over contexts is then the expectation over what it does not know.

    Attributes:
      state: the leader's state.
      quality: `[K]`, the executor's predicted probability of a right answer under each cell.
      tokens: `[K]`, its predicted tokens, in units of `T_bar`.

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> context = sj.agents.game.PoolContext(
      ...     state, quality=jnp.array([0.3, 0.8]), tokens=jnp.array([0.4, 0.9])
      ... )
      >>> game, free = sj.agents.game.pool_game(), jnp.array([0.0, 1.0])
      >>> even = jnp.array([0.5, 0.5])
      >>> print(sj.best_response(game, free, context, response=even).value.round(3))
      [0. 1.]
    """

    state: PoolState
    quality: jax.Array
    tokens: jax.Array


def cell_utilities(
    action: jax.Array, context: PoolContext, *, weights: PoolWeights = DEFAULT_POOL
) -> jax.Array:
    """What each cell is worth to the executor, `[K]`: the bracket of `U_F`.

    Args:
      action: `[2]`, (q, alpha).
      context: the turn.
      weights: the payoffs' weights.

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> context = sj.agents.game.PoolContext(state, jnp.array([0.3, 0.8]), jnp.array([0.4, 0.9]))
      >>> worth = sj.agents.game.cell_utilities(jnp.array([0.0, 0.9]), context)
      >>> [f"{utility:.2f}" for utility in worth]
      ['0.18', '0.53']
    """
    short = smooth_hinge(action[0] - context.quality, weights.softness)
    paid = weights.cost * (1.0 - action[1]) * context.tokens
    return context.quality - paid - weights.gap * short


def quantal_cells(
    action: jax.Array, context: PoolContext, *, weights: PoolWeights = DEFAULT_POOL
) -> jax.Array:
    """The executor's best response in closed form, `[K]`: shares `[c exp(worth / tau) - e]_+`.

    A softmax without its rarest cells; `c` makes the shares sum to 1, found by sorting.

    Args:
      action: `[2]`, (q, alpha).
      context: the turn.
      weights: the payoffs' weights.

    Source: McKelvey and Palfrey, Games and Economic Behavior 10, 1995 (logit responses).

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> context = sj.agents.game.PoolContext(state, jnp.array([0.3, 0.8]), jnp.array([0.4, 0.9]))
      >>> print(sj.agents.game.quantal_cells(jnp.array([0.0, 0.66]), context).round(2))
      [0.62 0.38]
    """
    worth = cell_utilities(action, context, weights=weights)
    odds = jnp.exp((worth - jnp.max(worth)) / weights.temperature)
    ordered = -jnp.sort(-odds)
    scale = (1.0 + _RARE * (jnp.arange(odds.size) + 1)) / jnp.cumsum(ordered)
    drawn = jnp.sum(scale * ordered > _RARE)
    return jnp.maximum(scale[drawn - 1] * odds - _RARE, 0.0)


def pool_follower_utility(
    action: jax.Array,
    response: jax.Array,
    context: PoolContext,
    *,
    weights: PoolWeights = DEFAULT_POOL,
) -> jax.Array:
    """The executor's utility of a mixture of cells, `[]`, tau-strongly concave on the simplex.

    Args:
      action: `[2]`, (q, alpha).
      response: `[K]`, shares of the cells.
      context: the turn.
      weights: the payoffs' weights.

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, one)
      >>> context = sj.agents.game.PoolContext(state, jnp.array([0.3, 0.8]), jnp.array([0.4, 0.9]))
      >>> signal, even = jnp.array([0.0, 0.9]), jnp.array([0.5, 0.5])
      >>> print(f"{sj.agents.game.pool_follower_utility(signal, even, context):.3f}")
      0.369
    """
    worth = cell_utilities(action, context, weights=weights)
    return jnp.sum(response * worth) + weights.temperature * jnp.sum(entr(response + _RARE))


def pool_leader_utility(
    action: jax.Array,
    response: jax.Array,
    context: PoolContext,
    *,
    weights: PoolWeights = DEFAULT_POOL,
) -> jax.Array:
    """The leader's utility, `[]`: the stake's right answers less the price of tokens.

    Args:
      action: `[2]`, (q, alpha); signals cost nothing.
      response: `[K]`, shares of the cells.
      context: the turn.
      weights: the payoffs' weights.

    Example:
      >>> one = jnp.array(1.0)
      >>> state = sj.agents.game.PoolState(jnp.array(0), 250 * one, one, one, 8 * one, 2 * one)
      >>> context = sj.agents.game.PoolContext(state, jnp.array([0.3, 0.8]), jnp.array([0.4, 0.9]))
      >>> signal, second = jnp.array([0.0, 0.9]), jnp.array([0.0, 1.0])
      >>> print(sj.agents.game.pool_leader_utility(signal, second, context))
      1.6
    """
    right = context.state.stake * jnp.sum(response * context.quality)
    return right - weights.price * tokens_used(action, response, context)


def tokens_used(action: jax.Array, response: jax.Array, context: PoolContext) -> jax.Array:
    """The expected tokens of a turn, `[]`, in units of `T_bar`: what the pool bounds on average.

    Args:
      action: `[2]`, not read.
      response: `[K]`, shares of the cells.
      context: the turn.

    Example:
      >>> pool = sj.fit.Average(sj.agents.game.tokens_used, at_most=0.7)  # constraint of fit_leader
      >>> pool.at_most
      0.7
    """
    return jnp.sum(response * context.tokens)


def priced_subsidy(
    price: jax.Array | float, stake: jax.Array | float = 1.0, *, cost: float = DEFAULT_POOL.cost
) -> jax.Array:
    """The closed rule `alpha* = 1 - mu / (stake w_C)`, cut to [0, 1].

    Args:
      price: `mu`, the shadow price of the pool, in right answers for `T_bar` tokens; any shape.
      stake: of the session; broadcasts against the price.
      cost: `w_C`, the executor's weight of cost.

    Raises:
      ValueError: a price is negative, or a stake or the cost not positive.

    Example:
      >>> print(sj.agents.game.priced_subsidy(jnp.array([0.0, 0.75, 4.0])))
      [1.   0.75 0.  ]
    """
    check_all_within("price", price, "[0, inf)")
    check_all_within("stake", stake, "(0, inf)")
    check_within("cost", cost, "(0, inf)")
    return jnp.clip(1.0 - jnp.asarray(price) / (jnp.asarray(stake) * cost), 0.0, 1.0)


def pool_game(
    follower: Callable[..., jax.Array] | None = None, *, weights: PoolWeights = DEFAULT_POOL
) -> Game:
    """Build the game of a common pool.

    Args:
      follower: the executor's utility `(action, response, context) -> []`; the one above by
        default.
      weights: the payoffs' weights; keep the default for a game that traces once.

    Returns:
      A game with the action (q, alpha) in [0, 1]^2 and the response in the simplex of K cells.

    Example:
      >>> game = sj.agents.game.pool_game()
      >>> print(game.action_set.upper, game.response_set.total)
      [1. 1.] 1.0
    """
    if weights == DEFAULT_POOL:
        leader, rational = pool_leader_utility, pool_follower_utility
    else:
        leader = functools.partial(pool_leader_utility, weights=weights)
        rational = functools.partial(pool_follower_utility, weights=weights)
    return Game(
        leader,
        rational if follower is None else follower,
        action_set=Box(jnp.zeros(2), jnp.ones(2)),
        response_set=Simplex(),
    )
