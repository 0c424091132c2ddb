"""The parent's side of a birth: clone3, id maps, cgroups, hooks, and hearing of success or failure.

`Birth` is all that a child needs, and what both sides share. `bear` does it; the other side is
`init.steps`. The two talk over a SOCK_SEQPACKET pair, one JSON object a packet, "go" the other way.
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import _socket
import errno
import os

from sampan.linux import fds, process, scheduling
from sampan.linux import namespaces as ns
from sampan.model.runtime.document import loads
from sampan.oci import StartFailed, log
from sampan.oci.init import detour, steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sampan.cgroups import Manager
    from sampan.model.runtime.hooks import Hook
    from sampan.oci.plan.namespaces import NamespacePlan
    from sampan.oci.plan.process import ProcessPlan
    from sampan.oci.rootfs.plan import RootfsPlan

__all__ = ["Birth", "Born", "bear"]

_MAX_MESSAGE = 1 << 16


class Birth:
    """Everything about one birth, prepared. Fds in it are the caller's unless said otherwise."""

    __slots__ = (
        "asks_hooks", "cgroup_fds", "chroot", "console_fd", "create_hooks", "debug_modules",
        "domainname", "fifo_fd", "hook_state", "hostname", "joins", "keyring", "may_set_groups",
        "namespaces_have_user", "new_flags", "passed_fds", "process", "rootfs", "start_hooks",
        "started", "stdio", "sync_fd", "sysctls", "target_flags", "target_pidfd",
    )  # fmt: skip

    def __init__(self, process: ProcessPlan, stdio: tuple[int, int, int]) -> None:
        self.process = process
        self.stdio = stdio
        self.rootfs: RootfsPlan | None = None
        self.chroot = b""
        """Instead of `rootfs`, without a mount namespace of its own."""
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
        """Whether the parent has hooks to run once the mounts are there."""
        self.create_hooks: Sequence[Hook] = ()
        """createContainer; run by the child, as the next."""
        self.start_hooks: Sequence[Hook] = ()
        self.hook_state: dict[str, object] = {}
        """State for those; status and pid are filled in by the child."""
        self.cgroup_fds: list[tuple[int, str]] = []
        """Files to write `0` to, and their paths: `Manager.open_tasks`."""
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
        found += [fd for fd, _ in self.cgroup_fds]
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
    namespaces: NamespacePlan,
    manager: Manager,
    *,
    on_born: Callable[[int], None] | None = None,
    hooks: Callable[[int], None] | None = None,
) -> Born:
    """Bear the child and return when it is ready for its start, or has failed and been reaped.

    Args:
      birth: What the child does; its `sync_fd` is made here.
      namespaces: To make, and to join before the birth; its fds stay the caller's.
      manager: The cgroup to be born in, to join or to be put in.
      on_born: Called with the pid before the child goes on; it is in its cgroups then, or will
        be before anything else.
      hooks: Called with the pid when the child's mounts are there.

    Raises:
      StartFailed: a step of the child failed.
      OSError: no process could be made.
    """
    quick = _may_join_by_itself(birth)
    try:
        born, ours, joined = _conceive(birth, namespaces, manager, quick=quick)
    except _LimitReached:
        # Of processes: there is room for init, but not for the one in between, too.
        born, ours, joined = _conceive(birth, namespaces, manager, quick=False)
    try:
        _set_up(birth, born, namespaces, None if joined else manager)
        if on_born is not None:
            on_born(born.pid)
        ours.send(b"go")
        _listen(ours, born, hooks)
    except BaseException:
        _abandon(born)
        raise
    finally:
        ours.close()
    return born


class _LimitReached(Exception):
    """The kernel has refused a process, perhaps for the limit of the cgroup that it was born in."""


def _may_join_by_itself(birth: Birth) -> bool:
    """Tell whether nothing depends on the moment in which the child joins its cgroups.

    Its CPUs and its scheduler are set by us, and the first must come after the cpuset.
    """
    plan = birth.process
    return not (plan.affinity_initial or plan.affinity_final or plan.scheduler is not None)


