r"""From a table of play to a follower and a leader.

The input is a CSV file or a data frame of observed play: columns that both players see (context),
the leader's action and the follower's response. This page generates a file of sales, so that the
results can be compared with the truth: `bought = max(0, (8 + 2 weather - price) / 2)`, plus noise.

```python
import importlib.util, io
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
import stackjax as sj

rng = np.random.default_rng(0)
weather, price = rng.uniform(0, 1, 400), rng.uniform(1, 9, 400)
bought = np.maximum(0, (8 + 2 * weather - price) / 2 + rng.normal(0, 0.1, 400))
rows = [f"{w},{p},{b}" for w, p, b in zip(weather, price, bought)]
text = "\n".join(["weather,price,bought", *rows])
```

## Read the table

pandas and NumPy give the same columns. stackjax does not need pandas.

```python
if importlib.util.find_spec("pandas"):
    import pandas as pd

    table = pd.read_csv(io.StringIO(text))             # or a file's name
    column = lambda name: jnp.asarray(table[name].to_numpy(), jnp.float32)
else:
    table = np.genfromtxt(io.StringIO(text), delimiter=",", names=True)
    column = lambda name: jnp.asarray(table[name], jnp.float32)

seen = sj.Observations(context=column("weather"), action=column("price"), response=column("bought"))
print(seen.response.shape, bool((seen.response == 0).any()))   # (400,) True
```

- **Several columns** of one role become one array, `jnp.stack([column("x"), column("y")], axis=1)`
  (`[N, 2]`), or a dictionary of arrays: contexts, actions and responses are pytrees.
- **Categories** become numbers: `table["kind"].astype("category").cat.codes` for an embedding,
  `pd.get_dummies` for a one-hot code.
- **Missing responses** stay NaN. A missing context or action raises an error: fill it in or drop
  the row.
- **Units**: scale columns so that numbers are about 1; float32 resolves seven digits. For a
  network, `sj.fit.standardised(network, seen)` does this, and best responses stay in the table's
  units.

## Learn the follower

The follower's utility has unknown parameters. Initialise it so that responses are inside the set:
the bias 10 is above every price, so the first responses are positive and have a nonzero slope.

```python
class Buyer(nnx.Module):
    def __init__(self, rngs):
        self.worth = nnx.Linear(1, 1, bias_init=nnx.initializers.constant(10.0), rngs=rngs)
        self.bend = nnx.Param(jnp.array(0.0))

    def __call__(self, price, amount, weather):
        worth = self.worth(weather[None])[0]
        return (worth - price) * amount - 0.5 * jnp.exp(self.bend[...]) * amount**2

buyer, history = sj.fit_follower(
    Buyer(nnx.Rngs(0)), seen, response_set=sj.Box(lower=0.0), key=jax.random.key(0)
)
print(bool(jnp.sqrt(-history.utility[-1]) < 0.12), history.fit_converged)   # True True
```

Judge the fit by its error (here the noise is 0.1) and by `History.fit_converged`, which tells
whether there is nothing left to gain (`History.status` says why not). `History.converged` only says
that the followers' solver converged.

## Learn the leader

The seller's policy maps the weather to a price. Its gradient goes through the learned buyer.

```python
class Seller(nnx.Module):
    def __init__(self, rngs):
        self.line = nnx.Linear(1, 1, rngs=rngs)

    def __call__(self, weather):
        return 10.0 * nnx.sigmoid(self.line(weather[None])[0])        # a price in [0, 10]

def profit(price, amount, weather):
    return (price - 1.0) * amount                                     # the cost is 1 a unit

sale = sj.Game(profit, buyer, response_set=sj.Box(lower=0.0))
seller, _ = sj.fit_leader(
    Seller(nnx.Rngs(0)), sale, seen.context, response=jnp.array(1.0), key=jax.random.key(1),
    learning_rate=0.2, steps=500,
)
best = 4.5 + seen.context                                             # for the true buyer
print(bool(jnp.abs(jax.vmap(seller)(seen.context) - best).max() < 0.1))   # True
```

## Use the policy within the data

The learned buyer is reliable at prices like those in the table. `sj.project` maps a proposed price
to the nearest recorded one; `sj.fit.Ensemble` trains against several fits
(`stackjax.guide.learning`).

```python
proposed = seller(jnp.array(0.5))
nearest = sj.project(proposed, sj.ActionSet(seen.action))
print(bool(nearest.distance < 0.1))                                   # True
```

Store the decisions as a column: `table["proposed"] = np.asarray(jax.vmap(seller)(...))`.
"""
