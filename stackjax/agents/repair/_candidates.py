"""Candidates for the empirical action set: boxes, tried actions, ellipsoids, predicted quality.

A candidate marks tried cells, the same ones everywhere or others in each stratum (task type, and
complexity up to 1/2 or above; `stackjax.agents.repair._cells.stratum`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from stackjax._arrays.arguments import check_all_within
from stackjax.agents.repair._cells import STRATA, CellSummary


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Cells that may be played.

    Attributes:
      name: how it is shown.
      kind: 'box', 'cell', 'ellipsoid', 'predicted', or a kind of your own.
      members: `[12, K]` booleans: the cells, by stratum.

    Example:
      >>> cheap = np.tile([True, False], (12, 1))  # the first of two cells, in every stratum
      >>> print(sj.agents.repair.Candidate("only the cheap one", "mine", cheap).members.sum(axis=1))
      [1 1 1 1 1 1 1 1 1 1 1 1]
    """

    name: str
    kind: str
    members: np.ndarray


def nested_boxes(cells: np.ndarray) -> list[Candidate]:
    """Boxes `[0, r]` for each tried r, and `[r, 1]`: nested towards cheap and towards dear.

    Args:
      cells: `[K, 3]`.

    Raises:
      ValueError: `cells` is not `[K, 3]` in [0, 1].

    Example:
      >>> [box.name for box in sj.agents.repair.nested_boxes(np.array([[0, 0, 0], [1, 0, 1]]))]
      ['[0, (0, 0, 0)]', '[(0, 0, 0), 1]', '[(1, 0, 1), 1]']
    """
    cells, found = _rows(cells, "cells"), []
    for corner in cells:
        text = ", ".join(f"{x:g}" for x in corner)
        found.append(Candidate(f"[0, ({text})]", "box", _everywhere((cells <= corner).all(1))))
        found.append(Candidate(f"[({text}), 1]", "box", _everywhere((cells >= corner).all(1))))
    return distinct(found)


def single_cells(cells: np.ndarray) -> list[Candidate]:
    """Each tried cell alone, `[K, 3]`.

    Raises:
      ValueError: `cells` is not `[K, 3]` in [0, 1].

    Example:
      >>> [one.name for one in sj.agents.repair.single_cells(np.array([[0, 0, 0], [1, 0, 1]]))]
      ['(0, 0, 0)', '(1, 0, 1)']
    """
    cells = _rows(cells, "cells")
    return [
        Candidate("(" + ", ".join(f"{x:g}" for x in cell) + ")", "cell", _everywhere(row))
        for cell, row in zip(cells, np.eye(len(cells), dtype=bool))
    ]


def support_ellipsoids(
    cells: np.ndarray, tried: np.ndarray, *, shares: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9)
) -> list[Candidate]:
    """Nested ellipsoids that hold a share of the responses that were tried.

    The metric is the inverse covariance of the tried responses (Mahalanobis), which is theirs
    alone: outcomes do not enter.

    Args:
      cells: `[K, 3]`.
      tried: `[N, 3]`, responses that were chosen, before rounding where that is known.
      shares: of the tried responses.

    Raises:
      ValueError: a share is not in (0, 1], `cells` or `tried` is not three numbers in [0, 1] a row,
        or a channel of `tried` is constant or follows from the others.

    Example:
      >>> cells = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [1.0, 1.0, 1.0]])
      >>> tried = np.array([[0.5, 0.4, 0.6], [0.4, 0.6, 0.5], [0.6, 0.5, 0.6], [0.5, 0.5, 0.4]])
      >>> sj.agents.repair.support_ellipsoids(cells, tried, shares=(1.0,))[0].members[0]
      array([False,  True, False])
    """
    cells, tried = _rows(cells, "cells"), _rows(tried, "tried")
    check_all_within("shares", shares, "(0, 1]")
    constant = [name for name, spread in zip("cpu", np.ptp(tried, axis=0)) if not spread > 0]
    if constant:
        raise ValueError(
            "`tried` must vary in each channel to have a covariance; got a constant "
            f"{', '.join(constant)}."
        )
    center = tried.mean(0)
    covariance = np.cov(tried, rowvar=False)
    spread = np.sqrt(np.diag(covariance))
    if np.linalg.matrix_rank(covariance / np.outer(spread, spread), hermitian=True) < 3:
        raise ValueError(
            "`tried` must have no channel that follows from the others; its covariance is singular."
        )
    metric = np.linalg.inv(covariance)
    radius = lambda r: np.einsum("ni,ij,nj->n", r - center, metric, r - center)
    limits = np.quantile(radius(tried), shares)
    return distinct(
        Candidate(f"{share:.0%} of those tried", "ellipsoid", _everywhere(radius(cells) <= limit))
        for share, limit in zip(shares, limits)
    )


