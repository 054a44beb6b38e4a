"""Keeping to actions that were tried: projection, its price, and the scale of an action."""

from stackjax.repair._price import Price, price_of_projection, price_of_response_projection
from stackjax.repair._scale import sensitivity_scale
from stackjax.sets._empirical import Projection, project

__all__ = [
    "Price",
    "Projection",
    "price_of_projection",
    "price_of_response_projection",
    "project",
    "sensitivity_scale",
]
