import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from stackjax import finite

# Conitzer and Sandholm, EC 2006, figure 1; von Stengel and Zamir's introductory example too.
LEADER, FOLLOWER = np.array([[2.0, 4.0], [1.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])


def random_games(seed, shape, n):
    return np.random.default_rng(seed).uniform(size=(n, 2, *shape))


def simplex_grid(size, n):
    """All `[size]` distributions in multiples of 1/n."""
    bars = np.array(list(itertools.combinations(range(n + size - 1), size - 1)))
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, n + size - 1)))
    return (np.diff(edges, axis=1) - 1) / n


# Strong Stackelberg equilibria: known answers


def test_conitzer_and_sandholm():
    sol = finite.strong_stackelberg(LEADER, FOLLOWER)
    np.testing.assert_allclose(sol.strategy, [0.5, 0.5], atol=1e-12)
    assert sol.response == 1
    np.testing.assert_allclose(sol.leader_utility, 3.5, atol=1e-12)
    np.testing.assert_allclose(sol.follower_utility, 0.5, atol=1e-12)
    assert sol.residual < 1e-12


@pytest.mark.parametrize("caught", [0.5, 4.0])
def test_inspection_game(caught):
    # Rows: inspect, trust; columns: comply, violate. A violator gains 1, or loses `caught`.
    leader = np.array([[-0.1, -0.6], [0.0, -1.0]])
    follower = np.array([[0.0, -caught], [0.0, 1.0]])
    sol = finite.strong_stackelberg(leader, follower)
    inspected = 1 / (1 + caught)  # just deters
    np.testing.assert_allclose(sol.strategy, [inspected, 1 - inspected], atol=1e-9)
    assert sol.response == 0
    np.testing.assert_allclose(sol.leader_utility, -0.1 * inspected, atol=1e-9)


def test_matching_pennies():
    pennies = np.array([[1.0, -1.0], [-1.0, 1.0]])
    sol = finite.strong_stackelberg(pennies, -pennies)
    np.testing.assert_allclose(sol.strategy, 0.5, atol=1e-12)
    np.testing.assert_allclose(sol.leader_utility, 0.0, atol=1e-12)


def test_zero_sum_is_minimax():
    for leader, _ in random_games(0, (4, 5), 10):
        lp = linprog(  # max v such that x'leader >= v
            [0, 0, 0, 0, -1],
            A_ub=np.c_[-leader.T, np.ones(5)],
            b_ub=np.zeros(5),
            A_eq=[[1, 1, 1, 1, 0]],
            b_eq=[1],
            bounds=[(0, None)] * 4 + [(None, None)],
        )
        value = finite.strong_stackelberg(leader, -leader).leader_utility
        np.testing.assert_allclose(value, -lp.fun, atol=1e-8)


