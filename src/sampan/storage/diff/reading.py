"""A layer's archive as entries, and their names as components: what an applier works through."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.storage.compression import Stream
from sampan.storage.tar import Caps, Entry
from sampan.storage.tar.parser import END, Parser

__all__ = ["MissingLink", "entries", "name_parts"]


class MissingLink(FailedPrecondition):
    """A hard link to, or a path through, something that only a lower layer has."""


def entries(stream: Stream, caps: Caps) -> Iterator[Entry]:
    """Yield a stream's entries; the caller consumes `entry.stored` bytes before the next."""
    parser = Parser(caps)
    while block := stream.read(512):
        step = parser.block(block)
        if type(step) is Entry:
            yield step
            if rest := -step.stored % 512:
                stream.read(rest)
        elif step is END:
            return
        elif type(step) is int:
            data = stream.read(step)
            if len(data) != step:
                raise InvalidArgument("tar: archive is truncated within an extended header")
            parser.payload(data)


def name_parts(name: bytes) -> list[bytes]:
    """Return the components of a name, with a leading `/` and every `.` dropped.

    Raises:
      InvalidArgument: a component is `..`.
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise InvalidArgument(f"tar: name leaves the root by '..': {name[:160]!r}")
    return parts
