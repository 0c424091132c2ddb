"""A container's life after its creation: start, kill, exec, pause, resume, update, delete.

Whatever changes a container holds its folder's lock, so that commands at the same time come one
after the other; hooks run without it, as they may call commands themselves.
"""

# ruff: noqa: A001  id is runc's word

from __future__ import annotations

import errno
import os

from sampan import cgroups
from sampan.errors import FailedPrecondition, NotFound, SampanError
from sampan.linux import namespaces as ns
from sampan.linux import process
from sampan.model.runtime.document import dumps
from sampan.model.runtime.hooks import Hook
from sampan.model.runtime.process import Process
from sampan.model.runtime.resources import Resources
from sampan.model.runtime.spec import Spec, parse_spec
from sampan.oci import Child, State, execgroup, log
from sampan.oci.birth import Birth, bear
from sampan.oci.delivery import deliver
from sampan.oci.hooks import run_hooks
from sampan.oci.plan.namespaces import NamespacePlan
from sampan.oci.plan.process import plan_process
from sampan.oci.plan.scheduling import plan_affinity
from sampan.oci.statefile import StateFolder, check_id, list_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Container", "discard", "list_containers", "load"]

_SIGKILL = 9
_KILL_TIMEOUT_S = 10.0
_UNMADE_TIMEOUT_S = 1.0


