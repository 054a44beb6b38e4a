"""Contextual Stackelberg games, solved by differentiating through the follower's best response."""

from stackjax import agents, games
from stackjax._actions import ActionSet, Projection, project
from stackjax._fit import History, Observations, fit_follower, fit_leader
from stackjax._game import Game
from stackjax._response import Response, best_response
from stackjax._sets import Box
from stackjax._solve import Solution, solve
from stackjax._solvers import Newton

__all__ = [
    "ActionSet",
    "Box",
    "Game",
    "History",
    "Newton",
    "Observations",
    "Projection",
    "Response",
    "Solution",
    "agents",
    "best_response",
    "fit_follower",
    "fit_leader",
    "games",
    "project",
    "solve",
]
