//! Tests of the guarantees of the journal, with real files and real processes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::copy::event::{Arrival, BlobCounts, Transfer};
use crate::oci::{Digest, MediaType, Tag};

pub(super) struct TestJournal {
    _folder: TempDir,
    pub(super) path: PathBuf,
}

pub(super) fn temp_journal() -> TestJournal {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/journal.db");
    TestJournal { _folder: folder, path }
}

pub(super) fn time_at(minute: i64) -> DateTime<Utc> {
    "2026-05-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minute)
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn ended(outcome: Outcome) -> RunEnd {
    let tags = TagCounts { copied: 2, unchanged: 3, blocked: 1, deferred: 4, ..TagCounts::default() };
    RunEnd { outcome, tags, bytes: 77, error: None, deferred_until: Some(time_at(30)) }
}

pub(super) async fn start_run(journal: &Journal, entry: &str, minute: i64) -> RunId {
    match journal.begin_run(entry, Trigger::Manual, time_at(minute)).await.unwrap() {
        Begun::Started(run) => run,
        already @ Begun::AlreadyRunning { .. } => panic!("{already:?}"),
    }
}

/// Records the state of a transfer, and waits until it is written.
async fn record_state(journal: &Journal, run: RunId, transfer: &Arc<Transfer>, state: TransferState, minute: i64) {
    let note = TransferNote { transfer: transfer.clone(), state, at: time_at(minute) };
    journal.record_transfers(run, vec![note]).await.unwrap().await.unwrap();
}

pub(super) fn arrival(name: &str, minute: i64) -> Arrival {
    let digest = Digest::of(name.as_bytes());
    Arrival {
        kind: crate::copy::event::ArrivalKind::Tag,
        listed: Vec::new(),
        source: "docker.io/library/python".into(),
        source_reference: tag(name).into(),
        source_digest: digest,
        target: "localhost:5000/cache/python".into(),
        tag: Some(tag(name)),
        digest,
        previous: None,
        media_type: MediaType::new(MediaType::OCI_INDEX),
        manifests: 3,
        blobs: BlobCounts { copied: 4, mounted: 2, found: 1 },
        bytes: 1234,
        source_identity: "mirror-bot".into(),
        target_identity: "anonymous".into(),
        left_behind: Vec::new(),
        started: time_at(minute - 1),
        ended: time_at(minute),
    }
}

#[tokio::test]
async fn run_is_returned_as_it_was_recorded() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let trigger = Trigger::Schedule { scheduled_at: time_at(0) };
    let Begun::Started(run) = journal.begin_run("a", trigger, time_at(1)).await.unwrap() else { panic!() };
    let running = &journal.history(&HistoryFilter::default()).await.unwrap()[0];
    assert_eq!((running.ended, running.outcome), (None, None));
    let end = RunEnd { error: Some("target: 500".into()), ..ended(Outcome::Failed) };
    journal.end_run(run, end, time_at(2)).await.unwrap();
    let expected = RunRecord {
        id: run,
        entry: "a".into(),
        trigger,
        pid: std::process::id(),
        started: time_at(1),
        ended: Some(time_at(2)),
        outcome: Some(Outcome::Failed),
        tags: TagCounts { copied: 2, unchanged: 3, blocked: 1, deferred: 4, ..TagCounts::default() },
        bytes: 77,
        error: Some("target: 500".into()),
        deferred_until: Some(time_at(30)),
    };
    assert_eq!(journal.history(&HistoryFilter::default()).await.unwrap(), std::slice::from_ref(&expected));
    assert_eq!(journal.last_scheduled("a", time_at(30)).await.unwrap(), Some(time_at(0)));
    assert_eq!(journal.last_scheduled("b", time_at(30)).await.unwrap(), None);
    let json = serde_json::to_value(&expected).unwrap();
    assert_eq!((&json["trigger"], &json["scheduled_at"]), (&"schedule".into(), &"2026-05-10T00:00:00.000Z".into()));
}

