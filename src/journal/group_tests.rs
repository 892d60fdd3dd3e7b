//! Tests of writes that wait together for the journal's thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as gate;
use std::task::Poll;

use rusqlite::{Connection, OpenFlags};

use super::file::connect;
use super::group::{self, Durability, Job, LINGER};
use super::owner::Owner;
use super::tests::{TestJournal, arrival, begun, place, time_at};
use super::*;
use crate::copy::event::Transfer;
use crate::oci::Digest;

/// Journal that counts its commits, and refuses them on request.
struct Watched {
    journal: Journal,
    place: TestJournal,
    commits: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
}

impl Watched {
    fn open() -> Self {
        let place = place();
        drop(Journal::open(&place.path).unwrap());
        let path = place.path.canonicalize().unwrap();
        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let owner = Owner::beside(&path).unwrap();
        let process = queries::register_process(&connection, std::process::id(), owner.name()).unwrap();
        let (commits, refuses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, refused) = (commits.clone(), refuses.clone());
        let hook = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            refused.load(Ordering::SeqCst)
        };
        connection.commit_hook(Some(hook)).unwrap();
        let journal = Journal::start(&path.clone(), path, connection, Some((process, owner))).unwrap();
        Self { journal, place, commits, refuses }
    }

    /// Requests all of `asked` while the thread is busy with something else, and returns the answers.
    async fn at_once<F: Future>(&self, asked: Vec<F>) -> Vec<F::Output> {
        let (begun, begins) = gate::channel::<()>();
        let (open, closed) = gate::channel::<()>();
        let mut busy = pin!(self.journal.read(move |_| {
            drop(begun);
            Ok(closed.recv().is_err())
        }));
        assert!(once(busy.as_mut()).await.is_none());
        begins.recv().unwrap_err();
        let mut asked = pin!(futures_util::future::join_all(asked));
        assert!(once(asked.as_mut()).await.is_none());
        drop(open);
        assert!(busy.await.unwrap());
        asked.await
    }

    fn commits(&self) -> usize {
        self.commits.swap(0, Ordering::SeqCst)
    }

    fn count(&self, table: &str) -> i64 {
        let db = Connection::open(&self.place.path).unwrap();
        db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

/// Polls a future once.
async fn once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut future).poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn notes(of: &[&str]) -> Vec<TransferNote> {
    let note = |name: &&str, state| TransferNote {
        transfer: Transfer::new("s", "t", Digest::of(name.as_bytes()), 1),
        state,
        at: time_at(1),
    };
    of.iter().flat_map(|name| [note(name, TransferState::Started), note(name, TransferState::Finished)]).collect()
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
        .map(|begun| match begun.unwrap() {
            Begun::Started(run) => run,
            already @ Begun::AlreadyRunning { .. } => panic!("{already:?}"),
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
    let run = begun(&watched.journal, "a", 0).await;
    watched.commits();
    let mut answers = Vec::new();
    let passing = watched.at_once(vec![async {
        for names in [["a", "b"], ["c", "d"], ["e", "f"]] {
            answers.push(watched.journal.record_transfers(run, notes(&names)).await.unwrap());
        }
        watched.journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
    }]);
    passing.await;
    assert_eq!((watched.commits(), watched.count("transfers WHERE outcome = 'finished'")), (1, 6));
    for answer in answers {
        answer.await.unwrap();
    }
    assert_eq!(watched.commits(), 0);
}

#[tokio::test]
async fn transfer_notes_are_written_without_another_write() {
    let watched = Watched::open();
    let run = begun(&watched.journal, "a", 0).await;
    watched.journal.record_transfers(run, notes(&["a"])).await.unwrap().await.unwrap();
    assert_eq!(watched.count("transfers"), 1);
    // At once when it is requested, and when the last handle is dropped, with and without a caller that waits for the
    // answer.
    let _unheard = watched.journal.record_transfers(run, notes(&["b"])).await.unwrap();
    watched.journal.write_notes().await.unwrap();
    assert_eq!(watched.count("transfers"), 2);
    drop(watched.journal.record_transfers(run, notes(&["c"])).await.unwrap());
    let Watched { journal, place, .. } = watched;
    drop(journal);
    let db = Connection::open(&place.path).unwrap();
    let count: i64 = db.query_row("SELECT count(*) FROM transfers", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 3);
}

#[tokio::test]
async fn read_sees_notes_taken_before_it() {
    let watched = Watched::open();
    let run = begun(&watched.journal, "a", 0).await;
    let answer = watched.journal.record_transfers(run, notes(&["a"])).await.unwrap();
    assert_eq!(watched.journal.has_been_at("a", "s", "t").await.unwrap(), (false, true));
    answer.await.unwrap();
}

#[tokio::test]
async fn failing_write_undoes_only_its_own_rows() {
    let watched = Watched::open();
    let journal = &watched.journal;
    let run = begun(journal, "a", 0).await;
    watched.commits();
    let insert = |name: &'static str, fails: bool| {
        journal.write(Durability::Hint, move |db| {
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
    // A missing run refuses its evidence, and the other write of the group is kept.
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
    let run = begun(&watched.journal, "a", 0).await;
    watched.refuses.store(true, Ordering::SeqCst);
    let (one, two) = (arrival("v1", 1), arrival("v2", 1));
    let records = [&one, &two].map(|arrival| watched.journal.record_arrival(run, "a", arrival));
    for answer in watched.at_once(records.into()).await {
        let error = answer.unwrap_err();
        let path = watched.journal.path().display();
        assert_eq!(error.to_string(), format!("the journal {path}: constraint failed"));
    }
    assert_eq!(watched.journal.evidence(&EvidenceFilter::default()).await.unwrap(), []);
    watched.refuses.store(false, Ordering::SeqCst);
    watched.journal.record_arrival(run, "a", &one).await.unwrap();
    assert_eq!(watched.count("evidence"), 1);
}

#[tokio::test]
async fn error_undoing_transaction_fails_all_its_writes() {
    let watched = Watched::open();
    let journal = &watched.journal;
    let full = |size: &'static str| {
        journal.write(Durability::Kept, move |db| {
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
    let level = |promise| {
        watched.journal.write(promise, |db| db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)))
    };
    const NORMAL: i64 = 1;
    const FULL: i64 = 2;
    for (promises, expected) in [
        (vec![Durability::Hint, Durability::Kept, Durability::InPassing], FULL),
        (vec![Durability::InPassing, Durability::Hint], NORMAL),
        (vec![Durability::Kept], FULL),
    ] {
        for answer in watched.at_once(promises.iter().copied().map(level).collect()).await {
            assert_eq!(answer.unwrap(), expected, "{promises:?}");
        }
    }
}

#[tokio::test]
async fn write_with_dropped_caller_is_written_with_group() {
    let watched = Watched::open();
    let run = begun(&watched.journal, "a", 0).await;
    let (gone, heard) = (arrival("gone", 1), arrival("heard", 1));
    let leaver = async {
        let asked = Box::pin(watched.journal.record_arrival(run, "a", &gone));
        assert!(once(asked).await.is_none());
    };
    let stayer = watched.journal.record_arrival(run, "a", &heard);
    watched.commits();
    watched.at_once(vec![futures_util::future::join(leaver, stayer)]).await.remove(0).1.unwrap();
    assert_eq!((watched.commits(), watched.count("evidence")), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn unawaited_write_lingers_until_an_awaited_one() {
    let (asking, mut asked) = group::queues();
    let job = |promise| Job::write(promise, |_| Ok(())).0;
    let started = tokio::time::Instant::now();
    let ask = async {
        for promise in [Durability::InPassing, Durability::InPassing, Durability::Kept] {
            assert!(asking.put(job(promise)).await);
            tokio::time::sleep(LINGER / 4).await;
        }
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let gathered = async {
        assert!(asked.gather(&mut first).await);
        started.elapsed()
    };
    assert_eq!(futures_util::join!(ask, gathered).1, LINGER / 4 * 2);
    assert_eq!(first.len(), 3);

    let started = tokio::time::Instant::now();
    assert!(asking.put(job(Durability::InPassing)).await);
    assert!(asking.put(job(Durability::InPassing)).await);
    assert!(asked.gather(&mut second).await);
    assert_eq!(second.len(), 2);
    let waited = started.elapsed();
    assert!(waited >= LINGER && waited < LINGER * 2, "{waited:?}");

    let mut last = Vec::new();
    assert!(asking.put(job(Durability::InPassing)).await);
    drop(asking);
    let started = tokio::time::Instant::now();
    assert!(asked.gather(&mut last).await);
    assert_eq!((last.len(), started.elapsed().as_nanos()), (1, 0), "no handle is left");
    assert!(!asked.gather(&mut Vec::new()).await);
}