def test_ties_go_to_the_leader():
    sol = finite.strong_stackelberg([[0.0, 1.0, 0.5]], [[2.0, 2.0, 2.0]])
    assert sol.response == 1 and sol.leader_utility == 1.0
    assert finite.strong_stackelberg([[3.0]], [[-1.0]]).leader_utility == 3.0
    # A best response only on a face of the simplex.
    sol = finite.strong_stackelberg([[0.0, 9.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(sol.strategy, [1.0, 0.0], atol=1e-8)
    np.testing.assert_allclose(sol.leader_utility, 9.0, atol=1e-7)


# Strong Stackelberg equilibria: properties of random games


def nash_equilibria(leader, follower):
    """All equilibria with supports of one size, `(x, y)`: all there are, generically."""
    for size in range(1, min(leader.shape) + 1):
        for rows, columns in itertools.product(
            *(itertools.combinations(range(n), size) for n in leader.shape)
        ):
            x, y = np.zeros(leader.shape[0]), np.zeros(leader.shape[1])
            system = np.ones((size + 1, size + 1))
            system[-1, -1] = 0
            right = np.r_[np.zeros(size), 1]
            block = np.ix_(rows, columns)
            system[:-1, :-1] = leader[block]
            y[list(columns)] = np.linalg.solve(system, right)[:-1]
            system[:-1, :-1] = follower[block].T
            x[list(rows)] = np.linalg.solve(system, right)[:-1]
            u, v = leader @ y, x @ follower
            if min(x.min(), y.min()) >= 0 and u.max() <= x @ u + 1e-9 and v.max() <= v @ y + 1e-9:
                yield x, y


def test_commitment_is_worth_at_least_every_nash_equilibrium():
    for leader, follower in random_games(1, (3, 4), 30):
        value = finite.strong_stackelberg(leader, follower).leader_utility
        equilibria = [x @ leader @ y for x, y in nash_equilibria(leader, follower)]
        assert equilibria and value >= max(equilibria) - 1e-9


def test_against_a_grid():
    grid = simplex_grid(3, 120)
    for leader, follower in random_games(2, (3, 4), 20):
        answers, gains = grid @ follower, grid @ leader
        best = np.where(answers >= answers.max(1, keepdims=True) - 1e-12, gains, -np.inf).max()
        sol = finite.strong_stackelberg(leader, follower)
        assert best - 1e-9 <= sol.leader_utility <= best + 0.02
        assert sol.residual <= 1e-9
        np.testing.assert_allclose(sol.strategy.sum(), 1, atol=1e-12)
        assert sol.strategy.min() >= 0


def test_units_do_not_matter():
    leader, follower = random_games(3, (4, 4), 1)[0]
    sol = finite.strong_stackelberg(leader, follower)
    for scale in (1e-9, 1e9):
        other = finite.strong_stackelberg(scale * leader, follower / scale - 3 / scale)
        np.testing.assert_allclose(other.strategy, sol.strategy, atol=1e-7)
        np.testing.assert_allclose(other.leader_utility, scale * sol.leader_utility, rtol=1e-7)


# Several types


def harsanyi(leader, follower, prior):
    """The game of one follower whose responses are the profiles, `[A, R^T]`."""
    types, _, responses = leader.shape
    profiles = np.array(list(itertools.product(range(responses), repeat=types)))
    return [sum(prior[t] * u[t][:, profiles[:, t]] for t in range(types))
            for u in (leader, follower)]  # fmt: skip


def dobss(leader, follower, prior):
    """DOBSS's value as printed: z = x q, the follower's value, and a large constant."""
    types, a, r = leader.shape
    large = np.ptp(follower) + 1
    z, q, v = types * a * r, types * r, types
    index = np.arange(z).reshape(types, a, r)
    rows, lower, upper = [], [], []

    def constrain(pairs, low, high):
        row = np.zeros(z + q + v)
        for columns, weight in pairs:
            row[columns] = weight
        rows.append(row)
        lower.append(low)
        upper.append(high)

    for t in range(types):
        constrain([(index[t].ravel(), 1)], 1, 1)
        for i in range(a if t else 0):
            constrain([(index[t, i], 1), (index[0, i], -1)], 0, 0)
        constrain([(z + t * r + np.arange(r), 1)], 1, 1)
        for k in range(r):
            constrain([(index[t, :, k], 1), (z + t * r + k, -1)], -np.inf, 0)
            # 0 <= value_t - sum_a x_a follower[t, a, k] <= (1 - q) * large
            answer = [(index[t].ravel(), -np.repeat(follower[t, :, k], r)), (z + q + t, 1)]
            constrain(answer, 0, np.inf)
            constrain([*answer, (z + t * r + k, large)], -np.inf, large)
    result = milp(
        np.r_[-(prior[:, None, None] * leader).ravel(), np.zeros(q + v)],
        integrality=np.repeat([0, 1, 0], [z, q, v]),
        bounds=Bounds(
            np.repeat([0, -np.inf], [z + q, v]),  # pyright: ignore[reportArgumentType]
            np.repeat([1, np.inf], [z + q, v]),  # pyright: ignore[reportArgumentType]
        ),
        constraints=LinearConstraint(
            np.array(rows),
            lower,  # pyright: ignore[reportArgumentType]
            upper,  # pyright: ignore[reportArgumentType]
        ),
        options={"mip_rel_gap": 0.0},
    )
    return -result.fun


@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 2, 3), (4, 4, 2), (2, 1, 3), (3, 3, 1)])
def test_types_against_profiles_and_dobss(shape):
    rng = np.random.default_rng(4)
    for whole in (False, True, True):
        draw = rng.integers(-2, 3, (2, *shape)) if whole else rng.normal(size=(2, *shape))
        leader, follower = draw.astype(float)
        prior = rng.dirichlet(np.ones(shape[0]))
        sol = finite.strong_stackelberg(leader, follower, prior=prior)
        expected = finite.strong_stackelberg(*harsanyi(leader, follower, prior)).leader_utility
        np.testing.assert_allclose(sol.leader_utility, expected, atol=1e-6)
        np.testing.assert_allclose(sol.leader_utility, dobss(leader, follower, prior), atol=1e-4)
        assert sol.residual <= 1e-8
        types = np.arange(shape[0])
        own = np.einsum("a,tar->tr", sol.strategy, follower)[types, sol.response]
        np.testing.assert_allclose(sol.follower_utility, own)
        assert sol.response.shape == own.shape == (shape[0],)


