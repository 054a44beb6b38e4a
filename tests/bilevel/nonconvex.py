"""Followers not convex in y."""

import jax.numpy as jnp

from .problem import INF, Problem, sq


def _nonconvex(name, source, **kwargs):
    return Problem(name=name, source=source, kind="nonconvex", **kwargs)


def _mitsos_barton(number, **kwargs):
    """One leader variable and one follower variable, by default in [-1, 1]."""
    unit = {"x_lower": (-1.0,), "x_upper": (1.0,), "y_lower": (-1.0,), "y_upper": (1.0,)}
    return _nonconvex(
        f"MitsosBarton2006Ex3{number}",
        f"Mitsos & Barton (2006), A test set for bilevel programs, example 3.{number}",
        **{"x": (1.0,), "y": (1.0,)} | unit | kwargs,
    )


def _quartic(y):
    return 16 * y**4 + 2 * y**3 - 8 * y**2 - 1.5 * y + 0.5


def _mitsos_barton_21(x, y):
    x, y = x[0], y[0]
    return (
        y**4
        + 4 / 30 * (1 - x) * y**3
        + (-0.02 * x**2 + 0.16 * x - 0.4) * y**2
        + (0.004 * x**3 - 0.036 * x**2 + 0.08 * x) * y
    )


def _mitsos_barton_27(x, y):
    return (
        y[0] ** 3
        + (x[0] + x[1]) * y[1] ** 2
        + 0.1 * y[2]
        + (y[3] ** 2 + y[4] ** 2) * x[2] * x[3] * x[4]
    )


def _mitsos_barton_27_leader(x, y):
    return jnp.stack([y[0] * y[1] - x[0], x[0] - jnp.exp(x[1]) + y[2], x[1] * y[0] ** 2])


def _mitsos_barton_27_follower(x, y):
    return jnp.stack(
        [y[0] * y[1] - 0.3, x[0] - 0.2 - y[2] ** 2, -jnp.exp(y[2]) + y[3] * y[4] - 0.1]
    )


def _fraction(x, y):
    above = 1 + x[0] + x[1] + 2 * y[0] - y[1] + y[2]
    return above / (6 + 2 * x[0] + y[0] + y[1] - 3 * y[2])


def _candler_townsley(x, y):
    return jnp.stack(
        [
            -y[0] + y[1] + y[2] - 1,
            2 * x[0] - y[0] + 2 * y[1] - 0.5 * y[2] - 1,
            2 * x[1] + 2 * y[0] - y[1] - 0.5 * y[2] - 1,
        ]
    )


def _candler_townsley_leader(x, y):
    return -8 * x[0] - 4 * x[1] + 4 * y[0] - 40 * y[1] - 4 * y[2]


def _product_ratio(x, y):
    return (x[0] + y[0]) * (x[1] + y[1]) / (1 + x @ y)


