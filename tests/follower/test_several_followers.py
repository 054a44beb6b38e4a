"""Several followers: their Nash equilibrium against closed forms, enumeration, iteration, units."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import nash
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from quick import quick, quick_jit

import stackjax as sj

BOTH = pytest.mark.parametrize("dtype", ["float32", "float64"])
DEMAND = 10.0


@pytest.fixture(autouse=True)
def _precision(request):
    wide = "dtype" in request.fixturenames and request.getfixturevalue("dtype") == "float64"
    with jax.enable_x64(wide):
        yield


def equilibrium(*arguments, **options) -> sj.Equilibrium:
    found = sj.best_response(*arguments, **options)
    assert isinstance(found, sj.Equilibrium)
    return found


def no_leader(action, responses, context):
    return 0.0


def cournot(costs, tax=0.0):
    """Cournot's quantities at a price `DEMAND - sum`, by entry in the order of costs."""
    costs = np.asarray(costs, float) + tax
    for entered in range(len(costs), 0, -1):
        total = (DEMAND * entered - costs[:entered].sum()) / (entered + 1)
        if DEMAND - total > costs[entered - 1]:
            return np.maximum(DEMAND - total - costs, 0)
    return np.zeros_like(costs)


def firm(number, cost):
    return lambda tax, r, demand: r[number] * (demand - sum(r) - cost - tax)


def market(costs):
    sets = (sj.Box(lower=0.0),) * len(costs)
    return sj.Game(no_leader, tuple(map(firm, range(len(costs)), costs)), response_set=sets)


def crowd(costs):
    firms = sj.Followers(
        lambda tax, own, r, demand, cost: own * (demand - jnp.sum(r) - cost - tax), costs
    )
    return sj.Game(no_leader, firms, response_set=sj.Box(lower=0.0))


@BOTH
@pytest.mark.parametrize("costs", [[1.0], [1.0, 2.5], [1.0, 2.0, 3.0, 3.5, 9.0]])
def test_cournot_by_utilities_is_the_closed_form(costs, dtype):
    start = tuple(jnp.ones((), dtype) for _ in costs)
    found = equilibrium(market(costs), 0.5, DEMAND, response=start)
    assert found.converged and found.unique and found.equilibria == 1
    np.testing.assert_allclose(found.value, cournot(costs, 0.5), rtol=1e-5, atol=1e-5)
    # what a firm that stays out would lose on its first unit
    price = DEMAND - cournot(costs, 0.5).sum()
    np.testing.assert_allclose(
        found.multipliers.lower, np.maximum(np.array(costs) + 0.5 - price, 0), atol=1e-4
    )
    np.testing.assert_allclose(found.gains, 0, atol=1e-6)


@BOTH
@pytest.mark.parametrize("count", [2, 1000])
def test_cournot_by_parameters_is_the_closed_form(count, dtype):
    costs = np.linspace(1.0, 2.0, count)
    found = equilibrium(crowd(jnp.asarray(costs)), 0.0, DEMAND, response=jnp.ones(count, dtype))
    assert found.converged and found.residuals.shape == (count,)
    np.testing.assert_allclose(found.value, cournot(costs), rtol=1e-3, atol=1e-5)


def linear_quadratic(sizes):
    """Utilities whose slopes are `-(matrix y + constant)`, with both in the context."""
    cuts = np.cumsum([0, *sizes])

    def utility(number):
        a, b = cuts[number], cuts[number + 1]

        def of(action, r, context):
            matrix, constant = context[0][a:b], context[1][a:b]
            rest = jnp.concatenate(r).at[a:b].set(0.0)
            return -r[number] @ (matrix @ rest + matrix[:, a:b] @ r[number] / 2 + constant)

        return of

    split = lambda y: tuple(y[a:b] for a, b in itertools.pairwise(cuts))
    return tuple(map(utility, range(len(sizes)))), split


