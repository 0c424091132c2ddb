"""A root of our own with everything that transfers stand on, and an image to move about."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sampan.client import Client, connect
from sampan.engine import resolve
from sampan.model import digest as digests
from sampan.model.descriptor import OCI_MANIFEST, Descriptor
from sampan.model.image import Manifest, decode
from sampan.storage.detached import open_mounts
from sampan.testing.registry import DockerRegistry, Recorded, Reply


@asynccontextmanager
async def place(folder: Path, hosts_dir: Path | None = None) -> AsyncIterator[Client]:
    """Open the client of a root below `folder`."""
    flags = {
        "root": str(folder / "root"),
        "state": str(folder / "state"),
        "hosts_dir": str(hosts_dir or folder / "none"),
    }
    async with connect(resolve(flags, {})) as client:
        yield client


async def digests_in(client: Client) -> set[str]:
    return {str(info.digest) async for info in client.content.walk()}


async def nothing_is_left(client: Client, root: Path) -> None:
    """Collect, and look at the disk: no blob, ingest, snapshot or lease."""
    assert await client.leases.list() == []
    await client.collect_garbage()
    assert await digests_in(client) == set()
    assert await client.content.list_statuses() == []
    assert [info async for info in client.snapshots().walk()] == []
    assert files_of_stores(root) == []


def files_of_stores(root: Path) -> list[Path]:
    stores = {"blobs", "labels", "ingest", "trash", "snapshots"}
    found = (path for path in root.rglob("*") if stores & set(path.parts))
    return [path for path in found if path.is_file() and path.name != ".lock"]


@dataclass(frozen=True, slots=True)
class Layout:
    """An OCI layout on disk, of one image."""

    folder: Path

    @property
    def target(self) -> Descriptor:
        said = json.loads((self.folder / "index.json").read_bytes())["manifests"][0]
        return Descriptor(
            media_type=said["mediaType"], digest=digests.parse(said["digest"]), size=said["size"]
        )

    @property
    def manifest(self) -> Manifest:
        found = decode(self.blob(self.target.digest), OCI_MANIFEST)
        assert isinstance(found, Manifest)
        return found

    def blob(self, digest: str) -> bytes:
        return (self.folder / "blobs/sha256" / digest.partition(":")[2]).read_bytes()


def run(*argv: str | Path) -> str:
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def skopeo_push(layout: Layout, registry: DockerRegistry, name: str, *flags: str) -> None:
    copy = ("skopeo", "--insecure-policy", "copy", "-q", *flags)
    source, target = f"oci:{layout.folder}:latest", f"docker://{registry.host}/{name}"
    run(*copy, *registry.skopeo_as("dest"), source, target)


def tree(top: str) -> dict[str, tuple[object, ...]]:
    """Describe all below `top`: type, mode, owner, size or target, hash, links and attributes."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            what: object = ""
            if stat.S_ISLNK(status.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                what = (digests.of_bytes(Path(path).read_bytes()), status.st_nlink)
            attributes = {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            }
            when = 0 if stat.S_ISDIR(status.st_mode) else int(status.st_mtime)
            owner = (status.st_uid, status.st_gid, status.st_rdev)
            found[os.path.relpath(path, top)] = (status.st_mode, owner, when, what, attributes)
    return found


async def unpacked(client: Client, chain: str) -> dict[str, tuple[object, ...]]:
    """Describe the tree of a committed snapshot."""
    mounts = await client.snapshots().view("look", chain)
    fd = open_mounts(mounts)
    try:
        top = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        try:
            return tree(f"/proc/self/fd/{top}/.")
        finally:
            os.close(top)
    finally:
        os.close(fd)
        await client.snapshots().remove("look")


class Server:
    """A registry's side of one image, honest but for what a test spoils; with ranges."""

    def __init__(self, layout: Layout, name: str = "app") -> None:
        manifest = layout.manifest
        self.blobs = {
            str(one.digest): layout.blob(one.digest) for one in (manifest.config, *manifest.layers)
        }
        self.documents = {
            str(layout.target.digest): (OCI_MANIFEST, layout.blob(layout.target.digest))
        }
        self.tag = str(layout.target.digest)
        self.name = name
        self.spoil: Callable[[Recorded, Reply], Reply] = lambda _, reply: reply

    def __call__(self, request: Recorded) -> Reply:
        path = request.target.partition("?")[0]
        kind, _, last = path.removeprefix(f"/v2/{self.name}/").partition("/")
        if kind == "manifests":
            digest = self.tag if last == "1" else last
            if digest not in self.documents:
                return Reply(404)
            media_type, body = self.documents[digest]
            headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
            return self.spoil(request, Reply(headers=headers, body=body))
        if kind != "blobs" or last not in self.blobs:
            return Reply(404)
        body = self.blobs[last]
        asked = request.headers.get("range", "")
        if asked:
            first, _, end = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(end or len(body) - 1)
            said = {"Content-Range": f"bytes {start}-{stop}/{len(body)}"}
            return self.spoil(request, Reply(206, said, body[start : stop + 1]))
        return self.spoil(request, Reply(body=body))
