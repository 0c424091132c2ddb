"""`sampan logs`: what a container has written, and what it writes from now on."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.client.containers import Folder, find, view
from sampan.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container

__all__ = ["Follower", "configure", "follow", "run", "watching"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on as it writes")
    parser.add_argument("-n", "--tail", default="all", metavar="LINES", help="only the last lines")
    parser.add_argument("--since", default="", metavar="TIME", help="RFC 3339, or 10m, 2h")
    parser.add_argument(
        "-t", "--timestamps", action="store_true", help="when each line was written"
    )
    parser.add_argument("--until", default="", metavar="TIME", help="RFC 3339, or 10m, 2h")
    parser.add_argument("--details", action="store_true", help="the labels of the container, too")
    parser.add_argument("container")


async def run(app: App, args: argparse.Namespace) -> int:
    if args.tail != "all" and not (args.tail.isascii() and args.tail.isdigit()):
        raise InvalidArgument(f"--tail {args.tail!r} is neither a number nor all")
    since = _moment("--since", args.since)
    until = _moment("--until", args.until)
    async with app.client() as client:
        container = await find(client, args.container)
        prefix = ""
        if args.details:
            own = {k: v for k, v in container.labels.items() if not k.startswith("sampan/")}
            prefix = ",".join(f"{key}={value}" for key, value in own.items())
        log = Folder(client, container.id).log
        follower = Follower(log, args.timestamps, since, until=until, prefix=prefix)
        follower.show(follower.old(None if args.tail == "all" else int(args.tail)))
        if args.follow:
            await follow(client, container, follower)
    return 0


async def follow(client: Client, container: Container, follower: Follower) -> None:
    """Show what is appended until the container ends."""
    if (await view(client, container)).state not in ("running", "paused"):
        follower.show(follower.new())
        return
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(follower))
        with suppress(NotFound):
            await client.tasks.wait(container.id)
        watch.cancel()
    follower.show(follower.new())


async def watching(follower: Follower) -> None:
    """Show what is appended, for ever; a reader who has gone away ends it quietly."""
    with suppress(BrokenPipeError):
        await _watch(follower)


async def _watch(follower: Follower) -> None:
    while True:
        follower.show(follower.new())
        await asyncio.sleep(0.02)


class Follower:
    """Reads a log file and its rotated predecessors."""

    def __init__(
        self,
        path: Path,
        timestamps: bool = False,
        since: str = "",
        *,
        until: str = "",
        prefix: str = "",
    ) -> None:
        self._path = path
        self._timestamps = timestamps
        self._since = since
        self._until = until
        self._prefix = f"{prefix} " if prefix else ""
        self._fd = -1
        self._rest = b""

    def old(self, tail: int | None) -> Iterable[bytes]:
        """Return the lines that are there, or the last `tail` of them."""
        lines: deque[bytes] = deque(maxlen=tail)
        for number in range(99, 0, -1):
            with suppress(FileNotFoundError):
                lines.extend(Path(f"{self._path}.{number}").read_bytes().splitlines())
        lines.extend(self.new())
        return lines

    def skip(self) -> None:
        """Leave out what is there already."""
        self.new()

    def new(self) -> list[bytes]:
        """Return the lines that came since the last call."""
        if self._fd < 0:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
        data = self._read()
        with suppress(FileNotFoundError):
            if os.stat(self._path).st_ino != os.fstat(self._fd).st_ino:  # rotated meanwhile
                data += self._read()
                os.close(self._fd)
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                data += self._read()
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def _read(self) -> bytes:
        parts = []
        while part := os.read(self._fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)

    def show(self, lines: Iterable[bytes]) -> None:
        """Write entries to our stdout and stderr."""
        for line in lines:
            try:
                entry = json.loads(line)
                text, stream, when = entry["log"], entry["stream"], entry["time"]
            except (ValueError, KeyError, TypeError):
                continue  # torn by a crash, or not ours
            if when < self._since or (self._until and when > self._until):
                continue
            target = (sys.stderr if stream == "stderr" else sys.stdout).buffer
            shown = f"{self._prefix}{text}"
            shown = f"{when} {shown}" if self._timestamps else shown
            target.write(shown.encode(errors="surrogateescape"))
        sys.stdout.buffer.flush()
        sys.stderr.buffer.flush()


def _moment(flag: str, text: str) -> str:
    """Return a moment as log files write it; empty stays empty."""
    if not text:
        return ""
    from datetime import UTC, datetime, timedelta

    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(text[-1:])
    if unit and text[:-1].isascii() and text[:-1].isdigit():
        then = datetime.now(UTC) - timedelta(seconds=int(text[:-1]) * unit)
    else:
        try:
            then = datetime.fromisoformat(text)
        except ValueError as err:
            raise InvalidArgument(f"{flag} {text!r} is neither RFC 3339 nor like 10m") from err
        then = (then if then.tzinfo else then.replace(tzinfo=UTC)).astimezone(UTC)
    return then.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
