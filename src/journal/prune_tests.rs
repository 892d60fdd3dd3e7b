//! Tests of pruning, some with random journals: the records that pruning deletes, and the records that pruning keeps.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rusqlite::Connection;

use super::prune::{DELETE_OBSERVATIONS, DELETE_TRANSFERS, LIST_OLD_RUNS, LIST_PROCESSES, NEXT_PAIR};
use super::tests::{TestJournal, arrival, temp_journal, time_at};
use super::{
    EvidenceFilter, EvidenceRecord, FailureStreak, HistoryFilter, Journal, LastEnds, Observation, Outcome, Pruned,
    QuotaRecord, RunEnd, RunId, RunRecord, RunStart, TagCounts, TagRecord, TransferState, TransferUpdate, Trigger,
};
use crate::copy::event::Transfer;
use crate::oci::Digest;

const ENTRIES: [&str; 3] = ["a", "b", "c"];

const OUTCOMES: [Outcome; 5] =
    [Outcome::Succeeded, Outcome::Failed, Outcome::Deferred, Outcome::Interrupted, Outcome::TimedOut];

/// Random run, with the records to write for it.
#[derive(Debug, Clone)]
struct Past {
    entry: usize,
    trigger: u8,
    outcome: Outcome,
    /// Minutes since the previous run.
    after: i64,
    arrives: bool,
    transfers: u8,
    tags: u8,
}

fn past() -> impl Strategy<Value = Past> {
    let outcome = prop_oneof![2 => Just(Outcome::Failed), 3 => proptest::sample::select(&OUTCOMES[..])];
    (0..3_usize, 0..3_u8, outcome, 1..9_i64, proptest::bool::weighted(0.15), 0..3_u8, 0..4_u8).prop_map(
        |(entry, trigger, outcome, after, arrives, transfers, tags)| Past {
            entry,
            trigger,
            outcome,
            after,
            arrives,
            transfers,
            tags,
        },
    )
}

async fn begin(journal: &Journal, entry: &str, trigger: Trigger, minute: i64) -> RunId {
    match journal.begin_run(entry, trigger, time_at(minute)).await.unwrap() {
        RunStart::Started(run) => run,
        already @ RunStart::AlreadyRunning { .. } => panic!("{already:?}"),
    }
}

async fn end(journal: &Journal, run: RunId, outcome: Outcome, minute: i64) {
    let end = RunEnd { outcome, tags: TagCounts::default(), bytes: 0, error: None, deferred_until: None };
    journal.end_run(run, end, time_at(minute)).await.unwrap();
}

async fn send(journal: &Journal, run: RunId, target: &str, digest: &str, minute: i64) {
    let transfer = Transfer::new("s", target, Digest::of(digest.as_bytes()), 1);
    let states = [TransferState::Started, TransferState::Finished];
    let notes = states.map(|state| TransferUpdate { transfer: transfer.clone(), state, at: time_at(minute) });
    journal.record_transfers(run, notes.into()).await.unwrap().await.unwrap();
}

async fn see(journal: &Journal, entry: &str, tags: impl IntoIterator<Item = (&str, &str)>, minute: i64) {
    let seen = tags.into_iter().map(|(tag, content)| Observation {
        tag: tag.parse().unwrap(),
        source_digest: Digest::of(content.as_bytes()),
        target_digest: None,
    });
    journal.observe_tags(entry, "s", "t", seen.collect(), time_at(minute)).await.unwrap();
}

