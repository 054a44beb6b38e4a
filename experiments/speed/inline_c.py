"""Workload R1 in C, built when it is needed: how fast one core can be."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from experiments.speed.contender import Contender, Prepared

FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")


def contenders() -> list[Contender]:
    """One, if there is a compiler."""
    settings = f"gcc {' '.join(FLAGS[:3])}, projected Newton in blocks of 64, one thread, tol 3e-5"
    return [Contender("C", settings, _prepare)] if shutil.which("gcc") else []


def _prepare(inputs: Any) -> Prepared:
    _, u, x = inputs
    n = len(u)
    # Not a view: aligned, and in the order that the C code reads.
    u, x = (np.array(rows, np.float32, order="C") for rows in (u, x))
    value, gradient = np.empty(n, np.float32), np.empty((n, 2), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "r1.so"
        source = Path(__file__).with_name("r1.c")
        subprocess.run(["gcc", *FLAGS, str(source), "-o", str(library), "-lm"], check=True)
        function = ctypes.CDLL(str(library)).r1
    pointer = ctypes.POINTER(ctypes.c_float)
    function.argtypes = [ctypes.c_long, *[pointer] * 4, ctypes.c_float]
    function.restype = ctypes.c_long
    arrays = [array.ctypes.data_as(pointer) for array in (u, x, value, gradient)]

    def call() -> tuple[np.ndarray, np.ndarray, int]:
        steps = function(n, *arrays, 3e-5)
        return value, gradient, steps

    return Prepared(
        call,
        read=lambda out: (out[0].copy(), out[1].copy()),
        report=lambda out: {"steps_per_block": out[2] / -(-n // 64)},
    )
