//! Tests of a journal whose files are removed or replaced while it is open.

use std::fs;
use std::path::Path;

use super::tests::{TestJournal, arrival, begun, place, time_at};
use super::*;

fn file(path: &Path, ending: &str) -> std::path::PathBuf {
    path.with_file_name(format!("{}{ending}", path.file_name().unwrap().to_str().unwrap()))
}

async fn tags(journal: &Journal) -> Vec<String> {
    let found = journal.evidence(&EvidenceFilter::default()).await.unwrap();
    let mut tags: Vec<String> = found.iter().map(|one| one.arrival.tag.as_ref().unwrap().to_string()).collect();
    tags.sort();
    tags
}

fn ended() -> RunEnd {
    let (outcome, tags) = (Outcome::Succeeded, TagCounts::default());
    RunEnd { outcome, tags, bytes: 1, error: None, deferred_until: None }
}

/// Records `v1` in a run in progress, damages the files, and records `v2`. Returns the tags that another handle finds.
async fn tags_after(damage: impl Fn(&TestJournal)) -> Vec<String> {
    let place = place();
    let journal = Journal::open(&place.path).unwrap();
    let reader = Journal::open_existing(&place.path).unwrap();
    let run = begun(&journal, "a", 0).await;
    journal.record_arrival(run, "a", &arrival("v1", 1)).await.unwrap();
    assert_eq!(tags(&reader).await, ["v1"]);
    damage(&place);
    journal.record_intent(run, "a", &arrival("v2", 2)).await.unwrap();
    assert_eq!(journal.times_mended(), 1);
    journal.record_arrival(run, "a", &arrival("v2", 2)).await.unwrap();
    assert_eq!(tags(&reader).await, ["v1", "v2"], "the reader follows");
    let other = Journal::open(&place.path).unwrap();
    let already = other.begin_run("a", Trigger::Manual, time_at(3)).await.unwrap();
    assert!(matches!(already, Begun::AlreadyRunning { .. }), "{already:?}");
    journal.end_run(run, ended(), time_at(4)).await.unwrap();
    assert_eq!(journal.times_mended(), 1);
    drop((journal, other, reader));
    let next = Journal::open(&place.path).unwrap();
    assert_eq!(next.history(&HistoryFilter::default()).await.unwrap()[0].outcome, Some(Outcome::Succeeded));
    tags(&next).await
}

#[tokio::test]
async fn removed_journal_is_written_again_completely() {
    let all = tags_after(|place| fs::remove_dir_all(place.path.parent().unwrap()).unwrap());
    assert_eq!(all.await, ["v1", "v2"]);
    let file_alone = tags_after(|place| fs::remove_file(&place.path).unwrap());
    assert_eq!(file_alone.await, ["v1", "v2"]);
}

#[tokio::test]
async fn journal_without_log_or_index_is_written_again() {
    for endings in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let without =
            tags_after(|place| endings.iter().for_each(|ending| fs::remove_file(file(&place.path, ending)).unwrap()));
        assert_eq!(without.await, ["v1", "v2"], "{endings:?}");
    }
}

#[tokio::test]
async fn removed_lock_of_living_process_is_replaced() {
    let locks = |place: &TestJournal| {
        let files = fs::read_dir(place.path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
        files.filter(|file| file.to_str().unwrap().ends_with(".lock")).collect::<Vec<_>>()
    };
    let tags = tags_after(|place| locks(place).iter().for_each(|lock| fs::remove_file(lock).unwrap()));
    assert_eq!(tags.await, ["v1", "v2"]);
}

#[tokio::test]
async fn restored_backup_becomes_journal_with_own_records_carried_over() {
    let place = place();
    let backup = file(&place.path, ".backup");
    let earlier = Journal::open(&place.path).unwrap();
    let run = begun(&earlier, "b", 0).await;
    earlier.record_arrival(run, "b", &arrival("v0", 0)).await.unwrap();
    earlier.end_run(run, ended(), time_at(1)).await.unwrap();
    drop(earlier);
    fs::copy(&place.path, &backup).unwrap();
    // The backup has a run of its own under the number that the next run gets.
    let restored = Journal::open(&backup).unwrap();
    let run = begun(&restored, "other", 2).await;
    restored.end_run(run, ended(), time_at(3)).await.unwrap();
    drop(restored);

    let journal = Journal::open(&place.path).unwrap();
    let run = begun(&journal, "a", 5).await;
    journal.record_arrival(run, "a", &arrival("v1", 6)).await.unwrap();
    fs::rename(&backup, &place.path).unwrap();
    journal.record_intent(run, "a", &arrival("v2", 7)).await.unwrap();
    journal.record_arrival(run, "a", &arrival("v2", 7)).await.unwrap();
    journal.end_run(run, ended(), time_at(8)).await.unwrap();
    assert_eq!(tags(&journal).await, ["v0", "v1", "v2"]);
    let runs = journal.history(&HistoryFilter::default()).await.unwrap();
    let runs: Vec<_> = runs.iter().map(|run| (run.entry.as_str(), run.ended)).collect();
    assert_eq!(runs, [("a", Some(time_at(8))), ("other", Some(time_at(3))), ("b", Some(time_at(1)))]);
    let of_a =
        journal.evidence(&EvidenceFilter { entry: Some("a".into()), ..EvidenceFilter::default() }).await.unwrap();
    let history =
        journal.history(&HistoryFilter { entry: Some("a".into()), ..HistoryFilter::default() }).await.unwrap();
    assert!(of_a.iter().all(|record| record.run == history[0].id));
    let saved = fs::read_dir(place.path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
    let saved: Vec<_> = saved.filter(|path| path.to_str().unwrap().contains("replaced-")).collect();
    let [saved] = &saved[..] else { panic!("{saved:?}") };
    assert_eq!(tags(&Journal::open(saved).unwrap()).await, ["v0", "v1"], "what was open is kept");
}

#[tokio::test]
async fn two_handles_of_removed_journal_share_rewritten_one() {
    let place = place();
    let (one, two) = (Journal::open(&place.path).unwrap(), Journal::open(&place.path).unwrap());
    let (run_one, run_two) = (begun(&one, "a", 0).await, begun(&two, "b", 0).await);
    fs::remove_file(&place.path).unwrap();
    one.record_arrival(run_one, "a", &arrival("v1", 1)).await.unwrap();
    two.record_arrival(run_two, "b", &arrival("v2", 2)).await.unwrap();
    one.record_arrival(run_one, "a", &arrival("v3", 3)).await.unwrap();
    assert_eq!((tags(&one).await, one.times_mended(), two.times_mended()), (tags(&two).await, 1, 1));
    assert_eq!(tags(&one).await, ["v1", "v2", "v3"]);
}

#[tokio::test]
async fn foreign_file_in_place_of_journal_blocks_writes() {
    let place = place();
    let journal = Journal::open(&place.path).unwrap();
    let run = begun(&journal, "a", 0).await;
    let foreign = file(&place.path, ".other");
    fs::write(&foreign, "not a database, but long enough to be looked at as one".repeat(30)).unwrap();
    fs::rename(&foreign, &place.path).unwrap();
    let refused = journal.record_intent(run, "a", &arrival("v1", 1)).await.unwrap_err();
    assert!(matches!(refused, JournalError::Lost { .. }), "{refused}");
    assert!(refused.to_string().contains("is not a journal of transship"), "{refused}");
    assert!(journal.check_writable().await.is_err());
    assert_eq!(fs::read(&place.path).unwrap()[..3], *b"not", "it is left as it was");
}
