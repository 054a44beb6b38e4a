"""Modes of a roll-out, and which sessions a mode governs.

A session's arm is a hash of its identifier: the same session always gets the same arm, no table is
kept, several processes agree, and the probability of the arm is known and logged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, NamedTuple

from stackjax._arrays.arguments import check_choice, check_type, check_within

Mode = Literal["off", "shadow", "canary", "ab", "on"]
Arm = Literal["governed", "untouched"]

MODES: tuple[Mode, ...] = ("off", "shadow", "canary", "ab", "on")
"""Modes of a roll-out.

>>> MODES
('off', 'shadow', 'canary', 'ab', 'on')
"""

DEFAULT_SHARE = {"canary": 0.05, "ab": 0.5}


class Assignment(NamedTuple):
    """A session's arm and the probability with which it got this arm.

    Example:
      >>> Assignment("governed", 0.05).propensity
      0.05
    """

    arm: Arm
    propensity: float


@dataclass(frozen=True)
class Rollout:
    """Which sessions are governed.

    Attributes:
      mode: ``"off"``: nothing is computed. ``"shadow"``: decisions are computed and logged, the
        request leaves as it came. ``"canary"`` and ``"ab"``: a share of the sessions is
        governed. ``"on"``: all are.
      share: Probability that a session is governed, in (0, 1); only for canary (0.05 if None)
        and ab (0.5 if None). A larger share of the same mode keeps the sessions of a smaller
        one.
      salt: Mixed into the hash; another salt is another draw.

    Raises:
      TypeError: If the share is not a number, or the salt is no text.
      ValueError: If the mode is unknown, or the share is not in (0, 1) or given for a mode that has
        none.

    Example:
      >>> Rollout("ab").assign("session-7")
      Assignment(arm='untouched', propensity=0.5)
      >>> Rollout("on").assign("session-7")
      Assignment(arm='governed', propensity=1.0)
    """

    mode: str = "shadow"
    share: float | None = None
    salt: str = ""

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, MODES)
        check_type("salt", self.salt, str, "a string")
        if self.mode not in DEFAULT_SHARE:
            if self.share is not None:
                raise ValueError(f"`share` must be None in mode {self.mode!r}; got {self.share}.")
            return
        share = DEFAULT_SHARE[self.mode] if self.share is None else self.share
        check_within("share", share, "(0, 1)")
        object.__setattr__(self, "share", float(share))

    @property
    def label(self) -> str:
        """The mode and its share, as it stands in logs: ``"canary:0.05"``."""
        return self.mode if self.share is None else f"{self.mode}:{self.share:g}"

    def assign(self, identifier: str) -> Assignment:
        """The arm of a session and its probability."""
        if self.share is None:
            return Assignment("governed" if self.mode == "on" else "untouched", 1.0)
        text = "\x1f".join((self.mode, self.salt, identifier))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        if int.from_bytes(digest[:8]) < self.share * 2.0**64:
            return Assignment("governed", self.share)
        return Assignment("untouched", 1.0 - self.share)
