"""How processes come to be: the streams, the runtime, and the container around them."""

from __future__ import annotations

import os
from collections.abc import Callable

from sampan.errors import Unimplemented
from sampan.rpc.messages import runc, task, types
from sampan.rpc.messages.wellknown import Any
from sampan.shim import rootfs
from sampan.shim.config import Config
from sampan.shim.memo import remember
from sampan.shim.native import Native
from sampan.shim.processes import Processes
from sampan.shim.runc_cli import RuncCli
from sampan.shim.runtimes import Born, CheckpointWanted, RestoreWanted, Runtime
from sampan.shim.stdio.streams import Streams, Wanted
from sampan.shim.tasks import Container, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any as Untyped

__all__ = ["Births", "checkpoint_wanted", "options_of"]

_RUNC_ROOT = "/run/containerd/runc"


class Births:
    """Makes containers and processes for the Task service; remembers nothing."""

    def __init__(self, config: Config, processes: Processes) -> None:
        self._config = config
        self._processes = processes

    async def create(self, request: task.CreateTaskRequest, *, apart: bool) -> Container:
        """Mount the rootfs and create the container; its init waits.

        With `apart` no other call shall wait for that.
        """
        options = options_of(request.options)
        wanted = Wanted(request.stdin, request.stdout, request.stderr, request.terminal)
        init = Process("", wanted)
        runtime = self._runtime(request, options, apart=apart)
        container = Container(request.id, request.bundle, init, runtime)
        owner = (options.io_uid, options.io_gid) if options.io_uid or options.io_gid else None
        container.mounted = bool(request.rootfs)

        def mounting() -> Callable[[], None]:
            rootfs.mount_all(request.rootfs, container.rootfs)
            return unmounting

        def unmounting() -> None:
            if container.mounted:
                rootfs.unmount_all(container.rootfs)

        restore = None
        if request.checkpoint or options.criu_image_path:
            image = options.criu_image_path or request.checkpoint
            restore = RestoreWanted(image, options.criu_work_path)
        born = await self.bear(container, init, owner, restore, mounting)
        init.pid = born.pid
        init.started = restore is not None
        return container

    def _runtime(
        self, request: task.CreateTaskRequest, options: runc.Options, *, apart: bool
    ) -> Runtime:
        systemd = options.systemd_cgroup or self._config.systemd_cgroup
        namespace = self._config.namespace
        if not options.binary_name or options.binary_name == "sampan":
            root = os.path.join(options.root or self._config.oci_root, namespace)
            remember(request.bundle, "", root)
            return Native(
                self._processes.errands,
                root,
                request.id,
                request.bundle,
                systemd_cgroup=systemd,
                no_pivot=options.no_pivot_root,
                no_new_keyring=options.no_new_keyring,
                apart=apart,
            )
        flags = []
        if options.no_pivot_root:
            flags.append("--no-pivot")
        if options.no_new_keyring:
            flags.append("--no-new-keyring")
        root = os.path.join(options.root or _RUNC_ROOT, namespace)
        remember(request.bundle, options.binary_name, root)
        return RuncCli(
            self._processes,
            options.binary_name,
            root,
            request.id,
            request.bundle,
            systemd_cgroup=systemd,
            create_flags=tuple(flags),
        )

    async def bear(
        self,
        container: Container,
        process: Process,
        owner: tuple[int, int] | None = None,
        restore: RestoreWanted | None = None,
        mounting: Callable[[], Callable[[], None]] | None = None,
    ) -> Born:
        """Open the streams, let the runtime make the process, connect its terminal."""
        wanted = process.wanted
        streams = self._streams(container, process)
        await streams.open(owner)
        try:
            if mounting is not None:
                born = await container.runtime.create(
                    streams.child, terminal=wanted.terminal, restore=restore, mounting=mounting
                )
            else:
                born = await container.runtime.exec(
                    process.exec_id, process.spec, streams.child, terminal=wanted.terminal
                )
        except BaseException:
            streams.abandon()
            raise
        streams.born(born.console)
        process.streams = streams
        process.group = born.group
        return born

    def _streams(self, container: Container, process: Process) -> Streams:
        return Streams(
            self._processes,
            process.wanted,
            container=container.id,
            namespace=self._config.namespace,
        )

    def restore(self, saved: dict[str, Untyped]) -> Container:
        """Return the container of which `save` has returned `saved`."""
        kind, *values = saved["runtime"]
        runtime: Runtime
        if kind == "native":
            runtime = Native.restored(self._processes.errands, *values)
        else:
            runtime = RuncCli.restored(self._processes, *values)
        container = Container(saved["id"], saved["bundle"], Process.restore(saved["init"]), runtime)
        container.paused = saved["paused"]
        container.mounted = saved["mounted"]
        for values in saved["execs"]:
            process = Process.restore(values)
            container.execs[process.exec_id] = process
        for values, process in zip(
            (saved["init"], *saved["execs"]), container.processes, strict=True
        ):
            if values["streams"] is not None:
                process.streams = self._streams(container, process)
                process.streams.restore(values["streams"])
        return container


def options_of(packed: Any | None) -> runc.Options:
    """Return the runtime options of a request.

    Raises:
      Unimplemented: they are of a type that we do not know.
    """
    if packed is None or not packed.type_url:
        return runc.Options()
    if packed.holds(runc.Options):
        return packed.unpack(runc.Options)
    # containerd 1.x names the same type by an older package.
    if packed.type_url.rpartition("/")[2] == "containerd.linux.runc.v1.Options":
        return packed.unpack(runc.Options)
    if packed.holds(types.Options):
        return runc.Options()
    raise Unimplemented(f"create: options of type {packed.type_url}")


def checkpoint_wanted(request: task.CheckpointTaskRequest) -> CheckpointWanted:
    """Return what a request for a checkpoint asks for."""
    options = runc.CheckpointOptions()
    if request.options is not None and request.options.holds(runc.CheckpointOptions):
        options = request.options.unpack(runc.CheckpointOptions)
    return CheckpointWanted(
        options.image_path or request.path,
        work_path=options.work_path,
        parent_path=options.parent_path,
        leave_running=not options.exit,
        tcp_established=options.open_tcp,
        ext_unix_sk=options.external_unix_sockets,
        shell_job=options.terminal,
        file_locks=options.file_locks,
        empty_ns=tuple(options.empty_namespaces),
        cgroups_mode=options.cgroups_mode,
    )
