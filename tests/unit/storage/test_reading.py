"""Names of entries, which are content: components, or a refusal."""

import pytest

from sampan.errors import InvalidArgument
from sampan.storage.diff.reading import name_parts


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (b"a/b", [b"a", b"b"]),
        (b"/a//./b/", [b"a", b"b"]),
        (b"./", []),
        (b"", []),
        (b"..a/...", [b"..a", b"..."]),
    ],
)
def test_components(name: bytes, parts: list[bytes]) -> None:
    assert name_parts(name) == parts


@pytest.mark.parametrize("name", [b"..", b"a/../b", b"/..", b"a/.."])
def test_no_name_leads_upwards(name: bytes) -> None:
    with pytest.raises(InvalidArgument, match="leaves the root"):
        name_parts(name)
