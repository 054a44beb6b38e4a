"""Certificates and their meaning.

`certify` estimates the constants in the guarantees of arXiv 2606.23026 (Section 5), computes each
bound, compares it with the measured value, and gives a verdict. It works for a game, a policy in
its game, and a controller of `stackjax.agents`, with or without real turns.

| verdict | meaning |
|---|---|
| `holds` | the assumption was checked, and the measured value respects the bound |
| `fails` | the assumption or the bound was contradicted |
| `vacuous` | the bound is trivial; `turns_needed` estimates how many turns would suffice |
| `not checked` | something is missing: a policy, recorded actions, real turns |

## A policy with real turns

The leader wants the response 0.5. A new policy is compared with the policy in use (the baseline).
Real turns are simulated here: utility is 0.02 below the surrogate's prediction, plus noise.
`RealTurns` contains the utility of each of P policies in N turns and the surrogate's predictions.

```python
import jax, jax.numpy as jnp, numpy as np
import stackjax as sj

def leader_utility(action, response, slope):
    return 1 - (0.5 - response) ** 2 - 0.1 * action**2

def follower_utility(action, response, slope):
    return -(response - slope * action) ** 2

unit = sj.Box(0.0, 1.0)
game = sj.Game(leader_utility, follower_utility, action_set=unit, response_set=unit)
policy = sj.certificates.Deployed(game, lambda slope: 0.5 + 0 * slope)

def certificate(turns):
    rng = np.random.default_rng(0)
    slopes = rng.uniform(0.25, 1.0, turns)
    value = np.stack([leader_utility(a, a * slopes, slopes) for a in (0.5, 0.0)])
    utility = np.clip(value - 0.02 + 0.05 * rng.normal(size=value.shape), 0, 1)
    real = sj.certificates.RealTurns(
        utility=utility, value=value, episode=np.arange(turns), low=0.0, high=1.0,
        names=("policy", "baseline"), baseline=1,
    )
    contexts = jnp.asarray(slopes[:50], jnp.float32)
    return sj.certify(policy, contexts, real, key=jax.random.key(0), samples=64)

few, many = certificate(50), certificate(400)
better = "Better than the baseline"
print(few[better].verdict, 100 < few[better].turns_needed < 300, many[better].verdict)
# vacuous True holds
print(few["Transfer"].bound > 0.15, many["Transfer"].bound < 0.1)   # True True
```

50 turns do not decide whether the policy is better: the lower bound on its gain is below 0. The
statement estimates, from the measured variance, how many turns would suffice; 400 are more than
that.

## The statements

| statement | question | needs |
|---|---|---|
| Existence | does a best response exist, and is it unique? | a game |
| Stability | how far does the response move per unit of the leader's action? | a game |
| Repair | what does projection onto recorded actions cost? | a policy, recorded actions |
| Repair over a session | the same, over a session | also a horizon |
| Regret in the surrogate | how much better is the best of about 35 other leaders? | a policy |
| Transfer; Transfer, follower | how far are surrogate and real value apart? | real turns |
| Real regret | the real loss, at most: surrogate regret + projection + 2 transfer | both |
| Real regret, paired | the same by paired differences, without the surrogate | real turns |
| Better than the baseline | how large is the real gain, at least? | real turns, a baseline |
| Implementation gap | what does a nearly rational follower cost? | a game |

`print(certificate)` shows all statements, `certificate.verdicts` has the verdicts, and `to_json`
writes a file.

```python
print(few["Stability"].verdict, 0.9 < few["Stability"].bound < 1.0)   # holds True
print(few["Repair"].verdict, "no policy with recorded actions" in few["Repair"].note)
# not checked True
```

## What is proved and what is estimated

- **By exact computation**: the Hessian or the derivative is proved constant, or the utility
  provides a bound on its concavity (`sj.fit.ConcaveUtility`, `concavity=`). Here the slope of the
  response is at most L / mu, about 2 / 2.
- **An estimate**, printed as `HOLDS (ESTIMATE)`: a supremum found by sampling and gradient ascent.
  It is a lower bound of the true supremum; its error is not bounded.
- **A confidence limit**, from real turns: all limits of one certificate hold simultaneously with
  probability `level`, 0.95 by default. `Certificate.shares` shows how `1 - level` is divided.
- Limits from logs need the propensities of the logged actions, and a lower bound on them.

A follower that is not concave contradicts the assumption of stability. The verdict is then `fails`;
nothing is raised:

```python
away = lambda action, response, slope: (response - slope * action) ** 2
convex = sj.Game(leader_utility, away, action_set=unit, response_set=unit)
found = sj.certify(convex, jnp.array([0.25, 0.5]), key=jax.random.key(0), samples=64)
print(found["Stability"].verdict, found["Stability"].bound)           # fails inf
```

## Tightness and reliability

From `python -m experiments.certificate` (tables in `experiments/certificate/README.md`): on 1,000
simulated logs of each of seven designs, every limit held, at level 0.95. An allowed action that is
much worse than predicted, a shifted environment, an action missing from the log and a follower that
is not concave were detected in every trial, with false alarms in at most 2%. The limits are loose:
with 60 episodes of executed policies, a discrepancy of 0.05 is at best bounded by 0.26, and
importance weighting makes the bound vacuous. Turns executed under each policy are preferable to
logs of one randomised policy, and paired differences to the bound through the surrogate.

A controller of `stackjax.agents` is certified in the same way:

```text
turns = sj.agents.evaluation.executed_turns(...)
sj.certify(controller, states, turns, key=key)
```
"""
