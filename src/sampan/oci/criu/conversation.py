"""A conversation with `criu swrk`: requests, its notifications on the way, and what went wrong."""

from __future__ import annotations

import _socket
import fcntl
import os

from sampan.errors import Unimplemented
from sampan.linux import fds
from sampan.oci.criu import CheckpointFailed
from sampan.oci.criu import messages as msg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

__all__ = ["Criu", "failure"]

_FIRST_PASSED = 4
_MOST_BYTES = 1 << 20
_MOST_LOG_BYTES = 8 << 20
_ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_MOST_REASONS = 3
_GENERIC = ("Dumping FAILED.", "Restoring FAILED.", "Pre-dumping FAILED.")
_NO_DIAG = "Sockects collect procedure"
"""So spelt in criu's logs: what it wanted the kernel to list, before a family and a protocol."""


class Criu:
    """One `criu swrk` process; ended and reaped with the context."""

    __slots__ = ("_sock", "passed", "pid")

    def __init__(
        self,
        program: str = "",
        *,
        stdio: tuple[int, int, int] = (0, 1, 2),
        passed: Sequence[int] = (),
    ) -> None:
        """Start it.

        Args:
          program: Its path, or empty to look for it by PATH.
          stdio: Borrowed; its own 0, 1 and 2.
          passed: Borrowed fds for it to have; `self.passed` has their numbers there.

        Raises:
          Unimplemented: there is no criu here.
        """
        found = program or _find("criu")
        if not found:
            raise Unimplemented("checkpoint and restore need criu, which is not installed")
        kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        self._sock, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
        self.passed = {fd: _FIRST_PASSED + at for at, fd in enumerate(passed)}
        # High copies first: no target number may hit a source that is still needed.
        sources = [*stdio, theirs.fileno(), *self.passed]
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 256) for fd in sources]
        theirs.close()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(high)]
            self.pid = os.posix_spawn(found, [found, "swrk", "3"], os.environ, file_actions=actions)
        except FileNotFoundError as err:
            self._sock.close()
            raise Unimplemented(f"checkpoint and restore need criu: there is no {found}") from err
        finally:
            for fd in high:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
        os.waitpid(self.pid, 0)

    def require(self, features: msg.Features) -> None:
        """Raise Unimplemented unless criu and kernel have these."""
        self._send(msg.Request(type=msg.FEATURE_CHECK, features=features, keep_open=True))
        answer = self._answer()[0]
        had = answer.features or msg.Features()
        names = {
            "mem_track": "memory tracking (CONFIG_MEM_SOFT_DIRTY)",
            "lazy_pages": "userfaultfd",
        }
        for name, words in names.items():
            if getattr(features, name) and not getattr(had, name):
                raise Unimplemented(f"this kernel has no {words}, or criu cannot use it")

    def request(
        self,
        kind: int,
        opts: msg.Opts,
        on_notify: Callable[[str, int, list[int]], None] | None = None,
    ) -> msg.Response:
        """Ask, answer the notifications on the way, and return the final response.

        Args:
          kind: DUMP, PRE_DUMP or RESTORE.
          opts: The request's.
          on_notify: Gets script, pid and fds, which are its own from then on; what it raises tells
            criu to give up, and is raised again when it has.

        Raises:
          CheckpointFailed: criu died.
        """
        self._send(msg.Request(type=kind, opts=opts))
        problem: BaseException | None = None
        while True:
            answer, received = self._answer()
            if answer.type != msg.NOTIFY or answer.notify is None:
                for fd in received:
                    os.close(fd)
                if problem is not None:
                    raise problem
                return answer
            try:
                if on_notify is not None:
                    on_notify(answer.notify.script, answer.notify.pid, received)
            except Exception as err:  # noqa: BLE001  criu is to hear of it, our caller afterwards
                problem = problem or err
            self._send(msg.Request(type=msg.NOTIFY, notify_success=problem is None))

    def _send(self, request: msg.Request) -> None:
        try:
            self._sock.send(bytes(request))
        except ConnectionError as err:
            raise CheckpointFailed("criu ended before it was asked") from err

    def _answer(self) -> tuple[msg.Response, list[int]]:
        try:
            data, received = fds.recv_fds(self._sock, _MOST_BYTES, 1)
        except ConnectionError as err:
            raise CheckpointFailed("criu ended without an answer") from err
        if not data:
            raise CheckpointFailed("criu ended without an answer")
        return msg.Response.decode(data), received


def failure(what: str, log: str, said: str = "", errno: int = 0) -> CheckpointFailed:
    """Return the error for a request that criu refused, with the reasons that its log has."""
    reasons = _reasons(log)
    said = said.partition("): ")[2].strip() or said.strip()
    if said and said not in reasons and not said.endswith(_GENERIC):
        reasons.append(said)
    if not reasons and errno:
        reasons.append(os.strerror(errno))
    text = "; ".join(reasons) or "it gave no reason"
    where = f" (log: {log})" if os.path.exists(log) else ""
    return CheckpointFailed(f"criu failed to {what}: {text}{where}")


def _reasons(log: str) -> list[str]:
    """Return the last errors of a log, but those that only say that it failed."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - _MOST_LOG_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    found: list[str] = []
    missing = []
    for line in text.splitlines():
        _, mark, rest = line.partition("Error (")
        if mark and not rest.endswith(_GENERIC):
            found.append(rest.partition("): ")[2].strip() or rest)
        _, mark, rest = line.partition(_NO_DIAG)
        if mark and rest.endswith(": -2"):
            sockets = rest.removesuffix(": -2").replace(" family", "").replace(" proto", "").strip()
            missing.append(f"this kernel has no socket diagnostics for {sockets}")
    # What it found out about the kernel comes first, what ended it last.
    return found[-_MOST_REASONS:] or missing[:_MOST_REASONS]


def _find(name: str) -> str:
    """Return the path of a program, or nothing. `shutil` would stay in the memory of a zygote."""
    for folder in f"{os.environ.get('PATH', '')}:{_ADMIN_PATH}".split(":"):
        path = f"{folder}/{name}"
        if folder and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""
