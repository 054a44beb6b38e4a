"""Games of a kind, with directions for derivatives, in units of one's choice."""

from __future__ import annotations

import zlib

import numpy as np

from experiments.oracle.kind import Kind, Params


def seed_of(kind: Kind, dtype: str, seed: int) -> np.random.Generator:
    """A stream of its own for each kind and precision."""
    return np.random.default_rng([seed, zlib.crc32(f"{kind.name} {dtype}".encode())])


def cast(params: Params, dtype: str) -> Params:
    """Rounded to the precision, so that the oracle and the library have the same game."""
    return {k: v.astype(dtype).astype(float) for k, v in params.items()}


def draw(kind: Kind, dtype: str, games: int, seed: int) -> Params:
    """Games, directions of derivatives (`d_...`), units and weights of the reverse derivative."""
    rng = seed_of(kind, dtype, seed)
    params = cast(kind.draw(rng, games), dtype)
    for name in kind.moving:
        size = np.where(np.isfinite(params[name]), params[name], 0.0)
        way = size * rng.normal(size=size.shape) / 2
        if way.ndim == 3 and way.shape[1] == way.shape[2]:  # a quadratic form stays symmetric
            way = (way + way.transpose(0, 2, 1)) / 2
        params["d_" + name] = way
    if "d_lower" in params and "d_upper" in params:  # what is pinned stays pinned
        pinned = params["lower"] == params["upper"]
        params["d_upper"] = np.where(pinned, params["d_lower"], params["d_upper"])
    shape = params["start"].shape
    params |= {"unit": np.ones(games), "scale": np.ones(shape)}
    params["weight"] = rng.choice([-1.0, 1.0], size=shape)
    return cast(params, dtype)


def with_units(kind: Kind, params: Params, dtype: str, seed: int) -> Params:
    """The same games in other units of the utility and of the response."""
    rng = seed_of(kind, dtype, seed + 1)
    games, d = params["start"].shape
    decades = 4 if dtype == "float32" else 8
    scale = {
        "free": 10.0 ** rng.uniform(-4, 4, (games, d)),
        "common": 10.0 ** rng.uniform(-4, 4, (games, 1)) * np.ones(d),
        "none": np.ones((games, d)),
    }[kind.scales]
    unit = 10.0 ** rng.uniform(-decades, decades, games)
    return params | cast({"unit": unit, "scale": scale}, dtype)
