"""What a function reads besides its arguments, as a key that changes when any of it does.

A compilation is shared by calls with one function. What the function reads from elsewhere (a
variable that it closes over, an attribute of its object, a global) is a constant of the
compilation: it belongs in the key, or an answer would be that of earlier values.

Numbers, strings and NumPy arrays count by value, JAX arrays and tracers by identity (they do not
change), containers and objects by what they hold. What the function itself writes, such as a
counter of its calls, is its output and does not count: it would change at every trace.
"""

import enum
import functools
import hashlib
import inspect
import logging
import threading
import types
from collections import deque
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from stackjax._arrays.names import NOTHING, Code, names_of

_MOST, _DEEPEST = 10_000, 40  # things reached, and nested, beyond which a function is refused
_HEAP, _IMMUTABLE = 1 << 9, 1 << 8  # flags of types: not of C's static memory; cannot be changed

_EXACT = (
    bool, int, str, bytes, complex, range, slice, type(None), type(Ellipsis), type(NotImplemented),
)  # fmt: skip
_CONTAINERS = list, tuple, dict, set, frozenset, deque
_PLAIN = (bool, int, float, complex, str, *_CONTAINERS, np.generic, np.ndarray, jax.Array)
# Known by their identity: they cannot change, or their content is nothing that is computed with.
_SAME = (
    type, types.ModuleType, types.CodeType, np.ufunc, np.dtype, enum.Enum, logging.Logger,
    Tracer, type(threading.Lock()), type(threading.RLock()),
)  # fmt: skip
# Packages whose globals are not settings.
_STILL = {"builtins", "flax", "jax", "jaxlib", "numpy", "optax", "stackjax"}


class Unreadable(TypeError):
    """Something mutable is reached that cannot be read."""

    def __init__(self, what: str) -> None:
        super().__init__(
            "must read only numbers, arrays and objects made of such besides its arguments; got "
            f"{what}. A function is compiled once, and changes there would go unseen. Pass what "
            "changes in the context, make it a field of an nnx.Module or of a registered "
            "dataclass that is the function, or close over the arrays themselves."
        )


class Reads(NamedTuple):
    """What a function reads.

    Attributes:
      key: hashable; equal only while nothing has changed.
      kept: what the key knows by its identity. Keep it for as long as the key: another object
        could get its address.
    """

    key: Any
    kept: tuple


def reads(function: Any, *, anew: bool = False) -> Reads:
    """What `function` reads, the function itself among it.

    Args:
      function: any callable or other object.
      anew: whether functions count by their code and what they read, JAX arrays by value, so that
        what is made anew in the same way has the same key.

    Raises:
      Unreadable: it reaches a mutable object whose content cannot be seen, or too much.
    """
    if type(function) is types.FunctionType and not anew:  # the usual case, twice as fast
        code, scope = function.__code__, function.__globals__
        if not (function.__closure__ or function.__defaults__ or function.__dict__):
            still = (
                isinstance(value := scope.get(n), types.ModuleType) and _is_still(value)
                for n in names_of(code).globals
            )
            if all(still) and not function.__kwdefaults__:
                return Reads((id(function), id(code)), (function, code))
    walk = _Walk(anew)
    return Reads(walk.key(function), tuple(walk.kept.values()))


def check_reads(function: Any, name: str) -> None:
    """Raises TypeError where changes of what a function reads could not be noticed."""
    if isinstance(function, jax.tree_util.Partial):
        function = function.func
    if not callable(function) or not jax.tree_util.all_leaves([function]):
        return
    try:
        reads(function)
    except Unreadable as error:
        raise TypeError(f"`{name}` {error}") from error


