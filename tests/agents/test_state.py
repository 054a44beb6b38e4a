import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stackjax.agents.game._state import (
    FIELDS,
    encode_scalar,
    encode_task,
    stack_states,
    state_of,
)
from stackjax.agents.tasks._tasks import TASK_TYPES

ROW = {
    "task_complexity": 0.7,
    "context_tokens": 250,
    "turn_index": 4,
    "mean_tokens": 100.0,
    "recent_quality": 0.6,
    "token_trend": -3.0,
    "model_condition": 1.0,
    "budget": -1.5,
}


def test_encodings_by_hand():
    state = state_of(ROW, "text_writing")
    numbers = [0.7, 0.5, 0.5, 0.2, 0.6, -2.0, 1.0, -1.0]
    np.testing.assert_allclose(encode_scalar(state), [*numbers, 2 / 5], rtol=1e-6)
    np.testing.assert_allclose(encode_task(state), [*numbers, 0, 0, 1, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(("encode", "size"), [(encode_scalar, 9), (encode_task, 14)])
def test_batch_equals_loop_under_jit(encode, size):
    rows = [{**ROW, "turn_index": i, "budget": 1 - i / 9} for i in range(6)]
    batch = jax.jit(jax.vmap(encode))(stack_states(rows, TASK_TYPES))
    loop = jnp.stack([encode(state_of(row, task)) for row, task in zip(rows, TASK_TYPES)])
    assert batch.shape == (6, size)
    np.testing.assert_allclose(batch, loop, rtol=1e-6)


def test_task_types_differ_in_both_encodings():
    for encode in (encode_scalar, encode_task):
        codes = np.stack([encode(state_of(ROW, task)) for task in TASK_TYPES])
        assert len(np.unique(codes, axis=0)) == len(TASK_TYPES)


@pytest.mark.parametrize("name", FIELDS)
def test_missing_or_not_finite_field_is_named(name):
    with pytest.raises(ValueError, match=name):
        state_of({key: value for key, value in ROW.items() if key != name}, "simple_qa")
    with pytest.raises(ValueError, match=name):
        state_of({**ROW, name: float("nan")}, "simple_qa")


def test_errors():
    with pytest.raises(ValueError, match="`task` must be one of .*'casual_chat'.*; got 'poetry'"):
        state_of(ROW, "poetry")
    with pytest.raises(ValueError, match="of one length; got 2 and 1"):
        stack_states([ROW, ROW], ["simple_qa"])
    with pytest.raises(ValueError, match="at least one state; got none"):
        stack_states([], [])
