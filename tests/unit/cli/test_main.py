"""Which words are ours, what is imported, and the table of verbs."""

import importlib
import subprocess
import sys
from argparse import ArgumentParser

import pytest

from sampan import errors
from sampan.cli import exit as exits
from sampan.cli.commands import COMMANDS
from sampan.cli.container import run
from sampan.cli.main import _late_flags, _split, main


def test_every_verb_has_its_module() -> None:
    for command in COMMANDS.values():
        module = importlib.import_module(f"sampan.cli.{command.module}")
        assert hasattr(module, "configure")
        assert hasattr(module, "run") or hasattr(module, "main")


def test_every_error_has_a_status() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type)}
    leaves = {one for one in classes if issubclass(one, errors.SampanError)} - {errors.SampanError}
    assert leaves == set(exits.CODES)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(conflict_handler="resolve")
    run.configure(parser)
    return parser


@pytest.mark.parametrize(
    ("words", "flags", "ours"),
    [
        (["--root", "/r", "host:", "ls"], {"root": "/r"}, ["--", "host:", "ls"]),
        (["-e", "A=b", "host:", "ls", "--root", "/x"], {}, None),
        (["--state=/s", "--rm", "host:", "--", "--state=/t"], {"state": "/s"}, None),
    ],
)
def test_global_flags_behind_the_verb_end_at_the_image(
    words: list[str], flags: dict[str, str], ours: list[str] | None
) -> None:
    found: dict[str, str | None] = {}
    rest = _late_flags(_split(run, _parser(), words), found)
    assert found == flags
    if ours is not None:
        assert rest == ours


def test_help_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "run" in capsys.readouterr().out
    assert main(["rnu"]) == 1
    assert "did you mean run?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "absent"),
    [
        (["--help"], ("asyncio", "argparse", "msgspec", "sqlite3", "json")),
        (
            ["run", "--help"],
            ("aiohttp", "grpclib", "google.protobuf", "rich", "zstandard", "sqlite3"),
        ),
    ],
)
def test_what_is_not_imported(argv: list[str], absent: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom sampan.cli.main import main\n"
        f"try: main({argv!r})\nexcept SystemExit: pass\n"
        f"sys.exit(','.join(m for m in {absent!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
