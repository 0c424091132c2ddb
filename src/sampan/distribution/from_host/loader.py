"""Where the dynamic loader finds a library, without running it.

In ld.so's order: RPATH of the file and of who needed it (when the file has no RUNPATH), RUNPATH of
the file alone, the cache, the default folders. LD_LIBRARY_PATH is not looked at: an image must not
depend on the environment it was made in.

Source: ld.so(8); glibc sysdeps/generic/dl-cache.h for the cache.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sampan.distribution.from_host import elf
from sampan.distribution.from_host.elf import Elf

__all__ = ["Loader"]

_CACHE_MAGIC: Final = b"glibc-ld.so.cache1.1"
_CACHE_MAX: Final = 64 << 20
_ENTRY: Final = struct.Struct("=iIIIQ")
_TRIPLETS: Final = {
    (64, 62): "x86_64-linux-gnu",
    (64, 183): "aarch64-linux-gnu",
    (32, 3): "i386-linux-gnu",
    (32, 40): "arm-linux-gnueabihf",
    (64, 243): "riscv64-linux-gnu",
    (64, 22): "s390x-linux-gnu",
    (64, 21): "powerpc64le-linux-gnu",
}


class Loader:
    """Finds libraries below one root; remembers the cache file."""

    def __init__(self, cache: Path = Path("/etc/ld.so.cache")) -> None:
        """Read `cache`, if it is there."""
        self._cache = _read_cache(cache)

    def find(self, name: str, needer: str, file: Elf, inherited: Sequence[str] = ()) -> str | None:
        """Return the path of library `name`, or None.

        Args:
          name: From DT_NEEDED; with a slash it is a path.
          needer: Path of the file that needs it, links resolved, for $ORIGIN.
          file: The file that needs it.
          inherited: RPATH folders of those that needed the needer.
        """
        if "/" in name:
            return name if self._fits(name, file) else None
        for folder in self._folders(needer, file, inherited):
            candidate = f"{folder}/{name}"
            if self._fits(candidate, file):
                return candidate
        return None

    def rpath(self, needer: str, file: Elf) -> tuple[str, ...]:
        """Return the RPATH folders that what `needer` loads inherits."""
        return () if file.runpath else tuple(_expanded(file.rpath, needer, file))

    def _folders(self, needer: str, file: Elf, inherited: Sequence[str]) -> Iterator[str]:
        if not file.runpath:
            yield from _expanded(file.rpath, needer, file)
            yield from inherited
        yield from _expanded(file.runpath, needer, file)
        yield from self._cached(file)
        triplet = _TRIPLETS.get(file.abi)
        if triplet:
            yield from (f"/lib/{triplet}", f"/usr/lib/{triplet}")
        if file.bits == 64:
            yield from ("/lib64", "/usr/lib64")
        yield from ("/lib", "/usr/lib")

    def _cached(self, file: Elf) -> Iterator[str]:
        yield from self._cache

    def _fits(self, path: str, needer: Elf) -> bool:
        """Tell whether the loader would take it: one for another processor is passed over."""
        try:
            with open(path, "rb") as stream:
                if stream.read(4) != elf.MAGIC:
                    return False
                stream.seek(0)
                return elf.read(stream, path).abi == needer.abi
        except OSError:
            return False


def _expanded(folders: Sequence[str], needer: str, file: Elf) -> Iterator[str]:
    origin = os.path.dirname(needer)
    lib = "lib64" if file.bits == 64 else "lib"
    for folder in folders:
        for token, value in (("ORIGIN", origin), ("LIB", lib)):
            folder = folder.replace(f"${{{token}}}", value).replace(f"${token}", value)  # noqa: PLW2901
        if folder.startswith("/") and "$" not in folder:
            yield os.path.normpath(folder)


def _read_cache(path: Path) -> list[str]:
    """Return the folders that the cache knows, in its order; an unknown format is an empty cache.

    Folders serve as well as the entries, since a candidate is opened and checked anyway; those for
    special processors (glibc-hwcaps) are left out, so that the image runs elsewhere, too.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_CACHE_MAX)
    except OSError:
        return []
    start = data.find(_CACHE_MAGIC)
    if start < 0 or len(data) < start + 48:
        return []
    data = data[start:]
    count = min(struct.unpack_from("=I", data, 20)[0], (len(data) - 48) // _ENTRY.size)
    folders: dict[str, None] = {}
    for number in range(count):
        _, _, value, _, hwcap = _ENTRY.unpack_from(data, 48 + number * _ENTRY.size)
        end = data.find(b"\0", value)
        if hwcap == 0 and 0 < value < end:
            folders[os.path.dirname(os.fsdecode(data[value:end]))] = None
    return [folder for folder in folders if folder.startswith("/")]
