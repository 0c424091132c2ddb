"""The parent's side of a birth: clone3, id maps, cgroups, hooks, and hearing of success or failure.

`Birth` is all that a child needs, and what both sides share. `bear` does it; the other side is
`init.steps`. The two talk over a SOCK_SEQPACKET pair, one JSON object a packet, "go" the other way.
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import _socket
import os

from sampan.errors import FailedPrecondition
from sampan.linux import fds, process
from sampan.linux import namespaces as ns
from sampan.model.runtime.document import loads
from sampan.oci import StartFailed
from sampan.oci.init import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.cgroups import Manager
    from sampan.oci.plan.namespaces import NamespacePlan
    from sampan.oci.plan.process import ProcessPlan
    from sampan.oci.rootfs.plan import RootfsPlan

__all__ = ["Birth", "Born", "bear"]

_MAX_MESSAGE = 1 << 16


class Birth:
    """Everything about one birth, prepared. Fds in it are the caller's unless said otherwise."""

    __slots__ = (
        "asks_hooks", "console_fd", "debug_modules", "domainname", "fifo_fd", "hostname", "joins",
        "keyring", "may_set_groups", "namespaces_have_user", "new_flags", "passed_fds", "process",
        "rootfs", "started", "stdio", "sync_fd", "sysctls", "target_flags", "target_pidfd",
    )  # fmt: skip

    def __init__(self, process: ProcessPlan, stdio: tuple[int, int, int]) -> None:
        self.process = process
        self.stdio = stdio
        self.rootfs: RootfsPlan | None = None
        self.new_flags = 0
        self.joins: list[tuple[int, int]] = []
        self.target_pidfd = -1
        """Of the container's init, whose namespaces `target_flags` an exec enters."""
        self.target_flags = 0
        self.namespaces_have_user = False
        self.may_set_groups = True
        self.keyring = ""
        self.hostname = b""
        self.domainname = b""
        self.sysctls: list[tuple[bytes, bytes]] = []
        self.asks_hooks = False
        self.fifo_fd = -1
        self.sync_fd = -1
        self.console_fd = -1
        """The child's end of a socket for the master of its terminal and a seccomp listener."""
        self.passed_fds: list[int] = []
        """Given to the program beside 0, 1 and 2, under the same numbers."""
        self.debug_modules = False
        self.started = False

    def other_fds(self) -> list[int]:
        """Return what the child keeps beside its stdio."""
        found = [fd for fd, _ in self.joins]
        found += [self.sync_fd, self.fifo_fd, self.console_fd, self.target_pidfd]
        if self.rootfs is not None:
            found += self.rootfs.fds()
        return [fd for fd in found + self.passed_fds if fd >= 0]

    def kept_fds(self) -> list[int]:
        """Return all that the child keeps."""
        stdio = [] if self.process.terminal else list(self.stdio)
        return self.other_fds() + stdio

    def send_console(self, master: int) -> None:
        """Child: hand the terminal's master to the parent."""
        self._send_fd(b"console", master)

    def send_listener(self, listener: int) -> None:
        """Child: hand the seccomp notification fd to the parent."""
        self._send_fd(b"seccomp", listener)

    def _send_fd(self, what: bytes, fd: int) -> None:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, os.dup(self.sync_fd))
        fds.send_fds(sock, what, [fd])
        sock.close()


