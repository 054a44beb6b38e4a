"""Questions with known answers, their families, and the tools that they need.

Two streams of sessions need no file: `make_episode` gives sessions of 3 to 8 turns whose facts the
user tells, `make_research_session` sessions of 8 to 14 turns whose tool outputs stay in the history
and whose need only the question's text tells. Questions and passages that others wrote come from
their standard files: `gsm8k`, `hotpotqa`, `hotpotqa_documents`.
"""

from stackjax.agents.tasks._documents import Document, hotpotqa_documents, templated_documents
from stackjax.agents.tasks._questions import gsm8k, hotpotqa, question_sessions
from stackjax.agents.tasks._research import RESEARCH_TYPES, make_research_session
from stackjax.agents.tasks._tasks import Episode, Turn, is_correct, make_episode

__all__ = [
    "RESEARCH_TYPES",
    "Document",
    "Episode",
    "Turn",
    "gsm8k",
    "hotpotqa",
    "hotpotqa_documents",
    "is_correct",
    "make_episode",
    "make_research_session",
    "question_sessions",
    "templated_documents",
]
