"""Guide: how to use the library and how it is built, page by page.

Learning and agents:

- `learning`: followers from observed play, leaders through them; what cannot be identified.
- `from_a_table`: from a CSV file or a data frame to a follower, and from it to a leader.
- `checkpoints`: stop and continue a fit; log its progress.
- `devices`: many contexts on many devices; what is tested on accelerators and what is not.
- `certificates`: what `certify` says, in plain words.
- `governing_agents`: put a learned controller in front of an LLM agent.
- `label_budgets`: labels under a budget, and where that fails.

Recipes:

- `recipes`: complete programs for one purpose each.
- `recipes.inverse_game`: recover a follower's parameters from a table of play.
- `recipes.own_training_loop`: an optax loop of your own through `best_response`.

About the library:

- `architecture`: the rooms, the way of one call, where each equation is, and how to add a solver, a
  set, a game or an experiment.
- `contributing`: set up, test, style, and how claims are checked.
"""

from stackjax.guide import (
    architecture,
    certificates,
    checkpoints,
    contributing,
    devices,
    from_a_table,
    governing_agents,
    label_budgets,
    learning,
    recipes,
)

__all__ = [
    "architecture",
    "certificates",
    "checkpoints",
    "contributing",
    "devices",
    "from_a_table",
    "governing_agents",
    "label_budgets",
    "learning",
    "recipes",
]
