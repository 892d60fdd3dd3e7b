//! Batch: one source repository with its targets, for one run. Each [`CopyJob`] copies one digest.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::blob::transfer::Blobs;
use super::closure::{Closure, survey};
use super::companions::{Companions, find_companions};
use super::deliver::Delivery;
use super::destination::{Contents, Destination};
use super::event::{Arrival, Event, PlannedBytes};
use super::manifest_cache::{Node, Nodes};
use super::{Copier, CopyError, Ledger, ListedTags, Suspension, UploadSessionStore};
use crate::oci::{
    Children, DerivedIndex, Descriptor, Digest, ManifestRef, Platform, SignatureTag, Tag, derive_index, referrers_tag,
};
use crate::store::{Listed, Referrers, Reservation, Source, Target};

/// Rules that select the content of each copy of a batch.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Platforms of an index that a copy includes. If `None`, the copy contains the whole index, unchanged.
    pub platforms: Option<Vec<Platform>>,
    /// True if a copy includes the referrers of each manifest, and cosign's signature tags.
    pub referrers: bool,
    /// True if a copy includes foreign layers. A foreign layer has a non-distributable type and download addresses
    /// (`urls`) in its manifest. If a layer of this type has no addresses, every copy includes the layer.
    pub foreign_layers: bool,
}

/// One source repository and its targets.
#[derive(Debug)]
pub struct Batch {
    pub(super) copier: Arc<Copier>,
    pub(super) source: Arc<dyn Source>,
    pub(super) targets: Vec<Destination>,
    pub(super) rules: Rules,
    /// Listed tags of the source whose name can contain a digest, such as `sha256-<hex>.sig`. `None` if the run has no
    /// complete list. If the list proves that a signature tag is absent, the batch does not request the tag.
    source_tags: Option<ListedTags>,
    batch_context: BatchContext,
    nodes: Nodes,
    /// Manifests whose referrers the source could not list, each with the reason.
    doubts: Mutex<BTreeMap<Digest, String>>,
    /// Subjects whose list of referrers names a manifest that the source does not have. The value contains the listed
    /// referrers that the source has.
    incomplete_lists: Mutex<HashMap<Digest, Vec<Digest>>>,
}

/// Event channel, records and signals that a run provides for its batches.
#[derive(Debug, Clone)]
pub struct BatchContext {
    /// Channel to which the batch sends its events.
    pub events: mpsc::Sender<Event>,
    /// Store for the progress of large uploads. If `None`, a later process cannot resume an upload.
    pub upload_store: Option<Arc<dyn UploadSessionStore>>,
    /// Ledger, if there is one. The ledger records each tag before a copy writes the tag at a target.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// Signal that suspends the uploads of the batch.
    pub suspension: Suspension,
    /// Number of bytes that the batch sends or expects to send.
    pub planned: Arc<PlannedBytes>,
}

impl From<mpsc::Sender<Event>> for BatchContext {
    fn from(events: mpsc::Sender<Event>) -> Self {
        Self { events, upload_store: None, ledger: None, suspension: Suspension::default(), planned: Arc::default() }
    }
}

/// Copy of one digest to targets of the batch.
#[derive(Debug, Clone)]
pub struct CopyJob {
    /// Tag or digest that the run requested from the source. The evidence contains this reference.
    pub reference: ManifestRef,
    /// Digest that `reference` has at the source.
    pub digest: Digest,
    /// Tag to write at the targets. If `None`, the copy writes no tag.
    pub tag: Option<Tag>,
    /// Targets: the index of the target in the batch, and the previous content of the tag at the target. If the target
    /// does not have the tag, the second value is `None`.
    pub targets: Vec<(usize, Option<Previous>)>,
}

/// Previous content of a target's tag.
#[derive(Debug, Clone)]
pub struct Previous {
    /// Digest that the tag had.
    pub digest: Digest,
    /// Additional tag that keeps this digest at the target. The copy writes the additional tag before the copy
    /// overwrites the job's tag. `None` if no additional tag keeps the digest.
    pub under: Option<Tag>,
}

/// Result of a copy job at one target: the index of the target in the batch, and the arrival or the error.
pub type Outcome = (usize, Result<Arrival, CopyError>);

impl Batch {
    /// Creates a batch from `source` to `targets`. `source_tags` is the source's list of tags, if the run has a
    /// complete list. For `batch_context`, the caller can pass only the event channel.
    #[must_use]
    pub fn new(
        copier: &Arc<Copier>,
        source: Arc<dyn Source>,
        targets: Vec<(Arc<dyn Target>, Contents)>,
        rules: Rules,
        source_tags: Option<ListedTags>,
        batch_context: impl Into<BatchContext>,
    ) -> Arc<Self> {
        let targets = targets.into_iter().map(|(target, contents)| Destination::new(target, contents)).collect();
        let copier = copier.clone();
        let batch_context = batch_context.into();
        let nodes = Nodes::new(rules.foreign_layers);
        Arc::new(Self {
            copier,
            source,
            targets,
            rules,
            source_tags,
            batch_context,
            nodes,
            doubts: Mutex::default(),
            incomplete_lists: Mutex::default(),
        })
    }

