"""The analysis: tests, intervals and tables from the recorded confirmatory turns."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.confirmatory.arms import CONSERVATIVE, MAIN
from experiments.confirmatory.tests import difference, holm, non_inferiority, two_way_bound
from stackjax.agents.log._log import TurnRecord
from stackjax.stats._bootstrap import Interval, clustered_ratio

MARGINS = (0.02, 0.05)
QUESTIONS = {"word_problem": "GSM8K", "documents": "HotpotQA"}
BY_TYPE = "best fixed by task type"

Turns = Sequence[TurnRecord]


def tokens_of(record: TurnRecord) -> int:
    """What a turn used, in tokens."""
    return record.prompt_tokens + record.completion_tokens


def source_of(record: TurnRecord) -> str:
    """Who wrote the question."""
    return QUESTIONS.get(record.family, "own")


def by_arm(records: Turns) -> dict[str, list[TurnRecord]]:
    """Records by arm, each in the order of episodes and turns."""
    found: dict[str, list[TurnRecord]] = {}
    for record in sorted(records, key=lambda r: (r.episode, r.turn)):
        found.setdefault(record.policy, []).append(record)
    return found


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two arms over the same N turns of E episodes.

    Attributes:
      tokens, correct: `[N]`, arm minus baseline. base_tokens: `[N]`.
      episode: `[N]`, numbers of the episodes. item: `[N]`, of the items asked.
    """

    tokens: np.ndarray
    correct: np.ndarray
    base_tokens: np.ndarray
    episode: np.ndarray
    item: np.ndarray


def paired(arm: Turns, base: Turns) -> Paired:
    """Pair two arms by episode and turn; turns that one of them lacks are left out.

    Raises:
      ValueError: no turn is in both.
    """
    other = {(r.episode, r.turn): r for r in base}
    both = [(r, other[r.episode, r.turn]) for r in arm if (r.episode, r.turn) in other]
    if not both:
        raise ValueError("arm and baseline have no turn in common")
    names = {name: number for number, name in enumerate(dict.fromkeys(r.episode for r, _ in both))}
    return Paired(
        np.array([tokens_of(r) - tokens_of(b) for r, b in both], float),
        np.array([float(r.correct) - float(b.correct) for r, b in both]),
        np.array([tokens_of(b) for _, b in both], float),
        np.array([names[r.episode] for r, _ in both]),
        np.unique([r.item for r, _ in both], return_inverse=True)[1],
    )


def welch(arm: Turns, base: Turns) -> dict[str, float]:
    """Welch's tests over turns, unpaired and without clustering, as the paper reports them."""

    def p(of: Callable[[TurnRecord], float]) -> float:
        found = stats.ttest_ind([of(r) for r in arm], [of(r) for r in base], equal_var=False)
        return float(found[1])  # pyright: ignore[reportIndexIssue, reportArgumentType]

    return {"tokens_p": p(tokens_of), "correct_p": p(lambda record: float(record.correct))}


def compare_arms(arm: Turns, base: Turns, *, seed: int) -> dict[str, Any]:
    """Everything about one arm beside a baseline, over their common turns."""
    both = paired(arm, base)
    count = both.episode.max() + 1
    total = lambda values: np.bincount(both.episode, values, count)
    turns = total(np.ones(len(both.episode)))
    return {
        "turns": len(both.tokens),
        "episodes": int(count),
        "tokens": difference(both.tokens, both.episode),
        "correct": difference(both.correct, both.episode),
        "non_inferiority": [non_inferiority(both.correct, both.episode, m) for m in MARGINS],
        "low_95_two_way": two_way_bound(both.correct, both.episode, both.item),
        "saving": clustered_ratio(-total(both.tokens), total(both.base_tokens), seed=seed),
        "tokens_bootstrap": clustered_ratio(total(both.tokens), turns, seed=seed),
        "correct_bootstrap": clustered_ratio(total(both.correct), turns, seed=seed),
        "discordant": float((both.correct != 0).mean()),
    }


def describe(records: Turns, latency: Mapping[tuple, float], *, seed: int) -> dict[str, Any]:
    """One arm on its own: means, efficiency, latency, tools, fallbacks, by type and source."""
    episode = np.unique([r.episode for r in records], return_inverse=True)[1]
    total = lambda values: np.bincount(episode, np.asarray(values, float), episode.max() + 1)
    tokens, right = total([tokens_of(r) for r in records]), total([r.correct for r in records])
    turns = total(np.ones(len(records)))
    seconds = [latency[key] for r in records if (key := outcome_key(r)) in latency]
    scaled = lambda x, factor: Interval(*(factor * number for number in x))
    part = lambda rows: {"turns": len(rows), **means(rows)}
    groups = lambda of: {
        name: part([r for r in records if of(r) == name]) for name in sorted(set(map(of, records)))
    }
    return {
        "turns": len(records),
        "episodes": len(turns),
        "tokens": clustered_ratio(tokens, turns, seed=seed),
        "correct": clustered_ratio(right, turns, seed=seed),
        "correct_per_1000_tokens": scaled(clustered_ratio(right, tokens, seed=seed), 1000.0),
        "latency_median": float(np.median(seconds)) if seconds else None,
        "latency_p95": float(np.quantile(seconds, 0.95)) if seconds else None,
        "latency_turns": len(seconds),
        "tool_calls": float(np.mean([r.tool_calls for r in records])),
        "fallbacks": dict(collections.Counter(r.fallback for r in records if r.fallback)),
        "replayed": int(sum(r.replayed for r in records)),
        "action": np.mean([r.executed for r in records], axis=0).tolist(),
        "by_task": groups(lambda record: record.task),
        "by_source": groups(source_of),
    }


