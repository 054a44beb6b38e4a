"""Recipes: whole problems, each solved and compared with an independent answer.

- `logit_pricing`: a duopoly with logit demand, against first-order conditions and a search.
- `hyperparameters`: penalties chosen by held-out loss through the fit, against a grid.
- `contract`: a principal and an agent with a participation constraint and its shadow price.
- `toll`: a toll on a road network with a Wardrop equilibrium below it.
- `three_levels`: a leader, a follower of it, and a follower of both.
"""

from stackjax.guide.recipes import (
    contract,
    hyperparameters,
    logit_pricing,
    three_levels,
    toll,
)

__all__ = [
    "contract",
    "hyperparameters",
    "logit_pricing",
    "three_levels",
    "toll",
]
