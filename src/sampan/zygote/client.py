"""Starting a zygote and asking it for workers: plain, synchronous, safe to share by threads."""

from __future__ import annotations

import _socket
import _thread
import fcntl
import os
import sys

from sampan.errors import InvalidArgument, Unavailable
from sampan.linux import exe, process
from sampan.linux import fds as fdlib
from sampan.zygote.protocol import (
    CGROUP,
    IMPORTS,
    LONG_PAYLOAD,
    MAX_MESSAGE,
    MAX_PAYLOAD_INLINE,
    SESSION,
    STDIO,
    VERSION,
    pack,
    unpack,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Worker", "Zygote"]

_PROGRAM = (
    "import sys; fd, ns, *sys.path[:] = sys.argv[1:]; sys.argv[1:] = [];"
    "from sampan.zygote.server import main; main(int(fd), int(ns))"
)


class Worker:
    """A child of the zygote. Its pidfd belongs to this object until `detach`."""

    __slots__ = ("_zygote", "pid", "pidfd")

    def __init__(self, zygote: Zygote, pid: int, pidfd: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.pidfd = pidfd

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit status, or minus the signal that ended it.

        Raises:
          TimeoutError: It still runs.
          Unavailable: It has ended, but the zygote that knew how is gone.
        """
        if not process.pidfd_wait(self.pidfd, timeout_s):
            raise TimeoutError(f"worker {self.pid} still runs after {timeout_s} s")
        return self._zygote.status(self.pid)

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        try:  # noqa: SIM105  contextlib is slow to import
            process.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            pass

    def detach(self) -> int:
        """Give the pidfd away: the caller closes it."""
        fd, self.pidfd = self.pidfd, -1
        return fd

    def close(self) -> None:
        """Close the pidfd; the worker runs on."""
        if self.pidfd >= 0:
            os.close(self.detach())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Zygote:
    """The owner's end. `close` ends the zygote, not its workers."""

    def __init__(
        self,
        *,
        path: Sequence[str],
        timeout_s: float,
        stderr: int | None,
        namespaces: Sequence[int] = (),
    ) -> None:
        self._path = list(path)
        self._timeout_s = timeout_s
        self._stderr = stderr
        self._namespaces = tuple(namespaces)
        self._preloaded: list[str] = []
        self._lock = _thread.allocate_lock()
        self._socket: _socket.socket | None = None
        self.pid = -1
        self.pidfd = -1
        """Ours; POLLIN when the zygote has ended."""

    @classmethod
    def start(
        cls,
        preload: Sequence[str] = (),
        *,
        path: Sequence[str] | None = None,
        timeout_s: float = 30,
        stderr: int | None = None,
        namespaces: Sequence[int] = (),
    ) -> Zygote:
        """Start a zygote from a protected interpreter.

        Args:
          preload: Modules to import; a module's own `preload()` is called when it has one.
          path: Its sys.path; by default ours.
          timeout_s: How long any answer may take; a preload takes the longest.
          stderr: Borrowed fd for tracebacks of the zygote; default is our own fd 2.
          namespaces: Borrowed fds, for its whole life, of namespaces that it enters in this order
            before anything else, to be root there: see `userns`.

        Raises:
          Unavailable: It did not start.
          InvalidArgument: A module could not be imported; names it.
        """
        chosen = sys.path if path is None else path
        absolute = [os.path.abspath(p or ".") for p in chosen]
        self = cls(path=absolute, timeout_s=timeout_s, stderr=stderr, namespaces=namespaces)
        try:
            self._spawn()
            self.preload(preload)
        except BaseException:
            self.close()
            raise
        return self

    def preload(self, names: Sequence[str]) -> None:
        """Import modules in the zygote, then share their memory with later workers.

        Raises:
          InvalidArgument: One could not be imported.
        """
        if names:
            self._ask([b"preload", *(name.encode() for name in names)])
            self._preloaded.extend(name for name in names if name not in self._preloaded)

    def fork(
        self,
        target: str,
        payload: bytes = b"",
        fds: Sequence[int] = (),
        *,
        stdio: tuple[int, int, int] | None = None,
        session: bool = True,
        clone_flags: int = 0,
        cgroup_fd: int | None = None,
        name: str = "",
        allow_imports: bool = False,
    ) -> Worker:
        """Run `target` ("module:function") in a child of the zygote.

        Args:
          target: The worker; its module is imported in the zygote if it is not yet.
          payload: Its first argument; any length.
          fds: Borrowed; the worker gets duplicates, in this order, as its second argument.
          stdio: Borrowed; the worker's 0, 1 and 2. Default is /dev/null.
          session: Whether it calls setsid.
          clone_flags: CLONE_NEW* for namespaces to be born in.
          cgroup_fd: Borrowed; a cgroup v2 folder to be born in.
          name: What ps shows, to 15 bytes.
          allow_imports: Lift the ban on imports (tests and development).

        Raises:
          Unavailable: The zygote is gone or silent; `restart` helps.
          InvalidArgument: It refused: no such function, bad flags, or the kernel refused the fork.
        """
        flags = SESSION * session | IMPORTS * allow_imports
        sent: list[int] = []
        if cgroup_fd is not None:
            flags |= CGROUP
            sent.append(cgroup_fd)
        with fdlib.OwnedFd(-1) as long_payload:
            if len(payload) > MAX_PAYLOAD_INLINE:
                flags |= LONG_PAYLOAD
                long_payload.fd = fdlib.sealed_memfd("payload", payload)
                sent.append(long_payload.fd)
                payload = b""
            if stdio is not None:
                flags |= STDIO
                sent.extend(stdio)
            sent.extend(fds)
            request = [b"fork", target.encode(), b"%d" % flags, b"%d" % clone_flags]
            fields, received = self._ask([*request, name.encode(), payload], sent)
        return Worker(self, int(fields[0]), received[0])

    def status(self, pid: int) -> int:
        """Return how the ended worker `pid` ended; -n is signal n.

        Raises:
          InvalidArgument: It still runs, or is no child of this zygote.
        """
        fields, _ = self._ask([b"status", b"%d" % pid])
        if fields[0] == b"running":
            raise InvalidArgument(f"worker {pid} still runs")
        return int(fields[0])

    def alive(self) -> bool:
        """Return whether the zygote runs."""
        return self.pidfd >= 0 and not process.pidfd_wait(self.pidfd, 0)

    def restart(self) -> None:
        """End what is left of the zygote, start another, and preload the same modules."""
        names, self._preloaded = self._preloaded, []
        self.close()
        self._spawn()
        self.preload(names)

    def close(self) -> None:
        """End the zygote, by force after a second, and reap it; workers live on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self.pidfd < 0:
            return
        if not process.pidfd_wait(self.pidfd, 1):
            process.pidfd_send_signal(self.pidfd, 9)
        try:  # noqa: SIM105
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            pass
        os.close(self.pidfd)
        self.pid = self.pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _spawn(self) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            with exe.protected_interpreter() as interpreter:
                count = len(self._namespaces)
                arguments = ["-I", "-S", "-c", _PROGRAM, "3", str(count), *self._path]
                # Above the numbers that they shall have, so that none overwrites another.
                moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in self._namespaces]
                actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
                actions += [(os.POSIX_SPAWN_DUP2, fd, 4 + at) for at, fd in enumerate(moved)]
                if self._stderr is not None:
                    actions.append((os.POSIX_SPAWN_DUP2, self._stderr, 2))
                try:
                    self.pid = interpreter.spawn(arguments, actions)
                finally:
                    for fd in moved:
                        os.close(fd)
            self.pidfd = process.pidfd_open(self.pid)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.settimeout(self._timeout_s)
        self._socket = ours
        self._ask([b"hello"])

    def _ask(
        self, fields: Sequence[bytes], fds: Sequence[int] = ()
    ) -> tuple[Sequence[bytes], list[int]]:
        with self._lock:
            if self._socket is None:
                raise Unavailable("the zygote is closed: start another")
            try:
                fdlib.send_fds(self._socket, pack(VERSION, *fields), fds)
                message, received = fdlib.recv_fds(self._socket, MAX_MESSAGE, 1)
            except TimeoutError as error:
                # A late answer would be taken for that to the next question.
                self._socket.close()
                self._socket = None
                raise Unavailable(f"the zygote gave no answer in {self._timeout_s} s") from error
            except ConnectionError as error:
                raise Unavailable(f"the zygote {self.pid} is gone: {error}") from error
        if not message:
            raise Unavailable(f"the zygote {self.pid} is gone")
        answer = unpack(message)
        if answer[0] != b"ok":
            what = b": ".join(answer[1:]).decode(errors="replace")
            raise InvalidArgument(f"the zygote refused {fields[0].decode()}: {what}")
        return answer[1:], received
