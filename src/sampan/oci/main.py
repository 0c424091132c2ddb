"""`sampan-oci`: the runtime as a command line that podman, docker, CRI-O and containerd can run.

Flags, formats and exit codes are runc's. The last error goes to --log, where shims look for it as
JSON, and to stderr. `exec` ends with 255 when it fails itself, `run` likewise with 126 or 127.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` builds enums for 2 ms
import os
import sys
import time

from sampan import __version__
from sampan.errors import SampanError
from sampan.model.runtime.document import dumps
from sampan.oci import StartFailed, arguments, commands, log

__all__ = ["main"]

_GLOBAL = "debug log= log-format= root= criu= systemd-cgroup rootless= help|h version|v"


class _Log:
    """Where warnings and the last error go: --log, in --log-format, and stderr."""

    def __init__(self) -> None:
        self.path = ""
        self.json = False

    def __call__(self, level: str, message: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.json:
            line = dumps({"level": level, "msg": message, "time": stamp})
        else:
            line = f'time="{stamp}" level={level} msg={dumps(message)}'
        if not self.path:
            os.write(2, os.fsencode(line) + b"\n")
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self.path, flags, 0o644)
        os.write(fd, os.fsencode(line) + b"\n")
        os.close(fd)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # A caller may have us ignore SIGCHLD: then our children would vanish unwaited.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    sink = _Log()
    log.set_sink(sink)
    words = sys.argv[1:] if argv is None else argv
    command = ""
    try:
        flags, rest = arguments.parse(words, _GLOBAL, stop_after=1)
        sink.path = flags.get("log")
        sink.json = flags.get("log-format") == "json"
        if flags.has("version"):
            return _version()
        command = flags.rest[0] if flags.rest else "help"
        return commands.find(command)(flags, rest)
    except (SampanError, OSError) as err:
        return _fail(sink, command, err)


def _version() -> int:

    os.write(1, f"sampan-oci version {__version__}\nspec: 1.3.0\n".encode())
    return 0


def _fail(sink: _Log, command: str, err: Exception) -> int:
    text = str(err)
    if isinstance(err, StartFailed):
        text = f"{command} failed: unable to start container process: {text}"
    sink("error", text)
    if sink.path:
        os.write(2, os.fsencode(text) + b"\n")
    if command == "exec":
        return 255
    if isinstance(err, StartFailed) and command == "run":
        return err.exit_code
    return 1


if __name__ == "__main__":
    sys.exit(main())