    /// Copies the closure of a digest to the targets of the job, and then writes the job's tag. A failure at one target
    /// does not affect the other targets.
    ///
    /// If the caller drops the future, the copy stops. The ledger, if there is one, then contains an intent for each
    /// tag that the copy has written.
    pub async fn copy(self: &Arc<Self>, job: CopyJob) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = self.copy_each(job).collect().await;
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes
    }

    /// Copies like [`Batch::copy`]. Yields the result of each target when the copy to this target ends.
    pub fn copy_each(self: &Arc<Self>, job: CopyJob) -> BoxStream<'static, Outcome> {
        stream::once(self.clone().start(job, true)).flatten().boxed()
    }

    /// Copies the referrers of a digest that the targets already have. Yields results like [`Batch::copy_each`].
    /// Records no intent for the digest, because the digest is not new at the targets.
    pub fn refresh_each(self: &Arc<Self>, job: CopyJob) -> BoxStream<'static, Outcome> {
        stream::once(self.clone().start(job, false)).flatten().boxed()
    }

    async fn start(self: Arc<Self>, job: CopyJob, is_arrival: bool) -> BoxStream<'static, Outcome> {
        // Each blob is transferred in a separate task. At the end of the stream, the drop guard stops these tasks.
        let stop = CancellationToken::new();
        let stop_at_end = stop.clone().drop_guard();
        let has_siblings = job.targets.len() > 1;
        let delivery = |(index, _): &(usize, _)| Arc::new(Delivery::new(self.clone(), *index, has_siblings));
        let ledger = self.batch_context.ledger.as_ref().filter(|_| is_arrival);
        let deliveries: Vec<Arc<Delivery>> = job.targets.iter().map(delivery).collect();
        let survey = self.survey(&job, &deliveries, &stop);
        let all_failed = join_all(deliveries.iter().map(|delivery| delivery.wait_for_failure()));
        let surveyed = tokio::select! {
            biased;
            surveyed = survey => surveyed,
            errors = all_failed => {
                let outcomes = job.targets.into_iter().zip(errors).map(|((index, _), error)| (index, Err(error)));
                return stream::iter(outcomes.collect::<Vec<_>>()).boxed();
            }
        };
        let closure = match surveyed {
            Ok(found) => Arc::new(found),
            Err(error) => {
                return stream::iter(job.targets).map(move |(index, _)| (index, Err(error.clone()))).boxed();
            }
        };
        let job = Arc::new(job);
        let finish = |(position, delivery): (usize, Arc<Delivery>)| {
            let (job, closure, ledger) = (job.clone(), closure.clone(), ledger.cloned());
            async move {
                let (index, previous) = &job.targets[position];
                let span = delivery.span().clone();
                let result =
                    delivery.finish(&job, &closure, previous.as_ref(), ledger.as_deref()).instrument(span).await;
                delivery.mark_ended();
                (*index, result)
            }
        };
        let finishing: FuturesUnordered<_> = deliveries.into_iter().enumerate().map(finish).collect();
        let next =
            async |(mut finishing, stop): (FuturesUnordered<_>, _)| Some((finishing.next().await?, (finishing, stop)));
        stream::unfold((finishing, stop_at_end), next).boxed()
    }

    /// Returns the digest that a copy of `digest` writes at the targets. The result differs from `digest` if the rules
    /// select only some platforms of an index.
    ///
    /// # Errors
    /// [`CopyError`] if the manifest cannot be read, or if no child runs on a wanted platform.
    pub async fn derived_digest(&self, digest: Digest) -> Result<Digest, CopyError> {
        Ok(self.read_root(digest).await?.0.digest())
    }

    async fn survey(
        self: &Arc<Self>,
        job: &CopyJob,
        deliveries: &[Arc<Delivery>],
        stop: &CancellationToken,
    ) -> Result<Closure, CopyError> {
        let (root, derived) = self.read_root(job.digest).await?;
        let blobs = Blobs::new(self.clone(), deliveries.to_vec(), stop.clone());
        survey(self, root, derived, &blobs).await
    }

    /// Returns the manifest that a copy writes: the manifest of the source, or an index derived for the selected
    /// platforms. The flag is true for a derived index.
    async fn read_root(&self, digest: Digest) -> Result<(Arc<Node>, bool), CopyError> {
        let node = self.read_node(digest).await?;
        let Some(platforms) = &self.rules.platforms else { return Ok((node, false)) };
        let place = self.source.place();
        match derive_index(&node.manifest, platforms).map_err(|error| CopyError::manifest(place, digest, &error))? {
            DerivedIndex::Unchanged => Ok((node, false)),
            DerivedIndex::Derived(manifest) => {
                let node = Node::read(manifest, place, self.rules.foreign_layers)?;
                Ok((Arc::new(node), true))
            }
            DerivedIndex::NoneWanted { available } => {
                let join = |platforms: &[Platform], separator: &str| {
                    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
                };
                let (wanted, available) = (join(platforms, " or ").into(), join(&available, ", ").into());
                Err(CopyError::NoPlatform { place: place.to_owned(), digest, wanted, available })
            }
        }
    }

    /// Reads the manifest of a tag at the source, and returns the digest of the manifest. A later copy of this digest
    /// does not read the manifest again.
    ///
    /// # Errors
    /// [`CopyError`] if the manifest cannot be read or copied.
    pub async fn read_tag(&self, tag: &Tag) -> Result<Digest, CopyError> {
        self.nodes.get_tag(self.source.as_ref(), tag).await
    }

    /// Returns the subject of a list of referrers that the source has under a fallback tag. `tag` is the fallback tag,
    /// such as `sha256-<hex>`. `content` is the digest that the tag has at the source.
    ///
    /// Returns `None` if the content is an image, or an index whose children do not refer to the subject in the tag's
    /// name.
    ///
    /// # Errors
    /// [`CopyError`] if the content cannot be read.
    pub async fn subject_of_list(&self, tag: &Tag, content: Digest) -> Result<Option<Digest>, CopyError> {
        let node = self.read_node(content).await?;
        let Children::Manifests(listed) = &node.view.children else { return Ok(None) };
        let named = match SignatureTag::read(tag) {
            Some(SignatureTag::Referrers(subject)) => Some(subject),
            _ => None,
        };
        // If a child cannot be read, the descriptor of the child in the index decides: the descriptor of an image has a
        // platform, and the descriptor of an artifact has an artifact type.
        let mut may_be_list = true;
        for child in listed {
            match self.read_node(child.digest).await {
                Ok(child) => match child.view.subject.filter(|subject| referrers_tag(subject) == *tag) {
                    Some(subject) => return Ok(Some(subject)),
                    None => may_be_list = false,
                },
                Err(error) if error.ends_all() => return Err(error),
                Err(error) if error.is_not_found() => may_be_list &= child.platform.is_none(),
                Err(_) => may_be_list &= child.platform.is_none() && child.artifact_type.is_some(),
            }
        }
        Ok(named.filter(|_| may_be_list))
    }

    /// Returns the digests of the manifests that an index of the source lists.
    ///
    /// # Errors
    /// [`CopyError`] if the index cannot be read.
    pub async fn list_children(&self, index: Digest) -> Result<Vec<Digest>, CopyError> {
        Ok(self.read_node(index).await?.view.manifests().iter().map(|child| child.digest).collect())
    }

    /// Returns true if the batch's cache contains the manifest of this digest.
    #[must_use]
    pub fn has_read(&self, digest: &Digest) -> bool {
        self.nodes.has(digest)
    }

    /// Returns true if every target has the right content under a signature tag: the batch wrote the tag, or found the
    /// right content there.
    #[must_use]
    pub fn has_signed(&self, tag: &Tag) -> bool {
        self.targets.iter().all(|target| target.has_signed(tag))
    }

    pub(super) async fn read_node(&self, digest: Digest) -> Result<Arc<Node>, CopyError> {
        self.nodes.get(self.source.as_ref(), digest).await
    }

    /// Reserves reads in the source's pull quota for the manifests that are not in the batch's cache.
    pub(super) async fn reserve_reads(
        &self,
        manifests: impl Iterator<Item = Digest>,
    ) -> Result<Reservation, CopyError> {
        let unread: Vec<Digest> = manifests.filter(|digest| !self.nodes.has(digest)).collect();
        if unread.is_empty() {
            return Ok(None);
        }
        self.source.reserve_manifest_reads(&unread).await.map_err(CopyError::source)
    }

    /// Returns the referrers of a digest at the source. If the source cannot list all referrers, returns the listed
    /// referrers and records the reason (see [`Batch::doubt_referrers`]).
    ///
    /// # Errors
    /// [`CopyError`] if the source's pull quota forbids the request for now.
    pub async fn referrers(&self, subject: &Digest, fallback: Listed) -> Result<Referrers, CopyError> {
        let found = match self.source.referrers(subject, fallback).await {
            Ok(found) => found,
            Err(error) if error.quota_spent().is_some() => return Err(CopyError::source(error)),
            Err(error) => Referrers { doubt: Some(error.to_string()), ..Referrers::default() },
        };
        if let Some(why) = &found.doubt {
            self.doubt_referrers(*subject, why.clone());
        }
        Ok(found)
    }

    /// Records that the source could not list the referrers of a digest. Logs a warning for the first recorded digest.
    pub fn doubt_referrers(&self, subject: Digest, why: String) {
        let mut doubts = self.doubts.lock();
        if doubts.is_empty() {
            let source = self.source.place();
            tracing::warn!(
                source, %subject, why,
                "the referrers of this manifest cannot be listed and are left behind until a later run; \
                 `referrers: false` copies no referrers at all"
            );
        }
        doubts.insert(subject, why);
    }

    /// Returns the digests whose referrers the source could not list, each with the reason.
    #[must_use]
    pub fn doubted_referrers(&self) -> BTreeMap<Digest, String> {
        self.doubts.lock().clone()
    }

    /// Returns true if the source could not list the referrers of this digest.
    #[must_use]
    pub fn is_in_doubt(&self, subject: &Digest) -> bool {
        self.doubts.lock().contains_key(subject)
    }

    /// Records that the source lists a referrer of `subject` but does not have the referrer. `present` contains the
    /// listed referrers that the source has.
    pub(super) fn record_incomplete_list(&self, subject: Digest, present: Vec<Digest>) {
        self.incomplete_lists.lock().insert(subject, present);
    }

    /// If the source lists a referrer of `subject` but does not have the referrer, returns the listed referrers that
    /// the source has. Otherwise returns `None`.
    #[must_use]
    pub fn incomplete_list(&self, subject: &Digest) -> Option<Vec<Digest>> {
        self.incomplete_lists.lock().get(subject).cloned()
    }

    /// Returns true if, for at least one digest, the source lists a referrer that the source does not have.
    #[must_use]
    pub fn has_incomplete_lists(&self) -> bool {
        !self.incomplete_lists.lock().is_empty()
    }

    pub(super) async fn companions(&self, node: &Node) -> Result<Arc<Companions>, CopyError> {
        node.companions.get_or_try_init(|| async { find_companions(self, node).await.map(Arc::new) }).await.cloned()
    }

    /// Returns [`Listed::Absent`] if the source's list of tags proves that the source does not have this tag.
    pub(super) fn look_up(&self, tag: &Tag) -> Listed {
        self.source_tags.as_ref().map_or(Listed::Possible, |tags| tags.look_up(tag))
    }

    /// Returns [`Listed::Possible`] if the source can have this tag although the list of tags lacks the tag. Otherwise
    /// returns [`Listed::Absent`]. The result is [`Listed::Absent`] for a listed tag too, because the run copies listed
    /// tags separately.
    pub fn look_up_unlisted(&self, tag: &Tag) -> Listed {
        match &self.source_tags {
            Some(tags) if tags.has(tag) => Listed::Absent,
            _ => self.look_up(tag),
        }
    }

    /// Records that the source has a tag. If the list of tags lacks this tag, logs one warning per batch, because the
    /// list may lack other tags too.
    pub fn record_found_tag(&self, tag: &Tag) {
        if self.source_tags.as_ref().is_some_and(|tags| tags.record_found(tag)) {
            tracing::warn!(
                source = self.source.place(), %tag,
                "the source has a tag that its list lacks: this run now requests each signature tag separately; \
                    other tags may be missing from the list"
            );
        }
    }

    /// Returns the store of upload progress. Returns `None` if there is no store, or if `target` accepts this blob in
    /// one piece.
    pub(super) fn upload_store(&self, target: &dyn Target, blob: &Descriptor) -> Option<&Arc<dyn UploadSessionStore>> {
        let chunk = target.memory_per_upload();
        self.batch_context.upload_store.as_ref().filter(|_| chunk > 0 && blob.size > chunk)
    }

    pub(super) fn ledger(&self) -> Option<&dyn Ledger> {
        self.batch_context.ledger.as_deref()
    }

    pub(super) fn suspension(&self) -> &Suspension {
        &self.batch_context.suspension
    }

    pub(super) fn planned_bytes(&self) -> &PlannedBytes {
        &self.batch_context.planned
    }

    pub(super) async fn send_event(&self, event: Event) {
        // If the listener has closed the channel, the copy continues.
        let _ = self.batch_context.events.send(event).await;
    }

    /// Sends an event without waiting. If the channel is full, drops the event.
    pub(super) fn try_send_event(&self, event: Event) {
        let _ = self.batch_context.events.try_send(event);
    }
}
