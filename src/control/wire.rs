//! What goes over the control socket: the requests, the answers, and the lines that they are.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::journal::TagCounts;

/// The most entries that one request may name.
pub const ENTRIES_AT_MOST: usize = 256;

/// The longest line, in bytes: room for as many names as a request may have, and for an error at length.
pub(super) const LINE_AT_MOST: usize = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A run of each of these entries, now.
    Trigger {
        /// Their names.
        entries: Vec<String>,
        /// Whether to say how each run ended, too.
        wait: bool,
    },
    /// That these entries begin no runs by themselves.
    Pause {
        /// Their names.
        entries: Vec<String>,
        /// When that ends by itself.
        until: Option<DateTime<Utc>>,
    },
    /// The end of that.
    Resume {
        /// Their names.
        entries: Vec<String>,
    },
}

/// One answer; a request gets several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// About one of the entries.
    Entry {
        /// Its name.
        entry: String,
        /// What is said of it.
        #[serde(flatten)]
        said: Said,
    },
    /// The request as a whole is not taken; nothing was done.
    Refused {
        /// Why.
        error: String,
    },
}

/// What is said of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// It runs as soon as there is a place for it.
    Queued,
    /// It waits for its place already.
    WaitsAlready,
    /// It runs already.
    RunsAlready,
    /// It is paused.
    Paused,
    /// It is paused no longer.
    Resumed,
    /// It was not paused.
    NotPaused,
    /// Its run has ended.
    Ended(Ended),
    /// There is no such entry.
    Unknown {
        /// That, with the way out.
        error: String,
    },
    /// It cannot be done now.
    Refused {
        /// Why, with the way out.
        error: String,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its number in the journal, where it has one.
    pub run: Option<i64>,
    /// `succeeded`, `failed`, `postponed`, `timed_out`, `interrupted`, or `already_running`: another process runs the entry.
    pub outcome: String,
    /// What became of its tags.
    pub tags: TagCounts,
    /// What went wrong first.
    pub problem: Option<String>,
}

impl Request {
    /// Its word, for the log.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Trigger { .. } => "trigger",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
        }
    }

    /// The entries that it is about.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        match self {
            Self::Trigger { entries, .. } | Self::Pause { entries, .. } | Self::Resume { entries } => entries,
        }
    }

    /// Reads a line. The error is for whoever sent it.
    pub(super) fn read(line: &[u8]) -> Result<Self, String> {
        let request: Self =
            serde_json::from_slice(line).map_err(|error| format!("the request is not understood: {error}"))?;
        match request.entries().len() {
            0 => Err("the request names no entry".to_owned()),
            count if count > ENTRIES_AT_MOST => {
                Err(format!("the request names {count} entries, {ENTRIES_AT_MOST} at most are taken at once"))
            }
            _ => Ok(request),
        }
    }
}

/// A value as its line.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    // What is sent has no map with keys that are no text, which alone would fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The next line without its end; `None` where the other side has ended. At most [`LINE_AT_MOST`] bytes are kept.
///
/// # Errors
/// The system's, [`std::io::ErrorKind::InvalidData`] for a line that is too long, and
/// [`std::io::ErrorKind::UnexpectedEof`] for half a line.
pub(super) async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(LINE_AT_MOST as u64 + 1).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Some(line));
    }
    let (kind, why) = if read > LINE_AT_MOST {
        (std::io::ErrorKind::InvalidData, format!("a line of more than {LINE_AT_MOST} bytes"))
    } else {
        (std::io::ErrorKind::UnexpectedEof, "half a line".to_owned())
    };
    Err(std::io::Error::new(kind, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_one_line_and_reads_back_as_it_was() {
        let request = Request::Trigger { entries: vec!["a\nb".into()], wait: true };
        let written = line(&request);
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(Request::read(&written), Ok(request));
        let ended = Ended { run: Some(7), outcome: "failed".into(), tags: TagCounts::default(), problem: None };
        for answer in [
            Answer::Entry { entry: "a".into(), said: Said::Queued },
            Answer::Entry { entry: "a".into(), said: Said::Ended(ended) },
            Answer::Entry { entry: "a".into(), said: Said::Unknown { error: "none".into() } },
            Answer::Refused { error: "no".into() },
        ] {
            assert_eq!(serde_json::from_slice::<Answer>(&line(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn a_request_that_is_none_is_refused_in_words() {
        let many = Request::Trigger { entries: vec![String::new(); 257], wait: false };
        for (line, expected) in [
            (&b"hello"[..], "the request is not understood: expected value at line 1 column 1"),
            (b"{\"command\":\"erase\"}", "the request is not understood: unknown variant `erase`"),
            (b"{\"command\":\"trigger\",\"entries\":[],\"wait\":false}", "the request names no entry"),
            (&line(&many), "the request names 257 entries, 256 at most are taken at once"),
        ] {
            let refused = Request::read(line).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_line_is_taken_whole_and_within_bounds_or_not_at_all() {
        let mut two = &b"one\ntwo"[..];
        assert_eq!(next_line(&mut two).await.unwrap(), Some(b"one".to_vec()));
        assert_eq!(next_line(&mut two).await.unwrap_err().to_string(), "half a line");
        assert_eq!(next_line(&mut &b""[..]).await.unwrap(), None);
        let mut longest = vec![b'x'; LINE_AT_MOST];
        longest.push(b'\n');
        // The end of the line is one byte more.
        assert_eq!(next_line(&mut &longest[..]).await.unwrap().map(|line| line.len()), Some(LINE_AT_MOST));
        let endless = vec![b'x'; 2 * LINE_AT_MOST];
        let refused = next_line(&mut &endless[..]).await.unwrap_err();
        assert_eq!(refused.to_string(), "a line of more than 65536 bytes");
    }
}