/// Records the runs, and returns the minute after the last run.
async fn record_runs(journal: &Journal, past: &[Past]) -> i64 {
    let mut minute = 0;
    for (number, one) in past.iter().enumerate() {
        minute += one.after;
        let entry = ENTRIES[one.entry];
        let trigger = match one.trigger {
            0 => Trigger::Schedule { scheduled_at: time_at(minute) },
            1 => Trigger::Start,
            _ => Trigger::PushEvent,
        };
        let run = begin(journal, entry, trigger, minute).await;
        for transfer in 0..one.transfers {
            send(journal, run, entry, &format!("{number}-{transfer}"), minute).await;
        }
        if one.arrives {
            let arrived =
                crate::copy::event::Arrival { target: entry.into(), ..arrival(&format!("n{number}"), minute) };
            journal.record_arrival(run, entry, &arrived).await.unwrap();
        }
        let names = ["v0", "v1", "v2", "v3"];
        let content = format!("{}", number % 5);
        see(journal, entry, names.iter().take(one.tags.into()).map(|name| (*name, &*content)), minute).await;
        minute += 1;
        end(journal, run, one.outcome, minute).await;
    }
    minute + 1
}

/// Results of all queries of the program, except history.
#[derive(Debug, PartialEq)]
struct Answers {
    last_runs: Vec<RunRecord>,
    last_ends: Vec<LastEnds>,
    streaks: Vec<FailureStreak>,
    scheduled: Vec<Option<DateTime<Utc>>>,
    selections: Vec<Vec<TagRecord>>,
    evidence: Vec<EvidenceRecord>,
    recent: Vec<RunRecord>,
}

async fn answers(journal: &Journal, since: DateTime<Utc>) -> Answers {
    let (mut scheduled, mut selections) = (Vec::new(), Vec::new());
    for entry in ENTRIES {
        scheduled.push(journal.last_scheduled(entry, DateTime::<Utc>::MAX_UTC).await.unwrap());
        selections.push(journal.last_selection(entry).await.unwrap());
    }
    let recent = HistoryFilter { since: Some(since), ..HistoryFilter::default() };
    Answers {
        last_runs: journal.last_runs().await.unwrap(),
        last_ends: journal.last_ends().await.unwrap(),
        streaks: journal.failure_streaks().await.unwrap(),
        scheduled,
        selections,
        evidence: journal.evidence(&EvidenceFilter::default()).await.unwrap(),
        recent: journal.history(&recent).await.unwrap(),
    }
}

async fn runs(journal: &Journal) -> Vec<RunRecord> {
    journal.history(&HistoryFilter::default()).await.unwrap()
}

/// Returns true if pruning keeps the run `history[index]` at any age. `history` is ordered latest first.
fn is_kept(history: &[RunRecord], evidence: &[EvidenceRecord], index: usize) -> bool {
    let run = &history[index];
    let mut later = history[..index].iter().filter(|later| later.entry == run.entry);
    let is_scheduled = |run: &RunRecord| matches!(run.trigger, Trigger::Schedule { .. });
    let is_pushed = |run: &RunRecord| run.trigger == Trigger::PushEvent;
    let is_like = |later: &RunRecord| later.outcome == run.outcome && is_pushed(later) == is_pushed(run);
    let is_last_of_outcome = !later.clone().any(is_like);
    let is_last_scheduled = is_scheduled(run) && !later.any(is_scheduled);
    is_last_of_outcome || is_last_scheduled || evidence.iter().any(|evidence| evidence.run == run.id)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn queries_return_same_results_after_pruning(
        past in proptest::collection::vec(past(), 1..40), share in 0..=100_i64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let temp = temp_journal();
            let journal = Journal::open(&temp.path).unwrap();
            let before = time_at(record_runs(&journal, &past).await * share / 100);
            let (was, whole) = (answers(&journal, before).await, runs(&journal).await);
            let pruned = journal.prune(before).await.unwrap();
            assert_eq!(answers(&journal, before).await, was);
            let expected: Vec<&RunRecord> = whole.iter().enumerate()
                .filter(|(index, run)| run.started >= before || is_kept(&whole, &was.evidence, *index))
                .map(|(_, run)| run)
                .collect();
            let remaining = runs(&journal).await;
            assert_eq!(remaining.iter().collect::<Vec<_>>(), expected);
            assert_eq!(pruned.runs, whole.len() - remaining.len());
            assert_eq!(journal.prune(before).await.unwrap(), Pruned::default(), "the first call deleted everything");
            drop(journal);
            let journal = Journal::open(&temp.path).unwrap();
            assert_eq!(answers(&journal, before).await, was, "also after the journal is opened again");
        });
    }
}

