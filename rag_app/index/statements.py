"""The longer statements of the journal, in the SQL that SQLite and PostgreSQL share.

`{g}` stands for the condition that a row is of the generation, `:s` for a document's source. A
chunk's state has two bits: 1, it is published; 2, it is of a planned version. Without either it is
to be pruned.
"""

from __future__ import annotations

from typing import Final

PLAN_DOCUMENT: Final = """
INSERT INTO documents (generation, source, origin, planned, planned_content, planned_metadata, gone)
VALUES (:g, :s, :origin, :planned, :content, :metadata, 0)
ON CONFLICT (generation, source) DO UPDATE SET origin = excluded.origin,
    planned = excluded.planned, planned_content = excluded.planned_content,
    planned_metadata = excluded.planned_metadata, gone = 0
"""
PLAN_CHUNK: Final = """
INSERT INTO chunks VALUES (:g, :id, :s, :state)
ON CONFLICT (generation, id) DO UPDATE SET state = chunks.state % 2 + 2
"""
UNPLAN: Final = (
    "DELETE FROM staged WHERE {g} AND source = :s",
    "UPDATE chunks SET state = state % 2 WHERE {g} AND source = :s AND state >= 2",
    "UPDATE documents SET planned = NULL, planned_content = NULL, planned_metadata = NULL "
    "WHERE {g} AND source = :s",
)
RECORD_ORIGIN: Final = """
INSERT INTO origins (generation, origin, fingerprint, settings, entry)
VALUES (:g, :o, :fingerprint, :settings, :entry)
ON CONFLICT (generation, origin) DO UPDATE SET fingerprint = excluded.fingerprint,
    settings = excluded.settings, entry = excluded.entry
"""
INSERT_QUARANTINE: Final = """
INSERT INTO quarantine (generation, source, origin, reason) VALUES (:g, :s, :o, :reason)
ON CONFLICT (generation, source) DO UPDATE SET origin = excluded.origin, reason = excluded.reason
"""
QUARANTINE: Final = """
INSERT INTO quarantine (generation, source, origin, reason)
SELECT generation, source, origin, CAST(:reason AS TEXT) FROM documents WHERE {g} AND source = :s
ON CONFLICT (generation, source) DO UPDATE SET origin = excluded.origin, reason = excluded.reason
"""
READ_AGAIN: Final = """
UPDATE origins SET fingerprint = NULL WHERE {g} AND origin IN
    (SELECT origin FROM documents WHERE {g} AND source = :s)
"""
SETTLE: Final = "UPDATE origins SET fingerprint = :fingerprint WHERE {g} AND origin = :s"
FORGET_UNPUBLISHED: Final = "DELETE FROM documents WHERE {g} AND source = :s AND version IS NULL"
DESCRIBE: Final = "SELECT revision, coming, published FROM generations WHERE number = :g"
CHANGES: Final = "SELECT count(*) FROM documents WHERE {g} AND (planned IS NOT NULL OR gone <> 0)"
PUBLISH: Final = (
    "UPDATE chunks SET state = state / 2 WHERE {g} AND source IN "
    "(SELECT source FROM documents WHERE {g} AND planned IS NOT NULL)",
    "UPDATE documents SET version = planned, content = planned_content, "
    "metadata = planned_metadata, planned = NULL, planned_content = NULL, planned_metadata = NULL "
    "WHERE {g} AND planned IS NOT NULL",
    "UPDATE chunks SET state = 0 WHERE {g} AND source IN "
    "(SELECT source FROM documents WHERE {g} AND gone <> 0)",
    "DELETE FROM documents WHERE {g} AND gone <> 0",
    "DELETE FROM origins WHERE {g} AND origin NOT IN "
    "(SELECT origin FROM documents WHERE {g} UNION SELECT origin FROM quarantine WHERE {g})",
)
SWEEP: Final = """
DELETE FROM contents WHERE key NOT IN (
    SELECT content FROM documents WHERE content IS NOT NULL
    UNION SELECT planned_content FROM documents WHERE planned_content IS NOT NULL)
"""
