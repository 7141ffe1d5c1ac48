"""Transformations of transformations: groups, accumulation, guards, averages and others, one idea a file."""
