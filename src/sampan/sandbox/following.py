"""What is read of a sandbox from outside: its command's log, and its cgroups' counters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.concurrency import to_thread
from sampan.sandbox.values import Stats

if TYPE_CHECKING:
    from sampan.model.opaque import Opaque

__all__ = ["follow", "read_log", "stats_of"]

_UNLIMITED: Final = 1 << 60
_POLL_S: Final = 0.02


def stats_of(metrics: Opaque) -> Stats:
    """Return the metrics of either version of cgroups."""
    from sampan.rpc.messages import cgroups1, cgroups2

    if "v2" in metrics.type_url:
        two = cgroups2.Metrics.decode(metrics.value)
        cpu, memory = two.cpu, two.memory
        return Stats(
            cpu.usage_usec / 1e6 if cpu else 0,
            memory.usage if memory else 0,
            _limit(memory.usage_limit if memory else 0),
            two.pids.current if two.pids else 0,
        )
    one = cgroups1.Metrics.decode(metrics.value)
    usage = one.memory.usage if one.memory else None
    return Stats(
        one.cpu.usage.total / 1e9 if one.cpu and one.cpu.usage else 0,
        usage.usage if usage else 0,
        _limit(usage.limit if usage else 0),
        one.pids.current if one.pids else 0,
    )


def _limit(value: int) -> int:
    return value if 0 < value < _UNLIMITED else 0


def _text(line: bytes) -> bytes:
    """Return what one line of a log holds; one that was torn, nothing."""
    try:
        text: str = json.loads(line)["log"]
    except (ValueError, KeyError, TypeError):
        return b""
    return text.encode("utf-8", "surrogateescape")


def read_log(path: Path) -> bytes:
    """Return a log with its rotated predecessors. Blocks."""
    parts = []
    for number in range(9, -1, -1):
        try:
            parts.append(Path(f"{path}.{number}" if number else path).read_bytes())
        except FileNotFoundError:
            continue
    return b"".join(_text(line) for line in b"".join(parts).splitlines())


async def follow(path: Path, ended: asyncio.Task[Any] | None) -> AsyncIterator[bytes]:
    """Yield what a log has and gets, until `ended` is done."""
    at = 0
    while True:
        over = ended is None or ended.done()
        data = await to_thread(read_log, path)
        if len(data) > at:
            yield data[at:]
            at = len(data)
        if over:
            return
        await asyncio.wait((ended,) if ended else (), timeout=_POLL_S)
