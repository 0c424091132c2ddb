"""Layers made by hand, and applied by a worker as in production."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

Layer = Callable[..., dict[str, object]]


@pytest.fixture
def apply(short_path: Path) -> Layer:
    """Run the confined worker on an archive: `apply(data, target, overlay=...)` is its answer."""

    def run(data: bytes, target: Path, **request: object) -> dict[str, object]:
        blob = short_path / "blob"
        blob.write_bytes(data)
        asked = {"compression": "", "confine": True, **request}
        answer = os.memfd_create("answer")
        fds = [
            answer,
            os.open(blob, os.O_RDONLY),
            os.open(target, os.O_RDONLY | os.O_DIRECTORY),
        ]
        try:
            done = subprocess.run(
                [
                    sys.executable,
                    "-I",
                    "-m",
                    "sampan.storage.worker",
                    json.dumps(asked),
                    ",".join(map(str, fds)),
                ],
                pass_fds=fds,
                stderr=subprocess.PIPE,
                timeout=60,
            )
            text = os.pread(answer, 1 << 24, 0)
            assert text, done.stderr.decode()
            found: dict[str, object] = json.loads(text)
            return found
        finally:
            for fd in fds:
                os.close(fd)

    return run


@pytest.fixture
def tar() -> Callable[..., bytes]:
    """Make an archive of (name, type or content, fields) members with Python's tarfile."""

    def make(*members: tuple[object, ...], format: int = tarfile.PAX_FORMAT) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as archive:
            for name, what, *rest in members:
                info = tarfile.TarInfo(str(name))
                fields = rest[0] if rest else {}
                data = None
                info.mode = 0o755
                if what == "dir":
                    info.type = tarfile.DIRTYPE
                elif what in ("symlink", "link"):
                    info.type = tarfile.SYMTYPE if what == "symlink" else tarfile.LNKTYPE
                elif what == "char":
                    info.type = tarfile.CHRTYPE
                else:
                    assert isinstance(what, bytes)
                    info.size = len(what)
                    data = io.BytesIO(what)
                assert isinstance(fields, dict)
                for key, value in fields.items():
                    setattr(info, key, value)
                archive.addfile(info, data)
        return out.getvalue()

    return make
