"""Codecs: a leaf of state in fewer bytes; and steps that land exactly on rounded parameters."""
