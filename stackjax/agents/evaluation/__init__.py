"""What a policy is worth: on replayed turns, off policy, and with a certificate."""

from stackjax.agents.evaluation._compare import compare
from stackjax.agents.evaluation._off_policy import OffPolicy, off_policy
from stackjax.agents.evaluation._policies import (
    constant_cell,
    constant_signal,
    deployed_controller,
    governed,
)
from stackjax.agents.evaluation._real_turns import (
    executed_turns,
    logged_turns,
    score_bounds,
    turn_score,
)
from stackjax.agents.evaluation._replay import Factorial, Replay, constant, factorial, replay

__all__ = [
    "Factorial",
    "OffPolicy",
    "Replay",
    "compare",
    "constant",
    "constant_cell",
    "constant_signal",
    "deployed_controller",
    "executed_turns",
    "factorial",
    "governed",
    "logged_turns",
    "off_policy",
    "replay",
    "score_bounds",
    "turn_score",
]
