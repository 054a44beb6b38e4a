import os
from pathlib import Path

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


# Linux lets a process map 65,530 pieces of memory; a compiled program takes a few, and one more
# than there are ends the process.
MAPS, MANY = Path("/proc/self/maps"), 30_000


@pytest.fixture(scope="module", autouse=True)
def room_for_programs():
    """Drops compiled programs between files, when there are very many."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