def outcome_key(record: TurnRecord) -> tuple:
    """What two records share that come from the same requests."""
    return (
        record.episode,
        record.turn,
        record.prompt_tokens,
        record.completion_tokens,
        record.answer,
    )


def latencies(records: Turns) -> dict[tuple, float]:
    """Seconds of each outcome when it was taken, the longest where a part came from the cache.

    Replayed turns have none of their own. Arms take a session in turn, the first one with nothing
    computed beforehand, on a server that others use too: seconds say little.
    """
    found: dict[tuple, float] = {}
    for record in records:
        if not record.replayed:
            key = outcome_key(record)
            found[key] = max(found.get(key, 0.0), record.latency)
    return found


def primary(arms: Mapping[str, Turns], *, seed: int) -> dict[str, Any]:
    """The primary comparison, together and by who wrote the questions."""
    arms = shared_turns({arm: arms[arm] for arm in (MAIN, CONSERVATIVE)})
    found: dict[str, Any] = {}
    for name, keep in (
        ("all", lambda r: True),
        ("own", lambda r: source_of(r) == "own"),
        ("others'", lambda r: source_of(r) != "own"),
        ("GSM8K", lambda r: source_of(r) == "GSM8K"),
        ("HotpotQA", lambda r: source_of(r) == "HotpotQA"),
    ):
        main, base = ([r for r in arms[arm] if keep(r)] for arm in (MAIN, CONSERVATIVE))
        if len({r.episode for r in main}) < 2:
            continue
        beside = compare_arms(main, base, seed=seed)
        found[name] = {
            **beside,
            "welch": welch(main, base),
            "main": means(main),
            "conservative": means(base),
            "saves_without_loss": beside["non_inferiority"][0]["low_95"] > -MARGINS[0]
            and beside["tokens"]["high"] < 0.0,
        }
    return found


def means(records: Turns) -> dict[str, float]:
    """Tokens a turn and share of right answers."""
    return {
        "tokens": float(np.mean([tokens_of(r) for r in records])),
        "correct": float(np.mean([r.correct for r in records])),
    }


def shared_turns(arms: Mapping[str, Turns]) -> dict[str, list[TurnRecord]]:
    """Every arm's records of the turns that all arms took."""
    shared = set.intersection(*({(r.episode, r.turn) for r in rows} for rows in arms.values()))
    return {name: [r for r in mine if (r.episode, r.turn) in shared] for name, mine in arms.items()}


def secondary(arms: Mapping[str, Turns], *, seed: int) -> dict[str, Any]:
    """Every arm against Conservative, and the controller against the best fixed actions by type."""
    rows = shared_turns(arms)
    turns = next(iter(rows.values()))
    found = {
        f"{name} against {base}": compare_arms(rows[name], rows[base], seed=seed)
        for name, base in [
            *((name, CONSERVATIVE) for name in rows if name != CONSERVATIVE),
            *([(MAIN, BY_TYPE)] if BY_TYPE in rows else []),
        ]
    }
    p = {}
    for name, result in found.items():
        p[f"tokens: {name}"] = result["tokens"]["p"]
        p[f"correct: {name}"] = result["non_inferiority"][0]["p"]
    adjusted = holm(p)
    for name, result in found.items():
        result["holm"] = {
            "tokens": adjusted[f"tokens: {name}"],
            "correct": adjusted[f"correct: {name}"],
        }
    every = latencies([r for mine in arms.values() for r in mine])
    return {
        "turns": len(turns),
        "episodes": len({r.episode for r in turns}),
        "arms": {name: describe(mine, every, seed=seed) for name, mine in rows.items()},
        "against": found,
        "shares": shares(rows),
    }


def shares(rows: Mapping[str, Turns]) -> dict[str, float]:
    """Where the saving of the controller comes from, in tokens a turn, step by step."""
    spent = {name: means(mine)["tokens"] for name, mine in rows.items()}
    steps = (CONSERVATIVE, "constant inside the set", f"{MAIN}, constant signal", MAIN)
    names = ("the set alone", "dependence on the context, at a constant signal", "the signals")
    return {
        name: spent[before] - spent[after]
        for name, before, after in zip(names, steps, steps[1:])
        if before in spent and after in spent
    }


def off_policy_truth(before: Mapping[str, Any], arms: Mapping[str, Turns]) -> dict[str, Any]:
    """Estimates made from tuning turns before the run, beside what then came, on our own sessions.

    Args:
      before: `off_policy` of the file written before the turns were taken.
      arms: the shared turns of every arm.
    """
    found: dict[str, Any] = {"arms": {}}
    for name, rows in arms.items():
        own = [r for r in rows if source_of(r) == "own"]
        if name not in before or not own:
            continue
        found["arms"][name] = {
            target: {"truth": truth, **before[name][target]} for target, truth in means(own).items()
        }
    for target in ("tokens", "correct"):
        rows = [arm[target] for arm in found["arms"].values()]
        if rows:
            known = [row for row in rows if row["doubly_robust"]["low"] is not None]
            inside = [
                row["doubly_robust"]["low"] <= row["truth"] <= row["doubly_robust"]["high"]
                for row in known
            ]
            miss = lambda of, rows=rows: float(np.mean([abs(of(r) - r["truth"]) for r in rows]))
            found[target] = {
                "interval_holds_truth": float(np.mean(inside)) if inside else None,
                "doubly_robust_error": miss(lambda row: row["doubly_robust"]["estimate"]),
                "model_error": miss(lambda row: row["model"]),
                "self_normalised_error": miss(lambda row: row["self_normalised"]["estimate"]),
            }
    return found