fn count(temp: &TestJournal, what: &str) -> i64 {
    let db = Connection::open(&temp.path).unwrap();
    db.query_row(&format!("SELECT count(*) FROM {what}"), [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn pruning_deletes_old_runs_and_keeps_evidence() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    for minute in 0..4 {
        let run = begin(&journal, "a", Trigger::Start, minute).await;
        send(&journal, run, "t", &minute.to_string(), minute).await;
        if minute == 1 {
            journal.record_arrival(run, "a", &arrival("v1", minute)).await.unwrap();
        }
        end(&journal, run, Outcome::Succeeded, minute).await;
    }
    let pruned = journal.prune(time_at(3)).await.unwrap();
    assert_eq!((pruned.runs, pruned.transfers), (2, 3));
    let remaining: Vec<i64> = runs(&journal).await.iter().map(|run| (run.started - time_at(0)).num_minutes()).collect();
    assert_eq!(remaining, [3, 1], "the last run, and the run with evidence");
    assert_eq!((count(&temp, "transfers"), count(&temp, "evidence")), (1, 1));
}

#[tokio::test]
async fn unfinished_run_stays_at_any_age() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = begin(&journal, "a", Trigger::Manual, 0).await;
    let transfer = Transfer::new("s", "t", Digest::of(b"x"), 1);
    let note = TransferUpdate { transfer, state: TransferState::Started, at: time_at(0) };
    journal.record_transfers(run, vec![note]).await.unwrap().await.unwrap();
    assert_eq!(journal.prune(time_at(1000)).await.unwrap(), Pruned::default());
    end(&journal, run, Outcome::Succeeded, 1001).await;
    assert_eq!(runs(&journal).await.len(), 1);
}

#[tokio::test]
async fn failure_streak_survives_deletion_of_its_runs() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    for minute in 0..400 {
        let run = begin(&journal, "a", Trigger::Start, minute).await;
        let outcome = if minute == 20 { Outcome::Succeeded } else { Outcome::Failed };
        end(&journal, run, outcome, minute).await;
        if minute % 150 == 149 {
            journal.prune(time_at(minute)).await.unwrap();
        }
    }
    journal.prune(time_at(400)).await.unwrap();
    assert_eq!(runs(&journal).await.len(), 2, "the last failure and the last success");
    let actual =
        |failures, minute| FailureStreak { entry: "a".into(), failures, last: time_at(minute), made_progress: false };
    assert_eq!(journal.failure_streaks().await.unwrap(), [actual(379, 399)]);
    let run = begin(&journal, "a", Trigger::Start, 400).await;
    end(&journal, run, Outcome::Failed, 400).await;
    assert_eq!(journal.failure_streaks().await.unwrap(), [actual(380, 400)]);
    let run = begin(&journal, "a", Trigger::Start, 401).await;
    end(&journal, run, Outcome::Succeeded, 401).await;
    assert_eq!(journal.failure_streaks().await.unwrap(), []);
}

#[tokio::test]
async fn tag_still_seen_keeps_its_first_seen_time() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    see(&journal, "a", [("moved", "old"), ("gone", "x"), ("same", "y")], 0).await;
    see(&journal, "a", [("moved", "new"), ("same", "y")], 50).await;
    see(&journal, "asleep", [("same", "y")], 0).await;
    let many: Vec<String> = (0..700).map(|number| format!("n{number}")).collect();
    see(&journal, "many", many.iter().map(|tag| (&**tag, "x")), 0).await;
    see(&journal, "many", [("n0", "x")], 50).await;
    assert_eq!(journal.prune(time_at(40)).await.unwrap().tags, 2 + 699);
    let actual = |tags: Vec<TagRecord>| -> Vec<(String, i64)> {
        tags.iter().map(|tag| (tag.tag.to_string(), (tag.first_seen - time_at(0)).num_minutes())).collect()
    };
    assert_eq!(actual(journal.last_selection("a").await.unwrap()), [("moved".into(), 50), ("same".into(), 0)]);
    assert_eq!(
        actual(journal.last_selection("asleep").await.unwrap()),
        [("same".into(), 0)],
        "the entry had no later run"
    );
    assert_eq!(count(&temp, "tag_observations"), 4);
}

