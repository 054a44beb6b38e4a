"""Security games: which of n targets to cover with m resources."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from stackjax._arrays.arguments import check_all_within, check_within, concrete
from stackjax.finite._checks import as_floats


class SecuritySolution(struct.PyTreeNode):
    """The defender's commitment in a security game and the attacker's answer.

    Attributes:
      coverage: `[n]`, the probability that each target is covered, in [0, 1]; the sum is at most
        the number of resources.
      target: scalar int, the target attacked; of the attacker's best, the defender's preferred.
      defender_utility: scalar, the defender's expected utility.
      attacker_utility: scalar, the attacker's expected utility.

    Example:
      >>> third = jnp.array(1 / 3)
      >>> found = sj.finite.SecuritySolution(jnp.array([2 / 3, 1 / 3]), jnp.array(0), -third, third)
      >>> print(found.coverage.sum(), found.target)
      1.0 0
    """

    coverage: jax.Array
    target: jax.Array
    defender_utility: jax.Array
    attacker_utility: jax.Array


def security_equilibrium(
    *,
    defender_covered: Any,
    defender_uncovered: Any,
    attacker_covered: Any,
    attacker_uncovered: Any,
    resources: Any,
) -> SecuritySolution:
    """The strong Stackelberg equilibrium of a security game, in closed form.

    The defender covers target i with probability c_i, sum c <= m; the attacker, who knows c,
    attacks one target t and gets `c_t covered_t + (1 - c_t) uncovered_t`, as the defender does
    with its own utilities. Any such c is played by a lottery over sets of m targets, m whole.

    The equilibrium holds the attacker to its least utility k, with the coverage that makes it
    indifferent, c_i(k) = [uncovered_i - k]_+ / (uncovered_i - covered_i), where

        k = max(max_i covered_i, max_S (sum_S uncovered_i/d_i - m) / sum_S 1/d_i),
        d_i = uncovered_i - covered_i,

    S running over the n sets of the largest `uncovered`: ORIGAMI's attack set, without its loop.
    Unbatched: `jax.vmap` over games; n log n. Derivatives are exact as long as neither the attack
    set nor the target changes. Targets whose uncovered utility reaches k to rounding (32 units in
    the last place of the largest utility) count as tied.

    Args:
      defender_covered: `[n]`, the defender's utility of an attack on a covered target.
      defender_uncovered: `[n]`, of an attack on one not covered; not more than `defender_covered`.
      attacker_covered: `[n]`, the attacker's utility of attacking a covered target.
      attacker_uncovered: `[n]`, of attacking one not covered; more than `attacker_covered`.
      resources: scalar m >= 0, how many targets can be covered at once, or on average.

    Raises:
      TypeError: an argument does not hold real numbers.
      ValueError: shapes differ or are empty; and, outside of transforms, an entry is not finite or
        out of order, or `resources` is negative.

    Source: Kiekintveld et al., Computing optimal randomized resource allocations for massive
    security games, AAMAS 2009.

    Example:
      >>> found = sj.finite.security_equilibrium(
      ...     defender_covered=jnp.zeros(2), defender_uncovered=-jnp.array([2.0, 1.0]),
      ...     attacker_covered=jnp.zeros(2), attacker_uncovered=jnp.array([2.0, 1.0]), resources=1,
      ... )
      >>> print([f"{c:.2f}" for c in found.coverage])  # the more valuable target is covered more
      ['0.67', '0.33']
    """
    utilities = {
        "attacker_uncovered": attacker_uncovered,
        "attacker_covered": attacker_covered,
        "defender_covered": defender_covered,
        "defender_uncovered": defender_uncovered,
    }
    utilities = {name: as_floats(name, value) for name, value in utilities.items()}
    resources = as_floats("resources", resources)
    _check(utilities, resources)
    high, low, saved, lost = jnp.broadcast_arrays(*utilities.values())

    dtype = jnp.result_type(high, low)
    order = jnp.argsort(-high)
    top = high[order[0]]
    weight = 1 / (high - low)[order]
    # Relative to the largest utility, so that few resources lose no digits.
    level = jnp.cumsum((high[order] - top) * weight) - resources
    level = top + jnp.max(level / jnp.cumsum(weight))
    level = jnp.maximum(level, jnp.max(low))
    coverage = jnp.clip((high - level) / (high - low), 0, 1)

    size = jnp.maximum(jnp.max(jnp.abs(high)), jnp.max(jnp.abs(low)))
    attacked = high >= level - 32 * jnp.finfo(dtype).eps * size
    defender = coverage * saved + (1 - coverage) * lost
    target = jnp.argmax(jnp.where(attacked, defender, -jnp.inf))
    attacker = coverage * low + (1 - coverage) * high
    return SecuritySolution(coverage, target, defender[target], attacker[target])


def _check(utilities: dict[str, jax.Array], resources: jax.Array) -> None:
    for name, value in utilities.items():
        if value.ndim != 1 or value.size == 0 or value.shape != utilities["attacker_covered"].shape:
            raise ValueError(
                "The four utilities must be [n] of one length n > 0; got "
                + ", ".join(f"`{k}` {v.shape}" for k, v in utilities.items())
                + "."
            )
        check_all_within(name, value, "(-inf, inf)")
    check_within("resources", resources, "[0, inf)")
    for better, worse, strict in (
        ("attacker_uncovered", "attacker_covered", True),
        ("defender_covered", "defender_uncovered", False),
    ):
        high, low = utilities[better], utilities[worse]
        if not concrete((high, low)):
            continue
        wrong = np.asarray(high <= low if strict else high < low)
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(
                f"`{better}` must be {'more' if strict else 'not less'} than `{worse}` at every "
                f"target; at target {i} they are {high[i]} and {low[i]}."
            )
