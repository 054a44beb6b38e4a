"""What concavity costs: predictors of three shapes on held-out turns, with clustered intervals."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from stackjax.agents.log._turns import Turns
from stackjax.agents.surrogate._fit import SHAPES, fit_surrogate
from stackjax.agents.surrogate._predictors import Surrogate

DRAWS, BINS = 1000, 10
GAINS = {
    "quality R2": 1,
    "quality R2, cell means": 1,
    "Brier": -1,
    "calibration error": -1,
    "token R2": 1,
}
"""The scores, and whether more (1) or less (-1) of each is better."""


def study_shapes(
    turns: Turns, held_out: Turns, *, seeds: int, steps: int, seed: int
) -> tuple[dict[str, Any], Surrogate]:
    """Fit every shape under every seed, and score them on the held-out turns.

    Returns:
      The report, and the concave surrogate of the first seed.
    """
    predictions: dict[str, list] = {shape: [] for shape in SHAPES}
    shifts, first = [], None
    for number in range(seeds):
        key = jax.random.fold_in(jax.random.key(seed), number)
        for shape in SHAPES:
            surrogate, _ = fit_surrogate(turns, key=key, steps=steps, shape=shape)
            predict = jax.jit(jax.vmap(surrogate.predict))
            predictions[shape].append(predict(held_out.state, held_out.executed))
            if surrogate.warp is not None:
                shifts.append(np.asarray(surrogate.warp.shift))
            first = surrogate if first is None else first
    assert first is not None
    episode = np.asarray(held_out.episode)
    _, group = np.unique(episode, return_inverse=True)
    rng = np.random.default_rng(seed)
    count = group.max() + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS)
    # the first row is the sample itself
    weight = np.concatenate([np.ones((1, count)), drawn])[:, group]
    found = {
        shape: np.array(
            [_scores(weight, np.asarray(q, float), np.asarray(t, float), held_out) for q, t in made]
        )
        for shape, made in predictions.items()
    }
    report: dict[str, Any] = {}
    for i, name in enumerate(GAINS):
        rows: dict[str, Any] = {}
        for shape, table in found.items():
            apart = (table - found["concave"])[:, i].mean(0)
            rows[shape] = {
                "mean": table[:, i, 0].mean(),
                "over_seeds": table[:, i, 0].std(ddof=1) if seeds > 1 else None,
                "minus_concave": apart[0],
                "interval": np.nanpercentile(apart[1:], [2.5, 97.5]),
            }
        report[name] = rows
    return {
        "seeds": seeds,
        "episodes": int(count),
        "turns": len(episode),
        "scores": report,
        "warp_shift": {"mean": np.mean(shifts, axis=0), "each": shifts},
        "verdict": {shape: _verdict(report, shape) for shape in SHAPES if shape != "concave"},
    }, first


def _scores(
    weight: np.ndarray, quality: np.ndarray, tokens: np.ndarray, turns: Turns
) -> list[np.ndarray]:
    """The scores `[1 + DRAWS]` each, in the order of `GAINS`, under the weights `[.., N]`."""
    correct, spent = np.asarray(turns.correct, float), np.asarray(turns.tokens, float)
    _, cell = np.unique(np.asarray(turns.executed), axis=0, return_inverse=True)
    cells = np.eye(cell.max() + 1)[cell.ravel()]
    total = weight.sum(1)

    def r2(predicted: np.ndarray, seen: np.ndarray) -> np.ndarray:
        spread = weight @ seen**2 - (weight @ seen) ** 2 / total
        return 1 - weight @ (seen - predicted) ** 2 / spread

    in_cell = weight @ cells
    modelled, means = (weight @ (cells * x[:, None]) / in_cell for x in (quality, correct))
    spread = ((means - means.mean(1, keepdims=True)) ** 2).sum(1)
    bins = np.zeros((len(quality), BINS))
    for number, rows in enumerate(np.array_split(np.argsort(quality, kind="stable"), BINS)):
        bins[rows, number] = 1
    error = np.abs(weight @ (bins * (quality - correct)[:, None])).sum(1) / total
    return [
        r2(quality, correct),
        1 - ((means - modelled) ** 2).sum(1) / spread,
        weight @ (quality - correct) ** 2 / total,
        error,
        r2(tokens, spent),
    ]


def _verdict(report: dict[str, Any], shape: str) -> str:
    """Which scores say that the shape is better than the concave one, and which worse."""
    better, worse = [], []
    for name, sign in GAINS.items():
        low, high = sorted(sign * np.asarray(report[name][shape]["interval"]))
        if low > 0:
            better.append(name)
        if high < 0:
            worse.append(name)
    said = [f"better than concave in {', '.join(better)}"] if better else []
    said += [f"worse in {', '.join(worse)}"] if worse else []
    return "; ".join(said) or "no difference that the held-out episodes can tell"
