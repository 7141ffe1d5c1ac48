"""Recipes: each a few lines that chain parts. Their arguments are documented at the parts."""
