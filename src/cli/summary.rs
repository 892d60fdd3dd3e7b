//! What a run did, for people: a line for each entry, a table of what changed, and what went wrong in full.

use std::collections::BTreeSet;
use std::io;

use super::exit::Exit;
use super::output::Output;
use super::report::{RunOutcome, RunReport, TagOutcome, TagReport};
use super::table::{Align, Table};
use super::units;

/// Prints the summary of one run.
///
/// # Errors
/// Those of the output.
pub fn print(report: &RunReport, output: &mut Output) -> io::Result<()> {
    output.line(headline(report))?;
    let changed: Vec<&TagReport> = report.tags.iter().filter(|tag| is_change(tag)).collect();
    if !changed.is_empty() {
        for line in changes(&changed).lines() {
            output.line(format!("  {line}"))?;
        }
    }
    for tag in &report.tags {
        if let Some(trouble) = trouble(tag) {
            output.line(format!("  {trouble}"))?;
        }
    }
    report.problems.iter().try_for_each(|problem| output.line(format!("  {problem}")))
}

/// The exit code of some runs: what failed outweighs what was held.
#[must_use]
pub fn exit(reports: &[RunReport]) -> Exit {
    let tags = || reports.iter().flat_map(|report| &report.tags);
    let failed = reports.iter().any(|report| report.outcome == RunOutcome::Failed || !report.problems.is_empty());
    if reports.iter().any(|report| report.outcome == RunOutcome::Interrupted) {
        Exit::Interrupted
    } else if failed || tags().any(|tag| matches!(tag.outcome, TagOutcome::Failed { .. })) {
        Exit::Failed
    } else if tags().any(|tag| matches!(tag.outcome, TagOutcome::Refused { .. })) {
        Exit::Held
    } else {
        Exit::Ok
    }
}

