//! SQL statements for processes, runs, observations of tags, transfers and derived indexes, and functions that convert
//! values to and from columns.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Params, Result, Row, named_params, params};

use super::carrying::{RUN, renumbered};
use super::record::{
    COPY, HistoryFilter, LastEnds, Observation, Outcome, RunEnd, RunId, RunRecord, TagCounts, TagRecord, TransferNote,
    TransferState, Trigger,
};
use crate::copy::event::Transfer;
use crate::oci::Digest;

/// Process that has recorded itself in the journal and may have ended.
pub(super) struct Process {
    pub(super) id: i64,
    pub(super) lock: String,
}

/// Run with the name of the lock file of its process.
pub(super) struct OwnedRun {
    pub(super) run: RunRecord,
    pub(super) lock: String,
}

pub(super) fn register_process(db: &Connection, pid: u32, lock: &str) -> Result<i64> {
    db.execute("INSERT INTO processes (pid, lock) VALUES (?1, ?2)", params![pid, lock])?;
    Ok(db.last_insert_rowid())
}

/// Records the name of the new lock file of a process.
pub(super) fn rename_lock(db: &Connection, process: i64, lock: &str) -> Result<()> {
    execute_cached(db, "UPDATE processes SET lock = ?2, gone = 0 WHERE id = ?1", params![process, lock])?;
    Ok(())
}

pub(super) fn list_processes_not_marked_as_ended(db: &Connection, except: i64) -> Result<Vec<Process>> {
    let mut statement = db.prepare_cached("SELECT id, lock FROM processes WHERE gone = 0 AND id <> ?1")?;
    let rows = statement.query_map([except], read_process)?;
    rows.collect()
}

/// Lists the processes that have a run in progress, except the process `except`. The list is short, even if the journal
/// contains many processes.
pub(super) fn list_processes_with_unfinished_runs(db: &Connection, except: i64) -> Result<Vec<Process>> {
    let mut statement = db.prepare_cached(
        "SELECT id, lock FROM processes
         WHERE id <> ?1 AND id IN (SELECT process FROM runs WHERE ended IS NULL)",
    )?;
    let rows = statement.query_map([except], read_process)?;
    rows.collect()
}

pub(super) fn interrupt_everything_of_process(db: &Connection, process: i64, now: DateTime<Utc>) -> Result<()> {
    execute_cached(
        db,
        "UPDATE transfers SET ended = ?2, outcome = 'interrupted'
         WHERE ended IS NULL AND run IN (SELECT id FROM runs WHERE process = ?1)",
        params![process, text(now)],
    )?;
    execute_cached(
        db,
        "UPDATE runs SET ended = ?2, outcome = 'interrupted', error = ?3 WHERE process = ?1 AND ended IS NULL",
        params![process, text(now), ENDED_WITHOUT_RECORD],
    )?;
    execute_cached(db, "UPDATE processes SET gone = 1 WHERE id = ?1", [process])?;
    Ok(())
}

/// Error text of a run whose process ended without recording the end of the run.
pub(super) const ENDED_WITHOUT_RECORD: &str = "the process of this run ended without recording the end of the run";

pub(super) fn count_a_probe(db: &Connection, process: i64) -> Result<()> {
    execute_cached(db, "UPDATE processes SET probes = probes + 1 WHERE id = ?1", [process])?;
    Ok(())
}

pub(super) fn find_unfinished_run_of(db: &Connection, entry: &str) -> Result<Option<(u32, DateTime<Utc>)>> {
    let mut statement = db.prepare_cached(
        "SELECT pid, started FROM runs JOIN processes ON processes.id = runs.process
         WHERE entry = ?1 AND ended IS NULL AND entry <> ?2",
    )?;
    statement.query_row([entry, COPY], |row| Ok((row.get("pid")?, parsed(row, "started")?))).optional()
}

pub(super) fn insert_run(
    db: &Connection,
    process: i64,
    entry: &str,
    trigger: Trigger,
    now: DateTime<Utc>,
) -> Result<RunId> {
    let scheduled_at = match trigger {
        Trigger::Schedule { scheduled_at } => Some(text(scheduled_at)),
        Trigger::Start | Trigger::Continued | Trigger::Manual | Trigger::Requested | Trigger::PushEvent => None,
    };
    execute_cached(
        db,
        "INSERT INTO runs (process, entry, trigger, scheduled_at, started) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![process, entry, trigger.word(), scheduled_at, text(now)],
    )?;
    Ok(RunId(db.last_insert_rowid()))
}