#[tokio::test]
async fn last_firing_is_by_the_new_time_after_a_clock_was_set_back() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let fire = async |minute: i64| {
        let trigger = Trigger::Schedule { scheduled_at: time_at(minute) };
        let Begun::Started(run) = journal.begin_run("a", trigger, time_at(minute)).await.unwrap() else { panic!() };
        journal.end_run(run, ended(Outcome::Succeeded), time_at(minute)).await.unwrap();
    };
    fire(900).await;
    assert_eq!(journal.last_scheduled("a", time_at(100)).await.unwrap(), Some(time_at(900)), "no scheduled run since");
    fire(60).await;
    fire(120).await;
    assert_eq!(journal.last_scheduled("a", time_at(130)).await.unwrap(), Some(time_at(120)));
    assert_eq!(
        journal.last_scheduled("a", time_at(900)).await.unwrap(),
        Some(time_at(900)),
        "the clock has reached the old time again"
    );
}

#[tokio::test]
async fn running_entry_is_refused_with_its_process() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = start_run(&journal, "a", 0).await;
    let other = Journal::open(&temp.path).unwrap();
    let already = Begun::AlreadyRunning { pid: std::process::id(), since: time_at(0) };
    assert_eq!(other.begin_run("a", Trigger::Start, time_at(1)).await.unwrap(), already);
    start_run(&other, "b", 1).await;
    journal.end_run(run, ended(Outcome::Succeeded), time_at(2)).await.unwrap();
    start_run(&other, "a", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_begins_of_one_entry_have_one_winner() {
    let temp = temp_journal();
    let openers: Vec<_> = (0..6)
        .map(|_| {
            let path = temp.path.clone();
            tokio::task::spawn_blocking(move || Journal::open(&path).unwrap())
        })
        .collect();
    let mut journals = Vec::new();
    for opener in openers {
        journals.push(opener.await.unwrap());
    }
    for round in 0..10 {
        let racers = journals.iter().cloned().map(|journal| {
            tokio::spawn(
                async move { (journal.begin_run("a", Trigger::Manual, time_at(round)).await.unwrap(), journal) },
            )
        });
        let mut winners = Vec::new();
        for racer in racers.collect::<Vec<_>>() {
            if let (Begun::Started(run), journal) = racer.await.unwrap() {
                winners.push((run, journal));
            }
        }
        let [(run, journal)] = &winners[..] else { panic!("{} winners", winners.len()) };
        journal.end_run(*run, ended(Outcome::Succeeded), time_at(round)).await.unwrap();
    }
}

#[tokio::test]
async fn run_of_closed_journal_is_interrupted_at_next_begin() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let closed = Journal::open(&temp.path).unwrap();
    start_run(&closed, "a", 0).await;
    drop(closed);
    let seen = &journal.history(&HistoryFilter::default()).await.unwrap()[0];
    assert_eq!(
        (seen.outcome, seen.ended),
        (Some(Outcome::Interrupted), None),
        "the interruption is shown before it is recorded"
    );
    start_run(&journal, "a", 5).await;
    let runs = journal.history(&HistoryFilter::default()).await.unwrap();
    assert_eq!((runs[1].outcome, runs[1].ended), (Some(Outcome::Interrupted), Some(time_at(5))));
    assert_eq!(runs[1].error.as_deref(), Some("the process of this run ended without recording the end of the run"));
}

/// Environment variable with the path of the journal, for the process that the test below kills.
const VICTIM: &str = "TRANSSHIP_TEST_VICTIM";

