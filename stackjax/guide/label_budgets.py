"""Labels under a budget.

A learner chooses one of K alternatives in each of T rounds and may see the rewards of at most B
rounds. Which labels are worth buying? `stackjax.labels` models this as a Stackelberg game (after
the abstract of arXiv 2602.00952; we have not seen the full text): the learner commits to scores,
and the follower answers with the alternative that could still exceed the learner's choice by the
largest gap. That gap bounds the regret of the round, and a label is bought if the gap exceeds a
threshold.

```python
import jax, jax.numpy as jnp
import stackjax as sj

stream = sj.labels.linear_stream(jax.random.key(0), dim=16)
learner = sj.labels.llf_stacksl(budget=200, threshold=0.3, noise=0.5, scale=0.3)
state, curves = sj.labels.run(learner, stream, 2000, key=jax.random.key(1))
print(state.labels, curves.regret[-1] < 50)                    # 200 True
```

`run` is one scan whose memory does not grow with T. For real traffic, call the four functions of a
learner: `init`, `propose` (which decides whether to buy), `update` with the rewards, and `refresh`
every few hundred rounds. `sj.labels.recorded_stream` makes a stream of arrays `[T, K, d]` and
rewards `[T, K]`.

## When it helps and when it does not

The baseline buys the first B labels (a threshold below every gap). In random order it performs
equally well. If groups of contexts arrive one after another, it has no labels left for the later
groups:

```python
@jax.jit
def play(stream, threshold):
    learner = sj.labels.llf_stacksl(budget=200, threshold=threshold, noise=0.5, scale=0.3)
    state, curves = sj.labels.run(learner, stream, 2000, key=jax.random.key(1))
    return state.labels, curves.regret[-1]

_, gap = play(stream, 0.3)
_, first = play(stream, -1.0)
print(jnp.abs(gap - first) < 5)                                # True

ordered = sj.labels.ordered_stream(jax.random.key(0), dim=16, groups=4, rounds=2000)
_, gap = play(ordered, 0.3)
_, first = play(ordered, -1.0)
print(gap < 30, first > 300)                                   # True True
```

The result depends on the threshold, because labels are not paced over time: if it is too low, the
budget is spent early; if it is too high, labels are left over.

```python
for threshold in (0.15, 0.3, 0.6):
    labels, regret = play(ordered, threshold)
    print(labels, regret < 30)
# 200 False
# 180 True
# 53 False
```

`tune_threshold` chooses it on simulated streams, whose labels cost nothing; `imagine` generates
such streams from your own unlabelled contexts, with parameters drawn from a prior.

```python
keys = jax.random.split(jax.random.key(2), 4)
simulated = jax.vmap(
    lambda key: sj.labels.ordered_stream(key, dim=16, groups=4, rounds=2000)
)(keys)
tuned = sj.labels.tune_threshold(
    lambda threshold: sj.labels.llf_stacksl(
        budget=200, threshold=threshold, noise=0.5, scale=0.3
    ),
    jnp.array([0.15, 0.3, 0.6]), simulated, 2000, key=jax.random.key(3),
)
print(tuned.chosen)                                            # 0.3
```

## Results

`python -m experiments.labels`; tables in `experiments/labels/README.md`.

- On recorded multiple-choice votes of two language models, at most 10% of the labels reach 99.7% of
  the accuracy with full information in random order and 97.6% subject by subject.
- **With the hardest questions first, 53%**: the budget is spent too early. Another definition of
  latency, `latency="age"`, reaches 98.9% there.
- These features were chosen so that labels matter. With features shared over subjects, 1% of the
  labels is enough for the same result.
- On simulated streams it is significantly better than every baseline in adversarial order only.

Before you use it, run `play` with a threshold of -1 on your own recorded stream. If the first B
labels perform as well, a threshold is not needed.
"""