pub(super) fn end_run(db: &Connection, run: RunId, end: &RunEnd, now: DateTime<Utc>) -> Result<()> {
    let run = current_run(db, run)?;
    execute_cached(
        db,
        "UPDATE transfers SET ended = ?2, outcome = 'interrupted' WHERE run = ?1 AND ended IS NULL",
        params![run.0, text(now)],
    )?;
    execute_cached(
        db,
        "UPDATE runs SET ended = :now, outcome = :outcome, copied = :copied, replaced = :replaced,
         unchanged = :unchanged, held = :held, blocked = :blocked, conflict = :conflict,
            failed = :failed, bytes = :bytes, error = :error, deferred = :deferred, deferred_until = :deferred_until
         WHERE id = :run",
        named_params! {
            ":run": run.0, ":now": text(now), ":outcome": end.outcome.word(),
            ":copied": number(end.tags.copied), ":replaced": number(end.tags.replaced),
            ":unchanged": number(end.tags.unchanged), ":held": number(end.tags.held),
            ":blocked": number(end.tags.blocked), ":conflict": number(end.tags.conflict),
            ":failed": number(end.tags.failed),
            ":bytes": number(end.bytes), ":error": end.error.as_deref().map(bounded),
            ":deferred": number(end.tags.deferred), ":deferred_until": end.deferred_until.map(text),
        },
    )?;
    Ok(())
}

pub(super) fn list_runs(db: &Connection, filter: &HistoryFilter) -> Result<Vec<OwnedRun>> {
    let mut statement = db.prepare_cached(
        "SELECT runs.*, pid, lock FROM runs JOIN processes ON processes.id = runs.process
         WHERE (:entries IS NULL OR entry IN (SELECT value FROM json_each(:entries)))
           AND (NOT :failed OR outcome IN ('failed', 'timed_out'))
           AND (:since IS NULL OR started >= :since) AND (:until IS NULL OR started < :until)
         ORDER BY started DESC, runs.id DESC LIMIT :limit",
    )?;
    let rows = statement.query_map(
        named_params! {
            ":entries": list_text(&filter.entries), ":failed": filter.failed,
            ":since": filter.since.map(text), ":until": filter.until.map(text), ":limit": limit(filter.limit),
        },
        read_run,
    )?;
    rows.collect()
}

/// Returns a list of names as JSON, which SQLite can read; `None` for an empty list.
pub(super) fn list_text(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| serde_json::json!(names).to_string())
}

/// Lists the names of all entries with a run or with evidence, in their order.
pub(super) fn list_entry_names(db: &Connection) -> Result<Vec<String>> {
    let mut statement = db.prepare_cached("SELECT entry FROM runs UNION SELECT entry FROM evidence ORDER BY entry")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

pub(super) fn list_last_run_of_each_entry(db: &Connection) -> Result<Vec<OwnedRun>> {
    let mut statement = db.prepare_cached(
        "SELECT runs.*, pid, lock FROM runs JOIN processes ON processes.id = runs.process
         WHERE runs.id IN (SELECT max(id) FROM runs GROUP BY entry) ORDER BY entry",
    )?;
    statement.query_map([], read_run)?.collect()
}

pub(super) fn list_last_ends_of_each_entry(db: &Connection) -> Result<Vec<LastEnds>> {
    let mut statement = db.prepare_cached(
        "SELECT entry, max(ended) FILTER (WHERE outcome = 'succeeded' AND trigger <> 'push_event') AS success,
                max(ended) FILTER (WHERE outcome IN ('failed', 'timed_out')) AS failure
         FROM runs WHERE ended IS NOT NULL GROUP BY entry ORDER BY entry",
    )?;
    let read = |row: &Row<'_>| {
        let (success, failure) = (parsed_if_any(row, "success")?, parsed_if_any(row, "failure")?);
        Ok(LastEnds { entry: row.get("entry")?, success, failure })
    };
    statement.query_map([], read)?.collect()
}

