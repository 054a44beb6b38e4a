"""What an executor reads off a request, as numbers: no text of others is recorded."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import Any

from stackjax.agents.executor._adapter import Message
from stackjax.agents.executor._relevance import relevance, words

BUCKETS = 512


def text_features(history: Sequence[Message], question: str) -> dict[str, Any]:
    """The executor's knowledge of one turn.

    Args:
      history: Messages before the question, oldest first.
      question: The question.

    Returns:
      ``ngrams``: buckets of the question's words and pairs of words (CRC-32 modulo `BUCKETS`).
      ``relevance``: the best and the second best score over the notes, the newest note's score, the
      share of the question's words in the best note, and the best note's age in notes.
      ``digits``, ``words``: digits and words of the question.
    """
    notes = [message.text for message in history if message.kind == "note"]
    asked = words(question)
    score = relevance(question, notes)
    order = sorted(range(len(notes)), key=lambda i: (score[i], i), reverse=True)
    best = set(words(notes[order[0]])) if notes else set()
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(asked)]
    return {
        "ngrams": sorted({zlib.crc32(gram.encode()) % BUCKETS for gram in [*asked, *pairs]}),
        "relevance": [
            round(score[order[0]], 4) if notes else 0.0,
            round(score[order[1]], 4) if len(notes) > 1 else 0.0,
            round(score[-1], 4) if notes else 0.0,
            round(sum(word in best for word in asked) / max(len(asked), 1), 4),
            len(notes) - 1 - order[0] if notes else 0,
        ],
        "digits": sum(ch.isdigit() for ch in question),
        "words": len(asked),
    }
