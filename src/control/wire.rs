//! Wire format of the control socket: requests, answers, and their encoding as lines.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::journal::TagCounts;

/// Largest number of entries in one request.
pub const ENTRIES_AT_MOST: usize = 256;

/// Longest line, in bytes: enough for the largest number of names in a request, and for a long error.
pub(super) const LINE_AT_MOST: usize = 64 << 10;

/// Request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Requests a run of each of these entries, now.
    Trigger {
        /// Names of the entries.
        entries: Vec<String>,
        /// True to also report how each run ended.
        wait: bool,
    },
    /// Pauses these entries: they start no scheduled runs.
    Pause {
        /// Names of the entries.
        entries: Vec<String>,
        /// Time at which the pause ends automatically.
        until: Option<DateTime<Utc>>,
    },
    /// Ends the pause of these entries.
    Resume {
        /// Names of the entries.
        entries: Vec<String>,
    },
}

/// One of the answers to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Answer about one of the entries.
    Entry {
        /// Name of the entry.
        entry: String,
        /// State or result of the entry.
        #[serde(flatten)]
        said: Said,
    },
    /// The daemon refused the whole request and did nothing.
    Refused {
        /// Reason, in words.
        error: String,
    },
}

/// State or result of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// A run starts as soon as a slot for it is free.
    Queued,
    /// A run already waits for its slot.
    WaitsAlready,
    /// A run is already in progress.
    RunsAlready,
    /// The entry is paused now.
    Paused,
    /// The entry is not paused any more.
    Resumed,
    /// The entry was not paused.
    NotPaused,
    /// The run has ended.
    Ended(Ended),
    /// No entry has this name.
    Unknown {
        /// Error, with a remedy.
        error: String,
    },
    /// The command cannot be executed now.
    Refused {
        /// Reason, with a remedy.
        error: String,
    },
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Number of the run in the journal, if it has one.
    pub run: Option<i64>,
    /// Outcome: `succeeded`, `failed`, `deferred`, `timed_out`, `interrupted`, or `already_running` if another
    /// process runs the entry.
    pub outcome: String,
    /// Number of tags per outcome.
    pub tags: TagCounts,
    /// First problem of the run.
    pub problem: Option<String>,
}

impl Request {
    /// Returns the command's word, for the log.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Trigger { .. } => "trigger",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
        }
    }

    /// Returns the names of the request's entries.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        match self {
            Self::Trigger { entries, .. } | Self::Pause { entries, .. } | Self::Resume { entries } => entries,
        }
    }

    /// Parses a line. The error is meant for the client.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let request: Self =
            serde_json::from_slice(line).map_err(|error| format!("cannot parse the request: {error}"))?;
        match request.entries().len() {
            0 => Err("the request names no entry".to_owned()),
            count if count > ENTRIES_AT_MOST => {
                Err(format!("the request names {count} entries; at most {ENTRIES_AT_MOST} are allowed"))
            }
            _ => Ok(request),
        }
    }
}

/// Returns a value as a line of JSON.
pub(super) fn encode_line(value: &impl Serialize) -> Vec<u8> {
    // Serialization fails only for maps whose keys are not strings, and no request or answer contains one.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Returns the next line without its end, or `None` if the other side has ended the connection. Keeps at most
/// [`LINE_AT_MOST`] bytes.
///
/// # Errors
/// - The operating system's error.
/// - [`std::io::ErrorKind::InvalidData`] if the line is too long.
/// - [`std::io::ErrorKind::UnexpectedEof`] if the line is incomplete.
pub(super) async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(LINE_AT_MOST as u64 + 1).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Some(line));
    }
    let (kind, why) = if read > LINE_AT_MOST {
        (std::io::ErrorKind::InvalidData, format!("a line is longer than {LINE_AT_MOST} bytes"))
    } else {
        (std::io::ErrorKind::UnexpectedEof, "the line is incomplete".to_owned())
    };
    Err(std::io::Error::new(kind, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_single_lines_and_parse_back_unchanged() {
        let request = Request::Trigger { entries: vec!["a\nb".into()], wait: true };
        let written = encode_line(&request);
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(Request::parse(&written), Ok(request));
        let ended = Ended { run: Some(7), outcome: "failed".into(), tags: TagCounts::default(), problem: None };
        for answer in [
            Answer::Entry { entry: "a".into(), said: Said::Queued },
            Answer::Entry { entry: "a".into(), said: Said::Ended(ended) },
            Answer::Entry { entry: "a".into(), said: Said::Unknown { error: "none".into() } },
            Answer::Refused { error: "no".into() },
        ] {
            assert_eq!(serde_json::from_slice::<Answer>(&encode_line(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn invalid_request_is_refused_with_a_reason() {
        let many = Request::Trigger { entries: vec![String::new(); 257], wait: false };
        for (line, expected) in [
            (&b"hello"[..], "cannot parse the request: expected value at line 1 column 1"),
            (b"{\"command\":\"erase\"}", "cannot parse the request: unknown variant `erase`"),
            (b"{\"command\":\"trigger\",\"entries\":[],\"wait\":false}", "the request names no entry"),
            (&encode_line(&many), "the request names 257 entries; at most 256 are allowed"),
        ] {
            let refused = Request::parse(line).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[tokio::test]
    async fn line_is_read_only_if_complete_and_within_bounds() {
        let mut two = &b"one\ntwo"[..];
        assert_eq!(read_line(&mut two).await.unwrap(), Some(b"one".to_vec()));
        assert_eq!(read_line(&mut two).await.unwrap_err().to_string(), "the line is incomplete");
        assert_eq!(read_line(&mut &b""[..]).await.unwrap(), None);
        let mut longest = vec![b'x'; LINE_AT_MOST];
        longest.push(b'\n');
        // The end of the line adds one byte.
        assert_eq!(read_line(&mut &longest[..]).await.unwrap().map(|line| line.len()), Some(LINE_AT_MOST));
        let endless = vec![b'x'; 2 * LINE_AT_MOST];
        let refused = read_line(&mut &endless[..]).await.unwrap_err();
        assert_eq!(refused.to_string(), "a line is longer than 65536 bytes");
    }
}
