"""The weak Stackelberg value of a finite game: ties against the leader, by linear programs."""

from typing import Any

import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_within, concrete
from stackjax.finite._checks import check_utilities

# HiGHS's own default is 1e-7; utilities are scaled to a range of one before it is applied.
_FEASIBILITY = 1e-9
# Of the follower's range: a smaller margin is none. It must be above what a margin costs the leader
# where it costs anything, and that above the solver's tolerance.
_NONE = 1e-6
_EQUAL = 4 * _FEASIBILITY


class WeakSolution(struct.PyTreeNode):
    """What the leader is sure of if ties go against it. NumPy arrays, float64.

    Attributes:
      leader_utility: `[]`, the supremum of what a commitment is worth to the leader.
      strategy: `[A]`, a commitment that attains it or, if none does, the limit of some that come
        arbitrarily close.
      attained: bool, whether the leader gets `leader_utility` by `strategy` itself.
      response: int, the best response along that limit; of several that are always equally good
        for the follower, the worst for the leader.
      follower_utility: `[]`, the follower's expected utility at `strategy`.
      inside: `[A]`, a commitment to which `response`, and what is always as good for the follower,
        are the only best responses.

    Example:
      >>> leader = np.array([[2.0, 4.0], [1.0, 3.0]])
      >>> found = sj.finite.weak_stackelberg(leader, np.eye(2))
      >>> print(found.leader_utility, found.attained)
      3.5 False
      >>> print(np.round(found.near(0.01) @ leader, 3))  # the follower answers with the second
      [1.495 3.495]
    """

    leader_utility: np.ndarray
    strategy: np.ndarray
    attained: np.ndarray
    response: np.ndarray
    follower_utility: np.ndarray
    inside: np.ndarray

    def near(self, share: float) -> np.ndarray:
        """A commitment `[A]` that is worth less than the supremum by at most `share` of the range
        of the leader's utilities, however ties are broken.

        Args:
          share: in (0, 1]; of `inside` in the mixture with `strategy`.

        Raises:
          ValueError: `share` is not in (0, 1].
        """
        check_within("share", share, "(0, 1]")
        return (1 - share) * self.strategy + share * self.inside


def weak_stackelberg(leader: Any, follower: Any) -> WeakSolution:
    """The leader's best mixed commitment if the follower breaks ties against it: the supremum.

        sup_x min { sum_a x_a leader[a, r] : r in argmax_s sum_a x_a follower[a, s] }

    Often no commitment attains it: at the limit the follower is indifferent, and would choose the
    worse response. Exact, by linear programs: for every response `r` that some commitment makes
    strictly best (with what is always as good for the follower as `r`, and no other),

        max_x  min { sum_a x_a leader[a, s] : s always as good as r }   such that r is a best
                                                                        response to x,

    and the highest of these. A response that is best only together with others that differ from
    it, at single points, never counts: the follower may choose the others.

    Runs on the host, in float64 whatever JAX's setting. Not differentiable. 'Strictly' is by more
    than 1e-6 of the range of the follower's utilities.

    Args:
      leader: the leader's utilities, `[A, R]`.
      follower: the follower's utilities, of the same shape.

    Raises:
      TypeError: called under `jax.jit`, `jax.vmap` or `jax.grad`.
      ValueError: shapes differ, are empty or have types; an entry is not finite.
      RuntimeError: the solver failed; its message is passed on.

    Source: von Stengel and Zamir, Games and Economic Behavior 69, 2010 (the lowest leader payoff).

    Example:
      >>> leader = np.array([[1.0, 0.0]])  # the follower does not care, and takes the second
      >>> found = sj.finite.weak_stackelberg(leader, np.zeros((1, 2)))
      >>> print(found.leader_utility, found.response, found.attained)
      0.0 1 True
    """
    if not concrete((leader, follower)):
        raise TypeError(
            "`weak_stackelberg` is for the host (linear programs): call it outside of "
            "transformations."
        )
    leader, follower = np.asarray(leader, np.float64), np.asarray(follower, np.float64)
    check_utilities(leader, follower)
    if leader.ndim != 2:
        raise ValueError(f"`leader` must be [A, R], without types; got shape {leader.shape}.")
    # Positive affine changes of the utilities change no choice.
    gain = (leader - leader.min()) / (np.ptp(leader) or 1.0)
    wish = follower - follower.min(1, keepdims=True)
    wish = wish / (wish.max() or 1.0)
    kinds = _kinds(wish)
    games = [_Induced(gain, wish, kinds, number) for number in range(len(kinds))]
    widest = [game.widest([]) for game in games]
    least = min(_NONE, max(margin for margin, _ in widest) / 2)
    found = [
        (*game.best(), inside, kind, game)
        for game, kind, (margin, inside) in zip(games, kinds, widest)
        if inside is not None and margin > least
    ]
    top = max(value for value, *_ in found)
    best = [entry for entry in found if entry[0] >= top - _EQUAL]
    attained = False
    _, strategy, inside, kind, _ = best[0]
    for _, _, at, same, game in best:
        point = game.attained(top)
        if point is not None:
            strategy, inside, kind, attained = point, at, same, True
            break
    response = kind[int(np.argmin(strategy @ leader[:, kind]))]
    worth = strategy @ leader[:, response]
    return WeakSolution(
        np.asarray(worth), strategy, np.asarray(attained), np.asarray(response),
        np.asarray(strategy @ follower[:, response]), inside,
    )  # fmt: skip


