"""Methods for the follower's and the leader's problem, and the one rule of their derivative."""

from stackjax.solvers._settings import (
    Complementarity,
    FirstOrder,
    InteriorPoint,
    Newton,
    ProjectedGradient,
)

__all__ = [
    "Complementarity",
    "FirstOrder",
    "InteriorPoint",
    "Newton",
    "ProjectedGradient",
]
