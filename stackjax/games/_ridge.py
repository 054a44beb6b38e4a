"""A hyperparameter."""

import jax
import jax.numpy as jnp

from stackjax._arrays.typing import PyTree
from stackjax._game import Game
from stackjax.games._closed_form import ClosedFormGame, check_at_least
from stackjax.sets import Box

LIMIT = 3.0


def ridge(
    key: jax.Array, *, features: int = 3, train_rows: int = 6, valid_rows: int = 6
) -> ClosedFormGame:
    """Ridge regression as the follower, its penalty chosen on validation data.

        U_F = -|y - X w|^2 / (2 n) - exp(a) |w|^2 / 2,     U_L = -|y' - X' w|^2 / (2 n')

    Action: the log-penalty a in [-3, 3], a scalar; response: the weights w, `[features]`; context:
    a dict of the targets, `train` y `[train_rows]` and `valid` y' `[valid_rows]`. Both designs are
    orthogonal: the columns of X have mean square 1, and so have those of X'.

    Then `w = z / (1 + exp(a))` with the least-squares weights `z = X^T y / n`; with those of the
    validation data, `z'`, the leader's loss is `|w - z'|^2 / 2` up to a constant, so
    `1 / (1 + exp(a)) = z'z' / |z|^2` (an inner product of z and z' over |z|^2), and a the nearest
    of [-3, 3] to that. (Given w the leader does not care, so any a is in a Nash equilibrium; `nash`
    has a = 0.) Contexts: standard normal weights, the same for both, and standard normal noise;
    about half of the equilibria are inside the bounds.

    Args:
      key: for the designs.
      features: the length of w.
      train_rows: n, at least `features`.
      valid_rows: n', at least `features`.

    Raises:
      TypeError: an argument is of the wrong kind.
      ValueError: `features` is below 1, or `train_rows` or `valid_rows` below it.

    Source: Hoerl and Kennard, Ridge regression, Technometrics 12(1), 1970; as a bilevel program,
    Bennett et al., Model selection via bilevel optimization, IJCNN 2006.

    Example:
      >>> tuning = sj.games.ridge(jax.random.key(0))
      >>> data = jax.tree.map(lambda x: x[0], tuning.contexts(jax.random.key(1), 1))
      >>> log_penalty, weights = tuning.equilibrium(data)
      >>> print(data["train"].shape, bool(abs(log_penalty) <= 3), weights.shape)
      (6,) True (3,)
    """
    check_at_least(1, features=features)
    check_at_least(features, train_rows=train_rows, valid_rows=valid_rows)
    first, second = jax.random.split(key)

    def design(key: jax.Array, rows: int) -> jax.Array:
        return jnp.linalg.qr(jax.random.normal(key, (rows, features)))[0] * rows**0.5

    X, X_valid = design(first, train_rows), design(second, valid_rows)

    def leader_utility(a: jax.Array, w: jax.Array, data: PyTree) -> jax.Array:
        return -jnp.mean((data["valid"] - X_valid @ w) ** 2) / 2

    def follower_utility(a: jax.Array, w: jax.Array, data: PyTree) -> jax.Array:
        return -jnp.mean((data["train"] - X @ w) ** 2) / 2 - jnp.exp(a) * jnp.sum(w**2) / 2

    def least_squares(data: PyTree) -> jax.Array:
        return X.T @ data["train"] / train_rows

    def best_response(a: jax.Array, data: PyTree) -> jax.Array:
        return jax.nn.sigmoid(-a) * least_squares(data)

    def sensitivity(a: jax.Array, data: PyTree) -> jax.Array:
        return -jax.nn.sigmoid(-a) * jax.nn.sigmoid(a) * least_squares(data)

    def equilibrium(data: PyTree) -> tuple[jax.Array, jax.Array]:
        z, z_valid = least_squares(data), X_valid.T @ data["valid"] / valid_rows
        least, most = jax.nn.sigmoid(-LIMIT), jax.nn.sigmoid(LIMIT)
        shrink = jnp.clip(z @ z_valid / (z @ z), least, most)
        # rounding may put a bound just outside of itself
        a = jnp.clip(jnp.log1p(-shrink) - jnp.log(shrink), -LIMIT, LIMIT)
        return a, best_response(a, data)

    def nash(data: PyTree) -> tuple[jax.Array, jax.Array]:
        a = jnp.zeros((), data["train"].dtype)
        return a, best_response(a, data)

    def contexts(key: jax.Array, n: int) -> PyTree:
        keys = jax.random.split(key, 3)
        normal = lambda i, size: jax.random.normal(keys[i], (n, size))
        weights = normal(0, features)
        return {
            "train": weights @ X.T + normal(1, train_rows),
            "valid": weights @ X_valid.T + normal(2, valid_rows),
        }

    return ClosedFormGame(
        Game(leader_utility, follower_utility, action_set=Box(-LIMIT, LIMIT)),
        jnp.array(0.0),
        jnp.zeros(features),
        equilibrium,
        best_response,
        sensitivity,
        contexts,
        nash=nash,
    )
