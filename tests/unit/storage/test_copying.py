"""Content from fd to fd, holes included."""

import os
from pathlib import Path

from sampan.storage.copying import copy_data


def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 20)
        file.write(b"end")
        file.truncate(2 << 20)
    with source.open("rb") as one, target.open("w+b") as two:
        copy_data(one.fileno(), two.fileno(), os.fstat(one.fileno()).st_size)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 8
