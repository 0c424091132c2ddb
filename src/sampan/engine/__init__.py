"""The engine: the three planks and what stands on them, put together in one process.

    async with Engine.open(settings) as engine:
        with context.scope("default"):
            await engine.metadata.images.list()
            await engine.tasks.list()

It needs no daemon. Several engines may share one root: each is an owner of its own (`metadata`),
tasks are found through their bundles, and nothing is locked for longer than a transaction. The
zygote is started when the first worker is needed, or by `warm`.

    settings ─► config ─► builtins (names), entry points, proxies ─► graph: content, snapshotters,
    verifiers, ... ─► Metadata ─► Tasks

**Configuration** is ours (version 1) or containerd's (2, 3, 4): `resolve` takes either. A plugin's
table is `section(settings, uri, Type)`; the CRI plugin's three are `cri_settings(settings)`.

**Plugins.** `engine.graph.all(TYPE)` are those that work, by id; the types that third parties may
add to stand in `extensions`, each with its Protocol.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.engine import schema
    from sampan.engine.config import Settings, resolve
    from sampan.engine.cri import CriSettings, cri_settings
    from sampan.engine.engine import Engine
    from sampan.engine.sections import section

__all__ = ["CriSettings", "Engine", "Settings", "cri_settings", "resolve", "schema", "section"]

_HOMES = {
    "CriSettings": "cri",
    "Engine": "engine",
    "Settings": "config",
    "cri_settings": "cri",
    "resolve": "config",
    "section": "sections",
}


def __getattr__(name: str) -> object:
    if name == "schema":
        return import_module(f"{__name__}.schema")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
