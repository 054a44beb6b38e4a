"""Falsifies: a converged response in a box is the maximum, in any units, with its derivatives.

Strictly concave quadratics, answered by trying every set of held coordinates. Bounds are random,
short decimals (which no binary fraction equals), one-sided or equal; starts lie inside, at corners
and outside.
"""

import pytest
from expect import holds

from experiments.oracle.boxes import BOXES

LONG = ("d = 8", "d = 12", "d = 64", "one-sided", "d = 5", "pinned", "random", "as rows")
"""Others of the same code, for `-m slow`."""


def marked(kind):
    slow = any(part in kind.name for part in LONG)
    return pytest.param(kind, id=kind.name, marks=[pytest.mark.slow] * slow)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [marked(kind) for kind in BOXES])
def test_quadratics_in_boxes(kind, dtype):
    holds(kind, dtype, games=400)
