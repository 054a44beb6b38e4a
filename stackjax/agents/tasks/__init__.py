"""Questions with known answers, their families, and the tools that they need."""
