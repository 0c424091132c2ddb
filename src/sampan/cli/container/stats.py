"""`sampan stats`: what running containers use."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.cli.app import App
from sampan.cli.listing import show
from sampan.cli.output import size
from sampan.client.containers import find, view, views
from sampan.errors import SampanError
from sampan.model.opaque import Opaque

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.client.containers import View

__all__ = ["Sample", "configure", "run"]

_UNLIMITED = 1 << 60
_COLUMNS = {
    "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="also those that do not run")
    parser.add_argument("--no-stream", action="store_true", help="once, not again and again")
    parser.add_argument("--no-trunc", action="store_true", help="whole ids")
    parser.add_argument("--format", default="", metavar="TEMPLATE", help="json, or a template")
    parser.add_argument("containers", nargs="*")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a container used at a moment."""

    at_s: float
    cpu_usec: int
    memory_bytes: int
    limit_bytes: int
    pids: int
    read_bytes: int = 0
    written_bytes: int = 0

    @classmethod
    def of(cls, metrics: Opaque) -> Sample:
        """Read the metrics of either version of cgroups."""
        from sampan.rpc.messages import cgroups1, cgroups2

        now = time.monotonic()
        if "v2" in metrics.type_url:
            two = cgroups2.Metrics.decode(metrics.value)
            cpu, memory = two.cpu, two.memory
            entries = two.io.usage if two.io else ()
            return cls(
                now,
                cpu.usage_usec if cpu else 0,
                memory.usage if memory else 0,
                memory.usage_limit if memory else 0,
                two.pids.current if two.pids else 0,
                sum(entry.rbytes for entry in entries),
                sum(entry.wbytes for entry in entries),
            )
        one = cgroups1.Metrics.decode(metrics.value)
        usage = one.memory.usage if one.memory else None
        blocks = one.blkio.io_service_bytes_recursive if one.blkio else ()
        return cls(
            now,
            one.cpu.usage.total // 1000 if one.cpu and one.cpu.usage else 0,
            usage.usage if usage else 0,
            usage.limit if usage else 0,
            one.pids.current if one.pids else 0,
            sum(entry.value for entry in blocks if entry.op.lower() == "read"),
            sum(entry.value for entry in blocks if entry.op.lower() == "write"),
        )


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        before: dict[str, Sample] = {}
        first = True
        while True:
            shown = await _shown(client, args)
            now = {one.container.id: await _sample(client, one) for one in shown}
            if not first:
                rows = [
                    _row(one, before.get(one.container.id), now[one.container.id], args.no_trunc)
                    for one in shown
                ]
                if not args.no_stream and not args.format and sys.stdout.isatty():
                    sys.stdout.write("\x1b[H\x1b[2J")  # the same place again
                show(argparse.Namespace(format=args.format, quiet=False), rows, _COLUMNS, key="ID")
                sys.stdout.flush()
                if args.no_stream:
                    return 0
            first = False
            before = {key: sample for key, sample in now.items() if sample is not None}
            await asyncio.sleep(0.5 if args.no_stream else 1)


async def _shown(client: Client, args: argparse.Namespace) -> list[View]:
    if args.containers:
        return [await view(client, await find(client, name)) for name in args.containers]
    return [one for one in await views(client) if args.all or one.state in ("running", "paused")]


async def _sample(client: Client, one: View) -> Sample | None:
    try:
        return Sample.of(await client.tasks.stats(one.container.id))
    except SampanError:
        return None


def _row(one: View, before: Sample | None, now: Sample | None, whole: bool) -> dict[str, Any]:
    key = one.container.id if whole else one.container.id[:12]
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, "--")
    row |= {"ID": key, "Container": key, "Name": one.name}
    if now is None:
        return row
    if before is not None and now.at_s > before.at_s:
        used = (now.cpu_usec - before.cpu_usec) / 1e6 / (now.at_s - before.at_s)
        row["CPUPerc"] = f"{max(0.0, used) * 100:.2f}%"
    limit = now.limit_bytes if 0 < now.limit_bytes < _UNLIMITED else _memory_of_host()
    row["MemUsage"] = f"{size(now.memory_bytes)} / {size(limit)}"
    row["MemPerc"] = f"{100 * now.memory_bytes / limit:.2f}%"
    row["BlockIO"] = f"{size(now.read_bytes)} / {size(now.written_bytes)}"
    row["NetIO"] = _network(one.task.pid if one.task else 0)
    row["PIDs"] = str(now.pids)
    return row


def _memory_of_host() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _network(pid: int) -> str:
    """Return what the network namespace of a process has received and sent, but on loopback."""
    received = sent = 0
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    except OSError:
        return "--"
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            received += int(numbers.split()[0])
            sent += int(numbers.split()[8])
    return f"{size(received)} / {size(sent)}"
