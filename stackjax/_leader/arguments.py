"""Checks of what `solve` is given, and its defaults."""

from typing import Any

from stackjax._arrays.arguments import check_starts
from stackjax._game import Game
from stackjax.solvers._newton import Newton
from stackjax.solvers._settings import Complementarity, FirstOrder

LeaderSolver = Newton | FirstOrder | Complementarity


def check_convention(convention: Any, proof: Any) -> None:
    """Raises TypeError or ValueError unless there is such a convention, with the proof it needs."""
    if convention not in ("optimistic", "pessimistic"):
        raise ValueError(f"`convention` must be 'optimistic' or 'pessimistic'; got {convention!r}.")
    if convention == "pessimistic" and proof is None:
        raise TypeError(
            "`proof` must be stackjax.solvers.Global(...) for the pessimistic convention, or use "
            "Game.break_ties('pessimistic'); got None."
        )


def method_of(
    game: Game, solver: Any, starts: Any, key: Any, proof: Any, smoothed: bool
) -> tuple[int | None, LeaderSolver]:
    """The number of starts and the leader's method, checked, with their defaults."""
    check_starts(1 if starts is None else starts, key)
    boxes = game.action_set.only_bounds and (game.several or game.response_set.only_bounds)
    if game.several and solver is None and not boxes:
        raise TypeError(
            "`solver` must be FirstOrder(...) for several followers and a "
            f"{type(game.action_set).__name__} of actions; got None, which needs a Box."
        )
    if game.several and isinstance(solver, Complementarity):
        raise TypeError(
            "`solver`: Complementarity supports one follower; for several use stackjax.Newton() "
            "with a Box for the action set, or FirstOrder(...) with a Box, Simplex or Ball."
        )
    if smoothed and isinstance(solver, Complementarity):
        raise TypeError(
            "`solver`: Complementarity answers for the follower's own utility, and this "
            "`follower_solver` for a smoothed one; use stackjax.Newton() or FirstOrder(...)."
        )
    if smoothed and solver is None:
        solver = Newton() if game.action_set.only_bounds else FirstOrder()
    if game.several and solver is None:
        solver = Newton()
    if solver is None:
        alone = boxes and starts in (None, 1) and proof is None
        solver = Newton() if alone else Complementarity()
    if not isinstance(solver, Newton | FirstOrder | Complementarity):
        raise TypeError(
            "`solver` must be stackjax.Newton(...), FirstOrder(...), Complementarity(...) or None; "
            f"got {solver!r}."
        )
    if isinstance(solver, FirstOrder) and not game.action_set.projectable:
        raise TypeError(
            "`solver`: FirstOrder needs a Box, Simplex or Ball for the action set; for a "
            f"{type(game.action_set).__name__} use stackjax.Complementarity(...) or None."
        )
    if isinstance(solver, Newton) and not game.action_set.only_bounds:
        raise TypeError(
            "`solver`: Newton needs a Box for the action set; for a "
            f"{type(game.action_set).__name__} use stackjax.Complementarity(...) or None."
        )
    if starts is None and not isinstance(solver, Newton):
        starts = 16 if isinstance(solver, Complementarity) else 1
    return starts, solver
