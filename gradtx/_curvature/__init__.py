"""Directions that know the curvature: Newton, truncated Newton, Gauss-Newton, L-BFGS."""
