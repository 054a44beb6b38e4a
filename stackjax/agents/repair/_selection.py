"""The empirical action set, chosen with a stated confidence and confirmed on turns not used for it.

The paper (arXiv 2606.23026, section 8) projects onto an 'empirically selected action set' and gives
no rule for the selection. Ours: candidates are regions of tried responses; of each, simultaneous
bounds say how often it fails, how its quality compares with the baseline's, and what it costs; the
cheapest that passes is taken. Data that are thin lead to the baseline's action (as in safe policy
improvement with baseline bootstrapping; Laroche, Trichelair and Tachet des Combes 2019).

What is bounded is the policy that plays the members of a candidate equally often. A controller that
may pick any of them can do better or worse: measure it on its own, as `confirm_action_set` does
with `played=`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stackjax._arrays.arguments import check_all_within, check_shape, shown
from stackjax.agents.log._cell_scores import CellScores, cell_scores
from stackjax.agents.log._outcomes import Outcomes
from stackjax.agents.repair._candidates import (
    Candidate,
    nested_boxes,
    single_cells,
    support_ellipsoids,
)
from stackjax.agents.repair._cells import STRATA
from stackjax.agents.repair._choice import ActionSetChoice, Confirmation, Judged, Requirements
from stackjax.agents.tasks._tasks import TASK_TYPES
from stackjax.stats._simultaneous import simultaneous_bounds


def select_action_set(
    log: Outcomes,
    *,
    baseline: Sequence[float],
    requirements: Requirements | None = None,
    candidates: Sequence[Candidate] | None = None,
    by_task: bool = False,
    seed: int = 0,
) -> ActionSetChoice:
    """Choose the cheapest candidate that is shown to meet the requirements.

    Args:
      log: turns with known propensities (randomised or factorial), of one model.
      baseline: `[3]`, the baseline's cell; it must have been recorded.
      requirements: what the set must be shown to do; `Requirements()` if None.
      candidates: what to choose from; nested boxes, single cells and, where every channel varies,
        ellipsoids of support if None. Candidates made of outcomes (`predicted_quality`) must come
        from other episodes.
      by_task: choose for each task type from its own turns, instead of once from all.
      seed: of the bounds' sign flips.

    Returns:
      The choice: in each stratum the candidate's cells that have enough turns, and the baseline's,
      so that the sets may differ from the candidate that was judged: `confirm_action_set` measures
      the sets. Where no candidate passes, or a task type has too few turns under a member, the
      baseline's action is what is left, and `reasons` says so.

    Raises:
      ValueError: the baseline was not recorded, there is no candidate, one is not of the cells, or
        there are turns of fewer than 2 episodes.

    Example:
      >>> log = sj.agents.log.outcomes(known_world.records(60))
      >>> choice = sj.agents.repair.select_action_set(
      ...     log, baseline=(1, 1, 1), requirements=sj.agents.repair.Requirements(margin=0.4)
      ... )
      >>> choice.reasons[5], choice.reasons[0]
      ('10% of those tried', 'baseline: no turn')
    """
    requirements = Requirements() if requirements is None else requirements
    base, scores = log.row(baseline), cell_scores(log)
    if candidates is None:
        candidates = [*nested_boxes(log.cells), *single_cells(log.cells)]
        if (np.ptp(log.cells, axis=0) > 0).all():
            intended = np.array([record.intended for record in log.records], float)
            candidates += support_ellipsoids(log.cells, intended)
    if not len(candidates):
        raise ValueError("`candidates` must hold at least one; got none.")
    for candidate in candidates:
        wanted, members = (STRATA, len(log.cells)), candidate.members
        known = isinstance(members, np.ndarray) and members.dtype == bool
        if not known or members.shape != wanted or not members.any(1).all():
            raise ValueError(
                f"`candidates`: {candidate.name!r} must have members {wanted}, an array of "
                f"booleans, one or more in each stratum; got shape {np.shape(members)}."
            )
    tasks = list(range(len(TASK_TYPES))) if by_task else [None]
    judged = _judge(scores, base, candidates, tasks, requirements, seed)
    members = np.zeros((STRATA, len(log.cells)), bool)
    members[:, base] = True
    reasons = []
    for task, name in enumerate(TASK_TYPES):
        here = [one for one in judged if one.task in (None, name)]
        passing = [one for one in here if one.passes]
        if not (scores.task == task).any():
            reasons.append("baseline: no turn")
        elif not passing:
            reasons.append(f"baseline: none of {len(here)} candidates passes")
        else:
            best = min(passing, key=lambda one: (one.tokens_high, one.candidate.name))
            enough = scores.recorded[scores.task == task].sum(0) >= requirements.support
            rows = slice(2 * task, 2 * task + 2)
            members[rows] |= best.candidate.members[rows] & enough
            lost = best.candidate.members[rows].any(0) & ~enough
            thin = f", without {lost.sum()} cells of fewer than {requirements.support} turns"
            reasons.append(f"{best.candidate.name}{thin if lost.any() else ''}")
    return ActionSetChoice(
        cells=log.cells,
        baseline=base,
        members=members,
        reasons=tuple(reasons),
        judged=tuple(judged),
        requirements=requirements,
        turns=len(scores),
        episodes=len(np.unique(scores.episode)),
        seen=_episodes(log),
    )


def confirm_action_set(
    choice: ActionSetChoice, log: Outcomes, *, played: np.ndarray | None = None, seed: int = 0
) -> Confirmation:
    """Measure the chosen sets on turns that the choice did not see.

    Args:
      choice: the sets.
      log: turns of other episodes, with the same cells and known propensities.
      played: `[T, K]`, how often a policy plays each cell at each turn of `cell_scores(log)`, rows
        not negative and summing to 1; the members of the turn's set equally often if None.
      seed: of the bounds' sign flips.

    Raises:
      ValueError: the cells differ from those of the choice, an episode was already there, or
        `played` is not of this kind.

    Example:
      >>> records = known_world.records(160)
      >>> some, others = (sj.agents.log.outcomes(part) for part in (records[:960], records[960:]))
      >>> asked = sj.agents.repair.Requirements(margin=0.4)
      >>> choice = sj.agents.repair.select_action_set(some, baseline=(1, 1, 1), requirements=asked)
      >>> found = sj.agents.repair.confirm_action_set(choice, others)
      >>> found.confirmed, round(found.quality, 3), found.tokens, found.baseline_tokens
      (True, -0.297, -115.0, 330.0)
    """
    if log.cells.shape != choice.cells.shape or not np.allclose(log.cells, choice.cells):
        raise ValueError(
            f"`log` must have the {len(choice.cells)} cells of the choice; got {len(log.cells)} "
            "others."
        )
    again = choice.seen & _episodes(log)
    if again:
        raise ValueError(
            "`log` must have episodes that were not used for the choice; got "
            f"{len(again)} that were, such as {min(again)[2]!r}."
        )
    scores = cell_scores(log)
    shares = choice.members / choice.members.sum(1, keepdims=True)
    mix = shares[strata(scores)] if played is None else np.asarray(played, float)
    check_shape("played", mix, scores.correct.shape)
    check_all_within("played", mix, "[0, inf]")
    if not np.allclose(mix.sum(1), 1.0):
        raise ValueError(f"`played` must have rows that sum to 1; got sums {shown(mix.sum(1))}.")
    lift = max(1.0, float((scores.weight[:, None] * mix).max()))
    differ = lambda values: (values * mix).sum(1) - values[:, choice.baseline]
    values = [differ(scores.correct), (scores.failed * mix).sum(1), differ(scores.tokens)]
    asked = choice.requirements
    # The bounds' unit is the largest weight in the log: of a cell that is not there none is known.
    missing = (mix > 0).any(0) & ~scores.recorded.any(0)
    found = simultaneous_bounds(
        np.stack(values, axis=1),
        scores.episode,
        upper=np.array([False, True, True]),
        unit=np.array([lift * (mix[:, choice.baseline] < 1.0).any(), lift, 0.0]),
        level=asked.level,
        seed=seed,
    )
    (quality, failure, tokens), (low, high, dear) = found.estimate, found.bound
    return Confirmation(
        quality=float(quality),
        quality_low=float(low),
        failure=float(failure),
        failure_high=float(high),
        tokens=float(tokens),
        tokens_high=float(dear),
        baseline_tokens=float(scores.tokens[:, choice.baseline].mean()),
        confirmed=asked.met(low, high) and not missing.any(),
        turns=len(scores),
        episodes=len(np.unique(scores.episode)),
    )


def _episodes(log: Outcomes) -> frozenset[tuple[str, int, str]]:
    return frozenset((record.model, record.seed, record.episode) for record in log.records)


def strata(scores: CellScores) -> np.ndarray:
    """`[T]`: each turn's stratum, as `stackjax.agents.repair._cells.stratum` numbers a state."""
    return 2 * scores.task + (scores.complexity > 0.5)


