"""What every SQLite file of ours that several processes open has in common."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["write_ahead"]

_PAUSE_S = 0.005


def write_ahead(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Switch a file to write-ahead logging, also while other processes open it for the first time.

    The switch needs the file for itself, and SQLite does not wait for it as it does for others'
    transactions: of two processes that make one file, one is told at once that it is locked.

    Raises:
      sqlite3.OperationalError: it stayed locked for `timeout_s` seconds.

    Source: sqlite.org/wal.html, "Activating And Configuring WAL Mode".
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
