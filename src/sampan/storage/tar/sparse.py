"""Files with holes, in the four ways GNU tar has written them.

    old     type `S`: four pieces in the header, 21 in each following block
    0.0     pax records GNU.sparse.offset and .numbytes, repeated
    0.1     pax record GNU.sparse.map: all numbers with commas
    1.0     the numbers as lines of text before the data, padded to a block

A map is a list of (offset, length), which must ascend and fit into the file: what CVE-2025-58183
lacked was the cap on its length.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument, ResourceExhausted
from sampan.storage.tar.numbers import decimal, field

__all__ = ["Map10", "checked", "from_text", "old_pieces"]


def checked(
    pieces: list[tuple[int, int]], size: int, stored: int, limit: int
) -> list[tuple[int, int]]:
    """Return `pieces` without empty ones, once they prove to be a map of that file.

    Raises:
      InvalidArgument: they overlap, descend, pass the end, or are not as long as the data.
      ResourceExhausted: more than `limit`.
    """
    if len(pieces) > limit:
        raise ResourceExhausted(f"sparse file: {len(pieces)} pieces, more than {limit}")
    at = total = 0
    for offset, length in pieces:
        if offset < at or length < 0:
            raise InvalidArgument(f"sparse file: piece at {offset} overlaps the one before")
        at = offset + length
        total += length
    if at > size or total != stored:
        raise InvalidArgument(
            f"sparse file: map of {total} bytes up to {at}, but {stored} stored, size {size}"
        )
    return [piece for piece in pieces if piece[1]]


def old_pieces(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """Return the pieces of an old GNU header (start 386, 4) or its continuation (0, 21)."""
    pieces = []
    for at in range(start, start + 24 * count, 24):
        raw = block[at : at + 24]
        if not raw[0] or not raw[12]:
            break
        pieces.append((field(raw[:12], "sparse offset"), field(raw[12:], "sparse size")))
    return pieces


def from_text(text: bytes, limit: int) -> list[tuple[int, int]]:
    """Return the pieces of a comma-separated list, as in version 0.1.

    Raises:
      InvalidArgument: an odd count, or other than numbers.
      ResourceExhausted: more than `limit` pieces.
    """
    if text.count(b",") >= 2 * limit:
        raise ResourceExhausted(f"sparse file: more than {limit} pieces")
    numbers = [decimal(one, "sparse map") for one in text.split(b",")] if text else []
    if len(numbers) % 2:
        raise InvalidArgument("sparse file: map has an odd count of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


class Map10:
    """Reads the map of version 1.0 from the first blocks of the data.

    Feed blocks of 512 bytes until `feed` returns the map; `size` counts what they took.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._text = b""
        self._numbers: list[int] = []
        self._wanted = 1

    def feed(self, block: bytes) -> list[tuple[int, int]] | None:
        """Take the next block; return the map when it is complete.

        Raises:
          InvalidArgument: other than numbers, a line each.
          ResourceExhausted: more than `limit` pieces.
        """
        self.size += len(block)
        lines = (self._text + block).split(b"\n")
        self._text = lines.pop()
        if len(self._text) > 20 and len(self._numbers) + len(lines) < self._wanted:
            raise InvalidArgument("sparse file: map has a line that is no number")
        for line in lines:
            if len(self._numbers) == self._wanted:
                break
            self._numbers.append(decimal(line, "sparse map"))
            if len(self._numbers) == 1:
                if self._numbers[0] > self._limit:
                    raise ResourceExhausted(f"sparse file: {self._numbers[0]} pieces")
                self._wanted = 1 + 2 * self._numbers[0]
        if len(self._numbers) < self._wanted:
            return None
        return list(zip(self._numbers[1::2], self._numbers[2::2], strict=True))
