//! Records that the queries of the status page return, and the search text. The statements of these queries are in
//! `runs.rs` and `search.rs`.

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
    /// Time at which the run started.
    pub started: DateTime<Utc>,
    /// Time at which the run ended. `None` if no end is recorded.
    pub ended: Option<DateTime<Utc>>,
    /// Outcome of the run. `None` while the run is in progress.
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
    /// Beginning of a digest: hexadecimal digits, with or without an algorithm before them. `None` if the search text
    /// contains no digest.
    digest: Option<String>,
    /// True if the text and the digest must both match, as in `repository@digest`.
    both: bool,
}

/// Result of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResults {
    /// Evidence of tags and digests that were copied, the latest first.
    pub arrivals: Vec<EvidenceRecord>,
    /// Reason why `arrivals` ends.
    pub arrivals_end: ListEnd,
    /// Tags that runs found, ordered by the time of the last observation, the latest first.
    pub seen: Vec<SeenTag>,
    /// Reason why `seen` ends.
    pub seen_end: ListEnd,
}

/// Reason why a list of search results ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListEnd {
    /// The list contains all rows that match.
    #[default]
    Complete,
    /// The list was full, and further rows match.
    Full,
    /// The time limit was reached, so further rows may match.
    TimeLimit,
}

/// Tag that runs of an entry found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTag {
    /// Name of the entry.
    pub entry: String,
    /// The tag, with its source and target.
    pub tag: TagRecord,
}

impl Search {
    /// Maximum length of a search text, in bytes. A repository with a tag and a digest is shorter.
    pub const LONGEST: usize = 1024;

    /// Minimum number of hexadecimal digits of a text that is treated as the beginning of a digest.
    const MIN_DIGITS: usize = 6;

    /// Parses a search text, without the white space around it. Returns [`None`] if the text is empty or longer than
    /// [`Search::LONGEST`].
    #[must_use]
    pub fn read(typed: &str) -> Option<Self> {
        let typed = typed.trim();
        if typed.is_empty() || typed.len() > Self::LONGEST {
            return None;
        }
        if let Some((address, digest)) = typed.rsplit_once('@')
            && is_beginning_of_digest(digest)
        {
            let both = !address.is_empty();
            return Some(Self { text: address.to_owned(), digest: Some(digest.to_owned()), both });
        }
        let digest = Some(typed.to_ascii_lowercase()).filter(|digest| is_beginning_of_digest(digest));
        Some(Self { text: typed.to_owned(), digest, both: false })
    }

    /// Returns true if one of the addresses or one of the digests matches the search text. An address is a repository
    /// and a tag or digest.
    pub(super) fn matches(&self, addresses: [[&str; 2]; 2], digests: [&str; 2]) -> bool {
        let in_digests =
            self.digest.as_ref().is_some_and(|digest| digests.iter().any(|known| begins_with(known, digest)));
        if self.both && !in_digests || self.text.is_empty() {
            return in_digests;
        }
        let in_addresses = addresses.iter().any(|address| self.is_in(*address));
        if self.both { in_addresses } else { in_digests || in_addresses }
    }

    fn is_in(&self, [repository, reference]: [&str; 2]) -> bool {
        // A digest in an address is compared only as a digest. Compared as text, a search for three letters would match
        // nearly every digest.
        let as_tag = if reference.contains(':') { "" } else { reference };
        let spans_both = |(end, start): (&str, &str)| repository.ends_with(end) && as_tag.starts_with(start);
        repository.contains(&self.text)
            || as_tag.contains(&self.text)
            || self.text.rsplit_once(':').is_some_and(spans_both)
    }
}

fn is_beginning_of_digest(text: &str) -> bool {
    let (algorithm, digits) = text.split_once(':').map_or((None, text), |(name, digits)| (Some(name), digits));
    algorithm.is_none_or(|algorithm| Digest::ALGORITHMS.contains(&algorithm))
        && (Search::MIN_DIGITS..=128).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

fn begins_with(digest: &str, beginning: &str) -> bool {
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
        let addresses = [["docker.io/library/python", "3.12-slim"], ["prod.example:5000/cache/python", "3.12-slim"]];
        let matches = |typed: &str| Search::read(typed).unwrap().matches(addresses, [&other, &digest]);
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
            assert!(matches(typed), "{typed}");
        }
        for typed in
            ["ruby", "3.13", "python:slim", "01234", "123456", "ruby@sha256:0123456789", "python@sha256:abcdef"]
        {
            assert!(!matches(typed), "{typed}");
        }
    }

    #[test]
    fn tag_does_not_match_within_digests() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert!(!Search::read("000").unwrap().matches([["a", &digest], ["b", ""]], [&digest, &digest]));
    }

    #[test]
    fn empty_and_too_long_texts_are_refused() {
        assert_eq!(Search::read("  "), None);
        assert_eq!(Search::read(&"x".repeat(Search::LONGEST + 1)), None);
    }
}
