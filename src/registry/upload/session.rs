//! Uploads of blobs (distribution-spec, "Pushing blobs"). This file mounts blobs, opens sessions, sends a blob in one
//! piece, and checks the stored blob. [`super::chunked`] sends chunks. [`crate::registry::learned::upload_strategy`]
//! chooses between one piece and chunks.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, HeaderName, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::chunked::{Sent, Surplus};
use super::commit::{Committed, Uncommitted};
use crate::oci::{Descriptor, Digest, RepositoryName};
use crate::registry::Repository;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::body::Watch;
use crate::registry::http::context::Context;
use crate::registry::http::redirect;
use crate::registry::http::request::Payload;
use crate::registry::http::response::Response;
use crate::registry::http::retry::Operation;
use crate::registry::learned::upload_strategy::{MAX_CHUNK, UploadMethod};
use crate::store::{ErrorKind, Step, StoreError, Upload, UploadProgress, UploadStart, Verified};

/// Maximum size, in bytes, of a blob that the client reads completely before the client sends it. The client can repeat
/// the request with such a blob.
const MAX_BUFFERED: u64 = 128 * 1024;

/// Time limit of the request that cancels an unneeded session. The copy waits for this request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

impl Repository {
    /// If `from` is given, tries to mount the blob from that repository. If `from` is not given or the mount fails,
    /// opens a session.
    pub(crate) async fn open_upload(
        &self,
        blob: &Descriptor,
        from: Option<&RepositoryName>,
    ) -> Result<UploadStart, StoreError> {
        if let Some(from) = from {
            if let Some(started) = self.mount(blob, from).await {
                return Ok(started);
            }
            // The client does not look up the blob before the mount, because a successful mount needs no lookup. If the
            // registry denies the lookup, the client sends the blob.
            if matches!(self.head_blob(blob).await, Ok(true)) {
                return Ok(UploadStart::Mounted);
            }
        }
        let context = self.context(Step::BeginUpload, blob.digest);
        let url = self.url(&context, "blobs/uploads/")?;
        let answer = self.post(&context, Operation::OpenUpload, url, Scopes::push(&self.name)).await?;
        match answer.status {
            StatusCode::ACCEPTED => self.open_session(&context, blob, &answer),
            // A success other than 202 also opens a session if the response has a `Location`.
            status if status.is_success() && answer.headers.contains_key(LOCATION) => {
                self.open_session(&context, blob, &answer)
            }
            status if status.is_success() => {
                Err(context.error(ErrorKind::Invalid, answer.unexpected_success(StatusCode::ACCEPTED)))
            }
            _ => Err(answer.refusal(&context)),
        }
    }

