"""Every example of `stackjax.agents` runs; see `test_doctests.py`."""

import pytest
from public_names import examples, run

AGENTS = [name for name in examples() if name.startswith("stackjax.agents")]


@pytest.mark.parametrize("name", AGENTS)
def test_example(name):
    failures = run(examples()[name])
    assert not failures, failures
