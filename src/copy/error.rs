//! Why a digest did not arrive: which side, doing what, with which content.

use std::time::Duration;

use crate::oci::{Digest, ManifestError};
use crate::store::{ErrorKind, Side, Step, StoreError};

/// Why a digest did not arrive at one target. The target's tag is as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CopyError {
    /// An endpoint failed.
    #[error("{side} {error}")]
    Store {
        /// Which end of the copy it was.
        side: Side,
        /// What failed there.
        error: StoreError,
    },
    /// A manifest of the closure cannot be copied.
    #[error("source {place}: manifest {digest}: {reason}")]
    Manifest {
        /// The source repository.
        place: String,
        /// The manifest.
        digest: Digest,
        /// Why not.
        reason: String,
    },
    /// Indexes and referrers are nested deeper than is credible.
    #[error("source {place}: manifest {digest}: nested deeper than {depth} levels")]
    TooDeep {
        /// The source repository.
        place: String,
        /// The manifest at which the limit was passed.
        digest: Digest,
        /// The limit.
        depth: usize,
    },
    /// The index has no child for any platform that is asked for.
    #[error("source {place}: manifest {digest}: no child runs on {wanted}")]
    NoPlatform {
        /// The source repository.
        place: String,
        /// The index.
        digest: Digest,
        /// The platforms that were asked for.
        wanted: String,
    },
    /// Nowhere can it be recorded that the tag is about to be written, so it is not written.
    #[error("target {place}: {subject} is left as it was, for its evidence cannot be recorded: {reason}")]
    Unrecorded {
        /// The target repository.
        place: String,
        /// The tag, or the digest where there is none.
        subject: String,
        /// Why it cannot be recorded.
        reason: String,
    },
    /// The copy was told to stop.
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

    /// An upload's error, which is the source's own where the bytes could not be read or were wrong.
    pub(super) fn upload(error: StoreError) -> Self {
        if error.step == Step::ReadBlob { Self::source(error) } else { Self::target(error) }
    }

    pub(super) fn manifest(place: &str, digest: Digest, error: &ManifestError) -> Self {
        Self::Manifest { place: place.to_owned(), digest, reason: error.to_string() }
    }

    /// The side that failed; an interruption is nobody's, nor is a record that cannot be written.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        match self {
            Self::Store { side, .. } => Some(*side),
            Self::Manifest { .. } | Self::TooDeep { .. } | Self::NoPlatform { .. } => Some(Side::Source),
            Self::Unrecorded { .. } | Self::Interrupted => None,
        }
    }

    /// What was being done.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Store { error, .. } => Some(error.step),
            Self::Manifest { .. } | Self::TooDeep { .. } | Self::NoPlatform { .. } => Some(Step::ReadManifest),
            Self::Unrecorded { .. } | Self::Interrupted => None,
        }
    }

    /// The digest or tag that it was done with.
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

    /// How long to wait before the next run looks at it again: see [`StoreError::deferral`].
    #[must_use]
    pub fn deferral(&self) -> Option<Duration> {
        match self {
            Self::Store { error, .. } => error.deferral(),
            _ => None,
        }
    }

    /// Whether nothing of this source can be read for now, or nothing more is to be done: it concerns more than one manifest.
    pub(super) fn ends_all(&self) -> bool {
        let is_quota = matches!(self, Self::Store { error, .. } if error.quota_spent().is_some());
        is_quota || matches!(self, Self::Interrupted | Self::Unrecorded { .. })
    }

    /// Whether the target lets nobody write the tag.
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

    /// Whether the target said no, and will say so again.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Store { side: Side::Target, error } if !error.is_transient())
    }

    /// True if the endpoint ended the connection before it looked at the request: nothing is wrong, and nothing was
    /// done.
    pub(super) fn was_not_taken(&self) -> bool {
        matches!(self, Self::Store { error, .. } if error.kind == ErrorKind::NotTaken)
    }

    /// Whether the same may be tried again at once.
    pub(super) fn may_be_repeated(&self) -> bool {
        matches!(self, Self::Store { error, .. } if error.may_be_repeated())
    }
}
