"""Followers strongly convex in y, over constraints linear in y."""

import jax.numpy as jnp

from .problem import INF, Problem, sq


def _outrata_1990_polytope(x, y):
    return jnp.stack([-0.333 * y[0] + y[1] - 2, y[0] - 0.333 * y[1] - 2])


def _quadratic(y, h11, h12, h22):
    return 0.5 * (h11 * y[0] ** 2 + 2 * h12 * y[0] * y[1] + h22 * y[1] ** 2)


def _distance(x, y):
    return 0.5 * ((y[0] - 3) ** 2 + (y[1] - 4) ** 2)


def _outrata_1990_ex1(letter, weight, hessian, linear, start, value, follower_value, solution):
    return Problem(
        name=f"Outrata1990Ex1{letter}",
        source=f"Outrata (1990), Z. Oper. Res. 34, example 1{letter}",
        kind="strong",
        leader=lambda x, y: weight * sq(x) + _distance(x, y) - 12.5,
        follower=lambda x, y: _quadratic(y, *hessian) - linear(x, y),
        follower_constraints=_outrata_1990_polytope,
        x=start,
        y=(3.0, 3.0),
        y_lower=(0.0, 0.0),
        value=value,
        follower_value=follower_value,
        solution=solution,
    )


def _outrata_1990_ex2(letter, hessian, constraints, value, follower_value, solution, start=None):
    return Problem(
        name=f"Outrata1990Ex2{letter}",
        source=f"Outrata (1990), Z. Oper. Res. 34, example 2{letter}",
        kind="strong",
        leader=_distance,
        follower=lambda x, y: (
            _quadratic(y, *hessian(x[0])) - (3 + 1.333 * x[0]) * y[0] - x[0] * y[1]
        ),
        follower_constraints=constraints,
        x=(0.0,),
        y=start or (0.0, 0.0),
        x_lower=(0.0,),
        y_lower=(0.0, 0.0),
        value=value,
        follower_value=follower_value,
        solution=solution,
    )


def _outrata_1990_moving(x, y):
    return jnp.stack(
        [
            (-0.333 + 0.1 * x[0]) * y[0] + y[1] - x[0],
            y[0] - (0.333 + 0.1 * x[0]) * y[1] - 2,
        ]
    )


def _clark_westerberg(x, y):
    return jnp.stack([-2 * x[0] + y[0] - 1, x[0] - 2 * y[0] + 2, x[0] + 2 * y[0] - 14])


def _bard_1988_triangle(x, y):
    return jnp.stack([-3 * x[0] + y[0] + 3, x[0] - 0.5 * y[0] - 4, x[0] + y[0] - 7])


def _calamai_vicente(u, v, rho):
    return jnp.concatenate([u - v - 1, u + v - jnp.asarray(rho, u.dtype), 1 - u - v])


# Calamai & Vicente's third problem is the second in other coordinates
_CV_A = ((197.2, 32.4, -129.6, -43.2), (32.4, 110.8, -43.2, -14.4))
_CV_A += ((-129.6, -43.2, 302.8, -32.4), (-43.2, -14.4, -32.4, 389.2))
_CV_C = ((-132.4, -10.8), (-10.8, -103.6), (43.2, 14.4), (14.4, 4.8))
_CV_D = ((13.24, 1.08, -4.32, -1.44), (1.08, 10.36, -1.44, -0.48))


def _calamai_vicente_c_leader(x, y):
    curvature = x @ jnp.asarray(_CV_A, x.dtype) @ x + 100 * sq(y)
    slope = jnp.asarray((-8.56, -9.52, -9.92, -16.64), x.dtype)
    return 0.5 * curvature + slope @ x + 2


