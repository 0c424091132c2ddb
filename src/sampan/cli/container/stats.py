"""`sampan stats`: CPU, memory and processes of running containers."""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.cli.app import App
from sampan.cli.output import size, table
from sampan.client.containers import find, view, views
from sampan.errors import SampanError
from sampan.model.opaque import Opaque

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.client.containers import View

__all__ = ["Sample", "configure", "run"]

_UNLIMITED = 1 << 60


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-stream", action="store_true", help="once, not again and again")
    parser.add_argument("containers", nargs="*")


@dataclass(frozen=True, slots=True)
class Sample:
    """What a container used at a moment."""

    at_s: float
    cpu_usec: int
    memory_bytes: int
    limit_bytes: int
    pids: int

    @classmethod
    def of(cls, metrics: Opaque) -> Sample:
        """Read the metrics of either version of cgroups."""
        from sampan.rpc.messages import cgroups1, cgroups2

        now = time.monotonic()
        if "v2" in metrics.type_url:
            two = cgroups2.Metrics.decode(metrics.value)
            cpu, memory = two.cpu, two.memory
            return cls(
                now,
                cpu.usage_usec if cpu else 0,
                memory.usage if memory else 0,
                memory.usage_limit if memory else 0,
                two.pids.current if two.pids else 0,
            )
        one = cgroups1.Metrics.decode(metrics.value)
        usage = one.memory.usage if one.memory else None
        return cls(
            now,
            one.cpu.usage.total // 1000 if one.cpu and one.cpu.usage else 0,
            usage.usage if usage else 0,
            usage.limit if usage else 0,
            one.pids.current if one.pids else 0,
        )


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        before: dict[str, Sample] = {}
        first = True
        while True:
            if args.containers:
                shown = [await view(client, await find(client, name)) for name in args.containers]
            else:
                shown = [one for one in await views(client) if one.state in ("running", "paused")]
            now = {one.container.id: await _sample(client, one) for one in shown}
            if not first:
                table(
                    ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "PIDS"),
                    [
                        _row(one, before.get(one.container.id), now[one.container.id])
                        for one in shown
                    ],
                )
                if args.no_stream:
                    return 0
            first = False
            before = {key: sample for key, sample in now.items() if sample is not None}
            await asyncio.sleep(0.5 if args.no_stream else 1)


async def _sample(client: Client, one: View) -> Sample | None:
    try:
        return Sample.of(await client.tasks.stats(one.container.id))
    except SampanError:
        return None


def _row(one: View, before: Sample | None, now: Sample | None) -> tuple[str, ...]:
    key = one.container.id[:12]
    if now is None:
        return key, one.name, "--", "-- / --", "--"
    percent = "--"
    if before is not None and now.at_s > before.at_s:
        used = (now.cpu_usec - before.cpu_usec) / 1e6 / (now.at_s - before.at_s)
        percent = f"{max(0.0, used) * 100:.2f}%"
    limit = "none" if not 0 < now.limit_bytes < _UNLIMITED else size(now.limit_bytes)
    return key, one.name, percent, f"{size(now.memory_bytes)} / {limit}", str(now.pids)
