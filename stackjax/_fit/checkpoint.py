"""A fit's state on disk, so that a run that was killed goes on where it was.

Orbax writes each state into a folder of its own and gives it its name when it is complete; a run
that dies while writing leaves the state before.
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._checks import concrete

PyTree = Any

_KEPT = 2


class Checkpoint:
    """The states of one fit in one folder.

    Args:
      folder: made if it does not exist.
      inputs: all that the fit depends on; another fit's folder is refused by it.

    Raises:
      TypeError: `folder` is not a path, or the fit is being traced.
    """

    def __init__(self, folder: str | Path, inputs: PyTree) -> None:
        if not isinstance(folder, str | Path):
            raise TypeError(f"`checkpoint` must be a path or None; got {folder!r}.")
        if not concrete(inputs):
            raise TypeError(
                "`checkpoint` writes to disk, which a fit inside jax.jit or jax.vmap cannot do."
            )
        # imported late: it takes a second
        import orbax.checkpoint as ocp

        self._args = ocp.args
        self._folder = Path(folder).absolute()
        self._fingerprint = fingerprint(inputs)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, enable_async_checkpointing=False, create=True
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self.step = self._manager.latest_step() or 0

    def restore(self, state: PyTree) -> PyTree:
        """The last complete state, or `state` if there is none.

        Raises:
          ValueError: the folder holds another fit's state.
        """
        if not self.step:
            return state
        found = self._manager.restore(
            self.step, args=self._args.Composite(inputs=self._args.JsonRestore())
        )
        if found["inputs"] != {"sha256": self._fingerprint}:
            raise ValueError(
                f"`checkpoint`: {self._folder} holds the state of another fit (another module, "
                "data, key or number of steps). Give a new folder, or remove this one."
            )
        leaves, structure = jax.tree.flatten(state)
        restore = self._args.StandardRestore(_stored(leaves))
        stored = self._manager.restore(self.step, args=self._args.Composite(state=restore))["state"]
        found = [stored.get(str(place), leaf) for place, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, jax.tree.map(jnp.asarray, found))

    def save(self, step: int, state: PyTree) -> None:
        """Writes the state after `step` steps; it is on disk when this returns."""
        self._manager.save(
            step,
            args=self._args.Composite(
                state=self._args.StandardSave(_stored(jax.tree.leaves(state))),
                inputs=self._args.JsonSave({"sha256": self._fingerprint}),
            ),
        )
        self._manager.wait_until_finished()


def _stored(leaves: list[jax.Array]) -> dict[str, np.ndarray]:
    # Orbax refuses arrays without elements.
    return {str(place): np.asarray(leaf) for place, leaf in enumerate(leaves) if leaf.size}


def fingerprint(tree: PyTree) -> str:
    """SHA-256 of all numbers in a pytree and their places; functions are known by name only."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
