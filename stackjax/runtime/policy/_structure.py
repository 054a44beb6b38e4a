"""How a controller is built, as JSON: kinds and sizes of the library's own modules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from stackjax._game import Game
from stackjax.agents.control._controller import Controller
from stackjax.agents.game._networks import Leader, LearnedFollower
from stackjax.agents.game._payoffs import DEFAULT, Weights, follower_utility, resource_game
from stackjax.agents.surrogate._predictors import QualityModel, Surrogate, TokenModel
from stackjax.sets._empirical import ActionSet

CUSTOM = "custom"
"""Kind of a part that is not made of the library's modules; loading it needs `like=`."""


def describe(controller: Controller) -> dict[str, Any]:
    """Kind and size of each part."""
    surrogate: Any = controller.surrogate
    plain = surrogate.warp is None and isinstance(surrogate, Surrogate)
    known = isinstance(surrogate.quality, QualityModel) and isinstance(surrogate.tokens, TokenModel)
    return {
        "leader": _leader(controller.leader),
        "surrogate": {
            "kind": "surfaces",
            "size": surrogate.size,
            "quality": _networks(surrogate.quality),
            "tokens": {**_networks(surrogate.tokens), "scale": float(surrogate.tokens.scale)},
        }
        if plain and known
        else {"kind": CUSTOM},
        "follower": _follower(controller.game),
        "actions": {
            "kind": "cells" if controller.actions.scale is None else CUSTOM,
            "shape": list(jnp.shape(controller.actions.actions)),
            "smooth": controller.smooth,
        },
    }


def _leader(leader: Any) -> dict[str, Any]:
    if type(leader) is not Leader:
        return {"kind": CUSTOM}
    inputs, hidden = leader.network.inner.kernel[...].shape
    return {"kind": "Leader", "inputs": inputs - 2, "hidden": hidden}


def _networks(model: Any) -> dict[str, Any]:
    members, hidden = model.networks.offset[...].shape
    return {"hidden": hidden, "members": members}


def _weights(utility: Callable[..., Any]) -> Weights | None:
    """The weights of a resource payoff; None for another function."""
    if isinstance(utility, functools.partial):
        return utility.keywords.get("weights") if not utility.args else None
    return DEFAULT


def _follower(game: Game) -> dict[str, Any]:
    follower, weights = game.follower_utility, _weights(game.leader_utility)
    if weights is None:
        return {"kind": CUSTOM}
    same = resource_game(weights=weights)
    if _name(game.leader_utility) != _name(same.leader_utility):
        return {"kind": CUSTOM}
    shared = {"weights": dataclasses.asdict(weights)}
    if isinstance(follower, LearnedFollower):
        inputs, hidden = follower.habit_network.inner.kernel[...].shape
        return {"kind": "learned", "inputs": inputs - 2, "hidden": hidden, **shared}
    rational = _name(follower) is follower_utility and _weights(follower) == weights
    return {"kind": "rational", **shared} if rational else {"kind": CUSTOM}


def _name(utility: Any) -> Any:
    return utility.func if isinstance(utility, functools.partial) else utility


def build(structure: Any) -> Controller:
    """A controller of a described structure; its numbers are arbitrary.

    Raises:
      ValueError: A part is of no kind that is known here.
    """
    if not isinstance(structure, Mapping) or not all(
        isinstance(told, Mapping) for told in structure.values()
    ):
        raise ValueError(
            "The manifest must describe a controller; its structure is no mapping of parts."
        )
    custom = [part for part, told in structure.items() if told.get("kind") == CUSTOM]
    if custom:
        raise ValueError(
            f"`like` must be given for {', '.join(custom)}, not made of the library's modules; got "
            "None."
        )
    try:
        leader, surrogate = structure["leader"], structure["surrogate"]
        follower, actions = structure["follower"], structure["actions"]
        size = surrogate["size"]
        weights = Weights(**follower["weights"])
        learned = None
        if follower["kind"] == "learned":
            learned = LearnedFollower(
                follower["inputs"], hidden=follower["hidden"], rngs=nnx.Rngs(0)
            )
        elif follower["kind"] != "rational":
            raise ValueError(
                f"The follower's kind must be 'rational' or 'learned'; got {follower['kind']!r}."
            )
        return Controller(
            surrogate=Surrogate(
                QualityModel(size, **surrogate["quality"], rngs=nnx.Rngs(0)),
                TokenModel(size, **surrogate["tokens"], rngs=nnx.Rngs(0)),
                size=size,
            ),
            leader=Leader(leader["inputs"], hidden=leader["hidden"], rngs=nnx.Rngs(0)),
            game=resource_game(learned, weights=weights),
            actions=ActionSet(jnp.zeros(actions["shape"], jnp.float32)),
            reference=jnp.zeros(actions["shape"][-1:], jnp.float32),
            smooth=bool(actions["smooth"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The manifest must describe a controller; got {type(error).__name__}: {error}."
        ) from error
