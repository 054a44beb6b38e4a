"""Figures of games, followers, policies and evaluations, with matplotlib (extra `plot`).

Each function takes data, draws it on the matplotlib `ax` given (or on a new one), and returns the
axes. The colour says the role: `COLORS`. matplotlib's settings are left alone.
"""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError('stackjax.plot needs matplotlib: `pip install "stackjax[plot]"`.') from error

from stackjax.plot._actions import action_set
from stackjax.plot._curve import response_curve
from stackjax.plot._outcomes import pareto
from stackjax.plot._path import leader_path
from stackjax.plot._reliability import reliability_diagram
from stackjax.plot._statics import comparative_statics
from stackjax.plot._steps import step_histogram
from stackjax.plot._style import COLORS
from stackjax.plot._surface import policy_surface, response_surface

__all__ = [
    "COLORS",
    "action_set",
    "comparative_statics",
    "leader_path",
    "pareto",
    "policy_surface",
    "reliability_diagram",
    "response_curve",
    "response_surface",
    "step_histogram",
]
