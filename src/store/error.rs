//! Error of an operation on an endpoint: place, step, subject, detail, and the kind, by which the caller decides how to
//! continue.

use std::fmt;
use std::time::Duration;

/// Side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The endpoint that the content comes from.
    Source,
    /// The endpoint that the content goes to.
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

/// Operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Connecting to the endpoint and authenticating.
    Connect,
    /// Listing the repositories of a registry.
    ListRepositories,
    /// Listing tags.
    ListTags,
    /// Resolving a tag or digest to its descriptor.
    Resolve,
    /// Reading a manifest.
    ReadManifest,
    /// Reading a blob.
    ReadBlob,
    /// Listing referrers.
    ListReferrers,
    /// Checking for a blob.
    FindBlob,
    /// Starting an upload or mounting a blob.
    BeginUpload,
    /// Sending a blob's bytes.
    SendBlob,
    /// Committing a blob.
    CommitBlob,
    /// Writing a manifest.
    WriteManifest,
    /// Writing the list of referrers under the fallback tag.
    LinkReferrers,
    /// Deleting a tag or a manifest.
    Delete,
    /// Replacing an archive by its new file.
    PublishArchive,
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
            Self::PublishArchive => "completing the archive",
        })
    }
}

/// Wait before the next attempt if an endpoint asks the client to wait and states no time.
const UNSTATED_WAIT: Duration = Duration::from_secs(60);

/// Kind of an error, by which the caller decides how to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The content does not exist.
    NotFound,
    /// Credentials are missing, wrong or insufficient.
    Denied,
    /// The endpoint asks the client to wait, for this time if the endpoint states one.
    Busy(Option<Duration>),
    /// The endpoint's read quota is used up. The caller may try again after this time.
    QuotaSpent(Duration),
    /// The endpoint closed the connection cleanly before it processed the request. The request can be repeated at once.
    Unprocessed,
    /// The endpoint is unreachable, closed the connection or has an internal failure (5xx). A later attempt may
    /// succeed.
    Unavailable,
    /// The endpoint rejected a manifest because content that the manifest lists is missing.
    MissingContent,
    /// The bytes do not match their digest or size.
    Corrupt,
    /// The endpoint does not support the operation.
    Unsupported,
    /// The endpoint understood the request and rejected it permanently: an immutable tag, a quota, an invalid name.
    Refused,
    /// The tag is locked or immutable at the endpoint, so no client may write it.
    Locked,
    /// The response cannot be interpreted: invalid JSON, a truncated list, a header that violates the specification.
    Invalid,
}

/// Failed operation on an endpoint. Prints as `PLACE: STEP SUBJECT: DETAIL`, and never contains a secret or a URL's
/// query.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// The name of the endpoint, in the form that people write.
    pub place: String,
    /// The operation that failed.
    pub step: Step,
    /// The tag or digest of the operation; empty for the repository as a whole.
    pub subject: String,
    /// The kind, by which the caller decides how to continue.
    pub kind: ErrorKind,
    /// The cause, as a lower-case fragment.
    pub detail: String,
    /// True if the retries of the operation are exhausted, by number or by time. The same run does not repeat the
    /// operation.
    pub given_up: bool,
}

impl StoreError {
    /// Creates an error at `place`.
    pub fn new(
        place: &str,
        step: Step,
        subject: impl fmt::Display,
        kind: ErrorKind,
        detail: impl fmt::Display,
    ) -> Self {
        let (place, subject, detail) = (place.to_owned(), subject.to_string(), detail.to_string());
        Self { place, step, subject, kind, detail, given_up: false }
    }

    /// Marks the error as given up: see [`StoreError::given_up`].
    #[must_use]
    pub fn mark_given_up(self) -> Self {
        Self { given_up: true, ..self }
    }

    /// Returns the wait before the next attempt if the error is [`ErrorKind::QuotaSpent`].
    #[must_use]
    pub fn quota_spent(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::QuotaSpent(wait) => Some(wait),
            _ => None,
        }
    }

    /// Returns the wait before the next run tries again. `None` except in two cases: the endpoint's read quota is used
    /// up, or the endpoint throttled the client (429) until the retries were exhausted.
    #[must_use]
    pub fn deferral(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::QuotaSpent(wait) => Some(wait),
            ErrorKind::Busy(wait) if self.given_up => Some(wait.unwrap_or(UNSTATED_WAIT)),
            _ => None,
        }
    }

    /// Returns true if the caller may repeat the call at once: the call may succeed, and its retries are not exhausted.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        self.is_transient() && !self.given_up
    }

    /// Returns true if the same call may succeed later without any change by a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Busy(_) | ErrorKind::Unprocessed | ErrorKind::Unavailable)
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
    fn store_error_names_place_step_subject_and_cause() {
        let error =
            StoreError::new("ghcr.io/a/b", Step::Resolve, "v1", ErrorKind::Denied, "pull access is not granted");
        assert_eq!(error.to_string(), "ghcr.io/a/b: resolving v1: pull access is not granted");
        let error = StoreError::new("ghcr.io/a/b", Step::ListTags, "", ErrorKind::Unavailable, "connection refused");
        assert_eq!(error.to_string(), "ghcr.io/a/b: listing tags: connection refused");
    }
}
