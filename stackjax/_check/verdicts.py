"""What was measured about a solution, and what it says."""

import textwrap
from typing import NamedTuple

import jax
import numpy as np
from flax import struct

from stackjax._arrays.verdict import Verdict
from stackjax._check.flat_game import Thresholds

_ABOVE = ("curvature", "degeneracy", "concavity")  # to be above the threshold
_ORDER = (
    "leader_violation", "follower_violation", "residual", "distance", "regret", "curvature",
    "degeneracy", "gradient_error", "gain", "concavity",
)  # fmt: skip


class Finding(NamedTuple):
    """What one measurement says.

    Attributes:
      verdict: 'ok', 'fails' or 'not checked'; or, where nothing is wrong but derivatives or
        claims reach less far: 'several' (best responses), 'local' (the follower's problem is not
        concave), 'kink' (a constraint of the follower's is about to change).
      measured: the number.
      threshold: what it was compared with.
      note: one sentence.
    """

    verdict: Verdict
    measured: float
    threshold: float
    note: str


class Check(struct.PyTreeNode):
    """What `check` measured; scalars. `print` shows a table; `verdicts` judges.

    Attributes:
      leader_violation: the largest violation of the action set, each constraint's beside its terms.
      follower_violation: of the response set, likewise.
      residual: the follower's last Newton step when it answers again from the given response, as
        in `Response.residual`.
      tolerance: what the follower's solver accepts as `residual`.
      converged: bool, the follower's solver converged there.
      distance: from the given response to that answer, the largest over coordinates, each
        relative to its own size, at most `upper - lower`.
      regret: how much more the follower gets at the best answer from all starting points,
        beside what U_F changes by over a unit of its variables; `inf` where U_F is not finite.
      curvature: the follower's least along free directions, without a unit; `Response.curvature`.
      degeneracy: the smallest of all `max(slack, multiplier)` of the follower's constraints, in
        their units; `Response.degeneracy`.
      gradient_error: the leader's total derivative `d U_L(l, r*(l), x) / d l` by the implicit
        function theorem against central differences of answers solved again, the largest over
        coordinates, each relative to the absolute terms that it is the sum of; NaN where a
        difference has no value.
      straddles: bool, the follower's active constraints change within the differences.
      gain: how much more the leader gets at the best nearby feasible action that was tried, the
        follower answering again, beside what U_L changes by likewise; NaN where U_L is not finite.
      trials: int, how many nearby actions that is the best of.
      concavity: the smallest eigenvalue of -Hessian of U_F (and of Hessians of the response set's
        inequalities) at feasible sampled responses, relative to the matrix's largest entry: 1 at
        best; NaN with more than 512 coordinates.

    Example:
      >>> from types import SimpleNamespace
      >>> duopoly = sj.games.duopoly()
      >>> cournot = SimpleNamespace(action=jnp.array(4.0), response=jnp.array(4.0))  # Nash
      >>> report = sj.check(duopoly.game, cournot, jnp.array(13.0), starts=1)
      >>> print(report.converged, report.gain > 0, report.ok)
      True True False
    """

    leader_violation: jax.Array
    follower_violation: jax.Array
    residual: jax.Array
    tolerance: jax.Array
    converged: jax.Array
    distance: jax.Array
    regret: jax.Array
    curvature: jax.Array
    degeneracy: jax.Array
    gradient_error: jax.Array
    straddles: jax.Array
    gain: jax.Array
    trials: jax.Array
    concavity: jax.Array

    @property
    def unique(self) -> bool:
        """Whether the curvature rules out other best responses nearby."""
        return bool(self.curvature > Thresholds(self.curvature.dtype).exact)

    @property
    def ok(self) -> bool:
        """Whether nothing fails."""
        return all(verdict.verdict != Verdict.FAILS for verdict in self.verdicts.values())

    @property
    def verdicts(self) -> dict[str, Finding]:
        """By the field judged. Thresholds depend on the dtype (the coarser one of the play's)."""
        return _judge(self)

    def __str__(self) -> str:
        lines = [f"{'':<18} {'measured':>8}  {'threshold':<10}  {'verdict':<11}  meaning"]
        for name, (verdict, measured, threshold, note) in self.verdicts.items():
            sign = ">" if name in _ABOVE else "<"
            bound = f"{sign} {threshold:>8.1e}"
            head = f"{name:<18} {measured:>8.1e}  {bound:<10}  {verdict:<11}  "
            lines += textwrap.wrap(
                note, 100, initial_indent=head, subsequent_indent=" " * len(head)
            )
        return "\n".join(lines)


