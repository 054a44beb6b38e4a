"""Noise with mean 0, in mirrored pairs, and the likelihood ratio of a shift of it.

The answer to a perturbed slope, `F(c) = E y*(c + sigma Z)`, is smooth though `y*` jumps: the slope
moves the density of `c + sigma Z` and not what is answered to it. With draws `Z_m` at `c_0`,

    F(c) = E[ y*(c_0 + sigma Z) p(Z - o) / p(Z) ],      o = (c - c_0) / sigma,

whose derivatives at `c = c_0`, of any order, are the score-function estimators; the first is
`(1/sigma) E[y* (-grad log p(Z))']`, for Gaussian noise `(1/sigma) E[y* Z']`. The ratio has mean 1
for all `o`, so a constant may be subtracted from `y*`, which takes most of the variance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NOISES = ("gaussian", "gumbel")


def draws(kind: str, key: jax.Array, samples: int, size: int, dtype: Any) -> jax.Array:
    """`[samples, size]` independent numbers of mean 0; the second half mirrors the first.

    Gaussian ones have standard deviation 1, Gumbel ones scale 1.
    """
    shape = samples // 2, size
    if kind == "gaussian":
        z = jax.random.normal(key, shape, dtype)
        return jnp.concatenate([z, -z])
    tiny = float(jnp.finfo(dtype).tiny)
    u = jax.random.uniform(key, shape, dtype, minval=tiny)
    # log(1 - u) without the rounding of 1 - u
    both = jnp.concatenate([-jnp.log(u), jnp.maximum(-jnp.log1p(-u), tiny)])
    return -jnp.log(both) - float(np.euler_gamma)


def own_key(key: jax.Array, slope: jax.Array) -> jax.Array:
    """A key that depends on every bit of a slope `[d]`: another slope has independent draws."""
    words = jnp.ravel(lax.bitcast_convert_type(slope, jnp.uint32))
    odd = jax.random.bits(key, words.shape, jnp.uint32) | jnp.uint32(1)
    return jax.random.fold_in(key, jnp.sum(words * odd, dtype=jnp.uint32))  # modulo 2^32


def log_ratio(kind: str, z: jax.Array, offset: jax.Array) -> jax.Array:
    """`log p(z - offset) - log p(z)` of one draw `z [d]`, a scalar."""
    if kind == "gaussian":
        return jnp.sum(z * offset - offset**2 / 2)
    return jnp.sum(offset - jnp.exp(-z - float(np.euler_gamma)) * jnp.expm1(offset))
