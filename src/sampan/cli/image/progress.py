"""What a transfer shows of itself: bars on a terminal, a line for each thing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import TaskID

    from sampan.distribution import Progress, ProgressSink

__all__ = ["shown"]

_SHOWN: Final = frozenset(("complete", "exists", "extracted", "uploaded", "mounted", "saved"))
_WORDS: Final = {
    "complete": "download complete",
    "exists": "already exists",
    "extracted": "unpacked",
    "mounted": "mounted from another repository",
}
_REDRAWS_PER_S: Final = 10


@contextmanager
def shown(*, quiet: bool) -> Iterator[ProgressSink | None]:
    """Give a sink that shows progress on stderr while the block lasts; None when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bars() as sink:
            yield sink
    else:
        yield _lines()


def _short(name: str) -> str:
    return name.partition(":")[2][:12] if name.startswith("sha256:") else name


def _lines() -> ProgressSink:
    told: set[tuple[str, str]] = set()

    def show(event: Progress) -> None:
        key = (event.name, event.event)
        if event.event not in _SHOWN or event.what != "layer" or key in told:
            return
        told.add(key)
        sys.stderr.write(f"{_short(event.name)}: {_WORDS.get(event.event, event.event)}\n")

    return show


@contextmanager
def _bars() -> Iterator[ProgressSink]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn
    from rich.progress import Progress as Bars

    tasks: dict[str, TaskID] = {}
    drawn: dict[str, float] = {}
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[event]}"),
        console=Console(stderr=True),
        refresh_per_second=_REDRAWS_PER_S,
    ) as bars:

        def show(event: Progress) -> None:
            if event.what != "layer":
                return
            if event.name not in tasks:
                tasks[event.name] = bars.add_task(
                    _short(event.name), total=event.total or None, event=event.event
                )
            now = time.monotonic()
            if event.event in ("downloading", "uploading"):
                if now - drawn.get(event.name, 0) < 1 / _REDRAWS_PER_S:
                    return
                drawn[event.name] = now
            done = event.done if event.event in ("downloading", "uploading") else event.total
            word = _WORDS.get(event.event, event.event)
            bars.update(tasks[event.name], completed=done, event=word)

        yield show
