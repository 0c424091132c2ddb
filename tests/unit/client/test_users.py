"""Users: one parser for names and numbers, and no number becomes root by accident (row 12)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.client.spec.users import resolve
from sampan.errors import InvalidArgument, ResourceExhausted


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/:\nann:x:1000:100::/:\nbad:x:4294967296:0::/:\n+1:x:0:0::/:\n"
    )
    (tmp_path / "etc/group").write_text("users:x:100:\nwheel:x:10:ann,bob\nextra:x:20:ann\n")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_name(root: int) -> None:
    user = resolve("ann", root)
    assert (user.uid, user.gid, user.additional_gids) == (1000, 100, (10, 20))


def test_number_finds_its_groups(root: int) -> None:
    assert resolve("1000", root) == resolve("ann", root)


def test_number_without_row(root: int) -> None:
    user = resolve("77:88", root)
    assert (user.uid, user.gid, user.additional_gids) == (77, 88, ())


def test_named_group(root: int) -> None:
    assert resolve("5:wheel", root).gid == 10


@pytest.mark.parametrize(
    "text",
    [
        "4294967296",
        "2147483648",
        "1_0",
        " 1 ",
        "\uff11",
        "-1",
        "0x0",
        "nobody",
        "bad",
        "1:none",
        ":",
        "1:",
    ],
)
def test_refused(root: int, text: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve(text, root)


def test_a_name_that_looks_like_a_number_is_that_row(root: int) -> None:
    assert resolve("01", root).uid == 1
    assert resolve("+1", root).uid == 0  # a name, found as such in this root's passwd


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(InvalidArgument):
            resolve("root", fd)
    finally:
        os.close(fd)


def test_huge_passwd(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"a:b:1:1\n" * 200_000)
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(ResourceExhausted):
            resolve("a", fd)
    finally:
        os.close(fd)
