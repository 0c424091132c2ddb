"""Slotted value types over JSON, with a decoder that names what is wrong by its path.

msgspec would do, but takes 20 ms to import, as long as a whole `runc run`. Here a field is an
annotation with a default, and its annotation, a string, is compiled to a decoder on first use:

    class Pids(Struct):
        limit: int | None = None        # JSON name "limit"

JSON names are camelCase; `NAMES` holds the exceptions. Unknown fields are ignored, as config.md
section "Extensibility" demands; null means absent. Instances are compared by value and meant
to be treated as immutable; `replace` makes changed copies.
"""

# ruff: noqa: SLF001  of this module's own class
# ruff: noqa: RUF063  inspect is slow to import

from __future__ import annotations

import sys

from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, dataclass_transform

    Decoder = Callable[[object, str], Any]
else:

    def dataclass_transform(**_: object) -> Callable[[type], type]:
        return lambda cls: cls


__all__ = ["SpecError", "Struct"]


class SpecError(InvalidArgument):
    """A JSON document has a value of the wrong type or range; the text ends in its path."""


class _Missing:
    __slots__ = ()


_MISSING = _Missing()


@dataclass_transform(kw_only_default=True)
class _StructType(type):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _StructType:
        declared = namespace.get("__annotations__", {})
        fields = {field: note for field, note in declared.items() if "ClassVar" not in note}
        defaults = {field: namespace.pop(field, _MISSING) for field in fields}
        namespace["__slots__"] = tuple(fields)
        cls = super().__new__(mcs, name, bases, namespace)
        for base in reversed(cls.__mro__[1:]):
            fields = {**getattr(base, "_fields", {}), **fields}
            defaults = {**getattr(base, "_defaults", {}), **defaults}
        cls._fields = fields
        cls._defaults = defaults
        cls._plan = None
        return cls

    _fields: dict[str, str]
    _defaults: dict[str, Any]
    _plan: dict[str, tuple[str, Decoder]] | None


class Struct(metaclass=_StructType):
    """Base of the types in config.json: camelCase there, snake_case and immutable here."""

    NAMES: ClassVar[dict[str, str]] = {}
    """Field to JSON name, where camelCase of the field is not it."""
    ALWAYS: ClassVar[tuple[str, ...]] = ()
    """Fields that other runtimes want to see even when they have our default."""

    def __init__(self, **values: Any) -> None:
        for field, default in type(self)._defaults.items():
            value = values.pop(field, default)
            if value is _MISSING:
                raise TypeError(f"{type(self).__name__}: {field} is missing")
            setattr(self, field, value)
        if values:
            raise TypeError(f"{type(self).__name__}: no such field: {', '.join(values)}")

    @classmethod
    def from_json(cls, value: object, path: str = "$") -> Self:
        """Decode a JSON object as `json.loads` returns it.

        Raises:
          SpecError: a type is wrong or a required field is missing; names the path.
        """
        if not isinstance(value, dict):
            raise SpecError(f"expected an object, got {_type_name(value)} - at `{path}`")
        plan = cls._plan if cls._plan is not None else _compile_plan(cls)
        self = cls.__new__(cls)
        for field, default in cls._defaults.items():
            name, decode = plan[field]
            raw = value.get(name)
            if raw is not None:
                setattr(self, field, decode(raw, f"{path}.{name}"))
            elif default is _MISSING:
                raise SpecError(f"required field is missing - at `{path}.{name}`")
            else:
                setattr(self, field, default)
        return self

    def to_json(self) -> dict[str, Any]:
        """Encode for `json.dumps`, leaving out fields that have their default."""
        cls = type(self)
        encoded = {}
        for field, default in cls._defaults.items():
            value = getattr(self, field)
            plain = value == default and default is not _MISSING
            if value is None or (plain and field not in cls.ALWAYS):
                continue
            encoded[_json_name(cls, field)] = _encode(value)
        return encoded

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        values = {field: getattr(self, field) for field in type(self)._defaults}
        return type(self)(**{**values, **changes})

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, f) == getattr(other, f) for f in type(self)._defaults)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, f) for f in type(self)._defaults))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{f}={getattr(self, f)!r}"
            for f, default in type(self)._defaults.items()
            if getattr(self, f) != default
        )
        return f"{type(self).__name__}({shown})"


def _json_name(cls: type[Struct], field: str) -> str:
    name = cls.NAMES.get(field)
    if name is None:
        first, *rest = field.split("_")
        name = first + "".join(word.capitalize() for word in rest)
    return name


def _encode(value: object) -> object:
    if isinstance(value, Struct):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return value


def _type_name(value: object) -> str:
    if value is None:
        return "null"
    return {bool: "bool", int: "int", float: "float", str: "str", list: "array", dict: "object"}[
        type(value)
    ]


def _compile_plan(cls: type[Struct]) -> dict[str, tuple[str, Decoder]]:
    plan = {}
    for field, note in cls._fields.items():
        owner = next(c for c in cls.__mro__ if field in c.__dict__.get("__annotations__", {}))
        plan[field] = (_json_name(cls, field), _compile(note, sys.modules[owner.__module__]))
    cls._plan = plan
    return plan


def _compile(note: str, module: object) -> Decoder:
    """Make a decoder from an annotation: int, str, bool, float, X | None, tuple, dict, Struct."""
    note = note.removesuffix(" | None")
    simple = _SIMPLE.get(note)
    if simple is not None:
        return simple
    if note.startswith("tuple["):
        return _array_of(_compile(note[6:-1].removesuffix(", ..."), module))
    if note.startswith("dict[str, "):
        return _object_of(_compile(note[10:-1], module))
    struct: type[Struct] = getattr(module, note)
    return struct.from_json


def _array_of(item: Decoder) -> Decoder:
    def decode(value: object, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise SpecError(f"expected an array, got {_type_name(value)} - at `{path}`")
        return tuple([item(each, f"{path}[{i}]") for i, each in enumerate(value)])

    return decode


def _object_of(item: Decoder) -> Decoder:
    def decode(value: object, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise SpecError(f"expected an object, got {_type_name(value)} - at `{path}`")
        return {key: item(each, f"{path}.{key}") for key, each in value.items()}

    return decode


def _integer(value: object, path: str) -> int:
    # JSON of Go programs never holds 1.0 for 1, and true is an int in Python.
    if type(value) is not int:
        raise SpecError(f"expected an int, got {_type_name(value)} - at `{path}`")
    if not -(1 << 63) <= value < 1 << 64:
        raise SpecError(f"number out of range: {value} - at `{path}`")
    return value


def _uint32(value: object, path: str) -> int:
    number = _integer(value, path)
    if not 0 <= number < 1 << 32:
        raise SpecError(f"not an unsigned 32-bit number: {number} - at `{path}`")
    return number


def _string(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise SpecError(f"expected a string, got {_type_name(value)} - at `{path}`")
    if "\0" in value:
        raise SpecError(f"a string holds a NUL - at `{path}`")
    return value


def _boolean(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise SpecError(f"expected a bool, got {_type_name(value)} - at `{path}`")
    return value


def _number(value: object, path: str) -> float:
    if type(value) not in (int, float):
        raise SpecError(f"expected a number, got {_type_name(value)} - at `{path}`")
    return float(value)  # type: ignore[arg-type]


_SIMPLE: dict[str, Decoder] = {
    "int": _integer,
    "Uint32": _uint32,
    "str": _string,
    "bool": _boolean,
    "float": _number,
    "object": lambda value, path: value,
}
