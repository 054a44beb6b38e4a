"""Checkpoints and logging.

`fit_follower` and `fit_leader` can write their state to a folder about twenty times during a fit,
and call a user's function as often. Neither is possible inside `jax.jit` or `jax.vmap`, where a fit
is one compiled program. A fit with `checkpoint=` or `callback=` runs in segments and returns to the
host between them; the results are the same.

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

`checkpoint=folder` writes the module, the optimiser's state, the followers' responses and the
history with Orbax. Each state has its own folder, which is renamed when it is complete. The same
call with the same folder continues the fit, and the result is bitwise the same. The callback here
interrupts the fit, as Ctrl-C or a killed process would:

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

Different data, options or code raise an error, so that a folder never mixes two fits:

```python
try:
    fit(checkpoint=folder, batch_size=16)
except ValueError as error:
    print("`batch_size` differs" in str(error))              # True
```

A finished fit can be continued with more `steps` if nothing else depends on their number: the
learning rate of the `optimizer` must not depend on `steps`, and there must be no constraints and no
validation rows. To save only the fitted module, save `nnx.state(policy)` with Orbax as for any
`nnx` module; a policy of `stackjax.agents` is saved with `stackjax.runtime.save_policy`.

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

The complete `History` is returned in any case, with one entry per step.

```python
print(history.utility.shape, bool(history.utility[-1] > history.utility[0]))   # (200,) True
```

Watch `converged`: if it is below 1 from the first step, check the utility; if it falls later, the
policy has moved to actions at which the follower's utility is flat or unbounded. `fit_converged` is
available at the end.
"""
