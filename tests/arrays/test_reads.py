"""What a function reads besides its arguments is read again when it has changed."""

import dataclasses
import functools
import threading
import time
import types
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, struct

import stackjax as sj
from stackjax._arrays.reads import reads

price = 1.0
table = {"price": 1.0}


def leader_utility(action, response, context):
    return -(action**2) + 0.0 * jnp.sum(response)


def bought(utility):
    game = sj.Game(leader_utility, utility)
    return lambda: float(sj.best_response(game, 1.0, None, response=jnp.array(0.0)).value)


class Shop:
    discount = 0.0

    def __init__(self):
        self.price, self.asked = 1.0, 0
        self.deep: Any = {"list": [1.0, np.ones(2)]}

    def utility(self, action, response, context):
        return -((response - self.price + self.discount) ** 2)

    def nested(self, action, response, context):
        self.asked += 1
        return -((response - self.deep["list"][0] * self.deep["list"][1][0]) ** 2)

    def __call__(self, action, response, context):
        return self.utility(action, response, context)


class Slotted:
    __slots__ = ("price",)

    def utility(self, action, response, context):
        return -((response - self.price) ** 2)


def closed_over():
    worth, factors, array, names = 1.0, [1.0], np.ones(3), {"one": {"two": 1.0}}

    def utility(action, response, context):
        return -((response - worth * factors[0] * array[0] * names["one"]["two"]) ** 2)

    def change(what):
        nonlocal worth
        if what == "variable":
            worth = 2.0
        elif what == "list":
            factors[0] = 2.0
        elif what == "array":
            array[0] = 2.0
        else:
            names["one"]["two"] = 2.0

    return utility, change


def test_a_changed_attribute_is_noticed():
    shop = Shop()
    ask = bought(shop.utility)
    assert ask() == 1.0
    shop.price = 2.0
    assert ask() == 2.0
    ask = bought(shop.nested)
    assert ask() == 1.0
    shop.deep["list"][1][0] = 2.0
    assert ask() == 2.0


@pytest.mark.parametrize("kind", ["method", "object", "closure", "partial"])
def test_attributes_of_every_kind(kind):
    """Those of the object, of its class, of its slots, and what lies below them."""
    shop, slotted = Shop(), Slotted()
    slotted.price = 1.0
    utility: Any = {
        "method": shop.utility,
        "object": shop,
        "closure": lambda a, r, x: shop.utility(a, r, x) + slotted.price,
        "partial": functools.partial(lambda one, a, r, x: one(a, r, x), shop),
    }[kind]
    seen = []

    def changed():
        seen.append(reads(utility).key)
        assert seen[-1] == reads(utility).key
        return len(set(seen)) == len(seen)

    assert changed()
    shop.price = 2.0
    assert changed()
    shop.deep["list"][0] = 3.0
    assert changed()
    shop.deep["list"][1][0] = 2.0
    assert changed()
    Shop.discount = 0.5
    assert changed()
    Shop.discount = 0.0
    if kind == "closure":
        slotted.price = 2.0
        assert changed()


@pytest.mark.parametrize("what", ["variable", "list", "array", "dictionary"])
def test_a_changed_variable_is_noticed(what):
    utility, change = closed_over()
    ask = bought(utility)
    assert ask() == 1.0
    change(what)
    assert ask() == 2.0


def test_partials_and_defaults_are_noticed():
    def utility(settings, action, response, context):
        return -((response - settings[0]) ** 2)

    def with_default(action, response, context, *, settings=[1.0]):  # noqa: B006
        return -((response - settings[0]) ** 2)

    settings = [1.0]
    ask = bought(functools.partial(utility, settings))
    assert ask() == 1.0
    settings[0] = 2.0
    assert ask() == 2.0
    ask = bought(with_default)
    assert ask() == 1.0
    kept: Any = with_default.__kwdefaults__
    kept["settings"][0] = 2.0
    assert ask() == 2.0


def global_utility(action, response, context):
    return -((response - worth_of_it()) ** 2)


def worth_of_it():
    return price * table["price"]


def test_globals_are_noticed(monkeypatch):
    """Those of the function and of the functions of its module that it calls."""
    ask = bought(global_utility)
    assert ask() == 1.0
    monkeypatch.setattr(f"{__name__}.price", 2.0)
    assert ask() == 2.0
    monkeypatch.setitem(table, "price", 3.0)
    assert ask() == 6.0
    monkeypatch.setattr(f"{__name__}.worth_of_it", lambda: 5.0)
    assert ask() == 5.0


def test_arguments_of_a_partial_stay_leaves():
    shop = Shop()
    scaled = lambda owner: lambda w, a, r, x: w * owner.utility(a, r, x)
    game = sj.Game(leader_utility, jax.tree_util.Partial(scaled(shop), jnp.array(2.0)))
    assert len(jax.tree.leaves(game)) == 1
    ask = lambda: float(sj.best_response(game, 1.0, None, response=jnp.array(0.0)).value)
    assert ask() == 1.0
    shop.price = 2.0
    assert ask() == 2.0


