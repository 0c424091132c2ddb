"""Seeing to it that `sampan-oci` runs from an interpreter that nobody can write to.

launcher.sh    the program `sampan-oci`; if a note tells where the read-only mount of the
               interpreter is, it runs that, at once
enter          otherwise: makes mount and note, as root, and becomes the mounted interpreter;
               where there can be no mount, becomes a protected copy (see `linux.exe`)
require_...    asked by every command that enters a container: it goes no further without

<state>/exe/                   0700
    python3-...                the mount; linux.exe.ensure_mounted
    notes/<path of launcher>   three lines: the mount, the interpreter that it must be the same
                               file as, and what it runs: our __main__.py, packed (`pack`)
"""

from __future__ import annotations

import os
import sys

from sampan.errors import FailedPrecondition
from sampan.linux import exe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["enter", "require_protection"]

_STATE = "/run/sampan"
_LAUNCHER = "SAMPAN_LAUNCHER"
_UNPROTECTED = "SAMPAN_OCI_DEBUG_UNPROTECTED"
"""For a debugger alone: set to 1, nothing is protected and nothing is asked."""


def require_protection() -> None:
    """Refuse to go on in an interpreter that a container could overwrite.

    Raises:
      FailedPrecondition: `/proc/self/exe` is neither on a read-only mount nor sealed.
    """
    if exe.is_protected() or os.environ.get(_UNPROTECTED) == "1":
        return
    raise FailedPrecondition(
        "the interpreter could be overwritten from inside a container (CVE-2019-5736): "
        "run sampan-oci, or python -m sampan.oci, which protect it first"
    )


def enter(main: str) -> None:
    """Become a protected interpreter that runs `main` with our arguments, unless we are one.

    Returns if we are, and also where it cannot be had: `require_protection` has the last word.

    Args:
      main: Path of our `__main__.py`.
    """
    launcher = os.environ.pop(_LAUNCHER, "")
    again = bool(sys.flags.no_site)  # only we start ourselves so, and only protected
    if again or exe.is_protected() or os.environ.get(_UNPROTECTED) == "1":
        return
    arguments = ["-I", "-S", main, *sys.argv[1:]]
    if os.geteuid() == 0:
        try:
            mounted = exe.ensure_mounted(_state())
        except OSError:
            mounted = ""  # no CAP_SYS_ADMIN, an old kernel: a copy is always possible
        if mounted and _finds_its_library(mounted):
            if launcher.startswith("/") and "/../" not in launcher:
                _write_note(launcher, mounted, main)
            os.execve(mounted, [mounted, *arguments], os.environ)  # noqa: S606
    with exe.protected_interpreter() as interpreter:
        interpreter.execve(arguments, dict(os.environ))


def _state() -> str:
    folder = os.environ.get("SAMPAN_STATE") or _STATE
    os.makedirs(folder, mode=0o711, exist_ok=True)
    return folder


def _finds_its_library(mounted: str) -> bool:
    """Return whether Python, started from the mount, finds the library that we use.

    It looks around its own path, then where it was installed to: not so if it was moved since.
    """
    code = "import os, encodings; os.write(1, os.fsencode(os.path.realpath(encodings.__file__)))"
    encodings = sys.modules["encodings"].__file__
    ours = os.fsencode(os.path.realpath(str(encodings)))
    return _output(mounted, ["-I", "-S", "-c", code], os.environ) == ours


def _output(program: str, arguments: list[str], environment: Mapping[str, str]) -> bytes:
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
        argv = [program, *arguments]
        pid = os.posix_spawn(program, argv, environment, file_actions=actions)
    finally:
        os.close(write)
    with open(read, "rb") as file:
        text = file.read()
    return text if os.waitpid(pid, 0)[1] == 0 else b""


def _pack(mounted: str, main: str, note: str) -> str:
    """Pack all our modules and return what runs them; or `main`, where that cannot be had."""
    source = os.path.dirname(os.path.dirname(os.path.dirname(main)))
    folder = f"{_state()}/exe/packs{main}"
    code = (
        "import sys; sys.path.append(sys.argv[2]); from sampan.oci.pack import write; "
        "write(*sys.argv[1:]); sys.stdout.write('packed')"
    )
    words = ["-I", "-S", "-c", code, folder, source, note]
    if _output(mounted, words, os.environ) != b"packed":
        return main
    return f"{folder}/boot.pyc"


def _write_note(launcher: str, mounted: str, main: str) -> None:
    """Tell the launcher what is where. Without the note it is only slower."""
    path = f"{_state()}/exe/notes{launcher}"
    lines = (mounted, exe.interpreter_path(), _pack(mounted, main, path))
    if any("\n" in line for line in lines):
        return
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(os.fsencode("".join(f"{line}\n" for line in lines)))
        os.rename(temporary, path)
    except OSError:
        return
