"""The programs within an operation's parameters, for tests that look for what is computed."""

from jax.extend.core import ClosedJaxpr, Jaxpr


def jaxprs(value):
    """Those in an operation's parameters; newer JAX keeps some within objects of its own."""
    if isinstance(value, ClosedJaxpr | Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        yield from (inner for item in value for inner in jaxprs(item))
    elif isinstance(value, dict):
        yield from jaxprs(list(value.values()))
    elif type(value).__module__.startswith("jax.") and hasattr(value, "solve_jaxpr"):
        yield from jaxprs(vars(value))


def shapes(jaxpr):
    """The shapes of everything that a program computes, its loops and rules included."""
    found = set()
    for equation in jaxpr.eqns:
        found |= {v.aval.shape for v in (*equation.invars, *equation.outvars)}
        for inner in jaxprs(equation.params):
            found |= shapes(inner)
    return found
