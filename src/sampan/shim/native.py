"""`sampan.oci` in process: the shim is the parent, and nothing is exec'd but the container.

Create is an errand (`errands`) where others would have to wait for it: it takes longest, and runs
hooks. What the errand bears the shim adopts. The other commands are quick; a fork would double what
an exec takes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from sampan import oci
from sampan.errors import InvalidArgument, NotFound
from sampan.model.runtime.document import loads
from sampan.model.runtime.process import Process
from sampan.model.runtime.resources import Resources
from sampan.shim.errands import Errands
from sampan.shim.runtimes import Born, CheckpointWanted, RestoreWanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Native"]

_SIGKILL, _SIGSTOP = 9, 19


class Native:
    """One container of `sampan.oci`, whose state is `<root>/<id>`."""

    direct_signals = True

    def __init__(
        self,
        errands: Errands,
        root: str,
        id: str,
        bundle: str,
        *,
        systemd_cgroup: bool = False,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        apart: bool = False,
    ) -> None:
        self._errands = errands
        self._root = root
        self._id = id
        self._bundle = bundle
        self._systemd_cgroup = systemd_cgroup
        self._no_pivot = no_pivot
        self._no_new_keyring = no_new_keyring
        self._apart = apart
        self._execs = 0

    @classmethod
    def restored(cls, errands: Errands, root: str, id: str, bundle: str, execs: int) -> Native:
        """Return another like the one that `save` was called on."""
        native = cls(errands, root, id, bundle)
        native._execs = execs
        return native

    def save(self) -> tuple[Any, ...]:
        """See Runtime. What only `create` wants is left out."""
        return "native", self._root, self._id, self._bundle, self._execs

    async def create(
        self,
        stdio: tuple[int, int, int],
        *,
        terminal: bool,
        restore: RestoreWanted | None,
        mounting: Callable[[], Callable[[], None]],
    ) -> Born:
        """See Runtime."""

        def errand() -> tuple[Any, list[int]]:
            undo = mounting()
            try:
                made = self._restore(restore, stdio) if restore else self._create(stdio)
            except BaseException:
                undo()
                raise
            console = [made.detach_console()] if terminal and made.console >= 0 else []
            made.close()
            return made.pid, console

        if self._apart or restore is not None or self._has_hooks():
            pid, fds = await self._errands.run(errand)
        else:
            pid, fds = errand()
        return Born(pid, fds[0] if fds else -1)

    def _create(self, stdio: tuple[int, int, int]) -> oci.Container:
        return oci.create(
            root=self._root,
            id=self._id,
            bundle=self._bundle,
            stdio=stdio,
            systemd_cgroup=self._systemd_cgroup,
            no_pivot=self._no_pivot,
            no_new_keyring=self._no_new_keyring,
            rootless=_in_user_namespace(),
        )

    def _restore(self, wanted: RestoreWanted, stdio: tuple[int, int, int]) -> oci.Container:
        options = oci.CheckpointOptions(wanted.image_path, work_path=wanted.work_path)
        return oci.restore(
            root=self._root,
            id=self._id,
            bundle=self._bundle,
            options=options,
            stdio=stdio,
            systemd_cgroup=self._systemd_cgroup,
        )

    def _has_hooks(self) -> bool:
        try:
            with open(os.path.join(self._bundle, "config.json"), "rb") as file:
                return b'"hooks"' in file.read()
        except OSError:
            return False

    async def exec(
        self, exec_id: str, process: bytes, stdio: tuple[int, int, int], *, terminal: bool
    ) -> Born:
        """See Runtime."""
        values = _json(process, f"exec {exec_id}: bad process")
        values["terminal"] = terminal
        self._execs += 1
        group = f"exec-{self._execs}"
        child = self._load().exec(Process.from_json(values), stdio=stdio, own_cgroup=group)
        os.close(child.pidfd)  # only the shim reaps that pid: it needs no more than the number
        if not terminal and child.console >= 0:
            os.close(child.console)
        return Born(child.pid, child.console if terminal else -1, group)

    async def kill_exec(self, group: str, pid: int, signal: int) -> None:
        """See Runtime."""
        container = self._load()
        if container.cgroup.paths:
            container.signal_exec(group, signal)
        else:
            _signal_tree(pid, signal)

    async def remove_exec(self, group: str) -> None:
        """See Runtime."""
        with contextlib.suppress(NotFound):
            self._load().remove_exec(group)

    def _load(self) -> oci.Container:
        # Not kept: of an idle container the shim needs nothing, and the state is on disk anyway.
        return oci.load(self._root, self._id)

    async def start(self) -> None:
        """See Runtime."""
        self._load().start()

    async def kill(self, signal: int, *, everything: bool) -> None:
        """See Runtime."""
        self._load().kill(signal, all=everything)

    async def delete(self, *, force: bool) -> None:
        """See Runtime."""
        with contextlib.suppress(NotFound):
            self._load().delete(force=force)

    async def pause(self) -> None:
        """See Runtime."""
        self._load().pause()

    async def resume(self) -> None:
        """See Runtime."""
        self._load().resume()

    async def update(self, resources: bytes) -> None:
        """See Runtime."""
        values = _json(resources, f"update {self._id}: bad resources")
        self._load().update(Resources.from_json(values))

    async def checkpoint(self, wanted: CheckpointWanted) -> None:
        """See Runtime."""
        options = oci.CheckpointOptions(
            wanted.image_path,
            work_path=wanted.work_path,
            parent_path=wanted.parent_path,
            leave_running=wanted.leave_running,
            tcp_established=wanted.tcp_established,
            ext_unix_sk=wanted.ext_unix_sk,
            shell_job=wanted.shell_job,
            file_locks=wanted.file_locks,
            empty_ns=wanted.empty_ns,
            manage_cgroups_mode=wanted.cgroups_mode,
        )

        def errand() -> tuple[Any, list[int]]:
            oci.checkpoint(self._load(), options)
            return None, []

        await self._errands.run(errand)


def _in_user_namespace() -> bool:
    """Tell whether we are the root of an ordinary user's namespace only."""
    with open("/proc/self/uid_map") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def _signal_tree(pid: int, signal: int) -> None:
    """Signal a process and its descendants, where no cgroup holds them together.

    For a kill each is stopped before its children are listed, so that none is missed.
    """
    try:
        if signal == _SIGKILL:
            os.kill(pid, _SIGSTOP)
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            children = file.read().split()
        for child in children:
            _signal_tree(int(child), signal)
        os.kill(pid, signal)
    except (ProcessLookupError, FileNotFoundError):
        return


def _json(data: bytes, what: str) -> dict[str, Any]:
    try:
        values = loads(data)
    except ValueError as err:
        raise InvalidArgument(f"{what}: {err}") from err
    if not isinstance(values, dict):
        raise InvalidArgument(f"{what}: no object")
    return values
