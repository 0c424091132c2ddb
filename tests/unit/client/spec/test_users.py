"""Users by number and by name, in roots that lie (vulnerabilities row 12)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.client.spec.users import resolve
from sampan.errors import InvalidArgument, ResourceExhausted

ACCOUNTS = "root:x:0:0::/root:/bin/sh\napp:x:1000:100::/:/bin/sh\nbad:x:4294967296:0::/:\n"
GROUP = "root:x:0:\nusers:x:100:\nwheel:x:10:root,app\nhuge:x:99999999999:app\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(ACCOUNTS)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def root(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups"),
    [
        ("0", 0, 0, (10,)),
        ("root", 0, 0, (10,)),
        ("app", 1000, 100, (10,)),
        ("1000", 1000, 100, (10,)),
        ("app:wheel", 1000, 10, ()),
        ("5:7", 5, 7, ()),
        ("5", 5, 0, ()),
        ("01", 1, 0, ()),
        ("2147483647", 2147483647, 0, ()),
    ],
)
def test_what_a_user_is(root: int, user: str, uid: int, gid: int, groups: tuple[int, ...]) -> None:
    found = resolve(user, root)
    assert (found.uid, found.gid, found.additional_gids) == (uid, gid, groups)


@pytest.mark.parametrize(
    "user",
    [
        "4294967296", "2147483648", "99999999999999999999", "-1", "+1", "1_0", " 1 ", "1 ",
        "\u0661", "\uff11", "1e3", "0x0", "nobody", "", ":", "app:", ":0", "0:2147483648",
        "0:+1", "0:nogroup", "bad", "0:huge",
    ],
)  # fmt: skip
def test_what_is_refused_and_never_root(root: int, user: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve(user, root)


def test_links_do_not_lead_out(tmp_path: Path, root: int, folder: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("evil:x:0:0::/:\n")
    (folder / "etc/passwd").unlink()
    (folder / "etc/passwd").symlink_to(f"../../../../../../{outside}")
    with pytest.raises(InvalidArgument, match="evil"):
        resolve("evil", root)


def test_a_fifo_for_passwd_does_not_hang(root: int, folder: Path) -> None:
    (folder / "etc/passwd").unlink()
    os.mkfifo(folder / "etc/passwd")
    with pytest.raises(InvalidArgument):
        resolve("app", root)


def test_a_huge_passwd_is_refused(root: int, folder: Path) -> None:
    (folder / "etc/passwd").write_bytes(b"x:x:1:1::/:\n" * 200_000)
    with pytest.raises(ResourceExhausted):
        resolve("app", root)


def test_without_a_root_numbers_must_do() -> None:
    assert resolve("3:4", -1).gid == 4
    with pytest.raises(InvalidArgument):
        resolve("app", -1)
