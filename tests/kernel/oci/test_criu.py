"""Checkpoints where criu and kernel may not get along: the container survives, the error says why.

The full tests are in tests/vm/oci/test_criu.py, on a kernel that Debian's criu knows.
"""

import os
import subprocess
from pathlib import Path

import pytest

from sampan import oci
from sampan.errors import InvalidArgument, Unimplemented
from sampan.oci.criu import CheckpointFailed, conversation, messages
from sampan.oci.criu.image import read_descriptors, read_external_files
from sampan.testing import Bundle, Runtime, requires

WORKS = subprocess.run(["criu", "check"], capture_output=True).returncode == 0 if os.path.exists(
    "/usr/sbin/criu"
) else False  # fmt: skip


@requires("root", "busybox", "criu")
def test_a_refusal_says_why_and_leaves_it_running(
    make_runtime: object, bundle: Bundle, short_path: Path
) -> None:
    runtime: Runtime = make_runtime("sampan-exec")  # type: ignore[operator]
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    image = short_path / "image"
    result = runtime.call("checkpoint", "--image-path", str(image), name, timeout_s=60)
    if WORKS:
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 1
    assert "criu" in result.stderr
    assert runtime.state(name)["status"] == "running"
    runtime.delete(name, force=True)


def test_criu_may_be_missing() -> None:
    with pytest.raises(Unimplemented, match="/not/there"):
        conversation.Criu("/not/there")


@requires("root")
def test_a_program_that_is_not_criu(short_path: Path) -> None:
    with conversation.Criu("/bin/true") as criu, pytest.raises(CheckpointFailed, match="ended"):
        criu.require(messages.Features(mem_track=True))


def test_the_reasons_are_the_last_errors(short_path: Path) -> None:
    log = short_path / "dump.log"
    log.write_text(
        "(00.1) Error (criu/a.c:1): kerndat: probing\n"
        "(00.2) sockets: Sockects collect procedure family AF_PACKET proto IPPROTO_IP: -2\n"
        "(00.3) Error (criu/b.c:2): one\n(00.4) Error (criu/b.c:3): two\n"
        "(00.5) Error (criu/b.c:4): three\n(00.6) Error (criu/c.c:5): Dumping FAILED.\n"
    )
    text = str(conversation.failure("checkpoint c1", str(log)))
    assert "one; two; three" in text
    assert "probing" not in text
    assert str(log) in text
    log.write_text(
        "(00.2) sockets: Sockects collect procedure family AF_PACKET proto IPPROTO_IP: -2\n"
        "(00.6) Error (criu/c.c:5): Dumping FAILED.\n"
    )
    assert "no socket diagnostics for AF_PACKET" in str(conversation.failure("x", str(log)))


@pytest.mark.parametrize("text", ["{}", "[1]", "nothing", ""])
def test_images_are_not_believed(short_path: Path, text: str) -> None:
    (short_path / "descriptors.json").write_text(text)
    with pytest.raises(InvalidArgument):
        read_descriptors(str(short_path))
    (short_path / "sampan.json").write_text(text)
    if text != "{}":
        with pytest.raises(InvalidArgument):
            read_external_files(str(short_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manage_cgroups_mode": "odd"}, "manage-cgroups-mode"),
        ({"empty_ns": ["pid"]}, "empty-ns"),
    ],
)
def test_options_are_checked(change: dict[str, object], words: str, short_path: Path) -> None:
    from sampan.oci.criu.dump import common_options

    options = oci.CheckpointOptions(str(short_path), **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=words):
        common_options(options, [0], "log")
