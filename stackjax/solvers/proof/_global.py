"""The settings of a proof."""

import dataclasses
from collections.abc import Callable

import jax

from stackjax.solvers.proof._branch_and_bound import Proof, prove


@dataclasses.dataclass(frozen=True)
class Global:
    """Asks for a proof that no other response is better, by interval bounds and branch and bound.

    For a follower of up to about four numbers in a `Box` that is bounded on all sides, and a
    utility of operations that have an interval rule (arithmetic, powers, exponentials, logarithms,
    trigonometric and hyperbolic functions, `where`, sums and matrix products; others are named in
    an error). Outward rounding makes the proof hold in exact arithmetic.

    Args:
      gap: the tolerance, as a share of the utility's range over the box.
      boxes: parts of the box that can wait at a time: the memory.
      at_once: how many of them are looked at in a step.
      max_steps: number of steps after which it is undecided.

    Raises:
      TypeError: a setting is not a number.
      ValueError: a setting is not positive, `gap` not below 1, or `at_once` above half of `boxes`.

    Source: Hansen and Walster, Global Optimization Using Interval Analysis, 2004, chapter 12.

    Example:
      >>> wavy = sj.Game(
      ...     lambda a, r, x: r, lambda a, r, x: jnp.sin(3 * r) - (r - a) ** 2 / 10,
      ...     response_set=sj.Box(-4.0, 4.0),
      ... )
      >>> start = jnp.array(-3.0)  # next to a lower peak
      >>> found = sj.best_response(wavy, 1.0, None, response=start, proof=sj.solvers.Global())
      >>> print(found.value.round(2), found.proof.proven)
      0.53 True
    """

    gap: float = 1e-4
    boxes: int = 128
    at_once: int = 8
    max_steps: int = 200

    def __post_init__(self) -> None:
        if not isinstance(self.gap, int | float) or isinstance(self.gap, bool):
            raise TypeError(f"Global: `gap` must be a Python number; got {self.gap!r}.")
        if not 0 < self.gap < 1:
            raise ValueError(f"Global: `gap` must be between 0 and 1; got {self.gap}.")
        for name in ("boxes", "at_once", "max_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"Global: `{name}` must be an integer; got {value!r}.")
            if value < 1:
                raise ValueError(f"Global: `{name}` must be at least 1; got {value}.")
        if self.at_once > self.boxes // 2:
            raise ValueError(
                f"Global: `at_once` must be at most half of `boxes`; got {self.at_once} and "
                f"{self.boxes}."
            )

    def prove(
        self,
        utility: Callable[[jax.Array], jax.Array],
        candidate: jax.Array,
        lower: jax.Array,
        upper: jax.Array,
    ) -> Proof:
        """The proof that `candidate [d]` is a global maximum between the bounds; see `Proof`."""
        return prove(
            utility, candidate, lower, upper, gap=self.gap, boxes=self.boxes,
            at_once=self.at_once, max_steps=self.max_steps,
        )  # fmt: skip
