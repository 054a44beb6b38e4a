"""When the gradient is valid."""
