"""The switch to write-ahead logging waits for whoever holds the file."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from sampan.concurrency.sqlite import write_ahead


def test_it_waits_for_the_lock_and_gives_up_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as holder,
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other,
    ):
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError):
            write_ahead(other, 0.02)
        release = threading.Timer(0.05, lambda: holder.execute("ROLLBACK"))
        release.start()
        write_ahead(other, 10)
        release.join()
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
