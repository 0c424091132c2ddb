"""The packed modules of a cold start, made from a copy of the sources that the test may change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sampan

SOURCE = Path(sampan.__file__).parent
PYTHON = (sys.executable, "-I", "-S")
MAKE = (
    "import sys; sys.path.append(sys.argv[2]); "
    "from sampan.oci import pack; pack.write(*sys.argv[1:])"
)


class Packed:
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pack"
        self.source = folder / "src"
        rooms = ("oci", "cgroups", "linux", "model", "rpc", "zygote")
        for room in rooms:
            shutil.copytree(SOURCE / room, self.source / "sampan" / room)
        for name in ("__init__.py", "errors.py"):
            shutil.copy2(SOURCE / name, self.source / "sampan" / name)
        self.note = folder / "note"
        self.make()

    def make(self) -> None:
        self.note.write_text("here")
        words = (str(self.folder), str(self.source), str(self.note))
        subprocess.run([*PYTHON, "-c", MAKE, *words], check=True, timeout=60)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["strace", "-f", "-e", "trace=openat", "-o", str(self.folder / "trace")]
        command += [*PYTHON, str(self.folder / "boot.pyc"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def opened(self) -> str:
        return (self.folder / "trace").read_text()


@pytest.fixture
def packed(short_path: Path) -> Packed:
    return Packed(short_path)


@pytest.mark.requires("strace")
def test_nothing_of_ours_is_opened_but_the_pack(packed: Packed) -> None:
    result = packed.run("--version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("sampan-oci version ")
    assert f"{packed.folder}/modules" in packed.opened()
    assert str(packed.source) not in packed.opened()
    assert packed.note.exists()


@pytest.mark.requires("strace")
def test_what_has_changed_is_imported_anew(packed: Packed) -> None:
    main = packed.source / "sampan/oci/main.py"
    main.write_text(main.read_text().replace("sampan-oci version", "sampan-oci newest"))
    result = packed.run("--version")
    assert result.stdout.startswith("sampan-oci newest ")
    assert not packed.note.exists(), "the next start is to make a new pack"
    packed.make()
    assert packed.run("--version").stdout.startswith("sampan-oci newest ")
    assert str(packed.source) not in packed.opened()


@pytest.mark.requires("strace")
def test_errors_and_exit_codes_are_as_ever(packed: Packed) -> None:
    result = packed.run("nonsense")
    assert result.returncode == 1
    assert "No help topic" in result.stderr


def test_only_root_may_read_it(packed: Packed) -> None:
    assert packed.folder.stat().st_mode & 0o777 == 0o700
