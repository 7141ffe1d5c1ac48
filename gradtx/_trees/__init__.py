"""Arithmetic on trees: the one checked map, its rules for dtypes and shapes, and trees as vectors."""
