from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from sampan.errors import DataLoss, FailedPrecondition, ResourceExhausted, SampanError
from sampan.metadata.db import Database
from sampan.metadata.migrations import APPLICATION_ID, VERSION


async def test_update_is_whole_or_nothing(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "m" / "meta.db")

    def fail(tx: sqlite3.Connection) -> None:
        tx.execute("INSERT INTO namespaces (name) VALUES ('a')")
        raise FailedPrecondition("no")

    with pytest.raises(FailedPrecondition):
        await db.update(fail)
    count = "SELECT count(*) FROM namespaces"
    assert await db.view(lambda tx: tx.execute(count).fetchone()) == (0,)
    await db.update(lambda tx: tx.execute("INSERT INTO namespaces (name) VALUES ('a')") and None)
    # A view cannot write: what it tries is undone.
    await db.view(lambda tx: tx.execute("DELETE FROM namespaces") and None)
    assert await db.view(lambda tx: tx.execute(count).fetchone()) == (1,)
    await db.close()
    assert (tmp_path / "m" / "meta.db").stat().st_mode & 0o777 == 0o600


async def test_durability_is_chosen_a_transaction(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "meta.db")

    def mode(tx: sqlite3.Connection) -> int:
        return int(tx.execute("PRAGMA synchronous").fetchone()[0])

    assert await db.update(mode, durable=True) == 2
    assert await db.update(mode) == 1
    assert await db.update(mode, durable=True) == 2
    await db.close()


async def test_newer_foreign_and_damaged_are_refused(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as raw:
        raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        raw.execute(f"PRAGMA user_version = {VERSION + 1}")
    raw.close()
    with pytest.raises(FailedPrecondition, match="use the newer program"):
        await Database.open(newer)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as raw:
        raw.execute("CREATE TABLE other (a)")
    raw.close()
    with pytest.raises(FailedPrecondition, match="not a database of Sampan"):
        await Database.open(foreign)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(DataLoss):
        await Database.open(damaged)


async def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((ResourceExhausted, SampanError)):
        await Database.open(tmp_path / "file" / "meta.db")
