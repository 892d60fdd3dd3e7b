//! Summary of a run for people: a line for each entry, a table of changes, and the problems.

use std::collections::BTreeSet;
use std::io;

use super::style::Meaning;
use super::table::{Cell, Column, Table};
use super::units;
use super::writer::Output;
use crate::cli::exit::Exit;
use crate::sync::{LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};

mod problem_groups;

/// Prints the summary of one run.
///
/// # Errors
/// Errors of the output.
pub(crate) fn print(report: &RunReport, output: &mut Output) -> io::Result<()> {
    print_headline(report, output)?;
    let changed: Vec<&TagReport> = report.tags.iter().filter(|tag| tag.outcome.is_change()).collect();
    if !changed.is_empty() {
        output.indented_table(&changes(&changed))?;
    }
    let problems = problem_groups::format_problems(&report.tags);
    problems.iter().try_for_each(|problem| output.outcome_line(format!("  {problem}")))?;
    for left in report.left_behind.iter().map(LeftBehindReport::in_words) {
        output.line(format!("  {left}"))?;
    }
    if let Some(deferred) = deferred_line(report) {
        output.line(format!("  {deferred}"))?;
    }
    report.warnings.iter().try_for_each(|warning| output.outcome_line(format!("  warning: {warning}")))?;
    if let Some(doubt) = doubt_line(report) {
        output.line(format!("  {doubt}"))?;
    }
    let problems: BTreeSet<&String> = report.problems.iter().collect();
    let lines = problems.into_iter().map(|problem| problem_groups::shorten_digests(problem));
    lines.map(|problem| format!("  failed: {problem}")).try_for_each(|line| output.outcome_line(line))
}

/// Prints the line of the entry. The line of a run without changes is dim.
fn print_headline(report: &RunReport, output: &mut Output) -> io::Result<()> {
    let headline = headline(report);
    if is_unchanged(report) {
        return output.line_with(Some(Meaning::Quiet), headline);
    }
    output.counts_line(headline)
}

fn is_unchanged(report: &RunReport) -> bool {
    let are_unchanged = report.tags.iter().all(|tag| tag.outcome == TagOutcome::Unchanged);
    report.outcome == RunOutcome::Succeeded && are_unchanged && report.left_behind.is_empty()
}

/// Returns the exit code for these runs. A failed run takes precedence over a withheld tag.
#[must_use]
pub(crate) fn exit(reports: &[RunReport]) -> Exit {
    if reports.iter().any(|report| report.outcome == RunOutcome::Interrupted) {
        Exit::Interrupted
    } else if reports.iter().any(|report| !report.has_no_failure()) {
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
    if is_unchanged(report) {
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
        Column::left("TAG"),
        Column::left("OUTCOME"),
        Column::left("DIGEST"),
        Column::left("BLOBS").optional(),
        Column::right("BYTES"),
        Column::reference("TARGET"),
    ];
    // The column of targets is shown only if there are several targets.
    let shown = if routes.len() > 1 { columns.len() } else { columns.len() - 1 };
    let mut table = Table::new(&columns[..shown]);
    for tag in changed {
        table.row([
            Cell::shortened(problem_groups::tag_or_digest(tag), short_name(tag)),
            Cell::outcome(tag.outcome.word()),
            tag.digest.as_ref().map(Cell::digest).unwrap_or_default(),
            blobs(tag).into(),
            units::bytes(tag.bytes).into(),
            tag.target.clone().into(),
        ]);
    }
    table
}

fn blobs(tag: &TagReport) -> String {
    let counts = [(tag.blobs.copied, "sent"), (tag.blobs.mounted, "mounted"), (tag.blobs.found, "found")];
    let shown = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    shown.collect::<Vec<_>>().join(", ")
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

/// Returns the same as [`problem_groups::tag_or_digest`], shortened for a table.
fn short_name(tag: &TagReport) -> String {
    match (&tag.tag, &tag.source_tag) {
        (Some(name), None) => units::tag_name(name),
        _ => problem_groups::tag_or_digest(tag),
    }
}

#[cfg(test)]
mod tests;
