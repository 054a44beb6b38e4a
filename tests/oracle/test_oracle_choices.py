"""Projections, checks and finite games in odd units, against brute force and HiGHS."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import stackjax as sj


def nearest_mixture(y, points):
    """The nearest point of the hull: every simplex of at most d + 1 points, its affine foot."""
    best, distance = points[0], np.inf
    for size in range(1, points.shape[1] + 2):
        for rows in itertools.combinations(range(len(points)), size):
            corner = points[rows[0]]
            edges = points[np.array(rows[1:], int)] - corner
            weights = (
                np.linalg.lstsq(edges.T, y - corner, rcond=None)[0] if size > 1 else np.zeros(0)
            )
            if (weights < -1e-12).any() or weights.sum() > 1 + 1e-12:
                continue
            foot = corner + weights @ edges
            if np.linalg.norm(y - foot) < distance:
                best, distance = foot, np.linalg.norm(y - foot)
    return best, distance


HULLS = {
    "random": lambda rng: rng.normal(size=(7, 3)),
    "on a line": lambda rng: 0.1 + np.outer(rng.normal(size=5), [1.0, -2.0, 0.5]),
    "repeated": lambda rng: np.repeat(rng.normal(size=(3, 3)), 2, axis=0),
    "one point": lambda rng: rng.normal(size=(1, 3)),
}


@pytest.mark.parametrize("name", HULLS)
@pytest.mark.parametrize("dtype,unit", [(np.float32, 1e3), (np.float64, 1e-3)])
def test_hull_is_the_nearest_mixture(name, dtype, unit):
    rng = np.random.default_rng(0)
    points = (unit * HULLS[name](rng)).astype(dtype).astype(float)
    scale = np.array([0.5, 2.0, 10.0])
    far = unit * rng.normal(size=(12, 3)) * np.array([[0.3], [1.0], [5.0]] * 4)
    queries = np.concatenate([far, points.mean(0, keepdims=True), points[:1]])
    queries = queries.astype(dtype).astype(float)
    with jax.enable_x64(dtype == np.float64):
        hull = sj.sets.ConvexHull(jnp.asarray(points, dtype), scale=jnp.asarray(scale, dtype))
        found = jax.jit(jax.vmap(lambda y: sj.project(y, hull)))(jnp.asarray(queries, dtype))
        # Float32 calls some points next to the hull not converged; they are right all the same.
        assert found.converged.all() or (dtype == np.float32 and found.converged.mean() > 0.9)
        tol = 2e-4 if dtype == np.float32 else 1e-8
        for k, y in enumerate(queries):
            wanted, distance = nearest_mixture(y / scale, points / scale)
            np.testing.assert_allclose(found.distance[k], distance, rtol=tol, atol=tol * unit)
            np.testing.assert_allclose(found.action[k], wanted * scale, atol=10 * tol * unit)
            assert found.rows is not None and found.weights is not None
            mixed = np.asarray(found.weights[k], float) @ points[np.asarray(found.rows[k])]
            np.testing.assert_allclose(found.action[k], mixed, atol=10 * tol * unit)
            assert (found.weights[k] >= 0).all() and abs(found.weights[k].sum() - 1) < 1e-5


@pytest.mark.parametrize("dtype,unit", [(np.float32, 1e3), (np.float64, 1e-3)])
@pytest.mark.parametrize("rows", [9, 2500])
def test_recorded_action_is_the_nearest_row(dtype, unit, rows):
    """Scaled; more rows than are scanned at once; a tie goes to the smaller index."""
    rng = np.random.default_rng(1)
    actions = (unit * rng.normal(size=(rows, 4))).astype(dtype)
    actions[rows // 2] = actions[1]
    scale = np.array([1.0, 3.0, 0.2, 7.0])
    queries = np.concatenate([unit * rng.normal(size=(20, 4)), actions[rows // 2][None]]).astype(
        dtype
    )
    with jax.enable_x64(dtype == np.float64):
        tried = sj.ActionSet(jnp.asarray(actions), scale=jnp.asarray(scale, dtype))
        found = jax.jit(jax.vmap(lambda y: sj.project(y, tried)))(jnp.asarray(queries))
    apart = np.linalg.norm((queries[:, None] - actions[None]).astype(float) / scale, axis=2)
    np.testing.assert_array_equal(found.index, apart.argmin(1))
    np.testing.assert_allclose(found.distance, apart.min(1), rtol=1e-3, atol=1e-6 * unit)
    np.testing.assert_array_equal(found.action, actions[apart.argmin(1)])
    assert found.index[-1] == 1


@pytest.mark.parametrize("total", [2.5, 1e3, 1e-3])
def test_simplex_and_ball_projections(x64, total):
    """The simplex by all supports, the ball by its formula; far away, inside and on the edge."""
    rng = np.random.default_rng(2)
    queries = total * rng.normal(size=(20, 4)) * 10.0 ** rng.integers(-2, 4, size=(20, 1))
    moved = jax.vmap(lambda y: sj.project(y, sj.Simplex(total)))(jnp.asarray(queries))
    for y, got in zip(queries, moved.action):
        options = []
        for size in range(1, 5):
            for rows in map(list, itertools.combinations(range(4), size)):
                r = np.zeros(4)
                r[rows] = y[rows] - (y[rows].sum() - total) / size
                if (r >= 0).all():
                    options.append(r)
        best = min(options, key=lambda r: np.linalg.norm(r - y))
        np.testing.assert_allclose(got, best, atol=1e-9 * max(total, np.abs(y).max()))
    center = total * np.array([3.0, -1.0, 0.5, 2.0])
    ball = sj.Ball(jnp.asarray(center), total)
    moved = jax.vmap(lambda y: sj.project(y, ball))(jnp.asarray(queries + center))
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    wanted = center + queries * np.minimum(1, total / length)
    np.testing.assert_allclose(moved.action, wanted, rtol=1e-9, atol=1e-9 * total)
    np.testing.assert_allclose(
        moved.distance, np.maximum(length[:, 0] - total, 0), atol=1e-7 * total
    )


# --- check: a price a, a buyer r = (w - a) / k in [0, m]; the seller's best price is w / 2 -------


def shop(price=1.0, amount=1.0, money=1.0):
    """Prices, amounts and money in units of their own; w = 6, k = 2: a = 3, r = 1.5."""
    buyer = lambda a, r, x: money * ((6 - a / price) * (r / amount) - (r / amount) ** 2)
    return sj.Game(
        lambda a, r, x: money * (a / price) * (r / amount),
        buyer,
        action_set=sj.Box(0.5 * price, 5.0 * price),
        response_set=sj.Box(0.1 * amount, 9.0 * amount),
    )


def verdicts(game, a, r):
    play = SimpleNamespace(action=jnp.asarray(a), response=jnp.asarray(r))
    return sj.check(game, play, None, starts=4)


UNITS = [
    (1.0, 1.0, 1.0),
    pytest.param(1e3, 1e-3, 1.0, marks=pytest.mark.slow),
    pytest.param(1e-3, 1e3, 1.0, marks=pytest.mark.slow),
    pytest.param(1.0, 1.0, 1e3, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("price,amount,money", UNITS)
def test_check_tells_right_from_wrong(x64, price, amount, money):
    game = shop(price, amount, money)
    right = verdicts(game, 3.0 * price, 1.5 * amount)
    assert right.ok and right.converged and right.unique, str(right)
    dear = verdicts(game, 4.0 * price, 1.0 * amount)  # its own best response, the wrong price
    assert not dear.ok and dear.verdicts["gain"].verdict == "fails", str(dear)
    assert dear.verdicts["distance"].verdict == "ok"
    lazy = verdicts(game, 3.0 * price, 1.2 * amount)  # not the best response
    assert not lazy.ok and lazy.verdicts["distance"].verdict == "fails", str(lazy)
    # by hand: U_F(1.5) - U_F(1.2) = 0.09 of the 1.2 * 2.4 = 2.9 that U_F is made of, in any unit
    assert 0.01 < lazy.regret < 0.1
    here = verdicts(shop(), jnp.array(3.0), jnp.array(1.2))
    np.testing.assert_allclose(lazy.regret, here.regret, rtol=1e-6)
    outside = verdicts(game, 3.0 * price, -0.5 * amount)
    assert outside.verdicts["follower_violation"].verdict == "fails"


@pytest.mark.parametrize(
    "dtype,money",
    [(np.float32, 1e-3), pytest.param(np.float64, 1e-9, marks=pytest.mark.slow)],
)
def test_check_in_small_money(dtype, money):
    """A price that is 33% too high loses an eighth of the profit, whatever money is counted in."""
    with jax.enable_x64(dtype == np.float64):
        dear = verdicts(shop(money=money), dtype(4.0), dtype(1.0))
        assert dear.verdicts["gain"].verdict == "fails", str(dear)


# --- finite games ------------------------------------------------------------------------------


def by_programs(leader, follower, prior):
    """Every profile of answers by types, one HiGHS program each."""
    types, actions, answers = leader.shape
    best, unit = -np.inf, np.abs(follower).max()
    for profile in itertools.product(range(answers), repeat=types):
        gain = sum(prior[t] * leader[t, :, r] for t, r in enumerate(profile))
        envy = np.concatenate(
            [(follower[t] - follower[t, :, [r]].T).T for t, r in enumerate(profile)]
        )
        found = optimize.linprog(
            -gain / np.abs(leader).max(), A_ub=envy / unit, b_ub=np.zeros(len(envy)),
            A_eq=np.ones((1, actions)), b_eq=[1.0], method="highs",
        )  # fmt: skip
        if found.status == 0:
            best = max(best, gain @ found.x)
    return best


@pytest.mark.parametrize("money", [1.0, 1e3, 1e-3])
@pytest.mark.parametrize("types", [1, 2])
def test_strong_commitment_is_the_best_program(money, types):
    rng = np.random.default_rng(3)
    for _ in range(6):
        leader = money * rng.normal(size=(types, 3, 4)) + 5 * money
        follower = money * rng.normal(size=(types, 3, 4)) - 2 * money
        prior = rng.dirichlet(np.ones(types))
        if types == 1:
            found = sj.finite.strong_stackelberg(leader[0], follower[0])
        else:
            found = sj.finite.strong_stackelberg(leader, follower, prior=prior)
        np.testing.assert_allclose(
            found.leader_utility, by_programs(leader, follower, prior), rtol=1e-6
        )
        answers = np.einsum("a,tar->tr", found.strategy, follower)
        chosen = np.atleast_1d(found.response)
        own = answers[np.arange(types), chosen]
        assert (answers.max(1) - own).max() <= 1e-8 * money
        value = sum(prior[t] * (found.strategy @ leader[t, :, r]) for t, r in enumerate(chosen))
        np.testing.assert_allclose(
            found.leader_utility, value if types > 1 else value / prior[0], rtol=1e-9
        )


@pytest.mark.parametrize("money,resources", [(1.0, 2.0), (1e3, 0.7), (1e-3, 3.5), (1.0, 0.0)])
def test_security_is_the_best_of_the_attacked_targets(x64, money, resources):
    """One program a target: the defender's best coverage that makes an attack there the best."""
    rng = np.random.default_rng(4)
    for _ in range(5):
        n = 6
        covered, lost = -rng.uniform(0, 3, n), rng.uniform(0.1, 5, n)
        saved, damage = rng.uniform(0, 2, n), -rng.uniform(0.5, 9, n)
        best = -np.inf
        for t in range(n):
            # attacker: lost_i + c_i (covered_i - lost_i) <= the same at t
            rows = np.diag(covered - lost)
            rows[:, t] -= covered[t] - lost[t]
            limit = lost[t] - lost
            found = optimize.linprog(
                -(saved[t] - damage[t]) * (np.arange(n) == t),
                A_ub=np.concatenate([np.delete(rows, t, 0), np.ones((1, n))]),
                b_ub=np.append(np.delete(limit, t), resources), bounds=(0, 1), method="highs",
            )  # fmt: skip
            if found.status == 0:
                best = max(best, damage[t] + found.x[t] * (saved[t] - damage[t]))
        got = sj.finite.security_equilibrium(
            defender_covered=jnp.asarray(money * saved),
            defender_uncovered=jnp.asarray(money * damage),
            attacker_covered=jnp.asarray(money * covered),
            attacker_uncovered=jnp.asarray(money * lost),
            resources=resources,
        )
        np.testing.assert_allclose(got.defender_utility / money, best, rtol=1e-7, atol=1e-9)
        coverage = np.asarray(got.coverage)
        assert (
            coverage.sum() <= resources + 1e-9 and (coverage >= 0).all() and (coverage <= 1).all()
        )
        attacked = coverage * covered + (1 - coverage) * lost
        assert attacked[got.target] >= attacked.max() - 1e-9


