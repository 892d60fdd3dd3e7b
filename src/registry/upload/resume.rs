//! Resumption of an upload of an earlier process (distribution-spec, "Pushing a blob in chunks": a GET of the session
//! reports the number of stored bytes).

use http::{Method, header::LOCATION};
use url::Url;

use super::chunked::{Surplus, stored_bytes};
use super::session::{Session, location};
use crate::oci::{Descriptor, Digest};
use crate::registry::Repository;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::context::Context;
use crate::registry::http::response::Response;
use crate::registry::learned::upload_strategy::UploadMethod;
use crate::store::{Step, StoreError, Upload, UploadProgress, UploadSession};

impl Repository {
    /// If the upload of an earlier process can resume in the session of `record`, returns this session. In the
    /// following cases, logs the reason and returns `None`:
    ///
    /// * The session no longer exists.
    /// * The session has stored fewer bytes than the recorded position, or bytes beyond the end of the recorded next
    ///   chunk.
    /// * [`Repository::may_be_stored`] returns false for the URL of the session.
    /// * The client sends blobs to this registry in one piece.
    /// * The manifest now states a smaller size of the blob, so no byte would remain to send.
    pub(crate) async fn resume(
        &self,
        blob: &Descriptor,
        record: &UploadSession,
    ) -> Result<Option<Box<dyn Upload>>, StoreError> {
        let context = self.context(Step::BeginUpload, blob.digest);
        let restarts = |why: &str| {
            let noted = record.confirmed.stored;
            let (target, digest) = (&context.place, blob.digest);
            tracing::info!(%target, %digest, noted, "an interrupted upload restarts: {why}");
            Ok(None)
        };
        let Ok(session) = record.session.parse::<Url>() else {
            return restarts("the recorded session has no valid URL");
        };
        if record.confirmed.stored >= blob.size || record.ahead.as_ref().is_some_and(|ahead| ahead.stored > blob.size) {
            return restarts("the blob is not larger than the part that was already sent");
        }
        let UploadMethod::Chunks(chunk) = self.registry.facts().upload_strategy.current_method() else {
            return restarts("blobs are sent to this registry in one piece now");
        };
        if !self.may_be_stored(&session) {
            return restarts("the URL of the recorded session is at another host, or may contain a key");
        }
        let call = RegistryRequest::read(Method::GET, session.clone(), Scopes::push(&self.name));
        let answer = self.registry.send(&context, call).await?;
        if answer.failure().is_some() {
            return Err(answer.refusal(&context));
        }
        if !answer.status.is_success() {
            return restarts(&format!("the registry no longer has the session ({})", answer.detail()));
        }
        let Some(stored) = stored_bytes(&answer) else {
            return restarts("the registry does not report the number of stored bytes");
        };
        let Some((confirmed, surplus)) = find_position(record, stored, blob.size, chunk as u64) else {
            return restarts(&format!(
                "the registry has {stored} bytes of the blob, but the journal recorded another \
                number"
            ));
        };
        let location = next_location(&context, &answer)?.unwrap_or(session);
        let (confirmed, misstates) = (Some(confirmed), false);
        Ok(Some(Box::new(Session {
            repository: self.clone(),
            blob: blob.clone(),
            location,
            confirmed,
            surplus,
            misstates,
        })))
    }

    /// Returns true if the journal may store the URL of a session. These conditions are required:
    ///
    /// * The URL is at this registry.
    /// * No part of the URL grants access on its own.
    ///
    /// These query parameters grant no access:
    ///
    /// * `_state` (CNCF Distribution and registries that use its code) contains the repository, and the session's name,
    ///   length and start. An HMAC proves that the registry wrote the value.
    /// * `_nouploadcache` (Azure) is `true` or `false`.
    ///
    /// Any other parameter can be a signature that grants access.
    pub(crate) fn may_be_stored(&self, session: &Url) -> bool {
        let context = self.context(Step::BeginUpload, Digest::of(b""));
        let is_own = self.url(&context, "blobs/uploads/").is_ok_and(|own| own.origin() == session.origin());
        let is_bare = session.username().is_empty() && session.password().is_none() && session.fragment().is_none();
        is_own && is_bare && session.query_pairs().all(|(key, _)| matches!(&*key, "_state" | "_nouploadcache"))
    }
}

/// Returns the last position with a known hash in a session that has `stored` bytes. Also returns the surplus: the
/// bytes of the session after this position, at most one chunk. The client reads the surplus from the source again. The
/// last chunk of a blob always counts as surplus, because the verification of the whole blob needs its bytes.
fn find_position(
    record: &UploadSession,
    stored: u64,
    size: u64,
    chunk: u64,
) -> Option<(UploadProgress, Option<Surplus>)> {
    let UploadSession { confirmed, ahead, .. } = record;
    if stored == confirmed.stored {
        return Some((confirmed.clone(), None)).filter(|_| stored > 0);
    }
    let ahead = ahead.as_ref().filter(|ahead| stored > confirmed.stored && stored <= ahead.stored)?;
    if stored == ahead.stored && stored < size {
        return Some((ahead.clone(), None));
    }
    // Before the first byte, some registries report `0-0`, which looks like one stored byte.
    let is_usable = stored > 1 && ahead.stored - confirmed.stored <= chunk;
    is_usable.then(|| (confirmed.clone(), Some(Surplus { stored, end: ahead.clone() })))
}

fn next_location(context: &Context, answer: &Response) -> Result<Option<Url>, StoreError> {
    if answer.headers.contains_key(LOCATION) { location(context, answer) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digester;

    fn confirmed(stored: u64) -> UploadProgress {
        let mut hashed = Digester::like(&Digest::of(b""));
        hashed.update(&vec![0; usize::try_from(stored).unwrap()]);
        UploadProgress { stored, hashed }
    }

    #[test]
    fn session_resumes_before_after_or_within_recorded_chunk() {
        let record = |stored, ahead: Option<u64>| UploadSession {
            session: String::new(),
            confirmed: confirmed(stored),
            ahead: ahead.map(confirmed),
        };
        // Blob of 100 bytes in chunks of 20. The expected values are the position with the restored hash, and the
        // surplus.
        for (stored, ahead, has, expected) in [
            (40, Some(60), 40, Some((40, None))),
            (40, Some(60), 60, Some((60, None))),
            (40, Some(60), 41, Some((40, Some(41)))),
            (40, Some(60), 59, Some((40, Some(59)))),
            (40, Some(60), 39, None),
            (40, Some(60), 61, None),
            (40, None, 40, Some((40, None))),
            (40, None, 60, None),
            // The client always reads the last chunk again.
            (80, Some(100), 100, Some((80, Some(100)))),
            // Before the first byte, some sessions report one byte.
            (0, Some(20), 0, None),
            (0, Some(20), 1, None),
            (0, Some(20), 2, Some((0, Some(2)))),
            (0, Some(20), 20, Some((20, None))),
            // The earlier process used larger chunks.
            (40, Some(90), 41, None),
            (40, Some(90), 90, Some((90, None))),
        ] {
            let found = find_position(&record(stored, ahead), has, 100, 20);
            let found = found.map(|(confirmed, surplus)| (confirmed.stored, surplus.map(|surplus| surplus.stored)));
            assert_eq!(found, expected, "{stored} {ahead:?} {has}");
        }
    }
}
