"""Bilevel test problems from the literature, with known global (optimistic) optima.

Formulas, starting points and published values are from the papers that each problem names, by
way of these collections:

- S. Zhou, A. B. Zemkoho, A. Tin (2020). BOLIB: Bilevel Optimization LIBrary of test problems.
  In: Bilevel Optimization, Springer. Version 2, https://biopt.github.io/bolib.
- R. Paulavicius, C. S. Adjiman (2019). BASBLib, a library of bilevel test problems.
  https://basblsolver.github.io/BASBLib.
- A. Mitsos, P. I. Barton (2006). A test set for bilevel programs. Technical report, MIT.
- A. Sinha, P. Malo, K. Deb (2014). Test problem construction for single-objective bilevel
  optimization. Evolutionary Computation 22.

Values were checked by enumerating the follower's active sets where the follower is convex, and
on grids or by multi-start otherwise. Published values that this contradicts are corrected, with a
comment. `MULTIMODAL` are problems of another kind, in two sizes at choice in their source.
"""

from .convex import CONVEX
from .multimodal import MULTIMODAL
from .nonconvex import NONCONVEX
from .problem import Problem
from .strong import STRONG

PROBLEMS: tuple[Problem, ...] = (*STRONG, *CONVEX, *NONCONVEX)

__all__ = ["MULTIMODAL", "PROBLEMS", "Problem"]
