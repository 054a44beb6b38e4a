"""How every script here starts and ends: one clear line and a status for whatever goes wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

INTERRUPTED, TERMINATED = 130, 143
"""Exit status after Ctrl-C, and after `kill`: 128 and the signal's number, as shells count."""


class Terminated(KeyboardInterrupt):
    """`kill` asked the process to end."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or `kill`, with what is kept of the run as its message."""


def called(path: str) -> str:
    """What a user calls a script: `experiments.govern` for `experiments/govern/__main__.py`."""
    file = Path(path)
    study = file.name == "__main__.py" and file.parent.parent.name == "experiments"
    return f"experiments.{file.parent.name}" if study else file.name


def launch(main: Callable[[], Any]) -> NoReturn:
    """Runs a script's `main` and leaves the process.

    Status 0 if it returns (or the status that it returns), 1 and one line on stderr if it raises
    what a wrong input, a missing package or a full disk raises, 2 from the option parser, 130 after
    Ctrl-C, 143 after `kill`. Other exceptions are defects and keep their traceback.

    Args:
      main: Called without arguments.

    Raises:
      SystemExit: Always.
    """
    name = called(sys.argv[0])
    with _kill_is_heard() as killed:
        try:
            found = main()
            raise SystemExit(found if isinstance(found, int) else 0)
        except KeyboardInterrupt as stop:
            kept = str(stop) or "run it again"
            print(f"\n{name}: interrupted; {kept}", file=sys.stderr)
            raise SystemExit(TERMINATED if killed else INTERRUPTED) from None
        except BrokenPipeError:  # whoever read the output has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            print(f"{name}: error: {text}", file=sys.stderr)
            raise SystemExit(1) from None


@contextlib.contextmanager
def _kill_is_heard() -> Iterator[list[int]]:
    """`kill` interrupts as Ctrl-C does; the list is not empty once it did.

    Python hears signals between calls into compiled code only: a second `kill` ends the process at
    once. What is kept is on the disk in either case.
    """
    killed: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def interrupt(number: int, frame: Any) -> None:
        killed.append(number)
        raise Terminated

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield killed
    finally:
        signal.signal(signal.SIGTERM, before)