/// Returns the latest scheduled time of the runs of `entry`. If that time is after `now`, the clock was set back since.
/// In this case, returns the scheduled time of the run that was recorded last.
pub(super) fn find_last_scheduled_instant_of(
    db: &Connection,
    entry: &str,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>> {
    let find = |order: &str| {
        let sql = format!(
            "SELECT scheduled_at FROM runs WHERE entry = ?1 AND scheduled_at IS NOT NULL ORDER BY {order} DESC LIMIT 1"
        );
        db.prepare_cached(&sql)?.query_row([entry], |row| parsed(row, "scheduled_at")).optional()
    };
    let latest: Option<DateTime<Utc>> = find("scheduled_at")?;
    if latest.is_some_and(|latest| latest > now) { find("id") } else { Ok(latest) }
}

/// Returns two flags. The first flag is true if a run of `entry` has recorded tags for this source and target. The
/// second flag is true if the journal contains a transfer or evidence for the target.
pub(super) fn find_traces_at(db: &Connection, entry: &str, source: &str, target: &str) -> Result<(bool, bool)> {
    let mut statement = db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM tag_observations WHERE entry = ?1 AND source = ?2 AND target = ?3),
                EXISTS (SELECT 1 FROM transfers WHERE target = ?3)
                OR EXISTS (SELECT 1 FROM evidence WHERE target = ?3)",
    )?;
    statement.query_row([entry, source, target], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Changes the time of all observations after `now`, for this source and target, to right before `now`. Runs of an
/// entry never overlap, so such observations mean that the clock was set back. Without this change, their tags would
/// count as those of the last run until the clock reaches the old time again.
pub(super) fn move_observations_before(
    db: &Connection,
    entry: &str,
    [source, target]: [&str; 2],
    now: DateTime<Utc>,
) -> Result<()> {
    let mut statement = db.prepare_cached(
        "UPDATE tag_observations SET first_seen = min(first_seen, :before), last_seen = :before
         WHERE entry = :entry AND source = :source AND target = :target AND last_seen > :now",
    )?;
    let before = text(now - TimeDelta::microseconds(1));
    statement.execute(named_params! {
        ":entry": entry, ":source": source, ":target": target, ":before": before, ":now": text(now),
    })?;
    Ok(())
}

pub(super) fn record_observation(
    db: &Connection,
    entry: &str,
    [source, target]: [&str; 2],
    seen: &Observation,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO tag_observations (entry, source, target, tag, source_digest, target_digest, first_seen, last_seen)
         VALUES (:entry, :source, :target, :tag, :source_digest, :target_digest, :now, :now)
         ON CONFLICT DO UPDATE SET target_digest = :target_digest, last_seen = :now",
    )?;
    statement.execute(named_params! {
        ":entry": entry, ":source": source, ":target": target, ":tag": seen.tag.as_str(),
        ":source_digest": seen.source_digest.to_string(),
        ":target_digest": seen.target_digest.map(|digest| digest.to_string()), ":now": text(now),
    })?;
    Ok(())
}

pub(super) fn list_tags_last_seen_of(db: &Connection, entry: &str) -> Result<Vec<TagRecord>> {
    let mut statement = db.prepare_cached(
        "SELECT * FROM tag_observations AS seen WHERE entry = ?1 AND last_seen = (
             SELECT max(last_seen) FROM tag_observations
             WHERE entry = seen.entry AND source = seen.source AND target = seen.target)
         ORDER BY source, target, tag",
    )?;
    statement.query_map([entry], read_tag)?.collect()
}

pub(super) fn read_tag(row: &Row<'_>) -> Result<TagRecord> {
    Ok(TagRecord {
        source: row.get("source")?,
        target: row.get("target")?,
        tag: parsed(row, "tag")?,
        source_digest: parsed(row, "source_digest")?,
        target_digest: parsed_if_any(row, "target_digest")?,
        first_seen: parsed(row, "first_seen")?,
        last_seen: parsed(row, "last_seen")?,
    })
}

pub(super) fn record_transfer(db: &Connection, run: RunId, note: &TransferNote) -> Result<()> {
    let TransferNote { transfer, state, at } = note;
    let run = current_run(db, run)?;
    match state {
        TransferState::Started => insert_transfer(db, run, transfer, *at),
        TransferState::Finished => end_transfer(db, run, transfer, None, *at),
        TransferState::Failed(why) => end_transfer(db, run, transfer, Some(why), *at),
    }
}

fn insert_transfer(db: &Connection, run: RunId, transfer: &Transfer, now: DateTime<Utc>) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO transfers (run, source, target, digest, size, started) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let Transfer { source, target, digest, size, .. } = transfer;
    statement.execute(params![run.0, source, target, digest.to_string(), number(*size), text(now)])?;
    Ok(())
}

fn end_transfer(
    db: &Connection,
    run: RunId,
    transfer: &Transfer,
    error: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut statement = db.prepare_cached(
        "UPDATE transfers SET ended = ?4, outcome = ?5, error = ?6
         WHERE run = ?1 AND digest = ?2 AND target = ?3 AND ended IS NULL",
    )?;
    let outcome = if error.is_some() { "failed" } else { "finished" };
    let (digest, error) = (transfer.digest.to_string(), error.map(bounded));
    statement.execute(params![run.0, digest, transfer.target, text(now), outcome, error])?;
    Ok(())
}

