"""The confined child: it gets fds and a line of JSON, and parses what must not be trusted.

    worker(payload, fds) -> exit code        fds[0]  where the answer goes, a memfd
                                             fds[1]  the blob
                                             fds[2]  the target folder; nothing else can be reached

The zygote preloads this module by name, forks, and calls `worker`; where there is no zygote,
`python -m sampan.storage.worker` is given the same on inherited fds (see `workers`). Its answer is
JSON: `{"digest", "size", "entries", "implicit"}`, or `{"error", "message"}` with the name of a
class of `sampan.errors`. It imports no asyncio, and nothing after it has started.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys

from sampan import errors
from sampan.linux import capabilities, namespaces, prctl
from sampan.storage.compression import Stream
from sampan.storage.diff.apply import Applier
from sampan.storage.diff.reading import MissingLink
from sampan.storage.tar import Caps

__all__ = ["worker"]

_KEPT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SYS_ADMIN",
)


def worker(payload: bytes, fds: list[int]) -> int:
    """Do what `payload` asks with `fds`, write the answer to the first, return the exit code."""
    try:
        request = json.loads(payload)
        answer = _apply(request, fds[1], fds[2])
    except MissingLink as err:
        answer = {"error": "MissingLink", "message": str(err)}
    except errors.SampanError as err:
        answer = {"error": type(err).__name__, "message": str(err)}
    except OSError as err:
        full = err.errno in (errno.ENOSPC, errno.EDQUOT)
        notes = "; ".join(getattr(err, "__notes__", []))
        answer = {
            "error": "ResourceExhausted" if full else "Unknown",
            "message": f"layer: {err}; {notes}",
        }
    except Exception as err:  # noqa: BLE001 - the edge of a program: our own fault, told as such
        answer = {"error": "Internal", "message": f"layer: {type(err).__name__}: {err}"}
    os.write(fds[0], json.dumps(answer).encode())
    return 1 if "error" in answer else 0


def _confine(root_fd: int) -> None:
    """Leave this process nothing but the target: no other path, no network, few capabilities.

    CAP_SYS_ADMIN stays, as only it may write `trusted.*` attributes, opaque folders among them.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS | namespaces.CLONE_NEWNET | namespaces.CLONE_NEWIPC)
    os.fchdir(root_fd)
    os.chroot(".")
    keep = capabilities.set_of(_KEPT) & capabilities.capget()[1]
    capabilities.capset(keep, keep, 0)
    prctl.set_no_new_privs()


def _apply(request: dict[str, object], blob_fd: int, root_fd: int) -> dict[str, object]:
    caps_given = request.get("caps")
    caps = Caps(**caps_given) if isinstance(caps_given, dict) else Caps()
    if stat.S_ISREG(os.fstat(blob_fd).st_mode):  # else the pipe of a stream processor
        os.lseek(blob_fd, 0, os.SEEK_SET)
    if request.get("confine") and not os.geteuid():
        # Before the stream's threads start: capabilities are a thread's own.
        _confine(root_fd)
    stream = Stream(blob_fd, str(request["compression"]), caps)
    try:
        applier = Applier(
            root_fd,
            overlay=bool(request.get("overlay")),
            userxattr=bool(request.get("userxattr")),
            caps=caps,
        )
        try:
            applier.apply(stream)
            digest, size = stream.finish()
            implicit = [os.fsdecode(path) for path in applier.implicit]
            return {
                "digest": digest,
                "size": size,
                "entries": applier.entries,
                "implicit": implicit,
            }
        finally:
            applier.close()
    finally:
        stream.close()


if __name__ == "__main__":
    sys.exit(worker(os.fsencode(sys.argv[1]), [int(fd) for fd in sys.argv[2].split(",")]))
