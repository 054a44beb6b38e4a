"""Simulated logs with a known truth: how often the certificate's limits are wrong, and how loose.

A bandit with K actions in C kinds of context. An outcome is a coin; its probability at a turn is
that of (kind, action) plus a shift of the whole episode, so that turns of one episode hang
together. The surrogate errs by a known amount at every (kind, action). Policies map kinds to
actions. So every value, and with it delta and regret, is a finite sum.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from stackjax.certificates import RealTurns, discrepancies
from stackjax.certificates._real_regret import (
    baseline_statement,
    paired_statement,
    regret_statement,
)
from stackjax.certificates._transfer import SHARES

_EPISODE_SHIFT = 0.1  # standard size of an episode's shift: +- this, a fair coin


@dataclasses.dataclass(frozen=True)
class World:
    """The truth and the surrogate's mistake about it.

    Attributes:
      real: `[C, K]` probability of a good outcome, away from 0 and 1 by the episode's shift.
      surrogate: `[C, K]` what the surrogate says.
      policies: `[P, C]` actions. Row 0 is deployed, row 1 the baseline.
      proposed: `[C]` the surrogate's utility before repair.
    """

    real: np.ndarray
    surrogate: np.ndarray
    policies: np.ndarray
    proposed: np.ndarray

    @property
    def real_values(self) -> np.ndarray:
        """`[P]`."""
        return np.take_along_axis(self.real, self.policies.T, 1).mean(0)

    @property
    def surrogate_values(self) -> np.ndarray:
        """`[P]`."""
        return np.take_along_axis(self.surrogate, self.policies.T, 1).mean(0)

    @property
    def delta(self) -> float:
        """The true largest discrepancy."""
        return float(np.abs(self.surrogate_values - self.real_values).max())

    @property
    def regret(self) -> float:
        """The deployed policy's true regret in the class."""
        return float(self.real_values.max() - self.real_values[0])

    @property
    def gain(self) -> float:
        """The deployed policy's true gain over the baseline."""
        return float(self.real_values[0] - self.real_values[1])


def make_world(
    rng: np.random.Generator,
    *,
    kinds: int = 4,
    actions: int = 5,
    policies: int = 8,
    error: float = 0.1,
) -> World:
    """A random world; the deployed policy is the surrogate's best of the class."""
    real = rng.uniform(0.2, 0.8, (kinds, actions))
    surrogate = np.clip(real + error * rng.uniform(-1, 1, real.shape), 0, 1)
    rows = rng.integers(actions, size=(policies, kinds))
    value = np.take_along_axis(surrogate, rows.T, 1).mean(0)
    order = np.argsort(-value)
    rows = rows[np.concatenate([order[:1], order[-1:], order[1:-1]])]
    deployed = surrogate[np.arange(kinds), rows[0]]
    return World(real, surrogate, rows, np.clip(deployed + 0.02, 0, 1))


def draw_log(
    world: World, rng: np.random.Generator, *, episodes: int, design: str, clip: float | None = None
) -> RealTurns:
    """One log: episodes of 3 to 7 turns, 'executed' or 'logged' by a known random policy."""
    kinds, actions = world.real.shape
    lengths = rng.integers(3, 8, episodes)
    episode = np.repeat(np.arange(episodes), lengths)
    shift = _EPISODE_SHIFT * rng.choice([-1.0, 1.0], episodes)[episode]
    kind = rng.integers(kinds, size=len(episode))
    value = world.surrogate[kind, world.policies[:, kind]]
    roles: dict[str, Any] = {
        "episode": episode, "low": 0.0, "high": 1.0, "deployed": 0, "baseline": 1,
        "proposed": world.proposed[kind],
    }  # fmt: skip
    luck = rng.uniform(size=len(episode))
    if design == "executed":
        chance = world.real[kind, world.policies[:, kind]] + shift[None]
        return RealTurns((luck[None] < chance).astype(float), value, **roles)
    # Unequal propensities: the first action is drawn half of the time.
    propensity = np.full(actions, 0.5 / (actions - 1))
    propensity[0] = 0.5
    action = rng.choice(actions, size=len(episode), p=propensity)
    utility = (luck < world.real[kind, action] + shift).astype(float)
    return RealTurns(
        utility,
        value,
        propensity=propensity[action],
        least_propensity=float(propensity.min()),
        target=(world.policies[:, kind] == action[None]).astype(float),
        predicted=world.surrogate[kind, action] if design != "weighted" else None,
        clip=clip,
        **roles,
    )


