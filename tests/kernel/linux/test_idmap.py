"""Idmapped mounts, judged by who owns what is seen through them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sampan.linux import idmap, mounts, namespaces
from sampan.testing import requires
from sampan.zygote import Zygote

pytestmark = requires("root")


def mapped(payload: bytes, fds: list[int]) -> int:
    """In a worker: write the owner of a folder as seen through a mapped copy to fds[0]."""
    maps = [(0, 70000, 1000)]
    userns = idmap.mapped_userns(maps, maps)
    assert namespaces.nstype(userns) == namespaces.CLONE_NEWUSER
    path = payload.decode()
    tree = idmap.clone_mapped(path, userns)
    os.write(fds[0], f"{os.fstat(tree).st_uid} {os.stat(path).st_uid} ".encode())
    again = mounts.open_tree(tree, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    try:
        idmap.map_tree(again, userns)
    except OSError as err:
        os.write(fds[0], str(err.errno).encode())
    return 0


def test_owners_through_a_mapped_copy(tmp_path: Path) -> None:
    told, tell = os.pipe()
    folder = str(Path(__file__).parent)
    with (
        Zygote.start(path=[folder, *sys.path]) as zygote,
        zygote.fork("test_idmap:mapped", bytes(tmp_path), [tell], allow_imports=True) as one,
    ):
        assert one.wait(20) == 0
    os.close(tell)
    with os.fdopen(told, "rb") as file:
        seen, plain, refused = file.read().split()
    assert (seen, plain) == (b"70000", b"0")
    assert int(refused) in (1, 22)  # EPERM or EINVAL: it is mapped already


def test_ranges() -> None:
    assert idmap.parse("0:100:10,10:500:1") == [(0, 100, 10), (10, 500, 1)]
    for text in ("", "0:1", "a:b:c"):
        with pytest.raises(ValueError, match=r"."):
            idmap.parse(text)
