"""What a search did, step by step: kept in arrays, or handed to a callback on the host."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from stackjax._arrays.typing import PyTree


class SearchHistory(struct.PyTreeNode):
    """How the leader's search went, from its start (entry 0); after its end entries repeat.

    Attributes:
      action: `[T + 1, ...]` the best action by then, T the most steps that the method may take.
      utility: `[T + 1]` the leader's utility there; -inf where the follower has no answer. With
        `Complementarity` it is at the iterate's response, which becomes the best one in the end.
      residual: `[T + 1]` what is left: of Newton steps the next one, relative as in
        `Response.residual`; of gradient steps the last one; with `Complementarity` the error of
        the interior-point method's conditions. Steps that finish a first-order search on a
        Simplex or a Ball are not entered.
      steps: scalar int, the last entry that is no repetition.

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> found = sj.solve(
      ...     duopoly.game, action=duopoly.action, response=duopoly.response,
      ...     context=jnp.array(13.0), history=True,
      ... )
      >>> path = found.history
      >>> print(path.action.shape, path.steps, path.action[path.steps], path.utility[path.steps])
      (101,) 1 6.0 18.0
    """

    action: PyTree
    utility: jax.Array
    residual: jax.Array
    steps: jax.Array

    def repeated(self) -> "SearchHistory":
        """With the last entry in place of those that were not reached."""
        index = jnp.minimum(jnp.arange(len(self.utility)), self.steps.astype(jnp.int32))
        tables = (self.action, self.utility, self.residual)
        action, utility, residual = jax.tree.map(lambda table: table[index], tables)
        return self.replace(action=action, utility=utility, residual=residual)

    def followed_by(self, other: "SearchHistory") -> "SearchHistory":
        """The entries up to `steps`, then all of another's."""
        before = self.steps.astype(jnp.int32)
        index = jnp.arange(len(self.utility) + len(other.utility) - 1)
        later = jnp.clip(index - before, 0, len(other.utility) - 1)
        earlier = jnp.minimum(index, len(self.utility) - 1)

        def join(a: jax.Array, b: jax.Array) -> jax.Array:
            first = jnp.reshape(index < before, (-1,) + (1,) * (a.ndim - 1))
            return jnp.where(first, a[earlier], b[later])

        tables = lambda one: (one.action, one.utility, one.residual)
        joined = jax.tree.map(join, tables(self), tables(other))
        return SearchHistory(*joined, steps=self.steps + other.steps)


Callback = Callable[[int, PyTree, float, float], Any]


@dataclasses.dataclass(frozen=True)
class Watch:
    """Who looks at a search; hashable, so that a call with an equal one does not compile anew.

    Attributes:
      table: whether a `SearchHistory` is kept.
      callback: called with the step, the action, its utility and the residual, or None.
      unravel: makes an action, which the callback sees, of the search's vector.
    """

    table: bool = False
    callback: Callback | None = None
    unravel: Callable[[Any], PyTree] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody looks."""
        return not self.table and self.callback is None

    def begin(self, action: PyTree, steps: int) -> SearchHistory | None:
        """An empty table, of floating-point arrays, for at most so many steps."""
        if not self.table:
            return None
        blank = lambda x: jnp.zeros((steps + 1, *x.shape), x.dtype)
        number = blank(jnp.zeros((), jnp.result_type(*jax.tree.leaves(action))))
        return SearchHistory(jax.tree.map(blank, action), number, number, number[0])

    def see(
        self,
        history: SearchHistory | None,
        step: jax.Array,
        action: PyTree,
        utility: jax.Array,
        residual: jax.Array,
        *,
        counts: jax.Array | bool = True,
    ) -> SearchHistory | None:
        """Notes one step, which the callback sees where it `counts`."""
        if self.callback is not None:
            callback = self.callback

            def on_host(step: Any, action: Any, utility: Any, residual: Any, counts: Any) -> None:
                if counts:
                    callback(int(step), action, float(utility), float(residual))

            shown = action if self.unravel is None else self.unravel(action)
            jax.debug.callback(on_host, step, shown, utility, residual, counts)
        if history is None:
            return None
        note = lambda table, entry: table.at[step].set(jnp.asarray(entry).astype(table.dtype))
        return SearchHistory(
            action=jax.tree.map(note, history.action, action),
            utility=note(history.utility, utility),
            residual=note(history.residual, residual),
            steps=step.astype(history.steps.dtype),
        )


UNWATCHED = Watch()
