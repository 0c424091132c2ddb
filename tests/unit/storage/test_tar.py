"""The tar format alone: what the writer makes, the parser reads; numbers are digits."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, SampanError
from sampan.storage.tar import CHAR_DEVICE, DIRECTORY, FIFO, FILE, SYMLINK, Caps, Entry, pax
from sampan.storage.tar.numbers import decimal, field, nanoseconds
from sampan.storage.tar.parser import END, Parser
from sampan.storage.tar.writer import END_OF_ARCHIVE, header

NAME = st.binary(min_size=1, max_size=300).filter(lambda one: b"\0" not in one)


def parse(data: bytes) -> list[Entry]:
    parser, found, at = Parser(Caps()), [], 0
    while at < len(data):
        step = parser.block(data[at : at + 512])
        at += 512
        if step is END:
            break
        if isinstance(step, Entry):
            found.append(step)
        elif isinstance(step, int):
            parser.payload(data[at : at + step])
            at += step
    return found


@given(
    name=NAME,
    link=NAME,
    kind=st.sampled_from([FILE, DIRECTORY, SYMLINK, FIFO, CHAR_DEVICE]),
    mode=st.integers(0, 0o7777),
    ids=st.tuples(st.integers(0, (1 << 32) - 2), st.integers(0, (1 << 32) - 2)),
    mtime_ns=st.integers(-(1 << 60), 1 << 62),
    size=st.integers(0, 1 << 39),
    xattrs=st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda one: not set(one) & set(b"\0=")),
        st.binary(max_size=50),
        max_size=3,
    ),
)
def test_what_is_written_is_read(
    name: bytes,
    link: bytes,
    kind: int,
    mode: int,
    ids: tuple[int, int],
    mtime_ns: int,
    size: int,
    xattrs: dict[bytes, bytes],
) -> None:
    entry = Entry(
        name,
        kind,
        mode=mode,
        uid=ids[0],
        gid=ids[1],
        mtime_ns=mtime_ns,
        size=size if kind == FILE else 0,
        linkname=link if kind == SYMLINK else b"",
        major=7 if kind == CHAR_DEVICE else 0,
        xattrs=xattrs or None,
    )
    (found,) = parse(header(entry) + END_OF_ARCHIVE)
    for key in Entry.__slots__:
        assert getattr(found, key) == getattr(entry, key), key


@given(st.binary(max_size=4096))
def test_any_bytes_give_entries_or_a_reason(data: bytes) -> None:
    with suppress(SampanError):
        parse(data.ljust(-(-len(data) // 512) * 512, b"\0"))


@pytest.mark.parametrize(
    "text", [b"+1", b"-1", b"1_0", b" 1", b"1 ", b"0x1", b"", b"\xef\xbc\x91", b"1" * 30, b"1.0"]
)
def test_numbers_are_digits(text: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decimal(text, "number")


def test_header_fields() -> None:
    assert field(b"0000644\0", "mode") == 0o644
    assert field(b"   644 \0", "mode") == 0o644
    assert field(bytes(8), "mode") == 0
    assert field(b"\x80" + bytes(9) + b"\1\0", "size") == 256
    assert field(b"\xff" * 12, "mtime") == -1
    for wrong in (b"0000648\0", b"00_0644\0", b"-000644\0", b"0x00644\0"):
        with pytest.raises(InvalidArgument):
            field(wrong, "mode")


def test_times() -> None:
    assert nanoseconds(b"1.5") == 1_500_000_000
    assert nanoseconds(b"-1.000000001") == -1_000_000_001
    assert nanoseconds(b"1.1234567899") == 1_123_456_789
    assert nanoseconds(b"9" * 40) == (1 << 36) * 10**9
    for wrong in (b"", b".5", b"1e3", b"inf", b"1.-5", b"--1"):
        with pytest.raises(InvalidArgument):
            nanoseconds(wrong)


def test_pax_records() -> None:
    for size in (*range(80, 120), 980, 990, 1000):
        data = pax.record(b"k", b"v" * size)
        assert list(pax.records(data)) == [(b"k", b"v" * size)]
        assert int(data.split(b" ")[0]) == len(data)
    for wrong in (b"5 k=v", b"99 k=v\n", b"6k=v\n", b"6 kvv\n", b"-6 k=v\n", b"3 =\n", b"1 "):
        with pytest.raises(InvalidArgument):
            list(pax.records(wrong))
