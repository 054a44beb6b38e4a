"""Guide: how to use the library and how it is built, page by page.

Each page is a module whose docstring is the text: `help(stackjax.guide.gradients)`. The tests run
its code.

Solving:

- `choosing_a_solver`: sets and solvers, your own solver and set, results on known problems.
- `gradients`: when the derivative of a best response is valid, and what is returned otherwise.
- `convergence`: what `converged` guarantees, and what to try when a follower does not converge.
- `constraints`: sets, constraints that couple the players, shadow prices and their derivatives.
- `several_followers`: followers in Nash equilibrium, shared constraints, all equilibria.
- `several_levels`: three levels, and several followers written as one.
- `speed`: run times, compilation, and where stackjax is not the fastest.
- `coming_from`: the same model in jaxopt, optimistix, BilevelJuMP, PPO and stackjax.

Learning and agents:

- `learning`: learn followers from observed play and leaders through them; identification.
- `from_a_table`: learn a follower from a CSV file or a data frame, then a leader.
- `checkpoints`: stop and continue a fit; log its progress.
- `devices`: many contexts on many devices; what is tested on accelerators and what is not.
- `certificates`: what the statements of `certify` mean.
- `governing_agents`: put a learned controller in front of an LLM agent.
- `label_budgets`: choose labels under a budget, and where that fails.

Recipes, each compared with an independent solution (`recipes`):

- `recipes.logit_pricing`: a duopoly with logit demand.
- `recipes.hyperparameters`: penalties chosen by the held-out loss.
- `recipes.contract`: a principal and an agent, with the shadow price of participation.
- `recipes.electricity_market`: a carbon tax on power plants that share a line.
- `recipes.toll`: a toll on a road network.
- `recipes.three_levels`: three firms, one after another.
- `recipes.inverse_game`: recover a follower's parameters from a table of play.
- `recipes.own_training_loop`: an optax loop of your own through `best_response`.

The library:

- `architecture`: the packages, the path of a call, where each equation is, and how to add a solver,
  a set, a game or an experiment.
- `contributing`: set up, test, style, and how claims are checked.
"""

from stackjax.guide import (
    architecture,
    certificates,
    checkpoints,
    choosing_a_solver,
    coming_from,
    constraints,
    contributing,
    convergence,
    devices,
    from_a_table,
    governing_agents,
    gradients,
    label_budgets,
    learning,
    recipes,
    several_followers,
    several_levels,
    speed,
)

__all__ = [
    "architecture",
    "certificates",
    "checkpoints",
    "choosing_a_solver",
    "coming_from",
    "constraints",
    "contributing",
    "convergence",
    "devices",
    "from_a_table",
    "governing_agents",
    "gradients",
    "label_budgets",
    "learning",
    "recipes",
    "several_followers",
    "several_levels",
    "speed",
]
