"""The optimiser's loop that every fit shares.

One jitted `while_loop` over optimiser steps. It ends early where a fit diverges, or where a
validation set says that it no longer gets better; what a fit is for is an `Objective`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_count
from stackjax._arrays.finite import finite
from stackjax._arrays.modules import is_floating, partition
from stackjax._arrays.typing import PyTree
from stackjax.fit._checkpoint import Checkpoint
from stackjax.fit._history import History, warn_of
from stackjax.fit._lagrangian import Prices, Terms
from stackjax.fit._options import (
    Objective,
    Options,
    Score,
    Validation,
)
from stackjax.fit._progress import chunks
from stackjax.fit._slope import FLAT, KEPT, Arrays, Best, Descent, Slope, decrement, priced

# Steps on end without a follower that converged, after which a fit has diverged.
_PATIENCE = 20
Callback = Callable[[int, PyTree, History], None]


class State(struct.PyTreeNode):
    """Where a fit is; all that it needs to go on.

    Attributes:
      arrays: the module's trained arrays.
      moments: the optimiser's state.
      starts: the followers' last answers, `[N, ...]`.
      prices: of the constraints.
      slope: of the objective, prices and all.
      kept: `[k]` slopes in the constraints' prices.
      best: the best look at the validation rows.
      sound: the trained arrays of the last step that was of use.
      sound_step: `[]` steps taken before it.
      idle: `[]` steps since.
      descent: how a quasi-Newton search goes.
      stopped: `[]` whether the fit is over.
      history: filled up to `history.steps`.
    """

    arrays: Arrays
    moments: PyTree
    starts: PyTree
    prices: Prices
    slope: Slope
    kept: Slope
    best: Best
    sound: Arrays
    sound_step: jax.Array
    idle: jax.Array
    descent: Descent
    stopped: jax.Array
    history: History


def train(
    module: PyTree,
    objective: Objective,
    rows: PyTree,
    starts: PyTree,
    options: Options,
    *,
    validation: Validation | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    every: int | None = None,
    checkpoint: str | Path | None = None,
) -> tuple[PyTree, History]:
    """Maximises an objective's utility over the module's parameters."""
    begin = lambda steps: _begin(module, rows, starts, options.replace(steps=steps))
    if every is not None:
        check_count("every", every)
    saved = None
    if checkpoint is None:
        state = begin(options.steps)
    else:
        inputs = _inputs(module, objective, rows, starts, options, validation)
        extend = validation is None and not options.constrained
        saved = Checkpoint(checkpoint, inputs, options.steps, extend=extend)
        state = saved.restore(begin)
    watched = callback is not None or saved is not None
    for first, length in chunks(options.steps, progress, watched, every):
        if saved is not None and saved.step >= first + length:
            continue  # what a checkpoint holds is not done again
        if watched and state.stopped:
            break
        with jax.numpy_dtype_promotion("standard"):  # as in `stackjax.solvers._implicit.detached`
            state = _run(state, module, objective, rows, options, validation, first + length)
        if saved is not None:
            saved.save(first + length, state)
        if callback is not None:
            callback(*_so_far(module, state))
    fitted, history = _end(module, state, validation is not None)
    warn_of(history)
    return fitted, history


# What users call the parts of objectives.
_NAMES = {"settings": "solver", "averages": "constraints"}


def _inputs(
    module: PyTree,
    objective: Objective,
    rows: PyTree,
    starts: PyTree,
    options: Options,
    validation: Validation | None,
) -> dict[str, PyTree]:
    """What a fit depends on but its steps, by the names of arguments."""
    parts = {
        name: getattr(options, name) for name in ("key", "batch_size", "optimizer", "learning_rate")
    }
    for field in dataclasses.fields(cast(Any, objective)):
        parts[_NAMES.get(field.name, field.name)] = getattr(objective, field.name)
    return {
        "module": module, "data": rows, "response": starts, "estimator": type(objective).__name__,
        "dual_rate": options.dual_rate, "validation": validation, **parts,
    }  # fmt: skip


def _begin(module: PyTree, rows: PyTree, starts: PyTree, options: Options) -> State:
    arrays, _ = partition(module)
    # not by evaluating the objective: its trace takes a second, and is then done again
    floating = [x for x in jax.tree.leaves((arrays, rows, starts)) if is_floating(x)]
    dtype = jnp.result_type(jnp.float32, *floating)
    k, count = options.constrained, options.steps
    blank = lambda *shape: jnp.full(shape, jnp.nan, dtype)
    zero = jnp.zeros((), jnp.int32)
    no = jnp.zeros((), bool)
    return State(
        arrays=arrays,
        moments=options.optimizer.init(arrays),
        starts=starts,
        prices=Prices.none(k, dtype),
        slope=Slope.none(arrays, dtype),
        kept=jax.tree.map(
            lambda x: jnp.broadcast_to(x, k), Slope.none([jnp.zeros((), dtype)], dtype)
        ),
        best=Best(
            arrays=arrays,
            highest=jnp.full((), -jnp.inf, dtype),
            value=jnp.full((), jnp.nan, dtype),
            step=zero,
            since=zero,
        ),
        sound=arrays,
        sound_step=zero,
        idle=zero,
        descent=Descent.none(dtype),
        stopped=no,
        history=History(
            utility=blank(count),
            gradient_norm=blank(count),
            converged=blank(count),
            validation=blank(count),
            constraints=blank(count, k),
            multipliers=blank(count, k),
            steps=zero,
            diverged=no,
            best=zero,
            fit_converged=no,
        ),
    )


@jax.jit
def _run(
    state: State,
    module: PyTree,
    objective: Objective,
    rows: PyTree,
    options: Options,
    validation: Validation | None,
    last: jax.Array | int,
) -> State:
    """Goes on until `last` steps have been taken, or the fit stops."""
    _, combine = partition(module)
    count = len(jax.tree.leaves(rows)[0])
    size = count if options.batch_size is None else min(options.batch_size, count)
    terms = Terms(options.dual_rate, max(10.0, options.steps / 20), noisy=size < count)
    # Line-search optimisers want the objective, others ignore it.
    optimizer = optax.with_extra_args_support(options.optimizer)

    def body(state: State) -> State:
        number = state.history.steps
        key = jax.random.fold_in(options.key, number)
        index = jnp.arange(count)
        if size < count:
            index = jax.random.randint(key, (size,), 0, count)
        batch, starts = jax.tree.map(lambda x: x[index], (rows, state.starts))

        def loss(arrays: Arrays) -> tuple[jax.Array, Score]:
            score = objective(combine(arrays), batch, starts, jax.random.fold_in(key, 1))
            return -score.utility + state.prices.cost(score.constraints, score.units, terms), score

        (value, score), slope = jax.value_and_grad(loss, has_aux=True)(state.arrays)
        norm = optax.tree.norm(slope)
        extra = {"value": value, "grad": slope, "value_fn": lambda arrays: loss(arrays)[0]}
        updates, moments = optimizer.update(slope, state.moments, state.arrays, **extra)
        updates = jax.tree.map(lambda x: options.learning_rate.astype(x.dtype) * x, updates)
        arrays: Any = optax.apply_updates(state.arrays, updates)
        sound = jnp.isfinite(norm) & jnp.isfinite(value) & finite(arrays)
        useful = sound & (score.converged > 0)
        idle = jnp.where(useful, 0, state.idle + 1)
        diverged = ~sound | (idle >= _PATIENCE)
        prices = state.prices.ascend(score.constraints, score.units, terms)
        choose = lambda new, old: jax.tree.map(lambda x, y: jnp.where(useful, x, y), new, old)
        seen = choose(state.slope.after(slope, norm, options.steps), state.slope)
        kept = choose(priced(state.kept, state.prices, score.constraints, options), state.kept)
        flat = (seen.most > 0) & seen.gone(options.steps, FLAT, terms.noisy)
        stopped, descent = diverged, state.descent
        if options.quasi_newton:
            left = decrement(moments, slope, state.arrays)
            descent, restart, ended = descent.after(value, norm, left, score.converged > 0)
            moments = jax.tree.map(
                lambda x, y: jnp.where(restart, x, y), optimizer.init(state.arrays), moments
            )
            flat, stopped = descent.flat, stopped | ended
        if options.constrained:
            flat &= jnp.all(jax.vmap(lambda one: one.gone(options.steps, KEPT))(kept))
        history = state.history
        record = lambda table, entry: table.at[number].set(entry.astype(table.dtype))
        history = history.replace(
            utility=record(history.utility, score.utility),
            gradient_norm=record(history.gradient_norm, norm),
            converged=record(history.converged, score.converged),
            constraints=record(history.constraints, score.constraints),
            multipliers=record(history.multipliers, prices.multiplier),
            steps=number + jnp.where(sound, 1, 0),
            diverged=diverged,
            fit_converged=~diverged & flat,
        )
        after = state.replace(
            arrays=choose(arrays, state.arrays),
            moments=choose(moments, state.moments),
            starts=jax.tree.map(lambda t, y: t.at[index].set(y), state.starts, score.starts),
            prices=choose(prices, state.prices),
            slope=seen,
            kept=kept,
            sound=choose(state.arrays, state.sound),
            sound_step=choose(number, state.sound_step),
            idle=idle,
            descent=descent,
            stopped=stopped,
            history=history,
        )
        if validation is None:
            return after
        best = _look(after, combine, objective, validation, options)
        looks = record(history.validation, best.value)
        stopped = after.stopped | (best.since >= validation.patience)
        return after.replace(best=best, stopped=stopped, history=history.replace(validation=looks))

    go_on = lambda state: (state.history.steps < last) & ~state.stopped
    return jax.lax.while_loop(go_on, body, state)


def _look(
    state: State,
    combine: Callable[[Arrays], PyTree],
    objective: Objective,
    validation: Validation,
    options: Options,
) -> Best:
    """The best look at the validation rows so far; it looks if it is time to."""
    steps = state.history.steps
    due = ~state.stopped & ((steps % validation.every == 0) | (steps == options.steps))

    def look(best: Best) -> Best:
        # one key for all looks: they differ by the module alone
        key = jax.random.fold_in(options.key, options.steps)
        score = objective(combine(state.arrays), validation.rows, validation.starts, key)
        better = (score.converged > 0) & (score.utility > best.highest)
        choose = lambda new, old: jnp.where(better, new, old)
        return Best(
            arrays=jax.tree.map(choose, state.arrays, best.arrays),
            highest=choose(score.utility.astype(best.highest.dtype), best.highest),
            value=jnp.where(score.converged > 0, score.utility, jnp.nan).astype(best.value.dtype),
            step=choose(steps, best.step),
            since=choose(0, best.since + 1),
        )

    return jax.lax.cond(due, look, lambda best: best, state.best)


def _so_far(module: PyTree, state: State) -> tuple[int, PyTree, History]:
    steps = int(state.history.steps)
    history = jax.tree.map(lambda x: x[:steps] if x.ndim else x, state.history)
    return steps, partition(module)[1](state.arrays), history


def _end(module: PyTree, state: State, validated: bool) -> tuple[PyTree, History]:
    history, combine = state.history, partition(module)[1]
    last = jnp.minimum(jnp.arange(len(history.utility)), jnp.maximum(history.steps - 1, 0))
    repeat = lambda table: table[last] if table.ndim else table
    choose = lambda condition, new, old: jax.tree.map(
        lambda x, y: jnp.where(condition, x, y), new, old
    )
    found = state.arrays, history.steps
    found = choose(history.diverged, (state.sound, state.sound_step), found)
    looked = validated & (state.best.step > 0)
    arrays, best = choose(looked, (state.best.arrays, state.best.step), found)
    return combine(arrays), jax.tree.map(repeat, history).replace(best=best)
