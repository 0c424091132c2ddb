"""The rows of a snapshotter: what exists, on what it stands, and which folder is whose.

    snapshots(id, name, parent_id, kind, created, updated, inodes, size)
    labels(id, key, value)

One SQLite file a root, WAL, several processes at once. A write is BEGIN IMMEDIATE, well under a
millisecond; with synchronous=NORMAL a power cut may take the last ones back, never tear one.

Folders are made while the write lock is held and before the commit, under the row's id. So a folder
without a row belongs to nobody who lives: it is refuse of a process that died in between, and
whoever holds the write lock may move it away. Ids are never used twice once committed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sampan.concurrency.sqlite import write_ahead
from sampan.concurrency.trace import trace
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.storage.snapshots import Info, Kind, Usage

__all__ = ["Ledger", "Row"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  parent_id INTEGER REFERENCES snapshots(id),
  kind TEXT NOT NULL,
  created REAL NOT NULL,
  updated REAL NOT NULL,
  inodes INTEGER NOT NULL DEFAULT 0,
  size INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS children ON snapshots(parent_id);
CREATE TABLE IF NOT EXISTS labels (
  id INTEGER NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (id, key)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_COLUMNS = "id, name, parent_id, kind, created, updated, inodes, size"


@dataclass(frozen=True, slots=True)
class Row:
    """One snapshot, with its folder's number."""

    id: int
    name: str
    parent_id: int | None
    kind: Kind
    created: float
    updated: float
    inodes: int
    size: int


