"""The method of multipliers, and what finishes it: nothing but products."""
