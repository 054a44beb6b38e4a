"""A fit's state on disk, so that a run that was killed goes on where it was.

Orbax writes each state into a folder of its own and gives it its name when it is complete; a run
that dies while writing leaves the state before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_type, concrete
from stackjax._arrays.typing import PyTree
from stackjax.fit._fingerprint import fingerprint

_KEPT = 2


class Checkpoint:
    """The states of one fit in one folder.

    Args:
      folder: made if it does not exist.
      inputs: all that the fit depends on but its steps, by name; another fit's folder is refused
        by it.
      steps: of the whole fit.
      extend: whether a fit of fewer steps may go on to these: whether nothing else in it depends
        on their number.

    Raises:
      TypeError: `folder` is not a path, or the fit is being traced.
      ValueError: `folder` is a file.
    """

    def __init__(
        self, folder: str | Path, inputs: dict[str, PyTree], steps: int, *, extend: bool
    ) -> None:
        check_type("checkpoint", folder, str | Path, "a path or None")
        if not concrete(inputs):
            raise TypeError(
                "`checkpoint` must be None inside jax.jit or jax.vmap, where a fit cannot write to "
                f"disk; got {str(folder)!r}."
            )
        # imported late: it takes a second
        import orbax.checkpoint as ocp

        self._args = ocp.args
        self._folder = Path(folder).absolute()
        if self._folder.is_file():
            raise ValueError(f"`checkpoint` must be a folder; got {self._folder}, a file.")
        self._inputs = {name: fingerprint(value) for name, value in inputs.items()}
        self._steps, self._extend = int(steps), extend  # JSON knows no NumPy integer
        options = ocp.CheckpointManagerOptions(
            max_to_keep=_KEPT, enable_async_checkpointing=False, create=True
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self.step = 0

    def restore(self, begin: Callable[[int], PyTree]) -> PyTree:
        """The last state that can be read, or the first one if none was written.

        Args:
          begin: the first state of a fit of so many steps.

        Raises:
          ValueError: the folder holds another fit's state, or none that can be read.
        """
        state = begin(self._steps)
        steps, reason = sorted(self._manager.all_steps(), reverse=True), None
        for step in steps:
            try:
                found = self._read_inputs(step)
                other = self._differing(found)
                shorter = state if other else begin(found["steps"])
                leaves = [] if other else self._read(step, jax.tree.leaves(shorter))
            except Exception as error:  # cut off by a full disk, say: the one before may be whole
                reason = error
                continue
            if other:
                self._refuse(other)
            for broken in steps[: steps.index(step)]:
                self._manager.delete(broken)
            self.step = step
            read = jax.tree.unflatten(jax.tree.structure(state), leaves)
            # the tables of a fit that is extended begin with those that it had
            longer = lambda old, new: old if old.shape == new.shape else new.at[: len(old)].set(old)
            return jax.tree.map(longer, read, state)
        if reason is None:
            return state
        raise ValueError(
            f"`checkpoint`: no state in {self._folder} can be read ({type(reason).__name__}). "
            "Give a new folder, or remove this one."
        ) from reason

    def _read_inputs(self, step: int) -> dict[str, Any]:
        only = self._args.Composite(inputs=self._args.JsonRestore())
        return self._manager.restore(step, args=only)["inputs"]

    def _differing(self, found: dict[str, Any]) -> list[str]:
        """Names of what differs from the fit that wrote a state."""
        if "inputs" not in found:
            return ["the version of stackjax that wrote it"]
        names = dict.fromkeys([*self._inputs, *found["inputs"]])
        other = [f"`{n}`" for n in names if self._inputs.get(n) != found["inputs"].get(n)]
        fits = found["steps"] == self._steps or (self._extend and found["steps"] < self._steps)
        return other if fits else [*other, "`steps`"]

    def _refuse(self, other: list[str]) -> None:
        listed = " and ".join(filter(None, [", ".join(other[:-1]), other[-1]]))
        hint = ""
        if "`steps`" in other or "`optimizer`" in other:
            hint = (
                " A fit can go on to more steps if it has no constraints and no validation rows, "
                "and if its optimiser does not depend on `steps`; Adam with the default decay "
                "does."
            )
        verb = "differs" if len(other) == 1 else "differ"
        raise ValueError(
            f"`checkpoint`: {self._folder} holds the state of another fit: {listed} {verb}.{hint} "
            "Give a new folder, or remove this one."
        )

    def _read(self, step: int, leaves: list[jax.Array]) -> list[jax.Array]:
        """The state's leaves."""
        restore = self._args.Composite(state=self._args.StandardRestore(_stored(leaves)))
        stored = self._manager.restore(step, args=restore)["state"]
        return [jnp.asarray(stored.get(str(i), leaf)) for i, leaf in enumerate(leaves)]

    def save(self, step: int, state: PyTree) -> None:
        """Writes the state after `step` steps; it is on disk when this returns."""
        self._manager.save(
            step,
            args=self._args.Composite(
                state=self._args.StandardSave(_stored(jax.tree.leaves(state))),
                inputs=self._args.JsonSave({"inputs": self._inputs, "steps": self._steps}),
            ),
        )
        self._manager.wait_until_finished()


def _stored(leaves: list[jax.Array]) -> dict[str, np.ndarray]:
    # Orbax refuses arrays without elements.
    return {str(place): np.asarray(leaf) for place, leaf in enumerate(leaves) if leaf.size}
