//! Pruning: deletion of old records, in small steps. This file contains the statements and the method of [`Journal`]
//! for pruning. Pruning deletes no evidence and no checks of referrers.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::carrying::{PROCESS, renumbered};
use super::group::Durability;
use super::handle::interrupt_orphaned_runs;
use super::queries::{list_processes_not_marked_as_ended, text};
use super::streaks::move_failures_to_last_failed_run;
use super::{Journal, JournalError};

/// Number of inspected or deleted rows after which a transaction ends. A transaction deletes fewer than twice this
/// number of rows.
const STEP: u32 = 256;

/// Pause between two transactions, during which this process and other processes may write.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of deleted rows, by table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Deleted runs.
    pub runs: usize,
    /// Deleted transfers.
    pub transfers: usize,
    /// Deleted observations of tags.
    pub tags: usize,
    /// Deleted processes.
    pub processes: usize,
    /// Deleted quotas.
    pub quotas: usize,
}

/// Result of one transaction.
struct Step<Position> {
    /// Number of deleted rows.
    deleted: usize,
    /// Position at which the next transaction continues. `None` at the end.
    next: Option<Position>,
}

impl Journal {
    /// Deletes the following records:
    /// - runs that started before `before`,
    /// - transfers that ended before `before`,
    /// - observations of tags that no run has repeated since `before`,
    /// - quotas that no registry has reported since `before`,
    /// - processes that have ended and have no run.
    ///
    /// The following records are kept at any age:
    /// - evidence, open intents, and their runs,
    /// - for each entry: the last run of each outcome (runs for push events separately), the last scheduled run, the
    ///   tags of its last run, and the number of its consecutive failures.
    ///
    /// Pruning changes no query result, except the history before `before`.
    ///
    /// Pruning uses many short transactions, and other writes may be done between these transactions. Dropping the
    /// future stops the pruning between two transactions.
    ///
    /// # Errors
    /// [`JournalError`]. Rows that were deleted before the error stay deleted.
    pub async fn prune(&self, before: DateTime<Utc>) -> std::result::Result<Pruned, JournalError> {
        let (process, path) = (self.process()?, self.path().to_owned());
        let process = self.read(move |db| renumbered(db, PROCESS, process)).await?;
        // Transfers are deleted before their runs, and runs before their processes.
        let transfers = self.in_steps((), move |db, ()| delete_transfers(db, before)).await?;
        let runs = self.in_steps(RunPosition::default(), move |db, after| delete_runs(db, before, &after)).await?;
        let tags = self.in_steps(Pair::default(), move |db, after| delete_observations(db, before, after)).await?;
        let now = Utc::now();
        self.write(Durability::Unsynced, move |db| {
            interrupt_orphaned_runs(db, &path, list_processes_not_marked_as_ended(db, process)?, now)
        })
        .await?;
        let processes = self.in_steps(0, move |db, after| delete_processes(db, process, after)).await?;
        let quotas = self.write(Durability::Unsynced, move |db| delete_quotas(db, before)).await?;
        Ok(Pruned { runs, transfers, tags, processes, quotas })
    }

