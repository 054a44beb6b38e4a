"""A follower who errs: the quantal (logit) response, and the best commitment against it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_all_within, check_count, check_shape
from stackjax.finite._checks import (
    as_floats,
    check_distribution,
    check_prior,
    check_utilities,
    check_utility,
)


class QuantalSolution(struct.PyTreeNode):
    """The leader's best commitment against a quantal follower, and how far to trust it.

    Attributes:
      strategy: `[A]`, the probabilities of the leader's actions.
      response: `[R]`, or `[T, R]` with follower types, the probabilities of the responses.
      leader_utility: scalar, the leader's expected utility.
      follower_utility: scalar, or `[T]`, the follower's expected utility, by type.
      residual: scalar, `max |P(x + g) - x|` at the strategy x, with P the projection onto the
        simplex and g the gradient of the leader's utility, in units of the range of the leader's
        utilities; zero where x is stationary.
      converged: scalar bool, whether `residual` is at most the tolerance. If False, `strategy` is
        the best point found and derivatives are finite but not those of an optimum.

    Example:
      >>> games = jnp.array([[2.0, 4.0], [1.0, 3.0]])
      >>> found = sj.finite.solve_quantal(
      ...     games, jnp.eye(2), rationality=1.0, key=jax.random.key(0), starts=4, steps=20
      ... )
      >>> print(found.response.shape, found.leader_utility.shape, bool(found.residual < 1e-3))
      (2,) () True
    """

    strategy: jax.Array
    response: jax.Array
    leader_utility: jax.Array
    follower_utility: jax.Array
    residual: jax.Array
    converged: jax.Array


def quantal_response(leader_strategy: Any, follower: Any, *, rationality: Any) -> jax.Array:
    """The logit response to a mixed strategy: `softmax_r(rationality * sum_a x_a follower[a, r])`.

    `[R]`, or `[T, R]` with types. Unbatched, pure JAX, differentiable in every argument. Tends to
    the best response as `rationality` grows, and to the uniform distribution as it falls to zero.

    Args:
      leader_strategy: x, `[A]`, the probabilities of the leader's actions.
      follower: the follower's utilities, `[A, R]`, or `[T, A, R]` with T types.
      rationality: > 0, in units of one over the follower's utility; a scalar, or `[T]`.

    Raises:
      TypeError: an argument does not hold real numbers.
      ValueError: shapes do not fit; and, outside of transforms, an entry is not finite,
        `leader_strategy` is not a distribution or `rationality` is not positive.

    Source: McKelvey and Palfrey, Quantal response equilibria for normal form games, 1995.

    Example:
      >>> first = jnp.array([1.0, 0.0])
      >>> likely = sj.finite.quantal_response(first, jnp.eye(2), rationality=jnp.log(3.0))
      >>> print([f"{p:.2f}" for p in likely])
      ['0.75', '0.25']
    """
    x = as_floats("leader_strategy", leader_strategy)
    follower = as_floats("follower", follower)
    check_utility("follower", follower)
    _check_strategy("leader_strategy", x, follower)
    return _respond(x, follower, _rationality(rationality, follower))


def solve_quantal(
    leader: Any,
    follower: Any,
    *,
    rationality: Any,
    key: jax.Array,
    prior: Any = None,
    strategy: Any = None,
    starts: int = 64,
    steps: int = 50,
    tolerance: float | None = None,
) -> QuantalSolution:
    """The leader's best commitment against a quantal follower.

        max_x sum_t prior_t sum_r s_tr(x) sum_a x_a leader[t, a, r],    s = quantal_response(x)

    over the simplex. The problem is not concave: the best of `starts` local solutions, from
    points drawn uniformly from the simplex, is returned, and nothing certifies that it is global.
    A nearly rational follower (rationality in the hundreds over the range of its utility) leaves
    plateaus that random points can miss: there pass strong_stackelberg's strategy as `strategy`.
    Each climb is L-BFGS on the sphere, x_a = z_a^2 / |z|^2, whose second-order stationary points
    are those of the simplex, its faces included, with a search over 22 step sizes at once; Newton
    steps on the support finish the best one.

    Unbatched: `jax.vmap` over games. Where converged, first derivatives of the strategy and the
    utilities in `leader`, `follower`, `rationality` and `prior` are those of the local solution,
    by the implicit function theorem on its support. Where the solution is not locally unique, the
    strategy's derivative is the one of least norm. Second derivatives are not to be trusted.

    Args:
      leader: the leader's utilities, `[A, R]`, or `[T, A, R]` with T follower types.
      follower: the follower's utilities, of the same shape.
      rationality: > 0, in units of one over the follower's utility; a scalar, or `[T]`.
      key: a `jax.random.key` for the starting points.
      prior: the probabilities of the types, `[T]`; None without types.
      strategy: one more starting point, `[A]`, if any.
      starts: how many random starting points.
      steps: iterations of L-BFGS from each.
      tolerance: on the residual; by default the square root of the dtype's precision.

    Returns:
      The `QuantalSolution`; non-convergence is reported there, not raised.

    Raises:
      TypeError: an argument does not hold real numbers, or `starts` or `steps` is not an integer.
      ValueError: shapes differ or are empty; `starts` or `steps` is below 1; and,
        outside of transforms, an entry is not finite, `rationality` or `tolerance` is not
        positive, or `prior` or `strategy` is not a distribution.

    Source: Yang, Kiekintveld, Ordonez, Tambe and John, Improving resource allocation strategy
    against human adversaries in security games, IJCAI 2011; Li, McKenzie and Yin, From the simplex
    to the sphere, 2021 (the parametrisation).

    Example:
      >>> leader = jnp.array([[2.0, 4.0], [1.0, 3.0]])
      >>> found = sj.finite.solve_quantal(
      ...     leader, jnp.eye(2), rationality=1.0, key=jax.random.key(0), starts=4, steps=20
      ... )
      >>> print(found.strategy, found.converged)
      [1. 0.] True
    """
    leader, follower = as_floats("leader", leader), as_floats("follower", follower)
    check_utilities(leader, follower)
    prior = None if prior is None else as_floats("prior", prior)
    check_prior(prior, leader)
    rationality = _rationality(rationality, follower)
    check_count("starts", starts)
    check_count("steps", steps)
    dtype = jnp.result_type(leader, follower)
    tolerance = float(jnp.finfo(dtype).eps) ** 0.5 if tolerance is None else tolerance
    check_all_within("tolerance", tolerance, "(0, inf)")
    if strategy is not None:
        strategy = as_floats("strategy", strategy).astype(dtype)
        _check_strategy("strategy", strategy, leader)
    game = (leader, follower, rationality, prior)
    game = jax.tree.map(lambda x: x.astype(dtype), game)
    return _solve(game, key, strategy, jnp.asarray(tolerance, dtype), starts, steps)


def _check_strategy(name: str, x: jax.Array, utility: jax.Array) -> None:
    check_shape(name, x, utility.shape[-2:-1], ", one probability an action")
    check_distribution(name, x)


def _rationality(rationality: Any, follower: jax.Array) -> jax.Array:
    rationality = as_floats("rationality", rationality)
    if rationality.ndim and rationality.shape != follower.shape[:-2]:
        raise ValueError(
            f"`rationality` must be a scalar{', or [T] with types' * (follower.ndim == 3)}; got "
            f"shape {rationality.shape} with `follower` of shape {follower.shape}."
        )
    check_all_within("rationality", rationality, "(0, inf)")
    return rationality


def _respond(x: jax.Array, follower: jax.Array, rationality: jax.Array) -> jax.Array:
    expected = jnp.einsum("a,...ar->...r", x, follower)
    return jax.nn.softmax(jnp.expand_dims(rationality, range(rationality.ndim, expected.ndim))
                          * expected)  # fmt: skip


def _leader_utility(x: jax.Array, game: Any) -> jax.Array:
    leader, follower, rationality, prior = game
    by_type = jnp.einsum("a,...ar,...r->...", x, leader, _respond(x, follower, rationality))
    return by_type if prior is None else jnp.dot(prior, by_type)


@partial(jax.jit, static_argnums=(4, 5))
def _solve(
    game: Any,
    key: jax.Array,
    strategy: jax.Array | None,
    tolerance: jax.Array,
    starts: int,
    steps: int,
) -> QuantalSolution:
    leader, follower, rationality, _ = game
    low, high = (jax.lax.stop_gradient(f(leader)) for f in (jnp.min, jnp.max))
    span = jnp.where(high > low, high - low, 1)
    scaled = ((leader - low) / span, *game[1:])  # no choice changes, nor the size of a gradient
    fixed = jax.lax.stop_gradient(scaled)

    size = leader.shape[-2]
    first = jax.random.exponential(key, (starts, size), leader.dtype)
    first = first / jnp.sum(first, axis=1, keepdims=True)  # uniform on the simplex
    if strategy is not None:
        first = jnp.concatenate([first, jax.lax.stop_gradient(strategy)[None]])
    first = 0.999 * first + 0.001 / size  # on a face, the sphere's gradient is zero across it
    points = jax.vmap(lambda x: _climb(x, fixed, steps))(first)
    x = points[jnp.argmax(jax.vmap(lambda x: _leader_utility(x, fixed))(points))]
    x = jax.lax.stop_gradient(jax.lax.fori_loop(0, 3, lambda _, x: _polish(x, fixed), x))
    # The value is x; the derivative is the implicit one, from the gradient's.
    slope = jax.grad(_leader_utility)(x, scaled)
    x = x + _newton(x, fixed) @ (slope - jax.lax.stop_gradient(slope))

    response = _respond(x, follower, rationality)
    residual = jax.lax.stop_gradient(_residual(x, fixed))
    return QuantalSolution(
        x,
        response,
        _leader_utility(x, game),
        jnp.einsum("a,...ar,...r->...", x, follower, response),
        residual,
        residual <= tolerance,
    )


def _climb(x: jax.Array, game: Any, steps: int) -> jax.Array:
    """A local maximum by L-BFGS on the sphere, from `x`; never worse than `x`."""
    on_simplex = lambda z: z**2 / jnp.sum(z**2)
    loss = lambda z: -_leader_utility(on_simplex(z), game)
    optimiser = optax.scale_by_lbfgs()
    sizes = 2.0 ** -jnp.arange(-2, 20, dtype=x.dtype)

    def step(carry: Any, _: None) -> tuple[Any, None]:
        z, state = carry
        value, gradient = jax.value_and_grad(loss)(z)
        update, state = optimiser.update(gradient, state, z)
        update = jnp.asarray(update)
        update = jnp.where(jnp.dot(update, gradient) > 0, update, gradient)
        # All step sizes at once: quicker to compile, and under vmap, than a search in a loop.
        tried = z[None] - jnp.outer(sizes, update)
        values = jax.vmap(loss)(tried)
        best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
        return (jnp.where(values[best] < value, tried[best], z), state), None

    z = jnp.sqrt(x)
    (z, _), _ = jax.lax.scan(step, (z, optimiser.init(z)), length=steps)
    return on_simplex(z)


def _residual(x: jax.Array, game: Any) -> jax.Array:
    return jnp.max(jnp.abs(_ascend(x, game) - x))


def _ascend(x: jax.Array, game: Any) -> jax.Array:
    return optax.projections.projection_simplex(x + jax.grad(_leader_utility)(x, game))


def _newton(x: jax.Array, game: Any) -> jax.Array:
    """`[A, A]`, from a gradient to Newton's step along the face that holds `x`."""
    free = (_ascend(x, game) > 0).astype(x.dtype)
    onto = jnp.diag(free) - jnp.outer(free, free) / jnp.sum(free)
    hessian = onto @ jax.hessian(_leader_utility)(x, game) @ onto
    return -jnp.linalg.pinv((hessian + hessian.T) / 2, hermitian=True)


def _polish(x: jax.Array, game: Any) -> jax.Array:
    """One Newton step from `x`, if it brings `x` closer to stationary and costs no utility."""
    ascended = _ascend(x, game)
    on_face = jnp.where(ascended > 0, x, 0)
    on_face = on_face / jnp.sum(on_face)
    moved = on_face + _newton(x, game) @ jax.grad(_leader_utility)(on_face, game)
    moved = optax.projections.projection_simplex(moved)
    closer = _residual(moved, game) < jnp.max(jnp.abs(ascended - x))
    least = _leader_utility(x, game) - 16 * jnp.finfo(x.dtype).eps  # utilities are in [0, 1]
    return jnp.where(closer & (_leader_utility(moved, game) >= least), moved, x)
