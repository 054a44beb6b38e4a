import dataclasses
import gzip
import json
import re

import numpy as np
import pytest
from recording_upstream import StubPolicy
from synthetic_turns import synthetic_log

from stackjax.runtime import Governor, Limits, Rollout, Usage
from stackjax.runtime.report._summary import read_runtime, summarise
from stackjax.runtime.report_log import main

TURN = {"task": "simple_qa", "task_complexity": 0.4, "context_tokens": 50}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Shadow, then an A/B of 200 sessions in which governing saves tokens, then on."""
    path = tmp_path_factory.mktemp("report") / "runtime.jsonl"
    rng = np.random.default_rng(0)
    policy = StubPolicy(token_spread=50.0, quality_spread=50.0)
    with Governor(policy, limits=Limits(deadline=5.0), stop=None, log=path) as governor:
        for mode, sessions in (("shadow", 20), ("ab", 200), ("on", 10)):
            governor.set_rollout(Rollout(mode))
            for number in range(sessions):
                told = {"identifier": f"{mode}-{number}", **TURN}
                for _ in range(2):
                    made = governor.judge(governor_metadata(told))
                    base = 30 if made.response is not None else 90
                    tokens = int(base * rng.uniform(0.8, 1.2))
                    failure = "http_503" if number == 7 else None
                    governor.observe(made, Usage(tokens, 10, quality=1.0, failure=failure))
            governor.observer.flush()
    return path


def governor_metadata(told):
    from stackjax.runtime import SessionMetadata

    return SessionMetadata(**told)


def test_the_summary_is_what_was_done(log):
    shadow, ab, on = summarise(read_runtime([log])[0])
    assert (shadow.turns, shadow.sessions, shadow.arms) == (40, 20, {"untouched": 40})
    assert shadow.bounds is not None and shadow.bounds.turns == 38
    assert shadow.bounds.agreement == 0.0 and shadow.bounds.predicted_saving == 0.6
    assert (shadow.bounds.quality_low, shadow.bounds.quality_high) == (0.0, 1.0)
    assert shadow.fallbacks == {"http_503": 2} and shadow.comparison is None
    assert ab.comparison is not None and sum(ab.comparison.sessions) == 200
    estimate, low, high = ab.comparison.tokens.last
    assert low < estimate < high < 0 and estimate == pytest.approx(-60, abs=5)
    assert ab.comparison.quality.last[0] == pytest.approx(0.0, abs=0.05)
    assert ab.off_policy is not None
    found = ab.off_policy["all governed"]["tokens"]
    assert found.low < 40 < found.high and found.sessions == 199, "one had no answer"
    lost = Rollout("ab").assign("ab-7").arm == "governed"
    assert found.effective == ab.comparison.sessions[0] - lost
    assert ab.tokens["governed"] == pytest.approx(40, abs=2)
    assert ab.saving is not None and ab.saving.low < 0.6 < ab.saving.high
    assert ab.saving.estimate == pytest.approx(0.6, abs=0.05) and ab.saving.low > 0.4
    assert on.saving is None and shadow.saving is None, "there is nothing to compare them with"
    assert on.estimate is not None and on.estimate.estimate == pytest.approx(0.6)


def test_what_is_no_answer_is_not_averaged_and_a_packed_log_keeps_its_shadow(log, tmp_path):
    records, shadow = read_runtime([log])
    last = [r for r in records if r.extra["rollout"] == "on"][-1]
    gone = dataclasses.replace(last, turn=99, prompt_tokens=0, completion_tokens=1)
    gone = dataclasses.replace(gone, fallback="disconnected")
    assert summarise([*records, gone])[2].tokens == summarise(records)[2].tokens
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(log.read_bytes()))
    (tmp_path / "r.shadow.jsonl").write_bytes(log.with_suffix(".shadow.jsonl").read_bytes())
    assert shadow is not None and read_runtime([tmp_path / "r.jsonl.gz"])[1] == shadow


def test_the_command_prints_and_writes_one_page(log, tmp_path, capsys):
    assert main([str(log), "--out", str(tmp_path / "r")]) == 0
    printed = capsys.readouterr().out
    for words in (
        "roll-out ab:0.5", "valid at any time", "effective sessions", "tokens saved, measured",
        "a model's estimate", "not measured",
        "bounds without assumptions", "http_503 2", "shadow records, cells of at least 10",
    ):  # fmt: skip
        assert words in printed
    names = sorted(p.name for p in (tmp_path / "r").iterdir())
    assert names == ["comparison-ab-0-5.png", "fallbacks.png", "report.html"]
    page = (tmp_path / "r" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', page), "the page needs no other file"
    assert "<script" not in page


def test_what_a_log_says_cannot_inject(log, tmp_path, capsys):
    lines = log.read_text().splitlines()
    row = json.loads(lines[-1])
    row |= {"rollout": "<script>alert(1)</script>", "fallback": "<b>x</b>", "episode": "e"}
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines, json.dumps(row)]) + "\n")
    assert main([str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "r")]) == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "<script" not in page and "<b>x" not in page
    capsys.readouterr()


def test_no_escape_of_a_forged_log_reaches_the_terminal(log, tmp_path, capsys):
    """A log may come from elsewhere; a terminal obeys what is printed."""
    lines = log.read_text().splitlines()
    row = json.loads(lines[-1])
    evil = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m"
    row |= {"rollout": evil, "fallback": evil, "episode": "e", "model": evil, "time": evil}
    row |= {"policy_fingerprint": evil, "arm": evil}
    (tmp_path / "bad.jsonl").write_text("\n".join([*lines, json.dumps(row)]) + "\n")
    shadow = json.loads(log.with_suffix(".shadow.jsonl").read_text().splitlines()[0])
    shadow |= {"task": evil, "time": evil}
    (tmp_path / "bad.shadow.jsonl").write_text(f"{json.dumps(shadow)}\n" * 20)
    assert main([str(tmp_path / "bad.jsonl"), "--out", str(tmp_path / "r")]) == 0
    printed = capsys.readouterr().out
    assert "x1b]0;title" in printed and all(c.isprintable() or c == "\n" for c in printed)
    rng = np.random.default_rng(0)
    for number in range(40):  # whatever a field holds, the command ends with one clean line
        odd = [[], {}, None, -1, 1e308, "\x1b[2J", True][int(rng.integers(7))]
        name = str(rng.choice(sorted(row)))
        path = tmp_path / f"odd{number}.jsonl"
        path.write_text("\n".join([*lines[:4], json.dumps({**row, name: odd})]) + "\n")
        assert main([str(path), "--out", str(tmp_path / "r")]) in (0, 2)
        told = capsys.readouterr()
        assert all(c.isprintable() or c == "\n" for c in told.out + told.err)


def test_other_logs_are_refused(tmp_path, capsys, log):
    foreign = tmp_path / "turns.jsonl"
    rows = synthetic_log(0, random=2, heuristic=1, factorial=0)
    foreign.write_text("".join(r.to_json() + "\n" for r in rows))
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.jsonl").write_text("{}\n")
    for arguments, message in (
        ([str(foreign)], "runtime"),
        ([str(tmp_path / "empty.jsonl")], "got none of 0"),
        ([str(tmp_path / "broken.jsonl")], "line 1"),
        ([str(tmp_path / "absent.jsonl")], "absent.jsonl"),
        ([str(log), "--margin", "2"], "margin"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "r")]) == 2
        assert message in capsys.readouterr().err
    renamed = [type(r)(**{**vars(r), "design": "runtime"}) for r in rows]
    with pytest.raises(ValueError, match="must be written by a runtime"):
        summarise(renamed)
