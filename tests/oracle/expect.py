"""What every kind of game must satisfy, in one place."""

from experiments.oracle.checks import Kind, Tally, judge


def holds(kind: Kind, dtype: str, games: int, seed: int = 0) -> None:
    """Judges a batch in its own units, and again in others; raises AssertionError with a game."""
    check(kind, judge(kind, dtype, games, seed))
    other = judge(kind, dtype, games, seed, units=True)
    check(kind, other)
    limit = allowed(kind, dtype, games)
    assert other.flags <= limit, f"{other.flags} flags change with the units (limit {limit})"


def allowed(kind: Kind, dtype: str, games: int) -> int:
    """How many may end unconverged: the kind's share, and two more for the luck of the draw."""
    return int(kind.unconverged[dtype == "float64"] * games) + 2


def check(kind: Kind, tally: Tally) -> None:
    """Raises AssertionError with the counts and the smallest failing game."""
    silent = tally.wrong + tally.wrong_slopes + tally.wrong_seconds + tally.not_finite
    assert silent == 0, f"{tally}"
    assert tally.unproved <= tally.games // 100, f"the oracle has no answer: {tally}"
    assert tally.unconverged <= allowed(kind, tally.dtype, tally.games), f"{tally}"
