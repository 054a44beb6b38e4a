"""The strong Stackelberg equilibrium of a finite game, by linear programs on the host."""

from typing import Any

import numpy as np
from flax import struct

from stackjax._arrays.arguments import concrete
from stackjax.finite._checks import check_prior, check_utilities

# HiGHS's own default is 1e-7; utilities are scaled to a range of one before it is applied.
_FEASIBILITY = 1e-9


class FiniteSolution(struct.PyTreeNode):
    """The leader's commitment in a finite game and the answer to it. NumPy arrays, float64.

    Attributes:
      strategy: `[A]`, the probabilities of the leader's actions.
      response: int, `[]`, or `[T]` with follower types; the best response that serves the leader.
      leader_utility: `[]`, the leader's expected utility.
      follower_utility: `[]` or `[T]`, the follower's expected utility, by type.
      residual: `[]`, the most that a follower of any type would gain by another response, in the
        follower's units. Ties are equalities, so this is rounding: 1e-9 of the range of the
        follower's utilities at the most, commonly 1e-16.

    Example:
      >>> leader = np.array([[2.0, 4.0], [1.0, 3.0]])
      >>> found = sj.finite.strong_stackelberg(leader, np.eye(2))
      >>> print(found.strategy, found.response, found.leader_utility, found.follower_utility)
      [0.5 0.5] 1 3.5 0.5
    """

    strategy: np.ndarray
    response: np.ndarray
    leader_utility: np.ndarray
    follower_utility: np.ndarray
    residual: np.ndarray


def strong_stackelberg(leader: Any, follower: Any, *, prior: Any = None) -> FiniteSolution:
    """The strong Stackelberg equilibrium: the leader's best mixed commitment, ties in its favour.

        max_{x, r} sum_t prior_t sum_a x_a leader[t, a, r_t]
        such that  r_t in argmax_r sum_a x_a follower[t, a, r] for every type t

    One follower: one linear program for each response, exact (the multiple-LPs method). A
    response whose best entry for the leader cannot beat what was found is passed over.

    Several types: the leader knows only their probabilities, and the problem is NP-hard in T. One
    mixed-integer program chooses the responses, in DOBSS's variables x_a q_tr =: z_tar, without
    its large constant; a linear program then makes the commitment exact for them. The time can
    grow as R^T. The value is the optimum to 1e-6 of the range of the leader's utilities, the
    solver's absolute gap.

    Runs on the host, in float64 whatever JAX's setting. Not differentiable.

    Args:
      leader: the leader's utilities, `[A, R]`, or `[T, A, R]` with T follower types.
      follower: the follower's utilities, of the same shape.
      prior: the probabilities of the types, `[T]`; None without types.

    Raises:
      TypeError: called under `jax.jit`, `jax.vmap` or `jax.grad`.
      ValueError: shapes differ or are empty; an entry is not finite; `prior` is missing, does not
        sum to one or is negative.
      RuntimeError: the solver failed; its message is passed on.

    Source: Conitzer and Sandholm, EC 2006 (multiple LPs); Paruchuri et al., AAMAS 2008 (DOBSS);
    Casorran, Fortz, Labbe and Ordonez, EJOR 278(3), 2019 (the formulation used here).

    Example:
      >>> leader = np.array([[2.0, 4.0], [1.0, 3.0]])
      >>> found = sj.finite.strong_stackelberg(leader, np.eye(2))
      >>> print(found.strategy, found.leader_utility)  # Nash, the first row, gives 2
      [0.5 0.5] 3.5
      >>> types = np.stack([np.eye(2), np.eye(2)[::-1]])
      >>> found = sj.finite.strong_stackelberg(np.stack([leader, leader]), types, prior=[0.5, 0.5])
      >>> print(found.response.shape)
      (2,)
    """
    leader, follower, prior = _host(leader, follower, prior)
    check_utilities(leader, follower)
    check_prior(prior, leader)
    if prior is None:
        solution = _solve(leader[None], follower[None], np.ones(1))
        return solution.replace(
            response=np.asarray(solution.response[0]),
            follower_utility=np.asarray(solution.follower_utility[0]),
        )
    return _solve(leader, follower, np.maximum(prior, 0) / np.maximum(prior, 0).sum())


def _host(*arrays: Any) -> tuple[Any, ...]:
    if not concrete(arrays):
        raise TypeError(
            "`strong_stackelberg` is for the host (linear programs): call it outside of "
            "transformations. Under jax.jit, jax.vmap or jax.grad use finite.quantal_response or "
            "finite.solve_quantal."
        )
    leader, follower, prior = arrays
    as_float = lambda x: np.asarray(x, np.float64)
    return as_float(leader), as_float(follower), None if prior is None else as_float(prior)


