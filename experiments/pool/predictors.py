"""Quality and tokens of each cell, from what a player knows: one class for both players.

    logit P(right | x, cell) = phi(x)' W psi(cell),    tokens = phi(x)' V psi(cell)

phi are features of the turn, psi those of the cell with their products. All products of both are
in, so that the shape in the cell is free. Penalised by ridge, chosen by folds of whole sessions;
the cells' means are not penalised. The executor's phi have the text, the leader's do not.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import optimize, special

from experiments.pool.sessions import CELLS
from experiments.pool.table import MENU, Table
from stackjax.agents.tasks._research import RESEARCH_TYPES

FOLDS = 8
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)
RARE = 5  # an n-gram of fewer turns is not a feature
STEPS = 100
KNOTS = (0.25, 0.5, 0.75)


def _cell_features() -> np.ndarray:
    """`[K, P]`: constant, context level, prompt, tool, and their products."""
    cells = np.array(CELLS)
    level = np.eye(5)[(4 * cells[:, 0]).round().astype(int)]
    prompt, tool = 2 * cells[:, 1:2], 2 * cells[:, 2:3]
    parts = [np.ones((len(cells), 1)), level, prompt, tool]
    products = [level * prompt, level * tool, prompt * tool, level * prompt * tool]
    return np.concatenate([*parts, *products], axis=1)


PSI = _cell_features()


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Features of turns, scaled as the turns were on which it was made.

    Attributes:
      text: whether the text is read.
      grams: buckets of the n-grams that are read.
      centre, scale: of the numbers.
      knots: `[n, 2]`, of each of the text's numbers: values at which its slope may change.
    """

    text: bool
    grams: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    knots: np.ndarray

    @classmethod
    def of(cls, table: Table, *, text: bool) -> Encoder:
        """An encoder for turns like these."""
        raw = _numbers(table, text)
        scale = np.where(raw.std(0) > 0, raw.std(0), 1.0)
        grams = np.flatnonzero(table.text.sum(0) >= RARE) if text else np.zeros(0, int)
        return cls(text, grams, raw.mean(0), scale, np.quantile(raw, KNOTS, axis=0))

    def __call__(self, table: Table) -> np.ndarray:
        """`[T, F]`; the first feature is the constant."""
        raw = _numbers(table, self.text)
        x = (raw - self.centre) / self.scale
        bends = np.maximum((raw[None] - self.knots[:, None]) / self.scale, 0.0)
        kind = np.eye(len(RESEARCH_TYPES))[table.task]
        products = (kind[:, :, None] * x[:, None]).reshape(len(table), -1)
        parts = [np.ones((len(table), 1)), kind, x, *bends, products]
        return np.concatenate([*parts, table.text[:, self.grams].astype(float)], axis=1)


def _numbers(table: Table, text: bool) -> np.ndarray:
    """`[T, n]`: length and turn, and with the text its relevance and counts."""
    state = np.stack([table.length, table.turn], 1)
    return np.concatenate([state, table.numbers], 1) if text else state


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Quality and tokens of each cell.

    Attributes:
      encoder: of the turns.
      right: `[F, P]`, W. used: `[F, P]`, V, in tokens.
      penalty: the ridge of both.
    """

    encoder: Encoder
    right: np.ndarray
    used: np.ndarray
    penalty: tuple[float, float]

    def __call__(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Probability of a right answer and tokens, `[T, K]` each."""
        phi = self.encoder(table)
        quality = special.expit(phi @ self.right @ PSI.T)
        return quality, np.maximum(phi @ self.used @ PSI.T, 1.0)


def fit_predictor(
    table: Table, *, text: bool, seed: int, penalty: tuple[float, float] | None = None
) -> Predictor:
    """Fits a predictor; its penalties are chosen by folds of whole sessions if not given."""
    if penalty is None:
        penalty = _chosen_penalty(table, text, seed)
    encoder = Encoder.of(table, text=text)
    phi = encoder(table)
    right = _fit(phi, table.seen, table.correct, penalty[0], logistic=True)
    scale = table.tokens[table.seen].mean()
    used = _fit(phi, table.seen, table.tokens / scale, penalty[1], logistic=False) * scale
    return Predictor(encoder, right, used, penalty)


