"""A defender and an attacker who spreads its effort."""

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_within
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_at_least, check_positive, uniform
from stackjax.sets import Simplex
from stackjax.solvers._settings import Complementarity


def security(*, targets: int = 3, resources: float = 0.5, spread: float = 1.0) -> ClosedFormGame:
    """A defender covers targets, an attacker splits its effort between them; zero-sum.

    Action: the coverage c >= 0 with `sum(c) = resources`; response: the effort e >= 0 with
    `sum(e) = 1`; context: the targets' values v > 0, `[targets]` each. The attacker's utility, and
    minus the defender's, is `sum(v (1 - c) e) - spread |e|^2 / 2`.

    The attacker's answer is the projection of `v (1 - c) / spread` onto the simplex. The defender
    wants the largest `v e` small, so with numbers L and M the effort is `e = M / v` where a target
    is covered, `(v - L) / spread` where it is attacked only, and 0 elsewhere, and
    `c = 1 - (L + spread M / v) / v` where it is covered. Covered and attacked are the most
    valuable targets; for each count of both, the two sums are linear equations in L and M, and one
    pair of counts is consistent. The equilibrium is the Nash equilibrium too, a saddle point.
    Contexts: v ~ U[1, 3].

    Args:
      targets: how many, at least 2.
      resources: the coverage to give out, in (0, 1].
      spread: the attacker's taste for variety, > 0.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `targets` is below 2, `resources` not in (0, 1], or `spread` not positive.

    Source: a smooth version of Kiekintveld et al., Computing optimal randomized resource
    allocations for massive security games, AAMAS 2009; the saddle point by von Neumann's theorem.

    Example:
      >>> patrol = sj.games.security(targets=2, resources=0.5)
      >>> effort = patrol.best_response(jnp.array([0.25, 0.25]), jnp.array([1.0, 1.0]))
      >>> print(effort)  # equal targets, equal coverage
      [0.5 0.5]
    """
    check_at_least(2, targets=targets)
    check_positive(spread=spread)
    check_within("resources", resources, "(0, 1]")
    counts = np.asarray([(m, p) for p in range(1, targets + 1) for m in range(1, p + 1)])

    def follower_utility(c: jax.Array, e: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sum(v * (1 - c) * e) - spread * jnp.sum(e**2) / 2

    def leader_utility(c: jax.Array, e: jax.Array, v: jax.Array) -> jax.Array:
        return -follower_utility(c, e, v)

    def best_response(c: jax.Array, v: jax.Array) -> jax.Array:
        return Simplex().project(v * (1 - c) / spread)

    def sensitivity(c: jax.Array, v: jax.Array) -> jax.Array:
        attacked = (best_response(c, v) > 0).astype(v.dtype)
        center = jnp.diag(attacked) - jnp.outer(attacked, attacked) / jnp.sum(attacked)
        return -center * v[None] / spread

    def equilibrium(v: jax.Array) -> tuple[jax.Array, jax.Array]:
        rank = jnp.argsort(jnp.argsort(-v))

        def try_counts(count: jax.Array) -> tuple[jax.Array, jax.Array]:
            covered = rank < count[0]
            other = (rank < count[1]) & ~covered
            total = lambda mask, x: jnp.sum(jnp.where(mask, x, 0))
            rows = jnp.array(
                [
                    [-total(other, 1.0) / spread, total(covered, 1 / v)],
                    [total(covered, 1 / v), spread * total(covered, 1 / v**2)],
                ]
            )
            sums = jnp.array([1 - total(other, v) / spread, count[0] - resources])
            L, M = jnp.linalg.solve(rows, sums)
            c = jnp.where(covered, 1 - (L + spread * M / v) / v, 0)
            e = jnp.where(covered, M / v, jnp.where(other, (v - L) / spread, 0))
            idle = jnp.where(covered | other, 0, v - L)
            wrong = jnp.stack([-c, -e, v * e - M, idle])
            return c, jnp.where(jnp.all(jnp.isfinite(wrong)), jnp.max(wrong), jnp.inf)

        tried, wrong = jax.vmap(try_counts)(jnp.asarray(counts))
        c = tried[jnp.argmin(wrong)]
        return c, best_response(c, v)

    return ClosedFormGame(
        Game(
            leader_utility,
            follower_utility,
            action_set=Simplex(resources),
            response_set=Simplex(),
        ),
        jnp.full(targets, resources / targets),
        jnp.full(targets, 1 / targets),
        equilibrium,
        best_response,
        sensitivity,
        lambda key, n: uniform(key, (n, targets), 1.0, 3.0),
        nash=equilibrium,
        solver=Complementarity(),
        starts=4,
    )
