"""What a mount says of the mounts before it."""

from __future__ import annotations

import pytest

from sampan.errors import Unknown
from sampan.model.mounts import Mount
from sampan.runtime.mounting import ActiveMount
from sampan.runtime.mounting.templates import filled

ACTIVE = [
    ActiveMount(Mount("loop", "/img", "/t"), "/m/2", 0),
    ActiveMount(Mount("xfs", "/dev/x"), "/m/1", 0),
]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("{{ mount 0 }}", "/m/2"),
        ("{{mount 1}}", "/m/1"),
        ("{{- mount 1 -}}", "/m/1"),
        ("{{ source 0 }}{{ target 0 }}", "/img/t"),
        ("lowerdir={{ overlay 0 1 }}", "lowerdir=/m/2:/m/1"),
        ("{{ overlay 1 0 }}", "/m/1:/m/2"),
        ("{{ overlay 1 1 }}", "/m/1"),
        ("a{b}c", "a{b}c"),
    ],
)
def test_texts(text: str, value: str) -> None:
    assert filled(Mount("t", text), ACTIVE).source == value


def test_every_field_is_filled() -> None:
    done = filled(Mount("t", "{{ mount 0 }}", "{{ mount 1 }}", ("a", "b={{ mount 0 }}")), ACTIVE)
    assert done == Mount("t", "/m/2", "/m/1", ("a", "b=/m/2"))


@pytest.mark.parametrize(
    "text",
    [
        *("{{ mount 2 }}", "{{ mount }}", "{{ mount x }}", "{{ mount -1 }}", "{{ mount 0", "{{ }}"),
        *("{{ nothing 0 }}", "{{ overlay 0 }}", "{{ overlay 0 5 }}", "{{ mount 0 1 }}"),
        "{{ mount 99999 }}",
    ],
)
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(Unknown):
        filled(Mount("t", text), ACTIVE)
