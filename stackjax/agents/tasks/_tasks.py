"""Episodes of templated tasks with gold answers: seeded, unlimited, checked without a judge.

An episode is a session of 3 to 8 turns. The user tells facts in notes and asks one question a
turn; some questions need a note of this turn, some one of long ago, some none at all.

The six task types of the paper, and what the check of each is worth:

=================  ==========================  =====================================================
type               families                    check
=================  ==========================  =====================================================
simple_qa          recall, fact                honest: the checked word
complex_reasoning  arithmetic, price,          honest: the checked number
                   table_sum
data_analysis      table_lookup, table_day     honest: the checked number or day
code_generation    expression                  honest: the expression's values at three points
text_writing       extraction                  honest: the fields in the given form
text_writing       compose                     constraints only (words asked for, length)
casual_chat        greeting                    constraints only (the user's name, length)
=================  ==========================  =====================================================

Free writing and casual chat have no honest check of quality: for `compose` and `greeting`, correct
means that the constraints hold and nothing more.
"""

from __future__ import annotations

import copy
import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from stackjax.agents.tasks._families import FAMILIES, FIRST_FAMILIES, World
from stackjax.agents.tasks._tools import evaluate, find_call

TASK_TYPES = (
    "casual_chat",
    "simple_qa",
    "text_writing",
    "code_generation",
    "data_analysis",
    "complex_reasoning",
)
MIN_TURNS, MAX_TURNS = 3, 8


@dataclass(frozen=True)
class Turn:
    """One user turn.

    Attributes:
      task: Task type, one of `TASK_TYPES`.
      family: The generator's name.
      notes: New facts of this turn, a message each; they come before the question.
      question: The question; it is never dropped from the context.
      gold: What is checked.
      check: How: ``"word"``, ``"number"``, ``"expression"``, ``"form"`` or ``"contains"``.
      complexity: In [0, 1], read off the question (operations, whether it refers to notes, how
        far back it says they are), never off the gold answer.
      reference: A correct reply, used as the assistant's message in a scripted history.
      passages: Retrieved for this question alone, the best one last; no part of the history.

    Example:
      >>> turn = sj.agents.tasks.make_episode(0, 7).turns[0]
      >>> turn.task, turn.check, sj.agents.tasks.is_correct(turn, turn.reference)
      ('complex_reasoning', 'number', True)
    """

    task: str
    family: str
    notes: tuple[str, ...]
    question: str
    gold: str
    check: str
    complexity: float
    reference: str
    passages: tuple[str, ...] = ()

    @property
    def item(self) -> str:
        """Hash of the question's content."""
        content = "\x1f".join((self.family, *self.notes, self.question, self.gold))
        return hashlib.sha256(content.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Episode:
    """A session: its name and its turns, in order.

    Example:
      >>> turn = sj.agents.tasks.Turn("simple_qa", "fact", (), "2 + 2?", "4", "number", 0.1, "4")
      >>> sj.agents.tasks.Episode("mine", 0, (turn,)).turns[0].question
      '2 + 2?'
    """

    name: str
    seed: int
    turns: tuple[Turn, ...]


def make_episode(seed: int, index: int, *, accept: Callable[[Turn], bool] | None = None) -> Episode:
    """Returns episode `index` of the stream `seed`; the same arguments give the same episode.

    Each episode has `MIN_TURNS` to `MAX_TURNS` turns of at least three task types.

    Args:
      seed: The stream.
      index: Number of the episode.
      accept: Whether a turn may be used; one that may not is drawn again, after 100 draws from
        another family. For splits that keep equal questions apart, by `Turn.item`.

    Raises:
      ValueError: If `index` is negative, or 2,000 draws of one turn are not accepted.

    Example:
      >>> episode = sj.agents.tasks.make_episode(0, 7)
      >>> episode.name, len(episode.turns), episode.turns[0].family
      ('s0-e00007', 8, 'price')
    """
    if index < 0:
        raise ValueError(f"index must be at least 0, got {index}")
    rng = random.Random(f"stackjax-episode-{seed}-{index}")
    count = rng.randint(MIN_TURNS, MAX_TURNS)
    names = list(FAMILIES)
    weights = [FAMILIES[name].weight for name in names]
    while True:
        plan = [rng.choice(FIRST_FAMILIES), *rng.choices(names, weights, k=count - 1)]
        if len({FAMILIES[name].task for name in plan}) >= 3:
            break
    world = World(rng)
    turns = []
    for position, name in enumerate(plan):
        turn, world = _draw(name, world, position, accept)
        turns.append(turn)
    return Episode(f"s{seed}-e{index:05d}", seed, tuple(turns))


def _draw(
    name: str, world: World, position: int, accept: Callable[[Turn], bool] | None
) -> tuple[Turn, World]:
    """One turn of a family and the world after it; a turn that is not accepted leaves no trace.

    Where a session's facts leave a family no other turn (100 draws), another family is drawn.
    """
    for attempt in range(2_000):
        if attempt and attempt % 100 == 0:
            names = list(FAMILIES)
            name = world.rng.choices(names, [FAMILIES[other].weight for other in names])[0]
        tried = world if accept is None else copy.deepcopy(world)
        tried.rng = world.rng
        family = FAMILIES[name]
        turn = Turn(family.task, name, *family.make(tried, position))
        if accept is None or accept(turn):
            return turn, tried
    raise ValueError("accept: refused 2,000 draws of one turn")


def is_correct(turn: Turn, reply: str) -> bool:
    """Whether `reply` passes the turn's check (see the module's table for what it is worth).

    A reply that still calls a tool is no answer, whatever it mentions.

    Example:
      >>> turn = sj.agents.tasks.Turn("simple_qa", "fact", (), "2 + 2?", "4", "number", 0.1, "4")
      >>> [sj.agents.tasks.is_correct(turn, reply) for reply in ("It is 4.", "5", "CALC: 2 + 2")]
      [True, False, False]
    """
    return find_call(reply) is None and _CHECKS[turn.check](reply, turn.gold)


def _normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _word(reply: str, gold: str) -> bool:
    """The gold word stands in the reply, and the reply is too short to list all candidates."""
    words = _normal(reply).split()
    return len(words) <= 12 and f" {_normal(gold)} " in f" {' '.join(words)} "


def _number(reply: str, gold: str) -> bool:
    """The last number in the reply is the gold number (steps may come before it)."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", reply))
    return bool(numbers) and float(numbers[-1]) == float(gold)


def _expression(reply: str, gold: str) -> bool:
    """The reply is an expression in x with the gold expression's value at three points."""
    text = reply.strip().strip("`").removeprefix("python").split("=")[-1].strip().strip("`")
    try:
        return all(
            abs(evaluate(text, {"x": x}) - evaluate(gold, {"x": x})) < 1e-9 for x in (2, 7, 11)
        )
    except ValueError:
        return False


def _form(reply: str, gold: str) -> bool:
    """The reply is the gold form up to case, spaces around separators and a final point."""
    squeeze = re.compile(r"\s+")
    return squeeze.sub("", reply).strip(".\"'").lower() == squeeze.sub("", gold).lower()


def _contains(reply: str, gold: str) -> bool:
    """All words of the gold stand in the reply, which has at most 25 words."""
    words = _normal(reply).split()
    return len(words) <= 25 and set(_normal(gold).split()) <= set(words)


_CHECKS = {
    "word": _word,
    "number": _number,
    "expression": _expression,
    "form": _form,
    "contains": _contains,
}
