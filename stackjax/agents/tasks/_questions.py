"""Questions that others wrote, from their standard files: GSM8K and HotpotQA.

The project carries no text of theirs. `gsm8k` reads the JSON lines of github.com/openai/
grade-school-math (MIT), `hotpotqa` those of the distractor setting of HotpotQA (CC BY-SA 4.0), both
plain or gzipped. `question_sessions` makes sessions of them, in which every question has its own
passages and an earlier question is never needed.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stackjax.agents.tasks._tasks import Episode, Turn

PASSAGE_WORDS = 50
_WORDS = re.compile(r"[a-z0-9]{2,}")
_COMPARISON = re.compile(r"(are|is|were|was|do|does|did|both) |.*\bor\b", re.IGNORECASE)
_NUMBERS = re.compile(
    r"\d[\d,.]*|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|half|third|quarter|twice"
    r"|double|triple|dozen)\b",
    re.IGNORECASE,
)


def gsm8k(path: str | os.PathLike[str]) -> list[Turn]:
    r"""School arithmetic: a number is asked for, after two to eight steps.

    Family ``word_problem`` of the type complex reasoning; the check is the number. The complexity
    grows with the numbers that the question names, from 0.6 to 1.

    Args:
      path: JSON lines with the fields `question` and `answer`, whose last line is ``#### n``.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If a line is not of this kind; names the file and the line.

    Example:
      >>> import json, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "questions.jsonl"
      >>> line = {"question": "Two pens cost 4 coins. And six?", "answer": "4 * 3\\n#### 12"}
      >>> _ = path.write_text(json.dumps(line))
      >>> turn, = sj.agents.tasks.gsm8k(path)
      >>> right = sj.agents.tasks.is_correct(turn, "So it is 12.")
      >>> turn.family, turn.gold, turn.complexity, right
      ('word_problem', '12', 0.7, True)
    """
    turns = []
    for number, row in read_rows(path):
        question, answer = (row.get(name) for name in ("question", "answer"))
        gold = re.search(r"####\s*(-?[\d,]+(?:\.\d+)?)\s*$", str(answer))
        if not isinstance(question, str) or gold is None:
            raise ValueError(f"{path}, line {number}: needs `question` and an `answer` in `#### n`")
        value = gold.group(1).replace(",", "")
        named = len(_NUMBERS.findall(question))
        complexity = round(min(max(0.4 + 0.1 * named, 0.6), 1.0), 2)
        turns.append(
            Turn(
                "complex_reasoning",
                "word_problem",
                (),
                " ".join(question.split()),
                value,
                "number",
                complexity,
                f"Answer: {value}",
            )
        )
    return turns


def hotpotqa(path: str | os.PathLike[str]) -> list[Turn]:
    """Questions over ten passages, of which two are needed together.

    Family ``documents`` of the type simple question answering; the check is the answer's words in
    a reply of at most 12. Complexity is 0.7 where two things are compared, else 0.9. Each passage
    is cut after `PASSAGE_WORDS` words; passages stand in the order of a lexical retriever, the sum
    of inverse document frequencies of the question's words over the ten, the best one last.

    Args:
      path: JSON lines with the fields `question`, `answer` and `context`, a list of
        ``[title, sentences]``.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If a line is not of this kind; names the file and the line.

    Example:
      >>> import json, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "questions.jsonl"
      >>> context = [["Ida", ["Ida was born in Larkfield."]], ["Leo", ["Leo is a cook."]]]
      >>> line = {"question": "Where was Ida born?", "answer": "Larkfield", "context": context}
      >>> _ = path.write_text(json.dumps(line))
      >>> turn, = sj.agents.tasks.hotpotqa(path)
      >>> turn.passages[-1]
      'Ida: Ida was born in Larkfield.'
    """
    turns = []
    for number, row in read_rows(path):
        question, answer, context = (row.get(name) for name in ("question", "answer", "context"))
        try:
            passages = [_passage(title, sentences) for title, sentences in context or ()]
        except (TypeError, ValueError):
            passages = []
        if not isinstance(question, str) or not isinstance(answer, str) or not passages:
            raise ValueError(f"{path}, line {number}: needs `question`, `answer` and `context`")
        comparison = _COMPARISON.match(question)
        turns.append(
            Turn(
                "simple_qa",
                "documents",
                (),
                " ".join(question.split()),
                answer,
                "word",
                0.7 if comparison else 0.9,
                answer,
                tuple(_ranked(question, passages)),
            )
        )
    return turns


def question_sessions(
    kinds: Sequence[Sequence[Turn]], *, name: str, seed: int, turns: int = 4
) -> list[Episode]:
    """Sessions that take as many questions of each kind as of the others, in random order.

    Every question is used at most once; what does not fill a session is left out.

    Args:
      kinds: Questions of each kind.
      name: Beginning of the sessions' names.
      seed: Of the order.
      turns: Questions in a session, a multiple of the number of kinds.

    Raises:
      ValueError: If `kinds` is empty, or `turns` not a positive multiple of their number.

    Example:
      >>> one = sj.agents.tasks.Turn("simple_qa", "documents", (), "?", "a", "word", 0.9, "a")
      >>> sessions = sj.agents.tasks.question_sessions([[one] * 9], name="q", seed=0, turns=4)
      >>> [(session.name, len(session.turns)) for session in sessions]
      [('q00000', 4), ('q00001', 4)]
    """
    if not kinds or turns < 1 or turns % len(kinds):
        raise ValueError(
            f"turns must be a positive multiple of the {len(kinds)} kinds, got {turns}"
        )
    rng = random.Random(f"stackjax-questions-{seed}")
    shuffled = [rng.sample(list(kind), len(kind)) for kind in kinds]
    share = turns // len(kinds)
    sessions = []
    for index in range(min(len(kind) for kind in shuffled) // share):
        taken = [turn for kind in shuffled for turn in kind[index * share : (index + 1) * share]]
        sessions.append(Episode(f"{name}{index:05d}", seed, tuple(rng.sample(taken, turns))))
    return sessions


def read_rows(path: str | os.PathLike[str]) -> list[tuple[int, dict[str, Any]]]:
    """The file's JSON objects with their line numbers."""
    path = Path(path)
    rows = []
    with (
        gzip.open(path, "rt", encoding="utf-8")
        if path.suffix == ".gz"
        else open(path, encoding="utf-8") as file
    ):
        try:
            lines = file.read().split("\n")
        except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a complete text file") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: not a JSON object")
        rows.append((number, row))
    if not rows:
        raise ValueError(f"{path} holds no question")
    return rows


def _passage(title: str, sentences: Sequence[str]) -> str:
    words = f"{title}: {' '.join(sentence.strip() for sentence in sentences)}".split()
    return " ".join(words[:PASSAGE_WORDS])


def _ranked(question: str, passages: Sequence[str]) -> list[str]:
    """Passages by the question's words in them, weighted by rarity; the best one last."""
    bags = [set(_WORDS.findall(passage.lower())) for passage in passages]
    frequency = Counter(word for bag in bags for word in bag)
    asked = set(_WORDS.findall(question.lower()))
    score = lambda bag: sum(math.log(1 + len(bags) / frequency[word]) for word in asked & bag)
    order = sorted(range(len(passages)), key=lambda i: score(bags[i]))
    return [passages[i] for i in order]
