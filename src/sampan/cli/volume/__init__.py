"""Verbs about named volumes."""
