"""Messages of the zygote: what is packed comes out, anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.zygote.protocol import pack, unpack


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_round_trip(fields: list[bytes]) -> None:
    assert unpack(pack(*fields)) == fields


@given(st.binary(max_size=200))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    try:
        fields = unpack(data)
    except ValueError:
        return
    assert pack(*fields) == data


def test_cut_off_message_is_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        unpack(pack(b"abc")[:-1])
