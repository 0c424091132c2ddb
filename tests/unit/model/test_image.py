"""Documents as registries really send them, and as nobody honest would."""

import hashlib
import json
from typing import Any

import pytest

from sampan.errors import InvalidArgument, ResourceExhausted, SampanError, Unimplemented
from sampan.model import image
from sampan.model.descriptor import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from sampan.model.digest import Digest, of_bytes

A, B = of_bytes(b"a"), of_bytes(b"b")
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": {"mediaType": OCI_CONFIG, "digest": A, "size": 1},
    "layers": [{"mediaType": OCI_LAYER_GZIP, "digest": B, "size": 1}],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "manifests": [
        {
            "mediaType": OCI_MANIFEST,
            "digest": A,
            "size": 1,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
    ],
}


def to_bytes(document: object) -> bytes:
    return json.dumps(document).encode()


def test_manifest() -> None:
    found = image.decode(to_bytes(MANIFEST), OCI_MANIFEST)
    assert isinstance(found, image.Manifest)
    assert found.is_image
    assert found.layers[0].digest == B
    assert image.decode(image.encode(found), OCI_MANIFEST) == found


def test_index_without_media_type_inside_is_what_the_header_says() -> None:
    for media_type in (OCI_INDEX, DOCKER_INDEX):
        found = image.decode(to_bytes(INDEX), media_type)
        assert isinstance(found, image.Index)
    assert image.media_type_of(to_bytes(INDEX)) == OCI_INDEX
    assert image.media_type_of(to_bytes(MANIFEST)) == OCI_MANIFEST


@pytest.mark.parametrize(
    ("document", "media_type", "message"),
    [
        (MANIFEST, OCI_INDEX, "must not have 'layers'"),
        (INDEX, OCI_MANIFEST, "must not have 'manifests'"),
        (MANIFEST | {"manifests": []}, OCI_MANIFEST, "must not have 'manifests'"),
        (INDEX | {"layers": []}, OCI_INDEX, "must not have 'layers'"),
        (INDEX | {"config": {}}, OCI_INDEX, "must not have 'config'"),
        (MANIFEST | {"Manifests": []}, OCI_MANIFEST, "case only"),
        (MANIFEST | {"LAYERS": []}, OCI_MANIFEST, "case only"),
        (MANIFEST, DOCKER_MANIFEST, "says it is"),
        (MANIFEST | {"schemaVersion": 1}, OCI_MANIFEST, "schemaVersion"),
        (MANIFEST | {"mediaType": 5}, OCI_MANIFEST, "mediaType"),
        (MANIFEST | {"layers": 1001 * MANIFEST["layers"]}, OCI_MANIFEST, "1001 layers"),
        (MANIFEST | {"config": {"mediaType": "x", "digest": "y", "size": 1}}, OCI_MANIFEST, "dig"),
        ([], OCI_MANIFEST, "object"),
        ({}, OCI_MANIFEST, "missing"),
    ],
)
def test_ambiguous_and_wrong_documents(document: object, media_type: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        image.decode(to_bytes(document), media_type)


def test_other_types() -> None:
    with pytest.raises(Unimplemented, match="schema 1"):
        image.decode(b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    with pytest.raises(Unimplemented, match="neither"):
        image.decode(b"{}", "text/html")
    with pytest.raises(InvalidArgument, match="neither"):
        image.media_type_of(b"{}")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"schemaVersion":2', b"null"])
def test_no_json(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        image.decode(data, OCI_MANIFEST)


def test_caps() -> None:
    with pytest.raises(ResourceExhausted, match="is the most"):
        image.decode(b" " * (image.MANIFEST_MAX + 1), OCI_MANIFEST)
    for opening in (b"[", b'{"a":'):
        with pytest.raises(ResourceExhausted, match="deep"):
            image.decode(opening * 100_000, OCI_MANIFEST)
        with pytest.raises(SampanError):
            image.decode_config(opening * 1_000_000)


def test_brackets_in_strings_do_not_count() -> None:
    value = 100 * '[{\\"'
    document = MANIFEST | {"annotations": {"k": value, "l": 'a"' + 100 * "["}}
    found = image.decode(to_bytes(document), OCI_MANIFEST)
    assert found.annotations is not None
    assert found.annotations["k"] == value


def test_config_as_docker_writes_it() -> None:
    document = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "os.version": "1",
        "container_config": {"Cmd": None, "Image": "x"},
        "config": {
            "Cmd": ["sh"],
            "Entrypoint": None,
            "Env": ["A=b"],
            "OnBuild": None,
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"a": "b", "containerd.io/restart.loguri": "binary:///bin/sh"},
        },
        "rootfs": {"type": "layers", "diff_ids": [A, B]},
        "history": [{"created_by": "x", "empty_layer": True}],
    }
    found = image.decode_config(to_bytes(document))
    assert found.config is not None
    assert (found.config.cmd, found.config.entrypoint) == (("sh",), None)
    assert image.safe_labels(found.config.labels) == {"a": "b"}
    assert str(found.platform) == "linux/arm64/v8"
    assert found.platform.os_version == "1"
    assert json.loads(image.encode(found))["config"]["Cmd"] == ["sh"]


def test_reserved_labels_are_dropped_however_they_are_spelt() -> None:
    hostile = {
        "containerd.io/gc.root": "1",
        " Containerd.io/restart.policy": "always",
        "io.cri-containerd.kind": "container",
        "io.cri-containerd/x": "y",
    }
    assert image.safe_labels(hostile | {"org.containerd.io/x": "kept"}) == {
        "org.containerd.io/x": "kept"
    }
    assert image.safe_labels(None) == {}


def test_hostile_configs() -> None:
    for rootfs in ({"type": "other", "diff_ids": []}, {"type": "layers", "diff_ids": ["../x"]}):
        with pytest.raises(InvalidArgument):
            image.decode_config(to_bytes({"rootfs": rootfs}))
    with pytest.raises(ResourceExhausted):
        image.decode_config(b" " * (image.CONFIG_MAX + 1))


def test_chain_ids_are_the_specifications() -> None:
    two = hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert image.chain_ids([A, B]) == [A, f"sha256:{two}"]
    assert image.chain_id([A, B]) == f"sha256:{two}"
    three = hashlib.sha256(f"sha256:{two} {A}".encode()).hexdigest()
    assert image.chain_id([A, B, Digest(A)]) == f"sha256:{three}"
    assert image.chain_id([]) == ""
