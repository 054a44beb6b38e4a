"""Recipe: penalties of ridge and logistic regression, chosen by the held-out loss.

The leader sets the logarithms of the penalties, the follower fits the weights on the training rows,
and the leader's utility is minus the loss on the held-out rows at the fitted weights. The gradient
of the held-out loss passes through the fit. (Bennett et al., Model selection via bilevel
optimization, IJCNN 2006.)

Two features matter most and four matter less; each group has its own penalty.

```python
import jax, jax.numpy as jnp
import numpy as np
import stackjax as sj

rng = np.random.default_rng(1)
truth = np.array([1.0, -1.0, 0.5, -0.3, 0.3, 0.3])
rows = lambda n: jnp.asarray(rng.normal(size=(n, 6)), jnp.float32)
noise = lambda n: jnp.asarray(rng.normal(size=n), jnp.float32)
X, X_held = rows(24), rows(200)
data = {"fit": X @ truth + 3 * noise(24), "held": X_held @ truth + 3 * noise(200)}

def penalty(action, weights):
    return jnp.exp(jnp.repeat(action, np.array([2, 4]))) @ weights**2

def held_out(action, weights, data):
    return -jnp.mean((data["held"] - X_held @ weights) ** 2)

def ridge(action, weights, data):
    return -jnp.mean((data["fit"] - X @ weights) ** 2) - penalty(action, weights)

game = sj.Game(held_out, ridge, action_set=sj.Box(-6.0, 3.0))
start = {"action": jnp.array([-2.0, -2.0]), "response": jnp.zeros(6)}
found = sj.solve(game, **start, context=data)
print(found.converged, [f"{a:.1f}" for a in found.action])  # True ['0.1', '0.9']
```

## Check

The weights of a ridge regression have a closed form; NumPy evaluates the held-out loss on a grid of
both penalties. The solution is at least as good as the best grid point, and next to it.

```python
def closed_form(action):
    weigh = np.exp(np.repeat(action, [2, 4]))
    A = np.float64(X)
    w = np.linalg.solve(A.T @ A / 24 + np.diag(weigh), A.T @ np.float64(data["fit"]) / 24)
    return np.mean((np.float64(data["held"]) - np.float64(X_held) @ w) ** 2)

axis = np.linspace(-6, 3, 61)
losses = np.array([[closed_form((a, b)) for b in axis] for a in axis])
i, j = np.unravel_index(losses.argmin(), losses.shape)
print(-found.leader_utility < losses.min() + 1e-4)  # True
print(np.abs(found.action - np.array([axis[i], axis[j]])).max() <= 0.15)  # True
```

## Logistic regression

There is no closed form: the follower's solver fits the weights by Newton's method. All weights
share one penalty.

```python
signs = lambda score: jnp.sign(score + 2 * noise(len(score)))
labels = {"fit": signs(X @ truth), "held": signs(X_held @ truth)}

def log_likelihood(X, y, weights):
    return jnp.mean(jax.nn.log_sigmoid(y * (X @ weights)))

classifier = sj.Game(
    lambda a, w, y: log_likelihood(X_held, y["held"], w),
    lambda a, w, y: log_likelihood(X, y["fit"], w) - jnp.exp(a) * w @ w,
    action_set=sj.Box(-8.0, 3.0),
)
tuned = sj.solve(classifier, action=jnp.array(-2.0), response=jnp.zeros(6), context=labels)
grid = jnp.linspace(-8, 3, 111)
fit = lambda a: sj.best_response(classifier, a, labels, response=jnp.zeros(6))
fits = jax.vmap(fit)(grid)
on_grid = jax.vmap(lambda w: log_likelihood(X_held, labels["held"], w))(fits.value)
print(tuned.converged, fits.converged.all())  # True True
print(abs(tuned.action - grid[on_grid.argmax()]) <= 0.1)  # True
print(tuned.leader_utility >= on_grid.max() - 1e-6)  # True
```

For thousands of weights use `Newton(dense=False)` as `follower_solver`, and for as many
hyperparameters `FirstOrder()` as `solver`: both need Hessian-vector products instead of Hessians.
"""
