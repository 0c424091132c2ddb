"""Header blocks in, entries out: a state machine that the reader of a stream turns by hand.

    parser = Parser(caps)
    while (block := read(512)):                    # exactly 512 bytes
        step = parser.block(block)
        if step is None: continue                  # want the next block
        if type(step) is int: step = parser.payload(read(step))   # an extended header's bytes
        if step is END: break
        ...                                        # an Entry: its data follows, padded to a block

A malformed header raises InvalidArgument, one beyond the caps ResourceExhausted; nothing is
guessed.
"""

from __future__ import annotations

from struct import Struct

from sampan.errors import InvalidArgument, ResourceExhausted
from sampan.storage.tar import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    Caps,
    Entry,
)
from sampan.storage.tar import pax as pax_format
from sampan.storage.tar import sparse as sparse_format
from sampan.storage.tar.numbers import decimal, field, nanoseconds

__all__ = ["END", "Parser"]

_FIELDS = Struct("100s8s8s8s12s12s8sB100s6s2s64s8s8s155s12x")
_ZERO = bytes(512)

_LONG_NAME = ord("L")
_LONG_LINK = ord("K")
_PAX = ord("x")
_PAX_GLOBAL = ord("g")
_OLD_SPARSE = ord("S")
_EXTENSIONS = frozenset((_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL))
_WITHOUT_DATA = frozenset((HARD_LINK, SYMLINK, CHAR_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO))
_FILES = {0: FILE, ord("7"): FILE, FILE: FILE}
_XATTR = b"SCHILY.xattr."
_MOST_ID = (1 << 32) - 2
_IN_A_ROW = 32


class _End:
    """The type of END."""


END = _End()
"""The archive is over; what follows is padding."""


