"""A follower who splits a budget."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, best_of, check_positive, uniform
from stackjax.sets import Simplex
from stackjax.solvers._settings import Complementarity


def bonuses(*, tasks: int = 3, spread: float = 1.0, cost: float = 1.0) -> ClosedFormGame:
    """A follower splits its time between tasks; the leader pays bonuses (or fines) to steer it.

        U_F = sum(r (reward + a)) - spread |r|^2 / 2   on the simplex,
        U_L = sum(gain r) - cost |a|^2 / 2

    Action a and response r: `[tasks]`; context: a dict of `reward` and `gain`, `[tasks]` each. The
    follower's answer is the projection of `y = (reward + a) / spread` onto the simplex,
    `r = max(y - z, 0)`.

    A task is done, is just not done (`y = z`), or is not. Within each of the 3^tasks - 2^tasks
    patterns the leader's problem is a concave quadratic in r and z, with the solution: a = 0 where
    a task is not done; `spread z = mean of reward over the others - spread / their number`; and
    `r` there is `reward / spread - z + (gain - nu) / (cost spread^2)`, with nu such that shares
    sum to 1. The best pattern's is the equilibrium; with a task just not done, it is on a kink.
    (At Nash, the leader pays nothing.) Contexts: reward, gain ~ U[0, 1.5].

    Args:
      tasks: how many; the work grows as 3^tasks.
      spread: the follower's taste for variety, > 0.
      cost: of bonuses, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `tasks` is not between 2 and 6; `spread` or `cost` is not positive.

    Source: an exercise in parametric quadratic programming; for the projection, Held, Wolfe and
    Crowder, Mathematical Programming 6, 1974.

    Example:
      >>> wage = {"reward": jnp.array([1.0, 0.5]), "gain": jnp.array([0.0, 1.0])}
      >>> print(sj.games.bonuses(tasks=2).best_response(jnp.array([0.0, 0.5]), wage))
      [0.5 0.5]
    """
    check_positive(spread=spread, cost=cost)
    if not 2 <= tasks <= 6:
        raise ValueError(f"`tasks` must be between 2 and 6; got {tasks}.")
    # 0: not done, 1: just not done, 2: done.
    patterns = np.asarray([p for p in itertools.product(range(3), repeat=tasks) if 2 in p])

    def leader_utility(a: jax.Array, r: jax.Array, x: PyTree) -> jax.Array:
        return x["gain"] @ r - cost * jnp.sum(a**2) / 2

    def follower_utility(a: jax.Array, r: jax.Array, x: PyTree) -> jax.Array:
        return r @ (x["reward"] + a) - spread * jnp.sum(r**2) / 2

    def best_response(a: jax.Array, x: PyTree) -> jax.Array:
        return Simplex().project((x["reward"] + a) / spread)

    def sensitivity(a: jax.Array, x: PyTree) -> jax.Array:
        done = (best_response(a, x) > 0).astype(a.dtype)
        return (jnp.diag(done) - jnp.outer(done, done) / jnp.sum(done)) / spread

    def solve(pattern: jax.Array, x: PyTree) -> jax.Array:
        done, paid = pattern == 2, pattern >= 1
        y = x["reward"] / spread
        z = (jnp.sum(jnp.where(paid, y, 0)) - 1) / jnp.sum(paid)
        r = y - z + x["gain"] / (cost * spread**2)
        excess = (jnp.sum(jnp.where(done, r, 0)) - 1) / jnp.sum(done)
        r = jnp.where(done, r - excess, 0)
        return jnp.where(paid, spread * (r + z - y), 0)

    def equilibrium(x: PyTree) -> tuple[jax.Array, jax.Array]:
        candidates = jax.vmap(lambda pattern: solve(pattern, x))(jnp.asarray(patterns))
        a = best_of(candidates, lambda a: leader_utility(a, best_response(a, x), x))
        return a, best_response(a, x)

    def nash(x: PyTree) -> tuple[jax.Array, jax.Array]:
        a = jnp.zeros_like(x["reward"])
        return a, best_response(a, x)

    def contexts(key: jax.Array, n: int) -> PyTree:
        first, second = jax.random.split(key)
        draw = lambda key: uniform(key, (n, tasks), 0.0, 1.5)
        return {"reward": draw(first), "gain": draw(second)}

    return ClosedFormGame(
        Game(leader_utility, follower_utility, response_set=Simplex()),
        jnp.zeros(tasks),
        jnp.full(tasks, 1 / tasks),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
        solver=Complementarity(),
        starts=8,
        kinked=True,
    )
