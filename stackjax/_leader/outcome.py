"""Points of the bilevel program, and what is known of the one that was chosen."""

from flax import struct

from stackjax._arrays.search_history import SearchHistory
from stackjax._arrays.typing import Vector
from stackjax.solvers._optimality import Linearised


class Point(struct.PyTreeNode):
    """A point of the bilevel program. All arrays are floating point, flags too.

    Attributes:
      w: `[n + p + k]` variables and multipliers.
      linearised: the optimality conditions there.
      error: scalar, violation of the leader's optimality conditions on the active set.
      length: scalar, the last Newton step.
      infeasibility: scalar, the largest violation of the leader's set, of the follower's, and of
        its optimality conditions, each relative to the size of its terms.
      curvature: scalar, the leader's least along the free directions (negative: a maximum).
      value: scalar, the leader's utility.
      solved: scalar, 1 if the leader's optimality conditions hold on the active set.
      near: `[a + r]` the action and the response where the interior-point method ended.
    """

    w: Vector
    linearised: Linearised
    error: Vector
    length: Vector
    infeasibility: Vector
    curvature: Vector
    value: Vector
    solved: Vector
    near: Vector


class Left(struct.PyTreeNode):
    """The point worth most to the leader of those that the follower would leave for a better one.

    Attributes:
      action: `[a]`.
      response: `[r]` the point's own.
      rival: `[r]` the best response to that action of those that were tried.
      value: scalar, the leader's utility at the point; -inf if there is no such point.
    """

    action: Vector
    response: Vector
    rival: Vector
    value: Vector


class Outcome(struct.PyTreeNode):
    """The point chosen, and how it stands among the others. Floating point, flags too.

    Attributes:
      point: the point chosen.
      regret: scalar, what the follower could gain, in the program's unit of utility.
      steps: scalar, the most iterations that a starting point took.
      agreeing_starts: scalar, starting points that ended at a point as good.
      others: scalar, 1 if a starting point ended at a point that is stationary and worth less.
      local: scalar, 1 if the follower's problem is not concave where it was looked at.
      unique: scalar, 1 if the follower's curvature rules out other best responses nearby.
      settled: scalar, 1 if all conditions hold, but for what excludes other best responses.
      converged: scalar.
      history: of the interior-point method, from the start that led to the point.
      candidate: scalar, 1 if the point is feasible and no response that was tried is better.
      left: the best point that the follower would leave.
    """

    point: Point
    regret: Vector
    steps: Vector
    agreeing_starts: Vector
    others: Vector
    local: Vector
    unique: Vector
    settled: Vector
    converged: Vector
    history: SearchHistory | None
    candidate: Vector
    left: Left
