"""Questions with known answers, their families, and the tools that they need."""

from stackjax.agents.tasks._questions import gsm8k, hotpotqa, question_sessions
from stackjax.agents.tasks._tasks import Episode, Turn, is_correct, make_episode

__all__ = [
    "Episode",
    "Turn",
    "gsm8k",
    "hotpotqa",
    "is_correct",
    "make_episode",
    "question_sessions",
]