#[tokio::test]
async fn target_stays_known_by_its_evidence() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = begin(&journal, "a", Trigger::Start, 0).await;
    let arrived = arrival("v1", 0);
    send(&journal, run, &arrived.target, "x", 0).await;
    journal.record_arrival(run, "a", &arrived).await.unwrap();
    end(&journal, run, Outcome::Succeeded, 0).await;
    journal.prune(time_at(10)).await.unwrap();
    assert_eq!(count(&temp, "transfers"), 0);
    assert_eq!(journal.find_earlier_work("a", &arrived.source, &arrived.target).await.unwrap(), (false, true));
}

#[tokio::test]
async fn dead_processes_without_runs_are_deleted_living_ones_kept() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    for number in 0..300 {
        let other = Journal::open(&temp.path).unwrap();
        if number < 2 {
            let run = begin(&other, "a", Trigger::Manual, number).await;
            end(&other, run, Outcome::Succeeded, number).await;
        }
    }
    let alive = Journal::open(&temp.path).unwrap();
    assert_eq!(journal.prune(time_at(0)).await.unwrap().processes, 298, "the runs are not old enough");
    assert_eq!(journal.prune(time_at(10)).await.unwrap(), Pruned { runs: 1, processes: 1, ..Pruned::default() });
    assert_eq!(count(&temp, "processes"), 3);
    let run = begin(&alive, "b", Trigger::Manual, 20).await;
    end(&alive, run, Outcome::Succeeded, 20).await;
}

#[tokio::test]
async fn quotas_reported_long_ago_are_deleted() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    for (identity, minute) in [("old", 0), ("young", 20)] {
        let (registry, window) = ("docker.io".into(), Duration::from_secs(21_600));
        let quota = QuotaRecord {
            registry,
            identity: identity.into(),
            limit: 100,
            window,
            remaining: 1,
            reported: time_at(minute),
        };
        journal.record_quota(quota).await.unwrap();
    }
    assert_eq!(journal.prune(time_at(10)).await.unwrap().quotas, 1);
    assert_eq!(journal.quotas().await.unwrap()[0].identity, "young");
}

#[tokio::test]
async fn deleted_rows_make_room_for_new_ones() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let mut pages = Vec::new();
    for day in 0..6 {
        for number in 0..300 {
            let minute = day * 1440 + number;
            let run = begin(&journal, ENTRIES[(number % 3) as usize], Trigger::Start, minute).await;
            end(&journal, run, Outcome::Succeeded, minute).await;
        }
        journal.prune(time_at(day * 1440) - TimeDelta::days(1)).await.unwrap();
        let log = std::fs::metadata(temp.path.with_extension("db-wal")).unwrap().len();
        assert!(log <= 5 << 20, "{log} bytes of log");
        let db = Connection::open(&temp.path).unwrap();
        pages.push(db.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0)).unwrap());
    }
    // From the third day on, the journal contains the runs of two days and of the current day.
    assert!(pages[2] > pages[0] && pages[5] <= pages[2] + 4, "{pages:?}");
}

#[tokio::test]
async fn every_prune_statement_uses_an_index() {
    let temp = temp_journal();
    drop(Journal::open(&temp.path).unwrap());
    let db = Connection::open(&temp.path).unwrap();
    for statement in [DELETE_TRANSFERS, LIST_OLD_RUNS, NEXT_PAIR, DELETE_OBSERVATIONS, LIST_PROCESSES] {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let steps: Vec<String> = plan.raw_query().mapped(|row| row.get(3)).map(Result::unwrap).collect();
        assert!(!steps.is_empty() && steps.iter().all(|step| !step.starts_with("SCAN")), "{statement}\n{steps:#?}");
    }
}