class _Walk:
    """One walk over what is reachable.

    Attributes:
      anew: as in `reads`.
      kept: what is known by its identity.
      met: what may hold something, by its identity, with its place in the walk.
    """

    def __init__(self, anew: bool) -> None:
        self.anew = anew
        self.kept: dict[int, Any] = {}
        self.met: dict[int, tuple[int, Any]] = {}
        self.depth = 0

    def same(self, value: Any) -> tuple:
        """The key of something that is itself, whatever it holds."""
        self.kept[id(value)] = value
        return "is", id(value)

    def key(self, value: Any, reader: Code = NOTHING) -> Any:
        """The key of `value`, which code `reader` reads."""
        kind = type(value)
        if kind in _EXACT:
            return kind, value
        if kind is float:
            return kind, value if value and value == value else str(value)  # 0.0 == -0.0, NaN
        if isinstance(value, _SAME):
            return self.same(value)
        if isinstance(value, np.generic | np.ndarray):
            return self._array(value)
        if isinstance(value, jax.Array):
            if not self.anew or value.size > _MOST or not value.is_fully_addressable:
                return self.same(value)
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                return str(value.dtype), self._array(np.asarray(jax.random.key_data(value)))
            return self._array(np.asarray(value))
        if id(value) in self.met:
            return "met", self.met[id(value)][0]
        if len(self.met) > _MOST or self.depth > _DEEPEST:
            raise Unreadable("too many things, or things nested too deeply")
        self.met[id(value)] = len(self.met), value
        self.depth += 1
        content = self._content(value, reader)
        self.depth -= 1
        return kind, content

    def _content(self, value: Any, reader: Code) -> Any:
        kind, each = type(value), self.key
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            code = getattr(value.__func__, "__code__", None)
            own = names_of(code) if isinstance(code, types.CodeType) else NOTHING
            return each(value.__func__), each(value.__self__, own)
        if isinstance(value, functools.partial):
            return each(value.func), each(value.args), each(value.keywords)
        if isinstance(value, list | tuple | deque):
            return tuple(map(each, value)), self._attributes(value, reader)
        if isinstance(value, dict | types.MappingProxyType):
            items = tuple((each(name), each(item)) for name, item in value.items())
            return items, self._attributes(value, reader)
        if isinstance(value, set | frozenset):
            return frozenset(map(each, value))
        if not jax.tree_util.all_leaves([value]):
            leaves, structure = jax.tree_util.tree_flatten(value)
            try:
                return hash(structure) and structure, tuple(map(each, leaves))
            except TypeError:  # static fields that cannot be hashed: look into the object
                pass
        if _is_python(kind):
            call = getattr(kind, "__call__", None)  # noqa: B004
            if not isinstance(call, types.FunctionType):
                return self._attributes(value, reader)
            return self._attributes(value, reader.joined(names_of(call.__code__))), each(call)
        if isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType):
            owner = value.__self__  # such as the list of `numbers.count`
            alone = isinstance(owner, types.ModuleType | type | None)
            return self.same(value) if alone else (value.__name__, each(owner))
        if callable(wrapped := getattr(value, "__wrapped__", None)):
            return each(wrapped) if self.anew else (self.same(value), each(wrapped))
        if kind.__hash__ not in (None, object.__hash__):
            return value  # equal by content
        if callable(value) or kind.__module__.partition(".")[0] in ("jax", "jaxlib"):
            return self.same(value)
        raise Unreadable(f"an object of type {kind.__module__}.{kind.__qualname__}")

    def _function(self, function: types.FunctionType) -> tuple:
        code = function.__code__
        names = names_of(code)
        cells = []
        for name, cell in zip(code.co_freevars, function.__closure__ or ()):
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned yet
                cells.append(None)
                continue
            own = name in names.variables or _is_changed(name, content, names)
            cells.append(None if own and not self.anew else self.key(content, names))
            cells.extend(self._members(name, content, names))
        who = self.same(code) if self.anew else (self.same(function), self.same(code))
        held = [function.__defaults__, function.__kwdefaults__, function.__dict__]
        return (
            who,
            tuple(cells),
            *(self.key({**x} if isinstance(x, dict) else x) if x else None for x in held),
            self._globals(function, names),
        )

    def _globals(self, function: types.FunctionType, names: Code) -> tuple:
        """Globals that the function reads: as closed-over variables, but never refused.

        Functions of other modules count by their identity: they end the walk.
        """
        scope, found = function.__globals__, []
        if str(scope.get("__name__")).partition(".")[0] in _STILL:
            return ()
        for name in names.globals:
            value = scope.get(name)
            own = name in names.variables or _is_changed(name, value, names)
            found.extend(self._members(name, value, names))
            if value is None or own or isinstance(value, types.ModuleType):
                continue
            if isinstance(value, types.FunctionType) and value.__globals__ is not scope:
                found.append(self.same(value))
                continue
            found.append(self._never_refused(value, names))
        return tuple(found)

    def _never_refused(self, value: Any, reader: Code) -> Any:
        """The key of `value`, or of its identity where its content cannot be seen."""
        met, depth = dict(self.met), self.depth
        try:
            return self.key(value, reader)
        except Unreadable:
            self.met, self.depth = met, depth
            return self.same(value)

    def _members(self, name: str, value: Any, names: Code) -> list:
        """What code reads of a class or module by its name, `Settings.price`; never refused."""
        found = []
        if not isinstance(value, type | types.ModuleType):
            return found
        for chain in sorted(chain for chain in names.dotted if chain[0] == name):
            held = value
            for attribute in chain[1:]:
                if not isinstance(held, type | types.ModuleType) or _is_still(held):
                    break
                held = inspect.getattr_static(held, attribute, None)
            if isinstance(held, (*_SAME, staticmethod, classmethod, property)):
                continue
            if isinstance(held, types.FunctionType):
                found.append(self.same(held))
            elif not _is_changed(chain[-1], held, names) and chain[-1] not in names.attributes:
                found.append(self._never_refused(held, names))
        return found

    def _attributes(self, value: Any, reader: Code) -> tuple:
        """Attributes of an instance, and plain ones of its classes."""
        found = []

        def look(name: str, held: Any) -> None:
            if name not in reader.attributes and not _is_changed(name, held, reader):
                found.append((name, self.key(held)))

        for name, held in getattr(value, "__dict__", {}).items():
            look(name, held)
        if type(value) in _CONTAINERS:
            return ()
        for cls in type(value).__mro__[:-1]:
            for name, member in cls.__dict__.items():
                if isinstance(member, types.MemberDescriptorType):  # a slot
                    look(name, getattr(value, name, None))
                elif isinstance(member, _PLAIN) and not name.startswith("__"):
                    look(name, member)
        return tuple(found)

    def _array(self, value: Any) -> tuple:
        if value.dtype.hasobject:
            return value.shape, self.key(value.tolist())
        array = np.ascontiguousarray(value)
        if array.nbytes <= 64:
            return value.shape, value.dtype.str, array.tobytes()
        digest = hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()
        return value.shape, value.dtype.str, digest


