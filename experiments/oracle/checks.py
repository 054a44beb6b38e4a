"""Random games with answers computed without the library, and the comparison.

Each kind tries to falsify one sentence: *where `converged` is set, the value is the best response
and its derivatives are those of the best response*. A kind draws games, answers them in float64
with NumPy and SciPy alone (enumeration of active sets, bisection, linear programs, closed forms;
every answer is checked against the optimality conditions, with gradients written by hand), and
states the same games to the library. `judge` counts what differs.

Shared by `tests/oracle`, which runs a slice, and `experiments/oracle`, which runs thousands.
"""

from experiments.oracle.judge import ask, forget, judge
from experiments.oracle.kind import Answer, Kind
from experiments.oracle.tally import Tally

__all__ = ["Answer", "Kind", "Tally", "ask", "forget", "judge"]
