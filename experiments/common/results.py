"""What every experiment writes beside its numbers: versions, hardware, hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, Any]:
    """Versions of the packages that decide numbers, and the machine."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def cpu_model() -> str:
    """The processor's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_of(args: Any, *files: Path) -> dict[str, Any]:
    """What a run's results depend on: arguments, data, code and versions; for `Kept`."""
    code = hashlib.sha256()
    for folder in ("stackjax", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            code.update(path.read_bytes())
    machine = {k: v for k, v in environment().items() if k != "load_average"}
    return {
        "args": plain(args),
        "data": [sha256(file) for file in files],
        "code": code.hexdigest(),
        "environment": machine,
    }


def plain(value: Any) -> Any:
    """Turn dataclasses, named tuples and arrays into what JSON knows; NaN becomes None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def write_json(path: Path, value: Any) -> None:
    """Write `plain(value)` as indented JSON; a kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(plain(value), indent=1, allow_nan=False) + "\n")
    os.replace(partial, path)


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded to their widest entry: the first flush left, the others flush right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def join(line: Sequence[str]) -> str:
        padded = [text.rjust(width) for text, width in zip(line, widths)]
        return "  ".join([line[0].ljust(widths[0]), *padded[1:]]).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([join(lines[0]), rule, *(join(line) for line in lines[1:])])