@BOTH
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1), (1, 2, 2)])
def test_random_games_in_boxes_against_enumeration_in_two_units(sizes, dtype):
    utilities, split = linear_quadratic(sizes)

    def answer(matrix, constant, lower, upper, start):
        boxes = tuple(map(sj.Box, split(lower), split(upper)))
        game = sj.Game(no_leader, utilities, response_set=boxes)
        found = equilibrium(game, None, (matrix, constant), response=split(start))
        return jnp.concatenate(found.value), found.converged, found.curvatures

    rng, games, others = np.random.default_rng(7), [], []
    units = 10.0 ** rng.uniform(-3, 3, (100, sum(sizes)))
    gains = np.repeat(10.0 ** rng.uniform(-3, 3, (100, len(sizes))), sizes, axis=1)
    for unit, gain in zip(units, gains):
        matrix, constant, lower, upper, start = nash.random_game(rng, sizes)
        games.append((matrix, constant, lower, upper, start))
        scaled = gain[:, None] * matrix / unit[:, None] / unit[None]
        others.append((scaled, gain * constant / unit, lower * unit, upper * unit, start * unit))
    solve = quick_jit(jax.vmap(answer))
    stacked = lambda games: [np.stack(part).astype(dtype) for part in zip(*games)]
    value, converged, curvatures = solve(*stacked(games))
    again, converged_again, _ = solve(*stacked(others))
    assert converged.mean() >= 0.99 and (curvatures > 0).all()
    assert (converged == converged_again).mean() >= 0.99
    rtol, atol = (2e-3, 2e-4) if dtype == "float32" else (1e-7, 1e-8)
    for k, game in enumerate(games):
        (exact,) = nash.complementary(*game[:4])  # strictly monotone: one
        if converged[k]:
            np.testing.assert_allclose(value[k], exact, rtol=rtol, atol=atol)
        if converged_again[k]:
            np.testing.assert_allclose(again[k] / units[k], exact, rtol=rtol, atol=atol)


@BOTH
def test_shared_constraints_have_one_multiplier(dtype):
    sizes = (1, 2)
    utilities, split = linear_quadratic(sizes)

    def answer(matrix, constant, lower, upper, normals, limits, start):
        shared = lambda action, r, x: x[2] @ jnp.concatenate(r) - x[3]
        both = sj.Constrained(shared, box=sj.Box(split(lower), split(upper)))
        game = sj.Game(no_leader, utilities, response_set=both)
        context = matrix, constant, normals, limits
        found = equilibrium(game, None, context, response=split(start))
        return jnp.concatenate(found.value), found.multipliers.inequality, found.converged

    rng, games = np.random.default_rng(3), []
    for _ in range(100):
        matrix, constant, lower, upper, start = nash.random_game(rng, sizes)
        matrix = matrix + 0.1 * np.eye(3)
        normals = rng.normal(size=(2, 3))
        inside = np.clip(np.where(np.isfinite(lower), lower, 0) + 0.3, None, upper)
        limits = normals @ inside + rng.exponential(size=2)
        games.append((matrix, constant, lower, upper, normals, limits, start))
    value, prices, converged = quick_jit(jax.vmap(answer))(
        *(np.stack(part).astype(dtype) for part in zip(*games))
    )
    assert converged.mean() >= 0.97
    rtol, atol = (5e-3, 2e-3) if dtype == "float32" else (1e-6, 1e-7)
    active = 0
    for k, game in enumerate(games):
        ((exact, multipliers),) = nash.constrained(*game[:6])
        active += (multipliers > 1e-6).any()
        if converged[k]:
            np.testing.assert_allclose(value[k], exact, rtol=rtol, atol=atol)
            np.testing.assert_allclose(prices[k], multipliers, rtol=rtol, atol=atol)
    assert active > 20


def test_each_has_its_own_set():
    # the first is held to 1.5 by a constraint of its own, the second answers 10 - 1.5 - 2 over 2
    own = sj.Constrained(lambda tax, response, demand: response - 1.5)
    game = sj.Game(no_leader, (firm(0, 1.0), firm(1, 2.0)), response_set=(own, None))
    found = equilibrium(game, 0.0, DEMAND, response=(1.0, 1.0))
    assert found.converged
    np.testing.assert_allclose(found.value, [1.5, 3.25], rtol=1e-5)
    np.testing.assert_allclose(found.multipliers.inequality, [10 - 3 - 3.25 - 1.0], rtol=1e-5)


