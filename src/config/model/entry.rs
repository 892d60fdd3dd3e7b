//! Entry of `sync`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::notify::Notify;
use crate::oci::Platform;
use crate::plan;
use crate::registry::Credentials;
use crate::schedule::Schedule;

/// Entry of `sync`: source, targets, selected content, schedule and rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Unique name.
    pub name: EntryName,
    /// Endpoint from which runs copy.
    pub source: Endpoint,
    /// Endpoints to which runs copy. The list has at least one endpoint, no duplicates, and does not contain the
    /// source.
    pub targets: Vec<Endpoint>,
    /// Credentials that replace the credentials of the registries for this entry.
    pub credentials: EntryCredentials,
    /// Selection of repositories in a source tree. Default: all repositories.
    pub repositories: plan::RepositorySelection,
    /// Selection of tags. Default: all tags.
    pub selection: plan::Selection,
    /// Names of the tags at the targets. Default: the names at the source.
    pub names: plan::TagNames,
    /// Platforms to which an index is reduced. `None` means that the index is copied unchanged, with all platforms.
    pub platforms: Option<Vec<Platform>>,
    /// True if runs also copy referrers, such as signatures and SBOMs. Default true.
    pub referrers: bool,
    /// Rule for layers with external URLs: copy or skip. Default skip.
    pub foreign_layers: plan::ForeignLayers,
    /// Schedule of the runs. Default: never.
    pub schedule: Schedule,
    /// True if the daemon also runs the entry when the daemon starts. Default false.
    pub on_start: bool,
    /// Time zone of the schedule. Default UTC.
    pub timezone: chrono_tz::Tz,
    /// Maximum delay of scheduled runs, up to one day. Each entry has a constant delay. Default 0.
    pub jitter: Duration,
    /// Maximum duration of a run, 1 s to 7 days. `None` means no limit. Default: no limit.
    pub timeout: Option<Duration>,
    /// Rule for a tag that has a different digest at the target. Default: always overwrite.
    pub overwrite: plan::Overwrite,
    /// Receivers of notifications about this entry, in addition to the receivers of the daemon. Default: none.
    pub notify: Vec<Notify>,
}

/// Credentials of one entry. `None` means the credentials of the registry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryCredentials {
    /// Credentials at the source registry.
    pub source: Option<Credentials>,
    /// Credentials at the target registry. If set, all targets are at the same registry.
    pub target: Option<Credentials>,
}

impl EntryCredentials {
    /// Returns the credentials of the source and of the target, if set.
    pub fn both(&self) -> impl Iterator<Item = &Credentials> {
        self.source.iter().chain(&self.target)
    }
}

/// Name of an entry: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Arc<str>);

/// Error for a text that is not a valid [`EntryName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid name of an entry: write 1 to 64 letters, digits, `.`, `_` and `-`")]
pub struct EntryNameError(String);

impl EntryName {
    /// Creates the name of a run without an entry. The name is not a valid entry name, so no entry can have the name.
    #[must_use]
    pub fn reserved(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_err(), "an entry could have the name {name}");
        Self(name.into())
    }

    /// Returns the text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryName {
    type Err = EntryNameError;

    fn from_str(text: &str) -> Result<Self, EntryNameError> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if good { Ok(Self(text.into())) } else { Err(EntryNameError(text.to_owned())) }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for EntryName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
