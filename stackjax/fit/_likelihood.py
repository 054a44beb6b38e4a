"""The estimators' objectives: what each says of a module on some rows."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jax.scipy.stats import norm

from stackjax._arrays.arguments import check_all_within
from stackjax._arrays.finite import finite, shield
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import respond
from stackjax._follower.arguments import follower_settings
from stackjax._follower.vectors import like
from stackjax._game import Game, evaluate
from stackjax.fit._estimators import BehaviourCloning, Estimator, GaussianResponse, GibbsResponse
from stackjax.fit._observations import Rows
from stackjax.fit._options import Objective, Score
from stackjax.fit._rows import mean_of
from stackjax.sets import Box, FeasibleSet
from stackjax.solvers._solver import Solver

Outcome = tuple[jax.Array, jax.Array, PyTree]


class Noisy(struct.PyTreeNode):
    """What is trained: the module, and the logarithm of its noise if that is learned."""

    module: PyTree
    log_noise: PyTree = None

    @property
    def noise(self) -> PyTree:
        """Standard deviations like one response, or the temperature; None if not learned."""
        return jax.tree.map(jnp.exp, plain(self.log_noise))


def plain(tree: PyTree) -> PyTree:
    """`tree` with arrays in place of `nnx.Variable`s."""
    return jax.tree.map(lambda leaf: leaf[...] if _held(leaf) else leaf, tree, is_leaf=_held)


def _held(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def objective_of(
    estimator: Estimator,
    module: PyTree,
    rows: Rows,
    response_set: FeasibleSet | None,
    solver: Solver | None,
) -> tuple[Objective, PyTree]:
    """The estimator's objective, and the logarithm of its noise to begin with (None: no noise).

    Raises:
      TypeError: an option does not belong to the estimator, or not to the response set.
      ValueError: the module's response or the grid is not like the recorded responses.
    """
    if isinstance(estimator, GibbsResponse | BehaviourCloning):
        for name, value in (("response_set", response_set), ("solver", solver)):
            if value is not None:
                raise TypeError(
                    f"`{name}` must be None with {type(estimator).__name__}, which solves no best "
                    f"response; got {value!r}."
                )
    response = jax.tree.map(lambda y: y[0], rows.response)
    if isinstance(estimator, BehaviourCloning):
        _check_clone(module, rows, response)
        return _Cloning(), None
    if isinstance(estimator, GibbsResponse):
        grid = _checked_grid(estimator.grid, response)
        fixed = estimator.temperature
        start = jnp.zeros((), jax.tree.leaves(response)[0].dtype)
        return _Gibbs(grid, fixed), _learned(start, module) if fixed is None else None
    feasible = Game(unused, unused, response_set=response_set).response_set
    settings = follower_settings(solver, feasible, "solver", response)
    if not isinstance(estimator, GaussianResponse):
        return _Regression(feasible, settings), None
    if estimator.censored and not isinstance(feasible, Box):
        raise TypeError(
            "`response_set` must be a Box with censored responses; got a "
            f"{type(feasible).__name__}."
        )
    if estimator.censored and feasible.open_sides == (True, True):
        raise ValueError("`response_set` must have a bound with censored responses; got none.")
    start = None if estimator.std is not None else _learned(_log_spread(rows), module)
    return _Gaussian(feasible, settings, estimator.std, estimator.censored), start


class _Regression(struct.PyTreeNode):
    """Minus the squared error of the best response."""

    response_set: FeasibleSet
    settings: Solver = struct.field(pytree_node=False)

    def __call__(self, module: Noisy, rows: Rows, starts: PyTree, key: jax.Array) -> Score:
        def one(row: Rows, start: PyTree) -> Outcome:
            modelled = Game(unused, module.module, response_set=self.response_set)
            value, found = respond(modelled, row.action, row.context, start, self.settings)
            utility = -_squared_error(value, row)
            return utility, (found.converged > 0) & jnp.isfinite(utility), value

        return mean_of(one, rows, starts, rows.weight)


class _Gaussian(struct.PyTreeNode):
    """The log-likelihood of the responses around the best one."""

    response_set: FeasibleSet
    settings: Solver = struct.field(pytree_node=False)
    std: float | None = struct.field(pytree_node=False)
    censored: bool = struct.field(pytree_node=False)

    def __call__(self, module: Noisy, rows: Rows, starts: PyTree, key: jax.Array) -> Score:
        noise = module.noise

        def one(row: Rows, start: PyTree) -> Outcome:
            modelled = Game(unused, module.module, response_set=self.response_set)
            value, found = respond(modelled, row.action, row.context, start, self.settings)
            fixed = jax.tree.map(lambda y: jnp.ones_like(y) * (self.std or 1.0), value)
            std = fixed if noise is None else noise
            lower, upper = self.response_set.bounds(value)
            seen = row.recorded
            terms = jax.tree.map(self._term, row.response, seen, value, std, lower, upper)
            utility = jnp.sum(jnp.stack(jax.tree.leaves(terms)))
            return utility, (found.converged > 0) & jnp.isfinite(utility), value

        return mean_of(one, rows, starts, rows.weight)

    def _term(
        self,
        response: jax.Array,
        seen: jax.Array,
        value: jax.Array,
        std: jax.Array,
        lower: jax.Array,
        upper: jax.Array,
    ) -> jax.Array:
        wide = lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32))  # the tails need it
        response, value, std = wide(response), wide(value), wide(std)
        likelihood = norm.logpdf(response, value, std)
        if self.censored:
            below, above = response <= lower, response >= upper
            # an infinite bound must not reach the gradient of the branch that is not taken
            low, high = jnp.where(below, lower, value), jnp.where(above, upper, value)
            likelihood = jnp.where(above, norm.logcdf((value - high) / std), likelihood)
            likelihood = jnp.where(below, norm.logcdf((low - value) / std), likelihood)
        return jnp.sum(jnp.where(seen, likelihood, 0))


class _Gibbs(struct.PyTreeNode):
    """The log-likelihood of the recorded points among those of the grid."""

    grid: PyTree
    temperature: float | None = struct.field(pytree_node=False)

    def __call__(self, module: Noisy, rows: Rows, starts: PyTree, key: jax.Array) -> Score:
        temperature = module.noise if self.temperature is None else self.temperature
        grid = self.grid

        def one(row: Rows, start: PyTree) -> Outcome:
            utility = lambda g: evaluate(module.module, "module", row.action, g, row.context)
            values = jax.vmap(utility)(grid)
            # -inf / T has no derivative in T
            there = jnp.isfinite(values)
            values = jnp.where(there, jnp.where(there, values, 0) / temperature, -jnp.inf)
            chosen = nearest(grid, row)
            sound = jnp.any(chosen & jnp.isfinite(values))
            # a row that no point explains must not send 0 x NaN back
            values = jnp.where(sound, values, 0)
            of_chosen = jax.nn.logsumexp(values, where=chosen)
            likelihood = of_chosen - jax.nn.logsumexp(values)
            return likelihood, sound, start

        return mean_of(one, rows, starts, rows.weight)


class _Cloning(struct.PyTreeNode):
    """Minus the squared error of a module that answers directly."""

    def __call__(self, module: Noisy, rows: Rows, starts: PyTree, key: jax.Array) -> Score:
        def one(row: Rows, start: PyTree) -> Outcome:
            clone = module.module
            sound = finite(jax.lax.stop_gradient(clone(row.action, row.context)))
            value = shield(clone, sound)(row.action, row.context)
            utility = -_squared_error(like(value, row.response), row)
            return utility, sound & jnp.isfinite(utility), start

        return mean_of(one, rows, starts, rows.weight)


def nearest(grid: PyTree, row: Rows) -> jax.Array:
    """`[K]` bool: the points nearest to a row's response in the numbers that were recorded."""

    def apart(points: jax.Array, y: jax.Array, seen: jax.Array) -> jax.Array:
        off = jnp.where(seen[None], points - y[None], 0)
        return jnp.sum(off.reshape(len(points), -1) ** 2, axis=1)

    parts = jax.tree.map(apart, grid, row.response, row.recorded)
    distance = jnp.sqrt(jnp.sum(jnp.stack(jax.tree.leaves(parts)), axis=0))
    slack = jnp.finfo(distance.dtype).eps ** 0.5 * (1 + jnp.max(distance))
    return distance <= jnp.min(distance) + slack