def test_lines_with_limits_of_an_electricity_market():
    # Two plants in one region, one in another, and a line between of 1 unit: prices differ once it
    # is full. With the line's flow f the prices are 10 - (a + b) - f and 8 - c + f.
    def plant(number, cost):
        north = number < 2
        price = lambda r: 10 - r[0] - r[1] + r[3] if north else 8 - r[2] - r[3]
        return lambda action, r, line: r[number] * (price(r) - cost)

    # the line's operator carries from where it is cheap, as a price taker
    def operator(action, r, line):
        spread = jax.lax.stop_gradient((8 - r[2]) - (10 - r[0] - r[1]))
        return r[3] * spread - r[3] ** 2

    sets = (sj.Box(lower=0.0),) * 3
    game = lambda line: sj.Game(
        no_leader,
        (plant(0, 1.0), plant(1, 2.0), plant(2, 1.0), operator),
        response_set=(*sets, sj.Box(-line, line)),
    )
    answer = jax.jit(lambda line: equilibrium(game(line), None, line, response=(1.0,) * 4))
    for line in (0.1, 5.0):
        found = answer(line)
        assert found.converged
        # by Gauss-Seidel in NumPy
        a, b, c, f = 1.0, 1.0, 1.0, 0.0
        for _ in range(2000):
            a = max((10 - b + f - 1) / 2, 0)
            b = max((10 - a + f - 2) / 2, 0)
            c = max((8 - f - 1) / 2, 0)
            f = 0.5 * f + 0.5 * np.clip(((8 - c) - (10 - a - b)) / 2, -line, line)
        np.testing.assert_allclose(found.value, [a, b, c, f], rtol=1e-4, atol=1e-4)
    assert abs(answer(0.1).value[3]) == np.float32(0.1)


def _nonlinear(number, other):
    def utility(action, r, context):
        own, their = r[number], r[other]
        return -jnp.cosh(own - context[number]) - 0.4 * own * jnp.tanh(their - action) - own**4 / 9

    return utility


def test_a_game_without_potential_against_iterated_responses(x64):
    game = sj.Game(
        no_leader, (_nonlinear(0, 1), _nonlinear(1, 0)), response_set=(sj.Box(-0.5, 0.6),) * 2
    )
    contexts = np.random.default_rng(0).normal(size=(20, 2))
    answer = jax.jit(jax.vmap(lambda x: equilibrium(game, 0.3, x, response=(0.0, 0.0))))(contexts)
    assert answer.converged.all() and answer.unique.all()
    for k, x in enumerate(contexts):
        r = [0.0, 0.0]
        for _ in range(60):  # each by bisection of its own slope, which falls
            for i in (0, 1):
                slope = lambda y, own=x[i], other=r[1 - i]: (
                    -np.sinh(y - own) - 0.4 * np.tanh(other - 0.3) - 4 * y**3 / 9
                )
                low, high = -0.5, 0.6
                for _ in range(60):
                    middle = (low + high) / 2
                    low, high = (middle, high) if slope(middle) > 0 else (low, middle)
                r[i] = (low + high) / 2
        np.testing.assert_allclose([answer.value[0][k], answer.value[1][k]], r, atol=1e-9)


@pytest.mark.parametrize("start", [(0.445, 0.445), (0.3, -0.7), (-1.0, -1.0), (1.0, -1.0)])
def test_a_game_without_equilibrium_is_never_converged(start):
    # One wants to be far, the other near. nashopt 1.3.9 calls (.445, .445) an equilibrium.
    far = lambda action, r, x: (r[0] - r[1]) ** 2
    near = lambda action, r, x: -((r[0] - r[1]) ** 2)
    game = sj.Game(no_leader, (far, near), response_set=(sj.Box(-1.0, 1.0),) * 2)
    found = equilibrium(game, None, None, response=start, starts=4)
    assert not found.converged
    assert found.gains[0] > 0.1 or found.curvatures[0] < 0


