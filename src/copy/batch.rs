//! One source repository and its targets during one run, and the copy of one digest from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::blob::Blobs;
use super::closure::{Closure, survey};
use super::companions::{Companions, find_companions};
use super::deliver::Delivery;
use super::event::{Arrival, Event};
use super::nodes::{Node, Nodes};
use super::{Copier, CopyError, Ledger, ListedTags, Suspension, Unfinished};
use crate::oci::{
    Children, DerivedIndex, Descriptor, Digest, ManifestRef, Platform, SignatureTag, Tag, derive_index, referrers_tag,
};
use crate::store::{Listed, ReferrerLink, Referrers, Reservation, Source, Target};

/// What belongs to a digest, for all tags of a batch.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The platforms to keep of an index; `None` is all of them, verbatim.
    pub platforms: Option<Vec<Platform>>,
    /// Whether what refers to a manifest goes with it: referrers and cosign's tags.
    pub referrers: bool,
    /// Whether foreign layers are copied: those of a non-distributable type that can be had elsewhere. They are always copied where
    /// their manifest gives no other address.
    pub foreign_layers: bool,
}

/// One source repository and its targets.
#[derive(Debug)]
pub struct Batch {
    pub(super) copier: Arc<Copier>,
    pub(super) source: Arc<dyn Source>,
    pub(super) targets: Vec<Destination>,
    pub(super) rules: Rules,
    /// The source's tags that may name a digest, where its tags were listed: a signature's tag that its list rules out is not requested.
    source_tags: Option<ListedTags>,
    surroundings: Surroundings,
    nodes: Nodes,
    /// The manifests of which nobody could tell what refers to them, and why.
    doubts: Mutex<BTreeMap<Digest, String>>,
}

/// What a batch belongs to.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Who hears of every transfer.
    pub events: mpsc::Sender<Event>,
    /// Where it is kept how far large uploads came, if anywhere.
    pub unfinished: Option<Arc<dyn Unfinished>>,
    /// The record of what is about to arrive, if there is one.
    pub ledger: Option<Arc<dyn Ledger>>,
    /// How its uploads are told to end.
    pub suspension: Suspension,
}

impl From<mpsc::Sender<Event>> for Surroundings {
    fn from(events: mpsc::Sender<Event>) -> Self {
        Self { events, unfinished: None, ledger: None, suspension: Suspension::default() }
    }
}

/// A manifest that was or is being written by digest, once.
type Written = Arc<OnceCell<ReferrerLink>>;

/// A target and what this batch has done there.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) target: Arc<dyn Target>,
    contents: Contents,
    written: Mutex<HashMap<Digest, Written>>,
    linked: Mutex<HashMap<Linked, Arc<OnceCell<()>>>>,
    /// Tags of signatures that are written, or found to be right, once.
    signed: Mutex<HashMap<Tag, Arc<OnceCell<()>>>>,
    /// Whether it has refused to say what it has.
    is_unreadable: AtomicBool,
}

/// A subject, and the one referrer of it where it is not the whole list.
type Linked = (Digest, Option<Digest>);

/// What is known of a target repository before a batch begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Contents {
    /// There is nothing: what has not been written by this batch need not be asked for.
    Nothing,
    /// There may be anything.
    #[default]
    Unknown,
}

impl Destination {
    fn new(target: Arc<dyn Target>, contents: Contents) -> Self {
        let (written, linked, signed) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { target, contents, written, linked, signed, is_unreadable: AtomicBool::default() }
    }

    /// Notes that it has refused to say what it has, and returns whether it is the first time.
    pub(super) fn is_first_unreadable(&self) -> bool {
        !self.is_unreadable.swap(true, Ordering::Relaxed)
    }

    /// Whether asking for content that this batch has not written can be spared.
    pub(super) fn is_empty(&self) -> bool {
        self.contents == Contents::Nothing
    }

