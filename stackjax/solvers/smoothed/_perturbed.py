"""The mean answer to noisy slopes: a smooth answer of a follower whose utility is linear."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from stackjax._arrays.arguments import (
    check_choice,
    check_count,
    check_key,
    check_number,
    check_type,
    check_within,
    concrete,
    shown,
)
from stackjax._arrays.finite import shield
from stackjax.sets import FeasibleSet
from stackjax.solvers._solver import Maximum, Problem, Quality, Solver
from stackjax.solvers.smoothed._linear import is_best, is_feasible, is_linear
from stackjax.solvers.smoothed._noise import NOISES, draws, log_ratio, own_key


@dataclasses.dataclass(frozen=True, eq=False)
class Perturbed(Solver):
    """The answer of a follower with a linear utility, averaged over noise in the utility's slope.

    A linear utility `<c, r>` is largest at a vertex `y*(c)`, which jumps: its derivative is zero
    almost everywhere, and a leader cannot learn through it. This solver answers with

        F(c) = E y*(c + sigma Z),

    as the mean over `samples` draws, half of them mirrored, the same at every call with the same
    key. Its derivatives, of any order, are those of F, estimated from the same draws by the score
    function, `(1/sigma) E[(y*(c + sigma Z) - y*(c)) Z']`. They are unbiased for F, and not the
    derivatives of the mean over these draws, which is piecewise constant: train with `fit_leader`
    or any stochastic gradient method. `solve` and other searches for a point where a derivative is
    exactly zero need `Regularised`.

    Bias: F is no best response. It costs the follower `<c, y*(c) - F(c)>`, at least 0 and at most
    `sigma E max_r <Z, r>`, which is

    - on a simplex of k shares of a total T, `T sigma sqrt(2 log k)` with Gaussian noise and
      `T sigma log k` with Gumbel noise, where `F(c) = T softmax(c / sigma)`, the entropic follower;
    - in a box, `0.399 sigma sum(upper - lower)`, and 0.492 with Gumbel noise;
    - in a ball in R^d, `sigma radius sqrt(d)`, with Gaussian noise;
    - with N vertices, at most R from some point, `sigma R sqrt(2 log N)`, with Gaussian noise.

    `Response.converged` means that the value is this mean: the utility is linear (its gradient is
    the same at the start, at the answer and at the farthest vertex drawn), all numbers are finite,
    and an `oracle` answered with feasible points that are best for their slopes, among the points
    drawn. `residual` is the standard error of the mean, relative to the range of the answers drawn.
    Multipliers are zero: a mean of maximisers has none.

    Args:
      sigma: scale of the noise, positive, in the units of the slope, the utility per unit of
        response. For a traced scale divide the utility by it: only the ratio counts.
      key: of the draws, from `jax.random.key`; not traced.
      samples: number of draws, even. Each is one call of the oracle. The estimated Jacobian has at
        most half that rank.
      common: True, all followers have the same draws (common random numbers). False, each has its
        own, from the key and the bits of its slope: those of a batch, and of different steps of a
        training, are then independent, and a few samples are enough for a stochastic gradient.
      noise: "gaussian", or "gumbel" (shifted to mean 0).
      oracle: `[d] -> [d]`, from a slope to a feasible response, as vectors in the order of
        `jax.flatten_util.ravel_pytree`, that maximises `<slope, r>`: a dynamic program, a
        matching, or `vertices[jnp.argmax(vertices @ slope)]`. It is traced and batched by JAX, and
        must not close over traced values. If None, the closed form of a Box, a Simplex or a Ball,
        whose bounds, total, center and radius are differentiated too.

    Raises:
      TypeError: `sigma` is not a Python number, `samples` not an integer, `common` not a bool,
        `key` not a key or traced, or `oracle` not callable.
      ValueError: `sigma` is not positive and finite, `samples` is odd or below 2, or `noise` is
        none of the two.

    Source: Berthet et al., 'Learning with differentiable perturbed optimizers', NeurIPS 2020.

    Example:
      >>> game = sj.Game(  # a bonus for the second of two options, of which one is chosen
      ...     lambda bonus, r, worth: r[1] * (2 - bonus),
      ...     lambda bonus, r, worth: worth @ r + bonus * r[1],
      ...     response_set=sj.Simplex(),
      ... )
      >>> def chosen(bonus, solver):
      ...     worth, start = jnp.array([1.0, 0.0]), jnp.full(2, 0.5)
      ...     return sj.best_response(game, bonus, worth, response=start, solver=solver).value[1]
      >>> noisy = sj.solvers.Perturbed(0.5, key=jax.random.key(0), samples=4000)
      >>> print(chosen(0.5, None), jax.grad(chosen)(0.5, None) == 0)
      0.0 True
      >>> print(f"{chosen(0.5, noisy):.1f} {jax.grad(chosen)(0.5, noisy):.1f}")  # 0.240, 0.439
      0.2 0.4
    """

    smoothed: ClassVar[bool] = True

    sigma: float
    _: dataclasses.KW_ONLY
    key: jax.Array
    samples: int = 200
    common: bool = True
    noise: str = "gaussian"
    oracle: Callable[[jax.Array], jax.Array] | None = None
    _same: tuple = dataclasses.field(default=(), init=False, repr=False)  # a key has no hash

    def __post_init__(self) -> None:
        check_number("sigma", self.sigma, owner="Perturbed: ")
        check_within("sigma", self.sigma, "(0, inf)", owner="Perturbed: ")
        check_count("samples", self.samples, least=2)
        if self.samples % 2:
            raise ValueError(f"`samples` must be even, pairs of draws; got {self.samples}.")
        check_type("common", self.common, bool, "True or False")
        check_choice("noise", self.noise, NOISES)
        if not concrete(self.key):
            raise TypeError(
                "`key` must be known when the solver is made: make Perturbed(...) outside of "
                f"jax.jit and jax.vmap; got {shown(self.key)}."
            )
        check_key(self.key)
        if self.oracle is not None and not callable(self.oracle):
            raise TypeError(
                f"`oracle` must be a function from a slope to a response, or None; got "
                f"{shown(self.oracle)}."
            )
        seed = np.asarray(jax.random.key_data(self.key)).tobytes()
        kind = self.samples, self.common, self.noise
        same = self.sigma, *kind, self.oracle, seed, str(self.key.dtype)
        object.__setattr__(self, "_same", same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._same == other._same

    def __hash__(self) -> int:
        return hash(self._same)

    def refuses(self, feasible: FeasibleSet) -> str | None:
        """An unbounded box; without an oracle a set without a closed form of the maximiser.

        The interior-point method takes tens of milliseconds for each draw over a polyhedron of 40
        coordinates, and does not prove each answer in float32: too slow and too uncertain.
        """
        if feasible.only_bounds and any(feasible.open_sides):
            return "Perturbed needs a bounded response set; this Box has an open side."
        if self.oracle is not None or feasible.has_support:
            return None
        return (
            "Perturbed needs a Box, a Simplex or a Ball for the response set, or an `oracle`; for "
            f"a {type(feasible).__name__} give oracle=lambda slope: ..., such as a dynamic program "
            "or the best of known vertices, or use stackjax.solvers.Regularised(...)."
        )

    def maximise(self, problem: Problem, start: jax.Array) -> Maximum:
        """As `Solver.maximise`, the mean over the draws.

        Raises:
          ValueError: the problem has no `support` and the solver no oracle; the oracle's answer is
            not shaped as the slope.
        """
        start = lax.stop_gradient(start)
        best = self._oracle(problem)
        utility, theta = jax.closure_convert(problem.utility, start)
        slope = lax.stop_gradient(jax.grad(utility)(start, *theta))
        key = self.key if self.common else own_key(self.key, slope)
        noise = draws(self.noise, key, self.samples, len(start), start.dtype)
        noisy = slope[None] + self.sigma * noise
        point, points = best(slope), jax.vmap(best)(noisy)
        finite = jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(points))
        finite = finite & jnp.all(jnp.isfinite(point))
        point, points = jnp.where(finite, point, start), jnp.where(finite, points, start[None])
        # Zero, with the derivative of the slope.
        offset = (jax.grad(utility)(start, *shield(theta, finite)) - slope) / self.sigma
        offset = jnp.where(finite, offset, 0)
        ratio = jnp.exp(jax.vmap(lambda z: log_ratio(self.noise, z, offset))(noise))
        value = point + jnp.mean(ratio[:, None] * (points - point[None]), axis=0)

        number, drawn = lax.stop_gradient((value, points))
        away = jnp.sum(jnp.abs(drawn - start[None]), -1)
        seen = jnp.stack([number, drawn[jnp.argmax(away)]])
        sound = is_linear(lambda y: utility(y, *lax.stop_gradient(theta)), slope, seen)
        if self.oracle is not None:
            here, drawn_here = (
                lax.stop_gradient(point)[None],
                jnp.concatenate([drawn, number[None]]),
            )
            sound &= is_best(noisy, drawn, jnp.broadcast_to(here, drawn.shape))
            sound &= is_best(slope[None], here, drawn_here) & is_feasible(problem, number)
        equality, inequality = jax.eval_shape(problem.constraints, start)
        nothing = jnp.zeros(len(start), bool)
        quality = Quality(
            residual=jnp.where(finite, _standard_error(drawn), jnp.inf),
            steps=jnp.full((), self.samples, start.dtype),
            converged=(sound & finite).astype(start.dtype),
            degeneracy=jnp.full((), jnp.inf, start.dtype),
            curvature=finite.astype(start.dtype),  # F is the gradient of a strictly convex function
        )
        return Maximum(
            value,
            jnp.zeros(equality.shape, start.dtype),
            jnp.zeros(inequality.shape, start.dtype),
            nothing,
            nothing,
            quality,
        )

    def _oracle(self, problem: Problem) -> Callable[[jax.Array], jax.Array]:
        if self.oracle is None:
            if problem.support is None:
                raise ValueError("`problem` has no `support`; Perturbed then needs an `oracle`.")
            return problem.support
        given = self.oracle

        def oracle(slope: jax.Array) -> jax.Array:
            found = jnp.asarray(given(slope))
            if found.shape != slope.shape:
                raise ValueError(
                    f"`oracle` must return an array shaped as the slope, {slope.shape}; got "
                    f"{found.shape}."
                )
            return found.astype(slope.dtype)

        return oracle


def _standard_error(points: jax.Array) -> jax.Array:
    """Of the mean of mirrored pairs, the largest, relative to the largest range of a coordinate."""
    count = len(points) // 2
    pairs = (points[:count] + points[count:]) / 2
    error = jnp.sqrt(
        jnp.sum((pairs - jnp.mean(pairs, 0)[None]) ** 2, 0) / max(count - 1, 1) / count
    )
    reach = jnp.max(jnp.max(points, 0) - jnp.min(points, 0))
    return jnp.where(reach > 0, jnp.max(error) / jnp.where(reach > 0, reach, 1), 0)
