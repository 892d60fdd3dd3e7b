//! Tests of group writes: jobs that wait at the same time are written in one transaction.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as gate;
use std::task::Poll;

use rusqlite::{Connection, OpenFlags};

use super::file::connect;
use super::group::{self, Durability, Job, MAX_DELAY};
use super::process_lock::ProcessLock;
use super::tests::{TestJournal, arrival, start_run, temp_journal, time_at};
use super::*;
use crate::copy::event::Transfer;
use crate::oci::Digest;

/// Journal that counts its commits, and whose commits fail if `refuses` is set.
struct Watched {
    journal: Journal,
    temp: TestJournal,
    commits: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
}

impl Watched {
    fn open() -> Self {
        let temp = temp_journal();
        drop(Journal::open(&temp.path).unwrap());
        let path = temp.path.canonicalize().unwrap();
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let owner = ProcessLock::beside(&path).unwrap();
        let process = queries::register_process(&connection, std::process::id(), owner.name()).unwrap();
        let (commits, refuses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, refused) = (commits.clone(), refuses.clone());
        let hook = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            refused.load(Ordering::SeqCst)
        };
        connection.commit_hook(Some(hook)).unwrap();
        let journal = Journal::start(&path.clone(), path, connection, Some((process, owner))).unwrap();
        Self { journal, temp, commits, refuses }
    }

    /// Polls all `requests` while another job occupies the thread: all requests wait at the same time. Returns the
    /// results.
    async fn at_once<F: Future>(&self, requests: Vec<F>) -> Vec<F::Output> {
        let (started, starting) = gate::channel::<()>();
        let (open, closed) = gate::channel::<()>();
        let mut busy = pin!(self.journal.read(move |_| {
            drop(started);
            Ok(closed.recv().is_err())
        }));
        assert!(poll_once(busy.as_mut()).await.is_none());
        starting.recv().unwrap_err();
        let mut requests = pin!(futures_util::future::join_all(requests));
        assert!(poll_once(requests.as_mut()).await.is_none());
        drop(open);
        assert!(busy.await.unwrap());
        requests.await
    }

    fn commits(&self) -> usize {
        self.commits.swap(0, Ordering::SeqCst)
    }

    fn count(&self, table: &str) -> i64 {
        let db = Connection::open(&self.temp.path).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

/// Polls a future once.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut future).poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn notes(names: &[&str]) -> Vec<TransferUpdate> {
    let note = |name: &&str, state| TransferUpdate {
        transfer: Transfer::new("s", "t", Digest::of(name.as_bytes()), 1),
        state,
        at: time_at(1),
    };
    names.iter().flat_map(|name| [note(name, TransferState::Started), note(name, TransferState::Finished)]).collect()
}

#[tokio::test]
async fn waiting_writes_share_one_commit() {
    let watched = Watched::open();
    let journal = &watched.journal;
    let entries: Vec<String> = (0..25).map(|number| format!("entry-{number}")).collect();
    let starts = entries.iter().map(|entry| journal.begin_run(entry, Trigger::Manual, time_at(0))).collect();
    let runs: Vec<RunId> = watched
        .at_once(starts)
        .await
        .into_iter()
        .map(|start| match start.unwrap() {
            RunStart::Started(run) => run,
            already @ RunStart::AlreadyRunning { .. } => panic!("{already:?}"),
        })
        .collect();
    assert_eq!(watched.commits(), 1);

    let arrivals: Vec<_> = (0..100).map(|number| arrival(&format!("v{number}"), 1)).collect();
    let records = arrivals.iter().map(|arrival| journal.record_arrival(runs[0], "entry-0", arrival)).collect();
    watched.at_once(records).await.into_iter().for_each(Result::unwrap);
    assert_eq!((watched.commits(), watched.count("evidence")), (1, 100));

    let end = || RunEnd {
        outcome: Outcome::Succeeded,
        tags: TagCounts::default(),
        bytes: 0,
        error: None,
        deferred_until: None,
    };
    let ends = runs.iter().map(|run| journal.end_run(*run, end(), time_at(2))).collect();
    watched.at_once(ends).await.into_iter().for_each(Result::unwrap);
    assert_eq!(watched.commits(), 1);
}