def misses(
    turns: RealTurns, world: World, *, level: float, method: str
) -> dict[str, tuple[bool, float, float]]:
    """For each limit whether it was wrong, what it says, and the truth; all at one level."""
    names = ("surrogate regret", "projection", "transfer", "baseline", "paired regret")
    total = sum(SHARES[name] for name in names)
    alpha = {name: (1 - level) * SHARES[name] / total for name in names}
    found = discrepancies(turns, alpha=alpha["transfer"], method=method)
    given = {"method": method, "sound": True}
    regret = regret_statement(turns, found, delta=found.delta, alpha=alpha, **given)
    paired = paired_statement(turns, found, alpha=alpha["paired regret"], **given)
    better = baseline_statement(turns, found, alpha=alpha["baseline"], margin=0.0, **given)
    return {
        "delta": (world.delta > found.delta, found.delta, world.delta),
        "regret": (world.regret > regret.bound, regret.bound, world.regret),
        "regret, paired": (world.regret > paired.bound, paired.bound, world.regret),
        "gain": (world.gain < better.bound, better.bound, world.gain),
    }


def coverage(
    *,
    logs: int,
    episodes: int,
    level: float,
    seed: int,
    method: str,
    design: str,
    clip: float | None,
) -> dict[str, Any]:
    """Frequencies with which the limits hold over simulated logs, and how loose they are.

    Every tenth log has a new world.
    """
    rng = np.random.default_rng(seed)
    rows: dict[str, list] = {}
    together = []
    world = make_world(rng)
    for number in range(logs):
        if number % 10 == 0:
            world = make_world(rng)
        turns = draw_log(world, rng, episodes=episodes, design=design, clip=clip)
        found = misses(turns, world, level=level, method=method)
        for name, row in found.items():
            rows.setdefault(name, []).append(row)
        together.append(any(wrong for wrong, _, _ in found.values()))
    statements = {}
    for name, values in rows.items():
        wrong, bound, truth = (np.asarray(x, float) for x in zip(*values))
        statements[name] = {
            "holds": 1 - wrong.mean(),
            "bound_mean": bound.mean(),
            "truth_mean": truth.mean(),
            "excess_mean": np.abs(bound - truth).mean(),
            "vacuous": (bound >= 1).mean() if name != "gain" else (bound <= 0).mean(),
        }
    return {
        "logs": logs,
        "episodes": episodes,
        "level": level,
        "method": method,
        "design": design,
        "clip": clip,
        "all_hold": 1 - np.mean(together),
        "statements": statements,
    }


