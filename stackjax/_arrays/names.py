"""Names that a function's code reads, assigns and changes."""

import dis
import functools
import itertools
import types
from typing import NamedTuple

_MUTATORS = {
    "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "pop",
    "popitem", "popleft", "remove", "setdefault", "update",
}  # fmt: skip


_KEPT = 10_000  # codes whose names are known
_LOADS, _ATTRIBUTES = {"LOAD_DEREF", "LOAD_GLOBAL", "LOAD_NAME"}, {"LOAD_ATTR", "LOAD_METHOD"}


class Code(NamedTuple):
    """Names in a function's code.

    Attributes:
      globals: those that are read.
      variables: those that are assigned.
      attributes: those that are assigned, of whatever object.
      changed: variables and attributes of which an item is assigned, or a method called that
        changes lists, dicts and sets.
      dotted: `a.b.c` as `("a", "b", "c")`, where `a` is a global or closed over.
    """

    globals: tuple[str, ...]
    variables: frozenset[str]
    attributes: frozenset[str]
    changed: frozenset[str]
    dotted: frozenset[tuple[str, ...]] = frozenset()

    def joined(self, other: "Code") -> "Code":
        """The names of both."""
        return Code(
            tuple(dict.fromkeys(self.globals + other.globals)),
            self.variables | other.variables,
            self.attributes | other.attributes,
            self.changed | other.changed,
            self.dotted | other.dotted,
        )


NOTHING = Code((), frozenset(), frozenset(), frozenset())


def names_of(code: types.CodeType) -> Code:
    # by identity: the hash of code takes longer than all else
    known = _KNOWN.get(id(code))
    if known is None or known[0] is not code:
        known = code, _names_in(code)
        if len(_KNOWN) >= _KEPT:
            _KNOWN.clear()
        _KNOWN[id(code)] = known
    return known[1]


_KNOWN: dict[int, tuple[types.CodeType, Code]] = {}


def _names_in(code: types.CodeType) -> Code:
    loaded: dict[str, None] = {}
    variables, attributes, changed, dotted = set(), set(), set(), set()
    steps = [step for step in dis.get_instructions(code) if step.opname != "NOP"]
    for place, step in enumerate(steps):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded[step.argval] = None
        elif step.opname in ("STORE_DEREF", "STORE_GLOBAL"):
            variables.add(step.argval)
        elif step.opname == "STORE_ATTR":
            attributes.add(step.argval)
        if step.opname in _LOADS:
            rest = itertools.takewhile(lambda s: s.opname in _ATTRIBUTES, steps[place + 1 :])
            chain = tuple(s.argval for s in rest)
            if chain:
                dotted.add((step.argval, *chain))
        if step.opname not in _LOADS | _ATTRIBUTES or len(steps) <= place + 2:
            continue
        after, then = steps[place + 1 : place + 3]
        method = after.opname in _ATTRIBUTES and after.argval in _MUTATORS
        # x[i] = ... and x[i] += ... for an i that is one name or constant
        item = then.opname == "STORE_SUBSCR" or (then.opname == "COPY" and then.arg == 2)
        if method or (item and after.opname.startswith("LOAD_")):
            changed.add(step.argval)
    found = Code(tuple(loaded), *map(frozenset, (variables, attributes, changed, dotted)))
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return functools.reduce(Code.joined, map(names_of, inner), found)
