"""Progress of a transfer in containerd's words, sent over the stream that the client opened.

    waiting ─▶ downloading* ─▶ complete ─▶ extracted        or  already exists
    waiting ─▶ uploading*   ─▶ complete                     or  already exists

`downloading` and `uploading` are figures: a client that reads slowly, or faster than it can draw,
gets the newest alone. Everything else is sent once, in order.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sampan.api.containerd.types.descriptor_pb2 import Descriptor as DescriptorMessage
from sampan.api.containerd.types.transfer import progress_pb2 as pb
from sampan.distribution import Progress
from sampan.model.descriptor import Descriptor
from sampan.services.convert import descriptor_from
from sampan.services.streaming.registry import Stream

__all__ = ["Reporter"]

_FIGURES: Final = frozenset({"downloading", "uploading"})
_WORDS: Final = {"exists": "already exists", "uploaded": "complete", "mounted": "complete"}
_PAUSE_S: Final = 0.1
"""Between two figures of one download."""


class Reporter:
    """Where the operations tell what happens; without a stream nobody listens."""

    def __init__(self, stream: Stream | None) -> None:
        self._stream = stream
        self._pending: dict[tuple[str, str, int], pb.Progress] = {}
        self._known: dict[str, str] = {}
        self._number = 0
        self._more = asyncio.Event()
        self._over = asyncio.Event()
        self.root = ""
        """Name of the image, the parent of what has no other."""

    def say(self, event: str, name: str = "", descriptor: Descriptor | None = None) -> None:
        """Tell one event of the transfer as a whole."""
        self._add(event, pb.Progress(event=event, name=name, desc=_message(descriptor)))

    def tell(self, progress: Progress) -> None:
        """Take an event of `distribution`: a `ProgressSink`."""
        if not progress.what:
            return
        name = f"{progress.what}-{progress.name}"
        event = _WORDS.get(progress.event, progress.event)
        if progress.name not in self._known:
            self._known[progress.name] = name
            if event != "extracted":
                self._put("waiting", name, progress)
        if not (event in _FIGURES and not progress.done):
            self._put(event, name, progress)

    def _put(self, event: str, name: str, progress: Progress) -> None:
        parents = [self._known.get(one, one) for one in progress.parents]
        self._add(
            event,
            pb.Progress(
                event=event,
                name=name,
                parents=[] if event == "already exists" else parents or [self.root],
                progress=0 if event == "waiting" else progress.done,
                total=progress.total,
                desc=_message(progress.descriptor),
            ),
        )

    def _add(self, event: str, message: pb.Progress) -> None:
        if self._stream is None:
            return
        self._number += 1
        number = 0 if event in _FIGURES else self._number
        if not number and (event, message.name, 0) in self._pending:
            self._pending[event, message.name, 0] = message
            return
        if event == "complete":
            for figure in _FIGURES:
                self._pending.pop((figure, message.name, 0), None)
        self._pending[event, message.name, number] = message
        self._more.set()

    async def pump(self) -> None:
        """Send until `finish`, and then what is left."""
        if self._stream is None:
            return
        while not self._over.is_set() or self._pending:
            if not self._pending:
                await self._more.wait()
                self._more.clear()
                continue
            figures = await self._flush()
            if figures and not self._over.is_set():
                try:
                    async with asyncio.timeout(_PAUSE_S):
                        await self._over.wait()
                except TimeoutError:
                    continue

    async def _flush(self) -> bool:
        """Send what is pending; return whether there were figures among it."""
        pending, self._pending = self._pending, {}
        figures = False
        for (event, _, _), message in pending.items():
            figures = figures or event in _FIGURES
            if self._stream is None or not await self._stream.send(message):
                self._stream = None
        return figures

    def finish(self) -> None:
        """Let `pump` end."""
        self._over.set()
        self._more.set()


def _message(descriptor: Descriptor | None) -> DescriptorMessage | None:
    return None if descriptor is None else descriptor_from(descriptor)
