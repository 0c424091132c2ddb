-- The schema of version 1, frozen: a fixture of test_migrations.

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

CREATE TABLE ingests (
    namespace  TEXT NOT NULL,
    ref        TEXT NOT NULL,
    expected   TEXT NOT NULL DEFAULT '',
    expire_us  INTEGER NOT NULL,
    PRIMARY KEY (namespace, ref)
) STRICT, WITHOUT ROWID;

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
