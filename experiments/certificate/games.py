"""Random games whose constants are known: bounds, estimates, and followers that break them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import stackjax as sj
from stackjax.certificates import Deployed, certify

_ACTIONS, _RESPONSES = 2, 3


class Follower(struct.PyTreeNode):
    """`-r'Ar/2 - quartic sum r_i^4 + r'(B sin(l) + x) + wave cos(r_0 / width)`, all in [-1, 1].

    Its true constants: `mu` is A's least eigenvalue (at r = 0; waves aside) and `L = ||B||` (at
    l = 0). A wave of `wave > mu width^2` makes it lose concavity somewhere.
    """

    bowl: jax.Array
    pull: jax.Array
    quartic: jax.Array
    wave: jax.Array
    width: jax.Array

    def __call__(self, action: jax.Array, response: jax.Array, x: jax.Array) -> jax.Array:
        bowl = response @ self.bowl @ response / 2 + self.quartic * jnp.sum(response**4)
        pull = response @ (self.pull @ jnp.sin(action) + x)
        return pull - bowl + self.wave * jnp.cos(response[0] / self.width)


def leader_utility(action: jax.Array, response: jax.Array, x: jax.Array) -> jax.Array:
    """A target for the response, at a cost."""
    missed = response - 0.3
    return -missed @ missed / 2 - 0.1 * action @ action


def random_game(rng: np.random.Generator, *, wave: float = 0.0) -> tuple[sj.Game, float, float]:
    """A game, its true mu and its true L."""
    root, _ = np.linalg.qr(rng.normal(size=(_RESPONSES, _RESPONSES)))
    values = rng.uniform(0.5, 3.0, _RESPONSES)
    pull = rng.normal(size=(_RESPONSES, _ACTIONS))
    number = lambda value: jnp.asarray(value, jnp.float32)
    follower = Follower(
        number(root * values @ root.T), number(pull), number(0.1), number(wave), number(0.1)
    )
    box = lambda size: sj.Box(-jnp.ones(size), jnp.ones(size))
    game = sj.Game(leader_utility, follower, action_set=box(_ACTIONS), response_set=box(_RESPONSES))
    return game, float(values.min()), float(np.linalg.norm(pull, 2))


def known_constants(*, games: int, seed: int) -> dict[str, Any]:
    """Certificates of random games beside their true constants."""
    rng, rows = np.random.default_rng(seed), []
    contexts = jnp.asarray(0.3 * rng.normal(size=(8, _RESPONSES)), jnp.float32)
    for number in range(games):
        game, mu, level = random_game(rng)
        found = certify(game, contexts, None, key=jax.random.key(number), samples=128, steps=15)
        stable, gap = found["Stability"], found["Implementation gap"]
        rows.append(
            {
                "mu over truth": stable.constants["mu"].value / mu,
                "L over truth": stable.constants["L"].value / level,
                "measured over true bound": stable.measured / (level / mu),
                "measured over bound": stable.measured / stable.bound,
                "gap measured over bound": gap.measured / gap.bound,
                "stability holds": stable.verdict == "holds",
                "gap holds": gap.verdict in ("holds", "vacuous"),
            }
        )
    column = lambda name: np.array([row[name] for row in rows], float)
    spread = lambda name: {
        "least": column(name).min(), "mean": column(name).mean(), "largest": column(name).max()
    }  # fmt: skip
    ratios = [name for name in rows[0] if "over" in name]
    return (
        {"games": games}
        | {name: spread(name) for name in ratios}
        | {
            "stability holds": column("stability holds").mean(),
            "true bound holds": (column("measured over true bound") <= 1.001).mean(),
            "gap holds": column("gap holds").mean(),
        }
    )


def repair_known(*, contexts: int, seed: int) -> dict[str, Any]:
    """Repair onto a coarse set in many contexts, of a turn and of sessions."""
    rng = np.random.default_rng(seed)
    game, _, _ = random_game(rng)
    x = jnp.asarray(0.3 * rng.normal(size=(contexts, _RESPONSES)), jnp.float32)
    recorded = sj.ActionSet(jnp.asarray(rng.uniform(-1, 1, (30, _RESPONSES)), jnp.float32))
    drift = sj.fit.Dynamics(lambda s: s, lambda s, action, response, key: 0.8 * s + 0.1 * response)
    deployed = Deployed(
        game, lambda x: jnp.tanh(x[:_ACTIONS]), recorded=recorded,
        horizon=sj.fit.Horizon(drift, turns=5), states=x[:32],
    )  # fmt: skip
    found = certify(deployed, x, None, key=jax.random.key(seed), samples=128, steps=15)
    pick = lambda name: {
        "verdict": found[name].verdict, "bound": found[name].bound, "measured": found[name].measured
    }  # fmt: skip
    return {
        "contexts": contexts,
        "turn": pick("Repair"),
        "session": pick("Repair over a session"),
        "surrogate regret": pick("Regret in the surrogate"),
    }


def broken_followers(*, games: int, seed: int) -> dict[str, Any]:
    """How often a follower that is not concave in a small part of its set is caught."""
    rng, caught = np.random.default_rng(seed), {"sound": 0, "wave": 0, "convex": 0}
    contexts = jnp.zeros((1, _RESPONSES))
    for number in range(games):
        # The wave bends by at most wave / width^2 = 4, more than mu: convex near its troughs.
        for name, wave in (("sound", 0.0), ("wave", 0.04), ("convex", 0.0)):
            game, _, _ = random_game(rng, wave=wave)
            if name == "convex":
                follower = game.follower_utility
                assert isinstance(follower, Follower)
                broken = follower.replace(bowl=-follower.bowl)
                game = sj.Game(
                    leader_utility, broken,
                    action_set=game.action_set, response_set=game.response_set,
                )  # fmt: skip
            found = certify(
                game, contexts, None, key=jax.random.key(number), samples=128, steps=15, pairs=8
            )
            caught[name] += found["Stability"].verdict == "fails"
    return {"games": games, "fails": {name: count / games for name, count in caught.items()}}
