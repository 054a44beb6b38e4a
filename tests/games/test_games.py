"""The solver against closed forms: equilibria, sensitivities, batches, dtypes, the Nash floor."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import quick_jit

import stackjax as sj

GAMES = {
    "bertrand": sj.games.bertrand,
    "bonuses": sj.games.bonuses,
    "commodity tax": sj.games.commodity_tax,
    "contest": sj.games.contest,
    "duopoly": sj.games.duopoly,
    "duopoly, dear follower": lambda: sj.games.duopoly(
        slope=0.7, leader_cost=0.5, follower_cost=4.0
    ),
    "duopoly, capacities": lambda: sj.games.duopoly(
        follower_cost=3.0, leader_capacity=7.0, follower_capacity=3.0
    ),
    "entry deterrence": sj.games.entry_deterrence,
    "favour": sj.games.favour,
    "halfspaces": lambda: sj.games.halfspaces(jax.random.key(6)),
    "income tax": sj.games.income_tax,
    "logit pricing": sj.games.logit_pricing,
    "posted price": sj.games.posted_price,
    "principal-agent": sj.games.principal_agent,
    "quadratic": lambda: sj.games.quadratic(jax.random.key(3)),
    "ridge": lambda: sj.games.ridge(jax.random.key(7)),
    "security, 2 targets": lambda: sj.games.security(targets=2),
    "security, 4 targets": lambda: sj.games.security(targets=4, resources=0.8, spread=0.7),
    "steering": sj.games.steering,
    "toll": sj.games.toll,
    "wholesale": sj.games.wholesale,
}

# One of each kind; the solver compiles for five to ten seconds for every game and dtype.
QUICK = (
    "bonuses",
    "commodity tax",
    "duopoly",
    "halfspaces",
    "toll",
)


def cases(quick):
    """Every game; all but the quick ones marked slow."""
    marks = {name: () if name in quick else pytest.mark.slow for name in GAMES}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


every_game = pytest.mark.parametrize("name", GAMES)
solved_games = pytest.mark.parametrize("name", cases(QUICK))


@functools.cache
def built(name: str, wide: bool) -> tuple[sj.games.ClosedFormGame, Any]:
    """The game and a few contexts; fewer where the solver takes long to compile and run."""
    with jax.enable_x64(wide):
        known = GAMES[name]()
        return known, known.contexts(jax.random.key(0), 8 if known.solver else 64)


def solver(known, dtype):
    action, response = (y.astype(dtype) for y in (known.action, known.response))

    def one(x):
        return sj.solve(
            known.game,
            action=action,
            response=response,
            context=x,
            solver=known.solver,
            starts=known.starts,
        )

    return quick_jit(jax.vmap(one))


@functools.cache
def solved(name: str, wide: bool) -> sj.Solution:
    known, contexts = built(name, wide)
    with jax.enable_x64(wide):
        return solver(known, jnp.float64 if wide else jnp.float32)(contexts)


@solved_games
def test_equilibrium(name):
    check_equilibrium(name, wide=True)


@pytest.mark.parametrize("name", cases(["bonuses"]))
def test_equilibrium_in_float32(name):
    check_equilibrium(name, wide=False)


def check_equilibrium(name, wide):
    known, contexts = built(name, wide)
    found = solved(name, wide)
    with jax.enable_x64(wide):
        action, response = jax.vmap(known.equilibrium)(contexts)
        assert found.action.dtype == found.leader_utility.dtype == action.dtype
        assert action.dtype == (jnp.float64 if wide else jnp.float32)
        exact = np.full(len(found.steps), True)
        if known.solver is None and known.kinked:
            # To Newton's method a leader's optimum on a kink of its own utility (the follower
            # just deterred, the road just full) has no zero gradient: it is found, and reported
            # as not converged.
            inside = lambda r: known.game.response_set.contains(r, tol=-1e-3)
            exact = jax.vmap(inside)(response)
            assert exact.mean() > 0.5
            chex.assert_trees_all_close(found.action, action, rtol=0, atol=1e-3)
        assert found.converged[exact].all()
        tol = {"rtol": 0, "atol": 1e-6} if wide else {"rtol": 1e-3, "atol": 1e-3}
        chex.assert_trees_all_close(found.action[exact], action[exact], **tol)
        chex.assert_trees_all_close(found.response[exact], response[exact], **tol)
        assert not found.unique.any() if known.ties else found.unique[exact].all()


@solved_games
def test_response_and_sensitivity(name, x64):
    known, contexts = built(name, True)
    low, high = known.game.action_set.bounds(known.action)
    low, high = (jnp.where(jnp.isfinite(b), b, s) for b, s in ((low, -2.0), (high, 6.0)))
    count = len(jax.tree.leaves(contexts)[0])
    shape = (count, *known.action.shape)
    actions = jax.random.uniform(jax.random.key(2), shape, jnp.float64, low, high)
    if known.game.action_set.projectable:
        actions = jax.vmap(known.game.action_set.project)(actions)

    def answer(a, x):
        found = sj.best_response(known.game, a, x, response=known.response)
        return found.value, found

    def every(a, x):
        slope, found = jax.jacfwd(answer, has_aux=True)(a, x)
        return found, slope, jax.jacrev(answer, has_aux=True)(a, x)[0]

    found, *slopes = quick_jit(jax.vmap(every))(actions, contexts)
    wanted = jax.vmap(known.best_response)(actions, contexts)
    assert found.converged.all()
    if known.ties:
        worth = jax.vmap(known.game.follower_utility)
        found_worth, wanted_worth = (worth(actions, r, contexts) for r in (found.value, wanted))
        chex.assert_trees_all_close(found_worth, wanted_worth, atol=1e-7)
    free = ... if not known.ties else found.unique
    chex.assert_trees_all_close(found.value[free], wanted[free], atol=1e-7)
    for slope in slopes:
        chex.assert_trees_all_close(
            slope, jax.vmap(known.sensitivity)(actions, contexts), atol=1e-5
        )


def feasible_tries(known, action, response, x, key):
    """Actions around `action`, and which of them the leader may take against the best response."""
    moves = jax.random.uniform(key, (4000, *jnp.shape(action)), minval=-1, maxval=1)
    tries = action[None] + moves * (1 + jnp.max(jnp.abs(action)))
    feasible = known.game.action_set
    if feasible.projectable:
        return jax.vmap(feasible.project)(tries), jnp.full(4000, True)
    allowed = lambda a: feasible.contains(a, response=response(a), context=x)
    return tries, jax.vmap(allowed)(tries)


@every_game
def test_equilibrium_is_the_best_action_on_a_grid(name):
    """The closed form itself, against brute force over the leader's actions."""
    known = built(name, False)[0]
    contexts = known.contexts(jax.random.key(4), 16)

    def compare(x):
        action, response = known.equilibrium(x)
        answer = lambda a: known.best_response(a, x)
        tries, allowed = feasible_tries(known, action, answer, x, jax.random.key(5))
        gains = jax.vmap(lambda a: known.game.leader_utility(a, answer(a), x))(tries)
        value = known.game.leader_utility(action, response, x)
        return value, jnp.max(jnp.where(allowed, gains, -jnp.inf))

    value, best = quick_jit(jax.vmap(compare))(contexts)
    assert np.all(value >= best - 1e-5 * (1 + np.abs(value)))
    assert np.all(value <= best + 0.1 * (1 + np.abs(value)))


