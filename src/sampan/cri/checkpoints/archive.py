"""The archive of one container: written and read by a thread.

What is read was written by somebody: names lead nowhere, and nothing but plain files is taken.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from sampan.errors import InvalidArgument, NotFound

__all__ = ["DIFF", "IMAGES", "Opened", "is_archive", "read", "unpack", "write"]

IMAGES: Final = "checkpoint"
DIFF: Final = "rootfs-diff.tar"
_SMALL_MAX: Final = 16 << 20
_NAMES: Final = ("config.dump", "spec.dump", "status.dump")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an archive says of its container."""

    config: Mapping[str, Any]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def image(self) -> str:
        """Of the root: its id where the writer knew one, else its name."""
        return str(self.config.get("rootfsImageRef") or self.config.get("rootfsImageName") or "")


def write(path: Path, documents: Mapping[str, object], folder: Path, log: str) -> None:
    """Write an archive at once, readable for us alone: it holds the container's memory.

    Args:
      path: Of the archive.
      documents: To be written as JSON, by name.
      folder: Its files, and what is below `checkpoint` in it, are added.
      log: Path of the container's log, or empty.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as out, tarfile.open(fileobj=out, mode="w") as tar:
            for name, document in documents.items():
                data = json.dumps(document).encode()
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(data), 0o600
                tar.addfile(member, io.BytesIO(data))
            for name in sorted(os.listdir(folder)):
                tar.add(folder / name, arcname=name)
            if log and os.path.exists(log):
                tar.add(log, arcname="container.log")
            out.flush()
            os.fsync(out.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_archive(text: str) -> bool:
    """Tell whether an image's name is the path of an archive on this node."""
    return text.startswith("/") and os.path.isfile(text)


def read(path: str) -> Opened:
    """Return the documents of an archive.

    Raises:
      NotFound: there is no such file.
      InvalidArgument: it is no checkpoint.
    """
    found: dict[str, Any] = {}
    with _opened(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if name in _NAMES and member.isfile() and member.size <= _SMALL_MAX:
                try:
                    found[name] = json.loads(_bytes(tar, member).read())
                except ValueError as err:
                    raise InvalidArgument(f"checkpoint {path}: {name} is no JSON: {err}") from err
    if not all(isinstance(found.get(name), dict) for name in _NAMES[:2]):
        raise InvalidArgument(f"checkpoint {path}: config.dump or spec.dump is missing")
    return Opened(found["config.dump"], found["spec.dump"], found.get("status.dump") or {})


def unpack(path: str, folder: Path) -> bool:
    """Unpack CRIU's images and the diff of the root; return whether there is such a diff."""
    images = folder / IMAGES
    images.mkdir(mode=0o700, parents=True)
    has_diff = False
    with _opened(path) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            top, _, rest = name.partition("/")
            if not member.isfile():
                continue
            if top == IMAGES and rest and "/" not in rest:
                _copy(tar, member, images / rest)
            elif name == DIFF:
                _copy(tar, member, folder / DIFF)
                has_diff = True
    return has_diff


def _opened(path: str) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:*")
    except FileNotFoundError as err:
        raise NotFound(f"checkpoint {path} does not exist") from err
    except (OSError, tarfile.TarError) as err:
        raise InvalidArgument(f"checkpoint {path} cannot be read: {err}") from err


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    data = tar.extractfile(member)
    assert data is not None  # noqa: S101
    return data


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as out:
        shutil.copyfileobj(_bytes(tar, member), out, 1 << 20)