#[tokio::test]
async fn transfer_notes_are_written_with_next_write() {
    let watched = Watched::open();
    let run = start_run(&watched.journal, "a", 0).await;
    watched.commits();
    let mut answers = Vec::new();
    let writes = watched.at_once(vec![async {
        for names in [["a", "b"], ["c", "d"], ["e", "f"]] {
            answers.push(watched.journal.record_transfers(run, notes(&names)).await.unwrap());
        }
        watched.journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
    }]);
    writes.await;
    assert_eq!((watched.commits(), watched.count("transfers WHERE outcome = 'finished'")), (1, 6));
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(watched.commits(), 0);
}

#[tokio::test]
async fn transfer_notes_are_written_without_another_write() {
    let watched = Watched::open();
    let run = start_run(&watched.journal, "a", 0).await;
    watched.journal.record_transfers(run, notes(&["a"])).await.unwrap().await.unwrap();
    assert_eq!(watched.count("transfers"), 1);
    // `write_notes` waits for the delayed writes, even if the caller has dropped the future of the answer.
    let _unawaited = watched.journal.record_transfers(run, notes(&["b"])).await.unwrap();
    watched.journal.write_notes().await.unwrap();
    assert_eq!(watched.count("transfers"), 2);
    drop(watched.journal.record_transfers(run, notes(&["c"])).await.unwrap());
    let Watched { journal, temp, .. } = watched;
    drop(journal);
    let db = Connection::open(&temp.path).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM transfers", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
}

#[tokio::test]
async fn read_sees_notes_taken_before_it() {
    let watched = Watched::open();
    let run = start_run(&watched.journal, "a", 0).await;
    let answer = watched.journal.record_transfers(run, notes(&["a"])).await.unwrap();
    assert_eq!(watched.journal.find_earlier_work("a", "s", "t").await.unwrap(), (false, true));
    answer.await.unwrap();
}

#[tokio::test]
async fn failing_write_undoes_only_its_own_rows() {
    let watched = Watched::open();
    let journal = &watched.journal;
    let run = start_run(journal, "a", 0).await;
    watched.commits();
    let insert = |name: &'static str, fails: bool| {
        journal.write(Durability::Unsynced, move |db| {
            db.execute("INSERT INTO derived VALUES (?1, 'p', 'd')", [name])?;
            if fails { db.execute("INSERT INTO derived VALUES (?1, 'p', 'd')", [name]) } else { Ok(1) }
        })
    };
    let answers = watched.at_once(vec![insert("x", false), insert("y", true), insert("z", false)]).await;
    let failed: Vec<bool> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false]);
    let error = answers[1].as_ref().unwrap_err().to_string();
    assert!(error.contains("UNIQUE constraint failed: derived.source_digest"), "{error}");
    assert_eq!((watched.count("derived"), watched.count("derived WHERE source_digest = 'y'")), (2, 0));
    assert_eq!(watched.commits(), 1);
    // Evidence of a run that does not exist is refused, and the other write of the group succeeds.
    let (lost, kept) = (arrival("lost", 1), arrival("kept", 1));
    let records = vec![journal.record_arrival(RunId(99), "a", &lost), journal.record_arrival(run, "a", &kept)];
    let answers = watched.at_once(records).await;
    assert!(answers[0].is_err() && answers[1].is_ok(), "{answers:?}");
    let evidence = journal.evidence(&EvidenceFilter::default()).await.unwrap();
    assert_eq!(evidence.into_iter().map(|record| record.arrival).collect::<Vec<_>>(), [kept]);
}

