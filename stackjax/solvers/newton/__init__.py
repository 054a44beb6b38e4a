"""The projected Newton method on a box: steps, with and without a Hessian, and their search."""
