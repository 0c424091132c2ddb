"""What `import sampan` offers: sandboxes in a Python program, with no daemon and no root needed.

    with sampan.Sandbox("docker.io/library/python:3.12", memory="512M", timeout=30) as box:
        box.write("/app/a.py", code)
        r = box.run("python", "/app/a.py", input=data)      # r.stdout, r.returncode
        child = box.fork()                                  # the same files, in milliseconds
    async with sampan.aio.Sandbox("host:") as box:
        async with box.exec("sh") as p: ...                 # p.stdin, p.stdout, p.stderr, p.wait()

A sandbox is a container whose first process only waits (`idle`), so that programs may be run in
it one after the other or side by side; with `command=` the image's own program is the first one.

**Lifetimes.** A sandbox lives as long as its block, and never longer than the Python process: its
shim holds a pidfd of this process and ends everything when that becomes readable, SIGKILL included.
What lies on disk is removed by whoever opens the same root next. `detach=True` outlives us.
A program that runs too long is killed with all that it started, by the cgroup of its own that each
`run` and `exec` has, and nothing else is touched.

**Files** go in and out through a worker that has changed its root to the container's, has no
other path, no network and few rights, and opens each thing once, by openat2: a hostile container
that swaps links and files meanwhile gains nothing (`files`, `fileworker`).

**One implementation.** Everything is written for asyncio (`box`, `process`, `clients`). The
synchronous face, `sync`, is generated from it by `generate`, and its calls run on a loop in a
thread of its own (`portal`).

    in_process(root=…, state=…)     an engine in this process: neither protobuf nor grpclib
    connect(address)                the daemon at that socket

Both yield a `Client`, which makes sandboxes, and lists, pulls and removes images. `Sandbox(...)`
without one uses a client of the default settings, which is opened by the first and kept until
its loop ends.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sampan.sandbox.sync import Client, Process, Sandbox, connect, in_process
    from sampan.sandbox.values import (
        CalledProcessError,
        Change,
        Completed,
        FileInfo,
        Mount,
        SandboxInfo,
        Stats,
        TimeoutExpired,
    )

__all__ = [
    "CalledProcessError",
    "Change",
    "Client",
    "Completed",
    "FileInfo",
    "Mount",
    "Process",
    "Sandbox",
    "SandboxInfo",
    "Stats",
    "TimeoutExpired",
    "connect",
    "in_process",
]

_HOMES = {
    **dict.fromkeys(("Client", "Process", "Sandbox", "connect", "in_process"), "sync"),
    **dict.fromkeys(
        (
            "CalledProcessError",
            "Change",
            "Completed",
            "FileInfo",
            "Mount",
            "SandboxInfo",
            "Stats",
            "TimeoutExpired",
        ),
        "values",
    ),
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
