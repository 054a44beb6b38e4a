"""Questions that others wrote: what the loaders make of the files, and how they are asked."""

import gzip
import hashlib
import itertools
import json

import pytest

from stackjax.agents.executor._adapter import Message, build_request
from stackjax.agents.executor._session import SessionState
from stackjax.agents.tasks import gsm8k, hotpotqa, is_correct, question_sessions
from stackjax.agents.tasks._questions import PASSAGE_WORDS
from stackjax.agents.tasks._tasks import make_episode

SUM = {
    "question": "A pen costs 3 coins and a cup twice as much. Both?",
    "answer": "3 + 6\n#### 1,009",
}
CONTEXT = [
    ["Leo", ["Leo is a cook."]],
    ["Amber Bridge", ["The Amber Bridge was designed by Ida Moss.", " It is long." * 60]],
    ["Ida Moss", ["Ida Moss was born in Larkfield."]],
    ["Zoe", ["Zoe sings."]],
    ["Orrin", ["Orrin is a lake."]],
]
HOP = {
    "question": "Where was the designer of the Amber Bridge born?",
    "answer": "Larkfield",
    "context": CONTEXT,
}


def written(folder, *rows, name="rows.jsonl"):
    path = folder / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_school_arithmetic(tmp_path):
    (turn,) = gsm8k(written(tmp_path, SUM, name="rows.jsonl.gz"))
    assert (turn.task, turn.family, turn.gold) == ("complex_reasoning", "word_problem", "1009")
    assert is_correct(turn, "3 + 6 = 9, so 1,009.") and not is_correct(turn, "1,010")
    assert is_correct(turn, turn.reference)
    assert turn.complexity == 0.6


def test_passages_are_ranked_and_cut(tmp_path):
    (turn,) = hotpotqa(written(tmp_path, HOP))
    assert {p.split(":")[0] for p in turn.passages[-2:]} == {"Amber Bridge", "Ida Moss"}
    assert len(turn.passages) == 5
    assert max(len(p.split()) for p in turn.passages) == PASSAGE_WORDS
    assert is_correct(turn, "Larkfield") and not is_correct(turn, "Velmark")
    yes = dict(HOP, question="Are Leo and Zoe cooks?", answer="no")
    assert hotpotqa(written(tmp_path, yes))[0].complexity < turn.complexity


@pytest.mark.parametrize("load", [gsm8k, hotpotqa])
def test_bad_files_are_named(load, tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.jsonl")
    for text, says in (("{", "line 1: not JSON"), ("[]", "not a JSON object"), ("{}", "needs")):
        with pytest.raises(ValueError, match=says):
            load(written(tmp_path, text))
    with pytest.raises(ValueError, match="holds no question"):
        load(written(tmp_path, ""))
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(json.dumps(SUM).encode())[:-9])
    with pytest.raises(ValueError, match="not a complete"):
        load(torn)


def test_sessions_use_each_question_once(tmp_path):
    sums = gsm8k(written(tmp_path, *(dict(SUM, question=f"What is {i}?") for i in range(7))))
    hops = hotpotqa(written(tmp_path, *(dict(HOP, question=f"Where is {i}?") for i in range(5))))
    sessions = question_sessions([sums, hops], name="q", seed=0, turns=4)
    assert [len(s.turns) for s in sessions] == [4, 4]
    assert all(sum(t.family == "documents" for t in s.turns) == 2 for s in sessions)
    asked = [t.question for s in sessions for t in s.turns]
    assert len(set(asked)) == len(asked)
    assert sessions == question_sessions([sums, hops], name="q", seed=0, turns=4)
    for kinds, turns in (([], 2), ([sums, hops], 3), ([sums], 0)):
        with pytest.raises(ValueError, match="turns"):
            question_sessions(kinds, name="q", seed=0, turns=turns)


def asked(turn, action):
    return build_request(
        [], turn.question, turn.task, action, family=turn.family, passages=turn.passages
    )


def test_context_decides_how_many_passages_are_sent(tmp_path):
    (turn,) = hotpotqa(written(tmp_path, HOP))
    for c, sent in ((0.0, 0), (0.5, 2), (1.0, 4)):
        last = asked(turn, (c, 0.0, 0.0)).messages[-1]["content"]
        assert last.count("Passage:") == sent
        assert [p in last for p in turn.passages] == [False] * (5 - sent) + [True] * sent
    state = SessionState(1000.0)
    assert state.features(turn)["context_tokens"] > 50
    assert state.history == [], "passages are no part of the history"


def test_reasoning_at_length_is_asked_for_at_the_top_of_the_prompt_channel(tmp_path):
    (turn,) = gsm8k(written(tmp_path, SUM))
    short, middle, full = (asked(turn, (0.0, p, 0.0)) for p in (0.0, 0.5, 1.0))
    assert (short.max_tokens, middle.max_tokens, full.max_tokens) == (None, 120, 320)
    assert (short.stop, middle.stop, full.stop) == (("\n",), (), ())
    assert [len(r.messages) for r in (short, middle, full)] == [2, 4, 2]
    assert "CALC" in asked(turn, (0.0, 0.5, 0.5)).messages[2]["content"]


def test_requests_of_version_1_are_unchanged():
    """Turns recorded with version 1 may be used beside those of version 2."""
    digest = hashlib.sha256()
    for index in range(30):
        history = []
        for turn in make_episode(0, index).turns:
            history += [Message("note", note) for note in turn.notes]
            for cell in itertools.product((0.0, 0.5, 1.0), repeat=3):
                made = build_request(history, turn.question, turn.task, cell, family=turn.family)
                sent = [list(made.messages), made.max_calls, list(made.executed)]
                digest.update(json.dumps(sent).encode())
                assert (made.max_tokens, made.stop) == (None, ("\n",))
            history += [Message("question", turn.question), Message("reply", turn.reference)]
    assert digest.hexdigest() == "8e1cf332bd92cd5bad00277b11dfe5b2da6d85a3c721d3c08ae584fbe7461846"


def test_a_split_by_item_is_kept():
    for index in range(8):
        episode = make_episode(3, index, accept=lambda turn: int(turn.item, 16) % 10 >= 7)
        assert all(int(turn.item, 16) % 10 >= 7 for turn in episode.turns)
        assert 3 <= len(episode.turns) <= 8
    with pytest.raises(ValueError, match="accept"):
        make_episode(3, 0, accept=lambda turn: False)


def test_requests_of_version_2_are_unchanged():
    """Passages and word problems; turns recorded with version 2 stay comparable."""
    digest = hashlib.sha256()
    for index in range(12):
        state = SessionState(1e4)
        for turn in make_episode(5, index).turns:
            state.hear(turn)
            for family in (turn.family, "documents", "word_problem"):
                for cell in itertools.product((0.0, 0.5, 1.0), repeat=3):
                    made = build_request(
                        state.history,
                        turn.question,
                        turn.task,
                        cell,
                        family=family,
                        passages=("a b", "c", "d"),
                    )
                    digest.update(json.dumps(made).encode())
            state.update(turn, 10, True, False, turn.reference)
    assert digest.hexdigest() == "4807d8d0f061801e465a0654b43e9a641ebab2028f436002c890d405766b07c5"
