"""Tests; they mirror gradtx/ and experiments/."""
