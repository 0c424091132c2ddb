"""Sampan: a complete container runtime in Python.

Three planks carry it: Storage, Metadata, Runtime. ARCHITECTURE.md says which room holds what.

This package loads nothing by itself, for `sampan.oci` and `sampan.zygote` pass through it and
start cold; public names are resolved on first use (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"
