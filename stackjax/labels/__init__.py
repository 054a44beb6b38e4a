"""Labels under a budget, as a contextual Stackelberg game.

After 'Optimal Budgeted Adaptation of Large Language Models' (arXiv 2602.00952: StackSL and
LLF-StackSL). What is built here is a reading of its abstract: the learner (leader) commits to
scores and to a rule that asks for labels, the environment (follower) answers with a challenger,
the alternative that could still beat the leader's choice by most. The challenger's gap bounds the
regret of the round, and labels are asked for where the gap is largest.

A learner is four pure functions, `init`, `propose`, `update` and `refresh`; gates decide who asks
for labels and are the only difference between LLF-StackSL and its baselines.

- Rounds to play: `linear_stream`, `rare_stream`, `ordered_stream`, `recorded_stream`, `imagine`.
- Learners: `llf_stacksl`, `stacksl`, `budgeted_learner`.
- Gates, who say when to ask: `largest_gap`, `waiting_pool`, `oldest_direction`, `margin`,
  `entropy`, `width`, `at_random`, `every_round`, `gate_of`; their thresholds: `decaying`.
- Playing: `run`, `play`, `accuracy`, `run_last_layer`.
- A threshold that suits a budget: `tune_threshold`, `tune_gate`, `smoothed_run`.
- The estimate and the game of one round: `new_ridge`, `label`, `refresh`, `confidence_radius`,
  `parameter_error`, `challenge`.

Example:
  >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=4)
  >>> learner = sj.labels.llf_stacksl(budget=20, threshold=0.3, noise=0.5, scale=0.3)
  >>> state, curves = sj.labels.run(learner, stream, 512, key=jax.random.key(1))
  >>> print(state.labels, curves.regret.shape)
  20 (2,)
"""

from stackjax.labels._calibrate import TunedThreshold, tune_threshold
from stackjax.labels._challenge import Challenge, challenge
from stackjax.labels._gates import (
    Gate,
    GateCandidate,
    View,
    at_random,
    decaying,
    entropy,
    every_round,
    gate_of,
    largest_gap,
    margin,
    oldest_direction,
    width,
)
from stackjax.labels._last_layer import LastLayer, run_last_layer
from stackjax.labels._learner import (
    Learner,
    LearnerState,
    Proposal,
    budgeted_learner,
    llf_stacksl,
    stacksl,
)
from stackjax.labels._pool import waiting_pool
from stackjax.labels._recorded import (
    ImaginedStream,
    RecordedStream,
    imagine,
    recorded_stream,
)
from stackjax.labels._ridge import (
    Ridge,
    confidence_radius,
    label,
    new_ridge,
    parameter_error,
    refresh,
)
from stackjax.labels._run import Curves, accuracy, play, run
from stackjax.labels._smooth import GateSettings, SmoothedRun, Tuned, smoothed_run, tune_gate
from stackjax.labels._streams import (
    LinearStream,
    Round,
    linear_stream,
    ordered_stream,
    rare_stream,
)

__all__ = [
    "Challenge",
    "Curves",
    "Gate",
    "GateCandidate",
    "GateSettings",
    "ImaginedStream",
    "LastLayer",
    "Learner",
    "LearnerState",
    "LinearStream",
    "Proposal",
    "RecordedStream",
    "Ridge",
    "Round",
    "SmoothedRun",
    "Tuned",
    "TunedThreshold",
    "View",
    "accuracy",
    "at_random",
    "budgeted_learner",
    "challenge",
    "confidence_radius",
    "decaying",
    "entropy",
    "every_round",
    "gate_of",
    "imagine",
    "label",
    "largest_gap",
    "linear_stream",
    "llf_stacksl",
    "margin",
    "new_ridge",
    "oldest_direction",
    "ordered_stream",
    "parameter_error",
    "play",
    "rare_stream",
    "recorded_stream",
    "refresh",
    "run",
    "run_last_layer",
    "smoothed_run",
    "stacksl",
    "tune_gate",
    "tune_threshold",
    "waiting_pool",
    "width",
]
