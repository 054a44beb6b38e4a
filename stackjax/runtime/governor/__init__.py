"""Decides each turn within limits, and records, compares and watches what came of it."""
