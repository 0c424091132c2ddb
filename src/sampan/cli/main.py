"""`sampan`: from the command line to one verb's module, and from its end to an exit status."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sampan import __version__
from sampan.cli.app import App, Quit
from sampan.cli.commands import COMMANDS, LATER, NOUNS
from sampan.errors import SampanError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_FLAGS = ("root", "state", "address", "config", "hosts-dir", "log-level", "namespace")
_RUNS = ("run", "create")
"""Verbs whose failures docker tells as 125; exec says 1, but for bad flags."""
"""Whose bad flags are 125."""
_CREATES = ("run", "create")
"""Whose other errors are, too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = _debug()
    try:
        status = _main(arguments)
        sys.stdout.flush()
    except Quit as end:
        if str(end):
            _complain(str(end))
        status = end.status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 141
    except KeyboardInterrupt:
        status = 130
    except SampanError as err:
        if debug:
            raise
        _complain(_text(err))
        status = 125 if _verb(arguments) in _CREATES else 1
    except OSError as err:
        if debug:
            raise
        _complain(f"{err.filename or 'system'}: {err.strerror or err}")
        status = 125 if _verb(arguments) in _CREATES else 1
    except Exception as err:
        if debug:
            raise
        _complain(f"internal error: {type(err).__name__}: {err}; SAMPAN_DEBUG=1 shows where")
        status = 125 if _verb(arguments) in _CREATES else 1
    return status


def _text(err: BaseException) -> str:
    return " ".join(str(err).split()) or type(err).__name__


def _complain(text: str) -> None:
    try:
        sys.stderr.write(f"sampan: {text}\n")
    except OSError:
        return


def _verb(arguments: list[str]) -> str:
    """Return the verb; of `network create` and its like, the noun."""
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif not argument.startswith("-"):
            if argument == "container":
                continue
            return argument
        elif argument.lstrip("-") in _FLAGS:
            skip = True
    return ""


def _main(arguments: list[str]) -> int:
    flags, rest = _global_flags(arguments)
    if not rest or rest[0] == "help":
        sys.stdout.write(_help())
        return 0
    if rest[0] == "__complete":
        return _complete(flags, rest[1:])
    name, rest = _command(rest)
    command = COMMANDS[name]
    module: Any = import_module(f"sampan.cli.{command.module}")
    from argparse import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str) -> Any:
            status = 125 if name in (*_RUNS, "exec") else 1
            raise Quit(status, f"{name}: {message}; see `sampan {name} --help`")

    parser = Parser(
        prog=f"sampan {name}",
        description=command.summary,
        allow_abbrev=False,
        conflict_handler="resolve",  # docker's -h is a hostname in run, and help elsewhere
    )
    module.configure(parser)
    args = parser.parse_args(_late_flags(_split(module, parser, rest), flags))
    app = _app(flags)
    if hasattr(module, "main"):
        status: int = module.main(app, args)
        return status
    import asyncio

    try:
        done: int = asyncio.run(module.run(app, args))
    except BaseExceptionGroup as several:
        raise _first(several) from several
    return done


def _app(flags: dict[str, str | None]) -> App:
    from sampan.engine.config import resolve

    settings = resolve(flags, os.environ)
    chosen = flags.get("log_level") or os.environ.get("SAMPAN_LOG_LEVEL")
    _logging(settings.log_level if chosen or settings.log_level != "warning" else "error")
    return App(settings, flags.get("namespace") or os.environ.get("SAMPAN_NAMESPACE") or "default")


def _complete(flags: dict[str, str | None], typed: list[str]) -> int:
    from sampan.cli.complete import words

    for word in words(_app(flags), typed):
        print(word)
    return 0


