"""Our codec against google.protobuf, byte for byte, for every message we have."""

import importlib
import pkgutil
from typing import Any as Untyped

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.rpc import messages, scalars, wire
from sampan.rpc.messages import bootstrap, cgroups2, sandbox, task
from sampan.rpc.messages.wellknown import Any, Timestamp
from sampan.rpc.wire import DecodeError, Message

KINDS = {
    id(scalars.UINT64): "UINT64", id(scalars.UINT32): "UINT32", id(scalars.INT64): "INT64",
    id(scalars.INT32): "INT32", id(scalars.SINT64): "SINT64", id(scalars.SINT32): "SINT32",
    id(scalars.BOOL): "BOOL", id(scalars.STRING): "STRING", id(scalars.BYTES): "BYTES",
    id(scalars.DOUBLE): "DOUBLE", id(scalars.FLOAT): "FLOAT", id(scalars.FIXED64): "FIXED64",
    id(scalars.FIXED32): "FIXED32", id(scalars.SFIXED64): "SFIXED64",
    id(scalars.SFIXED32): "SFIXED32",
    id(scalars.MESSAGE): "MESSAGE",
}  # fmt: skip


class Everything(Message, name="test.Everything"):
    a: float = wire.double(1)
    b: float = wire.floating(2)
    c: int = wire.int32(3)
    d: int = wire.int64(4)
    e: int = wire.sint32(5)
    f: int = wire.sint64(6)
    g: int = wire.fixed32(7)
    h: int = wire.fixed64(8)
    i: int = wire.sfixed32(9)
    j: int = wire.sfixed64(10)
    k: bool = wire.boolean(11)
    l: list[int] = wire.repeated(wire.int32(12))  # noqa: E741
    m: list[int] = wire.repeated(wire.fixed64(200))
    n: dict[str, Timestamp] = wire.mapping(201, wire.string(1), wire.message(2, Timestamp))
    o: dict[int, str] = wire.mapping(202, wire.int32(1), wire.string(2))
    p: str | None = wire.optional(wire.string(203))
    q: list[str] = wire.repeated(wire.string(204))
    r: str | None = wire.optional(wire.string(205), "choice")
    s: Timestamp | None = wire.optional(wire.message(206, Timestamp), "choice")


