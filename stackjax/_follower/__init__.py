"""The follower's answer: arguments, dispatch to a solver, multipliers."""
