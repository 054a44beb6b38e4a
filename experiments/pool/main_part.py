"""The confirmatory turns: policies frozen to a file before the first, then the union of cells."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.results import plain, sha256
from experiments.pool.arms import POOLS, Policies, freeze, name_of, needed_cells, restore
from experiments.pool.features import text_features
from experiments.pool.sessions import CELLS
from experiments.pool.table import Table, text_rows
from experiments.pool.take import Cell, CellsOf
from experiments.pool.tuning import conservative, not_excluded, tune
from stackjax.agents.executor._session import SessionState
from stackjax.agents.log._log import read_log
from stackjax.agents.tasks._research import RESEARCH_TYPES
from stackjax.agents.tasks._tasks import Episode


def freeze_file(log: Path, target: Path, *, seed: int) -> str:
    """Writes the policies that the tuning log gives, unless they are written; their SHA-256.

    Args:
      log: the tuning turns of one model.
      target: a `.json.gz`; one that is there is not written again.
      seed: of the fits.

    Raises:
      ValueError: `target` was made of another log.
    """
    if target.exists():
        made_of = json.loads(gzip.decompress(target.read_bytes()))["log"]
        if made_of != sha256(log):
            raise ValueError(f"`{target.name}` must be of the log {log.name}; got one of another")
        return sha256(target)
    policies = freeze(tune(read_log(log).records, seed=seed), seed=seed)
    text = json.dumps({"log": sha256(log), "policies": plain(policies)}, sort_keys=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text.encode(), mtime=0))
    return sha256(target)


def read_frozen(target: Path) -> Policies:
    """The policies of a file that `freeze_file` wrote."""
    return restore(json.loads(gzip.decompress(target.read_bytes()))["policies"])


def cells_of_arms(policies: Policies) -> CellsOf:
    """For `take_sessions`: the cells that the arms choose at any load, turn by turn."""
    known: dict[str, list[list[int]]] = {}

    def cells_of(episode: Episode, position: int) -> tuple[Sequence[Cell], float, str]:
        if episode.name not in known:
            known.clear()
            known[episode.name] = needed_cells(policies, table_of_session(episode))
        return [CELLS[k] for k in known[episode.name][position]], 1.0, "candidate"

    return cells_of


def table_of_session(episode: Episode) -> Table:
    """What both players know of a session's turns before any is taken; nothing is seen."""
    state, extra, length = SessionState(token_budget=1.0), [], []
    for turn in episode.turns:
        state.hear(turn)
        length.append(state.features(turn)["context_tokens"])
        extra.append(text_features(state.history, turn.question))
        state.update(turn, 0, True, False, turn.reference)
    count = len(episode.turns)
    text, numbers = text_rows(extra)
    blank = np.zeros((count, len(CELLS)))
    return Table(
        seen=blank.astype(bool),
        correct=blank,
        tokens=blank,
        session=np.zeros(count, int),
        names=(episode.name,),
        turn=np.arange(count),
        task=np.array([RESEARCH_TYPES.index(turn.task) for turn in episode.turns]),
        length=np.array(length, float),
        text=text,
        numbers=numbers,
        item=("",) * count,
    )


def protocol_numbers(tuning: Path, names: Sequence[str], *, seed: int) -> str:
    """The protocol's numbers in brackets, as text, from the recorded tuning turns.

    Raises:
      FileNotFoundError: A model has no recorded tuning turns.
    """
    lines = []
    for name in names:
        log = tuning / f"tune-{name}.jsonl.gz"
        if not log.exists():
            raise FileNotFoundError(
                f"no tuning turns of {name} in {tuning}: take them, then --pack"
            )
        tuned = tune(read_log(log).records, seed=seed)
        base = conservative(tuned)
        right, tokens = tuned.value(np.full(len(tuned.table), base))
        others = ", ".join(name_of(k) for k in not_excluded(tuned, base)) or "none"
        pools = ", ".join(f"{pool * tokens:.0f} at load {load}" for load, pool in POOLS.items())
        lines.append(
            f"{name}: Conservative {name_of(base)}, {right:.1%} right, {tokens:.0f} tokens, on "
            f"{len(tuned.table)} turns; other fixed actions: {others}; pool, tokens a turn: {pools}"
        )
    return "\n".join(lines)
