//! Schema of the journal: the statements that create its tables, and the migration of older journals.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::JournalError;
use super::file_header::{APPLICATION_ID, VERSION};

/// Migrations: SQL statements, one text for each version. Never change a released migration: add a new migration at the
/// end.
///
/// Times are UTC texts of fixed width. The alphabetical order of these texts is the order of the times.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE processes (
    id      INTEGER PRIMARY KEY,
    pid     INTEGER NOT NULL,
    -- File beside the journal that the process holds locked while it lives.
    lock    TEXT NOT NULL UNIQUE,
    -- Number of probes that checked if the journal can be written.
    probes  INTEGER NOT NULL DEFAULT 0,
    -- Set once the process was found dead.
    gone    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE runs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    process      INTEGER NOT NULL REFERENCES processes (id),
    entry        TEXT NOT NULL,
    trigger      TEXT NOT NULL,
    scheduled_at TEXT,
    started      TEXT NOT NULL,
    ended        TEXT,
    outcome      TEXT,
    copied       INTEGER NOT NULL DEFAULT 0,
    kept         INTEGER NOT NULL DEFAULT 0,
    refused      INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    bytes        INTEGER NOT NULL DEFAULT 0,
    error        TEXT
) STRICT;
CREATE INDEX runs_by_entry ON runs (entry, started);
CREATE INDEX runs_by_start ON runs (started);
CREATE UNIQUE INDEX one_run_per_entry ON runs (entry) WHERE ended IS NULL;

