"""All arms of the protocol, frozen from the tuning turns: cells of any turns at any load."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any

import numpy as np

from experiments.common.results import plain
from experiments.pool.choose import COST, best_cell, capped_cell, least_price
from experiments.pool.demand import LEADER_STEPS, learn_leader, signals
from experiments.pool.predictors import Encoder, Predictor, concave
from experiments.pool.sessions import CELLS
from experiments.pool.table import CHEAPEST, Table
from experiments.pool.tuning import Tuning, action_sets, conservative, not_excluded

LOADS = (2, 4, 8, 14)
SHARE_AT_8 = 0.65
POOLS = {load: min(1.0, SHARE_AT_8 * 8 / load) for load in LOADS}
"""Tokens a turn by load, in units of Conservative's mean tokens."""
MAIN, DIRECT, CONSTANT, CONSERVATIVE = "main", "direct", "constant price", "conservative"
RULE, CAP, PLANNER, GRID = "rule", "cap", "planner", "best signal by load"
PRICES = np.concatenate([[0.0], np.geomspace(0.01, COST, 31)])
FLOORS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
MOST_PRICE = 20.0


@dataclasses.dataclass(frozen=True)
class Policies:
    """Everything that the arms need, fitted on tuning turns only.

    Attributes:
      executor, leader: predictors.
      policy: the learned leader's arrays.
      base: Conservative's cell. base_tokens: its mean tokens `T_bar`. base_right: its correctness.
      fixed: cells of the other fixed arms.
      prices: of executor (rule and planner), direct control and the concave ablation, by load.
      caps: tokens a turn by load, in units of `T_bar`.
      stretch: by load, what main's price is multiplied by, so that tuning's tokens are the pool's.
      constant: (q, price) of the best constant signal. by_load: the same for each load.
      allowed: `[5, K]` bool, the action sets.
      learned: what the leader's fits reported.
    """

    executor: Predictor
    leader: Predictor
    policy: dict[str, np.ndarray]
    base: int
    base_tokens: float
    base_right: float
    fixed: tuple[int, ...]
    prices: dict[str, dict[int, float]]
    caps: dict[int, float]
    stretch: dict[int, float]
    constant: tuple[float, float]
    by_load: dict[int, tuple[float, float]]
    allowed: np.ndarray
    learned: dict[str, Any]

    def choose(self, table: Table, load: int) -> dict[str, np.ndarray]:
        """The cells `[T]` of every arm on these turns at one load."""
        quality, tokens = self.executor(table)
        tokens = tokens / self.base_tokens
        own, cost = self.leader(table)
        cost = cost / self.base_tokens
        act = functools.partial(best_cell, quality, tokens)
        floor, price = self.signal(table, load)
        level, common = self.constant
        whole = lambda k: np.full(len(table), k)
        main, direct = act(price, floor), best_cell(own, cost, self.prices[DIRECT][load])
        found = {
            CONSERVATIVE: whole(self.base),
            MAIN: main,
            DIRECT: direct,
            CONSTANT: act(common, level),
            GRID: act(self.by_load[load][1], self.by_load[load][0]),
            RULE: act(self.prices[RULE][load]),
            CAP: capped_cell(quality, tokens, self.caps[load]),
            "no price": act(0.0),
            "q only": act(common, floor),
            "alpha only": act(price, level),
            PLANNER: act(self.prices[RULE][load]),
            "main, repaired": self.repaired(table, main),
            "direct, repaired": self.repaired(table, direct),
            "planner, concave": best_cell(concave(quality), tokens, self.prices["concave"][load]),
        }
        return found | {f"fixed {name_of(k)}": whole(k) for k in self.fixed}

    def signal(self, table: Table, load: int) -> tuple[np.ndarray, np.ndarray]:
        """Main's floor and price `[T]` on these turns."""
        given = signals(self.policy, table, load)
        return given[:, 0], np.minimum(self.stretch[load] * COST * (1 - given[:, 1]), COST)

    def repaired(self, table: Table, cells: np.ndarray) -> np.ndarray:
        """The nearest allowed cells, by Euclidean distance in (c, p, u)."""
        grid = np.array(CELLS)
        far = np.linalg.norm(grid[cells][:, None] - grid[None], axis=2)
        return np.where(self.allowed[table.task], far, np.inf).argmin(1)

    def digest(self) -> str:
        """SHA-256 of all numbers."""
        return hashlib.sha256(json.dumps(plain(self), sort_keys=True).encode()).hexdigest()


def name_of(k: int) -> str:
    """A cell as text."""
    c, p, u = CELLS[k]
    return f"({c:g}, {p:g}, {u:g})"


