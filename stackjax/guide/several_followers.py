"""Several followers.

Followers that act at the same time play a Nash equilibrium among themselves: each response is
optimal given the leader's action and the other responses.

## One utility each

Pass a tuple of utilities. Each takes `(action, responses, context)`, where `responses` is a tuple
with one entry for each follower, and maximises over its own entry:

```python
import jax, jax.numpy as jnp
import stackjax as sj

def firm(i, cost):  # its profit; the leader's action is a tax on each unit sold
    return lambda tax, r, demand: r[i] * (demand - r[0] - r[1] - r[2] - cost - tax)

firms = tuple(firm(i, cost) for i, cost in enumerate([1.0, 2.0, 8.0]))
market = sj.Game(
    lambda tax, r, demand: tax * (r[0] + r[1] + r[2]),  # the leader's revenue
    firms,
    action_set=sj.Box(0.0, 10.0),
    response_set=(sj.Box(lower=0.0),) * 3,
)
found = sj.best_response(market, 0.0, 10.0, response=(1.0, 1.0, 1.0))
print([f"{r:.2f}" for r in found.value], found.converged)  # ['3.33', '2.33', '0.00'] True
print(f"{found.multipliers.lower[2]:.4f}")  # 3.6667
```

The third firm stays out of the market: its first unit would lose 3.67.

`response_set` is a tuple of one set for each follower (None for the whole space), or one set for
all responses, see below. The result is an `Equilibrium`, which has the fields of a `Response` and
some for each follower.

The derivative is that of the equilibrium, by the implicit function theorem on all followers'
conditions. `solve` and `fit_leader` work as for one follower:

```python
total = lambda tax: sum(sj.best_response(market, tax, 10.0, response=(1.0, 1.0, 1.0)).value)
print(f"{jax.grad(total)(0.0):.4f}")  # -0.6667
best = sj.solve(market, action=jnp.array(1.0), response=(1.0, 1.0, 1.0), context=10.0)
print(f"{best.action:.2f}", best.converged)  # 4.25 True
print([f"{u:.2f}" for u in abs(best.follower_utility)])  # ['3.67', '0.84', '0.00']
```

## Many alike

`Followers(utility, parameters)` is for followers that differ only in parameters. The utility is
traced once, for any number of followers; responses and parameters have one leading axis.

```python
costs = jnp.linspace(1.0, 2.0, 1000)
crowd = sj.Followers(
    lambda tax, own, r, demand, cost: own * (demand - jnp.sum(r) - cost - tax), costs
)
large = sj.Game(
    lambda tax, r, demand: tax * jnp.sum(r), crowd, response_set=sj.Box(lower=0.0)
)
found = sj.best_response(large, 0.0, 10.0, response=jnp.ones(1000))
print(found.converged, int((found.value > 0).sum()))  # True 133
```

Of 1,000 firms, 133 enter. Followers with private types are the same: `parameters` hold the types,
and the leader's utility averages over the axis. All derivatives are dense, so that memory and time
grow with the square and the cube of the number of responses: about 1 ms for 100 followers, 1 s for
1,000. The first call takes one to three seconds; as a tuple of utilities it grows with their
number, to 6 s for 20.

## Shared constraints

One set on all responses can couple the followers: a shared capacity, say. Such a game (a
generalised Nash game) often has a continuum of equilibria. stackjax computes the *variational*
equilibrium, in which each shared constraint has the same multiplier for all followers: one price
that clears the market for the capacity.

```python
capacity = sj.Constrained(lambda tax, r, demand: r[0] + r[1] + r[2] - 3.0, box=sj.Box(0.0))
tight = sj.Game(lambda tax, r, demand: 0.0, firms, response_set=capacity)
found = sj.best_response(tight, 0.0, 10.0, response=(1.0, 1.0, 1.0))
print([f"{r:.2f}" for r in found.value], found.multipliers.inequality)
# ['2.00', '1.00', '0.00'] [4.]
```

A multiple of one follower's utility changes this price, so utilities must be in one unit, such as
money.

## What is checked

- `converged`: each follower's first- and second-order conditions hold, and none of a sample of 24
  other responses is better for any follower. `gains` says by how much one is.
- `degeneracies`: of each follower, the smallest `max(slack, multiplier)`, in units in which
  responses and utilities are about one. Near 0, derivatives hold on one side only.
- `curvatures`: of each follower's utility in its own response. Negative: not a maximum.
- `monotonicity`: positive values at all responses imply a unique equilibrium (Rosen 1965). It is
  reported at the equilibrium; `solve` looks at 16 more plays and sets `Solution.local` if it is
  negative at one.
- `equilibria`: how many different equilibria were found from several `starts`. Not all need be
  found. `unique` is False if there was more than one.

Far from an equilibrium, utilities that are not concave (prices with logit demand, contests) can
lead a search astray. `starts=8` searches more widely; a start near the answer is best.

A game without an equilibrium: one player wants to be far from the other, who wants to be near.

```python
far = lambda a, r, x: (r[0] - r[1]) ** 2
near = lambda a, r, x: -((r[0] - r[1]) ** 2)
chase = sj.Game(lambda a, r, x: 0.0, (far, near), response_set=(sj.Box(-1.0, 1.0),) * 2)
found = sj.best_response(chase, None, None, response=(0.4, 0.4))
print(found.converged, found.gains[0] > 0.5)  # False True
```

For small games with quadratic utilities and linear constraints, `all_equilibria` enumerates:

```python
follow = lambda i, j: lambda a, r, x: -((r[i] - 2 * r[j]) ** 2)
game = sj.Game(
    lambda a, r, x: 0.0, (follow(0, 1), follow(1, 0)), response_set=(sj.Box(-1.0, 1.0),) * 2
)
every = sj.all_equilibria(game, None, None, response=(0.0, 0.0))
print([tuple(map(float, value)) for value in every.values], every.complete)
# [(0.0, 0.0), (-1.0, -1.0), (1.0, 1.0)] True
```

## What is not supported

- `check`, `certify`, `Complementarity`, `break_ties` and uncertain followers (`Suboptimal`,
  `Ensemble`) need one follower and raise an error for several. `fit_follower` learns one follower
  at a time, given the others' observed responses as part of the context.
- Constraints of one follower that depend on the others' responses, unless they are shared.
- Several leaders, and the choice between several equilibria: the one found from the first starting
  point that converges is returned.
"""
