"""Guide: how the library is built, page by page.

- `architecture`: the rooms, the way of one call, where each equation is, and how to add a solver, a
  set, a game or an experiment.
"""

from stackjax.guide import architecture

__all__ = ["architecture"]
