"""Token budgets of sessions and of pools: what was spent, and whether there is anything left."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from stackjax.runtime.governor._limits import Limits
from stackjax.runtime.governor._memory import KEPT, Memory


class Balance(NamedTuple):
    """What is left of the budgets of a session and its pool.

    Attributes:
      left: The smaller share, 1 without a budget; negative when overspent.
      spent: Whose budget is spent, with the numbers; None while there is something left.
    """

    left: float
    spent: str | None


class Budgets:
    """The books of all budgets, in a governor's memory.

    A session's budget is for all its turns, also those before a pause; a pool's is for a window.
    """

    def __init__(
        self, memory: Memory, limits: Limits, clock: Callable[[], float] = time.time
    ) -> None:
        self._memory, self._limits, self._clock = memory, limits, clock
        if memory.persistent:
            memory.forget(clock() - max(KEPT, 2 * limits.pool_window))

    def balance(self, session: str, pool: str) -> Balance:
        """What is left for a session of a pool, both by their keyed hashes."""
        limits, left, spent = self._limits, 1.0, None
        if limits.token_budget is not None:
            used = self._memory.spent(session, 0.0)
            left = 1.0 - used / limits.token_budget
            if left <= limits.budget_floor:
                spent = f"session: {used:,.0f} of {limits.token_budget:,.0f} tokens are used"
        if limits.pool_budget is not None:
            began = self._window()
            used = self._memory.spent(f"pool {pool}", began)
            share = 1.0 - used / limits.pool_budget
            if share <= limits.budget_floor and spent is None:
                end = datetime.fromtimestamp(began + limits.pool_window, UTC)
                spent = f"pool: {used:,.0f} of {limits.pool_budget:,.0f} tokens are used, until "
                spent += end.isoformat(timespec="seconds")
            left = min(left, share)
        return Balance(left, spent)

    def spend(self, session: str, pool: str, tokens: int) -> None:
        """Books what a model call used."""
        now = self._clock()
        if self._limits.token_budget is not None:
            self._memory.spend(session, 0.0, tokens, now)
        if self._limits.pool_budget is not None:
            self._memory.spend(f"pool {pool}", self._window(), tokens, now)

    def _window(self) -> float:
        """When the running window began."""
        return self._clock() // self._limits.pool_window * self._limits.pool_window