#[tokio::test]
async fn process_that_waits_to_be_killed() {
    let Some(path) = std::env::var_os(VICTIM) else { return };
    let journal = Journal::open(path.as_ref()).unwrap();
    let run = start_run(&journal, "a", 0).await;
    let transfer = Transfer::new("source", "target", Digest::of(b"layer"), 5);
    record_state(&journal, run, &transfer, TransferState::Started, 0).await;
    std::io::stderr().write_all(b"ready\n").unwrap();
    // If the parent ends without killing this process, standard input closes and this process ends.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[tokio::test]
async fn run_and_transfers_of_killed_process_are_interrupted() {
    let temp = temp_journal();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "journal::tests::process_that_waits_to_be_killed", "--nocapture"])
        .env(VICTIM, &temp.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(victim.stderr.take().unwrap());
    assert!(stderr.lines().any(|line| line.unwrap() == "ready"), "the process never started its run");

    let journal = Journal::open_at(&temp.path, time_at(1)).unwrap();
    let already = Begun::AlreadyRunning { pid: victim.id(), since: time_at(0) };
    assert_eq!(journal.begin_run("a", Trigger::Manual, time_at(1)).await.unwrap(), already);
    victim.kill().unwrap();
    victim.wait().unwrap();

    let next = Journal::open_at(&temp.path, time_at(2)).unwrap();
    let run = &next.history(&HistoryFilter::default()).await.unwrap()[0];
    assert_eq!((run.pid, run.outcome, run.ended), (victim.id(), Some(Outcome::Interrupted), Some(time_at(2))));
    assert_eq!(unfinished_transfers(&temp), 0);
    start_run(&next, "a", 3).await;
    let locks = || {
        let names = temp.path.parent().unwrap().read_dir().unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".lock")).count()
    };
    assert_eq!(locks(), 2, "the lock file of the ended process is removed");
    drop((journal, next));
    assert_eq!(locks(), 0);
}

fn unfinished_transfers(temp: &TestJournal) -> i64 {
    let db = Connection::open(&temp.path).unwrap();
    db.query_row("SELECT count(*) FROM transfers WHERE ended IS NULL", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn transfer_is_open_until_it_or_its_run_ends() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = start_run(&journal, "a", 0).await;
    let transfers: Vec<_> = ["x", "y", "z"].map(|n| Transfer::new("s", "t", Digest::of(n.as_bytes()), 1)).into();
    for transfer in &transfers {
        record_state(&journal, run, transfer, TransferState::Started, 0).await;
    }
    assert_eq!(unfinished_transfers(&temp), 3);
    record_state(&journal, run, &transfers[0], TransferState::Finished, 1).await;
    record_state(&journal, run, &transfers[1], TransferState::Failed("target: 500".into()), 1).await;
    assert_eq!(unfinished_transfers(&temp), 1);
    journal.end_run(run, ended(Outcome::Failed), time_at(2)).await.unwrap();
    let db = Connection::open(&temp.path).unwrap();
    let mut statement = db.prepare("SELECT outcome FROM transfers ORDER BY id").unwrap();
    let outcomes: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(outcomes, ["finished", "failed", "interrupted"]);
}

#[tokio::test]
async fn last_selection_is_what_last_run_saw() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
    let seen = |name: &str, source_digest, target_digest| Observation { tag: tag(name), source_digest, target_digest };
    let first = vec![seen("v1", old, None), seen("v2", old, None), seen("v3", old, Some(old))];
    journal.observe_tags("a", "s", "t", first, time_at(0)).await.unwrap();
    let second = vec![seen("v1", old, Some(old)), seen("v2", new, Some(old))];
    journal.observe_tags("a", "s", "t", second, time_at(10)).await.unwrap();
    journal.observe_tags("b", "s", "t", vec![seen("v9", old, None)], time_at(20)).await.unwrap();
    let record = |name: &str, source_digest, first_seen| TagRecord {
        source: "s".into(),
        target: "t".into(),
        tag: tag(name),
        source_digest,
        target_digest: Some(old),
        first_seen,
        last_seen: time_at(10),
    };
    assert_eq!(
        journal.last_selection("a").await.unwrap(),
        [record("v1", old, time_at(0)), record("v2", new, time_at(10))]
    );
    assert_eq!(journal.last_selection("none").await.unwrap(), []);
}

#[tokio::test]
async fn last_selection_is_the_newest_run_after_the_clock_was_set_back() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
    let seen = |name: &str, source_digest| Observation { tag: tag(name), source_digest, target_digest: None };
    let first = vec![seen("gone", old), seen("moved", old), seen("same", old)];
    journal.observe_tags("a", "s", "t", first, time_at(5000)).await.unwrap();
    journal.observe_tags("a", "s", "other", vec![seen("same", old)], time_at(5000)).await.unwrap();
    // A run with two batches, at the new time.
    journal.observe_tags("a", "s", "t", vec![seen("moved", new)], time_at(10)).await.unwrap();
    journal.observe_tags("a", "s", "t", vec![seen("same", old)], time_at(10)).await.unwrap();
    let last = journal.last_selection("a").await.unwrap();
    let actual: Vec<_> =
        last.iter().map(|seen| (seen.target.as_str(), seen.tag.as_str(), seen.source_digest)).collect();
    assert_eq!(actual, [("other", "same", old), ("t", "moved", new), ("t", "same", old)]);
    assert_eq!((last[1].last_seen, last[2].last_seen), (time_at(10), time_at(10)));
    assert!(last.iter().all(|seen| seen.first_seen <= seen.last_seen), "{last:?}");
}

