"""Resolve and fetch: names to descriptors, descriptors to bytes, from the first host that can.

Source: distribution-spec end-2 (blobs), end-3 (manifests); RFC 9110 section 14 for ranges.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sampan.distribution.registry.endpoint import Endpoint
from sampan.distribution.registry.transport import Response
from sampan.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SampanError,
)
from sampan.model import digest as digests
from sampan.model.descriptor import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from sampan.model.digest import Digest
from sampan.model.image import MANIFEST_MAX
from sampan.model.reference import Reference

__all__ = ["RegistryFetcher", "resolve"]

log = logging.getLogger(__name__)

DOCUMENT_TYPES: Final = INDEX_TYPES | MANIFEST_TYPES
_ACCEPT: Final = ", ".join([*sorted(DOCUMENT_TYPES), "*/*;q=0.1"])
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)


@dataclass(slots=True)
class _Stream:
    """A blob's bytes from `offset` on, not more than `left`."""

    offset: int
    host: str
    _response: Response
    _left: int
    _what: str

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        left = self._left
        async for chunk in self._response.chunks():
            left -= len(chunk)
            if left < 0:
                raise DataLoss(f"{self._what}: {self.host} sends more bytes than it should have")
            yield chunk
        if left:
            raise DataLoss(f"{self._what}: {self.host} stopped {left} bytes before the end")


class RegistryFetcher:
    """Fetches from hosts that stand in for one another."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Ask `endpoints` in their order."""
        self._endpoints = endpoints

    @property
    def hosts(self) -> str:
        """See `distribution.Fetcher.hosts`."""
        return ", ".join(endpoint.host.netloc for endpoint in self._endpoints)

    @asynccontextmanager
    async def fetch(
        self, descriptor: Descriptor, offset: int = 0, length: int = -1
    ) -> AsyncIterator[_Stream]:
        """See `distribution.Fetcher.fetch`."""
        is_document = descriptor.media_type in DOCUMENT_TYPES
        what = f"{'manifest' if is_document else 'blob'} {descriptor.digest}"
        if is_document and descriptor.size > MANIFEST_MAX:
            raise ResourceExhausted(
                f"{what} has {descriptor.size} bytes; {MANIFEST_MAX} is the most"
            )
        async with AsyncExitStack() as stack:
            errors: list[SampanError] = []
            for endpoint in self._endpoints:
                try:
                    stream = await self._open(stack, endpoint, descriptor, offset, length, what)
                except SampanError as err:
                    log.debug("host cannot serve: %s host=%s error=%s", what, endpoint.host, err)
                    errors.append(err)
                    await stack.aclose()
                else:
                    yield stream
                    return
            raise _combined(errors, what)

    async def _open(
        self,
        stack: AsyncExitStack,
        endpoint: Endpoint,
        descriptor: Descriptor,
        offset: int,
        length: int,
        what: str,
    ) -> _Stream:
        is_document = descriptor.media_type in DOCUMENT_TYPES
        end = descriptor.size if length < 0 else min(offset + length, descriptor.size)
        headers = {"Accept": descriptor.media_type if is_document else "*/*"}
        ranged = not is_document and (offset > 0 or end < descriptor.size)
        if ranged:
            headers["Range"] = f"bytes={offset}-{end - 1}"
        kind = "manifests" if is_document else "blobs"
        response = await stack.enter_async_context(
            endpoint.call(
                "GET",
                endpoint.url(f"{kind}/{descriptor.digest}"),
                what=what,
                accept={200, 206} if ranged else {200},
                headers=headers,
            )
        )
        host = endpoint.host.netloc
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise DataLoss(f"{what}: {host} sends it encoded as {coding[:40]!r}")
        if is_document and response.media_type != descriptor.media_type:
            raise DataLoss(
                f"{what}: {host} sends {response.media_type[:100]!r}, "
                f"expected {descriptor.media_type!r}"
            )
        begin, size = _extent(response, what, host, offset, end, descriptor.size)
        if response.length is not None and response.length != size:
            raise DataLoss(f"{what}: {host} announces {response.length} bytes, expected {size}")
        return _Stream(begin, host, response, size, what)


def _extent(
    response: Response, what: str, host: str, offset: int, end: int, total: int
) -> tuple[int, int]:
    """Return where the answer begins and how long it has to be; a 200 is the whole blob."""
    if response.status == 200:
        return 0, total
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != offset or int(match[2]) != end - 1:
        raise DataLoss(f"{what}: {host} sends another range than bytes {offset}-{end - 1}")
    if match[3] != "*" and int(match[3]) != total:
        raise DataLoss(f"{what}: {host} says it has {match[3]} bytes, expected {total}")
    return offset, end - offset


async def resolve(endpoints: Sequence[Endpoint], reference: Reference) -> Descriptor:
    """Return what the first host that knows `reference` says it is.

    Raises:
      NotFound: no host knows it.
      SampanError: no host could answer; the first error, with the others as notes.
    """
    errors: list[SampanError] = []
    for endpoint in endpoints:
        try:
            return await _resolve(endpoint, reference)
        except SampanError as err:
            log.debug("host cannot resolve: %s host=%s error=%s", reference, endpoint.host, err)
            errors.append(err)
    raise _combined(errors, f"image {reference}")


async def _resolve(endpoint: Endpoint, reference: Reference) -> Descriptor:
    url = endpoint.url(f"manifests/{reference.object}")
    host = endpoint.host.netloc
    what = f"manifest {reference}"
    headers = {"Accept": _ACCEPT}
    async with endpoint.call("HEAD", url, what=what, accept={200, 405}, headers=headers) as answer:
        said = answer.headers.get("Docker-Content-Digest", "")
        if answer.status == 200 and answer.length is not None and (said or reference.digest):
            digest = _said_digest(said or str(reference.digest), what, host)
            return _descriptor(answer.media_type, digest, answer.length, reference, what, host)
    # Some registries tell digest or size only with the document itself.
    async with endpoint.call("GET", url, what=what, accept={200}, headers=headers) as answer:
        data = await answer.read(MANIFEST_MAX)
        algorithm = digests.algorithm(reference.digest) if reference.digest else "sha256"
        digest = digests.of_bytes(data, algorithm)
        return _descriptor(answer.media_type, digest, len(data), reference, what, host)


def _said_digest(text: str, what: str, host: str) -> Digest:
    try:
        return digests.parse(text)
    except InvalidArgument as err:
        raise DataLoss(f"{what}: {host} names no digest: {err}") from err


def _descriptor(
    media_type: str, digest: Digest, size: int, reference: Reference, what: str, host: str
) -> Descriptor:
    if reference.digest and reference.digest != digest:
        raise DataLoss(f"{what}: {host} has {digest} there")
    if media_type not in DOCUMENT_TYPES:
        raise FailedPrecondition(
            f"{what}: {host} sends {media_type[:100] or 'no media type'!r}, which is no image"
        )
    if size > MANIFEST_MAX:
        raise ResourceExhausted(f"{what}: {host} sends {size} bytes; {MANIFEST_MAX} is the most")
    return Descriptor(media_type=media_type, digest=digest, size=size)


def _combined(errors: list[SampanError], what: str) -> SampanError:
    """Return the error that says most: the first that is not just "not here"."""
    if not errors:
        return FailedPrecondition(f"{what}: no host is configured that may serve it")
    chosen = next((err for err in errors if not isinstance(err, NotFound)), errors[-1])
    for err in errors:
        if err is not chosen:
            chosen.add_note(f"before that: {err}")
    return chosen
