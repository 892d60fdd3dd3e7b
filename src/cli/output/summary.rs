//! Summary of a run for people: a line for each entry, a table of changes, and the problems in full.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::table::{Align, Table};
use super::units;
use super::writer::Output;
use crate::cli::exit::Exit;
use crate::sync::{LeftBehindReport, RunOutcome, RunReport, TagOutcome, TagReport};

/// Largest number of lines for tags that failed for the same reason.
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

/// Returns the exit code for some runs. A failure takes precedence over a held tag.
#[must_use]
pub(crate) fn exit(reports: &[RunReport]) -> Exit {
    if reports.iter().any(|report| report.outcome == RunOutcome::Interrupted) {
        Exit::Interrupted
    } else if reports.iter().any(|report| !report.is_well()) {
        Exit::Failed
    } else if reports.iter().any(RunReport::is_held) {
        Exit::Withheld
    } else {
        Exit::Ok
    }
}

/// Returns a line such as `api: 2 copied, 14 unchanged, 12.3 MiB sent in 3.2s`, or one that says that nothing changed.
fn headline(report: &RunReport) -> String {
    let entry = &report.entry;
    let took = units::between(report.started, report.ended);
    let ended = match &report.outcome {
        RunOutcome::AlreadyRunning { pid, since } => {
            return format!("{entry}: skipped, process {pid} has been running it since {}", units::moment(*since));
        }
        RunOutcome::Interrupted => format!("interrupted after {took}"),
        RunOutcome::TimedOut => format!("timed out after {took}"),
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
    // The target is shown only if there are several.
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

/// Returns the lines of tags with a problem. Of many lines that differ only in the tag and its digests, it returns
/// the first ones and a count.
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

/// Returns a line with the number of deferred tags, the earliest end of their wait, and the reason of the first tag,
/// which stands for all.
fn deferred_line(report: &RunReport) -> Option<String> {
    let reason = report.tags.iter().find_map(|tag| match &tag.outcome {
        TagOutcome::Deferred { reason, .. } => Some(reason),
        _ => None,
    })?;
    let (count, until) = (report.counts().deferred, units::moment(report.deferred_until()?));
    let wait = if count == 1 { "waits" } else { "wait" };
    Some(format!("{count} {wait} until {until} or later: {reason}"))
}

/// Returns a line with the number of manifests whose referrers could not be listed, and the reason of the first,
/// which stands for all.
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
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::cli::output::writer::tests::Paper;
    use crate::copy::event::{BlobCounts, LeftBehind};
    use crate::oci::Digest;
    use crate::store::{ErrorKind, Side, Step, StoreError};

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

    fn unchanged(name: &str) -> TagReport {
        TagReport { blobs: BlobCounts::default(), bytes: 0, ..tag(name, TagOutcome::Unchanged) }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn report(outcome: RunOutcome, tags: Vec<TagReport>) -> RunReport {
        let (started, ended) = (at("2026-11-21T03:00:00Z"), at("2026-11-21T03:00:03.2Z"));
        RunReport {
            entry: "python".into(),
            run: Some(1),
            started,
            ended,
            outcome,
            tags,
            problems: Vec::new(),
            in_doubt: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn printed(report: &RunReport) -> String {
        let paper = Paper::default();
        print(report, &mut paper.output()).unwrap();
        paper.text()
    }

    #[test]
    fn run_without_changes_is_summarized_in_one_line() {
        let quiet = report(RunOutcome::Succeeded, vec![unchanged("3.12"), unchanged("3.13")]);
        assert_eq!(printed(&quiet), "python: nothing changed (2 unchanged) in 3.2s\n");
        assert_eq!(exit(&[quiet]), Exit::Ok);
        let none = report(RunOutcome::Succeeded, vec![]);
        assert_eq!(printed(&none), "python: nothing changed (no tags) in 3.2s\n");
    }

    #[test]
    fn unlistable_referrers_are_counted_with_a_remedy() {
        let in_doubt = |content: &[u8]| crate::sync::InDoubt {
            source: "docker.io/library/python".into(),
            digest: Digest::of(content),
            reason: "docker.io/library/python: listing referrers of x: 403 Forbidden".into(),
        };
        let doubted = RunReport {
            in_doubt: vec![in_doubt(b"a"), in_doubt(b"b")],
            ..report(RunOutcome::Succeeded, vec![unchanged("3.12")])
        };
        let expected = "python: nothing changed (1 unchanged) in 3.2s\n  the referrers of 2 manifests could not be listed \
                        and are left behind: docker.io/library/python: listing referrers of x: 403 Forbidden; \
                        the next run tries again, and `referrers: false` skips all referrers\n";
        assert_eq!(printed(&doubted), expected);
        assert_eq!(exit(&[doubted]), Exit::Ok);
    }

    #[test]
    fn left_behind_referrer_is_counted_named_and_exits_with_4() {
        let (referrer, subject) = (Digest::of(b"sbom"), Digest::of(b"3.12"));
        let left = LeftBehind {
            what: format!("referrer {referrer} of {subject}"),
            reason: "target prod.example/python: writing manifest: 413".into(),
        };
        let left_behind = vec![LeftBehindReport { target: "prod.example/python".into(), left }];
        let short = RunReport { left_behind, ..report(RunOutcome::Succeeded, vec![unchanged("3.12")]) };
        let expected = format!(
            "python: 1 unchanged, 1 left behind, 0 B sent in 3.2s\n  left behind, not at prod.example/python: \
             referrer {referrer} of {subject}: target prod.example/python: writing manifest: 413\n"
        );
        assert_eq!(printed(&short), expected);
        assert!(short.is_well() && short.first_problem().is_some_and(|problem| problem.starts_with("left behind, ")));
        assert_eq!(exit(&[short]), Exit::Withheld);
    }

    #[test]
    fn failures_of_one_reason_get_twenty_lines_and_a_count() {
        let failed = |name: &str, why: &str| {
            let error = StoreError::new("prod.example/python", Step::WriteManifest, name, ErrorKind::Refused, why);
            TagReport { bytes: 0, ..tag(name, TagOutcome::failed_at(Side::Target, &error)) }
        };
        let mut tags: Vec<TagReport> = (0..25).map(|at| failed(&format!("v{at}"), "403: no")).collect();
        tags.push(failed("other", "500: broken"));
        let text = printed(&report(RunOutcome::Failed, tags));
        assert_eq!(text.lines().filter(|line| line.ends_with("403: no")).count(), 20, "{text}");
        let last: Vec<&str> = text.lines().skip(21).collect();
        let rest = "  and 5 more at prod.example/python for the same reason (--json has all)";
        assert!(last.len() == 2 && last[0].ends_with("500: broken") && last[1] == rest, "{text}");
    }

    #[test]
    fn changes_are_listed_and_unchanged_tags_counted() {
        let moved = TagOutcome::Replaced { previous: Digest::of(b"old"), kept_as: None };
        let tags = vec![tag("3.12", TagOutcome::Copied), tag("3", moved), unchanged("2")];
        let (new, moved) = (Digest::of(b"3.12").short(), Digest::of(b"3").short());
        let expected = format!(
            "python: 1 copied, 1 replaced, 1 unchanged, 4.0 KiB sent in 3.2s\n\
             \x20 TAG   OUTCOME   DIGEST        BLOBS                BYTES\n\
             \x20 3.12  copied    {new}  3 sent, 1 mounted  2.0 KiB\n\
             \x20 3     replaced  {moved}  3 sent, 1 mounted  2.0 KiB\n"
        );
        assert_eq!(printed(&report(RunOutcome::Succeeded, tags)), expected);
    }

    #[test]
    fn failure_names_side_step_and_digest() {
        let digest = Digest::of(b"blob");
        let wrong = "the bytes hash to sha256:00";
        let error = StoreError::new("docker.io/library/python", Step::ReadBlob, digest, ErrorKind::Corrupt, wrong);
        let outcome = TagOutcome::failed_at(Side::Source, &error);
        let failed = report(RunOutcome::Failed, vec![TagReport { bytes: 0, ..tag("v1", outcome) }]);
        let expected = format!(
            "python: 1 failed, 0 B sent in 3.2s\n  failed v1 at prod.example/python: source docker.io/library/python: \
             reading blob {digest}: the bytes hash to sha256:00\n"
        );
        assert_eq!(printed(&failed), expected);
        assert_eq!(exit(&[failed]), Exit::Failed);
    }

    #[test]
    fn refused_tag_is_shown_and_has_its_own_exit_code() {
        let blocked = TagOutcome::Blocked { reason: "`overwrite: never` forbids the move".into() };
        let held = report(RunOutcome::Succeeded, vec![tag("v1", blocked), unchanged("v2")]);
        assert!(printed(&held).contains("blocked v1 at prod.example/python: `overwrite: never` forbids the move\n"));
        assert_eq!(exit(&[held]), Exit::Withheld);
    }

    #[test]
    fn tag_in_conflict_is_shown_with_both_names() {
        let conflict = TagOutcome::Conflict { entries: vec!["a".into(), "b".into()] };
        let failed = report(RunOutcome::Failed, vec![tag("v1", conflict)]);
        let ending = "conflict of v1 at prod.example/python: the entries a and b claim it for different sources\n";
        assert!(printed(&failed).ends_with(ending));
    }

    #[test]
    fn run_that_could_not_start_shows_the_reason() {
        let mut report = report(RunOutcome::Failed, vec![]);
        report.problems.push("source docker.io/library/python: listing tags: connection refused".into());
        let expected =
            "python: failed after 3.2s\n  failed: source docker.io/library/python: listing tags: connection refused\n";
        assert_eq!(printed(&report), expected);
        assert_eq!(exit(&[report]), Exit::Failed);
    }

    #[test]
    fn timeout_interruption_and_skip_are_shown() {
        let tags = || vec![tag("v1", TagOutcome::Copied)];
        let first = |outcome| printed(&report(outcome, tags())).lines().next().unwrap().to_owned();
        assert_eq!(first(RunOutcome::TimedOut), "python: 1 copied, 2.0 KiB sent, timed out after 3.2s");
        assert_eq!(first(RunOutcome::Interrupted), "python: 1 copied, 2.0 KiB sent, interrupted after 3.2s");
        let since = at("2026-11-21T02:00:00Z");
        let busy = report(RunOutcome::AlreadyRunning { pid: 7, since }, vec![]);
        assert_eq!(printed(&busy), "python: skipped, process 7 has been running it since 2026-11-21T02:00:00Z\n");
        assert_eq!(exit(&[busy]), Exit::Ok);
        assert_eq!(exit(&[report(RunOutcome::Interrupted, vec![])]), Exit::Interrupted);
    }
}
