"""A process's stdio in this program: fifos that its shim holds, copied by a thread each.

        our stdin ─► thread ─► fifo 0 ─► shim ─► process
       our stdout ◄─ thread ◄─ fifo 1 ◄─ shim ◄─┘         each line of output goes to the log, too

The shim keeps both ends of each fifo open until the process is over, so if we are killed nothing is
lost: what is written waits in the fifo for whoever attaches next.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sampan.runtime import Stdio

__all__ = ["DETACH_KEYS", "Log", "Streams"]

DETACH_KEYS = b"\x10\x11"
"""ctrl-p ctrl-q."""
_CHUNK = 64 << 10


class Log:
    """The container's log file, written by us while we are attached."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._lock = threading.Lock()
        self._rest = {"stdout": b"", "stderr": b""}

    def write(self, stream: str, data: bytes) -> None:
        """Write whole lines, and keep the rest for later."""
        with self._lock:
            *lines, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
            for line in lines:
                self._emit(stream, line + b"\n")

    def _emit(self, stream: str, line: bytes) -> None:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        entry = {
            "log": line.decode("utf-8", "replace"),
            "stream": stream,
            "time": f"{stamp}.{now % 10**9:09d}Z",
        }
        try:
            os.write(self._fd, json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        except OSError:
            return  # a full disk must not stop the container

    def close(self) -> None:
        """Write what has no newline yet, and close."""
        with self._lock:
            for stream, rest in self._rest.items():
                if rest:
                    self._emit(stream, rest)
            os.close(self._fd)


class Streams:
    """The fifos of one process, made below `folder`, which is removed at the end."""

    def __init__(self, folder: Path, *, stdin: bool, terminal: bool, log_uri: str = "") -> None:
        """Prepare.

        Args:
          folder: Where the fifos will be.
          stdin: Whether our stdin is passed on.
          terminal: Whether the process has a terminal: one stream of output.
          log_uri: Where output goes in place of fifos; whoever wants to see it reads the log.
        """
        self.folder = folder
        self._log_uri = log_uri
        self._terminal = terminal
        self._stdin = stdin
        self._threads: list[threading.Thread] = []
        self._outputs: dict[int, int] = {}
        self._input = -1
        self.on_broken: Callable[[], None] = lambda: None
        """Called by a thread when nobody reads our stdout or stderr any more."""

    @property
    def stdio(self) -> Stdio:
        """What the shim is told."""
        return Stdio(
            stdin=str(self.folder / "0") if self._stdin else "",
            stdout=self._log_uri or str(self.folder / "1"),
            stderr="" if self._terminal else self._log_uri or str(self.folder / "2"),
            terminal=self._terminal,
        )

    def make(self) -> None:
        """Make the folder and the fifos, and open those that we shall read.

        Before the shim does: a process may be over, and the shim have closed its ends, before we
        come to read. What it wrote waits for us as long as one end is open, and that is ours.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in self._numbers():
            # Left by a client that was killed, whose task has ended since.
            (self.folder / str(number)).unlink(missing_ok=True)
            os.mkfifo(self.folder / str(number), 0o600)
            if number:
                self._outputs[number] = _open_output(self.folder / str(number))

    def _numbers(self) -> list[int]:
        out = not self._log_uri
        wanted = ((0, self._stdin), (1, out), (2, out and not self._terminal))
        return [number for number, made in wanted if made]

    def connect(
        self, log: Log | None, on_eof: Callable[[], None], on_detach: Callable[[], None]
    ) -> None:
        """Start copying; the shim has opened its ends.

        Args:
          log: Where output is kept.
          on_eof: Called by a thread when our stdin ended.
          on_detach: Called by a thread when the detach keys were typed.
        """
        for number, stream in ((1, "stdout"), (2, "stderr")):
            if number in self._numbers():
                fd = self._outputs.pop(number, -1)
                if fd < 0:
                    fd = _open_output(self.folder / str(number))
                os.set_blocking(fd, True)
                self._start(_copy_out, fd, number, stream, log, self.on_broken)
        if self._stdin:
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._input = os.open(self.folder / "0", flags)
            except OSError as err:
                if err.errno != errno.ENXIO:
                    raise
                return  # the process is over already: nobody will read what we are told
            os.set_blocking(self._input, True)
            keys = DETACH_KEYS if self._terminal else b""
            thread = threading.Thread(
                target=_copy_in, args=(self._input, keys, on_eof, on_detach), daemon=True
            )
            thread.start()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        thread.start()
        self._threads.append(thread)

    def finish(self, timeout_s: float = 15) -> None:
        """Wait until all output has been copied."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def remove(self) -> None:
        """Remove the fifos and their folder, and close what nobody has connected."""
        while self._outputs:
            os.close(self._outputs.popitem()[1])
        for number in self._numbers():
            (self.folder / str(number)).unlink(missing_ok=True)
        try:
            self.folder.rmdir()
        except OSError:
            return


def _open_output(path: Path) -> int:
    """Open a fifo for reading; unlike a blocking open, it does not wait for a writer."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _copy_out(
    fd: int, target: int, stream: str, log: Log | None, on_broken: Callable[[], None]
) -> None:
    broken = False
    with open(fd, "rb", buffering=0) as source:
        while data := source.read(_CHUNK):
            if log is not None:
                log.write(stream, data)
            if not broken and not _write(target, data):
                broken = True
                on_broken()


def _copy_in(
    fd: int, keys: bytes, on_eof: Callable[[], None], on_detach: Callable[[], None]
) -> None:
    held = b""
    try:
        while data := os.read(0, _CHUNK):
            if keys:
                at = (held + data).find(keys)
                if at >= 0:
                    on_detach()
                    return
                data, held = held + data, b""
                if data.endswith(keys[:1]):
                    data, held = data[:-1], keys[:1]
            if not _write(fd, data):
                break
    except OSError:
        pass
    os.close(fd)
    on_eof()


def _write(fd: int, data: bytes) -> bool:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        return False
    return True
