//! Tests of migrations: this program opens journals that earlier versions wrote.

use std::path::Path;

use rusqlite::Connection;

use super::tests::{arrival, start_run, temp_journal, time_at};
use super::*;
use crate::copy::event::{Arrival, ArrivalKind, LeftBehind};
use crate::oci::Digest;

/// Creates a journal of version `version` with a run, evidence of the run and an observation of a tag. From version 5
/// on, the journal also contains a waiting notice and a recorded fact. From version 7 on, the journal also contains an
/// intent.
fn old_journal(path: &Path, version: usize) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut db = Connection::open(path).unwrap();
    migrations::migrate(&mut db, path, &migrations::MIGRATIONS[..version]).unwrap();
    let digest = Digest::of(b"old");
    db.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         INSERT INTO processes (pid, lock, gone) VALUES (1, 'journal.db.1-0.lock', 1);
         INSERT INTO runs (process, entry, trigger, started, ended, outcome, copied)
             VALUES (1, 'a', 'hand', '2026-05-09T00:00:00.000000Z', '2026-05-09T00:01:00.000000Z', 'succeeded', 1);
         INSERT INTO evidence (run, entry, source, source_reference, source_digest, target, tag, digest,
         media_type, manifests,
             blobs_copied, blobs_mounted, blobs_found, bytes, source_identity, target_identity, started, ended)
             VALUES (1, 'a', 'h/a', 'v1', '{digest}', 't/a', 'v1', '{digest}', 'm', 1, 2, 3, 4, 5, 'x', 'y',
                     '2026-05-09T00:00:00.000000Z', '2026-05-09T00:00:30.000000Z');
         INSERT INTO tag_observations VALUES ('a', 'h/a', 't/a', 'v1', '{digest}', NULL,
             '2026-05-09T00:00:00.000000Z', '2026-05-09T00:00:00.000000Z');"
    ))
    .unwrap();
    if version >= 7 {
        db.execute_batch(&format!(
            "INSERT INTO intents (run, entry, source, source_reference, source_digest, target, tag, digest,
             media_type, manifests,
                 blobs_copied, blobs_mounted, blobs_found, bytes, source_identity, target_identity, started, ended)
                 VALUES (1, 'a', 'h/a', 'v0', '{digest}', 't/a', 'v0', '{digest}', 'm', 1, 2, 3, 4, 5, 'x', 'y',
                         '2026-05-09T00:00:00.000000Z', '2026-05-09T00:00:30.000000Z');"
        ))
        .unwrap();
    }
    if version >= 5 {
        db.execute_batch(
            "INSERT INTO notices (message, receiver, subject, event, body, made)
                 VALUES ('msg_1', 'r', 'a', 'failure', '{}', '2026-05-09T00:00:00.000000Z');
             INSERT INTO notices_told VALUES ('a', 'r', 'failure', '2026-05-09T00:00:00.000000Z');",
        )
        .unwrap();
    }
}

