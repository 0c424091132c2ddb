"""One container's cgroup in every hierarchy."""

from __future__ import annotations

import errno
import os
import select
import time

from sampan.cgroups import controllers, folders
from sampan.cgroups.files import Cgroup, translate
from sampan.cgroups.hierarchies import Layout, clean, detect, own_paths
from sampan.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    SampanError,
    Unimplemented,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from sampan.cgroups.oom import OomWatch
    from sampan.model.runtime.resources import Resources

__all__ = ["Manager"]

UNIFIED = "unified"
_KILL = 9
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Manager:
    """A cgroup of ours: `paths` has its folder in each hierarchy.

    Its keys are v1 controllers (`memory`), named hierarchies (`name=systemd`), and `unified`.
    Controllers that share a hierarchy have the same folder.
    """

    __slots__ = ("_layout", "path", "paths")

    def __init__(self, path: str, *, layout: Layout | None = None) -> None:
        """Work out the folders; nothing is made or checked yet.

        Args:
          path: As in config.json's cgroupsPath; relative is to the caller's own cgroup.
          layout: The host's, by default `detect()`.
        """
        self._layout = layout or detect()
        self.path = path
        own = {} if path.startswith("/") else own_paths()
        self.paths: dict[str, str] = {}
        for name, point in self._layout.v1.items():
            self.paths[name] = point + clean(f"{own.get(name, '')}/{path}")
        for name, point in self._layout.named.items():
            key = f"name={name}"
            self.paths[key] = point + clean(f"{own.get(key, '')}/{path}")
        if self._layout.unified is not None:
            self.paths[UNIFIED] = self._layout.unified + clean(f"{own.get('', '')}/{path}")

    @classmethod
    def from_state(cls, state: dict[str, str], *, path: str = "") -> Manager:
        """Return the Manager whose `to_state` this was; its process may have been another."""
        if "systemd.unit" in state:
            from sampan.cgroups.systemd.manager import SystemdManager

            return SystemdManager.from_state(state, path=path)
        self = cls.__new__(cls)
        self._layout = detect()
        self.path = path
        self.paths = dict(state)
        return self

    def to_state(self) -> dict[str, str]:
        """Return the folders by hierarchy, for a state file."""
        return dict(self.paths)

    def child(self, name: str) -> Manager:
        """Return a Manager for the sub-cgroup `name` (may have slashes) in every hierarchy.

        Raises:
          InvalidArgument: It would not be below this one.
        """
        if ".." in name.split("/") or clean(name) == "/":
            raise InvalidArgument(f"sub-cgroup {name!r}: must be a path below {self.path}")
        paths = {key: path + clean(name) for key, path in self.paths.items()}
        return Manager.from_state(paths, path=self.path + clean(name))

    def create(self, *, exclusive: bool = True, best_effort: bool = False) -> None:
        """Make the folders, and on failure leave none that we made.

        Args:
          exclusive: Refuse a cgroup that has processes or is frozen.
          best_effort: Leave hierarchies out in which we may not make folders (rootless); they are
            dropped from `paths`.

        Raises:
          FailedPrecondition: It has processes, or is frozen.
          PermissionDenied: The hierarchy does not belong to us.
        """
        made: list[str] = []
        seen: set[str] = set()
        try:
            for key, path in list(self.paths.items()):
                if path in seen:
                    continue
                seen.add(path)
                try:
                    existed = not folders.make(path, made)
                except OSError as error:
                    if best_effort and error.errno in _REFUSED:
                        del self.paths[key]
                        continue
                    raise translate(error, f"make cgroup {path}") from error
                if existed and exclusive:
                    folders.refuse_used(Cgroup(path))
                if key == "cpuset":
                    from sampan.cgroups.v1 import cpuset

                    cpuset.inherit(Cgroup(path), self._layout.v1["cpuset"])
            if self._layout.mode == "v2":
                self._enable_controllers()
        except BaseException:
            for path in reversed(made):
                try:  # noqa: SIM105
                    os.rmdir(path)
                except OSError:
                    pass
            raise

    def _enable_controllers(self) -> None:
        """Hand every controller down from the root of the tree to this cgroup's parent."""
        root = self._layout.unified or ""
        at = root
        for part in self.paths[UNIFIED][len(root) :].split("/")[1:]:
            cgroup = Cgroup(at)
            has = set(cgroup.read("cgroup.subtree_control").split())
            for name in cgroup.read("cgroup.controllers").split():
                if name not in has:
                    try:  # noqa: SIM105  what was wanted and is missing is said by `apply`
                        cgroup.write_raw("cgroup.subtree_control", f"+{name}".encode())
                    except OSError:
                        pass
            at = f"{at}/{part}"

    def clone_fd(self) -> int | None:
        """Return an fd of the v2 folder for clone3, which the caller owns; None without v2."""
        path = self.paths.get(UNIFIED)
        if path is None:
            return None
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_tasks(self) -> list[tuple[int, str]] | None:
        """Return fds, the caller's, and paths: a process that writes `0` to each joins this cgroup.

        In every hierarchy but v2, where it is to be born (`clone_fd`). It must have one thread. Who
        moves another process, or a group of threads, waits for a grace period of RCU, some 10 ms;
        who moves its own only thread does not (Linux 5.5). None: it cannot be done so, use `add`.
        """
        found: list[tuple[int, str]] = []
        # The freezer last: what joins a frozen cgroup stops there.
        ordered = sorted(self._folders(), key=lambda folder: folder[0] == "freezer")
        try:
            for key, path in ordered:
                if key != UNIFIED:
                    fd = os.open(f"{path}/tasks", os.O_WRONLY | os.O_CLOEXEC)
                    found.append((fd, f"{path}/tasks"))
        except OSError:
            for fd, _ in found:
                os.close(fd)
            return None
        return found

    def add(self, pid: int, *, skip_unified: bool = False) -> None:
        """Move process `pid` here in every hierarchy.

        Args:
          pid: As our pid namespace sees it.
          skip_unified: It was born in the v2 folder by `clone_fd`.
        """
        for key, path in self._folders():
            if key != UNIFIED or not skip_unified:
                Cgroup(path).write("cgroup.procs", pid)

    def refuse_used(self) -> None:
        """Raise FailedPrecondition if it has processes, or is frozen."""
        for _, path in self._folders():
            if os.path.isdir(path):
                folders.refuse_used(Cgroup(path))

    def exists(self) -> bool:
        """Return whether the cgroup is there in some hierarchy."""
        return any(os.path.isdir(path) for path in self.paths.values())

    def apply(self, resources: Resources) -> None:
        """Set what `resources` names and leave the rest alone.

        Raises:
          InvalidArgument: The kernel refuses a value; or `unified` without a v2 host.
          Unimplemented: The controller is not here.
        """
        if resources.unified and self._layout.mode != "v2":
            raise InvalidArgument("linux.resources.unified: this host's controllers are on v1")
        wanted = _wanted(resources, self._layout.mode)
        version = "v2" if self._layout.mode == "v2" else "v1"
        for name in wanted:
            path = self.paths.get(UNIFIED if version == "v2" else name)
            if name == "devices" and version == "v2" and path is not None:
                from sampan.cgroups.v2 import devices

                devices.apply(Cgroup(path), resources)
            elif path is None:
                raise Unimplemented(f"no cgroup controller {name} on this host")
            else:
                controllers.load(version, name).apply(Cgroup(path), resources)
        for name, value in (resources.unified or {}).items():
            if "/" in name or "\n" in name:
                raise InvalidArgument(f"linux.resources.unified: {name!r} is no file name")
            for line in value.splitlines():
                Cgroup(self.paths[UNIFIED]).write(name, line)

    def stats(self) -> dict[str, dict[str, int]]:
        """Return what all controllers know: section to key to number; sections merge."""
        found: dict[str, dict[str, int]] = {}
        if self._layout.mode == "v2":
            cgroup = Cgroup(self.paths[UNIFIED])
            present = cgroup.read("cgroup.controllers").split()
            # cpu.stat is there without the controller, too.
            names = [name for name in controllers.V2 if name in present or name == "cpu"]
            pairs = [(controllers.load("v2", name), cgroup) for name in names]
        else:
            names = [name for name in controllers.V1 if name in self.paths]
            pairs = [(controllers.load("v1", name), Cgroup(self.paths[name])) for name in names]
        for module, cgroup in pairs:
            for section, values in module.stats(cgroup).items():
                found.setdefault(section, {}).update(values)
        return found

    def pids(self) -> list[int]:
        """Return every process in this cgroup and those below, of all hierarchies."""
        found: set[int] = set()
        for _, path in self._folders():
            for folder in folders.walk(path):
                try:
                    found.update(map(int, Cgroup(folder).read_raw("cgroup.procs").split()))
                except (FileNotFoundError, OSError) as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                        raise
        return sorted(found)

    def signal(self, number: int) -> None:
        """Send a signal to every process here and below; those that end meanwhile are no error."""
        for pid in self.pids():
            try:  # noqa: SIM105
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def freeze(self, timeout_s: float = 10) -> None:
        """Stop every task here and below, and wait until they are stopped.

        Raises:
          DeadlineExceeded: They were not in time, and run again.
        """
        deadline = time.monotonic() + timeout_s
        if "freezer" in self.paths:
            self._freeze_v1(deadline)
            return
        cgroup = Cgroup(self._v2_path())
        cgroup.write("cgroup.freeze", 1)
        if not folders.wait_event(cgroup, "frozen 1", deadline):
            cgroup.write("cgroup.freeze", 0)
            raise DeadlineExceeded(f"cgroup {cgroup.path} did not freeze in {timeout_s} s")

    def _freeze_v1(self, deadline: float) -> None:
        cgroup = Cgroup(self.paths["freezer"])
        attempt = 0
        while True:
            # A task that forks just now can leave the state at FREEZING for ever; writing again
            # takes its child in, and thawing now and then lets it leave its uninterruptible state.
            cgroup.write("freezer.state", "FROZEN")
            if cgroup.read("freezer.state") == "FROZEN":
                return
            attempt += 1
            if attempt % 50 == 0:
                cgroup.write("freezer.state", "THAWED")
            if time.monotonic() > deadline:
                cgroup.write("freezer.state", "THAWED")
                raise DeadlineExceeded(f"cgroup {cgroup.path} did not freeze in time")
            select.poll().poll(1)

    def thaw(self) -> None:
        """Let every task here and below run on."""
        if "freezer" in self.paths:
            Cgroup(self.paths["freezer"]).write("freezer.state", "THAWED")
        elif self.paths:  # without any, as for ordinary users, nothing was frozen
            Cgroup(self._v2_path()).write("cgroup.freeze", 0)

    def frozen(self) -> bool:
        """Return whether this cgroup is frozen, by itself or from above."""
        if "freezer" in self.paths:
            return (Cgroup(self.paths["freezer"]).optional("freezer.state") or "") in (
                "FROZEN",
                "FREEZING",
            )
        if UNIFIED not in self.paths:
            return False
        return "frozen 1" in (Cgroup(self.paths[UNIFIED]).optional("cgroup.events") or "")

    def kill_all(self, timeout_s: float = 10) -> None:
        """Kill every process here and below, forks in flight included, and wait for their end.

        Raises:
          DeadlineExceeded: Some still live, in an uninterruptible sleep most likely; names them.
        """
        deadline = time.monotonic() + timeout_s
        unified = self.paths.get(UNIFIED)
        if unified is not None and os.path.exists(f"{unified}/cgroup.kill"):
            Cgroup(unified).write("cgroup.kill", 1)
            if self.frozen():
                self.thaw()  # a frozen task on v1 dies only once thawed
            folders.wait_event(Cgroup(unified), "populated 0", deadline)
        while True:
            living = self.pids()
            if not living:
                return
            self._kill_once(deadline)
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"cgroup {self.path}: processes {living[:10]} are still there after SIGKILL"
                )
            select.poll().poll(2)

    def _kill_once(self, deadline: float) -> None:
        """Kill what is there now; frozen meanwhile, so that no child slips through."""
        can_freeze = "freezer" in self.paths or UNIFIED in self.paths
        if can_freeze:
            try:  # noqa: SIM105
                self.freeze(min(1.0, max(0.05, deadline - time.monotonic())))
            except (SampanError, OSError):
                pass
        try:
            self.signal(_KILL)
        finally:
            if can_freeze:
                try:  # noqa: SIM105
                    self.thaw()
                except SampanError:
                    pass

    def delete(self, timeout_s: float = 5) -> None:
        """Remove this cgroup and those below in every hierarchy; gone already is fine.

        Waits for what is still dying inside, but kills nobody.

        Raises:
          FailedPrecondition: Processes are still inside; names the folder.
        """
        deadline = time.monotonic() + timeout_s
        wait_ms = 1
        todo = [path for _, path in self._folders()]
        while todo:
            todo = [path for path in todo if not folders.remove(path)]
            if not todo:
                return
            if time.monotonic() > deadline:
                raise FailedPrecondition(
                    f"cgroup {todo[0]} is still in use by processes {self.pids()[:10]}"
                )
            select.poll().poll(wait_ms)
            wait_ms = min(2 * wait_ms, 50)

    def oom_watch(self) -> OomWatch:
        """Return a watch for out-of-memory kills in this cgroup; the caller closes it.

        Raises:
          Unimplemented: No memory controller here.
        """
        from sampan.cgroups.oom import watch_v1, watch_v2

        if "memory" in self.paths:
            return watch_v1(Cgroup(self.paths["memory"]))
        return watch_v2(Cgroup(self._v2_path()))

    def _v2_path(self) -> str:
        path = self.paths.get(UNIFIED)
        if path is None:
            raise Unimplemented("no cgroup freezer, and no v2 hierarchy, on this host")
        return path

    def _folders(self) -> Iterator[tuple[str, str]]:
        """Yield each folder once."""
        seen = set()
        for key, path in self.paths.items():
            if path not in seen:
                seen.add(path)
                yield key, path


_FIELDS = (
    ("memory", "memory"),
    ("cpu", "cpu"),
    ("pids", "pids"),
    ("block_io", "blkio"),
    ("hugepage_limits", "hugetlb"),
    ("devices", "devices"),
    ("rdma", "rdma"),
)


def _wanted(resources: Resources, mode: str) -> list[str]:
    """Return the controllers that `resources` has something to say about."""
    wanted = [name for field, name in _FIELDS if getattr(resources, field)]
    cpu = resources.cpu
    if cpu is not None:
        if cpu.cpus or cpu.mems:
            wanted.append("cpuset")
        if not any(
            value is not None
            for value in (
                cpu.shares,
                cpu.quota,
                cpu.burst,
                cpu.period,
                cpu.realtime_runtime,
                cpu.realtime_period,
                cpu.idle,
            )
        ):
            wanted.remove("cpu")
    if mode == "v2":
        return ["io" if name == "blkio" else name for name in wanted]
    if resources.network is not None:
        if resources.network.class_id is not None:
            wanted.append("net_cls")
        if resources.network.priorities:
            wanted.append("net_prio")
    return wanted
