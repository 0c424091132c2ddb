"""Making processes and holding on to them: clone3, pidfds, execveat, prlimit, personality.

`clone3` here behaves like `os.fork`: the child returns from the call with a working interpreter.
That needs three things from the parent. The call must keep the interpreter lock, or the child wakes
up without it; `PyOS_BeforeFork` and its two partners must stand around it, so that the
interpreter's own locks are sound on both sides; and the process must have one thread, as with any
fork. The child's stack and memory are copies, so no CLONE_VM.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct

from sampan.linux._libc import by_number, check, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = [
    "AT_EMPTY_PATH",
    "AT_SYMLINK_NOFOLLOW",
    "CLONE_CHILD_CLEARTID",
    "CLONE_CHILD_SETTID",
    "CLONE_CLEAR_SIGHAND",
    "CLONE_FILES",
    "CLONE_INTO_CGROUP",
    "CLONE_PARENT",
    "CLONE_PIDFD",
    "PIDFD_NONBLOCK",
    "RLIMITS",
    "RLIM_INFINITY",
    "SIGCHLD",
    "clone3",
    "encode_strings",
    "environment_strings",
    "execveat",
    "personality",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_pid",
    "pidfd_send_signal",
    "pidfd_wait",
    "prepared_clone",
    "prlimit",
    "start_time_ticks",
]

CLONE_FILES = 0x400
CLONE_PIDFD = 0x1000
CLONE_PARENT = 0x8000
CLONE_CHILD_CLEARTID = 0x200000
CLONE_CHILD_SETTID = 0x1000000
CLONE_CLEAR_SIGHAND = 1 << 32
CLONE_INTO_CGROUP = 1 << 33

SIGCHLD = 17
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
PIDFD_NONBLOCK = os.O_NONBLOCK
RLIM_INFINITY = (1 << 64) - 1

RLIMITS: dict[str, int] = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
"""Every limit of the kernel by the name that config.json uses; `resource` lacks the last three."""

_clone3 = by_number("clone3", 2, hold_gil=True)
_pidfd_open = by_number("pidfd_open", 2)
_pidfd_send_signal = by_number("pidfd_send_signal", 4)
_pidfd_getfd = by_number("pidfd_getfd", 3)
_execveat = by_number("execveat", 5)
_prlimit64 = by_number("prlimit64", 4)
_personality = by_number("personality", 1)
_prctl = by_number("prctl", 5)
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_child = ctypes.pythonapi.PyOS_AfterFork_Child
for _hook in (_before_fork, _after_fork_parent, _after_fork_child):
    _hook.argtypes = ()
    _hook.restype = None

_PR_GET_TID_ADDRESS = 40


def _tid_address() -> int:
    """Return where glibc keeps the calling thread's id, or 0 if the kernel cannot say.

    The C library's own fork has the kernel rewrite that word in the child. A raw clone must do the
    same, or the child's C library goes on believing in the parent's thread id. glibc registered the
    address with the kernel when the thread began, so the kernel is asked instead of the C library.
    """
    slot = ctypes.c_size_t()
    if _prctl(_PR_GET_TID_ADDRESS, ctypes.byref(slot), 0, 0, 0) < 0:
        return 0  # a kernel without CONFIG_CHECKPOINT_RESTORE; glibc then only misjudges its tid
    return slot.value


def clone3(
    flags: int = 0,
    *,
    cgroup_fd: int | None = None,
    exit_signal: int = SIGCHLD,
    pidfd: bool = True,
    set_tid: Sequence[int] = (),
) -> tuple[int, int]:
    """Fork into new namespaces, a cgroup, or both; return `(pid, pidfd)`, in the child `(0, -1)`.

    The process must have one thread. Python's at-fork hooks run as for `os.fork`.

    Args:
      flags: CLONE_NEW* of `namespaces` and CLONE_* of this module. CLONE_PIDFD, CLONE_INTO_CGROUP
        and the flags for the thread id are added here; CLONE_VM and CLONE_VFORK are refused.
      cgroup_fd: An fd of a cgroup v2 folder for the child to be born in.
      exit_signal: What the parent gets when the child ends; must be 0 with CLONE_PARENT, where the
        caller's own exit signal is inherited.
      pidfd: Whether to ask for a pidfd; without, the second result is -1.
      set_tid: Wished-for pids, innermost pid namespace first (needs CAP_CHECKPOINT_RESTORE).

    Returns:
      In the parent the child's pid and a CLOEXEC pidfd which the caller owns.

    Raises:
      OSError: EAGAIN, pids are used up; EBUSY or EOPNOTSUPP, the cgroup cannot take processes;
        EACCES, the caller may not move processes there; EINVAL, flags that contradict each other;
        ENOSPC, namespaces are nested too deep or used up; EPERM, a namespace needs CAP_SYS_ADMIN.

    Source: clone(2), clone3; cgroup_fd Linux 5.7.
    """
    if flags & 0x4100:
        raise ValueError("clone3: CLONE_VM and CLONE_VFORK would share the interpreter's memory")
    pidfd_slot = ctypes.c_int(-1)
    tids = struct.pack(f"={len(set_tid)}i", *set_tid)
    tid_address = _tid_address()
    if pidfd:
        flags |= CLONE_PIDFD
    if cgroup_fd is not None:
        flags |= CLONE_INTO_CGROUP
    if tid_address:
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    tids_buffer = ctypes.create_string_buffer(tids, max(len(tids), 1))
    arguments = struct.pack(
        "=11Q",
        flags,
        ctypes.addressof(pidfd_slot),
        tid_address,
        0,  # parent_tid
        exit_signal,
        0,  # stack: the copy of ours
        0,
        0,  # tls: the copy of ours
        ctypes.addressof(tids_buffer) if set_tid else 0,
        len(set_tid),
        cgroup_fd if cgroup_fd is not None else 0,
    )
    _before_fork()
    pid = _clone3(arguments, len(arguments))
    if pid == 0:
        _after_fork_child()
        return 0, -1
    code = ctypes.get_errno()
    _after_fork_parent()
    if pid < 0:
        raise OSError(code, f"clone3: {os.strerror(code)}")
    return pid, pidfd_slot.value


def prepared_clone(flags: int, exit_signal: int = 0) -> Callable[[], int]:
    """Return `clone3` with these flags, ready: a call returns the child's pid, in the child 0.

    It makes next to no objects, so that a process that forks often has few pages of its own; there
    is no pidfd. The call raises OSError as `clone3` does. Flags are as there.
    """
    if flags & 0x4100:
        raise ValueError("clone3: CLONE_VM and CLONE_VFORK would share the interpreter's memory")
    tid_address = _tid_address()
    if tid_address:
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    arguments = struct.pack("=11Q", flags, 0, tid_address, 0, exit_signal, 0, 0, 0, 0, 0, 0)
    size = len(arguments)

    def call(
        clone: Callable[..., int] = _clone3,
        before: Callable[[], None] = _before_fork,
        parent: Callable[[], None] = _after_fork_parent,
        child: Callable[[], None] = _after_fork_child,
    ) -> int:
        before()
        pid = clone(arguments, size)
        if pid == 0:
            child()
            return 0
        code = ctypes.get_errno() if pid < 0 else 0
        parent()
        if pid < 0:
            raise OSError(code, f"clone3: {os.strerror(code)}")
        return pid

    return call


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Return a CLOEXEC pidfd for process `pid`, which the caller owns.

    Raises:
      OSError: ESRCH, no such process; EINVAL, `pid` is a thread but no process.

    Source: pidfd_open(2), Linux 5.3.
    """
    return check(_pidfd_open(pid, flags), "pidfd_open")


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Send `signal` to the process behind `pidfd`; 0 only asks whether one could.

    Raises:
      ProcessLookupError: The process has ended and been waited for.
      PermissionError: The caller may not signal it.

    Source: pidfd_send_signal(2), Linux 5.1.
    """
    check(_pidfd_send_signal(pidfd, signal, None, 0), "pidfd_send_signal")


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Return a CLOEXEC duplicate of descriptor `fd` of another process; the caller owns it.

    Raises:
      OSError: EBADF, it has no such fd; EPERM, the caller may not ptrace it; ESRCH, it has ended.

    Source: pidfd_getfd(2), Linux 5.6.
    """
    return check(_pidfd_getfd(pidfd, fd, 0), "pidfd_getfd")


