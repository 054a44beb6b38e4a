"""What a finite game may be, for host arrays and for JAX's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape, concrete
from stackjax._arrays.typing import Array


def check_utilities(leader: Array, follower: Array) -> None:
    """Raises ValueError unless both are finite and `[A, R]`, or `[T, A, R]`, of one shape."""
    for name, utility in (("leader", leader), ("follower", follower)):
        check_utility(name, utility)
    if leader.shape != follower.shape:
        raise ValueError(
            "`leader` and `follower` must have one shape, [A, R] or [T, A, R]; got "
            f"{leader.shape} and {follower.shape}."
        )


def check_utility(name: str, utility: Array) -> None:
    """Raises ValueError unless `utility` is finite, not empty, and `[A, R]` or `[T, A, R]`."""
    if utility.ndim not in (2, 3):
        raise ValueError(
            f"`{name}` must be [A, R], or [T, A, R] with T follower types; got shape "
            f"{utility.shape}."
        )
    if 0 in utility.shape:
        raise ValueError(
            f"`{name}` must have at least one action and one response; got shape {utility.shape}."
        )
    check_all_within(name, utility, "(-inf, inf)")


def check_prior(prior: Array | None, leader: Array) -> None:
    """Raises ValueError unless `prior` is a distribution over the types of `leader`, if any."""
    if leader.ndim == 2:
        if prior is not None:
            raise ValueError(
                "`prior` must come with utilities by type, [T, A, R]; got `leader` of shape "
                f"{leader.shape}. Omit `prior` for one follower."
            )
        return
    if prior is None:
        raise ValueError(
            f"`prior`, [T], must be given with `leader` of shape {leader.shape}, [T, A, R]; got "
            "None. A batch of games is a loop over them, or jax.vmap where it applies."
        )
    check_shape("prior", prior, leader.shape[:1], ", one probability a type")
    check_distribution("prior", prior)


def check_distribution(name: str, p: Array) -> None:
    """Raises ValueError unless `p` is a distribution to 1e-5, where the host can read it."""
    check_all_within(name, p, "(-inf, inf)")
    if not concrete(p):
        return
    p = np.asarray(p, np.float64)
    if p.min() < -1e-5:
        raise ValueError(f"`{name}` must not be negative; its least entry is {p.min():.6g}.")
    if abs(p.sum() - 1) > 1e-5:
        raise ValueError(f"`{name}` must sum to one; it sums to {p.sum():.6g}.")


def as_floats(name: str, value: Any) -> jax.Array:
    """A JAX array, at least float32. Raises TypeError unless it holds real numbers."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating) and not jnp.issubdtype(
        value.dtype, jnp.integer
    ):
        raise TypeError(f"`{name}` must hold real numbers; got dtype {value.dtype}.")
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))
