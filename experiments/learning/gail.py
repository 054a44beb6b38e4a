"""Learning how a follower answers: adversarial imitation, plain regression, a fitted utility.

The adversary (arXiv 2606.23026, eq. 15) judges triples: D(l, x, r) says whether the response r to
the action l in the context x was played or made by the generator G(l, x, noise).

    max_D  E log D(l, x, r) + E log(1 - D(l, x, G(l, x, noise))),     max_G  E log D(l, x, G)

Source: Ho and Ermon, Generative adversarial imitation learning, NeurIPS 2016; Mescheder, Geiger and
Nowozin, Which training methods for GANs do actually converge?, ICML 2018 (the penalty).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import stackjax as sj
from experiments.common.compile import unoptimised
from experiments.common.results import format_table
from experiments.learning.problems import fitted_contexts, recorded_turns
from stackjax.agents.executor._heuristic import HeuristicExecutor
from stackjax.agents.game._networks import LearnedFollower
from stackjax.agents.game._payoffs import ACTION_LOWER, ACTION_UPPER, resource_game
from stackjax.agents.log._turns import take

PyTree = Any
NOISES = 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
      steps: alternations of the discriminator and the generator, or steps of a regression.
      batch: rows a step.
      learning_rate: Adam's, of both; falls to 0 by a cosine.
      penalty: weight of the discriminator's squared slope at played responses.
      hidden: width of the networks' two hidden layers.
    """

    steps: int = 4000
    batch: int = 256
    learning_rate: float = 5e-4
    penalty: float = 1.0
    hidden: int = 64


DEFAULT = Settings()


