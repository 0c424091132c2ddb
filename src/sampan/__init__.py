"""Sampan: a complete container runtime in Python.

    with sampan.Sandbox("docker.io/library/python:3.12", memory="512M", network=None) as box:
        box.write("/app/a.py", code)
        result = box.run("python", "/app/a.py", input=data, timeout=30)

`sampan.aio` has the same for asyncio, `sampan.errors` the errors, `sampan.sandbox` the idea.

Three planks carry it: Storage, Metadata, Runtime. ARCHITECTURE.md says which room holds what. This
package loads nothing by itself, for `sampan.oci` and `sampan.zygote` pass through it and start
cold; public names are resolved on first use (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan import aio as aio
    from sampan import errors as errors
    from sampan.errors import SampanError
    from sampan.sandbox import (
        CalledProcessError,
        Change,
        Client,
        Completed,
        FileInfo,
        Mount,
        Process,
        Sandbox,
        SandboxInfo,
        Stats,
        TimeoutExpired,
        connect,
        in_process,
    )

__all__ = [
    "CalledProcessError",
    "Change",
    "Client",
    "Completed",
    "FileInfo",
    "Mount",
    "Process",
    "SampanError",
    "Sandbox",
    "SandboxInfo",
    "Stats",
    "TimeoutExpired",
    "__version__",
    "connect",
    "in_process",
]


def __getattr__(name: str) -> object:
    if name in ("aio", "errors"):
        return __import__(f"sampan.{name}", fromlist=[name])
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "errors" if name == "SampanError" else "sandbox"
    value: object = getattr(__import__(f"sampan.{home}", fromlist=[name]), name)
    globals()[name] = value
    return value
