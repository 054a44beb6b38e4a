"""Measures of one solution, and what they amount to."""
