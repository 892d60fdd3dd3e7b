//! What goes wrong at an endpoint, told by where, doing what, with which content, and what can be done.

use std::fmt;
use std::time::Duration;

/// Which end of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where the content comes from.
    Source,
    /// Where it goes to.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Reaching the endpoint and proving who we are.
    Connect,
    /// Listing the repositories of a registry.
    ListRepositories,
    /// Listing tags.
    ListTags,
    /// Asking what a tag or digest stands for.
    Resolve,
    /// Reading a manifest.
    ReadManifest,
    /// Reading a blob.
    ReadBlob,
    /// Listing referrers.
    ListReferrers,
    /// Asking whether a blob is there.
    FindBlob,
    /// Opening an upload or mounting.
    BeginUpload,
    /// Sending a blob's bytes.
    SendBlob,
    /// Committing a blob.
    CommitBlob,
    /// Writing a manifest.
    WriteManifest,
    /// Writing the list of referrers under the fallback tag.
    LinkReferrers,
    /// Deleting.
    Delete,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::ListRepositories => "listing repositories",
            Self::ListTags => "listing tags",
            Self::Resolve => "resolving",
            Self::ReadManifest => "reading manifest",
            Self::ReadBlob => "reading blob",
            Self::ListReferrers => "listing referrers of",
            Self::FindBlob => "looking for blob",
            Self::BeginUpload => "opening an upload of blob",
            Self::SendBlob => "sending blob",
            Self::CommitBlob => "committing blob",
            Self::WriteManifest => "writing manifest",
            Self::LinkReferrers => "writing the referrers list of",
            Self::Delete => "deleting",
        })
    }
}

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It is not there.
    NotFound,
    /// Credentials are missing, wrong or not enough.
    Denied,
    /// The endpoint asks for patience; perhaps it says how long.
    Busy(Option<Duration>),
    /// The endpoint counts what is read, and as much as is allowed has been. To be looked at again after this time.
    QuotaSpent(Duration),
    /// The endpoint ended the connection in good order before it looked at the request. It can be made again at once.
    NotTaken,
    /// The endpoint cannot be reached, broke off or failed on its own (5xx). It may work later.
    Unavailable,
    /// A manifest was refused because something that it points at is not there.
    MissingContent,
    /// The bytes are not what their digest or size says.
    Corrupt,
    /// The endpoint does not do this at all.
    Unsupported,
    /// The endpoint understood and said no, for good: an immutable tag, a quota, a bad name.
    Refused,
    /// The endpoint lets nobody write this tag: it is locked or immutable there.
    Locked,
    /// The answer cannot be understood: broken JSON, a truncated list, a header against the specification.
    Invalid,
}

/// An operation on an endpoint that failed. Prints as
/// `PLACE: STEP SUBJECT: DETAIL`, and never holds a secret or a URL's query.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// The endpoint, as people write it.
    pub place: String,
    /// What was being done.
    pub step: Step,
    /// The tag or digest that it was done with; empty where it is the repository as a whole.
    pub subject: String,
    /// What can be done about it.
    pub kind: ErrorKind,
    /// What happened, as a lower-case fragment.
    pub detail: String,
}

impl StoreError {
    /// An error at `place`.
    pub fn new(
        place: &str,
        step: Step,
        subject: impl fmt::Display,
        kind: ErrorKind,
        detail: impl fmt::Display,
    ) -> Self {
        Self { place: place.to_owned(), step, subject: subject.to_string(), kind, detail: detail.to_string() }
    }

    /// How long to wait before it is tried again, where it is [`ErrorKind::QuotaSpent`].
    #[must_use]
    pub fn quota_spent(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::QuotaSpent(wait) => Some(wait),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anything being changed by a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy(_) | ErrorKind::NotTaken | ErrorKind::Unavailable)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.step)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_place_step_subject_and_cause() {
        let error =
            StoreError::new("ghcr.io/a/b", Step::Resolve, "v1", ErrorKind::Denied, "pull access is not granted");
        assert_eq!(error.to_string(), "ghcr.io/a/b: resolving v1: pull access is not granted");
        let error = StoreError::new("ghcr.io/a/b", Step::ListTags, "", ErrorKind::Unavailable, "connection refused");
        assert_eq!(error.to_string(), "ghcr.io/a/b: listing tags: connection refused");
    }
}