@pytest.mark.parametrize(
    "money,rationality", [(1.0, 3.0), pytest.param(1e3, 2e-3, marks=pytest.mark.slow)]
)
def test_quantal_commitment_is_the_best_of_a_grid(x64, money, rationality):
    """Three actions, all mixtures in steps of 1/200; slopes in the payoffs by differences."""
    rng = np.random.default_rng(5)
    leader, follower = money * rng.normal(size=(2, 3, 4))

    def value(x, leader):
        scores = rationality * (x @ follower)
        likely = np.exp(scores - scores.max(-1, keepdims=True))
        likely /= likely.sum(-1, keepdims=True)
        return ((x @ leader) * likely).sum(-1)

    steps = np.arange(201) / 200
    grid = np.array([(p, q, 1 - p - q) for p in steps for q in steps if p + q <= 1 + 1e-9])
    best = value(grid, leader).max()
    run = jax.jit(lambda leader: sj.finite.solve_quantal(
        leader, jnp.asarray(follower), rationality=rationality, key=jax.random.key(0)))  # fmt: skip
    found = run(jnp.asarray(leader))
    assert found.converged
    reached = value(np.asarray(found.strategy), leader)
    np.testing.assert_allclose(found.leader_utility, reached, rtol=1e-9)
    assert best - 1e-9 * money <= reached <= best + 2e-3 * money
    # the envelope theorem: with the best x, dV/dleader[a, r] = x_a P(r)
    slope = jax.jit(jax.grad(lambda leader: run(leader).leader_utility))(jnp.asarray(leader))
    np.testing.assert_allclose(slope, np.outer(found.strategy, found.response), atol=1e-5)