def _judge(found: Check) -> dict[str, Finding]:
    limits = Thresholds(found.regret.dtype)
    exact = limits.exact
    at = {name: float(getattr(found, name)) for name in _ORDER}
    trials = int(found.trials)
    solved, violated = bool(found.converged), at["leader_violation"] > exact
    kink = bool(found.straddles) or at["degeneracy"] <= limits.step
    unbent = at["curvature"] <= exact
    flat = unbent and at["curvature"] >= -exact
    # The first line of a measurement whose condition holds is its verdict.
    lines = {
        "leader_violation": (exact, [
            (not violated, "ok", "the action is in its set"),
            (True, "fails", "it is not in its set: project it, solve again"),
        ]),
        "follower_violation": (exact, [
            (at["follower_violation"] <= exact, "ok", "the response is in its set"),
            (True, "fails", "it is not in its set: solve again"),
        ]),
        "residual": (float(found.tolerance), [
            (solved, "ok", "the follower's solver converges"),
            (True, "fails", "the follower's solver does not converge: more `max_steps`, or scale"),
        ]),
        "distance": (exact, [
            (at["distance"] <= exact, "ok", "the follower, asked again, stays"),
            (flat and at["regret"] <= exact, "several", "several best responses, this is one"),
            (True, "fails", "the follower leaves: not its best response, solve again"),
        ]),
        "regret": (exact, [
            (at["regret"] <= exact, "ok", "no better response was found"),
            (np.isinf(at["regret"]), "fails", "the follower's utility is not finite"),
            (True, "fails", "a better response was found: start from it, or more `starts`"),
        ]),
        "curvature": (exact, [
            (np.isnan(at["curvature"]), "not checked", "the solver does not report it"),
            (not unbent, "ok", "no other best response nearby"),
            (flat, "several", "several best responses: the leader's favourite is not sure"),
            (True, "fails", "not a maximum of the follower's: start elsewhere"),
        ]),
        "degeneracy": (limits.step, [
            (not kink, "ok", "no constraint is about to change"),
            (True, "kink", "a constraint is about to change: derivatives hold on one side"),
        ]),
        "gradient_error": (limits.gradient, [
            (not solved, "not checked", "the follower's solver did not converge"),
            (unbent, "not checked", "several best responses, or none: no derivative"),
            (kink, "not checked", "a kink: left and right derivatives differ"),
            (np.isnan(at["gradient_error"]), "not checked", "no answer or no utility nearby"),
            (at["gradient_error"] <= limits.gradient, "ok", "the gradient agrees with differences"),
            (True, "fails", "it does not: a wrong custom derivative, or a utility with kinks?"),
        ]),
        "gain": (limits.gain, [
            (violated, "not checked", "the action is not in its set"),
            (not trials, "not checked", "no nearby action is feasible and answered"),
            (np.isnan(at["gain"]), "not checked", "the leader's utility is not finite"),
            (at["gain"] <= limits.gain, "ok", f"none of {trials} nearby actions is better"),
            (True, "fails", "a nearby action is better by so much: try `Complementarity`"),
        ]),
        "concavity": (-exact, [
            (np.isnan(at["concavity"]), "not checked", "no feasible sample, or too large"),
            (at["concavity"] >= -exact, "ok", "the follower is concave where sampled"),
            (True, "local", "not concave: the response is the best of those tried, no more"),
        ]),
    }  # fmt: skip
    verdicts = {}
    for name, (threshold, cases) in lines.items():
        verdict, note = next((verdict, note) for holds, verdict, note in cases if holds)
        verdicts[name] = Finding(Verdict(verdict), at[name], threshold, note)
    return verdicts
