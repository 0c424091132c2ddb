"""Hostile archives: each is refused with its reason, or applied inside the root alone."""

import gzip
import hashlib
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.testing import requires

pytestmark = requires("root")

Apply = Callable[..., dict[str, object]]
Tar = Callable[..., bytes]


@pytest.fixture
def canary(short_path: Path) -> Path:
    """A tree beside the target, which nothing may touch."""
    tree = short_path / "canary"
    tree.mkdir()
    (tree / "secret").write_text("host")
    (tree / "dir").mkdir(mode=0o700)
    (tree / "dir" / "file").write_text("host")
    return tree


@pytest.fixture
def target(short_path: Path) -> Path:
    folder = short_path / "target"
    folder.mkdir()
    return folder


def fingerprint(tree: Path) -> str:
    """Hash names, kinds, modes, owners, times, link counts and contents below `tree`."""
    seen = hashlib.sha256()
    for folder, folders, files in os.walk(tree):
        folders.sort()
        for name in (".", *sorted(folders), *sorted(files)):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            seen.update(
                repr(
                    (
                        path,
                        status.st_mode,
                        status.st_uid,
                        status.st_gid,
                        status.st_mtime_ns,
                        status.st_ctime_ns,
                        status.st_nlink,
                    )
                ).encode()
            )
            if name in files and not os.path.islink(path):
                seen.update(Path(path).read_bytes())
    return seen.hexdigest()


REFUSED: dict[str, tuple[list[tuple[object, ...]], str]] = {
    "dot dot": ([("../canary/secret", b"x")], "'..'"),
    "dot dot inside": ([("a/../../canary/secret", b"x")], "'..'"),
    "hard link out": ([("l", "link", {"linkname": "../canary/secret"})], "'..'"),
    "hard link to the root": ([("l", "link", {"linkname": "/"})], "root"),
    "hard link to nothing": ([("l", "link", {"linkname": "none"})], "not there"),
    "hard link to a folder": (
        [("d", "dir"), ("l", "link", {"linkname": "d"})],
        "folder",
    ),
    "path through a file": ([("f", b"x"), ("f/g", b"x")], "no folder"),
    "whiteout of dot dot": ([(".wh...", b"")], "whiteout of nothing"),
    "whiteout of dot": ([("d", "dir"), ("d/.wh..", b"")], "whiteout of nothing"),
    "whiteout as a folder": ([(".wh.a/b", b"")], "whiteout as a folder"),
    "whiteout as a device": ([("w", "char", {"devmajor": 0, "devminor": 0})], "whiteout"),
    "device out of range": ([("w", "char", {"devmajor": 4096, "devminor": 0})], "range"),
    "long component": ([("x" * 300, b"x")], "cannot exist"),
    "long path": ([("/".join(["y" * 200] * 30), b"x")], "4095"),
}


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(
    case: str, overlay: bool, apply: Apply, tar: Tar, target: Path, canary: Path
) -> None:
    members, reason = REFUSED[case]
    before = fingerprint(canary)
    answer = apply(tar(*members), target, overlay=overlay)
    assert reason in str(answer.get("message")), answer
    assert fingerprint(canary) == before


def test_confined_even_when_links_lead_out(
    apply: Apply, tar: Tar, target: Path, canary: Path
) -> None:
    before = fingerprint(canary)
    answer = apply(
        tar(
            ("abs", "symlink", {"linkname": str(canary)}),
            ("rel", "symlink", {"linkname": "../canary"}),
            ("up", "symlink", {"linkname": "../../../../../../.."}),
            (f"up/{str(canary)[1:]}/secret", b"pwned"),
            ("/absolute", b"x"),
            ("file", "symlink", {"linkname": str(canary / "secret")}),
            ("file", b"replaced"),
            ("dir", "symlink", {"linkname": str(canary / "dir")}),
            ("dir", "dir", {"mode": 0o777}),
            ("hard", "link", {"linkname": "abs"}),
        ),
        target,
    )
    assert "error" not in answer
    assert fingerprint(canary) == before
    assert (target / "absolute").read_text() == "x"
    assert (target / "file").read_text() == "replaced"
    assert not (target / "dir").is_symlink()
    assert (target / str(canary)[1:] / "secret").read_text() == "pwned"


def test_names_of_other_case_and_encoding_are_other_names(
    apply: Apply, tar: Tar, target: Path
) -> None:
    names = ["a", "A", "\u00e9", "e\u0301", "\udcff", "new\nline", "\u202e"]
    assert "error" not in apply(
        tar(*[(name, name.encode(errors="replace")) for name in names]), target
    )
    assert {os.fsencode(name) for name in os.listdir(target)} == {os.fsencode(n) for n in names}


