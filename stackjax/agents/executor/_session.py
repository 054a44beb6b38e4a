"""Sessions: the state that a policy sees, and the loop that plays an episode."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from stackjax.agents.executor._adapter import PASSAGES, Message, executed_action
from stackjax.agents.executor._executor import Executor, TurnOutcome
from stackjax.agents.log._accounts import START_QUALITY, Accounts
from stackjax.agents.log._log import TurnLog, TurnRecord, latest, turn_key
from stackjax.agents.tasks._tasks import Episode, Turn, is_correct

TURN_BUDGET = 400.0
TOKENS_PER_WORD = 1.35


class Choice(NamedTuple):
    """What a policy decides for a turn.

    Attributes:
      action: The intended (c, p, u).
      signal: The leader's (q, alpha), or None.
      propensity: Probability of the action under the design, or None if unknown.
      name: The arm's name.
      design: ``"random"``, ``"factorial"``, ``"heuristic"``, ``"later"``, ``"candidate"`` or
        ``"policy"``.

    Example:
      >>> sj.agents.executor.Choice((1.0, 0.5, 0.0), None, 1.0, "no tools", "policy").action
      (1.0, 0.5, 0.0)
    """

    action: tuple[float, float, float]
    signal: tuple[float, float] | None
    propensity: float | None
    name: str
    design: str


def count_tokens(messages: list[Message]) -> int:
    """Estimates the tokens of messages without a tokenizer: words and marks times 1.35."""
    words = sum(len(message.text.split()) + 2 for message in messages)
    return round(words * TOKENS_PER_WORD)


@dataclass
class SessionState:
    """What is known about a session between turns.

    Attributes:
      token_budget: Tokens that the session may use in all.
      history: All messages so far, oldest first.
      notes: All notes so far, oldest first.
      turn_index: Turns finished, failed ones among them.
      total_tokens: Tokens used.
      last_tokens: Tokens of the last turn.
      previous_tokens: Tokens of the turn before it.
      recent_quality: Exponential mean of checked correctness, 0.5 at the start.
      model_condition: 1 healthy; halved by a fallback, recovering by 0.3 of the gap a good turn.

    Example:
      >>> state = sj.agents.executor.SessionState(1000.0)
      >>> turn = sj.agents.tasks.make_episode(0, 7).turns[0]
      >>> state.hear(turn)
      >>> state.update(turn, tokens=250, correct=True, fallback=False, reply=turn.reference)
      >>> state.turn_index, state.features(turn)["budget"], round(state.recent_quality, 2)
      (1, 0.75, 0.7)
    """

    token_budget: float
    history: list[Message] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    turn_index: int = 0
    total_tokens: int = 0
    last_tokens: int = 0
    previous_tokens: int | None = 0
    recent_quality: float = START_QUALITY
    model_condition: float = 1.0

    @property
    def accounts(self) -> Accounts:
        """The six numbers below `notes` as one."""
        numbers = {name: getattr(self, name) for name in Accounts._fields}
        return Accounts(**numbers | {"previous_tokens": self.previous_tokens or 0})

    def hear(self, turn: Turn) -> None:
        """Adds the turn's notes, before anything is decided."""
        self.history += [Message("note", note) for note in turn.notes]
        self.notes += turn.notes

    def features(self, turn: Turn) -> dict[str, float]:
        """Returns the raw features at decision time."""
        sendable = [Message("passage", text) for text in turn.passages[-PASSAGES:]]
        measured = self.accounts.measured(self.token_budget)
        return {
            "task_complexity": turn.complexity,
            "context_tokens": count_tokens([*self.history, *sendable]),
            **{k: round(v, 3 if k == "mean_tokens" else 6) for k, v in measured.items()},
        }

    def update(self, turn: Turn, tokens: int, correct: bool, fallback: bool, reply: str) -> None:
        """Adds a finished turn: its cost, its quality and its two messages."""
        right, failed = float(correct), float(fallback)
        after = self.accounts.after(tokens, correct=right, failed=failed)
        for name, value in after._asdict().items():
            setattr(self, name, value)
        self.history += [Message("question", turn.question), Message("reply", reply)]


Policy = Callable[[SessionState, Turn, random.Random], Choice]


