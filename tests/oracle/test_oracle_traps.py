"""Falsifies: `converged` stands only beside an answer, where there is none it does not stand."""

import pytest

from experiments.oracle.traps import TRAPS, caught

QUICK = {
    ("equalities that contradict", "float32"),
    ("discs apart", "float32"),
    ("linear, half open", "float32"),
    ("logarithm, half open", "float64"),
    ("saturating, half open", "float64"),
}


@pytest.mark.parametrize(
    ("trap", "dtype"),
    [
        pytest.param(
            trap,
            dtype,
            id=f"{trap.name}-{dtype}",
            marks=[pytest.mark.slow] * ((trap.name, dtype) not in QUICK),
        )
        for trap in TRAPS
        for dtype in ("float32", "float64")
    ],
)
def test_what_has_no_answer_is_never_converged(trap, dtype):
    silent, games = caught(trap, dtype, games=200)
    first = {name: value[silent.argmax()].tolist() for name, value in games.items()}
    assert not silent.any(), f"{silent.sum()} of 200 converged, such as {first}"
