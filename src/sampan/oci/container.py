"""A container's life: create, start, kill, exec, pause, resume, update, delete."""

# ruff: noqa: SLF001  of this module's own class
# ruff: noqa: A001  id is runc's word

from __future__ import annotations

import _socket
import errno
import json
import os
import time

from sampan import cgroups
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, SampanError, Unimplemented
from sampan.linux import fds, process
from sampan.linux import mounts as mnt
from sampan.linux import namespaces as ns
from sampan.model.runtime.process import Process
from sampan.model.runtime.resources import DeviceRule, Resources
from sampan.model.runtime.spec import Spec, read_spec
from sampan.oci import Child, StartFailed, State
from sampan.oci.birth import Birth, Born, bear
from sampan.oci.hooks import run_hooks
from sampan.oci.plan.namespaces import NamespacePlan, plan_namespaces
from sampan.oci.plan.process import plan_process
from sampan.oci.plan.sysctl import plan_sysctls
from sampan.oci.rootfs.plan import RootfsPlan, plan_rootfs
from sampan.oci.statefile import StateFolder, list_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["Container", "create", "list_containers", "load"]

_SIGKILL = 9
_KILL_TIMEOUT_S = 10.0
_DEFAULT_DEVICES = (
    (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None), (10, 200),
)  # fmt: skip
_TYPES = {
    "pid": ns.CLONE_NEWPID, "network": ns.CLONE_NEWNET, "mount": ns.CLONE_NEWNS,
    "ipc": ns.CLONE_NEWIPC, "uts": ns.CLONE_NEWUTS, "user": ns.CLONE_NEWUSER,
    "cgroup": ns.CLONE_NEWCGROUP, "time": ns.CLONE_NEWTIME,
}  # fmt: skip


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

    @property
    def root(self) -> str:
        """The state folder, `<root>/<id>`."""
        return self._folder.path

    @property
    def spec(self) -> Spec:
        """config.json as it was at create."""
        return Spec.from_json(self._document["config"])

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
        if not self.pid:
            return "creating" if self._document.get("creating") else "stopped"
        if not _alive(self.pid, self._document["start_time"]):
            return "stopped"
        if self.cgroup.frozen():
            return "paused"
        return "created" if os.path.exists(self._folder.fifo) else "running"

    def state(self) -> State:
        """Return what `state` prints."""
        status = self.status()
        return State(
            oci_version=self._document["config"].get("ociVersion", "1.0.2"),
            id=self.id,
            status=status,
            pid=0 if status == "stopped" else self.pid,
            bundle=self.bundle,
            annotations=self._document["config"].get("annotations") or {},
            created=self._document["created"],
        )

    def start(self) -> None:
        """Let the created init go on to its program.

        Raises:
          FailedPrecondition: it was started before, or has ended.
        """
        status = self.status()
        if status == "stopped":
            raise FailedPrecondition("cannot start a container that has stopped")
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
        hooks = self.spec.hooks
        if hooks is not None and hooks.poststart:
            run_hooks("poststart", hooks.poststart, self._hook_state("running"))

    def kill(self, signal: int, *, all: bool = False) -> None:
        """Send a signal to init, or to every process of the container.

        Raises:
          FailedPrecondition: `container not running`.
        """
        status = self.status()
        own_pid_ns = bool(self._document["namespaces"] & ns.CLONE_NEWPID)
        if all or (signal == _SIGKILL and not own_pid_ns):
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
        if self.status() not in ("running", "created"):
            raise FailedPrecondition("container not running or created: " + self.status())
        self.cgroup.freeze()

    def resume(self) -> None:
        """Let every process go on."""
        if self.status() != "paused":
            raise FailedPrecondition("container not paused")
        self.cgroup.thaw()

    def update(self, resources: Resources) -> None:
        """Change limits; what is None stays as it is."""
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
        debug_modules: bool = False,
    ) -> Child:
        """Execute one more process; it runs when this returns, as a child of the caller.

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
        seccomp = linux.seccomp if linux is not None else None
        plan = plan_process(wanted, seccomp, os.path.dirname(self.root))
        birth = Birth(plan, stdio)
        birth.passed_fds = list(range(3, 3 + preserve_fds))
        birth.debug_modules = debug_modules
        joined = self._document["namespaces"]
        birth.target_flags = joined & ~ns.CLONE_NEWPID
        birth.namespaces_have_user = bool(joined & ns.CLONE_NEWUSER)
        pid_namespace = -1
        birth.target_pidfd = process.pidfd_open(self.pid)
        try:
            if joined & ns.CLONE_NEWPID:
                pid_namespace = ns.open_namespace(self.pid, "pid")
            if not birth.target_flags:
                os.close(birth.target_pidfd)
                birth.target_pidfd = -1
            born = bear(birth, None, self.cgroup, pid_namespace=pid_namespace)
        finally:
            for fd in (birth.target_pidfd, pid_namespace):
                if fd >= 0:
                    os.close(fd)
        self.modules = born.modules
        _deliver(born, plan, console_socket, self)
        if pid_file is not None:
            _write_pid_file(pid_file, born.pid)
        return Child(born.pid, born.pidfd, born.console)

    def delete(self, *, force: bool = False) -> None:
        """Remove a stopped container, or with `force` kill it first; poststop hooks run.

        Raises:
          FailedPrecondition: it runs, and `force` was not given.
        """
        status = self.status()
        if status != "stopped":
            if not force and status != "created":
                raise FailedPrecondition(
                    f"cannot delete container {self.id} that is not stopped: {status}"
                )
            self._end_init()
        self.cgroup.kill_all(timeout_s=_KILL_TIMEOUT_S)
        self.cgroup.delete()
        hooks = self.spec.hooks
        state = self._hook_state("stopped")
        self._folder.remove()
        if hooks is not None and hooks.poststop:
            run_hooks("poststop", hooks.poststop, state, go_on=True)

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

    def _hook_state(self, status: str) -> bytes:
        document = {
            "ociVersion": self._document["config"].get("ociVersion", "1.0.2"),
            "id": self.id,
            "status": status,
            "pid": self.pid if status != "stopped" else 0,
            "bundle": self.bundle,
            "annotations": self._document["config"].get("annotations") or {},
        }
        return json.dumps(document).encode()


def create(
    *,
    root: str,
    id: str,
    bundle: str,
    spec: Spec | None = None,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: str | int | None = None,
    pid_file: str | None = None,
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    systemd_cgroup: bool = False,
    preserve_fds: int = 0,
    listen_fds: int = 0,
    debug_modules: bool = False,
) -> Container:
    """Make a container from a bundle up to the moment before its program runs.

    Args:
      root: Folder of all containers' states.
      id: Its name, unique below `root`.
      bundle: Folder of config.json; relative paths in it count from here.
      spec: config.json, when the caller has it already.
      stdio: Borrowed fds for 0, 1 and 2; unused with a terminal.
      console_socket: Where the terminal's master goes: a path, or a connected socket's fd.
      pid_file: Gets init's pid, written whole.
      no_pivot: MS_MOVE instead of pivot_root, for a root on an initramfs.
      no_new_keyring: Keep the caller's session keyring.
      systemd_cgroup: Ask systemd for the cgroup.
      preserve_fds: How many fds from 3 (after `listen_fds`) on the program gets.
      listen_fds: How many fds of socket activation stand before those.
      debug_modules: Have the child report its sys.modules, in `Container.modules`.

    Raises:
      AlreadyExists, InvalidArgument, StartFailed: as the front door says. Nothing is left behind.
    """
    bundle = os.path.realpath(bundle)
    if spec is None:
        spec = read_spec(f"{bundle}/config.json")
    if spec.process is None or spec.linux is None:
        raise InvalidArgument("config.json has no process, or no linux section")
    if systemd_cgroup:
        raise Unimplemented("the systemd cgroup driver is not supported yet")
    if spec.process.terminal and console_socket is None and stdio == (-1, -1, -1):
        raise InvalidArgument("cannot allocate tty without a console socket")
    _refuse_unsupported(spec)
    folder = StateFolder.make(root, id)
    namespaces: NamespacePlan | None = None
    rootfs: RootfsPlan | None = None
    manager: cgroups.Manager | None = None
    try:
        plan = plan_process(spec.process, spec.linux.seccomp, root)
        namespaces = plan_namespaces(spec.linux)
        rootfs = plan_rootfs(spec, bundle, in_user_ns=namespaces.has_user, no_pivot=no_pivot)
        manager = _make_cgroup(spec, id)
        birth = Birth(plan, stdio)
        _fill(birth, spec, namespaces, rootfs, id, no_new_keyring=no_new_keyring)
        birth.passed_fds = list(range(3, 3 + listen_fds + preserve_fds))
        birth.debug_modules = debug_modules
        _plan_cgroup_mounts(rootfs, manager)
        document = _document(spec, id, bundle, manager)
        folder.write(document)
        birth.fifo_fd = folder.make_fifo()
        container = Container(folder, document)
        born = _bear(birth, namespaces, manager, container, spec)
        try:
            container.pidfd, container.modules = born.pidfd, born.modules
            _deliver(born, plan, console_socket, container)
            container.console = born.console
            if pid_file is not None:
                _write_pid_file(pid_file, born.pid)
        except BaseException:
            container._end_init()
            os.waitid(os.P_PIDFD, born.pidfd, os.WEXITED)
            container.close()
            raise
    except BaseException:
        _undo(folder, manager)
        raise
    finally:
        if namespaces is not None:
            namespaces.close()
        if rootfs is not None:
            rootfs.close()
    folder.unlock()
    return container


def _refuse_unsupported(spec: Spec) -> None:
    """Say clearly what is asked and not there yet; nothing is skipped in silence."""
    process_, linux, hooks = spec.process, spec.linux, spec.hooks
    assert process_ is not None  # noqa: S101
    assert linux is not None  # noqa: S101
    asked = {
        "hooks.createContainer": hooks is not None and hooks.create_container,
        "hooks.startContainer": hooks is not None and hooks.start_container,
        "process.scheduler": process_.scheduler,
        "process.execCPUAffinity": process_.exec_cpu_affinity,
        "linux.personality": linux.personality,
        "linux.memoryPolicy": linux.memory_policy,
        "linux.intelRdt": linux.intel_rdt,
        "linux.netDevices": linux.net_devices,
        "linux.mountLabel": linux.mount_label,
    }
    for name, value in asked.items():
        if value:
            raise Unimplemented(f"config.json asks for {name}, which is not supported yet")


def _bear(
    birth: Birth,
    namespaces: NamespacePlan,
    manager: cgroups.Manager,
    container: Container,
    spec: Spec,
) -> Born:
    def remember(pid: int) -> None:
        container.pid = pid
        container._document["pid"] = pid
        container._document["start_time"] = process.start_time_ticks(pid)
        container._document.pop("creating", None)
        container._folder.write(container._document)

    def hooks(pid: int) -> None:
        if spec.hooks is not None:
            state = container._hook_state("creating")
            run_hooks("prestart", spec.hooks.prestart, state)
            run_hooks("createRuntime", spec.hooks.create_runtime, state)

    try:
        return bear(
            birth,
            namespaces,
            manager,
            pid_namespace=namespaces.pid_fd,
            on_born=remember,
            hooks=hooks,
        )
    except OSError as err:
        raise StartFailed(f"unable to start container process: {err.strerror}") from err
    finally:
        os.close(birth.fifo_fd)


def load(root: str, id: str) -> Container:
    """Return a container by its id.

    Raises:
      NotFound: `container does not exist`.
    """
    folder = StateFolder.open(root, id)
    return Container(folder, folder.read())


def list_containers(root: str) -> Sequence[Container]:
    """Return all containers below `root`; those half made or half removed are left out."""
    found = []
    for id in list_ids(root):
        try:
            found.append(load(root, id))
        except NotFound:
            continue
    return found


def _fill(
    birth: Birth,
    spec: Spec,
    namespaces: NamespacePlan,
    rootfs: RootfsPlan,
    id: str,
    *,
    no_new_keyring: bool,
) -> None:
    linux = spec.linux
    assert linux is not None  # noqa: S101  create has checked
    birth.new_flags = namespaces.new
    birth.joins = namespaces.joins
    birth.namespaces_have_user = namespaces.has_user
    if namespaces.new & ns.CLONE_NEWNS:
        birth.rootfs = rootfs
    else:
        raise InvalidArgument("containers without a mount namespace of their own are not supported")
    kinds = {n.type for n in linux.namespaces}
    if spec.hostname:
        if "uts" not in kinds:
            raise InvalidArgument("unable to set hostname without a private UTS namespace")
        birth.hostname = os.fsencode(spec.hostname)
    birth.domainname = os.fsencode(spec.domainname)
    birth.sysctls = plan_sysctls(linux)
    birth.keyring = "" if no_new_keyring else f"_ses.{id}"
    birth.asks_hooks = spec.hooks is not None


def _with_default_devices(resources: Resources) -> Resources:
    """Add the rules without which no container works; they come last, so that they win.

    Source: runtime-spec config-linux.md#default-devices; runc adds making any node, and terminals.
    """
    if not resources.devices:
        return resources
    rules = [DeviceRule(allow=True, type=kind, access="m") for kind in ("c", "b")]
    for major, minor in _DEFAULT_DEVICES:
        rule = DeviceRule(allow=True, type="c", major=major, minor=minor, access="rwm")
        rules.append(rule)
    return resources.replace(devices=(*resources.devices, *rules))


def _make_cgroup(spec: Spec, id: str) -> cgroups.Manager:
    assert spec.linux is not None  # noqa: S101
    manager = cgroups.Manager(spec.linux.cgroups_path or id)
    manager.create()
    try:
        manager.apply(_with_default_devices(spec.linux.resources or Resources()))
    except BaseException:
        manager.delete()
        raise
    return manager


def _plan_cgroup_mounts(rootfs: RootfsPlan, manager: cgroups.Manager) -> None:
    """Open the container's own cgroup in each hierarchy, for a mount of type cgroup to show."""
    if not any(mount.fstype in ("cgroup", "cgroup2") for mount in rootfs.mounts):
        return
    controllers: dict[str, list[str]] = {}
    for name, path in manager.paths.items():
        if name != "unified":
            controllers.setdefault(path, []).append(name.removeprefix("name="))
    for path, names in controllers.items():
        merged = ",".join(names)
        tree = mnt.open_tree(mnt.AT_FDCWD, path, mnt.OPEN_TREE_CLONE)
        rootfs.cgroup_mounts.append((os.fsencode(merged), tree))
        if len(names) > 1:
            links = [(os.fsencode(name), os.fsencode(merged)) for name in names]
            rootfs.cgroup_links.extend(links)
    if not controllers:
        path = manager.paths["unified"]
        rootfs.cgroup_v2 = mnt.open_tree(mnt.AT_FDCWD, path, mnt.OPEN_TREE_CLONE)


