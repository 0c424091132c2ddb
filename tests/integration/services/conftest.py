"""A daemon of ours beside Debian's containerd 1.6: the same commands are given to both."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sampan.distribution.from_host import Recipe, build_layout
from sampan.testing import require
from sampan.testing.daemons import Daemon, masked, tiny_archive
from sampan.testing.session import SESSION

IMAGE = "example.com/box:1"


@dataclass(frozen=True)
class Step:
    """One command: its words, and what is masked in its output beside the usual."""

    words: tuple[str, ...]
    masks: tuple[tuple[str, str], ...] = ()
    code: int | None = 0
    """Exit status that both must give; None is any, but the same."""
    sort: bool = False
    """The order of lines is nobody's promise."""
    input: str | None = None
    err: bool = True
    """Whether what goes to stderr must be alike, too."""


class Pair:
    """Both daemons, and an image in each."""

    def __init__(self, ours: Daemon, theirs: Daemon, image: Path) -> None:
        self.ours = ours
        self.theirs = theirs
        self.image = image

    @staticmethod
    def step(text: str, *masks: tuple[str, str], **more: Any) -> Step:
        """Return the step of a line of words."""
        return Step(tuple(text.split()), masks, **more)

    def alike(self, steps: Sequence[Step]) -> None:
        """Give each of `steps` to both, in order, and compare code and output of each."""
        problems = []
        for one in steps:
            ours, theirs = (self.run(daemon, one) for daemon in (self.ours, self.theirs))
            if ours != theirs:
                problems.append(f"ctr {' '.join(one.words)}\n  ours:   {ours}\n  theirs: {theirs}")
            elif one.code not in (None, ours[0]):
                problems.append(f"ctr {' '.join(one.words)}\n  both:   {ours}")
        assert not problems, "\n".join(problems)

    def run(self, daemon: Daemon, one: Step) -> tuple[int, str, str]:
        """Return code and masked output of one command."""
        words = [word.replace("{folder}", str(daemon.folder)) for word in one.words]
        words = [word.replace("{image}", str(self.image)) for word in words]
        done = daemon.ctr(*words, input=one.input)
        places = (
            (str(daemon.folder), "FOLDER"),
            (r"FOLDER/(root|state)/[^\s:,\"]*", r"FOLDER/\1/..."),
            *one.masks,
        )
        out, err = masked(done.stdout, *places), masked(done.stderr, *places)
        if one.sort:
            out = "\n".join(sorted(out.splitlines()))
        return done.returncode, out, err if one.err else ""


@pytest.fixture(scope="module")
def archive() -> Iterator[Path]:
    """An OCI archive of an image of two layers: busybox, and env."""
    require("busybox")
    folder = SESSION.new_folder()
    recipe = Recipe(groups=(("/bin/busybox",), ("/usr/bin/env",)), cmd=("/bin/busybox", "true"))
    build_layout(folder / "layout", recipe, name=IMAGE)
    subprocess.run(["tar", "-C", folder / "layout", "-cf", folder / "a.tar", "."], check=True)
    yield folder / "a.tar"
    shutil.rmtree(folder)


def _daemon(kind: str) -> Iterator[Daemon]:
    folder = SESSION.new_folder()
    with Daemon(kind, folder) as daemon:
        # What a daemon starts when it is first needed, such as our template of workers, is there.
        daemon.ok("image", "import", str(tiny_archive(folder)))
        daemon.ok("image", "rm", "--sync", "example.com/tool:1")
        yield daemon
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sampand() -> Iterator[Daemon]:
    """A daemon of ours for the module's tests."""
    yield from _daemon("sampand")


@pytest.fixture(scope="module")
def containerd() -> Iterator[Daemon]:
    """Debian's containerd for the module's tests."""
    yield from _daemon("containerd")


@pytest.fixture(scope="module")
def pair(sampand: Daemon, containerd: Daemon, archive: Path) -> Pair:
    """Both, with the image imported and unpacked."""
    require("ctr")
    for daemon in (sampand, containerd):
        daemon.ok("image", "import", "--base-name", IMAGE.partition(":")[0], str(archive))
    return Pair(sampand, containerd, archive)
