"""A follower's utility, to be learned, that is concave in the response by construction.

It reads actions, responses and contexts of any structure, flattened to vectors `a`, `r` and `x`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import check_count, check_number, check_type, check_within
from stackjax._arrays.typing import PyTree
from stackjax.fit._observations import Observations


def _rising(x: jax.Array) -> jax.Array:
    """`(x + sqrt(x^2 + 4)) / 2`: a smooth hinge like softplus, positive, increasing and convex.

    Softplus has a derivative rule of its own in JAX, which costs seconds of compilation within a
    best response.

    Source: Barron, Squareplus, arXiv 2112.11687, 2021.
    """
    return (x + jnp.sqrt(x * x + 4)) / 2


_Sizes = tuple[int, int, int]  # of action, response and context


class _Layer(nnx.Module):
    """One layer: convex in the response `r`, of any shape in the condition `u`.

    z' = h(W+ (z * h(gate(u))) + R (r * (1 + scale(u))) + shift(u)),    W+ >= 0

    with h smooth, positive, increasing and convex.
    """

    def __init__(self, z: int, r: int, u: int, width: int, *, last: bool, rngs: nnx.Rngs) -> None:
        linear = lambda i, o: nnx.Linear(i, o, rngs=rngs)
        self.last = last
        self.scale, self.shift = linear(u, r), linear(u, width)
        self.response = nnx.Linear(r, width, use_bias=False, rngs=rngs)
        self.gate = linear(u, z) if z else None
        self.mix = nnx.Param(jax.random.normal(rngs.params(), (width, z))) if z else None

    def __call__(self, z: jax.Array, r: jax.Array, u: jax.Array) -> jax.Array:
        into = self.response(r * (1 + self.scale(u))) + self.shift(u)
        if self.gate is not None and self.mix is not None:
            # positive weights add up: their mean keeps the size of what they mix
            into = into + _rising(self.mix[...]) @ (z * _rising(self.gate(u)) / len(z))
        return into if self.last else _rising(into)


class ConcaveUtility(nnx.Module):
    """A follower's utility that is strongly concave in the response, whatever is learned.

        U(a, r, x) = -f(r; a, x) - 1/2 sum_i h_i (r_i - b_i(a, x))^2,    h_i >= floor

    `f` is a partially input-convex network: convex in r, because what is convex passes through
    non-negative weights and convex, increasing activations only; of any shape in the action and
    the context, which enter through paths without such limits. Activations are smooth, as Newton's
    method wants. So a best response exists, is one, and moves continuously with the signal, at
    most by `|d grad_r U / d action| / concavity_bound` a unit.

    Args:
      action_size: numbers in one action.
      response_size: numbers in one response.
      context_size: numbers in one context; 0 for None.
      hidden: width of the layers.
      layers: layers of each path, at least 1.
      floor: the least concavity. Too large, and responses cannot move much: they move by
        the slopes over the concavity.
      rngs: initialisation.

    Raises:
      TypeError: a size is not an integer, or `floor` not a number.
      ValueError: a size is too small, or `floor` is not positive.

    Source: Amos, Xu and Kolter, Input Convex Neural Networks, ICML 2017, eq. (3).

    Example:
      >>> utility = sj.fit.ConcaveUtility(1, 2, 0, hidden=8, rngs=nnx.Rngs(0))
      >>> value = lambda r: utility(jnp.ones(1), jnp.array(r), None)
      >>> bool(value([0.0, 0.0]) > (value([-1.0, 2.0]) + value([1.0, -2.0])) / 2)
      True
    """

    def __init__(
        self,
        action_size: int,
        response_size: int,
        context_size: int,
        *,
        hidden: int = 32,
        layers: int = 2,
        floor: float = 0.1,
        rngs: nnx.Rngs,
    ) -> None:
        self.sizes = _checked(action_size, response_size, context_size, hidden, layers)
        check_number("floor", floor)
        check_within("floor", floor, "(0, inf]")
        self.floor = float(floor)
        r = response_size
        paths = [action_size + context_size, *[hidden] * (layers - 1)]
        self.conditions = nnx.List([nnx.Linear(i, hidden, rngs=rngs) for i in paths[:-1]])
        self.convex = nnx.List(
            [
                _Layer(hidden if k else 0, r, u, hidden, last=False, rngs=rngs)
                for k, u in enumerate(paths)
            ]
        )
        self.out = _Layer(hidden, r, paths[-1], 1, last=True, rngs=rngs)
        self.target = nnx.Linear(paths[-1], r, rngs=rngs)
        self.bend = nnx.Param(jnp.zeros(r))

    @property
    def bends(self) -> jax.Array:
        """`h: [r]`, all at least `floor`."""
        return self.floor + jnp.exp(self.bend[...])

    @property
    def concavity_bound(self) -> jax.Array:
        """`mu > 0` with `-Hessian_r U >= mu I` for every action, response and context, `[]`."""
        return jnp.min(self.bends)

    def __call__(self, action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
        """Utility `[]`."""
        r, u = _vectors(self.sizes, action, response, context)
        z = self.convex[0](jnp.zeros(0, r.dtype), r, u)
        for onward, layer in zip(self.conditions, list(self.convex)[1:]):
            u = _rising(onward(u))
            z = layer(z, r, u)
        bowl = jnp.sum(self.bends * (r - self.target(u)) ** 2)
        return -self.out(z, r, u)[0] - 0.5 * bowl


class Standardised(struct.PyTreeNode):
    """A utility that reads actions, responses and contexts in units of about one.

    Each number is shifted by its mean and divided by its standard deviation over some observations
    before the utility reads it; a number that does not vary is only shifted. The best response is
    that of the utility as it reads numbers, in their own units. Only `utility` is trained.

    For networks. The parameters of a utility with a meaning, a price elasticity say, would get
    other values: give it columns in suitable units instead.

    Attributes:
      utility: what is learned, `(action, response, context) -> scalar` of standardised numbers.
      centre: means, `(action, response, context)`.
      unit: standard deviations, likewise.

    Example:
      >>> price, bought = jnp.linspace(100.0, 900.0, 9), jnp.linspace(0.09, 0.01, 9)
      >>> seen = sj.Observations(jnp.zeros(9), price, bought)
      >>> network = sj.fit.ConcaveUtility(1, 1, 1, rngs=nnx.Rngs(0))
      >>> utility = sj.fit.standardised(network, seen)
      >>> print(utility.centre[0], utility.unit[0].round(1))
      500.0 258.2
      >>> value = utility(price[0], bought[0], 0.0)  # as the network at -1.55, 1.55 and 0
    """

    utility: Any
    centre: PyTree
    unit: PyTree

    def __call__(self, action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
        """Utility `[]`."""
        play = (action, response, context)
        known = lax.stop_gradient((self.centre, self.unit))
        return self.utility(*jax.tree.map(_scaled, play, *known))

    @property
    def concavity_bound(self) -> jax.Array:
        """As the utility's, for responses in their own units, `[]`.

        Raises:
          AttributeError: the utility has none.
        """
        widest = jnp.max(jnp.stack([jnp.max(x) for x in jax.tree.leaves(self.unit[1])]))
        return self.utility.concavity_bound / widest**2


def standardised(utility: Any, observations: Observations) -> Standardised:
    """Gives a utility to be learned inputs in units of about one.

    Args:
      utility: a callable pytree, `(action, response, context) -> scalar`, such as `ConcaveUtility`.
      observations: N rows, over which means and standard deviations are taken, responses that are
        missing (NaN) left out. Numbers that are not floating point stay as they are.

    Raises:
      TypeError: `utility` is not callable, or `observations` are none.

    Example:
      >>> seen = sj.Observations(jnp.zeros((9, 2)), jnp.linspace(0, 80.0, 9), jnp.ones(9))
      >>> found = sj.fit.standardised(lambda action, response, context: action, seen)
      >>> float(found(jnp.array(40.0), 1.0, jnp.zeros(2)))
      0.0
    """
    check_type("utility", utility, Callable, "callable")
    check_type("observations", observations, Observations, "Observations")
    play = (observations.action, observations.response, observations.context)
    centre = jax.tree.map(lambda x: _over_rows(jnp.nanmean, x, 0.0), play)
    unit = jax.tree.map(lambda x: _over_rows(jnp.nanstd, x, 1.0), play)
    unit = jax.tree.map(lambda x: jnp.where((x > 0) & jnp.isfinite(x), x, 1), unit)
    return Standardised(utility, centre, unit)


def _over_rows(
    statistic: Callable[..., jax.Array], column: jax.Array, otherwise: float
) -> jax.Array:
    """Of the first axis; `otherwise` where the column has no floating-point numbers."""
    column = jnp.asarray(column)
    if not jnp.issubdtype(column.dtype, jnp.floating):
        return jnp.full(column.shape[1:], otherwise)
    found = statistic(column, axis=0)
    return jnp.where(jnp.isfinite(found), found, otherwise)


def _scaled(value: jax.Array, centre: jax.Array, unit: jax.Array) -> jax.Array:
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return (value - centre.astype(value.dtype)) / unit.astype(value.dtype)


class Concavity(struct.PyTreeNode):
    """What `probe_concavity` saw.

    Attributes:
      largest: `[N]` the largest eigenvalue of the Hessian in the response at each probe; NaN where
        the utility is not a number.
      share: `[]` of the probes at which the utility is not strictly concave: that eigenvalue is
        not below 0 by more than rounding, or not a number. 0 proves nothing beyond the probes.

    Example:
      >>> utility = lambda action, response, context: action * response**2
      >>> seen = sj.fit.probe_concavity(utility, jnp.array([-1.0, 2.0]), jnp.ones(2), None)
      >>> print(seen.largest, seen.share)
      [-2.  4.] 0.5
    """

    largest: jax.Array
    share: jax.Array


def probe_concavity(utility: Any, action: PyTree, response: PyTree, context: PyTree) -> Concavity:
    """Looks at the curvature of a follower's utility in the response, at N probes.

    Args:
      utility: `(action, response, context) -> scalar`.
      action: `[N, ...]` actions.
      response: `[N, ...]` responses: best ones, to see whether they are maxima, or any.
      context: `[N, ...]` contexts, or a pytree without arrays.

    Raises:
      TypeError: `utility` is not callable.

    Example:
      >>> utility = lambda action, response, context: action * response**2
      >>> seen = sj.fit.probe_concavity(utility, jnp.array([-1.0, 2.0]), jnp.ones(2), None)
      >>> float(seen.share)
      0.5
    """
    check_type("utility", utility, Callable, "callable")

    def largest(action: PyTree, response: PyTree, context: PyTree) -> tuple[jax.Array, jax.Array]:
        flat, unravel = ravel_pytree(response)
        curved = jax.hessian(lambda y: utility(action, unravel(y), context))(flat)
        finite = jnp.all(jnp.isfinite(curved))
        values = jnp.linalg.eigvalsh(jnp.where(finite, curved, 0))
        rounding = 8 * jnp.finfo(curved.dtype).eps * jnp.max(jnp.abs(values))
        value = jnp.where(finite, values[-1], jnp.nan)
        return value, value < -rounding

    value, below = jax.vmap(largest)(action, response, context)
    return Concavity(value, jnp.mean(~below, dtype=value.dtype))


def _checked(action: int, response: int, context: int, hidden: int, layers: int) -> _Sizes:
    for name, size in (("action_size", action), ("context_size", context)):
        check_count(name, size, least=0)
    for name, size in (("response_size", response), ("hidden", hidden), ("layers", layers)):
        check_count(name, size)
    if action + context == 0:
        raise ValueError("`action_size` or `context_size` must be positive; got 0 for both.")
    return action, response, context


def _vectors(
    sizes: _Sizes, action: PyTree, response: PyTree, context: PyTree
) -> tuple[jax.Array, jax.Array]:
    """The response, and action and context behind each other.

    Raises:
      ValueError: their sizes are not those that the utility was made for.
    """
    a, r, x = (ravel_pytree(tree)[0] for tree in (action, response, context))
    if (a.size, r.size, x.size) != sizes:
        raise ValueError(
            "The utility's sizes (action_size, response_size, context_size) must be "
            f"{sizes}, for which it was made; got {(a.size, r.size, x.size)}."
        )
    return r, jnp.concatenate([a, x]).astype(jnp.result_type(a, r, x))
