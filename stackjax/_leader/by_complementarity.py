"""`Complementarity`: the game in units of its own, searched, and what `Solution` reports of it."""

from typing import Any

import jax
import jax.numpy as jnp

from stackjax._arrays.search_history import Watch
from stackjax._arrays.starts import shift
from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax._leader.complementarity import search
from stackjax._leader.cuts import search_with_cuts
from stackjax._leader.scaled import Scaled
from stackjax.solvers._settings import Complementarity
from stackjax.solvers.proof._global import Global


def by_complementarity(
    game: Game,
    action: PyTree,
    response: PyTree,
    context: PyTree,
    settings: Complementarity,
    starts: int,
    key: jax.Array | None,
    proof: Global | None,
    pessimistic: bool,
    watch: Watch,
) -> tuple[PyTree, PyTree, dict[str, Any]]:
    """The action, the response, and what `Solution` reports of them.

    With a `proof`, responses that it finds to be better become cuts, see `_leader/cuts.py`; the
    pessimistic convention needs one.
    """
    scaled = Scaled(game, action, response, context)
    start, begin = scaled.start, scaled.begin
    watch = scaled.shown(watch)
    rotation = shift(key, jnp.concatenate([start, begin]))
    if proof is None:
        program = scaled.program()
        w, outcome = search(
            program, start, begin, settings=settings, starts=starts, rotation=rotation,
            watch=watch, unit=scaled.gains,
        )  # fmt: skip
        ends = None
    else:
        program, w, outcome, ends = search_with_cuts(
            scaled, settings=settings, starts=starts, rotation=rotation, proof=proof,
            pessimistic=pessimistic, watch=watch,
        )  # fmt: skip
    best, answer = scaled.played(program, w)
    report = {
        "multipliers": scaled.multipliers(program, w, outcome),
        "settled": outcome.settled > 0,
        "converged": outcome.converged > 0,
        "residual": outcome.point.length,
        "regret": outcome.regret,
        "steps": outcome.steps.astype(jnp.int32),
        "other_peaks": outcome.others > 0,
        "agreeing_starts": outcome.agreeing_starts.astype(jnp.int32),
        "local": outcome.local > 0,
        "unique": outcome.unique > 0,
        "history": scaled.history(outcome.history),
    }
    if pessimistic and ends is not None:
        size = len(start)
        worst = scaled.played(program, w.at[size : size + len(begin)].set(ends.worst))[1]
        # What is not sure is not promised.
        answer = jax.tree.map(lambda x, y: jnp.where(ends.sure > 0, x, y), answer, worst)
        report["attained"] = (ends.attained > 0) | (ends.sure == 0)
        report["nearby"] = scaled.action(ends.nearby)
    return best, answer, report
