"""config.json, `hooks`: programs run at six moments of a life.

Source: config.md#posix-platform-hooks.
"""

from __future__ import annotations

from sampan.model.runtime.struct import Struct

__all__ = ["Hook", "Hooks"]


class Hook(Struct):
    path: str
    """Absolute."""
    args: tuple[str, ...] = ()
    """argv with argv[0]; empty means the path alone."""
    env: tuple[str, ...] = ()
    timeout: int | None = None
    """Seconds; at least 1."""


class Hooks(Struct):
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()