/// `api: 2 copied, 14 kept, 12.3 MiB sent in 3.2s`, or that nothing changed.
fn headline(report: &RunReport) -> String {
    let count = |word: &str| report.tags.iter().filter(|tag| told(&tag.outcome) == word).count();
    let words = ["copied", "replaced", "kept", "refused", "failed"];
    let counts: Vec<String> = words
        .iter()
        .map(|word| (count(word), word))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let took = units::between(report.started, report.ended);
    let sent: u64 = report.tags.iter().map(|tag| tag.bytes).sum();
    let interrupted = if report.outcome == RunOutcome::Interrupted { "interrupted, " } else { "" };
    let entry = &report.entry;
    if counts.is_empty() && !report.problems.is_empty() {
        return format!("{entry}: {interrupted}failed after {took}");
    }
    if report.tags.iter().all(|tag| matches!(tag.outcome, TagOutcome::Kept)) && report.problems.is_empty() {
        let kept = counts.first().map_or_else(|| "no tags".to_owned(), Clone::clone);
        return format!("{entry}: {interrupted}nothing changed ({kept}) in {took}");
    }
    format!("{entry}: {interrupted}{}, {} sent in {took}", counts.join(", "), units::bytes(sent))
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
    // With one target there is nothing to tell apart.
    let shown = if routes.len() > 1 { columns.len() } else { columns.len() - 1 };
    let mut table = Table::new(&columns[..shown]);
    for tag in changed {
        table.row([
            named(tag),
            told(&tag.outcome).to_owned(),
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

fn is_change(tag: &TagReport) -> bool {
    matches!(tag.outcome, TagOutcome::Copied | TagOutcome::Replaced { .. })
}

/// What did not go as asked, in full.
fn trouble(tag: &TagReport) -> Option<String> {
    let what = named(tag);
    match &tag.outcome {
        TagOutcome::Refused { reason } => Some(format!("refused {what} at {}: {reason}", tag.target)),
        TagOutcome::Failed { side, step, subject, message } => {
            let subject = if subject.is_empty() { String::new() } else { format!(" {subject}") };
            Some(format!("failed {what} at {}: {side}: {step}{subject}: {message}", tag.target))
        }
        TagOutcome::Copied | TagOutcome::Replaced { .. } | TagOutcome::Kept => None,
    }
}

fn told(outcome: &TagOutcome) -> &'static str {
    match outcome {
        TagOutcome::Copied => "copied",
        TagOutcome::Replaced { .. } => "replaced",
        TagOutcome::Kept => "kept",
        TagOutcome::Refused { .. } => "refused",
        TagOutcome::Failed { .. } => "failed",
    }
}

/// The tag, or the digest where the copy is by digest.
fn named(tag: &TagReport) -> String {
    match (&tag.tag, tag.source_digest.or(tag.digest)) {
        (Some(tag), _) => tag.to_string(),
        (None, Some(digest)) => format!("@{}", digest.short()),
        (None, None) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::super::output::tests::Paper;
    use super::*;
    use crate::copy::event::BlobCounts;
    use crate::oci::Digest;
    use crate::store::{Side, Step};

    fn tag(name: &str, outcome: TagOutcome) -> TagReport {
        TagReport {
            source: "docker.io/library/python".into(),
            target: "prod.example/python".into(),
            tag: Some(name.parse().unwrap()),
            digest: Some(Digest::of(name.as_bytes())),
            source_digest: Some(Digest::of(name.as_bytes())),
            outcome,
            blobs: BlobCounts { copied: 3, mounted: 1, found: 0 },
            bytes: 2048,
        }
    }

    fn kept(name: &str) -> TagReport {
        TagReport { blobs: BlobCounts::default(), bytes: 0, ..tag(name, TagOutcome::Kept) }
    }

    fn report(outcome: RunOutcome, tags: Vec<TagReport>) -> RunReport {
        let started: DateTime<Utc> = "2026-11-21T03:00:00Z".parse().unwrap();
        let ended = started + chrono::TimeDelta::milliseconds(3200);
        RunReport { entry: "python".into(), started, ended, outcome, tags, problems: Vec::new() }
    }

    fn printed(report: &RunReport) -> String {
        let paper = Paper::default();
        print(report, &mut paper.output()).unwrap();
        paper.text()
    }

    #[test]
    fn a_run_that_changed_nothing_says_so_in_one_line() {
        let quiet = report(RunOutcome::Succeeded, vec![kept("3.12"), kept("3.13")]);
        assert_eq!(printed(&quiet), "python: nothing changed (2 kept) in 3.2s\n");
        assert_eq!(exit(&[quiet]), Exit::Ok);
        let none = report(RunOutcome::Succeeded, vec![]);
        assert_eq!(printed(&none), "python: nothing changed (no tags) in 3.2s\n");
    }

    #[test]
    fn changes_are_listed_and_the_rest_is_counted() {
        let previous = Digest::of(b"old");
        let tags = vec![tag("3.12", TagOutcome::Copied), tag("3", TagOutcome::Replaced { previous }), kept("2")];
        let (new, moved) = (Digest::of(b"3.12").short(), Digest::of(b"3").short());
        let expected = format!(
            "python: 1 copied, 1 replaced, 1 kept, 4.0 KiB sent in 3.2s\n\
             \x20 TAG   OUTCOME   DIGEST        BLOBS                BYTES\n\
             \x20 3.12  copied    {new}  3 sent, 1 mounted  2.0 KiB\n\
             \x20 3     replaced  {moved}  3 sent, 1 mounted  2.0 KiB\n"
        );
        assert_eq!(printed(&report(RunOutcome::Succeeded, tags)), expected);
    }

    #[test]
    fn a_failure_names_side_step_and_digest() {
        let digest = Digest::of(b"blob");
        let outcome = TagOutcome::Failed {
            side: Side::Source,
            step: Step::ReadBlob,
            subject: digest.to_string(),
            message: "the bytes hash to sha256:00".into(),
        };
        let failed = report(RunOutcome::Failed, vec![TagReport { bytes: 0, ..tag("v1", outcome) }]);
        let expected = format!(
            "python: 1 failed, 0 B sent in 3.2s\n  failed v1 at prod.example/python: source: reading blob {digest}: \
             the bytes hash to sha256:00\n"
        );
        assert_eq!(printed(&failed), expected);
        assert_eq!(exit(&[failed]), Exit::Failed);
    }

    #[test]
    fn a_refusal_is_told_and_has_an_exit_code_of_its_own() {
        let refused = TagOutcome::Refused { reason: "`overwrite: never` forbids the move".into() };
        let held = report(RunOutcome::Succeeded, vec![tag("v1", refused), kept("v2")]);
        assert!(printed(&held).contains("refused v1 at prod.example/python: `overwrite: never` forbids the move\n"));
        assert_eq!(exit(&[held]), Exit::Held);
    }

    #[test]
    fn a_run_that_could_not_begin_says_why() {
        let mut report = report(RunOutcome::Failed, vec![]);
        report.problems.push("docker.io/library/python: listing tags: connection refused".into());
        let expected = "python: failed after 3.2s\n  docker.io/library/python: listing tags: connection refused\n";
        assert_eq!(printed(&report), expected);
        assert_eq!(exit(&[report]), Exit::Failed);
    }
}