class Network(nnx.Module):
    """Two hidden layers, tanh."""

    def __init__(self, inputs: int, hidden: int, outputs: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(inputs, hidden, rngs=rngs)
        self.second = nnx.Linear(hidden, hidden, rngs=rngs)
        self.last = nnx.Linear(hidden, outputs, rngs=rngs)

    def __call__(self, *parts: jax.Array) -> jax.Array:
        hidden = jnp.tanh(self.first(jnp.concatenate(parts)))
        return self.last(jnp.tanh(self.second(hidden)))


class Played(NamedTuple):
    """What an imitator sees: `seen [N, i]`, the action and context; `response [N, r]`."""

    seen: jax.Array
    response: jax.Array


def fit_adversary(
    played: Played, *, key: jax.Array, settings: Settings = DEFAULT
) -> Callable[[jax.Array], jax.Array]:
    """Fits a generator against a conditional discriminator; one jitted scan.

    Args:
      played: N observations, responses in [0, 1].
      key: for networks, minibatches and noise.
      settings: of the run.

    Returns:
      The generator's mean over its noise, `[i] -> [r]`.
    """
    (_, inputs), (_, size) = played.seen.shape, played.response.shape
    rngs = nnx.Rngs(key)
    generator = Network(inputs + size, settings.hidden, size, rngs)
    discriminator = Network(inputs + size, settings.hidden, 1, rngs)
    generator = _alternate(generator, discriminator, played, key, settings)
    noises = jax.random.normal(jax.random.fold_in(key, settings.steps), (NOISES, size))

    def mean(seen: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(lambda z: jax.nn.sigmoid(generator(seen, z)))(noises), axis=0)

    return mean


@partial(jax.jit, static_argnames="settings")
def _alternate(
    generator: PyTree, discriminator: PyTree, played: Played, key: jax.Array, settings: Settings
) -> PyTree:
    schedule = optax.cosine_decay_schedule(settings.learning_rate, settings.steps)
    optimizer = optax.adam(schedule, b1=0.5)
    make = lambda generator, seen, noise: jax.nn.sigmoid(generator(seen, noise))

    def judged(discriminator: Network, played: Played, made: jax.Array) -> jax.Array:
        def one(seen: jax.Array, response: jax.Array, made: jax.Array) -> jax.Array:
            logit = lambda r: discriminator(seen, r)[0]
            true, slope = jax.value_and_grad(logit)(response)
            # Without it the two chase each other around the solution.
            penalty = settings.penalty / 2 * jnp.sum(slope**2)
            return jax.nn.softplus(-true) + jax.nn.softplus(logit(made)) + penalty

        return jnp.mean(jax.vmap(one)(played.seen, played.response, made))

    def convicted(generator: Network, discriminator: Network, seen: jax.Array, noise: jax.Array):
        logit = lambda s, z: discriminator(s, make(generator, s, z))[0]
        return jnp.mean(jax.nn.softplus(-jax.vmap(logit)(seen, noise)))

    def step(carry: tuple, number: jax.Array) -> tuple[tuple, None]:
        (generator, discriminator), states = carry
        row_key, *noise_keys = jax.random.split(jax.random.fold_in(key, number), 3)
        rows = jax.random.randint(row_key, (settings.batch,), 0, len(played.seen))
        batch = Played(*(x[rows] for x in played))
        noise = [jax.random.normal(k, batch.response.shape) for k in noise_keys]
        made = jax.vmap(partial(make, generator))(batch.seen, noise[0])
        slope = jax.grad(judged)(discriminator, batch, made)
        change, second = optimizer.update(slope, states[1])
        discriminator = optax.apply_updates(discriminator, change)
        slope = jax.grad(convicted)(generator, discriminator, batch.seen, noise[1])
        change, first = optimizer.update(slope, states[0])
        generator = optax.apply_updates(generator, change)
        return ((generator, discriminator), (first, second)), None

    begin = optimizer.init(generator), optimizer.init(discriminator)
    carry = (generator, discriminator), begin
    return jax.lax.scan(step, carry, jnp.arange(settings.steps))[0][0][0]


def fit_clone(
    played: Played, *, key: jax.Array, settings: Settings = DEFAULT
) -> Callable[[jax.Array], jax.Array]:
    """Behaviour cloning: the same network without noise, by least squares; `[i] -> [r]`.

    Taken from the step at which it was best on a quarter of the rows, which it is not fitted to.
    """
    (_, inputs), (_, size) = played.seen.shape, played.response.shape
    network = Network(inputs, settings.hidden, size, nnx.Rngs(key))
    network = _regress(network, played, key, settings)
    return lambda seen: jax.nn.sigmoid(network(seen))


@partial(jax.jit, static_argnames="settings")
def _regress(network: PyTree, played: Played, key: jax.Array, settings: Settings) -> PyTree:
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, settings.steps))
    order = jax.random.permutation(jax.random.fold_in(key, settings.steps), len(played.seen))
    watched, fitted = (
        Played(*(x[rows] for x in played)) for rows in jnp.split(order, [len(order) // 4])
    )

    def loss(network: PyTree, rows: Played) -> jax.Array:
        return jnp.mean((jax.nn.sigmoid(jax.vmap(network)(rows.seen)) - rows.response) ** 2)

    def step(carry: tuple, number: jax.Array) -> tuple[tuple, None]:
        network, state, best, least = carry
        rows = jax.random.fold_in(key, number)
        rows = jax.random.randint(rows, (settings.batch,), 0, len(fitted.seen))
        slope = jax.grad(loss)(network, Played(*(x[rows] for x in fitted)))
        change, state = optimizer.update(slope, state, network)
        network = optax.apply_updates(network, change)
        now = loss(network, watched)
        best = jax.tree.map(lambda new, old: jnp.where(now < least, new, old), network, best)
        return (network, state, best, jnp.minimum(now, least)), None

    begin = network, optimizer.init(network), network, jnp.inf
    return jax.lax.scan(step, begin, jnp.arange(settings.steps))[0][2]


class Follower(NamedTuple):
    """Recorded play of one follower, and the truth about it.

    Attributes:
      fit: to learn from.
      test: held out.
      clean: `[M, 3]`, the follower's responses at `test` without noise.
      slope: `[3, 2]`, the mean derivative of the clean response in the action, at `test`.
    """

    fit: sj.Observations
    test: sj.Observations
    clean: jax.Array
    slope: jax.Array


def compare(*, quick: bool = False, seeds: int = 3, settings: Settings = DEFAULT) -> dict:
    """Learns two followers in three ways each; errors and slopes on held-out play, by seed.

    The two networks see the action and the 14 features of the state; the fitted utility also knows
    the predictors' surfaces there, on which the rational follower decides.
    """
    settings = dataclasses.replace(settings, steps=300) if quick else settings
    steps, seeds = (100, 1) if quick else (400, seeds)
    learners = {
        "GAIL": lambda seen, key: _network(fit_adversary, seen, key, settings),
        "behaviour cloning": lambda seen, key: _network(fit_clone, seen, key, settings),
        "fit_follower": lambda seen, key: _utility(seen, key, steps),
    }
    results = {}
    for name, follower in followers(100, False).items() if quick else followers(800).items():
        test = follower.test
        rmse = lambda predicted, truth: jnp.sqrt(jnp.mean((predicted - truth) ** 2))
        rows = {}
        for learner, learn in learners.items():
            found = []
            for seed in range(seeds):
                model = learn(follower.fit, jax.random.key(seed))
                predicted, slope = _predict(model, test)
                found.append(
                    {
                        "rmse": rmse(predicted, test.response),
                        "rmse_clean": rmse(predicted, follower.clean),
                        "slope": slope,
                        "right_signs": jnp.mean(jnp.sign(slope) == jnp.sign(follower.slope)),
                    }
                )
            rows[learner] = jax.tree.map(lambda *x: np.stack(x), *found)
        results[name] = {
            "observations": len(follower.fit.response),
            "held_out": len(test.response),
            "noise_floor": rmse(follower.clean, test.response),
            "slope": follower.slope,
            "learners": rows,
        }
    return {"settings": settings, "seeds": seeds, "followers": results}


def followers(surrogate_steps: int, simulate: bool = True) -> dict[str, Follower]:
    """The heuristic executor's recorded play and, simulated, the rational follower's."""
    (records, turns), _ = recorded_turns()
    contexts = fitted_contexts(surrogate_steps)(turns, jax.random.key(1))
    # The same split as in `experiments.govern`: every fourth heuristic episode is held out.
    shown = ~np.isnan(np.asarray(turns.signal)).any(axis=1)
    episode = np.asarray(turns.episode)
    test = np.isin(episode, np.unique(episode[shown])[3::4]) & shown
    parts = {"fit": np.flatnonzero(shown & ~test), "test": np.flatnonzero(test)}
    seen = {part: _observations(contexts, turns, rows) for part, rows in parts.items()}
    rule = HeuristicExecutor()
    state = [dict(records[int(row)].state) for row in parts["test"]]

    def clean(action: np.ndarray) -> np.ndarray:
        signals = np.clip(action, 0, 1)
        return np.array([rule.mean((float(q), float(a)), s) for (q, a), s in zip(signals, state)])

    action, small = np.asarray(seen["test"].action, float), 1e-4
    slopes = []
    for shift in small * np.eye(2):
        ends = [np.clip(action + side * shift, ACTION_LOWER, ACTION_UPPER) for side in (1, -1)]
        width = np.sum(ends[0] - ends[1], axis=1, keepdims=True)
        slopes.append(np.mean((clean(ends[0]) - clean(ends[1])) / width, axis=0))
    heuristic = Follower(
        seen["fit"], seen["test"],
        jnp.asarray(clean(action), jnp.float32), jnp.asarray(np.stack(slopes, 1), jnp.float32),
    )  # fmt: skip
    found = {"heuristic executor": heuristic}
    return found | {"rational follower": simulated(contexts)} if simulate else found


def simulated(contexts: PyTree, observations: int = 2000, held_out: int = 1000) -> Follower:
    """Play of the rational follower with noise of 0.1, at uniform actions, kept in [0, 1]."""
    game, total = resource_game(), observations + held_out
    keys = jax.random.split(jax.random.key(3), 3)
    rows = jax.random.randint(keys[0], (total,), 0, len(contexts.budget))
    contexts = jax.tree.map(lambda x: x[rows], contexts)
    lower, upper = jnp.asarray([ACTION_LOWER]), jnp.asarray([ACTION_UPPER])
    action = lower + (upper - lower) * jax.random.uniform(keys[1], (total, 2))
    answer = lambda action, x: sj.best_response(game, action, x, response=jnp.full(3, 0.5)).value
    clean = _once(answer, action, contexts)
    noisy = jnp.clip(clean + 0.1 * jax.random.normal(keys[2], clean.shape), 0, 1)
    play = sj.Observations(context=contexts, action=action, response=noisy)
    fit = jax.tree.map(lambda x: x[:observations], play)
    test = jax.tree.map(lambda x: x[observations:], play)
    slope = jnp.mean(_once(jax.jacobian(answer), test.action, test.context), axis=0)
    return Follower(fit, test, clean[observations:], slope)


def table(results: Mapping[str, Any]) -> str:
    """Errors and mean slopes, a row a way to learn."""
    parts = []
    for name, found in results["followers"].items():
        slope = lambda m: " ".join(f"{float(x):+.2f}" for x in np.ravel(np.asarray(m).T))
        rows = [("truth", f"{float(found['noise_floor']):.4f}", "0", slope(found["slope"]), "")]
        for learner, row in found["learners"].items():
            rows.append(
                (
                    learner,
                    f"{row['rmse'].mean():.4f}",
                    f"{row['rmse_clean'].mean():.4f}",
                    slope(row["slope"].mean(0)),
                    f"{100 * row['right_signs'].mean():.0f}%",
                )
            )
        title = f"{name}: {found['observations']} observations, {found['held_out']} held out"
        header = ("", "RMSE", "to clean", "d(c, p, u)/dq, d(c, p, u)/dalpha", "right signs")
        parts.append(title + "\n" + format_table(header, rows))
    return "\n\n".join(parts)


def _observations(contexts: PyTree, turns: Any, rows: np.ndarray) -> sj.Observations:
    turns = take(turns, rows)
    contexts = jax.tree.map(lambda x: x[rows], contexts)
    return sj.Observations(context=contexts, action=turns.signal, response=turns.intended)


def _seen(action: jax.Array, context: Any) -> jax.Array:
    """What a network sees, `[16]`: the action in [-1, 1]^2 and the state's features."""
    lower, upper = jnp.asarray(ACTION_LOWER), jnp.asarray(ACTION_UPPER)
    return jnp.concatenate([2 * (action - lower) / (upper - lower) - 1, context.features])


def _network(fit: Callable, play: sj.Observations, key: jax.Array, settings: Settings) -> Callable:
    played = Played(jax.vmap(_seen)(play.action, play.context), play.response)
    model = fit(played, key=key, settings=settings)
    return lambda action, x: model(_seen(action, x))


def _utility(play: sj.Observations, key: jax.Array, steps: int) -> Callable:
    module = LearnedFollower(rngs=nnx.Rngs(key))
    box = resource_game().response_set
    learned, _ = sj.fit_follower(
        module, play, key=key, response_set=box, steps=steps, batch_size=256
    )
    game = resource_game(learned)
    return lambda action, x: sj.best_response(game, action, x, response=jnp.full(3, 0.5)).value


def _predict(model: Callable, test: sj.Observations) -> tuple[jax.Array, jax.Array]:
    """Responses `[M, 3]` and the mean of their derivatives in the action, `[3, 2]`."""
    pair = lambda action, x: (model(action, x), jax.jacobian(model)(action, x))
    response, slope = _once(pair, test.action, test.context)
    return response, jnp.mean(slope, axis=0)


def _once(function: Callable, *batch: PyTree) -> Any:
    """One function of single rows on a batch of them; quickly compiled."""
    return unoptimised(jax.jit(jax.vmap(function)).lower(*batch))(*batch)
