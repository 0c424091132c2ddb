"""restore: a container from a checkpoint, in the place of create and start."""

from __future__ import annotations

import os

from sampan import cgroups
from sampan.errors import InvalidArgument
from sampan.linux import mounts as mnt
from sampan.linux import process
from sampan.model.runtime.document import dumps
from sampan.model.runtime.spec import parse_spec, read_text
from sampan.oci.birth import Born
from sampan.oci.container import Container
from sampan.oci.creation import choose_manager, make_cgroup, new_document, undo
from sampan.oci.criu import CheckpointFailed, CheckpointOptions
from sampan.oci.criu import messages as msg
from sampan.oci.criu.conversation import Criu, failure
from sampan.oci.criu.dump import common_options, log_path
from sampan.oci.criu.image import (
    EXTERNAL_NAMESPACES,
    external_mounts,
    prepare_mount_points,
    read_descriptors,
    read_external_files,
)
from sampan.oci.delivery import deliver
from sampan.oci.hooks import check_hooks, run_hooks
from sampan.oci.plan.process import plan_process
from sampan.oci.statefile import StateFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.model.runtime.spec import Spec

__all__ = ["restore"]

_KILL_TIMEOUT_S = 10.0


def restore(
    *,
    root: str,
    id: str,
    bundle: str,
    options: CheckpointOptions,
    stdio: tuple[int, int, int] = (0, 1, 2),
    console_socket: str | int | None = None,
    pid_file: str | None = None,
    systemd_cgroup: bool = False,
    rootless: bool = False,
) -> Container:
    """Make a container from a checkpoint; its processes run when this returns.

    Init is a child of the caller, who waits for it. Pipes that were its stdio are `stdio` now. A
    file of the host must be given again there, of the same size, for CRIU to take it. Other
    arguments are those of `create`.

    Raises:
      CheckpointFailed: CRIU or the kernel cannot. Nothing is left behind.
      AlreadyExists, InvalidArgument, Unimplemented: as for `create` and `checkpoint`.
    """
    bundle = os.path.realpath(bundle)
    text = read_text(f"{bundle}/config.json")
    spec = parse_spec(text)
    if spec.process is None or spec.linux is None or spec.root is None:
        raise InvalidArgument("config.json has no process, no root, or no linux section")
    check_hooks(spec.hooks)
    descriptors = read_descriptors(options.image_path)
    plan = plan_process(spec.process, spec.linux, root)
    folder = StateFolder.make(root, id)
    manager: cgroups.Manager | None = None
    try:
        wanted = choose_manager(spec, id, systemd=systemd_cgroup, rootless=rootless)
        document = new_document(spec, id, bundle, wanted)
        folder.write_config(text)
        folder.write(document)
        make_cgroup(wanted, spec, best_effort=rootless)
        manager = wanted
        document["cgroup"] = manager.to_state()
        container = Container(folder, document)
        work = _Work(container, folder, document, spec, options)
        born = work.run(manager, stdio, descriptors)
        try:
            container.pidfd = born.pidfd
            deliver(
                born,
                plan,
                console_socket=console_socket,
                pidfd_socket=None,
                pid_file=pid_file,
                kind="standard",
                state=container.hook_state("running"),
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
        undo(folder, manager)
        raise
    folder.unlock()
    return container


class _Work:
    """One restore: the conversation with CRIU, and what its notifications ask of us."""

    def __init__(
        self,
        container: Container,
        folder: StateFolder,
        document: dict[str, Any],
        spec: Spec,
        options: CheckpointOptions,
    ) -> None:
        self._container = container
        self._folder = folder
        self._document = document
        self._spec = spec
        self._options = options
        self._console = -1

    def run(
        self, manager: cgroups.Manager, stdio: tuple[int, int, int], descriptors: list[str]
    ) -> Born:
        """Restore, and return init; its pidfd and terminal are the caller's."""
        options, spec = self._options, self._spec
        assert spec.root is not None  # noqa: S101  restore has checked
        bundle = self._container.bundle
        rootfs = os.path.realpath(os.path.join(bundle, spec.root.path))
        opened = [os.open(options.image_path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        place = f"{self._folder.path}/criu-root"
        mounted = False
        try:
            if options.work_path:
                os.makedirs(options.work_path, 0o700, exist_ok=True)
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                opened.append(os.open(options.work_path, flags))
            folders = list(opened)
            joins = self._open_namespaces(opened)
            os.mkdir(place, 0o700)
            # CRIU wants a root that is a mount of its own.
            mnt.mount(rootfs, place, None, mnt.MS_BIND | mnt.MS_REC)
            mounted = True
            with Criu(options.criu, stdio=stdio, passed=[*(fd for _, fd in joins), *stdio]) as criu:
                manager.add(criu.pid)
                opts = common_options(options, folders, "restore.log")
                opts.rst_sibling = True
                opts.root = place
                opts.lsm_profile = options.lsm_profile
                self._inherit(opts, criu, stdio, descriptors, joins)
                fd = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    prepare_mount_points(spec, fd, bundle)
                    sources = {m.name: m.source for m in external_mounts(spec, fd, manager, bundle)}
                    sources["/dev/null"] = "/dev/null"
                    opts.ext_mnt = [msg.ExtMount(key=k, val=v) for k, v in sources.items()]
                finally:
                    os.close(fd)
                opts.cg_root = _cgroup_roots(criu.pid)
                answer = criu.request(msg.RESTORE, opts, self._notified)
        except BaseException:
            self._close_console()
            raise
        finally:
            for fd in opened:
                os.close(fd)
            if mounted:
                mnt.umount2(place, mnt.MNT_DETACH)
            if os.path.isdir(place):
                os.rmdir(place)
        if not answer.success or answer.restore is None:
            self._close_console()
            log = log_path(options, "restore.log")
            raise failure(f"restore {self._container.id}", log, answer.cr_errmsg, answer.cr_errno)
        try:
            pidfd = process.pidfd_open(answer.restore.pid)
        except ProcessLookupError as err:
            self._close_console()
            raise CheckpointFailed("the restored init ended at once") from err
        self._remember(answer.restore.pid)
        born = Born(answer.restore.pid, pidfd)
        born.console = self._console
        return born

    def _open_namespaces(self, opened: list[int]) -> list[tuple[str, int]]:
        """Open the namespaces that were external, for CRIU to inherit; they end up in `opened`."""
        found = []
        linux = self._spec.linux
        for namespace in linux.namespaces if linux is not None else ():
            if namespace.path and namespace.type in EXTERNAL_NAMESPACES:
                try:
                    fd = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
                except OSError as err:
                    raise InvalidArgument(f"namespace {namespace.path}: {err.strerror}") from err
                opened.append(fd)
                found.append((EXTERNAL_NAMESPACES[namespace.type][1], fd))
        return found

    def _inherit(
        self,
        opts: msg.Opts,
        criu: Criu,
        stdio: tuple[int, int, int],
        descriptors: list[str],
        joins: list[tuple[str, int]],
    ) -> None:
        outer = read_external_files(self._options.image_path)
        wanted = dict(joins)
        for number, link in enumerate(descriptors):
            if number in outer:
                wanted[outer[number]] = stdio[number]
            elif link.startswith(("pipe:", "socket:")):
                wanted.setdefault(link, stdio[number])
        opts.inherit_fd = [msg.InheritFd(key=k, fd=criu.passed[fd]) for k, fd in wanted.items()]

    def _notified(self, script: str, pid: int, received: list[int]) -> None:
        if script == "orphan-pts-master" and received:
            self._close_console()
            self._console = received[0]
            return
        for fd in received:
            os.close(fd)
        if script == "setup-namespaces" and self._spec.hooks is not None:
            self._container.pid = pid
            state = dumps(self._container.hook_state("creating")).encode()
            run_hooks("prestart", self._spec.hooks.prestart, state)
            run_hooks("createRuntime", self._spec.hooks.create_runtime, state)
        elif script == "post-restore":
            self._remember(pid)

    def _remember(self, pid: int) -> None:
        """Note init's pid, so that a kill from now on leaves nothing that cannot be found."""
        self._container.pid = pid
        self._document["pid"] = pid
        self._document["start_time"] = process.start_time_ticks(pid)
        self._folder.write(self._document)

    def _close_console(self) -> None:
        if self._console >= 0:
            os.close(self._console)
            self._console = -1


def _cgroup_roots(pid: int) -> list[msg.CgroupRoot]:
    """Return where on v1 the restored processes belong, as they may have been elsewhere."""
    own = cgroups.own_paths(pid)
    return [msg.CgroupRoot(ctrl=name, path=path) for name, path in own.items() if name]
