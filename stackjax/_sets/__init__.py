"""Feasible sets for the leader's action and the follower's response."""

from stackjax._sets._ball import Ball
from stackjax._sets._base import FeasibleSet
from stackjax._sets._box import Box
from stackjax._sets._constrained import Constrained
from stackjax._sets._polyhedron import Polyhedron
from stackjax._sets._simplex import Simplex

__all__ = ["Ball", "Box", "Constrained", "FeasibleSet", "Polyhedron", "Simplex"]
