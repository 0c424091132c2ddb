-- Version 2 of the schema, as a new database gets it; migrations.py brings older ones here.
--
--   namespaces ◄─ images ────► content (by digest; one row a namespace that may see the blob)
--        ▲    ◄─ containers ─► snapshots (by snapshotter, key) ─► snapshots (parent)
--        │    ◄─ sandboxes
--        │    ◄─ leases ◄── lease_resources ─► content, images, ingests, snapshots
--        └──── ◄─ ingests (owner: the process whose commit is under way)
--
-- Arrows are names, not foreign keys: an object may outlive what it names, and only namespaces are
-- checked (when deleted). Times are microseconds since the epoch. `labels`, `extensions` and
-- descriptors are JSON; bytes in it are base64.

CREATE TABLE namespaces (
    name       TEXT PRIMARY KEY,
    labels     TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

CREATE TABLE images (
    namespace  TEXT NOT NULL,
    name       TEXT NOT NULL,
    digest     TEXT NOT NULL,
    target     TEXT NOT NULL,
    labels     TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE containers (
    namespace   TEXT NOT NULL,
    id          TEXT NOT NULL,
    image       TEXT NOT NULL,
    runtime     TEXT NOT NULL,
    options     TEXT,
    snapshotter TEXT NOT NULL,
    snapshot    TEXT NOT NULL,
    sandbox     TEXT NOT NULL,
    labels      TEXT NOT NULL,
    extensions  TEXT NOT NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL,
    spec_type   TEXT NOT NULL,
    spec        BLOB NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;

CREATE TABLE sandboxes (
    namespace  TEXT NOT NULL,
    id         TEXT NOT NULL,
    sandboxer  TEXT NOT NULL,
    runtime    TEXT NOT NULL,
    options    TEXT,
    labels     TEXT NOT NULL,
    extensions TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    spec_type  TEXT NOT NULL,
    spec       BLOB NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT;

CREATE TABLE content (
    namespace  TEXT NOT NULL,
    digest     TEXT NOT NULL,
    size       INTEGER NOT NULL,
    labels     TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX content_by_digest ON content (digest);

-- An ingest of this namespace; its bytes are under `<namespace>/<ref>` in the bare store. While
-- `owner` lives, a blob named `committing` may be on disk before its row in content is.
CREATE TABLE ingests (
    namespace  TEXT NOT NULL,
    ref        TEXT NOT NULL,
    expected   TEXT NOT NULL DEFAULT '',
    committing TEXT NOT NULL DEFAULT '',
    owner      TEXT NOT NULL DEFAULT '',
    expire_us  INTEGER NOT NULL,
    PRIMARY KEY (namespace, ref)
) STRICT, WITHOUT ROWID;

-- `backend` is the name in the bare store: `<namespace>/<owner>.<n>/<key>`. It names who made it, so
-- that nobody sweeps what a live process has made and not yet written down.
CREATE TABLE snapshots (
    namespace   TEXT NOT NULL,
    snapshotter TEXT NOT NULL,
    key         TEXT NOT NULL,
    parent      TEXT NOT NULL,
    backend     TEXT NOT NULL,
    kind        TEXT NOT NULL,
    labels      TEXT NOT NULL,
    created_us  INTEGER NOT NULL,
    updated_us  INTEGER NOT NULL,
    PRIMARY KEY (namespace, snapshotter, key),
    UNIQUE (snapshotter, backend)
) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent);

CREATE TABLE leases (
    namespace  TEXT NOT NULL,
    id         TEXT NOT NULL,
    labels     TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_resources (
    namespace  TEXT NOT NULL,
    lease      TEXT NOT NULL,
    type       TEXT NOT NULL,
    id         TEXT NOT NULL,
    PRIMARY KEY (namespace, lease, type, id)
) STRICT, WITHOUT ROWID;
