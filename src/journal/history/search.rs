//! Search for a tag or digest in the evidence and in the tags that runs found.
//!
//! The search uses no index. It reads the evidence, the latest first, until the list is full or the time limit is
//! reached. Then it reads the tags until all are read or the time limit is reached.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Result, Row};

use super::record::{ListEnd, Search, SearchResults, SeenTag};
use crate::journal::arrivals::read_evidence;
use crate::journal::queries::read_tag;
use crate::journal::{EvidenceRecord, Journal, JournalError};

impl Journal {
    /// Returns at most `at_most` rows of evidence and at most `at_most` tags that match `search`. The search for
    /// evidence and the search for tags each end after `time`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn search(&self, search: Search, at_most: usize, time: Duration) -> Result<SearchResults, JournalError> {
        self.read(move |db| {
            let mut found = SearchResults::default();
            found.arrivals_end = find_evidence(db, &search, at_most, Instant::now() + time, &mut found.arrivals)?;
            found.seen_end = find_tags(db, &search, at_most, Instant::now() + time, &mut found.seen)?;
            Ok(found)
        })
        .await
    }
}

fn find_evidence(
    db: &Connection,
    search: &Search,
    at_most: usize,
    end: Instant,
    arrivals: &mut Vec<EvidenceRecord>,
) -> Result<ListEnd> {
    let mut statement = db.prepare_cached(
        "SELECT source, source_reference, target, tag, source_digest, digest, evidence.* FROM evidence
         ORDER BY id DESC",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if Instant::now() >= end {
            return Ok(ListEnd::TimeLimit);
        }
        if !matches(search, row) {
            continue;
        }
        if arrivals.len() == at_most {
            return Ok(ListEnd::Full);
        }
        arrivals.push(read_evidence(row)?);
    }
    Ok(ListEnd::Complete)
}

fn find_tags(
    db: &Connection,
    search: &Search,
    at_most: usize,
    end: Instant,
    seen: &mut Vec<SeenTag>,
) -> Result<ListEnd> {
    let mut statement = db.prepare_cached(
        "SELECT source, tag, target, tag, source_digest, target_digest, tag_observations.* FROM tag_observations",
    )?;
    let mut rows = statement.query([])?;
    let mut list_end = ListEnd::Complete;
    while let Some(row) = rows.next()? {
        if Instant::now() >= end {
            list_end = ListEnd::TimeLimit;
            break;
        }
        if matches(search, row) {
            seen.push(SeenTag { entry: row.get("entry")?, tag: read_tag(row)? });
        }
        // SQLite returns these rows ordered by entry and tag, so the latest rows are known only at the end. The list is
        // truncated from time to time, so that it does not grow to the number of all matching rows.
        if seen.len() >= at_most.saturating_mul(4).max(64) {
            list_end = list_end.max(retain_latest(seen, at_most));
        }
    }
    Ok(list_end.max(retain_latest(seen, at_most)))
}

/// Truncates the list to the latest tags. Returns [`ListEnd::Full`] if the list was longer.
fn retain_latest(seen: &mut Vec<SeenTag>, at_most: usize) -> ListEnd {
    seen.sort_by_key(|seen| Reverse(seen.tag.last_seen));
    let list_end = if seen.len() > at_most { ListEnd::Full } else { ListEnd::Complete };
    seen.truncate(at_most);
    list_end
}

/// Returns true if the row matches. The first six columns of the row are: source and its tag or digest, target and its
/// tag, and two digests.
fn matches(search: &Search, row: &Row<'_>) -> bool {
    search.matches(
        [[column_text(row, 0), column_text(row, 1)], [column_text(row, 2), column_text(row, 3)]],
        [column_text(row, 4), column_text(row, 5)],
    )
}

