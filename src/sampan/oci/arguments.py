"""Parsing words for `sampan-oci`: runc's flags, before or after the id; argparse costs 10 ms."""

from __future__ import annotations

from sampan.errors import InvalidArgument

__all__ = ["Flags", "parse"]


class Flags:
    """What a command line said: values by long name, and the rest in order."""

    __slots__ = ("rest", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.rest: list[str] = []

    def has(self, name: str) -> bool:
        return self.values.get(name, ["false"])[-1] != "false"

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]

    def all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def number(self, name: str) -> int:
        text = self.get(name, "0")
        if not (text.isascii() and text.isdigit()):
            raise InvalidArgument(f"--{name} wants a number, not {text!r}")
        return int(text)


def parse(
    arguments: list[str], known: str, *, stop_after: int | None = None
) -> tuple[Flags, list[str]]:
    """Parse flags and up to `stop_after` other words; return them and what was not looked at.

    Args:
      arguments: The words.
      known: Names, with `=` if they take a value, `|` before a short form: `bundle=|b detach|d`.
      stop_after: After so many plain words the rest is not ours (a program to execute).
    """
    table: dict[str, tuple[str, bool]] = {}
    for word in known.split():
        names = word.split("|")
        name = names[0].rstrip("=")
        takes = names[0].endswith("=")
        for alias in (name, *names[1:]):
            table[alias] = (name, takes)
    flags = Flags()
    at = 0
    while at < len(arguments):
        if stop_after is not None and len(flags.rest) >= stop_after:
            break
        word = arguments[at]
        at += 1
        if word == "--":
            # everything after it is plain
            flags.rest += arguments[at:] if stop_after is None else []
            at = len(arguments) if stop_after is None else at
            break
        if not word.startswith("-") or word == "-" or (word[1:2].isdigit() and flags.rest):
            flags.rest.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if name not in table:
            raise InvalidArgument(f"flag provided but not defined: -{name}")
        canonical, takes = table[name]
        if takes and not equals:
            if at >= len(arguments):
                raise InvalidArgument(f"flag needs an argument: -{name}")
            value = arguments[at]
            at += 1
        elif not takes:
            value = value or "true"
        flags.values.setdefault(canonical, []).append(value)
    return flags, arguments[at:]