def _document(spec: Spec, id: str, bundle: str, manager: cgroups.Manager) -> dict[str, Any]:
    assert spec.linux is not None  # noqa: S101
    flags = 0
    for namespace in spec.linux.namespaces:
        flags |= _TYPES[namespace.type]
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
    return {
        "id": id,
        "bundle": bundle,
        "pid": 0,
        "creating": True,
        "start_time": 0,
        "created": f"{stamp}.{now % 10**9:09d}Z",
        "namespaces": flags,
        "cgroup": manager.to_state(),
        "config": spec.to_json(),
    }


def _deliver(born: Born, plan: Any, console_socket: str | int | None, container: Container) -> None:
    """Send the terminal's master and the seccomp listener where they belong."""
    if born.console >= 0 and console_socket is not None:
        _send_fd(console_socket, b"/dev/ptmx", born.console)
        os.close(born.console)
        born.console = -1
    if born.listener >= 0:
        document = {
            "ociVersion": "1.0.2",
            "fds": ["seccompFd"],
            "pid": born.pid,
            "metadata": plan.seccomp.listener_metadata,
            "state": json.loads(container._hook_state("creating")),
        }
        _send_fd(plan.seccomp.listener_path, json.dumps(document).encode(), born.listener)
        os.close(born.listener)
        born.listener = -1


def _send_fd(target: str | int, data: bytes, fd: int) -> None:
    if isinstance(target, int):
        sock = _socket.socket(fileno=os.dup(target))
    else:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        fds.unix_connect(sock, target)
    try:
        fds.send_fds(sock, data, [fd])
    finally:
        sock.close()


def _write_pid_file(path: str, pid: int) -> None:
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
    with open(temporary, "wb") as file:  # a codec may be an import, after a fork
        file.write(b"%d" % pid)
    os.rename(temporary, path)


def _undo(folder: StateFolder, manager: cgroups.Manager | None) -> None:
    if manager is not None:
        try:
            manager.kill_all(timeout_s=_KILL_TIMEOUT_S)
            manager.delete()
        except SampanError:
            return  # what is left is found and removed by `delete --force`
    folder.remove()


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
