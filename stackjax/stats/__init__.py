"""Intervals for means, ratios, many hypotheses at once, and at any time."""
