"""Which file a name means, and the words when it means none."""

import os
from pathlib import Path

import pytest

from sampan.oci.init.program import ExecFailed, find


def test_the_first_that_may_be_executed(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text("x")
    (tmp_path / "two/tool").chmod(0o755)
    (tmp_path / "one/tool").chmod(0o755)
    search = os.fsencode(f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two")
    assert find(b"tool", search) == os.fsencode(tmp_path / "one/tool")


@pytest.mark.parametrize(
    ("name", "words", "code"),
    [
        (b"nosuch", "executable file not found in $PATH", 127),
        (b"/no/such", "no such file or directory", 127),
        (b"./", "is a directory", 126),
    ],
)
def test_words_and_codes_are_runcs(name: bytes, words: str, code: int) -> None:
    with pytest.raises(ExecFailed, match=words.replace("$", r"\$")) as caught:
        find(name, b"/nowhere")
    assert caught.value.code == code
