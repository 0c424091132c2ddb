"""The command table, the splitting of flags from the container's command, signals and sizes."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from sampan import errors
from sampan.cli.commands import COMMANDS, LATER, NOUNS
from sampan.cli.container import run
from sampan.cli.container.signals import parse
from sampan.cli.exit import CODES
from sampan.cli.main import _split, main
from sampan.cli.output import parse_size
from sampan.errors import InvalidArgument


def test_every_command_has_its_module() -> None:
    for name, command in COMMANDS.items():
        module = importlib.import_module(f"sampan.cli.{command.module}")
        assert hasattr(module, "configure"), name
        assert hasattr(module, "run") or hasattr(module, "main"), name
    for verbs in NOUNS.values():
        assert set(verbs.values()) <= set(COMMANDS)
    assert not set(LATER) & set(COMMANDS)


def test_every_error_has_an_exit_status() -> None:
    kinds = {getattr(errors, name) for name in errors.__all__} - {errors.SampanError}
    assert kinds == set(CODES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--rm host: ls -l", "--rm -- host: ls -l"),
        ("--rm host: -- ls -l", "--rm -- host: ls -l"),
        ("-e A=b -it host: sh -c x", "-e A=b -it -- host: sh -c x"),
        ("-ite A=b host: -x", "-ite A=b -- host: -x"),
        ("--name=n host:", "--name=n -- host:"),
    ],
)
def test_split(words: str, expected: str) -> None:
    assert _split(run, words.split()) == expected.split()


def test_help_loads_nothing_slow() -> None:
    code = (
        "import sys; from sampan.cli.main import main; main(['--help']);"
        "slow = {'asyncio', 'msgspec', 'sqlite3', 'argparse', 'rich', 'aiohttp'};"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")


def test_unknown_and_promised_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == 1
    assert main(["volume"]) == 1
    said = capsys.readouterr().err
    assert "did you mean run?" in said
    assert "not there yet" in said


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+1", 35)]
)
def test_signals(text: str, number: int) -> None:
    assert parse(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGNOPE", "\uff19", "RTMIN+99", "_DFL"])
def test_bad_signals(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(text)


def test_sizes() -> None:
    assert parse_size("64m") == 64 << 20
    assert parse_size("1.5g") == 3 << 29
    assert parse_size("10kb") == 10 << 10
    for bad in ("", "m", "-1", "1e9", "\uff11"):
        with pytest.raises(InvalidArgument):
            parse_size(bad)
