"""One game in one picture: a duopoly whose follower has a capacity, and two gradients.

The leader sets a quantity, the follower sees it and answers with its own, at most its capacity.
Below a kink the follower is at its capacity and does not answer a small change; a gradient that
leaves the bound out of the implicit function theorem has the wrong sign there, and leads the leader
to another quantity. All curves are computed with the library: the follower's answers with
best_response, the optimum with solve, the right gradient with jax.grad through best_response.

    python -m experiments.one_game                # half a minute, nothing is kept between runs
    python -m experiments.one_game --draw         # the picture alone, from the kept result

Prints the numbers and writes one_game.json and one_game.png. Nothing is drawn at random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import stackjax as sj
from experiments.common.args import check_out, check_result, parse
from experiments.common.command import launch
from experiments.common.figures import redraw
from experiments.common.phases import KEPT_RESULTS
from experiments.common.results import environment, plain, write_json
from experiments.one_game.figure import figure


@dataclasses.dataclass(frozen=True)
class Args:
    """Solves a duopoly with a capacity, and compares two gradients.

    Attributes:
      demand: Price at which nobody buys.
      cost: Of a unit, for both firms.
      capacity: The follower's greatest quantity.
      points: Leader's quantities in the curves.
      out: Folder of one_game.json and one_game.png.
      draw: Only draw the figure of a result again, beside it.
      result: Result that draw reads; by default the kept one.
    """

    demand: float = 10.0
    cost: float = 1.0
    capacity: float = 2.0
    points: int = 181
    out: Path = Path("results/one_game")
    draw: bool = False
    result: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.cost < float("inf"):
            raise ValueError(f"cost must be at least 0 and finite, got {self.cost}")
        if not self.cost < self.demand < float("inf"):
            raise ValueError(f"demand must exceed the cost and be finite, got {self.demand}")
        if not 0 < self.capacity < (self.demand - self.cost) / 4:
            raise ValueError(
                "capacity must lie between 0 and a quarter of demand - cost, where it binds at the "
                f"leader's optimum: got {self.capacity}"
            )
        if self.points < 3:
            raise ValueError(f"points must be at least 3, got {self.points}")
        check_result(self.draw, self.result)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Solve and draw; returns what one_game.json holds."""
    args = parse(Args, argv)
    if args.draw:
        return redraw(args.result or KEPT_RESULTS / "one_game.json", figure)
    check_out("out", args.out, folder=True)
    with jax.enable_x64(True):
        found = plain(study(args))
    results: dict[str, Any] = {
        "args": plain(args),
        "environment": environment(),
        **found,
    }
    write_json(args.out / "one_game.json", results)
    figure(args.out / "one_game.png", results)
    right, wrong = results["optimum"], results["without_bound"]
    print(
        f"optimum {right['action']:.4f}, utility {right['utility']:.4f}; where the gradient "
        f"without the bound vanishes: {wrong['action']:.4f}, utility {wrong['utility']:.4f}\n\n"
        f"wrote {args.out / 'one_game.json'} and {args.out / 'one_game.png'}"
    )
    return results


def study(args: Args) -> dict[str, Any]:
    """Curves, optimum, and the point to which a gradient without the bound leads."""

    def profit(own: jax.Array, other: jax.Array, demand: jax.Array) -> jax.Array:
        return own * (demand - own - other - args.cost)

    game = sj.Game(
        profit,
        lambda action, response, demand: profit(response, action, demand),
        action_set=sj.Box(0.0, args.demand - args.cost),
        response_set=sj.Box(0.0, args.capacity),
    )
    demand, start = jnp.array(args.demand), jnp.array(0.5 * args.capacity)

    def answer(action: jax.Array) -> sj.Response:
        return sj.best_response(game, action, demand, response=start)

    def utility(action: jax.Array) -> jax.Array:
        return profit(action, answer(action).value, demand)

    def slope_without_bound(action: jax.Array) -> jax.Array:
        """The implicit function theorem on the follower's utility alone, at its best response."""
        response = answer(action).value
        first = jax.grad(game.follower_utility, argnums=1)
        crossed, curved = jax.grad(first, argnums=(0, 1))(action, response, demand)
        return -crossed / curved

    def without_bound(action: jax.Array) -> jax.Array:
        mine, theirs = jax.grad(profit, argnums=(0, 1))(action, answer(action).value, demand)
        return mine + theirs * slope_without_bound(action)

    actions = jnp.linspace(0.0, args.demand - args.cost, args.points)
    answers = jax.vmap(answer)(actions)
    best = sj.solve(game, action=start, response=start, context=demand)
    led = _ascend(jax.jit(without_bound), best.action)
    here = 0.5 * (best.action + led)  # between both, where they point apart
    return {
        "curve": {
            "action": actions,
            "response": answers.value,
            "converged": answers.converged,
            "utility": jax.vmap(utility)(actions),
            "gradient": jax.vmap(jax.grad(utility))(actions),
            "gradient_without_bound": jax.vmap(without_bound)(actions),
        },
        "kink": args.demand - args.cost - 2 * args.capacity,  # the bound's multiplier ends there
        "optimum": {
            "action": best.action,
            "response": best.response,
            "utility": best.leader_utility,
            "converged": best.converged,
        },
        "without_bound": {"action": led, "response": answer(led).value, "utility": utility(led)},
        "between": {
            "action": here,
            "response": answer(here).value,
            "slope": jax.grad(lambda action: answer(action).value)(here),
            "slope_without_bound": slope_without_bound(here),
            "utility": utility(here),
            "gradient": jax.grad(utility)(here),
            "gradient_without_bound": without_bound(here),
        },
    }


def _ascend(slope: Any, action: jax.Array, *, rate: float = 0.2, steps: int = 200) -> jax.Array:
    """Gradient ascent from an action."""
    for _ in range(steps):
        action = action + rate * slope(action)
    return action


if __name__ == "__main__":
    launch(main)