def _squared_error(value: PyTree, row: Rows) -> jax.Array:
    apart = jax.tree.map(jnp.subtract, value, row.response)
    if row.seen is not None:
        apart = jax.tree.map(lambda off, seen: jnp.where(seen, off, 0), apart, row.seen)
    errors = jax.tree.map(lambda off: jnp.sum(off**2), apart)
    return jnp.sum(jnp.stack(jax.tree.leaves(errors)))


def _learned(start: PyTree, module: PyTree) -> PyTree:
    # in a pytree with `nnx.Variable`s only these are trained
    held = any(map(_held, jax.tree.leaves(module, is_leaf=_held)))
    return jax.tree.map(nnx.Param, start) if held else start


def _log_spread(rows: Rows) -> PyTree:
    """Logarithm of the recorded responses' standard deviation, like one response."""

    def spread(y: jax.Array, seen: jax.Array) -> jax.Array:
        shape = [len(y), *[1] * (y.ndim - 1)]
        weight = jnp.ones(shape) if rows.weight is None else rows.weight.reshape(shape)
        weight = jnp.where(seen, weight.astype(y.dtype), 0)
        whole = jnp.sum(weight, axis=0)
        weight = weight / jnp.where(whole > 0, whole, 1)[None]
        mean = jnp.sum(weight * y, axis=0)
        variance = jnp.sum(weight * (y - mean[None]) ** 2, axis=0)
        floor = jnp.finfo(y.dtype).eps * (1 + mean**2)
        return jax.lax.stop_gradient(0.5 * jnp.log(jnp.maximum(variance, floor)))

    return jax.tree.map(spread, rows.response, rows.recorded)