def test_one_type_and_equal_types():
    one = finite.strong_stackelberg(LEADER, FOLLOWER)
    same = finite.strong_stackelberg(LEADER[None], FOLLOWER[None], prior=[1.0])
    assert same.response.shape == (1,) and same.leader_utility == one.leader_utility
    copies = [np.repeat(u[None], 3, axis=0) for u in (LEADER, FOLLOWER)]
    three = finite.strong_stackelberg(*copies, prior=[0.2, 0.3, 0.5])
    np.testing.assert_allclose(three.leader_utility, 3.5, atol=1e-9)


# Security games


def random_security(rng, n):
    lost, got = rng.uniform(-5, 0, n), rng.uniform(0, 5, n)
    return {
        "defender_covered": lost + rng.uniform(0, 4, n),
        "defender_uncovered": lost,
        "attacker_covered": got - rng.uniform(0.1, 6, n),
        "attacker_uncovered": got,
    }


def security_lp(game, resources):
    """The defender's value by one linear program for each target attacked."""
    high, low = game["attacker_uncovered"], game["attacker_covered"]
    saved, lost = game["defender_covered"], game["defender_uncovered"]
    n, best = len(high), -np.inf
    for t in range(n):
        # high_i - c_i d_i <= high_t - c_t d_t; sum c <= resources
        rows = np.diag(low - high)
        rows[:, t] += high[t] - low[t]
        lp = linprog((lost - saved)[t] * np.eye(n)[t], A_ub=np.r_[rows, np.ones((1, n))],
                     b_ub=np.r_[high[t] - high, resources], bounds=(0, 1))  # fmt: skip
        best = max(best, lost[t] - lp.fun) if lp.status == 0 else best
    return best