    /// Tries to mount the blob. If the registry opens a session instead, returns this session. If the registry neither
    /// mounts the blob nor opens a session, returns `None`, and the caller uploads the blob.
    ///
    /// Some failures are not specific to one blob, for example a 403. After such a failure, calls for the same two
    /// repositories send no request for ten minutes and return `None`.
    pub(crate) async fn mount(&self, blob: &Descriptor, from: &RepositoryName) -> Option<UploadStart> {
        if self.registry.mount_denials().contains(from, &self.name) {
            return None;
        }
        let context = self.context(Step::BeginUpload, blob.digest);
        let mut url = self.url(&context, "blobs/uploads/").ok()?;
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from.as_str());
        let refused = |why: &dyn std::fmt::Display, is_lasting: bool| {
            tracing::debug!(place = %context.place, %from, blob = %blob.digest, "mount failed: {why}");
            if is_lasting {
                self.registry.mount_denials().remember(from, &self.name);
            }
            None
        };
        let answer = match self.post(&context, Operation::Mount, url, Scopes::mount(&self.name, from)).await {
            Ok(answer) => answer,
            // Some token services issue no token if the identity has only a part of the requested rights.
            Err(error) => return refused(&error, true),
        };
        match answer.status {
            StatusCode::CREATED if !contradicts(&answer, blob) || self.has_blob_now(blob).await => {
                Some(UploadStart::Mounted)
            }
            StatusCode::CREATED => refused(&"the registry reports that it mounted another blob", true),
            status if status.is_success() => {
                self.log_mount_requirement();
                match self.open_session(&context, blob, &answer) {
                    Ok(started) => Some(started),
                    Err(error) => refused(&error, false),
                }
            }
            // A 404 or a 400 can concern this blob only, so the client still tries later mounts.
            status => {
                self.log_mount_requirement();
                let is_lasting = matches!(status.as_u16(), 401 | 403 | 405) || status.is_server_error();
                refused(&answer.detail(), is_lasting)
            }
        }
    }

    /// Logs the setting that the registry requires for mounts, if the registry's flavour has such a requirement. Only
    /// the first call for a registry writes a log line.
    fn log_mount_requirement(&self) {
        if let Some(requirement) = self.registry.flavor().mount_requirement
            && self.registry.facts().claim_log_of_mount_requirement()
        {
            tracing::info!(registry = %self.registry.host(), "{requirement}");
        }
    }

    /// Returns true if a HEAD request confirms that the registry has the blob.
    pub(crate) async fn has_blob_now(&self, blob: &Descriptor) -> bool {
        self.head_blob(blob).await.is_ok_and(|found| found)
    }

    async fn post(&self, context: &Context, kind: Operation, url: Url, scopes: Scopes) -> Result<Response, StoreError> {
        let call = RegistryRequest::new(kind, Method::POST, url, scopes).payload(Payload::Bytes(Bytes::new()));
        self.registry.send(context, call.header(CONTENT_LENGTH, HeaderValue::from_static("0"))).await
    }

    fn open_session(&self, context: &Context, blob: &Descriptor, answer: &Response) -> Result<UploadStart, StoreError> {
        let location = location(context, answer)?
            .ok_or_else(|| context.error(ErrorKind::Invalid, "the registry opened a session without a `Location`"))?;
        let least = answer.header(&OCI_CHUNK_MIN_LENGTH).and_then(|length| length.trim().parse::<usize>().ok());
        if let Some(Err(least)) = least.map(|least| self.registry.facts().upload_strategy.learn_min_chunk(least)) {
            let detail = format!(
                "the registry requires chunks of at least {least} bytes, but this client sends chunks of at most \
                     {MAX_CHUNK} bytes"
            );
            return Err(context.error(ErrorKind::Unsupported, detail));
        }
        Ok(UploadStart::Session(Box::new(Session::new(self.clone(), blob.clone(), location))))
    }
}

/// Returns the URL for the next request of the session. Returns `None` if the response has no `Location`.
pub(crate) fn location(context: &Context, answer: &Response) -> Result<Option<Url>, StoreError> {
    let Some(location) = answer.header(&LOCATION) else { return Ok(None) };
    let url = redirect::resolve_location(&answer.url, location);
    url.map(Some).map_err(|astray| context.error(ErrorKind::Refused, format!("the upload's location: {astray}")))
}

/// Returns true if the response states a digest that differs from the digest of the blob. Ignores a digest with another
/// algorithm.
pub(crate) fn contradicts(answer: &Response, blob: &Descriptor) -> bool {
    let other = |stored: Digest| stored.algorithm() == blob.digest.algorithm() && stored != blob.digest;
    answer.content_digest().is_some_and(other)
}

/// Open upload session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) repository: Repository,
    pub(crate) blob: Descriptor,
    pub(crate) location: Url,
    /// Position up to which an earlier process sent the blob in this session. `None` if no earlier process sent a part
    /// of the blob.
    pub(crate) confirmed: Option<UploadProgress>,
    /// Bytes that the registry stored in this session after the position in `confirmed`.
    pub(crate) surplus: Option<Surplus>,
    /// True if the registry accepted a chunk, but answered with a `Range` that does not end at the end of the chunk.
    /// The client then ignores every `Range` of this session.
    pub(crate) misstates: bool,
}

