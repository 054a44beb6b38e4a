"""Recipes: complete problems, each compared with an independent solution.

- `logit_pricing`: a duopoly with logit demand, against first-order conditions and a search.
- `hyperparameters`: penalties chosen by the held-out loss, against a grid.
- `contract`: a principal and an agent with a participation constraint and its shadow price.
- `electricity_market`: a carbon tax on power plants that share a line, against enumeration.
- `toll`: a toll on a road network in Wardrop equilibrium.
- `three_levels`: a leader, its follower, and a follower of both.
- `inverse_game`: recover a follower's parameters from a table of play, against the truth and a
  regression.
- `own_training_loop`: an optax loop of your own through `best_response`, on one device or many.
"""

from stackjax.guide.recipes import (
    contract,
    electricity_market,
    hyperparameters,
    inverse_game,
    logit_pricing,
    own_training_loop,
    three_levels,
    toll,
)

__all__ = [
    "contract",
    "electricity_market",
    "hyperparameters",
    "inverse_game",
    "logit_pricing",
    "own_training_loop",
    "three_levels",
    "toll",
]
