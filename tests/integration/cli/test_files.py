"""`cp`, `diff`, `export` and `commit`: files of containers that run, and of those that do not."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from .conftest import Sampan


@pytest.fixture(params=["running", "created"])
def box(request: pytest.FixtureRequest, sampan: Sampan, small: str) -> str:
    verb = ("run", "-d") if request.param == "running" else ("create",)
    sampan(*verb, "--name", "box", "--network", "none", small, "sleep", "600").ok()
    return "box"


def test_files_and_folders_go_in_and_come_out(sampan: Sampan, box: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("inside\n")
    (tree / "link").symlink_to("deep/file")
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o755)
    sampan("cp", str(tree), f"{box}:/opt").ok()
    sampan("cp", str(tree), f"{box}:/opt").ok()
    sampan("cp", f"{tree}/.", f"{box}:/plain").ok()
    sampan("cp", str(tree / "tool"), f"{box}:/etc/").ok()
    out = tmp_path / "out"
    out.mkdir()
    sampan("cp", f"{box}:/opt", str(out)).ok()
    assert (out / "opt/deep/file").read_text() == "inside\n"
    assert os.readlink(out / "opt/link") == "deep/file"
    assert (out / "opt/tool").stat().st_mode & 0o777 == 0o755
    assert (out / "opt/tree/deep/file").exists(), "into a folder that was there the second time"
    sampan("cp", f"{box}:/plain/deep/file", str(out / "single")).ok()
    assert (out / "single").read_text() == "inside\n"
    sampan("cp", f"{box}:/etc/tool", str(out)).ok()
    assert (out / "tool").exists()


def test_bad_copies_are_one_sentence(sampan: Sampan, box: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for bad in (
        (f"{box}:/none", str(tmp_path)), ("/none", f"{box}:/x"), ("/etc/passwd", "/tmp/x"),
        (f"{box}:/etc/passwd", f"{box}:/x"), ("nobody:/etc", str(tmp_path)), ("-", f"{box}:/x"),
        (str(tmp_path / "f"), f"{box}:/none/"), (f"{box}:/etc/passwd", f"{tmp_path}/none/"),
    ):  # fmt: skip
        done = sampan("cp", *bad)
        assert (done.status, done.stderr.count("\n")) == (1, 1), (bad, done)


def test_a_link_of_the_container_leads_nowhere_else(sampan: Sampan, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's\n")
    script = f"ln -s {secret} /usr/out; ln -s / /usr/root; sleep 600"
    sampan("run", "-d", "--name", "box", "host:", "sh", "-c", script).ok()
    assert sampan("cp", "box:/usr/out", str(tmp_path / "copy")).status == 1
    assert not (tmp_path / "copy").exists()
    (tmp_path / "new").write_text("changed")
    sampan("cp", str(tmp_path / "new"), f"box:/usr/root{secret}")
    assert secret.read_text() == "the host's\n"


def test_what_was_changed_exported_and_committed(
    sampan: Sampan, box: str, tmp_path: Path, small: str
) -> None:
    (tmp_path / "new").write_text("kept\n")
    sampan("cp", str(tmp_path / "new"), f"{box}:/new").ok()
    sampan("cp", str(tmp_path / "new"), f"{box}:/etc/group").ok()
    assert {"A /new", "C /etc/group"} <= set(sampan("diff", box).ok().splitlines())
    archive = tmp_path / "root.tar"
    sampan("export", "-o", str(archive), box).ok()
    with tarfile.open(archive) as tar:
        assert {"new", "etc/group"} <= set(tar.getnames())
    flags = ("-m", "why", "-a", "who", "-c", 'CMD ["cat", "/new"]', "-c", "ENV A=b C=d")
    more = ("-c", "LABEL x=y", "-c", "WORKDIR /etc", "-c", "USER 7")
    assert sampan("commit", *flags, *more, box, "t/made:2").ok().startswith("sha256:")
    assert sampan("run", "--rm", "--network", "none", "t/made:2").ok() == "kept\n"
    config = json.loads(sampan("image", "inspect", "t/made:2").ok())[0]["Config"]
    assert {"A=b", "C=d"} <= set(config["Env"])
    history = sampan("history", "--format", "{{.CreatedBy}} {{.Comment}}", "t/made:2").ok()
    assert history.splitlines()[0] == "sampan commit why"
    assert sampan("commit", "-c", "FLY away", box, "t/made:3").status == 1


def test_host_is_no_image_to_commit(sampan: Sampan) -> None:
    sampan("create", "--name", "box", "host:", "true").ok()
    done = sampan("commit", "box", "t/x:1")
    assert (done.status, done.stderr.count("\n")) == (1, 1)
