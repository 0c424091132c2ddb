"""Pulls that fail leave nothing but what may be resumed; what is resumed is asked for by range."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from sampan.client import Client
from sampan.errors import (
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    SampanError,
)
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_MANIFEST
from sampan.model.image import RootFS, decode_config, encode
from sampan.model.reference import parse
from sampan.testing import requires
from sampan.testing.registry import LyingRegistry, Recorded, Reply

from .place import Layout, Server, digests_in, nothing_is_left

pytestmark = requires("root", "busybox")


def biggest(layout: Layout) -> str:
    return str(max(layout.manifest.layers, key=lambda layer: layer.size).digest)


async def refused(client: Client, liar: LyingRegistry) -> SampanError:
    with pytest.raises(SampanError) as caught:
        await (await client.transfer()).pull(parse(f"{liar.host}/app:1"))
    assert await client.images.list() == []
    assert await client.leases.list() == []
    return caught.value


@pytest.mark.parametrize("how", ["other bytes", "longer", "shorter", "other type"])
async def test_lies_leave_nothing(
    client: Client, liar: LyingRegistry, layout: Layout, short_path: Path, how: str
) -> None:
    wrong = biggest(layout)

    def spoil(request: Recorded, reply: Reply) -> Reply:
        if how == "other type" and "/manifests/" in request.target:
            return replace(reply, headers={**reply.headers, "Content-Type": "text/html"})
        if not request.target.endswith(wrong) or how == "other type":
            return reply
        if how == "other bytes":
            return replace(reply, body=b"x" * len(reply.body))
        if how == "longer":
            return replace(reply, body=reply.body + b"x", headers={"Content-Length": ""})
        short = reply.body[:-7]
        return replace(reply, body=short, headers={"Content-Length": str(len(short))})

    server = Server(layout)
    server.spoil = spoil
    liar.handler = server
    error = await refused(client, liar)
    assert isinstance(error, DataLoss | FailedPrecondition)
    assert liar.host in str(error)
    if how != "other type":
        assert wrong in str(error)
        assert wrong not in await digests_in(client)
    for status in await client.content.list_statuses():
        # What was on its way beside the liar may be resumed.
        assert wrong not in status.ref
        await client.content.abort(status.ref)
    await nothing_is_left(client, short_path / "root")


async def test_an_interrupted_layer_is_resumed_by_range(
    client: Client, liar: LyingRegistry, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, whole = biggest(layout), len(layout.blob(biggest(layout)))
    server = Server(layout)
    liar.handler = server
    monkeypatch.setenv("SAMPAN_REGISTRY_TIMEOUT", "1")
    server.spoil = lambda request, reply: (
        replace(reply, cut_after=len(reply.body) // 2, hang=True)
        if request.target.endswith(cut)
        else reply
    )
    assert isinstance(await refused(client, liar), DeadlineExceeded)
    (status,) = [one for one in await client.content.list_statuses() if cut in one.ref]
    assert 0 < status.offset < whole

    server.spoil = lambda _, reply: reply
    liar.requests.clear()
    await (await client.transfer()).pull(parse(f"{liar.host}/app:1"))
    (asked,) = liar.asked("GET", f"/v2/app/blobs/{cut}")
    assert asked.headers["range"].startswith(f"bytes={status.offset}-")
    assert await client.content.list_statuses() == []


async def test_an_ingest_that_went_bad_is_begun_again(
    client: Client, liar: LyingRegistry, layout: Layout
) -> None:
    layer = next(one for one in layout.manifest.layers if one.digest == biggest(layout))
    async with await client.content.writer(
        f"layer-{layer.digest}", expected=layer.digest, total=layer.size
    ) as writer:
        await writer.write(b"?" * 1000)
    liar.handler = Server(layout)
    await (await client.transfer()).pull(parse(f"{liar.host}/app:1"))
    assert str(layer.digest) in await digests_in(client)


async def test_a_layer_with_another_diff_id_is_refused(
    client: Client, liar: LyingRegistry, layout: Layout, short_path: Path
) -> None:
    manifest, server = layout.manifest, Server(layout)
    config = decode_config(layout.blob(manifest.config.digest))
    lie = (*config.rootfs.diff_ids[:-1], digests.of_bytes(b"another"))
    data = encode(structs.replace(config, rootfs=RootFS(type="layers", diff_ids=lie)))
    digest = digests.of_bytes(data)
    server.blobs[str(digest)] = data
    spoiled = encode(
        structs.replace(
            manifest, config=structs.replace(manifest.config, digest=digest, size=len(data))
        )
    )
    server.tag = str(digests.of_bytes(spoiled))
    server.documents[server.tag] = (OCI_MANIFEST, spoiled)
    liar.handler = server
    error = await refused(client, liar)
    assert isinstance(error, DataLoss | InvalidArgument)
    assert "DiffID" in str(error)
    await nothing_is_left(client, short_path / "root")
