"""The OCI runtime: containers from bundles, as runc does it, entered in process or as `sampan-oci`.

A container is a folder of state, `<root>/<id>/`, and a process, its init. Its life:

    create  config.json is read and checked; cgroups are made and limited; init is born inside its
            namespaces, builds its rootfs, finds its executable, and waits        -> "created"
    start   init is told to go on; it runs the startContainer hooks and execve    -> "running"
    kill    a signal to init, or to everything in the cgroup
    delete  cgroups and state are removed, poststop hooks run                     -> gone
    checkpoint, restore                      its processes as files, and back: `oci.criu`

There is one path and two entries. The shim, forked from the zygote, calls `create` and the methods
of `Container` in process; `sampan.oci.main` does the same from a command line. Whoever calls is the
parent: init and every exec'd process are CHILDREN OF THE CALLER, which alone waits for them (the
runtime itself never calls waitid for what it hands out). The command line exits and leaves its
children to the nearest subreaper.

    container = oci.create(root="/run/sampan/oci", id="c1", bundle="/b", stdio=(0, 1, 2))
    container.start()
    child = container.exec(Process(args=("true",)), stdio=(0, 1, 2))
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)          # the caller waits
    container.kill(signal.SIGKILL); ...wait for container.pidfd...; container.delete()

Fds. `stdio` are three fds of the caller, borrowed: the caller closes its own. `pidfd` and
`console` are owned by the object that holds them until `detach_pidfd()`/`detach_console()`.
When `process.terminal` is set and no `console_socket` is given, `console` is the master side of the
pseudo-terminal; with a `console_socket` (a path, or a connected socket's fd) the master is sent
there as runc does it (SCM_RIGHTS with the name as payload).

Threads. Call from a process with exactly one thread: births use clone3 with fork semantics, and
joining a pid namespace is a moment's change of the caller's own children namespace.

Errors are `sampan.errors`: NotFound (no such container), AlreadyExists, FailedPrecondition (wrong
status, as "container not running"), InvalidArgument (config.json names the path
`$.linux.resources.pids.limit`), PermissionDenied, Unimplemented (kernel or host cannot). A failing
birth raises `StartFailed`, whose text clients parse as runc's: `exec: "foo": executable file not
found in $PATH`, and whose `exit_code` is docker's 126 or 127.
"""

from __future__ import annotations

import sys

from sampan.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.oci.container import Container, discard, list_containers, load
    from sampan.oci.creation import create
    from sampan.oci.criu import CheckpointFailed, CheckpointOptions, checkpoint, restore

__all__ = [
    "CheckpointFailed",
    "CheckpointOptions",
    "Child",
    "Container",
    "StartFailed",
    "State",
    "checkpoint",
    "create",
    "discard",
    "list_containers",
    "load",
    "preload",
    "restore",
]


class StartFailed(FailedPrecondition):
    """A process could not be born: its text says which step failed and why."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """127 when the executable does not exist, 126 when it may not be run, else 1."""


class Child:
    """A process that `Container.exec` has born; the caller waits for it."""

    __slots__ = ("console", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, console: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        """Owned by whoever holds this object."""
        self.console = console
        """Master of the terminal, owned likewise; -1 without one."""


class State:
    """The state of a container as `state` prints it. Source: runtime-spec runtime.md#state."""

    __slots__ = ("annotations", "bundle", "created", "id", "oci_version", "owner", "pid", "status")

    def __init__(
        self,
        *,
        oci_version: str,
        id: str,
        status: str,
        pid: int,
        bundle: str,
        annotations: Mapping[str, str],
        created: str = "",
        owner: str = "",
    ) -> None:
        self.oci_version = oci_version
        self.id = id
        self.status = status
        """creating, created, running, paused or stopped."""
        self.pid = pid
        """0 once stopped."""
        self.bundle = bundle
        self.annotations = annotations
        self.created = created
        """RFC 3339, UTC."""
        self.owner = owner


_LAZY = {"Container", "discard", "list_containers", "load"}
_CHECKPOINT = {"CheckpointFailed", "CheckpointOptions", "checkpoint", "restore"}


def __getattr__(name: str) -> object:
    if name == "create":
        from sampan.oci import creation

        return creation.create
    if name in _LAZY:
        from sampan.oci import container

        return getattr(container, name)
    if name in _CHECKPOINT:
        return getattr(__import__("sampan.oci.criu", fromlist=[name]), name)
    raise AttributeError(name)


def preload() -> None:
    """Import everything that any later call here may need, libseccomp's binding included.

    The zygote calls it before `gc.freeze()`, since a shim refuses imports after its fork.
    """
    from sampan.oci import preloading

    preloading.load_all()
    assert "sampan.oci.container" in sys.modules  # noqa: S101
