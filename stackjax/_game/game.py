"""The game: the utilities and the feasible sets."""

import inspect
import types
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from stackjax._arrays.arguments import is_number
from stackjax._arrays.finite import shield
from stackjax._arrays.modules import call, check_stateless
from stackjax._arrays.static import join_static, split_static
from stackjax._arrays.ties import TieBroken
from stackjax._arrays.typing import Fields, PyTree, Utility
from stackjax._game.followers import Followers, Several, is_several
from stackjax.sets import Box, FeasibleSet
from stackjax.sets._empirical import ActionSet, ConvexHull
from stackjax.sets._product import product_of


@jax.tree_util.register_pytree_node_class
class Game:
    """A contextual Stackelberg game: the leader commits first, the follower answers.

        response*(action, x) = argmax_{r in R} U_F(action, r, x)               (best response)
        action*(x)          in argmax_{l in L} U_L(l, response*(l, x), x)      (Stackelberg)

    Both utilities are maximised and take `(action, response, context)`, three unbatched pytrees
    of arrays, to a scalar. A utility is a function or a callable pytree such as an `nnx.Module`;
    the arrays in the latter are leaves of the game, so a game can be passed through `jax.jit`,
    `jax.vmap` and `jax.grad`. Functions are static: calls with the same function and shapes share
    one compilation for as long as nothing changes that the function reads besides its arguments:
    attributes of its object, variables that it closes over, its globals and those of its module's
    functions that it calls. NumPy arrays among them are read through at every call, JAX arrays are
    not. A change compiles anew, so pass what changes often in the context. What the function itself
    writes, such as a counter, does not count; what it reaches by other ways (another module's
    globals, a file) is read once.

    Several followers, who see the action and are in Nash equilibrium among themselves, are a tuple
    of utilities `(action, responses, context)`, `responses` being the tuple of everybody's: each
    maximises over its own entry. A `response_set` is then a tuple of one set each, or one set on
    the tuple, whose constraints the followers share: a generalised Nash game, whose variational
    equilibrium, with one multiplier of a constraint for all, is the one that is found (Facchinei
    and Kanzow, 4OR 5, 2007). Followers that differ in parameters only are `Followers`.

    Args:
      leader_utility: the leader's utility.
      follower_utility: the follower's utility; strongly concave in the response where gradients
        are wanted. Or a tuple of utilities, or `Followers`.
      action_set: the leader's feasible set; the whole space if None.
      response_set: the follower's feasible set, or a tuple of sets; the whole space if None.

    Raises:
      TypeError: a utility is not callable, or reads something whose changes could not be noticed
        (a random generator, a file, an extension's object); a set is not one of the library's.
      ValueError: a utility is a module with state that is not a parameter; there are not as many
        sets as followers.

    Source: arXiv 2606.23026, Section 4.

    Example:
      >>> game = sj.Game(
      ...     lambda price, bought, worth: price * bought,
      ...     lambda price, bought, worth: (worth - price) * bought - bought**2 / 2,
      ...     action_set=sj.Box(lower=0.0), response_set=sj.Box(lower=0.0),
      ... )
      >>> game.follower_utility(2.0, 3.0, 6.0)
      7.5
      >>> sj.best_response(game, 2.0, 6.0, response=jnp.array(1.0)).value
      Array(4., dtype=float32)
    """

    leader_utility: Utility
    follower_utility: Any  # a Utility, Several or Followers
    action_set: FeasibleSet
    response_set: FeasibleSet

    def __init__(
        self,
        leader_utility: Utility,
        follower_utility: Utility | tuple[Utility, ...] | Followers,
        *,
        action_set: FeasibleSet | None = None,
        response_set: FeasibleSet | tuple[FeasibleSet | None, ...] | None = None,
    ) -> None:
        _check_utility(leader_utility, "leader_utility")
        _check_set(action_set, "action_set")
        if isinstance(follower_utility, tuple | list):
            follower_utility = Several(follower_utility)
            if not follower_utility:
                raise ValueError("`follower_utility` must hold at least one utility; got ().")
            for number, utility in enumerate(follower_utility):
                _check_utility(utility, f"follower_utility[{number}]")
        elif not isinstance(follower_utility, Followers):
            _check_utility(follower_utility, "follower_utility")
        if isinstance(response_set, tuple | list):
            response_set = _product(follower_utility, tuple(response_set))
        _check_set(response_set, "response_set")
        self.leader_utility = leader_utility
        self.follower_utility = follower_utility
        self.action_set = Box() if action_set is None else action_set
        self.response_set = Box() if response_set is None else response_set

    @property
    def several(self) -> bool:
        """Whether there are several followers, in Nash equilibrium among themselves."""
        return is_several(self.follower_utility)

    def break_ties(self, convention: str, *, epsilon: float = 1e-4) -> "Game":
        """The game with a follower that, of several best responses, takes a definite one.

        A follower with several best responses (a linear one, say) leaves the leader's utility
        undefined. Under the 'optimistic' convention it chooses what the leader likes best, under
        the 'pessimistic' one what the leader likes least. Here it does so by maximising
        `U_F + epsilon * U_L` or `U_F - epsilon * U_L`: a linear follower's choice is the exact one
        for an epsilon that is small against its own differences between vertices; a response that
        was unique moves by at most `epsilon` times the leader's slope over the follower's
        curvature. A pessimistic leader may have no optimum, only a supremum, which this comes
        within about epsilon of.

        (`Complementarity` follows the optimistic convention by itself, without an epsilon.)

        Args:
          convention: 'optimistic' or 'pessimistic'.
          epsilon: the leader's weight, in the follower's units of utility for one of the leader's.

        Raises:
          ValueError: another convention, or an epsilon that is not positive.

        Source: Loridan and Morgan, Journal of Global Optimization 8, 1996.
        """
        if self.several:
            raise TypeError("`break_ties` supports one follower; this game has several.")
        if convention not in ("optimistic", "pessimistic"):
            raise ValueError(
                f"`convention` must be 'optimistic' or 'pessimistic'; got {convention!r}."
            )
        if not (is_number(epsilon) and epsilon > 0):
            raise ValueError(f"`epsilon` must be a positive Python number; got {epsilon!r}.")
        weight = epsilon if convention == "optimistic" else -epsilon
        return Game(
            self.leader_utility,
            TieBroken(self.leader_utility, self.follower_utility, weight),
            action_set=self.action_set,
            response_set=self.response_set,
        )

    def tree_flatten(self) -> tuple[Fields, Fields]:
        """Arrays inside callable pytrees and sets are leaves; plain functions are static."""
        children, plain = split_static((self.leader_utility, self.follower_utility))
        return (children, self.action_set, self.response_set), plain

    @classmethod
    def tree_unflatten(cls, plain: Fields, children: Fields) -> "Game":
        """Rebuilds without validation, as JAX does it around tracers."""
        utilities, action_set, response_set = children
        game = object.__new__(cls)
        game.leader_utility, game.follower_utility = join_static(plain, utilities)
        game.action_set, game.response_set = action_set, response_set
        return game

    def __repr__(self) -> str:
        return (
            f"Game(leader_utility={self.leader_utility!r}, "
            f"follower_utility={self.follower_utility!r}, "
            f"action_set={self.action_set!r}, response_set={self.response_set!r})"
        )


