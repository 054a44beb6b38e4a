"""The comparison: the library's answers, flags and derivatives against the oracle's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import stackjax as sj
from experiments.oracle.draws import cast, draw, with_units
from experiments.oracle.kind import DEGENERATE, PROVED, Answer, Kind, Params
from experiments.oracle.tally import Tally

STEP = 2e-5
"""Of the oracle's finite differences, in units of the arrays."""
SLOPE_TOLERANCE = {"float32": 2e-2, "float64": 1e-5}
SECOND_TOLERANCE = {"float32": 1e-1, "float64": 2e-2}
"""The second difference divides rounding by `STEP**2`: float64's cannot be finer."""


programs: dict[Any, Any] = {}


def forget() -> None:
    """Drops the compiled programs of kinds that are done with."""
    programs.clear()


def ask(kind: Kind, params: Params, dtype: str) -> dict[str, np.ndarray]:
    """The library's answers: one program for all games of the kind, precision and number."""

    def one(p: dict[str, Any]) -> dict[str, Any]:
        def found(t: Any) -> tuple[Any, Any]:
            at = {k: v + t * p["d_" + k] if k in kind.moving else v for k, v in p.items()}
            game, action, context = kind.game(at)
            start = (p["start"] / p["scale"]).reshape(kind.shape)
            response = sj.best_response(game, action, context, response=start, solver=kind.solver())
            flags = (response.converged, response.unique, response.residual, response.steps)
            return response.value.reshape(-1) * p["scale"], flags

        zero = jnp.zeros((), p["start"].dtype)
        value = lambda t: found(t)[0]
        slope = lambda t: jax.jvp(value, (t,), (jnp.ones_like(t),))[1]
        y, forward, flags = jax.jvp(found, (zero,), (jnp.ones_like(zero),), has_aux=True)
        weight = p["weight"] / p["y_unit"]
        out = dict(zip(("converged", "unique", "residual", "steps"), flags))
        out |= {"value": y, "forward": forward}
        out["reverse"] = jax.grad(lambda t: weight @ value(t))(zero)
        if kind.second:
            out["second"] = jax.jvp(slope, (zero,), (jnp.ones_like(zero),))[1]
        return out

    with jax.enable_x64(dtype == "float64"):
        given = {k: jnp.asarray(v, dtype) for k, v in params.items()}
        key = (kind.name, dtype, len(params["start"]))
        if key not in programs:
            programs[key] = jax.jit(jax.vmap(one)).lower(given).compile()
        return {k: np.asarray(v) for k, v in programs[key](given).items()}


class Truth(Answer):
    """The oracle's answers with their derivatives; a tuple of `Answer` with attributes."""

    slope: np.ndarray
    second: np.ndarray
    smooth: np.ndarray


def truth(kind: Kind, params: Params) -> Truth:
    """Values, and derivatives by central differences of the oracle itself."""

    def at(t: float) -> Answer:
        return kind.oracle(
            {k: v + t * params["d_" + k] if k in kind.moving else v for k, v in params.items()}
        )

    here, ahead, behind = at(0.0), at(STEP), at(-STEP)
    found = Truth(*here)
    # Richardson's extrapolation: at a steepness of 1,000 the error of one difference is not small.
    wide = (ahead.value - behind.value) / (2 * STEP)
    narrow = (at(STEP / 2).value - at(-STEP / 2).value) / STEP
    found.slope = (4 * narrow - wide) / 3
    found.second = (ahead.value - 2 * here.value + behind.value) / STEP**2
    # Where the one-sided differences differ there is a kink between them.
    bend = np.abs(found.second) * STEP / here.unit
    room = 0.05 * (0.1 + (np.abs(found.slope) / here.unit).max(-1))
    proved = (here.proof < PROVED) & (ahead.proof < PROVED) & (behind.proof < PROVED)
    found.smooth = (here.margin > DEGENERATE) & (bend.max(-1) < room) & proved
    return found


def judge(
    kind: Kind,
    dtype: str,
    games: int,
    seed: int = 0,
    *,
    units: bool = False,
    shrink: bool = True,
) -> Tally:
    """Draws games, asks both sides, and counts.

    Args:
      kind: which games.
      dtype: `float32` or `float64`.
      games: how many, in one batch.
      seed: of the draw.
      units: ask again in other units, and count flags that change.
      shrink: look for a failing instance of few digits.
    """
    params = draw(kind, dtype, games, seed)
    right = truth(kind, params)
    params["y_unit"] = right.unit.astype(dtype).astype(float)
    found = ask(kind, params, dtype)
    tally, failed = compare(kind, dtype, params, right, found)
    asked = params
    if units:
        asked = with_units(kind, params, dtype, seed)
        again = ask(kind, asked, dtype)
        other, failed = compare(kind, dtype, asked, right, again)
        changed = (found["converged"] != again["converged"]) | (found["unique"] != again["unique"])
        other.flags = int(changed.sum())
        tally = other
    if failed.any() and shrink:
        tally.smallest = smallest(kind, dtype, asked, failed)
    return tally


