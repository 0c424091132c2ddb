"""Streams of a layer's uncompressed bytes: gzip by ISA-L, zstd, or as they are; hashed on the way.

A `Stream` reads ahead in a thread of its own and hashes in another, so that inflating, hashing and
applying overlap; both give the interpreter's lock away while they work.
"""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import threading
import zlib
from collections.abc import Iterator

import zstandard
from isal import isal_zlib

from sampan.errors import InvalidArgument, ResourceExhausted
from sampan.storage.tar import Caps

__all__ = ["Stream", "detect"]

_READ = 256 * 1024
_CHUNK = 1 << 20
_AHEAD = 4
_ZSTD_WINDOW = 1 << 27


def detect(head: bytes) -> str:
    """Return `gzip`, `zstd` or nothing, by the first bytes of a blob."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and head[:1] >= b"\x50"):
        return "zstd"
    return ""


def _gzip(fd: int) -> Iterator[bytes]:
    """Yield the members of a gzip file, one after the other, as one stream."""
    inflater = None
    while data := os.read(fd, _READ):
        while data:
            if inflater is None:
                if not data.strip(b"\0"):
                    break
                inflater = isal_zlib.decompressobj(31)
            chunk = inflater.decompress(data, _CHUNK)
            data = inflater.unconsumed_tail
            if chunk:
                yield chunk
            if inflater.eof:
                data = inflater.unused_data
                inflater = None
    if inflater is not None:
        raise InvalidArgument("layer: gzip stream is truncated")


def _zstd(fd: int) -> Iterator[bytes]:
    """Yield all frames. A last one that is cut ends the archive early, which the parser notices."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    with (
        open(fd, "rb", buffering=0, closefd=False) as file,
        decompressor.stream_reader(file, read_size=_READ, read_across_frames=True) as reader,
    ):
        while chunk := reader.read(_CHUNK):
            yield chunk


def _plain(fd: int) -> Iterator[bytes]:
    while data := os.read(fd, _CHUNK):
        yield data


_READERS = {"gzip": _gzip, "zstd": _zstd, "": _plain}


class Stream:
    """The uncompressed bytes of the blob at an fd, in order. Close it: it has threads.

    blob fd ──thread: read, inflate──► queue ──► caller
                                 └──thread: sha256
    """

    def __init__(self, fd: int, compression: str, caps: Caps) -> None:
        """Start reading `fd` (borrowed) at its current offset."""
        self.size = 0
        """Uncompressed bytes handed out so far."""
        self._fd = fd
        self._caps = caps
        self._compression = compression
        # Of a stream processor's pipe nobody knows how much went in: only the total is capped.
        self._seekable = stat.S_ISREG(os.fstat(fd).st_mode)
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._to_hash: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._hash = hashlib.sha256()
        self._stopping = False
        self._chunk = b""
        self._at = 0
        self._ended = False
        self._threads = [
            threading.Thread(target=self._inflate, name="inflate", daemon=True),
            threading.Thread(target=self._hashing, name="hash", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _inflate(self) -> None:
        total = 0
        try:
            for chunk in _READERS[self._compression](self._fd):
                total += len(chunk)
                self._check(total)
                self._to_hash.put(chunk)
                self._chunks.put(chunk)
                if self._stopping:
                    return
            self._chunks.put(None)
        except (zlib.error, zstandard.ZstdError, EOFError) as err:
            self._chunks.put(InvalidArgument(f"layer: damaged {self._compression} stream: {err}"))
        except BaseException as err:  # noqa: BLE001 - it is raised again in the reader's thread
            self._chunks.put(err)
        finally:
            self._to_hash.put(None)

    def _check(self, total: int) -> None:
        caps = self._caps
        if total > caps.total:
            raise ResourceExhausted(f"layer: more than {caps.total} bytes uncompressed")
        if total > caps.ratio_from and self._compression and self._seekable:
            used = os.lseek(self._fd, 0, os.SEEK_CUR)
            if total > caps.ratio * max(used, 1):
                raise ResourceExhausted(
                    f"layer: {total} bytes from {used} compressed ones, more than 1:{caps.ratio}"
                )

    def _hashing(self) -> None:
        while (chunk := self._to_hash.get()) is not None:
            self._hash.update(chunk)

    def _next(self) -> bool:
        if self._ended:
            return False
        chunk = self._chunks.get()
        if chunk is None:
            self._ended = True
            return False
        if isinstance(chunk, BaseException):
            self._ended = True
            raise chunk
        self._chunk, self._at = chunk, 0
        return True

    def read(self, length: int) -> bytes:
        """Return exactly `length` bytes, or nothing at the end.

        Raises:
          InvalidArgument: the stream ends within them, or is damaged.
          ResourceExhausted: beyond the caps.
        """
        at, end = self._at, self._at + length
        chunk = self._chunk
        if end <= len(chunk):
            self._at = end
            self.size += length
            return chunk[at:end]
        data = chunk[at:]
        self._at = len(chunk)
        while len(data) < length:
            if not self._next():
                if not data:
                    return b""
                raise InvalidArgument("tar: archive is truncated")
            self._at = min(length - len(data), len(self._chunk))
            data += self._chunk[: self._at]
        self.size += length
        return data

    def pieces(self, length: int) -> Iterator[memoryview]:
        """Yield the next `length` bytes without copying them.

        Raises:
          InvalidArgument: the stream ends within them, or is damaged.
        """
        self.size += length
        while length:
            have = len(self._chunk) - self._at
            if not have:
                if not self._next():
                    raise InvalidArgument("tar: archive is truncated within a file")
                continue
            take = min(have, length)
            at = self._at
            self._at += take
            length -= take
            yield memoryview(self._chunk)[at : at + take]

    def skip(self, length: int) -> None:
        """Drop the next `length` bytes."""
        for _ in self.pieces(length):
            pass

    def finish(self) -> tuple[str, int]:
        """Read to the end; return the digest of all bytes and their count."""
        self.size += len(self._chunk) - self._at
        self._chunk, self._at = b"", 0
        while self._next():
            self.size += len(self._chunk)
        self._threads[1].join()
        return f"sha256:{self._hash.hexdigest()}", self.size

    def close(self) -> None:
        """Stop the threads, wherever they are."""
        self._stopping = True
        while self._threads[0].is_alive():
            try:
                self._chunks.get(timeout=0.01)
            except queue.Empty:
                continue
        for thread in self._threads:
            thread.join()
