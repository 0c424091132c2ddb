"""Trees as archives, judged by the standard library's reader."""

import io
import os
import tarfile
from pathlib import Path

from sampan.sandbox.packing import pack


def packed(folder: Path, *, whole: bool = False) -> tarfile.TarFile:
    proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY)
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    out = os.memfd_create("tar")
    try:
        pack(top, out, proc_fd=proc, whole=whole)
        return tarfile.open(fileobj=io.BytesIO(os.pread(out, 1 << 24, 0)))
    finally:
        for fd in (proc, top, out):
            os.close(fd)


def test_a_tree(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    (tmp_path / "d/f").write_text("content")
    (tmp_path / "d/f").chmod(0o4755)
    os.link(tmp_path / "d/f", tmp_path / "hard")
    os.symlink("d/f", tmp_path / "link")
    os.mkfifo(tmp_path / "fifo")
    with packed(tmp_path) as archive:
        assert archive.getnames() == ["d", "d/f", "hard", "link"]
        assert archive.getmember("d/f").mode == 0o755
        assert archive.getmember("hard").islnk()
        assert archive.getmember("link").linkname == "d/f"
        content = archive.extractfile("d/f")
        assert content is not None
        assert content.read() == b"content"
    with packed(tmp_path, whole=True) as archive:
        assert archive.getmember("d/f").mode == 0o4755


def test_long_and_strange_names(tmp_path: Path) -> None:
    name = b"n" * 200 + b"\xff"
    (tmp_path / os.fsdecode(name)).write_text("x")
    with packed(tmp_path) as archive:
        assert [os.fsencode(one) for one in archive.getnames()] == [name]
