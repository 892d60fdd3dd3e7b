//! Records of the tags that a delivery writes. Before the write of a tag, the delivery records an intent in the ledger.
//! After the write, the delivery reports an [`Arrival`], which describes the written tag. The delivery records these
//! tags:
//! - the tag of the copy job,
//! - the tags of signatures,
//! - the tag that keeps the previous content of the job's tag,
//! - the tags of lists of referrers.

use chrono::Utc;

use super::Delivery;
use crate::copy::batch::{CopyJob, Previous};
use crate::copy::closure::Closure;
use crate::copy::event::{Arrival, ArrivalKind, BlobCounts, BlobOutcome, Event};
use crate::copy::manifest_cache::Node;
use crate::copy::{CopyError, Ledger};
use crate::oci::{Digest, Manifest, MediaType, Tag, referrers_tag};
use crate::store::Referrers;

/// Adds the size of the manifest of `node` to the bytes of the arrival.
pub(super) fn with_manifest(arrival: Arrival, node: &Node) -> Arrival {
    Arrival { bytes: arrival.bytes + node.manifest.bytes().len() as u64, ..arrival }
}

impl Delivery {
    /// Records the intent to write a tag. `arrival` describes the write. If this method returns an error, the caller
    /// must not write the tag.
    pub(super) async fn record_intent(&self, ledger: Option<&dyn Ledger>, arrival: &Arrival) -> Result<(), CopyError> {
        let Some(ledger) = ledger else { return Ok(()) };
        ledger.intend(arrival).await.map_err(|reason| CopyError::Unrecorded {
            place: arrival.target.clone(),
            subject: arrival.tag.as_ref().map_or_else(|| arrival.digest.to_string(), ToString::to_string),
            reason,
        })
    }

    /// Writes the previous content of the job's tag under the tag `under`. The caller then overwrites the job's tag.
    pub(super) async fn keep_previous(&self, job: &CopyJob, previous: Digest, under: &Tag) -> Result<(), CopyError> {
        let manifest = self.target().manifest(&previous.into()).await.map_err(CopyError::target)?;
        self.record_intent(self.batch.ledger(), &self.previous_arrival(job, &manifest, under)).await?;
        self.target().push_manifest(&manifest, Some(under)).await.map_err(CopyError::target)?;
        let arrival = Box::new(self.previous_arrival(job, &manifest, under));
        self.batch.send_event(Event::AuxiliaryTagWritten(arrival)).await;
        Ok(())
    }

    fn previous_arrival(&self, job: &CopyJob, manifest: &Manifest, under: &Tag) -> Arrival {
        let target = self.target();
        let digest = manifest.digest();
        Arrival {
            kind: ArrivalKind::KeptPrevious,
            source: target.place().to_owned(),
            source_reference: job.tag.clone().map_or_else(|| digest.into(), Into::into),
            source_digest: digest,
            tag: Some(under.clone()),
            digest,
            media_type: manifest.media_type().clone(),
            bytes: manifest.bytes().len() as u64,
            source_identity: target.identity(),
            ..self.list_arrival(&digest, &[], None)
        }
    }

    /// Adds referrers to the list of referrers at a target that does not list referrers automatically. The target's
    /// client merges the referrers with the existing list. So the digest of the new list is unknown before the write.
    /// The intent contains the digests of the referrers instead.
    pub(super) async fn link_recorded(&self, subject: Digest, list: &Referrers) -> Result<(), CopyError> {
        let Some(ledger) = self.batch.ledger() else { return self.link_referrers(subject, list).await };
        let tag = referrers_tag(&subject).into();
        // If the request for the old list fails, the list counts as changed after the write.
        let before =
            if self.destination().is_empty() { None } else { self.resolve_at_target(&tag).await.unwrap_or_default() };
        let listed: Vec<Digest> = list.manifests.iter().map(|referrer| referrer.digest).collect();
        let intended = self.list_arrival(&subject, &listed, before);
        self.record_intent(Some(ledger), &intended).await?;
        self.link_referrers(subject, list).await?;
        match self.target().resolve(&tag).await {
            Ok(Some(now)) if Some(now.digest) != before => {
                let (digest, bytes) = (now.digest, now.size);
                let arrival = Arrival { digest, bytes, ended: Utc::now(), ..intended };
                self.batch.send_event(Event::AuxiliaryTagWritten(Box::new(arrival))).await;
            }
            Ok(_) => ledger.withdraw(&intended).await,
            // The intent stays open, so the next run checks the list.
            Err(error) => {
                tracing::debug!(%subject, %error, "cannot read the new list of referrers yet")
            }
        }
        Ok(())
    }

