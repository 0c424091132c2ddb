"""A cache of every module's code in one file, so that a start of `sampan-oci` opens two, not 250.

    <state>/exe/packs/<path of __main__.py>/     0700, root's
        boot.pyc     this module, compiled: what the launcher has Python run
        modules      a marshalled table, and after it each module's code, marshalled by itself

An entry is used while its source file has the size and the time that it had when it was packed; one
that has not is imported as ever, and the note that leads here is removed, so that the next start
makes a new pack. `boot` loads no module but those built in before the table is in place.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn

__all__ = ["boot", "write"]

_BOOT, _MODULES, _NOTE = "boot.pyc", "modules", "note"
_MAX_TABLE_BYTES = 1 << 20


class _Pack:
    """A finder and loader of what is packed."""

    def __init__(self, folder: str) -> None:
        import marshal
        import posix

        self._loads = marshal.loads
        self._stat = posix.stat
        self._folder = folder
        self.stale = False
        fd = posix.open(f"{folder}/{_MODULES}", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            size = posix.fstat(fd).st_size
            data = b""
            while len(data) < size:
                data += posix.read(fd, size - len(data))
        finally:
            posix.close(fd)
        length = int.from_bytes(data[:4], "little")
        self.source, self._table = marshal.loads(data[4 : 4 + length])  # noqa: S302  root's own
        self._data = memoryview(data)[4 + length :]
        self._frozen: Any = sys.modules["_frozen_importlib"]
        self._external: Any = sys.modules["_frozen_importlib_external"]

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Return the spec of a packed module whose file is as it was; see importlib."""
        entry = self._table.get(name)
        if entry is None:
            return None
        origin, modified_ns, size, _, length, is_package = entry
        if not self.fresh(origin, modified_ns, size):
            self.stale = True
            return None
        if not length:
            loader = self._external.ExtensionFileLoader(name, origin)
            return self._external.spec_from_file_location(name, origin, loader=loader)
        spec = self._frozen.ModuleSpec(name, self, origin=origin, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations.append(origin.rpartition("/")[0])
        return spec

    def fresh(self, origin: str, modified_ns: int, size: int) -> bool:
        try:
            found = self._stat(origin)
        except OSError:
            return False
        return (found.st_mtime_ns, found.st_size) == (modified_ns, size)

    def create_module(self, spec: object) -> None:
        """Leave it to importlib."""

    def exec_module(self, module: ModuleType) -> None:
        _, _, _, at, length, _ = self._table[module.__name__]
        exec(self._loads(self._data[at : at + length]), module.__dict__)  # noqa: S102

    def forget(self) -> None:
        """Have the next start make a new pack."""
        import posix

        try:
            with open(f"{self._folder}/{_NOTE}", "rb") as file:
                posix.unlink(file.read())
        except OSError:
            return


def boot(file: str) -> NoReturn:
    """Run `sampan-oci` from the pack beside `file`. Never returns."""
    import gc
    import posix

    gc.disable()  # a start and a birth make no garbage worth looking for
    pack = _Pack(file.rpartition("/")[0])
    sys.meta_path.insert(0, pack)  # type: ignore[arg-type]
    sys.path.append(pack.source)
    from sampan.oci.main import main

    code = 1
    try:
        code = main()
    finally:
        if pack.stale:
            pack.forget()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if sys.exc_info()[0] is None:
            # Taking the interpreter apart costs 2 ms, and there is nothing left to say.
            posix._exit(code)  # noqa: SLF001  its name in os, which need not be loaded
    raise AssertionError


def write(folder: str, source: str, note: str) -> None:
    """Pack all that the room may load, into `folder`; `note` is what `forget` removes.

    Runs in a process of its own, since it imports everything.
    """
    import marshal
    import os

    from sampan.oci import preloading

    preloading.load_all()
    __import__("sampan.oci.main")
    table: dict[str, tuple[str, int, int, int, int, bool]] = {}
    blobs = b""
    for name, module in sorted(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None) or ""
        if spec is None or name == "__main__" or not origin.startswith("/"):
            continue
        blob = b""
        if origin.endswith(".py"):
            blob = marshal.dumps(spec.loader.get_code(name))
        info = os.stat(origin)
        is_package = spec.submodule_search_locations is not None
        table[name] = (
            origin, info.st_mtime_ns, info.st_size, len(blobs), len(blob), is_package
        )  # fmt: skip
        blobs += blob
    head = marshal.dumps((source, table))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(__file__, "rb") as file:
        code = compile(file.read() + b"\nboot(__file__)\n", __file__, "exec", dont_inherit=True)
    external: Any = sys.modules["_frozen_importlib_external"]
    to_pyc = external._code_to_timestamp_pyc  # noqa: SLF001  its public face, py_compile, has less
    pyc = to_pyc(code, 0, 0)
    for name, data in (
        (_NOTE, os.fsencode(note)),
        (_MODULES, len(head).to_bytes(4, "little") + head + blobs),
        (_BOOT, pyc),
    ):
        temporary = f"{folder}/{name}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(data)
        os.rename(temporary, f"{folder}/{name}")
