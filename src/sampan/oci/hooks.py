"""Hooks: programs that config.json names for six moments of a container's life.

    prestart, createRuntime     caller's namespaces    the container's exist, its root is mounted
    createContainer             container's            before the pivot; folder is the rootfs
    startContainer              container's            just before execve, as its user, filtered
    poststart                   caller's               the program runs
    poststop                    caller's               all is gone; a failure stops nothing

Each gets the state on its stdin. What it writes is kept for the error text alone. Nothing here
imports or looks anything up, as two kinds run in the container's init.

Source: runtime-spec config.md#posix-platform-hooks.
"""

from __future__ import annotations

import errno
import os
import select
import time

from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.linux import process
from sampan.oci import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sampan.model.runtime.hooks import Hook, Hooks

__all__ = ["check_hooks", "run_hooks"]

_KEPT_BYTES = 4096
_CHUNK = 65536
_NAMES = (
    ("prestart", "prestart"), ("createRuntime", "create_runtime"),
    ("createContainer", "create_container"), ("startContainer", "start_container"),
    ("poststart", "poststart"), ("poststop", "poststop"),
)  # fmt: skip


def check_hooks(hooks: Hooks | None) -> None:
    """Raise InvalidArgument for a hook that could never run, before anything is made."""
    if hooks is None:
        return
    for name, field in _NAMES:
        for index, hook in enumerate(getattr(hooks, field)):
            where = f"$.hooks.{name}[{index}]"
            if not hook.path.startswith("/"):
                raise InvalidArgument(f"hook path {hook.path!r} is not absolute - at `{where}`")
            if hook.timeout is not None and hook.timeout <= 0:
                raise InvalidArgument(f"timeout {hook.timeout} is not above 0 s - at `{where}`")


def run_hooks(
    name: str,
    hooks: Sequence[Hook],
    state: bytes,
    *,
    go_on: bool = False,
    environment: Mapping[bytes, bytes] | None = None,
) -> None:
    """Run the hooks of one kind in order, in our own namespaces and folder.

    Args:
      name: The kind, for messages.
      hooks: What to run.
      state: Goes to each one's stdin.
      go_on: Only warn of a failure.
      environment: For hooks that name none; by default an empty one.

    Raises:
      FailedPrecondition: `error running NAME hook #N`, unless `go_on`.
    """
    for index, hook in enumerate(hooks):
        try:
            _run(hook, state, environment or {})
        except (OSError, FailedPrecondition) as err:
            reason = err.strerror if isinstance(err, OSError) and err.strerror else str(err)
            text = f"error running {name} hook #{index}: {hook.path}: {reason}"
            if not go_on:
                raise FailedPrecondition(text) from err
            log.warning(text)


def _run(hook: Hook, state: bytes, inherited: Mapping[bytes, bytes]) -> None:
    variables = [os.fsencode(entry).partition(b"=")[::2] for entry in hook.env]
    stdin, feed = os.pipe2(os.O_CLOEXEC)
    output, stdout = os.pipe2(os.O_CLOEXEC)
    pid = 0
    try:
        pid = os.posix_spawn(
            hook.path,
            list(hook.args) or [hook.path],
            dict(variables) if variables else inherited,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stdout, 2),
            ],
            setsigdef=[13, 25],  # SIGPIPE and SIGXFSZ, which Python ignores
            setsigmask=[],
        )
    finally:
        os.close(stdin)
        os.close(stdout)
        if not pid:
            os.close(feed)
            os.close(output)
    said, late = _attend(pid, feed, output, state, hook.timeout)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if late:
        raise FailedPrecondition(f"did not end within {hook.timeout} s")
    if code:
        how = f"exit status {code}" if code > 0 else f"killed by signal {-code}"
        words = said.decode(errors="surrogateescape").strip()
        raise FailedPrecondition(f"{how}, output: {words}" if words else how)


def _attend(
    pid: int, feed: int, output: int, state: bytes, timeout_s: int | None
) -> tuple[bytes, bool]:
    """Feed the state, drain the output, until the hook has ended; kill it when its time is up.

    It may leave a child behind that keeps the pipe open, or never read what it is fed.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pidfd = process.pidfd_open(pid)
    said, late = b"", False
    poll = select.poll()
    try:
        for fd in (feed, output):
            os.set_blocking(fd, False)
        poll.register(feed, select.POLLOUT)
        poll.register(output, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            left_ms = None if deadline is None else max(0, (deadline - time.monotonic()) * 1000)
            ready = {fd for fd, _ in poll.poll(left_ms)}
            if output in ready or pidfd in ready:
                chunk = _read(output)
                said += chunk[: _KEPT_BYTES - len(said)]
                if not chunk and output in ready:
                    poll.unregister(output)
            if pidfd in ready:
                break
            if feed in ready:
                state = state[_write(feed, state) :]
                if not state:
                    poll.unregister(feed)
                    os.close(feed)
                    feed = -1
            if not ready:
                late = True
                process.pidfd_send_signal(pidfd, 9)
                deadline = None
    finally:
        for fd in (feed, output, pidfd):
            if fd >= 0:
                os.close(fd)
    return said, late


def _read(output: int) -> bytes:
    try:
        return os.read(output, _CHUNK)
    except BlockingIOError:
        return b""


def _write(feed: int, state: bytes) -> int:
    try:
        return os.write(feed, state)
    except BlockingIOError:
        return 0
    except OSError as err:
        if err.errno == errno.EPIPE:
            return len(state)  # it does not want to know
        raise
