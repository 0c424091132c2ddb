"""Image verifiers: a folder of programs, and the judgement of all verifiers together.

    <bin_dir>/<program> -name docker.io/library/redis:7 -digest sha256:… -stdin-media-type …
        stdin: the image's descriptor as JSON     exit 0: it may be pulled, stdout is the reason
                                                  else: it may not

Programs run one after the other in order of their names, each with a deadline, without a shell, in
a session that is killed as a whole. A folder that is missing or empty lets everything pass.

Source: containerd docs/image-verification.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.concurrency import run, to_thread
from sampan.engine.extensions import IMAGE_VERIFIER, ImageVerifier, Verdict
from sampan.engine.schema import Verifier
from sampan.errors import PermissionDenied, SampanError
from sampan.plugin import InitContext, plugin

if TYPE_CHECKING:
    from sampan.distribution import Resolver
    from sampan.model.descriptor import Descriptor
    from sampan.model.reference import Reference

__all__ = ["FolderVerifier", "VerifiedResolver", "bindir", "judge"]

log = logging.getLogger(__name__)

_MEDIA_TYPE: Final = "application/vnd.oci.descriptor.v1+json"
_REASON_BYTES: Final = 16 << 10
"""Of a program's output; the rest is dropped."""


@plugin(IMAGE_VERIFIER, "bindir", config=Verifier)
def bindir(ctx: InitContext[Verifier]) -> ImageVerifier:
    """Run the programs of a folder."""
    return FolderVerifier(ctx.config)


class FolderVerifier:
    """See the module."""

    def __init__(self, config: Verifier) -> None:
        self._config = config

    async def verify(self, name: str, descriptor: Descriptor) -> Verdict:
        programs = await to_thread(_programs, Path(self._config.bin_dir))
        if self._config.max_verifiers >= 0:
            programs = programs[: self._config.max_verifiers]
        reasons = []
        for program in programs:
            verdict = await self._ask(program, name, descriptor)
            if not verdict.ok:
                return verdict
            reasons.append(verdict.reason)
        return Verdict(True, "; ".join(reasons) or "no verifier had an objection")

    async def _ask(self, program: Path, name: str, descriptor: Descriptor) -> Verdict:
        argv = [
            *(str(program), "-name", name, "-digest", str(descriptor.digest)),
            *("-stdin-media-type", _MEDIA_TYPE),
        ]
        try:
            done = await run(
                argv,
                stdin=msgspec.json.encode(descriptor),
                timeout_s=self._config.per_verifier_timeout,
            )
        except (SampanError, OSError) as err:
            return Verdict(False, f"verifier {program.name} did not answer: {err}")
        said = done.stdout[:_REASON_BYTES].decode("utf-8", "replace").strip()
        if done.stderr:
            text = done.stderr[:_REASON_BYTES].decode("utf-8", "replace").strip()
            log.debug("verifier said: program=%s: %s", program.name, text)
        reason = f"verifier {program.name}: {said or f'exit status {done.returncode}'}"
        return Verdict(done.returncode == 0, reason)


def _programs(folder: Path) -> list[Path]:
    """Return the executable files of a folder, by name."""
    try:
        found = sorted(one for one in folder.iterdir() if one.is_file())
    except OSError:
        return []
    return [one for one in found if os.access(one, os.X_OK)]


class VerifiedResolver:
    """A resolver whose answers all verifiers have agreed to."""

    def __init__(self, inner: Resolver, verifiers: Mapping[str, ImageVerifier]) -> None:
        self._verifiers = verifiers
        self.inner = inner
        self.fetcher = inner.fetcher
        self.pusher = inner.pusher

    async def resolve(self, reference: Reference) -> Descriptor:
        """Resolve, and judge before anything is fetched."""
        target = await self.inner.resolve(reference)
        await judge(self._verifiers, str(reference), target)
        return target


async def judge(verifiers: Mapping[str, ImageVerifier], name: str, descriptor: Descriptor) -> None:
    """Ask all verifiers in turn.

    Raises:
      PermissionDenied: one refuses the image, or fails; says which and why.
    """
    for id, one in verifiers.items():  # noqa: A001
        try:
            verdict = await one.verify(name, descriptor)
        except Exception as err:  # the edge between us and third parties
            log.exception("image verifier failed: plugin=%s image=%s", id, name)
            verdict = Verdict(False, f"verifier {id} failed: {err}")
        if not verdict.ok:
            raise PermissionDenied(
                f"image verifier {id} blocked pull of {name} with digest {descriptor.digest} for"
                f" reason: {verdict.reason}"
            )
        log.info("image verified: image=%s plugin=%s: %s", name, id, verdict.reason)
