"""Shorter conversations: whole old exchanges go, old tool results are cut, repeated ones named.

A provider caches the beginning of a request and charges less for what it has seen. All that is done
here is a function of the conversation and the level alone, and moves in steps: while a session
grows, most requests begin with the whole of the one before, and over n exchanges the beginning
changes about ``2 log2(n)`` times.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from stackjax.runtime.chat._wire import Wire, exchanges

WORTH = 200
"""Characters below which a tool's result is left as it is."""


class Compacted(NamedTuple):
    """Items that are sent: the very list that was given if nothing changed."""

    items: list[Any]
    dropped: int


def stepped(count: int) -> int:
    """The largest of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is no larger than a count.

    Example:
      >>> [stepped(n) for n in range(10)]
      [0, 1, 2, 3, 4, 4, 6, 6, 8, 8]
    """
    if count < 2:
        return max(count, 0)
    high = 1 << (count.bit_length() - 1)
    return high + high // 2 if count >= high + high // 2 else high


def due(count: int, share: float) -> int:
    """How many of some older things go so that at least ``share`` of them stays.

    Nothing is to stay at share 0: then all go at once, and no step is needed.
    """
    gone = count - math.ceil(share * count)
    return gone if share == 0.0 else stepped(gone)


def compact_items(
    wire: Wire, items: list[Any], share: float, *, longest: int = 2000, drop: bool = True
) -> Compacted:
    """Drops, cuts and repacks what is old.

    Args:
      wire: The format.
      items: A conversation without errors; not changed.
      share: Part of the older exchanges, and of the older rounds of tool results, that stays
        whole; 1 leaves all as it is. The newest exchange stays, and the newest round whole.
      longest: Characters of an older tool result above which its middle is cut.
      drop: Whether exchanges may go; else only results are shortened.
    """
    if share >= 1.0:
        return Compacted(items, 0)
    kept = without_oldest(wire, items, share) if drop else items
    made = _repacked(wire, kept, share, longest)
    return Compacted(made, len(items) - len(made))


def without_oldest(wire: Wire, items: list[Any], share: float) -> list[Any]:
    """The items without the exchanges that go at a share; the list itself if none does."""
    older = exchanges(wire, items)[:-1]
    gone = {position for exchange in older[: due(len(older), share)] for position in exchange}
    calls = [name for position in gone for name in wire.calls(items[position])]
    answered = [name for position in gone for name in wire.answered(items[position])]
    if not gone or sorted(calls) != sorted(answered):  # a call and its result go or stay together
        return items
    return [item for position, item in enumerate(items) if position not in gone]


def _repacked(wire: Wire, items: list[Any], share: float, longest: int) -> list[Any]:
    """The items with tool results that say the same in fewer characters, or less if they are old.

    A result that repeats an earlier one names it instead, if both are whole or both are cut: a
    whole one must not point to one that was cut.
    """
    rounds: list[list[int]] = []
    for position, item in enumerate(items):
        if wire.role(item) == "tool":
            if not rounds or rounds[-1][-1] != position - 1:
                rounds.append([])
            rounds[-1].append(position)
    if not rounds:
        return items
    # What the model has not yet answered to is the newest round, and whole.
    old = due(len(rounds) - 1, share)
    made, changed = list(items), False
    seen: dict[tuple[bool, str], str] = {}
    for number, positions in enumerate(rounds):
        for position in positions:
            item = items[position]
            names = wire.answered(item)
            before = wire.results(item)
            after = []
            for text in before:
                packed = without_spaces(text)
                short = head_and_tail(packed, longest) if number < old else packed
                told = short is not packed, text
                first = seen.setdefault(told, names[0]) if len(text) >= WORTH else ""
                if len(names) == 1 and first and first != names[0]:
                    short = f"[Identical to the result of call {first}, above.]"
                after.append(short if len(short) < len(text) else text)
            if after != before:
                made[position], changed = wire.with_results(item, after), True
    return made if changed else items


def head_and_tail(text: str, longest: int) -> str:
    r"""A long text without its middle, which is marked; the head is twice as long as the tail.

    Example:
      >>> head_and_tail("a" * 900, 300)[195:225]
      'aaaaa\n[... 600 characters left'
    """
    if len(text) <= longest + WORTH:
        return text
    head, tail = longest - longest // 3, longest // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n[... {cut} characters left out ...]\n{text[len(text) - tail :]}"


_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')


def without_spaces(text: str) -> str:
    """JSON without the spaces that say nothing; any other text as it is.

    Numbers and strings stay as they are written.

    Example:
      >>> without_spaces('{ "a b": [1.10, 2] }')
      '{"a b":[1.10,2]}'
      >>> without_spaces("{ not json }")
      '{ not json }'
    """
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _TOKEN.sub(lambda found: found.group(1) or "", text)
