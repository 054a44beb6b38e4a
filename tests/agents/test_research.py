"""Research sessions, the second grid of the adapter, and the log of the pool's study."""

import gzip
import hashlib
import itertools
import json
import random
from collections import Counter

import pytest

from experiments.pool import take
from experiments.pool.sessions import CELLS
from stackjax.agents.executor._adapter import CONTEXTS, Message, build_request, executed_action
from stackjax.agents.executor._executor import Executor, TurnOutcome
from stackjax.agents.executor._relevance import relevance
from stackjax.agents.executor._research_examples import RESEARCH_EXAMPLES
from stackjax.agents.executor._session import SessionState
from stackjax.agents.log import TurnLog, read_log
from stackjax.agents.tasks import (
    RESEARCH_TYPES,
    Document,
    hotpotqa_documents,
    is_correct,
    make_research_session,
    templated_documents,
)
from stackjax.agents.tasks._documents import MAX_WORDS, MIN_WORDS
from stackjax.agents.tasks._research import MAX_TURNS, MIN_TURNS
from stackjax.agents.tasks._tools import evaluate

SESSIONS = [make_research_session(3, index) for index in range(300)]
TURNS = [turn for session in SESSIONS for turn in session.turns]


def need(turn):
    return turn.family.rpartition("_")[2] if turn.family.endswith(("_old", "_newest")) else "none"


def test_sessions_depend_on_seed_and_index_only():
    assert [make_research_session(3, index) for index in range(5)] == SESSIONS[:5]
    assert make_research_session(4, 0) != SESSIONS[0]
    assert len({session.name for session in SESSIONS}) == len(SESSIONS)
    assert {len(s.turns) for s in SESSIONS} == set(range(MIN_TURNS, MAX_TURNS + 1))
    with pytest.raises(ValueError, match="`index` must be at least 0; got -1"):
        make_research_session(0, -1)
    with pytest.raises(ValueError, match="`documents` must be at least 2; got 1"):
        make_research_session(0, 0, documents=[Document("A", ("b.",))])


def test_reference_replies_are_right_and_golds_are_on_the_page_that_is_named():
    for session in SESSIONS[:100]:
        pages = []
        for turn in session.turns:
            pages += turn.notes
            assert is_correct(turn, turn.reference), turn
            assert not is_correct(turn, "I do not know."), turn
            if need(turn) == "none" or turn.family.startswith("price"):
                continue
            word = turn.gold.removeprefix("print ")
            holders = [page for page in pages if word in page]
            assert holders and (pages[-1] in holders or need(turn) == "old"), turn
            assert word not in turn.question


def test_type_length_and_turn_do_not_say_what_is_needed():
    """Shares of needs are 1/2, 1/4, 1/4 in each type and in each part of a session."""
    groups = [(turn.task, turn) for turn in TURNS]
    groups += [(i // 4, turn) for s in SESSIONS for i, turn in enumerate(s.turns)]
    groups += [(bool(turn.notes), turn) for turn in TURNS]
    for group in {name for name, _ in groups}:
        count = Counter(need(turn) for name, turn in groups if name == group)
        total = sum(count.values())
        assert count["none"] / total == pytest.approx(0.5, abs=0.08), group
        assert count["newest"] / total == pytest.approx(0.25, abs=0.08), group
    assert {turn.task for turn in TURNS} == set(RESEARCH_TYPES)
    assert {turn.complexity for turn in TURNS} == {0.5}


def test_the_question_says_what_is_needed():
    """A rule on the text finds turns that need a page."""
    cues = (" my ", " the name of the ", " by name", "Continue", "s cost?")
    for turn in TURNS:
        assert any(cue in f" {turn.question}" for cue in cues) == (need(turn) != "none"), turn


def test_documents_of_a_file_are_cut_at_sentences(tmp_path):
    sentences = ["One two three four five six seven eight nine ten."] * 15
    context = [["Long", sentences], ["Short", ["Too short."]], ["Long", sentences]]
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"context": context}).encode()))
    ((document,),) = hotpotqa_documents(path)
    assert MIN_WORDS <= sum(len(s.split()) for s in document.sentences) == MAX_WORDS
    path.write_bytes(gzip.compress(b'{"question": "?"}'))
    with pytest.raises(ValueError, match="line 1: needs `context`"):
        hotpotqa_documents(path)
    with pytest.raises(ValueError, match="`count` must be between 1 and 100; got 0"):
        templated_documents(random.Random(0), 0)


NOTES = ["The pen is red.", "The cup is blue.", "A lamp is red.", "A hat is green."]
HISTORY = [Message("note", note) for note in NOTES] + [Message("reply", "cup cup")]


def sent(c, question="Where is the blue cup?", task="simple_qa", p=0.0, u=0.0):
    return build_request(HISTORY, question, task, (c, p, u), adapter="3")


def lines(request):
    return request.messages[-1]["content"].splitlines()[:-1]


def test_relevance_counts_what_tells_notes_apart():
    score = relevance("Is the blue cup red?", NOTES)
    assert max(range(4), key=lambda i: score[i]) == 1 and score[3] == 0
    assert relevance("What now?", NOTES) == [0.0] * 4 and relevance("What?", []) == []


