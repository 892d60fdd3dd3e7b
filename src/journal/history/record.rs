//! Records of the history queries: plain values. The statements that find these records are beside this file. Rows of
//! the journal as they were written are in `journal/record.rs`.

use chrono::{DateTime, Utc};

use crate::journal::{EvidenceRecord, Outcome, RunId, RunRecord, TagRecord};
use crate::oci::Digest;

/// Run in short form: its times, its outcome and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMark {
    /// Number of the run.
    pub run: RunId,
    /// Name of the entry.
    pub entry: String,
    /// Time at which it began.
    pub started: DateTime<Utc>,
    /// Time at which the run ended, if known.
    pub ended: Option<DateTime<Utc>>,
    /// Outcome of the run. Absent while it is in progress.
    pub outcome: Option<Outcome>,
    /// Bytes of blobs and manifests that the run sent. 0 while the run is in progress.
    pub bytes: u64,
}

impl From<&RunRecord> for RunMark {
    fn from(run: &RunRecord) -> Self {
        let RunRecord { id, entry, started, ended, outcome, bytes, .. } = run;
        Self { run: *id, entry: entry.clone(), started: *started, ended: *ended, outcome: *outcome, bytes: *bytes }
    }
}

/// Text to search for: a part of a repository or tag, the beginning of a digest, or `repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    text: String,
    /// Hexadecimal digits, with or without an algorithm before them.
    digest: Option<String>,
    /// True if both must match, as in `repository@digest`.
    both: bool,
}

/// Result of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResults {
    /// Tags and digests that arrived, the latest first.
    pub arrivals: Vec<EvidenceRecord>,
    /// Tags that runs saw, the last seen first.
    pub seen: Vec<SeenTag>,
    /// True if there may be more: one of the lists was full, or the time limit was reached.
    pub is_cut: bool,
}

/// Tag that runs of an entry saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTag {
    /// Name of the entry.
    pub entry: String,
    /// The tag, with its source and target.
    pub tag: TagRecord,
}

impl Search {
    /// Maximum length of a search text, in bytes. A repository, a tag and a digest fit into it.
    pub const LONGEST: usize = 1024;

    /// Minimum number of digits that count as the beginning of a digest.
    const DIGITS: usize = 6;

    /// Reads a text that a person typed. Space around it is ignored. [`None`] if nothing is left, or more than
    /// [`Search::LONGEST`].
    #[must_use]
    pub fn read(typed: &str) -> Option<Self> {
        let typed = typed.trim();
        if typed.is_empty() || typed.len() > Self::LONGEST {
            return None;
        }
        if let Some((place, digest)) = typed.rsplit_once('@')
            && is_beginning_of_digest(digest)
        {
            let both = !place.is_empty();
            return Some(Self { text: place.to_owned(), digest: Some(digest.to_owned()), both });
        }
        let digest = Some(typed.to_ascii_lowercase()).filter(|digest| is_beginning_of_digest(digest));
        Some(Self { text: typed.to_owned(), digest, both: false })
    }

    /// Returns true if one of these addresses (a repository and a tag or digest) or digests matches.
    pub(super) fn meets(&self, places: [[&str; 2]; 2], digests: [&str; 2]) -> bool {
        let in_digests = self.digest.as_ref().is_some_and(|digest| digests.iter().any(|it| begins(it, digest)));
        if self.both && !in_digests || self.text.is_empty() {
            return in_digests;
        }
        let in_places = places.iter().any(|place| self.is_in(*place));
        if self.both { in_places } else { in_digests || in_places }
    }

    fn is_in(&self, [repository, reference]: [&str; 2]) -> bool {
        // A digest after the `@` of an address is compared as a digest: three letters would match every other one.
        let as_tag = if reference.contains(':') { "" } else { reference };
        let across = |(before, behind): (&str, &str)| repository.ends_with(before) && as_tag.starts_with(behind);
        repository.contains(&self.text) || as_tag.contains(&self.text) || self.text.rsplit_once(':').is_some_and(across)
    }
}

fn is_beginning_of_digest(text: &str) -> bool {
    let (algorithm, digits) = text.split_once(':').map_or((None, text), |(name, digits)| (Some(name), digits));
    algorithm.is_none_or(|algorithm| Digest::ALGORITHMS.contains(&algorithm))
        && (Search::DIGITS..=128).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

fn begins(digest: &str, beginning: &str) -> bool {
    if beginning.contains(':') {
        return digest.starts_with(beginning);
    }
    digest.split_once(':').is_some_and(|(_, digits)| digits.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_tag_and_digest_prefix_are_found() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let other = format!("sha256:{}", "f".repeat(64));
        let places = [["docker.io/library/python", "3.12-slim"], ["prod.example:5000/cache/python", "3.12-slim"]];
        let meets = |typed: &str| Search::read(typed).unwrap().meets(places, [&other, &digest]);
        for typed in [
            "python",
            " 3.12 ",
            "cache/python:3.12-slim",
            "library/python:3.12",
            "prod.example:5000/cache",
            "012345",
            "SHA256:012345",
            &digest,
            "@sha256:0123456789",
            "cache/python@sha256:0123456789",
        ] {
            assert!(meets(typed), "{typed}");
        }
        for typed in
            ["ruby", "3.13", "python:slim", "01234", "123456", "ruby@sha256:0123456789", "python@sha256:abcdef"]
        {
            assert!(!meets(typed), "{typed}");
        }
    }

    #[test]
    fn tag_does_not_match_within_digests() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(!Search::read("000").unwrap().meets([["a", &digest], ["b", ""]], [&digest, &digest]));
    }

    #[test]
    fn empty_and_too_long_texts_are_refused() {
        assert_eq!(Search::read("  "), None);
        assert_eq!(Search::read(&"x".repeat(Search::LONGEST + 1)), None);
    }
}
