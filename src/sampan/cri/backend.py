"""What the streaming server executes: our side of `streaming.Backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from sampan import context
from sampan.cri import NAMESPACE
from sampan.cri.containers.attach import Hubs
from sampan.cri.containers.exec import run
from sampan.cri.streaming import Duplex, Reader, Size, Writer, forward_port
from sampan.errors import FailedPrecondition

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["CriBackend"]


class CriBackend:
    """Implements `streaming.Backend`."""

    def __init__(self, cri: Cri) -> None:
        self._cri = cri
        self._hubs = Hubs(cri)

    async def exec(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        tty: bool,
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
        resize: AsyncIterator[Size],
    ) -> int:
        """Run a process in a container."""
        with context.scope(NAMESPACE):
            return await run(
                self._cri,
                self._cri.container(container_id),
                command,
                tty=tty,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                resize=resize,
            )

    async def attach(
        self,
        container_id: str,
        *,
        tty: bool,
        stdin: Reader | None,
        stdout: Writer | None,
        stderr: Writer | None,
        resize: AsyncIterator[Size],
    ) -> None:
        """Join the streams of a container's first process."""
        del tty
        with context.scope(NAMESPACE):
            container = self._cri.container(container_id)
            await self._hubs.attach(
                container, stdin=stdin, stdout=stdout, stderr=stderr, resize=resize
            )

    async def port_forward(self, pod_id: str, port: int, stream: Duplex) -> None:
        """Connect a stream to a port inside a pod."""
        pod = self._cri.pod(pod_id)
        if not pod.ready:
            raise FailedPrecondition(f"sandbox {pod.id} is not running")
        await forward_port(None if pod.host_network else pod.netns, port, stream)
