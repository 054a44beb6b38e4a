r"""Recipe: recover a follower's parameters from a table of play.

In an inverse game, prices and purchases are observed and the utility is estimated. A consumer
chooses two amounts at two prices within a budget; the parameters are those of the value of each
good. The table is generated here, so that the estimates can be compared with the truth.

```python
import importlib.util, io
import jax, jax.numpy as jnp, numpy as np
import stackjax as sj

truth = {"worth": jnp.array([3.0, 2.0]), "bend": jnp.array([1.0, 0.5])}

def utility(parameters, price, amount, income):
    value = parameters["worth"] @ amount - 0.5 * parameters["bend"] @ amount**2
    return value - price @ amount

def inequality(price, amount, income):
    return price @ amount - income                       # spends at most its income

budget = sj.Constrained(inequality, box=sj.Box(lower=0.0))

def play(parameters, price, income):
    follower = jax.tree_util.Partial(utility, parameters)
    game = sj.Game(lambda price, amount, income: price @ amount, follower, response_set=budget)
    return sj.best_response(game, price, income, response=jnp.full(2, 0.3))

keys = jax.random.split(jax.random.key(0), 3)
price = jax.random.uniform(keys[0], (300, 2), minval=0.5, maxval=2.5)
income = jax.random.uniform(keys[1], (300,), minval=1.0, maxval=6.0)
answers = jax.jit(jax.vmap(play, (None, 0, 0)))(truth, price, income)
amount = answers.value + 0.05 * jax.random.normal(keys[2], (300, 2))
bound = jnp.abs(jax.vmap(inequality)(price, answers.value, income)) < 1e-3
print(bool(answers.converged.all()), 0.3 < bound.mean() < 0.9)      # True True

lines = np.column_stack([income, price, amount])
text = "income,price1,price2,amount1,amount2\n" + "\n".join(",".join(map(str, r)) for r in lines)
```

The budget binds in many of the rows. Read the table with pandas or NumPy:

```python
if importlib.util.find_spec("pandas"):
    import pandas as pd

    table = pd.read_csv(io.StringIO(text))
    columns = lambda *names: jnp.asarray(table[list(names)].to_numpy(), jnp.float32)
else:
    table = np.genfromtxt(io.StringIO(text), delimiter=",", names=True)
    columns = lambda *names: jnp.asarray(np.stack([table[n] for n in names], 1), jnp.float32)

seen = sj.Observations(
    context=columns("income")[:, 0], action=columns("price1", "price2"),
    response=columns("amount1", "amount2"),
)
```

## Fit

The unknown utility is a callable pytree whose parameters are trained. The least-squares fit uses
the constrained best response, so that rows whose budget binds can be used without change.

```python
guess = jax.tree_util.Partial(utility, {"worth": jnp.ones(2) * 2.5, "bend": jnp.ones(2)})
fitted, history = sj.fit_follower(guess, seen, response_set=budget, key=jax.random.key(1))
found = fitted.args[0]
print(jnp.round(found["worth"], 1), jnp.round(found["bend"], 1))    # [3. 2.] [1. 0.5]
```

Here the parameters are identified: the price enters the utility with the known factor 1, which
fixes the scale. Without such a term only ratios are (`stackjax.guide.learning`).

## Compare with a regression

Where no constraint binds, the first-order condition `worth - bend * amount = price` gives
`amount = worth / bend - price / bend`, which is linear in the price. Ordinary least squares on the
rows inside the set is valid up to selection bias; on all rows it is not valid.

```python
def regression(rows):
    estimates = []
    for good in (0, 1):
        design = np.column_stack([np.ones(rows.sum()), -seen.action[rows, good]])
        level, slope = np.linalg.lstsq(design, np.asarray(seen.response[rows, good]))[0]
        estimates.append((level / slope, 1 / slope))     # worth, bend
    return np.array(estimates).T

spent = jnp.sum(seen.action * seen.response, axis=1)
inside = np.asarray((spent < 0.9 * seen.context) & (seen.response > 0.15).all(axis=1))
exact = np.stack([truth["worth"], truth["bend"]])
error = lambda estimate: np.abs(estimate - exact).max()
game = error(np.stack([found["worth"], found["bend"]]))
print(game < 0.1, error(regression(inside)) < 0.3)                  # True True
print(error(regression(np.full(300, True))) > 3 * game)             # True
```

The fit through the game uses all rows. The regression has to know which rows are inside, discards
the other two thirds, and is biased because the selection depends on noise.
"""
