"""What the library asks of modules: callable pytrees, with parameters as their only state."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stackjax._arrays.arguments import lists_of_numbers
from stackjax._arrays.reads import check_reads
from stackjax._arrays.typing import PyTree


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def is_floating(leaf: Any) -> bool:
    """Whether a leaf is a floating-point number or array of them."""
    number = isinstance(leaf, jax.Array | np.ndarray | np.generic | float)
    return number and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def check_stateless(module: Any, name: str) -> None:
    """Refuses modules that carry state besides parameters.

    Under `jax.*` transforms such state (a BatchNorm's mean, a Dropout's key) is silently not
    updated, so that results would be wrong without a word.

    So are functions that read something whose changes could not be noticed.

    Raises:
      ValueError: `module` holds an `nnx.Variable` that is not an `nnx.Param`.
      TypeError: a function reads a mutable object whose content cannot be seen.
    """
    check_reads(module, name)
    paths = jax.tree_util.tree_leaves_with_path(module, is_leaf=_is_variable)
    for path, leaf in paths:
        if _is_variable(leaf) and not isinstance(leaf, nnx.Param):
            raise ValueError(
                f"`{name}` holds state that is not a parameter: {type(leaf).__name__} at "
                f"`{name}{jax.tree_util.keystr(path)}`. It would silently not be updated. Use a "
                "module whose only variables are nnx.Param (LayerNorm instead of BatchNorm, no "
                "Dropout)."
            )


def call(function: Callable[..., Any], name: str, *arguments: PyTree) -> Any:
    """`function(*arguments)`; what JAX cannot trace is said in terms of the user's function.

    Raises:
      TypeError: it decides by, or hands to NumPy or Python, a number that is traced; or takes a
        list of numbers for an array.
    """
    try:
        return function(*arguments)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(
            f"`{name}` must compute with jax.numpy; it hands a traced array to NumPy. Write "
            "jnp.log for np.log, jnp.asarray for np.asarray, and so on."
        ) from error
    except jax.errors.ConcretizationTypeError as error:  # of bool(...), too
        raise TypeError(
            f"`{name}` must not depend on numbers by `if`, `while`, `and`, `min`, `max`, `float` "
            "or `int`: its arguments are traced, and have no value yet. Write jnp.where(condition, "
            "a, b) or jax.lax.cond, jnp.logical_and, jnp.minimum, jnp.maximum."
        ) from error
    except (TypeError, AttributeError) as error:
        listed = _lists(arguments)
        if not listed or not re.search("list|tuple|sequence", str(error)):
            error.add_note(_shapes(name, arguments))
            raise
        raise TypeError(
            f"{', '.join(listed)} must be one array where `{name}` computes with it as one; got "
            f"a list or tuple of numbers, which counts as that many scalars: {error}. Give "
            "jnp.array([...])."
        ) from error
    except Exception as error:
        error.add_note(_shapes(name, arguments))
        raise


def _shapes(name: str, arguments: tuple[PyTree, ...]) -> str:
    """What a utility or policy was called with, for a note below its own error."""
    names = ("action", "response", "context") if len(arguments) == 3 else ("action", "context")
    if len(arguments) == 1:
        names = ("context",)
    said = [f"{n} {jax.tree.map(jnp.shape, x)}" for n, x in zip(names, arguments)]
    return f"This is `{name}`, called with the shapes: {', '.join(said)}."


def _lists(arguments: tuple[PyTree, ...]) -> list[str]:
    """The arguments of a utility, or of a policy, that hold a list of numbers."""
    names = ("action", "response", "context") if len(arguments) == 3 else ("action", "context")
    if len(arguments) == 1:
        names = ("context",)
    return [f"`{n}{path}`" for n, x in zip(names, arguments) for path in lists_of_numbers(x)]


def check_untied(module: Any, name: str) -> None:
    """Refuses to train a module that holds one parameter in two places.

    As a pytree it has two copies, which training would silently move apart.

    Raises:
      ValueError: an `nnx.Variable` occurs twice.
    """
    seen: dict[int, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(module, is_leaf=_is_variable):
        place = name + jax.tree_util.keystr(path)
        if _is_variable(leaf) and seen.setdefault(id(leaf), place) != place:
            raise ValueError(
                f"`{name}` holds one parameter twice, as `{seen[id(leaf)]}` and `{place}`; "
                "training would move the copies apart. Keep one and use it in both places."
            )


def partition(module: PyTree) -> tuple[list[jax.Array], Any]:
    """Splits a callable pytree into what is trained and how to put it back.

    In a pytree with `nnx.Variable`s the `nnx.Param`s are trained and other arrays are constants;
    in any other pytree every floating-point leaf is trained.

    Returns:
      The trainable arrays, and `combine(arrays) -> module`.
    """
    has_variables = any(map(_is_variable, jax.tree.leaves(module, is_leaf=_is_variable)))
    trained: list[bool] = []
    for leaf in jax.tree.leaves(module, is_leaf=_is_variable):
        wanted = isinstance(leaf, nnx.Param) if has_variables else True
        trained += [wanted and is_floating(x) for x in jax.tree.leaves(leaf)]
    leaves, structure = jax.tree.flatten(module)
    fixed = [None if t else x for x, t in zip(leaves, trained)]

    def combine(arrays: list[jax.Array]) -> PyTree:
        moving = iter(arrays)
        return jax.tree.unflatten(
            structure, [next(moving) if t else x for x, t in zip(fixed, trained)]
        )

    return [jnp.asarray(x) for x, t in zip(leaves, trained) if t], combine
