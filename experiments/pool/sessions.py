"""The sessions of the study, and the cells under which their turns are asked."""

from __future__ import annotations

import itertools
from pathlib import Path

from stackjax.agents.tasks._documents import hotpotqa_documents
from stackjax.agents.tasks._research import MAX_PAGES, make_research_session
from stackjax.agents.tasks._tasks import Episode

ADAPTER = "3"
NONE, TOP_1, TOP_2, HALF, ALL = 0.0, 0.25, 0.5, 0.75, 1.0
# Cells of equal prompt and tools follow each other, cheapest context first: the server keeps the
# computed beginning of the last request, and top-2 begins as top-1 ends.
CELLS = (
    *(
        (c, p, u)
        for p, u, c in itertools.product((0.0, 0.5), (0.0, 0.5), (NONE, TOP_1, TOP_2, HALF))
    ),
    (ALL, 0.5, 0.0),
    (ALL, 0.5, 0.5),
)
"""The 18 cells (c, p, u): all context is a candidate for Conservative only."""

PARTS = {"pilot": 21, "tune": 22, "main": 23}
"""Streams of the sessions."""
_FIRST = {"pilot": 0, "tune": 40, "main": 140}
_COUNT = {"pilot": 40, "tune": 100, "main": 300}


def pool_sessions(part: str, hotpotqa: Path, *, count: int | None = None) -> list[Episode]:
    """Sessions over rows of HotpotQA, each row used once over all parts.

    Args:
      part: ``"pilot"``, ``"tune"`` or ``"main"``.
      hotpotqa: HotpotQA's development set in the distractor setting, as JSON lines.
      count: How many sessions; by default all of the part.

    Raises:
      ValueError: `part` is unknown, or the file has too few rows with `MAX_PAGES` documents.
    """
    if part not in PARTS:
        raise ValueError(f"`part` must be one of {', '.join(PARTS)}; got {part!r}")
    rows = [row for row in hotpotqa_documents(hotpotqa) if len(row) >= MAX_PAGES]
    count = _COUNT[part] if count is None else count
    rows = rows[_FIRST[part] : _FIRST[part] + _COUNT[part]][:count]
    if len(rows) < count:
        raise ValueError(f"`hotpotqa` must have {count} rows for part {part}; got {len(rows)}")
    return [
        make_research_session(PARTS[part], index, documents=row) for index, row in enumerate(rows)
    ]
