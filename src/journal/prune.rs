//! Pruning of old records, in small steps. This file has only the statements and the method of [`Journal`] for pruning.
//! Evidence is never deleted. Checks of referrers have a retention time of their own (`referrer_checks.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::carrying::{PROCESS, renumbered};
use super::group::Durability;
use super::handle::interrupt_orphaned_runs;
use super::queries::{list_processes_not_known_to_be_gone, text};
use super::streaks::carry_over;
use super::{Journal, JournalError};

/// Number of rows that one transaction inspects or deletes. A transaction deletes fewer than twice as many.
const STEP: u32 = 256;

/// Pause between two transactions, in which this process and others may write.
const PAUSE: Duration = Duration::from_millis(20);

/// Number of deleted rows, by table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Deleted runs.
    pub runs: usize,
    /// Deleted transfers.
    pub transfers: usize,
    /// Deleted tags: tags that no longer exist, or have another digest now.
    pub tags: usize,
    /// Deleted processes.
    pub processes: usize,
    /// Deleted quotas.
    pub quotas: usize,
}

/// Result of one transaction: the number of deleted rows, and the position at which the next one continues.
struct Step<At> {
    gone: usize,
    next: Option<At>,
}

impl Journal {
    /// Deletes records from before `before`:
    /// - runs,
    /// - transfers that ended,
    /// - tags that no run has seen since,
    /// - quotas that no registry has reported since,
    /// - processes that have ended and have no run.
    ///
    /// The following stays, whatever its age:
    /// - evidence, open intents and the runs that they name,
    /// - of each entry the last run of each outcome, the last run that its schedule began, the tags that the entry saw
    ///   last, and the number of its failures in a row.
    ///
    /// So every query of the journal returns the same as before, except the history before that instant.
    ///
    /// Pruning takes many short transactions. Other transactions may run between these. Dropping the future ends the
    /// pruning between two transactions.
    ///
    /// # Errors
    /// [`JournalError`]; rows that were deleted until then stay deleted.
    pub async fn prune(&self, before: DateTime<Utc>) -> std::result::Result<Pruned, JournalError> {
        let (process, path) = (self.process()?, self.path().to_owned());
        let process = self.read(move |db| renumbered(db, PROCESS, process)).await?;
        // Transfers are deleted before their runs, and runs before their processes.
        let transfers = self.in_steps((), move |db, ()| delete_transfers(db, before)).await?;
        let runs = self.in_steps(RunAt::default(), move |db, after| delete_runs(db, before, &after)).await?;
        let tags = self.in_steps(Pair::default(), move |db, after| delete_observations(db, before, after)).await?;
        let now = Utc::now();
        self.write(Durability::Hint, move |db| {
            interrupt_orphaned_runs(db, &path, list_processes_not_known_to_be_gone(db, process)?, now)
        })
        .await?;
        let processes = self.in_steps(0, move |db, after| delete_processes(db, process, after)).await?;
        let quotas = self.write(Durability::Hint, move |db| delete_quotas(db, before)).await?;
        Ok(Pruned { runs, transfers, tags, processes, quotas })
    }