def test_two_targets(x64):
    # Indifference: 4 (1 - c) = 2 (1 - (1 - c)) - 1 * 0 at c = 2/3, with one resource in all.
    sol = finite.security_equilibrium(
        defender_covered=[0.0, 0.0],
        defender_uncovered=[-3.0, -1.0],
        attacker_covered=[0.0, 0.0],
        attacker_uncovered=[4.0, 2.0],
        resources=1,
    )
    np.testing.assert_allclose(sol.coverage, [2 / 3, 1 / 3], atol=1e-12)
    np.testing.assert_allclose(sol.attacker_utility, 4 / 3, atol=1e-12)
    assert sol.target == 1  # tied for the attacker; the defender loses 2/3, and not 1
    np.testing.assert_allclose(sol.defender_utility, -2 / 3, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_security_against_linear_programs(x64, n):
    rng = np.random.default_rng(n)
    for resources in (0.0, 0.4, 1.0, n / 2, float(n), n + 1.0):
        game = random_security(rng, n)
        sol = finite.security_equilibrium(**game, resources=resources)
        np.testing.assert_allclose(sol.defender_utility, security_lp(game, resources), atol=1e-7)
        assert sol.coverage.sum() <= resources + 1e-9
        assert sol.coverage.min() >= 0 and sol.coverage.max() <= 1
        high, low = game["attacker_uncovered"], game["attacker_covered"]
        attacks = high - sol.coverage * (high - low)
        np.testing.assert_allclose(attacks.max(), sol.attacker_utility, atol=1e-12)


def test_security_is_a_finite_game(x64):
    game = random_security(np.random.default_rng(0), 4)
    covers = np.array([c for c in itertools.product([0, 1], repeat=4) if sum(c) <= 2])
    matrix = lambda who: np.where(covers, game[who + "_covered"], game[who + "_uncovered"])
    exact = finite.strong_stackelberg(matrix("defender"), matrix("attacker"))
    sol = finite.security_equilibrium(**game, resources=2)
    np.testing.assert_allclose(sol.defender_utility, exact.leader_utility, atol=1e-7)


def test_security_under_transformations():
    rng = np.random.default_rng(1)
    games = [random_security(rng, 6) for _ in range(20)]
    games = {k: jnp.array([g[k] for g in games], jnp.float32) for k in games[0]}
    # Ties everywhere, and resources that change by member.
    games = {k: v.at[0].set(v[0, 0]) for k, v in games.items()}
    resources = jnp.linspace(0.0, 5.0, 20)
    solve = lambda game, m: finite.security_equilibrium(**game, resources=m)
    batch = jax.jit(jax.vmap(solve))(games, resources)
    assert batch.coverage.dtype == jnp.float32
    for i in range(20):
        one = solve({k: v[i] for k, v in games.items()}, resources[i])
        np.testing.assert_allclose(batch.coverage[i], one.coverage, atol=1e-6)
        np.testing.assert_allclose(batch.defender_utility[i], one.defender_utility, atol=1e-5)


def test_security_derivative(x64):
    game = random_security(np.random.default_rng(2), 5)
    value = lambda high, m: (
        finite.security_equilibrium(
            **{**game, "attacker_uncovered": high}, resources=m
        ).defender_utility
    )
    high = jnp.asarray(game["attacker_uncovered"])
    by_high, by_resources = jax.grad(value, (0, 1))(high, 1.5)
    step = 1e-6
    for i, e in enumerate(np.eye(5) * step):
        difference = (value(high + e, 1.5) - value(high - e, 1.5)) / (2 * step)
        np.testing.assert_allclose(by_high[i], difference, atol=1e-7)
    difference = (value(high, 1.5 + step) - value(high, 1.5 - step)) / (2 * step)
    np.testing.assert_allclose(by_resources, difference, atol=1e-7)


# Quantal followers


def test_quantal_response():
    x = jnp.array([0.25, 0.75])
    expected = x @ FOLLOWER.astype(np.float32)  # 0.25, 0.75
    odds = np.exp(2.0 * (expected[1] - expected[0]))
    one = finite.quantal_response(x, FOLLOWER, rationality=2.0)
    np.testing.assert_allclose(one, [1 / (1 + odds), odds / (1 + odds)], rtol=1e-6)
    typed = finite.quantal_response(x, np.stack([FOLLOWER, -FOLLOWER]), rationality=[2.0, 4.0])
    np.testing.assert_allclose(typed[0], one, rtol=1e-6)
    np.testing.assert_allclose(typed[1, 0] / typed[1, 1], odds**2, rtol=1e-5)
    sharp = finite.quantal_response(x, FOLLOWER, rationality=1e4)
    np.testing.assert_allclose(sharp, [0.0, 1.0], atol=1e-6)
    xs = jnp.stack([x, x[::-1]])
    batch = jax.jit(
        jax.vmap(lambda x, k: finite.quantal_response(x, FOLLOWER, rationality=k), (0, None))
    )(xs, 2.0)
    np.testing.assert_allclose(batch, [one, one[::-1]], rtol=1e-6)


def solve(leader, follower, rationality, **options):
    return finite.solve_quantal(
        leader, follower, rationality=rationality, key=jax.random.key(0), **options
    )


PRIOR = np.array([0.3, 0.7])


@jax.jit
@jax.vmap
def commit(game, rationality, strategy):
    """One compilation for all tests of games of two types, `[2, T, A, R]` each."""
    return solve(game[0], game[1], rationality, prior=PRIOR, strategy=strategy)


def quantal_grid(leader, follower, rationality, prior, grid):
    """The leader's utility over the points of a grid, with types."""
    answers = rationality[:, None] * np.einsum("na,tar->ntr", grid, follower)
    answers = np.exp(answers - answers.max(-1, keepdims=True))
    answers /= answers.sum(-1, keepdims=True)
    return np.einsum("t,na,tar,ntr->n", prior, grid, leader, answers)


def test_quantal_against_a_grid(x64):
    grid = simplex_grid(3, 100)
    games = random_games(6, (2, 3, 3), 12)
    rationality = np.outer(np.repeat([0.5, 5.0, 30.0], 4), [1.0, 2.0])
    sols = commit(games, rationality, np.full((12, 3), 1 / 3))
    assert sols.converged.all()
    for i, (leader, follower) in enumerate(games):
        game = leader, follower, rationality[i], PRIOR
        best = quantal_grid(*game, grid).max()
        assert best - 1e-9 <= sols.leader_utility[i] <= best + 0.01
        np.testing.assert_allclose(
            sols.leader_utility[i], quantal_grid(*game, sols.strategy[i][None])[0]
        )
        np.testing.assert_allclose(
            sols.follower_utility[i],
            np.einsum("a,tar,tr->t", sols.strategy[i], follower, sols.response[i]),
        )


def test_quantal_tends_to_strong_stackelberg(x64):
    games = random_games(7, (2, 3, 3), 12)
    exact = [finite.strong_stackelberg(*game, prior=PRIOR) for game in games]
    exact = jax.tree.map(lambda *leaves: np.stack(leaves), *exact)
    errors = []
    for rationality in np.array([10.0, 100.0, 1000.0, 10000.0]):
        rationalities = np.full((12, 2), rationality)
        sols = commit(games, rationalities, exact.strategy)
        errors.append(np.abs(sols.leader_utility - exact.leader_utility).max())
        # Never less than the exact commitment gets from the same follower.
        played = [
            quantal_grid(leader, follower, k, PRIOR, x[None])[0]
            for (leader, follower), k, x in zip(games, rationalities, exact.strategy)
        ]
        assert (sols.leader_utility >= np.array(played) - 1e-9).all()
        assert rationality > 1000 or sols.converged.all()
    assert errors == sorted(errors, reverse=True) and errors[-1] < 5e-3, errors  # as log(k) / k


def test_quantal_closed_form(x64):
    # A zero-sum game against matching pennies' symmetry: one half, whatever the rationality.
    pennies = jnp.array([[1.0, -1.0], [-1.0, 1.0]])
    sol = solve(pennies, -pennies, 3.0)
    np.testing.assert_allclose(sol.strategy, 0.5, atol=1e-9)
    # A follower who does not care: the best row. A constant utility: all points are solutions.
    sol = solve([[1.0, 1.0], [3.0, 2.0]], jnp.zeros((2, 2)), 1.0)
    np.testing.assert_allclose(sol.strategy, [0.0, 1.0], atol=1e-9)
    assert sol.converged
    flat = solve(jnp.full((2, 2), 7.0), pennies, 1.0)
    assert flat.converged and flat.leader_utility == pytest.approx(7.0)


def test_quantal_derivatives(x64):
    games = random_games(8, (2, 4, 3), 6)
    prior = jnp.array([0.4, 0.6])
    direction = np.random.default_rng(8).normal(size=games.shape[1:])

    def outcome(step, game):
        leader, follower = game + step * direction
        sol = solve(leader, follower, 4.0 + step, prior=prior, starts=16)
        return sol.strategy, sol.leader_utility, sol.follower_utility

    def differentiate(step, game):
        value, forward = jax.linearize(lambda s: outcome(s, game), step)
        slope = forward(1.0)
        (reverse,) = jax.linear_transpose(forward, step)(slope)
        return value, slope, reverse

    # At -step, 0 and step: one compilation.
    step = 1e-5
    run = jax.jit(jax.vmap(jax.vmap(differentiate, (None, 0)), (0, None)))
    values, slopes, reverse = run(np.array([-step, 0.0, step]), games)
    for value, slope in zip(values, slopes):
        np.testing.assert_allclose(slope[1], (value[2] - value[0]) / (2 * step), atol=1e-6)
    squares = sum((s**2).reshape(*reverse.shape, -1).sum(-1) for s in slopes)
    np.testing.assert_allclose(reverse, squares, rtol=1e-9)
    assert ((values[0][1] > 0).sum(1) > 1).any()  # one at least mixes


def test_quantal_under_transformations():
    games = jnp.asarray(random_games(9, (3, 3), 4), jnp.float32)
    games = games.at[0, 1].set(0.5)  # a follower who does not care
    rationality = jnp.array([1.0, 3.0, 10.0, 300.0])
    run = lambda u, k: solve(u[0], u[1], k, starts=8)
    batch = jax.jit(jax.vmap(run))(games, rationality)
    assert batch.strategy.dtype == jnp.float32 and batch.converged.all()
    for i in range(4):
        one = run(games[i], rationality[i])
        np.testing.assert_allclose(batch.leader_utility[i], one.leader_utility, atol=1e-5)
        np.testing.assert_allclose(batch.strategy[i], one.strategy, atol=1e-4)


def test_quantal_reports_failure(x64):
    leader, follower = random_games(10, (4, 4), 1)[0]

    def outcome(rationality):
        sol = solve(leader, follower, rationality, starts=1, steps=1)
        return sol.leader_utility, sol

    (_, sol), slope = jax.jit(jax.value_and_grad(outcome, has_aux=True))(50.0)
    assert not sol.converged and sol.residual > 1e-6
    assert np.isfinite(sol.strategy).all() and np.isfinite(slope)


# Errors


SECURITY = {
    "defender_covered": [0.0, 0.0],
    "defender_uncovered": [-1.0, -1.0],
    "attacker_covered": [0.0, 0.0],
    "attacker_uncovered": [1.0, 1.0],
    "resources": 1,
}
TYPED = {"leader": np.zeros((2, 2, 2)), "follower": np.zeros((2, 2, 2))}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"leader": np.zeros(3)}, r"`leader` must be \[A, R\].*\(3,\)"),
        ({"leader": np.zeros((2, 3))}, r"one shape.*\(2, 3\) and \(2, 2\)"),
        ({"leader": np.zeros((0, 2)), "follower": np.zeros((0, 2))}, "at least one action"),
        (
            {"follower": [[1.0, np.nan], [0.0, 1.0]]},
            r"`follower` must be finite; got nan at index \(0, 1\), 1 of 4",
        ),
        ({"prior": [1.0]}, "`prior` must come with utilities by type"),
        (TYPED, r"`prior`, \[T\], must be given"),
        ({**TYPED, "prior": [1.0]}, r"`prior` must have shape \(2,\)"),
        ({**TYPED, "prior": [0.5, 0.6]}, "`prior` must sum to one; it sums to 1.1"),
        ({**TYPED, "prior": [-0.5, 1.5]}, "`prior` must not be negative.*-0.5"),
        ({**TYPED, "prior": [np.nan, 1.0]}, "`prior` must be finite"),
    ],
)
def test_game_errors(changes, message):
    arguments = {"leader": LEADER, "follower": FOLLOWER, **changes}
    with pytest.raises(ValueError, match=message):
        finite.strong_stackelberg(**arguments)
    with pytest.raises(ValueError, match=message):
        finite.solve_quantal(**arguments, rationality=1.0, key=jax.random.key(0))


