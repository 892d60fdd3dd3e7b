//! Tests of a journal whose files are removed or replaced while it is open.

use std::fs;
use std::path::Path;

use super::tests::{TestJournal, arrival, start_run, temp_journal, time_at};
use super::*;

fn file(path: &Path, ending: &str) -> std::path::PathBuf {
    path.with_file_name(format!("{}{ending}", path.file_name().unwrap().to_str().unwrap()))
}

async fn tags(journal: &Journal) -> Vec<String> {
    let found = journal.evidence(&EvidenceFilter::default()).await.unwrap();
    let mut tags: Vec<String> = found.iter().map(|record| record.arrival.tag.as_ref().unwrap().to_string()).collect();
    tags.sort();
    tags
}

fn ended() -> RunEnd {
    let (outcome, tags) = (Outcome::Succeeded, TagCounts::default());
    RunEnd { outcome, tags, bytes: 1, error: None, deferred_until: None }
}

/// Records `v1` in a run in progress, damages the files, and records `v2`. Returns the tags that a new handle reads.
async fn tags_after(damage: impl Fn(&TestJournal)) -> Vec<String> {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let reader = Journal::open_existing(&temp.path).unwrap();
    let run = start_run(&journal, "a", 0).await;
    journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
    assert_eq!(tags(&reader).await, ["v1"]);
    damage(&temp);
    journal.record_intent(run, "a", &arrival("v2", 2)).await.unwrap();
    assert_eq!(journal.times_mended(), 1);
    journal.record_arrival(run, "a", &arrival("v2", 2)).await.unwrap();
    assert_eq!(tags(&reader).await, ["v1", "v2"], "the reader reads the new file");
    let other = Journal::open(&temp.path).unwrap();
    let already = other.begin_run("a", Trigger::Manual, time_at(3)).await.unwrap();
    assert!(matches!(already, Begun::AlreadyRunning { .. }), "{already:?}");
    journal.end_run(run, ended(), time_at(4)).await.unwrap();
    assert_eq!(journal.times_mended(), 1);
    drop((journal, other, reader));
    let next = Journal::open(&temp.path).unwrap();
    assert_eq!(next.history(&HistoryFilter::default()).await.unwrap()[0].outcome, Some(Outcome::Succeeded));
    tags(&next).await
}

#[tokio::test]
async fn removed_journal_is_written_again_completely() {
    let all = tags_after(|temp| fs::remove_dir_all(temp.path.parent().unwrap()).unwrap());
    assert_eq!(all.await, ["v1", "v2"]);
    let file_alone = tags_after(|temp| fs::remove_file(&temp.path).unwrap());
    assert_eq!(file_alone.await, ["v1", "v2"]);
}

#[tokio::test]
async fn journal_without_log_or_index_is_written_again() {
    for endings in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let without =
            tags_after(|temp| endings.iter().for_each(|ending| fs::remove_file(file(&temp.path, ending)).unwrap()));
        assert_eq!(without.await, ["v1", "v2"], "{endings:?}");
    }
}

#[tokio::test]
async fn removed_lock_of_living_process_is_replaced() {
    let locks = |temp: &TestJournal| {
        let files = fs::read_dir(temp.path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.to_str().unwrap().ends_with(".lock")).collect::<Vec<_>>()
    };
    let tags = tags_after(|temp| locks(temp).iter().for_each(|lock| fs::remove_file(lock).unwrap()));
    assert_eq!(tags.await, ["v1", "v2"]);
}

#[tokio::test]
async fn restored_backup_becomes_journal_with_own_records_carried_over() {
    let temp = temp_journal();
    let backup = file(&temp.path, ".backup");
    let earlier = Journal::open(&temp.path).unwrap();
    let run = start_run(&earlier, "b", 0).await;
    earlier.record_arrival(run, "b", &arrival("v0", 0)).await.unwrap();
    earlier.end_run(run, ended(), time_at(1)).await.unwrap();
    drop(earlier);
    fs::copy(&temp.path, &backup).unwrap();
    // The backup contains another run with the number that the next run of the open journal gets.
    let restored = Journal::open(&backup).unwrap();
    let run = start_run(&restored, "other", 2).await;
    restored.end_run(run, ended(), time_at(3)).await.unwrap();
    drop(restored);

    let journal = Journal::open(&temp.path).unwrap();
    let run = start_run(&journal, "a", 5).await;
    journal.record_arrival(run, "a", &arrival("v1", 6)).await.unwrap();
    fs::rename(&backup, &temp.path).unwrap();
    assert_eq!(tags(&journal).await, ["v0", "v1"], "a read before the next write changes nothing");
    journal.record_intent(run, "a", &arrival("v2", 7)).await.unwrap();
    journal.record_arrival(run, "a", &arrival("v2", 7)).await.unwrap();
    journal.end_run(run, ended(), time_at(8)).await.unwrap();
    assert_eq!(tags(&journal).await, ["v0", "v1", "v2"]);
    let runs = journal.history(&HistoryFilter::default()).await.unwrap();
    let runs: Vec<_> = runs.iter().map(|run| (run.entry.as_str(), run.ended)).collect();
    assert_eq!(runs, [("a", Some(time_at(8))), ("other", Some(time_at(3))), ("b", Some(time_at(1)))]);
    let of_a =
        journal.evidence(&EvidenceFilter { entries: vec!["a".into()], ..EvidenceFilter::default() }).await.unwrap();
    let history =
        journal.history(&HistoryFilter { entries: vec!["a".into()], ..HistoryFilter::default() }).await.unwrap();
    assert!(of_a.iter().all(|record| record.run == history[0].id));
    let saved = fs::read_dir(temp.path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    let saved: Vec<_> = saved.filter(|path| path.to_str().unwrap().contains("replaced-")).collect();
    let [saved] = &saved[..] else { panic!("{saved:?}") };
    assert_eq!(tags(&Journal::open(saved).unwrap()).await, ["v0", "v1"], "the previous journal is saved");
}

#[tokio::test]
async fn two_handles_of_removed_journal_share_rewritten_one() {
    let temp = temp_journal();
    let (one, two) = (Journal::open(&temp.path).unwrap(), Journal::open(&temp.path).unwrap());
    let (run_one, run_two) = (start_run(&one, "a", 0).await, start_run(&two, "b", 0).await);
    fs::remove_file(&temp.path).unwrap();
    one.record_arrival(run_one, "a", &arrival("v1", 1)).await.unwrap();
    two.record_arrival(run_two, "b", &arrival("v2", 2)).await.unwrap();
    one.record_arrival(run_one, "a", &arrival("v3", 3)).await.unwrap();
    assert_eq!((tags(&one).await, one.times_mended(), two.times_mended()), (tags(&two).await, 1, 1));
    assert_eq!(tags(&one).await, ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn foreign_file_in_place_of_journal_blocks_writes() {
    let temp = temp_journal();
    let journal = Journal::open(&temp.path).unwrap();
    let run = start_run(&journal, "a", 0).await;
    let foreign = file(&temp.path, ".other");
    fs::write(&foreign, "not a database, but long enough to be read as one".repeat(30)).unwrap();
    fs::rename(&foreign, &temp.path).unwrap();
    let refused = journal.record_intent(run, "a", &arrival("v1", 1)).await.unwrap_err();
    assert!(matches!(refused, JournalError::Lost { .. }), "{refused}");
    assert!(refused.to_string().contains("is not a journal of transship"), "{refused}");
    assert!(journal.check_writable().await.is_err());
    assert_eq!(fs::read(&temp.path).unwrap()[..3], *b"not", "the foreign file is unchanged");
}
