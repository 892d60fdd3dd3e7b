//! A repository with mirrors, as one source: what is addressed by its digest is read from the mirrors first and from the
//! registry itself last; tags, lists and referrers are asked of the registry alone. How long a mirror that failed is left
//! alone is for `health.rs`, what a mirror is called for `options.rs`.

mod health;
mod options;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

pub use health::MirrorHealth;
pub use options::{Mirror, MirrorError};

use super::Repository;
use crate::oci::{Descriptor, Digest, Digester, Manifest, ManifestRef, RepositoryName};
use crate::store::{ByteStream, ErrorKind, Listed, Referrers, Reservation, Scope, Source, Step, StoreError, TagEntry};

/// A repository that is read by way of its mirrors.
#[derive(Clone)]
pub struct Mirrored(Arc<Inner>);

struct Inner {
    origin: Repository,
    mirrors: Vec<(Mirror, Repository)>,
    health: Arc<MirrorHealth>,
}

impl Mirrored {
    /// `origin` with these repositories that mirror it, in the order in which they are asked. `health` is shared by all that
    /// have mirrors.
    #[must_use]
    pub fn new(origin: Repository, mirrors: Vec<(Mirror, Repository)>, health: Arc<MirrorHealth>) -> Self {
        let mirrors = mirrors.into_iter().map(|(mirror, copy)| (mirror, copy.standing_in())).collect();
        Self(Arc::new(Inner { origin, mirrors, health }))
    }

    async fn manifest_by_digest(&self, digest: Digest) -> Option<Manifest> {
        for (mirror, copy) in &self.0.mirrors {
            let health = &self.0.health;
            match health.ask(mirror, copy.place(), &digest, copy.manifest(&digest.into())).await {
                Some(Ok(manifest)) => {
                    health.served(mirror, copy.place());
                    tracing::debug!(place = self.place(), mirror = copy.place(), manifest = %digest, "a mirror had the manifest");
                    return Some(manifest);
                }
                Some(Err(error)) => health.failed(mirror, copy.place(), &digest, &error),
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
        Reading::begin(self.clone(), blob.clone(), offset).await
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

    // What mirrors have costs the registry nothing, so nothing is set aside there; what they lack is counted as it is read.
    fn manifest_reads_left(&self) -> Option<u64> {
        Some(u64::MAX)
    }

    async fn knows_manifest_reads(&self) {}

    async fn reserve_manifest_reads(&self, _manifests: &[Digest]) -> Result<Reservation, StoreError> {
        Ok(None)
    }

    fn is_mirrored(&self) -> bool {
        true
    }
}

/// A blob that is being read. Where one breaks off the next one goes on at the same byte.
struct Reading {
    source: Mirrored,
    blob: Descriptor,
    /// Where the next byte is.
    at: u64,
    /// Of the bytes so far, where they are all known: the target hashes them too, but cannot tell who gave them.
    digester: Option<Digester>,
    /// Mirrors that gave some of the bytes.
    gave: Vec<usize>,
    /// The first mirror that was not asked yet.
    next: usize,
    from: ByteStream,
    from_mirror: bool,
}

impl Reading {
    async fn begin(source: Mirrored, blob: Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        let digester = (offset == 0).then(|| Digester::like(&blob.digest));
        let from = stream::empty().boxed();
        let mut reading =
            Self { source, blob, at: offset, digester, gave: Vec::new(), next: 0, from, from_mirror: false };
        reading.open().await?;
        if !reading.from_mirror {
            return Ok(reading.from);
        }
        // `None` after an error: the stream has ended.
        let pieces = stream::unfold(Some(reading), |reading| async {
            let mut reading = reading?;
            match reading.piece().await? {
                Ok(piece) => Some((Ok(piece), Some(reading))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(pieces.boxed())
    }

    /// Opens what has not been asked yet: the next mirror that gives the blob, else the registry.
    async fn open(&mut self) -> Result<(), StoreError> {
        let Inner { origin, mirrors, health } = &*self.source.0;
        while let Some((mirror, copy)) = mirrors.get(self.next) {
            let at = self.next;
            self.next += 1;
            match health.ask(mirror, copy.place(), &self.blob.digest, copy.blob(&self.blob, self.at)).await {
                Some(Ok(bytes)) => {
                    let (blob, offset) = (self.blob.digest, self.at);
                    tracing::debug!(place = origin.place(), mirror = copy.place(), %blob, offset, "a mirror has the blob");
                    self.gave.push(at);
                    (self.from, self.from_mirror) = (bytes, true);
                    return Ok(());
                }
                Some(Err(error)) => health.failed(mirror, copy.place(), &self.blob.digest, &error),
                None => {}
            }
        }
        (self.from, self.from_mirror) = (origin.blob(&self.blob, self.at).await?, false);
        Ok(())
    }

    async fn piece(&mut self) -> Option<Result<Bytes, StoreError>> {
        loop {
            let broken = match self.from.next().await {
                Some(Ok(piece)) => return Some(self.take_in(piece)),
                Some(Err(error)) if self.from_mirror => error,
                None if self.from_mirror && self.at < self.blob.size => {
                    let short = format!("it ended after {} of {} bytes", self.at, self.blob.size);
                    self.error(ErrorKind::Unavailable, short)
                }
                other => return other,
            };
            self.blame(&broken);
            if let Err(error) = self.open().await {
                return Some(Err(error));
            }
        }
    }

    /// Counts and hashes a piece. The last one of wrong bytes becomes an error.
    fn take_in(&mut self, piece: Bytes) -> Result<Bytes, StoreError> {
        self.at += piece.len() as u64;
        if self.at > self.blob.size {
            return Err(self.wrong(format!("more than the {} bytes of its descriptor", self.blob.size)));
        }
        if let Some(digester) = &mut self.digester {
            digester.update(&piece);
        }
        if self.at == self.blob.size
            && let Some(actual) = self.digester.take().map(Digester::finish)
            && actual != self.blob.digest
        {
            return Err(self.wrong(format!("the bytes hash to {actual}")));
        }
        if self.from_mirror
            && self.at == self.blob.size
            && let Some((mirror, copy)) = self.giver()
        {
            self.source.0.health.served(mirror, copy.place());
        }
        Ok(piece)
    }

    /// Whoever gave some of wrong bytes is not asked for them again.
    fn wrong(&mut self, detail: String) -> StoreError {
        let error = self.error(ErrorKind::Corrupt, detail);
        let Inner { mirrors, health, .. } = &*self.source.0;
        for (mirror, copy) in self.gave.drain(..).filter_map(|at| mirrors.get(at)) {
            health.failed(mirror, copy.place(), &self.blob.digest, &error);
        }
        error
    }

    fn blame(&self, error: &StoreError) {
        if let Some((mirror, copy)) = self.giver() {
            self.source.0.health.failed(mirror, copy.place(), &self.blob.digest, error);
        }
    }

    /// The mirror that is being read, or was last.
    fn giver(&self) -> Option<&(Mirror, Repository)> {
        self.source.0.mirrors.get(*self.gave.last()?)
    }

    /// An error at the mirror that is being read.
    fn error(&self, kind: ErrorKind, detail: String) -> StoreError {
        let place = self.giver().map_or(self.source.place(), |(_, copy)| copy.place());
        StoreError::new(place, Step::ReadBlob, self.blob.digest, kind, detail)
    }
}
