//! Going on with the upload of an earlier process (distribution-spec, "Pushing a blob in chunks": GET on the session tells where
//! it stands).

use http::{Method, header::LOCATION};
use url::Url;

use super::Repository;
use super::chunks::stored_bytes;
use super::manner::Way;
use super::scope::Scopes;
use super::transport::Call;
use super::upload::{Session, location};
use crate::oci::Descriptor;
use crate::store::{Step, StoreError, Suspended, Upload};

impl Repository {
    /// The session where it stands as `left` says. `None` where it is gone, stands elsewhere, or there are no chunks.
    pub(super) async fn resume(
        &self,
        blob: &Descriptor,
        left: &Suspended,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        let context = self.context(Step::BeginUpload, blob.digest);
        let Ok(session) = left.session.parse::<Url>() else { return Ok(None) };
        if !matches!(self.registry.upload.way(), Way::Chunks(_)) || !self.is_own(&session) {
            return Ok(None);
        }
        let call = Call::read(Method::GET, session.clone(), Scopes::push(&self.name));
        let answer = self.registry.send(&context, call).await?;
        if !answer.status.is_success() || stored_bytes(&answer) != Some(left.standing.stored) {
            return Ok(None);
        }
        let location = if answer.headers.contains_key(LOCATION) { location(&context, &answer)? } else { None };
        let session = Session {
            repository: self.clone(),
            blob: blob.clone(),
            location: location.unwrap_or(session),
            standing: Some(left.standing.clone()),
        };
        Ok(Some(Box::new(session)))
    }

    /// Whether an address is one of this registry's own, where nobody gets on without being let in. One at a storage elsewhere may
    /// be a key in itself, and is not kept.
    pub(super) fn is_own(&self, session: &Url) -> bool {
        let context = self.context(Step::BeginUpload, crate::oci::Digest::of(b""));
        self.url(&context, "blobs/uploads/").is_ok_and(|own| own.origin() == session.origin())
    }
}