def compare(
    kind: Kind, dtype: str, params: Params, right: Truth, found: dict[str, np.ndarray]
) -> tuple[Tally, np.ndarray]:
    """The counts, and `[N]` which games failed."""
    single = dtype == "float32"
    sure, proved = found["converged"], right.proof < PROVED
    rounding = 4 * np.finfo(dtype).eps * np.abs(right.value)
    room = kind.tolerance[0 if single else 1] * right.unit + rounding
    with np.errstate(invalid="ignore"):
        error = (np.abs(found["value"] - right.value) / room).max(-1)
    error = np.where(np.isnan(error), np.inf, error)
    wrong = sure & proved & (error > 1)
    names = ("value", "forward", "reverse", *(("second",) if kind.second else ()))
    finite = np.all([np.isfinite(found[k].reshape(len(sure), -1)).all(-1) for k in names], axis=0)
    compared = sure & proved & ~wrong & right.smooth & finite
    size = lambda slope: 0.1 + (np.abs(slope) / right.unit).max(-1)
    close = kind.steep * SLOPE_TOLERANCE[dtype] * size(right.slope)
    off = (np.abs(found["forward"] - right.slope) / right.unit).max(-1) > close
    reverse = (params["weight"] / right.unit * right.slope).sum(-1)
    off |= np.abs(found["reverse"] - reverse) > close * right.value.shape[1]
    bent = np.zeros(len(sure), bool)
    if kind.second:
        close = kind.steep * SECOND_TOLERANCE[dtype] * (size(right.second) + size(right.slope))
        bent = (np.abs(found["second"] - right.second) / right.unit).max(-1) > close
    converged_errors = error[sure & proved]
    failed = wrong | (compared & (off | bent)) | ~finite
    return Tally(
        kind.name,
        dtype,
        games=len(sure),
        converged=int(sure.sum()),
        wrong=int(wrong.sum()),
        slopes=int(compared.sum()),
        wrong_slopes=int((compared & off).sum()),
        wrong_seconds=int((compared & bent).sum()),
        degenerate=int((sure & ~wrong & ~right.smooth).sum()),
        unproved=int((~proved).sum()),
        not_finite=int((~finite).sum()),
        not_unique=int((sure & ~found["unique"]).sum()),
        worst=float(converged_errors.max(initial=0.0)),
    ), failed


def smallest(kind: Kind, dtype: str, params: Params, failed: np.ndarray) -> dict[str, Any]:
    """A failing instance of as few digits as possible: each is rounded to 1, 2, ... and asked."""
    chosen = np.flatnonzero(failed)[:20]
    games = len(failed)
    lanes = np.resize(chosen, games)
    for digits in (1, 2, 3, None):
        some = {k: v[lanes] for k, v in params.items() if k != "y_unit"}
        if digits is not None:
            fixed = ("weight", "unit", "scale")
            some = {
                k: v if k in fixed or k.startswith("d_") else _rounded(v, digits)
                for k, v in some.items()
            }
            some = cast(some, dtype)
        try:
            with np.errstate(all="ignore"):  # a rounded game may have no answer
                right = truth(kind, some)
        except np.linalg.LinAlgError:
            continue
        some["y_unit"] = right.unit.astype(dtype).astype(float)
        found = ask(kind, some, dtype)
        _, still = compare(kind, dtype, some, right, found)
        still &= right.proof < PROVED
        if still.any():
            lane = int(np.flatnonzero(still)[0])
            kept = [k for k in some if not k.startswith("d_") and k not in ("weight", "y_unit")]
            return {
                "game": {k: some[k][lane].tolist() for k in kept},
                "right": right.value[lane].tolist(),
                "slope": right.slope[lane].tolist(),
                **{k: v[lane].tolist() for k, v in found.items()},
            }
    return {"game": "only in its own lane"}


def _rounded(values: np.ndarray, digits: int) -> np.ndarray:
    """Decimals so that the largest entry of each game keeps `digits` figures."""
    finite = np.where(np.isfinite(values), np.abs(values), 0.0)
    largest = finite.reshape(len(values), -1).max(-1).reshape(-1, *[1] * (values.ndim - 1))
    step = 10.0 ** (np.floor(np.log10(np.maximum(largest, 1e-300))) + 1 - digits)
    return np.round(values / step) * step