class Born:
    """What came of a birth: the process and the fds that it sent."""

    __slots__ = ("console", "listener", "modules", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console = -1
        self.listener = -1
        self.modules: list[str] | None = None


def bear(
    birth: Birth,
    namespaces: NamespacePlan | None,
    manager: Manager | None,
    *,
    pid_namespace: int = -1,
    on_born: Callable[[int], None] | None = None,
    hooks: Callable[[int], None] | None = None,
) -> Born:
    """Bear the child and return when it is ready for its start, or has failed and been reaped.

    Args:
      birth: What the child does; its `sync_fd` is made here.
      namespaces: Of a new container; None for an exec.
      manager: The cgroup to be born in or put in.
      pid_namespace: fd of a pid namespace for the child to be born in, or -1.
      on_born: Called with the pid once the child is in its cgroups, before it goes on.
      hooks: Called with the pid when the child's mounts are there.

    Raises:
      StartFailed: a step of the child failed.
      OSError: no process could be made.
    """
    ours, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    birth.sync_fd = theirs.fileno()
    # Who is born among a container's processes must not hold a folder of the host: `add` does then.
    seen = pid_namespace >= 0
    cgroup_fd = manager.clone_fd() if manager is not None and not seen else None
    try:
        pid, pidfd = _clone(birth, namespaces, cgroup_fd, pid_namespace)
    finally:
        theirs.close()
        if cgroup_fd is not None:
            os.close(cgroup_fd)
    born = Born(pid, pidfd)
    try:
        _set_up(birth, born, namespaces, manager)
        if on_born is not None:
            on_born(pid)
        ours.send(b"go")
        _listen(ours, born, hooks)
    except BaseException:
        _abandon(born)
        raise
    finally:
        ours.close()
    return born


def _clone(
    birth: Birth, namespaces: NamespacePlan | None, cgroup_fd: int | None, pid_namespace: int
) -> tuple[int, int]:
    flags = birth.new_flags & ~(ns.CLONE_NEWCGROUP | ns.CLONE_NEWTIME)
    if namespaces is not None and namespaces.needs_intermediate:
        raise FailedPrecondition(
            "joining a user namespace, other namespaces together with a new user namespace, "
            "and time namespaces are not supported yet"
        )
    if pid_namespace >= 0:
        ns.setns(pid_namespace, ns.CLONE_NEWPID)
    try:
        pid, pidfd = process.clone3(flags, cgroup_fd=cgroup_fd)
        if pid == 0:
            steps.run(birth)
    finally:
        if pid_namespace >= 0:
            # Opened only now: a container's ptrace takes from the child what was open at its birth.
            own = ns.open_namespace("self", "pid")
            ns.setns(own, ns.CLONE_NEWPID)
            os.close(own)
    return pid, pidfd


def _set_up(
    birth: Birth, born: Born, namespaces: NamespacePlan | None, manager: Manager | None
) -> None:
    if namespaces is not None and namespaces.new & ns.CLONE_NEWUSER:
        ns.write_id_map(born.pid, "uid", namespaces.uid_map)
        ns.write_id_map(born.pid, "gid", namespaces.gid_map)
    if manager is not None:
        manager.add(born.pid)
    if birth.process.oom_score_adj is not None:
        _write(f"/proc/{born.pid}/oom_score_adj", b"%d" % birth.process.oom_score_adj)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _listen(ours: _socket.socket, born: Born, hooks: Callable[[int], None] | None) -> None:
    while True:
        data, received = fds.recv_fds(ours, _MAX_MESSAGE, 1)
        if received and data == b"console":
            born.console = received[0]
            continue
        if received and data == b"seccomp":
            born.listener = received[0]
            continue
        if not data:
            raise StartFailed("container init ended without a word: was it killed?")
        message = loads(data)
        if "error" in message:
            raise StartFailed(message["error"], message["code"])
        if "hooks" in message:
            if hooks is not None:
                hooks(born.pid)
            ours.send(b"go")
        if "ready" in message:
            born.modules = message.get("modules")
            return


def _abandon(born: Born) -> None:
    """Kill and reap a child that will not live; nobody else has heard of it yet."""
    try:
        process.pidfd_send_signal(born.pidfd, 9)
    except ProcessLookupError:
        pass
    try:
        os.waitid(os.P_PIDFD, born.pidfd, os.WEXITED)
    except ChildProcessError:
        pass
    os.close(born.pidfd)
    for fd in (born.console, born.listener):
        if fd >= 0:
            os.close(fd)