def test_a_local_maximum_of_one_follower_is_seen():
    # At r = 0 the first one's slope is 0 and its curvature right; it is best off at an end.
    wavy = lambda action, r, x: jnp.cos(4 * r[0]) + r[0] ** 2 + 0.1 * r[0] * r[1]
    calm = lambda action, r, x: -(r[1] ** 2) + 0.1 * r[0] * r[1]
    game = sj.Game(no_leader, (wavy, calm), response_set=(sj.Box(-2.0, 2.0),) * 2)
    found = equilibrium(game, None, None, response=(0.0, 0.0))
    assert not found.converged and found.gains[0] > 0.1 and found.gains[1] == 0


def test_several_equilibria_are_said():
    follow = lambda number, other: lambda action, r, x: -((r[number] - jnp.tanh(3 * r[other])) ** 2)
    game = sj.Game(no_leader, (follow(0, 1), follow(1, 0)))
    found = equilibrium(game, None, None, response=(0.5, 0.5), starts=16)
    assert found.converged and found.equilibria == 3 and not found.unique
    assert 1 <= found.agreeing_starts < 16
    alone = equilibrium(market([1.0, 2.0]), 0.0, DEMAND, response=(0.0, 0.0), starts=8)
    assert alone.equilibria == 1 and alone.agreeing_starts == 8 and alone.unique


@pytest.mark.parametrize("start", [0.0, 0.1, 1.0, 10.0])
def test_contests_from_any_start(start):
    # Tullock's: the prize is shared by effort; in closed form prize_i^2 prize_j / (sum)^2
    spend = lambda i: lambda a, r, prize: prize[i] * r[i] / (r[0] + r[1]) - r[i]
    game = sj.Game(no_leader, (spend(0), spend(1)), response_set=(sj.Box(lower=0.0),) * 2)
    answer = jax.jit(lambda prize: equilibrium(game, None, prize, response=(start, start)))
    for prize in (np.array([1.0, 1.0]), np.array([2.0, 1.0])):
        found = answer(prize)
        assert found.converged
        exact = prize * prize.prod() / prize.sum() ** 2
        np.testing.assert_allclose(found.value, exact, rtol=1e-4)


@pytest.mark.parametrize("box", [sj.Box(lower=0.0), sj.Box(0.0, 10.0)])
def test_prices_with_logit_demand_from_far_away(box):
    # profits are not concave where prices are high; a fixed point of p = 1 + 1 / (1 - share)
    price = lambda i: (
        lambda a, p, x: (p[i] - 1) * jnp.exp(3 - p[i]) / (1 + jnp.exp(3 - p[0]) + jnp.exp(3 - p[1]))
    )
    game = sj.Game(no_leader, (price(0), price(1)), response_set=(box, box))
    answer = jax.jit(lambda start: equilibrium(game, None, None, response=(start, start)))
    p = 2.0
    for _ in range(200):
        p = 1 + 1 / (1 - np.exp(3 - p) / (1 + 2 * np.exp(3 - p)))
    for start in (0.0, 4.0, 6.0, 9.0):
        found = answer(start)
        assert found.converged
        np.testing.assert_allclose(found.value, [p, p], rtol=1e-4)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("side", ["none", "above", "both"])
def test_a_lower_peak_of_each_is_no_equilibrium_in_any_unit(unit, side):
    # Each is at -.96, a maximum of its own, and would be better off at 1.04.
    two = lambda i: lambda a, r, x: -(((r[i] / unit) ** 2 - 1) ** 2) + 0.3 * r[i] / unit
    box = {"none": None, "above": sj.Box(None, 2 * unit), "both": sj.Box(-2 * unit, 2 * unit)}[side]
    game = sj.Game(no_leader, (two(0), two(1)), response_set=(box, box))
    found = equilibrium(game, None, None, response=(-unit, -unit))
    assert not found.converged and (found.gains > 0).all() and found.equilibria == 0
    if side != "above":  # whose starts spread over an absolute length
        found = equilibrium(game, None, None, response=(-unit, -unit), starts=16)
        assert found.converged and found.equilibria == 1
        np.testing.assert_allclose(np.array(found.value) / unit, 1.0356, rtol=1e-4)


