"""What a governor takes: policies, roll-outs, metadata and cells, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stackjax._arrays.arguments import check_type
from stackjax.agents.executor._adapter import executed_action
from stackjax.runtime.chat._request import ChatAdapter
from stackjax.runtime.governor._ledger import Account, OpenTurn
from stackjax.runtime.governor._limits import Cell, Recommender
from stackjax.runtime.governor._metadata import SessionMetadata
from stackjax.runtime.policy._rollout import Rollout
from stackjax.runtime.policy._store import PolicyMismatch, adapter_digest


def running_turn(
    session: SessionMetadata, account: Account, policy: Recommender
) -> OpenTurn | None:
    """The open turn that a call belongs to; None if it begins one, or the unit is a call."""
    turn = account.turn
    if not session.calls or turn is None or getattr(policy, "unit", "turn") != "turn":
        return None
    return turn if turn.earlier == session.earlier_turns else None


def check_policy(policy: Any, adapter: ChatAdapter) -> None:
    """Raises unless a governor with this adapter can carry out what the policy says."""
    for name in ("calibration", "fingerprint", "recommend"):
        if not hasattr(policy, name):
            kind = type(policy).__name__
            raise TypeError(
                f"`policy` must be a Policy, see load_policy; got {kind} without {name}."
            )
    wanted, found = policy.fingerprint.get("adapter"), adapter_digest(adapter.version)
    if wanted is not None and wanted != found:
        name = getattr(policy, "adapter", "another one")
        raise PolicyMismatch(
            f"`adapter` must be that of the policy, {name!r}; got {adapter.version!r}: "
            "load the policy with load_policy(..., adapter=adapter.version).",
            ("adapter",),
        )


def calibration_name(policy: Recommender) -> str:
    """What the drift of a policy's calibration is remembered under."""
    return policy.fingerprint.get("calibration", "")[:16] or repr(policy.calibration)


def metadata_of(session: SessionMetadata | Mapping[str, Any]) -> SessionMetadata:
    """The metadata, out of a mapping with their fields."""
    return session if isinstance(session, SessionMetadata) else SessionMetadata(**session)


def check_rollout(rollout: Any) -> None:
    """Raises unless it is a `Rollout`."""
    check_type("rollout", rollout, Rollout, "a Rollout")


def cell_of(name: str, cell: Any) -> Cell:
    """A cell that an operator gave, on the adapter's grid."""
    try:
        return executed_action(cell)
    except TypeError as error:
        raise ValueError(f"`{name}` must be three numbers in [0, 1]; got {cell!r}.") from error
