"""A fit's state on disk, so that a run that was killed goes on where it was.

Orbax writes each state into a folder of its own and gives it its name when it is complete; a run
that dies while writing leaves the state before.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._checks import concrete
from stackjax._fit.fingerprint import fingerprint

PyTree = Any

_KEPT = 2


class Checkpoint:
    """The states of one fit in one folder.

    Args:
      folder: made if it does not exist.
      inputs: all that the fit depends on; another fit's folder is refused by it.

    Raises:
      TypeError: `folder` is not a path, or the fit is being traced.
      ValueError: `folder` is a file.
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
        if self._folder.is_file():
            raise ValueError(f"`checkpoint` must be a folder; {self._folder} is a file.")
        self._fingerprint = fingerprint(inputs)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, enable_async_checkpointing=False, create=True
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self.step = 0

    def restore(self, state: PyTree) -> PyTree:
        """The last state that can be read, or `state` if none was written.

        Raises:
          ValueError: the folder holds another fit's state, or none that can be read.
        """
        steps, reason = sorted(self._manager.all_steps(), reverse=True), None
        for step in steps:
            try:
                leaves = self._read(step, jax.tree.leaves(state))
            except Exception as error:  # cut off by a full disk, say: the one before may be whole
                reason = error
                continue
            if leaves is None:
                break
            for broken in steps[: steps.index(step)]:
                self._manager.delete(broken)
            self.step = step
            return jax.tree.unflatten(jax.tree.structure(state), leaves)
        else:
            if reason is None:
                return state
            raise ValueError(
                f"`checkpoint`: no state in {self._folder} can be read ({type(reason).__name__}). "
                "Give a new folder, or remove this one."
            ) from reason
        raise ValueError(
            f"`checkpoint`: {self._folder} holds the state of another fit (another module, data, "
            "key, option, or code of a utility). Give a new folder, or remove this one."
        )

    def _read(self, step: int, leaves: list[jax.Array]) -> list[jax.Array] | None:
        """The state's leaves; None if it is of another fit."""
        both = self._args.Composite(inputs=self._args.JsonRestore())
        found = self._manager.restore(step, args=both)["inputs"]
        if found != {"sha256": self._fingerprint}:
            return None
        restore = self._args.Composite(state=self._args.StandardRestore(_stored(leaves)))
        stored = self._manager.restore(step, args=restore)["state"]
        return [jnp.asarray(stored.get(str(i), leaf)) for i, leaf in enumerate(leaves)]

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