def test_what_fails_is_finite_in_value_multipliers_and_gradients():
    # nobody's utility is a number where both stop, which is where steps lead
    spend = lambda i: lambda a, r, x: a * jnp.sqrt(r[0] + r[1] - 3) - r[i] ** 2
    game = sj.Game(no_leader, (spend(0), spend(1)), response_set=(sj.Box(0.0, 9.0),) * 2)
    few = sj.SemismoothNewton(max_steps=2)
    for start in (0.0, 1.6, 4.0):

        def total(a, start=start):
            found = sj.best_response(game, a, None, response=(start, start), solver=few)
            prices = jax.tree.leaves(found.multipliers)
            return sum(found.value) + sum(jnp.sum(price) for price in prices), found.converged

        (value, converged), slope = jax.jit(jax.value_and_grad(total, has_aux=True))(1.0)
        assert not converged and np.isfinite(value) and np.isfinite(slope)


def test_a_shared_row_given_twice(x64):
    sizes = (1, 1, 1)
    utilities, split = linear_quadratic(sizes)

    def answer(matrix, constant, start, times):
        row = jnp.array([-1.0, 2.0, -0.5])
        rows = jnp.stack([row, times * row])
        twice = sj.Polyhedron(rows, rows @ jnp.full(3, 0.3), box=sj.Box(0.0, 1.0))
        flat = lambda r: split(jnp.stack([jnp.reshape(own, ()) for own in r]))
        of = lambda utility: lambda a, r, x: utility(a, flat(r), x)
        game = sj.Game(no_leader, tuple(map(of, utilities)), response_set=twice)
        found = sj.best_response(game, None, (matrix, constant), response=tuple(start))
        return jnp.stack(found.value), found.converged

    rng, run = np.random.default_rng(0), quick_jit(jax.vmap(answer, in_axes=(0, 0, 0, None)))
    games = [nash.random_game(rng, sizes, skew=(1,)) for _ in range(200)]
    matrix, constant, start = (np.stack(part) for part in zip(*((g[0], g[1], g[4]) for g in games)))
    value, converged = run(matrix, constant, start, 3.0)
    assert converged.mean() >= 0.94
    row = np.array([[-1.0, 2.0, -0.5]])
    for k in np.flatnonzero(converged):
        ((exact, _),) = nash.constrained(
            matrix[k], constant[k], np.zeros(3), np.ones(3), row, row @ np.full(3, 0.3)
        )
        np.testing.assert_allclose(value[k], exact, atol=1e-7)


def test_derivatives_against_differences(x64):
    def answer(theta):
        tax, costs, most, demand = theta
        game = sj.Game(
            no_leader,
            (firm(0, costs[0]), firm(1, costs[1]), firm(2, costs[2])),
            response_set=(sj.Box(0.0, most), sj.Box(lower=0.0), None),
        )
        found = equilibrium(game, tax, demand, response=(1.0, 1.0, 1.0))
        return (
            jnp.stack(found.value) ** 2 @ jnp.array([1.0, 2.0, -1.0]) + found.multipliers.upper[0]
        )

    theta = jnp.array(0.5), jnp.array([1.0, 2.0, 1.5]), jnp.array(1.7), jnp.array(DEMAND)
    gradient = quick(jax.grad(answer), theta)
    flat, unravel = ravel_pytree(theta)
    along, value = ravel_pytree(gradient)[0], quick_jit(answer)
    for k, e in enumerate(np.eye(len(flat))):
        difference = (value(unravel(flat + 1e-5 * e)) - value(unravel(flat - 1e-5 * e))) / 2e-5
        np.testing.assert_allclose(along[k], difference, rtol=1e-6, atol=1e-8)
    # second order, and forward mode
    twice = quick(jax.jacfwd(jax.grad(lambda tax: answer((tax, *theta[1:])))), theta[0])
    slope = quick_jit(jax.grad(lambda tax: answer((tax, *theta[1:]))))
    difference = (slope(theta[0] + 1e-5) - slope(theta[0] - 1e-5)) / 2e-5
    np.testing.assert_allclose(twice, difference, rtol=1e-6)