def test_host_only():
    with pytest.raises(TypeError, match="`strong_stackelberg` is for the host"):
        jax.jit(lambda u: finite.strong_stackelberg(u, FOLLOWER).strategy)(jnp.asarray(LEADER))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"resources": -1}, "`resources` must be finite and not negative; got -1"),
        ({"attacker_covered": [0.0]}, r"one length n > 0; got .*`attacker_covered` \(1,\)"),
        ({"attacker_covered": [0.0, 1.0]}, "`attacker_uncovered` must be more than .*target 1"),
        ({"defender_covered": [-2.0, 0.0]}, "`defender_covered` must be not less .*target 0"),
        ({"defender_covered": [0.0, np.inf]}, "`defender_covered` must be finite"),
    ],
)
def test_security_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        finite.security_equilibrium(**{**SECURITY, **changes})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rationality": 0.0}, "`rationality` must be positive and finite; got 0.0"),
        ({"rationality": np.nan}, "`rationality` must be positive and finite; got nan"),
        ({"rationality": [1.0, 2.0]}, r"`rationality` must be a scalar; got shape \(2,\)"),
        ({"starts": 0}, "`starts` must be at least 1; got 0"),
        ({"tolerance": -1.0}, "`tolerance` must be positive"),
        ({"strategy": [1.0, 1.0]}, "`strategy` must sum to one"),
    ],
)
def test_quantal_errors(changes, message):
    arguments = {"rationality": 1.0, "key": jax.random.key(0), **changes}
    with pytest.raises(ValueError, match=message):
        finite.solve_quantal(LEADER, FOLLOWER, **arguments)


def test_steps_that_are_no_integer():
    with pytest.raises(TypeError, match="`steps` must be an integer; got 2.5"):
        finite.solve_quantal(LEADER, FOLLOWER, rationality=1.0, key=jax.random.key(0), steps=2.5)  # pyright: ignore[reportArgumentType]


def test_quantal_response_errors():
    with pytest.raises(ValueError, match=r"`leader_strategy` must have shape \(2,\)"):
        finite.quantal_response([1.0], FOLLOWER, rationality=1.0)
    with pytest.raises(ValueError, match="`leader_strategy` must not be negative"):
        finite.quantal_response([-1.0, 2.0], FOLLOWER, rationality=1.0)
    with pytest.raises(TypeError, match="`follower` must hold real numbers"):
        finite.quantal_response([0.5, 0.5], FOLLOWER > 0, rationality=1.0)
