"""The zygote itself: one thread that imports, forks, passes pidfds, and reaps.

It stays in the host's namespaces, is exec'd from where nobody can write to the interpreter
(`linux.exe`), and imports nothing by itself but `sampan.linux`.
"""

from __future__ import annotations

import _socket
import fcntl
import gc
import marshal
import os
import select
import struct
import sys

from sampan.linux import fds as fdlib
from sampan.linux import namespaces, prctl, process, signals
from sampan.zygote.protocol import (
    CGROUP,
    IMPORTS,
    LONG_PAYLOAD,
    MAX_MESSAGE,
    SESSION,
    STDIO,
    VERSION,
    pack,
    unpack,
)
from sampan.zygote.template import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ImportsRefused", "Server", "main", "refuse_imports"]

_STATUSES_KEPT = 4096
TEMPLATE_MAX_BYTES = 16384

_SIGCHLD_BIT = 1 << (process.SIGCHLD - 1)


class ImportsRefused(ImportError):
    """A worker tried to import what the zygote had not preloaded."""


class _Refuser:
    """First in sys.meta_path: refuses everything, loaded modules excepted, which never get here."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        raise ImportsRefused(
            f"{name} is not loaded, and no import is allowed after the fork: name it in the"
            " zygote's preload list",
            name=name,
        )


def refuse_imports() -> None:
    """Forbid this process, for ever, to import what it has not loaded yet."""
    sys.meta_path.insert(0, _Refuser())


class _RequestError(Exception):
    """A request that cannot be carried out; the text goes back to the client."""


class Server:
    """Serves one connection, its owner's, until that closes."""

    def __init__(self, connection: _socket.socket) -> None:
        self._connection = connection
        self._running: set[int] = set()
        self._ended: dict[int, int] = {}
        """Pid to wait status, oldest first, at most _STATUSES_KEPT."""
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._sigchld = -1
        self._template: Template | None = None

    def run(self) -> None:
        """Serve until the owner closes its end; children live on."""
        signals.set_mask(_SIGCHLD_BIT)
        self._sigchld = signals.signalfd(_SIGCHLD_BIT)
        gc.disable()
        gc.freeze()
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        poll.register(self._sigchld, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._sigchld:
                    signals.signalfd_read(fd)
                    self._reap()
                elif not self._serve_one():
                    return

    def _serve_one(self) -> bool:
        """Answer one request; return False when there will be no more."""
        received: list[int] = []
        reply_fd = -1
        try:
            message, received = fdlib.recv_fds(self._connection, MAX_MESSAGE)
            if not message and not received:
                return False
            fields, reply_fd = self._handle(message, received)
            reply = pack(b"ok", *fields)
        except ConnectionError:
            return False
        except Exception as error:  # noqa: BLE001  the edge of the program: answered, not logged
            reply = pack(b"error", type(error).__name__.encode(), str(error).encode()[:16384])
        finally:
            for fd in received:
                os.close(fd)
        try:
            fdlib.send_fds(self._connection, reply, [reply_fd] if reply_fd >= 0 else [])
        except ConnectionError:
            return False
        finally:
            if reply_fd >= 0:
                os.close(reply_fd)
        return True

    def _handle(self, message: bytes, received: Sequence[int]) -> tuple[Sequence[bytes], int]:
        fields = unpack(message)
        if len(fields) < 2 or fields[0] != VERSION:
            theirs = fields[0].decode(errors="replace") if fields else "none"
            raise _RequestError(f"protocol version {theirs}: this zygote speaks {VERSION.decode()}")
        verb, arguments = fields[1], fields[2:]
        if verb == b"hello":
            return (VERSION, b"%d" % os.getpid()), -1
        if verb == b"preload":
            self._preload(arguments)
            return (), -1
        if verb == b"status" and len(arguments) == 1:
            return (self._status(int(arguments[0])),), -1
        if verb == b"fork" and len(arguments) == 5:
            pid, pidfd = self._fork(arguments, received)
            return (b"%d" % pid,), pidfd
        raise _RequestError(f"unknown request {verb!r} with {len(arguments)} arguments")

    def _preload(self, names: Sequence[bytes]) -> None:
        self._drop_template()
        for name in names:
            __import__(name.decode())
            ready = getattr(sys.modules[name.decode()], "preload", None)
            if ready is not None:
                ready()
        gc.collect()
        gc.freeze()

    def _status(self, pid: int) -> bytes:
        self._reap()
        if pid in self._running:
            return b"running"
        if pid not in self._ended:
            raise _RequestError(f"no child {pid}")
        return b"%d" % os.waitstatus_to_exitcode(self._ended[pid])

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._template is not None and pid == self._template.pid:
                self._drop_template()
                continue
            if pid not in self._running:
                continue
            self._running.discard(pid)
            self._ended[pid] = status
            if len(self._ended) > _STATUSES_KEPT:
                del self._ended[next(iter(self._ended))]

    def _fork(self, arguments: Sequence[bytes], received: Sequence[int]) -> tuple[int, int]:
        target, flag_text, clone_text, name, payload = arguments
        function = self._resolve(target.decode())
        flags, clone_flags = int(flag_text), int(clone_text)
        plain = not clone_flags and not flags & (CGROUP | LONG_PAYLOAD | IMPORTS)
        if plain and (pid := self._fork_template(arguments, received)):
            self._ended.pop(pid, None)
            self._running.add(pid)
            return pid, process.pidfd_open(pid)
        fds = list(received)
        needed = 3 * bool(flags & STDIO) + bool(flags & CGROUP) + bool(flags & LONG_PAYLOAD)
        if len(fds) < needed:
            raise _RequestError(f"fork: {needed} descriptors announced, {len(fds)} came")
        cgroup_fd = fds.pop(0) if flags & CGROUP else None
        if flags & LONG_PAYLOAD:
            memfd = fds.pop(0)
            payload = os.pread(memfd, os.fstat(memfd).st_size, 0)
        stdio = [self._null] * 3
        if flags & STDIO:
            stdio, fds = fds[:3], fds[3:]
        pid, pidfd = process.clone3(clone_flags, cgroup_fd=cgroup_fd)
        if pid == 0:
            self._connection.detach()
            fds = _settle_fds(fds, stdio)
            fdlib.close_all_but([0, 1, 2, *fds])
            _be_fresh()
            if not flags & IMPORTS:
                refuse_imports()
            _run_worker(function, payload, fds, flags, name)
        self._ended.pop(pid, None)
        self._running.add(pid)
        return pid, pidfd

    def _fork_template(self, arguments: Sequence[bytes], received: Sequence[int]) -> int:
        """Have the template bear the worker; return its pid, or 0 when that did not work."""
        if self._template is None:
            self._template = Template.start(self._prepare, self._serve_worker)
        target, flags, _, name, payload = arguments
        where = target.decode().partition(":")[::2]
        message = marshal.dumps((*where, int(flags), name, payload))
        if len(message) > TEMPLATE_MAX_BYTES:
            return 0
        pid = self._template.fork(message, received)
        if not pid:
            self._drop_template()
        return pid

    def _drop_template(self) -> None:
        """End the template; it knows less than we do, or nothing any more."""
        if self._template is not None:
            self._template.close()
            self._template = None

    def _prepare(self) -> None:
        """In the template: what every worker would do otherwise."""
        _be_fresh()
        refuse_imports()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for number in range(3):
            os.dup2(null, number, inheritable=True)
        os.close(null)

    def _serve_worker(self, connection: _socket.socket) -> None:
        """In a child of the template: be what the message says."""
        message, fds = fdlib.recv_fds(connection, TEMPLATE_MAX_BYTES)
        connection.send(b"%d" % os.getpid())
        connection.close()
        module, function, flags, name, payload = marshal.loads(message)  # noqa: S302  the zygote's
        if flags & STDIO:
            settled = _settle_fds(fds[3:], fds[:3])
            for fd in fds:
                if fd not in settled:
                    os.close(fd)
            fds = settled
        worker = getattr(sys.modules[module], function)
        _run_worker(worker, payload, fds, flags, name or b"sampan-zygote")

    def _resolve(self, target: str) -> Callable[[bytes, list[int]], int]:
        module_name, _, attribute = target.partition(":")
        if module_name not in sys.modules:
            self._drop_template()
            __import__(module_name)
            gc.collect()
            gc.freeze()
        function = getattr(sys.modules[module_name], attribute, None)
        if not callable(function):
            raise _RequestError(f"no function {attribute!r} in {module_name}")
        worker: Callable[[bytes, list[int]], int] = function
        return worker


def _be_fresh() -> None:
    """Be as a program that has just been started, as far as signals, umask and folder go."""
    signals.reset_dispositions()
    for number in (signals.SIGNALS["PIPE"], signals.SIGNALS["XFSZ"]):
        signals.set_disposition_ignore(number)
    signals.reset_mask()
    os.umask(0o022)
    os.chdir("/")


def _run_worker(
    function: Callable[[bytes, list[int]], int],
    payload: bytes,
    fds: list[int],
    flags: int,
    name: bytes,
) -> None:
    """In a child that has nothing of the zygote's any more: run the worker, and exit."""
    status = 70
    try:
        if flags & SESSION:
            os.setsid()
        if name:
            prctl.set_name(name)
        gc.enable()
        status = function(payload, fds) or 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001  the edge of the program
        # The C implementation; the `traceback` module would have to be imported.
        sys.__excepthook__(*sys.exc_info())
        status = 70
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:  # noqa: SIM105
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(status & 0xFF)


def _settle_fds(fds: Sequence[int], stdio: Sequence[int]) -> list[int]:
    """Put `stdio` on 0 to 2 and return where the worker's fds are now, all above 2."""
    held = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in stdio]
    settled = [fd if fd > 2 else fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in fds]
    for number, fd in enumerate(held):
        os.dup2(fd, number, inheritable=True)
    return settled


def _enter(fds: Sequence[int]) -> None:
    """Enter a user namespace and others, and become its root."""
    for number in fds:
        namespaces.setns(number)
        os.close(number)
    try:  # noqa: SIM105
        os.setgroups([])
    except PermissionError:  # one id alone is mapped: ours stay, and are nobody's inside
        pass
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def main(fd: int, count: int = 0) -> None:
    """Serve on the connected socket `fd`; the program of the zygote.

    With `count`, fds 4 and up are namespaces to be root in.
    """
    if count:
        _enter(range(4, 4 + count))
        # Once more from the start: memory belongs to the user namespace of its execve, and what is
        # not dumpable of it could else be looked at by nobody in ours.
        arguments = list(sys.orig_argv)
        arguments[6] = "0"
        os.execve("/proc/self/exe", arguments, os.environ)  # noqa: S606
    connection = _socket.socket(fileno=fd)
    fdlib.set_cloexec(fd, True)
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    _, uid, _ = struct.unpack("=iII", credentials)
    if uid not in (os.geteuid(), 0):
        raise PermissionError(1, f"the zygote serves its own user, not uid {uid}")
    prctl.set_name("sampan-zygote")
    Server(connection).run()
