"""Documents that the tools of a session return: real passages from a file, or templated ones."""

from __future__ import annotations

import os
import random
from typing import NamedTuple

from stackjax.agents.tasks._questions import read_rows

MIN_WORDS, MAX_WORDS = 30, 100
"""A document of fewer words is left out; a longer one ends after the last whole sentence."""


class Document(NamedTuple):
    """A document: its title and its sentences.

    Example:
      >>> sj.agents.tasks.Document("Ida Moss", ("Ida Moss was an architect.",)).title
      'Ida Moss'
    """

    title: str
    sentences: tuple[str, ...]


def hotpotqa_documents(path: str | os.PathLike[str]) -> list[tuple[Document, ...]]:
    """Passages of HotpotQA, those of a question together: they are about related things.

    Of each passage the first sentences are taken, up to `MAX_WORDS` words (130 to 170 tokens);
    passages with fewer than `MIN_WORDS` words are left out, and so are those whose title occurs
    before.

    Args:
      path: JSON lines with the field `context`, a list of ``[title, sentences]``; plain or gzipped.

    Returns:
      One tuple of documents for each line.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If a line is not of this kind; names the file and the line.

    Example:
      >>> import json, pathlib, tempfile
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "questions.jsonl"
      >>> context = [["Ida", ["Ida was born " + "far " * 40 + "away."]], ["Leo", ["A cook."]]]
      >>> _ = path.write_text(json.dumps({"context": context}))
      >>> [[document.title for document in row] for row in sj.agents.tasks.hotpotqa_documents(path)]
      [['Ida']]
    """
    rows = []
    for number, row in read_rows(path):
        found: dict[str, Document] = {}
        try:
            for title, sentences in row["context"]:
                document = _cut(" ".join(title.split()), sentences)
                if document is not None:
                    found.setdefault(document.title, document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}, line {number}: needs `context`, of [title, sentences]"
            ) from (error)
        rows.append(tuple(found.values()))
    return rows


def _cut(title: str, sentences: list[str]) -> Document | None:
    kept: list[str] = []
    length = 0
    for sentence in sentences:
        size = len(sentence.split())
        if kept and length + size > MAX_WORDS:
            break
        kept.append(" ".join(sentence.split()))
        length += size
    return Document(title, tuple(kept)) if MIN_WORDS <= length <= 2 * MAX_WORDS else None


_FIRST = "Amber Cedar Copper Falcon Granite Harbour Ivory Juniper Maple Raven Silver Willow".split()
_SECOND = "Abbey Bridge Castle Garden Library Market Mill Museum Palace Station Theatre".split()
_PLACES = "Ashford Brinmoor Caldwick Dunmere Elmhurst Farrow Glenside Hartwell Inverley".split()
_PEOPLE = "Alder Birch Carver Draper Ellison Foster Gardner Hooper Keller Lorimer".split()
_FORENAMES = "Agnes Bernard Clara Edgar Florence Harold Irene Lewis Martha Walter".split()
_STYLES = "Gothic Norman Baroque Victorian Georgian modern".split()
_MATERIALS = "sandstone limestone marble timber concrete brick".split()
_EVENTS = "fire flood storm siege robbery tornado".split()


def templated_documents(rng: random.Random, count: int) -> tuple[Document, ...]:
    """Invented documents about buildings, 60 to 90 words (100 to 150 tokens) each.

    Args:
      rng: Source of the choices.
      count: How many; at most 100. Titles differ.

    Raises:
      ValueError: If `count` is not between 1 and 100.

    Example:
      >>> import random
      >>> made = sj.agents.tasks.templated_documents(random.Random(0), 2)
      >>> len(made), len(made[0].sentences), made[0].title != made[1].title
      (2, 5, True)
    """
    if not 1 <= count <= 100:
        raise ValueError(f"`count` must be between 1 and 100; got {count}")
    titles = rng.sample([f"{a} {b}" for a in _FIRST for b in _SECOND], count)
    return tuple(Document(title, _sentences(rng, title)) for title in titles)


def _sentences(rng: random.Random, title: str) -> tuple[str, ...]:
    town, other = rng.sample(_PLACES, 2)
    builder, owner = (f"{rng.choice(_FORENAMES)} {name}" for name in rng.sample(_PEOPLE, 2))
    year = rng.randint(1610, 1890)
    style, stone, event = rng.choice(_STYLES), rng.choice(_MATERIALS), rng.choice(_EVENTS)
    return (
        f"The {title} is a {style} building in the old town of {town}, built from {stone} that "
        f"came from the hills near {other}.",
        f"It was designed by the architect {builder} and opened to the public in {year}.",
        f"After a {event} in {year + rng.randint(12, 60)} the merchant {owner} paid for new walls.",
        f"Since {rng.randint(1951, 2009)} the upper floor has been home to a small collection of "
        f"{rng.choice(('maps', 'clocks', 'coins', 'letters', 'paintings'))} from {other}.",
        f"About {rng.randint(12, 95)} thousand people visit it in a year, most of them in "
        f"{rng.choice(('April', 'June', 'July', 'August', 'October'))}.",
    )
