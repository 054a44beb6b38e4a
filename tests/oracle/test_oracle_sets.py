"""Falsifies: a converged response in any set is the maximum, in any units, with its derivatives.

Curved utilities in boxes, polyhedra however they are written down, simplices, balls and smooth
constraints; one slice of `experiments/oracle`.
"""

import pytest
from expect import holds

from experiments.oracle.curved import CURVED
from experiments.oracle.polyhedra import POLYHEDRA
from experiments.oracle.shares import SHARES
from experiments.oracle.smooth import SMOOTH

QUICK = {
    ("logarithm, d = 3", "float32"),
    ("exponential, d = 3", "float64"),
    ("equality, and as two inequalities, d = 3", "float64"),
    ("simplex, d = 3", "float32"),
    ("ball, d = 3", "float32"),
    ("ellipsoid, d = 3", "float64"),
}
"""One precision of one kind of each code; the others with `-m slow`."""

CASES = [
    pytest.param(
        kind,
        dtype,
        id=f"{kind.name}-{dtype}",
        marks=[pytest.mark.slow] * ((kind.name, dtype) not in QUICK),
    )
    for kind in (*CURVED, *POLYHEDRA, *SHARES, *SMOOTH)
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_responses_in_sets(kind, dtype):
    holds(kind, dtype, games=400)
