"""Keeping to actions that were tried: projection, its price, and the scale of an action."""
