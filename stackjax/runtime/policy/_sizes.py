"""Bounds on a saved policy, checked before anything of it is built."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_MANIFEST = 1 << 20
"""Bytes of `policy.json`; a saved one has about 3,000."""
MAX_ARRAYS = 256 << 20
"""Bytes of all arrays, unpacked; those of a saved policy have about 500,000."""


def read_manifest(path: Path) -> str:
    """The manifest's text.

    Raises:
      ValueError: If it is larger than manifests are.
    """
    with open(path, "rb") as file:
        content = file.read(MAX_MANIFEST + 1)
    if len(content) > MAX_MANIFEST:
        raise ValueError(f"it must have at most {MAX_MANIFEST} bytes.")
    return content.decode("utf-8")


def check_sizes(structure: Any, path: Path) -> None:
    """Refuses arrays that unpack to too much, and sizes for which there are not enough arrays.

    The networks are built before they are filled: a forged size would be allocated first. Every
    size and every product of a part's sizes is the length of some saved axis or array, so that none
    can exceed the number of bytes that the file unpacks to.

    Raises:
      zipfile.BadZipFile: If the arrays are damaged.
      ValueError: If the file unpacks to more than `MAX_ARRAYS` bytes, or a size is no integer of at
        least 0, or larger than the arrays.
    """
    with zipfile.ZipFile(path) as packed:
        held = sum(entry.file_size for entry in packed.infolist())
    if held > MAX_ARRAYS:
        raise ValueError(f"{path}: the arrays must have at most {MAX_ARRAYS} bytes; got {held}.")
    if not isinstance(structure, Mapping):
        return
    for part, told in structure.items():
        for name, product in _products(told, str(part)):
            if not 0 <= product <= held:
                raise ValueError(
                    f"{path.with_name('policy.json')}: the sizes of {name} must fit the arrays' "
                    f"{held} bytes; got {product}."
                )


_SIZES = ("inputs", "hidden", "members", "size")


def _products(told: Any, name: str) -> list[tuple[str, int]]:
    """The product of the sizes that each part of a description has."""
    if not isinstance(told, Mapping):
        return []
    found, product = [], 1
    for key, value in told.items():
        if isinstance(value, Mapping):
            found += _products(value, f"{name}.{key}")
        sizes = value if key == "shape" and isinstance(value, list) else [value]
        if key == "shape" or key in _SIZES:
            for size in sizes:
                if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                    raise ValueError(f"the size `{name}.{key}` must be an integer of at least 0.")
                product *= size
    return [*found, (name, product)]
