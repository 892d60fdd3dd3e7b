//! Source that reads one repository through its mirrors. The source reads content with a known digest from the mirrors
//! first, and from the registry itself last. The source reads tags, lists and referrers only from the registry itself.

mod health;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

pub use super::options::mirror::{Mirror, MirrorError};
pub use health::MirrorHealth;

use super::Repository;
use crate::oci::{Descriptor, Digest, Digester, Manifest, ManifestRef, RepositoryName};
use crate::store::{ByteStream, ErrorKind, Listed, Referrers, Reservation, Scope, Source, Step, StoreError, TagEntry};

/// Source that reads one repository through its mirrors.
#[derive(Clone)]
pub struct Mirrored(Arc<Inner>);

struct Inner {
    origin: Repository,
    mirrors: Vec<(Mirror, Repository)>,
    health: Arc<MirrorHealth>,
}

impl Mirrored {
    /// Returns a source for `origin` with these mirrors, in the order of use. The caller passes the same `health` for
    /// all repositories.
    #[must_use]
    pub fn new(origin: Repository, mirrors: Vec<(Mirror, Repository)>, health: Arc<MirrorHealth>) -> Self {
        let mirrors = mirrors.into_iter().map(|(mirror, copy)| (mirror, copy.into_mirror())).collect();
        Self(Arc::new(Inner { origin, mirrors, health }))
    }

    async fn manifest_by_digest(&self, digest: Digest) -> Option<Manifest> {
        for (mirror, copy) in &self.0.mirrors {
            let health = &self.0.health;
            match health.try_mirror(mirror, copy.place(), &digest, copy.manifest(&digest.into())).await {
                Some(Ok(manifest)) => {
                    health.record_success(mirror, copy.place());
                    let (place, mirror) = (self.place(), copy.place());
                    tracing::debug!(place, mirror, manifest = %digest, "a mirror had the manifest");
                    return Some(manifest);
                }
                Some(Err(error)) => health.record_failure(mirror, copy.place(), &digest, &error),
                None => {}
            }
        }
        None
    }
}

impl fmt::Debug for Mirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrors = self.0.mirrors.iter().map(|(mirror, _)| mirror.to_string()).collect::<Vec<_>>();
        write!(f, "Mirrored({} by {})", self.0.origin.place(), mirrors.join(", "))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Source for Mirrored {
    fn place(&self) -> &str {
        self.0.origin.place()
    }

    fn scope(&self) -> Scope {
        self.0.origin.scope()
    }

    fn repository(&self) -> Option<&RepositoryName> {
        self.0.origin.repository()
    }

    fn identity(&self) -> String {
        self.0.origin.identity()
    }

    fn tags(&self) -> BoxStream<'_, Result<TagEntry, StoreError>> {
        self.0.origin.tags()
    }

    async fn resolve(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        self.0.origin.resolve(reference).await
    }

    async fn manifest(&self, reference: &ManifestRef) -> Result<Manifest, StoreError> {
        if let ManifestRef::Digest(digest) = reference
            && let Some(manifest) = self.manifest_by_digest(*digest).await
        {
            return Ok(manifest);
        }
        self.0.origin.manifest(reference).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        Reading::start(self.clone(), blob.clone(), offset).await
    }

    async fn blob_length(&self, blob: &Descriptor) -> Option<u64> {
        self.0.origin.blob_length(blob).await
    }

    async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, StoreError> {
        self.0.origin.referrers(subject, fallback).await
    }

    fn lists_digests(&self) -> bool {
        self.0.origin.lists_digests()
    }

    fn counts_manifest_reads(&self) -> bool {
        self.0.origin.counts_manifest_reads()
    }

    // The registry does not count reads from mirrors, so this source reserves no reads at the registry.
    fn manifest_reads_left(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    async fn wait_until_manifest_reads_known(&self) {}

    async fn reserve_manifest_reads(&self, _manifests: &[Digest]) -> Result<Reservation, StoreError> {
        Ok(None)
    }

    fn is_mirrored(&self) -> bool {
        true
    }
}

/// Read of one blob in progress. If the read from a mirror is interrupted, the next mirror or the registry continues at
/// the same byte.
struct Reading {
    source: Mirrored,
    blob: Descriptor,
    /// Offset of the next byte to read.
    offset: u64,
    /// Hash of the bytes so far. If the read began in the middle of the blob, `None`. The hash shows whether a mirror
    /// sent wrong bytes.
    digester: Option<Digester>,
    /// Indexes of the mirrors that returned some of the bytes, the latest last.
    used: Vec<usize>,
    /// Index of the next mirror to try.
    next: usize,
    /// Remaining bytes, from a mirror or from the registry.
    bytes: ByteStream,
    /// True if `bytes` comes from a mirror.
    from_mirror: bool,
}