def _check_utility(utility: Any, name: str) -> None:
    if not callable(utility):
        raise TypeError(
            f"`{name}` must be callable as {name}(action, response, context) -> scalar; "
            f"got {type(utility).__name__}."
        )
    check_stateless(utility, name)
    _check_arguments(utility, name)


def _product(follower: Any, sets: tuple[Any, ...]) -> FeasibleSet:
    """The set of a tuple of responses, from one set each."""
    if not isinstance(follower, Several):
        raise TypeError(
            "`response_set` must be one set unless `follower_utility` is a tuple of utilities; "
            f"got a tuple of {len(sets)}."
        )
    if len(sets) != len(follower):
        raise ValueError(
            f"`response_set` must hold one set for each of the {len(follower)} followers; got "
            f"{len(sets)}."
        )
    for number, feasible in enumerate(sets):
        _check_set(feasible, f"response_set[{number}]")
    return product_of(sets)


def _check_set(feasible: Any, name: str) -> None:
    """Raises TypeError unless it is None or a set that JAX can rebuild."""
    if feasible is not None and not isinstance(feasible, FeasibleSet):
        kind, way_out = type(feasible).__name__, ""
        if isinstance(feasible, ActionSet | ConvexHull):
            way_out = (
                " Recorded actions are no set of constraints: solvers move along "
                "gradients, which stop at a point. Solve in a Box around them, then take "
                f"`stackjax.project(action, {name})` and ask for the response to that; "
                "for a game of finitely many actions see stackjax.finite."
            )
        raise TypeError(
            f"`{name}` must be one of stackjax's sets (Box, Simplex, ...) or None; got "
            f"{kind}.{way_out}"
        )
    own = vars(type(feasible))
    if "__init__" in own and "__dataclass_fields__" not in own:
        raise TypeError(
            f"`{name}`: {type(feasible).__name__} must be a frozen dataclass "
            "(@dataclasses.dataclass(frozen=True)): JAX rebuilds sets from their fields."
        )


def _check_arguments(utility: Utility, name: str) -> None:
    """Raises TypeError where a function cannot take three arguments."""
    if not isinstance(utility, types.FunctionType | types.MethodType):
        return
    try:
        signature = inspect.signature(utility)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise TypeError(
            f"`{name}` must take three arguments, {name}(action, response, context); it takes "
            f"{signature}."
        ) from None


def evaluate(
    utility: Utility, name: str, action: PyTree, response: PyTree, context: PyTree
) -> jax.Array:
    """The utility's value, or -inf with a zero gradient where it is not finite.

    Raises:
      ValueError: it does not return a scalar.
      TypeError: it does not return a real floating-point number.
    """
    # Traced once; what the utility closes over, a module's parameters too, becomes explicit.
    checked = lambda *arguments: scalar(call(utility, name, *arguments), name)
    pure, theta = jax.closure_convert(checked, action, response, context)
    arguments = action, response, context, *theta
    valid = jnp.isfinite(pure(*lax.stop_gradient(arguments)))
    return jnp.where(valid, pure(*shield(arguments, valid)), -jnp.inf)


def scalar(value: Any, name: str) -> jax.Array:
    if jax.tree.structure(value) != jax.tree.structure(0.0):
        raise TypeError(f"`{name}` must return one scalar; it returned a {type(value).__name__}.")
    if jnp.shape(value) != ():
        ones = set(jnp.shape(value)) == {1}
        advice = (
            "An argument seems to have an axis of length 1 too many, as a column [N, 1] has where "
            "[N] is meant: give column[:, 0], or sum in the utility."
            if ones
            else "Utilities are unbatched: use jax.vmap over contexts."
        )
        raise ValueError(
            f"`{name}` must return a scalar (shape ()); it returned shape {jnp.shape(value)}. "
            f"{advice}"
        )
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise TypeError(
            f"`{name}` must return a real floating-point number; it returned dtype "
            f"{jnp.result_type(value)}."
        )
    return jnp.asarray(value)
