"""Finite Stackelberg games: the leader commits to a mixed strategy over `A` actions, the follower
answers with one of `R` responses.

- A follower, of one type or several, that answers best, ties in the leader's favour:
  `strong_stackelberg`; ties against it: `weak_stackelberg`.
- An attacker of one of n targets that the leader covers: `security_equilibrium`.
- A follower that errs, less often where it costs more: `quantal_response`, `solve_quantal`.

`strong_stackelberg` and `weak_stackelberg` are exact and run on the host; `security_equilibrium`
(exact too), `quantal_response` and `solve_quantal` are JAX and can be jitted, vmapped and
differentiated.

Example:
  >>> leader = np.array([[2.0, 4.0], [1.0, 3.0]])  # [A, R] utilities
  >>> follower = np.array([[1.0, 0.0], [0.0, 1.0]])
  >>> found = sj.finite.strong_stackelberg(leader, follower)
  >>> print(found.strategy, found.response, found.leader_utility)
  [0.5 0.5] 1 3.5
"""

from stackjax.finite._quantal import QuantalSolution, quantal_response, solve_quantal
from stackjax.finite._security import SecuritySolution, security_equilibrium
from stackjax.finite._strong import FiniteSolution, strong_stackelberg
from stackjax.finite._weak import WeakSolution, weak_stackelberg

__all__ = [
    "FiniteSolution",
    "QuantalSolution",
    "SecuritySolution",
    "WeakSolution",
    "quantal_response",
    "security_equilibrium",
    "solve_quantal",
    "strong_stackelberg",
    "weak_stackelberg",
]
