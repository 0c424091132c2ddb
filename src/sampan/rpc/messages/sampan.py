"""What only our own shims offer.

Service `sampan.shim.v1.Shim`: ReopenLogs(ReopenLogsRequest) -> Empty.
"""

from __future__ import annotations

from sampan.rpc.wire import Message, string

SERVICE = "sampan.shim.v1.Shim"


class ReopenLogsRequest(Message, name="sampan.shim.v1.ReopenLogsRequest"):
    """Reopen the log files of a process."""

    id: str = string(1)
    exec_id: str = string(2)