NONCONVEX = (
    _nonconvex(
        "CalveteGale1999P1",
        "Calvete & Gale (1999), Eur. J. Oper. Res. 114, problem 1",
        leader=_candler_townsley_leader,
        follower=_fraction,
        follower_constraints=_candler_townsley,
        x=(0.0, 0.5),
        y=(0.0, 0.5, 0.0),
        x_lower=(0.0, 0.0),
        y_lower=(0.0, 0.0, 0.0),
        value=-29.2,
        follower_value=0.3148,
        solution=((0.0, 0.9), (0.0, 0.6, 0.4)),
    ),
    _nonconvex(
        "GumusFloudas2001Ex3",
        "Gumus & Floudas (2001), J. Glob. Optim. 20, example 3",
        leader=_candler_townsley_leader,
        follower=_fraction,
        follower_constraints=_candler_townsley,
        x=(0.0, 0.5),
        y=(0.0, 0.5, 0.0),
        x_lower=(0.0, 0.0),
        x_upper=(2.0, 2.0),
        y_lower=(0.0, 0.0, 0.0),
        y_upper=(2.0, 2.0, 2.0),
        value=-29.2,
        follower_value=0.3148,
        solution=((0.0, 0.9), (0.0, 0.6, 0.4)),
    ),
    _nonconvex(
        "GumusFloudas2001Ex5",
        "Gumus & Floudas (2001), J. Glob. Optim. 20, example 5",
        leader=lambda x, y: x[0],
        follower=lambda x, y: -y[0] + 0.5864 * y[0] ** 0.67,
        follower_constraints=lambda x, y: jnp.stack(
            [
                0.0332333 / y[1] + 0.1 * y[0] - 1,
                (4 * x[0] + 2 * x[0] ** -0.71) / y[1] + 0.0332333 * x[0] ** -1.3 - 1,
            ]
        ),
        x=(1.0,),
        y=(1.0, 1.0),
        x_lower=(0.1,),
        x_upper=(10.0,),
        y_lower=(0.1, 0.1),
        y_upper=(10.0, 10.0),
        value=0.193616,
        follower_value=-7.2304,
        solution=((0.193616,), (9.9667667, 10.0)),
    ),
    _nonconvex(
        "KleniatiAdjiman2014Ex3",
        "Kleniati & Adjiman (2014), J. Glob. Optim. 60, example 3",
        leader=lambda x, y: x[0] - y[0],
        follower=lambda x, y: 0.5 * x[0] * y[0] ** 2 - x[0] * y[0] ** 3,
        x=(1.0,),
        y=(1.0,),
        x_lower=(-1.0,),
        x_upper=(1.0,),
        y_lower=(-1.0,),
        y_upper=(1.0,),
        value=-1.0,
        follower_value=0.0,
        solution=((0.0,), (1.0,)),
    ),
    _nonconvex(
        "KleniatiAdjiman2014Ex4",
        "Kleniati & Adjiman (2014), J. Glob. Optim. 60, example 4",
        leader=lambda x, y: -sq(x) - sq(y),
        leader_constraints=_mitsos_barton_27_leader,
        follower=_mitsos_barton_27,
        follower_constraints=lambda x, y: jnp.stack([x[0] - 0.2 - y[2] ** 2]),
        x=(1.0,) * 5,
        y=(1.0,) * 5,
        x_lower=(-1.0,) * 5,
        x_upper=(1.0,) * 5,
        y_lower=(-1.0,) * 5,
        y_upper=(1.0,) * 5,
        value=-10.0,
        follower_value=-3.1,
        solution=((1.0, -1.0, -1.0, -1.0, -1.0), (-1.0,) * 5),
    ),
    _nonconvex(
        "LamparielloSagratella2017Ex23",
        "Lampariello & Sagratella (2017), J. Optim. Theory Appl. 174, example 2.3",
        leader=lambda x, y: x[0],
        follower=lambda x, y: (x[0] - y[0]) ** 2 + (y[1] + 1) ** 2,
        follower_constraints=lambda x, y: jnp.stack([y[0] ** 3 - y[1]]),
        x=(1.0,),
        y=(1.0, 1.0),
        x_lower=(-1.0,),
        x_upper=(1.0,),
        y_lower=(-INF, 0.0),
        value=-1.0,
        follower_value=1.0,
        solution=((-1.0,), (-1.0, 0.0)),
    ),
    _nonconvex(
        "Mirrlees1999",
        "Mirrlees (1999), Rev. Econ. Stud. 66",
        leader=lambda x, y: (x[0] - 2) ** 2 + (y[0] - 1) ** 2,
        follower=lambda x, y: -x[0] * jnp.exp(-((y[0] + 1) ** 2)) - jnp.exp(-((y[0] - 1) ** 2)),
        x=(1.0,),
        y=(1.0,),
        y_lower=(-2.0,),
        y_upper=(2.0,),
        value=1.0018059079696253,
        follower_value=-1.0198658183311207,
        solution=((1.0,), (0.9575040240772688,)),
    ),
    _mitsos_barton(
        3,
        leader=lambda x, y: y[0],
        follower=lambda x, y: y[0] ** 2,
        follower_constraints=lambda x, y: 1 - y**2,
        y=(-10.0,),
        y_lower=(-10.0,),
        y_upper=(10.0,),
        value=-1.0,
        follower_value=1.0,
        solution=((0.0,), (-1.0,)),
    ),
    _mitsos_barton(
        4,
        leader=lambda x, y: y[0],
        follower=lambda x, y: -(y[0] ** 2),
        y=(-0.5,),
        y_lower=(-0.5,),
        value=1.0,
        follower_value=-1.0,
        solution=((0.0,), (1.0,)),
    ),
    _mitsos_barton(
        5,
        leader=lambda x, y: y[0],
        follower=lambda x, y: _quartic(y[0]),
        y=(-1.0,),
        value=0.5,
        follower_value=-1.0,
        solution=((0.0,), (0.5,)),
    ),
    _mitsos_barton(
        6,
        leader=lambda x, y: y[0],
        follower=lambda x, y: y[0] ** 3,
        value=-1.0,
        follower_value=-1.0,
        solution=((0.0,), (-1.0,)),
    ),
    _mitsos_barton(
        9,
        leader=lambda x, y: x[0],
        leader_constraints=lambda x, y: y - x,
        follower=lambda x, y: y[0] ** 3,
        x_lower=(-10.0,),
        x_upper=(10.0,),
        value=-1.0,
        follower_value=-1.0,
        solution=((-1.0,), (-1.0,)),
    ),
    _mitsos_barton(
        10,
        leader=lambda x, y: y[0],
        follower=lambda x, y: x[0] * _quartic(y[0]),
        x_lower=(0.1,),
        # any x will do
        value=0.5,
        solution=((1.0,), (0.5,)),
    ),
    _mitsos_barton(
        11,
        leader=lambda x, y: y[0],
        follower=lambda x, y: x[0] * _quartic(y[0]),
        y_lower=(-0.8,),
        value=-0.8,
        follower_value=0.0,
        solution=((0.0,), (-0.8,)),
    ),
    _mitsos_barton(
        12,
        leader=lambda x, y: -x[0] + x[0] * y[0] + 10 * y[0] ** 2,
        follower=lambda x, y: -x[0] * y[0] ** 2 + 0.5 * y[0] ** 4,
        value=0.0,
        follower_value=0.0,
        solution=((0.0,), (0.0,)),
    ),
    _mitsos_barton(
        13,
        leader=lambda x, y: x[0] - y[0],
        follower=lambda x, y: 0.5 * x[0] * y[0] ** 2 - x[0] ** 3 * y[0],
        value=-1.0,
        follower_value=0.0,
        solution=((0.0,), (1.0,)),
    ),
    _mitsos_barton(
        14,
        leader=lambda x, y: (x[0] - 0.25) ** 2 + y[0] ** 2,
        follower=lambda x, y: y[0] ** 3 / 3 - x[0] * y[0],
        value=0.25,
        follower_value=-1 / 12,
        solution=((0.25,), (0.5,)),
    ),
    _mitsos_barton(
        15,
        leader=lambda x, y: x[0] + y[0],
        follower=lambda x, y: 0.5 * x[0] * y[0] ** 2 - y[0] ** 3 / 3,
        value=0.0,
        follower_value=-5 / 6,
        solution=((-1.0,), (1.0,)),
    ),
    _mitsos_barton(
        16,
        leader=lambda x, y: 2 * x[0] + y[0],
        follower=lambda x, y: -0.5 * x[0] * y[0] ** 2 - 0.25 * y[0] ** 4,
        # also attained at (-0.5, -1)
        value=-2.0,
        follower_value=0.0,
        solution=((-1.0,), (0.0,)),
    ),
    _mitsos_barton(
        17,
        leader=lambda x, y: (x[0] + 0.5) ** 2 + 0.5 * y[0] ** 2,
        follower=lambda x, y: 0.5 * x[0] * y[0] ** 2 + 0.25 * y[0] ** 4,
        # also attained at (-0.25, -0.5)
        value=3 / 16,
        follower_value=-1 / 64,
        solution=((-0.25,), (0.5,)),
    ),
    _mitsos_barton(
        18,
        leader=lambda x, y: -(x[0] ** 2) + y[0] ** 2,
        follower=lambda x, y: x[0] * y[0] ** 2 - 0.5 * y[0] ** 4,
        # published value -0.25, at (0.5, 0), is not the least
        value=-1.0,
        follower_value=0.0,
        solution=((1.0,), (0.0,)),
    ),
    _mitsos_barton(
        19,
        leader=lambda x, y: x[0] * y[0] - y[0] + 0.5 * y[0] ** 2,
        follower=lambda x, y: -x[0] * y[0] ** 2 + 0.5 * y[0] ** 4,
        x=(-1.0,),
        value=-0.2580756164910357,
        follower_value=-0.0177812996,
        solution=((0.18858048469644503,), (0.4342585459106649,)),
    ),
    _mitsos_barton(
        20,
        leader=lambda x, y: (x[0] - 0.25) ** 2 + y[0] ** 2,
        follower=lambda x, y: y[0] ** 3 / 3 - x[0] ** 2 * y[0],
        value=0.3125,
        follower_value=-1 / 12,
        solution=((0.5,), (0.5,)),
    ),
    _mitsos_barton(
        21,
        leader=lambda x, y: (x[0] + 0.6) ** 2 + y[0] ** 2,
        follower=_mitsos_barton_21,
        value=0.209504950,
        follower_value=-0.0655938,
        solution=((-0.55445,), (0.455445,)),
    ),
    _mitsos_barton(
        22,
        leader=lambda x, y: (x[0] + 0.6) ** 2 + y[0] ** 2,
        follower=_mitsos_barton_21,
        follower_constraints=lambda x, y: 0.01 * (1 + x**2) - y**2,
        value=0.209504950,
        follower_value=-0.0655938,
        solution=((-0.55445,), (0.455445,)),
    ),
    _mitsos_barton(
        23,
        leader=lambda x, y: x[0] ** 2,
        leader_constraints=lambda x, y: 1 + x - 9 * x**2 - y,
        follower=lambda x, y: y[0],
        follower_constraints=lambda x, y: y**2 * (x - 0.5),
        x=(0.0,),
        value=0.17565429786841025,
        follower_value=-1.0,
        solution=((-0.4191113191843072,), (-1.0,)),
    ),
    _mitsos_barton(
        24,
        leader=lambda x, y: x[0] ** 2 - y[0],
        follower=lambda x, y: ((y[0] - 1 - 0.1 * x[0]) ** 2 - 0.5 - 0.5 * x[0]) ** 2,
        x_lower=(0.0,),
        y_lower=(0.0,),
        y_upper=(3.0,),
        value=-1.7547179268252053,
        follower_value=0.0,
        solution=((0.21066214570816455,), (1.7990964664592741,)),
    ),
    _mitsos_barton(
        25,
        leader=lambda x, y: x[0] * y[0] + x[1] * y[0] ** 2 - x[0] * x[1] * y[2],
        leader_constraints=lambda x, y: jnp.stack(
            [0.1 * y[0] * y[1] - x[0] ** 2, x[1] * y[0] ** 2]
        ),
        follower=lambda x, y: x[0] * y[0] ** 2 + x[1] * y[1] * y[2],
        follower_constraints=lambda x, y: jnp.stack(
            [
                y[0] ** 2 - y[1] * y[2],
                y[1] ** 2 * y[2] - y[0] * x[0],
                0.1 - y[2] ** 2,
            ]
        ),
        x=(1.0, 1.0),
        y=(1.0, 1.0, 1.0),
        x_lower=(-1.0,) * 2,
        x_upper=(1.0,) * 2,
        y_lower=(-1.0,) * 3,
        y_upper=(1.0,) * 3,
        value=-1.0,
        follower_value=-2.0,
        solution=((-1.0, -1.0), (-1.0, 1.0, 1.0)),
    ),
    _mitsos_barton(
        26,
        leader=lambda x, y: x[0] * y[0] + x[1] * y[1] ** 2 + x[0] * x[1] * y[2] ** 3,
        leader_constraints=lambda x, y: jnp.stack([0.1 - x[0] ** 2, 1.5 - sq(y), sq(y) - 2.5]),
        follower=lambda x, y: x[0] * y[0] ** 2 + x[1] * y[1] ** 2 + (x[0] - x[1]) * y[2] ** 2,
        x=(1.0, 1.0),
        y=(1.0, 1.0, 1.0),
        x_lower=(-1.0,) * 2,
        x_upper=(1.0,) * 2,
        y_lower=(-1.0,) * 3,
        y_upper=(1.0,) * 3,
        value=-2 - 0.5**1.5,
        follower_value=-2.0,
        solution=((-1.0, -1.0), (1.0, 1.0, -(0.5**0.5))),
    ),
    _mitsos_barton(
        27,
        leader=lambda x, y: sq(x) + sq(y),
        leader_constraints=_mitsos_barton_27_leader,
        follower=_mitsos_barton_27,
        follower_constraints=_mitsos_barton_27_follower,
        x=(1.0,) * 5,
        y=(1.0,) * 5,
        x_lower=(-1.0,) * 5,
        x_upper=(1.0,) * 5,
        y_lower=(-1.0,) * 5,
        y_upper=(1.0,) * 5,
        value=2.0,
        follower_value=-1.1,
        solution=((0.0,) * 5, (-1.0, 0.0, -1.0, 0.0, 0.0)),
    ),
    _mitsos_barton(
        28,
        leader=lambda x, y: -sq(x) - sq(y),
        leader_constraints=_mitsos_barton_27_leader,
        follower=_mitsos_barton_27,
        follower_constraints=_mitsos_barton_27_follower,
        x=(1.0,) * 5,
        y=(1.0,) * 5,
        x_lower=(-1.0,) * 5,
        x_upper=(1.0,) * 5,
        y_lower=(-1.0,) * 5,
        y_upper=(1.0,) * 5,
        value=-10.0,
        follower_value=-3.1,
        solution=((1.0, -1.0, -1.0, -1.0, -1.0), (-1.0, 1.0, -1.0, 1.0, -1.0)),
    ),
    _nonconvex(
        "NieWangYe2017Ex34",
        "Nie, Wang & Ye (2017), SIAM J. Optim. 27, example 3.4",
        leader=lambda x, y: x[0] + y[0] + y[1],
        follower=lambda x, y: x[0] * (y[0] + y[1]),
        follower_constraints=lambda x, y: jnp.stack([-(y[0] ** 2) + y[1] ** 2 + sq(y) ** 2]),
        x=(2.0,),
        y=(1.0, 1.0),
        x_lower=(2.0,),
        x_upper=(3.0,),
        y_lower=(0.0, -INF),
        value=2.0,
        follower_value=0.0,
        solution=((2.0,), (0.0, 0.0)),
    ),
    _nonconvex(
        "NieWangYe2017Ex52",
        "Nie, Wang & Ye (2017), SIAM J. Optim. 27, example 5.2",
        leader=lambda x, y: x[0] * y[0] + x[1] * y[1] + x[0] * x[1] * y[0] * y[1] * y[2],
        leader_constraints=lambda x, y: jnp.stack([y[0] * y[1] - x[0] ** 2]),
        follower=lambda x, y: x[0] * y[0] ** 2 + x[1] ** 2 * y[1] * y[2] - y[0] * y[2] ** 2,
        follower_constraints=lambda x, y: jnp.stack([1 - sq(y), sq(y) - 2]),
        x=(1.0, 1.0),
        y=(1.0, 1.0, 1.0),
        x_lower=(-1.0, -1.0),
        x_upper=(1.0, 1.0),
        value=-1.7095,
        follower_value=-2.2321,
        solution=((-1.0, -1.0), (1.1097, 0.3143, -0.8184)),
    ),
    _nonconvex(
        "NieWangYe2017Ex57",
        "Nie, Wang & Ye (2017), SIAM J. Optim. 27, example 5.7",
        leader=lambda x, y: 0.5 * x[0] ** 2 * y[0] + x[1] * y[1] ** 2 - (x[0] + x[1] ** 2) * y[2],
        leader_constraints=lambda x, y: jnp.stack(
            [-x[0] - x[1] + x[0] ** 2 + y[0] ** 2 + y[1] ** 2]
        ),
        follower=lambda x, y: x[1] * (y[0] * y[1] * y[2] + y[1] ** 2 - y[2] ** 3),
        follower_constraints=lambda x, y: jnp.stack([sq(y) - x[0], 2 * y[1] * y[2] - 1]),
        x=(1.0, 1.0),
        y=(1.0, 1.0, 1.0),
        x_lower=(-1.0, -1.0),
        x_upper=(1.0, 1.0),
        value=-2.0,
        follower_value=-1.0,
        solution=((1.0, 1.0), (0.0, 0.0, 1.0)),
    ),
    _nonconvex(
        "NieWangYe2017Ex58",
        "Nie, Wang & Ye (2017), SIAM J. Optim. 27, example 5.8",
        leader=lambda x, y: jnp.sum(x) * jnp.sum(y),
        leader_constraints=lambda x, y: jnp.stack(
            [sq(x) - 1, y[2] ** 2 - x[3], y[1] * y[3] - x[0]]
        ),
        follower=lambda x, y: x[0] * y[0] + x[1] * y[1] + 0.1 * y[2] + 0.5 * y[3] - y[2] * y[3],
        follower_constraints=lambda x, y: jnp.stack(
            [
                y[0] ** 2
                + 2 * y[1] ** 2
                + 3 * y[2] ** 2
                + 4 * y[3] ** 2
                - x[0] ** 2
                - x[2] ** 2
                - x[1]
                - x[3],
                y[1] * y[2] - y[0] * y[3],
            ]
        ),
        x=(0.5442, 0.4682, 0.4904, 0.4942),
        y=(-0.7792, -0.5034, -0.2871, -0.1855),
        value=-3.488,
        follower_value=-0.862,
        solution=((0.5135, 0.505, 0.4882, 0.4929), (-0.8346, -0.4104, -0.2106, -0.2887)),
    ),
    _nonconvex(
        "NieWangYe2017Ex61",
        "Nie, Wang & Ye (2017), SIAM J. Optim. 27, example 6.1",
        leader=lambda x, y: (
            y[0] ** 3 * (x[0] ** 2 - 3 * x[0] * x[1]) - y[0] ** 2 * y[1] + y[1] * x[1] ** 3
        ),
        leader_constraints=lambda x, y: jnp.stack([-y[1] - y[0] * (1 - x[0] ** 2)]),
        follower=lambda x, y: y[0] * y[1] ** 2 - y[1] ** 3 - y[0] ** 2 * (x[1] - x[0] ** 2),
        follower_constraints=lambda x, y: jnp.stack([sq(y) - 1]),
        x=(1.0, -1.0),
        y=(-1.0, 1.0),
        x_lower=(-1.0, -1.0),
        x_upper=(1.0, 1.0),
        value=-1.022,
        follower_value=-1.084,
        solution=((0.5708, -1.0), (-0.1639, 0.9865)),
    ),
    _nonconvex(
        "PaulaviciusAdjiman2017a",
        "Paulavicius & Adjiman (2017), Branch-and-Sandwich report, first example",
        leader=lambda x, y: x[0] ** 2 + y[0] ** 2,
        follower=lambda x, y: x[0] * y[0] ** 2 - 0.5 * y[0] ** 4,
        x=(1.0,),
        y=(1.0,),
        x_lower=(-1.0,),
        x_upper=(1.0,),
        y_lower=(-1.0,),
        y_upper=(1.0,),
        value=0.25,
        follower_value=0.0,
        solution=((0.5,), (0.0,)),
    ),
    _nonconvex(
        "PaulaviciusAdjiman2017b",
        "Paulavicius & Adjiman (2017), Branch-and-Sandwich report, second example",
        leader=lambda x, y: x[0] + y[0],
        follower=lambda x, y: 0.5 * x[0] * y[0] ** 2 - x[0] ** 3 * y[0],
        x=(1.0,),
        y=(1.0,),
        x_lower=(-1.0,),
        x_upper=(1.0,),
        y_lower=(-1.0,),
        y_upper=(1.0,),
        value=-2.0,
        follower_value=-1.5,
        solution=((-1.0,), (-1.0,)),
    ),
    _nonconvex(
        "SinhaMaloDeb2014SMD1",
        "Sinha, Malo & Deb (2014), Evol. Comput. 22, SMD1, p = q = r = 1",
        leader=lambda x, y: sq(x) + y[0] ** 2 + (x[1] - jnp.tan(y[1])) ** 2,
        follower=lambda x, y: x[0] ** 2 + y[0] ** 2 + (x[1] - jnp.tan(y[1])) ** 2,
        x=(1.0, 1.0),
        y=(1.0, 1.0),
        x_lower=(-5.0, -5.0),
        x_upper=(10.0, 10.0),
        y_lower=(-5.0, -1.57),
        y_upper=(10.0, 1.57),
        value=0.0,
        follower_value=0.0,
        solution=((0.0, 0.0), (0.0, 0.0)),
    ),
    _nonconvex(
        "SinhaMaloDeb2014SMD2",
        "Sinha, Malo & Deb (2014), Evol. Comput. 22, SMD2, p = q = r = 1",
        leader=lambda x, y: sq(x) - y[0] ** 2 - (x[1] - jnp.log(y[1])) ** 2,
        follower=lambda x, y: x[0] ** 2 + y[0] ** 2 + (x[1] - jnp.log(y[1])) ** 2,
        x=(1.0, 0.5),
        y=(1.0, 2.0),
        x_lower=(-5.0, -5.0),
        x_upper=(10.0, 1.0),
        y_lower=(-5.0, 0.001),
        y_upper=(10.0, 2.718281828459045),
        value=0.0,
        follower_value=0.0,
        solution=((0.0, 0.0), (0.0, 1.0)),
    ),
    _nonconvex(
        "SinhaMaloDeb2014SMD3",
        "Sinha, Malo & Deb (2014), Evol. Comput. 22, SMD3, p = q = r = 1",
        leader=lambda x, y: sq(x) + y[0] ** 2 + (x[1] ** 2 - jnp.tan(y[1])) ** 2,
        follower=lambda x, y: (
            x[0] ** 2
            + 1
            + y[0] ** 2
            - jnp.cos(2 * jnp.pi * y[0])
            + (x[1] ** 2 - jnp.tan(y[1])) ** 2
        ),
        x=(1.0, 1.0),
        y=(1.0, 1.0),
        x_lower=(-5.0, -5.0),
        x_upper=(10.0, 10.0),
        y_lower=(-5.0, -1.57),
        y_upper=(10.0, 1.57),
        value=0.0,
        follower_value=0.0,
        solution=((0.0, 0.0), (0.0, 0.0)),
    ),
    _nonconvex(
        "SinhaMaloDeb2014SMD7",
        "Sinha, Malo & Deb (2014), Evol. Comput. 22, SMD7, p = q = r = 1",
        leader=lambda x, y: (
            1
            + x[0] ** 2 / 400
            - jnp.cos(x[0])
            - y[0] ** 2
            + x[1] ** 2
            - (x[1] - jnp.log(y[1])) ** 2
        ),
        follower=lambda x, y: x[0] ** 3 + y[0] ** 2 + (x[1] - jnp.log(y[1])) ** 2,
        x=(1.0, 0.5),
        y=(1.0, 2.0),
        x_lower=(-5.0, -5.0),
        x_upper=(10.0, 1.0),
        y_lower=(-5.0, 0.001),
        y_upper=(10.0, 2.718281828459045),
        value=0.0,
        follower_value=0.0,
        solution=((0.0, 0.0), (0.0, 1.0)),
    ),
    _nonconvex(
        "SinhaMaloDeb2014TP7",
        "Sinha, Malo & Deb (2014), IEEE CEC, TP7",
        leader=lambda x, y: -_product_ratio(x, y),
        leader_constraints=lambda x, y: jnp.stack([x[0] - x[1], sq(x) - 100]),
        follower=_product_ratio,
        follower_constraints=lambda x, y: y - x,
        x=(1.0, 1.0),
        y=(0.0, 1.0),
        x_lower=(0.0, 0.0),
        y_lower=(0.0, 0.0),
        value=-100 / 51,
        follower_value=100 / 51,
        solution=((50**0.5, 50**0.5), (0.0, 50**0.5)),
    ),
    _nonconvex(
        "Vogel2012",
        "Vogel (2012), TU Bergakademie Freiberg thesis",
        leader=lambda x, y: (y[0] + 1) ** 2,
        follower=lambda x, y: y[0] ** 3 - 3 * y[0],
        follower_constraints=lambda x, y: x - y,
        x=(1.0,),
        y=(1.0,),
        x_lower=(-3.0,),
        x_upper=(2.0,),
        value=1.0,
        follower_value=-2.0,
        solution=((-2.0,), (-2.0,)),
    ),
    _nonconvex(
        "YeZhu2010Ex42",
        "Ye & Zhu (2010), SIAM J. Optim. 20, example 4.2",
        leader=lambda x, y: (x[0] - 1) ** 2 + y[0] ** 2,
        follower=lambda x, y: y[0] ** 3 - 3 * y[0],
        follower_constraints=lambda x, y: x - y,
        x=(-1.0,),
        y=(-1.0,),
        x_lower=(-3.0,),
        x_upper=(2.0,),
        value=1.0,
        follower_value=-2.0,
        solution=((1.0,), (1.0,)),
    ),
    _nonconvex(
        "YeZhu2010Ex43",
        "Ye & Zhu (2010), SIAM J. Optim. 20, example 4.3",
        leader=lambda x, y: (x[0] - 0.5) ** 2 + (y[0] - 2) ** 2,
        follower=lambda x, y: y[0] ** 3 - 3 * y[0],
        follower_constraints=lambda x, y: x - y - 3,
        x=(0.0,),
        y=(-1.0,),
        x_lower=(0.0,),
        x_upper=(4.0,),
        value=1.25,
        follower_value=-2.0,
        solution=((1.0,), (1.0,)),
    ),
)