def test_noticed_inside_transformations():
    """Compilations of `best_response` are shared by outer ones, too."""
    shop = Shop()
    game = sj.Game(leader_utility, shop.utility)
    many = lambda: jax.vmap(lambda a: sj.best_response(game, a, None, response=0.0).value)(
        jnp.ones(2)
    )
    inside = lambda: jax.jit(lambda a: sj.best_response(game, a, None, response=0.0).value)(1.0)
    for worth in (1.0, 2.0):
        shop.price = worth
        assert (many() == worth).all() and inside() == worth


def test_both_players_of_solve():
    leader, follower = Shop(), Shop()

    def leader_wants(action, response, context):
        return -((action - leader.price) ** 2) + 0.0 * response

    game = sj.Game(leader_wants, follower.utility)
    play = lambda: sj.solve(game, action=jnp.array(0.0), response=jnp.array(0.0), context=None)
    leader.price, follower.price = 2.0, 3.0
    found = play()
    np.testing.assert_allclose([found.action, found.response], [2, 3], rtol=1e-5)
    leader.price = 4.0
    np.testing.assert_allclose([play().action, play().response], [4, 3], rtol=1e-5)
    follower.price = 5.0
    np.testing.assert_allclose([play().action, play().response], [4, 5], rtol=1e-5)


@pytest.mark.parametrize("kind", ["inequality", "A", "b"])
def test_constraints_are_noticed(kind):
    limits = types.SimpleNamespace(most=1.0)
    if kind == "inequality":
        feasible = sj.Constrained(lambda a, r, x: r - limits.most)
    elif kind == "b":
        feasible = sj.Polyhedron(jnp.ones((1, 1)), lambda a, x: jnp.array([limits.most]))
    else:
        feasible = sj.Polyhedron(lambda a, x: jnp.array([[1 / limits.most]]), jnp.ones(1))
    game = sj.Game(leader_utility, lambda a, r, x: -jnp.sum((r - 5) ** 2), response_set=feasible)
    ask = lambda: sj.best_response(game, 1.0, None, response=jnp.zeros(1)).value
    np.testing.assert_allclose(ask(), 1, rtol=1e-4)
    limits.most = 2.0
    np.testing.assert_allclose(ask(), 2, rtol=1e-4)


def test_fits_notice():
    """What the follower reads, and what the policy does."""
    shop, owner = Shop(), types.SimpleNamespace(scale=1.0)

    def leader_wants(action, response, context):
        return -((action - response) ** 2)

    game = sj.Game(leader_wants, shop.utility)
    policy = jax.tree_util.Partial(lambda w, context: w * owner.scale, jnp.array(0.0))
    how = {"response": jnp.array(0.0), "steps": 200, "key": jax.random.key(0)}
    optimizer = optax.adam(0.1)
    fit = lambda: sj.fit_leader(policy, game, jnp.zeros(3), optimizer=optimizer, **how)[0].args[0]
    np.testing.assert_allclose(fit(), 1, atol=0.02)
    shop.price = 2.0
    np.testing.assert_allclose(fit(), 2, atol=0.02)
    owner.scale = 4.0
    np.testing.assert_allclose(fit(), 0.5, atol=0.02)


def test_nothing_is_traced_again_while_nothing_changes():
    """Not either for what a function itself writes: counters, lists that it appends to."""
    calls, shop, counts, total = [], Shop(), {"n": 0}, 0
    rows = np.arange(5.0)

    def counted(action, response, context):
        nonlocal total
        total += 1
        counts["n"] += 1
        calls.append(None)
        return shop.utility(action, response, context) - rows[0] * response

    for utility in (counted, shop.nested):
        ask, seen = bought(utility), set()
        for _ in range(3):
            ask()
            seen.add((len(calls), counts["n"], total, shop.asked))
        assert len(seen) == 1
    assert total == counts["n"] == len(calls) > 0 and shop.asked > 0


def test_closures_over_tracers():
    shop = Shop()

    def value(w, a):
        game = sj.Game(leader_utility, lambda a, r, x: shop.utility(a, r - w, x))
        return sj.best_response(game, a, None, response=jnp.array(0.0)).value

    assert jax.grad(value)(2.0, 1.0) == 1
    batch = jax.jit(jax.vmap(value, in_axes=(0, None)))(jnp.arange(3.0), 1.0)
    np.testing.assert_allclose(batch, [1, 2, 3])


@struct.dataclass
class Tree:
    at: Any
    name: str = struct.field(pytree_node=False, default="a")


@dataclasses.dataclass(frozen=True)
class Frozen:
    price: float = 1.0


