"""A batch in blocks: small enough to stay in cache, and a slow member delays its block alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from stackjax._arrays.typing import PyTree

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
else:
    try:
        from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
    except ImportError:  # then a batch runs at once
        ClosedJaxpr = jaxpr_as_fun = None


# Members of a batch that are solved at a time on a CPU: of small followers, by components, and of
# others.
BLOCK, SMALL_BLOCK = 512, 64
# Members that keep an accelerator busy, and bound what they need of its memory.
_ACCELERATED = 1 << 17


def members(on_cpu: int) -> int:
    """How large a block should be: what fits in a processor's cache, or what fills a device."""
    return on_cpu if jax.default_backend() == "cpu" else _ACCELERATED


def check_layout(batch: PyTree, name: str) -> None:
    """Raises where the leading axis is split over axes of a mesh that JAX calls explicit.

    It then wants to know the layout of every intermediate, and does not find it in loops that were
    traced for one member.
    """
    for x in jax.tree.leaves(batch):
        sharding = getattr(jax.typeof(x), "sharding", None)
        spec: Any = getattr(sharding, "spec", ())
        mesh = getattr(sharding, "mesh", None)
        if not len(spec) or spec[0] is None or mesh is None:
            continue
        names = spec[0] if isinstance(spec[0], tuple) else (spec[0],)
        kinds = dict(zip(mesh.axis_names, mesh.axis_types))
        if any(kinds.get(axis) == AxisType.Explicit for axis in names):
            raise ValueError(
                f"{name} is split over {', '.join(map(repr, names))} of a mesh with Explicit axes, "
                "which is what `jax.make_mesh` makes if it is not told otherwise. Make it with "
                f"`jax.make_mesh({mesh.axis_sizes}, {mesh.axis_names}, "
                f"axis_types=(jax.sharding.AxisType.Auto,) * {len(mesh.axis_names)})`."
            )


def in_blocks(function: Callable[[PyTree], PyTree], size: int) -> Callable[[PyTree], PyTree]:
    """`function`, which `jax.vmap` runs over blocks of at most `size` members, one after another.

    Under nested `vmap`s the product of the inner axes counts. Not to be differentiated.

    Args:
      function: of one pytree of arrays, to such a pytree. It must not close over traced values.
      size: members a block.
    """
    mapped = jax.custom_batching.custom_vmap(function)

    @mapped.def_vmap
    def rule(count: int, batched: list, values: PyTree) -> tuple[PyTree, PyTree]:
        members = jax.tree.map(lambda x, b: x if b else None, values, batched[0])
        check_layout(members, "the batch")
        axes = jax.tree.map(lambda b: 0 if b else None, batched[0])
        run = jax.vmap(function, in_axes=(axes,))
        if count > size:
            run = _sequence(run, axes, count, size)
        else:  # an outer axis is taken in blocks of these
            run = in_blocks(run, max(1, size // max(1, count)))
        out = run(values)
        return out, jax.tree.map(lambda _: True, out)

    return mapped


def closed_in_blocks(function: Callable, size: int) -> Callable:
    """As `in_blocks`, for any arguments and a function that may close over traced values.

    It counts as a constant under differentiation.
    """

    def call(*arguments: PyTree) -> PyTree:
        if ClosedJaxpr is None or jaxpr_as_fun is None:
            return lax.stop_gradient(function(*lax.stop_gradient(arguments)))
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        count = len(closed.consts)
        # what the function closes over must be an argument too, for its axes to be seen
        body = lambda x: jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, x[:count]))(*x[count:])
        flat = lax.stop_gradient([*closed.consts, *jax.tree.leaves(arguments)])
        return jax.tree.unflatten(jax.tree.structure(shape), in_blocks(body, size)(flat))

    return call


def _sequence(run: Callable, axes: PyTree, count: int, size: int) -> Callable:
    blocks = -(-count // size)
    size = -(-count // blocks)

    def call(values: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(values)
        moved = [axis == 0 for axis in jax.tree.leaves(axes, is_leaf=lambda x: x is None)]
        # the last block is filled up with copies of the last member
        fill = lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], blocks * size - count, axis=0)])
        block = lambda x: fill(x).reshape(blocks, size, *x.shape[1:])

        def one(moving: list) -> PyTree:
            rest = iter(moving)
            mixed = [next(rest) if moves else x for x, moves in zip(leaves, moved)]
            return run(jax.tree.unflatten(structure, mixed))

        out = lax.map(one, [block(x) for x, moves in zip(leaves, moved) if moves])
        return jax.tree.map(lambda x: x.reshape(blocks * size, *x.shape[2:])[:count], out)

    return call
