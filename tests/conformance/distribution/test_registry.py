"""Pull and push against Debian's docker-registry, with skopeo on the other side of the registry."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.client import Client
from sampan.distribution import Progress
from sampan.errors import NotFound
from sampan.model import digest as digests
from sampan.model.descriptor import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from sampan.model.image import Index, chain_ids, decode_config, encode
from sampan.model.platform import Platform, default
from sampan.model.reference import parse
from sampan.testing import requires
from sampan.testing.registry import DockerRegistry, LyingRegistry

from .place import Layout, Server, digests_in, nothing_is_left, place, run, skopeo_push, unpacked

pytestmark = requires("root", "busybox", "docker-registry", "skopeo", "openssl", "htpasswd")

PULL = """
import asyncio, sys
from pathlib import Path
from sampan.model.reference import parse
from tests.conformance.distribution.place import place

async def main():
    async with place(Path(sys.argv[1])) as client:
        await (await client.transfer()).pull(parse(sys.argv[2]))

asyncio.run(main())
"""


async def test_pull_what_skopeo_pushed_and_push_what_skopeo_reads(
    registry: DockerRegistry, layout: Layout, short_path: Path
) -> None:
    skopeo_push(layout, registry, "team/app:1")
    heard: list[Progress] = []
    async with place(short_path, registry.certs_d) as client:
        transfer = await client.transfer()
        source = parse(f"{registry.host}/team/app:1")
        image = await transfer.pull(source, progress=heard.append)
        assert image.target == layout.target
        blobs = {layout.target, layout.manifest.config, *layout.manifest.layers}
        assert await digests_in(client) == {str(blob.digest) for blob in blobs}
        assert {"downloading", "complete", "extracted", "done"} <= {one.event for one in heard}
        assert await client.leases.list() == []

        await client.collect_garbage()
        config = decode_config(layout.blob(layout.manifest.config.digest))
        chain = [str(one) for one in chain_ids(config.rootfs.diff_ids)]
        assert {info.name async for info in client.snapshots().walk()} == set(chain)

        target = parse(f"{registry.host}/other/app:2")
        assert await transfer.push(image.name, target) == layout.target
        said = run("skopeo", "inspect", *registry.skopeo, f"docker://{target}")
        assert json.loads(said)["Digest"] == layout.target.digest

        await client.images.delete(image.name, sync=True)
        await nothing_is_left(client, short_path / "root")


@pytest.mark.parametrize("registry", ["http"], indirect=True)
async def test_docker_manifests_and_zstd_layers(
    registry: DockerRegistry, layout: Layout, short_path: Path
) -> None:
    skopeo_push(layout, registry, "app:v2s2", "--format", "v2s2")
    skopeo_push(layout, registry, "app:zstd", "--dest-compress-format", "zstd", "--dest-compress")
    async with place(short_path) as client:
        transfer = await client.transfer()
        docker = await transfer.pull(parse(f"{registry.host}/app:v2s2"))
        assert docker.target.media_type == DOCKER_MANIFEST
        before = {info.name async for info in client.snapshots().walk()}
        await transfer.pull(parse(f"{registry.host}/app:zstd"))
        after = {info.name async for info in client.snapshots().walk()}
        assert before == after, "the same DiffIDs are the same snapshots"


@requires("umoci")
@pytest.mark.parametrize("registry", ["http"], indirect=True)
async def test_the_tree_is_what_umoci_unpacks(
    registry: DockerRegistry, layout: Layout, short_path: Path
) -> None:
    from .place import tree

    run("umoci", "unpack", "--image", f"{layout.folder}:latest", short_path / "umoci")
    theirs = tree(str(short_path / "umoci/rootfs"))
    skopeo_push(layout, registry, "app:1")
    async with place(short_path) as client:
        await (await client.transfer()).pull(parse(f"{registry.host}/app:1"))
        config = decode_config(layout.blob(layout.manifest.config.digest))
        ours = await unpacked(client, str(chain_ids(config.rootfs.diff_ids)[-1]))
    assert ours.keys() == theirs.keys()
    assert {k: v for k, v in ours.items() if v != theirs[k]} == {}


def index_of(layout: Layout, *platforms: Platform) -> bytes:
    target = layout.target
    children = tuple(
        Descriptor(
            media_type=OCI_MANIFEST, digest=target.digest, size=target.size, platform=platform
        )
        for platform in platforms
    )
    return encode(Index(schema_version=2, media_type=OCI_INDEX, manifests=children))


async def test_an_index_by_platform(client: Client, liar: LyingRegistry, layout: Layout) -> None:
    server = Server(layout)
    liar.handler = server
    foreign = Platform(os="linux", architecture="s390x")
    for platforms, there in (((foreign, default()), True), ((foreign,), False)):
        data = index_of(layout, *platforms)
        server.tag = str(digests.of_bytes(data))
        server.documents[server.tag] = (OCI_INDEX, data)
        pull = (await client.transfer()).pull(parse(f"{liar.host}/app:1"))
        if there:
            assert (await pull).target.digest == server.tag
        else:
            with pytest.raises(NotFound, match=r"no image for linux/.*it has linux/s390x"):
                await pull
        assert await client.leases.list() == []


async def test_two_pulls_at_once_fetch_a_blob_once(
    client: Client, liar: LyingRegistry, layout: Layout
) -> None:
    liar.handler = Server(layout)
    transfer = await client.transfer()
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(transfer.pull(parse(f"{liar.host}/app:1"), name=f"x.io/{name}:1"))
    for layer in layout.manifest.layers:
        assert len(liar.asked("GET", f"/v2/app/blobs/{layer.digest}")) == 1
    assert len(await client.images.list()) == 2


async def test_two_processes_fetch_a_blob_once(
    liar: LyingRegistry, layout: Layout, short_path: Path
) -> None:
    liar.handler = Server(layout)
    here = Path(__file__).parents[3]

    async def one() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PULL, str(short_path), f"{liar.host}/app:1"),
            cwd=here,
            stderr=subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, said.decode()

    async with asyncio.TaskGroup() as group:
        group.create_task(one())
        group.create_task(one())
    for layer in layout.manifest.layers:
        assert len(liar.asked("GET", f"/v2/app/blobs/{layer.digest}")) == 1
    async with place(short_path) as client:
        assert len(await client.images.list()) == 1
        assert await client.leases.list() == []
        await client.collect_garbage()
        assert len([info async for info in client.snapshots().walk()]) == 3
        await client.images.delete(f"{liar.host}/app:1", sync=True)
        await nothing_is_left(client, short_path / "root")
