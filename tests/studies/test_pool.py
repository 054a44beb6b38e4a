"""Go or no-go of the pool's pilot, on logs whose truth is known."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.common.results import plain
from experiments.pool import __main__ as pool
from experiments.pool.pilot import Pilot, conservative, gain, judge, need_entropy, needed
from experiments.pool.power import at_budget, power, turns_needed
from experiments.pool.sessions import CELLS
from stackjax.agents.log import TurnRecord, read_log
from stackjax.agents.tasks import RESEARCH_TYPES

NEEDS = (0, 1, 4, 5)  # cells: no context, top-1; without and with tools


def records(sessions=12, in_text=True, failed=()):
    """Turns that one of four cells, or a costlier one, answers; n-grams say which, if `in_text`."""
    rng = np.random.default_rng(0)
    made = []
    for session in range(sessions):
        for turn in range(8):
            need, kind = rng.integers(4), RESEARCH_TYPES[rng.integers(5)]
            cell_needed = CELLS[NEEDS[need]]
            for k, cell in enumerate(CELLS):
                right = all(a >= b for a, b in zip(cell, cell_needed, strict=True))
                made.append(
                    TurnRecord(
                        f"r0-e{session:05d}", turn, kind, "f", "0" * 12, f"cell-{k}", "factorial",
                        {"task_complexity": 0.5, "context_tokens": 100 + turn, "turn_index": turn},
                        None, cell, cell, 1.0, 100 + 100 * k, 3, 0.1, 0, "right", "",
                        bool(right) and (session, turn) not in failed, None, False, "known", "3",
                        0, "2026-01-01T00:00:00+00:00",
                        {"ngrams": [int(need) if in_text else 0], "relevance": [0.0] * 5,
                         "digits": 0, "words": 3},
                    )
                )  # fmt: skip
    return made


def test_information_that_only_the_executor_has_is_found():
    found = gain(Pilot(records()), seed=0)
    assert found["executor"] > 0.8 and found["leader"] < 0.5 and found["gain"] > 0.4
    assert found["interval"][0] > 0.3
    nothing = gain(Pilot(records(in_text=False)), seed=0)
    assert abs(nothing["gain"]) < 0.03


def test_the_needed_cell_is_the_cheapest_right_one():
    pilot = Pilot(records(failed={(0, 0)}))
    need = needed(pilot)
    assert need[0] == -1
    assert {CELLS[NEEDS[i]] for i in range(4)} == {pilot.cells[k] for k in set(need[1:])}
    bits = need_entropy(pilot, 0)
    assert bits["answered_by_some_cell"] == pytest.approx(95 / 96)
    assert 1.6 < bits["given_bins"] <= bits["given_type"] <= bits["marginal"] <= 2.0
    assert bits["cross_entropy"] > bits["given_type"]
    assert bits["given_type"] - bits["given_state"] < 0.15, "length and turn say nothing"


def test_conservative_is_the_cheapest_of_the_best():
    pilot = Pilot(records())
    assert pilot.cells[conservative(pilot)] == CELLS[5]
    result = judge(records(), seed=0)
    assert result["criteria"] == {"information": True, "entropy": True, "conservative": False}
    assert not result["go"], "a fixed cell that is always right leaves nothing to lose"
    lost = {(s, t) for s in range(12) for t in (0, 1)}
    assert judge(records(failed=lost), seed=0)["go"]


def test_budgets_are_kept_and_private_information_pays():
    pilot = Pilot(records(sessions=15))
    for row in power(pilot, seed=0):
        assert all(used <= row["share"] + 1e-9 for used in row["tokens"].values())
        assert row["difference"] > 0 or row["share"] > 0.8
    free = at_budget(pilot.correct, pilot.tokens, pilot.tokens, 1e9)
    assert pilot.correct[np.arange(len(pilot)), free].all()
    assert turns_needed(0.1, 0.03) == 952


def test_unfinished_turns_are_left_out_and_counted():
    made = records(sessions=3)[:-1]
    assert (len(Pilot(made)), Pilot(made).incomplete) == (23, 1)
    with pytest.raises(ValueError, match="`records` must have a turn under all cells; got none"):
        Pilot([made[0], dataclasses.replace(made[1], turn=1)])
    with pytest.raises(ValueError, match="`session` must have 3 sessions; got 2"):
        judge(records(sessions=2), seed=0)


def test_a_log_is_packed_and_judged(tmp_path, capsys):
    (tmp_path / "pilot-smollm2.jsonl").write_text(
        "".join(record.to_json() + "\n" for record in records(sessions=4)) + '{"torn'
    )
    (tmp_path / "environment-pilot-smollm2.json").write_text("[]")
    data = tmp_path / "data"
    pool.pack(tmp_path, data)
    pool.analyse_pilot(0, data, tmp_path)
    text = capsys.readouterr().out
    assert "smollm2: 32 turns of 4 sessions" in text and "smollm2: no-go" in text
    written = json.loads((tmp_path / "pool_pilot.json").read_text())
    assert written["executors"]["smollm2"]["conservative"]["cell"] == [0.25, 0.0, 0.5]
    with pytest.raises(FileNotFoundError, match="no pilot in"):
        pool.analyse_pilot(0, tmp_path / "nothing", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--take"], "`take` must be given with `pilot`, `tune` or `main`; got []"),
        (["--pilot", "--pack"], "must not be combined; got ['pilot', 'pack']"),
        (["--tune"], "`tune` must come with `take`"),
        (["--pilot", "--take"], "`hotpotqa` must be given with `take`"),
        (["--pilot", "--executor", "x"], "`executor` must be one of smollm2, qwen; got 'x'"),
    ],
)
def test_wrong_options_end_with_one_line(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        pool.main(options)
    assert stop.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("name", pool.EXECUTORS)
def test_the_recorded_pilot_gives_the_stored_result(name):
    records = read_log(pool.DATA / f"pilot-{name}.jsonl.gz").records
    stored = json.loads((pool.RESULTS / "pool_pilot.json").read_text())["executors"][name]
    found = plain(judge(records, seed=0))
    assert (found["go"], found["turns"], found["criteria"]) == (True, 89, stored["criteria"])
    assert found["r_squared"]["gain"] == pytest.approx(stored["r_squared"]["gain"], abs=1e-6)
    assert found["cells"] == stored["cells"]
    assert {record.gold for record in records} == {""}
    assert {record.answer for record in records} <= {"right", "wrong", "open call", ""}
