"""The running comparison of a roll-out with chance: its outcomes and its verdict, remembered."""

from __future__ import annotations

import json
import secrets
import threading
from typing import Any

from stackjax._arrays.verdict import Verdict
from stackjax.runtime.governor._comparison import SessionOutcome, StopRule, compare_sessions
from stackjax.runtime.governor._memory import Memory
from stackjax.runtime.policy._rollout import Rollout

CHECK_EVERY = 5
"""Least number of finished sessions between two looks at the comparison. Looking less often never
invalidates it; the gap grows with the sessions, so that looks stay cheap."""
MAX_SESSIONS = 100_000
"""Sessions of one roll-out that are compared; what comes after is logged only."""


class Experiment:
    """One roll-out's outcomes and verdict, shared by all governors with the same memory.

    A governor that starts with a roll-out that its memory knows goes on with it: a stop for harm
    stays. `restart` begins the roll-out anew, for all of them.

    Attributes:
      name: Of this run of the roll-out.
      verdict: 'continue', 'harm' or 'success'.
    """

    def __init__(self, memory: Memory, stop: StopRule | None, rollout: Rollout) -> None:
        self._memory, self._stop, self._lock = memory, stop, threading.RLock()
        self.name, self.verdict = "", Verdict.CONTINUE
        self._take_up(rollout)

    @property
    def harmed(self) -> bool:
        """Whether the roll-out was stopped for harm."""
        return self.verdict == Verdict.HARM

    def restart(self, rollout: Rollout) -> None:
        """Begins a roll-out anew, without outcomes."""
        self._memory.keep(_fact(rollout), _fresh())
        self._take_up(rollout)

    def sync(self) -> None:
        """Reads what other governors have concluded."""
        self._take_up(self.rollout)

    def enter(self, experiment: str, outcome: SessionOutcome) -> None:
        """Adds a finished session, and looks at the comparison from time to time."""
        with self._lock:
            # A session that began under another roll-out belongs to that one.
            if experiment != self.name or len(self._outcomes) >= MAX_SESSIONS:
                return
            self._memory.enter(self.name, list(outcome))
            self._read()
            count = len(self._outcomes)
            if self._stop is None or self.verdict != Verdict.CONTINUE or count < self._next_look:
                return
            self._next_look = count + max(CHECK_EVERY, count // 20)
            found = compare_sessions(self._outcomes, self._stop).verdict
            if found != Verdict.CONTINUE:
                self.verdict = found
                name = self.name
                self._memory.keep(_fact(self.rollout), {"name": name, "verdict": str(found)})

    def _take_up(self, rollout: Rollout) -> None:
        with self._lock:
            known = self._memory.fact(_fact(rollout)) or self._memory.revise(
                _fact(rollout), lambda was: was or _fresh()
            )
            self.rollout, self.verdict = rollout, Verdict(known["verdict"])
            if known["name"] != self.name:
                self.name, self._last, self._next_look = known["name"], 0, CHECK_EVERY
                self._outcomes: list[SessionOutcome] = []
                self._read()

    def _read(self) -> None:
        """Outcomes that were entered since the last time, here or elsewhere."""
        for number, data in self._memory.outcomes(self.name, self._last):
            self._last = number
            self._outcomes.append(SessionOutcome(*data))


def _fresh() -> dict[str, str]:
    return {"name": secrets.token_hex(8), "verdict": str(Verdict.CONTINUE)}


def _fact(rollout: Rollout) -> str:
    kind: list[Any] = [rollout.mode, rollout.share, rollout.salt]
    return f"experiment {json.dumps(kind)}"
