"""bpf(2), as far as device programs of cgroup v2 need it.

A program is a list of 8-byte instructions: code, destination and source register, offset, constant.
It gets a `struct bpf_cgroup_dev_ctx` (access and type in one word, major, minor) and returns 1 to
allow. Source: linux/bpf.h, bpf(2).
"""

from __future__ import annotations

import ctypes
import errno
import struct

from sampan.linux._libc import ARCH, by_number, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "attach",
    "attached_ids",
    "detach",
    "device_program",
    "prog_by_id",
    "prog_load",
]

_PROG_LOAD, _PROG_ATTACH, _PROG_DETACH, _GET_FD_BY_ID, _PROG_QUERY = 5, 8, 9, 13, 16
_CGROUP_DEVICE_PROG = 15
_CGROUP_DEVICE_ATTACH = 6
_F_ALLOW_MULTI, _F_REPLACE = 2, 4
_ACCESS = {"m": 1, "r": 2, "w": 4}
_TYPE = {"b": 1, "c": 2}

# Instruction codes.
_LDX_W = 0x61
_MOV32_IMM, _MOV32_REG, _MOV64_IMM = 0xB4, 0xBC, 0xB7
_AND32_IMM, _RSH32_IMM = 0x54, 0x74
_JNE_IMM, _JNE_REG = 0x55, 0x5D
_EXIT = 0x95

_bpf = by_number("bpf", 3)
assert ARCH in ("x86_64", "aarch64")  # noqa: S101  both little-endian, as the packing below is


def _op(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    signed = imm - (1 << 32) if imm > 0x7FFFFFFF else imm
    return struct.pack("<BBhi", code, dst | src << 4, off, signed)


def device_program(default_allow: bool, exceptions: Sequence[str]) -> bytes:
    """Return a program that decides `default_allow`, except for these accesses.

    Args:
      default_allow: What happens to a device that no exception names.
      exceptions: `c 1:3 rw`; `*` for a number means any. Each letter is decided by itself: an
        access that asks for more than an exception has goes on to the next, and to the default.
        With a default of allow, any of the letters denies.
    """
    program = b"".join(
        (
            _op(_LDX_W, 2, 1, 0),  # r2 = type
            _op(_AND32_IMM, 2, imm=0xFFFF),
            _op(_LDX_W, 3, 1, 0),  # r3 = access
            _op(_RSH32_IMM, 3, imm=16),
            _op(_LDX_W, 4, 1, 4),  # r4 = major
            _op(_LDX_W, 5, 1, 8),  # r5 = minor
        )
    )
    for exception in exceptions:
        program += _exception(exception, default_allow)
    return program + _op(_MOV64_IMM, 0, imm=int(default_allow)) + _op(_EXIT)


def _exception(text: str, default_allow: bool) -> bytes:
    kind, numbers, access = text.split(" ")
    major, minor = numbers.split(":")
    mask = sum(_ACCESS[letter] for letter in access)
    verdict = _op(_MOV64_IMM, 0, imm=int(not default_allow)) + _op(_EXIT)
    tests: list[tuple[bytes, int, int, int]] = [(b"", _JNE_IMM, 2, _TYPE[kind])]
    if mask != 7:
        masked = _op(_MOV32_REG, 1, 3) + _op(_AND32_IMM, 1, imm=mask)
        if default_allow:
            # Denied if any letter is denied: go on when none is.
            tests.append((masked, 0x15, 1, 0))
        else:
            # Allowed if every letter is allowed: go on when masking changes it.
            tests.append((masked, _JNE_REG, 1, 3))
    if major != "*":
        tests.append((b"", _JNE_IMM, 4, int(major)))
    if minor != "*":
        tests.append((b"", _JNE_IMM, 5, int(minor)))
    code = verdict
    for before, jump, register, operand in reversed(tests):
        distance = len(code) // 8
        if jump == _JNE_REG:
            code = before + _op(jump, register, operand, distance) + code
        else:
            code = before + _op(jump, register, 0, distance, operand) + code
    return code


def _call(command: int, attributes: bytes, what: str) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return check(_bpf(command, buffer, len(attributes)), f"bpf({what})"), buffer.raw


def prog_load(program: bytes) -> int:
    """Load a device program and return its CLOEXEC fd, which the caller owns.

    Raises:
      OSError: EINVAL or EACCES, the verifier refuses it, in its words; EPERM, no CAP_BPF and
        CAP_NET_ADMIN, or no CAP_SYS_ADMIN.
    """
    code = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(65536)
    for level, size in ((0, 0), (1, len(log))):
        attributes = struct.pack(
            "=IIQQIIQ",
            _CGROUP_DEVICE_PROG,
            len(program) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_text),
            level,
            size,
            ctypes.addressof(log) if size else 0,
        )
        try:
            return _call(_PROG_LOAD, attributes, "PROG_LOAD")[0]
        except OSError as error:
            if level == 0 and error.errno in (errno.EINVAL, errno.EACCES):
                continue
            said = log.value.decode(errors="replace").strip()
            raise OSError(error.errno, f"{error.strerror} {said[-500:]}".strip()) from error
    raise AssertionError("unreachable")


def attach(cgroup_fd: int, prog_fd: int, *, replace: int | None = None) -> None:
    """Attach a device program to a cgroup, beside others or in place of the program `replace`.

    Source: bpf(2), BPF_F_REPLACE from Linux 5.6.
    """
    flags = _F_ALLOW_MULTI | (_F_REPLACE if replace is not None else 0)
    attributes = struct.pack("=5I", cgroup_fd, prog_fd, _CGROUP_DEVICE_ATTACH, flags, replace or 0)
    _call(_PROG_ATTACH, attributes, "PROG_ATTACH")


def detach(cgroup_fd: int, prog_fd: int) -> None:
    """Detach a device program from a cgroup."""
    _call(
        _PROG_DETACH, struct.pack("=3I", cgroup_fd, prog_fd, _CGROUP_DEVICE_ATTACH), "PROG_DETACH"
    )


def attached_ids(cgroup_fd: int) -> list[int]:
    """Return the ids of the device programs attached to this very cgroup, in their order."""
    ids = (ctypes.c_uint32 * 64)()
    attributes = struct.pack(
        "=IIIIQI4x", cgroup_fd, _CGROUP_DEVICE_ATTACH, 0, 0, ctypes.addressof(ids), len(ids)
    )
    _, raw = _call(_PROG_QUERY, attributes, "PROG_QUERY")
    (count,) = struct.unpack_from("=I", raw, 24)
    return list(ids[:count])


def prog_by_id(number: int) -> int:
    """Return an fd of a loaded program, which the caller owns; needs CAP_SYS_ADMIN."""
    return _call(_GET_FD_BY_ID, struct.pack("=3I", number, 0, 0), "PROG_GET_FD_BY_ID")[0]
