"""stdio of a container's processes: see the shim's front door for the kinds of URI.

streams    the three streams of one process: opening, the terminal, the end
copying    one direction of one stream, from an fd to a sink; never blocks, keeps 64 KiB at most
fifos      a sink that survives its readers
sinks      which of these a URI names; a sink that was saved, restored
tees       a log that is passed on to whoever attaches
logs       files, and the shim's own log formats with rotation
loggers    binary:// programs
"""

from __future__ import annotations

__all__: list[str] = []
