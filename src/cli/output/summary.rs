//! Summary of a run for people: a line for each entry, a table of changes, and the problems in full.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::table::{Align, Table};
use super::units;
use super::writer::Output;
use crate::cli::exit::Exit;
use crate::sync::{LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};

/// Maximum number of lines for tags that failed for the same reason.
const LINES_PER_REASON: usize = 20;

/// Prints the summary of one run.
///
/// # Errors
/// Errors of the output.
pub(crate) fn print(report: &RunReport, output: &mut Output) -> io::Result<()> {
    output.line(headline(report))?;
    let changed: Vec<&TagReport> = report.tags.iter().filter(|tag| tag.outcome.is_change()).collect();
    if !changed.is_empty() {
        for line in changes(&changed).lines() {
            output.line(format!("  {line}"))?;
        }
    }
    problem_lines(report).iter().try_for_each(|problem| output.line(format!("  {problem}")))?;
    for left in report.left_behind.iter().map(LeftBehindReport::in_words) {
        output.line(format!("  {left}"))?;
    }
    if let Some(deferred) = deferred_line(report) {
        output.line(format!("  {deferred}"))?;
    }
    report.warnings.iter().try_for_each(|warning| output.line(format!("  warning: {warning}")))?;
    if let Some(doubt) = doubt_line(report) {
        output.line(format!("  {doubt}"))?;
    }
    report.problems.iter().try_for_each(|problem| output.line(format!("  failed: {problem}")))
}

/// Returns the exit code for these runs. A failed run takes precedence over a withheld tag.
#[must_use]
pub(crate) fn exit(reports: &[RunReport]) -> Exit {
    if reports.iter().any(|report| report.outcome == RunOutcome::Interrupted) {
        Exit::Interrupted
    } else if reports.iter().any(|report| !report.is_well()) {
        Exit::Failed
    } else if reports.iter().any(RunReport::has_withheld_items) {
        Exit::Withheld
    } else {
        Exit::Ok
    }
}

/// Returns a line such as `api: 2 copied, 14 unchanged, 12.3 MiB sent in 3.2s`, or a line that says that nothing
/// changed.
fn headline(report: &RunReport) -> String {
    let entry = &report.entry;
    let took = units::between(report.started, report.ended);
    let ended = match &report.outcome {
        RunOutcome::AlreadyRunning { pid, since } => {
            return format!("{entry}: skipped, process {pid} has been running it since {}", units::moment(*since));
        }
        RunOutcome::Interrupted => report.with_waits(&format!("interrupted after {took}")),
        RunOutcome::TimedOut => report.with_waits(&format!("timed out after {took}")),
        RunOutcome::Failed if report.tags.is_empty() => format!("failed after {took}"),
        RunOutcome::Failed | RunOutcome::Deferred | RunOutcome::Succeeded => format!("in {took}"),
    };
    let counts = counts(report);
    let is_unchanged =
        report.tags.iter().all(|tag| tag.outcome == TagOutcome::Unchanged) && report.left_behind.is_empty();
    if report.outcome == RunOutcome::Succeeded && is_unchanged {
        let tags = if counts.is_empty() { "no tags" } else { &counts };
        return format!("{entry}: nothing changed ({tags}) {ended}");
    }
    if counts.is_empty() {
        return format!("{entry}: {ended}");
    }
    let sent = units::bytes(report.bytes());
    let comma = if ended.starts_with("in ") { "" } else { "," };
    format!("{entry}: {counts}, {sent} sent{comma} {ended}")
}

fn counts(report: &RunReport) -> String {
    let counted = report.counts().named();
    let shown = counted.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}"));
    let left = Some(report.left_behind.len()).filter(|count| *count > 0).map(|count| format!("{count} left behind"));
    shown.chain(left).collect::<Vec<_>>().join(", ")
}

fn changes(changed: &[&TagReport]) -> Table {
    let routes: BTreeSet<(&str, &str)> = changed.iter().map(|tag| (tag.source.as_str(), tag.target.as_str())).collect();
    let columns = [
        ("TAG", Align::Left),
        ("OUTCOME", Align::Left),
        ("DIGEST", Align::Left),
        ("BLOBS", Align::Left),
        ("BYTES", Align::Right),
        ("TARGET", Align::Left),
    ];
    // The column of targets is shown only if there are several targets.
    let shown = if routes.len() > 1 { columns.len() } else { columns.len() - 1 };
    let mut table = Table::new(&columns[..shown]);
    for tag in changed {
        table.row([
            short_name(tag),
            tag.outcome.word().to_owned(),
            tag.digest.map(|digest| digest.short()).unwrap_or_default(),
            blobs(tag),
            units::bytes(tag.bytes),
            tag.target.clone(),
        ]);
    }
    table
}

