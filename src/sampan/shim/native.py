"""`sampan.oci` in process: the shim is the parent, and nothing is exec'd but the container."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from sampan import oci
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.shim.runtimes import Born, CheckpointWanted

__all__ = ["Native"]


class Native:
    """One container of `sampan.oci`."""

    direct_signals = True

    def __init__(
        self,
        root: str,
        id: str,
        bundle: str,
        *,
        systemd_cgroup: bool = False,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
    ) -> None:
        self._root = root
        self._id = id
        self._bundle = bundle
        self._options: dict[str, Any] = {}
        if systemd_cgroup:
            self._options["systemd_cgroup"] = True
        if no_pivot:
            self._options["no_pivot"] = True
        if no_new_keyring:
            self._options["no_new_keyring"] = True
        self._container: Any = None

    def _here(self) -> Any:
        if self._container is None:
            raise NotFound(f"container {self._id} does not exist")
        return self._container

    async def create(self, stdio: tuple[int, int, int], *, terminal: bool, restore: str) -> Born:
        """See Runtime."""
        if restore:
            raise FailedPrecondition(
                f"restore {restore}: set binary_name to sampan-oci or runc to restore"
            )
        container: Any = oci.create(
            root=self._root, id=self._id, bundle=self._bundle, stdio=stdio, **self._options
        )
        self._container = container
        return self._born(container, terminal)

    async def start(self) -> None:
        """See Runtime."""
        self._here().start()

    async def exec(
        self, exec_id: str, process: bytes, stdio: tuple[int, int, int], *, terminal: bool
    ) -> Born:
        """See Runtime."""
        from sampan.model.runtime.process import Process

        try:
            values = json.loads(process)
        except ValueError as err:
            raise InvalidArgument(f"exec {exec_id}: bad process: {err}") from err
        values["terminal"] = terminal
        child = self._here().exec(Process.from_json(values), stdio=stdio)
        return self._born(child, terminal)

    @staticmethod
    def _born(child: Any, terminal: bool) -> Born:
        """Take what we use of `child`; its pidfd we do not need: only we reap its pid."""
        console = child.detach_console() if hasattr(child, "detach_console") else child.console
        pidfd = child.detach_pidfd() if hasattr(child, "detach_pidfd") else child.pidfd
        if pidfd >= 0:
            os.close(pidfd)
        return Born(child.pid, console if terminal else -1)

    async def kill(self, signal: int, *, everything: bool) -> None:
        """See Runtime."""
        self._here().kill(signal, all=everything)

    async def delete(self, *, force: bool) -> None:
        """See Runtime."""
        if self._container is None:
            return
        with contextlib.suppress(NotFound):
            self._container.delete(force=force)
        self._container = None

    async def pause(self) -> None:
        """See Runtime."""
        self._here().pause()

    async def resume(self) -> None:
        """See Runtime."""
        self._here().resume()

    async def update(self, resources: bytes) -> None:
        """See Runtime."""
        from sampan.model.runtime.resources import Resources

        try:
            values = json.loads(resources)
        except ValueError as err:
            raise InvalidArgument(f"update {self._id}: bad resources: {err}") from err
        self._here().update(Resources.from_json(values))

    async def checkpoint(self, wanted: CheckpointWanted) -> None:
        """See Runtime."""
        raise FailedPrecondition("checkpoint: set binary_name to sampan-oci or runc for this")
