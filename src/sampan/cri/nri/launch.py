"""Plugins that we start: executables `<two digits>-<name>` in the plugins' folder.

/opt/nri/plugins/10-logger        gets NRI_PLUGIN_NAME=logger, NRI_PLUGIN_IDX=10, and its end of
/etc/nri/conf.d/10-logger.conf    a socket pair, whose number is in NRI_PLUGIN_SOCKET; this file,
/etc/nri/conf.d/logger.conf       or this one, is its configuration
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import NamedTuple

from sampan.concurrency import run
from sampan.cri.nri.external import check_index, check_name
from sampan.errors import InvalidArgument

__all__ = ["Launched", "Program", "discover", "settings_of"]

log = logging.getLogger(__name__)


class Program(NamedTuple):
    """An executable in the plugins' folder."""

    path: Path
    order: str
    name: str


def discover(folder: Path) -> list[Program]:
    """Return the plugins in `folder`, by name; others are logged, and no folder is none at all."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    found: list[Program] = []
    for path in paths:
        if not path.is_file() or not os.access(path, os.X_OK):
            continue
        index, _, name = path.name.partition("-")
        try:
            check_index(index)
            check_name(name)
        except InvalidArgument as err:
            log.warning("no NRI plugin: %s: %s", path, err)
            continue
        found.append(Program(path, index, name))
    return found


def settings_of(folder: Path, index: str, name: str) -> str:
    """Return the text of a plugin's configuration; empty for none.

    Raises:
      InvalidArgument: it cannot be read.
    """
    for file in (folder / f"{index}-{name}.conf", folder / f"{name}.conf"):
        try:
            return file.read_text()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as err:
            raise InvalidArgument(
                f"NRI plugin {index}-{name}: configuration {file}: {err}"
            ) from err
    return ""


class Launched:
    """A started program. `close` kills it, with all its children."""

    def __init__(self, program: Program) -> None:
        self.program = program
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock = ours
        """Our end; whoever takes it closes it."""
        self._task = asyncio.get_running_loop().create_task(
            self._run(theirs), name=f"nri plugin {program.path.name}"
        )

    async def _run(self, theirs: socket.socket) -> None:
        program = self.program
        env = {
            "NRI_PLUGIN_NAME": program.name,
            "NRI_PLUGIN_IDX": program.order,
            "NRI_PLUGIN_SOCKET": str(theirs.fileno()),
            "PATH": os.defpath,
        }
        with theirs:
            try:
                ended = await run(
                    [program.path], env=env, pass_fds=[theirs.fileno()], cap_bytes=64 << 10
                )
            except OSError as err:
                log.warning("NRI plugin not started: %s: %s", program.path, err)
                return
        log.warning(
            "NRI plugin ended: %s: status=%s %s",
            program.path,
            ended.returncode,
            ended.stderr[-500:].decode(errors="replace").strip(),
        )

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))