def test_what_counts():
    """Equal content is one key; every change is another."""
    module = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    box = types.SimpleNamespace(at=None)
    values = [
        1, 1.0, True, 0.0, -0.0, float("nan"), "a", b"a", None, 1j, np.float32(1), np.float64(1),
        np.ones(2), np.ones((2, 1)), np.ones(100), np.array(["a"], object), [1], (1,), {1: 1},
        {1: 2}, {"a": 1}, {1}, frozenset({1}), deque([1]), Frozen(), Frozen(2.0), range(3),
        np.dtype("f4"), np.sin, jnp, threading.Lock(), Tree(np.ones(1)), Tree(np.ones(1), "b"),
        Tree(np.zeros(1)), module, jnp.ones(1), functools.partial(max, 1), [1].count, [2].count,
        jax.jit(abs), functools.lru_cache(abs), sj.Box(0.0, 1.0), time.localtime(0),
    ]  # fmt: skip
    keys = []
    for value in values:
        box.at = value
        key = reads(box).key
        assert key == reads(box).key and hash(key) == hash(reads(box).key)
        keys.append(key)
    assert len(set(keys)) == len(keys)
    loop = []
    loop.append(loop)
    assert reads(loop).key == reads(loop).key


@pytest.mark.parametrize(
    "thing",
    [np.random.default_rng(0), (x for x in "ab"), iter([1]), [[object]] * 20_000],
    ids=["rng", "generator", "iterator", "much"],
)
def test_refused(thing):
    """What cannot be looked into, by name and with the way out."""
    if isinstance(thing, list):
        thing = [[object] for _ in thing]
    shop = Shop()
    shop.deep = thing
    utility = lambda a, r, x: shop.utility(a, r, x)
    for name, make in {
        "leader_utility": lambda: sj.Game(shop.utility, leader_utility),
        "follower_utility": lambda: sj.Game(leader_utility, utility),
        "Constrained.inequality": lambda: sj.Constrained(utility),
        "Polyhedron.b": lambda: sj.Polyhedron(jnp.ones((1, 1)), utility),
        "Average.function": lambda: sj.fit.Average(shop, at_least=0.0),
        "dynamics.step": lambda: sj.fit.Dynamics(lambda s: s, utility),
    }.items():
        with pytest.raises(TypeError, match=f"`{name}` must read only.*Pass what changes"):
            make()
    shop.deep = None
    game = sj.Game(leader_utility, shop.utility)
    shop.deep = thing
    with pytest.raises(TypeError, match="must read only numbers"):
        sj.best_response(game, 1.0, None, response=jnp.array(0.0))


def test_cost_for_a_plain_function():
    """Well below 20 microseconds at every call; 2 to 4 are measured."""
    count = 1000
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            reads(leader_utility)
        taken.append((time.perf_counter() - start) / count)
    assert min(taken) < 20e-6


def test_an_optimiser_made_anew_shares_a_compilation():
    calls = []

    def leader_wants(action, response, context):
        calls.append(None)
        return -((action - response) ** 2)

    game = sj.Game(leader_wants, global_utility)
    policy = jax.tree_util.Partial(lambda w, context: w, jnp.array(0.0))
    how = {"response": jnp.array(0.0), "steps": 5, "key": jax.random.key(0)}

    def fit(optimizer):
        calls.clear()
        found, _ = sj.fit_leader(policy, game, jnp.zeros(3), optimizer=optimizer, **how)
        return float(found.args[0]), len(calls)

    makes = [
        lambda rate: optax.adam(rate),
        lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, momentum=0.9)),
        lambda rate: optax.adamw(optax.cosine_decay_schedule(rate, 5), weight_decay=1e-3),
        lambda rate: optax.sgd(lambda step: rate / (1 + step)),
        lambda rate: optax.rmsprop(jnp.array(rate)),
    ]
    for make in makes:
        first, traced = fit(make(0.1))
        assert traced > 0 and fit(make(0.1)) == (first, 0)
        other, traced = fit(make(0.2))
        assert traced > 0 and other != first
    first = sj.FirstOrder(optax.adam(0.1))
    assert first == sj.FirstOrder(optax.adam(0.1)) != sj.FirstOrder(optax.adam(0.2))


class Settings:
    price = 1.0

    class Deeper:
        table = {"price": 1.0}  # noqa: RUF012


MODULE = types.ModuleType("settings_of_a_user")
MODULE.price = 1.0  # type: ignore


@pytest.mark.parametrize(
    ("utility", "change"),
    [
        (lambda a, r, x: -((r - Settings.price) ** 2), lambda: setattr(Settings, "price", 2.0)),
        (
            lambda a, r, x: -((r - Settings.Deeper.table["price"]) ** 2),
            lambda: Settings.Deeper.table.update(price=2.0),
        ),
        (lambda a, r, x: -((r - MODULE.price) ** 2), lambda: setattr(MODULE, "price", 2.0)),
    ],
    ids=["class", "class within a class", "module"],
)
def test_what_is_read_of_a_class_or_module_by_its_name(utility, change):
    ask = bought(utility)
    assert ask() == pytest.approx(1.0)
    change()
    assert ask() == pytest.approx(2.0)
