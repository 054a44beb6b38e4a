"""Closed-form Stackelberg games: utilities, exact answers, exact sensitivities, generators.

Each function returns a `ClosedFormGame`, whose answers are formulas and not the solver's.

They are textbook examples to learn from, and the ground truth that solvers are tested on.

- Smooth, interior equilibria: `duopoly`, `bertrand`, `wholesale`, `principal_agent`, `income_tax`,
  `contest`, `quadratic`, `ridge`.
- Optima on a kink of the follower's response: `entry_deterrence`, `toll`, `halfspaces`, `bonuses`.
- A follower on a simplex or in a ball: `logit_pricing`, `security`, `bonuses`, `steering`.
- A constraint on action and response together: `commodity_tax`.
- Several best responses: `posted_price`, `favour`.

Example:
  >>> duopoly = sj.games.duopoly()
  >>> demand = duopoly.contexts(jax.random.key(0), 100)
  >>> action, response = jax.vmap(duopoly.equilibrium)(demand)  # exact
  >>> print(action.shape, response.shape)
  (100,) (100,)
"""

from stackjax.games._bertrand import bertrand
from stackjax.games._bonuses import bonuses
from stackjax.games._closed_form import ClosedFormGame
from stackjax.games._contest import contest
from stackjax.games._duopoly import duopoly, entry_deterrence
from stackjax.games._halfspaces import halfspaces
from stackjax.games._logit_pricing import logit_pricing
from stackjax.games._principal_agent import principal_agent
from stackjax.games._quadratic import quadratic
from stackjax.games._ridge import ridge
from stackjax.games._security import security
from stackjax.games._steering import steering
from stackjax.games._taxation import commodity_tax, income_tax
from stackjax.games._ties import favour, posted_price
from stackjax.games._toll import toll
from stackjax.games._wholesale import wholesale

__all__ = [
    "ClosedFormGame",
    "bertrand",
    "bonuses",
    "commodity_tax",
    "contest",
    "duopoly",
    "entry_deterrence",
    "favour",
    "halfspaces",
    "income_tax",
    "logit_pricing",
    "posted_price",
    "principal_agent",
    "quadratic",
    "ridge",
    "security",
    "steering",
    "toll",
    "wholesale",
]