#[tokio::test]
async fn evidence_is_found_by_each_filter() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = start_run(&journal, "a", 0).await;
    journal.record_arrival(run, "a", &arrival("v1", 10)).await.unwrap();
    let derived = Arrival { digest: Digest::of(b"derived"), ..arrival("v2", 20) };
    journal.record_arrival(run, "a", &derived).await.unwrap();
    let pinned = Digest::of(b"pinned");
    let by_digest = Arrival {
        source_reference: pinned.into(),
        source_digest: pinned,
        digest: pinned,
        tag: None,
        ..arrival("p", 30)
    };
    journal.record_arrival(run, "b", &by_digest).await.unwrap();

    let all = journal.evidence(&EvidenceFilter::default()).await.unwrap();
    let arrivals: Vec<&Arrival> = all.iter().map(|record| &record.arrival).collect();
    assert_eq!(arrivals, [&by_digest, &derived, &arrival("v1", 10)], "the latest first, each as recorded");

    let count = async |filter: EvidenceFilter| journal.evidence(&filter).await.unwrap().len();
    let none = EvidenceFilter::default;
    assert_eq!(count(EvidenceFilter { entries: vec!["b".into()], ..none() }).await, 1);
    for (reference, found) in [
        ("docker.io/library/python", 3),
        ("localhost:5000/cache/python", 3),
        ("localhost:5000/cache/python:v1", 1),
        ("docker.io/library/python:v2", 1),
        ("localhost:5000/cache", 0),
        (&format!("localhost:5000/cache/python@{pinned}"), 1),
        ("%", 0),
    ] {
        assert_eq!(count(EvidenceFilter { reference: Some(reference.into()), ..none() }).await, found, "{reference}");
    }
    let source_of_derived = Digest::of(b"v2");
    for (digest, found) in [
        (pinned.to_string(), 1),
        (pinned.short(), 1),
        (format!("sha256:{}", Digest::of(b"derived").short()), 1),
        (source_of_derived.short(), 1),
        ("0".repeat(12), 0),
    ] {
        assert_eq!(count(EvidenceFilter { digest: Some(digest.parse().unwrap()), ..none() }).await, found, "{digest}");
    }
    assert_eq!(count(EvidenceFilter { since: Some(time_at(20)), ..none() }).await, 2);
    assert_eq!(count(EvidenceFilter { until: Some(time_at(20)), ..none() }).await, 1);
    assert_eq!(count(EvidenceFilter { limit: Some(2), ..none() }).await, 2);
}

