"""The start protocol's words: names of binaries, and answers of shims."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument, NotFound, Unavailable, Unimplemented
from sampan.runtime.bundle import Bundle, Lock
from sampan.runtime.foreign import Started, binary_of, delete_command, start


def _program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_runtime_is_named_for_its_binary(tmp_path: Path) -> None:
    wanted = _program(tmp_path, "containerd-shim-kata-v2", "")
    assert binary_of("io.containerd.kata.v2", path=str(tmp_path)) == str(wanted)
    assert binary_of(str(wanted)) == str(wanted)
    with pytest.raises(NotFound, match="containerd-shim-wasm-v1"):
        binary_of("io.containerd.wasm.v1", path=str(tmp_path))
    with pytest.raises(NotFound):
        binary_of(str(tmp_path / "missing"))
    for name in ("runc", "", ".", "a..b"):
        with pytest.raises(InvalidArgument):
            binary_of(name, path=str(tmp_path))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = Bundle(tmp_path / "state", "ns", "c1")
    with Lock() as lock:
        made.create(b"{}", lock, {})
    return made


@pytest.mark.parametrize(
    ("answer", "started"),
    [
        ("echo unix:///run/s/1", Started("unix:///run/s/1", 2)),
        (
            """echo '{"version":3,"address":"unix:///a","protocol":"ttrpc"}'""",
            Started("unix:///a", 3),
        ),
        ("""echo "unix:///$2-$4-$(basename "$(pwd)")" """, Started("unix:///ns-c1-c1", 2)),
        ("""echo "unix:///$(cat)" """, Started("unix:///options", 2)),
        ("""echo "unix://$TTRPC_ADDRESS" """, Started("unix:///d.sock.ttrpc", 2)),
    ],
)
async def test_answers(tmp_path: Path, bundle: Bundle, answer: str, started: Started) -> None:
    shim = _program(tmp_path, "shim", answer)
    found = await start(bundle, str(shim), publish="/d.sock.ttrpc", options=b"options")
    assert found == started
    assert delete_command(str(shim), bundle)[-3:] == ["-bundle", str(bundle.path), "delete"]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ("echo no such thing >&2; exit 3", Unavailable, "no such thing"),
        ("echo hello", Unavailable, "no address"),
        ("echo '{\"version\": 3}'", Unavailable, "not understood"),
        ("""echo '{"version":3,"address":"a","protocol":"grpc"}'""", Unimplemented, "grpc"),
    ],
)
async def test_bad_answers(
    tmp_path: Path, bundle: Bundle, answer: str, error: type[Exception], words: str
) -> None:
    shim = _program(tmp_path, "shim", answer)
    with pytest.raises(error, match=words):
        await start(bundle, str(shim), publish="")
