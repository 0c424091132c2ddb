"""What an ELF file asks of the dynamic loader: interpreter, needed libraries, where to look.

A damaged file raises InvalidArgument; offsets are never trusted beyond the file's end.

Source: System V ABI, chapters 4 and 5; elf(5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from sampan.errors import InvalidArgument

__all__ = ["MAGIC", "Elf", "read"]

MAGIC: Final = b"\x7fELF"

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ = 0, 1, 5, 10
_DT_RPATH, _DT_RUNPATH = 15, 29
_HEADERS_MAX: Final = 4096
_STRINGS_MAX: Final = 64 << 20
_INTERPRETER_MAX: Final = 4096
_DYNAMIC_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Elf:
    """The dynamic part of a file; all of it is empty for a static one."""

    bits: int
    machine: int
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()

    @property
    def abi(self) -> tuple[int, int]:
        """What a library must equal to be loaded."""
        return self.bits, self.machine


def read(file: BinaryIO, name: str) -> Elf:
    """Read the file's headers; it must be seekable.

    Raises:
      InvalidArgument: not an ELF file, or a damaged one.
    """
    try:
        return _read(file)
    except (struct.error, ValueError, UnicodeDecodeError) as err:
        raise InvalidArgument(f"{name}: damaged ELF file: {err}") from err


def _read(file: BinaryIO) -> Elf:
    ident = file.read(16)
    if ident[:4] != MAGIC:
        raise ValueError("no ELF magic")
    bits = {1: 32, 2: 64}[ident[4]] if ident[4] in {1, 2} else 0
    order = {1: "<", 2: ">"}.get(ident[5], "")
    if not bits or not order:
        raise ValueError("unknown class or byte order")
    wide = bits == 64
    header = struct.Struct(f"{order}HHI{'QQQ' if wide else 'III'}IHHHHHH")
    _, machine, _, _, phoff, _, _, _, phentsize, phnum, *_ = header.unpack(
        _exactly(file, header.size)
    )
    program = struct.Struct(f"{order}IIQQQQQQ" if wide else f"{order}IIIIIIII")
    if phnum > _HEADERS_MAX or (phnum and phentsize < program.size):
        raise ValueError(f"{phnum} program headers of {phentsize} bytes")
    segments = []
    for number in range(phnum):
        file.seek(phoff + number * phentsize)
        fields = program.unpack(_exactly(file, program.size))
        if wide:
            kind, _, offset, vaddr, _, filesz, _, _ = fields
        else:
            kind, offset, vaddr, _, filesz, _, _, _ = fields
        segments.append((kind, offset, vaddr, filesz))
    interpreter = ""
    for kind, offset, _, size in segments:
        if kind == _PT_INTERP:
            raw = _at(file, offset, min(size, _INTERPRETER_MAX))
            interpreter = raw.split(b"\0", 1)[0].decode()
    entries = _dynamic(file, segments, f"{order}{'qQ' if wide else 'iI'}")
    needed, rpath, runpath = _strings(file, segments, entries)
    return Elf(bits, machine, interpreter, needed, rpath, runpath)


def _dynamic(
    file: BinaryIO, segments: list[tuple[int, int, int, int]], form: str
) -> list[tuple[int, int]]:
    entry = struct.Struct(form)
    found: list[tuple[int, int]] = []
    for kind, offset, _, size in segments:
        if kind != _PT_DYNAMIC:
            continue
        raw = _at(file, offset, min(size, _DYNAMIC_MAX))
        for tag, value in entry.iter_unpack(raw[: len(raw) // entry.size * entry.size]):
            if tag == _DT_NULL:
                break
            found.append((tag, value))
    return found


def _strings(
    file: BinaryIO, segments: list[tuple[int, int, int, int]], entries: list[tuple[int, int]]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    by_tag = dict(entries)
    if _DT_STRTAB not in by_tag:
        return (), (), ()
    table = _at(
        file,
        _file_offset(by_tag[_DT_STRTAB], segments),
        min(by_tag.get(_DT_STRSZ, 0), _STRINGS_MAX),
    )

    def text(offset: int) -> str:
        end = table.find(b"\0", offset)
        if not 0 <= offset < len(table) or end < 0:
            raise ValueError("name outside of the string table")
        return table[offset:end].decode()

    needed = tuple(text(value) for tag, value in entries if tag == _DT_NEEDED)
    paths = {
        wanted: tuple(p for tag, value in entries if tag == wanted for p in text(value).split(":"))
        for wanted in (_DT_RPATH, _DT_RUNPATH)
    }
    return needed, paths[_DT_RPATH], paths[_DT_RUNPATH]


def _file_offset(address: int, segments: list[tuple[int, int, int, int]]) -> int:
    for kind, offset, vaddr, size in segments:
        if kind == _PT_LOAD and vaddr <= address < vaddr + size:
            return offset + address - vaddr
    raise ValueError(f"address {address:#x} is in no segment")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return _exactly(file, size)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it ends too early")
    return data
