//! Tests of the summary of a run.

use chrono::{DateTime, Utc};

use super::*;
use crate::cli::output::writer::tests::OutputBuffer;
use crate::copy::event::{BlobCounts, LeftBehind};
use crate::oci::Digest;
use crate::store::{ErrorKind, Side, Step, StoreError};

fn tag(name: &str, outcome: TagOutcome) -> TagReport {
    TagReport {
        source: "docker.io/library/python".into(),
        target: "prod.example/python".into(),
        tag: Some(name.parse().unwrap()),
        source_tag: None,
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

fn parse_time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn report(outcome: RunOutcome, tags: Vec<TagReport>) -> RunReport {
    let (started, ended) = (parse_time("2026-11-21T03:00:00Z"), parse_time("2026-11-21T03:00:03.2Z"));
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
        waiting_for: Vec::new(),
    }
}

fn printed(report: &RunReport) -> String {
    let buffer = OutputBuffer::default();
    print(report, &mut buffer.terminal(100)).unwrap();
    buffer.text()
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
        "python: 1 unchanged, 1 left behind, 0 B sent in 3.2s\n  not copied to prod.example/python: \
             referrer {referrer} of {subject}: target prod.example/python: writing manifest: 413\n"
    );
    assert_eq!(printed(&short), expected);
    assert!(
        short.has_no_failure() && short.first_problem().is_some_and(|problem| problem.starts_with("not copied to "))
    );
    assert_eq!(exit(&[short]), Exit::Withheld);
}

#[test]
fn failures_of_one_reason_share_a_line_with_their_tags() {
    let failed = |name: &str, why: &str| {
        let error = StoreError::new("prod.example/python", Step::WriteManifest, name, ErrorKind::Refused, why);
        TagReport { bytes: 0, ..tag(name, TagOutcome::failed_at(Side::Target, &error)) }
    };
    let mut tags: Vec<TagReport> = (0..25).map(|number| failed(&format!("v{number}"), "403: no")).collect();
    tags.push(failed("other", "500: broken"));
    let text = printed(&report(RunOutcome::Failed, tags));
    let named: Vec<String> = (0..20).map(|number| format!("v{number}")).collect();
    let expected = format!(
        "python: 26 failed, 0 B sent in 3.2s\n\
         \x20 failed 25 tags at prod.example/python: writing manifest: 403: no\n\
         \x20   {} and 5 more (--json has all)\n\
         \x20 failed other at prod.example/python: target prod.example/python: writing manifest \
         other: 500: broken\n",
        named.join(", ")
    );
    assert_eq!(text, expected);
}

#[test]
fn equal_problems_of_a_run_are_printed_once() {
    let problem = "source h.example/a: listing tags: 500".to_owned();
    let failed =
        RunReport { problems: vec![problem.clone(), problem.clone()], ..report(RunOutcome::Failed, Vec::new()) };
    assert_eq!(printed(&failed), format!("python: failed after 3.2s\n  failed: {problem}\n"));
}

#[test]
fn names_and_digests_that_differ_are_masked_in_a_group() {
    let blocked = |name: &str| {
        let digest = Digest::of(name.as_bytes());
        let reason = format!("writing manifest {name} ({digest}): 409 Conflict, the registry has {digest}");
        tag(name, TagOutcome::Blocked { reason })
    };
    let held = tag("v3", TagOutcome::Held { reason: "409".into() });
    let also_blocked = tag("v4", TagOutcome::Blocked { reason: "409".into() });
    let text = printed(&report(RunOutcome::Succeeded, vec![blocked("v1"), held, blocked("v2"), also_blocked]));
    let expected = "  blocked 2 tags at prod.example/python: writing manifest: 409 Conflict, the registry has …\n\
                    \x20   v1, v2\n\
                    \x20 held v3 at prod.example/python: 409\n\
                    \x20 blocked v4 at prod.example/python: 409\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn conflicts_with_the_same_entries_share_a_line() {
    let conflict = || TagOutcome::Conflict { entries: vec!["a".into(), "b".into()] };
    let tags = vec![tag("v1", conflict()), tag("v2", conflict())];
    let text = printed(&report(RunOutcome::Failed, tags));
    let expected = "  conflict of 2 tags at prod.example/python: the entries a and b claim them for different sources\n\
                    \x20   v1, v2\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn changes_are_listed_and_unchanged_tags_counted() {
    let moved = TagOutcome::Replaced { previous: Digest::of(b"old"), kept_as: None };
    let tags = vec![tag("3.12", TagOutcome::Copied), tag("3", moved), unchanged("2")];
    let (new, moved) = (Digest::of(b"3.12").short(), Digest::of(b"3").short());
    let expected = format!(
        "python: 1 copied, 1 replaced, 1 unchanged, 4.0 KiB sent in 3.2s\n\
             \x20 TAG   OUTCOME   DIGEST               BLOBS                BYTES\n\
             \x20 3.12  copied    sha256:{new}  3 sent, 1 mounted  2.0 KiB\n\
             \x20 3     replaced  sha256:{moved}  3 sent, 1 mounted  2.0 KiB\n"
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
             reading blob sha256:{}…: the bytes hash to sha256:00\n",
        digest.short()
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
    let since = parse_time("2026-11-21T02:00:00Z");
    let busy = report(RunOutcome::AlreadyRunning { pid: 7, since }, vec![]);
    assert_eq!(printed(&busy), "python: skipped, process 7 has been running it since 2026-11-21T02:00:00Z\n");
    assert_eq!(exit(&[busy]), Exit::Ok);
    assert_eq!(exit(&[report(RunOutcome::Interrupted, vec![])]), Exit::Interrupted);
}

#[test]
fn failures_are_red_and_unchanged_entries_dim() {
    let shown = |report: &RunReport| {
        let buffer = OutputBuffer::default();
        print(report, &mut buffer.colored()).unwrap();
        buffer.text()
    };
    let (red, dim, end) = ("\u{1b}[1m\u{1b}[31m", "\u{1b}[2m", "\u{1b}[0m");
    let failed = TagOutcome::Failed { side: None, step: None, subject: None, message: "denied".into() };
    let text = shown(&report(RunOutcome::Failed, vec![tag("3.12", failed)]));
    assert!(text.starts_with(&format!("python: {red}1 failed{end}, ")), "{text}");
    assert!(text.contains(&format!("\n  {red}failed{end} 3.12 at prod.example/python: denied\n")), "{text}");
    let text = shown(&report(RunOutcome::Succeeded, vec![unchanged("3.12")]));
    assert_eq!(text, format!("{dim}python: nothing changed (1 unchanged) in 3.2s{end}\n"));
}
