"""Models of quality and tokens, fitted to recorded turns and calibrated."""
