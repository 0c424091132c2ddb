"""cgroups: what a container may use, what it has used, and how to stop all of it at once.

A `Manager` is one container's cgroup in every hierarchy that the host has:

    v2       one tree
    v1       a tree for each controller (some share one), and named ones such as systemd's
    hybrid   as v1, with a v2 tree beside it which has no controllers but kills and receives clones

    manager = Manager("/sampan/c1")            # no system call that changes anything
    manager.create()                           # refuses a cgroup with processes, or a frozen one
    manager.apply(resources)                   # model.runtime.resources.Resources
    fd = manager.clone_fd()                    # v2 and hybrid: for clone3(cgroup_fd=fd); or None
    manager.add(pid)                           # every hierarchy
    fds = manager.open_tasks()                 # for a child to join by itself, which is quicker
    manager.freeze(); manager.thaw(); manager.frozen()
    manager.pids(); manager.kill_all(timeout_s=10); manager.delete()
    stats = manager.stats()                    # a dict, section -> key -> number
    with manager.oom_watch() as watch: ...     # watch.fd becomes readable; watch.read() counts
    inner = manager.child("exec-1")            # a Manager for a process of the same container
    state = manager.to_state(); Manager.from_state(state)
    manager = systemd_manager("machine.slice:sampan:c1", "c1", user=False)     # the systemd driver

`path` is that of config.json's cgroupsPath: absolute from the root of each hierarchy, or relative
to the cgroup of the caller. `..` never leaves the root. With rules for devices the v1 controller is
used where there is one, else a BPF program on the v2 cgroup.

Errors: FailedPrecondition (in use, frozen, still has processes), InvalidArgument (the kernel
refused a value; names file and value), NotFound, PermissionDenied, Unimplemented (no such
controller here), DeadlineExceeded (names the processes that would not die or freeze).
Nothing here sleeps longer than `timeout_s` says, and nothing needs more than one thread.

Each controller is a module in `v1` and `v2` with the same three names: `apply(cgroup, resources)`,
`stats(cgroup)` and `CONTROLLER`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cgroups.hierarchies import Layout
    from sampan.cgroups.hierarchies import detect as detect
    from sampan.cgroups.hierarchies import own_paths as own_paths
    from sampan.cgroups.manager import Manager
    from sampan.cgroups.oom import OomWatch

__all__ = [
    "Layout",
    "Manager",
    "OomWatch",
    "detect",
    "own_paths",
    "preload",
    "systemd_manager",
]

_HOMES = {
    "Layout": "hierarchies",
    "Manager": "manager",
    "OomWatch": "oom",
    "detect": "hierarchies",
    "own_paths": "hierarchies",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    return getattr(__import__(f"sampan.cgroups.{home}", fromlist=[name]), name)


def systemd_manager(path: str, id: str, *, user: bool) -> Manager:
    """Return a Manager whose folder systemd makes, as a unit; see `systemd.manager`.

    Args:
      path: cgroupsPath, `slice:prefix:name` or empty.
      id: The container's, for the unit's name where there is no path.
      user: Whether the calling user's own systemd is asked.

    Raises:
      InvalidArgument: the path is of another form. Unavailable: systemd does not listen.
    """
    from sampan.cgroups.systemd.manager import SystemdManager

    return SystemdManager(path, id, user=user)


def preload() -> None:
    """Import everything a later call may need, for processes that refuse imports after a fork."""
    for module in ("manager", "oom", "v1", "v2"):
        __import__(f"sampan.cgroups.{module}")
    from sampan.cgroups import controllers

    controllers.load_all()
    __import__("sampan.cgroups.systemd.manager")
