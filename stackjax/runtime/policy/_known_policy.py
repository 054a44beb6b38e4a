"""The policy of `control.known_world`, for examples and first tries without a fit."""

from __future__ import annotations

import functools

from stackjax.agents.control import known_world
from stackjax.agents.log._turns import turn_arrays
from stackjax.runtime.policy._policy import Policy, measure_residuals


@functools.cache
def known_policy() -> Policy:
    """Its controller, calibrated on its records; compiled once in a process, and fresh then."""
    controller = known_world.controller()
    return Policy(
        controller, measure_residuals(controller.surrogate, turn_arrays(known_world.records()))
    )
