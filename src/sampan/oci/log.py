"""Warnings of the runtime, without `logging`, which takes 5 ms to import.

`main` points `sink` at --log; in process the shim may point it at its own log.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["set_sink", "warning"]


def _discard(level: str, message: str) -> None:
    pass


_sink: Callable[[str, str], None] = _discard


def set_sink(sink: Callable[[str, str], None]) -> None:
    """Send warnings to `sink(level, message)`."""
    global _sink  # noqa: PLW0603
    _sink = sink


def warning(message: str) -> None:
    """Say that something asked for was left undone although the container starts."""
    _sink("warning", message)
