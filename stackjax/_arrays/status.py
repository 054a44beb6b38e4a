"""Why a search ended as it did, in a word and in a sentence that says what to try next."""

import enum
from typing import Any

import jax
import numpy as np

from stackjax._arrays.typing import PyTree


class Status(enum.StrEnum):
    """How a search for a best response, an equilibrium or a leader's action ended.

    Equal to the string that it prints as; `advice` says what to try next.

    | status | of | meaning |
    |---|---|---|
    | 'converged' | all | the conditions of an optimum hold, and it is the only one nearby |
    | 'several' | all | there are other answers: nearby, or found from other starting points |
    | 'local' | `Solution` | an optimum, and a follower that was seen not to be concave |
    | 'other peaks' | `Solution` | an optimum; the leader's utility has others, lower or not seen |
    | 'supremum' | `Solution` | the pessimistic optimum is not attained, only approached |
    | 'not finite' | all | a utility is not a number there |
    | 'beaten' | `Solution`, `Equilibrium` | a follower has a better response |
    | 'flat' | `Response` | not converged, without curvature: a tie or a kink |
    | 'no maximum' | `Response` | the follower's utility curves upwards there |
    | 'no response' | `Solution` | the follower's search did not converge |
    | 'imprecise' | all | close, but the last step is not small enough or steps do not shrink |
    | 'unfinished' | all | far from an optimum when the search ended |

    Example:
      >>> print(sj.solvers.Status.SEVERAL, "-", sj.solvers.Status.LOCAL.advice)
      several - ask for several starts; compare with a grid of responses
    """

    CONVERGED = "converged"
    SEVERAL = "several"
    LOCAL = "local"
    PEAKS = "other peaks"
    SUPREMUM = "supremum"
    NOT_FINITE = "not finite"
    BEATEN = "beaten"
    FLAT = "flat"
    NO_MAXIMUM = "no maximum"
    NO_RESPONSE = "no response"
    IMPRECISE = "imprecise"
    UNFINISHED = "unfinished"

    @property
    def advice(self) -> str:
        """What to try next."""
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "nothing is left to do",
    Status.SEVERAL: "make the utility strictly concave, or choose with Game.break_ties or "
    "Complementarity",
    Status.LOCAL: "ask for several starts; compare with a grid of responses",
    Status.PEAKS: "ask for more starts, or compare with a grid of actions",
    Status.SUPREMUM: "play Solution.nearby, which leaves almost as much",
    Status.NOT_FINITE: "start elsewhere, or bound the set away from where the utility is not a "
    "number",
    Status.BEATEN: "ask for several starts, or start where the better response is",
    Status.FLAT: "write a kink as a variable with two constraints; make ties strictly concave",
    Status.NO_MAXIMUM: "bound the response set, ask for several starts, or check the sign",
    Status.NO_RESPONSE: "call best_response at this action and read its status",
    Status.IMPRECISE: "look for a kink in the utility; use float64; give variables units of about "
    "one",
    Status.UNFINISHED: "start closer, raise max_steps, or check that the set is not empty and the "
    "utility bounded",
}
# Below this a last step, relative to the variables, is small.
CLOSE = 1e-2


def chosen(cases: list[tuple[Status, Any]], last: Status) -> Any:
    """The first status whose condition holds: a `Status`, or an array of strings for a batch."""
    conditions = [np.asarray(condition) for _, condition in cases]
    found = np.select(conditions, [str(status) for status, _ in cases], str(last))
    return Status(str(found)) if found.ndim == 0 else found


def told(owner: str, status: Any, shown: dict[str, PyTree]) -> str:
    """One line on a result: what it holds and, where it did not converge, what to try next.

    Args:
      owner: the name of its class.
      status: as `chosen` returns it.
      shown: what to print of it.
    """
    numbers = ", ".join(f"{name}={_short(tree)}" for name, tree in shown.items())
    if isinstance(status, Status):
        return f"{owner}({numbers}): {with_advice(status)}"
    kinds, counts = np.unique(status, return_counts=True)
    parts = [
        f"{count} {kind}" if kind == Status.CONVERGED else f"{count} {kind} ({Status(kind).advice})"
        for kind, count in zip(kinds.tolist(), counts.tolist())
    ]
    return f"{owner}({numbers}): of {status.size}, " + "; ".join(parts)


def with_advice(status: Any) -> str:
    """A status and, where something is left to do, its advice."""
    return str(status) if status == Status.CONVERGED else f"{status}: {status.advice}"


def _short(tree: PyTree) -> str:
    leaves = jax.tree.leaves(tree)
    if len(leaves) == 1 and jax.tree.structure(tree) == jax.tree.structure(0):
        return _array(leaves[0])
    return str(jax.tree.map(_Shown, tree))


class _Shown:
    """An array within a pytree, printed in short."""

    def __init__(self, leaf: Any) -> None:
        self.text = _array(leaf)

    def __repr__(self) -> str:
        return self.text


def _array(leaf: Any) -> str:
    array = np.asarray(leaf)
    if array.size > 8:
        return f"{array.dtype}{list(array.shape)}"
    return np.array2string(array, precision=5, separator=", ", suppress_small=False)
