"""The optimiser's loop that every fit shares.

One jitted `while_loop` over optimiser steps. It ends early where a fit diverges, or where a
validation set says that it no longer gets better; what a fit is for is an `Objective`.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_key
from stackjax._arrays.modules import check_stateless, check_untied, is_floating, partition
from stackjax._arrays.reads import first_made
from stackjax._arrays.static import split_static
from stackjax._game import finite
from stackjax.fit._checkpoint import Checkpoint
from stackjax.fit._lagrangian import Prices, Terms
from stackjax.fit._progress import chunks

PyTree = Any
Arrays = list[jax.Array]

# Steps on end without a follower that converged, after which a fit has diverged.
_PATIENCE = 20
# The slope at the end: a mean over about this share of the steps, and what counts as none, in
# standard errors of that mean and as a share of the steepest one; of a constraint, of the largest.
_WINDOW, _ERRORS, _FLAT, _KEPT = 0.1, 3.0, 1e-4, 5e-3


class History(struct.PyTreeNode):
    """How a fit went, one entry a step (T steps); after a stop the last entry is repeated.

    Attributes:
      utility: `[T]` what was maximised, over the step's minibatch: the leader's mean utility, or
        minus the follower's loss. Without the price of constraints.
      gradient_norm: `[T]` Euclidean norm of the gradient.
      converged: `[T]` share of the minibatch whose follower's solver converged; the others are
        left out. It says nothing of the fit: `settled` does.
      validation: `[T]` the utility on the validation rows when it was last taken; NaN before the
        first time, and throughout without validation.
      constraints: `[T, k]` the averages that are to be at least 0, over the minibatch.
      multipliers: `[T, k]` their prices.
      steps: `[]` steps that were taken before the fit stopped; T if it ran to its end.
      diverged: `[]` bool: it stopped because the utility, the gradient or a parameter was no
        longer a finite number, or because in 20 steps on end no follower converged (such steps
        change nothing).
      best: `[]` the module that is returned is the one after so many steps: `steps`; or the last
        at which all was finite and some follower converged, if the fit diverged; or, with a
        validation set, the one whose utility on it was highest.
      settled: `[]` bool: in the last tenth of the steps there was on average no slope left to
        climb, beyond the noise of minibatches and 1e-4 of the steepest, and no constraint was
        broken, nor had room that it was still paid for. False where the loss still falls,
        however slowly: take more steps, or larger ones. False too where there was never a slope,
        as where all answers stand at a bound: the fit returns what it was given.
      noise: what a likelihood learned of a follower beside the returned module: the standard
        deviations, like one response, or the temperature, `[]`; None where nothing was.

    Example:
      >>> rule = jax.tree_util.Partial(lambda w, action, context: w * action, jnp.array(0.0))
      >>> seen = sj.Observations(jnp.zeros(4), jnp.arange(4.0), 0.5 * jnp.arange(4.0))
      >>> how = {"estimator": sj.fit.BehaviourCloning(), "steps": 20, "key": jax.random.key(0)}
      >>> _, history = sj.fit_follower(rule, seen, **how)
      >>> print(history.utility.shape, history.utility[-1] > history.utility[0], history.diverged)
      (20,) True False
      >>> print(history.converged[-1], history.settled)  # the followers did, the fit did not
      1.0 False
    """

    utility: jax.Array
    gradient_norm: jax.Array
    converged: jax.Array
    validation: jax.Array
    constraints: jax.Array
    multipliers: jax.Array
    steps: jax.Array
    diverged: jax.Array
    best: jax.Array
    settled: jax.Array
    noise: PyTree = None


class Score(struct.PyTreeNode):
    """What an objective says of some rows.

    Attributes:
      utility: `[]` mean over the rows that count.
      converged: `[]` share of the rows that count.
      starts: the rows' next starting points of the follower.
      constraints: `[k]` averages that are to be at least 0.
      units: `[k]` curvature of the constraints' penalty that suits the rows' units; only with
        constraints.
    """

    utility: jax.Array
    converged: jax.Array
    starts: PyTree
    constraints: jax.Array
    units: jax.Array | None = None


class Objective(Protocol):
    """A pytree that scores a module; arrays in it are traced, everything else is static."""

    def __call__(self, module: PyTree, rows: PyTree, starts: PyTree, key: jax.Array, /) -> Score:
        """The score of `module` on `rows`; the followers start from `starts`."""
        ...


Callback = Callable[[int, PyTree, History], None]


class Validation(struct.PyTreeNode):
    """Rows that are not trained on, and when to stop for them.

    Attributes:
      rows: like the training rows.
      starts: the followers' starting points.
      every: steps from one look to the next.
      patience: looks without a gain after which the fit stops.
    """

    rows: PyTree
    starts: PyTree
    every: int = struct.field(pytree_node=False)
    patience: int = struct.field(pytree_node=False)


class Options(struct.PyTreeNode):
    """What the loop is compiled for, and its key; `reads` is what the module's function reads."""

    key: jax.Array
    steps: int = struct.field(pytree_node=False)
    batch_size: int | None = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    dual_rate: float | None = struct.field(pytree_node=False, default=None)
    constrained: int = struct.field(pytree_node=False, default=0)
    reads: tuple = struct.field(pytree_node=False, default=())

    @classmethod
    def checked(
        cls,
        module: Any,
        name: str,
        key: Any,
        steps: int,
        batch_size: int | None,
        optimizer: optax.GradientTransformation | None,
        dual_rate: float | None = None,
        constrained: int = 0,
    ) -> "Options":
        """The options, once they are known to be sound.

        Raises:
          ValueError: the module has state that is not a parameter, tied parameters or none, or
            `steps` or `batch_size` is below 1.
          TypeError: the module is not callable, `key` is not a key, an option is of the wrong type.
        """
        if not callable(module):
            raise TypeError(f"`{name}` must be callable; got {type(module).__name__}.")
        check_stateless(module, name)
        check_untied(module, name)
        if not partition(module)[0]:
            raise ValueError(f"`{name}` has no parameters to train.")
        check_key(key)
        check_count("steps", steps)
        if batch_size is not None:
            check_count("batch_size", batch_size)
        if not isinstance(optimizer, optax.GradientTransformation | None):
            raise TypeError(
                "`optimizer` must be an optax.GradientTransformation such as optax.adam(0.01), or "
                f"None; got {optimizer!r}."
            )
        optimizer = _default_optimizer(steps) if optimizer is None else first_made(optimizer)
        _, reads = split_static((module,))
        return cls(key, steps, batch_size, optimizer, dual_rate, constrained, reads)