    /// Repeats the step, each time from the position at which the last one ended, and returns the number of deleted
    /// rows.
    async fn in_steps<At: Send + 'static>(
        &self,
        first: At,
        step: impl Fn(&Connection, At) -> Result<Step<At>> + Clone + Send + 'static,
    ) -> std::result::Result<usize, JournalError> {
        let (mut gone, mut at) = (0, first);
        loop {
            let step = step.clone();
            let done = self.write(Durability::Hint, move |db| step(db, at)).await?;
            gone += done.gone;
            let Some(next) = done.next else { return Ok(gone) };
            at = next;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns true if this number of rows fills a step, so that there may be more.
fn is_whole(rows: usize) -> bool {
    rows >= STEP as usize
}

fn delete_transfers(db: &Connection, before: DateTime<Utc>) -> Result<Step<()>> {
    let mut statement = db.prepare_cached(DELETE_TRANSFERS)?;
    let gone = statement.execute(params![text(before), STEP])?;
    Ok(Step { gone, next: is_whole(gone).then_some(()) })
}

pub(super) const DELETE_TRANSFERS: &str =
    "DELETE FROM transfers WHERE id IN (SELECT id FROM transfers WHERE ended < ?1 LIMIT ?2)";

/// Last run that was inspected, in the order of their beginnings.
#[derive(Default)]
struct RunAt {
    started: String,
    id: i64,
}

/// Run from before the limit, with the decision to delete or keep it.
struct OldRun {
    at: RunAt,
    entry: String,
    goes: bool,
    /// Number of failures in a row, up to the entry's last run, that only this row records.
    failures: u32,
}

fn delete_runs(db: &Connection, before: DateTime<Utc>, after: &RunAt) -> Result<Step<RunAt>> {
    let mut statement = db.prepare_cached(LIST_OLD_RUNS)?;
    let old: Vec<OldRun> = statement
        .query_map(params![after.started, after.id, text(before), STEP], read_old_run)?
        .collect::<Result<_>>()?;
    let mut failures: BTreeMap<&str, u32> = BTreeMap::new();
    let mut delete = db.prepare_cached("DELETE FROM runs WHERE id = ?1")?;
    let mut gone = 0;
    for run in old.iter().filter(|run| run.goes) {
        gone += delete.execute([run.at.id])?;
        *failures.entry(&run.entry).or_default() += run.failures;
    }
    for (entry, failures) in failures.into_iter().filter(|(_, failures)| *failures > 0) {
        carry_over(db, entry, failures)?;
    }
    let more = is_whole(old.len());
    Ok(Step { gone, next: old.into_iter().next_back().map(|run| run.at).filter(|_| more) })
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
    let at = RunAt { started: row.get("started")?, id: row.get("id")? };
    Ok(OldRun { at, entry: row.get("entry")?, goes: row.get("goes")?, failures: row.get("failures")? })
}

/// Entry, source and target of the last observations that were inspected.
type Pair = (String, String, String);

fn delete_observations(db: &Connection, before: DateTime<Utc>, after: Pair) -> Result<Step<Pair>> {
    let mut next_pair = db.prepare_cached(NEXT_PAIR)?;
    let mut delete = db.prepare_cached(DELETE_OBSERVATIONS)?;
    let (mut at, mut gone) = (after, 0);
    for _ in 0..STEP {
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let Some(pair) = next_pair.query_row(params![at.0, at.1, at.2], read).optional()? else {
            return Ok(Step { gone, next: None });
        };
        let deleted = delete.execute(params![pair.0, pair.1, pair.2, text(before), STEP])?;
        gone += deleted;
        if is_whole(deleted) {
            // There may be more rows of this pair.
            break;
        }
        at = pair;
        if is_whole(gone) {
            break;
        }
    }
    Ok(Step { gone, next: Some(at) })
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

fn delete_processes(db: &Connection, but: i64, after: i64) -> Result<Step<i64>> {
    let mut statement = db.prepare_cached(LIST_PROCESSES)?;
    let read = |row: &Row<'_>| Ok((row.get("id")?, row.get("goes")?));
    let found: Vec<(i64, bool)> = statement.query_map(params![after, STEP], read)?.collect::<Result<_>>()?;
    let mut delete = db.prepare_cached("DELETE FROM processes WHERE id = ?1")?;
    let mut gone = 0;
    for (id, _) in found.iter().filter(|(id, goes)| *goes && *id != but) {
        gone += delete.execute([id])?;
    }
    Ok(Step { gone, next: found.last().map(|(id, _)| *id).filter(|_| is_whole(found.len())) })
}

pub(super) const LIST_PROCESSES: &str = "
    SELECT id, gone AND NOT EXISTS (SELECT 1 FROM runs WHERE process = processes.id) AS goes
    FROM processes WHERE id > ?1 ORDER BY id LIMIT ?2";

/// Quotas are few: one of each identity at each registry.
fn delete_quotas(db: &Connection, before: DateTime<Utc>) -> Result<usize> {
    db.execute("DELETE FROM quotas WHERE reported < ?1", [text(before)])
}
