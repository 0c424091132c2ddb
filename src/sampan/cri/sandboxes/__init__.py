"""Pods: run, stop, remove, and what is told of them."""