def freeze(tuning: Tuning, *, seed: int, steps: int = LEADER_STEPS) -> Policies:
    """Sets every arm's numbers on the tuning turns.

    Args:
      tuning: the tuning turns.
      seed: of the leader's fits.
      steps: of the leader's fit.
    """
    table, base = tuning.table, conservative(tuning)
    right, base_tokens = tuning.value(np.full(len(table), base))
    quality, tokens = tuning.quality, tuning.tokens / base_tokens
    own = tuning.leader_quality, tuning.leader_tokens / base_tokens
    used = lambda cells: tuning.value(cells)[1] / base_tokens
    priced = lambda q, t: {
        load: least_price(lambda p: used(best_cell(q, t, p)), pool, MOST_PRICE)
        for load, pool in POOLS.items()
    }
    caps = {
        load: MOST_PRICE
        - least_price(
            lambda p: used(capped_cell(quality, tokens, MOST_PRICE - p)), pool, MOST_PRICE
        )
        for load, pool in POOLS.items()
    }
    policy, learned = learn_leader(tuning, base_tokens, POOLS, seed=seed, steps=steps)
    stretch = {}
    for load, pool in POOLS.items():
        floor, price = signals(policy, table, load).T * [[1], [-COST]] + [[0], [COST]]
        spent = lambda s, p=price, q=floor: used(
            best_cell(quality, tokens, np.minimum(s * p, COST), q)
        )
        stretch[load] = least_price(spent, pool, 1e3)
    grid = [(q, float(p)) for q in FLOORS for p in PRICES]
    values = [tuning.value(best_cell(quality, tokens, p, q)) for q, p in grid]
    worth = np.array(values)
    spent_share = worth[:, 1] / base_tokens
    rest = tuning.value(np.full(len(table), CHEAPEST))[0]
    answered = np.minimum(1.0, np.array(list(POOLS.values()))[:, None] / spent_share)
    within = (answered * worth[:, 0] + (1 - answered) * rest).mean(0)
    by_load = {}
    for load, pool in POOLS.items():
        inside = spent_share <= max(pool, spent_share.min())
        by_load[load] = grid[int(np.where(inside, worth[:, 0], -np.inf).argmax())]
    return Policies(
        executor=tuning.executor,
        leader=tuning.leader,
        policy=policy,
        base=base,
        base_tokens=base_tokens,
        base_right=right,
        fixed=tuple(not_excluded(tuning, base)),
        prices={
            RULE: priced(quality, tokens),
            DIRECT: priced(*own),
            "concave": priced(concave(quality), tokens),
        },
        caps=caps,
        stretch=stretch,
        constant=grid[int(within.argmax())],
        by_load=by_load,
        allowed=action_sets(tuning, base),
        learned=learned,
    )


def restore(stored: dict[str, Any]) -> Policies:
    """Policies from what `plain` made of them."""
    array = lambda value: np.array(value)
    numbers = lambda table: {int(load): value for load, value in table.items()}

    def predictor(given: dict[str, Any]) -> Predictor:
        parts = given["encoder"]
        grams = array(parts["grams"]).astype(int)
        scaled = (array(parts[name]) for name in ("centre", "scale", "knots"))
        encoder = Encoder(parts["text"], grams, *scaled)
        return Predictor(encoder, array(given["right"]), array(given["used"]),
                         tuple(given["penalty"]))  # fmt: skip

    return Policies(
        executor=predictor(stored["executor"]),
        leader=predictor(stored["leader"]),
        policy={name: array(value) for name, value in stored["policy"].items()},
        base=stored["base"],
        base_tokens=stored["base_tokens"],
        base_right=stored["base_right"],
        fixed=tuple(stored["fixed"]),
        prices={name: numbers(prices) for name, prices in stored["prices"].items()},
        caps=numbers(stored["caps"]),
        stretch=numbers(stored["stretch"]),
        constant=tuple(stored["constant"]),
        by_load={load: tuple(pair) for load, pair in numbers(stored["by_load"]).items()},
        allowed=array(stored["allowed"]),
        learned=stored["learned"],
    )


def needed_cells(policies: Policies, table: Table) -> list[list[int]]:
    """For each turn the cells that some arm chooses at some load, in the order of `CELLS`."""
    chosen = [cells for load in LOADS for cells in policies.choose(table, load).values()]
    return [sorted(set(row)) for row in np.stack([*chosen, *_cheapest(table)], 1).tolist()]


def _cheapest(table: Table) -> list[np.ndarray]:
    return [np.full(len(table), CHEAPEST)]  # what is played once the pool is empty
