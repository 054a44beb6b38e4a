"""Recipes: complete programs, each for one purpose.

- `inverse_game`: recover a follower's parameters from a table of play, and compare them with the
  truth and with a regression.
- `own_training_loop`: an optax loop of your own through `best_response`, on one device or many.
"""

from stackjax.guide.recipes import inverse_game, own_training_loop

__all__ = ["inverse_game", "own_training_loop"]
