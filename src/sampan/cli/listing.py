"""Lists of things as docker prints them: a table, ids alone, JSON lines, or a template a row."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.cli.output import table
from sampan.errors import InvalidArgument

if TYPE_CHECKING:
    import argparse

__all__ = ["add", "filters_of", "matches", "show"]


def add(parser: argparse.ArgumentParser, *filters: str) -> None:
    """Add the flags that all lists have, and --filter if there are keys for it."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print names or ids only")
    parser.add_argument(
        "--format", default="", metavar="TEMPLATE", help="json, table or a template"
    )
    if filters:
        parser.add_argument(
            "-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
            help=f"only what matches; keys: {', '.join(filters)}",
        )  # fmt: skip


def filters_of(texts: Sequence[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Return the filters by key; values of one key are alternatives.

    Raises:
      InvalidArgument: one is malformed, or its key unknown.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            raise InvalidArgument(f"filter {text!r}: there are {', '.join(f'{k}=' for k in known)}")
        found.setdefault(key, []).append(value)
    return found


def matches(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Tell whether labels have each `key` or `key=value`."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def show(
    args: argparse.Namespace,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    key: str,
) -> None:
    """Print rows as the flags say.

    Args:
      args: With `quiet` and `format`.
      rows: All that a template may name.
      columns: Of the table: name of the field, its heading.
      key: The field that --quiet prints.
    """
    form = args.format
    if args.quiet and not form:
        for row in rows:
            print(row[key])
    elif form == "json":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=str))
    elif form and not form.startswith("table"):
        from sampan.cli.template import render

        for row in rows:
            sys.stdout.write(render(form, row) + "\n")
    elif form.startswith("table "):
        _templated_table(form.removeprefix("table "), rows, columns)
    else:
        table(list(columns.values()), ([str(row[name]) for name in columns] for row in rows))


def _templated_table(
    template: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> None:
    from sampan.cli.template import fields_of, render

    template = template.replace("\\t", "\t")
    cells = template.split("\t")
    heads = []
    for cell in cells:
        names = fields_of(cell)
        heads.append(" ".join(columns.get(name, name.upper()) for name in names))
    table(heads, (render(template, row).split("\t") for row in rows))
