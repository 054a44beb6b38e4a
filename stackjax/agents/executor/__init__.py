"""Runs turns with a language model, from an action to a recorded outcome."""
