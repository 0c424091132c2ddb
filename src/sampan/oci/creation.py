"""A container's creation: from a bundle to an init that waits, or to nothing at all."""

from __future__ import annotations

import os
import time

from sampan import cgroups
from sampan.errors import InvalidArgument, PermissionDenied, SampanError, Unimplemented
from sampan.linux import mounts as mnt
from sampan.linux import namespaces as ns
from sampan.linux import process
from sampan.model.runtime.document import dumps
from sampan.model.runtime.resources import DeviceRule, Resources
from sampan.model.runtime.spec import Spec, parse_spec, read_text
from sampan.oci import StartFailed
from sampan.oci.birth import Birth, Born, bear
from sampan.oci.container import Container
from sampan.oci.delivery import deliver
from sampan.oci.hooks import check_hooks, run_hooks
from sampan.oci.plan.namespaces import NamespacePlan, plan_namespaces
from sampan.oci.plan.process import plan_process
from sampan.oci.plan.sysctl import plan_sysctls
from sampan.oci.rootfs.plan import RootfsPlan, plan_rootfs
from sampan.oci.statefile import StateFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.oci.rdt import ClassOfService

__all__ = ["choose_manager", "create", "make_cgroup", "new_document", "undo"]

_KILL_TIMEOUT_S = 10.0
_DEFAULT_DEVICES = (
    (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None), (10, 200),
)  # fmt: skip
_TYPES = {
    "pid": ns.CLONE_NEWPID, "network": ns.CLONE_NEWNET, "mount": ns.CLONE_NEWNS,
    "ipc": ns.CLONE_NEWIPC, "uts": ns.CLONE_NEWUTS, "user": ns.CLONE_NEWUSER,
    "cgroup": ns.CLONE_NEWCGROUP, "time": ns.CLONE_NEWTIME,
}  # fmt: skip


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
    rootless: bool = False,
    pidfd_socket: str | None = None,
    preserve_fds: int = 0,
    listen_fds: int = 0,
    detached: bool = False,
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
      systemd_cgroup: Ask systemd for the cgroup: the user's own one if `rootless`.
      rootless: Do without the cgroups that we may not make.
      pidfd_socket: Path of a socket that gets init's pidfd.
      preserve_fds: How many fds from 3 (after `listen_fds`) on the program gets.
      listen_fds: How many fds of socket activation stand before those.
      detached: The caller ends: a terminal without a `console_socket` would have no master.
      debug_modules: Have the child report its sys.modules, in `Container.modules`.

    Raises:
      AlreadyExists, InvalidArgument, StartFailed: as the front door says. Nothing is left behind.
    """
    bundle = os.path.realpath(bundle)
    if spec is None:
        text = read_text(f"{bundle}/config.json")
        spec = parse_spec(text)
    else:
        text = dumps(spec.to_json()).encode()
    if spec.process is None or spec.linux is None:
        raise InvalidArgument("config.json has no process, or no linux section")
    if spec.process.terminal and console_socket is None and detached:
        raise InvalidArgument(
            "cannot allocate tty if the runtime will detach without setting console socket"
        )
    major = spec.oci_version.partition(".")[0]
    if major not in ("", "0", "1"):
        raise InvalidArgument(f"ociVersion {spec.oci_version} is not supported: this is 1.3.0")
    _check_labels(spec)
    check_hooks(spec.hooks)
    folder = StateFolder.make(root, id)
    namespaces: NamespacePlan | None = None
    rootfs: RootfsPlan | None = None
    manager: cgroups.Manager | None = None
    rdt: ClassOfService | None = None
    document: dict[str, Any] = {}
    try:
        plan = plan_process(spec.process, spec.linux, root)
        namespaces = plan_namespaces(spec.linux)
        rootfs = plan_rootfs(spec, bundle, in_user_ns=namespaces.has_user, no_pivot=no_pivot)
        birth = Birth(plan, stdio)
        _fill(birth, spec, namespaces, rootfs, id, no_new_keyring=no_new_keyring)
        extras, rdt = _plan_extras(spec, id)
        birth.passed_fds = list(range(3, 3 + listen_fds + preserve_fds))
        birth.debug_modules = debug_modules
        wanted = choose_manager(spec, id, systemd=systemd_cgroup, rootless=rootless)
        document = new_document(spec, id, bundle, wanted)
        folder.write_config(text)
        folder.write(document)
        make_cgroup(wanted, spec, best_effort=rootless)
        manager = wanted
        document["cgroup"] = manager.to_state()
        _plan_cgroup_mounts(rootfs, manager)
        if rdt is not None and rdt.set_up():
            document["rdt"] = rdt.path
        birth.fifo_fd = folder.make_fifo()
        container = Container(folder, document)
        birth.hook_state = container.hook_state("creating")
        born = _bear(birth, namespaces, manager, container, folder, document, spec, extras)
        try:
            container.pidfd, container.modules = born.pidfd, born.modules
            deliver(
                born,
                plan,
                console_socket=console_socket,
                pidfd_socket=pidfd_socket,
                pid_file=pid_file,
                kind="standard",
                state=container.hook_state("creating"),
            )
            container.console = born.console
            del document["creating"]
            folder.write(document)
        except BaseException:
            manager.kill_all(timeout_s=_KILL_TIMEOUT_S)
            os.waitid(os.P_PIDFD, born.pidfd, os.WEXITED)
            container.close()
            raise
    except BaseException:
        if rdt is not None and "rdt" in document:
            rdt.remove()
        undo(folder, manager)
        raise
    finally:
        if namespaces is not None:
            namespaces.close()
        if rootfs is not None:
            rootfs.close()
    folder.unlock()
    return container


def _plan_extras(spec: Spec, id: str) -> tuple[list[Callable[[int], None]], ClassOfService | None]:
    """Return what few containers ask for and is done to their init; its modules load for them."""
    assert spec.linux is not None  # noqa: S101  create has checked
    todo: list[Callable[[int], None]] = []
    rdt = None
    if spec.linux.net_devices:
        from sampan.oci.netdevices import plan_net_devices

        todo.append(plan_net_devices(spec.linux).move)
    if spec.linux.intel_rdt is not None:
        from sampan.oci.rdt import plan_rdt

        rdt = plan_rdt(spec.linux.intel_rdt, id)
        todo.append(rdt.add)
    return todo, rdt


def _check_labels(spec: Spec) -> None:
    """Refuse a profile or label of a module that is off: without it nothing would confine.

    Raises:
      InvalidArgument: names what is off.
    """
    assert spec.process is not None  # noqa: S101  create has checked
    profile, label = spec.process.apparmor_profile, spec.process.selinux_label
    if profile and profile != "unconfined" and not _apparmor_is_on():
        raise InvalidArgument(
            f"process.apparmorProfile {profile!r} is given, but AppArmor is disabled or not "
            "supported here"
        )
    if label and not os.path.exists("/sys/fs/selinux/enforce"):
        raise InvalidArgument(
            f"process.selinuxLabel {label!r} is given, but SELinux is disabled or not supported "
            "here"
        )


def _apparmor_is_on() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled", "rb") as file:
            return file.read(1) == b"Y"
    except OSError:
        return False


def _bear(
    birth: Birth,
    namespaces: NamespacePlan,
    manager: cgroups.Manager,
    container: Container,
    folder: StateFolder,
    document: dict[str, Any],
    spec: Spec,
    extras: list[Callable[[int], None]],
) -> Born:
    def remember(pid: int) -> None:
        container.pid = pid
        document["pid"] = pid
        document["start_time"] = process.start_time_ticks(pid)
        folder.write(document)
        for extra in extras:
            extra(pid)

    def hooks(pid: int) -> None:
        if spec.hooks is not None:
            state = dumps(container.hook_state("creating")).encode()
            run_hooks("prestart", spec.hooks.prestart, state)
            run_hooks("createRuntime", spec.hooks.create_runtime, state)

    try:
        return bear(
            birth,
            namespaces,
            manager,
            on_born=remember,
            hooks=hooks,
        )
    except OSError as err:
        raise StartFailed(f"unable to start container process: {err.strerror}") from err
    finally:
        os.close(birth.fifo_fd)


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
    if namespaces.new & ns.CLONE_NEWUSER and os.geteuid() != 0:
        from sampan.oci.idmaps import denies_setgroups

        birth.may_set_groups = not denies_setgroups(namespaces.gid_map)
    elif os.geteuid() == 0:
        birth.may_set_groups = _may_set_groups()
    if namespaces.new & ns.CLONE_NEWNS:
        birth.rootfs = rootfs
    else:
        _refuse_mounts(spec, rootfs)
        birth.chroot = rootfs.path
    kinds = {n.type for n in linux.namespaces}
    if spec.hostname:
        if "uts" not in kinds:
            raise InvalidArgument("unable to set hostname without a private UTS namespace")
        birth.hostname = os.fsencode(spec.hostname)
    birth.domainname = os.fsencode(spec.domainname)
    birth.sysctls = plan_sysctls(linux)
    birth.keyring = "" if no_new_keyring else f"_ses.{id}"
    hooks = spec.hooks
    if hooks is not None:
        birth.asks_hooks = bool(hooks.prestart or hooks.create_runtime)
        birth.create_hooks = hooks.create_container
        birth.start_hooks = hooks.start_container


def _refuse_mounts(spec: Spec, rootfs: RootfsPlan) -> None:
    """Without a mount namespace of its own a container gets its root by chroot, and no mounts.

    They would be made in somebody else's namespace, and outlive the container there.
    """
    assert spec.linux is not None  # noqa: S101  create has checked
    asked = {
        "mounts": spec.mounts,
        "root.readonly": rootfs.readonly,
        "linux.maskedPaths": rootfs.masked,
        "linux.readonlyPaths": rootfs.readonly_paths,
        "linux.rootfsPropagation": spec.linux.rootfs_propagation,
        "linux.devices": spec.linux.devices,
        "process.terminal": spec.process is not None and spec.process.terminal,
    }
    for name, value in asked.items():
        if value:
            raise InvalidArgument(f"unable to apply {name} without a private MNT namespace")


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


def choose_manager(spec: Spec, id: str, *, systemd: bool, rootless: bool) -> cgroups.Manager:
    """Return the container's cgroup, by the driver that was asked for; nothing is made yet."""
    assert spec.linux is not None  # noqa: S101  create has checked
    if systemd:
        return cgroups.systemd_manager(spec.linux.cgroups_path, id, user=rootless)
    return cgroups.Manager(spec.linux.cgroups_path or id)


