"""System call numbers, against the headers that are installed."""

import re
from pathlib import Path

import pytest

from sampan.linux import _libc

HEADERS = {
    0: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    1: Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("column", HEADERS)
def test_numbers_are_those_of_the_headers(column: int) -> None:
    if not HEADERS[column].exists():
        pytest.skip(f"{HEADERS[column]} is not installed")
    defined = dict(
        re.findall(r"#define __NR3?2?_?(?:3264_)?(\w+) (\d+)", HEADERS[column].read_text())
    )
    wrong = {
        name: (numbers[column], int(defined[name]))
        for name, numbers in _libc._TABLE.items()
        if name in defined and int(defined[name]) != numbers[column]
    }
    assert wrong == {}
    assert len(set(_libc._TABLE) & set(defined)) > 40


def test_error_names_call_and_path() -> None:
    openat2 = _libc.by_number("openat2", 4)
    with pytest.raises(FileNotFoundError, match=r"openat2: No such file") as caught:
        _libc.check(openat2(-100, b"/nowhere", bytes(24), 24), "openat2", "/nowhere")
    assert caught.value.filename == "/nowhere"
