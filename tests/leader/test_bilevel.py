"""Classical bilevel problems: the published optimum, or an honest no.

A selection, a third of it without `-m slow`; `experiments/classical` runs them all.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from bilevel import PROBLEMS
from quick import quick

import stackjax as sj
from experiments.classical.__main__ import as_game

CERTAIN = (
    "AiyoshiShimizu1984Ex2", "Bard1988Ex1", "Bard1988Ex2", "Bard1988Ex3", "CalamaiVicente1994b",
    "ClarkWesterberg1990a", "Colson2002BIPA3", "FalkLiu1995", "FloudasZlobec1998",
    "HendersonQuandt1958", "HenrionSurowiec2011", "MacalHurter1997", "MuuQuy2003Ex1",
    "Outrata1990Ex1a", "Outrata1990Ex2a", "OutrataCervinka2009", "ShimizuAiyoshi1981Ex1",
    "ShimizuAiyoshi1981Ex2", "SinhaMaloDeb2014TP3", "Yezza1996Ex41", "BialasKarwan1984b",
    "AllendeStill2013", "LamparielloSagratella2017Ex32",
)  # fmt: skip
LOCAL = (
    "GumusFloudas2001Ex3", "MitsosBarton2006Ex34", "MitsosBarton2006Ex315",
    "MitsosBarton2006Ex317", "MitsosBarton2006Ex319", "Mirrlees1999",
)  # fmt: skip
BY_NAME = {p.name: p for p in PROBLEMS}
# Of each kind a few that compile fast: linear and quadratic utilities, one and several numbers,
# linear and curved constraints, a constraint of the leader's on the response; local optima, and an
# example that is not solved.
QUICK = (
    "BialasKarwan1984b", "ClarkWesterberg1990a", "FalkLiu1995", "HenrionSurowiec2011",
    "LamparielloSagratella2017Ex32", "Outrata1990Ex1a", "Yezza1996Ex41",
    "MitsosBarton2006Ex315", "MitsosBarton2006Ex317", "Mirrlees1999",
)  # fmt: skip


def each(names):
    """Every problem of these; all but the quick ones marked slow."""
    marks = {name: () if name in QUICK else pytest.mark.slow for name in names}
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=mark) for name, mark in marks.items()]
    )


def solve(problem):
    game = as_game(problem)
    begin = jnp.asarray(problem.x, float), jnp.asarray(problem.y, float)
    run = lambda x, y: sj.solve(
        game, action=x, response=y, context=None, solver=sj.Complementarity()
    )
    return quick(run, *begin)


@each(CERTAIN)
def test_concave_followers_are_solved_and_proven(name, x64):
    problem = BY_NAME[name]
    found = solve(problem)
    assert found.converged and not found.local and found.agreeing_starts >= 1
    assert abs(-found.leader_utility - problem.value) <= 1e-6 * (1 + abs(problem.value))
    assert found.regret < 1e-6


@each(LOCAL)
def test_other_followers_are_never_called_proven(name, x64):
    """Solved or not (Mirrlees' example is not), the answer says that it is local."""
    problem = BY_NAME[name]
    found = solve(problem)
    assert found.local and not found.converged
    assert found.regret < 1e-6
    if name != "Mirrlees1999":
        assert abs(-found.leader_utility - problem.value) < 1e-3 * (1 + abs(problem.value))


def test_the_collection_is_consistent(x64):
    """Every published solution is feasible and has the published values."""
    for problem in PROBLEMS:
        if problem.solution is None:
            continue
        x, y = (jnp.asarray(part, float) for part in problem.solution)
        assert np.isclose(problem.leader(x, y), problem.value, rtol=2e-3, atol=2e-3), problem.name
        game = as_game(problem)
        play = {"action": x, "response": y, "context": None}
        for feasible, point in ((game.action_set, x), (game.response_set, y)):
            assert feasible.contains(point, **play, tol=1e-2), problem.name
    assert len(PROBLEMS) >= 100 and len({p.name for p in PROBLEMS}) == len(PROBLEMS)
