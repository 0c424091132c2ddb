"""`sampan completion`: a script for bash, zsh or fish that completes verbs, flags and names.

The script asks `sampan __complete WORD...`, so it never has to be made anew.
"""

from __future__ import annotations

import argparse
import sys

from sampan.cli.app import App

__all__ = ["configure", "main"]

_BASH = """\
_sampan() {
    local words
    words=$(sampan __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _sampan sampan
"""
_ZSH = """\
#compdef sampan
_sampan() {
    local -a found
    found=(${(f)"$(sampan __complete "${words[@]:1:$((CURRENT - 1))}" 2>/dev/null)"})
    compadd -a found || _files
}
compdef _sampan sampan
"""
_FISH = """\
complete -c sampan -f -a '(sampan __complete (commandline -opc)[2..] (commandline -ct))'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=sorted(_SCRIPTS))


def main(app: App, args: argparse.Namespace) -> int:
    sys.stdout.write(_SCRIPTS[args.shell])
    return 0
