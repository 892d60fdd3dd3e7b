//! Errors of a copy, each with the failed side, the failed step and the affected content.

use std::time::Duration;

use crate::oci::{Digest, ManifestError};
use crate::store::{ErrorKind, Side, Step, StoreError};

/// Error of the copy of a digest to one target. The copy did not change the target's tag.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// An endpoint failed.
    #[error("{side} {error}")]
    Store {
        /// Side of the copy that failed.
        side: Side,
        /// Error of that side.
        error: StoreError,
    },
    /// A manifest of the closure cannot be copied.
    #[error("source {place}: manifest {digest}: {reason}")]
    Manifest {
        /// The source repository.
        place: String,
        /// The manifest.
        digest: Digest,
        /// Reason why the manifest cannot be copied.
        reason: String,
    },
    /// Indexes and referrers are nested more deeply than the limit.
    #[error("source {place}: manifest {digest}: nested deeper than {depth} levels")]
    TooDeep {
        /// The source repository.
        place: String,
        /// The manifest at which the limit was exceeded.
        digest: Digest,
        /// The limit.
        depth: usize,
    },
    /// The index has no child for any requested platform.
    #[error("source {place}: manifest {digest}: no child runs on {wanted}; the index has {available}")]
    NoPlatform {
        /// The source repository.
        place: String,
        /// The index.
        digest: Digest,
        /// The requested platforms.
        wanted: Box<str>,
        /// The platforms that the index has.
        available: Box<str>,
    },
    /// The ledger could not record the intent to write the tag, so the copy did not write the tag.
    #[error("target {place}: {subject} was not written, because its evidence cannot be recorded: {reason}")]
    Unrecorded {
        /// The target repository.
        place: String,
        /// The tag, or the digest if there is no tag.
        subject: String,
        /// Reason why the intent cannot be recorded.
        reason: String,
    },
    /// The copy was interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl CopyError {
    pub(super) fn source(error: StoreError) -> Self {
        Self::Store { side: Side::Source, error }
    }

    pub(super) fn target(error: StoreError) -> Self {
        Self::Store { side: Side::Target, error }
    }

    /// Converts the error of an upload. If the upload could not read the bytes or the bytes were wrong, the failed side
    /// is the source. Otherwise, the failed side is the target.
    pub(super) fn upload(error: StoreError) -> Self {
        if error.step == Step::ReadBlob { Self::source(error) } else { Self::target(error) }
    }

    pub(super) fn manifest(place: &str, digest: Digest, error: &ManifestError) -> Self {
        Self::Manifest { place: place.to_owned(), digest, reason: error.to_string() }
    }

    /// Returns the side that failed. Returns `None` for [`Self::Interrupted`] and [`Self::Unrecorded`].
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        match self {
            Self::Store { side, .. } => Some(*side),
            Self::Manifest { .. } | Self::TooDeep { .. } | Self::NoPlatform { .. } => Some(Side::Source),
            Self::Unrecorded { .. } | Self::Interrupted => None,
        }
    }

    /// Returns the step that failed. Returns `None` for [`Self::Interrupted`] and [`Self::Unrecorded`].
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Store { error, .. } => Some(error.step),
            Self::Manifest { .. } | Self::TooDeep { .. } | Self::NoPlatform { .. } => Some(Step::ReadManifest),
            Self::Unrecorded { .. } | Self::Interrupted => None,
        }
    }

    /// Returns the digest or tag of the failed step.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::Store { error, .. } => Some(error.subject.clone()).filter(|subject| !subject.is_empty()),
            Self::Manifest { digest, .. } | Self::TooDeep { digest, .. } | Self::NoPlatform { digest, .. } => {
                Some(digest.to_string())
            }
            Self::Unrecorded { subject, .. } => Some(subject.clone()),
            Self::Interrupted => None,
        }
    }

    /// Returns the wait before the next run tries the copy again (see [`StoreError::deferral`]).
    #[must_use]
    pub fn deferral(&self) -> Option<Duration> {
        match self {
            Self::Store { error, .. } => error.deferral(),
            _ => None,
        }
    }

    /// Returns true if the error ends the whole copy, even if the affected manifest is optional:
    /// - a pull quota is used up,
    /// - the copy was interrupted,
    /// - the ledger could not record an intent.
    pub(super) fn ends_all(&self) -> bool {
        let is_quota = matches!(self, Self::Store { error, .. } if error.quota_spent().is_some());
        is_quota || matches!(self, Self::Interrupted | Self::Unrecorded { .. })
    }

    /// Returns true if the target has locked the tag.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Store { side: Side::Target, error } if error.kind == ErrorKind::Locked)
    }

    pub(super) fn is_missing_content(&self) -> bool {
        matches!(self, Self::Store { error, .. } if error.kind == ErrorKind::MissingContent)
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Store { error, .. } if error.kind == ErrorKind::NotFound)
    }

    pub(super) fn is_corrupt(&self) -> bool {
        matches!(self, Self::Store { side: Side::Source, error } if error.kind == ErrorKind::Corrupt)
    }

    /// Returns true if the target rejected the request and would reject the same request again.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Store { side: Side::Target, error } if !error.is_transient())
    }

    /// Returns true if the endpoint ended the connection before it processed the request. The request had no effect.
    pub(super) fn was_not_taken(&self) -> bool {
        matches!(self, Self::Store { error, .. } if error.kind == ErrorKind::Unprocessed)
    }

    /// Returns true if the caller can repeat the same request at once.
    pub(super) fn may_be_repeated(&self) -> bool {
        matches!(self, Self::Store { error, .. } if error.may_be_repeated())
    }
}
