"""What is public, what documents it, and how its examples are run; for the tests of both."""

import ast
import doctest
import functools
import importlib
import inspect
import itertools
import pkgutil
import types
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import stackjax as sj
from stackjax.runtime.policy._known_policy import known_policy

# What an example may take for granted, as the documentation says on its first page.
NAMES = {
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "nnx": nnx,
    "sj": sj,
    "known_world": sj.agents.control.known_world,
    "known_policy": known_policy,
}

LOCAL = ("stackjax.agents", "stackjax.runtime", "stackjax.stats")


@functools.cache
def modules() -> dict[str, types.ModuleType]:
    """All modules of the library, by name, the private ones included."""
    found = {"stackjax": sj}
    for info in pkgutil.walk_packages(sj.__path__, "stackjax."):
        found[info.name] = importlib.import_module(info.name)
    return found


@functools.cache
def public_packages() -> dict[str, types.ModuleType]:
    """The packages that have an `__all__` and no private part in their name."""
    return {
        name: module
        for name, module in modules().items()
        if hasattr(module, "__path__") and hasattr(module, "__all__") and "._" not in name
    }


def public_names() -> Iterator[tuple[str, str]]:
    """Each public package with each of its names."""
    for package, module in public_packages().items():
        for name in module.__all__:
            yield package, name


def documentation(package: str, name: str) -> str:
    """The docstring of a public name, its own and not that of its type or base class."""
    value = getattr(public_packages()[package], name)
    if isinstance(value, types.ModuleType) or inspect.isclass(value):
        return value.__dict__.get("__doc__") or ""
    if inspect.isroutine(inspect.unwrap(value)):
        return value.__doc__ or ""
    return _below_assignment(package, name)


def _below_assignment(package: str, name: str) -> str:
    # A constant has no docstring of its own: it is the string below its assignment.
    for module in modules().values():
        if not module.__name__.startswith(package) or name not in module.__dict__:
            continue
        for statement, below in itertools.pairwise(ast.parse(inspect.getsource(module)).body):
            if isinstance(statement, ast.Assign):
                targets = statement.targets
            elif isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            else:
                continue
            named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            if named and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                return str(below.value.value)
    return ""


@functools.cache
def examples() -> dict[str, doctest.DocTest]:
    """Every docstring with an example, each once, by the name of what it documents."""
    finder, parser = doctest.DocTestFinder(), doctest.DocTestParser()
    found = {}
    for module in modules().values():
        for test in finder.find(module, extraglobs=NAMES):
            if not test.name.startswith(LOCAL):
                # as a reader types it; those of these rooms may name their neighbours
                test.globs = {"__name__": "__main__", **NAMES}
            found[test.name] = test
    documented = {test.docstring for test in found.values()}
    for package, name in public_names():
        text = documentation(package, name)
        if ">>>" in text and text not in documented:  # a constant
            scope = {**vars(public_packages()[package]), **NAMES}
            title = f"{package}.{name}"
            found[title] = parser.get_doctest(text, scope, title, None, None)
    return {name: test for name, test in found.items() if test.examples}


def run(test: doctest.DocTest) -> str:
    """Runs one docstring's examples as a user would; what failed, in words, or ''."""
    written: list[str] = []
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    with jax.numpy_rank_promotion("allow"):
        doctest.DocTestRunner(optionflags=options).run(test, out=written.append)
    return "".join(written)