#[test]
fn digest_prefix_has_at_least_twelve_digits() {
    let message = |text: &str| text.parse::<DigestPrefix>().unwrap_err().to_string();
    assert_eq!(
        message("abc"),
        "\"abc\" is not the beginning of a digest: \
         expected at least 12 lower-case hex digits, with or without sha256: before them"
    );
    for bad in ["", "%%%%%%%%%%%%", "md5:0123456789ab", "0123456789AB", "sha256:", "____________"] {
        assert!(bad.parse::<DigestPrefix>().is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn history_is_found_by_entry_and_time() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    for (entry, minute) in [("a", 0), ("b", 10), ("a", 20)] {
        let run = start_run(&journal, entry, minute).await;
        journal.end_run(run, ended(Outcome::Succeeded), time_at(minute + 1)).await.unwrap();
    }
    let starts = async |filter: HistoryFilter| {
        let runs = journal.history(&filter).await.unwrap();
        runs.into_iter().map(|run| (run.entry, run.started)).collect::<Vec<_>>()
    };
    let none = HistoryFilter::default;
    let (a0, b10, a20) = (("a".to_owned(), time_at(0)), ("b".to_owned(), time_at(10)), ("a".to_owned(), time_at(20)));
    assert_eq!(starts(none()).await, [a20.clone(), b10.clone(), a0.clone()]);
    assert_eq!(starts(HistoryFilter { entries: vec!["a".into()], ..none() }).await, [a20.clone(), a0.clone()]);
    assert_eq!(starts(HistoryFilter { since: Some(time_at(10)), ..none() }).await, [a20.clone(), b10.clone()]);
    assert_eq!(starts(HistoryFilter { until: Some(time_at(10)), ..none() }).await, [a0]);
    assert_eq!(starts(HistoryFilter { limit: Some(1), ..none() }).await, std::slice::from_ref(&a20));
    let last = journal.last_runs().await.unwrap();
    assert_eq!(last.into_iter().map(|run| (run.entry, run.started)).collect::<Vec<_>>(), [a20, b10]);
}

#[tokio::test]
async fn interruption_is_neither_last_success_nor_failure() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let outcomes = [Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed, Outcome::Interrupted, Outcome::Deferred];
    for (minute, outcome) in outcomes.into_iter().enumerate() {
        let run = start_run(&journal, "a", i64::try_from(minute).unwrap()).await;
        journal.end_run(run, ended(outcome), time_at(i64::try_from(minute).unwrap())).await.unwrap();
    }
    start_run(&journal, "b", 9).await;
    let expected = LastEnds { entry: "a".into(), success: Some(time_at(1)), failure: Some(time_at(2)) };
    assert_eq!(journal.last_ends().await.unwrap(), [expected], "b has not ended");
}

#[tokio::test]
async fn derived_index_is_found_by_source_and_platforms() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let (source, derived) = (Digest::of(b"index"), Digest::of(b"cut"));
    assert_eq!(journal.find_derived(source, "linux/amd64").await.unwrap(), None);
    for _ in 0..2 {
        journal.record_derived(source, "linux/amd64", derived).await.unwrap();
    }
    assert_eq!(journal.find_derived(source, "linux/amd64").await.unwrap(), Some(derived));
    assert_eq!(journal.find_derived(source, "linux/arm64").await.unwrap(), None);
}

#[tokio::test]
async fn requests_are_on_disk_when_last_handle_drops() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = start_run(&journal, "a", 0).await;
    // The future is polled once, so that the thread receives the request, and then dropped.
    let evidence = arrival("v1", 1);
    let asked = journal.record_arrival(run, "a", &evidence);
    tokio::select! { biased; _ = asked => {}, () = std::future::ready(()) => {} }
    drop(journal);
    let reader = Journal::open_existing(&temp.path).unwrap();
    assert_eq!(reader.evidence(&EvidenceFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn journal_files_are_readable_by_owner_only() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    start_run(&journal, "a", 0).await;
    let folder = temp.path.parent().unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder), 0o700);
    let files: Vec<PathBuf> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 4, "the journal, its log, the log's index and the lock: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn reader_creates_and_writes_nothing() {
    let temp = temp_journal();
    let error = Journal::open_existing(&temp.path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "there is no journal at {}: the first run creates it, at the path that `daemon.journal` of sync.yaml sets",
            temp.path.display()
        )
    );
    assert!(!temp.path.exists());
    let writer = Journal::open(&temp.path).unwrap();
    start_run(&writer, "a", 0).await;
    let reader = Journal::open_existing(&temp.path).unwrap();
    assert_eq!(reader.history(&HistoryFilter::default()).await.unwrap().len(), 1);
    let refused = reader.begin_run("b", Trigger::Manual, time_at(1)).await.unwrap_err();
    assert!(matches!(refused, JournalError::ReadOnly { .. }), "{refused}");
    assert!(reader.check_writable().await.is_err());
    writer.check_writable().await.unwrap();
}

