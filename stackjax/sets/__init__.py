"""Feasible sets for the leader's action and the follower's response."""

from stackjax.sets._ball import Ball
from stackjax.sets._base import FeasibleSet
from stackjax.sets._box import Box
from stackjax.sets._constrained import Constrained
from stackjax.sets._empirical import ActionSet, ConvexHull
from stackjax.sets._polyhedron import Polyhedron
from stackjax.sets._simplex import Simplex

__all__ = [
    "ActionSet",
    "Ball",
    "Box",
    "Constrained",
    "ConvexHull",
    "FeasibleSet",
    "Polyhedron",
    "Simplex",
]
