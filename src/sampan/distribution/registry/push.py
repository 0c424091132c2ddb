"""Push: blobs by mount or upload, manifests last.

    HEAD blobs/<digest> ── 200 ──► exists
      │ 404
    POST blobs/uploads/?mount=<digest>&from=<other> ── 201 ──► mounted
      │ 202 Location
    PUT <Location>?digest=<digest>, the whole blob                      (monolithic, the default)
      or PATCH <Location> with Content-Range, as often as needed, then an empty PUT     (chunked)

An upload that fails is cancelled (DELETE) and begun anew, up to three times: the same blob has the
same name, so nothing can be uploaded twice.

Source: distribution-spec end-4 to end-7, end-11, end-14.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from sampan.concurrency import shielded
from sampan.distribution.registry.endpoint import Endpoint
from sampan.distribution.registry.transport import Response, origin_of
from sampan.errors import DataLoss, PermissionDenied, SampanError, Unavailable, Unknown
from sampan.model.descriptor import Descriptor
from sampan.model.image import MANIFEST_MAX

__all__ = ["RegistryPusher"]

log = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
_CANCEL_S: Final = 10.0
_Open = Callable[[], AsyncIterator[bytes]]


class RegistryPusher:
    """Pushes to one host."""

    def __init__(self, endpoint: Endpoint, *, chunk_bytes: int = 0) -> None:
        """Push to `endpoint`, in chunks of so many bytes, or with 0 each blob in one piece."""
        self._endpoint = endpoint
        self._chunk_bytes = chunk_bytes

    async def push_blob(
        self,
        descriptor: Descriptor,
        open: _Open,
        *,
        mount_from: Sequence[str] = (),
        progress: Callable[[int], None] | None = None,
    ) -> str:
        """See `distribution.Pusher.push_blob`."""
        what = f"blob {descriptor.digest}"
        if await self._has(f"blobs/{descriptor.digest}", what, {"Accept": "*/*"}):
            return "exists"
        for attempt in range(1, _ATTEMPTS + 1):
            location = await self._begin(descriptor, mount_from, what)
            if not location:
                return "mounted"
            try:
                await self._upload(location, descriptor, open, progress, what)
            except Unavailable as err:
                await shielded(_CANCEL_S, self._cancel(location, what))
                if attempt == _ATTEMPTS:
                    raise
                log.debug("uploading again: %s error=%s", what, err)
            except BaseException:
                await shielded(_CANCEL_S, self._cancel(location, what))
                raise
            else:
                break
        return "uploaded"

    async def push_manifest(self, descriptor: Descriptor, data: bytes, tag: str = "") -> str:
        """See `distribution.Pusher.push_manifest`."""
        what = f"manifest {tag or descriptor.digest}"
        if len(data) > MANIFEST_MAX:
            raise PermissionDenied(f"{what} has {len(data)} bytes; {MANIFEST_MAX} is the most")
        place = f"manifests/{tag or descriptor.digest}"
        accept = {"Accept": descriptor.media_type}
        if not tag and await self._has(place, what, accept):
            return "exists"
        async with self._endpoint.call(
            "PUT",
            self._endpoint.url(place),
            what=what,
            accept={200, 201, 202},
            headers={"Content-Type": descriptor.media_type},
            body=data,
            push=True,
            idempotent=True,
        ) as answer:
            self._check_digest(answer, descriptor, what)
        return "uploaded"

    async def _has(self, place: str, what: str, headers: dict[str, str]) -> bool:
        async with self._endpoint.call(
            "HEAD",
            self._endpoint.url(place),
            what=what,
            accept={200, 404},
            headers=headers,
            push=True,
        ) as answer:
            return answer.status == 200

    async def _begin(self, descriptor: Descriptor, mount_from: Sequence[str], what: str) -> str:
        """Return where to upload to, or nothing if the blob could be mounted."""
        for source in mount_from:
            query = f"?mount={quote(descriptor.digest, safe=':')}&from={quote(source, safe='')}"
            try:
                answered, location = await self._post(query, what, source)
            except SampanError as err:
                log.debug("mount refused: %s from=%s error=%s", what, source, err)
                continue
            if answered == 201:
                return ""
            return location
        return (await self._post("", what, ""))[1]

    async def _post(self, query: str, what: str, source: str) -> tuple[int, str]:
        async with self._endpoint.call(
            "POST",
            self._endpoint.url(f"blobs/uploads/{query}"),
            what=what,
            accept={201, 202} if source else {202},
            body=b"",
            push=True,
            also_from=source,
        ) as answer:
            return answer.status, self._location(answer, what) if answer.status == 202 else ""

    def _location(self, answer: Response, what: str) -> str:
        host = self._endpoint.host
        location = urljoin(answer.url, answer.headers.get("Location", ""))
        try:
            scheme = origin_of(location)[0]
        except ValueError:
            raise Unknown(f"{what}: {host.netloc} names no place to upload to") from None
        if "@" in urlsplit(location).netloc or (host.scheme == "https" and scheme != "https"):
            raise PermissionDenied(
                f"{what}: {host.netloc} sends uploads to an unsafe place: refused"
            )
        return location

    async def _upload(
        self,
        location: str,
        descriptor: Descriptor,
        open: _Open,
        progress: Callable[[int], None] | None,
        what: str,
    ) -> None:
        stream = _counted(open, descriptor, progress, what)
        if self._chunk_bytes:
            location = await self._patch_all(location, stream, what)
            body: bytes | _Open = b""
            length = 0
        else:
            body, length = stream, descriptor.size
        mark = "&" if urlsplit(location).query else "?"
        async with self._endpoint.call(
            "PUT",
            f"{location}{mark}digest={quote(descriptor.digest, safe=':')}",
            what=what,
            accept={201, 204},
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(length)},
            body=body,
            push=True,
        ) as answer:
            self._check_digest(answer, descriptor, what)

    async def _patch_all(self, location: str, open: _Open, what: str) -> str:
        sent = 0
        async for piece in _regrouped(open(), self._chunk_bytes):
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(len(piece)),
                "Content-Range": f"{sent}-{sent + len(piece) - 1}",
            }
            async with self._endpoint.call(
                "PATCH", location, what=what, accept={202}, headers=headers, body=piece, push=True
            ) as answer:
                location = self._location(answer, what)
            sent += len(piece)
        return location

    async def _cancel(self, location: str, what: str) -> None:
        try:
            async with self._endpoint.call(
                "DELETE", location, what=what, accept={200, 202, 204, 404}, push=True
            ):
                pass
        except SampanError as err:
            log.debug("upload could not be cancelled: %s error=%s", what, err)

    def _check_digest(self, answer: Response, descriptor: Descriptor, what: str) -> None:
        said = answer.headers.get("Docker-Content-Digest", descriptor.digest)
        if said != descriptor.digest:
            host = self._endpoint.host.netloc
            raise DataLoss(f"{what}: {host} stored it as {said[:160]!r}")


def _counted(
    open: _Open, descriptor: Descriptor, progress: Callable[[int], None] | None, what: str
) -> _Open:
    async def chunks() -> AsyncIterator[bytes]:
        sent = 0
        async for chunk in open():
            sent += len(chunk)
            if sent > descriptor.size:
                break
            yield chunk
            if progress:
                progress(sent)
        if sent != descriptor.size:
            raise DataLoss(f"{what}: our copy is not of {descriptor.size} bytes")

    return chunks


async def _regrouped(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
    if buffer:
        yield bytes(buffer)
