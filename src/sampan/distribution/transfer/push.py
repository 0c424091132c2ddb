"""Push: children before parents, so that a registry never holds a document without its parts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sampan.distribution import Progress, ProgressSink, Pusher, Resolver
from sampan.distribution.transfer import Limits
from sampan.distribution.transfer.children import (
    children,
    kind,
    read_document,
    select,
    source_label,
)
from sampan.distribution.transfer.download import first_error
from sampan.errors import NotFound
from sampan.model.descriptor import Descriptor, is_foreign
from sampan.model.image import MANIFEST_MAX, Index, Manifest
from sampan.model.platform import Matcher
from sampan.model.reference import Reference
from sampan.storage.content import Store

__all__ = ["Push"]


class Push:
    """One push; make a new one for the next."""

    def __init__(
        self,
        content: Store,
        resolver: Resolver,
        limits: Limits,
        matcher: Matcher | None,
        progress: ProgressSink | None,
    ) -> None:
        self._content = content
        self._resolver = resolver
        self._slots = asyncio.Semaphore(limits.uploads)
        self._matcher = matcher
        self._progress = progress or (lambda _: None)

    async def run(self, target: Descriptor, reference: Reference) -> Descriptor:
        """Push `target` and all below it to `reference`; return what was pushed."""
        pusher = await self._resolver.pusher(reference)
        document = await read_document(self._content, target)
        if isinstance(document, Index) and self._matcher is not None:
            target = select(document, self._matcher, f"image {reference}")
            document = await read_document(self._content, target)
        if isinstance(document, Index):
            for child in document.manifests:
                # An index names platforms that were never pulled: a registry that minds says so.
                if await self._is_here(child):
                    await self._tree(pusher, child, reference)
        else:
            await self._blobs(pusher, document, reference)
        await self._document(pusher, target, "" if reference.digest else reference.tag)
        self._progress(Progress("done", str(reference)))
        return target

    async def _tree(self, pusher: Pusher, descriptor: Descriptor, reference: Reference) -> None:
        document = await read_document(self._content, descriptor)
        if isinstance(document, Manifest):
            await self._blobs(pusher, document, reference)
        await self._document(pusher, descriptor, "")

    async def _blobs(self, pusher: Pusher, manifest: Manifest, reference: Reference) -> None:
        blobs = {child.digest: child for child in children(manifest)}
        try:
            async with asyncio.TaskGroup() as group:
                for child in blobs.values():
                    if not is_foreign(child.media_type):
                        group.create_task(self._blob(pusher, child, reference))
        except BaseExceptionGroup as several:
            raise first_error(several) from None

    async def _blob(self, pusher: Pusher, descriptor: Descriptor, reference: Reference) -> None:
        async with self._slots:
            name, what, total = str(descriptor.digest), kind(descriptor), descriptor.size
            info = await self._content.info(descriptor.digest)
            key, _ = source_label(reference)
            sources = [s for s in info.labels.get(key, "").split(",") if s and s != reference.path]

            async def chunks() -> AsyncIterator[bytes]:
                async with await self._content.reader(descriptor.digest) as reader:
                    async for chunk in reader.chunks():
                        yield chunk

            event = await pusher.push_blob(
                descriptor,
                chunks,
                mount_from=sources[:5],
                progress=lambda sent: self._progress(
                    Progress("uploading", name, what, sent, total, (), descriptor)
                ),
            )
            self._progress(Progress(event, name, what, total, total, (), descriptor))

    async def _document(self, pusher: Pusher, descriptor: Descriptor, tag: str) -> None:
        async with await self._content.reader(descriptor.digest) as reader:
            data = await reader.read_at(0, MANIFEST_MAX + 1)
        event = await pusher.push_manifest(descriptor, data, tag)
        self._progress(
            Progress(
                event,
                str(descriptor.digest),
                kind(descriptor),
                len(data),
                len(data),
                (),
                descriptor,
            )
        )

    async def _is_here(self, descriptor: Descriptor) -> bool:
        try:
            await self._content.info(descriptor.digest)
        except NotFound:
            return False
        return True