def test_contexts_of_version_3():
    best = "Note: The cup is blue."
    assert lines(sent(0)) == []
    assert lines(sent(0.25)) == [best]
    assert lines(sent(0.5)) == [best, "Note: The pen is red."]
    assert lines(sent(0.75)) == ["Note: A lamp is red.", "Note: A hat is green.", "Answer: cup cup"]
    assert len(lines(sent(1))) == 5
    assert lines(sent(0.25, "What now?")) == ["Note: A hat is green."], "of equals the newest"
    for c, level in ((0.12, 0), (0.13, 0.25), (0.37, 0.25), (0.38, 0.5), (0.9, 1)):
        assert executed_action((c, 0, 0), "3")[0] == level
    with pytest.raises(ValueError, match="`adapter` must be one of 2, 3; got '4'"):
        executed_action((0, 0, 0), "4")
    with pytest.raises(ValueError, match="`adapter` must be one of 2, 3; got '1'"):
        Executor("http://127.0.0.1:9/v1", adapter="1")


def test_every_level_of_version_3_is_a_request():
    levels = len(CONTEXTS["3"])
    grid = itertools.product([i / (levels - 1) for i in range(levels)], (0, 0.5, 1), (0, 0.5, 1))
    for (c, p, u), task in itertools.product(grid, RESEARCH_TYPES):
        request = sent(c, task=task, p=p, u=u)
        assert request.executed == (c, p, u) and request.max_calls == 2 * u
        assert request.messages[-1]["content"].endswith("Question: Where is the blue cup?")
        assert ("CALC" in json.dumps(request.messages)) == (u > 0)
        assert p > 0 or len(request.messages) == 2
    for task in RESEARCH_TYPES:
        assert RESEARCH_EXAMPLES[task][-1].notes and not RESEARCH_EXAMPLES[task][0].notes
        for example in RESEARCH_EXAMPLES[task]:
            assert not example.calc or evaluate(example.calc) == float(example.answer)


def test_worked_examples_are_no_questions_of_the_sessions():
    used = {example.question for task in RESEARCH_TYPES for example in RESEARCH_EXAMPLES[task]}
    assert not used & {turn.question for turn in TURNS}


class Scripted(Executor):
    """Answers from a table instead of a model; stops after `limit` turns."""

    taken: list
    limit: float

    def __init__(self, limit=10**9):
        pytest.importorskip("openai")
        super().__init__("http://127.0.0.1:9/v1", model="scripted", adapter="3")
        self.__dict__.update(taken=[], limit=limit)

    def run_turn(self, question, task, action, **context):
        self.taken.append(action)
        if len(self.taken) > self.limit:
            raise KeyboardInterrupt
        done = executed_action(action, self.adapter)
        return TurnOutcome("Rome", done, 90, 3, 0.1, 0, None, False, ("Rome",))


def cells_of(episode, position):
    return CELLS, 1.0, "factorial"


def test_a_stopped_run_resumes_without_taking_a_line_twice(tmp_path):
    sessions = SESSIONS[:1]
    with TurnLog(tmp_path / "whole.jsonl") as log:
        take.take_sessions(Scripted(), sessions, log, cells_of=cells_of)
    with pytest.raises(KeyboardInterrupt), TurnLog(tmp_path / "log.jsonl") as log:
        take.take_sessions(Scripted(100), sessions, log, cells_of=cells_of)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"episode": "r3')  # what a kill within a write leaves
    with pytest.warns(UserWarning, match="torn"), TurnLog(tmp_path / "log.jsonl") as log:
        rest = Scripted()
        take.take_sessions(rest, sessions, log, cells_of=cells_of)
    whole, resumed = (read_log(tmp_path / name).records for name in ("whole.jsonl", "log.jsonl"))
    assert len(rest.taken) == len(whole) - 100
    assert [r.key for r in whole] == [r.key for r in resumed]
    assert [(r.state, r.extra) for r in whole] == [(r.state, r.extra) for r in resumed]
    assert len(whole) == len(CELLS) * sum(len(s.turns) for s in sessions)


def test_the_log_has_numbers_and_no_text(tmp_path):
    session = SESSIONS[0]
    with TurnLog(tmp_path / "log.jsonl") as log:
        take.take_sessions(Scripted(), [session], log, cells_of=cells_of)
    text = (tmp_path / "log.jsonl").read_text()
    for turn in session.turns:
        assert turn.question not in text and not any(note[:30] in text for note in turn.notes)
    for record in read_log(tmp_path / "log.jsonl").records:
        assert record.gold == "" and record.answer in ("right", "wrong") and record.adapter == "3"
        assert len(record.extra["relevance"]) == 5 and record.extra["ngrams"]


def test_requests_of_version_3_are_unchanged():
    """The pilot of the pool's study was recorded with these."""
    digest = hashlib.sha256()
    for index in range(6):
        state = SessionState(1e4)
        for turn in make_research_session(5, index).turns:
            state.hear(turn)
            for cell in itertools.product((0, 0.25, 0.5, 0.75, 1), (0, 0.5, 1), (0, 0.5, 1)):
                made = build_request(state.history, turn.question, turn.task, cell, adapter="3")
                digest.update(json.dumps(made).encode())
            state.update(turn, 10, True, False, turn.reference)
    assert digest.hexdigest() == "0528ed2d4cab2ad8b5fcc13bed19896783a395699ae41607f6f738bd310f0491"


def test_tuning_cells_are_drawn_once_and_for_all():
    drawn = [take.CELLS_OF["tune"](SESSIONS[0], position) for position in range(8)]
    assert drawn == [take.CELLS_OF["tune"](SESSIONS[0], position) for position in range(8)]
    for cells, propensity, design in drawn:
        assert len(set(cells)) == take.TUNING_CELLS and set(cells) <= set(CELLS)
        assert (propensity, design) == (take.TUNING_CELLS / len(CELLS), "random")
    assert len({tuple(cells) for cells, _, _ in drawn}) > 1
