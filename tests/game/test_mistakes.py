"""Frequent mistakes are answered in the user's own terms, with the way out."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import stackjax as sj

ZERO = jnp.array(0.0)
KEY = jax.random.key(0)
follow = lambda a, r, x: -jnp.sum((r - a) ** 2)
pull = jax.tree_util.Partial(lambda w, a, r, x: -((r - w * a) ** 2), jnp.array(1.0))
BRANCHES: Any = {
    "if": lambda y: y if y > 0 else -y,
    "float": lambda y: float(y),
    "min": lambda y: min(y, 1.0),
    "and": lambda y: jnp.where((y > 0) and (y < 1), y, 0.0),
}


def solve(leader, **sets):
    game = sj.Game(leader, follow, **sets)
    return sj.solve(game, action=jnp.array(1.0), response=ZERO, context=None)


def answer(**sets):
    game = sj.Game(lambda a, r, x: -(a**2), follow, **sets)
    return sj.best_response(game, jnp.array(1.0), None, response=jnp.zeros(1))


def fit(policy):
    game = sj.Game(lambda a, r, x: -((a - x) ** 2), follow)
    policy = jax.tree_util.Partial(policy, ZERO)
    return sj.fit_leader(policy, game, jnp.zeros(3), response=ZERO, key=KEY, steps=2)


@pytest.mark.parametrize("wrong", BRANCHES.values(), ids=BRANCHES)
def test_branches_on_what_is_traced(wrong):
    for name, run in {
        "leader_utility": lambda: solve(lambda a, r, x: -wrong(a)),
        "Constrained.inequality": lambda: answer(
            response_set=sj.Constrained(lambda a, r, x: wrong(r[0]))
        ),
        "Polyhedron.b": lambda: answer(
            response_set=sj.Polyhedron(jnp.ones((1, 1)), lambda a, x: jnp.stack([wrong(a)]))
        ),
        "policy": lambda: fit(lambda w, x: wrong(w)),
    }.items():
        with pytest.raises(TypeError, match=rf"`{name}` must not depend on .*`if`.*jnp\.where\("):
            run()


def test_numpy_on_what_is_traced():
    for name, run in {
        "leader_utility": lambda: solve(lambda a, r, x: np.log(a)),
        "Constrained.inequality": lambda: answer(
            response_set=sj.Constrained(lambda a, r, x: np.log(r))
        ),
        "Polyhedron.b": lambda: answer(
            response_set=sj.Polyhedron(jnp.ones((1, 1)), lambda a, x: np.log(a)[None])
        ),
        "policy": lambda: fit(lambda w, x: np.exp(w)),
    }.items():
        with pytest.raises(TypeError, match=rf"`{name}` must compute with jax.numpy.*jnp.log for"):
            run()


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.array(["a", "b"]), "strings"),
        (np.array(["a", 1], object), "objects"),
        (np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), "dates"),
    ],
)
def test_columns_that_are_no_numbers(column, kind):
    two, wrong = jnp.zeros(2), {"kind": column}
    for name, seen in {
        r"observations.context\['kind'\]": sj.Observations(wrong, two, two),
        r"observations.action\['kind'\]": sj.Observations(two, wrong, two),
        r"observations.response\['kind'\]": sj.Observations(two, two, wrong),
    }.items():
        with pytest.raises(TypeError, match=f"`{name}` must hold numbers; got {kind}. Code categ"):
            sj.fit_follower(pull, seen, key=KEY, steps=2)
    game = sj.Game(follow, follow)
    policy = jax.tree_util.Partial(lambda w, x: w, ZERO)
    with pytest.raises(TypeError, match=r"`contexts\['kind'\]` must hold numbers; got"):
        sj.fit_leader(policy, game, wrong, response=ZERO, key=KEY, steps=2)


def test_a_column_with_an_axis_too_many():
    four, column = jnp.ones(4), jnp.ones((4, 1))
    for seen in (sj.Observations(four, column, four), sj.Observations(four, four, column)):
        with pytest.raises(ValueError, match=r"shape \(1,\).*column \[N, 1\].*column\[:, 0\]"):
            sj.fit_follower(pull, seen, key=KEY, steps=2)


@pytest.mark.parametrize("recorded", [sj.ActionSet, sj.sets.ConvexHull])
def test_recorded_actions_as_a_set(recorded):
    points = recorded(jnp.ones((3, 2)))
    for name in ("action_set", "response_set"):
        with pytest.raises(TypeError, match=rf"got {recorded.__name__}. .*project\(action, {name}"):
            sj.Game(follow, follow, **{name: points})


class Shares(sj.Simplex):
    """As a user would derive one."""


class Near(sj.Ball):
    """Likewise."""


@pytest.mark.parametrize("size", [3, 80])
@pytest.mark.parametrize("feasible", [Shares(), Near(radius=0.5)], ids=["simplex", "ball"])
def test_sets_that_are_derived(feasible, size):
    """Small ones go to the interior-point method, large ones to projected gradients."""
    game = sj.Game(lambda a, r, x: r[0], lambda a, r, x: a @ r - r @ r / 2, response_set=feasible)
    push = jnp.linspace(0.0, 1.0, size)
    found = sj.best_response(game, push, None, response=jnp.zeros(size))
    assert found.converged
    np.testing.assert_allclose(found.value, feasible.project(push), atol=1e-5)
    held = found.multipliers
    assert held.equality.shape == (1,) if isinstance(feasible, Shares) else held.inequality > 0


SETS: Any = {
    "polyhedron": sj.Polyhedron(jnp.ones((1, 2)), jnp.ones(1)),
    "simplex": sj.Simplex(),
    "constrained": sj.Constrained(lambda a, r, x: jnp.sum(r) - 1.0),
}


@pytest.mark.parametrize("kind", SETS)
def test_strict_promotion_of_dtypes(kind):
    """It is for the user's own functions."""
    game = sj.Game(lambda a, r, x: -((a - r[0]) ** 2), follow, response_set=SETS[kind])
    respond = lambda a: sj.best_response(game, a, None, response=jnp.zeros(2)).value
    with jax.numpy_dtype_promotion("strict"):
        np.testing.assert_allclose(respond(jnp.array(2.0)), 0.5, rtol=1e-5)
        if kind != "polyhedron":
            return
        np.testing.assert_allclose(jax.jacrev(respond)(jnp.array(0.2)), 1, rtol=1e-5)
        seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
        _, history = sj.fit_follower(pull, seen, steps=2, key=KEY)
        assert np.isfinite(history.utility).all()
        mixed = sj.Game(follow, lambda a, r, x: follow(a, r, x) + jnp.ones((), "int32") * r[0])
        with pytest.raises(ValueError, match="no available implicit dtype promotion"):
            sj.best_response(mixed, jnp.array(2.0), None, response=jnp.zeros(2))


