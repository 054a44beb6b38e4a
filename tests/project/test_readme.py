"""README's code blocks run, and print what they say."""

import pathlib

import pytest
from code_blocks import python_blocks, run_block

README = pathlib.Path(__file__).parents[2] / "README.md"
BLOCKS = python_blocks(README.read_text())


@pytest.fixture(scope="module")
def namespace():
    """One namespace for all blocks."""
    return {}


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block(number, namespace):
    run_block(BLOCKS[number], f"README block {number + 1}", namespace)