class Ledger:
    """The rows of one root. Blocking; of calls from several threads one at a time gets through."""

    def __init__(self, path: str) -> None:
        """Open or make the file `path`.

        Raises:
          FailedPrecondition: it was written by a newer version.
        """
        self._lock = threading.RLock()
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=30, cached_statements=64
        )
        os.chmod(path, 0o600)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > 1:
            self._db.close()
            raise FailedPrecondition(f"snapshots {path}: written by a newer version ({version})")
        write_ahead(self._db, 30)
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA foreign_keys=ON")
        if not version:
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock of all processes; commit at the end, roll back on an error."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                trace("snapshots.commit")
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            trace("snapshots.committed")

    def row(self, name: str) -> Row:
        """Return a row.

        Raises:
          NotFound: no such snapshot.
        """
        with self._lock:
            found = self._db.execute(
                f"SELECT {_COLUMNS} FROM snapshots WHERE name = ?",  # noqa: S608 - a constant
                (name,),
            ).fetchone()
        if found is None:
            raise NotFound(f"snapshot {name!r}: no such key or name")
        return _row(found)

    def ancestors(self, row: Row) -> list[int]:
        """Return the folder numbers below a row, its parent first."""
        with self._lock:
            found = self._db.execute(
                "WITH RECURSIVE up(id, parent_id, depth) AS ("
                " SELECT id, parent_id, 0 FROM snapshots WHERE id = ?"
                " UNION ALL SELECT s.id, s.parent_id, depth + 1 FROM snapshots s"
                " JOIN up ON s.id = up.parent_id)"
                " SELECT id FROM up WHERE depth > 0 ORDER BY depth",
                (row.id,),
            ).fetchall()
        return [one[0] for one in found]

    def info(self, name: str) -> Info:
        """Describe a snapshot; NotFound if there is none."""
        with self._lock:
            row = self.row(name)
            parent = self._db.execute(
                "SELECT name FROM snapshots WHERE id = ?", (row.parent_id,)
            ).fetchone()
            labels = dict(self._db.execute("SELECT key, value FROM labels WHERE id = ?", (row.id,)))
        return Info(
            row.kind,
            row.name,
            parent[0] if parent else "",
            datetime.fromtimestamp(row.created, UTC),
            datetime.fromtimestamp(row.updated, UTC),
            labels,
        )

    def names(self) -> list[str]:
        with self._lock:
            return [one[0] for one in self._db.execute("SELECT name FROM snapshots ORDER BY id")]

    def ids(self) -> set[int]:
        with self._lock:
            return {one[0] for one in self._db.execute("SELECT id FROM snapshots")}

    def create(
        self,
        key: str,
        parent: str,
        kind: Kind,
        labels: Mapping[str, str],
        make: Callable[[Row], None],
    ) -> Row:
        """Add a row, and let `make` lay its folder down before the row counts.

        Raises:
          AlreadyExists: the key is taken.
          NotFound: no such parent.
          InvalidArgument: the parent is not committed, or the key is empty or has a NUL.
        """
        if not key or "\0" in key:
            raise InvalidArgument(f"snapshot key {key!r}: must be text without NUL")
        with self.writing():
            parent_id = self._committed(parent).id if parent else None
            now = time.time()
            try:
                cursor = self._db.execute(
                    "INSERT INTO snapshots (name, parent_id, kind, created, updated)"
                    " VALUES (?, ?, ?, ?, ?)",
                    (key, parent_id, kind.value, now, now),
                )
            except sqlite3.IntegrityError:
                raise AlreadyExists(f"snapshot {key!r}: exists") from None
            number = cursor.lastrowid
            assert number is not None  # noqa: S101 - an INSERT has one
            self._set_labels(number, labels)
            row = Row(number, key, parent_id, kind, now, now, 0, 0)
            make(row)
            trace("snapshots.folder_made")
        return row

    def commit(
        self,
        name: str,
        key: str,
        labels: Mapping[str, str],
        parent: str | None,
        usage: Usage,
    ) -> None:
        """Turn an active row into a committed one; errors as `Snapshotter.commit`."""
        if not name or "\0" in name:
            raise InvalidArgument(f"snapshot name {name!r}: must be text without NUL")
        with self.writing():
            row = self.row(key)
            if row.kind is not Kind.ACTIVE:
                raise FailedPrecondition(f"snapshot {key!r}: is {row.kind.value}, not active")
            parent_id = row.parent_id
            if parent is not None:
                wanted = self._committed(parent).id if parent else None
                if parent_id is not None and wanted != parent_id:
                    raise InvalidArgument(f"snapshot {key!r}: has another parent than {parent!r}")
                parent_id = wanted
            now = time.time()
            try:
                self._db.execute(
                    "UPDATE snapshots SET name = ?, parent_id = ?, kind = ?, created = ?,"
                    " updated = ?, inodes = ?, size = ? WHERE id = ?",
                    (
                        name,
                        parent_id,
                        Kind.COMMITTED.value,
                        now,
                        now,
                        usage.inodes,
                        usage.size,
                        row.id,
                    ),
                )
            except sqlite3.IntegrityError:
                raise AlreadyExists(f"snapshot {name!r}: exists") from None
            self._db.execute("DELETE FROM labels WHERE id = ?", (row.id,))
            self._set_labels(row.id, labels)

    def update(self, info: Info, paths: Sequence[str]) -> Info:
        """Change labels; errors as `Snapshotter.update`."""
        with self.writing():
            row = self.row(info.name)
            for path in paths or ("labels",):
                if path == "labels":
                    self._db.execute("DELETE FROM labels WHERE id = ?", (row.id,))
                    self._set_labels(row.id, info.labels)
                elif path.startswith("labels.") and len(path) > len("labels."):
                    label = path[len("labels.") :]
                    self._db.execute("DELETE FROM labels WHERE id = ? AND key = ?", (row.id, label))
                    if info.labels.get(label):
                        self._set_labels(row.id, {label: info.labels[label]})
                else:
                    raise InvalidArgument(f"snapshot {info.name!r}: {path!r} cannot be changed")
            self._db.execute("UPDATE snapshots SET updated = ? WHERE id = ?", (time.time(), row.id))
        return self.info(info.name)

    def remove(self, key: str) -> Row:
        """Delete a row without children; its folder is the caller's to remove now.

        Raises:
          NotFound: no such snapshot.
          FailedPrecondition: others stand upon it.
        """
        with self.writing():
            row = self.row(key)
            try:
                self._db.execute("DELETE FROM snapshots WHERE id = ?", (row.id,))
            except sqlite3.IntegrityError:
                raise FailedPrecondition(
                    f"snapshot {key!r}: others stand upon it; remove them first"
                ) from None
        return row

    def _committed(self, name: str) -> Row:
        row = self.row(name)
        if row.kind is not Kind.COMMITTED:
            raise InvalidArgument(f"snapshot {name!r}: is {row.kind.value}, not a committed parent")
        return row

    def _set_labels(self, number: int, labels: Mapping[str, str]) -> None:
        if labels:
            self._db.executemany(
                "INSERT INTO labels (id, key, value) VALUES (?, ?, ?)",
                [(number, key, value) for key, value in labels.items() if value],
            )


def _row(found: tuple[int, str, int | None, str, float, float, int, int]) -> Row:
    number, name, parent_id, kind, created, updated, inodes, size = found
    return Row(number, name, parent_id, Kind(kind), created, updated, inodes, size)
