"""A database of each older version becomes what a new one is, and keeps what it holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sampan import context
from sampan.metadata import Metadata
from sampan.metadata.migrations import APPLICATION_ID, VERSION


def version_1(path: Path) -> None:
    """Make a database as version 1 made it: today's, without what step 1 adds."""
    path.parent.mkdir()
    schema = Path(__file__).with_name("schema_1.sql").read_text()
    raw = sqlite3.connect(path)
    raw.executescript(schema)
    raw.execute("INSERT INTO namespaces (name) VALUES ('ns')")
    raw.execute("INSERT INTO leases VALUES ('ns', 'old', '{\"a\":\"b\"}', 5)")
    raw.execute("INSERT INTO ingests (namespace, ref, expire_us) VALUES ('ns', 'r', 1)")
    raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    raw.execute("PRAGMA user_version = 1")
    raw.commit()
    raw.close()


def columns(path: Path) -> dict[str, set[tuple[str, str]]]:
    raw = sqlite3.connect(path)
    tables = [row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {
        table: {(row[1], row[2]) for row in raw.execute(f"PRAGMA table_info({table})")}
        for table in tables
    }
    assert raw.execute("PRAGMA user_version").fetchone() == (VERSION,)
    raw.close()
    return found


async def test_version_1(tmp_path: Path) -> None:
    version_1(tmp_path / "metadata" / "meta.db")
    async with await Metadata.open(tmp_path) as metadata:
        with context.scope("ns"):
            assert (await metadata.leases.get("old")).labels == {"a": "b"}
        await metadata.collect()
    async with await Metadata.open(tmp_path / "new"):
        pass
    old, new = (
        columns(tmp_path / "metadata" / "meta.db"),
        columns(tmp_path / "new" / "metadata" / "meta.db"),
    )
    assert old == new
