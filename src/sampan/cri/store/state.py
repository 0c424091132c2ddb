"""Small JSON files: written at once, read leniently, lost at a reboot without harm."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["read", "write"]


def write(path: Path, values: dict[str, Any]) -> None:
    """Replace the file; its folder is made when missing. Nothing is synced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    data = json.dumps(values).encode()
    try:
        _put(temporary, data)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        _put(temporary, data)
    os.rename(temporary, path)


def _put(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb", buffering=0) as out:
        out.write(data)


def read(path: Path) -> dict[str, Any]:
    """Return what the file holds; nothing if it is not there or was cut short."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
