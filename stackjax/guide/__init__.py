"""Guide: how to use the library and how it is built, page by page.

Each page is a module whose docstring is the text: `help(stackjax.guide.gradients)`. The tests run
its code.

Solving:

- `gradients`: when the derivative of a best response is valid, and what is returned otherwise.

The library:

- `architecture`: the rooms, the way of one call, where each equation is, and how to add a solver, a
  set, a game or an experiment.
"""

from stackjax.guide import (
    architecture,
    gradients,
)

__all__ = [
    "architecture",
    "gradients",
]