def test_derivatives_through_a_shared_constraint(x64):
    def answer(capacity):
        shared = sj.Constrained(lambda tax, r, x: r[0] + r[1] - capacity, box=sj.Box(0.0))
        game = sj.Game(no_leader, (firm(0, 1.0), firm(1, 2.0)), response_set=shared)
        found = equilibrium(game, 0.0, DEMAND, response=(1.0, 1.0))
        return jnp.stack([*found.value, found.multipliers.inequality[0]])

    # 10 - 3 - r0 - 1 = 10 - 3 - r1 - 2 = price: the difference stays, each gets half of the rest
    np.testing.assert_allclose(answer(3.0), [2.0, 1.0, 4.0], rtol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(answer)(3.0), [0.5, 0.5, -1.5], rtol=1e-9)
    np.testing.assert_allclose(jax.jacrev(answer)(3.0), [0.5, 0.5, -1.5], rtol=1e-9)


def test_a_failed_member_of_a_batch_harms_nobody():
    def value(tax, demand):
        game = sj.Game(
            no_leader,
            (
                lambda tax, r, x: jnp.log(x) * 0 + r[0] * (x - r[0] - r[1] - tax),
                lambda tax, r, x: r[1] * (x - r[0] - r[1] - tax),
            ),
        )
        found = equilibrium(game, tax, demand, response=(1.0, 1.0))
        return found.value[0], found.converged

    demands = jnp.array([10.0, -1.0, 7.0])
    (value_, converged) = jax.vmap(value, in_axes=(None, 0))(1.0, demands)
    assert converged.tolist() == [True, False, True]
    np.testing.assert_allclose(value_[::2], [3.0, 2.0], rtol=1e-5)
    total = lambda tax: jax.vmap(value, in_axes=(None, 0))(tax, demands)[0].sum()
    np.testing.assert_allclose(jax.grad(total)(1.0), -2 / 3, rtol=1e-5)


def test_logarithms_from_a_start_at_their_pole():
    # Proportional shares: each spends what the other's weight makes worth it.
    share = lambda number: (
        lambda action, r, x: x[number] * jnp.log(r[number]) - r[number] * (1 + r[0] + r[1])
    )
    game = sj.Game(no_leader, (share(0), share(1)), response_set=(sj.Box(lower=0.0),) * 2)
    found = equilibrium(game, None, jnp.array([1.0, 2.0]), response=(0.0, 0.0))
    r = np.array(found.value)
    assert found.converged
    np.testing.assert_allclose([1.0, 2.0] / r, 1 + r.sum() + r, rtol=1e-4)


def test_the_leader_of_several_is_the_closed_form_and_differentiable():
    costs = [1.0] * 4
    profit = lambda own, r, demand: own * (demand - own - sum(r) - 1.0)
    follower = lambda number: lambda own, r, demand: r[number] * (demand - own - sum(r) - 1.0)
    game = sj.Game(
        profit,
        tuple(map(follower, range(4))),
        action_set=sj.Box(0.0, 20.0),
        response_set=(sj.Box(lower=0.0),) * len(costs),
    )
    solve = lambda demand: sj.solve(
        game, action=jnp.array(1.0), response=(1.0,) * 4, context=demand
    )
    found = jax.jit(jax.vmap(solve))(jnp.array([7.0, 13.0]))
    assert found.converged.all() and found.unique.all() and not found.local.any()
    np.testing.assert_allclose(found.action, [3.0, 6.0], rtol=1e-4)
    np.testing.assert_allclose(found.response[2], [0.6, 1.2], rtol=1e-4)
    np.testing.assert_allclose(
        found.follower_utility, np.array([[0.36], [1.44]]) * np.ones(4), 1e-3
    )
    slope = jax.jit(jax.grad(lambda demand: solve(demand).action))(13.0)
    np.testing.assert_allclose(slope, 0.5, rtol=1e-4)


