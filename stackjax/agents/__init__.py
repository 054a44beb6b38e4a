"""The resource game of LLM agents (arXiv 2606.23026): its parts, from payoffs to real turns.

`executor`, `tasks` and `log` are plain Python; `openai` and `xllamacpp` (extra `llm`) are imported
when used.
Examples begin with `from stackjax.agents.control import known_world` too, a small world.

Example:
  >>> context, game = known_world.context(), sj.agents.game.resource_game()
  >>> signal = jnp.array([0.8, 0.5])
  >>> print(sj.best_response(game, signal, context, response=jnp.full(3, 0.5)).converged)
  True
"""

from stackjax.agents import control, evaluation, executor, game, log, repair, surrogate, tasks

__all__ = [
    "control",
    "evaluation",
    "executor",
    "game",
    "log",
    "repair",
    "surrogate",
    "tasks",
]
