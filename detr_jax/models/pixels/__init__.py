"""Heads that give a class to every pixel, over any backbone."""
