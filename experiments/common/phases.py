"""The parts of a long run: named, timed, shown with what remains, and kept if it is stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from experiments.common.command import Stopped

T = TypeVar("T")
KEPT_RESULTS = Path(__file__).parents[1] / "results"


class Kept:
    """Results of finished parts, on the disk until the run is complete.

    Those of a run with other arguments, data or code are thrown away. They are pickles that this
    user's own run wrote; do not point `folder` at files of others.

    Args:
      folder: where; created with the first part.
      run: what the parts depend on; compared as text.

    Attributes:
      found: names of the parts that a stopped run had left.
    """

    def __init__(self, folder: Path, run: Any) -> None:
        self.folder, self._run = folder, hashlib.sha256(repr(run).encode()).hexdigest()
        self.found: list[str] = []
        with contextlib.suppress(OSError, ValueError):
            noted = json.loads((folder / "run.json").read_text())
            self.found = list(noted["parts"]) if noted["run"] == self._run else []
        self.found = [name for name in self.found if self._path(name).is_file()]
        self._done = list(self.found)

    def __len__(self) -> int:
        return len(self._done)

    def __contains__(self, name: str) -> bool:
        return name in self._done

    def get(self, name: str, job: Callable[[], T]) -> T:
        """The part's result: the one that is kept, or `job()`, which is kept before it returns."""
        if name in self._done:
            with contextlib.suppress(Exception):  # a damaged pickle raises anything
                return pickle.loads(self._path(name).read_bytes())
            self._done.remove(name)
        result = job()
        try:
            content = pickle.dumps(result)
        except Exception:  # what cannot be pickled raises anything; the run goes on without
            return result
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self._path(name), content)
        self._done.append(name)
        note = {"run": self._run, "parts": self._done}
        _replace(self.folder / "run.json", json.dumps(note).encode())
        return result

    def clear(self) -> None:
        """Forget everything: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._done = []

    def __str__(self) -> str:
        if not self._done:
            return "nothing was finished; run it again"
        parts = "1 part is" if len(self) == 1 else f"{len(self)} parts are"
        return f"{parts} kept in {self.folder}: run the same command to go on"

    def _path(self, name: str) -> Path:
        return self.folder / (hashlib.sha256(name.encode()).hexdigest()[:16] + ".pickle")


@contextlib.contextmanager
def stopping(kept: Kept | None) -> Iterator[None]:
    """Ctrl-C and `kill` in the block become a `Stopped` that says what is kept."""
    try:
        yield
    except Stopped:
        raise
    except KeyboardInterrupt as error:
        raise Stopped("nothing is kept; run it again" if kept is None else str(kept)) from error


class Phases:
    """Names, times and announces the parts of a run.

    On a terminal stderr shows the running part, the time since its start and, where it is known how
    long the parts usually take, what remains; each finished part is a line of stdout.

    Args:
      total: number of parts.
      usual: seconds that each part usually takes, by name; their shares give the estimate.
      kept: where `job` keeps results; nowhere if None.

    Attributes:
      kept: the same; may be set once what the parts depend on is known.
      seconds: wall time of each finished part, by name; of a kept part that of the run it is from.
    """

    def __init__(
        self, total: int, *, usual: Mapping[str, float] | None = None, kept: Kept | None = None
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.kept = kept
        self._total, self._usual = total, dict(usual or {})

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Announces a part and, at its end, the seconds that it took."""
        start, head = time.perf_counter(), f"[{len(self.seconds) + 1}/{self._total}] {name}"
        watched = sys.stderr.isatty()
        if not watched:
            print(f"{head} ...", end=" ", flush=True)
        shown = _shown(head, lambda: self.remaining(name)) if watched else contextlib.nullcontext()
        try:
            with stopping(self.kept), shown:
                yield
        except BaseException:
            print(f"{head} stopped" if watched else "stopped", flush=True)
            raise
        self.seconds[name] = time.perf_counter() - start
        print(f"{f'{head} ' if watched else ''}{self.seconds[name]:.1f} s", flush=True)

    def job(self, name: str, job: Callable[[], T]) -> T:
        """`job()` as a part of the run; not run again where its result is kept."""
        kept = self.kept
        if kept is None:
            with self(name):
                return job()

        def timed() -> tuple[float, T]:
            start = time.perf_counter()
            result = job()
            return time.perf_counter() - start, result

        again = name in kept
        with self(name + (" (kept)" if again else "")):
            seconds, result = kept.get(name, timed)
        self.seconds.pop(name + " (kept)", None)
        self.seconds[name] = seconds
        return result

    def remaining(self, name: str) -> float | None:
        """Estimated seconds from the start of part `name` to the end; None if nothing is known."""
        if name not in self._usual:
            return None
        known = [part for part in self.seconds if self._usual.get(part, 0.0) > 0]
        usual = sum(self._usual[part] for part in known)
        pace = sum(self.seconds[part] for part in known) / usual if usual > 0 else 1.0
        return pace * sum(s for part, s in self._usual.items() if part not in self.seconds)

    def finish(self) -> None:
        """The results are written: nothing needs to be kept."""
        if self.kept is not None:
            self.kept.clear()


def usual_seconds(name: str, *path: str) -> dict[str, float]:
    """Seconds of each part in the results that are kept of a script; empty if there are none.

    Args:
      name: of the file in `experiments/results`.
      path: keys that lead to the seconds; `seconds` if there is none.
    """
    found: Any = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads((KEPT_RESULTS / name).read_text())
        for key in path or ("seconds",):
            found = found[key]
    numbers = found.items() if isinstance(found, dict) else ()
    return {k: float(v) for k, v in numbers if k != "total" and isinstance(v, int | float)}


def watched(items: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The items; on a terminal with a bar on stderr that says how many came and what remains."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:-1], TimeRemainingColumn(compact=True))
    with Progress(*columns, **_quiet()) as bar:
        task = bar.add_task(label, total=total)
        for item in items:
            yield item
            bar.advance(task)


def _quiet() -> dict[str, Any]:
    """Options of a display that goes to stderr, vanishes, and leaves a redirected stdout alone."""
    from rich.console import Console

    return {
        "console": Console(stderr=True),
        "transient": True,
        "refresh_per_second": 2,  # what is measured here are seconds, too
        "redirect_stdout": sys.stdout.isatty(),
        "redirect_stderr": False,
    }


@contextlib.contextmanager
def _shown(head: str, remaining: Callable[[], float | None]) -> Iterator[None]:
    """A line on the terminal: what runs, since when, and what remains."""
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.text import Text

    expected = remaining()

    class Remaining(ProgressColumn):
        def render(self, task: Any) -> Text:
            if expected is None:
                return Text("")
            left = max(expected - (task.elapsed or 0.0), 0.0)
            return Text(f"about {in_words(left)} remain")

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), Remaining())
    with Progress(*columns, **_quiet()) as display:
        # Brackets are rich's markup.
        display.add_task(head.replace("[", r"\["), total=None)
        yield


def in_words(seconds: float) -> str:
    """Seconds, minutes or hours, whichever says it best.

    Example:
      >>> in_words(8), in_words(100), in_words(9000)
      ('8 s', '2 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _replace(path: Path, content: bytes) -> None:
    """A kill leaves the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