impl Reading {
    async fn start(source: Mirrored, blob: Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        let digester = (offset == 0).then(|| Digester::like(&blob.digest));
        let bytes = stream::empty().boxed();
        let mut reading = Self { source, blob, offset, digester, used: Vec::new(), next: 0, bytes, from_mirror: false };
        reading.open_next().await?;
        if !reading.from_mirror {
            return Ok(reading.bytes);
        }
        // After an error, the state is `None`, and the stream ends.
        let pieces = stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.next_piece().await? {
                Ok(piece) => Some((Ok(piece), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(pieces.boxed())
    }

    /// Starts the read at the next mirror that returns the blob, or else at the registry.
    async fn open_next(&mut self) -> Result<(), StoreError> {
        let Inner { origin, mirrors, health } = &*self.source.0;
        while let Some((mirror, copy)) = mirrors.get(self.next) {
            let index = self.next;
            self.next += 1;
            match health.try_mirror(mirror, copy.place(), &self.blob.digest, copy.blob(&self.blob, self.offset)).await {
                Some(Ok(bytes)) => {
                    let (blob, offset, place, mirror) = (self.blob.digest, self.offset, origin.place(), copy.place());
                    tracing::debug!(place, mirror, %blob, offset, "a mirror has the blob");
                    self.used.push(index);
                    (self.bytes, self.from_mirror) = (bytes, true);
                    return Ok(());
                }
                Some(Err(error)) => health.record_failure(mirror, copy.place(), &self.blob.digest, &error),
                None => {}
            }
        }
        (self.bytes, self.from_mirror) = (origin.blob(&self.blob, self.offset).await?, false);
        Ok(())
    }

    async fn next_piece(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            let failure = match self.bytes.next().await {
                Some(Ok(piece)) => return Some(self.check_piece(piece)),
                Some(Err(error)) if self.from_mirror => error,
                None if self.from_mirror && self.offset < self.blob.size => {
                    let short = format!("the stream ended after {} of {} bytes", self.offset, self.blob.size);
                    self.error(ErrorKind::Unavailable, short)
                }
                other => return other,
            };
            self.record_failure(&failure);
            if let Err(error) = self.open_next().await {
                return Some(Err(error));
            }
        }
    }

    /// Counts and hashes a piece, and returns the piece.
    ///
    /// # Errors
    /// Returns an error for a piece beyond the size of the blob, and for the last piece if the digest is wrong.
    fn check_piece(&mut self, piece: Bytes) -> Result<Bytes, StoreError> {
        self.offset += piece.len() as u64;
        if self.offset > self.blob.size {
            return Err(
                self.wrong_bytes_error(format!("received more than the {} bytes of the descriptor", self.blob.size))
            );
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&piece);
        }
        if self.offset == self.blob.size
            && let Some(actual) = self.digester.take().map(Digester::finish)
            && actual != self.blob.digest
        {
            return Err(self.wrong_bytes_error(format!("the bytes hash to {actual}")));
        }
        if self.from_mirror
            && self.offset == self.blob.size
            && let Some((mirror, copy)) = self.current_mirror()
        {
            self.source.0.health.record_success(mirror, copy.place());
        }
        Ok(piece)
    }

    /// Creates the error for wrong bytes, and records the wrong digest for each mirror that returned some of the bytes.
    fn wrong_bytes_error(&mut self, detail: String) -> StoreError {
        let error = self.error(ErrorKind::Corrupt, detail);
        let Inner { mirrors, health, .. } = &*self.source.0;
        for (mirror, copy) in self.used.drain(..).filter_map(|index| mirrors.get(index)) {
            health.record_failure(mirror, copy.place(), &self.blob.digest, &error);
        }
        error
    }

    fn record_failure(&self, error: &StoreError) {
        if let Some((mirror, copy)) = self.current_mirror() {
            self.source.0.health.record_failure(mirror, copy.place(), &self.blob.digest, error);
        }
    }

    /// Returns the latest mirror that returned bytes, if any.
    fn current_mirror(&self) -> Option<&(Mirror, Repository)> {
        self.source.0.mirrors.get(*self.used.last()?)
    }

    /// Creates an error. The error names the latest mirror that returned bytes, or else the registry.
    fn error(&self, kind: ErrorKind, detail: String) -> StoreError {
        let place = self.current_mirror().map_or(self.source.place(), |(_, copy)| copy.place());
        StoreError::new(place, Step::ReadBlob, self.blob.digest, kind, detail)
    }
}
