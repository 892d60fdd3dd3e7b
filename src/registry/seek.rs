//! A blob of which nobody knows whether it is here: looked for, and begun where it is not, with one request where the
//! registry allows that.

use std::sync::atomic::{AtomicU8, Ordering};

use super::blobs::Looked;
use super::{Kind, Repository};
use crate::oci::Descriptor;
use crate::store::{Begun, Sought, StoreError};

/// Whether to mount a blob from the very repository that it is to be in tells that it is there (201), and opens a session
/// where it is not (202). distribution-spec does not say so, and a registry that never mounts answers 202 for a blob that it
/// has: so it is tried once, with a blob that is known to be there, before it is relied on.
#[derive(Debug, Default)]
pub(crate) struct OwnMount(AtomicU8);

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const WORKS: u8 = 2;

impl OwnMount {
    fn works(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WORKS
    }

    /// Says to one alone that it is to try. Until it has learnt better, the answer is no.
    fn is_to_be_tried(&self) -> bool {
        self.0.compare_exchange(UNKNOWN, NO, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn learn(&self, works: bool) {
        self.0.store(if works { WORKS } else { NO }, Ordering::Relaxed);
    }
}

impl Repository {
    pub(crate) async fn seek_or_begin(&self, blob: &Descriptor) -> Result<Sought, StoreError> {
        // Azure counts a POST as a write, which it allows far fewer of; Amazon mounts only what a manifest refers to, and
        // allows few uploads to begin: there a HEAD is the cheaper question.
        let posts_are_dear = matches!(self.registry.kind, Kind::Acr | Kind::Ecr);
        if posts_are_dear || !self.registry.own_mount.works() {
            return self.look_then_begin(blob, !posts_are_dear).await;
        }
        match self.mount(blob, &self.name).await {
            Some(Begun::Mounted) => Ok(Sought::Found),
            Some(Begun::Session(session)) => Ok(Sought::Session(session)),
            None => {
                self.registry.own_mount.learn(false);
                self.look_then_begin(blob, false).await
            }
        }
    }

    async fn look_then_begin(&self, blob: &Descriptor, learns: bool) -> Result<Sought, StoreError> {
        match self.look_for_blob(blob).await {
            Ok(Looked::Present) => {}
            Ok(Looked::Absent) => return Ok(self.open_upload(blob, None).await?.into()),
            Ok(Looked::OtherLength(stored)) => return Ok(Sought::OtherLength(stored)),
            // Nothing is known of the blob. To send it is right in any case.
            Err(error) => {
                tracing::debug!(%error, "the blob is sent, since the registry does not say whether it has it");
                return Ok(self.open_upload(blob, None).await?.into());
            }
        }
        if learns && self.registry.own_mount.is_to_be_tried() {
            self.try_own_mount(blob).await;
        }
        Ok(Sought::Found)
    }

    /// Finds out with a blob that is here. A failure is an answer as well: it is not tried again.
    async fn try_own_mount(&self, blob: &Descriptor) {
        let works = match self.mount(blob, &self.name).await {
            Some(Begun::Mounted) => true,
            Some(Begun::Session(session)) => {
                session.cancel().await;
                false
            }
            None => false,
        };
        tracing::debug!(registry = %self.registry.host(), works, "tried to find a blob by mounting it where it is");
        self.registry.own_mount.learn(works);
    }
}