def cross_fitted(
    table: Table, *, text: bool, seed: int, penalty: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Quality and tokens, `[T, K]` each, predicted from other sessions."""
    quality, tokens = np.zeros(table.seen.shape), np.zeros(table.seen.shape)
    for test in folds(table.session, seed):
        fitted = fit_predictor(table.rows(~test), text=text, seed=seed, penalty=penalty)
        quality[test], tokens[test] = fitted(table.rows(test))
    return quality, tokens


def log_loss(table: Table, quality: np.ndarray) -> float:
    """Mean negative log-likelihood of the answers that were seen, in nats."""
    p = np.clip(quality[table.seen], 1e-6, 1 - 1e-6)
    y = table.correct[table.seen]
    return float(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean())


def folds(session: np.ndarray, seed: int, count: int = FOLDS) -> list[np.ndarray]:
    """Masks of the turns that each fold tests."""
    names = np.random.default_rng(seed).permutation(np.unique(session))
    return [np.isin(session, part) for part in np.array_split(names, min(count, len(names)))]


def _chosen_penalty(table: Table, text: bool, seed: int) -> tuple[float, float]:
    losses = []
    for penalty in PENALTIES:
        quality, tokens = np.zeros(table.seen.shape), np.zeros(table.seen.shape)
        for test in folds(table.session, seed + 1, 4):
            fitted = fit_predictor(
                table.rows(~test), text=text, seed=seed, penalty=(penalty, penalty)
            )
            quality[test], tokens[test] = fitted(table.rows(test))
        error = ((tokens - table.tokens) ** 2)[table.seen].mean()
        losses.append((log_loss(table, quality), error))
    best = np.argmin(np.array(losses), axis=0)
    return PENALTIES[best[0]], PENALTIES[best[1]]


def _fit(
    phi: np.ndarray, seen: np.ndarray, outcome: np.ndarray, penalty: float, *, logistic: bool
) -> np.ndarray:
    """`[F, P]`: weights with the least penalised loss over the cells that were seen."""
    shape = phi.shape[1], PSI.shape[1]
    ridge = np.full(shape, penalty)
    ridge[0] = 1e-2  # the cells' means
    weight = seen.astype(float)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(shape)
        z = phi @ w @ PSI.T
        if logistic:
            value = (weight * (np.logaddexp(0.0, z) - outcome * z)).sum()
            slope = weight * (special.expit(z) - outcome)
        else:
            value, slope = (weight * (z - outcome) ** 2).sum(), 2 * weight * (z - outcome)
        value += 0.5 * (ridge * w**2).sum()
        return value, (phi.T @ slope @ PSI + ridge * w).ravel()

    options = {"maxiter": STEPS}
    found = optimize.minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B",
                              options=options)  # fmt: skip
    return found.x.reshape(shape)


def concave(quality: np.ndarray) -> np.ndarray:
    """`[T, K]`: the nearest surfaces that are concave in (c, p, u), for the ablation.

    Least squares over the cells of the menu, one turn at a time, on the basis of
    `agents.game.QualitySurface`; its curvature floor is left out. Other cells keep their values.
    """
    basis = _concave_basis()[MENU]
    found = quality.copy()
    for row in found:
        row[MENU] = basis @ optimize.nnls(basis, row[MENU])[0]
    return found


def _concave_basis() -> np.ndarray:
    """`[K, n]`: constants and lines of both signs, and pieces that may only be added."""
    r = np.array(CELLS)
    z = r - 0.5
    line = np.concatenate([np.ones((len(r), 1)), z], 1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    together = np.stack([-0.5 * (z[:, i] + z[:, j]) ** 2 for i, j in pairs], 1)
    apart = np.stack([-0.5 * (z[:, i] - z[:, j]) ** 2 for i, j in pairs], 1)
    rise = np.expm1(-4 * r) / np.expm1(-4.0) - r
    return np.concatenate([line, -line, -0.5 * z**2, together, apart, rise], 1)
