"""Policies on disk: arrays, a manifest and a fingerprint of each part; no code is ever loaded.

A policy is a folder with `arrays.npz` (read without pickle) and `policy.json`. The manifest says
how each part is built out of the library's own modules; anything else needs `like=`. A fingerprint
is the SHA-256 of a part's description and of its arrays' names, types, shapes and bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import check_choice
from stackjax.agents.control._controller import Controller
from stackjax.runtime.chat._request import CHAT_ADAPTER_VERSION
from stackjax.runtime.policy._behaviour import Behaviour
from stackjax.runtime.policy._policy import UNITS, Policy, Residuals
from stackjax.runtime.policy._sizes import check_sizes, read_manifest
from stackjax.runtime.policy._structure import build, describe

FORMAT = 1
PARTS = ("leader", "surrogate", "follower", "actions", "calibration", "adapter")
"""What is fingerprinted, each on its own."""


class PolicyMismatch(ValueError):
    """A policy is not the one that was saved, or not the one that was expected.

    Attributes:
      parts: The parts that differ.

    Example:
      >>> PolicyMismatch("the leader differs", ("leader",)).parts
      ('leader',)
    """

    def __init__(self, message: str, parts: tuple[str, ...]) -> None:
        super().__init__(message)
        self.parts = parts


def parts_of(controller: Controller) -> dict[str, Any]:
    """The controller's arrays by part."""
    return {
        "leader": controller.leader,
        "surrogate": controller.surrogate,
        "follower": controller.game,
        "actions": (controller.actions, controller.reference),
    }


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """A pytree's leaves by their path.

    Raises:
      TypeError: A leaf is no number or array of numbers, and would have to be pickled.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    for path, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"`controller` must hold arrays of numbers; got an object at {path}.")
    return arrays


def fingerprint_of(
    controller: Controller,
    calibration: Residuals,
    *,
    adapter: str = CHAT_ADAPTER_VERSION,
    structure: Mapping[str, Any] | None = None,
    unit: str = "turn",
) -> dict[str, str]:
    """The SHA-256 of each part, 64 hexadecimal digits.

    Args:
      controller: The controller.
      calibration: Its calibration.
      adapter: Version of the adapter that carries out its responses.
      structure: Description of the parts; taken from the controller if None.
      unit: What one decision is for, see `Policy`.

    Example:
      >>> time = "2026-01-05T00:00:00+00:00"
      >>> calibration = Residuals(0.0, 0.1, 0.0, 0.5, 90, (0.0,) * 8, (1.0,) * 8, time)
      >>> first, second = (
      ...     fingerprint_of(known_world.controller(signal), calibration)
      ...     for signal in ((0.8, 0.5), (0.8, 0.6))
      ... )
      >>> len(first["leader"]), [part for part in PARTS if first[part] != second[part]]
      (64, ['leader'])
    """
    structure = describe(controller) if structure is None else structure
    found = {}
    for name, tree in parts_of(controller).items():
        digest = hashlib.sha256(json.dumps(structure.get(name), sort_keys=True).encode())
        for path, array in sorted(named_arrays(tree).items()):
            digest.update(f"{path} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        found[name] = digest.hexdigest()
    text = json.dumps([dataclasses.asdict(calibration), unit], sort_keys=True)
    found["calibration"] = hashlib.sha256(text.encode()).hexdigest()
    found["adapter"] = adapter_digest(adapter)
    return found


def adapter_digest(version: str) -> str:
    """The fingerprint of an adapter."""
    return hashlib.sha256(version.encode()).hexdigest()


def digest_of(fingerprint: Mapping[str, str]) -> str:
    """One SHA-256 over all parts, 64 hexadecimal digits: it changes with any of them.

    Example:
      >>> one = dict.fromkeys(PARTS, "0" * 64)
      >>> digest_of(one) == digest_of({**one, "adapter": "1" * 64})
      False
    """
    text = "\n".join(f"{part} {fingerprint.get(part)}" for part in PARTS)
    return hashlib.sha256(text.encode()).hexdigest()


def save_policy(policy: Policy, folder: str | os.PathLike[str]) -> Path:
    """Writes a policy; an existing one in the folder is replaced, the manifest last.

    Args:
      policy: What to save.
      folder: Created if absent.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     saved = save_policy(known_policy(), Path(folder, "first"))
      ...     sorted(path.name for path in saved.iterdir())
      ['arrays.npz', 'policy.json']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    structure = describe(policy.controller)
    arrays: dict[str, Any] = {
        f"{part}{path}": array
        for part, tree in parts_of(policy.controller).items()
        for path, array in named_arrays(tree).items()
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "adapter": getattr(policy, "adapter", CHAT_ADAPTER_VERSION),
        "unit": getattr(policy, "unit", "turn"),
        "structure": structure,
        "calibration": dataclasses.asdict(policy.calibration),
    }
    manifest["fingerprint"] = fingerprint_of(
        policy.controller, policy.calibration, adapter=manifest["adapter"], unit=manifest["unit"]
    )
    partial = folder / "arrays.partial.npz"
    np.savez(partial, **arrays)
    os.replace(partial, folder / "arrays.npz")
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    (folder / "policy.partial").write_text(text)
    os.replace(folder / "policy.partial", folder / "policy.json")
    return folder


