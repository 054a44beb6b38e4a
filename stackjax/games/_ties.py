"""Followers with several best responses."""

import jax
import jax.numpy as jnp

from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_positive, uniform
from stackjax.sets import Box
from stackjax.solvers._settings import Complementarity


def posted_price() -> ClosedFormGame:
    """A take-it-or-leave-it price: at the best one, the buyer does not care.

    Action: the price p >= 0; response: the quantity q in [0, 1]; context: the buyer's value v > 0;
    all scalars. `U_F = q (v - p)`, `U_L = p q`: the buyer takes 1 below its value and 0 above.
    At p = v any q is a best response, and the leader's favourite, q = 1, gives it v. A buyer who
    refuses at p = v leaves no best price, only prices just below v: the supremum is v as well.
    (At Nash: p = v, q = 0.) Contexts are drawn from U[1, 5].

    Source: the ultimatum game; Guth, Schmittberger and Schwarze, Journal of Economic Behavior and
    Organization 3, 1982.

    Example:
      >>> offer = sj.games.posted_price()
      >>> print(*offer.equilibrium(jnp.array(3.0)), offer.ties)
      3.0 1.0 True
    """

    def best_response(p: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.where(p <= v, 1.0, 0.0).astype(p.dtype)

    return ClosedFormGame(
        Game(
            lambda p, q, v: p * q,
            lambda p, q, v: q * (v - p),
            action_set=Box(lower=0.0),
            response_set=Box(0.0, 1.0),
        ),
        jnp.array(1.0),
        jnp.array(0.5),
        lambda v: (v, jnp.ones_like(v)),
        best_response,
        lambda p, v: jnp.zeros_like(p),
        lambda key, n: uniform(key, (n,), 1.0, 5.0),
        nash=lambda v: (v, jnp.zeros_like(v)),
        solver=Complementarity(),
        starts=4,
        kinked=True,
        ties=True,
        pessimistic=lambda v: v,
    )


def favour(*, worth: float = 1.0) -> ClosedFormGame:
    """Piece work, and a favour that costs the follower nothing.

    Action: the pay a unit, p >= 0, a scalar; response: the effort and the favour, `[2]`, >= 0, the
    favour <= 1; context: the leader's value v > 0 of a unit. `U_F = p effort - effort^2 / 2`,
    `U_L = (v - p) effort + worth * favour`. Effort is p, so p = v / 2; the follower does not mind
    the favour, whatever the pay. Done, it leaves the leader `v^2 / 4 + worth`; refused, `v^2 / 4`.
    (At Nash, nothing is paid.) Contexts are drawn from U[1, 3].

    Args:
      worth: of the favour to the leader, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `worth` is not positive.

    Source: an exercise; on the two conventions see Dempe, Foundations of Bilevel Programming, 2002,
    Chapter 3.

    Example:
      >>> job = sj.games.favour()
      >>> pay, answer = job.equilibrium(jnp.array(2.0))
      >>> print(pay, answer, job.pessimistic(jnp.array(2.0)))  # the favour done, and refused
      1.0 [1. 1.] 1.0
    """
    check_positive(worth=worth)

    def best_response(p: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.stack([p, jnp.ones_like(p)])

    def with_pay(p: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        return p, best_response(p, v)

    return ClosedFormGame(
        Game(
            lambda p, r, v: (v - p) * r[0] + worth * r[1],
            lambda p, r, v: p * r[0] - r[0] ** 2 / 2,
            action_set=Box(lower=0.0),
            response_set=Box(0.0, jnp.array([jnp.inf, 1.0])),
        ),
        jnp.array(1.0),
        jnp.array([0.5, 0.5]),
        lambda v: with_pay(v / 2, v),
        best_response,
        lambda p, v: jnp.array([1.0, 0.0], p.dtype),
        lambda key, n: uniform(key, (n,), 1.0, 3.0),
        nash=lambda v: with_pay(jnp.zeros_like(v), v),
        solver=Complementarity(),
        starts=4,
        ties=True,
        pessimistic=lambda v: v**2 / 4,
    )