def _solve(leader: np.ndarray, follower: np.ndarray, prior: np.ndarray) -> FiniteSolution:
    # Positive affine changes of the utilities, by type for the follower, change no choice.
    span = np.ptp(follower, axis=(1, 2), keepdims=True)
    scaled = (follower - follower.min((1, 2), keepdims=True)) / np.where(span > 0, span, 1)
    gain = leader - leader.min()
    gain = gain / (gain.max() or 1.0)
    if len(prior) == 1:
        profile, strategy = _by_response(gain, scaled, prior)
    else:
        profile = _profile(gain, scaled, prior)
        _, strategy = _commitment(gain, scaled, prior, profile)
    if strategy is None:
        raise RuntimeError(
            "HiGHS found no commitment that induces any response. Check the utilities for entries "
            "many orders of magnitude apart."
        )
    types = np.arange(len(prior))
    answers = np.einsum("a,tar->tr", strategy, follower)
    own = answers[types, profile]
    leader_utility = prior @ np.einsum("a,tar->tr", strategy, leader)[types, profile]
    return FiniteSolution(
        strategy,
        np.asarray(profile),
        np.asarray(leader_utility),
        own,
        np.asarray((answers.max(1) - own).max()),
    )


def _by_response(
    leader: np.ndarray, follower: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """The best response to induce in a game of one type, and the commitment that induces it."""
    best, profile, strategy = -np.inf, np.zeros(1, int), None
    bound = leader[0].max(0)
    for r in np.argsort(-bound, kind="stable"):
        if bound[r] <= best:
            break
        value, x = _commitment(leader, follower, prior, np.array([r]))
        if x is not None and value > best:
            best, profile, strategy = value, np.array([r]), x
    return profile, strategy


def _commitment(
    leader: np.ndarray, follower: np.ndarray, prior: np.ndarray, profile: np.ndarray
) -> tuple[float, np.ndarray | None]:
    """The best commitment among those that make `profile`, `[T]`, best responses; one LP."""
    from scipy.optimize import linprog

    types = np.arange(len(prior))
    gain = prior @ leader[types, :, profile]
    envy = follower - follower[types, :, profile][:, :, None]
    result = linprog(
        -gain,
        A_ub=envy.transpose(0, 2, 1).reshape(-1, len(gain)),
        b_ub=np.zeros(len(types) * follower.shape[2]),
        A_eq=np.ones((1, len(gain))),
        b_eq=np.ones(1),
        method="highs",
        options={"primal_feasibility_tolerance": _FEASIBILITY},
    )
    if result.status == 2:  # infeasible: nothing induces this profile
        return -np.inf, None
    if result.x is None:
        raise RuntimeError(f"HiGHS failed on a linear program: {result.message}.")
    x = np.maximum(result.x, 0)
    x = x / x.sum()
    return float(gain @ x), x


def _profile(leader: np.ndarray, follower: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The responses, `[T]`, that the best commitment to several types induces; one MILP.

    In z_tar = x_a q_tr, with q_tr = sum_a z_tar in {0, 1} and sum_r z_tar = x_a for every t:
    sum_a z_tar (follower[t, a, r] - follower[t, a, s]) >= 0 for every t, r, s.
    """
    import scipy.sparse as sp
    from scipy.optimize import Bounds, LinearConstraint, milp

    t, a, r = leader.shape
    # Variables: z, in the order of types, actions, responses; then q, [T, R].
    one = sp.eye_array
    by_response = sp.kron(one(t), sp.kron(np.ones((1, a)), one(r)))
    by_action = sp.kron(one(t), sp.kron(one(a), np.ones((1, r))))
    same = sp.kron(np.eye(t)[:-1] - np.eye(t)[1:], one(a)) @ by_action
    envy = [u[:, :, None] - u[:, None, :] for u in follower]  # [A, R, S]
    blocks = (np.einsum("ars,rk->rsak", e, np.eye(r)).reshape(r * r, a * r) for e in envy)
    obedience = sp.block_diag([sp.csr_array(block) for block in blocks])
    pad = lambda rows: sp.hstack([rows, sp.csr_array((rows.shape[0], t * r))])
    result = milp(
        np.concatenate([-(prior[:, None, None] * leader).ravel(), np.zeros(t * r)]),
        integrality=np.repeat([0, 1], [t * a * r, t * r]),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(sp.hstack([by_response, -one(t * r)]), 0, 0),
            LinearConstraint(pad(sp.kron(one(t), np.ones((1, a * r)))), 1, 1),
            LinearConstraint(pad(same), 0, 0),
            LinearConstraint(pad(obedience), 0, np.inf),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if result.x is None:
        raise RuntimeError(f"HiGHS failed on the mixed-integer program: {result.message}.")
    return result.x[t * a * r :].reshape(t, r).argmax(1)