def all_messages() -> list[type[Message]]:
    found: dict[str, type[Message]] = {"test.Everything": Everything}
    for info in pkgutil.iter_modules(messages.__path__):
        module = importlib.import_module(f"sampan.rpc.messages.{info.name}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Message) and each is not Message:
                found[each.NAME] = each
    return list(found.values())


ALL = all_messages()


def google_classes() -> dict[str, type]:
    """Build google's classes from our tables."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="p", syntax="proto3")

    def type_of(target: Untyped, kind: scalars.Kind, inner: type[Message] | None) -> None:
        target.type = getattr(descriptor_pb2.FieldDescriptorProto, "TYPE_" + KINDS[id(kind)])
        if inner is not None:
            target.type_name = ".p." + inner.NAME.replace(".", "_")

    for each in ALL:
        made = file.message_type.add(name=each.NAME.replace(".", "_"))
        for field in each._fields:
            row: Untyped = made.field.add(name=field.name, number=field.number, label=1)
            if field.value_kind is not None:
                entry = made.nested_type.add(
                    name="".join(part.capitalize() for part in field.name.split("_")) + "Entry"
                )
                entry.options.map_entry = True
                type_of(entry.field.add(name="key", number=1, label=1), field.kind, None)
                value = entry.field.add(name="value", number=2, label=1)
                type_of(value, field.value_kind, field.value_type)
                row.label, row.type = 3, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                row.type_name = f".p.{made.name}.{entry.name}"
                continue
            type_of(row, field.kind, field.type)
            if field.many:
                row.label = 3
            if field.oneof:
                if not made.oneof_decl:
                    made.oneof_decl.add(name=field.oneof)
                row.oneof_index = 0
        # Synthetic oneofs of optional scalars come last.
        for field in each._fields:
            scalar = field.optional and field.type is None and not field.oneof
            if scalar:
                row = next(r for r in made.field if r.number == field.number)
                row.proto3_optional = True
                row.oneof_index = len(made.oneof_decl)
                made.oneof_decl.add(name="_" + field.name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = {each.NAME: "p." + each.NAME.replace(".", "_") for each in ALL}
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(full))
        for name, full in names.items()
    }


GOOGLE = google_classes()

NUMBERS = {
    "UINT64": st.integers(0, 2**64 - 1), "UINT32": st.integers(0, 2**32 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1), "INT32": st.integers(-(2**31), 2**31 - 1),
    "BOOL": st.booleans(), "STRING": st.text(), "BYTES": st.binary(),
    "DOUBLE": st.floats(allow_nan=False), "FLOAT": st.floats(width=32, allow_nan=False),
}  # fmt: skip
for name, like in (
    ("SINT64", "INT64"), ("SINT32", "INT32"), ("FIXED64", "UINT64"), ("FIXED32", "UINT32"),
    ("SFIXED64", "INT64"), ("SFIXED32", "INT32"),
):  # fmt: skip
    NUMBERS[name] = NUMBERS[like]


def values(
    kind: scalars.Kind, inner: type[Message] | None, depth: int
) -> st.SearchStrategy[object]:
    return made(inner, depth - 1) if inner is not None else NUMBERS[KINDS[id(kind)]]


@st.composite
def made(draw: st.DrawFn, cls: type[Message], depth: int = 2) -> Message:
    result = cls()
    chosen: set[str] = set()
    for field in cls._fields:
        if (field.type is not None and depth <= 0) or not draw(st.booleans()):
            continue
        if field.oneof and field.oneof in chosen:
            continue
        chosen.add(field.oneof)
        item = values(field.kind, field.type, depth)
        if field.value_kind is not None:
            item = st.dictionaries(
                item, values(field.value_kind, field.value_type, depth), max_size=1
            )
        elif field.many:
            item = st.lists(item, max_size=3)
        setattr(result, field.name, draw(item))
    return result


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(ALL).flatmap(made))
def test_same_bytes_as_google(ours: Message) -> None:
    data = bytes(ours)
    theirs = GOOGLE[ours.NAME].FromString(data)  # type: ignore[attr-defined]
    assert theirs.SerializeToString(deterministic=True) == data
    assert type(ours).decode(data) == ours


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.sampled_from(ALL), st.binary(max_size=60))
def test_random_bytes_are_refused_or_read_as_google_reads_them(
    cls: type[Message], data: bytes
) -> None:
    try:
        ours = cls.decode(data)
    except DecodeError:
        return
    theirs = GOOGLE[cls.NAME].FromString(data)  # type: ignore[attr-defined]
    again = GOOGLE[cls.NAME].FromString(bytes(ours))  # type: ignore[attr-defined]
    assert again == theirs or "nan" in repr(theirs).lower()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(ALL).flatmap(made), st.data())
def test_truncation_never_passes_for_more_than_a_prefix(ours: Message, data: st.DataObject) -> None:
    whole = bytes(ours)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        type(ours).decode(cut)
    except DecodeError:
        return
    GOOGLE[ours.NAME].FromString(cut)  # type: ignore[attr-defined]


def test_maps_are_sent_by_ascending_key_and_read_in_any_order() -> None:
    # upb's own deterministic order differs; that of Go is ours.
    ours = task.UpdateTaskRequest(annotations={"b": "1", "": "2", "a": ""})
    assert bytes(ours) == b"\x1a\x05\n\0\x12\x012\x1a\x05\n\x01a\x12\0\x1a\x06\n\x01b\x12\x011"
    theirs = GOOGLE[ours.NAME].FromString(bytes(ours))  # type: ignore[attr-defined]
    assert task.UpdateTaskRequest.decode(theirs.SerializeToString()) == ours


def test_unknown_fields_survive() -> None:
    newer = bytes(task.CreateTaskRequest(id="a", bundle="b", terminal=True))
    assert bytes(task.StartRequest.decode(newer)) == newer


def test_numbers_out_of_range_are_not_sent() -> None:
    with pytest.raises(ValueError, match="uint32"):
        bytes(task.KillRequest(signal=1 << 32))


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a", b"\x0a\x05abc", b"\x0a\x02\xff\xfe", b"\x00\x00", b"\x0b", b"\x0c", b"\x0b\x14",
        b"\x0f", b"\xff" * 11, b"\x0a\xff\xff\xff\xff\x0f", b"\x21\x00", b"\x25\x00\x00",
    ],
)  # fmt: skip
def test_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError):
        task.StartRequest.decode(data)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(DecodeError, match="deep"):
        task.StartRequest.decode(b"\x1b" * 5000)


def test_two_members_of_a_oneof() -> None:
    with pytest.raises(ValueError, match="choice"):
        bytes(Everything(r="x", s=Timestamp()))


def test_a_name_that_is_no_field() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        task.StartRequest(nonsense=1)  # type: ignore[call-arg]


def test_any_and_time() -> None:
    packed = Any.pack(Timestamp.of_ns(1_500_000_001))
    assert packed.holds(Timestamp)
    assert packed.unpack(Timestamp).ns == 1_500_000_001


def test_optional_absence_is_none() -> None:
    assert bootstrap.BootstrapParams().socket_dir is None
    assert bytes(bootstrap.BootstrapParams(socket_dir="")) == b"\x4a\x00"
    assert bytes(cgroups2.PSIData(avg10=-0.0)) != b""
    assert sandbox.PlatformResponse().platform is None