def check_count(name: str, value: Any) -> None:
    """Raises TypeError or ValueError unless `value` is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an integer; got {value!r}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1; got {value}.")


@lru_cache
def _default_optimizer(steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(1e-2, steps))


class Best(struct.PyTreeNode):
    """What the looks at the validation rows gave.

    Attributes:
      arrays: the module's trained arrays at the best look.
      highest: `[]` the utility at the best look.
      value: `[]` the same at the last one.
      step: `[]` steps taken before the best look.
      since: `[]` looks since.
    """

    arrays: Arrays
    highest: jax.Array
    value: jax.Array
    step: jax.Array
    since: jax.Array


class Slope(struct.PyTreeNode):
    """Running means of the gradient, in which the latest steps count most.

    Attributes:
      mean: of the gradient, like the trained arrays.
      square: `[]` of its squared norm.
      most: `[]` the largest norm so far.
      steps: `[]` how many have been averaged.
    """

    mean: Arrays
    square: jax.Array
    most: jax.Array
    steps: jax.Array

    @classmethod
    def none(cls, arrays: Arrays, dtype: jnp.dtype) -> "Slope":
        """Before the first step."""
        zeros = [jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)) for x in arrays]
        zero = jnp.zeros((), dtype)
        return cls(zeros, zero, zero, jnp.zeros((), jnp.int32))

    def after(self, slope: Arrays, norm: jax.Array, steps: int) -> "Slope":
        """With one gradient more, in a fit of `steps` steps."""
        keep = _forget(steps)
        mean = [keep * old + (1 - keep) * new.astype(old.dtype)
                for old, new in zip(self.mean, slope)]  # fmt: skip
        norm = norm.astype(self.square.dtype)
        square = keep * self.square + (1 - keep) * norm**2
        return Slope(mean, square, jnp.maximum(self.most, norm), self.steps + 1)

    def gone(self, steps: int, flat: float) -> jax.Array:
        """Whether the mean is not known to differ from none, or is a share `flat` of the most."""
        keep = _forget(steps)
        lost = jnp.asarray(keep, self.square.dtype) ** jnp.maximum(self.steps, 1)
        # the weights' sum, and that of their squares: what a mean of so many has for noise
        whole = 1 - lost
        share = (1 - keep) / (1 + keep) * (1 + lost) / whole
        mean = optax.tree.norm(self.mean).astype(whole.dtype) / whole
        noise = jnp.maximum(self.square / whole - mean**2, 0) / jnp.maximum(1 - share, 0.5)
        return mean <= jnp.maximum(_ERRORS * jnp.sqrt(share * noise), flat * self.most)


def _priced(kept: Slope, prices: Prices, constraints: jax.Array, options: Options) -> Slope:
    """With the constraints `[k]` of one step more, but for room that costs nothing."""
    if not options.constrained:
        return kept
    moves = jnp.where(prices.multiplier > 0, constraints, jnp.minimum(constraints, 0))
    add = lambda one, move: one.after([move], jnp.abs(move), options.steps)
    return jax.vmap(add)(kept, moves)


def _forget(steps: int) -> float:
    return 1 - 1 / max(1.0, _WINDOW * steps)


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
    checkpoint: str | Path | None = None,
) -> tuple[PyTree, History]:
    """Maximises an objective's utility over the module's parameters.

    Args:
      module: what is trained.
      objective: what for.
      rows: `[N, ...]` the data.
      starts: `[N, ...]` starting points of the followers, replaced by their last answers.
      options: as checked.
      validation: rows for early stopping.
      progress: show a progress bar.
      callback: called about twenty times as `callback(step, module, history)`.
      checkpoint: folder of the state, written about twenty times, and read first if it is there.
    """
    begin = lambda steps: _begin(module, rows, starts, options.replace(steps=steps))
    saved = None
    if checkpoint is None:
        state = begin(options.steps)
    else:
        inputs = _inputs(module, objective, rows, starts, options, validation)
        extend = validation is None and not options.constrained
        saved = Checkpoint(checkpoint, inputs, options.steps, extend=extend)
        state = saved.restore(begin)
    watched = callback is not None or saved is not None
    for first, length in chunks(options.steps, progress, watched):
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
    return _end(module, state, validation is not None)


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
    parts = {name: getattr(options, name) for name in ("key", "batch_size", "optimizer")}
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
            settled=no,
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
        arrays: Any = optax.apply_updates(state.arrays, updates)
        sound = jnp.isfinite(norm) & jnp.isfinite(value) & finite(arrays)
        useful = sound & (score.converged > 0)
        idle = jnp.where(useful, 0, state.idle + 1)
        diverged = ~sound | (idle >= _PATIENCE)
        prices = state.prices.ascend(score.constraints, score.units, terms)
        choose = lambda new, old: jax.tree.map(lambda x, y: jnp.where(useful, x, y), new, old)
        seen = choose(state.slope.after(slope, norm, options.steps), state.slope)
        kept = choose(_priced(state.kept, state.prices, score.constraints, options), state.kept)
        flat = (seen.most > 0) & seen.gone(options.steps, _FLAT)
        if options.constrained:
            flat &= jnp.all(jax.vmap(lambda one: one.gone(options.steps, _KEPT))(kept))
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
            settled=~diverged & flat,
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
            stopped=diverged,
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
