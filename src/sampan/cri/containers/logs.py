"""ReopenContainerLog: kubelet has renamed the file, and wants the lines that come in a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import FailedPrecondition

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["reopen"]


async def reopen(cri: Cri, request: pb.ReopenContainerLogRequest) -> pb.ReopenContainerLogResponse:
    """Open the log's path anew; each line is in the old file or in the new one.

    Raises:
      NotFound: there is no such container.
      FailedPrecondition: it does not run.
    """
    container = cri.container(request.container_id)
    if not container.running:
        raise FailedPrecondition(f"container {container.id} is not running: it writes no log")
    await cri.engine.tasks.reopen_logs(container.id)
    return pb.ReopenContainerLogResponse()
