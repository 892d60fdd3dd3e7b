//! Going on with the upload of an earlier process (distribution-spec, "Pushing a blob in chunks": GET on the session tells where
//! it stands).

use http::{Method, header::LOCATION};
use url::Url;

use super::Repository;
use super::chunks::stored_bytes;
use super::manner::Way;
use super::retry;
use super::scope::Scopes;
use super::transport::Call;
use super::upload::{Session, location};
use crate::oci::{Descriptor, Digest};
use crate::store::{Step, StoreError, Suspended, Upload};

impl Repository {
    /// The session where it stands as `left` says. `None` where it is gone, stands elsewhere, or there are no chunks; and where
    /// nothing of the blob would be left to send, since another manifest states another size of it.
    pub(super) async fn resume(
        &self,
        blob: &Descriptor,
        left: &Suspended,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        let context = self.context(Step::BeginUpload, blob.digest);
        let Ok(session) = left.session.parse::<Url>() else { return Ok(None) };
        let goes_in_chunks = matches!(self.registry.upload.way(), Way::Chunks(_));
        if left.standing.stored >= blob.size || !goes_in_chunks || !self.may_be_kept(&session) {
            return Ok(None);
        }
        let call = Call::read(Method::GET, session.clone(), Scopes::push(&self.name));
        let answer = self.registry.send(&context, call).await?;
        if retry::failure_of(answer.status, &answer.headers).is_some() {
            // Nothing is known of the session.
            return Err(answer.refusal(&context));
        }
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

    /// Whether the address of a session may be kept: it is one of this registry's own, where nobody gets on without being let in,
    /// and nothing in it is a key by itself.
    ///
    /// Of queries that is known of two. `_state` (CNCF Distribution, and all that is built on it) is the repository, the session's
    /// name, its length and when it began, with an HMAC that proves to the registry that it wrote this; it lets nobody in.
    /// `_nouploadcache` (Azure) is a yes or a no. Any other may be a signature that does.
    pub(super) fn may_be_kept(&self, session: &Url) -> bool {
        let context = self.context(Step::BeginUpload, Digest::of(b""));
        let is_own = self.url(&context, "blobs/uploads/").is_ok_and(|own| own.origin() == session.origin());
        let is_bare = session.username().is_empty() && session.password().is_none() && session.fragment().is_none();
        is_own && is_bare && session.query_pairs().all(|(key, _)| matches!(&*key, "_state" | "_nouploadcache"))
    }
}
