"""Turns as they are recorded, read and aggregated."""
