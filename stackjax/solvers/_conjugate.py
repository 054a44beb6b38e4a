"""Linear algebra with nothing but products `v -> H v`, `H` symmetric: for many unknowns.

All loops carry their flag in the state, computed in the body: see `newton/_search.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

Product = Callable[[jax.Array], jax.Array]
LinearSolve = Callable[[Product, jax.Array], jax.Array]
PROBES, RITZ_STEPS, MOST_STEPS = 4, 24, 2000


class _State(struct.PyTreeNode):
    x: jax.Array
    left: jax.Array  # b - H x
    ahead: jax.Array  # the next direction
    size: jax.Array  # of what is left, squared and in units of the preconditioner
    steps: jax.Array
    convex: jax.Array
    done: jax.Array


def descend(
    product: Product,
    b: jax.Array,
    scale: jax.Array,
    *,
    forcing: jax.Array | float,
    skip: jax.Array | bool = False,
) -> tuple[jax.Array, jax.Array]:
    """A step `x`, near `H^-1 b`, along which `b` grows: conjugate gradients with an early end.

    Where a direction bends down or not at all, the step goes along it by `1 / |curvature|` and
    ends there (Steihaug, SIAM Journal on Numerical Analysis 20, 1983, but without a radius).

    Args:
      product: `[d] -> [d]`.
      b: `[d]`.
      scale: `[d]` positive, the preconditioner's diagonal.
      forcing: the residual, relative to the first, at which to stop.
      skip: do nothing; for lanes of a batch that need no step.

    Returns:
      `[d]` the step; and whether no direction met bends down beyond rounding, a scalar bool.
    """
    end = _search(product, b, scale, forcing, skip, leap=True)
    return end.x, end.convex


def conjugate(
    product: Product,
    b: jax.Array,
    scale: jax.Array,
    *,
    forcing: float,
    most: int = MOST_STEPS,
    least: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """As `descend`, for an equation: where a direction does not bend upwards, `x` stays behind.

    There are at most `most` steps, and a curvature up to `least`, relative to `scale`, is none: by
    default, a few units of rounding.
    """
    end = _search(product, b, scale, forcing, False, leap=False, most=most, least=least)
    return end.x, end.convex


def solver(product: Product, scale: jax.Array, linear_solve: LinearSolve | None = None) -> Product:
    """`b -> H^-1 b` as far as rounding allows, to be differentiated in `b` only.

    It ends where a direction has no curvature or a negative one: the answer is finite anyway.
    A `linear_solve` of the user's takes its place.
    """

    def solve(product: Product, b: jax.Array) -> jax.Array:
        if linear_solve is not None:
            return solved_by(linear_solve, product, b)
        return conjugate(product, b, scale, forcing=float(jnp.finfo(b.dtype).eps))[0]

    return lambda b: lax.custom_linear_solve(product, b, solve, symmetric=True)


def solved_by(linear_solve: LinearSolve, product: Product, b: jax.Array) -> jax.Array:
    """The user's answer.

    Raises:
      ValueError: it has not the shape of `b`.
    """
    x = jnp.asarray(linear_solve(product, b))
    if x.shape != b.shape:
        raise ValueError(
            f"`linear_solve` must return one array of shape {b.shape}, that of `b`; got shape "
            f"{x.shape}."
        )
    return x.astype(b.dtype)


def _search(
    product: Product,
    b: jax.Array,
    scale: jax.Array,
    forcing: jax.Array | float,
    skip: jax.Array | bool,
    *,
    leap: bool,
    most: int = MOST_STEPS,
    least: float | None = None,
) -> _State:
    info = jnp.finfo(b.dtype)
    floor, tiny = 4 * float(info.eps) if least is None else least, float(info.tiny)
    # Squares of numbers in tiny or huge units are not numbers any more.
    unit, unit_b = jnp.max(scale), jnp.max(jnp.abs(b))
    unit, unit_b = (jnp.where((u > 0) & (u < jnp.inf), u, 1) for u in (unit, unit_b))
    # (reciprocals: XLA would turn a quotient of quotients into one of products, which underflow)
    inverse, scale, b = 1 / unit, scale * (1 / unit), b * (1 / unit_b)
    most = min(4 * len(b) + 10, most)

    def body(state: _State) -> _State:
        image = product(state.ahead) * inverse
        bend = jnp.sum(state.ahead * image)
        flat = floor * jnp.sum(state.ahead**2 * scale)
        curved = bend > flat
        length = state.size / jnp.maximum(jnp.maximum(jnp.abs(bend), flat), tiny)
        left = state.left - length * image
        size = jnp.sum(left**2 / scale)
        x = state.x + length * state.ahead
        valid = jnp.all(jnp.isfinite(x)) & jnp.isfinite(size)
        x = jnp.where(valid & (curved | leap), x, state.x)
        ahead = left / scale + size / jnp.maximum(state.size, tiny) * state.ahead
        return _State(
            x=x,
            left=left,
            ahead=ahead,
            size=size,
            steps=state.steps + 1,
            convex=state.convex & valid & (bend >= -flat),
            done=~valid | ~curved | (size <= goal) | (size <= 0),
        )

    size = jnp.sum(b**2 / scale)
    goal = size * forcing**2
    state = _State(
        x=jnp.zeros_like(b),
        left=b,
        ahead=b / scale,
        size=size,
        steps=jnp.zeros((), jnp.int32),
        convex=jnp.ones((), bool),
        done=~(jnp.isfinite(size) & (size > 0)) | skip,
    )
    end = lax.while_loop(lambda s: ~s.done & (s.steps < most), body, state)
    return end.replace(x=end.x * (unit_b / unit))


def signs(count: int, like: jax.Array) -> jax.Array:
    """`[count, d]` of random +-1, always the same."""
    return jax.random.rademacher(jax.random.key(0), (count, len(like)), like.dtype)


def row_sizes(product: Product, like: jax.Array) -> jax.Array:
    """`[d]` estimates of the norms of the rows of `H`; exact where `H` is diagonal.

    With random signs `z` the mean of `(H z)_i^2` is the sum of the squares of row `i`.
    """
    images = jax.vmap(product)(signs(PROBES, like))
    largest = jnp.max(jnp.abs(images), axis=0)
    unit = jnp.where(largest > 0, largest, 1)
    return largest * jnp.sqrt(jnp.mean((images / unit[None]) ** 2, axis=0))


def least_ritz(product: Product, start: jax.Array, clean: Product = lambda v: v) -> jax.Array:
    """An estimate, from above, of the least eigenvalue of `H`, at most 1.

    A few steps of Lanczos' method from `start`, whose invariant subspace decides what is seen;
    1 if that is 0. `clean` keeps rounding from leading out of it.
    """
    steps = min(RITZ_STEPS, len(start))
    info = jnp.finfo(start.dtype)

    def unit(v: jax.Array, least: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        length, v = jnp.sqrt(jnp.sum(v**2)), clean(v)
        size = jnp.sqrt(jnp.sum(v**2))
        exists = (length > least) & (size > float(info.tiny) ** 0.5)
        return jnp.where(exists, v / jnp.where(exists, size, 1), 0), jnp.where(exists, length, 0)

    def step(carry: tuple, _: None) -> tuple[tuple, tuple[jax.Array, jax.Array]]:
        before, now, coupling, largest = carry
        image = product(now)
        along = jnp.sum(image * now)
        largest = jnp.maximum(largest, jnp.sqrt(jnp.sum(image**2)))
        # Less than this is rounding: the subspace is exhausted.
        least = 100 * float(info.eps) * largest
        after, length = unit(image - along * now - coupling * before, least)
        return (now, after, length, largest), (jnp.where(jnp.any(now != 0), along, 1), length)

    zero = jnp.zeros((), start.dtype)
    first = (jnp.zeros_like(start), unit(start, 0.0)[0], zero, zero)
    _, (diagonal, beside) = lax.scan(step, first, length=steps)
    sound = jnp.all(jnp.isfinite(diagonal)) & jnp.all(jnp.isfinite(beside))
    diagonal, beside = jnp.where(sound, diagonal, 0), jnp.where(sound, beside, 0)
    return jnp.minimum(_least_eigenvalue(diagonal, beside[:-1]), 1)


def _least_eigenvalue(diagonal: jax.Array, beside: jax.Array) -> jax.Array:
    """Of a symmetric tridiagonal matrix, `[n]` and `[n - 1]`, by bisection on the signs of pivots.

    A batch shares every operation, unlike LAPACK's; and unlike `eigh_tridiagonal`, the loop
    compares no floats in its condition.
    """
    info, none = jnp.finfo(diagonal.dtype), jnp.zeros(1, diagonal.dtype)
    squares = jnp.concatenate([none, beside**2])
    reach = jnp.concatenate([none, jnp.abs(beside)]) + jnp.concatenate([jnp.abs(beside), none])

    def below(x: jax.Array) -> jax.Array:
        """Whether x is below all eigenvalues: every pivot of the matrix less x is positive."""

        def pivot(last: jax.Array, row: tuple) -> tuple[jax.Array, jax.Array]:
            safe = jnp.where(jnp.abs(last) > info.tiny, last, info.tiny)
            now = row[0] - x - row[1] / safe
            return now, now > 0

        one = jnp.ones((), diagonal.dtype)
        return jnp.all(lax.scan(pivot, one, (diagonal, squares), unroll=True)[1])

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) / 2
        under = below(middle)
        return jnp.where(under, middle, low), jnp.where(under, high, middle)

    ends = jnp.min(diagonal - reach), jnp.min(diagonal)
    low, high = lax.fori_loop(0, info.nmant + 3, halve, ends)
    return (low + high) / 2
