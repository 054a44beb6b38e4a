"""Finite games: the strong Stackelberg value by enumerating vertices, not linear programs.

For each tuple of responses (one a follower type) the mixed actions to which it is optimal form a
polytope; the leader's value, linear, is best at a vertex. Random games, games of small integers
(many ties), repeated columns, and games in other units and with an offset.
"""

from __future__ import annotations

import itertools

import numpy as np

import stackjax as sj
from experiments.oracle.tally import Tally

FINITE = ("random", "integers", "repeated columns", "units and offsets", "two types")


def draw_finite(sort: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Utilities `[T, A, R]` of both players and the prior `[T]`."""
    T = 2 if sort == "two types" else 1
    A, R = rng.integers(2, 5), rng.integers(2, 5)
    shape = (T, A, R)
    leader, follower = rng.normal(size=shape), rng.normal(size=shape)
    if sort == "integers" or (sort == "two types" and rng.uniform() < 0.5):
        leader, follower = rng.integers(-2, 3, (2, *shape)).astype(float)
    if sort == "repeated columns":
        follower[:, :, -1] = follower[:, :, 0]
    if sort == "units and offsets":
        leader = 10.0 ** rng.uniform(-8, 8) * (leader + rng.choice([0.0, 100.0]))
        follower = 10.0 ** rng.uniform(-8, 8) * (follower + rng.choice([0.0, 100.0]))
    return leader, follower, rng.dirichlet(np.ones(T))


def strong_value(leader: np.ndarray, follower: np.ndarray, prior: np.ndarray) -> float:
    """The leader's best value, ties in its favour."""
    T, A, R = leader.shape
    best = -np.inf
    size = np.ptp(follower) or 1.0
    for responses in itertools.product(range(R), repeat=T):
        # Rows g'x >= 0: no other response is better, no probability is negative.
        rows = [np.eye(A)]
        rows += [follower[t, :, [r]] - follower[t].T for t, r in enumerate(responses)]
        G = np.concatenate(rows)
        G = G / np.maximum(np.abs(G).max(1, keepdims=True), 1e-300 + 1e-13 * size)
        G = G[np.abs(G).max(1) > 0.5]
        payoff = sum(prior[t] * leader[t, :, r] for t, r in enumerate(responses))
        for chosen in itertools.combinations(range(len(G)), A - 1):
            system = np.concatenate([G[list(chosen)], np.ones((1, A))])
            if np.linalg.cond(system) > 1e10:
                continue
            x = np.linalg.solve(system, np.eye(A)[-1])
            if (G @ x).min() > -1e-10:
                best = max(best, float(payoff @ x))
    return best


def judge_finite(sort: str, games: int, seed: int = 0) -> Tally:
    """Compares `sj.finite.strong_stackelberg` with the enumeration; there is no flag to hide by."""
    rng = np.random.default_rng([seed, len(sort)])
    tally = Tally(f"finite, {sort}", "float64", games=games, converged=games)
    for _ in range(games):
        leader, follower, prior = draw_finite(sort, rng)
        single = len(prior) == 1
        found = (
            sj.finite.strong_stackelberg(leader[0], follower[0])
            if single
            else sj.finite.strong_stackelberg(leader, follower, prior=prior)
        )
        x = found.strategy
        right = strong_value(leader, follower, prior)
        room = 2e-6 * (np.ptp(leader) or 1.0)  # the documented gap with several types
        answers = np.atleast_1d(found.response)
        expected = np.einsum("a,tar->tr", x, follower)
        lost = expected.max(-1) - expected[np.arange(len(prior)), answers]
        played = sum(p * x @ leader[t, :, r] for t, (p, r) in enumerate(zip(prior, answers)))
        wrong = abs(float(found.leader_utility) - right) > room
        wrong |= abs(float(played) - right) > room
        wrong |= bool(lost.max() > 1e-8 * (np.ptp(follower) or 1.0))
        wrong |= abs(x.sum() - 1) > 1e-9 or x.min() < -1e-12
        if wrong:
            tally.wrong += 1
            tally.smallest = tally.smallest or {
                "leader": leader.tolist(),
                "follower": follower.tolist(),
                "prior": prior.tolist(),
                "right": right,
                "value": float(found.leader_utility),
            }
    return tally
