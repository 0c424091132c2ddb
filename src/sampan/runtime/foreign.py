"""Shims of others, by exec and the start protocol of containerd's runtime v2.

    binary -namespace NS -id ID -address SOCK [-publish-binary BIN] start      cwd = the bundle
      stdin   Any of options (may be empty)      env  TTRPC_ADDRESS MAX_SHIM_VERSION GRPC_ADDRESS
      stdout  "unix:///path"   or   {"version": 2|3, "address": "unix:///path", "protocol": "ttrpc"}
    binary … -bundle DIR delete                                                after a shim's death

A shim writes its log to the fifo `log` in its bundle, and blocks until somebody reads it: so we
hold it open before the start, and again after each of our own starts.

Source: containerd docs/runtime-v2.md; pkg/shim (1.6, 2.x) for names and defaults.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import stat
from dataclasses import dataclass
from typing import Final

from sampan.concurrency import run, to_thread
from sampan.errors import InvalidArgument, NotFound, Unavailable, Unimplemented
from sampan.runtime.bundle import Bundle

__all__ = ["PATH_FILE", "Log", "Started", "binary_of", "delete_command", "start"]

log = logging.getLogger(__name__)

PATH_FILE: Final = "shim-binary-path"
"""In the bundle: which binary its shim is."""
_START_S: Final = 30.0
_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class Started:
    """Where a shim serves, and which version of the Task service."""

    address: str
    version: int


def binary_of(runtime: str, path: str | None = None) -> str:
    """Return the binary of a runtime: `io.containerd.runc.v2` is `containerd-shim-runc-v2`.

    An absolute path is itself. `path` is where to look, by default PATH.

    Raises:
      InvalidArgument: no name of a runtime.
      NotFound: no such binary.
    """
    if os.path.isabs(runtime):
        if not os.access(runtime, os.X_OK):
            raise NotFound(f"runtime {runtime}: no such binary: not found")
        return runtime
    parts = runtime.split(".")
    if len(parts) < _PARTS - 2 or not all(parts):
        raise InvalidArgument(f"runtime {runtime!r} is no name like io.containerd.runc.v2")
    name = f"containerd-shim-{parts[-2]}-{parts[-1]}"
    found = shutil.which(name, path=path)
    if found is None:
        raise NotFound(f"runtime {runtime!r} binary not installed {name!r}: file does not exist")
    return found


def delete_command(binary: str, bundle: Bundle) -> list[str]:
    """Return the command that cleans up behind a dead shim."""
    return [
        binary,
        "-namespace", bundle.namespace,
        "-id", bundle.id,
        "-address", bundle.read("grpc-address"),
        "-bundle", os.fspath(bundle.path),
        "delete",
    ]  # fmt: skip


async def start(bundle: Bundle, binary: str, *, publish: str, options: bytes = b"") -> Started:
    """Start a shim and return where it serves; its log is the caller's to hold open.

    Args:
      bundle: Of the container.
      binary: Absolute path.
      publish: The daemon's ttrpc socket, `<address>.ttrpc`; empty for none.
      options: An encoded Any of runtime options, on its stdin.

    Raises:
      Unavailable: it did not start; has its own words.
    """
    address = publish.removesuffix(".ttrpc")
    await to_thread(bundle.write, PATH_FILE, os.fsencode(binary))
    await to_thread(bundle.write, "grpc-address", os.fsencode(address))
    argv = [binary, "-namespace", bundle.namespace, "-id", bundle.id, "-address", address, "start"]
    environment = {
        **os.environ,
        "TTRPC_ADDRESS": publish,
        "GRPC_ADDRESS": address,
        "NAMESPACE": bundle.namespace,
        "MAX_SHIM_VERSION": "3",
        "GOMAXPROCS": "2",
    }
    try:
        done = await run(argv, cwd=bundle.path, env=environment, stdin=options, timeout_s=_START_S)
    except (OSError, TimeoutError) as err:
        raise Unavailable(f"start shim {binary}: {err}") from err
    if done.returncode:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise Unavailable(f"start shim {binary}: status {done.returncode}: {words}")
    return _answer(done.stdout, binary)


def _answer(output: bytes, binary: str) -> Started:
    text = output.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            values = json.loads(text)
            started = Started(str(values["address"]), int(values.get("version", 2)))
            protocol = values.get("protocol", "ttrpc")
        except (ValueError, KeyError, TypeError) as err:
            raise Unavailable(f"start shim {binary}: answer {text!r} is not understood") from err
        if protocol != "ttrpc":
            raise Unimplemented(f"start shim {binary}: protocol {protocol} is not supported")
        return started
    if not text.startswith("unix://") and not text.startswith("/"):
        raise Unavailable(f"start shim {binary}: answer {text!r} is no address")
    return Started(text, 2)


class Log:
    """The reading end of a shim's `log` fifo; each line becomes a debug message of ours."""

    def __init__(self, bundle: Bundle) -> None:
        self._id = bundle.id
        path = bundle.path / "log"
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Both ways: it neither blocks for a writer now, nor ends with the last one.
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise InvalidArgument(f"{path} is no fifo")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._fd, 65536)
            for line in data.decode("utf-8", "replace").splitlines():
                log.debug("shim: %s: container=%s", line, self._id)

    def close(self) -> None:
        """Stop reading; the shim's next write fails, which it ignores."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._loop.remove_reader(fd)
            os.close(fd)
