"""PullImage: through the transfer machinery, with the credentials of the request."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.cri.images.store import LABEL_MANAGED, LABEL_PINNED
from sampan.distribution import Fetcher, Progress, Pusher
from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.credentials import CredentialSource, StaticCredentials
from sampan.distribution.transfer import Limits, Stores, Transfer
from sampan.distribution.transfer.unpacking import SnapshotUnpacker, unpack_present
from sampan.errors import DeadlineExceeded, InvalidArgument, Unavailable
from sampan.metadata import Image
from sampan.model.descriptor import Descriptor
from sampan.model.image import Manifest
from sampan.model.reference import Reference, parse

if TYPE_CHECKING:
    from sampan.cri.core import Cri

__all__ = ["NoResolver", "credentials_of", "pull", "unpack"]

_HUB: Final = ("index.docker.io", "registry-1.docker.io")


async def pull(cri: Cri, request: pb.PullImageRequest) -> pb.PullImageResponse:
    """Fetch and unpack an image; return its id.

    Raises:
      NotFound: no registry has it.
      SampanError: as the registry says; DeadlineExceeded when nothing moves any more.
    """
    reference = parse(request.image.image)
    auth = request.auth if request.HasField("auth") else None
    try:
        content = await pull_reference(cri, reference, auth)
    except Unavailable as err:
        # Kubelet looks for this word, to tell an absent registry from an absent image.
        raise Unavailable(f"RegistryUnavailable: {err}") from err
    return pb.PullImageResponse(image_ref=content)


async def pull_reference(cri: Cri, reference: Reference, auth: pb.AuthConfig | None) -> str:
    """Fetch, unpack and record; return the image's id."""
    async with _transfer(cri, reference, auth) as transfer, transfer.lease():
        # With a digest the tag is a remark: what was pulled is what the digest names.
        name = f"{reference.name}@{reference.digest}" if reference.digest else str(reference)
        watch = _Progress(float(cri.settings.images.image_pull_progress_timeout))
        record = await watch.run(transfer.pull(reference, name=name, progress=watch.seen))
        labels = {LABEL_MANAGED: "managed"}
        if str(reference) in _pinned(cri):
            labels[LABEL_PINNED] = "pinned"
        await _record(cri, name, record.target, labels)
        if not reference.digest:
            await _record(cri, f"{reference.name}@{record.target.digest}", record.target, labels)
        return (await cri.images.content_of(record.target)).id


async def _record(cri: Cri, name: str, target: Descriptor, labels: dict[str, str]) -> None:
    await cri.engine.metadata.images.put(Image(name=name, target=target, labels=labels))


def _pinned(cri: Cri) -> set[str]:
    return {str(parse(one)) for one in cri.settings.images.pinned_images.values() if one}


async def unpack(cri: Cri, manifest: Manifest) -> None:
    """Unpack an image whose blobs are here, such as one that another tool loaded."""
    stores = _stores(cri)
    async with Transfer(stores, NoResolver()).lease():
        await unpack_present(stores.content, manifest, _unpacker(cri))


class NoResolver:
    """For operations that ask no registry."""

    async def resolve(self, reference: Reference) -> Descriptor:
        raise NotImplementedError

    async def fetcher(self, reference: Reference) -> Fetcher:
        raise NotImplementedError

    async def pusher(self, reference: Reference) -> Pusher:
        raise NotImplementedError


def _stores(cri: Cri) -> Stores:
    metadata = cri.engine.metadata
    return Stores(metadata.content, metadata.images, metadata.leases)


def _unpacker(cri: Cri) -> SnapshotUnpacker:
    snapshots = cri.engine.metadata.snapshotter(cri.settings.images.snapshotter)
    return SnapshotUnpacker(
        snapshots.name, snapshots, cri.engine.metadata.content, cri.engine.runner
    )


@asynccontextmanager
async def _transfer(
    cri: Cri, reference: Reference, auth: pb.AuthConfig | None
) -> AsyncIterator[Transfer]:
    # aiohttp costs a daemon that never pulls 120 ms and some MB.
    from sampan.distribution.registry.client import RegistryClient, RegistryOptions
    from sampan.distribution.registry.hosts import HostsOptions

    wanted = cri.settings.images
    given = credentials_of(cri, reference.domain, auth)
    source: CredentialSource | None = StaticCredentials(reference.domain, given)
    if given == Credentials():
        source = cri.engine.credentials(source)
    headers = {name: tuple(values) for name, values in wanted.registry.headers.items()}
    folders = (cri.engine.settings.hosts_dir, *cri.settings.certs)
    options = RegistryOptions(
        hosts=HostsOptions(folders=folders, headers=headers),
        environ={k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")},
        credentials=source,
    )
    async with RegistryClient(options) as client:
        yield Transfer(
            _stores(cri),
            cri.engine.verified(client),
            unpacker=_unpacker(cri),
            limits=Limits(downloads=wanted.max_concurrent_downloads),
            flights=cri.images.flights,
        )


def credentials_of(cri: Cri, domain: str, auth: pb.AuthConfig | None) -> Credentials:
    """Return who we are to a registry: by the request, or else by the configuration.

    Raises:
      InvalidArgument: `auth` is not base64 of user:password.
    """
    if auth is None:
        host = cri.settings.images.registry.configs.get(domain)
        given = host.auth if host is not None else None
        if given is None:
            return Credentials()
        auth = pb.AuthConfig(
            username=given.username,
            password=given.password,
            auth=given.auth,
            identity_token=given.identitytoken,
        )
    if auth.server_address and not _serves(auth.server_address, domain):
        return Credentials()
    if auth.username:
        return Credentials(auth.username, auth.password)
    if auth.identity_token:
        return Credentials(identity_token=auth.identity_token)
    if auth.auth:
        try:
            text = base64.b64decode(auth.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as err:
            raise InvalidArgument("auth.auth is no base64 of user:password") from err
        user, _, password = text.partition(":")
        return Credentials(user, password.rstrip("\0"))
    if auth.registry_token:
        return Credentials(registry_token=auth.registry_token)
    return Credentials()


def _serves(address: str, domain: str) -> bool:
    host = urlsplit(address if "://" in address else f"https://{address}").netloc
    return ("docker.io" if host in _HUB else host) == domain


class _Progress:
    """Ends a pull of which nothing moves for `timeout_s`; 0 waits for ever."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._moved = asyncio.Event()

    def seen(self, progress: Progress) -> None:
        """Note that something has moved."""
        self._moved.set()

    async def run(self, work: Coroutine[Any, Any, Image]) -> Image:
        """Return what `work` returns, if it goes on."""
        task: asyncio.Task[Image] = asyncio.get_running_loop().create_task(work)
        watch = asyncio.get_running_loop().create_task(self._watch())
        try:
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise DeadlineExceeded(
                    f"the pull was given up: nothing came for {self._timeout_s:g} s"
                )
            return task.result()
        finally:
            for one in (task, watch):
                one.cancel()
            await asyncio.wait((task, watch))

    async def _watch(self) -> None:
        if not self._timeout_s:
            await asyncio.Event().wait()
        while True:
            self._moved.clear()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._moved.wait()
            except TimeoutError:
                return
