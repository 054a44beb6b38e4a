"""Research sessions: tool outputs stay in the history, and only the text says which one is needed.

A session has 8 to 14 turns. A tool returns pages of the user's notebook as notes: two before the
first question, and one more before a later question now and then, whatever is asked. A page is a
document and some facts of the user. A question needs no page (half of the turns), the newest one (a
quarter) or one old page (a quarter), drawn anew at each turn, within each of five task types. Task
type, length of the history and number of the turn therefore do not say what is needed; the text of
the question does.

=================  =======================================  ========================================
type               no page                                  newest or old page
=================  =======================================  ========================================
simple_qa          fact (a capital, an opposite)            quote: the word after a quotation;
                                                            recall: a fact of the user
complex_reasoning  next, sum (head), arithmetic (tool)      price: a price times a number (tool)
code_generation    expression (form)                        print: a statement with a name (form)
text_writing       compose (free), extraction (form)        colour: a sentence with a fact (free)
casual_chat        greeting by a name that is given         welcome by the name of a role
=================  =======================================  ========================================

Checks are those of `Turn`; those of compose, colour, greeting, welcome and print are constraints
only. `family` names what is needed (``quote_old``, ``price_newest``) for the analysis; no state
shows it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stackjax.agents.tasks._documents import Document, templated_documents
from stackjax.agents.tasks._families import FAMILIES, Made, World
from stackjax.agents.tasks._tasks import Episode, Turn

MIN_TURNS, MAX_TURNS = 8, 14
FIRST_PAGES, MAX_PAGES = 2, 8
PAGE_SHARE = 0.35  # of the later turns with a new page
COMPLEXITY = 0.5  # the same everywhere: no state may tell what is needed
QUOTED = 6  # words of a quotation

RESEARCH_TYPES = (
    "casual_chat",
    "simple_qa",
    "text_writing",
    "code_generation",
    "complex_reasoning",
)
"""Task types of research sessions, equally frequent.

>>> sj.agents.tasks.RESEARCH_TYPES[0]
'casual_chat'
"""

_ATTRIBUTES = {
    "favourite colour": "red blue green yellow purple white".split(),
    "favourite food": "pizza rice soup bread cheese pasta".split(),
    "favourite animal": "dog lion horse rabbit tiger owl".split(),
    "home town": "Rome Paris London Madrid Berlin Vienna".split(),
    "first job": "nurse teacher pilot baker farmer doctor".split(),
    "birthday month": "January March April June August October".split(),
    "usual sport": "tennis football chess golf hockey boxing".split(),
    "best subject": "history music physics biology geography chemistry".split(),
}
_ROLES = "guide driver editor coach porter tailor judge gardener".split()
_NAMES = "Anna Ben Carla David Emma Frank Grace Henry Ivan Julia Kate Liam Maria Nora Oscar".split()
_THINGS = "pen book lamp chair cup bag hat ball clock shirt".split()
_GREETINGS = ("hello", "good morning", "good night", "thank you")
_PLAIN = re.compile(r"[A-Za-z0-9]+")


class Page(NamedTuple):
    """A tool output: a document, and the user's facts below it."""

    document: Document
    attribute: str
    value: str
    thing: str
    price: int
    role: str
    name: str

    @property
    def text(self) -> str:
        body = " ".join(self.document.sentences)
        return (
            f"{self.document.title}: {body} My {self.attribute} is {self.value}. A {self.thing} "
            f"costs {self.price} coins. The {self.role} is {self.name}."
        )


def make_research_session(
    seed: int, index: int, *, documents: Sequence[Document] | None = None
) -> Episode:
    """Returns research session `index` of the stream `seed`; deterministic.

    Args:
      seed: The stream.
      index: Number of the session, at least 0.
      documents: What stands on the pages, at least two, for example a row of
        `hotpotqa_documents`; templated ones by default.

    Raises:
      ValueError: If `index` is negative, or there are fewer than two documents.

    Example:
      >>> session = sj.agents.tasks.make_research_session(0, 1)
      >>> len(session.turns), len(session.turns[0].notes), session.turns[2].family
      (12, 2, 'greeting')
    """
    if index < 0:
        raise ValueError(f"`index` must be at least 0; got {index}")
    rng = random.Random(f"stackjax-research-{seed}-{index}")
    if documents is None:
        documents = templated_documents(rng, MAX_PAGES)
    if len(documents) < FIRST_PAGES:
        raise ValueError(f"`documents` must be at least {FIRST_PAGES}; got {len(documents)}")
    waiting = _pages(rng, rng.sample(list(documents), min(len(documents), MAX_PAGES)))
    shown = 0
    turns: list[Turn] = []
    asked: set[str] = set()
    for position in range(rng.randint(MIN_TURNS, MAX_TURNS)):
        before = shown
        new = FIRST_PAGES if position == 0 else int(rng.random() < PAGE_SHARE)
        shown = min(shown + new, len(waiting))
        notes = tuple(page.text for page in waiting[before:shown])
        while True:
            turn = _turn(rng, waiting[:shown], notes)
            if turn is not None and turn.question not in asked:
                break
        asked.add(turn.question)
        turns.append(turn)
    return Episode(f"r{seed}-e{index:05d}", seed, tuple(turns))