impl Session {
    pub(crate) fn new(repository: Repository, blob: Descriptor, location: Url) -> Self {
        Self { repository, blob, location, confirmed: None, surplus: None, misstates: false }
    }
}

#[async_trait]
impl Upload for Session {
    async fn send(mut self: Box<Self>, bytes: Verified) -> Result<(), StoreError> {
        let strategy = &self.repository.registry.facts().upload_strategy;
        let is_second_try = self.confirmed.is_none() && strategy.take_single_piece_retry(&self.blob.digest);
        let chunks = match strategy.current_method() {
            _ if self.confirmed.is_some() => self.send_in_chunks(bytes).await,
            _ if self.blob.size <= MAX_BUFFERED => self.send_buffered(bytes).await.map(|()| 1),
            UploadMethod::Chunks(_) if !is_second_try => self.send_in_chunks(bytes).await,
            UploadMethod::Whole | UploadMethod::Chunks(_) => self.send_streamed(bytes).await.map(|()| 1),
        };
        let sent = match chunks {
            Ok(chunks) => self.verify_stored(chunks).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) if is_second_try => {
                self.repository.registry.facts().upload_strategy.learn_one_piece_arrived(&self.blob.digest)
            }
            Ok(()) => {}
            Err(error) if is_second_try => {
                let detail = format!(
                    "{}; the blob was sent in one piece, because the registry did not assemble its chunks",
                    error.detail
                );
                return Err(StoreError { detail, ..error });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn confirmed(&self) -> Option<&UploadProgress> {
        self.confirmed.as_ref()
    }

    async fn cancel(self: Box<Self>) {
        let context = self.context(Step::BeginUpload);
        let call = RegistryRequest::new(Operation::CancelUpload, Method::DELETE, self.location.clone(), self.scopes());
        match tokio::time::timeout(CANCEL_TIMEOUT, self.repository.registry.send(&context, call)).await {
            Ok(Ok(answer)) if answer.status.is_success() => {}
            Ok(Ok(answer)) => {
                tracing::debug!(place = %context.place, "cannot cancel an upload session: {}", answer.detail());
            }
            Ok(Err(error)) => tracing::debug!("cannot cancel an upload session: {error}"),
            Err(_) => tracing::debug!(place = %context.place, "cannot cancel an upload session: no answer in time"),
        }
    }
}

impl Session {
    async fn send_buffered(&self, mut bytes: Verified) -> Result<(), StoreError> {
        let mut buffer = BytesMut::new();
        while let Some(piece) = bytes.next().await {
            buffer.extend_from_slice(&piece?);
        }
        let outcome = self.commit(Operation::Commit, Payload::Bytes(buffer.freeze()), self.blob.size).await;
        outcome.map_err(Uncommitted::error)
    }

    async fn send_streamed(&self, mut bytes: Verified) -> Result<(), StoreError> {
        bytes.wait_for_first_piece().await;
        let outgoing = self.repository.registry.outgoing(bytes, self.repository.tenant);
        let watch = outgoing.watch();
        let guard = Closing(watch.clone());
        let outcome = self.commit(Operation::Streamed, Payload::Stream(outgoing), self.blob.size).await;
        let failure = watch.close();
        drop(guard);
        if let Some(failure) = failure {
            // The upload failed because the source failed.
            return Err(failure);
        }
        match outcome {
            Err(Uncommitted::Unanswered(_)) if watch.bytes_taken() == 0 => {}
            Err(Uncommitted::Unanswered(_) | Uncommitted::Failed(_))
                if self.was_committed(watch.bytes_taken()).await =>
            {
                return Ok(());
            }
            Err(Uncommitted::Unanswered(_)) => {
                self.repository
                    .registry
                    .facts()
                    .upload_strategy
                    .learn_whole_was_interrupted(self.blob.digest, self.blob.size);
            }
            _ => {}
        }
        outcome.map_err(Uncommitted::error)
    }

    /// Sends the blob in chunks. Returns the number of chunks. Returns 1 if a lookup found the complete blob at the
    /// registry.
    async fn send_in_chunks(&mut self, bytes: Verified) -> Result<u32, StoreError> {
        let Sent { chunks, is_flawless } = self.send_chunks(bytes).await?;
        match self.commit_chunks().await {
            Ok(Committed::Seen) => Ok(1),
            Ok(Committed::Answered) => Ok(chunks),
            Err(Uncommitted::Refused(error)) if is_flawless => Err(self.retry_in_one_piece(error)),
            // The client verified the sent bytes, so the content of the session is wrong for one of two other reasons:
            // - An interrupted request also wrote bytes into the session.
            // - The registry lost bytes that an earlier process sent.
            Err(Uncommitted::Refused(error)) if matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Refused) => {
                Err(StoreError { kind: ErrorKind::Unavailable, ..error })
            }
            // The PUT failed repeatedly, or the registry dropped the session. The registry can drop a session while it
            // assembles the chunks.
            Err(Uncommitted::Failed(error)) if self.misstates || is_flawless => Err(self.retry_in_one_piece(error)),
            Err(uncommitted) => Err(uncommitted.error()),
        }
    }

    /// Converts the error of a registry that accepted every chunk but did not assemble the chunks. The returned error
    /// is transient. When the caller repeats the upload, [`Upload::send`] sends the blob in one piece.
    ///
    /// Returns `error` unchanged in these cases:
    ///
    /// - The kind of `error` shows that the chunks are not the cause.
    /// - An earlier upload of this blob in chunks has failed in the same way.
    /// - The registry has refused an upload in one piece.
    pub(crate) fn retry_in_one_piece(&self, error: StoreError) -> StoreError {
        use ErrorKind::{Busy, Denied, NotFound, Unprocessed};
        let concerns_chunks = !matches!(error.kind, Denied | Busy(_) | NotFound | Unprocessed);
        if !concerns_chunks || !self.repository.registry.facts().upload_strategy.learn_chunks_failed(self.blob.digest) {
            return error;
        }
        let detail = format!("{}; the blob is sent again in one piece", error.detail);
        self.context(Step::SendBlob).budget.renew();
        StoreError { kind: ErrorKind::Unavailable, detail, given_up: false, ..error }
    }

    /// In doubtful cases, checks the length of the stored blob. If the registry states no length, returns success. If
    /// the registry lacks the blob, the later PUT of the manifest then fails.
    async fn verify_stored(&self, chunks: u32) -> Result<(), StoreError> {
        let (repository, blob) = (&self.repository, &self.blob);
        let strategy = &repository.registry.facts().upload_strategy;
        if !strategy.needs_verification(chunks) && !self.misstates {
            return Ok(());
        }
        let stored = match repository.stored_length(blob).await {
            Some(stored) if stored != blob.size => stored,
            length => {
                if length.is_some() && chunks > 1 {
                    strategy.learn_chunks_arrived();
                }
                return Ok(());
            }
        };
        let contradiction =
            format!("the registry reports that it stored the blob, but it has {stored} bytes instead of {}", blob.size);
        let context = self.context(Step::CommitBlob);
        if chunks > 1 && strategy.learn_chunks_are_lost() {
            let detail = format!("{contradiction}: blobs are sent to this registry in one piece from now on");
            return Err(context.error(ErrorKind::Unavailable, detail));
        }
        let error = context.error(ErrorKind::Corrupt, contradiction);
        Err(if chunks > 1 { self.retry_in_one_piece(error) } else { error })
    }

    pub(crate) fn context(&self, step: Step) -> Context {
        self.repository.context(step, self.blob.digest)
    }

    pub(crate) fn scopes(&self) -> Scopes {
        Scopes::push(&self.repository.name)
    }
}

/// Guard that closes the source of the blob's bytes, even if the caller drops the upload before its end.
struct Closing(Watch);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(crate) fn header(context: &Context, text: &str) -> Result<HeaderValue, StoreError> {
    HeaderValue::from_str(text).map_err(|error| context.error(ErrorKind::Invalid, error))
}
