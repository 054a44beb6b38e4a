"""The game: utilities, feasible sets, and followers that are several."""

from stackjax._game.followers import Followers, Several
from stackjax._game.game import Game, evaluate, scalar

__all__ = ["Followers", "Game", "Several", "evaluate", "scalar"]
