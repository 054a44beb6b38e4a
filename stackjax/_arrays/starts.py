"""Starting points."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import Vector


def spread(count: int, start: Vector, lower: Vector, upper: Vector, rotation: Vector) -> jax.Array:
    """`[count, n]` starting points: the given one, and a quasi-random sequence around it.

    Uniform between two finite bounds; elsewhere normal around the start at four scales, 0.3 to 10
    times `1 + |start|`, mirrored at a bound. (R-sequence: Roberts 2018, a Kronecker recurrence on
    powers of a generalised golden ratio.)

    Args:
      count: how many.
      start: `[n]`.
      lower: `[n]`.
      upper: `[n]`.
      rotation: `[n]` in [0, 1), see `shift`.
    """
    n = len(start)
    golden = 2.0
    for _ in range(30):
        golden = (1 + golden) ** (1 / (n + 1))
    step = jnp.asarray([golden ** -(j + 1) % 1 for j in range(n)], start.dtype)
    order = jnp.arange(count, dtype=start.dtype)[:, None]
    uniform = jnp.clip((0.5 + rotation[None] + order * step[None]) % 1, 1e-3, 1 - 1e-3)
    scale = jnp.asarray([0.3, 1.0, 3.0, 10.0], start.dtype)[jnp.arange(count) % 4][:, None]
    low, high = jnp.where(jnp.isfinite(lower), lower, 0), jnp.where(jnp.isfinite(upper), upper, 0)
    start = jnp.clip(jnp.where(jnp.isfinite(start), start, 0), lower, upper)
    normal = start[None] + scale * (1 + jnp.abs(start[None])) * jax.scipy.special.ndtri(uniform)
    normal = jnp.where(jnp.isfinite(lower)[None], low[None] + jnp.abs(normal - low[None]), normal)
    normal = jnp.where(jnp.isfinite(upper)[None], high[None] - jnp.abs(high[None] - normal), normal)
    boxed = (jnp.isfinite(lower) & jnp.isfinite(upper))[None]
    drawn = jnp.where(boxed, low[None] + uniform * (high - low)[None], normal)
    return jnp.where(order == 0, start[None], drawn).astype(start.dtype)


def shift(key: jax.Array | None, like: Vector) -> Vector:
    """`[n]` by which a key rotates the sequence; zero without one."""
    if key is None:
        return jnp.zeros_like(like)
    return jax.random.uniform(key, like.shape, like.dtype)