def _checked_grid(grid: Any, response: PyTree) -> PyTree:
    grid = jax.tree.map(jnp.asarray, grid)
    wanted, given = (jax.tree.structure(tree) for tree in (response, grid))
    if wanted != given:
        raise ValueError(
            f"`estimator.grid` must have the structure of a response, {wanted}; got {given}."
        )
    sizes = {leaf.shape[:1] for leaf in jax.tree.leaves(grid)}
    shapes = [leaf.shape[1:] for leaf in jax.tree.leaves(grid)]
    expected = [leaf.shape for leaf in jax.tree.leaves(response)]
    if len(sizes) != 1 or () in sizes or min(sizes)[0] < 2 or shapes != expected:
        raise ValueError(
            "`estimator.grid` must hold at least 2 responses along one leading axis, of shapes "
            f"{expected}; got {[leaf.shape for leaf in jax.tree.leaves(grid)]}."
        )
    for leaf in jax.tree.leaves(grid):
        check_all_within("estimator.grid", leaf, "(-inf, inf)")
    return like(grid, response)


def _check_clone(module: Any, rows: Rows, response: PyTree) -> None:
    if not callable(module):
        return  # the fit says so
    first = jax.tree.map(lambda leaf: leaf[0], (rows.action, rows.context))
    given = jax.eval_shape(lambda pair: module(*pair), first)
    shapes = lambda tree: jax.tree.map(jnp.shape, tree)
    if jax.tree.structure(given) != jax.tree.structure(response) or shapes(given) != shapes(
        response
    ):
        raise ValueError(
            "`module` must return a response like the recorded ones with BehaviourCloning: shapes "
            f"{shapes(response)}; it returned {shapes(given)}."
        )


def unused(action: PyTree, response: PyTree, context: PyTree) -> jax.Array:
    raise AssertionError("a follower's fit asks for no utility but that of the module it fits")
