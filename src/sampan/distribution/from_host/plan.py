"""Which files make an image: from a few paths to the closure of what they need.

program       ELF: interpreter and libraries        script: the interpreter of its first line
              a Python interpreter: its standard library with lib-dynload, found by its path
folder        everything in it, with the libraries of the ELF files among it
on the way    every folder and every link that leads to one of these
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sampan.distribution.from_host import elf
from sampan.distribution.from_host.elf import Elf
from sampan.distribution.from_host.loader import Loader
from sampan.errors import InvalidArgument, NotFound

__all__ = ["Member", "Plan"]

_UNREAL: Final = ("/proc", "/sys", "/dev", "/run")
_LINKS_MAX: Final = 40
_SHEBANG_MAX: Final = 256
_WRAPPERS: Final = frozenset({"env"})


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the host, or bytes made up, at an absolute path of the image."""

    path: str
    status: os.stat_result | None = None
    """As lstat(2) said; None for made-up content."""
    target: str = ""
    """Of a symbolic link."""
    data: bytes | None = None
    """Made-up content; None with `status` None is a folder."""
    mode: int = 0


class Plan:
    """A growing set of members; later groups leave out what earlier ones have."""

    def __init__(self, *, search_path: str, loader: Loader | None = None) -> None:
        """Begin with nothing."""
        self._search_path = search_path
        self._loader = loader or Loader()
        self._members: dict[str, Member] = {}
        self._taken: set[str] = set()
        self._seen: set[str] = set()

    def add(self, name: str) -> str:
        """Add a path, or a program by its name; return its absolute path.

        Raises:
          NotFound: no such file; or a library or interpreter that it needs is missing.
          InvalidArgument: not a path that can be in an image.
        """
        path = name
        if "/" not in name:
            found = shutil.which(name, path=self._search_path)
            if found is None:
                raise NotFound(f"program {name!r} is not on {self._search_path}")
            path = found
        if not path.startswith("/"):
            raise InvalidArgument(f"path {name!r}: give an absolute path or the name of a program")
        path = os.path.normpath(path)
        if path == "/" or any(path == bad or path.startswith(f"{bad}/") for bad in _UNREAL):
            raise InvalidArgument(f"path {path}: cannot be put into an image")
        real = self._walk(path)
        if stat.S_ISDIR(os.lstat(real).st_mode):
            self._tree(real)
        else:
            self._file(real)
        return path

    def make(self, path: str, data: bytes | None, mode: int) -> None:
        """Add a file with content of ours, or with None a folder, unless the host's is there."""
        if path not in self._members and path not in self._taken:
            if os.path.dirname(path) != "/":
                self.make(os.path.dirname(path), None, 0o755)
            self._members[path] = Member(path, data=data, mode=mode)

    def take(self) -> list[Member]:
        """Return what was added since the last call, sorted, parents first."""
        members = [self._members[path] for path in sorted(self._members)]
        self._taken.update(self._members)
        self._members = {}
        return members

    def _put(self, path: str, status: os.stat_result, target: str = "") -> None:
        if path not in self._taken:
            self._members[path] = Member(path, status, target)

    def _walk(self, path: str) -> str:
        """Add every folder and link on the way to `path`; return the path without links."""
        todo = path.strip("/").split("/")[::-1]
        here, links = "", 0
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                here = os.path.dirname(here).rstrip("/")
                continue
            at = f"{here}/{name}"
            try:
                status = os.lstat(at)
            except OSError as err:
                raise NotFound(f"{path}: {err.strerror} at {at}") from err
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _LINKS_MAX:
                    raise InvalidArgument(f"{path}: more than {_LINKS_MAX} symbolic links")
                target = os.readlink(at)
                self._put(at, status, target)
                if target.startswith("/"):
                    here = ""
                todo += target.split("/")[::-1]
                continue
            if stat.S_ISDIR(status.st_mode):
                self._put(at, status)
            elif todo:
                raise NotFound(f"{path}: {at} is no folder")
            here = at
        return here or "/"

    def _file(self, real: str, inherited: tuple[str, ...] = ()) -> None:
        """Add a regular file, whose way is added already, and what it needs."""
        if real in self._seen:
            return
        self._seen.add(real)
        status = os.lstat(real)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(f"{real} is neither a file nor a folder")
        self._put(real, status)
        self._needs(real, inherited)

    def _needs(self, real: str, inherited: tuple[str, ...] = ()) -> None:
        try:
            with open(real, "rb") as stream:
                head = stream.read(_SHEBANG_MAX)
                if head[:4] == elf.MAGIC:
                    stream.seek(0)
                    found: Elf | None = elf.read(stream, real)
                else:
                    found = None
        except OSError as err:
            raise NotFound(f"{real}: {err.strerror}") from err
        if found is not None:
            self._libraries(real, found, inherited)
            if os.path.basename(real).startswith("python3"):
                self._python(real)
        elif head[:2] == b"#!":
            self._script(real, head[2:].split(b"\n", 1)[0].decode("utf-8", "surrogateescape"))

    def _libraries(self, real: str, file: Elf, inherited: tuple[str, ...]) -> None:
        if file.interpreter:
            self._file(self._walk(file.interpreter))
        passed = (*self._loader.rpath(real, file), *inherited)
        for name in file.needed:
            found = self._loader.find(name, real, file, inherited)
            if found is None:
                raise NotFound(f"{real} needs the library {name}, which is not installed")
            self._file(self._walk(found), passed)

    def _script(self, real: str, line: str) -> None:
        words = line.split()
        if not words or not words[0].startswith("/"):
            return
        if not os.path.exists(words[0]):
            # Folders are full of scripts for interpreters that nobody has.
            return
        self._file(self._walk(words[0]))
        if os.path.basename(words[0]) in _WRAPPERS:
            names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            found = shutil.which(names[0], path=self._search_path) if names else None
            if found:
                self._file(self._walk(found))

    def _python(self, real: str) -> None:
        """Add the standard library of an interpreter: PREFIX/lib/pythonX.Y beside PREFIX/bin."""
        prefix = os.path.dirname(os.path.dirname(real))
        library = f"{prefix}/lib/{os.path.basename(real)}"
        if not os.path.exists(f"{library}/os.py"):
            raise NotFound(f"{real}: its standard library is not in {library}")
        if library not in self._seen:
            self._seen.add(library)
            self._tree(self._walk(library), skip=frozenset({"test"}))

    def _tree(self, top: str, skip: frozenset[str] = frozenset()) -> None:
        needy: list[str] = []
        for path, status in _scan(top, skip):
            mode = status.st_mode
            if stat.S_ISLNK(mode):
                self._put(path, status, os.readlink(path))
                needy.append(path)
            elif stat.S_ISDIR(mode):
                self._put(path, status)
            elif stat.S_ISREG(mode):
                self._put(path, status)
                if mode & 0o111 or ".so" in path:
                    needy.append(path)
        for path in needy:
            self._closure(path)

    def _closure(self, path: str) -> None:
        """Add what a file in a tree needs, as far as it is here: a tree is taken as it is."""
        try:
            if os.path.islink(path):
                if os.path.isfile(path) and not path_is_unreal(os.path.realpath(path)):
                    self._file(self._walk(path))
            elif path not in self._seen:
                self._seen.add(path)
                self._needs(path)
        except (NotFound, InvalidArgument):
            return


def path_is_unreal(path: str) -> bool:
    """Tell whether a path lies where the kernel or the running system keeps its own."""
    return any(path == bad or path.startswith(f"{bad}/") for bad in _UNREAL)


def _scan(top: str, skip: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    stack = [top]
    while stack:
        folder = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in skip and folder == top:
                    continue
                status = entry.stat(follow_symlinks=False)
                yield entry.path, status
                if stat.S_ISDIR(status.st_mode) and not path_is_unreal(entry.path):
                    stack.append(entry.path)
