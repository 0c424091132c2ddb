import msgspec
import pytest

from sampan.errors import InvalidArgument
from sampan.model import descriptor as d
from sampan.model.digest import of_bytes

GOOD = {"mediaType": d.OCI_LAYER_GZIP, "digest": of_bytes(b""), "size": 0}


def decode(**changed: object) -> d.Descriptor:
    return msgspec.json.decode(msgspec.json.encode(GOOD | changed), type=d.Descriptor)


def test_round_trip_keeps_platform_words() -> None:
    platform = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1"}
    found = decode(platform=platform, annotations={"a": "b"})
    assert found.platform is not None
    assert found.platform.os_version == "10.0.1"
    again = msgspec.json.decode(msgspec.json.encode(found))
    assert again == GOOD | {"platform": platform, "annotations": {"a": "b"}}


@pytest.mark.parametrize(
    "changed",
    [
        {"size": -1},
        {"size": 1 << 63},
        {"size": "1"},
        {"size": 1.5},
        {"digest": "sha256:x"},
        {"mediaType": None},
        {"urls": "x"},
    ],
)
def test_refused(changed: dict[str, object]) -> None:
    with pytest.raises((msgspec.ValidationError, InvalidArgument)):
        decode(**changed)


def test_layer_types() -> None:
    assert d.compression(d.OCI_LAYER) == ""
    assert d.compression(d.DOCKER_LAYER_GZIP) == "gzip"
    assert d.compression(d.OCI_LAYER_ZSTD) == "zstd"
    assert not d.is_layer("application/vnd.in-toto+json")
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    assert d.is_layer(foreign)
    assert d.is_foreign(foreign)
    assert not d.is_foreign(d.DOCKER_LAYER_GZIP)
