//! What refers to manifests, at one target: it is left behind by name where it cannot be written, and made findable where the
//! target does not list it.

use std::sync::{Arc, PoisonError};

use futures_util::future::try_join_all;

use super::Delivery;
use crate::copy::CopyError;
use crate::copy::closure::Closure;
use crate::copy::event::LeftBehind;
use crate::copy::nodes::Node;
use crate::oci::{Descriptor, Digest};
use crate::store::{ReferrerLink, Referrers};

impl Delivery {
    /// Writes a manifest of a rank. One that the root does not reach is left behind where it cannot be written.
    pub(super) async fn write_or_leave(self: &Arc<Self>, closure: &Closure, node: &Arc<Node>) -> Result<(), CopyError> {
        let digest = node.digest();
        let lists_left = node.view.manifests().iter().find_map(|child| self.reason_to_leave(&child.digest));
        if let Some(reason) = lists_left {
            self.leave(closure, digest, reason);
            return Ok(());
        }
        match self.write_with_tags(closure, node).await {
            Err(error) if closure.required.contains(&digest) || self.is_over(&error) => Err(error),
            Err(error) => {
                self.leave(closure, digest, error.to_string());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether an error is no matter of one manifest: the process ends, or nothing may be read any more.
    fn is_over(&self, error: &CopyError) -> bool {
        error.ends_all() || self.has_given_up() || self.batch.suspension().is_suspended()
    }

    fn leave(&self, closure: &Closure, digest: Digest, reason: String) {
        let what = closure.names.get(&digest).cloned().unwrap_or_else(|| format!("manifest {digest}"));
        let mut left = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        left.insert(digest, LeftBehind { what, reason });
    }

    fn reason_to_leave(&self, digest: &Digest) -> Option<String> {
        let left = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        left.get(digest).map(|left| left.reason.clone())
    }

    /// What the source could not give and what did not come to this target.
    pub(super) fn all_left_behind(&self, closure: &Closure) -> Vec<LeftBehind> {
        let left = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<LeftBehind> = closure.left_behind.iter().chain(left.values()).cloned().collect();
        all.sort();
        all
    }

    /// Makes referrers findable that the target does not list by itself. Where their list cannot be written they are left behind, each by
    /// its name.
    pub(super) async fn link(&self, closure: &Closure) -> Result<(), CopyError> {
        let lists = closure.referrers.iter().map(|(subject, companions)| (*subject, &companions.list));
        let lists = lists.map(|(subject, list)| (subject, self.arrived(closure, list), list.manifests.len()));
        let unlisted = |referrers: &Referrers| {
            referrers.manifests.iter().any(|referrer| self.destination().is_unlisted(&referrer.digest))
        };
        let links = lists.filter(|(_, referrers, _)| unlisted(referrers)).map(|(subject, list, full)| async move {
            let linked = match list.manifests.len() == full {
                true => self.link_once(subject, None, &list).await,
                // The rest may come with another tag, and is linked then.
                false => self.link_recorded(subject, &list).await,
            };
            self.leave_unlisted(subject, list.manifests.iter().map(|referrer| referrer.digest), linked)
        });
        try_join_all(links).await.map(|_| ())
    }

    /// Notes which referrers are at the target and cannot be found from their subject, where their list could not be written.
    fn leave_unlisted(
        &self,
        subject: Digest,
        referrers: impl Iterator<Item = Digest>,
        linked: Result<(), CopyError>,
    ) -> Result<(), CopyError> {
        let Err(error) = linked else { return Ok(()) };
        if self.is_over(&error) {
            return Err(error);
        }
        let mut left = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        for referrer in referrers.filter(|referrer| self.destination().is_unlisted(referrer)) {
            let what = LeftBehind::referrer(referrer, subject);
            left.insert(referrer, LeftBehind { what, reason: format!("it is there and is not listed: {error}") });
        }
        Ok(())
    }

    /// The part of a list that came to this target.
    fn arrived(&self, closure: &Closure, list: &Referrers) -> Referrers {
        let is_here = |digest: &Digest| !closure.lost.contains(digest) && self.reason_to_leave(digest).is_none();
        let manifests = list.manifests.iter().filter(|referrer| is_here(&referrer.digest)).cloned().collect();
        Referrers { manifests, fallback: list.fallback.clone(), doubt: None }
    }

    /// A root that is a referrer itself is written by digest and listed before its tag. Where it cannot be listed its tag is written all
    /// the same, and the report names it.
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

    /// Once in a batch for a subject's whole list, and for each root that refers to it.
    async fn link_once(&self, subject: Digest, root: Option<Digest>, list: &Referrers) -> Result<(), CopyError> {
        let link = || self.link_recorded(subject, list);
        self.destination().linked(subject, root).get_or_try_init(link).await.map(|_| ())
    }
}