def make_cgroup(manager: cgroups.Manager, spec: Spec, *, best_effort: bool) -> None:
    """Make the cgroup and set its limits; on failure nothing of it is left."""
    assert spec.linux is not None  # noqa: S101
    manager.create(best_effort=best_effort)
    wanted = _with_default_devices(spec.linux.resources or Resources())
    try:
        if os.geteuid() != 0:
            wanted = wanted.replace(devices=())  # what the user cannot open is closed already
        manager.apply(wanted)
    except (PermissionDenied, Unimplemented) as err:
        manager.delete()
        if not best_effort:
            raise
        raise PermissionDenied(
            f"linux.resources cannot be had by user {os.geteuid()}: {err}; use --systemd-cgroup in "
            "a session of systemd's, or have a cgroup delegated"
        ) from err
    except BaseException:
        manager.delete()
        raise


def _plan_cgroup_mounts(rootfs: RootfsPlan, manager: cgroups.Manager) -> None:
    """Open the container's own cgroup in each hierarchy, for a mount of type cgroup to show.

    Who may not copy mounts makes a new one in the container, of its cgroup namespace.
    """
    if os.geteuid() != 0 or not any(
        mount.fstype in ("cgroup", "cgroup2") for mount in rootfs.mounts
    ):
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
    if not controllers and "unified" in manager.paths:
        path = manager.paths["unified"]
        rootfs.cgroup_v2 = mnt.open_tree(mnt.AT_FDCWD, path, mnt.OPEN_TREE_CLONE)


