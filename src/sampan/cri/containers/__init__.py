"""Containers: create, start, stop, remove, and what is told of them."""
