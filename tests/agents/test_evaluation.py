import numpy as np
import pytest
from synthetic_turns import observe, synthetic_log

from stackjax.agents.evaluation import compare
from stackjax.agents.evaluation._replay import constant, factorial, replay
from stackjax.stats._bootstrap import Interval, clustered_mean, clustered_ratio


@pytest.fixture(scope="module")
def records():
    return synthetic_log(5, random=2, heuristic=0, factorial=12)


@pytest.fixture(scope="module")
def table(records):
    return factorial(records)


def test_factorial_holds_every_cell_of_every_turn(records, table):
    assert table.cells.shape == (27, 3)
    assert table.present.sum() == sum(r.design == "factorial" for r in records) / 27
    record = records[-1]
    e, k = table.episodes.index(record.episode), table.cell(record.executed)
    tokens = record.prompt_tokens + record.completion_tokens
    assert table.tokens[e, record.turn, k] == tokens
    assert table.correct[e, record.turn, k] == record.correct


def test_incomplete_episodes_are_left_out(records):
    torn = factorial(records[:-1])
    assert len(torn.episodes) == 11
    assert records[-1].episode not in torn.episodes
    with pytest.raises(ValueError, match="factorial"):
        factorial([r for r in records if r.design == "random"])
    with pytest.raises(ValueError, match="must be one of the 27 cells"):
        torn.cell((0.3, 0.0, 0.0))


def test_replay_of_a_constant_is_the_recorded_column(table):
    cell = (1.0, 0.5, 0.0)
    played = replay(table, constant(table, cell), first_action=(0.8, 0.5))
    k = table.cell(cell)
    np.testing.assert_array_equal(played.tokens, table.tokens[:, :, k] * table.present)
    np.testing.assert_array_equal(played.correct, table.correct[:, :, k] * table.present)


def test_replay_is_exact_for_a_policy_that_reads_its_own_past(table):
    """Against a plain loop over episodes and turns, written without the library's replay."""

    def rule(state, previous):
        """Cheap when the session has been dear, and a signal that remembers."""
        k = 9 if state["mean_tokens"] > 220 else 26
        k = 13 if state["budget"] < 0.6 and state["recent_quality"] > 0.5 else k
        return k, (0.6 + 0.3 * state["recent_quality"], 0.5 * previous[1] + 0.1)

    def policy(state, previous):
        answers = [
            rule({n: float(getattr(state, n)[e]) for n in state.__dict__}, previous[e])
            for e in range(len(previous))
        ]
        return np.array([a[0] for a in answers]), np.array([a[1] for a in answers])

    played = replay(table, policy, first_action=(0.8, 0.5))
    used = set()
    for e in range(len(table.episodes)):
        outcomes, previous = [], (0.8, 0.5)
        for t in range(table.present[e].sum()):
            state = observe(table.states[e][t], outcomes, table.present[e].sum())
            k, previous = rule(state, previous)
            outcomes.append((table.tokens[e, t, k], table.correct[e, t, k]))
            used.add(k)
            assert played.cell[e, t] == k
            assert played.tokens[e, t] == table.tokens[e, t, k]
            np.testing.assert_allclose(played.action[e, t], previous, atol=1e-6)
    assert used == {9, 13, 26}


def test_compare_is_paired(table):
    rich = replay(table, constant(table, (1, 1, 1)), first_action=(0.8, 0.5))
    lean = replay(table, constant(table, (0.5, 0, 0.5)), first_action=(0.8, 0.5))
    result = compare(lean, rich, seed=0)
    turns = table.present.sum()
    assert result["tokens"].estimate == pytest.approx(lean.tokens.sum() / turns)
    difference = (lean.correct - rich.correct).sum() / turns
    assert result["correct_difference"].estimate == pytest.approx(difference)
    assert result["saving"].estimate == pytest.approx(1 - lean.tokens.sum() / rich.tokens.sum())
    assert result == compare(lean, rich, seed=0)
    assert result["tokens"] != compare(lean, rich, seed=1)["tokens"]
    same = compare(rich, rich, seed=0)
    assert same["tokens_difference"] == Interval(0.0, 0.0, 0.0)


def test_bootstrap_covers_clustered_means_and_ignoring_clusters_does_not():
    rng = np.random.default_rng(0)
    episodes, length, trials, truth = 30, 6, 300, 0.4
    hits, naive = 0, 0
    for trial in range(trials):
        effect = rng.normal(size=(episodes, 1))
        values = truth + effect + 0.5 * rng.normal(size=(episodes, length))
        present = np.arange(length) < rng.integers(2, length + 1, size=(episodes, 1))
        interval = clustered_mean(values, present, seed=trial)
        hits += interval.low <= truth <= interval.high
        flat = values[present]
        naive += abs(flat.mean() - truth) <= 1.96 * flat.std() / flat.size**0.5
    assert 0.90 <= hits / trials <= 0.98
    assert naive / trials < 0.8


def test_interval_errors():
    with pytest.raises(ValueError, match="`over` must have at least 2"):
        clustered_mean(np.ones((1, 3)), np.ones((1, 3)), seed=0)
    with pytest.raises(ValueError, match="`level` must .*; got 95"):
        clustered_mean(np.ones((4, 3)), np.ones((4, 3)), seed=0, level=95)
    with pytest.raises(ValueError, match=r"one shape, \[E, T\]; got \(4, 3\), \(4, 2\)"):
        clustered_mean(np.ones((4, 3)), np.ones((4, 2)), seed=0)
    with pytest.raises(ValueError, match="must be positive"):
        clustered_ratio(np.ones(3), np.zeros(3), seed=0)