/// Returns the text of a column, or an empty text if the column contains no text.
fn column_text<'row>(row: &'row Row<'_>, column: usize) -> &'row str {
    row.get_ref(column).ok().and_then(|value| value.as_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;
    use crate::copy::event::{Arrival, BlobCounts};
    use crate::journal::{Begun, Observation, Trigger};
    use crate::oci::{Digest, ManifestRef, MediaType, Tag};

    fn time_at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::minutes(minute)
    }

    fn arrival(tag: &str, minute: i64) -> Arrival {
        let tag: Tag = tag.parse().unwrap();
        let digest = Digest::of(format!("{tag} {minute}").as_bytes());
        Arrival {
            kind: crate::copy::event::ArrivalKind::Tag,
            listed: Vec::new(),
            source: "docker.io/library/app".into(),
            source_reference: ManifestRef::Tag(tag.clone()),
            source_digest: digest,
            target: "prod.example/app".into(),
            tag: Some(tag),
            digest,
            previous: None,
            media_type: MediaType::new("application/vnd.oci.image.index.v1+json"),
            manifests: 1,
            blobs: BlobCounts::default(),
            bytes: 1,
            source_identity: "anonymous".into(),
            target_identity: "robot".into(),
            left_behind: Vec::new(),
            started: time_at(minute),
            ended: time_at(minute),
        }
    }

    /// Returns a journal with evidence of four copies of `v1` and one copy of `v2`, and with observations of both tags.
    async fn journal(folder: &tempfile::TempDir) -> Journal {
        let path = folder.path().join("journal.db");
        let journal = Journal::open(&path).unwrap();
        let Begun::Started(run) = journal.begin_run("app", Trigger::Manual, time_at(0)).await.unwrap() else {
            panic!("runs")
        };
        for (minute, tag) in ["v1", "v2", "v1", "v1", "v1"].iter().enumerate() {
            let arrival = arrival(tag, minute as i64);
            let seen = Observation {
                tag: arrival.tag.clone().unwrap(),
                source_digest: arrival.source_digest,
                target_digest: None,
            };
            journal.record_arrival(run, "app", &arrival).await.unwrap();
            let (source, target) = (&arrival.source, &arrival.target);
            journal.observe_tags("app", source, target, vec![seen], arrival.ended).await.unwrap();
        }
        Journal::open_existing(&path).unwrap()
    }

    async fn found(journal: &Journal, typed: &str, at_most: usize) -> SearchResults {
        let search = Search::read(typed).unwrap();
        journal.search(search, at_most, Duration::from_secs(600)).await.unwrap()
    }

    fn minutes(found: &SearchResults) -> (Vec<i64>, Vec<i64>) {
        let minute = |when: DateTime<Utc>| (when - time_at(0)).num_minutes();
        let arrived = found.arrivals.iter().map(|record| minute(record.arrival.ended)).collect();
        (arrived, found.seen.iter().map(|seen| minute(seen.tag.last_seen)).collect())
    }

    fn ends(found: &SearchResults) -> [ListEnd; 2] {
        [found.arrivals_end, found.seen_end]
    }

    #[tokio::test]
    async fn complete_list_beside_a_full_list_stays_complete() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let (source, target) = ("docker.io/library/app", "prod.example/app");
        let tags = (0..9).map(|number| Observation {
            tag: format!("v2.{number}").parse().unwrap(),
            source_digest: Digest::of(b"v2"),
            target_digest: None,
        });
        let writer = Journal::open(&folder.path().join("journal.db")).unwrap();
        writer.observe_tags("app", source, target, tags.collect(), time_at(9)).await.unwrap();
        let by_tag = found(&journal, "v2", 5).await;
        assert_eq!(ends(&by_tag), [ListEnd::Complete, ListEnd::Full]);
    }

    #[tokio::test]
    async fn tag_and_digest_are_found_in_arrivals_and_observations() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let by_tag = found(&journal, "v2", 9).await;
        assert_eq!((minutes(&by_tag), ends(&by_tag)), ((vec![1], vec![1]), [ListEnd::Complete; 2]));
        let digest = arrival("v1", 2).digest.to_string();
        for typed in [&digest, &digest[7..15], &format!("prod.example/app@{digest}")] {
            assert_eq!(minutes(&found(&journal, typed, 9).await), (vec![2], vec![2]), "{typed}");
        }
        assert_eq!(found(&journal, "v3", 9).await, SearchResults::default());
    }

    #[tokio::test]
    async fn the_latest_are_shown_and_that_there_are_more() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let some = found(&journal, "docker.io/library/app:v1", 3).await;
        assert_eq!((minutes(&some), ends(&some)), ((vec![4, 3, 2], vec![4, 3, 2]), [ListEnd::Full; 2]));
        let all = found(&journal, "docker.io/library/app:v1", 4).await;
        assert_eq!((minutes(&all).0.len(), ends(&all)), (4, [ListEnd::Complete; 2]));
    }

    #[tokio::test]
    async fn search_ends_when_its_time_is_up() {
        let folder = tempfile::tempdir().unwrap();
        let journal = journal(&folder).await;
        let found = journal.search(Search::read("v1").unwrap(), 9, Duration::ZERO).await.unwrap();
        let (arrivals_end, seen_end) = (ListEnd::TimeLimit, ListEnd::TimeLimit);
        assert_eq!(found, SearchResults { arrivals_end, seen_end, ..SearchResults::default() });
    }
}
