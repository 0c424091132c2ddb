"""The engine: the three planks and what stands on them, put together in one process.

    async with Engine.open(settings) as engine:
        with context.scope("default"):
            await engine.metadata.images.list()
            await engine.tasks.list()

It needs no daemon. Several engines may share one root: each is an owner of its own (`metadata`),
tasks are found through their bundles, and nothing is locked for longer than a transaction. The
zygote is started when the first worker is needed, or by `warm`.

    settings ─► config ─► builtins (names) ─► graph: content, snapshotters ─► Metadata ─► Tasks
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.engine.config import Settings, resolve
    from sampan.engine.engine import Engine

__all__ = ["Engine", "Settings", "resolve"]

_HOMES = {"Engine": "engine", "Settings": "config", "resolve": "config"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
