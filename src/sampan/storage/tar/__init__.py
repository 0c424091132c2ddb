"""The tar format alone: header blocks in, entries out, and the way back. No I/O anywhere in here.

    parser.Parser    takes 512-byte blocks, returns entries; says how many bytes it wants next
    sparse           the four ways GNU tar writes files with holes
    pax              extended header records
    writer           an entry to its header bytes, always the same for the same entry

Read are ustar, pax (paths, sizes, ids, times to the nanosecond, `SCHILY.xattr.*`), GNU long names
and links, base-256 numbers, and GNU sparse files old, 0.0, 0.1 and 1.0. Global pax headers are
checked and change nothing, as in containerd, so that a layer means the same tree to both.

Names are bytes, exactly as they stand in the archive. An archive is hostile: numbers are digits and
nothing else, and every size and count has a cap.

Source: POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

__all__ = [
    "BLOCK",
    "BLOCK_DEVICE",
    "CHAR_DEVICE",
    "DIRECTORY",
    "FIFO",
    "FILE",
    "HARD_LINK",
    "SYMLINK",
    "Caps",
    "Entry",
]

BLOCK = 512

FILE = ord("0")
HARD_LINK = ord("1")
SYMLINK = ord("2")
CHAR_DEVICE = ord("3")
BLOCK_DEVICE = ord("4")
DIRECTORY = ord("5")
FIFO = ord("6")


class Caps:
    """The most that an archive may ask for. A plain class: workers start cold."""

    __slots__ = ("entries", "extended", "path", "ratio", "ratio_from", "sparse", "total", "xattrs")

    def __init__(
        self,
        *,
        entries: int = 5_000_000,
        extended: int = 1 << 20,
        path: int = 4095,
        sparse: int = 65_536,
        xattrs: int = 256,
        total: int = 1 << 40,
        ratio: int = 300,
        ratio_from: int = 1 << 30,
    ) -> None:
        """Set caps.

        Args:
          entries: Members of the archive.
          extended: Bytes of one extended header, long name, or sparse map.
          path: Bytes of one name or link target.
          sparse: Pieces of data in one sparse file.
          xattrs: Extended attributes of one member.
          total: Bytes of the uncompressed archive, and of all files as they will look.
          ratio: Uncompressed over compressed bytes; DEFLATE itself ends at 1032.
          ratio_from: Uncompressed bytes from which on `ratio` is looked at.
        """
        self.entries = entries
        self.extended = extended
        self.path = path
        self.sparse = sparse
        self.xattrs = xattrs
        self.total = total
        self.ratio = ratio
        self.ratio_from = ratio_from


class Entry:
    """One member, with extended headers already applied. Plain slots: 50,000 are made a second."""

    __slots__ = (
        "gid",
        "linkname",
        "major",
        "map_in_data",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "sparse",
        "stored",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(
        self,
        name: bytes,
        type: int = FILE,
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime_ns: int = 0,
        linkname: bytes = b"",
        major: int = 0,
        minor: int = 0,
        xattrs: dict[bytes, bytes] | None = None,
        stored: int | None = None,
        sparse: list[tuple[int, int]] | None = None,
        map_in_data: bool = False,
    ) -> None:
        """Describe a member.

        Args:
          name: As in the archive: unchecked, maybe absolute or with `..`.
          type: One of this module's constants.
          mode: Permission bits, setuid and friends included.
          uid: Owner.
          gid: Group.
          size: Bytes the file will have.
          mtime_ns: Modification time in nanoseconds since the epoch.
          linkname: Target of a link.
          major: Device number.
          minor: Device number.
          xattrs: Extended attributes.
          stored: Bytes of data that follow the header, without padding; None is `size`.
          sparse: (offset, length) of each piece of data, ascending; None is one piece.
          map_in_data: GNU sparse 1.0: the map begins the data, see `sparse.Map10`.
        """
        self.name = name
        self.type = type
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.mtime_ns = mtime_ns
        self.linkname = linkname
        self.major = major
        self.minor = minor
        self.xattrs = xattrs
        self.stored = size if stored is None else stored
        self.sparse = sparse
        self.map_in_data = map_in_data

    def __repr__(self) -> str:
        return f"Entry({self.name[:80]!r}, {chr(self.type)!r}, size={self.size})"
