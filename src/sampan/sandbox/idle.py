"""The first process of a sandbox: a program of 250 bytes that waits and reaps, for any image.

A pid namespace lives as long as its first process. An image may hold no shell and no `sleep`, and
our interpreter has no business inside a container; so we bring an ELF file of our own. It says

    SIGCHLD is ignored            children that are handed to it vanish when they end (no zombies)
    all signals are blocked
    wait for SIGHUP, SIGINT or SIGTERM; then exit with 128 + its number

It touches no file, needs no library and runs on any kernel of its machine. The text below is its
machine code by instruction; the file is put together from it, kept in the root and bound read-only
over the container's /dev/init.

Source: elf(5); sigaction(2), rt_sigtimedwait(2) with the numbers of asm/unistd.h.
"""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path
from typing import Final

from sampan.errors import Unimplemented

__all__ = ["PATH", "elf", "ensure"]

PATH: Final = "/dev/init"
"""Where the container sees it."""

_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56
_SIGNALS: Final = (1, 2, 15)
_IGNORE: Final = struct.pack("=4Q", 1, 0, 0, 0)
"""struct kernel_sigaction: SIG_IGN, no flags, no restorer, an empty mask."""
_ALL: Final = struct.pack("=Q", 2**64 - 1)
_WAITED: Final = struct.pack("=Q", sum(1 << number - 1 for number in _SIGNALS))


def _x86_64() -> tuple[int, bytes]:
    def code(ignore: int, every: int, waited: int) -> bytes:
        parts = [
            b"\xb8" + struct.pack("<I", 13),  # mov eax, rt_sigaction
            b"\xbf" + struct.pack("<I", 17),  # mov edi, SIGCHLD
            b"\xbe" + struct.pack("<I", ignore),  # mov esi, ignore
            b"\x31\xd2",  # xor edx, edx
            b"\x41\xba" + struct.pack("<I", 8),  # mov r10d, 8
            b"\x0f\x05",  # syscall
            b"\xb8" + struct.pack("<I", 14),  # mov eax, rt_sigprocmask
            b"\xbf" + struct.pack("<I", 2),  # mov edi, SIG_SETMASK
            b"\xbe" + struct.pack("<I", every),  # mov esi, every
            b"\x31\xd2",
            b"\x0f\x05",
        ]
        loop = [
            b"\xb8" + struct.pack("<I", 128),  # mov eax, rt_sigtimedwait
            b"\xbf" + struct.pack("<I", waited),  # mov edi, waited
            b"\x31\xf6",  # xor esi, esi
            b"\x31\xd2",
            b"\x0f\x05",
            b"\x85\xc0",  # test eax, eax
        ]
        back = -(sum(map(len, loop)) + 2)
        end = [
            b"\x78" + struct.pack("<b", back),  # js loop
            b"\x8d\xb8" + struct.pack("<I", 128),  # lea edi, [rax + 128]
            b"\xb8" + struct.pack("<I", 231),  # mov eax, exit_group
            b"\x0f\x05",
        ]
        return b"".join([*parts, *loop, *end])

    return 62, _with_data(code)


def _aarch64() -> tuple[int, bytes]:
    def mov(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register  # movz

    def code(ignore: int, every: int, waited: int) -> bytes:
        words: list[int] = []
        start = _BASE + _HEADERS

        def adr(register: int, address: int) -> int:
            offset = address - (start + 4 * len(words))
            return 0x10000000 | (offset & 3) << 29 | (offset >> 2 & 0x7FFFF) << 5 | register

        call = 0xD4000001  # svc #0
        words += [mov(8, 134), mov(0, 17)]  # rt_sigaction, SIGCHLD
        words.append(adr(1, ignore))
        words += [mov(2, 0), mov(3, 8), call]
        words += [mov(8, 135), mov(0, 2)]  # rt_sigprocmask, SIG_SETMASK
        words.append(adr(1, every))
        words += [mov(2, 0), mov(3, 8), call]
        loop = len(words)
        words.append(mov(8, 137))  # rt_sigtimedwait
        words.append(adr(0, waited))
        words += [mov(1, 0), mov(2, 0), mov(3, 8), call]
        words.append(0xB7F80000 | (loop - len(words) & 0x3FFF) << 5)  # tbnz x0, #63, loop
        words += [0x91000000 | 128 << 10, mov(8, 94), call]  # add x0, x0, 128; exit_group
        return struct.pack(f"<{len(words)}I", *words)

    return 183, _with_data(code)


def _with_data(code: object) -> bytes:
    size = len(code(0, 0, 0))  # type: ignore[operator]
    ignore = _BASE + _HEADERS + (size + 7 & ~7)
    text: bytes = code(ignore, ignore + 32, ignore + 40)  # type: ignore[operator]
    return text.ljust(size + 7 & ~7, b"\0") + _IGNORE + _ALL + _WAITED


_MACHINES: Final = {"x86_64": _x86_64, "aarch64": _aarch64}


def elf(machine: str) -> bytes:
    """Return the program for `machine`, as uname(2) names it.

    Raises:
      Unimplemented: none was written for it.
    """
    if machine not in _MACHINES:
        raise Unimplemented(
            f"no idle program for {machine}: give the sandbox a command of the image to run"
        )
    number, body = _MACHINES[machine]()
    size = _HEADERS + len(body)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096)
    return header + segment + body


def ensure(root: Path) -> Path:
    """Return the program's file below `root`, made once for all processes. Blocks, shortly."""
    machine = os.uname().machine
    content = elf(machine)
    path = root / "idle" / f"init-{machine}"
    try:
        if path.read_bytes() == content:
            return path
    except FileNotFoundError:
        path.parent.mkdir(mode=0o711, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, 0o555)
    os.rename(temporary, path)
    return path
