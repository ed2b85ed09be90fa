"""Layers that models share, under the papers' names for them."""
