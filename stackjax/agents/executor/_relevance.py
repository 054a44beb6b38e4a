"""How relevant notes are to a question, by the words that they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORDS = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Returns the words of a text in lower case, numbers among them."""
    return _WORDS.findall(text.lower())


def relevance(question: str, notes: Sequence[str]) -> list[float]:
    """Returns each note's relevance to the question.

    The sum, over the distinct words w of the question that the note has, of ``log(n / n_w)``: n
    notes, of which n_w have the word. A word that all notes have counts nothing, so that a question
    that names none of them leaves all at 0.

    Args:
      question: The question.
      notes: The notes, n of them.
    """
    bags = [set(words(note)) for note in notes]
    frequency = Counter(word for bag in bags for word in bag)
    asked = set(words(question))
    weight = {word: math.log(len(bags) / count) for word, count in frequency.items()}
    return [sum(weight[word] for word in sorted(asked & bag)) for bag in bags]
