"""What `converged` promises, and what to do when a follower does not converge.

## What it promises

`Response.converged` is decided after the search, from the returned point alone: the point is
feasible; first-order conditions and complementarity hold; the utility does not curve upward along
free directions; Newton steps shrink or are at rounding level. The path of the search does not
count. All conditions are relative to the problem's own scale, so that a positive multiple of a
utility or another unit of a variable should change neither the answer nor the flag
(`stackjax/solvers/_judge.py`).

`Solution.converged` adds the leader's conditions: its action is stationary with no upward
curvature, and the response to it is optimal and, except with `Complementarity`, unique.

It does not promise a global optimum of the leader, or of a follower that is not concave. From its
answer `Newton` looks at 32 other actions and climbs up to two other peaks that it sees;
`Solution.other_peaks` says that there are some, so that a higher one may have been missed. In 120
games with waves, one start ends below the global optimum in more than 20, the default in at most
one (`python -m pytest tests/leader/test_other_peaks.py`), in two to four times the time; `starts=1`
does without.
`Solution.local` is True if the follower was found not to be concave. `solve` then sets `converged`
only if the utility appears quasi-concave and no response that was sampled, or found from other
starts, is better. In many variables, samples may miss a higher peak.

If `converged=False`, the best point found is returned, with its residual and finite derivatives.
Nothing is raised under `jax.jit` or `jax.vmap`; `fit_leader` leaves the context out and counts it
in `History.converged`. Errors that can be detected on the host (shapes, types, an empty polyhedron,
a utility that increases without bound) are raised outside transforms.

`print(found)` shows the status in a word with what to try next; `found.status` is that word, of a
batch an array of words (`sj.solvers.Status` lists them):

```python
import jax.numpy as jnp
import stackjax as sj

flat = sj.Game(lambda a, r, x: r, lambda a, r, x: 0.0 * r, response_set=sj.Box(0.0, 1.0))
found = sj.best_response(flat, 1.0, None, response=jnp.array(0.5))
print(found.status, found.converged)  # several True
```

Of 1.2 million answers to random games in two precisions, none with `converged=True` is wrong in
value or derivative (`python -m experiments.oracle`, `experiments/results/oracle.json`;
`choosing_a_solver` has the table). In other units of utility and response, 143 of 580,500 flags
changed.

## A follower with several peaks

```python
wavy = sj.Game(
    lambda a, r, x: -((a - r) ** 2),
    lambda a, r, x: jnp.sin(3 * r) - 0.1 * (r - a) ** 2,  # not concave
    response_set=sj.Box(-4.0, 4.0),
)
one = sj.best_response(wavy, 1.0, None, response=jnp.array(-3.0))
many = sj.best_response(wavy, 1.0, None, response=jnp.array(-3.0), starts=16)
print(one.converged, jnp.round(one.value, 2), one.unique)  # True -3.56 True
print(many.converged, jnp.round(many.value, 2), many.agreeing_starts < 16)  # True 0.53 True
```

From one start the answer is a local maximum, and `unique` refers to its neighbourhood only. Not all
16 starts agree, which reveals the other peaks.

For up to about four numbers in a bounded `Box`, ask for a proof. `Global` bounds the utility on
parts of the box by interval arithmetic with outward rounding, and cuts the box (branch and bound)
until no part can hold a better response:

```python
proven = sj.best_response(
    wavy, 1.0, None, response=jnp.array(-3.0), proof=sj.solvers.Global()
)
print(jnp.round(proven.value, 2), proven.proof.proven)  # 0.53 True
print(proven.proof.upper - proven.proof.lower < 1e-4)  # True
```

`Response.proof` holds the bounds; `proven` is False if the list of parts or the steps did not
suffice, and `upper` is a valid bound even then. `solve(..., proof=...)` proves the response to the
final action, which replaces the samples of the section above. An operation without an interval rule
raises an error that names it.

With a proof, `solve` uses `Complementarity` by default and adds value-function cuts: a response
that branch and bound finds to be better becomes a constraint of the leader's, until none is. The
leader's optimum is often where a follower with two peaks is indifferent between them, which no
method finds that follows one peak. Such a search takes several times as long, and longer to
compile. The tolerance `Global(gap=...)` is a share of the range of the follower's utility over the
box: where that has a pole at the edge (a tangent), choose a smaller one, such as 1e-7 in float64.

## The follower is indifferent

`Complementarity` takes the response that the leader prefers: the optimistic convention. Under the
pessimistic one the follower takes what the leader likes least. `solve` with
`convention="pessimistic"` and a `proof` returns the supremum of what the leader gets then, without
an epsilon. It need not be attained. `Solution.attained` is False and the status 'supremum' where
the follower is indifferent at `action` itself; then play `Solution.nearby`, an action at which
branch and bound has shown the best response to be the only one. What it covers: best responses that
are isolated but for single actions, among them those of a linear follower. Where the follower is
indifferent at every action, `converged` is False, and the response is the worst one that was found;
for these games use `game.break_ties("pessimistic")`. For finite games `finite.weak_stackelberg` is
exact:

```python
import numpy as np

leader = np.array([[2.0, 4.0], [1.0, 3.0]])
weak = sj.finite.weak_stackelberg(leader, np.eye(2))
print(weak.leader_utility, weak.attained)  # 3.5 False
print(np.round(weak.near(0.01), 3))  # [0.495 0.505]
```

The last line is a commitment that is worth almost as much, whatever the follower does at ties.

## My follower does not converge

Solve one such context alone, outside transforms, where errors name their cause. Then check the
fields in this order:

- **`residual` is `inf`.** The utility or a derivative is not a number, at the returned point or
  during the search. Try bounds that keep logarithms, roots and quotients away from 0
  (`Box(lower=1e-6)`), or a starting point inside the set. Outside transforms the error names the
  utility.
- **`steps` at the cap, `residual` just above the tolerance.** This is the rounding error of
  float32. Try units in which numbers are about 1, then `jax.enable_x64(True)`, and only then a
  larger `Newton(tol=...)`.
- **`steps` at the cap, `residual` large.** The start is far away, or the coordinates have very
  different curvature. Try the answer of a nearby context as a start; comparable scales for all
  coordinates; `Newton(max_steps=200)`; for a set other than a box `InteriorPoint(max_steps=300)`.
- **`converged`, `curvature` near 0 (`unique` is False).** There are several best responses;
  derivatives leave out the flat direction. Try a small strictly concave term, if the model allows
  one; `solve(..., solver=Complementarity())`, which selects the response that the leader prefers;
  or `game.break_ties("pessimistic")`, which selects the worst for the leader.
- **`curvature` negative, or `agreeing_starts` below `starts`.** The utility is not concave: there
  is a saddle, or other local maxima. Try `starts=16`; a learned follower that is concave by design
  (`sj.fit.ConcaveUtility`); `sj.fit.probe_concavity` measures how far it is from concave.
- **`Solution.local`, though there is one best response** (a profit with logit demand, say). The
  utility is quasi-concave, not concave. Give the follower the logarithm of its profit: it has the
  same maximiser and is often concave.
- **`converged`, `degeneracy` near 0.** This is a kink: a constraint is about to become active or
  inactive. The value is correct; derivatives hold on one side. Use `Complementarity()` to optimise
  across the kink.
- **A fit converged, but the utility never moves.** All responses are at a bound, so every gradient
  is 0. Initialise the module so that responses are inside the set (with a bias), and compare the
  first and last `History.utility`.
- **Everything fails in one context, with a `Constrained` set.** The set is empty there. To confirm
  this, maximise 0 over it: `residual` stays large. Relax the constraint with a slack variable in
  the response.

In training, if `History.converged` is below 1 from the first step, check the utility. If it falls
later, the policy has moved to actions at which the follower's utility is flat: bound the action
set.

## Watch a search

`history=True` returns what each step of the leader's search had found, as arrays; `callback` is
called on the host while it goes on, under `jax.jit` too.

```python
rows = []                             # (step, action, utility, residual)
path = sj.solve(
    sj.games.duopoly().game, action=jnp.array(1.0), response=jnp.array(1.0),
    context=jnp.array(13.0), history=True, callback=lambda *row: rows.append(row),
).history
print(path.action[: path.steps + 1])   # [1. 6.]
print(path.utility[: path.steps + 1])  # [ 5.5 18. ]
```

## Check a solution

`check` solves again from other starts, compares the gradient with finite differences and searches
for a better action nearby. In the game below, the leader's optimum is at a kink: above the price 3
the buyer takes less than 2, below it the capacity 2.

```python
capacity = sj.Game(
    lambda price, bought, x: price * bought,
    lambda price, bought, x: (5.0 - price) * bought - bought**2 / 2,
    action_set=sj.Box(0.0, 10.0),
    response_set=sj.Box(0.0, 2.0),
)
starts = {"action": jnp.array(1.0), "response": jnp.array(1.0), "context": None}
newton = sj.solve(capacity, **starts, solver=sj.Newton())
print(f"{newton.action:.3f}", newton.converged)  # 3.000 False
exact = sj.solve(capacity, **starts, solver=sj.Complementarity(), starts=2)
print(f"{exact.action:.3f}", exact.converged)  # 3.000 True
```

`Newton` searches for a zero of the gradient. There is none at the kink, so it returns the optimal
action with `converged=False`. `Complementarity` treats the kink as part of the problem.
`print(sj.check(capacity, exact, None))` lists every finding with its value.
"""
