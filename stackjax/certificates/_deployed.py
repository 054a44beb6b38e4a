"""What is certified: a game alone, or a policy in its game with what stands around it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

import jax

from stackjax._arrays.arguments import check_choice, check_type
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.typing import Fields, Policy, PyTree
from stackjax._follower.arguments import check_game
from stackjax._game import Game
from stackjax.fit._horizon import Horizon
from stackjax.sets._empirical import ActionSet


@dataclasses.dataclass(frozen=True)
class Deployed:
    """A leader's policy in its game, as it is deployed.

    Attributes:
      game: the game.
      policy: `context -> action`, a function or callable pytree.
      recorded: what may be played, onto which is projected: an `ActionSet`, or a function
        `context -> ActionSet`; None without repair.
      repairs: 'response', where the follower's answer is projected (then `recorded` holds
        responses), or 'action', where the leader's action is, and the follower answers that.
      alternatives: other leaders' policies by name, for the regret: trained with other weights,
        say.
      concavity: `context -> mu` with `-Hessian_r U_F >= mu I` by construction, for every action
        and response, or a number; None to ask the follower's utility for its `concavity_bound`.
      horizon: how sessions go on, for values over several turns; None for single turns.
      states: `[S, ...]` first states of sessions; needed with `horizon`.

    Raises:
      TypeError: `game` is not a Game, a policy or `recorded` is of the wrong type.
      ValueError: `repairs` is neither, or only one of `horizon` and `states` is given.

    Source: arXiv 2606.23026, Section 5.

    Example:
      >>> duopoly = sj.games.duopoly()
      >>> sj.certificates.Deployed(duopoly.game, lambda demand: demand / 2).repairs
      'response'
    """

    game: Game
    policy: Policy
    recorded: ActionSet | Callable[..., ActionSet] | None = None
    repairs: str = "response"
    alternatives: Mapping[str, Policy] = dataclasses.field(default_factory=dict)
    concavity: Callable[..., Any] | float | None = None
    horizon: Horizon | None = None
    states: PyTree = None

    def __post_init__(self) -> None:
        check_game(self.game)
        for name, policy in {"policy": self.policy, **self.alternatives}.items():
            check_type(name, policy, Callable, "callable")
        wanted = "an ActionSet, a function context -> ActionSet, or None"
        check_type("recorded", self.recorded, (ActionSet, Callable, type(None)), wanted)
        check_choice("repairs", self.repairs, ("response", "action"))
        wanted = "a stackjax.fit.Horizon or None"
        check_type("horizon", self.horizon, Horizon | None, wanted)
        if (self.horizon is None) != (self.states is None):
            raise ValueError("`horizon` and `states` must be given together; got one of them.")

    def allowed(self, context: PyTree) -> ActionSet | None:
        """What may be played in one context."""
        if self.recorded is None or isinstance(self.recorded, ActionSet):
            return self.recorded
        return self.recorded(context)


@singledispatch
def as_deployed(subject: Any) -> Deployed | Game:
    """What `certify` was given, as it reads it; other packages register their policies here.

    Raises:
      TypeError: it is neither a game nor a policy in one.
    """
    if isinstance(subject, Deployed | Game):
        return subject
    raise TypeError(
        "`game_or_policy` must be a stackjax.Game, a stackjax.certificates.Deployed or a "
        f"controller of stackjax.agents; got {type(subject).__name__}."
    )


@singledispatch
def as_contexts(contexts: Any, subject: Any) -> PyTree:
    """The game's contexts, of what `certify` was given as contexts."""
    return contexts


@jax.tree_util.register_pytree_node_class
class Signal:
    """The policy `context -> keep * policy(context) + offset`: constant where `keep` is 0."""

    def __init__(self, policy: Callable, keep: Any, offset: PyTree) -> None:
        self.policy, self.keep, self.offset = policy, keep, offset

    def __call__(self, context: PyTree) -> PyTree:
        action = self.policy(context)
        return jax.tree.map(lambda a, b: (self.keep * a + b).astype(b.dtype), action, self.offset)

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """The policy's arrays, `keep` and `offset` are leaves; a plain function is static."""
        children, plain = split_static((self.policy,))
        return (children, self.keep, self.offset), plain

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> Signal:
        """Rebuilds without validation."""
        policy, keep, offset = children
        return cls(join_static(plain, policy)[0], keep, offset)
