"""Contributing.

## Set up

Python 3.11 or newer, in a virtual environment:

```bash
pip install -e ".[dev]" && pre-commit install
python -m pytest tests/follower        # seconds to minutes
```

`stackjax.guide.architecture` describes the code, and how to add a solver, a set, a game or an
experiment.

## Tests

```bash
python -m pytest                       # all but the slow ones, on all cores
python -m pytest -m slow               # those above ten seconds
python -m pytest -n 0 tests/fit        # one folder, one process
.ci/run                                # what a release must pass
```

`tests/` mirrors the package. `.ci/run` installs the package without extras and imports it, runs
README's test command in a fresh environment, runs lint, format and type checks, and repeats the
tests that touch JAX's internals on the newest Python found. Warnings are errors, and implicit rank
promotion raises.

What a change needs:

- **A derivative**: a closed form first, then finite differences to second order, including at
  bounds.
- **A solver or a set**: eager, `jit` and `vmap` agree, with one difficult member in the batch, in
  float32 and float64.
- **A failure** is reported (`converged`, `residual`), and no gradient is NaN.
- **A public name**: a docstring with shapes, errors, source and a `>>>` example that runs.
- **A page of this guide**: its blocks run and print what their comments say
  (`tests/project/test_guide.py`).
- **A bug**: the smallest reproducer, which fails before the change and passes after it.

Never loosen an assertion to make a test pass; find out which side is wrong.

## Style

1. One concept per file, named after it; below 400 lines per file, at most 20 entries per folder.
2. Packages import only lower layers; `tests/project/test_structure.py` enforces the order.
3. One term per concept: action, response, context, utility, policy. Utilities are maximised.
4. Pure functions without a batch axis; the user applies `jax.vmap`.
5. Containers are `flax.struct.PyTreeNode` or frozen dataclasses; modules are `flax.nnx`.
6. Random keys are always the keyword `key`, never defaulted.
7. Docstrings in Google style: shapes in brackets, units, `Raises`, `Source` with the equation.
8. An error names the argument, what is allowed and what was given. Failures under `jit` are values.
9. Comments say why, briefly. Prose is subject, verb, object.
10. `ruff check`, `ruff format` and `pyright` pass; lines have at most 100 characters.

Commits: imperative, what and why. `CHANGELOG.md` follows Keep a Changelog.

## How claims are checked

A number in README or in this guide comes from a study in `experiments/`, whose result is stored in
`experiments/results/` with seed, versions and hardware. `tests/project/test_claims.py` computes the
numbers in README's table from these files. The references share no code with the library:

- **Values and derivatives**: enumeration of active sets and dense references in float64
  (`python -m experiments.oracle`).
- **Optima**: the published optima of 151 bilevel problems (`python -m experiments.classical`).
- **Gradients and time**: central differences of an independent solver, and other libraries
  (`python -m experiments.speed`).
- **Limits of `certify`**: simulated logs with known truth (`python -m experiments.certificate`).
- **Savings of agents**: a protocol fixed before the turns were taken
  (`python -m experiments.confirmatory`).

A claim changes only with its result file, and a result file only with a new run.
"""
