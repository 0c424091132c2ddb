"""Values, and what their errors say."""

import pytest

from sampan.errors import DeadlineExceeded, InvalidArgument, SampanError
from sampan.sandbox.values import CalledProcessError, Completed, Mount, TimeoutExpired, parse_bytes


@pytest.mark.parametrize(
    ("text", "number"),
    [(None, 0), (5, 5), ("512M", 512 << 20), ("1.5g", 3 << 29), ("10kb", 10240), ("1GiB", 1 << 30)],
)
def test_sizes(text: int | str | None, number: int) -> None:
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "x", "-1", "1e3", "\uff11"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no size"):
        parse_bytes(text)
    with pytest.raises(InvalidArgument, match="no size"):
        parse_bytes(-1)


def test_errors_are_in_the_one_tree() -> None:
    late = TimeoutExpired(("sleep", "9"), 1.5, b"out", b"err")
    assert isinstance(late, DeadlineExceeded)
    assert str(late) == "sleep 9 did not end within 1.5 s and was killed: give it longer"
    failed = CalledProcessError(Completed(("ls", "a b"), 2, b"", b"one\nno such file\n"))
    assert isinstance(failed, SampanError)
    assert str(failed) == "ls 'a b' ended with status 2: no such file"
    with pytest.raises(CalledProcessError):
        failed.completed.check_returncode()
    Completed(("true",), 0).check_returncode()


def test_mounts_as_text() -> None:
    assert Mount.parse("/a:/b:ro") == Mount("/a", "/b", read_only=True)
    assert Mount.parse("/a:/b") == Mount("/a", "/b")
    for text in ("/a", "/a:/b:rx", "a:b:c:d"):
        with pytest.raises(InvalidArgument, match="HOST:TARGET"):
            Mount.parse(text)


def test_text_is_never_an_error() -> None:
    assert Completed(("x",), 0, b"a\xff").text == "a\ufffd"