pub(super) fn record_derived(db: &Connection, source: &Digest, platforms: &str, derived: &Digest) -> Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO derived (source_digest, platforms, derived_digest) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET derived_digest = excluded.derived_digest",
    )?;
    statement.execute(params![source.to_string(), platforms, derived.to_string()])?;
    Ok(())
}

pub(super) fn find_derived(db: &Connection, source: &Digest, platforms: &str) -> Result<Option<Digest>> {
    let mut statement =
        db.prepare_cached("SELECT derived_digest FROM derived WHERE source_digest = ?1 AND platforms = ?2")?;
    statement.query_row(params![source.to_string(), platforms], |row| parsed(row, "derived_digest")).optional()
}

/// Returns the number of the run in the journal that is open now. The number changes if another file replaces the
/// journal.
pub(super) fn current_run(db: &Connection, run: RunId) -> Result<RunId> {
    renumbered(db, RUN, run.0).map(RunId)
}

/// Executes a statement that SQLite parses only once for a connection.
pub(super) fn execute_cached(db: &Connection, statement: &str, parameters: impl Params) -> Result<usize> {
    db.prepare_cached(statement)?.execute(parameters)
}

fn read_process(row: &Row<'_>) -> Result<Process> {
    Ok(Process { id: row.get("id")?, lock: row.get("lock")? })
}

fn read_run(row: &Row<'_>) -> Result<OwnedRun> {
    let word: String = row.get("trigger")?;
    let trigger = match (word.as_str(), parsed_if_any(row, "scheduled_at")?) {
        ("schedule", Some(scheduled_at)) => Trigger::Schedule { scheduled_at },
        ("start", None) => Trigger::Start,
        ("continued", None) => Trigger::Continued,
        ("manual", None) => Trigger::Manual,
        ("requested", None) => Trigger::Requested,
        ("push_event", None) => Trigger::PushEvent,
        _ => return Err(column_error(row, "trigger", &word)),
    };
    let run = RunRecord {
        id: RunId(row.get("id")?),
        entry: row.get("entry")?,
        trigger,
        pid: row.get("pid")?,
        started: parsed(row, "started")?,
        ended: parsed_if_any(row, "ended")?,
        outcome: outcome(row)?,
        tags: TagCounts {
            copied: count(row, "copied")?,
            replaced: count(row, "replaced")?,
            unchanged: count(row, "unchanged")?,
            held: count(row, "held")?,
            blocked: count(row, "blocked")?,
            conflict: count(row, "conflict")?,
            deferred: count(row, "deferred")?,
            failed: count(row, "failed")?,
        },
        bytes: count(row, "bytes")?,
        error: row.get("error")?,
        deferred_until: parsed_if_any(row, "deferred_until")?,
    };
    Ok(OwnedRun { run, lock: row.get("lock")? })
}

/// Reads the outcome of a run. Returns `None` while the run is in progress.
pub(super) fn outcome(row: &Row<'_>) -> Result<Option<Outcome>> {
    let word: Option<String> = row.get("outcome")?;
    word.map(|word| Outcome::read(&word).ok_or_else(|| column_error(row, "outcome", &word))).transpose()
}

pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(row: &Row<'_>, column: &str) -> Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| column_error(row, column, &text))
}

pub(super) fn parsed_if_any<T: FromStr<Err: fmt::Display>>(row: &Row<'_>, column: &str) -> Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| column_error(row, column, &text))).transpose()
}

pub(super) fn column_error(row: &Row<'_>, column: &str, text: &str) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or_default();
    let reason = format!("column {column} contains the invalid value {text:?}");
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, reason.into())
}

/// Formats an instant with a fixed width, so that the order of the texts is the order of the instants.
pub(super) fn text(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Converts a count to a signed integer of SQLite. A count above the maximum becomes the maximum.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn count(row: &Row<'_>, column: &str) -> Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or_default())
}

/// Converts the maximum number of rows for SQL's LIMIT. `None` becomes -1, which SQLite treats as no limit.
pub(super) fn limit(limit: Option<u32>) -> i64 {
    limit.map_or(-1, i64::from)
}

/// Truncates an error text to 2000 characters.
pub(super) fn bounded(error: &str) -> String {
    error.chars().take(2000).collect()
}
