"""The followers' solvers again with XLA's optimisations, which the other tests do without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
QUICK = [
    "solvers/test_quick_attempt.py::test_batch_is_loop",
    "solvers/test_constrained.py::test_known_active_sets",
]
CHOSEN = [
    "arrays/test_components.py",
    "follower/test_best_response.py::test_float32_converges_and_agrees",
    "follower/test_best_response.py::test_batch_equals_loop_with_a_hard_and_a_failing_member",
    "follower/test_best_response.py::test_total_derivatives_against_finite_differences",
]


@pytest.mark.parametrize(
    "group", [QUICK, pytest.param(CHOSEN, marks=pytest.mark.slow)], ids=["quick", "all"]
)
def test_optimised(group):
    command = [sys.executable, "-m", "pytest", "-n", "0", "--no-header", *map(str, group)]
    done = subprocess.run(
        command, cwd=TESTS, env={**os.environ, "XLA_FLAGS": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:] + done.stderr
