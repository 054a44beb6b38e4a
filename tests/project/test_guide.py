"""Every page of the guide is listed, and its code blocks run and print what they say."""

import ast
import importlib
import inspect
import pathlib
import pkgutil

import pytest
from code_blocks import promised, python_blocks, run_block

from stackjax import guide

PAGES = {
    info.name.removeprefix("stackjax.guide."): importlib.import_module(info.name)
    for info in pkgutil.walk_packages(guide.__path__, "stackjax.guide.")
}
BLOCKS = {name: python_blocks(page.__doc__ or "") for name, page in PAGES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_page_is_listed(name):
    parent = guide if "." not in name else PAGES[name.rpartition(".")[0]]
    assert name.rpartition(".")[2] in parent.__all__
    assert f"`{name}`" in (guide.__doc__ or ""), "not in the list of stackjax/guide/__init__.py"


@pytest.mark.parametrize("name", [n for n in PAGES if not hasattr(PAGES[n], "__path__")])
def test_page_is_a_docstring(name):
    source = pathlib.Path(inspect.getfile(PAGES[name])).read_text()
    body = ast.parse(source).body
    assert len(body) == 1 and ast.get_docstring(ast.parse(source)), "more than a docstring"


@pytest.fixture(scope="module")
def namespaces():
    """One namespace a page: a page needs no other."""
    return {name: {} for name in PAGES}


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, blocks in BLOCKS.items() for n in range(len(blocks))]
)
def test_block(name, number, namespaces):
    run_block(BLOCKS[name][number], f"{name}, block {number + 1}", namespaces[name])


def test_a_wrong_block_is_reported():
    right = "print(1)  # 1\nprint('2\\n3')\n# 2\n# 3\n# a remark, printed by nothing\nx = 1\n"
    with pytest.raises(AssertionError):
        run_block(right, "remark below", {})
    right = right.replace("# a remark, printed by nothing\n", "\n# a remark\n")
    assert promised(right) == ["1", "2", "3"]
    run_block(right, "right", {})
    for wrong in ("print(1)  # 2\n", "print(1)\n", "x = 1\nprint(x)  # 1\nprint(x)  # 1 2\n"):
        with pytest.raises(AssertionError):
            run_block(wrong, "wrong", {})
