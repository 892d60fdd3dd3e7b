//! Messages of the control socket: a request about one entry, and the replies to the request. Each reply is a line of
//! JSON.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::journal::TagCounts;
use crate::json_form;

/// Maximum length in bytes of a line in a reply.
const MAX_LINE: usize = 64 << 10;

/// Request of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name of the entry.
    pub entry: String,
    /// Action that the client requests.
    pub action: Action,
}

/// Reply to a request for the names of the entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryList {
    /// Names of all entries, in the order of the configuration.
    pub(super) entries: Vec<String>,
}

/// Action on an entry, with its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Starts a run of the entry now.
    Trigger(TriggerOptions),
    /// Pauses the entry. During the pause, no run of the entry starts automatically.
    Pause(PauseOptions),
    /// Ends the pause of the entry.
    Resume(ResumeOptions),
}

/// Options of [`Action::Trigger`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TriggerOptions {
    /// True to get a second reply at the end of the run. Default: false.
    pub wait: bool,
}

/// Options of [`Action::Pause`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PauseOptions {
    /// Time at which the pause ends automatically. If `None`, the pause lasts until a person resumes the entry.
    pub until: Option<DateTime<Utc>>,
}

/// Options of [`Action::Resume`]: none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResumeOptions {}

/// Reply to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// Reply about the entry.
    Entry {
        /// Name of the entry.
        entry: String,
        /// State or result of the entry.
        #[serde(flatten)]
        result: EntryResult,
    },
    /// The daemon refused the request before the daemon looked up the entry.
    Refused {
        /// Reason, in words.
        #[serde(rename = "reason")]
        error: String,
    },
}

/// Result of a request about one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum EntryResult {
    /// A run of the entry starts once a slot is free.
    Queued,
    /// A run of the entry already waits for its start.
    WaitsAlready,
    /// A run of the entry is already in progress.
    RunsAlready,
    /// The entry is paused now.
    Paused,
    /// The pause of the entry has ended.
    Resumed,
    /// The entry was not paused.
    NotPaused,
    /// The run has ended.
    Ended(RunResult),
    /// No entry has this name.
    Unknown {
        /// Error, with a remedy.
        #[serde(rename = "reason")]
        error: String,
    },
    /// The action cannot be executed now.
    Refused {
        /// Reason, with a remedy.
        #[serde(rename = "reason")]
        error: String,
    },
}

/// Result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// Number of the run in the journal; `None` if the journal did not record the run.
    pub run: Option<i64>,
    /// Outcome: `succeeded`, `failed`, `deferred`, `timed_out`, `interrupted`, or `already_running` if another
    /// process runs the entry.
    pub outcome: String,
    /// Number of tags per outcome.
    #[serde(rename = "counts")]
    pub tags: TagCounts,
    /// First problem of the run; empty if there is none.
    #[serde(rename = "problems", default, with = "json_form::one_as_list")]
    pub problem: Option<String>,
}

impl Action {
    /// Returns the word of the action, such as `trigger`. The route and the log use this word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Trigger(_) => "trigger",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
        }
    }

    /// Returns the options as the body of a request.
    pub(super) fn encode_options(&self) -> Vec<u8> {
        match self {
            Self::Trigger(options) => encode_line(options),
            Self::Pause(options) => encode_line(options),
            Self::Resume(options) => encode_line(options),
        }
    }
}

/// Returns a value as a line of JSON.
pub(super) fn encode_line(value: &impl Serialize) -> Vec<u8> {
    // Serialization fails only for maps with keys that are not strings. No message contains such a map.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Returns the next line without its line break. If the other side has closed the connection after the last line,
/// returns `None`.
///
/// # Errors
/// - The operating system's error.
/// - [`std::io::ErrorKind::InvalidData`] if the line is longer than 64 KiB ([`MAX_LINE`]).
/// - [`std::io::ErrorKind::UnexpectedEof`] if the connection ends before the line break.
pub(super) async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = reader.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok(Some(line));
    }
    let (kind, why) = if read > MAX_LINE {
        (std::io::ErrorKind::InvalidData, format!("a line is longer than {MAX_LINE} bytes"))
    } else {
        (std::io::ErrorKind::UnexpectedEof, "the line is incomplete".to_owned())
    };
    Err(std::io::Error::new(kind, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_single_lines_and_parse_back_unchanged() {
        let ended = RunResult { run: Some(7), outcome: "failed".into(), tags: TagCounts::default(), problem: None };
        for reply in [
            Reply::Entry { entry: "a\nb".into(), result: EntryResult::Queued },
            Reply::Entry { entry: "a".into(), result: EntryResult::Ended(ended) },
            Reply::Entry { entry: "a".into(), result: EntryResult::Unknown { error: "none".into() } },
            Reply::Refused { error: "no".into() },
        ] {
            let written = encode_line(&reply);
            assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Reply>(&written).unwrap(), reply);
        }
    }

    #[test]
    fn options_parse_back_unchanged_and_default_to_none() {
        let options = PauseOptions { until: Some("2026-11-21T19:15:00Z".parse().unwrap()) };
        let written = Action::Pause(options).encode_options();
        assert_eq!(written, b"{\"until\":\"2026-11-21T19:15:00Z\"}\n");
        assert_eq!(serde_json::from_slice::<PauseOptions>(&written).unwrap(), options);
        assert_eq!(serde_json::from_str::<TriggerOptions>("{}").unwrap(), TriggerOptions { wait: false });
        let unknown = serde_json::from_str::<ResumeOptions>("{\"wait\": true}").unwrap_err().to_string();
        assert!(unknown.starts_with("unknown field `wait`"), "{unknown}");
    }

    #[tokio::test]
    async fn line_is_read_only_if_complete_and_within_bounds() {
        let mut two = &b"one\ntwo"[..];
        assert_eq!(read_line(&mut two).await.unwrap(), Some(b"one".to_vec()));
        assert_eq!(read_line(&mut two).await.unwrap_err().to_string(), "the line is incomplete");
        assert_eq!(read_line(&mut &b""[..]).await.unwrap(), None);
        let mut longest = vec![b'x'; MAX_LINE];
        longest.push(b'\n');
        // The line break adds one byte.
        assert_eq!(read_line(&mut &longest[..]).await.unwrap().map(|line| line.len()), Some(MAX_LINE));
        let endless = vec![b'x'; 2 * MAX_LINE];
        let refused = read_line(&mut &endless[..]).await.unwrap_err();
        assert_eq!(refused.to_string(), "a line is longer than 65536 bytes");
    }
}
