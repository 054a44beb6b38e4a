"""Learn followers and leaders.

`fit_follower` learns a follower's utility from observed play. `fit_leader` trains a policy through
the follower's best response; its gradient is the total derivative, so it needs neither exploration
nor a critic. Both run a compiled loop with any optax optimiser and return the fitted module and a
`History`. The data here are simulated, so that the fits can be compared with the truth.

```python
import jax, jax.numpy as jnp
from flax import nnx
import stackjax as sj

keys = jax.random.split(jax.random.key(0), 3)
taste = jax.random.uniform(keys[0], (400,))                           # the context, [N]
price = jax.random.uniform(keys[1], (400,), minval=1.0, maxval=9.0)   # the leader's action
noise = 0.2 * jax.random.normal(keys[2], (400,))
bought = jnp.maximum(0.0, (8 + 2 * taste - price) / 2 + noise)        # the follower's response
seen = sj.Observations(context=taste, action=price, response=bought)

class Buyer(nnx.Module):
    def __init__(self, rngs):
        self.worth = nnx.Linear(1, 1, bias_init=nnx.initializers.constant(10.0), rngs=rngs)
        self.bend = nnx.Param(jnp.array(0.0))

    def __call__(self, price, amount, taste):
        worth = self.worth(taste[None])[0]
        return (worth - price) * amount - 0.5 * jnp.exp(self.bend[...]) * amount**2

positive = sj.Box(lower=0.0)
buyer, history = sj.fit_follower(
    Buyer(nnx.Rngs(0)), seen, response_set=positive, key=jax.random.key(1)
)
print(bool(jnp.sqrt(-history.utility[-1]) < 0.25), history.fit_converged)   # True True
print(bool(abs(buyer.worth.kernel[0, 0] - 2) < 0.2), history.status)         # True converged
```

By default a quasi-Newton method (L-BFGS) uses all rows at each step and ends when nothing is left
to gain. With a `batch_size`, a `learning_rate` or an `optimizer`, the fit takes all its `steps`.
`History.fit_converged` tells whether there is a slope left, and `History.status` why the fit ended;
a warning says that it ended too early. `History.converged` is the share of followers whose solver
converged, and says nothing about the fit. Initialise the module so that
responses are inside the set (here with the bias 10, above every price): if every response is at a
bound, all gradients are zero and the fit returns its initial module. A fit that diverges stops
(`History.diverged`, `History.steps`) and returns the last module whose values were finite.

## Choose an estimator

- `ResponseRegression()` (default): least squares, for best responses with errors of equal variance.
- `GaussianResponse(censored=...)`: maximum likelihood with a learned standard deviation for each
  coordinate; use `censored=True` if responses were clipped at a bound.
- `GibbsResponse(grid)`: a logit response, in which better responses are more likely; for any
  utility.
- `BehaviourCloning()`: without a game; the module is the response itself.

`sj.fit.ConcaveUtility` is an input-convex network whose best response is unique for all
parameters; `sj.fit.probe_concavity` measures the curvature of any other utility.

Encode a missing response as NaN: it is left out of the loss, and the rest of its row is used.
`Observations.weight` weights rows. `validation=0.2` holds out a fifth of the rows, stops early, and
returns the module with the lowest loss on them. If rows depend on each other, pass an
`Observations` instead of a share, so that all rows of one subject are on the same side of the
split. Here the purchases are clipped at zero; the censored likelihood models that and estimates the
standard deviation of the noise:

```python
gaps = seen.replace(response=bought.at[:40].set(jnp.nan), weight=jnp.where(price < 5, 2.0, 1.0))
tobit, history = sj.fit_follower(
    Buyer(nnx.Rngs(0)), gaps, response_set=positive, key=jax.random.key(1),
    estimator=sj.fit.GaussianResponse(censored=True)
)
print(f"{history.noise:.1f}")                                         # 0.2
```

## What cannot be identified

- **The scale of a utility**, and terms that do not depend on the response: regression cannot
  distinguish utilities with the same best responses. Compare responses and their derivatives, not
  parameters. `GibbsResponse` identifies the scale, because errors depend on it.
- **Signals that never varied**: the slope of the response to them is unknown.
- **The slope of responses at a bound**: they only bound the unconstrained optimum from one side.
- **Confounded signals**: if the choice of signals depended on a variable that the context lacks,
  its effect is attributed to the signal, as in any regression.

A bootstrap shows how much the fit depends on the sample. `jax.vmap` over keys fits all members of
an ensemble at once; `bootstrap(key, groups=...)` resamples whole subjects:

```python
def member(key):
    sample, fit = jax.random.split(key)
    return sj.fit_follower(
        Buyer(nnx.Rngs(0)), seen.bootstrap(sample), response_set=positive, key=fit
    )[0]

members = jax.jit(jax.vmap(member))(jax.random.split(jax.random.key(2), 4))
slopes = -1 / jnp.exp(members.bend[...])     # [4], of the response to the price; the truth is -0.5
print(slopes.shape, bool(jnp.abs(slopes + 0.5).max() < 0.03))         # (4,) True
```

## Train a leader

A policy maps a context to an action. End it with a squashing function, because the projection onto
the action set has no gradient outside the set.

```python
class Seller(nnx.Module):
    def __init__(self, rngs):
        self.line = nnx.Linear(1, 1, rngs=rngs)

    def __call__(self, taste):
        return 10.0 * nnx.sigmoid(self.line(taste[None])[0])          # a price in [0, 10]

def profit(price, amount, taste):
    return (price - 1.0) * amount

sale = sj.Game(profit, tobit, response_set=positive)
train = {"response": jnp.array(1.0), "key": jax.random.key(3), "learning_rate": 0.2, "steps": 600}
seller, history = sj.fit_leader(Seller(nnx.Rngs(0)), sale, taste, **train)
best = 4.5 + taste                                                    # for the true buyer
print(bool(jnp.abs(jax.vmap(seller)(taste) - best).max() < 0.2))      # True
```

**Average constraints** bound a mean over contexts. The multiplier in `History` is the gain in the
leader's utility for each unit by which the bound is relaxed. Here the seller must sell 2.5 units on
average instead of 2; the exact multiplier is 2:

```python
served = sj.fit.Average(lambda price, amount, taste: amount, at_least=2.5)
fair, history = sj.fit_leader(Seller(nnx.Rngs(0)), sale, taste, constraints=[served], **train)
short, multiplier = history.constraints[-1, 0], history.multipliers[-1, 0]
print(bool(jnp.abs(short) < 0.1), bool(jnp.abs(multiplier - 2) < 0.4))   # True True
```

**Suboptimal.** With `follower=sj.fit.Suboptimal(delta)` the policy is trained against the response
that is worst for the leader among those that cost the follower at most `delta` of its utility.
**Ensemble.** The policy maximises the mean over the worst share `tail` of the members (conditional
value at risk):

```python
careful, _ = sj.fit_leader(
    Seller(nnx.Rngs(0)), sj.Game(profit, members, response_set=positive), taste,
    follower=sj.fit.Ensemble(tail=0.25), **train
)
print(bool(jnp.abs(jax.vmap(careful)(taste) - best).max() < 0.4))     # True
```

**Horizon.** With `horizon=sj.fit.Horizon(sj.fit.Dynamics(context, step), turns=8)` the objective is
the discounted sum over the turns of a session whose state the actions change. The gradient goes
through each turn's response and through the state; `stackjax.guide.coming_from` has an example, a
tax on a fishery next to a PPO controller.

## Comparison with other methods

`python -m experiments.learning` trains the same policy network with four methods, each tuned on
other seeds. On two of three games the implicit gradient reaches PPO's final value with 8 and 26
times fewer solved followers; on the third, PPO reaches 0.2% more of the possible gain.
Differentiating through 50 unrolled steps needs as many samples as the implicit gradient, and can be
faster if a follower needs few steps. `python -m experiments.followers` compares the estimators:
their errors on held-out play are 1.03 to 1.23 times the noise. Tables and figures are in
`experiments/learning/README.md`.

`fit_leader` can also continue from a policy trained by PPO, which is a module like any other.

See also `stackjax.guide.from_a_table` (play in a CSV file) and `stackjax.guide.checkpoints` (stop
and continue a fit).
"""
