"""What `converged` promises, and what to do when a follower does not converge.

## What it promises

`Response.converged` is judged after the search, from the returned point alone: the point is
feasible; first-order conditions and complementarity hold; the curvature along free directions is
not upward; Newton steps shrink or are rounding. How the search came there does not count. All of it
is measured in the problem's own units, so that a positive multiple of a utility or another unit of
a variable should change neither the answer nor the flag (`stackjax/solvers/_judge.py`).

`Solution.converged` adds the leader's conditions: its action is stationary with no upward
curvature, and the response to it is optimal and, except with `Complementarity`, unique.

It does not promise a global optimum of the leader, nor one of a follower that is not concave.
`Solution.local` is True where the follower was seen not to be concave. `solve` then sets
`converged` only if the utility looks quasi-concave and no sampled response, or one found from other
starts, is better. In many variables, samples may miss a higher peak.

`converged=False` means: the best point found is returned, with its residual and finite derivatives.
Nothing is raised under `jax.jit` or `jax.vmap`; `fit_leader` leaves the context out and counts it
in `History.converged`. What is certain on the host (shapes, types, an empty polyhedron, a utility
that rises without end) is an error outside transforms.

How often the flag is wrong: of 137,000 answers to random games in two precisions, none with
`converged=True` is wrong in value or derivative (`python -m experiments.oracle --games 1000`,
`experiments/results/oracle.json`; `choosing_a_solver` has the table). In other units of utility and
response 19 flags of 58,000 changed.

## A follower with several peaks

```python
import jax.numpy as jnp
import stackjax as sj

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

From one start the answer is a local maximum, and `unique` speaks of its neighbourhood only. Of 16
starts fewer than 16 agree, which shows the other peaks.

## My follower does not converge

Take one such context out of the batch, solve it outside transforms, where errors name their cause,
and read the fields from the top:

- **`residual` is `inf`.** The utility or a derivative is not a number, there or on the way. Try
  bounds that keep logarithms, roots and quotients away from 0 (`Box(lower=1e-6)`); a starting point
  inside the set. Outside transforms the error names the utility.
- **`steps` at the cap, `residual` just above the tolerance.** Rounding: float32 resolves no more.
  Try units in which numbers are about 1; `jax.enable_x64(True)`; only then a larger
  `Newton(tol=...)`.
- **`steps` at the cap, `residual` large.** A far start, or coordinates of very different curvature.
  Try the answer of a nearby context as a start; one unit for all coordinates;
  `Newton(max_steps=200)`; for a set other than a box `InteriorPoint(max_steps=300)`.
- **`converged`, `curvature` near 0 (`unique` is False).** Several best responses; derivatives leave
  out the flat direction. Try a small strictly concave term, if the model has one;
  `solve(..., solver=Complementarity())`, which takes the leader's favourite, and
  `game.break_ties("pessimistic")` for the other side.
- **`curvature` negative, or `agreeing_starts` below `starts`.** Not concave: a saddle, or other
  local maxima. Try `starts=16`; a learned follower that is concave by design
  (`sj.fit.ConcaveUtility`); `sj.fit.probe_concavity` measures how far it is from concave.
- **`Solution.local`, though there is one best response** (a profit with logit demand, say). The
  utility is quasi-concave, not concave. Give the follower the logarithm of its profit: it has the
  same best response and is often concave.
- **`converged`, `degeneracy` near 0.** A kink: a constraint is about to become active. The value is
  right, derivatives hold on one side. Optimise over it with `Complementarity()`.
- **A fit converged, but the utility never moves.** All answers are at a bound: every gradient is 0.
  Start the module inside the set (a bias); compare the first and last `History.utility`.
- **Everything fails in one context, with a `Constrained` set.** The set is empty there. Maximise 0
  over it: `residual` stays large. Relax the constraint by a slack in the response.

In training, `History.converged` below 1 from the first step on points to the utility. If it falls
later, the policy drives the follower where it is flat: bound the action set.

## Ask for a second opinion

`check` answers again from other starts, compares the gradient with finite differences and looks for
a better action nearby. Here it is at work on a game whose leader ends at a kink: above the price 3
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

`Newton` looks for a zero of the gradient; at the kink there is none, so it returns the right action
and says that it could not prove it. `Complementarity` treats the kink as part of the problem. Then
`print(sj.check(capacity, exact, None))` lists every finding with its number.
"""