    async fn link_referrers(&self, subject: Digest, list: &Referrers) -> Result<(), CopyError> {
        self.target().link_referrers(&subject, list).await.map_err(CopyError::target)
    }

    /// Returns an arrival that describes a list of referrers before the write. The digest of the list is unknown, so
    /// `digest` contains the subject.
    fn list_arrival(&self, subject: &Digest, listed: &[Digest], previous: Option<Digest>) -> Arrival {
        let (source, target) = (&self.batch.source, self.target());
        Arrival {
            kind: ArrivalKind::ReferrersList,
            source: source.place().to_owned(),
            source_reference: (*subject).into(),
            source_digest: *subject,
            target: target.place().to_owned(),
            tag: Some(referrers_tag(subject)),
            digest: *subject,
            previous,
            media_type: MediaType::new(MediaType::OCI_INDEX),
            manifests: 1,
            blobs: BlobCounts::default(),
            bytes: 0,
            source_identity: source.identity(),
            target_identity: target.identity(),
            listed: listed.to_vec(),
            left_behind: Vec::new(),
            started: self.started,
            ended: Utc::now(),
        }
    }

    pub(super) fn arrival(&self, job: &CopyJob, closure: &Closure, previous: Option<&Previous>) -> Arrival {
        let tally = self.tally.lock();
        let (copied, mounted) = (tally.count(BlobOutcome::Copied), tally.count(BlobOutcome::Mounted));
        let found = closure.blobs.saturating_sub(copied + mounted);
        Arrival {
            source_reference: job.reference.clone(),
            source_digest: job.digest,
            tag: job.tag.clone(),
            previous: previous.map(|previous| previous.digest).filter(|_| job.tag.is_some()),
            manifests: closure.manifests,
            blobs: BlobCounts { copied, mounted, found },
            bytes: tally.bytes,
            left_behind: self.all_left_behind(closure),
            ..self.base_arrival(&closure.root)
        }
    }

    /// Returns the arrival of a signature, without the bytes of the signature's manifest.
    pub(super) fn signature_arrival(&self, node: &Node, tag: &Tag, previous: Option<Digest>) -> Arrival {
        let tally = self.tally.lock();
        let mut arrival = Arrival {
            source_reference: tag.clone().into(),
            tag: Some(tag.clone()),
            previous,
            ..self.base_arrival(node)
        };
        for blob in node.blobs() {
            match tally.blobs.get(&blob.digest) {
                Some(BlobOutcome::Copied) => {
                    arrival.blobs.copied += 1;
                    arrival.bytes += blob.size;
                }
                Some(BlobOutcome::Mounted) => arrival.blobs.mounted += 1,
                Some(BlobOutcome::Found) | None => arrival.blobs.found += 1,
            }
        }
        arrival
    }

    /// Subtracts the bytes of a signature from the bytes of the delivery, because the signature has its own arrival.
    pub(super) fn subtract_bytes(&self, arrival: &Arrival) {
        let mut tally = self.tally.lock();
        tally.bytes = tally.bytes.saturating_sub(arrival.bytes);
    }

    /// Returns an arrival with the fields that all arrivals of one manifest share.
    pub(super) fn base_arrival(&self, node: &Node) -> Arrival {
        let (source, target) = (&self.batch.source, self.target());
        Arrival {
            kind: ArrivalKind::Tag,
            source: source.place().to_owned(),
            source_reference: node.digest().into(),
            source_digest: node.digest(),
            target: target.place().to_owned(),
            tag: None,
            previous: None,
            digest: node.digest(),
            media_type: node.manifest.media_type().clone(),
            manifests: 1,
            blobs: BlobCounts::default(),
            bytes: 0,
            source_identity: source.identity(),
            target_identity: target.identity(),
            listed: Vec::new(),
            left_behind: Vec::new(),
            started: self.started,
            ended: Utc::now(),
        }
    }
}
