"""System calls by their number, for x86_64 and aarch64.

glibc wraps few of the calls a container needs, some of them only from 2.36 on; the kernel's numbers
never change. One prototype for each count of arguments serves all calls: every argument is
a machine word, and `c_void_p` takes ints, bytes, ctypes buffers and None alike.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["ARCH", "NUMBERS", "by_number", "check", "fail", "libc"]

libc = ctypes.CDLL(None, use_errno=True)

ARCH = os.uname().machine

# name: (x86_64, aarch64). Source: arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h; a test compares both columns with the installed headers.
_TABLE = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "capget": (125, 90),
    "capset": (126, 91),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "eventfd2": (290, 19),
    "execveat": (322, 281),
    "faccessat2": (439, 439),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "fstatfs": (138, 44),
    "get_mempolicy": (239, 236),
    "gettid": (186, 178),
    "inotify_add_watch": (254, 27),
    "inotify_init1": (294, 26),
    "inotify_rm_watch": (255, 28),
    "ioprio_get": (252, 31),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "linkat": (265, 37),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "renameat2": (316, 276),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "sched_getattr": (315, 275),
    "sched_setattr": (314, 274),
    "seccomp": (317, 277),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "signalfd4": (289, 74),
    "statfs": (137, 43),
    "statx": (332, 291),
    "syncfs": (306, 267),
    "umount2": (166, 39),
    "unshare": (272, 97),
}

_COLUMN = {"x86_64": 0, "aarch64": 1}.get(ARCH)
if _COLUMN is None:
    raise ImportError(f"no system call numbers for {ARCH}: Sampan runs on x86_64 and aarch64")
NUMBERS: dict[str, int] = {name: numbers[_COLUMN] for name, numbers in _TABLE.items()}

_pylib = ctypes.PyDLL(None, use_errno=True)


def by_number(name: str, arguments: int, *, hold_gil: bool = False) -> Callable[..., int]:
    """Return system call `name`, taking exactly `arguments` machine words.

    The function object and its prototype are the call's own: setting `libc.syscall.argtypes` before
    each call instead would be a race between threads. An int may have either sign; bytes must stay
    alive by themselves until the call returns, which an expression in the argument list does.

    Args:
      name: A key of `NUMBERS`.
      arguments: How many arguments the call takes.
      hold_gil: Keep the interpreter lock during the call, for calls that return twice.
    """
    function = (_pylib if hold_gil else libc)["syscall"]
    function.argtypes = (ctypes.c_long,) + (ctypes.c_void_p,) * arguments
    function.restype = ctypes.c_long
    number = NUMBERS[name]

    def call(*words: Any) -> int:
        result: int = function(number, *words)
        return result

    return call


def fail(call: str, path: str | bytes | None = None) -> OSError:
    """Return the OSError subclass for the errno of the call just made, naming call and path."""
    code = ctypes.get_errno()
    if path is None:
        return OSError(code, f"{call}: {os.strerror(code)}")
    return OSError(code, f"{call}: {os.strerror(code)}", path)


def check(result: int, call: str, path: str | bytes | None = None) -> int:
    """Return `result`, or raise the OSError subclass for errno, naming the call and the path."""
    if result < 0:
        raise fail(call, path)
    return result