    /// Where it is noted that a signature's tag is right.
    pub(super) fn signed(&self, tag: &Tag) -> Arc<OnceCell<()>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner).entry(tag.clone()).or_default().clone()
    }

    fn has_signed(&self, tag: &Tag) -> bool {
        let signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.get(tag).is_some_and(|cell| cell.initialized())
    }

    /// Where it is noted that a manifest was written by digest.
    pub(super) fn cell(&self, digest: Digest) -> Arc<OnceCell<ReferrerLink>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).entry(digest).or_default().clone()
    }

    /// Notes that a manifest was written anew.
    pub(super) fn note(&self, digest: Digest, link: ReferrerLink) {
        let cell = Arc::new(OnceCell::new_with(Some(link)));
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, cell);
    }

    /// Where it is noted that the referrers of a subject, or one of them, can be found.
    pub(super) fn linked(&self, subject: Digest, referrer: Option<Digest>) -> Arc<OnceCell<()>> {
        self.linked.lock().unwrap_or_else(PoisonError::into_inner).entry((subject, referrer)).or_default().clone()
    }

    /// Whether a manifest was written as a referrer that the target does not list by itself.
    pub(super) fn is_unlisted(&self, digest: &Digest) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(digest).and_then(|cell| cell.get()) == Some(&ReferrerLink::Unlisted)
    }
}

/// A digest to be copied.
#[derive(Debug, Clone)]
pub struct Order {
    /// What was asked of the source, for the evidence.
    pub reference: ManifestRef,
    /// What that stands for at the source.
    pub digest: Digest,
    /// The tag to write at the targets, `None` to copy by digest alone.
    pub tag: Option<Tag>,
    /// For each target of the batch that wants it: its index and what the tag stands for there.
    pub targets: Vec<(usize, Option<Previous>)>,
}

/// What a target's tag stood for.
#[derive(Debug, Clone)]
pub struct Previous {
    /// The digest.
    pub digest: Digest,
    /// The tag to keep it under, before the tag moves.
    pub under: Option<Tag>,
}

/// What became of an order at one target of the batch.
pub type Outcome = (usize, Result<Arrival, CopyError>);

impl Batch {
    /// A batch from `source` to `targets`. `source_tags` is the source's list of tags, where there is one; `surroundings` may be who
    /// hears of every transfer alone.
    #[must_use]
    pub fn new(
        copier: &Arc<Copier>,
        source: Arc<dyn Source>,
        targets: Vec<(Arc<dyn Target>, Contents)>,
        rules: Rules,
        source_tags: Option<ListedTags>,
        surroundings: impl Into<Surroundings>,
    ) -> Arc<Self> {
        let targets = targets.into_iter().map(|(target, contents)| Destination::new(target, contents)).collect();
        let copier = copier.clone();
        let surroundings = surroundings.into();
        let nodes = Nodes::new(rules.foreign_layers);
        Arc::new(Self { copier, source, targets, rules, source_tags, surroundings, nodes, doubts: Mutex::default() })
    }

