"""Followers with a linear utility, whose answers move with it: perturbed or regularised."""
