"""Save and load with skopeo and umoci on the other side, and archives made to harm."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from sampan.client import Client
from sampan.errors import SampanError
from sampan.model import digest as digests
from sampan.testing import requires

from .place import Layout, nothing_is_left, place, run

pytestmark = requires("root", "busybox", "skopeo")

NAME = "docker.io/library/app:1"


async def put(client: Client, layout: Layout) -> None:
    transfer = await client.transfer()
    async with transfer.lease():
        await transfer.load(layout.folder)
        await transfer.record(NAME, layout.target)


def copy(source: str, target: str) -> None:
    run("skopeo", "--insecure-policy", "copy", "-q", source, target)


@requires("umoci")
async def test_others_read_what_we_save(client: Client, layout: Layout, short_path: Path) -> None:
    await put(client, layout)
    transfer = await client.transfer()
    archive = short_path / "a.tar"
    with archive.open("wb") as file:
        await transfer.save([NAME], file)
    copy(f"docker-archive:{archive}", f"oci:{short_path}/one:x")
    copy(f"oci-archive:{archive}:1", f"oci:{short_path}/two:x")
    said = json.loads((short_path / "two/index.json").read_bytes())
    assert said["manifests"][0]["digest"] == layout.target.digest
    await transfer.save([NAME], short_path / "folder")
    run("umoci", "unpack", "--image", f"{short_path}/folder:1", short_path / "unpacked")
    assert (short_path / "unpacked/rootfs/usr/bin/cat").is_file()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
async def test_we_load_what_others_save(
    client: Client, layout: Layout, short_path: Path, form: str
) -> None:
    archive = short_path / "b.tar"
    copy(f"oci:{layout.folder}:latest", f"{form}:{archive}:foo/bar:2")
    (found,) = await (await client.transfer()).load(archive)
    assert found.name == "docker.io/foo/bar:2"
    assert [image.name for image in await client.images.list()] == [found.name]
    if form == "oci-archive":
        assert found.target.digest == layout.target.digest
    await client.images.delete(found.name, sync=True)
    await nothing_is_left(client, short_path / "root")


async def test_saved_by_one_root_and_loaded_by_another(
    client: Client, layout: Layout, short_path: Path
) -> None:
    await put(client, layout)
    archive = short_path / "c.tar"
    with archive.open("wb") as file:
        await (await client.transfer()).save([NAME], file)
    async with place(short_path / "other") as other:
        (found,) = await (await other.transfer()).load(archive)
        assert (found.name, found.target) == (NAME, layout.target)


def archive_of(
    layout: Layout, *extra: tarfile.TarInfo, spoil: str = "", leave_out: str = ""
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info in extra:
            archive.addfile(info)
        for path in sorted(layout.folder.rglob("*")):
            if path.is_file() and path.name != leave_out:
                data = path.read_bytes()
                if spoil and path.name == spoil:
                    data = data[:-1] + bytes([data[-1] ^ 1])
                info = tarfile.TarInfo(str(path.relative_to(layout.folder)))
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "extra",
    [
        member("../escape"),
        member("/absolute"),
        member("blobs/sha256/../../../../escape"),
        member("blobs/sha256/x", tarfile.SYMTYPE, "/etc/shadow"),
        member("blobs/sha256/x", tarfile.LNKTYPE, "../../../etc/shadow"),
        member("device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
async def test_members_that_reach_out_are_refused(
    client: Client, layout: Layout, short_path: Path, extra: tarfile.TarInfo
) -> None:
    data = archive_of(layout, extra)
    with pytest.raises(SampanError):
        await (await client.transfer()).load(io.BytesIO(data))
    assert await client.images.list() == []
    await nothing_is_left(client, short_path / "root")


@pytest.mark.parametrize("how", ["spoiled layer", "spoiled manifest", "cut", "missing"])
async def test_archives_that_lie_are_refused(
    client: Client, layout: Layout, short_path: Path, how: str
) -> None:
    layer = digests.encoded(layout.manifest.layers[1].digest)
    if how == "spoiled layer":
        data = archive_of(layout, spoil=layer)
    elif how == "spoiled manifest":
        data = archive_of(layout, spoil=digests.encoded(layout.target.digest))
    else:
        data = archive_of(layout)
        data = (
            data[: len(data) // 2] if how == "cut" else data.replace(layer.encode(), b"0" * 64, 1)
        )
    with pytest.raises(SampanError):
        await (await client.transfer()).load(io.BytesIO(data))
    assert await client.images.list() == []
    await nothing_is_left(client, short_path / "root")
