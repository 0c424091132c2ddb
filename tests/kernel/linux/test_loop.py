"""Loop devices of this kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.linux import loop
from sampan.testing import requires

pytestmark = requires("root", "kernel>=5.8")


def test_a_file_becomes_a_device_and_goes(short_path: Path) -> None:
    file = short_path / "image"
    file.write_bytes(bytes(1 << 20))
    device = loop.attach(str(file))
    try:
        assert loop.backing_file(device) == str(file)[-63:]
        with open(device, "r+b", buffering=0) as opened:
            opened.write(b"x" * 512)
            os.fsync(opened.fileno())
        assert file.read_bytes()[:3] == b"xxx"
    finally:
        loop.release(device)
    assert loop.backing_file(device) == ""
    loop.release(device)


def test_read_only(short_path: Path) -> None:
    file = short_path / "image"
    file.write_bytes(bytes(1 << 20))
    device = loop.attach(str(file), read_only=True)
    try:
        with pytest.raises(OSError, match="denied|Read-only|permitted"):  # noqa: RUF043
            _overwrite(device)
    finally:
        loop.release(device)


def _overwrite(device: str) -> None:
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_SYNC)
    try:
        os.write(fd, b"x" * 4096)
    finally:
        os.close(fd)


def test_what_is_not_there(short_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        loop.attach(str(short_path / "nothing"))
    loop.release("/dev/loop-nothing")
