"""Values to messages and back: nothing is lost, nothing is made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from sampan.api.containerd.services.containers.v1 import containers_pb2
from sampan.api.containerd.services.images.v1 import images_pb2
from sampan.api.containerd.types.descriptor_pb2 import Descriptor as DescriptorMessage
from sampan.api.containerd.types.sandbox_pb2 import Sandbox as SandboxMessage
from sampan.errors import InvalidArgument
from sampan.metadata import Container, Runtime, Sandbox
from sampan.model.descriptor import Descriptor
from sampan.model.digest import Digest
from sampan.model.mounts import Mount
from sampan.model.opaque import Opaque
from sampan.runtime.mounting import Activation, ActiveMount
from sampan.services import convert
from sampan.services.containers.convert import container_from, container_of
from sampan.services.mounts.convert import activation_from, activation_of
from sampan.services.sandboxes.convert import sandbox_from, sandbox_of

DIGEST = Digest("sha256:" + "1" * 64)


def test_times_are_utc_whatever_the_zone() -> None:
    there = datetime(2026, 1, 2, 3, 4, 5, 6000, timezone(timedelta(hours=5)))
    message = convert.timestamp(there)
    assert message is not None
    assert message.ToDatetime(UTC) == there
    assert convert.timestamp(None) is None
    assert convert.timestamp_ns(1_500_000_001).nanos == 500_000_001


def test_any_is_unset_where_there_is_nothing() -> None:
    assert convert.any_from(None) is None
    assert convert.any_from(Opaque("", b"")) is None
    assert convert.any_from(Opaque("u", b"")) == AnyMessage(type_url="u")
    message = containers_pb2.Container()
    assert convert.any_or_none(message, "spec") is None
    message.spec.type_url = "u"
    assert convert.any_or_none(message, "spec") == Opaque("u", b"")


def test_descriptors() -> None:
    value = Descriptor(media_type="m", digest=DIGEST, size=3, annotations={"a": "b"})
    assert convert.descriptor_of(convert.descriptor_from(value)) == value
    with pytest.raises(InvalidArgument):
        convert.descriptor_of(DescriptorMessage(media_type="m", digest="sha256:xyz", size=1))


def test_mounts_keep_their_order() -> None:
    mounts = [Mount("overlay", "o", "/x", ("b", "a")), Mount("bind", "/s")]
    assert convert.mounts_of(convert.mounts_from(mounts)) == mounts


def test_masks() -> None:
    request = images_pb2.UpdateImageRequest()
    assert convert.mask_of(request) == ()
    request.update_mask.paths.extend(["labels.a.b/c", "target"])
    assert convert.mask_of(request) == ("labels.a.b/c", "target")


def test_containers_pass_byte_for_byte() -> None:
    value = Container(
        id="c",
        image="i",
        runtime=Runtime("r", Opaque("t", b"\0\xff")),
        spec=Opaque("s", b"{}"),
        snapshotter="n",
        snapshot_key="k",
        sandbox_id="p",
        labels={"a": "b"},
        extensions={"e": Opaque("u", b"\1"), "empty": Opaque("", b"")},
    )
    back = container_of(container_from(value))
    assert back == value
    assert container_from(Container(id="c")).HasField("spec") is False


def test_sandboxes_pass_byte_for_byte() -> None:
    value = Sandbox(
        id="s",
        sandboxer="shim",
        runtime=Runtime("r", None),
        spec=Opaque("t", b"x"),
        labels={"a": "b"},
        extensions={"e": Opaque("u", b"")},
    )
    assert sandbox_of(sandbox_from(value)) == value
    assert sandbox_of(SandboxMessage(sandbox_id="s")).runtime == Runtime("", None)


def test_activations() -> None:
    value = Activation(
        "n",
        [ActiveMount(Mount("loop", "/i"), "/p/1", 1_000_000_002)],
        [Mount("xfs", "/p/1")],
        {"a": "b"},
    )
    assert activation_of(activation_from(value)) == value
