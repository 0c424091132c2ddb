"""Verbs about networks."""