@pytest.mark.parametrize(
    ("context", "place", "kind"),
    [
        ("high", "context", "strings"),
        ({"demand": 1.0, "season": "summer"}, r"context\['season'\]", "strings"),
        (np.array(["a", "b"]), "context", "strings"),
        (np.array(["2026-01-05"], "datetime64[D]"), "context", "dates"),
        (object(), "context", "objects"),
    ],
)
def test_contexts_hold_numbers(context, place, kind):
    game = sj.Game(lambda a, r, x: -(a**2) + r, lambda a, r, x: -((r - a) ** 2))
    one = jnp.array(1.0)
    with pytest.raises(TypeError, match=f"`{place}` must hold numbers; got {kind}"):
        sj.solve(game, action=one, response=one, context=context)
    with pytest.raises(TypeError, match=f"`{place}` must hold numbers; got {kind}"):
        sj.best_response(game, one, context, response=one)
    with pytest.raises(TypeError, match=f"`{place}` must hold numbers; got {kind}"):
        sj.check(game, SimpleNamespace(action=one, response=one), context)


@pytest.mark.parametrize("name", ["action", "response", "context"])
def test_a_list_where_an_array_is_meant(name):
    two = jnp.ones(2)
    game = sj.Game(
        lambda a, r, x: -jnp.sum((a - x) ** 2), lambda a, r, x: -jnp.sum((r - a * x) ** 2)
    )
    given = {"action": two, "response": two, "context": two, name: [1.0, 2.0]}
    with pytest.raises(TypeError, match=f"`{name}` must be one array .*got a list"):
        sj.solve(game, **given)
    with pytest.raises(TypeError, match=f"`{name}` must be one array .*got a list"):
        sj.best_response(game, given["action"], given["context"], response=given["response"])


def test_a_list_of_numbers_may_be_a_pytree():
    game = sj.Game(lambda a, r, x: -(a**2) + r, lambda a, r, x: -((r - a * x[0] - x[1]) ** 2))
    found = sj.best_response(game, 1.0, [2.0, 3.0], response=jnp.array(0.0))
    assert found.converged and np.isclose(found.value, 5.0)


def test_other_errors_of_a_utility_pass():
    game = sj.Game(lambda a, r, x: a, lambda a, r, x: -(r**2) + x.missing)
    with pytest.raises(AttributeError, match="missing"):
        sj.best_response(game, 1.0, jnp.ones(2), response=jnp.array(0.0))


@pytest.mark.parametrize(
    "onto", [sj.ActionSet(jnp.eye(2)), sj.sets.ConvexHull(jnp.eye(2)), sj.Simplex()]
)
def test_lists_are_not_projected_onto_rows(onto):
    with pytest.raises(ValueError, match=r"give one array, jnp\.array"):
        sj.project([0.2, 0.9], onto)


def test_lists_are_no_rows_of_data():
    game = sj.Game(lambda a, r, x: a, lambda a, r, x: -(r**2))
    policy = jax.tree_util.Partial(lambda w, x: w, ZERO)
    with pytest.raises(ValueError, match=r"rows.*give one array, jnp\.array"):
        sj.fit_leader(policy, game, [1.0, 2.0], response=ZERO, key=KEY, steps=1)


def test_numbers_that_are_not_finite():
    game = sj.Game(follow, lambda a, r, x: follow(a, r, x) + jnp.sum(x["rain"]))
    with pytest.raises(ValueError, match=r"`context\['rain'\]` must hold finite numbers where"):
        rain = jnp.array([1.0, jnp.nan])
        sj.best_response(game, ZERO, {"rain": rain}, response=ZERO)


def test_shapes_that_do_not_fit_are_noted():
    game = sj.Game(follow, follow)
    with pytest.raises(TypeError) as caught:
        sj.best_response(game, jnp.ones(3), ZERO, response=jnp.ones(2))
    note = "This is `follower_utility`, called with the shapes: action (3,), response (2,)"
    assert any(line.startswith(note) for line in caught.value.__notes__)


def test_a_history_prints_as_one_line():
    seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
    fit = lambda key: sj.fit_follower(pull, seen, steps=3, key=key, batch_size=4)[1]
    assert len(repr(fit(KEY))) < 150 and "steps=3" in repr(fit(KEY))
    assert "History" in repr(jax.vmap(fit)(jax.random.split(KEY, 2)))
