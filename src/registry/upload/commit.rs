//! Commit of an upload by the final PUT (distribution-spec, "Pushing blobs"). The status of the response shows whether
//! the registry has committed the blob. If a header of a success contradicts the status, the client looks up the blob.

use bytes::Bytes;
use http::Method;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::session::{OCTETS, Session, contradicts};
use crate::registry::auth::request::RegistryRequest;
use crate::registry::http::context::Context;
use crate::registry::http::request::Payload;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{Failure, Operation};
use crate::store::{ErrorKind, Step, StoreError};

/// Maximum number of repeats of a failed commit. The client repeats a commit only while the session has all bytes.
const MAX_COMMIT_REPEATS: u32 = 3;

/// Evidence that the registry committed an upload.
pub(crate) enum Committed {
    /// The registry reported a success.
    Answered,
    /// A lookup found the whole blob.
    Seen,
}

/// Reason why an upload was not committed.
pub(crate) enum Uncommitted {
    /// The registry refused the commit.
    Refused(StoreError),
    /// The registry reported a failure. The registry may have the blob.
    Failed(StoreError),
    /// The client received no response. The registry may have the blob.
    Unanswered(StoreError),
}

impl Uncommitted {
    pub(crate) fn error(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::Failed(error) | Self::Unanswered(error) => error,
        }
    }
}

impl Session {
    /// Commits the bytes after all chunks. If the commit fails without a refusal and the session still has all bytes,
    /// repeats the commit.
    pub(crate) async fn commit_chunks(&mut self) -> Result<Committed, Uncommitted> {
        let mut repeats = 0;
        loop {
            let failed = match self.commit(Operation::Commit, Payload::Bytes(Bytes::new()), 0).await {
                Ok(()) => return Ok(Committed::Answered),
                Err(refused @ Uncommitted::Refused(_)) => return Err(refused),
                Err(failed) => failed,
            };
            if self.was_committed(self.blob.size).await {
                return Ok(Committed::Seen);
            }
            if repeats == MAX_COMMIT_REPEATS || !self.has_all_bytes().await {
                return Err(failed);
            }
            repeats += 1;
        }
    }

    /// Returns true if the registry has the blob although the client received no success. `sent` is the number of sent
    /// bytes. If the client has not sent all bytes, returns false without a request.
    pub(crate) async fn was_committed(&self, sent: u64) -> bool {
        sent == self.blob.size && self.repository.head_blob(&self.blob).await.is_ok_and(|found| found)
    }

    /// Sends the PUT that ends the session.
    pub(crate) async fn commit(&self, kind: Operation, payload: Payload, length: u64) -> Result<(), Uncommitted> {
        let context = self.context(Step::CommitBlob);
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let call = RegistryRequest::new(kind, Method::PUT, url, self.scopes())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, length.into())
            .payload(payload);
        let context = if length > 0 { context.at_step(Step::SendBlob) } else { context };
        let answer = match self.repository.registry.send(&context, call).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(Uncommitted::Unanswered(error)),
            Err(error) => return Err(Uncommitted::Refused(error)),
        };
        if answer.failure() == Some(Failure::ServerError) {
            return Err(Uncommitted::Failed(answer.refusal(&context)));
        }
        if !answer.status.is_success() {
            return Err(Uncommitted::Refused(self.refused_body_error(&context, &answer, length)));
        }
        let is_plain = matches!(answer.status, StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT);
        if (is_plain && !contradicts(&answer, &self.blob)) || self.repository.has_blob_now(&self.blob).await {
            return Ok(());
        }
        Err(Uncommitted::Refused(match answer.content_digest() {
            Some(stored) if contradicts(&answer, &self.blob) => {
                context.error(ErrorKind::Corrupt, format!("the registry reports that it stored {stored}"))
            }
            _ => context
                .error(ErrorKind::Unavailable, format!("{}, but the registry does not have the blob", answer.detail())),
        }))
    }

    /// Returns the error of a refused body. If the body was too large for the registry or a proxy, the error has the
    /// kind `Unavailable`. The caller then restarts the upload in chunks.
    fn refused_body_error(&self, context: &Context, answer: &Response, length: u64) -> StoreError {
        let refuses_length = match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::LENGTH_REQUIRED => true,
            StatusCode::BAD_REQUEST => answer.codes().iter().any(|code| code == "SIZE_INVALID"),
            _ => false,
        };
        if refuses_length && self.repository.registry.facts().upload_strategy.learn_whole_is_refused(length) {
            let detail = format!("{}: large blobs are sent in chunks from now on", answer.detail());
            return context.error(ErrorKind::Unavailable, detail);
        }
        answer.refusal(context)
    }
}
