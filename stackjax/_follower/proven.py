"""A best response with a proof that no other is better."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from stackjax._arrays.arguments import concrete
from stackjax._arrays.typing import PyTree
from stackjax._follower.answer import answer, problem_of
from stackjax._follower.vectors import at_least_float32, flat
from stackjax._game import Game, evaluate
from stackjax.solvers._implicit import detached
from stackjax.solvers._solver import Solver
from stackjax.solvers.proof._branch_and_bound import BEATEN, MOST_NUMBERS, Proof
from stackjax.solvers.proof._global import Global

# Searches, each from the best point that the last proof saw.
_ROUNDS = 3


def check_proof(proof: Any, game: Game, response: PyTree, settings: Solver) -> None:
    """Raises TypeError or ValueError unless the response can be proven to be a global maximum."""
    if proof is None:
        return
    if not isinstance(proof, Global):
        raise TypeError(f"`proof` must be stackjax.solvers.Global(...) or None; got {proof!r}.")
    if game.several or not game.response_set.only_bounds:
        raise TypeError(
            "`proof` needs one follower and a Box for the response set; got "
            + ("several followers." if game.several else f"a {type(game.response_set).__name__}.")
        )
    if settings.smoothed:
        raise TypeError(
            "`proof` needs a solver of the follower's own utility; "
            f"{type(settings).__name__} answers for a smoothed one."
        )
    size = sum(leaf.size for leaf in jax.tree.leaves(response))
    if size > MOST_NUMBERS:
        raise ValueError(f"`proof` needs a response of at most {MOST_NUMBERS} numbers; got {size}.")
    bounds = game.response_set.bounds(response)
    if concrete(bounds) and not all(np.isfinite(side).all() for side in map(flat, bounds)):
        raise ValueError(
            f"`proof` needs a response set that is bounded on all sides; got {game.response_set!r}."
        )


def proven_start(
    game: Game,
    action: PyTree,
    context: PyTree,
    response: PyTree,
    settings: Solver,
    proof: Global,
) -> tuple[PyTree, Proof]:
    """A starting point at the best response that was found, and the proof of it; no derivatives.

    A search, and a proof of where it ended; if that is beaten, a search from the better point.
    """
    begin, unravel = ravel_pytree(at_least_float32(response))
    dtype = begin.dtype

    def one(start: jax.Array) -> tuple[jax.Array, Proof]:
        value, _, _ = answer(game, action, context, unravel(start), settings)
        problem = problem_of(game, action, context, begin, unravel)
        found = proof.prove(problem.utility, flat(value), problem.lower, problem.upper)
        return flat(value), found

    def run(start: jax.Array) -> tuple[jax.Array, PyTree]:
        blank = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, start)
        )
        begun = blank[0], blank[1]._replace(value=start, status=jnp.full((), BEATEN, jnp.int32))

        def again(state: tuple) -> tuple:
            rounds, (_, last) = state
            return rounds + 1, one(last.value)

        more = lambda state: (state[0] < _ROUNDS) & (state[1][1].status == BEATEN)
        _, (value, found) = lax.while_loop(more, again, (jnp.zeros((), jnp.int32), begun))
        number = jax.tree.map(lambda leaf: leaf.astype(dtype), found)
        return value, number

    value, found = detached(run, begin)
    whole = lambda x: x.astype(jnp.int32)
    found = found._replace(status=whole(found.status), boxes=whole(found.boxes))
    return unravel(value), found


def proof_of(game: Game, action: PyTree, context: PyTree, response: PyTree, proof: Global) -> Proof:
    """Whether a response is a global maximum at this action; no derivatives."""
    begin, unravel = ravel_pytree(at_least_float32(response))

    def run(y: jax.Array) -> tuple[jax.Array, Proof]:
        problem = problem_of(game, action, context, begin, unravel)
        found = proof.prove(problem.utility, y, problem.lower, problem.upper)
        return y, jax.tree.map(lambda leaf: leaf.astype(y.dtype), found)

    found = detached(run, begin)[1]
    return found._replace(
        status=found.status.astype(jnp.int32), boxes=found.boxes.astype(jnp.int32)
    )


def kept_or(
    game: Game, action: PyTree, context: PyTree, found: PyTree, best: PyTree, proof: Proof
) -> tuple[PyTree, jax.Array]:
    """What was `found` if it is worth what the proof says, else the `best` point; and which."""
    utility = lambda r: evaluate(game.follower_utility, "follower_utility", action, r, context)
    worth = lax.stop_gradient(utility(found)).astype(proof.lower.dtype)
    rounding = 64 * float(jnp.finfo(worth.dtype).eps) * jnp.abs(proof.lower)
    kept = worth >= proof.lower - jnp.maximum(proof.upper - proof.lower, 0) - rounding
    kept &= (proof.status != BEATEN) | (worth >= proof.lower - rounding)
    either = lambda a, b: jnp.where(kept, a, b.astype(a.dtype))
    return jax.tree.map(either, found, best), kept
