"""The leader's ridge estimate, its inverse Gram matrix by rank-one updates, and its radius."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.arguments import check_count, check_shape, check_within
from stackjax.labels._arguments import check_dtype


class Ridge(struct.PyTreeNode):
    """Ridge regression of rewards on features, `d` of them, in a form that is cheap to update.

    With V = regularisation * I + sum w phi phi' over labelled alternatives (weights w), the
    estimate is V^-1 (regularisation * prior_mean + sum w phi reward).

    Attributes:
      theta: `[d]`, the estimate.
      inverse: `[d, d]`, V^-1.
      log_det: `[]`, log det(V) - d log(regularisation).
      gram: `[d, d]`, sum w phi phi' up to the last refresh.
      recent: `[d, d]`, the same since then. Two levels of summation lose far less in float32.
      moment: `[d]`, sum w phi (reward - phi' prior_mean) up to the last refresh.
      recent_moment: `[d]`, the same since then.
      prior_mean: `[d]`, the estimate without labels.
      regularisation: `[]`, > 0.

    Source: Hoerl and Kennard, Ridge regression, Technometrics 12(1), 1970.

    Example:
      >>> ridge = sj.labels.new_ridge(2)
      >>> ridge = sj.labels.label(ridge, jnp.eye(2), jnp.array([2.0, 4.0]))
      >>> print(ridge.theta, jnp.diag(ridge.inverse))  # half of what was seen
      [1. 2.] [0.5 0.5]
    """

    theta: jax.Array
    inverse: jax.Array
    log_det: jax.Array
    gram: jax.Array
    recent: jax.Array
    moment: jax.Array
    recent_moment: jax.Array
    prior_mean: jax.Array
    regularisation: jax.Array


def new_ridge(
    dim: int, *, regularisation: Any = 1.0, prior_mean: Any = None, dtype: Any = None
) -> Ridge:
    """The estimate before the first label.

    Args:
      dim: d, the number of features.
      regularisation: > 0, in units of squared features.
      prior_mean: `[d]`, what the estimate shrinks to; zero by default.
      dtype: floating point type; by default jax's.

    Raises:
      TypeError: `dim` is not an integer, or `regularisation` not a number.
      ValueError: one of them is not positive, `prior_mean` is not `[d]`, or `dtype` is not floating
        point of 32 or 64 bits.

    Example:
      >>> sj.labels.new_ridge(2, regularisation=4.0).inverse
      Array([[0.25, 0.  ],
             [0.  , 0.25]], dtype=float32)
    """
    check_count("dim", dim)
    check_within("regularisation", regularisation, "(0, inf)")
    dtype = jnp.zeros((), float if dtype is None else dtype).dtype
    check_dtype("dtype", dtype)
    mean = jnp.zeros(dim, dtype) if prior_mean is None else jnp.asarray(prior_mean, dtype)
    check_shape("prior_mean", mean, (dim,))
    level = jnp.asarray(regularisation, dtype)
    zeros = jnp.zeros((dim, dim), dtype)
    return Ridge(
        theta=mean,
        inverse=jnp.eye(dim, dtype=dtype) / level,
        log_det=jnp.zeros((), dtype),
        gram=zeros,
        recent=zeros,
        moment=jnp.zeros_like(mean),
        recent_moment=jnp.zeros_like(mean),
        prior_mean=mean,
        regularisation=level,
    )


def label(ridge: Ridge, features: jax.Array, rewards: jax.Array, weight: Any = 1.0) -> Ridge:
    """Adds the rewards of K alternatives, by K rank-one updates (Sherman and Morrison).

    For each alternative, with p = V^-1 phi and D = 1 + w phi'p,

        V^-1   <-  V^-1 - (w / D) p p'
        theta  <-  theta + (w / D) p (reward - phi'theta)
        log det(V)  <-  log det(V) + log(D)

    which is smooth in w, at w = 0 too: there nothing changes. V^-1 stays symmetric to the last
    bit. The order of the alternatives does not matter but for rounding. O(K d^2).

    Args:
      ridge: the estimate so far.
      features: Phi, `[K, d]`.
      rewards: `[K]`.
      weight: w >= 0, `[]`: a label counts as w labels.

    Raises:
      TypeError: the weight is not a number.
      ValueError: shapes do not fit, or the weight is negative.

    Source: Sherman and Morrison, Annals of Mathematical Statistics 21(1), 1950.

    Example:
      >>> seen = sj.labels.label(sj.labels.new_ridge(1), jnp.array([[1.0]]), jnp.array([3.0]))
      >>> float(seen.theta[0]), float(seen.inverse[0, 0])
      (1.5, 0.5)
    """
    check_shape("features", features, (None, ridge.theta.shape[0]))
    check_shape("rewards", rewards, jnp.shape(features)[:1])
    check_within("weight", weight, "[0, inf)")
    cast = lambda x: jnp.asarray(x, ridge.theta.dtype)
    features, rewards, weight = cast(features), cast(rewards), cast(weight)
    theta, inverse, log_det = ridge.theta, ridge.inverse, ridge.log_det
    # Unrolled, K being small: no K-by-K factorisation, which costs more than all of this.
    for phi, reward in zip(features, rewards):
        pull = inverse @ phi
        gain = 1 + weight * (phi @ pull)
        theta = theta + (weight * (reward - phi @ theta) / gain) * pull
        inverse = inverse - (weight / gain) * (pull[:, None] * pull[None, :])
        log_det = log_det + jnp.log(gain)
    surprise = rewards - features @ ridge.prior_mean
    return ridge.replace(
        theta=theta,
        inverse=inverse,
        log_det=log_det,
        recent=ridge.recent + weight * (features.T @ features),
        recent_moment=ridge.recent_moment + weight * (features.T @ surprise),
    )


def refresh(ridge: Ridge, forget: Any = 1.0) -> Ridge:
    """Computes V^-1, theta and log det(V) anew from V by Cholesky, and lets old labels fade.

    Rank-one updates of an inverse gather rounding errors, in float32 visibly so after a few
    thousand. A factorisation every few hundred labels removes them at little cost. It is not done
    inside of `label`: under `jax.vmap` a condition would factorise at every round.

    Args:
      ridge: the estimate.
      forget: in (0, 1], what the weight of all labels so far is multiplied by; the prior keeps
        its own. The discounted ridge of Russac, Vernade and Cappe (2019), with the discount
        applied at refreshes only.

    Returns:
      The same estimate, up to rounding, if `forget` is 1. Should the factorisation fail, the old
      numbers stay: where features are not finite, or where the largest eigenvalue of V over
      `regularisation` nears the reciprocal of the dtype's precision (10^7 in float32), beyond
      which neither these numbers nor those of `label` mean much. More regularisation helps, or
      features less their mean, or float64.

    Raises:
      TypeError: `forget` is not a number.
      ValueError: it is out of its range.

    Example:
      >>> seen = sj.labels.label(sj.labels.new_ridge(1), jnp.array([[1.0]]), jnp.array([3.0]))
      >>> round(float(sj.labels.refresh(seen, 0.5).theta[0]), 5)
      1.0
    """
    check_within("forget", forget, "(0, 1]")
    forget = jnp.asarray(forget, ridge.gram.dtype)
    gram = forget * (ridge.gram + ridge.recent)
    moment = forget * (ridge.moment + ridge.recent_moment)
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)
    factor = jnp.linalg.cholesky(gram / ridge.regularisation + eye)
    half = jax.lax.linalg.triangular_solve(factor, eye, left_side=True, lower=True)
    inverse = (half.T @ half) / ridge.regularisation
    fine = jnp.isfinite(inverse).all()
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    return ridge.replace(
        theta=jnp.where(fine, ridge.prior_mean + inverse @ moment, ridge.theta),
        inverse=jnp.where(fine, inverse, ridge.inverse),
        log_det=jnp.where(fine, log_det, ridge.log_det),
        gram=gram,
        recent=jnp.zeros_like(gram),
        moment=moment,
        recent_moment=jnp.zeros_like(moment),
    )


def confidence_radius(ridge: Ridge, *, noise: Any, norm: Any, confidence: Any) -> jax.Array:
    """Radius rho, `[]`, in units of rewards, of an ellipsoid that holds in all rounds at once.

        rho = noise * sqrt(log det(V) - d log(regularisation) + 2 log(1 / confidence))
              + sqrt(regularisation) * norm

    With probability at least 1 - `confidence`, `||theta - theta*||_V <= rho` after any number of
    labels, whichever rule asked for them, as long as it looked at past labels only. The K
    rewards of one label need jointly sub-Gaussian noise: E exp(u'e) <= exp(noise^2 |u|^2 / 2) for
    every u in R^K. Independent noise with that parameter will do. So will rewards that are 1 for
    one alternative and 0 for the others, with noise = 1 / sqrt(2): u'e lies in an interval of
    length max u - min u <= sqrt(2) |u|, and Hoeffding's lemma gives a variance proxy of |u|^2 / 2.
    Forgotten labels and a drifting theta* void the guarantee.

    Args:
      ridge: the estimate.
      noise: sub-Gaussian parameter of the rewards' noise, >= 0.
      norm: bound on `|theta* - prior_mean|`, >= 0.
      confidence: in (0, 1], the probability that the ellipsoid ever fails.

    Raises:
      TypeError: an argument is not a number.
      ValueError: one is out of its range.

    Source: Abbasi-Yadkori, Pal and Szepesvari, Improved algorithms for linear stochastic bandits,
    NeurIPS 2011, Theorem 2.

    Example:
      >>> ridge = sj.labels.new_ridge(3, regularisation=4.0)
      >>> sj.labels.confidence_radius(ridge, noise=0.0, norm=1.0, confidence=0.1)
      Array(2., dtype=float32)
    """
    check_within("noise", noise, "[0, inf)")
    check_within("norm", norm, "[0, inf)")
    check_within("confidence", confidence, "(0, 1]")
    root = _root(jnp.maximum(ridge.log_det, 0.0) - 2 * jnp.log(confidence))
    return noise * root + jnp.sqrt(ridge.regularisation) * norm


def parameter_error(ridge: Ridge, theta: jax.Array) -> jax.Array:
    """`||theta_hat - theta||_V`, `[]`: at most the radius, if the ellipsoid holds `theta: [d]`.

    Args:
      ridge: the estimate.
      theta: `[d]`, the parameters that it is compared with.

    Raises:
      ValueError: `theta` is not `[d]`.

    Example:
      >>> ridge = sj.labels.new_ridge(2, regularisation=4.0)
      >>> sj.labels.parameter_error(ridge, jnp.array([0.0, 3.0]))
      Array(6., dtype=float32)
    """
    check_shape("theta", theta, ridge.theta.shape)
    apart = ridge.theta - theta
    square = ridge.regularisation * (apart @ apart) + apart @ (ridge.gram + ridge.recent) @ apart
    return _root(jnp.maximum(square, 0.0))


def _root(square: jax.Array) -> jax.Array:
    """The square root, with a derivative of zero at zero."""
    return jnp.where(square == 0, 0.0, jnp.sqrt(jnp.where(square == 0, 1.0, square)))
