"""Outcomes, cell scores, simultaneous bounds, and the action set that they lead to."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_turns import GRID, synthetic_log, true_quality

import stackjax as sj
from stackjax.agents.repair._cells import CellSummary
from stackjax.agents.repair._selection import strata
from stackjax.agents.tasks._tasks import TASK_TYPES

RECORDS = synthetic_log(0, random=120, heuristic=20, factorial=60)
FACTORIAL = [r for r in RECORDS if r.design == "factorial"]
RANDOM = [r for r in RECORDS if r.design == "random"]
BASE = (1.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def log():
    return sj.agents.log.outcomes(FACTORIAL)


@pytest.fixture(scope="module")
def fresh():
    """Turns of other episodes."""
    return sj.agents.log.outcomes(synthetic_log(1, random=0, heuristic=0, factorial=60))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prompt_tokens": float("nan")},
            r"`records\[1\].tokens` must be finite and positive; got nan",
        ),
        (
            {"executed": (0.5, 1.5, 0.0)},
            r"`records\[1\].executed` must be three numbers in \[0, 1\]; got",
        ),
        ({"executed": (0.5, float("nan"), 0.0)}, r"`records\[1\].executed` must be three numbers"),
        ({"propensity": 0.0}, r"propensity` must be in \(0, 1\], or None; got 0.0"),
        (
            {"task": "singing"},
            r"`records\[1\].task` must be one of \'casual_chat\', .*; got \'singing\'",
        ),
        ({"model": "other"}, "must be of one model; got other, synthetic"),
        (
            {"executed": (0.5, 0.5)},
            r"executed` must have shape \(3,\), \(c, p, u\); got shape \(2,\)",
        ),
        ({"state": {"task_complexity": float("nan")}}, "task_complexity` must be in .*; got nan"),
        ({"state": {}}, "task_complexity` must be in .*; got nan"),
    ],
)
def test_bad_records_are_refused(change, message):
    wrong = dataclasses.replace(RECORDS[1], **change)
    with pytest.raises(ValueError, match=message):
        sj.agents.log.outcomes([RECORDS[0], wrong])


def test_a_turn_recorded_twice_is_refused():
    with pytest.raises(ValueError, match=r"`records\[2\]` must .*; got record 0 again: turn 0"):
        sj.agents.log.outcomes([*FACTORIAL[:2], FACTORIAL[0]])
    with pytest.raises(ValueError, match="at least one record; got none"):
        sj.agents.log.outcomes([])


def test_a_turn_without_an_answer_has_failed():
    answers = ("fine", "", "CALC: 1+1", "fine")
    made = [
        dataclasses.replace(r, answer=answer, fallback="timeout" if i == 3 else None)
        for i, (r, answer) in enumerate(zip(FACTORIAL, answers))
    ]
    assert sj.agents.log.outcomes(made).failed.tolist() == [0, 1, 1, 1]


def test_rows_are_picked_by_a_mask_of_their_length_only(log):
    assert len(log.take(log.task == 4)) == (log.task == 4).sum()
    assert len(log.take(np.array([0, 5]))) == 2
    with pytest.raises(ValueError, match="`mask` must have shape"):
        log.take(np.ones(5, bool))
    with pytest.raises(ValueError, match=r"must have shape \(3,\), \(c, p, u\); got shape"):
        log.row([1.0])


def test_scores_of_factorial_turns_are_the_records(log):
    scores = sj.agents.log.cell_scores(log)
    assert scores.correct.shape == (len({(r.episode, r.turn) for r in FACTORIAL}), 27)
    assert scores.recorded.all() and scores.incomplete == 0
    for row in (0, 17, 900):
        record = log.records[row]
        turn = [
            t for t, at in enumerate(scores.row)
            if (log.records[at].episode, log.records[at].turn) == (record.episode, record.turn)
        ]  # fmt: skip
        assert scores.correct[turn[0], log.row(record.executed)] == record.correct


def test_scores_of_random_turns_are_unbiased():
    """A random log is drawn from a factorial one many times: the mean score is the record."""
    few = [r for r in FACTORIAL[: 27 * 60] if r.executed[1:] == (0.5, 0.5)]
    truth = sj.agents.log.cell_scores(sj.agents.log.outcomes(few)).tokens.mean(0)
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        rows = [3 * turn + rng.integers(3) for turn in range(60)]
        drawn = [dataclasses.replace(few[row], propensity=1 / 3) for row in rows]
        found.append(sj.agents.log.cell_scores(sj.agents.log.outcomes(drawn)).tokens.mean(0))
    error = np.mean(found, axis=0) - truth
    assert (np.abs(error) < 4 * np.std(found, axis=0) / 200**0.5).all()
    assert (np.std(found, axis=0) < 0.2 * truth).all()


def test_an_incomplete_factorial_turn_is_left_out_and_counted(log):
    cut = sj.agents.log.outcomes(FACTORIAL[:-1])
    scores = sj.agents.log.cell_scores(cut)
    assert scores.incomplete == 1 and len(scores) == len(sj.agents.log.cell_scores(log)) - 1


def test_a_turn_under_two_designs_is_refused():
    other = dataclasses.replace(FACTORIAL[3], propensity=0.5)
    with pytest.raises(ValueError, match="two propensities"):
        sj.agents.log.cell_scores(sj.agents.log.outcomes([*FACTORIAL[:3], other]))
    twin = dataclasses.replace(FACTORIAL[0], policy="another")
    with pytest.raises(ValueError, match="one cell twice"):
        sj.agents.log.cell_scores(sj.agents.log.outcomes([*FACTORIAL[:27], twin]))
    unknown = [r for r in RECORDS if r.design == "heuristic"]
    with pytest.raises(ValueError, match="rows with a propensity, .*; got none"):
        sj.agents.log.cell_scores(sj.agents.log.outcomes(unknown))


def test_bounds_hold_together():
    """Family-wise: of 25 correlated means, none is wrong in nearly all samples."""
    rng, held = np.random.default_rng(0), 0
    for sample in range(120):
        shared = rng.normal(size=(30, 1)) + rng.normal(size=(30, 25))
        values = np.repeat(shared, 4, axis=0) + rng.normal(size=(120, 25))
        upper = np.arange(25) % 2 == 0
        found = sj.stats.simultaneous_bounds(
            values, np.repeat(np.arange(30), 4), upper=upper, unit=0.0, level=0.9, seed=sample,
            draws=400,
        )  # fmt: skip
        held += bool(np.where(upper, found.bound >= 0, found.bound <= 0).all())
    assert 0.82 <= held / 120 <= 0.99


def test_bounds_of_what_was_never_seen_and_of_what_is_missing():
    values = np.zeros((40, 3))
    values[:20, 2] = np.nan
    found = sj.stats.simultaneous_bounds(
        values, np.arange(40), upper=True, unit=1.0, level=0.95, seed=0
    )
    np.testing.assert_allclose(found.bound, np.log(3 / 0.05) / np.array([40, 40, 20]))
    empty = sj.stats.simultaneous_bounds(
        values[:, :0], np.arange(40), upper=True, unit=1.0, level=0.95, seed=0
    )
    assert empty.bound.shape == (0,)


@pytest.mark.parametrize("rate", [0.085, 0.1])
def test_the_bound_of_a_rare_event_holds_where_a_few_were_seen(rate):
    """Rates at which the standard error alone, or the unseen events alone, are too optimistic."""
    rng, held = np.random.default_rng(0), 0
    episode = np.repeat(np.arange(20), 5)
    for sample in range(300):
        seen = (rng.uniform(size=(100, 3)) < rate).astype(float)
        found = sj.stats.simultaneous_bounds(
            seen, episode, upper=True, unit=1.0, level=0.95, seed=sample, draws=200
        )
        held += bool((found.bound >= rate).all())
    assert held / 300 >= 0.935


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.full((4, 1), np.inf)}, "must not be infinite; got 4 such of 4"),
        ({"unit": -1.0}, "`unit` must .*; got -1.0"),
        ({"upper": np.ones(3, bool)}, "`upper` must .*; got shape"),
        ({"draws": 0}, "`draws` must .*; got 0"),
        ({"values": np.zeros(4)}, r"must be \[T, M\]"),
        ({"level": 1.0}, "`level` must .*; got 1.0"),
        ({"episode": np.zeros(4)}, "at least 2 episodes for each mean; mean 0 counts 1"),
    ],
)
def test_wrong_bounds(change, message):
    given = {"values": np.zeros((4, 1)), "episode": np.arange(4), "level": 0.9, "seed": 0}
    given |= {"upper": True, "unit": 1.0} | change
    with pytest.raises(ValueError, match=message):
        sj.stats.simultaneous_bounds(**given)


def marked(log, name, allowed):
    members = np.tile([allowed(cell) for cell in log.cells], (12, 1))
    return sj.agents.repair.Candidate(name, "box", members)


def test_the_cheapest_candidate_that_passes_is_chosen_and_confirmed(log, fresh):
    """Without tools the hard tasks fail, without prompts nothing is lost: that is what is found."""
    candidates = [
        marked(log, "no tools", lambda r: r[2] == 0.0 and r[1] == 0.0),
        marked(log, "no prompt", lambda r: r[2] == 1.0 and r[1] == 0.0 and r[0] >= 0.5),
        marked(log, "all tools", lambda r: r[2] == 1.0 and r[0] == 1.0),
    ]
    asked = sj.agents.repair.Requirements(margin=0.1, max_failure=0.1, support=5)
    choice = sj.agents.repair.select_action_set(
        log, baseline=BASE, candidates=candidates, requirements=asked
    )
    passing = {one.candidate.name for one in choice.judged if one.passes}
    assert passing == {"no prompt", "all tools"}
    assert all("no prompt" in reason for reason in choice.reasons)
    assert choice.members[:, choice.baseline].all() and not choice.fallen_back
    sure = sj.agents.repair.confirm_action_set(choice, fresh)
    assert sure.confirmed and sure.tokens_high < 0 and sure.quality_low <= sure.quality
    truth = []
    for row in sj.agents.log.cell_scores(fresh).row:
        record = fresh.records[row]
        value = lambda cell, r=record: true_quality(r.task, r.state["task_complexity"], cell)
        members = choice.members[0]
        played = np.mean([value(cell) for cell, is_in in zip(fresh.cells, members) if is_in])
        truth.append(played - value(BASE))
    assert sure.quality_low < np.mean(truth)
    sets = choice.sets
    assert sets.actions.shape == (12, 27, 3)
    kept = {tuple(float(x) for x in cell) for cell in np.asarray(sets.actions[0])}
    assert kept == {(0.5, 0.0, 1.0), (1.0, 0.0, 1.0), BASE}


def test_nothing_passes_or_too_few_turns_leave_the_baseline(log, fresh):
    asked = sj.agents.repair.Requirements(margin=0.0, max_failure=0.0)
    choice = sj.agents.repair.select_action_set(log, baseline=BASE, requirements=asked)
    assert set(choice.fallen_back) == set(TASK_TYPES)
    assert all("candidates passes" in reason for reason in choice.reasons)
    np.testing.assert_array_equal(
        np.asarray(choice.sets.actions), np.broadcast_to(np.asarray(BASE, np.float32), (12, 27, 3))
    )
    sure = sj.agents.repair.confirm_action_set(choice, fresh)
    assert sure.quality == sure.quality_low == sure.tokens == 0.0
    thin = sj.agents.repair.Requirements(margin=0.1, support=10_000)
    all_of_them = [marked(log, "all", lambda r: True)]
    choice = sj.agents.repair.select_action_set(
        log, baseline=BASE, requirements=thin, candidates=all_of_them
    )
    assert not choice.judged[0].passes and choice.judged[0].support < 10_000


def test_by_task_and_a_task_type_without_turns(log):
    chat = log.task != TASK_TYPES.index("casual_chat")
    choice = sj.agents.repair.select_action_set(
        log.take(chat),
        baseline=BASE,
        by_task=True,
        candidates=[marked(log, "all tools", lambda r: r[2] == 1.0)],
        requirements=sj.agents.repair.Requirements(margin=0.3, max_failure=0.3, support=3),
    )
    assert choice.reasons[0] == "baseline: no turn"
    assert choice.reasons[5] == "all tools"
    assert "casual_chat" in choice.fallen_back and "complex_reasoning" not in choice.fallen_back


def test_a_policy_of_its_own_is_confirmed(log, fresh):
    choice = sj.agents.repair.select_action_set(log, baseline=BASE)
    scores = sj.agents.log.cell_scores(fresh)
    cheapest = np.zeros_like(scores.correct)
    cheapest[:, 0] = 1.0
    found = sj.agents.repair.confirm_action_set(choice, fresh, played=cheapest)
    difference = scores.correct[:, 0].mean() - scores.correct[:, log.row(BASE)].mean()
    assert found.quality == pytest.approx(difference) and not found.confirmed
    negative = cheapest.copy()
    negative[:, :2] = 2.0, -1.0
    for wrong, message in (
        (0.5 * cheapest, "must have rows that sum to 1"),
        (negative, r"must not be negative; got -1 at index \(0, 1\)"),
    ):
        with pytest.raises(ValueError, match=f"`played` {message}"):
            sj.agents.repair.confirm_action_set(choice, fresh, played=wrong)
    with pytest.raises(ValueError, match="cells of the choice; got .* others"):
        sj.agents.repair.confirm_action_set(choice, sj.agents.log.outcomes(FACTORIAL[:3]))


def test_what_the_log_never_ran_is_not_confirmed():
    """The baseline, right nine times in ten, and a cheap cell with a propensity of 1e-4, never run.

    Half of the play is of the cheap cell, and nothing in the log speaks against it.
    """
    cells, count = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), 400
    at = np.arange(count)
    right = (at % 10 > 0).astype(float)
    logged = lambda cell, share: sj.agents.log.Outcomes(
        cells, cell=cell, tokens=100.0 + 100 * cell, correct=right, failed=np.zeros(count),
        propensity=share, turn=at, episode=at, task=np.full(count, 5),
        complexity=np.full(count, 0.9), records=(),
    )  # fmt: skip
    some = logged(at % 2, np.full(count, 0.5))
    asked = sj.agents.repair.Requirements(margin=0.2, max_failure=0.1)
    choice = sj.agents.repair.select_action_set(
        some,
        baseline=(1, 1, 1),
        requirements=asked,
        candidates=sj.agents.repair.single_cells(cells),
    )
    played = np.full((count, 2), 0.5)
    often = logged((at % 100 > 0).astype(int), np.where(at % 100, 0.99, 0.01))
    never = logged(np.ones(count, int), np.full(count, 0.9999))
    assert sj.agents.repair.confirm_action_set(choice, some, played=played).confirmed
    assert not sj.agents.repair.confirm_action_set(choice, often, played=played).confirmed
    assert not sj.agents.repair.confirm_action_set(choice, never, played=played).confirmed


def test_turns_of_the_choice_do_not_confirm_it(log):
    choice = sj.agents.repair.select_action_set(log.take(log.episode < 30), baseline=BASE)
    sj.agents.repair.confirm_action_set(choice, log.take(log.episode >= 30))
    with pytest.raises(ValueError, match="not used for the choice; got 1 that were"):
        sj.agents.repair.confirm_action_set(choice, log.take(log.episode >= 29))


def test_a_log_without_one_whole_turn_is_refused():
    rest = [r for r in FACTORIAL if r.executed != (0.0, 0.0, 0.0)]
    moved = [
        dataclasses.replace(r, episode=f"other {r.episode}", propensity=None)
        for r in FACTORIAL
        if r.executed == (0.0, 0.0, 0.0)
    ]
    with pytest.raises(ValueError, match="was run under all 27 cells if"):
        sj.agents.log.cell_scores(sj.agents.log.outcomes([*rest, *moved]))


def test_candidates(log):
    boxes = sj.agents.repair.nested_boxes(log.cells)
    assert len(boxes) == 2 * 27 - 1  # the whole cube is in both families once
    assert all(box.members.shape == (12, 27) for box in boxes)
    assert [one.members.sum() for one in sj.agents.repair.single_cells(log.cells)] == [12] * 27
    tried = np.random.default_rng(0).uniform(0.4, 1.0, size=(200, 3))
    nested = sj.agents.repair.support_ellipsoids(log.cells, tried, shares=(0.5, 0.9, 1.0))
    sizes = [one.members[0].sum() for one in nested]
    assert sizes == sorted(sizes) and sizes[-1] < 27
    assert nested[-1].members[0][log.row((0.5, 0.5, 0.5))]
    with pytest.raises(ValueError, match="vary in each channel .*; got a constant u"):
        sj.agents.repair.support_ellipsoids(
            log.cells, np.array([[0, 0, 1.0], [1, 0.5, 1], [0.2, 1, 1]])
        )
    with pytest.raises(ValueError, match=r"`shares` must lie in \(0, 1\]"):
        sj.agents.repair.support_ellipsoids(log.cells, tried, shares=(0.0,))
    with pytest.raises(ValueError, match="no channel that follows from the others"):
        sj.agents.repair.support_ellipsoids(log.cells, np.linspace(0, 1, 9)[:, None] * np.ones(3))
    with pytest.raises(ValueError, match="`tried` must lie in"):
        sj.agents.repair.support_ellipsoids(log.cells, np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="`cells` must be .K, 3."):
        sj.agents.repair.nested_boxes(np.zeros(3))


def test_candidates_of_predicted_quality():
    cells = np.array(GRID[:3])
    quality = np.tile([0.5, 0.6, 0.52], (12, 1))
    quality[3] = [0.9, 0.6, 0.7]
    quality[4] = np.nan
    summary = CellSummary(
        cells, np.ones(3), quality[0], np.ones(3), quality[0], np.array([1.0, 3.0, 2.0]), quality,
        np.ones(12),
    )  # fmt: skip
    found = sj.agents.repair.predicted_quality(summary, 1, losses=(0.09,), cheapest=(1,))
    assert found[0].members[0].tolist() == [False, True, True]
    assert found[0].members[3].tolist() == [True, True, True]
    assert found[0].members[4].tolist() == [False, True, False]  # nothing is known there
    assert found[1].members[0].tolist() == [False, False, True]
    assert found[1].members[3].tolist() == [True, False, False]


def test_wrong_requests(log):
    with pytest.raises(ValueError, match="must be one of the recorded cells"):
        sj.agents.repair.select_action_set(log, baseline=(0.3, 0.0, 0.0))
    wrong = sj.agents.repair.Candidate("odd", "box", np.zeros((12, 27), bool))
    with pytest.raises(ValueError, match="'odd' must have members"):
        sj.agents.repair.select_action_set(log, baseline=BASE, candidates=[wrong])
    with pytest.raises(ValueError, match="`candidates` must hold at least one; got none"):
        sj.agents.repair.select_action_set(log, baseline=BASE, candidates=[])
    with pytest.raises(ValueError, match=r"`margin` must lie in \[0, 1\]"):
        sj.agents.repair.Requirements(margin=2.0)
    with pytest.raises(ValueError, match=r"`level` must lie in \(0, 1\); got 0.0"):
        sj.agents.repair.Requirements(level=0.0)
    with pytest.raises(ValueError, match="`support` must be at least 1; got 0"):
        sj.agents.repair.Requirements(support=0)


def test_random_turns_alone_are_enough_in_principle():
    log = sj.agents.log.outcomes(RANDOM)
    choice = sj.agents.repair.select_action_set(
        log,
        baseline=BASE,
        candidates=[marked(log, "all tools", lambda r: r[2] == 1.0)],
        requirements=sj.agents.repair.Requirements(margin=1.0, max_failure=1.0, support=1),
    )
    assert choice.judged[0].passes and choice.judged[0].quality_low > -1.0
    scores = sj.agents.log.cell_scores(log)
    assert (scores.weight == 27).all() and strata(scores).max() <= 11
    assert jnp.isfinite(choice.sets.actions).all()