fn blobs(tag: &TagReport) -> String {
    let counts = [(tag.blobs.copied, "sent"), (tag.blobs.mounted, "mounted"), (tag.blobs.found, "found")];
    let shown = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// Returns the lines of tags with a problem. If many lines differ only in the tag and its digests, the result has the
/// first lines and the number of the others.
fn problem_lines(report: &RunReport) -> Vec<String> {
    let mut lines = Vec::new();
    let mut counts: HashMap<String, (usize, &str)> = HashMap::new();
    for tag in &report.tags {
        let Some(line) = problem_line(tag) else { continue };
        if let Some(class) = tag.failure_class() {
            let (count, _) = counts.entry(class).or_insert((0, &tag.target));
            *count += 1;
            if *count > LINES_PER_REASON {
                continue;
            }
        }
        lines.push(line);
    }
    let mut further: Vec<_> = counts.into_iter().filter(|(_, (count, _))| *count > LINES_PER_REASON).collect();
    further.sort();
    lines.extend(further.into_iter().map(|(_, (count, target))| {
        format!("and {} more at {target} for the same reason (--json has all)", count - LINES_PER_REASON)
    }));
    lines
}

/// Returns the full line for a tag that failed or was held, or whose previous digest was kept under another tag.
fn problem_line(tag: &TagReport) -> Option<String> {
    let (what, target) = (tag_or_digest(tag), &tag.target);
    match &tag.outcome {
        TagOutcome::Held { reason } => Some(format!("held {what} at {target}: {reason}")),
        TagOutcome::Blocked { reason } => Some(format!("blocked {what} at {target}: {reason}")),
        TagOutcome::Failed { message, .. } => Some(format!("failed {what} at {target}: {message}")),
        TagOutcome::Conflict { entries } => {
            let entries = entries.join(" and ");
            Some(format!("conflict of {what} at {target}: the entries {entries} claim it for different sources"))
        }
        // All deferred tags share one line.
        TagOutcome::Deferred { .. } => None,
        TagOutcome::Replaced { previous, kept_as: Some(under) } => {
            Some(format!("{what} at {target}: {} is kept as {under}", previous.short()))
        }
        TagOutcome::Copied | TagOutcome::Replaced { kept_as: None, .. } | TagOutcome::Unchanged => None,
    }
}

/// Returns a line with the number of deferred tags, the earliest end of their wait, and the reason of the first tag.
/// The reasons of the other tags are omitted.
fn deferred_line(report: &RunReport) -> Option<String> {
    let reason = report.tags.iter().find_map(|tag| match &tag.outcome {
        TagOutcome::Deferred { reason, .. } => Some(reason),
        _ => None,
    })?;
    let (count, until) = (report.counts().deferred, units::moment(report.deferred_until()?));
    let wait = if count == 1 { "waits" } else { "wait" };
    Some(format!("{count} {wait} until {until} or later: {reason}"))
}

/// Returns a line with the number of manifests whose referrers could not be listed, and the reason of the first
/// manifest. The other reasons are omitted.
fn doubt_line(report: &RunReport) -> Option<String> {
    let reason = &report.in_doubt.first()?.reason;
    let count = match report.in_doubt.len() {
        1 => "1 manifest".to_owned(),
        count => format!("{count} manifests"),
    };
    Some(format!(
        "the referrers of {count} could not be listed and are left behind: {reason}; the next run tries again, \
         and `referrers: false` skips all referrers"
    ))
}

/// Returns the tag, or the digest if the copy is by digest.
fn tag_or_digest(tag: &TagReport) -> String {
    match (&tag.tag, tag.source_digest.or(tag.digest)) {
        (Some(tag), _) => tag.to_string(),
        (None, Some(digest)) => format!("@{}", digest.short()),
        (None, None) => "?".to_owned(),
    }
}

/// Returns the same as [`tag_or_digest`], shortened for a table.
fn short_name(tag: &TagReport) -> String {
    tag.tag.as_ref().map_or_else(|| tag_or_digest(tag), units::tag_name)
}

#[cfg(test)]
mod tests;
