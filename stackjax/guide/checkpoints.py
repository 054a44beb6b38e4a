"""Checkpoints and logging.

`fit_follower` and `fit_leader` can write their state to a folder about twenty times in a fit, and
call a function of yours as often. Neither is possible inside `jax.jit` or `jax.vmap`, where a fit
is one compiled program; a fit with `checkpoint=` or `callback=` runs in pieces between which the
host acts. The numbers are the same.

```python
import tempfile
from pathlib import Path
import jax, jax.numpy as jnp
from flax import nnx
import stackjax as sj

class Policy(nnx.Module):
    def __init__(self, rngs):
        self.line = nnx.Linear(1, 1, rngs=rngs)

    def __call__(self, demand):
        return nnx.softplus(self.line(demand[None])[0])

duopoly = sj.games.duopoly()
demands = jnp.linspace(5.0, 20.0, 64)

def fit(**options):
    return sj.fit_leader(
        Policy(nnx.Rngs(0)), duopoly.game, demands, response=duopoly.response,
        key=jax.random.key(0), steps=200, **options
    )

uninterrupted, history = fit()
```

## Stop and continue

`checkpoint=folder` writes module, optimiser, the followers' answers and the history with Orbax,
each state into a folder of its own, which gets its name when it is complete. The same call with the
same folder continues and ends with the same bits. The callback here interrupts the fit, as Ctrl-C
or a killed process would:

```python
def interrupt(step, policy, history):
    if step >= 100:
        raise KeyboardInterrupt

folder = Path(tempfile.mkdtemp()) / "fit"
try:
    fit(checkpoint=folder, callback=interrupt)
except KeyboardInterrupt:
    print("interrupted")                                     # interrupted

continued, _ = fit(checkpoint=folder)
pairs = zip(*(jax.tree.leaves(nnx.state(policy)) for policy in (uninterrupted, continued)))
print(all(bool((a == b).all()) for a, b in pairs))           # True
```

Other data, options or code are refused, so that a folder never mixes two fits:

```python
try:
    fit(checkpoint=folder, batch_size=16)
except ValueError as error:
    print("`batch_size` differs" in str(error))              # True
```

A finished fit can go on to more `steps` where nothing else depends on their number: with an
`optimizer` whose rate does not depend on `steps`, without constraints and validation rows. To keep
a fitted module alone, save `nnx.state(policy)` with Orbax as any `nnx` module; a policy of
`stackjax.agents` is saved with `stackjax.runtime.save_policy`.

## Log the progress

`callback(step, module, history)` receives the module and the `History` so far. `progress=True`
shows a bar on a terminal. This callback writes scalars to any object with the method
`add_scalar(name, value, step)`, which is the interface of TensorBoard's `SummaryWriter`:

```python
def log_to(writer):
    def callback(step, module, history):
        now = {
            "utility": history.utility[step - 1],
            "gradient norm": history.gradient_norm[step - 1],
            "converged": history.converged[step - 1],
        }
        for name, value in now.items():
            writer.add_scalar(name, float(value), step)

    return callback

class Recorder:
    def __init__(self):
        self.rows = []

    def add_scalar(self, name, value, step):
        self.rows.append((step, name, value))

recorder = Recorder()
_, history = fit(callback=log_to(recorder))
print(len(recorder.rows), recorder.rows[-1][:2])             # 60 (200, 'converged')
```

With TensorBoard (`pip install tensorboardX`) or Weights & Biases (`pip install wandb`):

```text
from tensorboardX import SummaryWriter
fit(callback=log_to(SummaryWriter("runs/first")))

import wandb
run = wandb.init(project="pricing")
utility = lambda step, history: {"utility": float(history.utility[step - 1])}
fit(callback=lambda step, module, history: run.log(utility(step, history), step))
```

The whole `History` is returned in any case, one entry a step: nothing is lost between calls.

```python
print(history.utility.shape, bool(history.utility[-1] > history.utility[0]))   # (200,) True
```

What to watch: `converged` below 1 from the first step on points to the utility; falling later, to a
policy that drives the follower to where it is flat or unbounded. `settled` is known at the end.
"""