def _first(error: BaseException) -> BaseException:
    """Return the error that a group is about: tasks of one verb fail for one reason."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _valued(parser: Any) -> set[str]:
    """Return the flags of a parser that take a value of their own."""
    actions = [action for action in parser._actions if action.nargs != 0]  # noqa: SLF001
    return {flag for action in actions for flag in action.option_strings}


def _split(module: Any, parser: Any, rest: list[str]) -> list[str]:
    """Put `--` before the first word that is the container's, not ours.

    argparse would take flags of the container's command for flags of ours; a verb with POSITIONAL n
    has that many words before them. `sampan run host: -- ls -l` and `... host: ls -l` are the same.
    """
    count: int = getattr(module, "POSITIONAL", 0)
    if not count:
        return rest
    valued = _valued(parser) | {f"--{flag}" for flag in _FLAGS}
    at = 0
    seen = 0
    while at < len(rest):
        word = rest[at]
        if word == "--":
            at += 1
            tail = rest[at:]
            return [*rest[: at - 1], "--", *tail]
        if not word.startswith("-") or word == "-":
            seen += 1
            if seen == count:
                tail = rest[at + 1 :]
                if tail[:1] == ["--"]:
                    tail = tail[1:]
                return [*rest[:at], "--", word, *tail]
        elif word in valued or (not word.startswith("--") and word[:1] + word[-1] in valued):
            at += 1
        at += 1
    return rest


def _global_flags(arguments: list[str]) -> tuple[dict[str, str | None], list[str]]:
    flags: dict[str, str | None] = {}
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if not word.startswith("-"):
            break
        name, equals, value = word.lstrip("-").partition("=")
        if word in ("-h", "--help"):
            return flags, []
        if word in ("-v", "--version"):
            return flags, ["version"]
        if name == "debug":
            os.environ["SAMPAN_DEBUG"] = "1"
            at += 1
            continue
        if not word.startswith("--") or name not in _FLAGS:
            raise Quit(125, f"unknown flag {word}; see `sampan --help`")
        if not equals:
            at += 1
            if at >= len(arguments):
                raise Quit(125, f"flag {word} needs a value")
            value = arguments[at]
        flags[name.replace("-", "_")] = value
        at += 1
    return flags, arguments[at:]


def _late_flags(words: list[str], flags: dict[str, str | None]) -> list[str]:
    """Take our global flags from behind the verb, as far as the words are ours; return the rest."""
    end = words.index("--") if "--" in words else len(words)
    kept = []
    at = 0
    while at < end:
        name, equals, value = words[at].removeprefix("--").partition("=")
        if not words[at].startswith("--") or name not in _FLAGS:
            kept.append(words[at])
        else:
            if not equals:
                at += 1
                if at >= end:
                    raise Quit(125, f"flag --{name} needs a value")
                value = words[at]
            flags[name.replace("-", "_")] = value
        at += 1
    return [*kept, *words[end:]]


def _command(words: list[str]) -> tuple[str, list[str]]:
    first = words[0]
    if first in NOUNS:
        verbs = NOUNS[first]
        if len(words) == 1 or words[1] in ("-h", "--help"):
            raise Quit(0 if len(words) > 1 else 1, f"{first}: choose of {', '.join(sorted(verbs))}")
        if words[1] not in verbs:
            raise Quit(
                1, f"unknown command {first} {words[1]}; there are {', '.join(sorted(verbs))}"
            )
        return verbs[words[1]], words[2:]
    if first in COMMANDS:
        return first, words[1:]
    if first in LATER:
        raise Quit(1, f"{first} is not there yet")
    import difflib

    near = difflib.get_close_matches(first, COMMANDS, 1)
    hint = f"; did you mean {near[0]}?" if near else "; see `sampan --help`"
    raise Quit(1, f"unknown command {first}{hint}")


def _logging(level: str) -> None:
    import logging

    class Plain(logging.Formatter):
        """One line a record; tracebacks are for SAMPAN_DEBUG=1 and --log-level debug."""

        def format(self, record: logging.LogRecord) -> str:
            if level != "debug" and not _debug():
                record.exc_info, record.exc_text = None, None
            return super().format(record)

    handler = logging.StreamHandler()
    handler.setFormatter(Plain("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _debug() -> bool:
    return os.environ.get("SAMPAN_DEBUG") not in (None, "", "0")


def _help() -> str:
    lines = [
        f"sampan {__version__}: pull, run and supervise containers; no daemon needed.",
        "",
        "usage: sampan [flags] command ...",
        "",
        "commands:",
        *(f"  {name:<16} {command.summary}" for name, command in COMMANDS.items()),
        "",
        "flags, each also as SAMPAN_<NAME> in the environment:",
        "  --root DIR       what survives a reboot       --state DIR      what does not",
        "  --address SOCK   the daemon's socket          --config FILE    config.toml",
        "  --hosts-dir DIR  registries' hosts.toml       --log-level L    debug to critical",
        "  --namespace NS   whose containers and images",
        "",
        "try: sampan run --rm host: -- uname -a",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
