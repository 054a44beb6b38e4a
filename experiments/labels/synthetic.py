"""Synthetic streams: regret at equal labels, coverage, rates, memory at 10^6 rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.labels.methods import METHODS, REFERENCES, Method, as_floats, paired
from stackjax import labels

DIM, GROUPS, NOISE, SHARE = 16, 4, 0.5, 0.1
SHARED: dict[str, Any] = {"noise": NOISE, "norm": 1.0}
# Rounds after which a label's weight is halved: 350 where theta* drifts, set by hand for all.
FORGET = {"iid": 1.0, "drifting": 0.998, "rare class": 1.0, "adversarial order": 1.0}
TUNING, TESTING = 1_000_000, 0  # first seeds


def family(name: str, rounds: int) -> Callable[[jax.Array], labels.LinearStream]:
    """Key -> stream, of one shape for all kinds, so that they share programs."""

    def make(key: jax.Array) -> labels.LinearStream:
        if name == "rare class":
            stream = labels.rare_stream(key, dim=DIM, rare=DIM // 2, rate=0.03, noise=NOISE)
        elif name == "adversarial order":
            stream = labels.ordered_stream(key, dim=DIM, groups=GROUPS, rounds=rounds, noise=NOISE)
        else:
            turn = np.pi / rounds if name == "drifting" else 0.0
            stream = labels.linear_stream(key, dim=DIM, noise=NOISE, turn=turn)
        more = GROUPS - stream.mask.shape[0]
        mask = jnp.concatenate([stream.mask, jnp.repeat(stream.mask[-1:], more, axis=0)])
        ends = jnp.concatenate([stream.ends, jnp.ones(more, stream.ends.dtype)])
        return stream.replace(mask=mask, ends=ends)

    return make


def streams(name: str, rounds: int, first: int, count: int) -> Any:
    """`count` streams side by side, of seeds from `first` on."""
    return jax.vmap(family(name, rounds))(keys(first, count))


def keys(first: int, count: int) -> jax.Array:
    """Keys of consecutive seeds."""
    return jnp.stack([jax.random.key(first + i) for i in range(count)])


class Program:
    """One method compiled once, for a fixed number of lanes: candidates, streams and seeds vary."""

    def __init__(self, method: Method, rounds: int, lanes: int, block: int) -> None:
        self.lanes = lanes

        def one(candidate: Any, stream: Any, key: jax.Array) -> Any:
            learner = method.learner(candidate, rounds, SHARED)
            state, curves = labels.run(learner, stream, rounds, key=key, block=block)
            final = stream(jnp.asarray(rounds - 1)).theta
            draws = jax.random.normal(jax.random.fold_in(key, rounds), (256, 4, DIM)) / DIM**0.5
            return curves, labels.accuracy(state.ridge.theta, draws, draws @ final)

        self._run = jax.jit(jax.vmap(one))

    def __call__(self, candidates: Any, streams: Any, keys: jax.Array) -> Any:
        """Any number of runs, in batches of `lanes`."""
        count = len(keys)
        parts = []
        for start in range(0, count, self.lanes):
            rows = np.minimum(np.arange(start, start + self.lanes), count - 1)
            take = partial(jax.tree.map, lambda leaf, rows=rows: leaf[rows])
            parts.append(self._run(take(candidates), take(streams), keys[rows]))
        whole = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
        return whole

    def choose(
        self, grid: Sequence[dict], tuning: Any, tuning_keys: jax.Array, column: int = -1
    ) -> dict[str, float]:
        """The candidate with the least mean regret on the tuning streams, at one record."""
        if len(grid) == 1:
            return dict(grid[0])
        many, count = len(tuning_keys), len(grid)
        candidates = jax.tree.map(lambda leaf: jnp.repeat(leaf, many), as_floats(grid))
        spread = lambda leaf: jnp.concatenate([leaf] * count)
        curves, _ = self(candidates, jax.tree.map(spread, tuning), spread(tuning_keys))
        regret = curves.regret[:, column].reshape(count, many).mean(1)
        return dict(grid[int(np.argmin(regret))])

    def test(self, candidate: dict, testing: Any, testing_keys: jax.Array) -> Any:
        """One candidate on the test streams."""
        grid = as_floats([candidate] * len(testing_keys))
        return self(grid, testing, testing_keys)


def compare(names: Sequence[str], rounds: int, seeds: int, tuning: int) -> dict[str, Any]:
    """Every method on each kind of stream: options chosen on other seeds, all on equal streams."""
    budget, block = int(SHARE * rounds), max(rounds // 50, 1)
    kept: dict[str, Any] = {name: {} for name in names}
    for method_name, method in METHODS.items():
        program = Program(method, rounds, seeds, block)
        for name in names:
            grid = method.candidates(budget, FORGET[name])
            practice = streams(name, rounds, TUNING, tuning), keys(TUNING, tuning)
            chosen = program.choose(grid, *practice)
            test = streams(name, rounds, TESTING, seeds), keys(TESTING, seeds)
            curves, share = program.test(chosen, *test)
            kept[name][method_name] = {
                "chosen": {k: chosen[k] for k in ("threshold", "scale", "forget")},
                "candidates": len(grid),
                "regret": curves.regret[:, -1],
                "labels": curves.labels[:, -1],
                "accuracy": share,
                "curve": curves.regret.mean(0),
                "labels_curve": curves.labels.mean(0),
                "round": curves.round[0],
                "coverage": coverage(curves, chosen["scale"]),
            }
    return {name: summarise(found) for name, found in kept.items()}


def coverage(curves: Any, scale: float) -> dict[str, float]:
    """How often the confidence set holds at all records, and the gap bounds the regret."""
    inside = lambda factor: float((curves.error <= factor * curves.radius).all(1).mean())
    return {
        "theorem": inside(1 / scale),
        "scaled": inside(1.0),
        "rounds_beyond_gap": float((curves.broken[:, -1] / curves.round[:, -1]).mean()),
        "regret_over_gaps": float((curves.regret[:, -1] / curves.gaps[:, -1]).mean()),
    }


def summarise(found: dict[str, Any]) -> dict[str, Any]:
    """Means, and paired differences of our readings to the best baseline, by mean test regret."""
    rivals = [n for n, m in METHODS.items() if not m.ours and n not in REFERENCES and n in found]
    best = min(rivals, key=lambda n: found[n]["regret"].mean())
    full = found["label all"]["accuracy"].mean()
    table = {}
    for name, one in found.items():
        regret = one["regret"]
        table[name] = {
            "chosen": one["chosen"],
            "candidates": one["candidates"],
            "regret": float(regret.mean()),
            "standard_error": float(regret.std(ddof=1) / np.sqrt(len(regret))),
            "labels": float(one["labels"].mean()),
            "accuracy": float(one["accuracy"].mean()),
            "accuracy_share": float(one["accuracy"].mean() / full),
            "coverage": one.get("coverage"),
            "minus_best_baseline": paired(regret - found[best]["regret"]),
            "minus_first_B": paired(regret - found["first B"]["regret"]),
        }
        for curve in ("round", "curve", "labels_curve"):
            table[name][curve] = np.asarray(one[curve])
    return {"best_baseline": best, "methods": table}


def rates(lengths: Sequence[int], seeds: int, tuning: int, block: int) -> dict[str, Any]:
    """Slopes of log mean regret against log T at full feedback, and log B at 10 % labels."""
    rounds = max(lengths)
    columns = [length // block - 1 for length in lengths]
    practice = streams("iid", rounds, TUNING, tuning), keys(TUNING, tuning)
    test = streams("iid", rounds, TESTING, seeds), keys(TESTING, seeds)
    full = Program(METHODS["label all"], rounds, seeds, block)
    curves, _ = full.test(METHODS["label all"].candidates(0, 1.0)[0], *test)
    regrets = {"full feedback, in T": curves.regret[:, columns]}
    gap = METHODS["LLF gap"]
    program = Program(gap, rounds, seeds, block)
    found = []
    for length, column in zip(lengths, columns):
        grid = [c for c in gap.candidates(int(SHARE * length), 1.0) if c["scale"] == 0.3]
        chosen = program.choose(grid, *practice, column=column)
        found.append(program.test(chosen, *test)[0].regret[:, column])
    regrets["LLF gap, in B"] = np.stack(found, 1)
    out: dict[str, Any] = {"lengths": list(lengths), "dim": DIM, "seeds": seeds}
    for name, regret in regrets.items():
        out[name] = {"regret": regret.mean(0), **slope(np.asarray(lengths), regret)}
    return out


def slope(lengths: np.ndarray, regret: np.ndarray, draws: int = 2000) -> dict[str, Any]:
    """Least-squares slope of log mean regret `[S, L]`, and a bootstrap interval over seeds."""
    x = np.log(lengths) - np.log(lengths).mean()
    fit = lambda mean: float(x @ np.log(mean) / (x @ x))
    rng = np.random.default_rng(0)
    rows = rng.integers(len(regret), size=(draws, len(regret)))
    low, high = np.quantile([fit(regret[r].mean(0)) for r in rows], [0.025, 0.975])
    return {"slope": fit(regret.mean(0)), "interval": [float(low), float(high)]}


def long_run(rounds: int, dim: int) -> dict[str, Any]:
    """One run of LLF-StackSL: seconds, and the memory that its program asks for."""
    stream = labels.linear_stream(jax.random.key(TESTING), dim=dim, noise=NOISE)

    def play(threshold: jax.Array, key: jax.Array) -> Any:
        learner = labels.llf_stacksl(
            budget=int(SHARE * rounds), threshold=threshold, scale=0.1, **SHARED
        )
        return labels.run(learner, stream, rounds, key=key)

    example = jnp.asarray(0.05), jax.random.key(1)
    begin = time.perf_counter()
    compiled = jax.jit(play).lower(*example).compile()
    compile_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    state, curves = jax.block_until_ready(compiled(*example))
    seconds = time.perf_counter() - begin
    memory: Any = compiled.memory_analysis()
    exact = np.linalg.inv(np.asarray(state.ridge.gram, float) + np.eye(dim))
    kept = np.asarray(state.ridge.inverse, float)
    return {
        "rounds": rounds,
        "dim": dim,
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "megabytes": (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6,
        "records": int(curves.round.shape[0]),
        "labels": int(state.labels),
        "regret": float(curves.regret[-1]),
        "inverse_relative_error": float(np.abs(kept - exact).max() / np.abs(exact).max()),
        "dtype": str(state.ridge.inverse.dtype),
    }
