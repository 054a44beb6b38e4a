"""The resource game of LLM agents (arXiv 2606.23026): its parts, from payoffs to real turns.

The executor's modules (`adapter`, `executor`, `server`, `session`, `tasks`, `tools`, `turn_log`,
`heuristic`) are plain Python; `openai` and `xllamacpp` (extra `llm`) are imported when used.

Example:
    >>> from stackjax.agents.control import known_world
    >>> context = sj.agents.game.resource_context(
    ...     jnp.zeros(14), *known_world.surfaces(), previous=jnp.array([0.8, 0.5]),
    ...     budget=jnp.array(1.0), reference=jnp.ones(3),
    ... )
    >>> signal, game = jnp.array([0.8, 0.5]), sj.agents.game.resource_game()
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
