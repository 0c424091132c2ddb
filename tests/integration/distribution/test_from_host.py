"""Images of host programs: complete enough to run in a chroot, and always the same."""

import subprocess
from pathlib import Path

import pytest

from sampan.distribution.from_host import Recipe, build_layout
from sampan.errors import InvalidArgument, NotFound
from sampan.testing import requires

PROGRAM = "import ssl, json, ctypes, sqlite3; print(sum(range(10)))"


@requires("root", "umoci", "busybox", "python3")
@pytest.mark.parametrize("split", [1, 2])
def test_programs_run_from_nothing_but_the_image(tmp_path: Path, split: int) -> None:
    groups = (("busybox", "sh"), ("/usr/bin/python3",))
    build_layout(tmp_path / "layout", Recipe(groups=groups, split=split))
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/layout:latest", f"{tmp_path}/bundle"],
        check=True,
        timeout=60,
        capture_output=True,
    )
    root = tmp_path / "bundle/rootfs"
    for argv, said in (
        (["/usr/bin/python3", "-c", PROGRAM], b"45\n"),
        (["/bin/sh", "-c", "busybox id -u"], b"0\n"),
    ):
        done = subprocess.run(
            ["/usr/sbin/chroot", str(root), *argv],
            check=True,
            capture_output=True,
            timeout=60,
            env={},
        )
        assert done.stdout == said
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert b"root:x:0:0" in (root / "etc/passwd").read_bytes()
    assert not (root / "etc/shadow").exists()


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_the_same_files_make_the_same_image(tmp_path: Path, compression: str) -> None:
    recipe = Recipe(groups=(("cat", "/usr/share/doc/base-files"),), compression=compression)
    made = [build_layout(tmp_path / str(n), recipe) for n in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize("path", ["/", "/proc/self", "/dev/null", "relative/path", "/sys"])
def test_paths_that_cannot_be_in_an_image(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidArgument):
        build_layout(tmp_path / "x", Recipe(groups=((path,),)))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    for path in ("/usr/bin/no-such-program", "no-such-program"):
        with pytest.raises(NotFound, match="no-such-program"):
            build_layout(tmp_path / path.strip("/"), Recipe(groups=((path,),)))
    with pytest.raises(InvalidArgument, match="at least one"):
        build_layout(tmp_path / "none", Recipe(groups=()))