def load_policy(
    folder: str | os.PathLike[str],
    *,
    expect: Mapping[str, str] | str | None = None,
    like: Controller | None = None,
    adapter: str = CHAT_ADAPTER_VERSION,
) -> Policy:
    """Reads a policy, checks every part against its fingerprint, and compiles it.

    Args:
      folder: What `save_policy` wrote.
      expect: Fingerprints that the parts must have, for instance of the policy that was reviewed;
        parts that are not named are not compared. Or a text: the first digits of `digest_of` the
        fingerprint, which covers all parts.
      like: A controller of the same structure, where it is not made of the library's modules.
      adapter: Version of the adapter that is to carry out its responses.

    Raises:
      FileNotFoundError: If the folder holds no policy.
      PolicyMismatch: If a part is damaged, of another adapter or format, or not as expected; the
        message names the parts.
      ValueError: If the manifest cannot be read, is larger than policies are, or `expect` names no
        part.

    Example:
      >>> import tempfile
      >>> policy = known_policy()
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     again = load_policy(save_policy(policy, folder), like=policy.controller)
      >>> again.fingerprint == policy.fingerprint
      True
    """
    folder = Path(folder)
    for name in ("policy.json", "arrays.npz"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"`folder` must hold a policy; got {folder} without {name}.")
    try:
        manifest = json.loads(read_manifest(folder / "policy.json"))
        saved, structure = dict(manifest["fingerprint"]), manifest["structure"]
        calibration = _calibration(manifest["calibration"])
        version = manifest["format"]
        unit = manifest["unit"]
        check_choice("unit", unit, UNITS)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / 'policy.json'}: not a policy: {error}") from error
    if version != FORMAT:
        raise PolicyMismatch(f"{folder}: the format must be {FORMAT}; got {version}.", ("format",))
    if manifest.get("adapter") != adapter:
        raise PolicyMismatch(
            f"{folder}: the adapter must be {adapter!r}; got {manifest.get('adapter')!r}.",
            ("adapter",),
        )
    try:
        check_sizes(structure, folder / "arrays.npz")
    except (zipfile.BadZipFile, EOFError) as error:
        raise PolicyMismatch(f"{folder / 'arrays.npz'}: damaged: {error}", ("arrays",)) from error
    controller = build(structure) if like is None else like
    try:
        controller = _fill(controller, folder / "arrays.npz")
    except PolicyMismatch:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise PolicyMismatch(f"{folder / 'arrays.npz'}: damaged: {error}", ("arrays",)) from error
    found = fingerprint_of(controller, calibration, adapter=adapter, structure=structure, unit=unit)
    _compare(found, saved, f"{folder}: does not match its own fingerprint")
    if isinstance(expect, str):
        digest = digest_of(found)
        if not expect or not digest.startswith(expect.lower()):
            raise PolicyMismatch(
                f"{folder}: `expect` must begin the digest of all parts, {digest[:12]}; got "
                f"{expect[:64]!r}.",
                PARTS,
            )
    elif expect is not None:
        unknown = set(expect) - set(PARTS)
        if unknown:
            raise ValueError(f"`expect` must name parts of {PARTS}; got {sorted(unknown)}.")
        _compare({k: found[k] for k in expect}, dict(expect), f"{folder}: not the policy expected")
    return Policy(controller, calibration, found, adapter=adapter, unit=unit)


def _compare(found: Mapping[str, str], wanted: Mapping[str, str], message: str) -> None:
    parts = tuple(name for name in found if found[name] != wanted.get(name))
    if parts:
        detail = ", ".join(
            f"{name} is {found[name][:12]}, not {str(wanted.get(name))[:12]}" for name in parts
        )
        raise PolicyMismatch(f"{message}: {detail}.", parts)


def _calibration(data: Mapping[str, Any]) -> Residuals:
    ranges = {name: tuple(map(float, data[name])) for name in ("low", "high")}
    values: dict[str, Any] = {**data, **ranges}
    if data.get("behaviour") is not None:
        told: dict[str, Any] = {**data["behaviour"]}
        told["tool_calls"] = tuple(told["tool_calls"])
        values["behaviour"] = Behaviour(**told)
    return Residuals(**values)


def _fill(controller: Controller, path: Path) -> Controller:
    """The controller with the saved arrays in place of its own."""
    trees = parts_of(controller)
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        filled = {}
        for part, tree in trees.items():
            leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
            names = [f"{part}{jax.tree_util.keystr(place)}" for place, _ in leaves]
            saved = {name for name in arrays.files if name.startswith(part)}
            if saved != set(names):
                raise PolicyMismatch(
                    f"{path}: the arrays of {part} must be {names}; got {sorted(saved)}.", (part,)
                )
            values = [arrays[name] for name in names]
            for name, value, (_, leaf) in zip(names, values, leaves, strict=True):
                if value.shape != np.shape(leaf):
                    raise PolicyMismatch(
                        f"{path}: {name} must have shape {np.shape(leaf)}; got {value.shape}.",
                        (part,),
                    )
            filled[part] = jax.tree.unflatten(structure, [jnp.asarray(v) for v in values])
    actions, reference = filled["actions"]
    return controller.replace(
        leader=filled["leader"],
        surrogate=filled["surrogate"],
        game=filled["follower"],
        actions=actions,
        reference=reference,
    )
