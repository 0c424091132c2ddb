"""The three streams of one process, from before its birth until its last byte has been moved."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.rpc.loop import Timer
from sampan.shim.processes import Processes
from sampan.shim.stdio import sinks
from sampan.shim.stdio.copying import Copy, FdSink, Sink
from sampan.shim.stdio.fifos import open_stdin
from sampan.shim.stdio.loggers import Logger, start
from sampan.shim.stdio.logs import LogFile
from sampan.shim.stdio.sinks import Nowhere, sink_for
from sampan.shim.stdio.uris import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Streams", "Wanted"]

_DRAIN_S = 10.0


class Wanted:
    """What a request asks for."""

    __slots__ = ("stderr", "stdin", "stdout", "terminal")

    def __init__(
        self, stdin: str = "", stdout: str = "", stderr: str = "", terminal: bool = False
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal


class Streams:
    """`await open()`, give `child` to the runtime, `born(console)`, then `ended()`.

    Nothing here waits for a reader; `abandon()` drops everything at once.
    """

    def __init__(
        self, processes: Processes, wanted: Wanted, *, container: str, namespace: str
    ) -> None:
        self._processes = processes
        self._loop = processes.loop
        self._wanted = wanted
        self._container = container
        self._namespace = namespace
        self._child: list[int] = []
        self._outputs: list[Copy] = []
        self._input: Copy | None = None
        self._stdin_hold = -1
        self._stdin_source = -1
        self._sinks: dict[str, Sink] = {}
        self._files: dict[str, LogFile] = {}
        self._logger: Logger | None = None
        self._console = -1
        self._timer: Timer | None = None

    @property
    def child(self) -> tuple[int, int, int]:
        """Fds 0, 1, 2 of the process to be born; ours, borrowed until `born`."""
        stdin, stdout, stderr = self._child
        return stdin, stdout, stderr

    def save(self) -> dict[str, Any] | None:
        """Return what `restore` needs; None while bytes are held here, or an end is under way."""
        copies = [copy.save() for copy in self._outputs if not copy.over]
        feeding = self._input.save() if self._input and not self._input.over else ()
        if self._child or self._sinks or None in copies or feeding is None:
            return None
        return {
            "outputs": copies,
            "input": feeding,
            "stdin_hold": self._stdin_hold,
            "stdin_source": self._stdin_source,
            "files": [file.save() for file in self._files.values() if file.open],
            "console": self._console,
            "logger": self._logger.pid if self._logger else 0,
            "ended": self._timer is not None,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where the streams of another server have stopped, in place of `open`."""
        for values in saved["files"]:
            self._files[values[0]] = LogFile(*values)
        for source, waiting, values in saved["outputs"]:
            sink = sinks.restore(self._loop, values, self._files)
            copy = Copy.restore(self._loop, source, sink, self._drained, waiting_for_room=waiting)
            self._outputs.append(copy)
        if saved["input"]:
            source, waiting, values = saved["input"]
            sink = sinks.restore(self._loop, values, self._files)
            self._input = Copy.restore(self._loop, source, sink, waiting_for_room=waiting)
        self._stdin_hold = saved["stdin_hold"]
        self._stdin_source = saved["stdin_source"]
        self._console = saved["console"]
        if saved["logger"]:
            ended = self._processes.reaper.expect(saved["logger"])
            self._logger = Logger(self._processes, saved["logger"], ended)
        if saved["ended"]:
            self._timer = self._loop.call_later(0, self._end_outputs)

    async def open(self, owner: tuple[int, int] | None = None) -> None:
        """Open everything that is wanted; `owner` is the uid and gid that pipes shall have.

        Raises:
          SampanError: one stream cannot be opened; nothing stays open.
        """
        try:
            await self._open(owner)
        except BaseException:
            self.abandon()
            raise

    async def _open(self, owner: tuple[int, int] | None) -> None:
        wanted = self._wanted
        if wanted.stdin:
            _, path, _ = parse(wanted.stdin)
            self._stdin_source, self._stdin_hold = open_stdin(path)
        outputs = {"stdout": wanted.stdout, "stderr": "" if wanted.terminal else wanted.stderr}
        if any(uri.startswith("binary:") for uri in outputs.values()):
            await self._open_logger(outputs)
        else:
            for stream, uri in outputs.items():
                if uri:
                    self._sinks[stream] = sink_for(self._loop, stream, uri, self._files)
        if wanted.terminal:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            self._child = [null, fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 0)]
            self._child.append(fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 0))
            return
        self._child.append(self._open_input())
        for stream in ("stdout", "stderr"):
            self._child.append(self._open_output(stream))
        if owner is not None:
            for fd in self._child:
                if not os.isatty(fd) and os.fstat(fd).st_rdev == 0:
                    os.fchown(fd, *owner)

    def _open_input(self) -> int:
        if self._stdin_source < 0:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._start_input(FdSink(self._loop, writing, splice=True))
        return reading

    def _start_input(self, sink: FdSink) -> None:
        source, self._stdin_source = self._stdin_source, -1
        try:
            self._input = Copy(self._loop, source, sink)
        except PermissionError as err:  # epoll: not a thing to be waited for
            os.close(source)
            sink.finish()
            raise InvalidArgument(f"stdin {self._wanted.stdin} is not a fifo") from err

    def _open_output(self, stream: str) -> int:
        sink = self._sinks.pop(stream, None)
        if sink is None:
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        if isinstance(sink, FdSink) and self._logger is not None:
            # The logger reads the other end itself; the container writes without us.
            fd = fcntl.fcntl(sink.poll_fd, fcntl.F_DUPFD_CLOEXEC, 0)
            sink.finish()
            return fd
        reading, writing = os.pipe()
        self._outputs.append(Copy(self._loop, reading, sink, self._drained))
        return writing

    async def _open_logger(self, outputs: dict[str, str]) -> None:
        uri = next(uri for uri in outputs.values() if uri.startswith("binary:"))
        _, path, query = parse(uri)
        readings = []
        try:
            for stream in ("stdout", "stderr"):
                reading, writing = os.pipe()
                readings.append(reading)
                # The container gets this end: it must block there, as on any pipe.
                self._sinks[stream] = FdSink(self._loop, writing, splice=True)
            self._logger = await start(
                self._processes,
                path,
                query,
                container=self._container,
                namespace=self._namespace,
                stdout=readings[0],
                stderr=readings[1],
            )
        finally:
            for reading in readings:
                os.close(reading)

    def born(self, console: int = -1) -> None:
        """The process has its fds; close our copies. `console`, now ours, is its terminal."""
        for fd in self._child:
            os.close(fd)
        self._child.clear()
        if console < 0:
            self._finish_sinks()
            return
        self._console = console
        sink = self._sinks.pop("stdout", None) or Nowhere()
        if isinstance(sink, FdSink):
            os.set_blocking(sink.poll_fd, False)
        self._finish_sinks()
        self._outputs.append(Copy(self._loop, _dup(console), sink, self._drained))
        if self._stdin_source >= 0:
            self._start_input(FdSink(self._loop, _dup(console), splice=False))

    def _finish_sinks(self) -> None:
        """Let go of the sinks that nothing is copied to."""
        for unused in self._sinks.values():
            unused.finish()
        self._sinks.clear()

    def resize(self, columns: int, rows: int) -> None:
        """Set the size of the terminal.

        Raises:
          FailedPrecondition: there is none.
        """
        if self._console < 0:
            raise FailedPrecondition("resize: the process has no terminal, or not yet")
        fcntl.ioctl(self._console, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close_stdin(self) -> None:
        """Let stdin end when its other writers have closed; harmless twice."""
        if self._stdin_hold >= 0:
            os.close(self._stdin_hold)
            self._stdin_hold = -1

    def reopen_logs(self) -> None:
        """Open log files anew.

        Raises:
          InvalidArgument: one cannot be opened.
        """
        for file in self._files.values():
            file.reopen()

    @property
    def draining(self) -> bool:
        """Whether output is still on its way."""
        return any(not copy.over for copy in self._outputs)

    def ended(self) -> None:
        """The process is gone: move what it wrote, for at most 10 s. Returns at once."""
        self._end_input()
        if self._timer is None:
            if self.draining:
                self._timer = self._loop.call_later(_DRAIN_S, self._end_outputs)
            if self._logger is not None:
                self._logger.finish_later()

    def _drained(self) -> None:
        """One output has come to its end; after the last there is nothing to wait for."""
        if self._timer is not None and not self.draining:
            self._timer.cancel()

    def _end_input(self) -> None:
        if self._input is not None:
            self._input.end()
            self._input = None
        if self._stdin_source >= 0:
            os.close(self._stdin_source)
            self._stdin_source = -1
        self.close_stdin()

    def _end_outputs(self) -> None:
        for copy in self._outputs:
            copy.end()
        if self._console >= 0:
            os.close(self._console)
            self._console = -1

    def close(self) -> None:
        """The process is deleted: nobody will resize its terminal any more; outputs may drain."""
        self.ended()
        if self._console >= 0:
            os.close(self._console)
            self._console = -1

    def abandon(self) -> None:
        """Drop everything now: the process was not born, or the shim ends."""
        self._end_input()
        self._finish_sinks()
        for fd in self._child:
            os.close(fd)
        self._child.clear()
        self._end_outputs()
        if self._logger is not None:
            self._logger.finish_later()


def _dup(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
