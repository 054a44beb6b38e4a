"""Real multiple-choice votes: which of two language models to believe, subject by subject."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.labels.methods import METHODS, as_floats, stack
from experiments.labels.synthetic import SHARE, TESTING, TUNING, keys, summarise
from stackjax import labels

LETTERS = "ABCD"
# The first and the last of the table's columns. These are in the order of accuracy on all
# questions, held-out ones too: the best and the worst of the 14, a pair not chosen blindly.
MODELS = (0, 13)
ORDERS = ("random", "by subject", "hardest first")
# A right answer is worth 1 and shared by two voters; what they leave open is the noise.
IMAGINED: dict[str, Any] = {"spread": 0.5, "noise": 0.3}
# One right alternative of four: sub-Gaussian with this parameter, see `confidence_radius`.
SHARED: dict[str, Any] = {"noise": 2**-0.5, "norm": 1.0}
LEFT_OUT = ("LLF pool", "LLF gap, decaying")  # nine times the cost; a variant of the first


@dataclass(frozen=True)
class Votes:
    """N questions, M models.

    Attributes:
      votes: `[N, 4, M]`, 1 where a model chose an alternative.
      gold: `[N]`, the right alternative.
      subject: `[N]`, number of the subject.
      subjects: their names.
      held_out: `[N]` bool, three of ten by a hash of subject and item.
    """

    votes: np.ndarray
    gold: np.ndarray
    subject: np.ndarray
    subjects: tuple[str, ...]
    held_out: np.ndarray


def read_votes(path: Path) -> Votes:
    """Reads the table.

    Raises:
      ValueError: the file is damaged, columns are missing, there is no question, or a gold answer
        is not 0 to 3.
    """
    try:
        with gzip.open(path, "rt", newline="") as file:
            rows = list(csv.reader(io.StringIO(file.read())))
    except (EOFError, zlib.error, csv.Error) as error:
        raise ValueError(f"{path.name}: damaged, {error}") from None
    if not rows or rows[0][:4] != ["item", "subject", "gold", "error_type"] or len(rows[0]) < 5:
        raise ValueError(f"{path.name}: columns must begin with item, subject, gold, error_type")
    header, body = rows[0], rows[1:]
    if not body or any(len(row) != len(header) for row in body):
        raise ValueError(f"{path.name}: no question, or a row of another length")
    if any(row[2] not in ("0", "1", "2", "3") for row in body):
        raise ValueError(f"{path.name}: gold must be 0, 1, 2 or 3")
    letters = np.array([row[4:] for row in body])
    subjects, subject = np.unique([row[1] for row in body], return_inverse=True)
    digest = lambda row: int(hashlib.sha256(f"{row[1]}:{row[0]}".encode()).hexdigest(), 16)
    return Votes(
        votes=np.stack([letters == letter for letter in LETTERS], axis=1).astype(np.float32),
        gold=np.array([int(row[2]) for row in body]),
        subject=subject,
        subjects=tuple(subjects),
        held_out=np.array([digest(row) % 10 < 3 for row in body]),
    )


def features_of(votes: Votes, *, crossed: bool) -> np.ndarray:
    """phi, `[N, 4, 2]`, or `[N, 4, 2 * subjects]` if crossed with the subject.

    Votes less their mean over the alternatives: the part that tells them apart. Crossed, every
    subject has weights of its own: an answer teaches nothing about another subject.
    """
    chosen = votes.votes[..., MODELS]
    chosen = chosen - chosen.mean(1, keepdims=True)
    if not crossed:
        return chosen
    one_hot = np.eye(len(votes.subjects), dtype=np.float32)[votes.subject]
    return np.einsum("nkm,ns->nksm", chosen, one_hot).reshape(*chosen.shape[:2], -1)


def order_of(votes: Votes, name: str, seed: int) -> np.ndarray:
    """Rows of the questions to learn from, in an order; ties of the order at random."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(~votes.held_out))
    if name == "by subject":
        rows = rows[np.argsort(rng.permutation(len(votes.subjects))[votes.subject[rows]])]
    elif name == "hardest first":
        right = votes.votes[np.arange(len(votes.gold)), votes.gold].sum(-1)
        rows = rows[np.argsort(right[rows], kind="stable")]
    return rows


def rewards_of(votes: Votes) -> np.ndarray:
    """`[N, 4]`: 1 for the right alternative less the mean, 1/4."""
    return np.eye(4, dtype=np.float32)[votes.gold] - 0.25