@every_game
def test_commitment_is_worth_at_least_nash(name, x64):
    """The leader could commit to its Nash action; so the equilibrium pays it no less."""
    known, contexts = built(name, True)
    nash = known.nash
    if nash is None:
        pytest.skip("no Nash equilibrium in closed form")

    def compare(x):
        action, response = nash(x)
        utility = known.game.leader_utility
        tries, _ = feasible_tries(known, action, lambda a: response, x, jax.random.key(6))
        deviating = jnp.max(jax.vmap(lambda a: utility(a, response, x))(tries))
        answer = known.best_response(action, x)
        worth = [known.game.follower_utility(action, r, x) for r in (response, answer)]
        value = utility(*known.equilibrium(x), x)
        return value, utility(action, response, x), deviating, *worth

    value, at_nash, deviating, *worth = quick_jit(jax.vmap(compare))(contexts)
    assert np.all(deviating <= at_nash + 1e-9 * (1 + np.abs(at_nash)))
    np.testing.assert_allclose(*worth, rtol=1e-9, atol=1e-9)
    assert np.all(value >= at_nash - 1e-9 * (1 + np.abs(at_nash)))


@pytest.mark.parametrize(
    ("name", "worst"),
    [
        ("favour", lambda p, v: jnp.stack([p, jnp.zeros_like(p)])),
        ("posted price", lambda p, v: jnp.where(p < v, 1.0, 0.0)),
    ],
)
def test_follower_who_breaks_ties_against_the_leader(name, worst):
    known, contexts = built(name, False)
    pessimistic = known.pessimistic
    assert known.ties and pessimistic is not None

    def compare(v):
        value = lambda p: known.game.leader_utility(p, worst(p, v), v)
        follower = lambda p, r: known.game.follower_utility(p, r, v)
        pays = jnp.linspace(0.0, 6.0, 6001)
        regret = jax.vmap(
            lambda p: follower(p, known.best_response(p, v)) - follower(p, worst(p, v))
        )
        best = known.game.leader_utility(*known.equilibrium(v), v)
        return jnp.max(regret(pays)), jnp.max(jax.vmap(value)(pays)), pessimistic(v), best

    regret, found, stated, optimistic = quick_jit(jax.vmap(compare))(contexts)
    np.testing.assert_allclose(regret, 0, atol=1e-6)
    np.testing.assert_allclose(found, stated, atol=2e-3)
    assert np.all(optimistic >= stated - 1e-6)