CREATE TABLE tag_observations (
    entry         TEXT NOT NULL,
    source        TEXT NOT NULL,
    target        TEXT NOT NULL,
    tag           TEXT NOT NULL,
    source_digest TEXT NOT NULL,
    target_digest TEXT,
    first_seen    TEXT NOT NULL,
    last_seen     TEXT NOT NULL,
    PRIMARY KEY (entry, source, target, tag, source_digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE transfers (
    id      INTEGER PRIMARY KEY,
    run     INTEGER NOT NULL REFERENCES runs (id),
    source  TEXT NOT NULL,
    target  TEXT NOT NULL,
    digest  TEXT NOT NULL,
    size    INTEGER NOT NULL,
    started TEXT NOT NULL,
    ended   TEXT,
    outcome TEXT,
    error   TEXT
) STRICT;
CREATE INDEX transfers_by_run ON transfers (run, digest);
CREATE INDEX transfers_by_target ON transfers (target);

CREATE TABLE evidence (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    run              INTEGER NOT NULL REFERENCES runs (id),
    entry            TEXT NOT NULL,
    source           TEXT NOT NULL,
    source_reference TEXT NOT NULL,
    source_digest    TEXT NOT NULL,
    target           TEXT NOT NULL,
    tag              TEXT,
    digest           TEXT NOT NULL,
    media_type       TEXT NOT NULL,
    manifests        INTEGER NOT NULL,
    blobs_copied     INTEGER NOT NULL,
    blobs_mounted    INTEGER NOT NULL,
    blobs_found      INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    source_identity  TEXT NOT NULL,
    target_identity  TEXT NOT NULL,
    started          TEXT NOT NULL,
    ended            TEXT NOT NULL
) STRICT;
CREATE INDEX evidence_by_end ON evidence (ended);
CREATE INDEX evidence_by_digest ON evidence (digest);
CREATE INDEX evidence_by_target ON evidence (target, tag);

CREATE TABLE derived (
    source_digest  TEXT NOT NULL,
    platforms      TEXT NOT NULL,
    derived_digest TEXT NOT NULL,
    PRIMARY KEY (source_digest, platforms)
) STRICT, WITHOUT ROWID;
",
    "
-- Time at which a source was last queried for the referrers of a digest, on behalf of a target, and the digest of the
-- list that arrived there.
CREATE TABLE referrer_checks (
    source  TEXT NOT NULL,
    subject TEXT NOT NULL,
    target  TEXT NOT NULL,
    checked TEXT NOT NULL,
    list    TEXT,
    PRIMARY KEY (source, subject, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX referrer_checks_by_instant ON referrer_checks (checked);
",
    "
-- Last report of a registry about a pull quota: the number of remaining reads of manifests in a window, in seconds.
CREATE TABLE quotas (
    registry  TEXT NOT NULL,
    identity  TEXT NOT NULL,
    allowed   INTEGER NOT NULL,
    seconds   INTEGER NOT NULL,
    remaining INTEGER NOT NULL,
    told      TEXT NOT NULL,
    PRIMARY KEY (registry, identity)
) STRICT, WITHOUT ROWID;
-- Number of tags that wait until their source may be read again, and the end of that wait.
ALTER TABLE runs ADD COLUMN postponed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN postponed_until TEXT;
",
    "
-- Number of consecutive failures right before this run whose rows are deleted.
ALTER TABLE runs ADD COLUMN failures_before INTEGER NOT NULL DEFAULT 0;
-- Indexes for the deletion of old rows.
CREATE INDEX runs_by_outcome ON runs (entry, outcome);
CREATE INDEX runs_by_firing ON runs (entry, scheduled_at) WHERE scheduled_at IS NOT NULL;
CREATE INDEX runs_by_process ON runs (process);
CREATE INDEX transfers_by_end ON transfers (ended);
CREATE INDEX evidence_by_run ON evidence (run);
CREATE INDEX tag_observations_by_sight ON tag_observations (entry, source, target, last_seen);
",
    "
-- Last pause of an entry, the time at which it ends automatically, and the time at which an operator ended it. The row
-- is not deleted after the pause, so that scheduled runs during the pause do not count as missed.
CREATE TABLE pauses (
    entry TEXT PRIMARY KEY,
    since TEXT NOT NULL,
    until TEXT,
    ended TEXT
) STRICT, WITHOUT ROWID;
-- Notices that wait for delivery, in the order of their numbers for each receiver.
CREATE TABLE notices (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    message  TEXT NOT NULL,
    receiver TEXT NOT NULL,
    -- An entry. Empty for the configuration.
    subject  TEXT NOT NULL,
    event    TEXT NOT NULL,
    body     TEXT NOT NULL,
    made     TEXT NOT NULL
) STRICT;
CREATE INDEX notices_by_receiver ON notices (receiver, id);
-- Facts about a subject that were sent to a receiver, so that each fact is sent once.
CREATE TABLE notices_told (
    subject  TEXT NOT NULL,
    receiver TEXT NOT NULL,
    fact     TEXT NOT NULL,
    since    TEXT NOT NULL,
    PRIMARY KEY (subject, receiver, fact)
) STRICT, WITHOUT ROWID;
",
    "
-- Uploads that have not ended: location, number of uploaded bytes, and state of the hash of these bytes.
CREATE TABLE uploads (
    target  TEXT NOT NULL,
    digest  TEXT NOT NULL,
    run     INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    session TEXT NOT NULL,
    stored  INTEGER NOT NULL,
    hashed  BLOB NOT NULL,
    noted   TEXT NOT NULL,
    PRIMARY KEY (target, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_run ON uploads (run);
",
    "
-- Digest that the tag had at the target before. Time at which a later run completed this evidence, if the run of the
-- evidence was interrupted.
ALTER TABLE evidence ADD COLUMN previous TEXT;
ALTER TABLE evidence ADD COLUMN recovered TEXT;
-- Intents: an intent is written before its tag is written, and deleted when its evidence is written.
CREATE TABLE intents (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    run              INTEGER NOT NULL REFERENCES runs (id),
    entry            TEXT NOT NULL,
    source           TEXT NOT NULL,
    source_reference TEXT NOT NULL,
    source_digest    TEXT NOT NULL,
    target           TEXT NOT NULL,
    tag              TEXT,
    previous         TEXT,
    digest           TEXT NOT NULL,
    media_type       TEXT NOT NULL,
    manifests        INTEGER NOT NULL,
    blobs_copied     INTEGER NOT NULL,
    blobs_mounted    INTEGER NOT NULL,
    blobs_found      INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    source_identity  TEXT NOT NULL,
    target_identity  TEXT NOT NULL,
    started          TEXT NOT NULL,
    ended            TEXT NOT NULL
) STRICT;
CREATE INDEX intents_by_run ON intents (run, target);
CREATE INDEX intents_by_entry ON intents (entry, target);
-- Manual copies have no entry in the configuration. Any number of manual copies may run at once.
DROP INDEX one_run_per_entry;
CREATE UNIQUE INDEX one_run_per_entry ON runs (entry) WHERE ended IS NULL AND entry <> '(copy)';
",
    "
-- Facts that the delivery of a notice adds (1) to the facts that its receiver knows, or removes (0) from them.
CREATE TABLE notice_effects (
    id     INTEGER PRIMARY KEY,
    notice INTEGER NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    fact   TEXT NOT NULL,
    since  TEXT NOT NULL,
    learnt INTEGER NOT NULL
) STRICT;
CREATE INDEX notice_effects_by_notice ON notice_effects (notice);
",
    "
-- Number of bytes of an upload, and the state of their hash, after the chunk that was about to be sent.
ALTER TABLE uploads ADD COLUMN ahead INTEGER;
ALTER TABLE uploads ADD COLUMN ahead_hashed BLOB;
",
    "
-- Reason why a tag was written. Intended digests of a list of referrers (JSON array of texts). Items that were not
-- copied (JSON array of objects with `what` and `reason`).
ALTER TABLE evidence ADD COLUMN kind TEXT NOT NULL DEFAULT 'tag';
ALTER TABLE evidence ADD COLUMN listed TEXT;
ALTER TABLE evidence ADD COLUMN left_behind TEXT;
ALTER TABLE intents ADD COLUMN kind TEXT NOT NULL DEFAULT 'tag';
ALTER TABLE intents ADD COLUMN listed TEXT;
ALTER TABLE intents ADD COLUMN left_behind TEXT;
",
    "
-- Names of the public vocabulary. A row of an earlier version counts a replaced tag as copied, and a conflict as
-- failed. So `replaced` and `conflict` of such a row are 0.
ALTER TABLE runs RENAME COLUMN kept TO unchanged;
ALTER TABLE runs RENAME COLUMN refused TO blocked;
ALTER TABLE runs RENAME COLUMN postponed TO deferred;
ALTER TABLE runs RENAME COLUMN postponed_until TO deferred_until;
ALTER TABLE runs ADD COLUMN replaced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN conflict INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET outcome = 'deferred' WHERE outcome = 'postponed';
UPDATE runs SET trigger = CASE trigger WHEN 'hand' THEN 'manual' WHEN 'asked' THEN 'requested' ELSE 'push_event' END
    WHERE trigger IN ('hand', 'asked', 'pushed');
ALTER TABLE quotas RENAME COLUMN told TO reported;
ALTER TABLE uploads RENAME COLUMN noted TO recorded;
-- Waiting notifications, facts that receivers know, and changes of these facts by a delivery.
ALTER TABLE notices RENAME TO notifications;
ALTER TABLE notices_told RENAME TO notification_facts;
ALTER TABLE notice_effects RENAME TO notification_effects;
ALTER TABLE notification_effects RENAME COLUMN notice TO notification;
DROP INDEX notices_by_receiver;
DROP INDEX notice_effects_by_notice;
CREATE INDEX notifications_by_receiver ON notifications (receiver, id);
CREATE INDEX notification_effects_by_notification ON notification_effects (notification);
UPDATE notifications SET event = 'withheld' WHERE event = 'held';
UPDATE notification_facts SET fact = 'withheld' || substr(fact, 5) WHERE fact LIKE 'held %';
UPDATE notification_effects SET fact = 'withheld' || substr(fact, 5) WHERE fact LIKE 'held %';
",
];

const _: () = assert!(MIGRATIONS.len() == VERSION as usize, "the header has the number of the last migration");

/// Migrates the journal to the last version of `migrations`, in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found = version(&transaction, path, migrations)?;
    for (number, migration) in (1_u32..).zip(migrations).skip(found as usize) {
        transaction.execute_batch(migration).map_err(failed)?;
        transaction.pragma_update(None, "user_version", number).map_err(failed)?;
    }
    if found == 0 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Returns an error if the journal does not have the latest version. Does not change the journal.
pub(super) fn require_latest(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let found = version(connection, path, MIGRATIONS)?;
    match found {
        VERSION => Ok(()),
        found => Err(JournalError::Older { path: path.to_owned(), found, known: VERSION }),
    }
}

/// Returns the version of the journal. The version of an empty file is 0. Returns an error for a file of another
/// program, and for a version that is newer than `migrations`.
fn version(connection: &Connection, path: &Path, migrations: &[&str]) -> Result<u32, JournalError> {
    let failed = |error| JournalError::from_sqlite(path, error);
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(failed);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let ours = number("application_id")? == i64::from(APPLICATION_ID);
    if !ours && tables > 0 {
        return Err(JournalError::Foreign { path: path.to_owned() });
    }
    let found = u32::try_from(number("user_version")?).unwrap_or(u32::MAX);
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known { Err(JournalError::Newer { path: path.to_owned(), found, known }) } else { Ok(found) }
}
