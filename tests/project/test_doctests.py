"""Every public name is documented with an example, and every example runs.

The examples of `stackjax.agents` run in `test_doctests_agents.py`, beside these.
"""

import doctest
import inspect

import pytest
from public_names import documentation, examples, public_names, public_packages, run

CORE = [name for name in examples() if not name.startswith("stackjax.agents")]


@pytest.mark.parametrize("name", CORE)
def test_example(name):
    failures = run(examples()[name])
    assert not failures, failures


@pytest.mark.parametrize("package", public_packages())
def test_every_public_name_has_an_example(package):
    texts = {name: documentation(owner, name) for owner, name in public_names() if owner == package}
    assert texts
    undocumented = [name for name, text in texts.items() if not text.strip()]
    assert not undocumented, f"{package}: without a docstring: {undocumented}"
    owner = public_packages()[package]  # of a module, its names have examples
    texts = {n: text for n, text in texts.items() if not inspect.ismodule(getattr(owner, n))}
    silent = [name for name, text in texts.items() if ">>>" not in text]
    assert not silent, f"{package}: without an example (`>>>`): {silent}"
    collected = {test.docstring for test in examples().values()}
    lost = [name for name, text in texts.items() if text not in collected]
    assert not lost, f"{package}: with an example that no test runs: {lost}"


def test_a_wrong_example_is_told():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    failures = run(wrong)
    assert "1 + 1" in failures and "3" in failures and "2" in failures