#[tokio::test]
async fn failing_commit_fails_only_its_own_writes() {
    let watched = Watched::open();
    let run = start_run(&watched.journal, "a", 0).await;
    watched.refuses.store(true, Ordering::SeqCst);
    let (first, second) = (arrival("v1", 1), arrival("v2", 1));
    let records = [&first, &second].map(|arrival| watched.journal.record_arrival(run, "a", arrival));
    for answer in watched.at_once(records.into()).await {
        let error = answer.unwrap_err();
        let path = watched.journal.path().display();
        assert_eq!(error.to_string(), format!("the journal {path}: constraint failed"));
    }
    assert_eq!(watched.journal.evidence(&EvidenceFilter::default()).await.unwrap(), []);
    watched.refuses.store(false, Ordering::SeqCst);
    watched.journal.record_arrival(run, "a", &first).await.unwrap();
    assert_eq!(watched.count("evidence"), 1);
}

#[tokio::test]
async fn error_undoing_transaction_fails_all_its_writes() {
    let watched = Watched::open();
    let journal = &watched.journal;
    let full = |size: &'static str| {
        journal.write(Durability::Synced, move |db| {
            let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            db.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(()))?;
            db.execute("INSERT INTO derived VALUES (hex(randomblob(?1)), '', '')", [size])
        })
    };
    for answer in watched.at_once(vec![full("10"), full("100000"), full("11")]).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, JournalError::Full { .. }), "{error}");
    }
    assert_eq!(watched.count("derived"), 0);
    full("12").await.unwrap();
    assert_eq!(watched.count("derived"), 1);
}

#[tokio::test]
async fn group_is_as_durable_as_most_demanding_write() {
    let watched = Watched::open();
    let level = |durability| {
        watched.journal.write(durability, |db| db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)))
    };
    const NORMAL: i64 = 1;
    const FULL: i64 = 2;
    for (durabilities, expected) in [
        (vec![Durability::Unsynced, Durability::Synced, Durability::Delayed], FULL),
        (vec![Durability::Delayed, Durability::Unsynced], NORMAL),
        (vec![Durability::Synced], FULL),
    ] {
        for answer in watched.at_once(durabilities.iter().copied().map(level).collect()).await {
            assert_eq!(answer.unwrap(), expected, "{durabilities:?}");
        }
    }
}

#[tokio::test]
async fn write_with_dropped_caller_is_written_with_group() {
    let watched = Watched::open();
    let run = start_run(&watched.journal, "a", 0).await;
    let (dropped, awaited) = (arrival("dropped", 1), arrival("awaited", 1));
    let dropping = async {
        let requests = Box::pin(watched.journal.record_arrival(run, "a", &dropped));
        assert!(poll_once(requests).await.is_none());
    };
    let waiting = watched.journal.record_arrival(run, "a", &awaited);
    watched.commits();
    watched.at_once(vec![futures_util::future::join(dropping, waiting)]).await.remove(0).1.unwrap();
    assert_eq!((watched.commits(), watched.count("evidence")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn unawaited_write_lingers_until_an_awaited_one() {
    let (sender, mut receiver) = group::queues();
    let job = |durability| Job::write(durability, |_| Ok(())).0;
    let started = tokio::time::Instant::now();
    let send = async {
        for durability in [Durability::Delayed, Durability::Delayed, Durability::Synced] {
            assert!(sender.put(job(durability)).await);
            tokio::time::sleep(MAX_DELAY / 4).await;
        }
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let gathered = async {
        assert!(receiver.gather(&mut first).await);
        started.elapsed()
    };
    assert_eq!(futures_util::join!(send, gathered).1, MAX_DELAY / 4 * 2);
    assert_eq!(first.len(), 3);

    let started = tokio::time::Instant::now();
    assert!(sender.put(job(Durability::Delayed)).await);
    assert!(sender.put(job(Durability::Delayed)).await);
    assert!(receiver.gather(&mut second).await);
    assert_eq!(second.len(), 2);
    let waited = started.elapsed();
    assert!(waited >= MAX_DELAY && waited < MAX_DELAY * 2, "{waited:?}");

    let mut last = Vec::new();
    assert!(sender.put(job(Durability::Delayed)).await);
    drop(sender);
    let started = tokio::time::Instant::now();
    assert!(receiver.gather(&mut last).await);
    assert_eq!((last.len(), started.elapsed().as_nanos()), (1, 0), "the last handle is dropped");
    assert!(!receiver.gather(&mut Vec::new()).await);
}
