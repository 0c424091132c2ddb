"""config.json as a whole. Source: runtime-spec 1.3 config.md.

spec = read_spec("/bundle/config.json")      # SpecError names `$.process.args[0]`
document.dumps(spec.to_json())
"""

from __future__ import annotations

from sampan.errors import InvalidArgument, NotFound
from sampan.model.runtime.document import loads
from sampan.model.runtime.hooks import Hooks
from sampan.model.runtime.linux import IDMapping, Linux
from sampan.model.runtime.process import Process
from sampan.model.runtime.struct import SpecError, Struct

__all__ = [
    "Mount",
    "Root",
    "Spec",
    "SpecError",
    "parse_process",
    "parse_spec",
    "read_spec",
    "read_text",
]

MAX_BYTES = 16 << 20
"""A config.json with all system calls of a profile is 20 KB; this is a cap, not a size."""


class Root(Struct):
    path: str
    """Absolute, or relative to the bundle."""
    readonly: bool = False


class Mount(Struct):
    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


class Spec(Struct):
    oci_version: str = ""
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None


def parse_spec(text: bytes | str) -> Spec:
    """Decode a config.json.

    Raises:
      SpecError: it is no JSON, or a value has the wrong type (named by its path).
    """
    return Spec.from_json(_load(text))


def parse_process(text: bytes | str) -> Process:
    """Decode a process.json, as `exec --process` and containerd's Exec pass it."""
    return Process.from_json(_load(text))


def read_spec(path: str) -> Spec:
    """Read and decode the config.json at `path`.

    Raises:
      NotFound: there is none.
      SpecError: as `parse_spec`.
    """
    return parse_spec(read_text(path))


def read_text(path: str) -> bytes:
    """Return the config.json at `path` as it stands.

    Raises:
      NotFound: there is none.
      InvalidArgument: it is larger than any config.json may be.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError as err:
        raise NotFound(f"JSON specification file {path} not found") from err
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"{path} is larger than {MAX_BYTES} bytes")
    return text


def _load(text: bytes | str) -> object:
    try:
        result: object = loads(text)
    except (ValueError, RecursionError) as err:
        raise SpecError(f"not valid JSON: {err}") from err
    return result
