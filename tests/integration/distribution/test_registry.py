"""Our client and Debian's docker-registry in three configurations, with skopeo beside us."""

import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sampan.distribution import RegistryClient, RegistryOptions
from sampan.distribution.from_host import Recipe, build_layout
from sampan.distribution.registry.credentials import FileCredentials
from sampan.distribution.registry.hosts import HostsOptions
from sampan.errors import FailedPrecondition, NotFound, Unauthenticated
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, Descriptor
from sampan.model.image import Manifest, decode, encode
from sampan.model.reference import Reference, parse
from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

pytestmark = requires("docker-registry", "openssl", "htpasswd")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of ours on disk: two small layers."""
    folder = tmp_path_factory.mktemp("image") / "layout"
    build_layout(folder, Recipe(groups=(("cat",), ("/etc/debian_version",))))
    return folder


@pytest.fixture(params=["http", "tls", "password", "tls+password"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DockerRegistry]:
    kind: str = request.param
    with DockerRegistry(
        tmp_path / "registry", tls="tls" in kind, password="password" in kind
    ) as running:
        yield running


def options(registry: DockerRegistry, *, chunk: int = 0, known: bool = True) -> RegistryOptions:
    files = [registry.docker_config()] if known else []
    return RegistryOptions(
        hosts=HostsOptions(folders=(registry.certs_d,)),
        credentials=FileCredentials({}, files=files),
        push_chunk_bytes=chunk,
    )


async def fetched(client: RegistryClient, reference: Reference, what: Descriptor) -> bytes:
    fetcher = await client.fetcher(reference)
    async with fetcher.fetch(what) as stream:
        return b"".join([chunk async for chunk in stream])


async def push_layout(client: RegistryClient, reference: Reference, layout: Path) -> Descriptor:
    def opener(descriptor: Descriptor) -> Callable[[], AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield (layout / "blobs/sha256" / digests.encoded(descriptor.digest)).read_bytes()

        return chunks

    index = json.loads((layout / "index.json").read_bytes())
    said = index["manifests"][0]
    target = Descriptor(media_type=OCI_MANIFEST, digest=said["digest"], size=said["size"])
    data = (layout / "blobs/sha256" / digests.encoded(target.digest)).read_bytes()
    manifest = decode(data, OCI_MANIFEST)
    assert isinstance(manifest, Manifest)
    pusher = await client.pusher(reference)
    for blob in (manifest.config, *manifest.layers):
        assert await pusher.push_blob(blob, opener(blob)) == "uploaded"
        assert await pusher.push_blob(blob, opener(blob)) == "exists"
    assert await pusher.push_manifest(target, data, reference.tag) == "uploaded"
    assert await pusher.push_manifest(target, data) == "exists"
    return target


@pytest.mark.parametrize("chunk", [0, 100_000])
async def test_push_resolve_fetch(registry: DockerRegistry, layout: Path, chunk: int) -> None:
    reference = parse(f"{registry.host}/team/app:1")
    async with RegistryClient(options(registry, chunk=chunk)) as client:
        target = await push_layout(client, reference, layout)
        assert await client.resolve(reference) == target
        assert await client.resolve(reference.with_digest(target.digest)) == target
        manifest = decode(await fetched(client, reference, target), OCI_MANIFEST)
        assert isinstance(manifest, Manifest)
        for blob in (manifest.config, *manifest.layers):
            assert digests.of_bytes(await fetched(client, reference, blob)) == blob.digest
        fetcher = await client.fetcher(reference)
        async with fetcher.fetch(manifest.layers[0], 1000, 500) as stream:
            assert stream.offset == 1000
            assert sum([len(chunk) async for chunk in stream]) == 500
        other = await client.pusher(parse(f"{registry.host}/other:1"))

        async def never() -> AsyncIterator[bytes]:
            raise AssertionError("a mount must not ask for the bytes")
            yield b""

        layer = manifest.layers[0]
        assert await other.push_blob(layer, never, mount_from=["team/app"]) == "mounted"
        with pytest.raises(NotFound, match=registry.host):
            await client.resolve(reference.with_tag("nothing"))
        missing = Descriptor(media_type=OCI_LAYER, digest=digests.of_bytes(b"none"), size=4)
        with pytest.raises(NotFound, match=str(missing.digest)):
            await fetched(client, reference, missing)


@requires("skopeo")
async def test_skopeo_reads_what_we_push(
    registry: DockerRegistry, layout: Path, tmp_path: Path
) -> None:
    async with RegistryClient(options(registry)) as client:
        target = await push_layout(client, parse(f"{registry.host}/app:1"), layout)
    said = subprocess.run(  # noqa: ASYNC221
        ["skopeo", "inspect", *registry.skopeo, f"docker://{registry.host}/app:1"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert json.loads(said.stdout)["Digest"] == target.digest


@requires("skopeo")
async def test_we_read_what_skopeo_pushes(registry: DockerRegistry, layout: Path) -> None:
    for form in ("oci", "v2s2"):
        subprocess.run(  # noqa: ASYNC221
            [
                *("skopeo", "--insecure-policy", "copy", "-q", "--format", form),
                *registry.skopeo_as("dest"),
                f"oci:{layout}:latest",
                f"docker://{registry.host}/app:{form}",
            ],
            check=True,
            timeout=60,
        )
        async with RegistryClient(options(registry)) as client:
            reference = parse(f"{registry.host}/app:{form}")
            target = await client.resolve(reference)
            manifest = decode(await fetched(client, reference, target), target.media_type)
            assert isinstance(manifest, Manifest)
            assert manifest.is_image
            config = await fetched(client, reference, manifest.config)
            assert digests.of_bytes(config) == manifest.config.digest


async def test_without_credentials_or_authority(tmp_path: Path) -> None:
    with DockerRegistry(tmp_path / "a", password=True) as registry:
        async with RegistryClient(options(registry, known=False)) as client:
            with pytest.raises(Unauthenticated, match="log in"):
                await client.resolve(parse(f"{registry.host}/app:1"))
    with DockerRegistry(tmp_path / "b", tls=True) as registry:
        hosts = HostsOptions(plain_http=False)
        async with RegistryClient(RegistryOptions(hosts=hosts)) as client:
            with pytest.raises(FailedPrecondition, match="TLS"):
                await client.resolve(parse(f"{registry.host}/app:1"))
        skipping = HostsOptions(plain_http=False, skip_verify=True)
        async with RegistryClient(RegistryOptions(hosts=skipping)) as client:
            with pytest.raises(NotFound):
                await client.resolve(parse(f"{registry.host}/app:1"))


async def test_an_error_body_is_shown(tmp_path: Path) -> None:
    with DockerRegistry(tmp_path / "a") as registry:
        async with RegistryClient(options(registry)) as client:
            pusher = await client.pusher(parse(f"{registry.host}/app:1"))
            lost = Descriptor(media_type=OCI_MANIFEST, digest=digests.of_bytes(b"x"), size=1)
            from sampan.model.image import Index

            data = encode(Index(schema_version=2, media_type=OCI_INDEX, manifests=(lost,)))
            index = Descriptor(media_type=OCI_INDEX, digest=digests.of_bytes(data), size=len(data))
            with pytest.raises(FailedPrecondition, match="MANIFEST"):
                await pusher.push_manifest(index, data, "1")
