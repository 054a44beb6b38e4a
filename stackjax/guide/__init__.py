"""Guide: how to use the library and how it is built, page by page.

Each page is a module whose docstring is the text: `help(stackjax.guide.gradients)`. The tests run
its code.

Solving:

- `choosing_a_solver`: sets and solvers, your own solver and set, results on known problems.
- `gradients`: when the derivative of a best response is valid, and what is returned otherwise.
- `convergence`: what `converged` promises, and what to try when a follower does not converge.
- `constraints`: sets, constraints that couple the players, shadow prices and their derivatives.
- `several_levels`: three levels, several followers, and what the library cannot do.
- `speed`: what a call costs, compilation, and where stackjax is not the fastest.
- `coming_from`: jaxopt, optimistix, BilevelJuMP and a PPO controller, side by side.

Recipes, each compared with an independent answer (`recipes`):

- `recipes.logit_pricing`: a duopoly with logit demand.
- `recipes.hyperparameters`: penalties chosen by the held-out loss.
- `recipes.contract`: a principal and an agent, with the shadow price of participation.
- `recipes.toll`: a toll on a road network.
- `recipes.three_levels`: three firms, one after another.

The library:

- `architecture`: the rooms, the way of one call, where each equation is, and how to add a solver, a
  set, a game or an experiment.
"""

from stackjax.guide import (
    architecture,
    choosing_a_solver,
    coming_from,
    constraints,
    convergence,
    gradients,
    recipes,
    several_levels,
    speed,
)

__all__ = [
    "architecture",
    "choosing_a_solver",
    "coming_from",
    "constraints",
    "convergence",
    "gradients",
    "recipes",
    "several_levels",
    "speed",
]
