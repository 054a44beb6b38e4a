"""`certify`: every statement about a game, or a policy in its game, in one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stackjax._arrays.arguments import as_start, check_choice, check_count, check_key, check_within
from stackjax._arrays.typing import PyTree
from stackjax._arrays.verdict import Verdict
from stackjax._follower.arguments import check_one_follower, game_settings
from stackjax._game import Game
from stackjax.certificates._certificate import Certificate, Statement
from stackjax.certificates._deployed import Deployed, as_contexts, as_deployed
from stackjax.certificates._existence import existence_statement
from stackjax.certificates._implementation_gap import gap_statement
from stackjax.certificates._real_regret import (
    baseline_statement,
    paired_statement,
    regret_statement,
)
from stackjax.certificates._real_turns import RealTurns
from stackjax.certificates._regret import surrogate_statement
from stackjax.certificates._repair import repair_statement, repaired
from stackjax.certificates._samples import Plays, View, draw_plays
from stackjax.certificates._sessions import horizon_statement
from stackjax.certificates._stability import curvature, stability_statement
from stackjax.certificates._transfer import SHARES, transfer_statement
from stackjax.sets import Box
from stackjax.solvers._solver import Solver
from stackjax.stats._mean import METHODS

Turns = RealTurns | Mapping[str, Any] | None

_PLAYERS = ("leader", "follower")


def certify(
    game_or_policy: Any,
    contexts: PyTree,
    turns: Turns = None,
    *,
    level: float = 0.95,
    key: jax.Array,
    action: PyTree = None,
    response: PyTree = None,
    concavity: Callable[..., Any] | float | None = None,
    suboptimality: float | None = None,
    method: str = "betting",
    tolerance: float | None = None,
    margin: float = 0.0,
    samples: int = 256,
    steps: int = 20,
    pairs: int = 32,
    solver: Solver | None = None,
) -> Certificate:
    """Estimates the constants that the guarantees rest on, computes the bounds, judges them.

    On the host. Statements: existence (Thm 5.1), stability (Prop. 5.2), repair (Prop. 5.3) of a
    turn and of a session, regret in the surrogate (eq. 20-22), transfer of leader and follower
    (Thm 5.4), the regret that results on the real system (eps + projection + 2 delta, and by paired
    differences without the surrogate), the gain over a baseline, and the implementation gap. What
    cannot be said with what is given is 'not checked'; nothing found wrong is raised.

    Suprema are sampled, then followed by projected gradient ascent: estimates from below, said to
    be so, unless the follower's utility bounds its own concavity or a derivative is proved
    constant. Statements with a confidence limit share `1 - level` (`Certificate.shares`).

    Args:
      game_or_policy: a `Game`, a `Deployed`, or a controller of `stackjax.agents`.
      contexts: `[N, ...]`; None for a game that reads none.
      turns: real turns of the class of policies: a `RealTurns` of the leader's utility, or a
        mapping from 'leader' and 'follower' to one, or to several of other policies or designs
        (then eps and the regret are over the leader's first). None: transfer is not checked.
      level: of all confidence limits together.
      key: for samples, perturbations and sessions.
      action: an action, for its structure; where the set's bounds or the policy show it, None.
      response: a response, the follower's starting point, likewise.
      concavity: `context -> mu` or a number, the follower's strong concavity by construction.
      suboptimality: what a nearly rational follower gives up; None for 1% of its utility's range.
      method: of the intervals: 'betting', 'bernstein' or 'hoeffding'.
      tolerance: the discrepancy between surrogate and reality that is accepted; the transfer fails
        where the turns show a larger one. None: any.
      margin: what 'better than the baseline' asks for.
      samples: plays at which constants are looked for.
      steps: of ascent from each.
      pairs: plays for the measured ratio and the implementation gap, which solve followers.
      solver: settings of the best response.

    Raises:
      TypeError: an argument is of the wrong type.
      ValueError: a number is out of its range, contexts are empty, or an action's or response's
        structure cannot be told.

    Source: arXiv 2606.23026, Section 5.

    Example:
      >>> game = sj.Game(
      ...     lambda a, r, x: -(a - r) ** 2, lambda a, r, x: -(r - x * a) ** 2,
      ...     action_set=sj.Box(jnp.zeros(()), jnp.ones(())),
      ...     response_set=sj.Box(jnp.zeros(()), jnp.ones(())),
      ... )
      >>> found = sj.certify(game, jnp.array([0.25, 0.5]), None, key=jax.random.key(0))
      >>> print(found["Stability"].verdict, round(found["Stability"].bound, 3))
      holds 0.5
    """
    subject = as_deployed(game_or_policy)
    deployed = subject if isinstance(subject, Deployed) else None
    game = subject.game if isinstance(subject, Deployed) else subject
    contexts = _contexts(as_contexts(contexts, game_or_policy))
    logs = _logs(turns)
    check_key(key)
    _check_options(level, method, suboptimality, tolerance, margin, samples, steps, pairs)
    if deployed is not None and concavity is None:
        concavity = deployed.concavity
    if action is None:
        action = _like(game, deployed, contexts, "action")
    response = as_start(
        _like(game, deployed, contexts, "response") if response is None else response, "response"
    )
    action = as_start(action, "action")
    check_one_follower(game, "certify")
    solver = game_settings(solver, game, "solver", response)
    keys = jax.random.split(key, 5)
    plays = draw_plays(game, contexts, action, response, keys[0], count=samples, solver=solver)
    span = _ranges(plays)
    curved = curvature(plays, concavity, steps=steps)
    stability = stability_statement(plays, curved, steps=steps, pairs=pairs)
    sensitivity = stability.bound if stability.verdict == Verdict.HOLDS else math.inf
    played = None
    if deployed is not None and deployed.recorded is not None:
        played = repaired(deployed, contexts, response=response, solver=solver)
    shares = _shares(logs, deployed)
    alpha = {name: (1 - level) * share for name, share in shares.items()}
    statements = [
        existence_statement(plays, curved),
        stability,
        repair_statement(
            deployed, played, plays, sensitivity=sensitivity, span=span[0], steps=steps
        ),
        horizon_statement(deployed, response=response, key=keys[1], span=span[0], solver=solver),
        surrogate_statement(
            deployed, contexts, response=response, key=keys[2], solver=solver,
            alpha=alpha.get("surrogate regret, Monte Carlo", 1 - level), span=span[0],
        ),
        *_from_turns(logs, alpha, method, tolerance, margin),
        gap_statement(
            plays, curved, suboptimality=suboptimality, span=span, steps=steps, pairs=pairs,
            key=keys[3],
        ),
    ]  # fmt: skip
    return Certificate(tuple(statements), level, shares)


def _from_turns(
    logs: dict[str, list[RealTurns]],
    alpha: dict[str, float],
    method: str,
    tolerance: float | None,
    margin: float,
) -> list[Statement]:
    """Transfer of both players, the sum, the paired regret and the baseline."""
    no_turns = "no real turns are given"
    statements, sound, found = [], False, None
    for player in _PLAYERS:
        name = "Transfer" if player == "leader" else "Transfer, follower"
        if not logs[player]:
            statements.append(Statement(name, "Thm 5.4", "real turns", note=no_turns))
            continue
        share = alpha["transfer" if player == "leader" else "transfer, follower"]
        statement, seen, right = transfer_statement(
            logs[player], alpha=share, support_alpha=alpha["support"] / len(_PLAYERS),
            method=method, tolerance=tolerance, player=player,
        )  # fmt: skip
        statements.append(statement)
        if player == "leader":
            sound, found = right, seen
    names = ("Real regret", "Real regret, paired", "Better than the baseline")
    if found is None:
        return statements + [Statement(n, "Thm 5.4", "real turns", note=no_turns) for n in names]
    first, given = logs["leader"][0], {"method": method, "sound": sound}
    delta = statements[0].bound
    return [
        *statements,
        regret_statement(first, found, delta=delta, alpha=alpha, **given),
        paired_statement(first, found, alpha=alpha["paired regret"], **given),
        baseline_statement(
            first, found, alpha=alpha.get("baseline", 1.0), margin=margin, **given
        ),
    ]  # fmt: skip


def _shares(logs: dict[str, list[RealTurns]], deployed: Deployed | None) -> dict[str, float]:
    """The parts of `1 - level` that are needed, which add up to 1."""
    needed = []
    if deployed is not None:
        needed.append("surrogate regret, Monte Carlo")
    if logs["leader"]:
        first = logs["leader"][0]
        needed += ["surrogate regret", "transfer", "paired regret"]
        needed += ["projection"] if first.proposed is not None else []
        needed += ["baseline"] if first.baseline is not None else []
    needed += ["transfer, follower"] if logs["follower"] else []
    needed += ["support"] if logs["leader"] or logs["follower"] else []
    parts = {name: SHARES[name] for name in SHARES if name in needed}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def _logs(turns: Any) -> dict[str, list[RealTurns]]:
    given = turns if isinstance(turns, Mapping) else {} if turns is None else {"leader": turns}
    for player in given:
        check_choice("turns", player, _PLAYERS)
    logs = {}
    for player in _PLAYERS:
        of = given.get(player)
        rows = [] if of is None else list(of) if isinstance(of, Sequence) else [of]
        for row in rows:
            if not isinstance(row, RealTurns):
                raise TypeError(
                    "`turns` must be a stackjax.certificates.RealTurns, a mapping from 'leader' "
                    f"and 'follower' to such, or None; got {type(row).__name__}."
                )
        logs[player] = rows
    return logs


def _contexts(contexts: Any) -> PyTree:
    contexts = jax.tree.map(jnp.asarray, contexts)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(contexts)}
    if lengths and (len(lengths) > 1 or lengths & {0, None}):
        shapes = [leaf.shape for leaf in jax.tree.leaves(contexts)]
        raise ValueError(
            "`contexts` must hold arrays with one common leading axis, not empty; got shapes "
            f"{shapes}."
        )
    return contexts


def _like(game: Game, deployed: Deployed | None, contexts: PyTree, name: str) -> PyTree:
    """An action or response, as the policy or the bounds of the set show it."""
    if name == "action" and deployed is not None:
        return deployed.policy(jax.tree.map(lambda leaf: leaf[0], contexts))
    feasible = getattr(game, f"{name}_set")
    box = feasible if isinstance(feasible, Box) else getattr(feasible, "box", None)
    if isinstance(box, Box) and box.lower is not None and box.upper is not None:
        same = jax.tree.structure(box.lower) == jax.tree.structure(box.upper)
        if same:
            middle = lambda low, high: jnp.asarray((jnp.asarray(low) + high) / 2.0)
            found = jax.tree.map(middle, box.lower, box.upper)
            if all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found)):
                return found
    raise ValueError(
        f"`{name}` must be given, as an example: its structure cannot be told from the game's "
        f"{name} set; got None."
    )


def _check_options(
    level: Any, method: Any, suboptimality: Any, tolerance: Any, margin: Any,
    samples: Any, steps: Any, pairs: Any,
) -> None:  # fmt: skip
    check_within("level", level, "(0, 1)")
    check_choice("method", method, METHODS)
    for name, value in (("suboptimality", suboptimality), ("tolerance", tolerance)):
        if value is not None:
            check_within(name, value, "[0, inf)")
    check_within("margin", margin, "(-inf, inf)")
    for name, value, least in (("samples", samples, 2), ("steps", steps, 0), ("pairs", pairs, 2)):
        check_count(name, value, least=least)


@partial(jax.jit)
def _utilities(plays: Plays) -> tuple[jax.Array, jax.Array]:
    def one(index: jax.Array, a: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        view = View(plays, index)
        return view.leader(a, r), view.follower(a, r)

    return jax.vmap(one)(plays.index, plays.action, plays.response)


def _ranges(plays: Plays) -> tuple[float, float]:
    """Ranges of both utilities over the feasible plays where they are finite; 0 without any."""
    inside = np.asarray(plays.inside)
    spans = []
    for values in _utilities(plays):
        kept = np.asarray(values, float)[inside]
        kept = kept[np.isfinite(kept)]
        spans.append(float(np.ptp(kept)) if kept.size else 0.0)
    return spans[0], spans[1]
