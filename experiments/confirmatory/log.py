"""The confirmatory log: what of it counts, what a run must not change, packing."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from stackjax.agents.log._log import TurnRecord, latest, read_log
from stackjax.agents.tasks._tasks import Episode


def final_records(records: Sequence[TurnRecord]) -> list[TurnRecord]:
    """One record for each arm and turn.

    A turn that an outage lost is taken again by a resumed run, and the arm, whose state is then
    another, may answer the turns after it otherwise: the last record counts.

    Raises:
      ValueError: an arm took a turn twice in an episode without an outage.
    """
    lost = {(r.policy, r.episode) for r in records if not r.answered}
    found: dict[tuple[str, str, int], TurnRecord] = {}
    for record in latest(records):
        name = record.policy, record.episode, record.turn
        if name in found and name[:2] not in lost:
            raise ValueError(f"records: arm {name[0]!r} took turn {name[2]} of {name[1]} twice")
        found[name] = record
    return list(found.values())


def finished(
    records: Sequence[TurnRecord], arms: Iterable[str], order: Sequence[tuple[str, int]]
) -> list[TurnRecord]:
    """The arms' records of the sessions, in the order of the run, before the first unfinished one.

    Args:
      records: one for each arm and turn.
      arms: a session is finished when all of these have taken all of its turns.
      order: the sessions of the run, names and numbers of turns.
    """
    taken: dict[tuple[str, str], int] = {}
    for record in records:
        taken[record.policy, record.episode] = taken.get((record.policy, record.episode), 0) + 1
    arms, whole = set(arms), set()
    for name, turns in order:
        if any(taken.get((arm, name), 0) < turns for arm in arms):
            break
        whole.add(name)
    return [record for record in records if record.policy in arms and record.episode in whole]


def digest(tree: Any) -> str:
    """SHA-256 of all numbers of a fitted object."""
    made = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        made.update(np.asarray(leaf).tobytes())
    return made.hexdigest()


def hold(path: Path, signature: Mapping[str, Any]) -> None:
    """Write what a run rests on, or compare it with what an earlier start wrote.

    Raises:
      ValueError: something has changed since; names it.
    """
    if not path.exists():
        path.write_text(json.dumps(signature, indent=1) + "\n")
        return
    before, now = json.loads(path.read_text()), json.loads(json.dumps(signature))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise ValueError(
            f"out: {path.parent} holds a run with other {', '.join(changed)}; choose another folder"
        )


def pack(folder: Path, executor: str, data: Path, ending: str) -> Path:
    """Put a run's logs together as the recorded turns; HotpotQA's answers are left out.

    Raises:
      FileNotFoundError: there is no log of this model.
    """
    logs = sorted(folder.glob(f"main-{executor}-*.jsonl"))
    if not logs:
        raise FileNotFoundError(f"out: {folder} holds no log of {executor}")
    lines = []
    for log in logs:
        for record in read_log(log).records:
            row = json.loads(record.to_json())
            if row["family"] == "documents":
                row["gold"] = ""
            lines.append(json.dumps(row, ensure_ascii=False))
    for source, name in (("run", "main-run"), ("environment", "environment-main")):
        shutil.copy(folder / f"{source}-{executor}.json", data / f"{name}{ending}.json")
    target = data / f"main{ending}.jsonl.gz"
    with gzip.GzipFile(target, "wb", mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())
    return target


def order_of(sessions: Sequence[Episode]) -> list[tuple[str, int]]:
    """Names and numbers of turns, as `finished` takes them."""
    return [(session.name, len(session.turns)) for session in sessions]
