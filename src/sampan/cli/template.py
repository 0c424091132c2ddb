r"""`--format`: json, and the part of Go's templates that people use with docker.

{{.ID}}  {{.State.Status}}  {{json .}}  {{json .Mounts}}  {{upper .Name}}  {{lower .Name}}
{{len .Mounts}}  {{index .Labels "key"}}  {{printf "%s" .X}} is not there
a leading `table ` is dropped; \t and \n are tab and newline
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Final

from sampan.errors import InvalidArgument

__all__ = ["render"]

_ACTION: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}", re.DOTALL)


def render(template: str, value: Any) -> str:
    """Return `value` as the template says.

    Raises:
      InvalidArgument: an action is unknown, or names what the value has not.
    """
    if template == "json":
        return json.dumps(value, ensure_ascii=False, default=str)
    text = template.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    return _ACTION.sub(lambda match: _action(match.group(1), value), text)


def _action(action: str, value: Any) -> str:
    try:
        words = shlex.split(action)
    except ValueError:
        words = []
    match words:
        case [path] if path.startswith("."):
            return _text(_at(path, value))
        case ["json", path]:
            return json.dumps(_at(path, value), ensure_ascii=False, default=str)
        case ["upper", path]:
            return _text(_at(path, value)).upper()
        case ["lower", path]:
            return _text(_at(path, value)).lower()
        case ["len", path]:
            return str(len(_at(path, value)))
        case ["index", path, *keys]:
            found = _at(path, value)
            for key in keys:
                found = _item(found, key, action)
            return _text(found)
    raise InvalidArgument(
        f"format: cannot do {{{{{action}}}}}: there are .Field, json, upper, lower, len and index"
    )


def _at(path: str, value: Any) -> Any:
    for name in path.strip(".").split("."):
        if name:
            value = _item(value, name, path)
    return value


def _item(value: Any, name: str, path: str) -> Any:
    if isinstance(value, dict):
        if name in value:
            return value[name]
        have = ", ".join(sorted(str(key) for key in value)) or "nothing"
        raise InvalidArgument(f"format: no {name!r} in {path!r}: there is {have}")
    if isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
        return value[int(name)]
    raise InvalidArgument(f"format: no {name!r} in {path!r}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