def run_episode(
    executor: Executor,
    episode: Episode,
    policy: Policy,
    log: TurnLog,
    *,
    history: Literal["reference", "own"] = "reference",
    token_budget: float | None = None,
    seed: int = 0,
) -> list[TurnRecord]:
    """Plays an episode under a policy and logs each turn.

    Turns that the log already has are not taken again, unless no server answered them; their
    recorded results advance the state.

    Args:
      executor: Takes the turns.
      episode: The session.
      policy: Decides each turn from the state, the turn and a random stream of its own.
      log: Where the records go, and where finished turns are found.
      history: ``"reference"``: earlier assistant messages are the scripted reference replies, so
        that the outcome of a (turn, action) pair depends on no earlier action; ``"own"``: the
        model's own replies.
      token_budget: Tokens for the session; by default `TURN_BUDGET` a turn.
      seed: Seed of the policy's random numbers; each turn has its own stream, so that a resumed
        run draws what the uninterrupted one would have drawn.

    Raises:
      ValueError: If `history` is neither of the two, or the policy's action is
        not in [0, 1]^3, or the budget is not positive.

    Example:
      >>> import pathlib, tempfile
      >>> from stackjax.agents import executor
      >>> class Silent:  # what an `Executor` does, without a model
      ...     model, adapter = "none", "2"
      ...     def run_turn(self, question, task, action, **context):
      ...         done = executor.executed_action(action)
      ...         return executor.TurnOutcome("", done, 90, 10, 0.1, 0, None, False, ("",))
      >>> everything = executor.Choice((1, 1, 1), None, 1.0, "everything", "policy")
      >>> always = lambda state, turn, rng: everything
      >>> episode = sj.agents.tasks.make_episode(0, 7)
      >>> with sj.agents.log.TurnLog(pathlib.Path(tempfile.mkdtemp()) / "turns.jsonl") as log:
      ...     records = executor.run_episode(Silent(), episode, always, log)
      >>> len(records) == len(episode.turns), records[-1].executed, records[-1].correct
      (True, (1.0, 1.0, 1.0), False)
    """
    if history not in ("reference", "own"):
        raise ValueError(f'history must be "reference" or "own", got {history!r}')
    if token_budget is None:
        token_budget = TURN_BUDGET * len(episode.turns)
    if not token_budget > 0:
        raise ValueError(f"token_budget must be positive, got {token_budget}")
    state = SessionState(token_budget)
    logged = latest(record for record in log.records if record.episode == episode.name)
    known = {record.key: record for record in logged if record.answered}
    records = []
    for position, turn in enumerate(episode.turns):
        rng = random.Random(f"{seed}-{episode.name}-{position}")
        state.hear(turn)
        choice = policy(state, turn, rng)
        key = turn_key(
            episode.name, position, choice.name, executed_action(choice.action, executor.adapter)
        )
        record = known.get(key)
        if record is None:
            record = take_turn(executor, episode, position, state, choice)
            log.append(record)
        reply = turn.reference if history == "reference" else record.answer
        tokens = record.prompt_tokens + record.completion_tokens
        state.update(turn, tokens, record.correct, record.fallback is not None, reply)
        records.append(record)
    return records


def take_turn(
    executor: Executor, episode: Episode, position: int, state: SessionState, choice: Choice
) -> TurnRecord:
    """Takes one real turn and returns its record; the state is read, not changed."""
    turn = episode.turns[position]
    outcome: TurnOutcome = executor.run_turn(
        turn.question,
        turn.task,
        choice.action,
        history=state.history,
        notes=state.notes,
        family=turn.family,
        passages=turn.passages,
    )
    c, p, u = (float(value) for value in choice.action)
    return TurnRecord(
        episode=episode.name,
        turn=position,
        task=turn.task,
        family=turn.family,
        item=turn.item,
        policy=choice.name,
        design=choice.design,
        state=state.features(turn),
        signal=choice.signal,
        intended=(round(c, 6), round(p, 6), round(u, 6)),
        executed=outcome.executed,
        propensity=choice.propensity,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        latency=round(outcome.latency, 4),
        tool_calls=outcome.tool_calls,
        answer=outcome.answer,
        gold=turn.gold,
        correct=outcome.fallback is None and is_correct(turn, outcome.answer),
        fallback=outcome.fallback,
        replayed=outcome.replayed,
        model=executor.model,
        adapter=executor.adapter,
        seed=episode.seed,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )
