//! Errors of operations on an endpoint. An error contains the place, the step, the subject, the kind and the detail.
//! The kind tells the caller how to continue.

use std::fmt;
use std::time::Duration;

/// Side of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The endpoint from which the content comes.
    Source,
    /// The endpoint that receives the content.
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

/// Operation on an endpoint. An error names the step that failed.
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
    /// Checking whether a blob exists.
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
    /// Replacing an archive file with its new version.
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

/// Wait before the next attempt, if an endpoint asks the client to wait and states no time.
const UNSTATED_WAIT: Duration = Duration::from_secs(60);

/// Kind of an error. The caller uses the kind to decide how to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The content does not exist.
    NotFound,
    /// Credentials are missing, wrong or insufficient.
    Denied,
    /// The endpoint asks the client to wait. The value is the time that the endpoint states, if any.
    Busy(Option<Duration>),
    /// The client has used up its read quota at the endpoint. The caller can try again after this time.
    QuotaSpent(Duration),
    /// The endpoint closed the connection cleanly before it processed the request. The caller can repeat the request at
    /// once.
    Unprocessed,
    /// The endpoint is unreachable, closed the connection, or failed internally (5xx). A later attempt can succeed.
    Unavailable,
    /// The endpoint rejected a manifest because the endpoint lacks content that the manifest lists.
    MissingContent,
    /// The bytes do not match their digest or size.
    Corrupt,
    /// The endpoint does not support the operation.
    Unsupported,
    /// The endpoint understood the request and rejected it permanently, for example because of a quota or an invalid
    /// name.
    Refused,
    /// The tag is locked or immutable at the endpoint, so no client can overwrite the tag.
    Locked,
    /// The client cannot interpret the response: invalid JSON, a truncated list, a header that violates the
    /// specification.
    Invalid,
}

/// Failed operation on an endpoint. The error prints as `PLACE: STEP SUBJECT: DETAIL`. The text never contains a secret
/// or the query of a URL.
#[derive(Debug, Clone)]
pub struct StoreError {
    /// The name of the endpoint, such as `ghcr.io/a/b`.
    pub place: String,
    /// The operation that failed.
    pub step: Step,
    /// The tag or digest of the operation. Empty if the operation concerns the whole repository.
    pub subject: String,
    /// The kind. The caller uses the kind to decide how to continue.
    pub kind: ErrorKind,
    /// The cause, as a phrase that begins with a lower-case letter.
    pub detail: String,
    /// True if all retries of the operation have failed, or the time for retries has ended. The same run does not
    /// repeat the operation.
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

    /// Returns the wait before the next attempt, if the kind is [`ErrorKind::QuotaSpent`]. Otherwise returns `None`.
    #[must_use]
    pub fn quota_spent(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::QuotaSpent(wait) => Some(wait),
            _ => None,
        }
    }

    /// Returns the wait before a later run repeats the operation. Returns `None` except in two cases:
    ///
    /// - The client has used up its read quota at the endpoint.
    /// - The endpoint throttled the client (429) until all retries had failed.
    #[must_use]
    pub fn deferral(&self) -> Option<Duration> {
        match self.kind {
            ErrorKind::QuotaSpent(wait) => Some(wait),
            ErrorKind::Busy(wait) if self.given_up => Some(wait.unwrap_or(UNSTATED_WAIT)),
            _ => None,
        }
    }

    /// Returns true if the same run can repeat the call: the error is transient, and the client has not used up its
    /// retries.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        self.is_transient() && !self.given_up
    }

    /// Returns true if the same call can succeed later although no person changes anything.
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