class Container:
    """A container as its state folder tells of it. Made by `create` and `load`."""

    def __init__(self, folder: StateFolder, document: dict[str, Any]) -> None:
        self._folder = folder
        self._document = document
        self.id: str = document["id"]
        self.bundle: str = document["bundle"]
        self.pid: int = document["pid"]
        self.pidfd = -1
        """Of init, from `create` only; owned by this object."""
        self.console = -1
        """Master of init's terminal, from `create` without a console socket only."""
        self.modules: list[str] | None = None
        """sys.modules of the child just before its execve, with `debug_modules`."""
        self._manager: cgroups.Manager | None = None
        self._spec: Spec | None = None

    @property
    def root(self) -> str:
        """The state folder, `<root>/<id>`."""
        return self._folder.path

    @property
    def spec(self) -> Spec:
        """config.json as it was at create."""
        if self._spec is None:
            self._spec = parse_spec(self._folder.read_config())
        return self._spec

    @property
    def cgroup(self) -> cgroups.Manager:
        if self._manager is None:
            self._manager = cgroups.Manager.from_state(self._document["cgroup"])
        return self._manager

    def detach_pidfd(self) -> int:
        """Give init's pidfd to the caller."""
        fd, self.pidfd = self.pidfd, -1
        return fd

    def detach_console(self) -> int:
        """Give the terminal's master to the caller."""
        fd, self.console = self.console, -1
        return fd

    def close(self) -> None:
        """Close the fds that this object still owns; the container goes on."""
        for fd in (self.detach_pidfd(), self.detach_console()):
            if fd >= 0:
                os.close(fd)

    def status(self) -> str:
        """Return creating, created, running, paused or stopped."""
        if not self.pid or not _alive(self.pid, self._document["start_time"]):
            return "stopped"
        if self._document.get("creating"):
            return "creating"
        if self.cgroup.frozen():
            return "paused"
        return "created" if os.path.exists(self._folder.fifo) else "running"

    def state(self) -> State:
        """Return what `state` prints."""
        status = self.status()
        return State(
            oci_version=self._document["ociVersion"],
            id=self.id,
            status=status,
            pid=0 if status == "stopped" else self.pid,
            bundle=self.bundle,
            annotations=self._document["annotations"],
            created=self._document["created"],
        )

    def start(self) -> None:
        """Let the created init go on to its program.

        Raises:
          FailedPrecondition: it was started before, or has ended.
        """
        with self._folder:
            self._start()
        self._run_hooks("poststart", "running")

    def _start(self) -> None:
        status = self.status()
        if status == "stopped":
            raise FailedPrecondition("cannot start a container that has stopped")
        if status == "creating":
            raise FailedPrecondition("cannot start a container whose creation was not completed")
        if status != "created":
            raise FailedPrecondition("cannot start an already running container")
        try:
            fifo = os.open(self._folder.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as err:
            if err.errno == errno.ENXIO:
                raise FailedPrecondition("cannot start a container that has stopped") from err
            raise FailedPrecondition("cannot start an already running container") from err
        os.unlink(self._folder.fifo)
        try:
            os.write(fifo, b"0")
        finally:
            os.close(fifo)

    def kill(self, signal: int, *, all: bool = False) -> None:
        """Send a signal to init, or to every process of the container.

        Raises:
          FailedPrecondition: `container not running`.
        """
        with self._folder:
            self._kill(signal, all=all)

    def _kill(self, signal: int, *, all: bool) -> None:
        status = self.status()
        if all and not self.cgroup.paths and self._document["own_pids"]:
            # An ordinary user's, without cgroups: with init ends everything in its pid namespace.
            if status != "stopped":
                self._signal_namespace(signal)
            return
        if all or (signal == _SIGKILL and not self._document["own_pids"]):
            self._signal_all(signal)
            return
        if status == "stopped":
            raise FailedPrecondition("container not running")
        pidfd = process.pidfd_open(self.pid)
        try:
            process.pidfd_send_signal(pidfd, signal)
        finally:
            os.close(pidfd)
        if status == "paused" and signal == _SIGKILL:
            self.cgroup.thaw()

    def _signal_namespace(self, signal: int) -> None:
        """Signal everything in the container's pid namespace; by SIGKILL init alone will do."""
        if signal == _SIGKILL:
            self._kill_init()
            return
        own = os.stat(f"/proc/{self.pid}/ns/pid")
        for name in os.listdir("/proc"):
            try:
                if name.isdigit() and os.path.samestat(os.stat(f"/proc/{name}/ns/pid"), own):
                    os.kill(int(name), signal)
            except (OSError, ProcessLookupError):
                continue

    def _signal_all(self, signal: int) -> None:
        if signal == _SIGKILL:
            self.cgroup.kill_all(timeout_s=_KILL_TIMEOUT_S)
            return
        for pid in self.cgroup.pids():
            try:
                os.kill(pid, signal)
            except ProcessLookupError:
                continue

    def pause(self) -> None:
        """Freeze every process."""
        with self._folder:
            if self.status() not in ("running", "created"):
                raise FailedPrecondition("container not running or created: " + self.status())
            self.cgroup.freeze()

    def resume(self) -> None:
        """Let every process go on."""
        with self._folder:
            if self.status() != "paused":
                raise FailedPrecondition("container not paused")
            self.cgroup.thaw()

    def update(self, resources: Resources) -> None:
        """Change limits; what is None stays as it is."""
        with self._folder:
            if self.status() == "stopped":
                raise FailedPrecondition("container not running")
            self.cgroup.apply(resources)

    def stats(self) -> dict[str, Any]:
        """Return what the cgroups count, section -> key -> number."""
        return self.cgroup.stats()

    def processes(self) -> list[int]:
        """Return the pids, as the host sees them, of every process of the container."""
        return self.cgroup.pids()

    def exec(
        self,
        wanted: Process,
        *,
        stdio: tuple[int, int, int] = (0, 1, 2),
        console_socket: str | int | None = None,
        preserve_fds: int = 0,
        ignore_paused: bool = False,
        pid_file: str | None = None,
        pidfd_socket: str | None = None,
        cgroup: str = "",
        own_cgroup: str = "",
        debug_modules: bool = False,
    ) -> Child:
        """Execute one more process; it runs when this returns, as a child of the caller.

        With `ignore_paused` it may be frozen at once. `cgroup` is one below the container's that
        exists, `[CONTROLLER:]PATH`. `own_cgroup` is the name of one to be made for it, for
        `signal_exec`; the caller removes it by `remove_exec`. Everything else is as for `create`.

        Raises:
          StartFailed: it could not be executed.
          FailedPrecondition: the container does not run.
        """
        status = self.status()
        if status == "stopped":
            raise FailedPrecondition("cannot exec in a stopped container")
        if status == "paused" and not ignore_paused:
            raise FailedPrecondition("cannot exec in a paused container")
        linux = self.spec.linux
        plan = plan_process(wanted, linux, os.path.dirname(self.root))
        affinity = wanted.exec_cpu_affinity
        if affinity is None and self.spec.process is not None:
            affinity = self.spec.process.exec_cpu_affinity
        plan.affinity_initial, plan.affinity_final = plan_affinity(affinity)
        if own_cgroup:
            manager = execgroup.join(self.cgroup, own_cgroup)
        else:
            manager = self._exec_cgroup(cgroup)
        birth = Birth(plan, stdio)
        birth.passed_fds = list(range(3, 3 + preserve_fds))
        birth.debug_modules = debug_modules
        joined = self._document["namespaces"]
        birth.target_flags = joined & ~ns.CLONE_NEWPID
        birth.namespaces_have_user = bool(joined & ns.CLONE_NEWUSER)
        # Also where the user namespace is our own: an ordinary user's may have denied it for ever.
        birth.may_set_groups = _may_set_groups(self.pid)
        namespaces = NamespacePlan()
        birth.target_pidfd = process.pidfd_open(self.pid)
        try:
            if joined & ns.CLONE_NEWPID:
                namespaces.pid_fd = ns.open_namespace(self.pid, "pid")
                if joined & ns.CLONE_NEWUSER and os.geteuid() != 0:
                    # A user has rights over the other namespaces only from inside their own.
                    namespaces.user_fd = ns.open_namespace(self.pid, "user")
                    birth.target_flags &= ~ns.CLONE_NEWUSER
            if not birth.target_flags:
                os.close(birth.target_pidfd)
                birth.target_pidfd = -1
            born = bear(birth, namespaces, manager)
        except BaseException:
            if own_cgroup:
                self.remove_exec(own_cgroup)
            raise
        finally:
            namespaces.close()
            if birth.target_pidfd >= 0:
                os.close(birth.target_pidfd)
        self.modules = born.modules
        deliver(
            born,
            plan,
            console_socket=console_socket,
            pidfd_socket=pidfd_socket,
            pid_file=pid_file,
            kind="setns",
            state=self.hook_state(status),
        )
        return Child(born.pid, born.pidfd, born.console)

    def signal_exec(self, own_cgroup: str, signal: int) -> None:
        """Send a signal to every process that came of the exec with this cgroup, wherever it is."""
        execgroup.signal(self.cgroup, own_cgroup, signal)

    def remove_exec(self, own_cgroup: str) -> None:
        """Remove the cgroup of an exec; what it has left running stays in the container's."""
        execgroup.remove(self.cgroup, own_cgroup)

    def _exec_cgroup(self, where: str) -> cgroups.Manager:
        """Return the cgroup `[CONTROLLER:]PATH` below ours; with a controller, only there."""
        if not where:
            return self.cgroup
        controllers, colon, path = where.rpartition(":")
        below = self.cgroup.child(path) if path.strip("/") else self.cgroup
        if not colon:
            paths = dict(below.paths)
        else:
            paths = dict(self.cgroup.paths)
            for name in controllers.split(","):
                if name not in paths:
                    raise FailedPrecondition(f"unknown controller {name} in exec --cgroup {where}")
                paths[name] = below.paths[name]
        for path in paths.values():
            if not os.path.isdir(path):
                raise NotFound(f"exec --cgroup {where}: no cgroup {path}")
        return cgroups.Manager.from_state(paths)

    def delete(self, *, force: bool = False) -> None:
        """Remove a stopped container, or with `force` kill it first; poststop hooks run.

        Raises:
          FailedPrecondition: it runs, and `force` was not given.
        """
        if force and self._document.get("creating"):
            self._kill_init()  # whoever is creating it may never give the lock back otherwise
        with self._folder:
            self._refresh()
            self._delete(force=force)
        self._run_hooks("poststop", "stopped")

    def _refresh(self) -> None:
        """Read again what may have been written while we waited for the lock."""
        self._document = self._folder.read()
        self.pid = self._document["pid"]

    def _delete(self, *, force: bool) -> None:
        status = self.status()
        if status != "stopped":
            if not force and status != "created":
                raise FailedPrecondition(
                    f"cannot delete container {self.id} that is not stopped: {status}"
                )
            self._end_init()
        if self.pid:
            self.cgroup.kill_all(timeout_s=_KILL_TIMEOUT_S)
            self.cgroup.delete()
        else:
            # It died before init went on: the cgroup may even be somebody else's, who is killed
            # by nobody; a child of that create ends by itself.
            try:
                self.cgroup.delete(_UNMADE_TIMEOUT_S)
            except SampanError as err:
                log.warning(f"left behind: {err}")
        if "rdt" in self._document:
            from sampan.oci.rdt import ClassOfService

            ClassOfService(self._document["rdt"], [], must_exist=False).remove()
        self._folder.remove()

    def _kill_init(self) -> None:
        if not self.pid or not _alive(self.pid, self._document["start_time"]):
            return
        try:
            os.kill(self.pid, _SIGKILL)
        except ProcessLookupError:
            return

    def _end_init(self) -> None:
        try:
            pidfd = process.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            process.pidfd_send_signal(pidfd, _SIGKILL)
            self.cgroup.thaw()
            if not process.pidfd_wait(pidfd, _KILL_TIMEOUT_S):
                raise FailedPrecondition(f"container init still running: pid {self.pid}")
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)

    def _run_hooks(self, name: str, status: str) -> None:
        """Run the hooks that state.json keeps: those for after the creation."""
        kept = self._document["hooks"].get(name)
        if not kept:
            return
        hooks = [Hook.from_json(hook) for hook in kept]
        state = dumps(self.hook_state(status)).encode()
        run_hooks(name, hooks, state, go_on=name == "poststop")

    def hook_state(self, status: str) -> dict[str, object]:
        """Return the state as hooks and seccomp agents get it."""
        document: dict[str, object] = {
            "ociVersion": self._document["ociVersion"],
            "id": self.id,
            "status": status,
            "pid": self.pid if status != "stopped" else 0,
            "bundle": self.bundle,
        }
        if self._document["annotations"]:
            document["annotations"] = self._document["annotations"]
        return document


