"""`sampan.aio`: the same as `sampan`, for programs that run on asyncio. See `sampan.sandbox`."""

from __future__ import annotations

from sampan.sandbox.box import Sandbox
from sampan.sandbox.clients import Client, connect, in_process
from sampan.sandbox.process import Process

__all__ = ["Client", "Process", "Sandbox", "connect", "in_process"]