def predicted_quality(
    summary: CellSummary,
    baseline: int,
    *,
    losses: Sequence[float] = (-0.05, 0.0, 0.02, 0.05, 0.1),
    cheapest: Sequence[int] = (1, 3),
) -> list[Candidate]:
    """Cells whose predicted quality in the stratum is not below the baseline's by more than a loss.

    For each loss: all such cells, and the few of them with the fewest predicted tokens. The
    predictors must be fitted on other turns than those that judge the candidates.

    Args:
      summary: the cells as the predictors see them, K rows.
      baseline: row of the baseline's cell. It is a member at every loss that is not negative, and
        alone where no other cell is; the cheapest few may be without it.
      losses: predicted quality that may be given up; negative ones ask for a gain.
      cheapest: how many of the cheapest cells to keep.

    Raises:
      ValueError: `baseline` is no row, or one of `cheapest` is below 1.

    Example:
      >>> turns = sj.agents.log.turn_arrays(known_world.records(8, design="random"))
      >>> summary = sj.agents.repair.summarise_cells(known_world.surrogate(), turns)
      >>> for one in sj.agents.repair.predicted_quality(summary, 7, losses=(0.2,), cheapest=(1,)):
      ...     print(one.name, one.members[2].sum())
      predicted loss at most 0.2 3
      predicted loss at most 0.2, 1 cheapest 1
    """
    if not 0 <= baseline < len(summary.cells):
        raise ValueError(
            f"`baseline` must be a row of the {len(summary.cells)} cells; got {baseline}."
        )
    if any(few < 1 for few in cheapest):
        raise ValueError(f"`cheapest` must be at least 1; got {list(cheapest)}.")
    quality, tokens = np.asarray(summary.stratum_quality), np.asarray(summary.tokens)
    found = []
    for loss in losses:
        good = quality >= quality[:, baseline, None] - loss  # False where a stratum is not known
        if loss >= 0:
            good[:, baseline] = True
        empty = ~good.any(1)
        good[empty, baseline] = True
        name = f"predicted loss at most {loss:g}"
        found.append(Candidate(name, "predicted", good))
        rank = np.where(good, tokens, np.inf).argsort(axis=1, kind="stable").argsort(axis=1)
        for few in cheapest:
            mark = f"{name}, {few} cheapest"
            found.append(Candidate(mark, "predicted", good & (rank < few)))
    return distinct(found)


def _rows(values: np.ndarray, name: str) -> np.ndarray:
    rows = np.asarray(values, float)
    if rows.ndim != 2 or rows.shape[1] != 3 or not len(rows):
        raise ValueError(f"`{name}` must be [K, 3] with K at least 1; got shape {rows.shape}.")
    check_all_within(name, rows, "[0, 1]")
    return rows


def _everywhere(members: np.ndarray) -> np.ndarray:
    return np.tile(members, (STRATA, 1))


def distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The first of those with the same members; those empty in some stratum are left out."""
    kept: dict[bytes, Candidate] = {}
    for candidate in candidates:
        if candidate.members.any(1).all():
            kept.setdefault(candidate.members.tobytes(), candidate)
    return list(kept.values())
