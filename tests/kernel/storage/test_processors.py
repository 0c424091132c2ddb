"""Stream processors: the way from a type we do not know to one we do, with real programs."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from sampan.errors import FailedPrecondition, InvalidArgument, SampanError
from sampan.model.descriptor import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from sampan.model.digest import of_bytes
from sampan.storage.content.local import LocalStore
from sampan.storage.diff.layers import LayerApplier
from sampan.storage.diff.processors import Processor, Processors
from sampan.storage.snapshots.overlay import OverlaySnapshotter
from sampan.storage.workers import SpawnRunner
from sampan.testing import requires
from sampan.testing.snapshot_suite import read

SEALED = "application/vnd.example.layer+sealed"
TWICE = f"{SEALED}+sealed"
XOR = "import sys; d=sys.stdin.buffer.read(); sys.stdout.buffer.write(bytes(b^42 for b in d))"


def program(id: str, accepts: str, returns: str, code: str = XOR) -> Processor:
    return Processor(id, (accepts,), returns, sys.executable, ("-I", "-S", "-c", code))


def tar(**files: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def xor(data: bytes) -> bytes:
    return bytes(byte ^ 42 for byte in data)


def test_the_shortest_way() -> None:
    one, two = program("one", SEALED, OCI_LAYER), program("two", TWICE, SEALED)
    back = program("back", SEALED, TWICE)
    processors = Processors([back, two, one])
    assert processors.chain(SEALED) == [(one, SEALED)]
    assert processors.chain(TWICE) == [(two, TWICE), (one, SEALED)]
    with pytest.raises(InvalidArgument, match="no stream processor"):
        processors.chain("text/plain")
    with pytest.raises(InvalidArgument, match="no stream processor"):
        Processors([back, two]).chain(SEALED)


async def apply(root: Path, processors: Processors, media_type: str, data: bytes) -> dict[str, str]:
    os.makedirs(root, exist_ok=True)
    store, snapshots = LocalStore(root / "content"), OverlaySnapshotter(str(root / "overlay"))

    class Runner(SpawnRunner):
        pass

    runner = Runner()
    runner.processors = processors  # type: ignore[attr-defined]
    try:
        async with await store.writer("w") as writer:
            await writer.write(data)
            digest = (await writer.commit()).digest
        mounts = await snapshots.prepare("k")
        layer = Descriptor(media_type=media_type, digest=digest, size=len(data))
        done = await LayerApplier(store, runner).apply(layer, mounts)
        assert done.digest == of_bytes(tar(a="1", b="x" * 300_000))
        return read(mounts)
    finally:
        await snapshots.close()
        await store.close()


@requires("root")
async def test_a_layer_through_two_programs(tmp_path: Path) -> None:
    plain = tar(a="1", b="x" * 300_000)
    processors = Processors([program("one", SEALED, OCI_LAYER), program("two", TWICE, SEALED)])
    found = await apply(tmp_path, processors, TWICE, xor(xor(plain)))
    assert found["a"] == "1"


@requires("root")
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.stderr.write('no key'); sys.exit(3)", "failed with status 3: no key"),
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
    ],
)
async def test_a_program_that_fails_is_named(tmp_path: Path, code: str, said: str) -> None:
    processors = Processors([program("dec", SEALED, OCI_LAYER_GZIP, code)])
    with pytest.raises(FailedPrecondition, match=f"stream processor dec.*{said}"):
        await apply(tmp_path, processors, SEALED, xor(tar(a="1")))
    missing = Processors([Processor("gone", (SEALED,), OCI_LAYER, "/no/such/program")])
    with pytest.raises(SampanError, match="gone"):
        await apply(tmp_path / "2", missing, SEALED, xor(tar(a="1")))


@requires("root")
async def test_a_program_sees_its_input_type_and_little_else(tmp_path: Path) -> None:
    os.environ["SAMPAN_OF_TEST"] = "x"
    code = (
        f"import os, sys; open('{tmp_path}/env', 'w').write(repr(dict(os.environ)));"
        "sys.stdout.buffer.write(sys.stdin.buffer.read())"
    )
    one = Processor(
        "e", (SEALED,), OCI_LAYER, sys.executable, ("-I", "-S", "-c", code), ("KEYS=/k=1",)
    )
    try:
        await apply(tmp_path, Processors([one]), SEALED, tar(a="1", b="x" * 300_000))
    finally:
        del os.environ["SAMPAN_OF_TEST"]
    said = (tmp_path / "env").read_text()
    assert f"'STREAM_PROCESSOR_MEDIATYPE': '{SEALED}'" in said
    assert "'KEYS': '/k=1'" in said
    assert "SAMPAN_OF_TEST" not in said
