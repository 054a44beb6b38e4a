"""Test functions of evolutionary bilevel optimisation, of two and three variables.

    F = F1(x1) + F2(y1) + F3(x2, y2),      f = f1(x1, x2) + f2(y1) + f3(x2, y2)

with x1, x2 and y2 of one number and y1 of two. The optimum is 0 for both in each of them. Starting
points are draws from the bounds, rounded.
"""

import jax.numpy as jnp

from .problem import Problem, sq

_HALF = 1.57  # instead of the open end at pi / 2
_E = 2.718281828459045


def _smd(number, leader, follower, x, y, *, x2=(-5.0, 10.0), y2=(-5.0, 10.0), best=(0.0,) * 3):
    return Problem(
        name=f"SMD{number}",
        source=f"Sinha, Malo & Deb (2014), Evol. Comput. 22, SMD{number}, 2 + 3 variables",
        kind="nonconvex",
        leader=leader,
        follower=follower,
        x=x,
        y=y,
        x_lower=(-5.0, x2[0]),
        x_upper=(10.0, x2[1]),
        y_lower=(-5.0, -5.0, y2[0]),
        y_upper=(10.0, 10.0, y2[1]),
        value=0.0,
        follower_value=0.0,
        solution=((0.0, 0.0), best),
    )


def _rastrigin(y):
    return 2 + y[0] ** 2 - jnp.cos(2 * jnp.pi * y[0]) + y[1] ** 2 - jnp.cos(2 * jnp.pi * y[1])


def _rosenbrock(y):
    return (y[1] - y[0] ** 2) ** 2 + (y[0] - 1) ** 2


def _ackley(x):
    return 20 + jnp.e - 20 * jnp.exp(-0.2 * jnp.abs(x)) - jnp.exp(jnp.cos(2 * jnp.pi * x))


MULTIMODAL = (
    _smd(
        1,
        lambda x, y: sq(x) + sq(y[:2]) + (x[1] - jnp.tan(y[2])) ** 2,
        lambda x, y: x[0] ** 2 + sq(y[:2]) + (x[1] - jnp.tan(y[2])) ** 2,
        (4.6, -1.0),
        (-4.4, -4.8, 1.0),
        y2=(-_HALF, _HALF),
    ),
    _smd(
        2,
        lambda x, y: sq(x) - sq(y[:2]) - (x[1] - jnp.log(y[2])) ** 2,
        lambda x, y: x[0] ** 2 + sq(y[:2]) + (x[1] - jnp.log(y[2])) ** 2,
        (7.2, -3.1),
        (5.9, 9.0, 2.2),
        x2=(-5.0, 1.0),
        y2=(1e-3, _E),
        best=(0.0, 0.0, 1.0),
    ),
    _smd(
        3,
        lambda x, y: sq(x) + sq(y[:2]) + (x[1] ** 2 - jnp.tan(y[2])) ** 2,
        lambda x, y: x[0] ** 2 + _rastrigin(y) + (x[1] ** 2 - jnp.tan(y[2])) ** 2,
        (3.1, 7.7),
        (8.2, -2.6, 0.4),
        y2=(-_HALF, _HALF),
    ),
    _smd(
        4,
        lambda x, y: sq(x) - sq(y[:2]) - (jnp.abs(x[1]) - jnp.log(1 + y[2])) ** 2,
        lambda x, y: x[0] ** 2 + _rastrigin(y) + (jnp.abs(x[1]) - jnp.log(1 + y[2])) ** 2,
        (-1.7, 0.6),
        (5.8, 3.4, 1.9),
        x2=(-1.0, 1.0),
        y2=(0.0, _E),
    ),
    _smd(
        5,
        lambda x, y: sq(x) - _rosenbrock(y) - (jnp.abs(x[1]) - y[2] ** 2) ** 2,
        lambda x, y: x[0] ** 2 + _rosenbrock(y) + (jnp.abs(x[1]) - y[2] ** 2) ** 2,
        (2.3, -3.9),
        (-3.3, 6.1, 4.8),
        best=(1.0, 1.0, 0.0),
    ),
    _smd(
        6,
        lambda x, y: sq(x) + sq(y[:2]) - (x[1] - y[2]) ** 2,
        lambda x, y: x[0] ** 2 + (y[1] - y[0]) ** 2 + (x[1] - y[2]) ** 2,
        (-4.2, 5.5),
        (1.4, 7.3, -2.8),
    ),
    _smd(
        7,
        lambda x, y: (
            1 + x[0] ** 2 / 400 - jnp.cos(x[0])
            - sq(y[:2]) + x[1] ** 2 - (x[1] - jnp.log(y[2])) ** 2
        ),
        lambda x, y: x[0] ** 3 + sq(y[:2]) + (x[1] - jnp.log(y[2])) ** 2,
        (6.4, -2.2),
        (-1.9, 4.7, 0.7),
        x2=(-5.0, 1.0),
        y2=(1e-3, _E),
        best=(0.0, 0.0, 1.0),
    ),
    _smd(
        8,
        lambda x, y: _ackley(x[0]) - _rosenbrock(y) + x[1] ** 2 - (x[1] - y[2] ** 3) ** 2,
        lambda x, y: jnp.abs(x[0]) + _rosenbrock(y) + (x[1] - y[2] ** 3) ** 2,
        (5.2, 8.8),
        (2.7, -3.6, 6.5),
        best=(1.0, 1.0, 0.0),
    ),
)  # fmt: skip
