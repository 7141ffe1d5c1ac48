"""Codecs: a leaf of state in fewer bytes; and steps to parameters that are rounded on purpose."""