def _kinds(wish: np.ndarray) -> list[list[int]]:
    """Responses between which the follower is indifferent whatever the leader does."""
    kinds: list[list[int]] = []
    for r in range(wish.shape[1]):
        for kind in kinds:
            if np.abs(wish[:, r] - wish[:, kind[0]]).max() <= 64 * np.finfo(float).eps:
                kind.append(r)
                break
        else:
            kinds.append([r])
    return kinds


class _Induced:
    """The commitments to which the responses of one kind are best.

    Args:
      gain: `[A, R]` the leader's utilities.
      wish: `[A, R]` the follower's.
      kinds: all kinds.
      number: which of them.
    """

    def __init__(
        self, gain: np.ndarray, wish: np.ndarray, kinds: list[list[int]], number: int
    ) -> None:
        self.gain, self.kinds, self.own = gain, kinds, kinds[number]
        self.others = [k for k in range(len(kinds)) if k != number]
        self.envy = np.stack(
            [wish[:, kind[0]] - wish[:, self.own[0]] for kind in kinds]
        )  # [kinds, A], at most 0 at these commitments

    def best(self) -> tuple[float, np.ndarray]:
        """The most that the leader is sure of, if these are answered, and how to commit."""
        rows = np.vstack([-self.gain[:, self.own].T, self.envy[self.others]])
        last = np.r_[np.ones(len(self.own)), np.zeros(len(self.others))]
        value, x = _program(rows, last, np.zeros(len(rows)))
        assert x is not None  # it has an inner point
        return value, x

    def widest(
        self, strict: list[int], floor: float = -np.inf, also: list[int] | None = None
    ) -> tuple[float, np.ndarray | None]:
        """The widest margin over the kinds `strict`, all others if empty, and where it is.

        With `floor`, only where the leader gets that from these responses and those of `also`.
        """
        rows, last, most = [self.envy[self.others]], np.zeros(len(self.others)), []
        last[[not strict or k in strict for k in self.others]] = 1
        if floor > -np.inf:
            sure = [r for k in also or [] for r in self.kinds[k]] + self.own
            rows.append(-self.gain[:, sure].T)
            most = [_EQUAL - floor] * len(sure)
        most = np.r_[np.zeros(len(self.others)), most]
        last = np.r_[last, np.zeros(len(most) - len(last))]
        return _program(np.vstack(rows), last, most)

    def attained(self, value: float) -> np.ndarray | None:
        """A commitment that is worth that, however ties are broken; None if there is none.

        In the relative interior of the commitments at which these responses are worth that, the
        fewest others are best responses too. Those must be worth as much, wherever one attains it:
        so the search goes on where they are.
        """
        tied: list[int] = []
        while True:
            points, still = [], []
            for k in self.others:
                margin, x = self.widest([k], value, tied)
                if x is None:
                    return None
                points.append(x)
                if margin <= _NONE:
                    still.append(k)
            if not points:
                return self.best()[1]
            if set(still) <= set(tied):
                return np.mean(points, axis=0)
            tied = sorted(set(tied) | set(still))


def _program(
    rows: np.ndarray, last: np.ndarray, most: np.ndarray
) -> tuple[float, np.ndarray | None]:
    """`max t` such that `rows x + last t <= most`, with x a distribution and t at most 1."""
    from scipy.optimize import linprog

    actions = rows.shape[1]
    result = linprog(
        np.r_[np.zeros(actions), -1.0],
        A_ub=np.column_stack([rows, last]) if len(rows) else None,
        b_ub=most if len(rows) else None,
        A_eq=np.r_[np.ones(actions), 0.0][None],
        b_eq=np.ones(1),
        bounds=[*[(0, None)] * actions, (-1, 1)],
        method="highs",
        options={"primal_feasibility_tolerance": _FEASIBILITY},
    )
    if result.status == 2:
        return -np.inf, None
    if result.x is None:
        raise RuntimeError(f"HiGHS failed on a linear program: {result.message}.")
    x = np.maximum(result.x[:actions], 0)
    return float(result.x[-1]), x / x.sum()
