"""What an Any of a transfer names."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.types.platform_pb2 import Platform
from sampan.api.containerd.types.transfer.registry_pb2 import OCIRegistry
from sampan.errors import InvalidArgument, Unknown
from sampan.model.platform import default
from sampan.services.transfer.places import matchers, place_of, platform_of

NAME = "containerd.types.transfer.OCIRegistry"


def test_type_urls_with_and_without_a_host() -> None:
    place = OCIRegistry(reference="a.b/c:1")
    for url in (NAME, f"types.containerd.io/{NAME}", f"type.googleapis.com/{NAME}"):
        message = AnyMessage(type_url=url, value=place.SerializeToString())
        assert place_of(message) == place


def test_what_is_no_place() -> None:
    with pytest.raises(Unknown, match=r"no\.such/Type"):
        place_of(AnyMessage(type_url="no.such/Type"))
    with pytest.raises(InvalidArgument):
        place_of(AnyMessage(type_url=NAME, value=b"\xff"))


def test_platforms() -> None:
    assert platform_of(Platform()) == default()
    arm = Platform(os="linux", architecture="arm", variant="v7")
    (matcher,) = matchers([arm])
    assert matcher.match(platform_of(arm))
    assert not matcher.match(platform_of(Platform(os="linux", architecture="amd64")))
