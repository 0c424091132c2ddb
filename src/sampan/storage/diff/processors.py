"""Stream processors: programs that turn a media type we cannot read into one that we can.

    blob …tar+gzip+encrypted ─► ctd-decoder ─► …tar+gzip ─► the confined worker

A processor says which types it accepts and which one it returns; several may follow each other. It
reads stdin and writes stdout, and is told its input's type by STREAM_PROCESSOR_MEDIATYPE. What it
writes is as hostile as any layer, and goes the same way: its digest is checked against the DiffID.

Source: containerd docs/stream_processors.md.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from sampan.concurrency import run
from sampan.errors import FailedPrecondition, InvalidArgument, SampanError
from sampan.model.descriptor import is_layer

__all__ = ["Processor", "Processors"]

_SHOWN: Final = 500
_LONGEST_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Processor:
    """One program."""

    id: str
    accepts: tuple[str, ...]
    returns: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """`NAME=value`; nothing of ours but PATH goes with it."""


class Processors:
    """All that are configured."""

    def __init__(self, processors: Sequence[Processor]) -> None:
        self._processors = tuple(processors)

    def chain(self, media_type: str) -> list[tuple[Processor, str]]:
        """Return the shortest way from `media_type` to a layer's type: programs and their inputs.

        Raises:
          InvalidArgument: there is none.
        """
        todo: deque[tuple[str, list[tuple[Processor, str]]]] = deque([(media_type, [])])
        seen = {media_type}
        while todo:
            current, way = todo.popleft()
            if way and is_layer(current):
                return way
            for one in self._processors:
                if current in one.accepts and one.returns not in seen:
                    seen.add(one.returns)
                    todo.append((one.returns, [*way, (one, current)]))
        raise InvalidArgument(
            f"cannot apply media type {media_type!r}: it is no layer's, and no stream processor"
            " makes one of it"
        )

    @asynccontextmanager
    async def opened(self, fd: int, chain: Sequence[tuple[Processor, str]]) -> AsyncIterator[int]:
        """Run `chain` over the file `fd`, and give the block the pipe with its output.

        Raises:
          FailedPrecondition: a program cannot be run, or fails; this error comes before what the
            block raised about the data that was cut short.
        """
        failed: list[SampanError] = []
        opened: list[int] = []
        try:
            async with asyncio.TaskGroup() as group:
                source = fd
                for one, media_type in chain:
                    reading, writing = os.pipe()
                    opened.append(reading)
                    group.create_task(_run(one, media_type, source, writing, failed))
                    source = reading
                try:
                    yield source
                finally:
                    # Who writes still into a pipe that nobody reads shall notice.
                    for one_fd in opened:
                        os.close(one_fd)
                    opened.clear()
        except BaseExceptionGroup as errors:
            if failed:
                raise failed[0] from None
            if len(errors.exceptions) == 1:
                raise errors.exceptions[0] from None
            raise
        finally:
            for one_fd in opened:
                with suppress(OSError):
                    os.close(one_fd)
        if failed:
            raise failed[0]


async def _run(
    one: Processor, media_type: str, source: int, target: int, failed: list[SampanError]
) -> None:
    """Run one to its end; owns `target`, and notes a failure rather than raise it."""
    try:
        done = await run(
            [one.path, *one.args],
            stdin=source,
            stdout=target,
            env=_environment(one, media_type),
            timeout_s=_LONGEST_S,
        )
    except (SampanError, OSError) as err:
        failed.append(FailedPrecondition(f"stream processor {one.id} ({one.path}): {err}"))
    else:
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
            failed.append(
                FailedPrecondition(
                    f"stream processor {one.id} failed with status {done.returncode}: {said}"
                )
            )
    finally:
        os.close(target)


def _environment(one: Processor, media_type: str) -> Mapping[str, str]:
    pairs = dict(text.partition("=")[::2] for text in one.env)
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **pairs,
        "STREAM_PROCESSOR_MEDIATYPE": media_type,
    }
