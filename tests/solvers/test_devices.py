"""Contexts over several devices and processes: the same answers, and no talk in the solve."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common.compile import known_flags

SCRIPT = Path(__file__).parents[1] / "sharded.py"
FLAGS = "--xla_backend_optimization_level=0"


def start(*arguments, devices):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env={
            **os.environ,
            "XLA_FLAGS": " ".join(known_flags([FLAGS])),
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_PLATFORMS": "cpu",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes, timeout=300):
    outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    for process, output in zip(processes, outputs):
        assert process.returncode == 0 and output.endswith("the same\n"), output


def test_eight_devices():
    finish(start("devices", devices=8))


@pytest.mark.slow
def test_meshes_of_either_kind():
    finish(start("meshes", devices=2), timeout=900)


def test_gradient_over_two_processes():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    finish(*(start("processes", str(rank), address, devices=1) for rank in range(2)))
