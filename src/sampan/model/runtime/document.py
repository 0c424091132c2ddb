"""JSON without `json`, whose import takes as long as all of ours: it loads `re` and `enum`.

The scanner and the encoder are CPython's own, from the C module behind `json`; only indented
output, which is for people, is put together here. What `json.loads` refuses is refused, and
`NaN` and infinities too, which are no JSON.
"""

from __future__ import annotations

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["dumps", "loads"]

_SPACE = " \t\n\r"


class _Context:
    """What the C scanner asks of `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")


_scan = _json.make_scanner(_Context)  # type: ignore[arg-type]  # it asks for no more


def loads(text: bytes | str) -> Any:
    """Decode one JSON value, in UTF-8 if it comes as bytes.

    Raises:
      ValueError: it is no JSON, or not UTF-8.
      RecursionError: it is nested too deep.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    text = text.strip(_SPACE)
    try:
        value, end = _scan(text, 0)
    except StopIteration as err:
        raise ValueError(f"expected a value at character {err.value}") from None
    if end != len(text):
        raise ValueError(f"something follows the value at character {end}")
    return value


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_encode = _json.make_encoder(
    None, _refuse, _json.encode_basestring_ascii, None, ": ", ", ", False, False, False
)


def dumps(value: object, indent: str = "") -> str:
    """Encode, in one line or with one level a step of `indent`.

    Raises:
      TypeError: a value has no form in JSON.
      ValueError: a number is not finite.
    """
    if not indent:
        return "".join(_encode(value, 0))
    return _indented(value, indent, "\n")


def _indented(value: object, indent: str, newline: str) -> str:
    deeper = newline + indent
    if isinstance(value, dict) and value:
        # A key's own encoding, numbers and None included, is what it has in a compact object.
        items = [
            "".join(_encode({key: 0}, 0))[1:-2] + _indented(item, indent, deeper)
            for key, item in value.items()
        ]
        return "{" + deeper + ("," + deeper).join(items) + newline + "}"
    if isinstance(value, (list, tuple)) and value:
        items = [_indented(item, indent, deeper) for item in value]
        return "[" + deeper + ("," + deeper).join(items) + newline + "]"
    return "".join(_encode(value, 0))
