//! Writes of referrers to one target. If the write of a referrer fails, the delivery reports the referrer by name. If
//! the target does not list a referrer automatically, the delivery adds the referrer to the list of referrers.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::Delivery;
use crate::copy::CopyError;
use crate::copy::closure::Closure;
use crate::copy::event::LeftBehind;
use crate::copy::manifest_cache::Node;
use crate::oci::{Descriptor, Digest};
use crate::store::{ReferrerLink, Referrers};

impl Delivery {
    /// Writes a manifest by digest, and under its signature tags. If the write of an optional manifest fails, records
    /// the manifest as not copied.
    pub(super) async fn write_or_leave_behind(
        self: &Arc<Self>,
        closure: &Closure,
        node: &Arc<Node>,
    ) -> Result<(), CopyError> {
        let digest = node.digest();
        let lists_left = node.view.manifests().iter().find_map(|child| self.reason_to_leave(&child.digest));
        if let Some(reason) = lists_left {
            self.leave_behind(closure, digest, reason);
            return Ok(());
        }
        match self.write_with_tags(closure, node).await {
            Err(error) if closure.required.contains(&digest) || self.ends_delivery(&error) => Err(error),
            Err(error) => {
                self.leave_behind(closure, digest, error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Returns true if an error on an optional manifest also ends the delivery, in these cases:
    /// - the error ends the whole copy,
    /// - the delivery has already ended,
    /// - the uploads are being suspended.
    fn ends_delivery(&self, error: &CopyError) -> bool {
        error.ends_all() || self.has_ended() || self.batch.suspension().is_suspended()
    }

    fn leave_behind(&self, closure: &Closure, digest: Digest, reason: String) {
        let what = closure.names.get(&digest).cloned().unwrap_or_else(|| format!("manifest {digest}"));
        let mut left = self.left_behind.lock();
        left.insert(digest, LeftBehind { what, reason });
    }

    fn reason_to_leave(&self, digest: &Digest) -> Option<String> {
        let left = self.left_behind.lock();
        left.get(digest).map(|left| left.reason.clone())
    }

    /// Returns the items that the copy could not read from the source, and the items that this delivery could not write
    /// or list.
    pub(super) fn all_left_behind(&self, closure: &Closure) -> Vec<LeftBehind> {
        let left = self.left_behind.lock();
        let mut all: Vec<LeftBehind> = closure.left_behind.iter().chain(left.values()).cloned().collect();
        all.sort();
        all
    }

    /// Writes a list of referrers for each subject with referrers that the target does not list automatically. If the
    /// write of a list fails, records its unlisted referrers as not copied.
    pub(super) async fn link_all(&self, closure: &Closure) -> Result<(), CopyError> {
        let lists = closure.referrers.iter().map(|(subject, companions)| (*subject, &companions.list));
        let lists = lists.map(|(subject, list)| (subject, self.select_arrived(closure, list), list.manifests.len()));
        let unlisted = |referrers: &Referrers| {
            referrers.manifests.iter().any(|referrer| self.destination().is_unlisted(&referrer.digest))
        };
        let links = lists.filter(|(_, referrers, _)| unlisted(referrers)).map(|(subject, list, full)| async move {
            let linked = match list.manifests.len() == full {
                true => self.link_once(subject, None, &list).await,
                // This list lacks some referrers. The copy of another tag may add these referrers later.
                false => self.link_recorded(subject, &list).await,
            };
            self.leave_unlisted(subject, list.manifests.iter().map(|referrer| referrer.digest), linked)
        });
        try_join_all(links).await.map(|_| ())
    }

    /// If the write of a list failed, records its unlisted referrers as not copied, because clients cannot find
    /// unlisted referrers by their subject.
    fn leave_unlisted(
        &self,
        subject: Digest,
        referrers: impl Iterator<Item = Digest>,
        linked: Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let Err(error) = linked else { return Ok(()) };
        if self.ends_delivery(&error) {
            return Err(error);
        }
        let mut left = self.left_behind.lock();
        for referrer in referrers.filter(|referrer| self.destination().is_unlisted(referrer)) {
            let what = LeftBehind::referrer(referrer, subject);
            let reason = format!("the referrer is at the target but is not listed: {error}");
            left.insert(referrer, LeftBehind { what, reason });
        }
        Ok(())
    }

    /// Returns the list without the referrers that were not copied to this target.
    fn select_arrived(&self, closure: &Closure, list: &Referrers) -> Referrers {
        let is_here = |digest: &Digest| !closure.lost.contains(digest) && self.reason_to_leave(digest).is_none();
        let manifests = list.manifests.iter().filter(|referrer| is_here(&referrer.digest)).cloned().collect();
        Referrers { manifests, fallback: list.fallback.clone(), doubt: None }
    }

    /// If the root is itself a referrer, writes the root by digest and adds the root to the list of referrers. If the
    /// write of the list fails, records the root as not listed. The delivery then still writes the root's tag.
    pub(super) async fn link_root(self: &Arc<Self>, closure: &Closure) -> Result<(), CopyError> {
        let root = &closure.root;
        let Some(subject) = root.view.subject else { return Ok(()) };
        if self.write(closure, root, None).await? == ReferrerLink::Listed {
            return Ok(());
        }
        let descriptor = Descriptor {
            artifact_type: root.view.artifact_type.clone(),
            annotations: root.view.annotations.clone(),
            ..root.manifest.descriptor()
        };
        let list = Referrers { manifests: vec![descriptor], ..Referrers::default() };
        let linked = self.link_once(subject, Some(root.digest()), &list).await;
        self.leave_unlisted(subject, std::iter::once(root.digest()), linked)
    }

    /// Writes a list of referrers at most once in a batch for each pair of `subject` and `root`. If `root` is `None`,
    /// the list contains all referrers of the subject. Otherwise the list contains only the root.
    async fn link_once(&self, subject: Digest, root: Option<Digest>, list: &Referrers) -> Result<(), CopyError> {
        let link = || self.link_recorded(subject, list);
        self.destination().referrers_cell(subject, root).get_or_try_init(link).await.map(|_| ())
    }
}
