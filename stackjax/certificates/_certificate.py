"""What a certificate is: statements, each with what it rests on, and one screen to read them."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

from stackjax._arrays.arguments import check_choice
from stackjax._arrays.verdict import Verdict

_VERDICTS = (Verdict.HOLDS, Verdict.FAILS, Verdict.VACUOUS, Verdict.NOT_CHECKED)

_WIDTH = 100


class Constant(NamedTuple):
    """A number that a bound is made of.

    Attributes:
      value: the estimate, or the number itself where it is exact.
      low: lower confidence limit; `value` where there is no sampling error, NaN where the number
        is a sampled extreme, of which nothing bounds the error.
      high: upper confidence limit, likewise.

    Example:
      >>> print(sj.certificates.Constant(2.0), sj.certificates.Constant(2.0, low=1.5, high=2.5))
      2 2 [1.5, 2.5]
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.low) or self.low == self.high:
            return number(self.value)
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


@dataclasses.dataclass(frozen=True)
class Statement:
    """One thing that is claimed, what it rests on, and whether it holds.

    Attributes:
      name: of the statement.
      source: the theorem.
      assumption: what is assumed.
      how: how the assumption was checked: 'by construction', 'by exact computation', 'by sampling
        (an estimate)', 'from real turns', or a mixture; '' where it was not.
      constants: by name.
      bound: what the statement says at most (or at least); NaN where it has no number.
      measured: the quantity that the bound is for, as measured; NaN where there is none.
      quantity: what is bounded, in words.
      verdict: 'holds'; 'fails', where an assumption or the bound was contradicted; 'vacuous',
        where the bound is no smaller than what is true anyway; or 'not checked'.
      note: a sentence, or what is missing.
      turns_needed: real turns at which a vacuous bound would say something, with the variance as
        measured; `inf` if no number would do, NaN where that is not the question.

    Raises:
      ValueError: `verdict` is another word.

    Example:
      >>> claim = sj.certificates.Statement(
      ...     "Stability", "Prop. 5.2", "mu > 0", bound=0.5, measured=0.4, verdict="holds"
      ... )
      >>> claim.measured <= claim.bound, claim.verdict
      (True, 'holds')
    """

    name: str
    source: str
    assumption: str
    how: str = ""
    constants: Mapping[str, Constant] = dataclasses.field(default_factory=dict)
    bound: float = math.nan
    measured: float = math.nan
    quantity: str = ""
    verdict: Verdict = Verdict.NOT_CHECKED
    note: str = ""
    turns_needed: float = math.nan

    def __post_init__(self) -> None:
        check_choice("verdict", self.verdict, _VERDICTS)
        object.__setattr__(self, "verdict", Verdict(self.verdict))

    def __str__(self) -> str:
        estimate = " (estimate)" if self.verdict == Verdict.HOLDS and "sampling" in self.how else ""
        head = f"{self.name} [{self.source}]: {(self.verdict + estimate).upper()}"
        if self.verdict == Verdict.NOT_CHECKED:
            return f"{head}, {self.note}" if self.note else head
        parts = []
        if not math.isnan(self.bound):
            parts.append(f"{self.quantity}: bound {number(self.bound)}")
            if not math.isnan(self.measured):
                parts.append(f"measured {number(self.measured)}")
        parts += [f"{name} {value}" for name, value in self.constants.items()]
        body = "; ".join(parts)
        if self.how:
            body += f". Checked {self.how}" if body else f"Checked {self.how}"
        if not math.isnan(self.turns_needed):
            turns = (
                "no number" if math.isinf(self.turns_needed) else f"about {self.turns_needed:,.0f}"
            )
            body += f"; turns that would do: {turns}"
        text = ". ".join(x.strip(". ") for x in (body, self.note) if x)
        lines = textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        return "\n".join([head, *lines])


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What is known, and how well, about a game or a policy. `print` it; `to_json` it.

    All statements with confidence limits hold together with probability `level`: `shares` says
    what part of `1 - level` each was given.

    Attributes:
      statements: in the order of the paper.
      level: confidence level of all statements together.
      shares: parts of `1 - level` by statement; they add up to at most 1.

    Raises:
      KeyError: `certificate[name]` of a statement that it does not hold.

    Source: arXiv 2606.23026, Section 5.

    Example:
      >>> one = sj.certificates.Statement("Existence", "Thm 5.1", "compact sets", verdict="holds")
      >>> sj.Certificate((one,), 0.95, {})["Existence"].verdict
      'holds'
    """

    statements: tuple[Statement, ...]
    level: float
    shares: Mapping[str, float]

    def __getitem__(self, name: str) -> Statement:
        for statement in self.statements:
            if statement.name == name:
                return statement
        raise KeyError(f"`name` must be one of {[s.name for s in self.statements]}; got {name!r}.")

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Each statement's verdict, by name."""
        return {statement.name: statement.verdict for statement in self.statements}

    def __str__(self) -> str:
        alpha = 1 - self.level
        split = ", ".join(f"{name} {alpha * share:.4g}" for name, share in self.shares.items())
        text = f"Statements with limits hold together with confidence {self.level:g}"
        text += f"; chance of a miss: {split}." if split else "; none has any."
        lines = textwrap.wrap(text, _WIDTH)
        return "\n".join([*map(str, self.statements), *lines])

    def to_json(self) -> str:
        """The certificate as JSON; NaN is null, infinity the string "inf"."""
        body = {
            "level": self.level,
            "shares": dict(self.shares),
            "statements": [_plain(statement) for statement in self.statements],
        }
        return json.dumps(body, allow_nan=False, indent=1)


def verdict_of(broken: bool, vacuous: bool) -> Verdict:
    """Of a bound: whether something broke it, or it says nothing."""
    return Verdict.FAILS if broken else Verdict.VACUOUS if vacuous else Verdict.HOLDS


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}"


def _plain(statement: Statement) -> dict[str, Any]:
    body = {f.name: getattr(statement, f.name) for f in dataclasses.fields(statement)}
    body["constants"] = {
        name: {part: _json_number(x) for part, x in constant._asdict().items()}
        for name, constant in statement.constants.items()
    }
    for name in ("bound", "measured", "turns_needed"):
        body[name] = _json_number(body[name])
    return body


def _json_number(value: float) -> float | str | None:
    value = float(value)
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")
