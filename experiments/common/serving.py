"""The model that an experiment talks to: the server it is told of, or a local one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from stackjax.agents.executor._adapter import ADAPTER_VERSION
from stackjax.agents.executor._executor import Executor
from stackjax.agents.executor._server import LocalModel, file_sha256, local_server
from stackjax.agents.log._log import TurnLog, TurnRecord


@contextlib.contextmanager
def executor_for(
    base_url: str | None,
    model: str,
    model_path: Path | None,
    cache: Path | None,
    *,
    threads: int = 1,
    timeout: float = 60.0,
    adapter: str = ADAPTER_VERSION,
) -> Iterator[tuple[Executor, LocalModel | None]]:
    """An executor, with its local model if it started one, for as long as the context is open.

    The server is `base_url` if given (with `model_path`, the file that it serves, the log and the
    cache know the model by that file's name and hash); else a local one if `model_path` is given;
    else `OPENAI_BASE_URL` if that is set; else a local one with the default model.

    Args:
      base_url: base URL of an OpenAI-compatible server, ending in `/v1`.
      model: the model's name at that server.
      model_path: GGUF file for the local server, or that the server at `base_url` serves.
      cache: folder of cached replies, or None.
      threads: of the local server.
      timeout: seconds for one request.
      adapter: version of the adapter.
    """
    if base_url is None and model_path is None:
        base_url = os.environ.get("OPENAI_BASE_URL") or None
    if base_url is not None and model_path is None:
        yield (
            Executor(base_url, model=model, cache_dir=cache, timeout=timeout, adapter=adapter),
            None,
        )
        return
    with _served(base_url, model_path, threads) as served:
        executor = Executor(
            served.base_url,
            api_key=None if base_url is not None else "none",
            model=served.model,
            model_hash=served.model_sha256,
            cache_dir=cache,
            timeout=timeout,
            adapter=adapter,
        )
        yield executor, served


@contextlib.contextmanager
def _served(base_url: str | None, path: Path | None, threads: int) -> Iterator[LocalModel]:
    """The file behind a server that runs already, or a local server."""
    if base_url is None or path is None:
        with local_server(path, threads=threads) as served:
            yield served
        return
    if not path.is_file():
        raise FileNotFoundError(f"model_path: {path} is not a file")
    yield LocalModel(base_url, path.stem, file_sha256(path), str(path))


def check_resumable(log: TurnLog, executor: Executor) -> None:
    """Refuses to continue a log that another model or adapter began.

    Raises:
      ValueError: the log holds turns of another model or adapter version.
    """
    now = executor.model, executor.adapter
    for record in log.records:
        if (record.model, record.adapter) != now:
            raise ValueError(
                f"out: {log.path} holds turns of model {record.model!r}, adapter "
                f"{record.adapter!r}; this run uses model {now[0]!r}, adapter {now[1]!r}"
            )


class Patience:
    """Ends a run whose server has stopped answering, instead of logging fallbacks for hours.

    Args:
      limit: turns in a row that may be answered by the fallback alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._failures = limit, 0

    def watch(self, records: Iterable[TurnRecord]) -> None:
        """Counts the turns just taken.

        Raises:
          RuntimeError: `limit` turns in a row had no real answer.
        """
        for record in records:
            self._failures = self._failures + 1 if record.fallback else 0
            if self._failures >= self._limit:
                raise RuntimeError(
                    f"{self._failures} turns in a row failed, the last: {record.fallback}"
                )