    /// Repeats `step` until the result contains no next position, and returns the number of deleted rows.
    async fn in_steps<Position: Send + 'static>(
        &self,
        first: Position,
        step: impl Fn(&Connection, Position) -> Result<Step<Position>> + Clone + Send + 'static,
    ) -> std::result::Result<usize, JournalError> {
        let (mut deleted, mut position) = (0, first);
        loop {
            let step = step.clone();
            let result = self.write(Durability::Unsynced, move |db| step(db, position)).await?;
            deleted += result.deleted;
            let Some(next) = result.next else { return Ok(deleted) };
            position = next;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns true if this number of rows fills a step. In this case, more rows may follow.
fn fills_step(rows: usize) -> bool {
    rows >= STEP as usize
}

fn delete_transfers(db: &Connection, before: DateTime<Utc>) -> Result<Step<()>> {
    let mut statement = db.prepare_cached(DELETE_TRANSFERS)?;
    let deleted = statement.execute(params![text(before), STEP])?;
    Ok(Step { deleted, next: fills_step(deleted).then_some(()) })
}

pub(super) const DELETE_TRANSFERS: &str =
    "DELETE FROM transfers WHERE id IN (SELECT id FROM transfers WHERE ended < ?1 LIMIT ?2)";

/// Start and number of the run that was inspected last. Runs are inspected in the order of these two fields.
#[derive(Default)]
struct RunPosition {
    started: String,
    id: i64,
}

/// Run that is old enough to be deleted.
struct OldRun {
    position: RunPosition,
    entry: String,
    is_deletable: bool,
    /// Number of failures that this row adds to the entry's current failure streak: this run and earlier, deleted runs.
    failures: u32,
}

fn delete_runs(db: &Connection, before: DateTime<Utc>, after: &RunPosition) -> Result<Step<RunPosition>> {
    let mut statement = db.prepare_cached(LIST_OLD_RUNS)?;
    let old: Vec<OldRun> = statement
        .query_map(params![after.started, after.id, text(before), STEP], read_old_run)?
        .collect::<Result<_>>()?;
    let mut failures: BTreeMap<&str, u32> = BTreeMap::new();
    let mut delete = db.prepare_cached("DELETE FROM runs WHERE id = ?1")?;
    let mut deleted = 0;
    for run in old.iter().filter(|run| run.is_deletable) {
        deleted += delete.execute([run.position.id])?;
        *failures.entry(&run.entry).or_default() += run.failures;
    }
    for (entry, failures) in failures.into_iter().filter(|(_, failures)| *failures > 0) {
        move_failures_to_last_failed_run(db, entry, failures)?;
    }
    let more = fills_step(old.len());
    Ok(Step { deleted, next: old.into_iter().next_back().map(|run| run.position).filter(|_| more) })
}

pub(super) const LIST_OLD_RUNS: &str = "
    SELECT id, entry, started,
           ended IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM evidence WHERE run = old.id)
               AND NOT EXISTS (SELECT 1 FROM intents WHERE run = old.id)
               AND NOT EXISTS (SELECT 1 FROM transfers WHERE run = old.id)
               AND EXISTS (SELECT 1 FROM runs AS later
                           WHERE later.entry = old.entry AND later.outcome = old.outcome AND later.id > old.id
                             AND (later.trigger = 'push_event') = (old.trigger = 'push_event'))
               AND (scheduled_at IS NULL
                    OR EXISTS (SELECT 1 FROM runs AS later
                               WHERE later.entry = old.entry AND later.scheduled_at > old.scheduled_at)) AS goes,
           CASE WHEN outcome IN ('failed', 'timed_out') AND trigger <> 'push_event'
                     AND NOT EXISTS (SELECT 1 FROM runs AS well
                                     WHERE well.entry = old.entry AND well.outcome IN ('succeeded', 'deferred')
                                       AND well.trigger <> 'push_event'
                                       AND well.id > old.id)
                THEN 1 + failures_before ELSE 0 END AS failures
    FROM runs AS old WHERE (started, id) > (?1, ?2) AND started < ?3 ORDER BY started, id LIMIT ?4";

fn read_old_run(row: &Row<'_>) -> Result<OldRun> {
    let position = RunPosition { started: row.get("started")?, id: row.get("id")? };
    Ok(OldRun { position, entry: row.get("entry")?, is_deletable: row.get("goes")?, failures: row.get("failures")? })
}

/// Entry, source and target of observations. Observations are inspected in the order of these three fields.
type Pair = (String, String, String);

fn delete_observations(db: &Connection, before: DateTime<Utc>, after: Pair) -> Result<Step<Pair>> {
    let mut next_pair = db.prepare_cached(NEXT_PAIR)?;
    let mut delete = db.prepare_cached(DELETE_OBSERVATIONS)?;
    let (mut position, mut deleted) = (after, 0);
    for _ in 0..STEP {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let Some(pair) = next_pair.query_row(params![position.0, position.1, position.2], read).optional()? else {
            return Ok(Step { deleted, next: None });
        };
        let of_pair = delete.execute(params![pair.0, pair.1, pair.2, text(before), STEP])?;
        deleted += of_pair;
        if fills_step(of_pair) {
            // More rows of this pair may follow.
            break;
        }
        position = pair;
        if fills_step(deleted) {
            break;
        }
    }
    Ok(Step { deleted, next: Some(position) })
}

pub(super) const NEXT_PAIR: &str = "
    SELECT entry, source, target FROM tag_observations WHERE (entry, source, target) > (?1, ?2, ?3)
    ORDER BY entry, source, target LIMIT 1";

pub(super) const DELETE_OBSERVATIONS: &str = "
    DELETE FROM tag_observations
    WHERE entry = ?1 AND source = ?2 AND target = ?3 AND (tag, source_digest) IN (
        SELECT tag, source_digest FROM tag_observations
        WHERE entry = ?1 AND source = ?2 AND target = ?3 AND last_seen < min(?4, (
            SELECT max(last_seen) FROM tag_observations WHERE entry = ?1 AND source = ?2 AND target = ?3))
        LIMIT ?5)";

fn delete_processes(db: &Connection, own: i64, after: i64) -> Result<Step<i64>> {
    let mut statement = db.prepare_cached(LIST_PROCESSES)?;
    let read = |row: &Row<'_>| Ok((row.get("id")?, row.get("goes")?));
    let found: Vec<(i64, bool)> = statement.query_map(params![after, STEP], read)?.collect::<Result<_>>()?;
    let mut delete = db.prepare_cached("DELETE FROM processes WHERE id = ?1")?;
    let mut deleted = 0;
    for (id, _) in found.iter().filter(|(id, is_deletable)| *is_deletable && *id != own) {
        deleted += delete.execute([id])?;
    }
    Ok(Step { deleted, next: found.last().map(|(id, _)| *id).filter(|_| fills_step(found.len())) })
}

pub(super) const LIST_PROCESSES: &str = "
    SELECT id, gone AND NOT EXISTS (SELECT 1 FROM runs WHERE process = processes.id) AS goes
    FROM processes WHERE id > ?1 ORDER BY id LIMIT ?2";

/// Deletes old quotas in one step, because the number of quotas is small: one for each identity at each registry.
fn delete_quotas(db: &Connection, before: DateTime<Utc>) -> Result<usize> {
    db.execute("DELETE FROM quotas WHERE reported < ?1", [text(before)])
}
