"""Arithmetic only: peaks and ceilings of hardware, costs of operators, the bounds they imply."""