#[tokio::test]
async fn earlier_journal_versions_keep_rows_and_accept_new_ones() {
    let versions = 1..migrations::MIGRATIONS.len();
    assert!(versions.len() >= 9, "{versions:?}");
    for version in versions {
        let temp = temp_journal();
        old_journal(&temp.path, version);
        let older = Journal::open_existing(&temp.path).unwrap_err();
        assert!(matches!(older, JournalError::Older { .. }), "{version}: {older}");

        let journal = Journal::open(&temp.path).unwrap();
        let [old] = &journal.evidence(&EvidenceFilter::default()).await.unwrap()[..] else { panic!("{version}") };
        assert_eq!((old.arrival.previous, old.recovered, old.arrival.bytes), (None, None, 5), "{version}");
        assert_eq!(old.arrival.digest, Digest::of(b"old"));
        assert_eq!((old.arrival.kind, old.arrival.left_behind.len()), (ArrivalKind::Tag, 0), "{version}");
        let open = journal.open_intents().await.unwrap();
        assert_eq!(open.len(), usize::from(version >= 7), "{version}");
        for intent in open {
            assert_eq!((intent.arrival.kind, intent.arrival.listed.len()), (ArrivalKind::Tag, 0));
            assert!(journal.drop_intent(intent.id).await.unwrap());
        }
        let runs = journal.history(&HistoryFilter::default()).await.unwrap();
        assert_eq!((runs.len(), runs[0].tags.copied, runs[0].outcome), (1, 1, Some(Outcome::Succeeded)), "{version}");
        assert_eq!(journal.last_selection("a").await.unwrap().len(), 1, "{version}");
        if version >= 5 {
            assert_eq!(journal.facts_of("a").await.unwrap().len(), 1, "version {version}: the known fact is kept");
            let waits = journal.next_notification("r").await.unwrap().unwrap();
            journal.notification_delivered(waits.number).await.unwrap();
            assert_eq!(journal.facts_of("a").await.unwrap().len(), 1, "{version}");
        }
        for entry in ["a", COPY] {
            let run = start_run(&journal, entry, 1).await;
            let left_behind = vec![LeftBehind { what: "a signature".into(), reason: "denied".into() }];
            let moved = Arrival { previous: Some(Digest::of(b"old")), left_behind, ..arrival("v1", 2) };
            journal.record_intent(run, entry, &moved).await.unwrap();
            journal.record_arrival(run, entry, &moved).await.unwrap();
        }
        start_run(&journal, COPY, 3).await;
        let evidence = journal.evidence(&EvidenceFilter::default()).await.unwrap();
        let left_behind: Vec<usize> = evidence.iter().map(|record| record.arrival.left_behind.len()).collect();
        assert_eq!(left_behind, [1, 1, 0], "{version}");
        let other = journal.begin_run("a", Trigger::Manual, time_at(4)).await.unwrap();
        assert!(matches!(other, RunStart::AlreadyRunning { .. }), "{version}: {other:?}");
    }
}

/// SQL dump of a journal that a program of schema version 10 wrote.
const VERSION_10: &str = include_str!("fixtures/version-10.sql");

#[tokio::test]
async fn version_10_journal_gets_the_public_words() {
    let temp = temp_journal();
    std::fs::create_dir_all(temp.path.parent().unwrap()).unwrap();
    Connection::open(&temp.path).unwrap().execute_batch(VERSION_10).unwrap();

    let journal = Journal::open(&temp.path).unwrap();
    let runs = journal.history(&HistoryFilter::default()).await.unwrap();
    let words: Vec<(&str, Option<&str>, String)> =
        runs.iter().map(|run| (run.trigger.word(), run.outcome.map(Outcome::word), run.tags.to_string())).collect();
    let succeeded = Some("succeeded");
    assert_eq!(
        words,
        [
            ("push_event", Some("deferred"), "2 unchanged, 1 deferred".to_owned()),
            ("manual", succeeded, "2 blocked".into()),
            ("requested", succeeded, "2 copied".into()),
            ("manual", succeeded, "2 copied".into()),
            ("manual", succeeded, "2 copied".into()),
        ]
    );
    assert!(runs[0].deferred_until.is_some());
    assert_eq!(journal.evidence(&EvidenceFilter::default()).await.unwrap().len(), 6);
    assert_eq!(journal.quotas().await.unwrap()[0].remaining, 76);

    let waits = journal.next_notification("https://chat.example").await.unwrap().unwrap();
    assert_eq!(waits.notice.event, "withheld");
    journal.notification_delivered(waits.number).await.unwrap();
    for (entry, address) in [("app", "target:v1"), ("other", "target2:v2")] {
        let facts = journal.facts_of(entry).await.unwrap();
        assert!(facts[0].fact.starts_with(&format!("withheld oci-layout:/srv/{address}@sha256:")), "{facts:?}");
    }
}
