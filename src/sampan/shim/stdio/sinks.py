"""Making sinks: from what a request asks for, or from what another server has saved."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.rpc.loop import Loop
from sampan.shim.stdio.copying import FdSink, Saved, Sink
from sampan.shim.stdio.fifos import FifoSink
from sampan.shim.stdio.logs import LogFile, LogSink
from sampan.shim.stdio.tees import TeeSink
from sampan.shim.stdio.uris import parse

__all__ = ["Nowhere", "restore", "sink_for"]


class Nowhere:
    """A terminal whose output nobody wants must still be read, or its process would stop."""

    splice_fd = -1
    poll_fd = -1
    survives = False

    def write(self, data: bytes) -> int:
        """Take it."""
        return len(data)

    def finish(self) -> None:
        """Nothing to do."""

    def save(self) -> tuple[str]:
        """See copying.Sink."""
        return ("nowhere",)


def sink_for(loop: Loop, stream: str, uri: str, files: dict[str, LogFile]) -> Sink:
    """Return the sink that `uri` names; `files` are those open already, and grows.

    Raises:
      InvalidArgument: a scheme, a value or a path that will not do.
    """
    scheme, path, query = parse(uri)
    if scheme == "fifo":
        return FifoSink(loop, path)
    values = dict(query)
    file = files.get(path)
    if file is None:
        bare = scheme == "file"
        file = LogFile(path, "raw", 0, 1) if bare else LogFile.from_uri(path, values)
        files[path] = file
    sink = LogSink(file, stream)
    if not values.get("attach"):
        return sink
    if not values["attach"].startswith("/"):
        raise InvalidArgument(f"sampan-log: attach={values['attach']!r} is not absolute")
    return TeeSink(loop, sink, values["attach"])


def restore(loop: Loop, saved: Saved, files: dict[str, LogFile]) -> Sink:
    """Return the sink of which `save` has returned `saved`; `files` by path."""
    kind, *values = saved
    if kind == "fifo":
        return FifoSink(loop, *values)
    if kind == "fd":
        fd, splice = values
        return FdSink(loop, fd, splice=splice)
    if kind == "log":
        path, stream, partial = values
        return LogSink(files[path], stream, partial)
    if kind == "tee":
        log, path = values
        return TeeSink(loop, LogSink(files[log[1]], log[2], log[3]), path)
    return Nowhere()