def _conceive(
    birth: Birth, namespaces: NamespacePlan, manager: Manager, *, quick: bool
) -> tuple[Born, _socket.socket, bool]:
    """Clone the child; return our end of its socket, and whether it joins its cgroups itself.

    Without `quick` no process in between is ever in the container's limit on processes.

    Raises:
      _LimitReached: as it says; only with `quick`.
      OSError: no process could be made.
    """
    ours, theirs = _socket.socketpair(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    )
    birth.sync_fd = theirs.fileno()
    cgroup_fd = None
    # Without other hierarchies the unified one counts pids.
    if quick or not namespaces.needs_detour or len(manager.paths) > 1:
        cgroup_fd = manager.clone_fd()
    files = None
    if quick and (cgroup_fd is not None or "unified" not in manager.paths):
        files = manager.open_tasks()
    birth.cgroup_fds = files or []
    try:
        if namespaces.needs_detour:
            born = _clone_by_detour(birth, namespaces, cgroup_fd, ours, quick=quick)
        else:
            born = _clone(birth, cgroup_fd)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if cgroup_fd is not None:
            os.close(cgroup_fd)
        for fd, _ in birth.cgroup_fds:
            os.close(fd)
        birth.cgroup_fds = []
    return born, ours, files is not None


def _flags(birth: Birth) -> int:
    return birth.new_flags & ~(ns.CLONE_NEWCGROUP | ns.CLONE_NEWTIME)


def _clone(birth: Birth, cgroup_fd: int | None) -> Born:
    pid, pidfd = process.clone3(_flags(birth), cgroup_fd=cgroup_fd)
    if pid == 0:
        steps.run(birth)
    return Born(pid, pidfd)


def _clone_by_detour(
    birth: Birth,
    namespaces: NamespacePlan,
    cgroup_fd: int | None,
    ours: _socket.socket,
    *,
    quick: bool,
) -> Born:
    """Have init born by a process in between, which ends; init is our child all the same."""
    try:
        pid, pidfd = process.clone3(0, cgroup_fd=cgroup_fd)
    except BlockingIOError as err:
        if quick:
            raise _LimitReached from err
        raise
    if pid == 0:
        detour.run(birth, namespaces, _flags(birth))
    try:
        data, received = fds.recv_fds(ours, _MAX_MESSAGE, 1)
        message = loads(data) if data else {}
        if quick and message.get("errno") == errno.EAGAIN:
            raise _LimitReached
        if "error" in message:
            raise StartFailed(message["error"], message["code"])
        if not received:
            raise StartFailed("container init was not born: was its parent killed?")
    finally:
        try:
            process.pidfd_send_signal(pidfd, 9)  # it has said all; nothing may hold us up
        except ProcessLookupError:
            pass
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
    return Born(process.pidfd_pid(received[0]), received[0])


def _set_up(birth: Birth, born: Born, namespaces: NamespacePlan, manager: Manager | None) -> None:
    """Do to the child what it cannot; without `manager` it joins its cgroups itself."""
    if namespaces.new & ns.CLONE_NEWUSER:
        from sampan.oci.idmaps import write_maps

        write_maps(born.pid, namespaces.uid_map, namespaces.gid_map)
    plan = birth.process
    if plan.affinity_initial is not None:
        _set_affinity(born.pid, plan.affinity_initial, "initial")
    if manager is not None:
        manager.add(born.pid)
    if plan.affinity_final is not None:
        _set_affinity(born.pid, plan.affinity_final, "final")
    if plan.scheduler is not None:
        try:
            plan.scheduler.apply(born.pid)
        except OSError as err:
            raise StartFailed(f"error setting scheduler: {os.strerror(err.errno or 0)}") from err
    if plan.io_priority is not None:
        scheduling.ioprio_set(born.pid, *plan.io_priority)
    if plan.oom_score_adj is not None:
        try:
            _write(f"/proc/{born.pid}/oom_score_adj", b"%d" % plan.oom_score_adj)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            log.warning("oomScoreAdj is left as it is: only root may lower it")


def _set_affinity(pid: int, cpus: frozenset[int], which: str) -> None:
    try:
        os.sched_setaffinity(pid, cpus)
    except OSError as err:
        text = f"error setting {which} CPU affinity {sorted(cpus)}: {err.strerror}"
        raise StartFailed(text) from err


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