def new_document(spec: Spec, id: str, bundle: str, manager: cgroups.Manager) -> dict[str, Any]:
    """Return what state.json says at first: creating, without a pid."""
    assert spec.linux is not None  # noqa: S101
    flags = 0
    own_pids = False
    for namespace in spec.linux.namespaces:
        flags |= _TYPES[namespace.type]
        own_pids = own_pids or (namespace.type == "pid" and not namespace.path)
    kept_hooks = {}
    if spec.hooks is not None:
        encoded = spec.hooks.to_json()
        kept_hooks = {k: encoded[k] for k in ("poststart", "poststop") if k in encoded}
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
        "own_pids": own_pids,
        "ociVersion": spec.oci_version or "1.0.2",
        "annotations": spec.annotations or {},
        "hooks": kept_hooks,
    }


def undo(folder: StateFolder, manager: cgroups.Manager | None) -> None:
    """Remove what a failed creation has made."""
    if manager is not None:
        try:
            manager.kill_all(timeout_s=_KILL_TIMEOUT_S)
            manager.delete()
        except SampanError:
            return  # what is left is found and removed by `delete --force`
    folder.remove()


def _may_set_groups() -> bool:
    """Return whether our own user namespace allows setgroups; see user_namespaces(7)."""
    try:
        with open("/proc/self/setgroups", "rb") as file:
            return file.read(4) != b"deny"
    except OSError:
        return True
