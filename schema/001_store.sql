-- The schema of a store, format 1. README.md beside this file explains every column.

CREATE TABLE changes (
    seq        INTEGER PRIMARY KEY,
    commit_seq INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    key        TEXT NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    prev       INTEGER NOT NULL,
    jump       INTEGER NOT NULL,
    value      BLOB,
    salt       BLOB,
    value_hash BLOB,
    meta       BLOB,
    hash       BLOB NOT NULL,
    before     BLOB,
    until      INTEGER
) STRICT;

CREATE TABLE kv_store (
    key        TEXT PRIMARY KEY NOT NULL,
    value      BLOB NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    checksum   BLOB NOT NULL,
    until      INTEGER
) STRICT;

CREATE TABLE tombstones (
    key        TEXT PRIMARY KEY NOT NULL,
    version    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    checksum   BLOB NOT NULL
) STRICT;

CREATE TABLE commit_ids (
    id         TEXT PRIMARY KEY NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    name       TEXT PRIMARY KEY NOT NULL,
    value      BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Always empty. The program that used kv_store before this one makes an index of this name, and stops at the table.
CREATE TABLE idx_kv_store_prefix (
    moved      INTEGER
) STRICT;

-- Last, as VACUUM makes it, so that a vacuumed file has its tables where they were.
CREATE INDEX kv_store_until ON kv_store(until) WHERE until IS NOT NULL;
