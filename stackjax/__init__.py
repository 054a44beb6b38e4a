"""Contextual Stackelberg games, solved by differentiating through the follower's best response."""

from stackjax import agents, finite, games
from stackjax._actions import ActionSet, Projection, project
from stackjax._check import check
from stackjax._fit import History, Observations, fit_follower, fit_leader
from stackjax._game import Game
from stackjax._response import Multipliers, Response, best_response
from stackjax._sets import Ball, Box, Constrained, Polyhedron, Simplex
from stackjax._settings import Complementarity, FirstOrder, InteriorPoint, Newton, ProjectedGradient
from stackjax._solve import Solution, solve
from stackjax._verdicts import Check

__all__ = [
    "ActionSet",
    "Ball",
    "Box",
    "Check",
    "Complementarity",
    "Constrained",
    "FirstOrder",
    "Game",
    "History",
    "InteriorPoint",
    "Multipliers",
    "Newton",
    "Observations",
    "Polyhedron",
    "ProjectedGradient",
    "Projection",
    "Response",
    "Simplex",
    "Solution",
    "agents",
    "best_response",
    "check",
    "finite",
    "fit_follower",
    "fit_leader",
    "games",
    "project",
    "solve",
]