#[tokio::test]
async fn unwritable_journal_reports_the_cause() {
    let temp = temp_journal();
    drop(Journal::open(&temp.path).unwrap());
    let path = &temp.path;
    let read_only = Connection::open(path).unwrap();
    read_only.pragma_update(None, "query_only", true).unwrap();
    let error = read_only.execute("DELETE FROM derived", []).unwrap_err();
    assert_eq!(
        JournalError::from_sqlite(path, error).to_string(),
        format!("the journal {} is read-only: its file and its folder must be writable", path.display())
    );
    let full = Connection::open(path).unwrap();
    let pages: i64 = full.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    full.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let insert = "INSERT INTO derived VALUES (hex(randomblob(100000)), '', '')";
    let error = full.execute(insert, []).unwrap_err();
    assert_eq!(
        JournalError::from_sqlite(path, error).to_string(),
        format!("the disk is full: the journal {} cannot be written", path.display())
    );
}

#[test]
fn newer_journal_and_foreign_file_are_refused() {
    let temp = temp_journal();
    drop(Journal::open(&temp.path).unwrap());
    let shown = temp.path.display();
    Connection::open(&temp.path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let known = migrations::MIGRATIONS.len();
    let expected = format!(
        "the journal {shown} has version 99, this program supports versions up to {known}: use a newer transship"
    );
    assert_eq!(Journal::open(&temp.path).unwrap_err().to_string(), expected);
    assert_eq!(Journal::open_existing(&temp.path).unwrap_err().to_string(), expected);

    let folder = temp.path.parent().unwrap();
    let text = folder.join("text");
    std::fs::write(&text, "not a database, but long enough to be read as one".repeat(30)).unwrap();
    let other = folder.join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    for path in [text, other] {
        let before = std::fs::read(&path).unwrap();
        let expected =
            format!("{} is not a journal of transship: choose another path for `daemon.journal`", path.display());
        assert_eq!(Journal::open(&path).unwrap_err().to_string(), expected);
        assert_eq!(std::fs::read(&path).unwrap(), before, "the file is unchanged");
    }
}

#[test]
fn older_journal_is_migrated_step_by_step_with_rows() {
    let temp = temp_journal();
    drop(Journal::open(&temp.path).unwrap());
    let mut db = Connection::open(&temp.path).unwrap();
    db.execute("INSERT INTO derived VALUES ('s', 'p', 'd')", []).unwrap();
    let more = [
        "ALTER TABLE derived ADD COLUMN seen TEXT NOT NULL DEFAULT 'then'",
        "UPDATE derived SET seen = seen || ' and now'",
    ];
    let extended = [migrations::MIGRATIONS, &more].concat();
    for _ in 0..2 {
        migrations::migrate(&mut db, &temp.path, &extended).unwrap();
        let row: String = db.query_row("SELECT source_digest || seen FROM derived", [], |row| row.get(0)).unwrap();
        assert_eq!(row, "sthen and now", "each migration is applied once");
    }
    let broken = [&extended[..], &["CREATE TABLE half (x); CREATE TABLE half (x)"]].concat();
    assert!(migrations::migrate(&mut db, &temp.path, &broken).is_err());
    migrations::migrate(&mut db, &temp.path, &extended).unwrap();
    let half: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'half'", [], |row| row.get(0)).unwrap();
    assert_eq!(half, 0, "a failed migration changes nothing");
}

#[test]
fn no_column_can_hold_a_secret() {
    let temp = temp_journal();
    drop(Journal::open(&temp.path).unwrap());
    let db = Connection::open(&temp.path).unwrap();
    let mut statement = db
        .prepare(
            "SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'",
        )
        .unwrap();
    let columns: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(columns.len() > 50, "{columns:?}");
    for word in ["password", "secret", "token", "credential", "auth", "header", "key"] {
        assert!(columns.iter().all(|column| !column.contains(word)), "{word}: {columns:?}");
    }
}

#[test]
fn irregular_journal_file_is_refused_without_waiting() {
    for (name, shown) in [("journal.db", "journal.db"), ("journal.db-wal", "journal.db-wal")] {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let path = folder.path().join("journal.db");
        let refused = Journal::open(&path).map(drop).unwrap_err();
        let message =
            format!("{refused}: {}", std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default());
        assert!(message.contains(shown) && message.contains("a pipe, not a regular file"), "{message}");
        if name == "journal.db" {
            assert!(Journal::open_existing(&path).is_err());
        }
    }
}
