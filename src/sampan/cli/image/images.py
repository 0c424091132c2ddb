"""`sampan images`: list the images that are here."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from sampan.cli.app import App
from sampan.cli.output import age, size, table
from sampan.errors import InvalidArgument

__all__ = ["configure", "run"]

_SHORT = 12


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="accepted: all are shown")
    parser.add_argument("-q", "--quiet", action="store_true", help="print ids only")
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids")
    parser.add_argument("--digests", action="store_true", help="show digests")
    parser.add_argument("--format", default="", metavar="TEMPLATE", help="json, or a Go template")
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="reference=PATTERN",
        help="only what matches",
    )
    parser.add_argument("reference", nargs="?", default="", help="only names that match")


async def run(app: App, args: argparse.Namespace) -> int:
    from sampan.cli.image.listing import rows_of

    patterns = [args.reference] if args.reference else []
    for text in args.filter:
        key, _, value = text.partition("=")
        if key not in ("reference", "dangling"):
            raise InvalidArgument(f"filter {text!r}: there are reference=PATTERN and dangling=BOOL")
        if key == "reference":
            patterns.append(value)
    async with app.client() as client:
        rows = await rows_of(client, patterns)
    rows.sort(key=lambda row: row["CreatedAtSeconds"], reverse=True)
    for row in rows:
        if not args.no_trunc:
            row["ID"] = row["ID"].partition(":")[2][:_SHORT]
        row["CreatedSince"] = f"{age(row.pop('CreatedAtSeconds'))} ago"
        row["Size"] = size(row.pop("SizeBytes"))
    if args.quiet:
        for row in rows:
            print(row["ID"])
    elif args.format:
        _formatted(args.format, rows)
    else:
        columns = ["Repository", "Tag", *(["Digest"] if args.digests else []), "ID"]
        names = [*(column.upper() for column in columns), "CREATED", "SIZE"]
        names[names.index("ID")] = "IMAGE ID"
        columns += ["CreatedSince", "Size"]
        table(names, ([row[column] for column in columns] for row in rows))
    return 0


def _formatted(template: str, rows: list[dict[str, Any]]) -> None:
    from sampan.cli.template import render

    for row in rows:
        sys.stdout.write(render(template, row) + "\n")
