"""`--require-all`: which skips it lets pass, and how it fails the others."""

import subprocess
import sys
from pathlib import Path

import pytest

from sampan.testing.skips import AllowedSkips


def test_a_line_allows_by_test_and_reason(tmp_path: Path) -> None:
    listed = tmp_path / "allowed"
    listed.write_text("# a comment\n\ntests/a.py::* | no zfs | Debian main has none\n")
    allowed = AllowedSkips.read(listed)
    assert allowed.allows("tests/a.py::test_x", "needs fs: no zfs")
    assert not allowed.allows("tests/a.py::test_x", "needs root")
    assert not allowed.allows("tests/b.py::test_x", "no zfs")


def test_a_line_without_a_reason_is_refused(tmp_path: Path) -> None:
    listed = tmp_path / "allowed"
    listed.write_text("tests/a.py::* | no zfs\n")
    with pytest.raises(pytest.UsageError, match="allowed:1: want"):
        AllowedSkips.read(listed)


@pytest.mark.parametrize(
    ("allow", "ending"),
    [("", "1 error"), ("*::test_it | no-such-command | a trial", "1 skipped")],
)
def test_require_all(tmp_path: Path, allow: str, ending: str) -> None:
    (tmp_path / "test_one.py").write_text(
        "from sampan.testing import requires\n@requires('no-such-command')\ndef test_it(): pass\n"
    )
    (tmp_path / "allowed").write_text(allow)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "sampan.testing.plugin",
         "-p", "no:cacheprovider", "--rootdir", tmp_path, "-c", "/dev/null",
         "--require-all", tmp_path / "allowed", tmp_path],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ending in result.stdout, result.stdout
