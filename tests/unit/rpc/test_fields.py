"""Fields of a message: what is sent, and what is left out."""

import pytest

from sampan.rpc import fields
from sampan.rpc.wire import Message


class Sample(Message, name="test.Sample"):
    number: int = fields.int32(1)
    words: list[str] = fields.repeated(fields.string(2))
    many: list[int] = fields.repeated(fields.uint32(3))
    pairs: dict[str, int] = fields.mapping(4, fields.string(1), fields.int32(2))
    maybe: int | None = fields.optional(fields.int32(5))


def test_zero_is_not_sent_but_an_optional_zero_is() -> None:
    assert bytes(Sample(number=0)) == b""
    assert bytes(Sample(maybe=0)) == b"\x28\x00"
    assert Sample.decode(b"").maybe is None
    assert Sample.decode(b"\x28\x00").maybe == 0


def test_numbers_are_packed_and_strings_are_not() -> None:
    assert bytes(Sample(many=[1, 2])) == b"\x1a\x02\x01\x02"
    assert bytes(Sample(words=["a", "b"])) == b"\x12\x01a\x12\x01b"
    # Both forms of a repeated number are read.
    assert Sample.decode(b"\x18\x01\x1a\x02\x02\x03").many == [1, 2, 3]


def test_maps_are_sent_in_the_order_of_their_keys() -> None:
    data = bytes(Sample(pairs={"b": 2, "a": 1}))
    assert data == b"\x22\x05\x0a\x01a\x10\x01\x22\x05\x0a\x01b\x10\x02"
    assert Sample.decode(data).pairs == {"a": 1, "b": 2}


def test_two_fields_of_one_number_are_no_message() -> None:
    with pytest.raises(TypeError, match="share a number"):

        class Bad(Message):
            a: int = fields.int32(1)
            b: int = fields.int32(1)
