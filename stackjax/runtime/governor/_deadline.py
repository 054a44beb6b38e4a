"""Work under a deadline: done in another thread, and given up when it is late."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from stackjax._arrays.arguments import check_count, check_within

T = TypeVar("T")


class DeadlineExceeded(Exception):
    """The work was not done in time, or no thread was free to begin it."""


class DeadlineWorker:
    """Runs short work in threads of its own and waits for it no longer than a deadline.

    Work that is given up before it began is skipped; work that was begun runs to its end and its
    result is dropped. While every thread has been busy with one piece of work for ten deadlines
    (and at least 50 ms), new work is refused at once instead of after a deadline each time.

    Raises:
      TypeError: If an argument is of the wrong kind.
      ValueError: If the deadline is not positive and finite, or threads or backlog are below 1.
    """

    def __init__(self, deadline: float = 0.005, *, threads: int = 1, backlog: int = 256) -> None:
        check_within("deadline", deadline, "(0, inf)")
        check_count("threads", threads)
        check_count("backlog", backlog)
        self.deadline = deadline
        self._queue: queue.Queue[tuple[Future[Any], Callable[[], Any]] | None] = queue.Queue(
            backlog
        )
        self._busy_since: list[float | None] = [None] * threads
        self._closed = False
        for number in range(threads):
            name = f"stackjax-decide-{number}"
            threading.Thread(target=self._serve, args=(number,), name=name, daemon=True).start()

    @property
    def stuck(self) -> bool:
        """Whether every thread has been busy with one piece of work for far too long."""
        limit, now = max(10 * self.deadline, 0.05), time.monotonic()
        return all(since is not None and now - since > limit for since in self._busy_since)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queues work and returns at once.

        Raises:
          DeadlineExceeded: If there is no room, the threads are stuck, or the worker is closed.
        """
        if self._closed or self.stuck:
            raise DeadlineExceeded("no thread is free")
        future: Future[T] = Future()
        try:
            self._queue.put_nowait((future, work))
        except queue.Full:
            raise DeadlineExceeded("the backlog is full") from None
        return future

    def run(self, work: Callable[[], T]) -> T:
        """Does the work, waiting at most the deadline.

        Raises:
          DeadlineExceeded: If it is not done by then; any error of the work itself.
        """
        future = self.submit(work)
        try:
            return future.result(self.deadline)
        except TimeoutError:
            if future.done() and not future.cancelled():
                return future.result()  # in time after all, or a timeout of the work itself
            future.cancel()
            raise DeadlineExceeded(f"not done in {1e3 * self.deadline:g} ms") from None

    def close(self) -> None:
        """Ends the threads once the waiting work is done."""
        if not self._closed:
            self._closed = True
            for _ in self._busy_since:
                try:
                    self._queue.put_nowait(None)
                except queue.Full:
                    break

    def _serve(self, number: int) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            future, work = item
            if not future.set_running_or_notify_cancel():
                continue
            self._busy_since[number] = time.monotonic()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._busy_since[number] = None
                del future, work, item