def test_batch_of_a_thousand():
    """README's promise: within 1e-4 of (demand - 1) / 2."""
    demand = jnp.linspace(5.0, 20.0, 1000)
    found = solver(sj.games.duopoly(), jnp.float32)(demand)
    assert found.converged.all()
    assert np.max(np.abs(found.action - (demand - 1) / 2)) < 1e-4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda g: g.duopoly(slope=-1), "`slope` must be positive; got -1"),
        (lambda g: g.duopoly(leader_capacity=0), "`leader_capacity` must be positive; got 0"),
        (lambda g: g.entry_deterrence(follower_cost=0.5), "`follower_cost` must be above"),
        (lambda g: g.bertrand(substitution=1), r"`substitution` must lie in \(0, 1\); got 1"),
        (lambda g: g.wholesale(slope=0), "`slope` must be positive; got 0"),
        (lambda g: g.quadratic(jax.random.key(0), response_size=0), "`response_size` must be at"),
        (lambda g: g.commodity_tax(goods=0), "`goods` must be at least 1; got 0"),
        (lambda g: g.security(targets=1), "`targets` must be at least 2; got 1"),
        (lambda g: g.security(resources=2), r"`resources` must lie in \(0, 1\]; got 2"),
        (lambda g: g.security(spread=0), "`spread` must be positive; got 0"),
        (lambda g: g.halfspaces(jax.random.key(0), rows=4), "`rows` must be between 1 and `size`"),
        (lambda g: g.halfspaces(jax.random.key(0), effort=-1), "`effort` must be positive"),
        (lambda g: g.logit_pricing(products=0), "`products` must be at least 1; got 0"),
        (lambda g: g.logit_pricing(noise=0), "`noise` must be positive; got 0"),
        (lambda g: g.bonuses(tasks=9), "`tasks` must be between 2 and 6; got 9"),
        (lambda g: g.bonuses(cost=0), "`cost` must be positive; got 0"),
        (lambda g: g.ridge(jax.random.key(0), train_rows=2), "`train_rows` must be at least 3"),
        (lambda g: g.favour(worth=0), "`worth` must be positive; got 0"),
        (lambda g: g.steering(size=1), "`size` must be at least 2; got 1"),
        (lambda g: g.steering(force=0), "`force` must be positive; got 0"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ValueError, match=message):
        build(sj.games)