def _pages(rng: random.Random, documents: Sequence[Document]) -> list[Page]:
    """Pages whose facts are about different things; no two prices or names are equal."""
    count = len(documents)
    attributes = rng.sample(list(_ATTRIBUTES), count)
    things, roles = rng.sample(_THINGS, count), rng.sample(_ROLES, count)
    prices, names = rng.sample(range(3, 30), count), rng.sample(_NAMES, count)
    values = [rng.choice(_ATTRIBUTES[attribute]) for attribute in attributes]
    return list(map(Page, documents, attributes, values, things, prices, roles, names))


def _turn(rng: random.Random, pages: Sequence[Page], notes: tuple[str, ...]) -> Turn | None:
    """One turn, or None where the drawn question cannot be asked of the drawn page."""
    task = rng.choice(RESEARCH_TYPES)
    need = rng.choice(("none", "none", "newest", "old"))
    if need == "none":
        family = rng.choice(_ALONE[task])
        _, question, gold, check, _, reference = _MADE_ALONE[family](World(rng), 0)
    else:
        page = pages[-1] if need == "newest" else rng.choice(pages[:-1])
        kind = rng.choice(_ABOUT[task])
        family = f"{kind}_{need}"
        found = _MADE_ABOUT[kind](rng, page, pages)
        if found is None:
            return None
        question, gold, check, reference = found
    return Turn(task, family, notes, question, gold, check, COMPLEXITY, reference)


def _sum(world: World, position: int) -> Made:
    a, b = world.rng.randint(2, 9), world.rng.randint(1, 4)
    question, gold = world.rng.choice(
        ((f"What is {a} + {b}?", a + b), (f"What is {a + b} - {b}?", a))
    )
    return (), question, str(gold), "number", COMPLEXITY, str(gold)


def _next(world: World, position: int) -> Made:
    number = world.rng.randint(3, 40)
    question = f"Which number comes right after {number}?"
    return (), question, str(number + 1), "number", COMPLEXITY, str(number + 1)


def _greeting(world: World, position: int) -> Made:
    word, name = world.rng.choice(_GREETINGS), world.rng.choice(_NAMES)
    reply = f"{word.capitalize()}, {name}!"
    return (), f"Say {word} to {name}.", name, "contains", COMPLEXITY, reply


Found = tuple[str, str, str, str]


def _quote(rng: random.Random, page: Page, pages: Sequence[Page]) -> Found | None:
    """The word after words that occur once on all pages; None where there is no such word."""
    words = " ".join(page.document.sentences).split()
    text = " ".join(other.text for other in pages)
    starts = []
    for i in range(QUOTED, len(words)):
        before, gold = " ".join(words[i - QUOTED : i]), words[i].strip('.,;:()"')
        plain = _PLAIN.fullmatch(gold) is not None and (len(gold) > 3 or gold[0].isupper())
        whole = not any(mark in before for mark in ('"', ". ", "? "))
        if plain and whole and gold.lower() not in before.lower() and text.count(before) == 1:
            starts.append((before, gold))
    if not starts:
        return None
    before, gold = rng.choice(starts)
    return f"Continue the sentence: {before}", gold, "contains", f"{before} {gold}"


def _recall(rng: random.Random, page: Page, pages: Sequence[Page]) -> Found:
    reply = f"Your {page.attribute} is {page.value}."
    return f"What is my {page.attribute}?", page.value, "word", reply


def _price(rng: random.Random, page: Page, pages: Sequence[Page]) -> Found:
    count = rng.randint(3, 9)
    gold = str(count * page.price)
    return f"How many coins do {count} {page.thing}s cost?", gold, "number", gold


def _print(rng: random.Random, page: Page, pages: Sequence[Page]) -> Found:
    question = f"Write Python that prints the name of the {page.role}."
    return question, f"print {page.name}", "contains", f'print("{page.name}")'


def _colour(rng: random.Random, page: Page, pages: Sequence[Page]) -> Found:
    question = f"Write one short sentence about my {page.attribute}."
    return question, page.value, "contains", f"I like {page.value} very much."


def _welcome(rng: random.Random, page: Page, pages: Sequence[Page]) -> Found:
    word = rng.choice(_GREETINGS)
    reply = f"{word.capitalize()}, {page.name}!"
    return f"Say {word} to the {page.role} by name.", page.name, "contains", reply


_ALONE = {
    "casual_chat": ("greeting",),
    "simple_qa": ("fact",),
    "text_writing": ("compose", "compose", "extraction"),
    "code_generation": ("expression",),
    "complex_reasoning": ("next", "sum", "arithmetic", "arithmetic"),
}
_ABOUT = {
    "casual_chat": ("welcome",),
    "simple_qa": ("quote", "recall"),
    "text_writing": ("colour",),
    "code_generation": ("print",),
    "complex_reasoning": ("price",),
}
_REUSED = ("fact", "arithmetic", "compose", "extraction", "expression")
_MADE_ALONE: dict[str, Callable[[World, int], Made]] = {
    **{name: FAMILIES[name].make for name in _REUSED},
    "greeting": _greeting,
    "next": _next,
    "sum": _sum,
}
_MADE_ABOUT: dict[str, Callable[[random.Random, Page, Sequence[Page]], Found | None]] = {
    "quote": _quote,
    "recall": _recall,
    "price": _price,
    "print": _print,
    "colour": _colour,
    "welcome": _welcome,
}
