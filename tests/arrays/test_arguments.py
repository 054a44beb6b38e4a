"""The checks of arguments: which input each refuses, and the sentence it refuses it with."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stackjax._arrays.arguments import (
    check_all_within,
    check_choice,
    check_count,
    check_same_shape,
    check_shape,
    check_type,
    check_within,
)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: check_within("x", True, "[0, 1]"), TypeError, "`x` must be a number; got True."),
        (lambda: check_within("x", "1", "[0, 1]"), TypeError, "`x` must be a number; got '1'."),
        (lambda: check_within("x", None, "[0, 1]"), TypeError, "`x` must be a number; got None."),
        (
            lambda: check_within("x", [0.5], "[0, 1]"),
            ValueError,
            "`x` must be one number; got shape (1,).",
        ),
        (
            lambda: check_within("x", 0, "(0, 1]", owner="Box: "),
            ValueError,
            "Box: `x` must lie in (0, 1]; got 0.",
        ),
        (
            lambda: check_within("x", np.inf, "[0, inf)"),
            ValueError,
            "`x` must be finite and not negative; got inf.",
        ),
        (
            lambda: check_all_within("x", [[1.0, 2.0], [3.0, np.nan]], "(-inf, inf)"),
            ValueError,
            "`x` must be finite; got nan at index (1, 1), 1 of 4 numbers are wrong.",
        ),
        (lambda: check_count("x", 2.0), TypeError, "`x` must be an integer; got 2.0."),
        (
            lambda: check_shape("x", np.zeros(2), (None, 3), ", (c, p, u)"),
            ValueError,
            "`x` must have shape (any, 3), (c, p, u); got shape (2,).",
        ),
        (
            lambda: check_same_shape("[n]", a=np.zeros(3), b=np.zeros(4)),
            ValueError,
            "`a` and `b` must have one shape, [n]; got (3,), (4,).",
        ),
        (
            lambda: check_choice("x", "c", ("a", "b")),
            ValueError,
            "`x` must be one of 'a', 'b'; got 'c'.",
        ),
        (
            lambda: check_type("x", np.zeros((9, 9)), str, "a string"),
            TypeError,
            "`x` must be a string; got ndarray.",
        ),
    ],
)
def test_what_is_refused_is_named(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_numbers_of_every_kind_pass_and_traced_ones_too():
    for number in (0, 0.5, np.float32(1), np.int64(1), jnp.asarray(0.25), jnp.bfloat16(0.5)):
        check_within("x", number, "[0, 1]")
    check_all_within("x", np.array([True, False]), "[0, 1]")
    check_all_within("x", [], "(0, 1)")
    check_count("x", np.int64(3), least=3)
    jax.jit(lambda x: check_within("x", x, "[0, 1]"))(2.0)
    with pytest.raises(ValueError, match="`x` must be one number"):
        jax.vmap(lambda x: check_within("x", x, "[0, 1]"))(jnp.ones((2, 3)))
