//! Text of a snapshot of the daemon for people.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::table::{Cell, Column, Table};
use super::units::{self, Times};
use super::writer::Output;
use crate::status::{
    EntryState, FailedRun, HEALTHY_WITHIN, LimitsState, Quota, RegistryState, RunningState, Snapshot, TransferState,
};

/// Text in place of the next run of a paused entry.
pub(crate) const NONE_WHILE_PAUSED: &str = "none while paused";

/// Prints a snapshot.
///
/// # Errors
/// Errors of the output.
pub(crate) fn print(snapshot: &Snapshot, now: DateTime<Utc>, output: &mut Output) -> std::io::Result<()> {
    let times = output.times(now);
    let up = units::between(snapshot.started, now);
    let ready = if snapshot.obstacles().is_empty() { "ready" } else { "not ready" };
    output.line(format!("running for {up}, {ready}"))?;
    if let Some(stuck) = stalled_for(snapshot, now) {
        let iterated = humantime::format_duration(Duration::from_secs(stuck.as_secs()));
        output.line(format!("  not healthy: the loop last iterated {iterated} ago"))?;
    }
    for obstacle in snapshot.obstacles() {
        output.line(format!("  {obstacle}"))?;
    }
    if let Some(loaded) = snapshot.configuration.loaded_at {
        output.line(format!("configuration {} read {}", snapshot.configuration.path, times.show(loaded)))?;
    }
    if let Some(problem) = &snapshot.configuration.problem {
        output.line(format!("the last edit was refused, the previous configuration stays active:\n{problem}"))?;
    }
    if let Some(setback) = &snapshot.clock_set_back {
        let (by, noticed) = (Duration::from_secs(setback.seconds), times.show(setback.noticed));
        let by = humantime::format_duration(by);
        output.line(format!("the clock was set back by {by} (noticed {noticed}): schedules follow the new time"))?;
    }
    output.line("")?;
    output.table(&entries(&snapshot.entries, now, times))?;
    for entry in &snapshot.entries {
        if let Some(error) = entry.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            output.line(last_error(&entry.name, error, entry.failures, None, times))?;
        }
    }
    for warning in &snapshot.warnings {
        let of_entry = warning.entry.as_ref().map(|entry| format!("{entry}: ")).unwrap_or_default();
        output.counts_line(format!("{of_entry}warning: {warning}"))?;
    }
    for waiting in &snapshot.waiting {
        output.line(format!("{}: waiting for a slot {}", waiting.entry, times.since(waiting.since)))?;
    }
    for registry in &snapshot.registries {
        if let Some(held_up) = throttling(registry, now, times) {
            output.line(held_up)?;
        }
    }
    for quota in &snapshot.quotas {
        output.line(pulls_left(quota, times))?;
    }
    if !snapshot.in_flight.is_empty() {
        output.line("")?;
        output.table(&transfers(&snapshot.in_flight))?;
        let more = snapshot.transfers.saturating_sub(snapshot.in_flight.len() as u64);
        if more > 0 {
            output.line(format!("and {more} more"))?;
        }
    }
    if !snapshot.recent_failures.is_empty() {
        output.line("")?;
        output.table(&failures(&snapshot.recent_failures, now))?;
    }
    Ok(())
}

/// Returns a line such as `api: source: listing tags: denied (3 times in a row; backed off until
/// 2026-11-21T03:08:00Z)`.
pub(crate) fn last_error(
    entry: &str,
    error: &str,
    failures: u32,
    backed_off: Option<DateTime<Utc>>,
    times: Times,
) -> String {
    let until = backed_off.map(|until| format!("; backed off {}", times.until(until))).unwrap_or_default();
    let again = if failures > 1 { format!(" ({failures} times in a row{until})") } else { String::new() };
    format!("{entry}: {error}{again}")
}

/// Returns a line about a registry that throttled the daemon. The registry is paused, or its number of concurrent
/// requests is reduced.
fn throttling(registry: &RegistryState, now: DateTime<Utc>, times: Times) -> Option<String> {
    let (name, limits) = (&registry.registry, &registry.limits);
    if let Some(until) = registry.paused_until.filter(|until| *until > now) {
        return Some(format!("{name}: throttled {}", times.until(until)));
    }
    let slowed = limits.concurrent < limits.concurrent_at_most;
    slowed.then(|| {
        let LimitsState { concurrent, concurrent_at_most, .. } = limits;
        format!("{name}: throttled, at most {concurrent} instead of {concurrent_at_most} requests are in flight")
    })
}