STRONG = (
    Problem(
        name="AiyoshiShimizu1984Ex2",
        source="Aiyoshi & Shimizu (1984), IEEE Trans. Autom. Control 29, example 2",
        kind="strong",
        leader=lambda x, y: 2 * x[0] + 2 * x[1] - 3 * y[0] - 3 * y[1] - 60,
        leader_constraints=lambda x, y: jnp.stack([x[0] + x[1] + y[0] - 2 * y[1] - 40]),
        follower=lambda x, y: sq(y - x + 20),
        follower_constraints=lambda x, y: 2 * y - x + 10,
        x=(10.0, 10.0),
        y=(20.0, 20.0),
        x_lower=(0.0, 0.0),
        x_upper=(50.0, 50.0),
        y_lower=(-10.0, -10.0),
        y_upper=(20.0, 20.0),
        # published value 5, at (25, 30, 5, 10), is only a local optimum
        value=0.0,
        solution=((0.0, 0.0), (-10.0, -10.0)),
    ),
    Problem(
        name="EdmundsBard1991",
        source="Edmunds & Bard (1991), IEEE Trans. Syst. Man Cybern. 21",
        kind="strong",
        leader=lambda x, y: 2 * x[0] + 2 * x[1] - 3 * y[0] - 3 * y[1] - 60,
        follower=lambda x, y: sq(y - x + 20),
        follower_constraints=lambda x, y: jnp.append(
            2 * y - x + 10, x[0] + x[1] + y[0] - 2 * y[1] - 40
        ),
        x=(10.0, 10.0),
        y=(20.0, 20.0),
        x_lower=(0.0, 0.0),
        x_upper=(50.0, 50.0),
        y_lower=(-10.0, -10.0),
        y_upper=(20.0, 20.0),
        value=0.0,
        solution=((0.0, 0.0), (-10.0, -10.0)),
    ),
    Problem(
        name="Bard1988Ex1",
        source="Bard (1988), Math. Program. 40, example 1",
        kind="strong",
        leader=lambda x, y: (x[0] - 5) ** 2 + (2 * y[0] + 1) ** 2,
        follower=lambda x, y: (y[0] - 1) ** 2 - 1.5 * x[0] * y[0],
        follower_constraints=_bard_1988_triangle,
        x=(4.0,),
        y=(0.0,),
        x_lower=(0.0,),
        y_lower=(0.0,),
        value=17.0,
        follower_value=1.0,
        solution=((1.0,), (0.0,)),
    ),
    Problem(
        name="Bard1988Ex2",
        source="Bard (1988), Math. Program. 40, example 2",
        kind="strong",
        leader=lambda x, y: (
            -(200 - y[0] - y[2]) * (y[0] + y[2]) - (160 - y[1] - y[3]) * (y[1] + y[3])
        ),
        leader_constraints=lambda x, y: jnp.stack([jnp.sum(x) - 40]),
        follower=lambda x, y: (
            (y[0] - 4) ** 2 + (y[1] - 13) ** 2 + (y[2] - 35) ** 2 + (y[3] - 2) ** 2
        ),
        follower_constraints=lambda x, y: jnp.stack(
            [
                0.4 * y[0] + 0.7 * y[1] - x[0],
                0.6 * y[0] + 0.3 * y[1] - x[1],
                0.4 * y[2] + 0.7 * y[3] - x[2],
                0.6 * y[2] + 0.3 * y[3] - x[3],
            ]
        ),
        x=(5.0, 5.0, 15.0, 15.0),
        y=(0.0, 0.0, 0.0, 0.0),
        x_lower=(0.0,) * 4,
        x_upper=(10.0, 5.0, 15.0, 20.0),
        y_lower=(0.0,) * 4,
        y_upper=(20.0, 20.0, 40.0, 40.0),
        # x is not unique; published follower's value 54 is not that of the published point
        value=-6600.0,
        solution=((7.9142857, 4.3714286, 11.0857143, 16.6285714), (16 / 7, 10.0, 194 / 7, 0.0)),
    ),
    Problem(
        name="BardBook1998Ex721",
        source="Bard (1998), Practical Bilevel Optimization, Kluwer, example 7.2.1",
        kind="strong",
        leader=lambda x, y: 0.5 * ((x[0] - 0.8) ** 2 + (x[1] - 0.2) ** 2 + (y[0] - 1) ** 2),
        follower=lambda x, y: 0.5 * y[0] ** 2 - (1 + x[0] - 2 * x[1]) * y[0],
        x=(0.5, 0.5),
        y=(0.5,),
        x_lower=(0.0, 0.0),
        x_upper=(1.0, 1.0),
        y_lower=(0.0,),
        y_upper=(1.0,),
        value=0.0,
        follower_value=-0.9,
        solution=((0.8, 0.2), (1.0,)),
    ),
    Problem(
        name="BardBook1998Ex722",
        source="Bard (1998), Practical Bilevel Optimization, Kluwer, example 7.2.2",
        kind="strong",
        leader=lambda x, y: 0.5 * ((x[0] - 1) ** 2 + (x[1] - 0.4) ** 2 + (y[0] - 0.8) ** 2),
        follower=lambda x, y: 0.5 * y[0] ** 2 - (1 + x[0] - 3 * x[1]) * y[0],
        x=(0.5, 0.5),
        y=(0.5,),
        x_lower=(0.0, 0.0),
        x_upper=(1.0, 1.0),
        y_lower=(0.0,),
        y_upper=(1.0,),
        value=0.0,
        follower_value=-0.32,
        solution=((1.0, 0.4), (0.8,)),
    ),
    Problem(
        name="BardBook1998Ex813",
        source="Bard (1998), Practical Bilevel Optimization, Kluwer, example 8.1.3",
        kind="strong",
        leader=lambda x, y: (x[0] - 1) ** 2 + (y[0] - 1) ** 2,
        follower=lambda x, y: 0.5 * y[0] ** 2 + 500 * y[0] - 50 * x[0] * y[0],
        x=(5.0,),
        y=(1.0,),
        x_lower=(-100.0,),
        x_upper=(100.0,),
        y_lower=(0.0,),
        y_upper=(100.0,),
        value=1.0,
        follower_value=0.0,
        solution=((1.0,), (0.0,)),
    ),
    Problem(
        name="CalamaiVicente1994a",
        source="Calamai & Vicente (1994), ACM Trans. Math. Softw. 20, rho = 1",
        kind="strong",
        leader=lambda x, y: 0.5 * (x[0] - 1) ** 2 + 0.5 * y[0] ** 2,
        follower=lambda x, y: 0.5 * y[0] ** 2 - x[0] * y[0],
        follower_constraints=lambda x, y: _calamai_vicente(x, y, (1.0,)),
        x=(1.0,),
        y=(1.0,),
        value=0.0,
        follower_value=0.0,
        solution=((1.0,), (0.0,)),
    ),
    Problem(
        name="CalamaiVicente1994b",
        source="Calamai & Vicente (1994), ACM Trans. Math. Softw. 20, rho = (1.5, 3)",
        kind="strong",
        leader=lambda x, y: 0.5 * sq(x - 1) + 0.5 * sq(y),
        follower=lambda x, y: 0.5 * sq(y) - x[0] * y[0] - x[1] * y[1],
        follower_constraints=lambda x, y: _calamai_vicente(x[:2], y, (1.5, 3.0)),
        x=(1.0,) * 4,
        y=(1.0, 1.0),
        value=0.3125,
        follower_value=-0.40625,
        solution=((1.25, 0.5, 1.0, 1.0), (0.25, 0.5)),
    ),
    Problem(
        name="CalamaiVicente1994c",
        source="Calamai & Vicente (1994), ACM Trans. Math. Softw. 20, rho = (1.5, 3), rotated",
        kind="strong",
        leader=_calamai_vicente_c_leader,
        follower=lambda x, y: 50 * sq(y) + x @ jnp.asarray(_CV_C, x.dtype) @ y,
        follower_constraints=lambda x, y: _calamai_vicente(
            jnp.asarray(_CV_D, x.dtype) @ x, 10 * y, (1.5, 3.0)
        ),
        x=(1.0,) * 4,
        y=(1.0, 1.0),
        value=0.3125,
        follower_value=-0.40625,
        solution=((0.13085, 0.05195, 0.1022, 0.0674), (0.025, 0.05)),
    ),
    Problem(
        name="ClarkWesterberg1990a",
        source="Clark & Westerberg (1990), Comput. Chem. Eng. 14; Sahin & Ciric (1998), example 2",
        kind="strong",
        leader=lambda x, y: (x[0] - 3) ** 2 + (y[0] - 2) ** 2,
        follower=lambda x, y: (y[0] - 5) ** 2,
        follower_constraints=_clark_westerberg,
        x=(1.0,),
        y=(1.0,),
        x_lower=(0.0,),
        x_upper=(8.0,),
        value=5.0,
        follower_value=4.0,
        solution=((1.0,), (3.0,)),
    ),
    Problem(
        name="GumusFloudas2001Ex4",
        source="Gumus & Floudas (2001), J. Glob. Optim. 20, example 4",
        kind="strong",
        leader=lambda x, y: (x[0] - 3) ** 2 + (y[0] - 2) ** 2,
        leader_constraints=_clark_westerberg,
        follower=lambda x, y: (y[0] - 5) ** 2,
        x=(1.0,),
        y=(1.0,),
        x_lower=(0.0,),
        x_upper=(8.0,),
        y_lower=(0.0,),
        y_upper=(10.0,),
        value=9.0,
        follower_value=0.0,
        solution=((3.0,), (5.0,)),
    ),
    Problem(
        name="Colson2002BIPA2",
        source="Colson (2002), BIPA, problem 2",
        kind="strong",
        leader=lambda x, y: (x[0] - 5) ** 2 + (2 * y[0] + 1) ** 2,
        follower=lambda x, y: (y[0] - 1) ** 2 - 1.5 * x[0] * y[0] + x[0] ** 3,
        follower_constraints=_bard_1988_triangle,
        x=(4.0,),
        y=(0.0,),
        x_lower=(0.0,),
        y_lower=(0.0,),
        value=17.0,
        follower_value=2.0,
        solution=((1.0,), (0.0,)),
    ),
    Problem(
        name="Colson2002BIPA3",
        source="Colson (2002), BIPA, problem 3",
        kind="strong",
        leader=lambda x, y: (x[0] - 5) ** 4 + (2 * y[0] + 1) ** 4,
        leader_constraints=lambda x, y: jnp.stack([x[0] + y[0] - 4]),
        follower=lambda x, y: jnp.exp(y[0] - x[0]) + (x[0] + y[0]) ** 2 + 2 * x[0] + 6 * y[0],
        follower_constraints=lambda x, y: jnp.stack([-x[0] + y[0] - 2]),
        x=(4.0,),
        y=(0.0,),
        x_lower=(0.0,),
        y_lower=(0.0,),
        value=2.0,
        follower_value=24.0183,
        solution=((4.0,), (0.0,)),
    ),
    Problem(
        name="DeSilva1978",
        source="De Silva (1978), George Washington University thesis",
        kind="strong",
        leader=lambda x, y: sq(x - 1) + sq(y) - 2,
        follower=lambda x, y: sq(y - x),
        x=(0.0, 0.0),
        y=(1.0, 1.0),
        y_lower=(0.5, 0.5),
        y_upper=(1.5, 1.5),
        value=-1.0,
        follower_value=0.0,
        solution=((0.5, 0.5), (0.5, 0.5)),
    ),
    Problem(
        name="FalkLiu1995",
        source="Falk & Liu (1995), Math. Program. 70",
        kind="strong",
        leader=lambda x, y: sq(x - 1.5) + sq(y) - 4.5,
        follower=lambda x, y: sq(y - x),
        x=(0.0, 0.0),
        y=(1.0, 1.0),
        y_lower=(0.5, 0.5),
        y_upper=(1.5, 1.5),
        # published value -2.1962, at sqrt(3)/2 in every coordinate, is not the least
        value=-2.25,
        follower_value=0.0,
        solution=((0.75, 0.75), (0.75, 0.75)),
    ),
    Problem(
        name="HatzEtal2013",
        source="Hatz, Leyffer, Schloeder & Bock (2013), Argonne report",
        kind="strong",
        leader=lambda x, y: -x[0] + 2 * y[0] + y[1],
        follower=lambda x, y: (x[0] - y[0]) ** 2 + y[1] ** 2,
        x=(1.0,),
        y=(1.0, 1.0),
        y_lower=(0.0, 0.0),
        value=0.0,
        follower_value=0.0,
        solution=((0.0,), (0.0, 0.0)),
    ),
    Problem(
        name="HendersonQuandt1958",
        source="Henderson & Quandt (1958), Microeconomic Theory; a Stackelberg duopoly",
        kind="strong",
        leader=lambda x, y: (0.5 * (x[0] + y[0]) - 95) * x[0],
        follower=lambda x, y: (y[0] + 0.5 * x[0] - 100) * y[0],
        x=(0.0,),
        y=(0.0,),
        x_lower=(0.0,),
        x_upper=(200.0,),
        y_lower=(0.0,),
        value=-9800 / 3,
        follower_value=-6400 / 9,
        solution=((280 / 3,), (80 / 3,)),
    ),
    Problem(
        name="HenrionSurowiec2011",
        source="Henrion & Surowiec (2011), Appl. Anal. 90, c = 0",
        kind="strong",
        leader=lambda x, y: x[0] ** 2,
        follower=lambda x, y: 0.5 * y[0] ** 2 - x[0] * y[0],
        x=(1.0,),
        y=(1.0,),
        value=0.0,
        follower_value=0.0,
        solution=((0.0,), (0.0,)),
    ),
    Problem(
        name="LamparielloSagratella2017Ex32",
        source="Lampariello & Sagratella (2017), J. Optim. Theory Appl. 174, example 3.2",
        kind="strong",
        leader=lambda x, y: x[0] ** 2 + y[0] ** 2,
        follower=lambda x, y: (x[0] + y[0] - 1) ** 2,
        x=(1.0,),
        y=(1.0,),
        value=0.5,
        follower_value=0.0,
        solution=((0.5,), (0.5,)),
    ),
    Problem(
        name="MacalHurter1997",
        source="Macal & Hurter (1997), Comput. Oper. Res. 24",
        kind="strong",
        leader=lambda x, y: (x[0] - 1) ** 2 + (y[0] - 1) ** 2,
        follower=lambda x, y: 0.5 * y[0] ** 2 + 500 * y[0] - 50 * x[0] * y[0],
        x=(1.0,),
        y=(1.0,),
        value=203401 / 2501,
        follower_value=-0.5 * (2050 / 2501) ** 2,
        solution=((25051 / 2501,), (2050 / 2501,)),
    ),
    Problem(
        name="MuuQuy2003Ex1",
        source="Muu & Quy (2003), J. Glob. Optim. 26, example 1",
        kind="strong",
        leader=lambda x, y: x[0] ** 2 - 4 * x[0] + sq(y),
        follower=lambda x, y: (
            y[0] ** 2 + 0.5 * y[1] ** 2 + y[0] * y[1] + (1 - 3 * x[0]) * y[0] + (1 + x[0]) * y[1]
        ),
        follower_constraints=lambda x, y: jnp.stack([2 * y[0] + y[1] - 2 * x[0] - 1]),
        x=(2.0,),
        y=(0.0, 0.0),
        x_lower=(0.0,),
        x_upper=(2.0,),
        y_lower=(0.0, 0.0),
        value=-27 / 13,
        follower_value=-100 / 169,
        solution=((11 / 13,), (10 / 13, 0.0)),
    ),
    Problem(
        name="MuuQuy2003Ex2",
        source="Muu & Quy (2003), J. Glob. Optim. 26, example 2",
        kind="strong",
        leader=lambda x, y: -7 * x[0] + 4 * x[1] + y[0] ** 2 + y[2] ** 2 - y[0] * y[2] - 4 * y[1],
        leader_constraints=lambda x, y: jnp.stack([x[0] + x[1] - 1]),
        follower=lambda x, y: (
            y[0] ** 2
            + 0.5 * y[1] ** 2
            + 0.5 * y[2] ** 2
            + y[0] * y[1]
            + (1 - 3 * x[0]) * y[0]
            + (1 + x[1]) * y[1]
        ),
        follower_constraints=lambda x, y: jnp.stack([2 * y[0] + y[1] - y[2] + x[0] - 2 * x[1] + 2]),
        x=(0.0, 1.0),
        y=(1.0, 1.0, 1.0),
        x_lower=(0.0, 0.0),
        y_lower=(0.0, 0.0, 0.0),
        # published value 0.6426 is that of an approximate solution
        value=23 / 36,
        follower_value=121 / 72,
        solution=((11 / 18, 7 / 18), (0.0, 0.0, 11 / 6)),
    ),
    _outrata_1990_ex1(
        "a",
        0.1,
        (1.0, -2.0, 5.0),
        lambda x, y: x @ y,
        (0.0, 0.0),
        -8.91720296,
        -6.1369829,
        ((1.0315665, 3.0977972), (2.5970479, 1.7929367)),
    ),
    _outrata_1990_ex1(
        "b",
        1.0,
        (1.0, -2.0, 5.0),
        lambda x, y: x @ y,
        (0.0, 0.0),
        -7.57845816,  # published value -7.56 is that of an approximate solution
        -0.57189345,
        ((0.2788391, 0.4748117), (2.3438192, 1.03249)),
    ),
    _outrata_1990_ex1(
        "c",
        0.0,
        (1.0, 3.0, 10.0),
        lambda x, y: x @ y,
        (0.0, 0.0),
        -11.9984985,
        None,  # x is not unique
        ((11.994003, 38.9805097), (2.9985007, 2.9985007)),
    ),
    _outrata_1990_ex1(
        "d",
        0.1,
        (1.0, 3.0, 10.0),
        lambda x, y: x @ y,
        (6.0, -3.0),
        -3.6,
        -2.0,
        ((2.0, 0.0), (2.0, 0.0)),
    ),
    _outrata_1990_ex1(
        "e",
        0.1,
        (1.0, 3.0, 10.0),
        lambda x, y: (-x[0] + 2 * x[1]) * y[0] + 3 * (x[0] - x[1]) * y[1],
        (6.0, -3.0),
        -3.92,  # published value -3.15, at (2.42, -3.65), is not the least
        -2.0,
        ((-0.4, 0.8), (2.0, 0.0)),
    ),
    _outrata_1990_ex2(
        "a",
        lambda x: (1.0, 0.0, 1.0),
        _outrata_1990_polytope,
        0.501501498,
        None,  # x is not unique
        ((2.2039354,), (2.9985007, 2.9985007)),
    ),
    _outrata_1990_ex2(
        "c",
        lambda x: (1 + x, 0.0, 1 + 0.1 * x),
        _outrata_1990_polytope,
        1.8604624,
        -10.931475,
        ((3.4561622,), (1.7070887, 2.5684605)),
    ),
    _outrata_1990_ex2(
        "d",
        lambda x: (1.0, 0.0, 1.0),
        _outrata_1990_moving,
        0.848505425,  # published value 0.92, at 2.498, is not the least
        -22.950557,
        ((2.856343,), (3.8807456, 3.0401573)),
    ),
    _outrata_1990_ex2(
        "e",
        lambda x: (1 + x, 0.0, 1.0),
        _outrata_1990_moving,
        0.897459823,
        -14.928944,
        ((3.9985352,), (1.6650089, 3.8872235)),
    ),
    Problem(
        name="Outrata1993Ex31",
        source="Outrata (1993), J. Optim. Theory Appl. 76, example 3.1",
        kind="strong",
        leader=_distance,
        follower=lambda x, y: (
            _quadratic(y, 1 + 0.2 * x[0], 0.0, 1 + 0.1 * x[0])
            - (3 + 1.333 * x[0]) * y[0]
            - x[0] * y[1]
        ),
        follower_constraints=lambda x, y: jnp.stack(
            [
                (-0.333 + 0.1 * x[0]) * y[0] + y[1] + 0.1 * x[0] - 2,
                y[0] - (0.333 + 0.1 * x[0]) * y[1] + 0.1 * x[0] - 2,
            ]
        ),
        x=(0.0,),
        y=(0.0, 0.0),
        x_lower=(0.0,),
        y_lower=(0.0, 0.0),
        value=1.56287383,
        follower_value=-11.682684,
        solution=((1.909518,), (2.9785879, 2.2321513)),
    ),
    Problem(
        name="OutrataCervinka2009",
        source="Outrata & Cervinka (2009), Control Cybern. 38",
        kind="strong",
        leader=lambda x, y: -2 * x[0] - 0.5 * x[1] - y[1],
        follower=lambda x, y: y[0] - y[1] + x @ y + 0.5 * sq(y),
        follower_constraints=lambda x, y: jnp.stack([y[1] - y[0], y[0] + y[1]]),
        x=(0.0, 1.0),
        y=(1.0, 0.0),
        x_upper=(0.0, INF),
        y_upper=(INF, 0.0),
        value=0.0,
        follower_value=0.0,
        solution=((0.0, 0.0), (0.0, 0.0)),
    ),
    Problem(
        name="ShimizuAiyoshi1981Ex1",
        source="Shimizu & Aiyoshi (1981), IEEE Trans. Autom. Control 26, example 1",
        kind="strong",
        leader=lambda x, y: x[0] ** 2 + (y[0] - 10) ** 2,
        leader_constraints=lambda x, y: jnp.stack([y[0] - x[0]]),
        follower=lambda x, y: (x[0] + 2 * y[0] - 30) ** 2,
        follower_constraints=lambda x, y: jnp.stack([x[0] + y[0] - 20]),
        x=(1.0,),
        y=(1.0,),
        x_lower=(0.0,),
        x_upper=(15.0,),
        y_lower=(0.0,),
        y_upper=(20.0,),
        value=100.0,
        follower_value=0.0,
        solution=((10.0,), (10.0,)),
    ),
    Problem(
        name="ShimizuAiyoshi1981Ex2",
        source="Shimizu & Aiyoshi (1981), IEEE Trans. Autom. Control 26, example 2",
        kind="strong",
        leader=lambda x, y: (x[0] - 30) ** 2 + (x[1] - 20) ** 2 - 20 * y[0] + 20 * y[1],
        leader_constraints=lambda x, y: jnp.stack([30 - x[0] - 2 * x[1], x[0] + x[1] - 25]),
        follower=lambda x, y: sq(x - y),
        x=(1.0, 1.0),
        y=(1.0, 1.0),
        x_upper=(INF, 15.0),
        y_lower=(0.0, 0.0),
        y_upper=(10.0, 10.0),
        value=225.0,
        follower_value=100.0,
        solution=((20.0, 5.0), (10.0, 5.0)),
    ),
    Problem(
        name="SinhaMaloDeb2014TP6",
        source="Sinha, Malo & Deb (2014), IEEE CEC, TP6; Bard (1998)",
        kind="strong",
        leader=lambda x, y: (x[0] - 1) ** 2 - 2 * x[0] + 2 * y[0],
        follower=lambda x, y: (2 * y[0] - 4) ** 2 + (2 * y[1] - 1) ** 2 + x[0] * y[0],
        follower_constraints=lambda x, y: jnp.stack(
            [
                4 * x[0] + 5 * y[0] + 4 * y[1] - 12,
                -4 * x[0] - 5 * y[0] + 4 * y[1] + 4,
                4 * x[0] - 4 * y[0] + 5 * y[1] - 4,
                -4 * x[0] + 4 * y[0] + 5 * y[1] - 4,
            ]
        ),
        x=(1.0,),
        y=(1.0, 1.0),
        x_lower=(0.0,),
        y_lower=(0.0, 0.0),
        value=-98 / 81,
        follower_value=617 / 81,
        solution=((17 / 9,), (8 / 9, 0.0)),
    ),
    Problem(
        name="Yezza1996Ex41",
        source="Yezza (1996), J. Optim. Theory Appl. 89, example 4.1",
        kind="strong",
        leader=lambda x, y: 0.5 * (y[0] - 2) ** 2 + 0.5 * (x[0] - y[0] - 2) ** 2,
        follower=lambda x, y: 0.5 * y[0] ** 2 + x[0] - y[0],
        follower_constraints=lambda x, y: y - x,
        x=(-1.0,),
        y=(0.0,),
        y_lower=(0.0,),
        value=0.5,
        follower_value=2.5,
        solution=((3.0,), (1.0,)),
    ),
)
