"""Comparisons of optimizers, each a command: `python -m experiments list`."""