fn failures(failures: &[FailedRun], now: DateTime<Utc>) -> Table {
    let mut table = Table::new(&[
        Column::right("FAILED RUN"),
        Column::left("ENTRY"),
        Column::left("ENDED"),
        Column::left("OUTCOME"),
        Column::sentence("WHY"),
    ]);
    for run in failures {
        table.row([
            run.run.to_string().into(),
            run.entry.clone().into(),
            Cell::time(run.ended, now),
            Cell::outcome(run.outcome.clone()),
            run.error.clone().unwrap_or_default().into(),
        ]);
    }
    table
}

/// Returns a line such as `docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 reserved (reported
/// 2026-11-21T09:00:00Z)`.
fn pulls_left(quota: &Quota, times: Times) -> String {
    let Quota { registry, identity, limit, window_seconds, remaining, reserved, reported } = quota;
    let window = humantime::format_duration(Duration::from_secs(*window_seconds));
    let reserved = if *reserved > 0 { format!(", {reserved} reserved") } else { String::new() };
    let reported = times.show(*reported);
    format!("{registry} as {identity}: {remaining} of {limit} pulls left in {window}{reserved} (reported {reported})")
}

fn entries(entries: &[EntryState], now: DateTime<Utc>, times: Times) -> Table {
    let mut table = Table::new(&[
        Column::left("ENTRY"),
        Column::sentence("NOW"),
        Column::left("LAST RUN"),
        Column::left("OUTCOME"),
        Column::left("TAGS"),
        Column::left("NEXT RUN"),
    ]);
    for entry in entries {
        let [ended, outcome, tags] = match &entry.last_run {
            Some(run) => [Cell::time(run.ended, now), Cell::outcome(run.outcome.clone()), Cell::counts(run.counts)],
            None => ["none yet".into(), Cell::default(), Cell::default()],
        };
        table.row([entry.name.clone().into(), state(entry, times), ended, outcome, tags, next_run(entry, now)]);
    }
    table
}

/// Returns the current state of an entry: running, paused or idle. A run may continue during a pause.
fn state(entry: &EntryState, times: Times) -> Cell {
    let pause = entry.paused_since.map(|since| times.pause(since, entry.paused_until));
    match (entry.running.as_ref().map(|run| progress(run, times)), pause) {
        (Some(run), Some(pause)) => format!("{run}; {pause}").into(),
        (Some(run), None) => run.into(),
        (None, Some(pause)) => Cell::outcome(pause),
        (None, None) => "idle".into(),
    }
}

/// Returns the state of a run, such as `running for 50s, 3 of 5 tags, 12.3 MiB`.
fn progress(run: &RunningState, times: Times) -> String {
    let done = run.counts.total();
    let tags = run.tags.map(|all| format!(", {done} of {all} tags")).unwrap_or_default();
    let sent = if run.bytes_sent > 0 { format!(", {}", units::bytes(run.bytes_sent)) } else { String::new() };
    format!("running {}{tags}{sent}", times.since(run.since))
}

/// Returns the next run of an entry. The snapshot may contain a scheduled run within a pause, and such a run will not
/// start.
fn next_run(entry: &EntryState, now: DateTime<Utc>) -> Cell {
    let is_after_pause = |next: DateTime<Utc>| match (entry.paused_since, entry.paused_until) {
        (None, _) => true,
        (Some(_), until) => until.is_some_and(|until| next > until),
    };
    match (entry.next_firing, entry.deferred_until) {
        (Some(next), Some(until)) if next == until && is_after_pause(next) => {
            let remark = |time: String| format!("{time} for tags that wait");
            Cell::shortened(remark(units::moment(next)), remark(units::distance(next, now)))
        }
        (Some(next), _) if is_after_pause(next) => Cell::time(next, now),
        _ if entry.paused_since.is_some() => NONE_WHILE_PAUSED.into(),
        _ => "manual only".into(),
    }
}

fn transfers(transfers: &[TransferState]) -> Table {
    let mut table = Table::new(&[
        Column::left("BLOB"),
        Column::right("SENT"),
        Column::right("OF"),
        Column::reference("FROM"),
        Column::reference("TO"),
    ]);
    for transfer in transfers {
        table.row([
            Cell::digest(&transfer.digest),
            units::bytes(transfer.sent).into(),
            units::bytes(transfer.size).into(),
            transfer.source.clone().into(),
            transfer.target.clone().into(),
        ]);
    }
    table
}

/// Returns the time since the last iteration of the loop of the daemon. If the loop is healthy, returns `None`.
pub(crate) fn stalled_for(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Duration> {
    (now - snapshot.loop_iterated_at).to_std().ok().filter(|silent| *silent > HEALTHY_WITHIN)
}

#[cfg(test)]
pub(crate) mod tests;
