"""Files as sinks: bare (`file://`), or as lines with time and stream (`sampan-log://`).

A full disk does not stop a container: what cannot be written is dropped.
"""

from __future__ import annotations

import _json
import contextlib
import os
import time

from sampan.errors import InvalidArgument

__all__ = ["LogFile", "LogSink"]

_LINE_MAX_BYTES = 16 << 10
_LINE_MOST_BYTES = 8 << 20
"""Without a limit: so much of a line that does not end is held in memory."""
_SIZE_DEFAULT, _FILES_DEFAULT, _FILES_MAX = 16 << 20, 3, 100


class LogFile:
    """One file, shared by the streams that write into it; owns its fd."""

    def __init__(
        self,
        path: str,
        format: str,
        size_max_bytes: int,
        files: int,
        fd: int = -1,
        line_max_bytes: int = _LINE_MAX_BYTES,
    ) -> None:
        self.path = path
        self.line_max = line_max_bytes
        self.format = format
        self._size_max = size_max_bytes
        self._files = files
        self._users = 0
        self._fd = fd
        self._size = 0
        if fd < 0:
            self.reopen()
        else:
            self._size = os.fstat(fd).st_size

    @classmethod
    def from_uri(cls, path: str, query: dict[str, str]) -> LogFile:
        """Open what a `sampan-log:` URI names.

        Raises:
          InvalidArgument: an unknown key or format, a bad number, or it cannot be opened.
        """
        known = {"format", "max-size", "max-files", "max-line", "attach"}
        if unknown := set(query) - known:
            raise InvalidArgument(f"sampan-log: unknown {', '.join(sorted(unknown))}")
        form = query.get("format", "json-file")
        if form not in ("json-file", "cri", "raw"):
            raise InvalidArgument(f"sampan-log: format {form!r} is none of json-file, cri, raw")
        size = _number(query, "max-size", _SIZE_DEFAULT, 1 << 62)
        files = _number(query, "max-files", _FILES_DEFAULT, _FILES_MAX)
        line = _number(query, "max-line", _LINE_MAX_BYTES, _LINE_MOST_BYTES)
        return cls(path, form, size, max(1, files), line_max_bytes=line or _LINE_MOST_BYTES)

    def reopen(self) -> None:
        """Open the path anew: somebody has renamed the file.

        Raises:
          InvalidArgument: it cannot be opened; the old file stays in use.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(self.path, flags, 0o644)
        except OSError as err:
            raise InvalidArgument(f"open {self.path} for appending: {err.strerror}") from err
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def save(self) -> tuple[str, str, int, int, int, int]:
        """Return the arguments that make another on the same fd."""
        return self.path, self.format, self._size_max, self._files, self._fd, self.line_max

    @property
    def open(self) -> bool:
        """Whether anybody still writes into it."""
        return self._fd >= 0

    def retain(self) -> None:
        """Count one more user."""
        self._users += 1

    def release(self) -> None:
        """Count one user less; the last closes."""
        self._users -= 1
        if not self._users:
            os.close(self._fd)
            self._fd = -1

    def append(self, data: bytes) -> None:
        """Write all of `data`, rotating first if it would not fit."""
        if self._size_max and self._size and self._size + len(data) > self._size_max:
            with contextlib.suppress(OSError, InvalidArgument):
                self._rotate()
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd, view)
            except OSError:
                return
            self._size += written
            view = view[written:]

    def _rotate(self) -> None:
        for number in range(self._files - 1, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")
        if self._files > 1:
            os.rename(self.path, f"{self.path}.1")
        else:
            os.unlink(self.path)
        self.reopen()


class LogSink:
    """One stream into a LogFile; cuts lines longer than 16 KiB, or `max-line`."""

    splice_fd = -1
    poll_fd = -1
    survives = False

    def __init__(self, file: LogFile, stream: str, partial: bytes = b"") -> None:
        self._file = file
        self._stream = stream
        self._partial = partial
        self._line = {"json-file": self._json, "cri": self._cri}.get(file.format)
        self._open = True
        file.retain()

    def save(self) -> tuple[str, str, str, bytes]:
        """See copying.Sink."""
        return "log", self._file.path, self._stream, self._partial

    def write(self, data: bytes) -> int:
        """See copying.Sink; takes everything."""
        if self._line is None:
            self._file.append(data)
            return len(data)
        *lines, rest = (self._partial + data).split(b"\n")
        for line in lines:
            self._emit(line, whole=True)
        most = self._file.line_max
        while len(rest) >= most:
            self._put(rest[:most], whole=False)
            rest = rest[most:]
        self._partial = rest
        return len(data)

    def _emit(self, line: bytes, *, whole: bool) -> None:
        most = self._file.line_max
        while len(line) > most:
            self._put(line[:most], whole=False)
            line = line[most:]
        self._put(line, whole=whole)

    def _put(self, line: bytes, *, whole: bool) -> None:
        assert self._line is not None  # noqa: S101
        self._file.append(self._line(line, whole))

    def _json(self, line: bytes, whole: bool) -> bytes:
        # Bytes that are no UTF-8 become \\udcXX: valid JSON, from which readers get them back.
        text = _json.encode_basestring(
            line.decode(errors="surrogateescape") + ("\n" if whole else "")
        )
        entry = f'{{"log":{text},"stream":"{self._stream}","time":"{_now()}"}}\n'
        return entry.encode(errors="backslashreplace")

    def _cri(self, line: bytes, whole: bool) -> bytes:
        return f"{_now()} {self._stream} {'F' if whole else 'P'} ".encode() + line + b"\n"

    def finish(self) -> None:
        """Write the last line that has no end, and let go of the file."""
        if self._open:
            self._open = False
            if self._partial:
                self._put(self._partial, whole=False)
                self._partial = b""
            self._file.release()


def _now() -> str:
    """RFC 3339 with nanoseconds, UTC."""
    now = time.time_ns()
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    return f"{date}.{now % 1_000_000_000:09d}Z"


def _number(query: dict[str, str], key: str, default: int, most: int) -> int:
    text = query.get(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise InvalidArgument(f"sampan-log: {key}={text!r} is no number up to {most}")
    return int(text)
