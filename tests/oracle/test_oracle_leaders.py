"""Falsifies: a converged play answers the leader's problem, in any units of both utilities."""

import pytest

from experiments.oracle.finite import FINITE, judge_finite
from experiments.oracle.leaders import LEADERS, judge_leader


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", LEADERS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("units", [False, True])
def test_leaders(kind, dtype, units):
    tally = judge_leader(kind, dtype, games=24, units=units)
    assert tally.wrong + tally.not_finite == 0, f"{tally}"
    assert tally.missed <= kind.missed * tally.games + 1, f"{tally}"
    share = kind.unconverged[dtype == "float64"]
    assert tally.unconverged <= share * tally.games + 1, f"{tally}"


def test_a_leader_in_other_units():
    kind = next(kind for kind in LEADERS if "Newton" in kind.name)
    for units in (False, True):
        tally = judge_leader(kind, "float32", games=100, units=units)
        assert tally.wrong + tally.not_finite == 0, f"{tally}"
        assert tally.missed + tally.unconverged <= 10, f"{tally}"


@pytest.mark.parametrize("sort", FINITE)
def test_finite_games(sort):
    tally = judge_finite(sort, games=40)
    assert tally.wrong == 0, f"{tally}"