def test_a_policy_is_learned_against_several():
    costs = jnp.array([1.0, 1.0, 1.0])
    firms = sj.Followers(
        lambda own, r, all_, demand, cost: r * (demand - own - jnp.sum(all_) - cost), costs
    )
    game = sj.Game(
        lambda own, r, demand: own * (demand - own - jnp.sum(r) - 1.0),
        firms,
        response_set=sj.Box(lower=0.0),
    )
    policy = jax.tree_util.Partial(lambda w, demand: w * (demand - 1), jnp.array(0.2))
    policy, history = sj.fit_leader(
        policy, game, jnp.array([9.0, 13.0]), response=jnp.ones(3), steps=150, key=jax.random.key(0)
    )
    np.testing.assert_allclose(policy.args[0], 0.5, atol=0.01)
    assert history.converged[-1] == 1


def test_one_follower_by_the_same_method():
    game = sj.Game(no_leader, lambda a, r, x: a @ r - r @ r / 2, response_set=sj.Simplex())
    push = jnp.array([0.9, 0.4, -2.0])
    found = sj.best_response(
        game, push, None, response=jnp.ones(3) / 3, solver=sj.SemismoothNewton()
    )
    np.testing.assert_allclose(found.value, [0.75, 0.25, 0.0], atol=1e-6)
    assert found.converged


def wrong(argument: Any) -> Any:
    return argument


def test_arguments_are_checked():
    two = (firm(0, 1.0), firm(1, 1.0))
    with pytest.raises(ValueError, match="one set for each of the 2 followers; got 1"):
        sj.Game(no_leader, two, response_set=(sj.Box(),))
    with pytest.raises(TypeError, match=r"`follower_utility\[1\]` must be callable"):
        sj.Game(no_leader, wrong((firm(0, 1.0), 3.0)))
    with pytest.raises(TypeError, match="must be one set unless"):
        sj.Game(no_leader, firm(0, 1.0), response_set=(sj.Box(), sj.Box()))
    with pytest.raises(TypeError, match=r"`response_set\[0\]` must be one of stackjax's sets"):
        sj.Game(no_leader, two, response_set=wrong((1.0, None)))
    with pytest.raises(ValueError, match="at least one utility"):
        sj.Game(no_leader, ())
    game = sj.Game(no_leader, two)
    with pytest.raises(TypeError, match="one entry for each of the 2 followers; got 3"):
        equilibrium(game, 0.0, 1.0, response=(1.0, 1.0, 1.0))
    with pytest.raises(TypeError, match="got one array"):
        equilibrium(game, 0.0, 1.0, response=jnp.ones(2))
    with pytest.raises(TypeError, match="SemismoothNewton"):
        equilibrium(game, 0.0, 1.0, response=(1.0, 1.0), solver=sj.Newton())
    with pytest.raises(TypeError, match="Complementarity supports one follower"):
        sj.solve(game, action=1.0, response=(1.0, 1.0), context=1.0, solver=sj.Complementarity())
    with pytest.raises(TypeError, match="`check` supports games of one follower; this game has 2"):
        sj.check(game, sj.solve(game, action=1.0, response=(1.0, 1.0), context=9.0), 9.0)
    with pytest.raises(TypeError, match="`break_ties` supports one follower"):
        game.break_ties("optimistic")
    with pytest.raises(TypeError, match="must take five arguments"):
        sj.Followers(lambda tax, own, r, demand: own, jnp.ones(2))
    with pytest.raises(TypeError, match="must hold numbers; got strings"):
        sj.Followers(lambda *_: 0.0, wrong(["a", "b"]))
    with pytest.raises(ValueError, match="at least one follower"):
        sj.Followers(lambda *_: 0.0, jnp.ones(0))
    simplex = sj.Game(no_leader, two, action_set=sj.Simplex())
    with pytest.raises(TypeError, match="FirstOrder"):
        sj.solve(simplex, action=jnp.ones(2) / 2, response=(1.0, 1.0), context=9.0)
    with pytest.raises(ValueError, match="one leading axis"):
        sj.Followers(lambda *_: 0.0, jnp.array(1.0))
    with pytest.raises(ValueError, match="a leading axis of 5"):
        equilibrium(crowd(jnp.ones(5)), 0.0, 1.0, response=jnp.ones(4))
    bad = sj.Game(no_leader, (firm(0, 1.0), lambda tax, r, x: jnp.log(-1 - r[1] ** 2)))
    with pytest.raises(ValueError, match=r"`follower_utility\[1\]` returned nan"):
        equilibrium(bad, 0.0, 1.0, response=(1.0, 1.0))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 1, 1), (2, 1)])
