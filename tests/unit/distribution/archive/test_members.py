"""Archives as nobody honest packs them, and those of tar itself."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from sampan.distribution.archive.members import members
from sampan.errors import InvalidArgument, SampanError


def pack(*infos: tarfile.TarInfo, data: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info in infos:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


async def read(source: Path | io.BytesIO) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    async for member in members(source):
        if member.chunks is None:
            found[member.name] = member.link
        else:
            found[member.name] = b"".join([chunk async for chunk in member.chunks])
    return found


async def test_plain_gzip_zstd() -> None:
    link = info("x/layer.tar", tarfile.SYMTYPE, "../a")
    data = pack(info("./a"), info("d", tarfile.DIRTYPE), link, data=b"hello" * 1000)
    for packed in (data, gzip.compress(data), zstandard.compress(data)):
        assert await read(io.BytesIO(packed)) == {"a": b"hello" * 1000, "x/layer.tar": "a"}


@pytest.mark.parametrize(
    "made",
    [
        info("../a"),
        info("/etc/passwd"),
        info("a/../../b"),
        info("a", tarfile.SYMTYPE, "/etc/passwd"),
        info("a", tarfile.SYMTYPE, "../x"),
        info("a/b", tarfile.SYMTYPE, "../../x"),
        info("a", tarfile.LNKTYPE, "../x"),
        info("a", tarfile.CHRTYPE),
        info("a", tarfile.FIFOTYPE),
        info("a\udcff"),
    ],
)
async def test_refused(made: tarfile.TarInfo) -> None:
    with pytest.raises(InvalidArgument, match=r"refused"):
        await read(io.BytesIO(pack(made)))


async def test_truncated_and_damaged() -> None:
    data = pack(info("a"), data=b"x" * 5000)
    packed = gzip.compress(data)
    for cut in (b"", data[:100], data[:512], data[:4000], data[:6144], packed[:50], packed[:12]):
        with pytest.raises(SampanError):
            await read(io.BytesIO(cut))
    with pytest.raises(SampanError):
        await read(io.BytesIO(b"\x28\xb5\x2f\xfd" + b"junk" * 100))


async def test_a_folder_is_read_without_following(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs/sha256"
    blobs.mkdir(parents=True)
    (blobs / "aa").write_bytes(b"data")
    (tmp_path / "index.json").write_bytes(b"{}")
    (tmp_path / "other").symlink_to("/etc/passwd")
    assert await read(tmp_path) == {"index.json": b"{}", "blobs/sha256/aa": b"data"}
    (blobs / "bb").symlink_to("/etc/passwd")
    with pytest.raises(InvalidArgument, match="refused"):
        await read(tmp_path)
    (blobs / "bb").unlink()
    os.mkfifo(blobs / "bb")
    with pytest.raises(InvalidArgument, match="no regular file"):
        await read(tmp_path)
