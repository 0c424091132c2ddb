"""Handing out what a birth has made: the terminal's master, a pidfd, a listener, the pid file."""

from __future__ import annotations

import _socket
import os

from sampan.linux import fds
from sampan.model.runtime.document import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.birth import Born
    from sampan.oci.plan.process import ProcessPlan

__all__ = ["deliver", "send_fd", "write_pid_file"]


def deliver(
    born: Born,
    plan: ProcessPlan,
    *,
    console_socket: str | int | None,
    pidfd_socket: str | None,
    pid_file: str | None,
    kind: str,
    state: dict[str, object],
) -> None:
    """Send the terminal's master, the pidfd and the seccomp listener where they belong.

    Args:
      born: The process; what is sent is closed here, but for the pidfd.
      plan: Its plan, which names the listener's socket.
      console_socket: As `create` takes it; without one the master stays in `born`.
      pidfd_socket: Path of a socket that gets the pidfd, or None.
      pid_file: Path of a file that gets the pid, or None.
      kind: `standard` of a container's init, `setns` of an exec: the pidfd's payload, as runc's.
      state: The container's, for the listener.
    """
    if born.console >= 0 and console_socket is not None:
        send_fd(console_socket, b"/dev/ptmx", born.console)
        os.close(born.console)
        born.console = -1
    if born.listener >= 0:
        assert plan.seccomp is not None  # noqa: S101  where else would it come from
        document = {
            "ociVersion": "1.0.2",
            "fds": ["seccompFd"],
            "pid": born.pid,
            "metadata": plan.seccomp.listener_metadata,
            "state": state,
        }
        send_fd(plan.seccomp.listener_path, dumps(document).encode(), born.listener)
        os.close(born.listener)
        born.listener = -1
    if pidfd_socket:
        send_fd(pidfd_socket, kind.encode(), born.pidfd)
    if pid_file is not None:
        write_pid_file(pid_file, born.pid)


def send_fd(target: str | int, data: bytes, fd: int) -> None:
    """Send `fd` to a unix socket, given by its path or as a connected socket's fd."""
    if isinstance(target, int):
        sock = _socket.socket(fileno=os.dup(target))
    else:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        if not isinstance(target, int):
            fds.unix_connect(sock, target)
        fds.send_fds(sock, data, [fd])
    finally:
        sock.close()


def write_pid_file(path: str, pid: int) -> None:
    """Write the pid to `path`, which others see whole or not at all."""
    temporary = f"{os.path.dirname(path) or '.'}/.{os.path.basename(path)}"
    with open(temporary, "wb") as file:  # a codec may be an import, after a fork
        file.write(b"%d" % pid)
    os.rename(temporary, path)