class Parser:
    """One archive's state: extended headers that wait for their entry, and the counts."""

    def __init__(self, caps: Caps | None = None) -> None:
        self._caps = caps or Caps()
        self._entries = 0
        self._total = 0
        self._pending = 0
        self._zero = False
        self._row = 0
        self._name: bytes | None = None
        self._link: bytes | None = None
        self._pax: list[tuple[bytes, bytes]] | None = None
        self._continued: tuple[Entry, list[tuple[int, int]]] | None = None

    def block(self, block: bytes) -> Entry | int | _End | None:
        """Take a header block of 512 bytes.

        Returns:
          An entry; END; None to be called with the next block; or how many bytes of an extended
          header, padding included, `payload` wants before anything else.
        """
        if self._continued is not None:
            return self._continuation(block)
        if block == _ZERO:
            if self._zero:
                return END
            self._zero = True
            return None
        if self._zero:
            raise InvalidArgument("tar: a single block of zeros inside the archive")
        raw = _FIELDS.unpack(block)
        said = field(raw[6], "checksum")
        if sum(block) - sum(raw[6]) + 256 != said:
            raise InvalidArgument("tar: header checksum does not match; damaged, or not an archive")
        kind = raw[7]
        if kind in _EXTENSIONS:
            return self._extension(kind, field(raw[4], "size"))
        return self._entry(kind, raw, block)

    def payload(self, data: bytes) -> None:
        """Take the bytes that `block` asked for."""
        kind, size = divmod(self._pending, 1 << 40)
        data = data[:size]
        if kind == _LONG_NAME:
            self._name = self._path(data.split(b"\0", 1)[0], "long name")
        elif kind == _LONG_LINK:
            self._link = self._path(data.split(b"\0", 1)[0], "long link")
        else:
            found = list(pax_format.records(data))
            if kind == _PAX:
                self._pax = found

    def _extension(self, kind: int, size: int) -> int | None:
        if not 0 <= size <= self._caps.extended:
            raise ResourceExhausted(
                f"tar: extended header of {size} bytes, more than {self._caps.extended}"
            )
        self._row += 1
        if self._row > _IN_A_ROW:
            raise InvalidArgument(f"tar: more than {_IN_A_ROW} extended headers in a row")
        if not size:
            return None
        self._pending = (kind << 40) + size
        return (size + 511) & ~511

    def _path(self, value: bytes, what: str) -> bytes:
        if len(value) > self._caps.path:
            raise InvalidArgument(f"tar: {what} of {len(value)} bytes, more than {self._caps.path}")
        if b"\0" in value:
            raise InvalidArgument(f"tar: {what} contains NUL: {value[:80]!r}")
        return value

    def _entry(self, kind: int, raw: tuple[bytes, ...], block: bytes) -> Entry | None:
        self._row = 0
        self._entries += 1
        if self._entries > self._caps.entries:
            raise ResourceExhausted(f"tar: more than {self._caps.entries} entries")
        name = raw[0].split(b"\0", 1)[0]
        if raw[9] == b"ustar\0" and raw[14][0]:
            name = raw[14].split(b"\0", 1)[0] + b"/" + name
        type_ = _FILES.get(kind, kind)
        entry = Entry(
            name if self._name is None else self._name,
            type_,
            mode=field(raw[1], "mode") & 0o7777,
            uid=field(raw[2], "uid"),
            gid=field(raw[3], "gid"),
            size=field(raw[4], "size"),
            mtime_ns=max(-(1 << 36), min(field(raw[5], "mtime"), 1 << 36)) * 1_000_000_000,
            linkname=raw[8].split(b"\0", 1)[0] if self._link is None else self._link,
        )
        if type_ in (CHAR_DEVICE, BLOCK_DEVICE):
            entry.major = field(raw[12], "device major")
            entry.minor = field(raw[13], "device minor")
        self._name = self._link = None
        pieces: list[tuple[int, int]] | None = None
        if self._pax is not None:
            records, self._pax = self._pax, None
            pieces = self._apply(entry, records)
        if type_ == FILE and kind != FILE and entry.name.endswith(b"/"):
            # Archives from before ustar mark folders so.
            entry.type = DIRECTORY
        if kind == _OLD_SPARSE:
            return self._old_sparse(entry, block)
        return self._finish(entry, pieces)

    def _old_sparse(self, entry: Entry, block: bytes) -> Entry | None:
        entry.type = FILE
        entry.stored = entry.size
        entry.size = field(block[483:495], "real size")
        pieces = sparse_format.old_pieces(block, 386, 4)
        if block[482]:
            self._continued = (entry, pieces)
            return None
        return self._finish(entry, pieces)

    def _continuation(self, block: bytes) -> Entry | None:
        assert self._continued is not None  # noqa: S101 - the caller has looked
        entry, pieces = self._continued
        pieces += sparse_format.old_pieces(block, 0, 21)
        if len(pieces) > self._caps.sparse:
            raise ResourceExhausted(f"sparse file: more than {self._caps.sparse} pieces")
        if block[504]:
            return None
        self._continued = None
        return self._finish(entry, pieces)

    def _finish(self, entry: Entry, pieces: list[tuple[int, int]] | None) -> Entry:
        if not entry.name:
            raise InvalidArgument("tar: an entry without a name")
        if not (0 <= entry.uid <= _MOST_ID and 0 <= entry.gid <= _MOST_ID):
            raise InvalidArgument(
                f"tar: owner {entry.uid}:{entry.gid} is out of range: {entry.name[:80]!r}"
            )
        if entry.type in _WITHOUT_DATA:
            entry.size = entry.stored = 0
        elif entry.size < 0 or entry.stored < 0:
            raise InvalidArgument(f"tar: size {entry.size} is out of range: {entry.name[:80]!r}")
        self._total += max(entry.size, entry.stored)
        if self._total > self._caps.total:
            raise ResourceExhausted(f"tar: files of more than {self._caps.total} bytes together")
        if pieces is not None:
            entry.sparse = sparse_format.checked(
                pieces, entry.size, entry.stored, self._caps.sparse
            )
        return entry

    def _apply(
        self, entry: Entry, records: list[tuple[bytes, bytes]]
    ) -> list[tuple[int, int]] | None:
        """Let the records of a pax header override `entry`; return the map of a sparse file."""
        pieces: list[tuple[int, int]] | None = None
        repeated: list[int] = []
        gnu: dict[bytes, bytes] = {}
        for key, value in records:
            if key == b"path":
                entry.name = self._path(value, "path")
            elif key == b"linkpath":
                entry.linkname = self._path(value, "linkpath")
            elif key == b"mtime":
                entry.mtime_ns = nanoseconds(value)
            elif key.startswith(_XATTR):
                self._xattr(entry, key[len(_XATTR) :], value)
            elif key == b"size":
                entry.size = entry.stored = decimal(value, "size")
            elif key == b"uid":
                entry.uid = decimal(value, "uid", _MOST_ID)
            elif key == b"gid":
                entry.gid = decimal(value, "gid", _MOST_ID)
            elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                repeated.append(decimal(value, "sparse map"))
                if len(repeated) > 2 * self._caps.sparse:
                    raise ResourceExhausted(f"sparse file: more than {self._caps.sparse} pieces")
            elif key.startswith(b"GNU.sparse."):
                gnu[key[11:]] = value
        if gnu or repeated:
            pieces = self._pax_sparse(entry, gnu, repeated)
        return pieces

    def _pax_sparse(
        self, entry: Entry, gnu: dict[bytes, bytes], repeated: list[int]
    ) -> list[tuple[int, int]] | None:
        real = gnu.get(b"realsize", gnu.get(b"size"))
        if real is None or entry.type != FILE:
            raise InvalidArgument(f"sparse file: no size, or not a file: {entry.name[:80]!r}")
        entry.stored = entry.size
        entry.size = decimal(real, "sparse size")
        if b"name" in gnu:
            entry.name = self._path(gnu[b"name"], "path")
        if gnu.get(b"major") == b"1" and gnu.get(b"minor", b"0") == b"0":
            entry.map_in_data = True
            entry.sparse = []
            return None
        if len(repeated) % 2:
            raise InvalidArgument(f"sparse file: odd count of numbers: {entry.name[:80]!r}")
        if repeated:
            return list(zip(repeated[::2], repeated[1::2], strict=True))
        return sparse_format.from_text(gnu.get(b"map", b""), self._caps.sparse)

    def _xattr(self, entry: Entry, name: bytes, value: bytes) -> None:
        if entry.xattrs is None:
            entry.xattrs = {}
        if not name or len(name) > 255 or b"\0" in name or len(value) > 65_536:
            raise InvalidArgument(f"tar: malformed extended attribute {name[:80]!r}")
        entry.xattrs[name] = value
        if len(entry.xattrs) > self._caps.xattrs:
            raise ResourceExhausted(f"tar: more than {self._caps.xattrs} attributes in one entry")
