"""From every older version of the database to this one, a step a version.

Each step runs in the one transaction that also raises `user_version`, so that a process killed in
it leaves the old version whole. A newer database is refused: it may hold what we would not keep.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sampan.concurrency.trace import trace
from sampan.errors import FailedPrecondition

__all__ = ["APPLICATION_ID", "VERSION", "migrate"]

APPLICATION_ID: Final = 0x53414D50
"""`SAMP`, in the header of the file: what file(1) and we know it by."""


def _ingests_name_their_owner(tx: sqlite3.Connection) -> None:
    """1 to 2: commits in progress name the process that makes them."""
    tx.execute("ALTER TABLE ingests ADD COLUMN committing TEXT NOT NULL DEFAULT ''")
    tx.execute("ALTER TABLE ingests ADD COLUMN owner TEXT NOT NULL DEFAULT ''")


STEPS: Final[Mapping[int, Callable[[sqlite3.Connection], None]]] = {1: _ingests_name_their_owner}
"""The step that leads from a version to the next."""

VERSION: Final = 2


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Create the schema in an empty database, or bring an older one to VERSION.

    Raises:
      FailedPrecondition: the database is newer than this program, or is not ours.
    """
    if _version(connection, path) == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have migrated while we waited for the lock.
        version = _version(connection, path)
        if version == 0:
            schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
            for statement in _statements(schema):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            for step in range(version, VERSION):
                STEPS[step](connection)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        trace("metadata.migrating")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise FailedPrecondition(f"{path} is not a database of Sampan's: choose another root")
    if version > VERSION:
        raise FailedPrecondition(
            f"{path} has schema version {version}, and this program knows only {VERSION}:"
            " use the newer program that wrote it"
        )
    return int(version)


def _statements(script: str) -> list[str]:
    """Split a script: `executescript` would commit the transaction we are in."""
    statements: list[str] = []
    text = ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            statements.append(text)
            text = ""
    return statements