def test_overlay_attributes_are_dropped(apply: Apply, tar: Tar, target: Path) -> None:
    hostile = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.metacopy": "y",
        "SCHILY.xattr.trusted.mine": "kept",
    }
    assert "error" not in apply(tar(("f", b"x", {"pax_headers": hostile})), target, overlay=True)
    assert os.listxattr(target / "f") == ["trusted.mine"]


def _checksummed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_huge_headers(apply: Apply, tar: Tar, target: Path) -> None:
    block = bytearray(tar(("x", b""))[:512])
    for kind in b"xgLK":
        block[156] = kind
        for size in (b"77777777777\0", b"\x80" + struct.pack(">3xQ", 1 << 62)):
            block[124:136] = size
            answer = apply(_checksummed(block), target)
            assert answer["error"] == "ResourceExhausted", (kind, answer)
    block[156] = ord("0")
    block[124:136] = b"\xff" * 12
    assert "range" in str(apply(_checksummed(block), target)["message"])


def test_sparse_bombs(apply: Apply, tar: Tar, target: Path) -> None:
    many = ",".join(["0,0"] * 70_000)
    bomb = {"GNU.sparse.map": many, "GNU.sparse.size": "10"}
    assert "error" in apply(tar(("s", b"", {"pax_headers": bomb})), target)
    for text in ("0,5,3,5", "9,10", "-1,2", "1", "1,1_0"):
        wrong = {"GNU.sparse.map": text, "GNU.sparse.size": "10"}
        assert "error" in apply(tar(("s", b"0123456789", {"pax_headers": wrong})), target), text
    big = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 50)}
    assert apply(tar(("s", b"x", {"pax_headers": big})), target)["error"] == "ResourceExhausted"
    lines = b"999999999999\n".ljust(512, b"0")
    v1 = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"}
    answer = apply(tar(("s", lines, {"pax_headers": v1})), target)
    assert answer["error"] == "ResourceExhausted"


def test_compression_bomb(apply: Apply, tar: Tar, target: Path) -> None:
    bomb = gzip.compress(tar(("zeros", bytes(64 << 20))))
    caps = {"ratio_from": 1 << 20, "ratio": 100}
    answer = apply(bomb, target, compression="gzip", caps=caps)
    assert (answer["error"], "1:100" in str(answer["message"])) == ("ResourceExhausted", True)


def test_truncated_anywhere(apply: Apply, tar: Tar, target: Path) -> None:
    whole = tar(("a", b"x" * 3000), ("b" * 200, b"y" * 700))
    for cut in (100, 600, 1500, 3600, 4700, 5300):
        answer = apply(whole[:cut], target)
        assert answer.get("error") == "InvalidArgument", (cut, answer)
    packed = gzip.compress(whole)
    assert "error" in apply(packed[:-20], target, compression="gzip")
    assert "error" in apply(packed + b"garbage", target, compression="gzip")


def test_deep_folders_can_be_replaced(apply: Apply, tar: Tar, target: Path) -> None:
    deep = "d/" * 1500 + "f"
    assert "error" not in apply(tar((deep, b"x"), ("d", b"now a file")), target)
    assert (target / "d").read_bytes() == b"now a file"


def test_random_mutations(apply: Apply, tar: Tar, target: Path, canary: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    choose = random.Random(seed)
    rounds = 2000 if os.environ.get("SAMPAN_SOAK") else 25
    before = fingerprint(canary)
    source = tar(
        ("d", "dir"),
        ("d/f", b"x" * 1000),
        ("l", "symlink", {"linkname": "../canary"}),
        ("h", "link", {"linkname": "d/f"}),
        ("d/.wh.g", b""),
        ("n" * 150, b"long", {"pax_headers": {"SCHILY.xattr.user.a": "b"}}),
    )
    for number in range(rounds):
        data = bytearray(source)
        for _ in range(choose.randint(1, 4)):
            at = choose.randrange(len(data) // 512 - 2) * 512
            if choose.random() < 0.5:
                data[at + choose.randrange(512)] = choose.randrange(256)
            else:
                other = choose.randrange(len(data) // 512 - 2) * 512
                data[at : at + 512] = data[other : other + 512]
            if data[at + 257 : at + 262] == b"ustar":
                data[at : at + 512] = _checksummed(data[at : at + 512])
        folder = target / str(number)
        folder.mkdir()
        apply(bytes(data), folder, overlay=choose.random() < 0.5)
        assert fingerprint(canary) == before
