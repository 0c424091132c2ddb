"""Hooks: programs that config.json names for moments of a container's life.

Each gets the state on its stdin. A failing hook ends the matter, but for poststop, where the
others still run. Source: runtime-spec config.md#posix-platform-hooks.
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import os

from sampan.errors import FailedPrecondition
from sampan.linux import process
from sampan.oci import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.model.runtime.hooks import Hook

__all__ = ["run_hooks"]


def run_hooks(name: str, hooks: Sequence[Hook], state: bytes, *, go_on: bool = False) -> None:
    """Run the hooks of one kind in order, in the caller's namespaces.

    Raises:
      FailedPrecondition: `error running NAME hook #N`, unless `go_on`.
    """
    for index, hook in enumerate(hooks):
        try:
            _run(hook, state)
        except (OSError, FailedPrecondition) as err:
            text = f"error running {name} hook #{index}: {err}"
            if not go_on:
                raise FailedPrecondition(text) from err
            log.warning(text)


def _run(hook: Hook, state: bytes) -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            hook.path,
            list(hook.args) or [hook.path],
            dict(entry.partition("=")[::2] for entry in hook.env),
            file_actions=[(os.POSIX_SPAWN_DUP2, read, 0)],
            setsigdef=[13, 25],  # SIGPIPE and SIGXFSZ, which Python ignores
            setsigmask=[],
        )
    finally:
        os.close(read)
    pidfd = process.pidfd_open(pid)
    try:
        try:
            os.write(write, state)
        except BrokenPipeError:
            pass
        os.close(write)
        late = not process.pidfd_wait(pidfd, hook.timeout)
        if late:
            process.pidfd_send_signal(pidfd, 9)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)
    if late:
        raise FailedPrecondition(f"{hook.path} did not end within {hook.timeout} s")
    if code:
        raise FailedPrecondition(f"{hook.path} ended with status {code}")