def load(root: str, id: str) -> Container:
    """Return a container by its id.

    Raises:
      NotFound: `container does not exist`.
    """
    folder = StateFolder.open(root, id)
    return Container(folder, folder.read())


def discard(root: str, id: str) -> int:
    """Kill and remove whatever is left of a container, half made ones included.

    For those who know that nobody is at it any more. Returns the pid that init had, or 0.
    """
    try:
        container = load(root, id)
    except NotFound:
        check_id(id)
        if os.path.isdir(f"{root}/{id}"):
            StateFolder.open(root, id).remove()  # a create that died early
        return 0
    container.delete(force=True)
    return container.pid


def list_containers(root: str) -> Sequence[Container]:
    """Return all containers below `root`; those half made or half removed are left out."""
    found = []
    for id in list_ids(root):
        try:
            found.append(load(root, id))
        except NotFound:
            continue
    return found


def _may_set_groups(pid: int) -> bool:
    """Return whether the user namespace of a process allows setgroups; see user_namespaces(7)."""
    try:
        with open(f"/proc/{pid}/setgroups", "rb") as file:
            return file.read(4) != b"deny"
    except OSError:
        return True


def _alive(pid: int, start_time: int) -> bool:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        line = os.read(fd, 4096)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    fields = line[line.rindex(b")") + 2 :].split()
    return fields[0] not in (b"Z", b"X") and int(fields[19]) == start_time
