"""Proofs of a global maximum: interval bounds on a utility, and branch and bound with them.

- `_interval.py`: the pair of bounds, outward rounding, the arithmetic of intervals.
- `_interval_rules.py`: the operations of JAX on intervals; `_interval_moves.py`: sums, products
  of matrices, and what only moves numbers.
- `_intervals.py`: the interpreter of a function's jaxpr on intervals.
- `_values.py`: a function without the derivative rules that its author gave it.
- `_shifts.py`: numbers that a function subtracts and does not depend on (as `softmax` does).
- `_bounds.py`: the upper bound of a utility over one box.
- `_branch_and_bound.py`: `prove`.
"""
