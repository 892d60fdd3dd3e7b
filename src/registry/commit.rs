//! The PUT that ends an upload (distribution-spec, "Pushing blobs"), and what is believed of its answer: the status
//! says whether the blob was committed, and a header that contradicts a success is checked by a look.

use bytes::Bytes;
use http::Method;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::answer::{Answer, Context};
use super::retry::{self, Failure, Kind};
use super::transport::{Call, Payload};
use super::upload::{OCTETS, Session, contradicts};
use crate::store::{ErrorKind, Step, StoreError};

/// Number of times that a commit that failed is sent again while its session stands.
const COMMITS_AGAIN: u32 = 3;

/// The evidence that an upload was ended.
pub(super) enum Committed {
    /// The registry said so.
    Answered,
    /// The whole blob was found.
    Seen,
}

/// Why an upload was not ended.
pub(super) enum Uncommitted {
    /// The registry said no.
    Refused(StoreError),
    /// It said that it failed: it may have the blob.
    Failed(StoreError),
    /// It said nothing: it may have the blob.
    Unanswered(StoreError),
}

impl Uncommitted {
    pub(super) fn error(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::Failed(error) | Self::Unanswered(error) => error,
        }
    }
}

impl Session {
    /// Commits what went in chunks. Where no answer came, or the registry failed, and it still has the session, the
    /// commit is sent again: all bytes are there.
    pub(super) async fn commit_chunks(&mut self) -> Result<Committed, Uncommitted> {
        let mut again = 0;
        loop {
            let failed = match self.commit(Kind::Commit, Payload::Bytes(Bytes::new()), 0).await {
                Ok(()) => return Ok(Committed::Answered),
                Err(refused @ Uncommitted::Refused(_)) => return Err(refused),
                Err(failed) => failed,
            };
            if self.is_there_after(self.blob.size).await {
                return Ok(Committed::Seen);
            }
            if again == COMMITS_AGAIN || !self.stands_at_end().await {
                return Err(failed);
            }
            again += 1;
        }
    }

    /// True if the blob was committed although nobody said so. Where all bytes were sent, one HEAD may spare them all.
    pub(super) async fn is_there_after(&self, sent: u64) -> bool {
        sent == self.blob.size && self.repository.head_blob(&self.blob).await.is_ok_and(|there| there)
    }

    /// The PUT that ends the session.
    pub(super) async fn commit(&self, kind: Kind, payload: Payload, length: u64) -> Result<(), Uncommitted> {
        let context = self.context(Step::CommitBlob);
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let call = Call::new(kind, Method::PUT, url, self.scopes())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, length.into())
            .payload(payload);
        let context = if length > 0 { context.at(Step::SendBlob) } else { context };
        let answer = match self.repository.registry.send(&context, call).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Unavailable => return Err(Uncommitted::Unanswered(error)),
            Err(error) => return Err(Uncommitted::Refused(error)),
        };
        if retry::failure_of(answer.status, &answer.headers) == Some(Failure::Failing) {
            return Err(Uncommitted::Failed(answer.refusal(&context)));
        }
        if !answer.status.is_success() {
            return Err(Uncommitted::Refused(self.whole_refused(&context, &answer, length)));
        }
        let is_plain = matches!(answer.status, StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT);
        if (is_plain && !contradicts(&answer, &self.blob)) || self.repository.is_there(&self.blob).await {
            return Ok(());
        }
        Err(Uncommitted::Refused(match answer.content_digest() {
            Some(stored) if contradicts(&answer, &self.blob) => {
                context.error(ErrorKind::Corrupt, format!("the registry says that it stored {stored}"))
            }
            _ => context.error(ErrorKind::Unavailable, format!("{}, and the blob is not there", answer.detail())),
        }))
    }

    /// A body that is too large for the registry, or for what stands before it, may go in chunks: the caller begins
    /// again.
    fn whole_refused(&self, context: &Context, answer: &Answer, length: u64) -> StoreError {
        let by_its_length = match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::LENGTH_REQUIRED => true,
            StatusCode::BAD_REQUEST => answer.codes().iter().any(|code| code == "SIZE_INVALID"),
            _ => false,
        };
        if by_its_length && self.repository.registry.upload.learn_whole_is_refused(length) {
            let detail = format!("{}: the registry gets large blobs in chunks from now on", answer.detail());
            return context.error(ErrorKind::Unavailable, detail);
        }
        answer.refusal(context)
    }
}
