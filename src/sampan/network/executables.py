"""Plugins as executables: environment in, JSON on stdin, JSON on stdout.

    CNI_COMMAND      ADD DEL CHECK GC STATUS VERSION
    CNI_CONTAINERID  CNI_NETNS  CNI_IFNAME  CNI_ARGS  CNI_PATH
    exit status      0, or an error as JSON {code, msg, details} on stdout

A plugin gets these variables and PATH, nothing else of ours; fds 0 to 2; a session of its own. It
is killed with its children when it takes too long or when the caller gives up.

Source: CNI specification 1.1.0, section 2 "Execution protocol".
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sampan.concurrency import Completed, run
from sampan.errors import NotFound
from sampan.network.calls import Call
from sampan.network.errors import DECODING_FAILURE, INTERNAL, PluginError

__all__ = ["execute", "find", "supported_versions"]

_OUTPUT_CAP_BYTES: Final = 4 << 20
_BUSY_TRIES: Final = 5


def find(type: str, folders: Sequence[str]) -> str:
    """Return the path of the executable of a plugin.

    Raises:
      NotFound: no folder has it.
    """
    if "/" not in type:
        for folder in folders:
            path = os.path.join(folder, type)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    raise NotFound(f"CNI plugin {type!r} is in none of {', '.join(folders) or 'no folders'}")


async def execute(path: str, call: Call, *, timeout_s: float) -> Mapping[str, Any] | None:
    """Run the executable at `path` and return what it printed, None for nothing.

    Raises:
      PluginError: it refused, or said something that is no JSON object.
      DeadlineExceeded: it was killed after `timeout_s`.
    """
    done = await _run(path, call, timeout_s)
    said = done.stdout.strip()
    if done.returncode != 0:
        raise _refusal(call.type, done)
    if not said:
        return None
    try:
        answer = json.loads(said)
    except ValueError as error:
        raise PluginError(
            DECODING_FAILURE, f"{call.command} printed no JSON: {said[:200]!r}", plugin=call.type
        ) from error
    if not isinstance(answer, dict):
        raise PluginError(
            DECODING_FAILURE, f"{call.command} printed no JSON object", plugin=call.type
        )
    return answer


async def _run(path: str, call: Call, timeout_s: float) -> Completed:
    data = json.dumps(call.conf).encode()
    for turn in range(_BUSY_TRIES):
        try:
            return await run(
                [path],
                stdin=data,
                env=call.environment(),
                cwd="/",
                timeout_s=timeout_s,
                cap_bytes=_OUTPUT_CAP_BYTES,
            )
        except OSError as error:
            # Somebody is just writing the executable, as installers in daemon sets do.
            if error.errno != errno.ETXTBSY or turn == _BUSY_TRIES - 1:
                raise PluginError(
                    INTERNAL, f"{path} cannot be executed: {error.strerror}", plugin=call.type
                ) from error
            await asyncio.sleep(0.2 * (turn + 1))
    raise AssertionError("unreachable")


def _refusal(kind: str, done: Completed) -> PluginError:
    try:
        said = json.loads(done.stdout)
        code, message = int(said["code"]), str(said["msg"])
        return PluginError(code, message, str(said.get("details") or ""), plugin=kind)
    except (ValueError, KeyError, TypeError):
        pass
    how = f"exit status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
    stderr = done.stderr[-1000:].decode(errors="replace").strip()
    stdout = done.stdout[-1000:].decode(errors="replace").strip()
    details = stderr or stdout or "and said nothing"
    return PluginError(INTERNAL, f"ended with {how} and no error message", details, plugin=kind)


async def supported_versions(path: str, kind: str, *, timeout_s: float) -> tuple[str, ...]:
    """Return the versions that a plugin says it speaks; one that does not know VERSION: 0.1.0."""
    call = Call(command="VERSION", conf={"cniVersion": "1.0.0", "type": kind})
    try:
        answer = await execute(path, call, timeout_s=timeout_s)
    except PluginError as error:
        if "CNI_COMMAND" in error.message:
            return ("0.1.0",)
        raise
    versions = (answer or {}).get("supportedVersions")
    if not isinstance(versions, list):
        return ("0.1.0", "0.2.0")
    return tuple(str(one) for one in versions)
