"""README's code blocks run, and print what they say."""

import contextlib
import io
import pathlib
import re

import jax
import pytest

README = pathlib.Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def namespace():
    """One namespace for all blocks, as in a reader's session; names from anywhere are allowed."""
    with jax.numpy_rank_promotion("allow"):
        yield {}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number, namespace):
    printed, code = io.StringIO(), BLOCKS[number]
    with contextlib.redirect_stdout(printed):
        exec(compile(code, f"README block {number + 1}", "exec"), namespace)
    promised = re.findall(r"print\(.*\)\s*# (.*)", code)
    lines = printed.getvalue().splitlines()
    assert [line.split() for line in lines] == [line.split() for line in promised]
