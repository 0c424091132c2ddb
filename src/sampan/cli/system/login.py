"""`sampan login`: keep credentials for a registry, after the registry has taken them."""

from __future__ import annotations

import argparse
import getpass
import sys

from sampan.cli.app import App, Quit
from sampan.concurrency import to_thread

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-u", "--username", default="", help="who you are to the registry")
    parser.add_argument("-p", "--password", default="", help="seen by every user of this host")
    parser.add_argument("--password-stdin", action="store_true", help="read it from stdin")
    parser.add_argument("registry", nargs="?", default="docker.io")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.distribution.registry.login import check, store

    if args.password and args.password_stdin:
        raise Quit(1, "login: --password and --password-stdin exclude each other")
    username = args.username
    if not username:
        if args.password_stdin or not sys.stdin.isatty():
            raise Quit(1, "login: name the user with -u where nobody can be asked")
        username = await to_thread(input, "Username: ")
    password = args.password
    if args.password_stdin:
        password = (await to_thread(sys.stdin.read)).rstrip("\r\n")
    elif not password:
        if not sys.stdin.isatty():
            raise Quit(1, "login: give the password with --password-stdin")
        password = await to_thread(getpass.getpass)
    await check(args.registry, username, password, hosts_dir=app.settings.hosts_dir)
    path = await to_thread(store, args.registry, username, password)
    print(f"Login Succeeded; kept in {path}")
    return 0
