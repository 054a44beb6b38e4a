"""The gate tuned by gradient, and the learner on the last layer of a network."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct

from experiments.labels.methods import paired, stack
from experiments.labels.synthetic import NOISE, TESTING, TUNING, keys
from stackjax import labels

SHARED: dict[str, Any] = {"noise": NOISE, "norm": 1.0}
HAND_SET = [(threshold, scale) for threshold in (0.03, 0.1, 0.3, 1.0) for scale in (0.1, 0.3, 1.0)]
STARTS = (4, 0, 11)  # rows of HAND_SET: the middle, the least and the largest numbers


def tuned_gates(*, rounds: int, steps: int, seeds: int, tuning: int, dim: int = 8) -> dict:
    """Threshold, its power and the radius by gradient, against hand-set ones, on other seeds."""
    budget = rounds // 10

    def make(key: jax.Array) -> labels.LinearStream:
        return labels.ordered_stream(key, dim=dim, groups=2, rounds=rounds, noise=NOISE)

    practice = jax.vmap(make)(keys(TUNING, tuning))
    test, test_keys = jax.vmap(make)(keys(TESTING, seeds)), keys(TESTING, seeds)

    @jax.jit
    @jax.vmap
    def tune(start: labels.GateSettings) -> labels.Tuned:
        return labels.tune_gate(
            start, practice, rounds, budget=float(budget), steps=steps, **SHARED
        )

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None, None))
    def play(settings: labels.GateSettings, streams: Any, keys: jax.Array) -> Any:
        learner = labels.llf_stacksl(budget=budget, **settings.options, **SHARED)
        one = lambda stream, key: labels.run(learner, stream, rounds, key=key)[1]
        curves = jax.vmap(one)(streams, keys)
        return curves.regret[:, -1], curves.labels[:, -1]

    hand = [labels.GateSettings.create(threshold=t, scale=s) for t, s in HAND_SET]
    found = tune(stack([hand[i] for i in STARTS]))
    every = jax.tree.map(lambda *x: jnp.concatenate(x), stack(hand), found.settings)
    regret, used = (np.asarray(x, float) for x in play(every, test, test_keys))
    means, settings = regret.mean(1), found.settings
    best = int(np.argmin(means[: len(hand)]))
    tuned = []
    for row, start in enumerate(STARTS):
        mine = regret[len(hand) + row]
        tuned.append(
            {
                "start": {"threshold": HAND_SET[start][0], "scale": HAND_SET[start][1]},
                "threshold": float(jnp.exp(settings.log_threshold[row])),
                "power": float(settings.power[row]),
                "scale": float(jnp.exp(settings.log_scale[row])),
                "regret": float(mine.mean()),
                "start_regret": float(means[start]),
                "labels": float(used[len(hand) + row].mean()),
                "smoothed_regret": np.asarray(found.regret[row]),
                "minus_start": paired(mine - regret[start]),
                "minus_best_hand_set": paired(mine - regret[best]),
            }
        )
    return {
        "rounds": rounds,
        "budget": budget,
        "steps": steps,
        "seeds": seeds,
        "hand_set": [
            {"threshold": t, "scale": s, "regret": float(m), "labels": float(u)}
            for (t, s), m, u in zip(HAND_SET, means, used.mean(1))
        ],
        "tuned": tuned,
    }


class Bent(struct.PyTreeNode):
    """Rewards that no linear function of the raw features fits: |u'x| - |v'x| with noise.

    Attributes:
      key: random key.
      directions: `[2, d]`, orthonormal.
    """

    key: jax.Array
    directions: jax.Array

    def __call__(self, t: jax.Array) -> labels.Round:
        """The round t."""
        seen, chance = jax.random.split(jax.random.fold_in(self.key, t))
        features = jax.random.normal(seen, (4, self.directions.shape[1]))
        parts = jnp.abs(features @ self.directions.T)
        means = 0.5 * (parts[:, 0] - parts[:, 1])
        return labels.Round(features, means, means + 0.1 * jax.random.normal(chance, (4,)))


class Head(nnx.Module):
    """Two layers, `[..., d] -> [..., m]`."""

    def __init__(self, dim: int, width: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(dim, 2 * width, rngs=rngs)
        self.second = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Embeddings of unit scale."""
        return jnp.tanh(self.second(jax.nn.relu(self.first(features))))


def last_layer(*, rounds: int, seeds: int, steps: int, dim: int = 6, width: int = 16) -> dict:
    """Regret of linear and last-layer learners under the same gates and budget."""
    budget = rounds // 10
    gates = {
        "LLF gap": (labels.largest_gap(), (0.0, 0.1, 0.2, 0.4, 0.8)),
        "first B": (labels.every_round(), (0.0,)),
        "random": (labels.at_random(), (0.9,)),
        "label all": (labels.every_round(), (0.0,)),
    }
    options: dict[str, Any] = {"noise": 0.1, "norm": 2.0, "scale": 0.3}
    out: dict[str, Any] = {"rounds": rounds, "budget": budget, "seeds": seeds}
    for name, (gate, thresholds) in gates.items():
        limit = rounds if name == "label all" else budget

        def play(threshold: jax.Array, seed: jax.Array, deep: bool, gate=gate, limit=limit) -> Any:
            keys = jax.random.split(jax.random.key(seed), 4)
            plane = jnp.linalg.qr(jax.random.normal(keys[0], (dim, 2)))[0].T
            stream = Bent(keys[1], plane)
            learner = labels.budgeted_learner(gate, budget=limit, threshold=threshold, **options)
            if not deep:
                return labels.run(learner, stream, rounds, key=keys[2])[1].regret[-1]
            head = Head(dim, width, nnx.Rngs(keys[3]))
            return labels.run_last_layer(
                head, learner, stream, rounds, capacity=limit, key=keys[2],
                interval=max(rounds // 12, 1), steps=steps,
            )[1].regret[-1]  # fmt: skip

        out[name] = {}
        for kind in ("linear", "last layer"):
            many = jax.jit(jax.vmap(partial(play, deep=kind == "last layer"), in_axes=(0, 0)))
            lanes = (
                jnp.repeat(jnp.asarray(thresholds), 2),
                jnp.tile(TUNING + jnp.arange(2), len(thresholds)),
            )
            threshold = thresholds[0]
            if len(thresholds) > 1:
                practice = np.asarray(many(*lanes)).reshape(len(thresholds), 2).mean(1)
                threshold = thresholds[int(np.argmin(practice))]
            regret = many(jnp.full(seeds, threshold), TESTING + jnp.arange(seeds))
            regret = np.asarray(regret, float)
            out[name][kind] = {
                "threshold": threshold,
                "regret": float(regret.mean()),
                "standard_error": float(regret.std(ddof=1) / np.sqrt(seeds)),
            }
    return out
