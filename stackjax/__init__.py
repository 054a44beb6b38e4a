"""Contextual Stackelberg games, solved by differentiating through the follower's best response."""

from stackjax import agents, finite, games
from stackjax._actions import ActionSet, Projection, project
from stackjax._check import check
from stackjax._concave import ConcaveUtility, Concavity, FreeUtility, probe_concavity
from stackjax._fit import (
    Average,
    BehaviourCloning,
    Dynamics,
    Ensemble,
    GaussianResponse,
    GibbsResponse,
    History,
    Horizon,
    Observations,
    ResponseRegression,
    Suboptimal,
    Trajectory,
    fit_follower,
    fit_leader,
    rollout,
)
from stackjax._game import Game
from stackjax._response import Multipliers, Response, best_response
from stackjax._sets import Ball, Box, Constrained, Polyhedron, Simplex
from stackjax._settings import Complementarity, FirstOrder, InteriorPoint, Newton, ProjectedGradient
from stackjax._solve import Solution, solve
from stackjax._verdicts import Check

__all__ = [
    "ActionSet",
    "Average",
    "Ball",
    "BehaviourCloning",
    "Box",
    "Check",
    "Complementarity",
    "ConcaveUtility",
    "Concavity",
    "Constrained",
    "Dynamics",
    "Ensemble",
    "FirstOrder",
    "FreeUtility",
    "Game",
    "GaussianResponse",
    "GibbsResponse",
    "History",
    "Horizon",
    "InteriorPoint",
    "Multipliers",
    "Newton",
    "Observations",
    "Polyhedron",
    "ProjectedGradient",
    "Projection",
    "Response",
    "ResponseRegression",
    "Simplex",
    "Solution",
    "Suboptimal",
    "Trajectory",
    "agents",
    "best_response",
    "check",
    "finite",
    "fit_follower",
    "fit_leader",
    "games",
    "probe_concavity",
    "project",
    "rollout",
    "solve",
]