def study(path: Path, seeds: int, tuning: int, rounds: int | None = None) -> dict[str, Any]:
    """All methods on the three orders; thresholds from look-aheads on the unlabelled questions."""
    votes = read_votes(path)
    features, rewards = features_of(votes, crossed=True), rewards_of(votes)
    available = int((~votes.held_out).sum())
    rounds = available if rounds is None else min(rounds, available)
    budget, block = int(SHARE * rounds), max(rounds // 30, 1)
    test = jnp.asarray(features[votes.held_out]), jnp.asarray(rewards[votes.held_out])
    table = labels.recorded_stream(features, rewards)
    kept: dict[str, Any] = {name: {} for name in ORDERS}
    for method_name, method in METHODS.items():
        if method_name in LEFT_OUT:
            continue
        make = lambda candidate, m=method: m.learner(candidate, rounds, SHARED)

        def one(order: Any, candidate: Any, key: Any, make: Any = make) -> Any:
            stream = table.replace(order=order)
            state, curves = labels.run(make(candidate), stream, rounds, key=key, block=block)
            return curves, labels.accuracy(state.ridge.theta, *test)

        play = jax.jit(jax.vmap(one, in_axes=(0, None, 0)))

        def look_ahead(grid: Any, order: Any, key: Any, make: Any = make) -> Any:
            drawn = jax.random.split(key, tuning)
            stream = table.replace(order=order)
            imagined = lambda key: labels.imagine(stream, key=key, **IMAGINED)
            return labels.tune_threshold(
                make, grid, jax.vmap(imagined)(drawn), rounds, key=key, block=block
            )

        calibrated = jax.jit(look_ahead)
        for name in ORDERS:
            grid = thinned(method_name, method.candidates(budget, 1.0))
            chosen = grid[0]
            if len(grid) > 1:
                order = jnp.asarray(order_of(votes, name, TUNING), jnp.int32)
                found = calibrated(as_floats(grid), order, jax.random.key(TUNING))
                chosen = grid[int(found.index)]
            orders = stack([np.int32(order_of(votes, name, TESTING + s)) for s in range(seeds)])
            candidate = jax.tree.map(lambda x: jnp.asarray(x, float), chosen)
            curves, share = play(orders, candidate, keys(TESTING, seeds))
            kept[name][method_name] = {
                "chosen": {k: chosen[k] for k in ("threshold", "scale")},
                "candidates": len(grid),
                "regret": np.asarray(curves.regret[:, -1]),
                "labels": np.asarray(curves.labels[:, -1]),
                "accuracy": np.asarray(share),
                "curve": np.asarray(curves.regret.mean(0)),
                "labels_curve": np.asarray(curves.labels.mean(0)),
                "round": np.asarray(curves.round[0]),
            }
    return {
        "questions": {"streamed": rounds, "held_out": int(votes.held_out.sum())},
        "dim": features.shape[-1],
        "budget": budget,
        "labels_matter": what_labels_are_worth(votes),
        "orders": {name: summarise(found) for name, found in kept.items()},
    }


def thinned(name: str, grid: list[dict[str, float]]) -> list[dict[str, float]]:
    """Every other threshold, and two of three scales, for a larger dimension."""
    if name == "LinUCB, capped" or len(grid) <= 4:
        return grid
    thresholds = sorted({c["threshold"] for c in grid})[::2]
    scales = sorted({c["scale"] for c in grid})[:2] if len({c["scale"] for c in grid}) > 1 else None
    return [
        c for c in grid if c["threshold"] in thresholds and (scales is None or c["scale"] in scales)
    ]


def what_labels_are_worth(votes: Votes, draws: int = 10) -> dict[str, Any]:
    """Held-out accuracy of ridge estimates by share of labels, drawn at random, for both maps."""
    out: dict[str, Any] = {}
    held = votes.held_out
    rewards, known = rewards_of(votes), np.flatnonzero(~held)
    right = lambda scores: float((scores[held].argmax(1) == votes.gold[held]).mean())
    rng = np.random.default_rng(0)
    for crossed in (True, False):
        features = features_of(votes, crossed=crossed)

        def fitted(share: float, phi: np.ndarray = features) -> float:
            rows = rng.choice(known, int(share * len(known)), replace=False)
            flat = phi[rows].reshape(-1, phi.shape[-1])
            gram = flat.T @ flat + np.eye(flat.shape[1])
            return right(phi @ np.linalg.solve(gram, flat.T @ rewards[rows].ravel()))

        shares = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
        out["crossed" if crossed else "shared"] = {
            str(s): float(np.mean([fitted(s) for _ in range(draws if 0 < s < 1 else 1)]))
            for s in shares
        }
    out["the first of the two alone"] = right(votes.votes[..., MODELS[0]])
    out["unweighted vote of the two"] = right(votes.votes[..., MODELS].sum(-1))
    out["unweighted vote of all"] = right(votes.votes.sum(-1))
    return out