    /// Copies the closure of a digest to the targets of the order and writes its tag there, last. One target's failure
    /// does not touch the others. Dropping the future stops the copy; no tag has moved that was not told.
    pub async fn copy(self: &Arc<Self>, order: Order) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = self.copy_each(order).collect().await;
        outcomes.sort_by_key(|(at, _)| *at);
        outcomes
    }

    /// As [`Batch::copy`], and tells of each target as soon as it is settled: a slow one is told last.
    pub fn copy_each(self: &Arc<Self>, order: Order) -> BoxStream<'static, Outcome> {
        stream::once(self.clone().begin(order, true)).flatten().boxed()
    }

    /// As [`Batch::copy_each`], of a digest that the targets have already, for what refers to it: its own arrival is nothing new,
    /// and the ledger does not record it.
    pub fn refresh_each(self: &Arc<Self>, order: Order) -> BoxStream<'static, Outcome> {
        stream::once(self.clone().begin(order, false)).flatten().boxed()
    }

    async fn begin(self: Arc<Self>, order: Order, is_arrival: bool) -> BoxStream<'static, Outcome> {
        // Blobs move in tasks of their own; they end with the stream.
        let stop = CancellationToken::new();
        let stop_at_end = stop.clone().drop_guard();
        let has_siblings = order.targets.len() > 1;
        let delivery = |(at, _): &(usize, _)| Arc::new(Delivery::new(self.clone(), *at, has_siblings));
        let ledger = self.surroundings.ledger.as_ref().filter(|_| is_arrival);
        let deliveries: Vec<Arc<Delivery>> = order.targets.iter().map(delivery).collect();
        let survey = self.survey(&order, &deliveries, &stop);
        let all_failed = join_all(deliveries.iter().map(|delivery| delivery.failed()));
        let surveyed = tokio::select! {
            biased;
            surveyed = survey => surveyed,
            errors = all_failed => {
                let outcomes = order.targets.into_iter().zip(errors).map(|((at, _), error)| (at, Err(error)));
                return stream::iter(outcomes.collect::<Vec<_>>()).boxed();
            }
        };
        let closure = match surveyed {
            Ok(found) => Arc::new(found),
            Err(error) => return stream::iter(order.targets).map(move |(at, _)| (at, Err(error.clone()))).boxed(),
        };
        let order = Arc::new(order);
        let finish = |(index, delivery): (usize, Arc<Delivery>)| {
            let (order, closure, ledger) = (order.clone(), closure.clone(), ledger.cloned());
            async move {
                let (at, previous) = &order.targets[index];
                let span = delivery.span().clone();
                let result =
                    delivery.finish(&order, &closure, previous.as_ref(), ledger.as_deref()).instrument(span).await;
                delivery.give_up();
                (*at, result)
            }
        };
        let finishing: FuturesUnordered<_> = deliveries.into_iter().enumerate().map(finish).collect();
        let next =
            async |(mut finishing, stop): (FuturesUnordered<_>, _)| Some((finishing.next().await?, (finishing, stop)));
        stream::unfold((finishing, stop_at_end), next).boxed()
    }

    /// The digest that the targets are to have for this one of the source: its own, or with platforms that of the
    /// derived index.
    ///
    /// # Errors
    /// [`CopyError`] where the manifest cannot be read or no child runs on a wanted platform.
    pub async fn derived_digest(&self, digest: Digest) -> Result<Digest, CopyError> {
        Ok(self.root(digest).await?.0.digest())
    }

    async fn survey(
        self: &Arc<Self>,
        order: &Order,
        deliveries: &[Arc<Delivery>],
        stop: &CancellationToken,
    ) -> Result<Closure, CopyError> {
        let (root, derived) = self.root(order.digest).await?;
        let blobs = Blobs::new(self.clone(), deliveries.to_vec(), stop.clone());
        survey(self, root, derived, &blobs).await
    }

    /// The manifest to write: the source's own, or what is derived from it for the platforms.
    async fn root(&self, digest: Digest) -> Result<(Arc<Node>, bool), CopyError> {
        let node = self.node(digest).await?;
        let Some(platforms) = &self.rules.platforms else { return Ok((node, false)) };
        let place = self.source.place();
        match derive_index(&node.manifest, platforms).map_err(|error| CopyError::manifest(place, digest, &error))? {
            DerivedIndex::Unchanged => Ok((node, false)),
            DerivedIndex::Derived(manifest) => {
                let node = Node::read(manifest, place, self.rules.foreign_layers)?;
                Ok((Arc::new(node), true))
            }
            DerivedIndex::NoneWanted => {
                let wanted = platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
                Err(CopyError::NoPlatform { place: place.to_owned(), digest, wanted })
            }
        }
    }

    /// Reads the manifest that a tag stands for at the source, and gives its digest. Copying that digest does not read it
    /// again.
    ///
    /// # Errors
    /// [`CopyError`] where it cannot be read or copied.
    pub async fn read_tag(&self, tag: &Tag) -> Result<Digest, CopyError> {
        self.nodes.get_tag(self.source.as_ref(), tag).await
    }

    /// The subject of the list of referrers that the content of `tag` is, a tag that has the form of such a list. `None` where it is
    /// something else: an image, or an index of which nothing refers to the subject that the tag names.
    ///
    /// # Errors
    /// [`CopyError`] where the content cannot be read.
    pub async fn subject_of_list(&self, tag: &Tag, content: Digest) -> Result<Option<Digest>, CopyError> {
        let node = self.node(content).await?;
        let Children::Manifests(listed) = &node.view.children else { return Ok(None) };
        let named = match SignatureTag::read(tag) {
            Some(SignatureTag::Referrers(subject)) => Some(subject),
            _ => None,
        };
        // Of those that cannot be read only the list itself tells: an image has a platform, an artifact its type.
        let mut may_be_list = true;
        for child in listed {
            match self.node(child.digest).await {
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

    /// The manifests that an index of the source lists.
    ///
    /// # Errors
    /// [`CopyError`] where it cannot be read.
    pub async fn listed_in(&self, index: Digest) -> Result<Vec<Digest>, CopyError> {
        Ok(self.node(index).await?.view.manifests().iter().map(|child| child.digest).collect())
    }

    /// Whether the manifest of this digest has been read in this batch and is at hand.
    #[must_use]
    pub fn has_read(&self, digest: &Digest) -> bool {
        self.nodes.has(digest)
    }

    /// Whether a signature's tag has come to every target on the way of what it belongs to.
    #[must_use]
    pub fn has_signed(&self, tag: &Tag) -> bool {
        self.targets.iter().all(|target| target.has_signed(tag))
    }

    pub(super) async fn node(&self, digest: Digest) -> Result<Arc<Node>, CopyError> {
        self.nodes.get(self.source.as_ref(), digest).await
    }

    /// Sets aside the reads of those manifests that are not at hand.
    pub(super) async fn reserve(&self, manifests: impl Iterator<Item = Digest>) -> Result<Reservation, CopyError> {
        let unread: Vec<Digest> = manifests.filter(|digest| !self.nodes.has(digest)).collect();
        if unread.is_empty() {
            return Ok(None);
        }
        self.source.reserve_manifest_reads(&unread).await.map_err(CopyError::source)
    }

    /// What refers to a digest at the source. Where nobody can tell, it is what is known, and the doubt is noted and told: it is no
    /// reason not to copy the digest.
    ///
    /// # Errors
    /// [`CopyError`] where the source may not be asked for now.
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

    /// Notes that nobody could tell what refers to a digest.
    pub fn doubt_referrers(&self, subject: Digest, why: String) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.is_empty() {
            let source = self.source.place();
            tracing::warn!(
                source, %subject, why,
                "what refers to it could not be told and is left behind until a later run; `referrers: false` leaves all of it out"
            );
        }
        doubts.insert(subject, why);
    }

    /// The digests of which nobody could tell what refers to them, and why.
    #[must_use]
    pub fn doubted_referrers(&self) -> BTreeMap<Digest, String> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is in doubt what refers to a digest.
    #[must_use]
    pub fn is_in_doubt(&self, subject: &Digest) -> bool {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(subject)
    }

    pub(super) async fn companions(&self, node: &Node) -> Result<Arc<Companions>, CopyError> {
        node.companions.get_or_try_init(|| async { find_companions(self, node).await.map(Arc::new) }).await.cloned()
    }

    /// What the source's listing tells of this tag.
    pub(super) fn listed(&self, tag: &Tag) -> Listed {
        self.source_tags.as_ref().map_or(Listed::Perhaps, |tags| tags.tells(tag))
    }

    /// What the source's listing tells of a tag that it lacks; [`Listed::Absent`] of one that it has.
    pub fn unlisted(&self, tag: &Tag) -> Listed {
        match &self.source_tags {
            Some(tags) if tags.has(tag) => Listed::Absent,
            _ => self.listed(tag),
        }
    }

    /// Notes that the source has a tag, for what else its list may lack.
    pub fn note_found(&self, tag: &Tag) {
        if self.source_tags.as_ref().is_some_and(|tags| tags.found(tag)) {
            tracing::warn!(
                source = self.source.place(), %tag,
                "the source has a tag that its list lacks: signatures are requested one by one; other tags may be missing from the list"
            );
        }
    }

    /// Where it is kept how far uploads of this blob came, where it is large enough for that: longer than a chunk.
    pub(super) fn unfinished(&self, target: &dyn Target, blob: &Descriptor) -> Option<&Arc<dyn Unfinished>> {
        let chunk = target.upload_holds();
        self.surroundings.unfinished.as_ref().filter(|_| chunk > 0 && blob.size > chunk)
    }

    /// The record of what is about to arrive.
    pub(super) fn ledger(&self) -> Option<&dyn Ledger> {
        self.surroundings.ledger.as_deref()
    }

    pub(super) fn suspension(&self) -> &Suspension {
        &self.surroundings.suspension
    }

    pub(super) async fn tell(&self, event: Event) {
        // Nobody listening is no reason to stop.
        let _ = self.surroundings.events.send(event).await;
    }

    /// As far as there is room: for who cannot wait.
    pub(super) fn tell_at_once(&self, event: Event) {
        let _ = self.surroundings.events.try_send(event);
    }
}
