"""Work beside the event loop, under three rules: bounded, awaited, and killed as a whole.

    to_thread(fn, *args, limit=DISK)   a blocking call in one of the limit's threads
    run(argv, ...)                     a program: own session, killed with all its children
    shielded(10, undo())               cleanup that cancellation does not cut short
    SingleThread("metadata")           the one thread that may touch a thing, such as SQLite
    trace.trace("content.renamed")     where a crash test may kill us (import the module)

**Cancellation.** A thread cannot be stopped, so a cancelled `to_thread` waits for its thread, logs
the thread's error if there was one, and only then raises CancelledError: when it has raised,
nothing of it runs any more. A call that still waited for a free thread never starts. So `fn` must
be bounded in time, and must not return an open fd, for on cancellation nobody would receive it.

**Limits.** Each resource has a `Limit` of its own, so that slow disks do not starve quick lookups.

The package loads lazily: confined workers import `sampan.concurrency.trace` without asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.concurrency.processes import Completed, run
    from sampan.concurrency.shield import shielded
    from sampan.concurrency.threads import DEFAULT, Limit, SingleThread, to_thread

__all__ = [
    "DEFAULT",
    "Completed",
    "Limit",
    "SingleThread",
    "run",
    "shielded",
    "to_thread",
]

_HOME = {
    "Completed": "processes",
    "run": "processes",
    "shielded": "shield",
    "DEFAULT": "threads",
    "Limit": "threads",
    "SingleThread": "threads",
    "to_thread": "threads",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
