"""The end of a task whose shim died, or hangs: killed, unmounted, noted by who comes first.

    lock the bundle ─ is its shim alive? ─ kill the shim ─ clean up ─ write `exit` ─ unlock

The clean-up is a worker of the zygote: it kills by cgroup, deletes the OCI runtime's state and
unmounts. A foreign shim's own binary does it (`delete` of the start protocol). The bundle stays,
with the file `exit`, until the task is deleted. All of it blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.errors import NotFound, SampanError, Unavailable
from sampan.linux.fds import unix_connect
from sampan.rpc.messages import runc
from sampan.runtime import Exit
from sampan.runtime.bundle import Bundle, Lock
from sampan.runtime.foreign import PATH_FILE, delete_command

if TYPE_CHECKING:
    from sampan.zygote import Zygote

__all__ = ["KILLED", "Burial", "bury", "clean_up", "grave", "start_time"]

log = logging.getLogger(__name__)

KILLED: Final = 137
"""Status of a task that nobody saw end, as containerd has it."""
CLEANUP: Final = "sampan.shim.cleanup:worker"
_CLEANUP_S: Final = 15.0
_LOCK_S: Final = 30.0
_EXIT: Final = "exit"
_ENDED: Final = "ended"
"""Written by a shim of ours when init ends; it becomes `exit` when the shim goes by itself."""


@dataclass(frozen=True, slots=True)
class Burial:
    """How a task ended, and whether it was this call that found out."""

    exit: Exit
    first: bool


def grave(bundle: Bundle) -> Exit | None:
    """Return how a buried task ended; None for one that was not buried."""
    return _read_exit(bundle, _EXIT)


def _ended(bundle: Bundle) -> Exit | None:
    """Return how the container ended, if its shim saw that before its own end."""
    return _read_exit(bundle, _ENDED)


def _read_exit(bundle: Bundle, name: str) -> Exit | None:
    text = bundle.read(name)
    if not text:
        return None
    values = json.loads(text)
    return Exit(values["pid"], values["status"], values["at_ns"])


def bury(
    bundle: Bundle, zygote: Callable[[], Zygote], state: Path, *, force: bool = False
) -> Burial | None:
    """End what a dead shim left; None when the shim is alive after all.

    Args:
      bundle: The task's.
      zygote: Returns the zygote for the worker.
      state: The state folder, for the OCI runtime's root.
      force: The shim is alive but does not answer: it is killed.

    Raises:
      NotFound: the task was deleted meanwhile.
      Unavailable: somebody holds the bundle for longer than half a minute.
    """
    with Lock() as lock:
        try:
            lock.take(bundle.path, _LOCK_S)
        except FileNotFoundError:
            raise NotFound(f"task {bundle.id}: not found") from None
        bundle.require()
        known = grave(bundle)
        if known is not None:
            return Burial(known, first=False)
        if not force and _lives(bundle) and _listens(bundle):
            return None
        log.warning("shim is gone: container=%s namespace=%s", bundle.id, bundle.namespace)
        pid = _init_pid(bundle, state)
        clean_up(bundle, zygote, state)
        ended = _ended(bundle) or Exit(pid, KILLED, time.time_ns())
        values = {"pid": ended.pid, "status": ended.status, "at_ns": ended.exited_at_ns}
        bundle.write(_EXIT, json.dumps(values).encode())
        return Burial(ended, first=True)


def clean_up(bundle: Bundle, zygote: Callable[[], Zygote], state: Path) -> None:
    """Kill the shim and everything of its container, and unmount; the bundle stays."""
    _kill_shim(bundle)
    binary = bundle.read(PATH_FILE)
    if binary:
        _run(delete_command(binary, bundle), bundle)
    options = _options(bundle)
    folder = _oci_folder(bundle, state, options)
    if options.binary_name not in ("", "sampan"):
        _run([options.binary_name, "--root", str(folder), "delete", "--force", bundle.id], bundle)
    payload = json.dumps(
        {
            "namespace": bundle.namespace,
            "id": bundle.id,
            "bundle": os.fspath(bundle.path),
            "oci_root": os.fspath(folder.parent),
            "shim_pid": 0 if binary else _shim_pid(bundle),
        }
    ).encode()
    try:
        with zygote().fork(CLEANUP, payload) as worker:
            if status := worker.wait(_CLEANUP_S):
                raise Unavailable(f"worker {CLEANUP} ended with status {status}")
    except (SampanError, TimeoutError):
        log.exception("clean-up failed: container=%s", bundle.id)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(bundle.socket)


def _options(bundle: Bundle) -> runc.Options:
    try:
        return runc.Options.decode(bundle.read_bytes("options"))
    except SampanError:
        return runc.Options()


def _oci_folder(bundle: Bundle, state: Path, options: runc.Options) -> Path:
    default = state / "oci" if options.binary_name in ("", "sampan") else "/run/containerd/runc"
    return Path(options.root or default, bundle.namespace)


def _init_pid(bundle: Bundle, state: Path) -> int:
    file = _oci_folder(bundle, state, _options(bundle)) / bundle.id / "state.json"
    try:
        return int(json.loads(file.read_bytes()).get("pid") or 0)
    except (OSError, ValueError, AttributeError, TypeError):
        return 0


def _lives(bundle: Bundle) -> bool:
    """Tell whether the shim's process lives; True when we cannot know.

    For a moment after a shim has been killed its socket still takes connections.
    """
    number, _, started = bundle.read("shim.pid").partition(" ")
    if not number.isascii() or not number.isdigit() or number == "0" or not started:
        return True
    try:
        text = Path(f"/proc/{number}/stat").read_text("ascii", "replace")
    except OSError:
        return False
    fields = text.rpartition(")")[2].split()
    return fields[0] not in ("Z", "X") and fields[19] == started


def _listens(bundle: Bundle) -> bool:
    address = bundle.read("address").removeprefix("unix://")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setblocking(False)
        try:
            unix_connect(probe, address)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def start_time(pid: int) -> str:
    """Return when a process started, in ticks since boot: with the pid it names it for good."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]


def _shim_pid(bundle: Bundle) -> int:
    number = bundle.read("shim.pid").partition(" ")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


def _kill_shim(bundle: Bundle) -> None:
    """Kill the bundle's shim if it still is the process that we started, and see it gone."""
    number, _, started = bundle.read("shim.pid").partition(" ")
    if not number.isascii() or not number.isdigit() or not started:
        return
    try:
        pidfd = os.pidfd_open(int(number))
    except OSError:
        return
    try:
        if start_time(int(number)) == started:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            _gone(pidfd)
    except ProcessLookupError:
        log.debug("shim was gone already: pid=%s", number)
    finally:
        os.close(pidfd)


def _gone(pidfd: int) -> None:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(5000)


def _run(command: list[str], bundle: Bundle) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=bundle.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CLEANUP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        log.warning("clean-up failed: container=%s: %s", bundle.id, err)
        return
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace").strip()
        log.info("clean-up: container=%s command=%s: %s", bundle.id, command[0], text)