def _is_changed(name: str, value: Any, reader: Code) -> bool:
    """Whether this is a list or the like that the code that reads it changes itself."""
    return name in reader.changed and isinstance(value, list | dict | set | deque | np.ndarray)


def _is_still(value: Any) -> bool:
    """Whether a class or module belongs to a package whose globals are not settings."""
    home = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return str(home).partition(".")[0] in _STILL


@functools.lru_cache(maxsize=4096)
def _is_python(kind: type) -> bool:
    """Whether instances keep all that they hold in `__dict__` and `__slots__`."""
    if kind is types.SimpleNamespace:
        return True
    made = lambda cls: (
        cls.__flags__ & _HEAP
        and not cls.__flags__ & _IMMUTABLE
        and type(cls).__module__ not in ("nanobind", "pybind11_builtins")
    )
    return all(cls is object or made(cls) for cls in kind.__mro__)


T = TypeVar("T")
_MADE: dict[Any, tuple[Any, Reads]] = {}


def first_made(made: T) -> T:
    """The first thing given here that was made in the same way, or `made` itself.

    Things such as optax's optimisers are closures: one made anew would be compiled for anew.
    """
    try:
        found = reads(made, anew=True)
        key = hash(found.key) and found.key
    except TypeError:
        return made
    if len(_MADE) >= 256 and key not in _MADE:
        del _MADE[next(iter(_MADE))]
    return _MADE.setdefault(key, (made, found))[0]
