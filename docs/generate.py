"""Make the pages that come of the program itself: docs/reference/cli.md and packaging/man/*.1.

python docs/generate.py            write them
python docs/generate.py --check    exit with 1 if one is not what the parsers say
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sampan import __version__
from sampan.cli.commands import COMMANDS, LATER, NOUNS

HERE = Path(__file__).resolve().parent
MANUAL = HERE.parent / "packaging" / "man"

GLOBAL = (
    ("--root DIR", "what survives a reboot: blobs, snapshots, the database"),
    ("--state DIR", "what does not: bundles, sockets, pids"),
    ("--address SOCK", "the daemon's socket"),
    ("--config FILE", "config.toml"),
    ("--hosts-dir DIR", "a folder of hosts.toml for each registry"),
    ("--log-level L", "debug, info, warning, error or critical"),
    ("--namespace NS", "whose containers and images; default is `default`"),
)


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of one verb, with its heading."""
    parser = argparse.ArgumentParser(
        prog=f"sampan {name}",
        description=COMMANDS[name].summary,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=78, max_help_position=30),
        conflict_handler="resolve",
    )
    module: Any = import_module(f"sampan.cli.{COMMANDS[name].module}")
    module.configure(parser)
    return parser


def shown(action: argparse.Action) -> str:
    """Return a flag as people type it."""
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    value = action.metavar or (
        "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    )
    return f"{names} {value}"


def flags_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield each flag and what it does."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if action.option_strings and action.dest != "help":
            default = action.default
            text = action.help or ""
            if default not in (None, "", 0, [], False, argparse.SUPPRESS) and "%" not in text:
                text = f"{text} (default {default})".strip()
            yield shown(action), text


def reference() -> str:
    """Return docs/reference/cli.md."""
    lines = [
        "# Command line",
        "",
        "Made from the parsers by `docs/generate.py`. Flags of the program stand before or behind",
        "the verb, and each is also an environment variable, `SAMPAN_<NAME>`:",
        "",
        *(f"* `{flag}`: {text}" for flag, text in GLOBAL),
        "",
        "Many verbs also have a noun before them, as in docker: "
        + ", ".join(f"`{noun}`" for noun in sorted(NOUNS))
        + ".",
        f"Not there yet: {', '.join(f'`{name}`' for name in LATER)}.",
        "",
    ]
    for name, command in COMMANDS.items():
        parser = parser_of(name)
        usage = " ".join(parser.format_usage().removeprefix("usage:").split())
        short = usage if len(usage) < 300 else f"sampan {name} [flags] {_positionals(parser)}"
        lines += [f"## sampan {name}", "", f"{command.summary.capitalize()}.", ""]
        lines += ["```text", short, "```", ""]
        flags = list(flags_of(parser))
        if flags:
            lines += ["| flag | meaning |", "|---|---|"]
            lines += [f"| `{_cell(flag)}` | {_cell(text)} |" for flag, text in flags]
            lines.append("")
    return "\n".join(lines)


def _positionals(parser: argparse.ArgumentParser) -> str:
    places = [a for a in parser._actions if not a.option_strings]  # noqa: SLF001
    return " ".join(f"[{a.dest}]" if a.nargs in ("?", "*", "...") else a.dest for a in places)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _roff(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-")


def manual(name: str) -> str:
    """Return the man page of one verb; of the program if the name is empty."""
    title = f"SAMPAN-{name.upper().replace(' ', '-')}" if name else "SAMPAN"
    lines = [f'.TH "{title}" "1" "" "sampan {__version__}" "User Commands"', ".SH NAME"]
    if not name:
        lines += ["sampan \\- pull, run and supervise containers", ".SH SYNOPSIS"]
        lines += [".B sampan", "[flags] command ...", ".SH COMMANDS"]
        for verb, command in COMMANDS.items():
            page = f"sampan\\-{_roff(verb.replace(' ', '-'))}(1)"
            lines += [".TP", f".B {page}", _roff(command.summary)]
        lines.append(".SH FLAGS")
        for flag, text in GLOBAL:
            lines += [".TP", f".B {_roff(flag)}", _roff(text)]
        return "\n".join([*lines, ""])
    parser = parser_of(name)
    dashed = _roff(name.replace(" ", "-"))
    lines += [f"sampan\\-{dashed} \\- {_roff(COMMANDS[name].summary)}", ".SH SYNOPSIS"]
    lines += [f".B sampan {name}", f"[flags] {_roff(_positionals(parser))}", ".SH FLAGS"]
    for flag, text in flags_of(parser):
        lines += [".TP", f".B {_roff(flag)}", _roff(text) or "See docker\\-run(1)."]
    return "\n".join([*lines, ".SH SEE ALSO", "sampan(1)", ""])


def pages() -> dict[Path, str]:
    """Return every page by its path."""
    found = {HERE / "reference" / "cli.md": reference()}
    for name in ("", *COMMANDS):
        file = f"sampan-{name.replace(' ', '-')}.1" if name else "sampan.1"
        found[MANUAL / file] = manual(name)
    return found


def main() -> int:
    """Entry point; returns the exit status."""
    stale = 0
    wanted = pages()
    for old in set(MANUAL.glob("*.1")) - set(wanted):
        stale += 1
        if "--check" not in sys.argv:
            old.unlink()
    for path, text in wanted.items():
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if "--check" in sys.argv:
            sys.stdout.write(f"{path.relative_to(HERE.parent)} is not what the program says\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