def test_all_equilibria_of_games_with_several(sizes):
    utilities, split = linear_quadratic(sizes)
    rng, numbers = np.random.default_rng(11), []
    for _ in range(12):
        matrix, constant, *_ = nash.random_game(rng, sizes, skew=(0,))
        off = np.ones_like(matrix, bool)
        for a, b in itertools.pairwise(np.cumsum([0, *sizes])):
            off[a:b, a:b] = False
        matrix[off] += 3 * rng.normal(size=off.sum())  # far from monotone
        lower, upper = -1 - rng.random(len(constant)), 1 + rng.random(len(constant))
        boxes = tuple(map(sj.Box, split(lower), split(upper)))
        game = sj.Game(no_leader, utilities, response_set=boxes)
        found = sj.all_equilibria(game, None, (matrix, constant), response=split(0 * lower))
        exact = nash.complementary(matrix, constant, lower, upper)
        listed = [np.concatenate(value) for value in found.values]
        assert len(listed) == len(exact) and found.complete
        for y in exact:
            assert min(np.abs(y - other).max() for other in listed) < 1e-6
        numbers.append(len(exact))
    assert max(numbers) > 1


def test_all_equilibria_with_shared_constraints_and_of_a_continuum():
    shared = sj.Polyhedron(jnp.ones((1, 2)), jnp.array([3.0]), box=sj.Box(lower=0.0))
    game = sj.Game(no_leader, (firm(0, 1.0), firm(1, 2.0)), response_set=shared)
    found = sj.all_equilibria(game, 0.0, DEMAND, response=(0.0, 0.0))
    assert found.complete
    np.testing.assert_allclose(np.array(found.values), [[2.0, 1.0]], atol=1e-9)
    meet = lambda number, other: lambda a, r, x: -((r[number] - r[other]) ** 2)
    anywhere = sj.Game(no_leader, (meet(0, 1), meet(1, 0)), response_set=(sj.Box(-1.0, 1.0),) * 2)
    found = sj.all_equilibria(anywhere, None, None, response=(0.0, 0.0))
    assert not found.complete and all(a == b for a, b in found.values)


def test_all_equilibria_refuses():
    two = (firm(0, 1.0), firm(1, 1.0))
    with pytest.raises(TypeError, match="it has one"):
        sj.all_equilibria(sj.Game(no_leader, lambda a, r, x: -(r**2)), 0.0, 1.0, response=0.0)
    with pytest.raises(TypeError, match="is for the host"):
        jax.jit(lambda d: sj.all_equilibria(sj.Game(no_leader, two), 0.0, d, response=(0.0, 0.0)))(
            1.0
        )
    curved = sj.Game(no_leader, (two[0], lambda a, r, x: -(r[1] ** 4)))
    with pytest.raises(ValueError, match="must be quadratic"):
        sj.all_equilibria(curved, 0.0, 1.0, response=(0.0, 0.0))
    convex = sj.Game(no_leader, (two[0], lambda a, r, x: r[1] ** 2))
    with pytest.raises(ValueError, match=r"`follower_utility\[1\]` must be concave"):
        sj.all_equilibria(convex, 0.0, 1.0, response=(0.0, 0.0))
    many = crowd(jnp.ones(40))
    with pytest.raises(ValueError, match="sets of constraints that may be active"):
        sj.all_equilibria(many, 0.0, 1.0, response=jnp.ones(40))
