//! Entry of `sync:`, its credentials and its name.

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

/// One item of `sync:`: source, targets, content, schedule and rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Name of the entry, unique in the file.
    pub name: EntryName,
    /// Endpoint to read from.
    pub source: Endpoint,
    /// Endpoints to write to: at least one, all different, none equal to the source.
    pub targets: Vec<Endpoint>,
    /// Credentials of this entry, instead of the credentials in the registries' own options.
    pub credentials: EntryCredentials,
    /// Selection of repositories of a source that is a tree. Default: all repositories.
    pub repositories: plan::RepositorySelection,
    /// Selection of tags. Default: all tags.
    pub selection: plan::Selection,
    /// Names of the tags at the targets. Default: the same names.
    pub names: plan::TagNames,
    /// Platforms of an index to copy; `None` copies all platforms, with the index verbatim.
    pub platforms: Option<Vec<Platform>>,
    /// True if the referrers of an image (signatures, SBOMs) are copied too. Default true.
    pub referrers: bool,
    /// Policy for layers that are available elsewhere: copy or skip them. Default skip.
    pub foreign_layers: plan::ForeignLayers,
    /// Schedule of automatic runs. Default never.
    pub schedule: Schedule,
    /// True if the entry also runs when the daemon starts. Default false.
    pub on_start: bool,
    /// Time zone of the schedule. Default UTC.
    pub timezone: chrono_tz::Tz,
    /// Maximum delay of a scheduled run, up to a day. Each entry has a fixed delay below this maximum. Default 0.
    pub jitter: Duration,
    /// Maximum duration of a run, after which the run is ended, 1 s to 7 days; `None` means no limit, the default.
    pub timeout: Option<Duration>,
    /// Policy for a tag that the target has with another digest. Default always.
    pub overwrite: plan::Overwrite,
    /// Receivers of notifications about this entry, in addition to those of the daemon. Default: none.
    pub notify: Vec<Notify>,
}

/// Credentials of one entry at its registries; `None` means the credentials in the registry's own options.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryCredentials {
    /// Credentials at the source's registry.
    pub source: Option<Credentials>,
    /// Credentials at the registry of the targets. With these credentials, all targets are at one registry.
    pub target: Option<Credentials>,
}

impl EntryCredentials {
    /// Returns the credentials that are set, source before target.
    pub fn both(&self) -> impl Iterator<Item = &Credentials> {
        self.source.iter().chain(&self.target)
    }
}

/// Name of an entry: up to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryName(Arc<str>);

/// Error: a text is not a valid [`EntryName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid name of an entry: write 1 to 64 letters, digits, `.`, `_` and `-`")]
pub struct EntryNameError(String);

impl EntryName {
    /// Returns a name that no entry of a configuration can have, for runs without an entry.
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
