//! Text of a snapshot of the daemon for people.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::table::{Align, Table};
use super::units;
use super::writer::Output;
use crate::status::{
    EntryState, FailedRun, HEALTHY_WITHIN, LimitsState, Quota, RegistryState, RunningState, Snapshot, TransferState,
};

pub(crate) fn print(snapshot: &Snapshot, now: DateTime<Utc>, output: &mut Output) -> std::io::Result<()> {
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
        output.line(format!("configuration {} read {}", snapshot.configuration.path, units::moment(loaded)))?;
    }
    if let Some(problem) = &snapshot.configuration.problem {
        output.line(format!("the last edit was refused, the previous configuration stays active:\n{problem}"))?;
    }
    if let Some(setback) = &snapshot.clock_set_back {
        let (by, noticed) = (Duration::from_secs(setback.seconds), units::moment(setback.noticed));
        let by = humantime::format_duration(by);
        output.line(format!("the clock was set back by {by} (noticed {noticed}): schedules follow the new time"))?;
    }
    output.line("")?;
    output.table(&entries(&snapshot.entries))?;
    for entry in &snapshot.entries {
        if let Some(error) = entry.last_run.as_ref().and_then(|run| run.error.as_ref()) {
            output.line(last_error(&entry.name, error, entry.failures, None))?;
        }
    }
    for warning in &snapshot.warnings {
        let of_entry = warning.entry.as_ref().map(|entry| format!("{entry}: ")).unwrap_or_default();
        output.line(format!("{of_entry}warning: {warning}"))?;
    }
    for waiting in &snapshot.waiting {
        output.line(format!("{}: waiting for a slot since {}", waiting.entry, units::moment(waiting.since)))?;
    }
    for registry in &snapshot.registries {
        if let Some(held_up) = throttling(registry, now) {
            output.line(held_up)?;
        }
    }
    for quota in &snapshot.quotas {
        output.line(pulls_left(quota))?;
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
        output.table(&failures(&snapshot.recent_failures))?;
    }
    Ok(())
}

/// Returns a line such as `api: source: listing tags: denied (3 times in a row; backed off until
/// 2026-11-21T03:08:00Z)`.
pub(crate) fn last_error(entry: &str, error: &str, failures: u32, backed_off: Option<DateTime<Utc>>) -> String {
    let until = backed_off.map(|until| format!("; backed off until {}", units::moment(until))).unwrap_or_default();
    let again = if failures > 1 { format!(" ({failures} times in a row{until})") } else { String::new() };
    format!("{entry}: {error}{again}")
}

/// Returns a line about a registry that throttled the daemon. The registry is paused, or its number of concurrent
/// requests is reduced.
fn throttling(registry: &RegistryState, now: DateTime<Utc>) -> Option<String> {
    let (name, limits) = (&registry.registry, &registry.limits);
    if let Some(until) = registry.paused_until.filter(|until| *until > now) {
        return Some(format!("{name}: throttled until {}", units::moment(until)));
    }
    let slowed = limits.concurrent < limits.concurrent_at_most;
    slowed.then(|| {
        let LimitsState { concurrent, concurrent_at_most, .. } = limits;
        format!("{name}: throttled, at most {concurrent} instead of {concurrent_at_most} requests are in flight")
    })
}

fn failures(failures: &[FailedRun]) -> Table {
    let mut table = Table::new(&[
        ("FAILED RUN", Align::Right),
        ("ENTRY", Align::Left),
        ("ENDED", Align::Left),
        ("OUTCOME", Align::Left),
        ("WHY", Align::Left),
    ]);
    for run in failures {
        let (ended, why) = (units::moment(run.ended), run.error.clone().unwrap_or_default());
        table.row([run.run.to_string(), run.entry.clone(), ended, run.outcome.clone(), why]);
    }
    table
}

/// Returns a line such as `docker.io as mirror-bot: 76 of 200 pulls left in 6h, 20 reserved (reported
/// 2026-11-21T09:00:00Z)`.
fn pulls_left(quota: &Quota) -> String {
    let Quota { registry, identity, limit, window_seconds, remaining, reserved, reported } = quota;
    let window = humantime::format_duration(Duration::from_secs(*window_seconds));
    let reserved = if *reserved > 0 { format!(", {reserved} reserved") } else { String::new() };
    let reported = units::moment(*reported);
    format!("{registry} as {identity}: {remaining} of {limit} pulls left in {window}{reserved} (reported {reported})")
}

fn entries(entries: &[EntryState]) -> Table {
    let mut table = Table::new(&[
        ("ENTRY", Align::Left),
        ("NOW", Align::Left),
        ("LAST RUN", Align::Left),
        ("OUTCOME", Align::Left),
        ("TAGS", Align::Left),
        ("NEXT RUN", Align::Left),
    ]);
    for entry in entries {
        let running = entry.running.as_ref();
        let idle = if entry.paused_since.is_some() { "paused" } else { "idle" };
        let now = running.map_or_else(|| idle.into(), progress);
        let next = match (entry.next_firing, entry.deferred_until) {
            (Some(next), Some(until)) if next == until => format!("{} for tags that wait", units::moment(next)),
            (Some(next), _) => units::moment(next),
            (None, _) => no_next_run(entry),
        };
        let (ended, outcome, tags) = match &entry.last_run {
            Some(run) => (units::moment(run.ended), run.outcome.clone(), run.counts.to_string()),
            None => ("none yet".into(), String::new(), String::new()),
        };
        table.row([entry.name.clone(), now, ended, outcome, tags, next]);
    }
    table
}

/// Returns the state of a run, such as `running since 2026-11-21T03:00:00Z, 3 of 5 tags, 12.3 MiB`.
fn progress(run: &RunningState) -> String {
    let done = run.counts.total();
    let tags = run.tags.map(|all| format!(", {done} of {all} tags")).unwrap_or_default();
    let sent = if run.bytes_sent > 0 { format!(", {}", units::bytes(run.bytes_sent)) } else { String::new() };
    format!("running since {}{tags}{sent}", units::moment(run.since))
}

/// Returns the reason why an entry has no next run: a pause or a missing schedule.
fn no_next_run(entry: &EntryState) -> String {
    entry.paused_since.map_or_else(|| "manual only".to_owned(), |since| units::pause(since, entry.paused_until))
}

fn transfers(transfers: &[TransferState]) -> Table {
    let mut table = Table::new(&[
        ("BLOB", Align::Left),
        ("SENT", Align::Right),
        ("OF", Align::Right),
        ("FROM", Align::Left),
        ("TO", Align::Left),
    ]);
    for transfer in transfers {
        let (sent, size) = (units::bytes(transfer.sent), units::bytes(transfer.size));
        table.row([transfer.digest.short(), sent, size, transfer.source.clone(), transfer.target.clone()]);
    }
    table
}

/// Returns the time since the last iteration of the loop of the daemon. If the loop is healthy, returns `None`.
pub(crate) fn stalled_for(snapshot: &Snapshot, now: DateTime<Utc>) -> Option<Duration> {
    (now - snapshot.loop_iterated_at).to_std().ok().filter(|silent| *silent > HEALTHY_WITHIN)
}

#[cfg(test)]
pub(crate) mod tests;
