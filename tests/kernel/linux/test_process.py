"""clone3 with the semantics of fork, pidfds, execveat, limits: judged by the kernel."""

import ctypes
import os
import signal
import sys

import pytest

from sampan.linux import fds, process, signals
from sampan.linux import namespaces as ns
from sampan.testing import requires


def reap(pidfd: int) -> int:
    assert process.pidfd_wait(pidfd, 10)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert ended is not None
    return ended.si_status


def test_child_returns_from_clone3_with_a_working_interpreter() -> None:
    pid, pidfd = process.clone3()
    if pid == 0:
        os._exit(42 if sum(range(10)) == 45 else 1)
    assert process.pidfd_pid(pidfd) == pid
    assert reap(pidfd) == 42


@requires("root")
def test_c_library_knows_its_thread_in_a_new_pid_namespace() -> None:
    """glibc remembers its thread id, for its locks: in the child it must be the child's own."""
    pid, pidfd = process.clone3(ns.CLONE_NEWPID)
    if pid == 0:
        remembered = ctypes.c_int.from_address(process._tid_address()).value
        os._exit(0 if remembered == os.getpid() == 1 else 99)
    assert reap(pidfd) == 0


@requires("root")
def test_born_in_a_cgroup() -> None:
    folder = next(
        (
            p
            for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
            if os.path.exists(f"{p}/cgroup.procs")
        ),
        None,
    )
    if folder is None:
        pytest.skip("no cgroup v2 tree")
    path = f"{folder}/sampan-clone-{os.getpid()}"
    os.mkdir(path)
    try:
        with fds.OwnedFd(os.open(path, os.O_RDONLY)) as cgroup:
            read_end, write_end = os.pipe()
            pid, pidfd = process.clone3(cgroup_fd=cgroup.fd)
            if pid == 0:
                with open("/proc/self/cgroup", "rb") as own:
                    os.write(write_end, own.read())
                os._exit(0)
            assert reap(pidfd) == 0
            assert f"0::/{os.path.basename(path)}\n".encode() in os.read(read_end, 4096)
            os.close(read_end)
            os.close(write_end)
    finally:
        os.rmdir(path)


def test_shared_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="CLONE_VM"):
        process.clone3(0x100)


def test_kernel_errors_leave_the_parent_sound() -> None:
    with pytest.raises(OSError, match="clone3: Invalid argument"):
        process.clone3(process.CLONE_PARENT, exit_signal=17 | 0x100)
    pid, pidfd = process.clone3()
    if pid == 0:
        os._exit(3)
    assert reap(pidfd) == 3


def test_execveat_of_a_descriptor() -> None:
    with fds.OwnedFd(os.open("/bin/sh", os.O_PATH)) as shell:
        pid, pidfd = process.clone3()
        if pid == 0:
            process.execveat(shell.fd, "", ["sh", "-c", "exit $X"], {"X": "9"}, 0x1000)
        assert reap(pidfd) == 9


def test_getfd_takes_a_descriptor_of_a_child() -> None:
    secret = fds.sealed_memfd("secret", b"here")
    pid, pidfd = process.clone3()
    if pid == 0:
        signal.pause()
    with fds.OwnedFd(process.pidfd_getfd(pidfd, secret)) as stolen:
        assert os.pread(stolen.fd, 10, 0) == b"here"
    os.close(secret)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert reap(pidfd) == signal.SIGKILL


def test_prlimit_of_another_process() -> None:
    pid, pidfd = process.clone3()
    if pid == 0:
        signal.pause()
    before = process.prlimit(pid, process.RLIMITS["RLIMIT_RTTIME"], (5, 10))
    assert before[1] >= 10
    assert process.prlimit(pid, process.RLIMITS["RLIMIT_RTTIME"]) == (5, 10)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    reap(pidfd)


def test_reset_leaves_nothing_ignored_for_the_next_program() -> None:
    read_end, write_end = os.pipe()
    pid, pidfd = process.clone3()
    if pid == 0:
        signals.set_disposition_ignore(64)
        signals.block_all()
        signals.reset_dispositions()
        signals.reset_mask()
        os.dup2(write_end, 1)
        command = ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"]
        os.execv("/bin/grep", command)  # noqa: S606
    assert reap(pidfd) == 0
    os.close(write_end)
    shown = os.read(read_end, 4096)
    os.close(read_end)
    assert [line.split()[1] for line in shown.splitlines()] == [b"0" * 16] * 2
    # Without the reset, Python's own SIGPIPE would be there.
    assert signals.ignored_and_caught()[0] & 1 << 12
    assert sys.platform == "linux"
