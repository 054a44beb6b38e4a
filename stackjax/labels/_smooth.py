"""The gate made smooth, and its threshold schedule and radius tuned by gradient."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from stackjax._arrays.arguments import check_count, check_type, check_within
from stackjax.finite import quantal_response
from stackjax.labels._arguments import common_length
from stackjax.labels._gates import decaying
from stackjax.labels._ridge import confidence_radius, label, new_ridge
from stackjax.labels._run import example_round


class GateSettings(struct.PyTreeNode):
    """What is tuned. In logarithms, so that any number is allowed.

    Attributes:
      log_threshold: `[]`, log of the threshold of round 0.
      power: `[]`, the threshold falls as (t + 1)^-power.
      log_scale: `[]`, log of the factor on the confidence radius.

    Example:
      >>> settings = sj.labels.GateSettings.create(threshold=0.5, power=0.5)
      >>> print(f"{settings.options['threshold'](3):.2f} {settings.options['scale']:.1f}")
      0.25 1.0
    """

    log_threshold: jax.Array
    power: jax.Array
    log_scale: jax.Array

    @classmethod
    def create(cls, *, threshold: Any, power: Any = 0.0, scale: Any = 1.0) -> GateSettings:
        """From plain numbers; `threshold` and `scale` are positive.

        Raises:
          TypeError: an argument is not a number.
          ValueError: one is out of its range.
        """
        check_within("threshold", threshold, "(0, inf)")
        check_within("power", power, "(-inf, inf)")
        check_within("scale", scale, "(0, inf)")
        as_float = lambda x: jnp.asarray(x, float)
        return cls(
            jnp.log(as_float(threshold)), jnp.asarray(power, float), jnp.log(as_float(scale))
        )

    @property
    def options(self) -> dict[str, Any]:
        """`threshold` and `scale`, as `llf_stacksl` takes them."""
        schedule = decaying(jnp.exp(self.log_threshold), self.power)
        return {"threshold": schedule, "scale": jnp.exp(self.log_scale)}


class SmoothedRun(struct.PyTreeNode):
    """A run of the smoothed game.

    Attributes:
      regret: `[]`, cumulative, of the randomised choice.
      labels: `[]`, sum of the label weights; at most the budget.

    Example:
      >>> stream = sj.labels.recorded_stream(jnp.tile(jnp.eye(2), (4, 1, 1)), jnp.eye(4, 2))
      >>> settings = sj.labels.GateSettings.create(threshold=0.1)
      >>> found = sj.labels.smoothed_run(settings, stream, 4, budget=2.0)
      >>> print(found.regret.shape, found.labels <= 2)
      () True
    """

    regret: jax.Array
    labels: jax.Array


def smoothed_run(
    settings: GateSettings,
    stream: Any,
    rounds: int,
    *,
    budget: Any,
    temperature: Any = 0.05,
    regularisation: Any = 1.0,
    noise: Any = 1.0,
    norm: Any = 1.0,
    confidence: Any = 0.05,
) -> SmoothedRun:
    """LLF-StackSL with each of its three choices made smooth; differentiable in the settings.

    - The leader plays an alternative with probability softmax(scores / temperature).
    - The challenger is quantal (`stackjax.finite.quantal_response`): it picks b with probability
      softmax(advantage / temperature), the advantage over the best score being zero for that
      itself; the gap is its expected advantage.
    - The label weighs sigmoid((gap - threshold) / temperature), and no more than what is left of
      the budget: an item of weight w counts as w labels, in the estimate and in the budget.

    As the temperature falls to zero this tends to LLF-StackSL, ties apart.

    Args:
      settings: of the gate.
      stream: `t -> Round`.
      rounds: T.
      budget: B >= 0.
      temperature: > 0, in units of rewards.
      regularisation: as in `budgeted_learner`, like all that follow.
      noise: sub-Gaussian parameter.
      norm: bound on |theta*|.
      confidence: of the confidence set.

    Raises:
      TypeError: the settings are no `GateSettings`, the stream is not one, or an option is of the
        wrong kind.
      ValueError: a number is out of its range.

    Example:
      >>> stream = sj.labels.linear_stream(jax.random.key(0), dim=2)
      >>> settings = sj.labels.GateSettings.create(threshold=0.1)
      >>> bool(sj.labels.smoothed_run(settings, stream, 50, budget=5.0).labels <= 5.001)
      True
    """
    check_type("settings", settings, GateSettings, "a GateSettings")
    check_count("rounds", rounds)
    check_within("budget", budget, "[0, inf]")
    check_within("temperature", temperature, "(0, inf)")
    example = example_round(stream).features
    ridge = new_ridge(example.shape[1], regularisation=regularisation, dtype=example.dtype)
    schedule, scale = settings.options["threshold"], settings.options["scale"]

    @jax.checkpoint
    def step(carry: tuple, t: jax.Array) -> tuple[tuple, None]:
        ridge, regret, used = carry
        now = stream(t)
        scores = now.features @ ridge.theta
        rho = scale * confidence_radius(ridge, noise=noise, norm=norm, confidence=confidence)
        best = jnp.argmax(scores)
        apart = now.features - now.features[best][None]
        squares = jnp.sum((apart @ ridge.inverse) * apart, axis=-1)
        widths = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
        advantage = scores - scores[best] + rho * widths
        one = jnp.ones(1, advantage.dtype)
        mixed = quantal_response(one, advantage[None], rationality=1 / temperature)
        gate = jax.nn.sigmoid((mixed @ advantage - schedule(t)) / temperature)
        weight = jnp.clip(gate, 0.0, jnp.maximum(budget - used, 0.0)).astype(scores.dtype)
        played = jax.nn.softmax(scores / temperature)
        loss = jnp.max(now.means) - played @ now.means
        regret = regret + loss.astype(regret.dtype)
        ridge = label(ridge, now.features, now.rewards, weight)
        return (ridge, regret, used + weight), None

    zero = jnp.zeros((), example.dtype)
    (_, regret, used), _ = jax.lax.scan(step, (ridge, zero, zero), jnp.arange(rounds))
    return SmoothedRun(regret, used)


class Tuned(struct.PyTreeNode):
    """What `tune_gate` found.

    Attributes:
      settings: those of the step with the least mean regret.
      regret: `[S]`, mean smoothed regret before each step.
      labels: `[S]`, mean labels.
      gradient_norm: `[S]`.

    Example:
      >>> streams = jax.vmap(lambda key: sj.labels.linear_stream(key, dim=2))(
      ...     jax.random.split(jax.random.key(0), 2))
      >>> start = sj.labels.GateSettings.create(threshold=0.3)
      >>> tuned = sj.labels.tune_gate(start, streams, 8, budget=3.0, steps=2)
      >>> print(tuned.regret.shape, tuned.gradient_norm.shape, tuned.settings.power.shape)
      (2,) (2,) ()
    """

    settings: GateSettings
    regret: jax.Array
    labels: jax.Array
    gradient_norm: jax.Array


def tune_gate(
    settings: GateSettings,
    streams: Any,
    rounds: int,
    *,
    budget: Any,
    steps: int = 100,
    optimizer: optax.GradientTransformation | None = None,
    **options: Any,
) -> Tuned:
    """Minimises the mean smoothed regret over M simulated streams, by gradient.

    The derivative goes through all T updates of the estimate: what a label teaches now lowers
    gaps and regret later. Streams of `imagine` make this a look-ahead without labels.

    A local search: where the budget is gone long before the end, or no label is asked for at all,
    the objective is nearly flat. Start from a threshold that leaves labels to be spent.

    Args:
      settings: where to start.
      streams: pytree of streams stacked along a leading axis M.
      rounds: T of each.
      budget: B.
      steps: S, of the optimiser.
      optimizer: by default Adam with learning rate 0.05. A step whose gradient is not finite is
        not taken.
      **options: of `smoothed_run`.

    Returns:
      A `Tuned`. Use `llf_stacksl(budget=..., **tuned.settings.options)`, and compare it on other
      streams: the hard gate is not the smoothed one.

    Raises:
      TypeError: the settings are no `GateSettings`, or an option is of the wrong kind.
      ValueError: a number is out of its range, or the streams are not stacked.

    Example:
      >>> streams = jax.vmap(lambda key: sj.labels.linear_stream(key, dim=2))(
      ...     jax.random.split(jax.random.key(0), 2))
      >>> start = sj.labels.GateSettings.create(threshold=0.3)
      >>> tuned = sj.labels.tune_gate(start, streams, 20, budget=3.0, steps=3)
      >>> print(tuned.regret.min() <= tuned.regret[0], tuned.labels.max() <= 3.001)
      True True
    """
    check_type("settings", settings, GateSettings, "a GateSettings")
    check_count("steps", steps)
    common_length("streams", streams)
    optimizer = optax.adam(0.05) if optimizer is None else optimizer

    def objective(settings: GateSettings) -> tuple[jax.Array, jax.Array]:
        one = lambda stream: smoothed_run(settings, stream, rounds, budget=budget, **options)
        runs = jax.vmap(one)(streams)
        return runs.regret.mean(), runs.labels.mean()

    def step(carry: tuple, _: None) -> tuple[tuple, tuple]:
        settings, inner, best, least = carry
        (regret, labels), slope = jax.value_and_grad(objective, has_aux=True)(settings)
        best = jax.tree.map(lambda a, b: jnp.where(regret < least, a, b), settings, best)
        norm = optax.tree.norm(slope)
        updates, stepped = optimizer.update(slope, inner, settings)
        moved = optax.apply_updates(settings, updates)
        keep = lambda new, old: jnp.where(jnp.isfinite(norm), new, old)
        settings = jax.tree.map(keep, moved, settings)
        inner = jax.tree.map(keep, stepped, inner)
        least = jnp.where(regret < least, regret, least)
        return (settings, inner, best, least), (regret, labels, norm)

    worst = jnp.full((), jnp.inf, jax.eval_shape(objective, settings)[0].dtype)
    start = (settings, optimizer.init(settings), settings, worst)  # pyright: ignore[reportArgumentType]
    (_, _, best, _), (regret, labels, norm) = jax.lax.scan(step, start, None, length=steps)
    return Tuned(best, regret, labels, norm)