def caught(*, trials: int, episodes: int, level: float, seed: int) -> dict[str, Any]:
    """How often a leaky set, a missing action and a shifted environment are caught; false alarms.

    Leaky: one action of the set, each tried by itself, is really worse by 0.5 than the surrogate
    says. Missing: the log never took what the deployed policy plays. Shifted: all real outcomes
    are worse by 0.3 than when the surrogate was right up to 0.1. Caught means that the lower limit
    of delta exceeds the tolerance, or that `unsupported` names the policy.
    """
    rng = np.random.default_rng(seed)
    tolerance, alpha = 0.15, 1 - level
    counts: dict[str, int] = {"sound": 0, "leaky set": 0, "shifted environment": 0}
    for _ in range(trials):
        world = make_world(rng)
        real = {
            "sound": world.real,
            "leaky set": _leak(world, rng),
            "shifted environment": np.maximum(world.real - 0.3, _EPISODE_SHIFT),
        }
        for name, truth in real.items():
            changed = dataclasses.replace(world, real=truth)
            constants = np.tile(np.arange(truth.shape[1])[:, None], truth.shape[0])
            if name == "leaky set":  # every action of the set is tried by itself
                changed = dataclasses.replace(changed, policies=constants)
            turns = draw_log(changed, rng, episodes=episodes, design="executed")
            found = discrepancies(turns, alpha=alpha)
            counts[name] += found.least_delta > tolerance
    return {
        "trials": trials,
        "episodes": episodes,
        "tolerance": tolerance,
        "frequency": {name: count / trials for name, count in counts.items()},
        "missing action": missing_action(
            trials=trials, episodes=episodes, level=level, seed=seed + 1
        ),
    }


def missing_action(*, trials: int, episodes: int, level: float, seed: int) -> dict[str, float]:
    """How often `unsupported` names a policy that plays what the log does not have, and others."""
    from stackjax.certificates._transfer import unsupported

    rng = np.random.default_rng(seed)
    named, wrongly = 0, 0
    for _ in range(trials):
        world = make_world(rng)
        turns = draw_log(world, rng, episodes=episodes, design="doubly robust")
        wrongly += bool(unsupported(turns, alpha=1 - level))
        lost = dataclasses.replace(turns, target=turns.target * (np.arange(8) != 0)[:, None])
        named += "policy 0" in unsupported(lost, alpha=1 - level)
    return {"caught": named / trials, "false alarms": wrongly / trials}


def _leak(world: World, rng: np.random.Generator) -> np.ndarray:
    """One action really worse by 0.5 in every kind of context."""
    truth = world.real.copy()
    worst = rng.integers(truth.shape[1])
    truth[:, worst] = np.maximum(truth[:, worst] - 0.5, _EPISODE_SHIFT)
    return truth


def net_coverage(
    *, logs: int, episodes: int, points: int, level: float, seed: int
) -> dict[str, Any]:
    """A continuous family of policies, bounded through a net of it and a known Lipschitz constant.

    Policy theta in [0, 1] succeeds with a probability that is a wave in theta; the surrogate errs
    by another wave, whose steepest slope is known. The net has `points` equal cells.
    """
    rng = np.random.default_rng(seed)
    centres = (np.arange(points) + 0.5) / points
    fine = np.linspace(0, 1, 2001)
    wrong, bounds, truths = [], [], []
    for _ in range(logs):
        speed, phase = rng.uniform(2, 6, 2), rng.uniform(0, 2 * np.pi, 2)
        real = lambda t, s=speed, p=phase: 0.5 + 0.2 * np.sin(s[0] * t + p[0])
        error = lambda t, s=speed, p=phase: 0.1 * np.sin(s[1] * t + p[1])
        lengths = rng.integers(3, 8, episodes)
        episode = np.repeat(np.arange(episodes), lengths)
        luck, count = rng.uniform(size=len(episode)), len(episode)
        turns = RealTurns(
            (luck[None] < real(centres)[:, None]).astype(float),
            np.tile((real(centres) + error(centres))[:, None], (1, count)),
            episode, 0.0, 1.0, lipschitz=0.1 * speed[1], radius=0.5 / points,
        )  # fmt: skip
        bound = discrepancies(turns, alpha=1 - level).delta + 0.1 * speed[1] * 0.5 / points
        truth = float(np.abs(error(fine)).max())
        wrong.append(truth > bound)
        bounds.append(bound)
        truths.append(truth)
    return {
        "logs": logs, "episodes": episodes, "points": points, "level": level,
        "holds": 1 - np.mean(wrong), "bound_mean": np.mean(bounds), "truth_mean": np.mean(truths),
    }  # fmt: skip
