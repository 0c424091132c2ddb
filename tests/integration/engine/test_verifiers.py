"""Image verifiers: programs of a folder, and the judgement of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.engine.extensions import Verdict
from sampan.engine.schema import Verifier
from sampan.engine.verifiers import FolderVerifier, VerifiedResolver, judge
from sampan.errors import PermissionDenied
from sampan.model.descriptor import OCI_MANIFEST, Descriptor
from sampan.model.digest import of_bytes
from sampan.model.durations import Duration
from sampan.model.reference import Reference, parse

IMAGE = Descriptor(media_type=OCI_MANIFEST, digest=of_bytes(b"m"), size=7)


def program(folder: Path, name: str, script: str, mode: int = 0o755) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(mode)


def verifier(folder: Path, **config: object) -> FolderVerifier:
    return FolderVerifier(Verifier(bin_dir=str(folder), **config))  # type: ignore[arg-type]


async def test_a_program_sees_name_digest_and_descriptor(tmp_path: Path) -> None:
    program(
        tmp_path, "v", f'printf "%s\\n" "$@" >{tmp_path}/args; cat >{tmp_path}/stdin; echo fine'
    )
    assert await verifier(tmp_path).verify("r.example/a:1", IMAGE) == Verdict(
        True, "verifier v: fine"
    )
    assert (tmp_path / "args").read_text().split() == [
        *("-name", "r.example/a:1", "-digest", IMAGE.digest),
        *("-stdin-media-type", "application/vnd.oci.descriptor.v1+json"),
    ]
    assert '"size":7' in (tmp_path / "stdin").read_text()


async def test_all_must_agree_and_the_first_refusal_ends_it(tmp_path: Path) -> None:
    program(tmp_path, "1-yes", "exit 0")
    program(tmp_path, "2-no", "echo too old; exit 3")
    program(tmp_path, "3-late", f"touch {tmp_path}/ran")
    program(tmp_path, "0-not-executable", "exit 1", mode=0o644)
    verdict = await verifier(tmp_path).verify("x", IMAGE)
    assert verdict == Verdict(False, "verifier 2-no: too old")
    assert not (tmp_path / "ran").exists()
    assert (await verifier(tmp_path, max_verifiers=1).verify("x", IMAGE)).ok
    assert (await verifier(tmp_path, max_verifiers=0).verify("x", IMAGE)).ok


async def test_one_that_hangs_or_is_no_program_refuses(tmp_path: Path) -> None:
    program(tmp_path, "v", "sleep 1000")
    late = verifier(tmp_path, per_verifier_timeout=Duration(0.1))
    verdict = await late.verify("x", IMAGE)
    assert not verdict.ok
    assert "did not answer" in verdict.reason
    (tmp_path / "v").write_bytes(b"no program")
    assert not (await verifier(tmp_path).verify("x", IMAGE)).ok


async def test_no_folder_lets_all_pass(tmp_path: Path) -> None:
    assert (await verifier(tmp_path / "none").verify("x", IMAGE)).ok


async def test_a_verifier_that_fails_refuses() -> None:
    class Broken:
        async def verify(self, name: str, descriptor: Descriptor) -> Verdict:
            raise RuntimeError("oh")

    with pytest.raises(PermissionDenied, match=r"verifier b blocked pull of r/x .*failed: oh"):
        await judge({"b": Broken()}, "r/x", IMAGE)
    await judge({}, "r/x", IMAGE)


async def test_a_resolver_asks_before_anything_is_fetched() -> None:
    class Says:
        def __init__(self, ok: bool) -> None:
            self.ok = ok

        async def verify(self, name: str, descriptor: Descriptor) -> Verdict:
            return Verdict(self.ok and name == "docker.io/library/x:1", "so")

    class Inner:
        async def resolve(self, reference: Reference) -> Descriptor:
            return IMAGE

        async def fetcher(self, reference: Reference) -> Any: ...

        async def pusher(self, reference: Reference) -> Any: ...

    reference = parse("x:1")
    assert await VerifiedResolver(Inner(), {"v": Says(True)}).resolve(reference) == IMAGE
    with pytest.raises(PermissionDenied, match="for reason: so"):
        await VerifiedResolver(Inner(), {"v": Says(False)}).resolve(reference)
