# ruff: noqa: SIM105
"""Files in and out; and a container that swaps them meanwhile."""

import asyncio
import os
from pathlib import Path

import pytest

from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, SampanError
from sampan.sandbox.clients import Client
from sampan.testing import requires

pytestmark = requires("root")


async def test_bytes_in_and_out(client: Client) -> None:
    data = os.urandom(200_000)
    async with client.sandbox("host:") as box:
        await box.write("/srv/deep/er/file", data, mode=0o640, user="nobody")
        assert await box.read("/srv/deep/er/file") == data
        seen = await box.stat("/srv/deep/er/file")
        assert (seen.kind, seen.size, seen.mode, seen.uid) == ("file", len(data), 0o640, 65534)
        await box.write("/srv/deep/er/file", "short")
        assert (await box.run("cat", "/srv/deep/er/file")).text == "short"
        with pytest.raises(NotFound, match="/no/such"):
            await box.read("/no/such")
        with pytest.raises(FailedPrecondition, match="folder"):
            await box.read("/srv")
        with pytest.raises(InvalidArgument, match="not absolute"):
            await box.read("srv")


async def test_files_can_be_opened(client: Client) -> None:
    async with client.sandbox("host:") as box:
        with await box.open("/a", "w") as file:
            file.write("one\n")
        with await box.open("/a", "ab") as file:
            file.write(b"two\n")
        with await box.open("/a", "r") as file:
            assert file.readlines() == ["one\n", "two\n"]
        with pytest.raises(SampanError, match="there already"):
            await box.open("/a", "xb")
        with pytest.raises(InvalidArgument, match="mode"):
            await box.open("/a", "q")


async def test_folders(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.mkdir("/x/y/z")
        await box.mkdir("/x/y/z")
        await box.run("ln", "-s", "y", "/x/link")
        assert [(one.name, one.kind, one.target) for one in await box.listdir("/x")] == [
            ("link", "link", "y"),
            ("y", "folder", ""),
        ]
        await box.write("/x/link/file", "through a link")
        assert await box.read("/x/y/file") == b"through a link"
        await box.remove("/x")
        await box.remove("/x")
        with pytest.raises(NotFound):
            await box.stat("/x")


async def test_trees(client: Client, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/.wh.file").write_text("a name like another")
    (source / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (source / "run.sh").chmod(0o755)
    os.symlink("run.sh", source / "link")
    os.link(source / "run.sh", source / "hard")
    async with client.sandbox("host:") as box:
        await box.upload(source, "/app", user="nobody")
        assert (await box.run("/app/link")).text == "ran\n"
        assert (await box.stat("/app/run.sh")).uid == 65534
        await box.run(
            "sh", "-c", "mkfifo /app/fifo; chmod u+s /app/run.sh; ln -s /etc/shadow /app/evil"
        )
        await box.download("/app", tmp_path / "back")
        await box.upload(source / "run.sh", "/one.sh")
        await box.download("/one.sh", tmp_path / "new/one.sh")
    back = tmp_path / "back"
    assert (back / "sub/.wh.file").read_text() == "a name like another"
    assert (back / "hard").stat().st_ino == (back / "run.sh").stat().st_ino
    assert (back / "run.sh").stat().st_mode & 0o7777 == 0o755
    assert (back / "run.sh").stat().st_uid == os.geteuid()
    assert not (back / "fifo").exists()
    assert os.readlink(back / "evil") == "/etc/shadow"
    assert (tmp_path / "new/one.sh").read_text() == (source / "run.sh").read_text()


async def test_export_is_the_whole_root(client: Client, tmp_path: Path) -> None:
    import tarfile

    async with client.sandbox("host:") as box:
        await box.write("/mark", "x")
        await box.export(tmp_path / "root.tar")
    with tarfile.open(tmp_path / "root.tar") as archive:
        names = archive.getnames()
    assert "mark" in names
    assert not any(name.startswith("proc/1") for name in names)


async def test_links_lead_where_they_do_inside(client: Client, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("the host's")
    async with client.sandbox("host:") as box:
        await box.run("ln", "-s", str(canary), "/outside")
        await box.run("ln", "-s", "../../../../../../../../" + str(canary), "/upwards")
        await box.run("ln", "-s", "/proc/1/root", "/magic")
        for path in ("/outside", "/upwards"):
            with pytest.raises(NotFound):
                await box.read(path)
            with pytest.raises(FailedPrecondition, match="leads nowhere"):
                await box.write(path, "changed")
        with pytest.raises(SampanError):
            await box.read(f"/magic{canary}")
        with pytest.raises(SampanError):
            await box.read(f"/proc/1/root{canary}")
    assert canary.read_text() == "the host's"


async def test_nothing_but_regular_files_is_opened(client: Client) -> None:
    async with client.sandbox("host:") as box:
        await box.run("mkfifo", "/fifo")
        for path in ("/fifo", "/dev/null", "/dev/zero"):
            with pytest.raises(FailedPrecondition, match="no regular file"):
                async with asyncio.timeout(10):
                    await box.read(path)


RACE = """
import os, sys
target = sys.argv[1]
os.makedirs('/race/real', exist_ok=True)
os.makedirs('/race/b', exist_ok=True)
open('/race/real/f', 'w').write('inside')
print('ready', flush=True)
while True:
    try:
        os.rename('/race/b', '/race/spare'); os.symlink(target, '/race/b')
        os.unlink('/race/b'); os.rename('/race/spare', '/race/b')
        open('/race/b/f', 'w').write('inside')
        os.unlink('/race/b/f'); os.symlink(target + '/f', '/race/b/f'); os.unlink('/race/b/f')
    except OSError:
        pass
"""


async def test_a_container_that_swaps_links_gains_nothing(client: Client, tmp_path: Path) -> None:
    """It exchanges a folder and a file for links to the host's, while we read, write and copy."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_text("the host's")
    loot = tmp_path / "loot"
    async with client.sandbox("host:") as box:
        async with box.exec("python3", "-c", RACE, str(secret), stdin=False) as racer:
            await racer.stdout.readline()
            loop = asyncio.get_running_loop()
            until = loop.time() + 4
            turns = 0
            while loop.time() < until:
                turns += 1
                try:
                    await box.write("/race/b/f", "pwned")
                except SampanError:
                    pass
                try:
                    assert await box.read("/race/b/f") in (b"inside", b"pwned", b"")
                except SampanError:
                    pass
                try:
                    await box.download("/race", loot / str(turns))
                except SampanError:
                    continue
            assert turns > 5
        assert racer.returncode == 137
    assert (secret / "f").read_text() == "the host's"
    assert os.listdir(secret) == ["f"]
    for path in loot.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert "the host's" not in path.read_text()
