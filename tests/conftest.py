import os

from experiments.common.compile import unoptimised_flags

# Most programs here run once: unoptimised they compile in half the time. What optimisation can
# change, rounding above all, `test_as_users_compile.py` runs again as users do.
os.environ.setdefault("XLA_FLAGS", unoptimised_flags())

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def x64():
    """Runs one test in float64."""
    with jax.enable_x64(True):
        yield
