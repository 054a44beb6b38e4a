"""Nash equilibria of several followers, as one mixed complementarity problem."""
