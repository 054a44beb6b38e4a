"""The turn log: what is written comes back, and a kill loses nothing that was complete."""

import dataclasses
import gzip
import json

import pytest

from stackjax.agents.log._log import TurnLog, TurnRecord, read_log, turn_key


def record(turn: int = 0, **changes) -> TurnRecord:
    base = TurnRecord(
        episode="e1",
        turn=turn,
        task="simple_qa",
        family="recall",
        item="abc",
        policy="random",
        design="random",
        state={"task_complexity": 0.4, "context_tokens": 12},
        signal=None,
        intended=(0.2, 0.4, 1.0),
        executed=(0.0, 0.5, 1.0),
        propensity=1 / 27,
        prompt_tokens=30,
        completion_tokens=4,
        latency=0.5,
        tool_calls=1,
        answer='Zoë said:\n"yes"\u2028',
        gold="yes",
        correct=True,
        fallback=None,
        replayed=False,
        model="m",
        adapter="1",
        seed=0,
        time="2026-01-01T00:00:00+00:00",
    )
    return dataclasses.replace(base, **changes)


def write(path, count: int) -> None:
    with TurnLog(path) as log:
        for turn in range(count):
            log.append(record(turn))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"signal": (0.7, 0.25), "propensity": None, "fallback": "timeout"},
        {"extra": {"note": [1, {"a": None}]}},
    ],
)
def test_a_record_comes_back_as_it_was(tmp_path, changes):
    path = tmp_path / "turns.jsonl"
    with TurnLog(path) as log:
        log.append(record(**changes))
        assert read_log(path).records == [record(**changes)], "on the disk before close"
    assert path.read_bytes().count(b"\n") == 1


def test_unknown_keys_are_kept(tmp_path):
    path = tmp_path / "turns.jsonl"
    data = json.loads(record().to_json()) | {"future": 1}
    path.write_text(json.dumps(data) + "\n")
    (read,) = read_log(path).records
    assert read.extra == {"future": 1}
    assert json.loads(read.to_json())["future"] == 1


def test_compressed_logs_are_read(tmp_path):
    write(tmp_path / "turns.jsonl", 3)
    packed = tmp_path / "turns.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "turns.jsonl").read_bytes()))
    assert read_log(packed) == read_log(tmp_path / "turns.jsonl")
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(ValueError, match="must be a complete gzip file"):
        read_log(packed)


def test_every_possible_torn_end_is_repaired(tmp_path):
    path = tmp_path / "turns.jsonl"
    write(path, 3)
    whole = path.read_bytes()
    last = whole[: whole[:-1].rindex(b"\n") + 1]
    for cut in range(len(last) + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        contents = read_log(path)
        assert len(contents.records) == 2
        assert contents.torn is not None and f"line 3, byte {len(last)}" in contents.torn
        if cut % 25 and cut != len(whole) - 2:
            continue
        with pytest.warns(UserWarning, match=f"line 3, byte {len(last)}"), TurnLog(path) as log:
            assert [r.turn for r in log.records] == [0, 1]
            assert log.done == {record(0).key, record(1).key}
            log.append(record(2))
        assert path.read_bytes() == whole


def test_a_complete_last_record_without_newline_is_kept_and_sealed(tmp_path):
    path = tmp_path / "turns.jsonl"
    write(path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_log(path).torn is None
    with TurnLog(path) as log:
        assert len(log.records) == 2
        log.append(record(2))
    assert [r.turn for r in read_log(path).records] == [0, 1, 2]


@pytest.mark.parametrize("bad", [b"{broken\n", b"[1, 2]\n", b'{"episode": "e"}\n', b"\xff\xfe\n"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_bad_complete_line_is_an_error_that_names_it(tmp_path, bad, position):
    path = tmp_path / "turns.jsonl"
    write(path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(position, bad)
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    for reader in (read_log, TurnLog):
        with pytest.raises(ValueError, match=rf"turns\.jsonl, line {position + 1}"):
            reader(path)
    assert path.read_bytes() == before


def test_fields_of_a_wrong_kind_are_refused():
    data = json.loads(record().to_json())
    with pytest.raises(ValueError, match="`executed` must be a list"):
        TurnRecord.from_json(json.dumps(data | {"executed": 1}))
    with pytest.raises(ValueError):
        record(latency=float("nan")).to_json()


def test_keys_tell_turns_apart_and_forgive_rounding():
    keys = {
        turn_key(e, t, p, a)
        for e in ("a", "b")
        for t in (0, 1)
        for p in ("x", "y")
        for a in ((0.0, 0.5, 1.0), (0.5, 0.5, 1.0))
    }
    assert len(keys) == 16
    assert turn_key("a", 0, "x", (0.1 + 0.2, 0, 0)) == turn_key("a", 0, "x", (0.3, 0, 0))


def test_an_empty_or_missing_file(tmp_path):
    with TurnLog(tmp_path / "new" / "turns.jsonl") as log:
        assert log.records == [] and log.done == set()
    assert read_log(tmp_path / "new" / "turns.jsonl").records == []
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path / "absent.jsonl")
