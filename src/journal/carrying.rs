//! Carry-over of records: if another file replaced the open journal, transship copies the runs of this process into the
//! new file, with their evidence and open intents. The runs and the process get new row numbers in the new file.
//! [`Numbers`] maps the old numbers to the new numbers.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Result, TransactionBehavior, params};

use super::arrivals::ARRIVAL;
use super::queries::register_process;

/// Current row numbers of rows that were copied into a new file. The key contains the kind of the row ([`RUN`] or
/// [`PROCESS`]), and the row's number in the first file. The first file is the file that this process opened at its
/// start.
#[derive(Debug, Clone)]
pub(super) struct Numbers(pub(super) HashMap<(&'static str, i64), i64>);

/// Kind of a row of the table `runs`.
pub(super) const RUN: &str = "run";

/// Kind of a row of the table `processes`.
pub(super) const PROCESS: &str = "process";

impl Numbers {
    /// Writes the numbers into the connection's table `renumbered`.
    pub(super) fn insert_into(&self, db: &Connection) -> Result<()> {
        let mut statement =
            db.prepare("INSERT OR REPLACE INTO temp.renumbered (kind, old, new) VALUES (?1, ?2, ?3)")?;
        self.0.iter().try_for_each(|((kind, old), new)| statement.execute(params![kind, old, new]).map(drop))
    }
}

/// Creates the temporary table that [`renumbered`] reads. Each new connection needs this table.
pub(super) fn prepare(db: &Connection) -> Result<()> {
    db.execute_batch(
        "PRAGMA temp_store = MEMORY;
         CREATE TEMP TABLE renumbered (kind TEXT, old INTEGER, new INTEGER NOT NULL, PRIMARY KEY (kind, old));",
    )
}

/// Returns the current number of a row. `number` is the row's number in the first file.
pub(super) fn renumbered(db: &Connection, kind: &str, number: i64) -> Result<i64> {
    let mut statement = db.prepare_cached("SELECT new FROM temp.renumbered WHERE kind = ?1 AND old = ?2")?;
    Ok(statement.query_row(params![kind, number], |row| row.get(0)).optional()?.unwrap_or(number))
}

/// Copies the records of this process from the file `saved` to the journal `db`, except records that `db` already
/// contains:
/// - `process` is the row number of this process in `saved`.
/// - `lock` is the name of the current lock file of this process.
/// - `before` maps row numbers in the first file to row numbers in `saved`.
///
/// Returns the row number of this process in `db`, and the map from row numbers in the first file to row numbers in
/// `db`.
pub(super) fn carry_over(
    db: &mut Connection,
    saved: &Path,
    process: i64,
    lock: &str,
    before: &Numbers,
) -> Result<(i64, Numbers)> {
    db.execute("ATTACH ?1 AS saved", [saved.to_string_lossy()])?;
    let carried = carry_over_attached(db, process, lock);
    let detached = db.execute_batch("DETACH saved");
    let (new_process, runs) = carried?;
    detached?;
    // If a row is renumbered several times, its key remains the row's number in the first file.
    let now = |kind: &'static str, number: i64| match kind {
        RUN => runs.get(&number).copied().unwrap_or(number),
        _ => new_process,
    };
    let mut numbers: HashMap<_, _> =
        before.0.iter().map(|((kind, old), new)| ((*kind, *old), now(kind, *new))).collect();
    let renumbered_before: Vec<i64> =
        before.0.iter().filter(|((kind, _), _)| *kind == RUN).map(|(_, new)| *new).collect();
    for (old, new) in runs.iter().filter(|(old, _)| !renumbered_before.contains(old)) {
        numbers.insert((RUN, *old), *new);
    }
    if !before.0.keys().any(|(kind, _)| *kind == PROCESS) {
        numbers.insert((PROCESS, process), new_process);
    }
    Ok((new_process, Numbers(numbers)))
}

fn carry_over_attached(db: &mut Connection, process: i64, lock: &str) -> Result<(i64, HashMap<i64, i64>)> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let registered = transaction.query_row("SELECT id FROM main.processes WHERE lock = ?1", [lock], |row| row.get(0));
    let new_process = match registered.optional()? {
        Some(id) => id,
        None => register_process(&transaction, std::process::id(), lock)?,
    };
    let mut runs = HashMap::new();
    for (run, entry, started) in list_runs_of(&transaction, process)? {
        let existing = transaction
            .query_row("SELECT id FROM main.runs WHERE entry = ?1 AND started = ?2", params![entry, started], |row| {
                row.get(0)
            })
            .optional()?;
        let new = match existing {
            Some(id) => id,
            None => copy_run(&transaction, run, new_process)?,
        };
        for table in ["evidence", "intents"] {
            copy_arrivals(&transaction, table, run, new)?;
        }
        runs.insert(run, new);
    }
    transaction.commit()?;
    Ok((new_process, runs))
}

fn list_runs_of(db: &Connection, process: i64) -> Result<Vec<(i64, String, String)>> {
    let mut statement = db.prepare("SELECT id, entry, started FROM saved.runs WHERE process = ?1 ORDER BY id")?;
    statement.query_map([process], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// Copies a run. If the run is in progress, and the new file also contains a run in progress of the same entry, marks
/// the copied run as interrupted.
fn copy_run(db: &Connection, run: i64, process: i64) -> Result<i64> {
    db.execute(
        "INSERT INTO main.runs (process, entry, trigger, scheduled_at, started, ended, outcome, copied, replaced,
         unchanged,
         held, blocked, conflict, failed,
             bytes, error, deferred, deferred_until,
             failures_before)
         SELECT ?2, entry, trigger, scheduled_at, started,
             CASE WHEN ended IS NULL AND contested THEN started ELSE ended END,
             CASE WHEN ended IS NULL AND contested THEN 'interrupted' ELSE outcome END,
             copied, replaced, unchanged, held, blocked, conflict, failed, bytes, error, deferred, deferred_until,
             failures_before
         FROM (SELECT *, EXISTS (SELECT 1 FROM main.runs AS other
                                 WHERE other.entry = mine.entry AND other.ended IS NULL AND
                                 other.entry <> '(copy)') AS contested
               FROM saved.runs AS mine WHERE id = ?1)",
        [run, process],
    )?;
    Ok(db.last_insert_rowid())
}

fn copy_arrivals(db: &Connection, table: &str, run: i64, new: i64) -> Result<()> {
    let columns = ARRIVAL.trim_start_matches("run,");
    db.execute(
        &format!(
            "INSERT INTO main.{table} (run, {columns}) SELECT ?2, {columns} FROM saved.{table} AS mine
             WHERE run = ?1 AND NOT EXISTS (
                 SELECT 1 FROM main.{table} AS there WHERE there.run = ?2 AND there.target = mine.target
                     AND there.tag IS mine.tag AND there.digest = mine.digest AND there.listed IS mine.listed)"
        ),
        [run, new],
    )?;
    Ok(())
}