def _judge(
    scores: CellScores,
    base: int,
    candidates: Sequence[Candidate],
    tasks: Sequence[int | None],
    asked: Requirements,
    seed: int,
) -> list[Judged]:
    """Every candidate for each task type of two episodes or more; all bounds hold together."""
    stratum = strata(scores)
    members = np.stack([candidate.members for candidate in candidates])  # [M, 12, K]
    shares = members / members.sum(2, keepdims=True)
    mean = lambda values: np.stack([shares[:, s] @ row for s, row in zip(stratum, values)])
    correct, failed, tokens = (mean(x) for x in (scores.correct, scores.failed, scores.tokens))
    correct -= scores.correct[:, [base]]
    tokens -= scores.tokens[:, [base]]
    kept, columns, units = [], [], []
    for task in tasks:
        here = np.ones(len(scores), bool) if task is None else scores.task == task
        if len(np.unique(scores.episode[here])) < 2:
            continue
        kept.append((task, here))
        columns += [np.where(here[:, None], x, np.nan) for x in (correct, failed, tokens)]
        lift = np.maximum(1.0, scores.weight[here].max() * shares.max(axis=(1, 2)))
        other = (shares[:, np.unique(stratum[here])][:, :, base] < 1.0).any(1)
        units += [lift * other, lift, np.zeros(len(candidates))]  # the baseline differs by nothing
    if not kept:
        raise ValueError("`log` must have turns of at least 2 episodes; got fewer.")
    shape = len(kept), 3, len(candidates)
    found = simultaneous_bounds(
        np.concatenate(columns, axis=1),
        scores.episode,
        upper=np.broadcast_to(np.array([False, True, True])[:, None], shape).reshape(-1),
        unit=np.concatenate(units),
        level=asked.level,
        seed=seed,
    )
    estimate, bound = found.estimate.reshape(shape), found.bound.reshape(shape)
    judged = []
    for (task, here), means, limits in zip(kept, estimate, bound):
        played = np.unique(stratum[here])
        recorded = scores.recorded[here].sum(0)
        for row, candidate in enumerate(candidates):
            support = int(recorded[candidate.members[played].any(0)].min())
            (quality, failure, extra), (low, high, dear) = means[:, row], limits[:, row]
            good = asked.met(low, high)
            judged.append(
                Judged(
                    candidate=candidate,
                    task=None if task is None else TASK_TYPES[task],
                    quality=float(quality),
                    quality_low=float(low),
                    failure=float(failure),
                    failure_high=float(high),
                    tokens=float(extra),
                    tokens_high=float(dear),
                    support=support,
                    passes=bool(good and support >= asked.support),
                )
            )
    return judged
