"""What decides a turn: a fitted controller with its calibration, saved and loaded."""
