"""One SQLite file, one thread: transactions that are short, whole, and safe among many processes.

    await db.view(fn)                  fn(connection) in a read transaction: one consistent state
    await db.update(fn)                fn(connection) in BEGIN IMMEDIATE: committed or undone
    await db.update(fn, durable=True)  ... and on the disk when it returns (synchronous=FULL)

`fn` runs in the database's thread; it is short and does no other I/O. Updates that wait for their
turn together are committed together (`queue`): one write to the disk serves them all. Writers of
all processes on one root take turns: one that waits longer than BUSY_S gives up with Unavailable.
IMMEDIATE, because a transaction that first reads and then wants to write could find that another
has written between, and would fail after its work instead of waiting before it.

Without `durable`, a commit survives the death of the process, but the machine's death may undo the
latest ones; WAL keeps their order, so no state is torn, and the next durable commit carries them.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from sampan.concurrency import SingleThread
from sampan.concurrency.sqlite import write_ahead
from sampan.concurrency.trace import trace
from sampan.errors import DataLoss, Internal, PermissionDenied, ResourceExhausted, Unavailable
from sampan.metadata.migrations import migrate
from sampan.metadata.queue import Job, Kind, Queue

__all__ = ["BUSY_S", "Database", "Tx"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Tx = sqlite3.Connection
"""What `fn` gets: valid until it returns."""

BUSY_S: Final = 20.0
_CHECKPOINT_PAGES: Final = 2000


class Database:
    """The connection of this process; every statement runs in its one thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: SingleThread) -> None:
        self.path = path
        self._connection = connection
        self._thread = thread
        self._full = True
        self._queue = Queue(thread, self._view, self._update)

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Open the file, make it if there is none, migrate it if it is older.

        Raises:
          FailedPrecondition: it is newer than we are, or not ours.
          DataLoss: it is damaged.
        """
        thread = SingleThread("metadata")
        try:
            connection = await thread.call(_connect, path)
        except BaseException:
            thread.close()
            raise
        return cls(path, connection, thread)

    async def view(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` on one consistent state and return what it returns; it must not write."""
        return await self._queue.call(fn, Kind.VIEW)

    async def update(self, fn: Callable[[Tx], T], *, durable: bool = False) -> T:
        """Run `fn` in a write transaction and return what it returns; what it raises undoes all.

        Cancelled while it waits for its turn, it has not happened; later, it may have.

        Raises:
          Unavailable: other processes kept the database locked for BUSY_S.
          ResourceExhausted: the disk is full; nothing happened.
        """
        return await self._queue.call(fn, Kind.DURABLE if durable else Kind.UPDATE)

    async def close(self) -> None:
        """Finish queued calls and close. The last process folds the log into the file."""
        await self._thread.call(self._connection.close)
        # Ending a thread that has nothing left to do takes no time worth a thread.
        self._thread.close()

    def _view(self, job: Job) -> None:
        try:
            with _translated(self.path):
                self._connection.execute("BEGIN")
                try:
                    job.result = job.fn(self._connection)
                finally:
                    self._connection.execute("ROLLBACK")
        except BaseException as err:  # noqa: BLE001 - raised where it is waited for
            job.error = err

    def _update(self, jobs: list[Job]) -> None:
        """Do all in one transaction; each that fails is undone alone."""
        durable = any(job.kind is Kind.DURABLE for job in jobs)
        try:
            with _translated(self.path):
                if durable is not self._full:
                    mode = "FULL" if durable else "NORMAL"
                    self._connection.execute(f"PRAGMA synchronous = {mode}")
                    self._full = durable
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    alone = len(jobs) == 1
                    done = [job for job in jobs if self._counts(job, alone=alone)]
                    trace("metadata.commit")
                    self._connection.execute("COMMIT" if done else "ROLLBACK")
                except BaseException:
                    # A failed COMMIT may have rolled back by itself.
                    with suppress(sqlite3.OperationalError):
                        self._connection.execute("ROLLBACK")
                    raise
                trace("metadata.committed")
        except BaseException as err:  # noqa: BLE001 - raised where it is waited for
            for job in jobs:
                if job.error is None:
                    job.result, job.error = None, _again(err)

    def _counts(self, job: Job, *, alone: bool) -> bool:
        """Do one of the updates; True if it counts."""
        if not alone:
            self._connection.execute("SAVEPOINT one")
        try:
            with _translated(self.path):
                job.result = job.fn(self._connection)
        except BaseException as err:
            job.error = err
            if not self._connection.in_transaction:
                # SQLite itself has undone everything: the disk is full, say.
                raise
            if not alone:
                self._connection.execute("ROLLBACK TO one")
        if not alone:
            self._connection.execute("RELEASE one")
        return job.error is None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The file holds container specs, environments and their secrets included.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except PermissionError as err:
        raise PermissionDenied(f"open {path}: {err.strerror}: run as the root's owner") from err
    except OSError as err:
        raise ResourceExhausted(f"open {path}: {err.strerror}") from err
    with _translated(path):
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            write_ahead(connection, BUSY_S)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            connection.execute("PRAGMA trusted_schema = OFF")
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _again(err: BaseException) -> BaseException:
    """Return another error like this: several may raise it, each with a traceback of its own."""
    try:
        made = type(err)(*err.args)
    except TypeError:
        return err
    made.__cause__ = err.__cause__
    return made


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours. Source: sqlite.org/rescode.html."""
    try:
        yield
    except sqlite3.Error as err:
        code = getattr(err, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Unavailable(
                f"{path} stayed locked by another process for {BUSY_S:g} s: try again"
            ) from err
        if code == sqlite3.SQLITE_FULL:
            raise ResourceExhausted(f"no space left to write {path}: free some and try") from err
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DataLoss(f"{path} is damaged ({err}): restore it, or start a new root") from err
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            raise PermissionDenied(f"cannot write {path}: {err}") from err
        if code == sqlite3.SQLITE_IOERR:
            raise ResourceExhausted(f"reading or writing {path} failed: {err}") from err
        raise Internal(f"statement on {path} failed: {err}") from err