def pidfd_wait(pidfd: int, timeout_s: float | None = None) -> bool:
    """Wait until the process behind `pidfd` has ended; return False if time ran out first.

    It may still be a zombie: this reaps nobody, and works for processes that are not our children.
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0, timeout_s) * 1000))


def pidfd_pid(pidfd: int) -> int:
    """Return the pid, in our pid namespace, of the process behind `pidfd`.

    Raises:
      ProcessLookupError: The process has been reaped, or lives in a namespace we do not see.
    """
    fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        info = os.read(fd, 4096)
    finally:
        os.close(fd)
    for line in info.splitlines():
        if line.startswith(b"Pid:"):
            pid = int(line[4:])
            if pid > 0:
                return pid
            break
    else:
        raise OSError(22, f"fd {pidfd} is no pidfd")
    raise ProcessLookupError(3, "pidfd: the process has ended")


def start_time_ticks(pid: int) -> int:
    """Return when `pid` started, in clock ticks since boot: with the pid, it names one process.

    Raises:
      FileNotFoundError: No such process. ProcessLookupError: it ended during the call.

    Source: proc_pid_stat(5), field 22.
    """
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        line = os.read(fd, 4096)
    finally:
        os.close(fd)
    # The name stands in parentheses and may itself hold spaces and parentheses.
    return int(line[line.rindex(b")") + 2 :].split()[19])


def encode_strings(strings: Sequence[str | bytes]) -> Any:
    """Return a NULL-terminated `char *[]` for execveat; build it before a fork to save time after.

    Raises:
      ValueError: A string holds a NUL byte.
    """
    encoded = [os.fsencode(s) for s in strings]
    for s in encoded:
        if 0 in s:
            raise ValueError(f"embedded NUL byte in {s!r}")
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def execveat(
    dirfd: int,
    path: str | bytes,
    argv: Any,
    envp: Any,
    flags: int = 0,
) -> None:
    """Replace this process by the program `path` relative to `dirfd`; return only by raising.

    With an empty `path` and AT_EMPTY_PATH the program is `dirfd` itself. A script run so gets
    `/dev/fd/N` as its name and needs `dirfd` to stay open, hence without CLOEXEC.

    Args:
      dirfd: A folder, an executable file (O_PATH will do), or AT_FDCWD (-100).
      path: The program.
      argv: A sequence of str or bytes, or what `encode_strings` made of one.
      envp: Likewise, of `NAME=value`; or a mapping of names to values.
      flags: AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW.

    Raises:
      OSError: As execve(2). ENOENT may also mean a missing interpreter of a script, or that
        `dirfd` of a script is CLOEXEC.

    Source: execveat(2), Linux 3.19.
    """
    if hasattr(envp, "items"):
        envp = environment_strings(envp)
    argv = argv if isinstance(argv, ctypes.Array) else encode_strings(argv)
    envp = envp if isinstance(envp, ctypes.Array) else encode_strings(envp)
    _execveat(dirfd, os.fsencode(path), argv, envp, flags)
    raise fail("execveat", path)


def environment_strings(environment: Mapping[str, str] | Mapping[bytes, bytes]) -> list[bytes]:
    """Return `NAME=value` for each entry, as execve wants it."""
    return [os.fsencode(k) + b"=" + os.fsencode(v) for k, v in environment.items()]


def prlimit(pid: int, resource: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the `(soft, hard)` limits that process `pid` had; set them to `limits` if given.

    Args:
      pid: The process; 0 is the caller.
      resource: A value of `RLIMITS`.
      limits: `RLIM_INFINITY` means no limit.

    Raises:
      OSError: EPERM, the hard limit may not be raised; EINVAL, the soft limit exceeds the hard.

    Source: prlimit(2).
    """
    old = ctypes.create_string_buffer(16)
    new = struct.pack("=2Q", *limits) if limits is not None else None
    check(_prlimit64(pid, resource, new, old), "prlimit64")
    soft, hard = struct.unpack("=2Q", old.raw)
    return soft, hard


def personality(persona: int) -> int:
    """Set the execution domain of the calling thread and return the former one.

    0xffffffff only asks. Source: personality(2).
    """
    return check(_personality(persona), "personality")
