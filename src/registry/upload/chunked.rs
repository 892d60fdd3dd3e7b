//! Upload of a session's bytes in chunks (distribution-spec, "Pushing a blob in chunks"). The client holds each chunk
//! in memory until the registry has stored the chunk. So an interrupted chunk can resume at the offset that the
//! registry reports.
//!
//! If the registry accepts a chunk, the client assumes that the registry has stored the whole chunk. The client does
//! not trust the `Range` of this response:
//!
//! - After each chunk, Amazon ECR states the end of the first chunk (aws/containers-roadmap#2831).
//! - Other registries state only the range of the last chunk, or one byte too many.
//!
//! The client uses a `Range` only after a refused or interrupted chunk. If the session has ever stated a wrong `Range`,
//! the client uses no `Range` of the session.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, StatusCode};

use super::chunker::Feed;
use super::session::{OCTETS, Session, header, location};
use crate::oci::Digester;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::http::context::Context;
use crate::registry::http::request::Payload;
use crate::registry::http::response::Response;
use crate::registry::http::retry::{Failure, Operation};
use crate::registry::learned::upload_strategy::UploadMethod;
use crate::store::{self, ErrorKind, Step, StoreError, UploadSession, Verified};

/// Maximum number of successive failed chunks, each with less than half of its bytes stored. Without this maximum, a
/// registry that stores one byte of each chunk would receive chunks for a very long time.
const MAX_FRUITLESS_CHUNKS: u32 = 3;

/// State of a session after a chunk.
struct ChunkOutcome {
    /// Number of bytes that the session has stored.
    stored: u64,
    /// Error of the chunk. `None` if the chunk succeeded.
    error: Option<StoreError>,
}

/// Error of a chunk. After this error, the upload in this session cannot continue.
enum SendError {
    /// The registry refuses the chunk or its offset. The registry perhaps accepts the blob in one piece.
    Refused(StoreError),
    /// The upload failed for any other reason, such as a lost connection.
    Failed(StoreError),
}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Bytes that a session has stored after the recorded position. These bytes belong to the chunk that was in flight when
/// an earlier process ended.
#[derive(Debug)]
pub(crate) struct Surplus {
    /// Number of bytes that the session has stored, from the start of the blob.
    pub(crate) stored: u64,
    /// Offset of the end of the interrupted chunk, and the hash of all bytes before this offset.
    pub(crate) end: store::UploadProgress,
}

/// Outcome of sending all bytes of a session.
pub(crate) struct Sent {
    pub(crate) chunks: u32,
    /// True if this process sent all chunks, and no chunk failed.
    pub(crate) is_flawless: bool,
}

/// Position in an upload: an offset, and the hash of all bytes before the offset. The hash is `None` if the upload does
/// not record its progress.
struct Position {
    offset: u64,
    hashed: Option<Digester>,
}

impl Session {
    /// Sends all bytes. The caller must then send the empty PUT that commits the bytes.
    pub(crate) async fn send_chunks(&mut self, bytes: Verified) -> Result<Sent, StoreError> {
        let is_resumed = self.confirmed.is_some();
        let mut sent = Sent { chunks: if is_resumed { 2 } else { 0 }, is_flawless: !is_resumed };
        let mut feed = Feed::new(bytes);
        let (mut position, mut unsent) = self.find_start(&mut feed).await?;
        let mut fruitless = 0;
        loop {
            let size = self.chunk_size();
            let remaining = usize::try_from(self.blob.size - position.offset).unwrap_or(usize::MAX);
            unsent = feed.fill(unsent, size.min(remaining)).await?;
            if unsent.is_empty() {
                return Ok(sent);
            }
            let chunk = unsent.slice(..size.min(unsent.len()));
            let half = chunk.len().div_ceil(2) as u64;
            sent.chunks = sent.chunks.saturating_add(1);
            let end = feed.hashed().filter(|_| chunk.len() == unsent.len());
            let before = store::UploadProgress {
                stored: position.offset,
                hashed: position.hashed.clone().unwrap_or_else(|| self.unhashed()),
            };
            let ahead = end
                .clone()
                .map(|hashed| store::UploadProgress { stored: position.offset + chunk.len() as u64, hashed });
            self.report_progress(&feed, &before, ahead.as_ref()).await;
            let ChunkOutcome { stored, error } = match self.send_chunk(position.offset, chunk, fruitless).await {
                Ok(outcome) => outcome,
                Err(SendError::Refused(error)) if position.offset > 0 && (self.misstates || sent.is_flawless) => {
                    return Err(self.retry_in_one_piece(error));
                }
                Err(SendError::Refused(error) | SendError::Failed(error)) => return Err(error),
            };
            let progresses = stored - position.offset >= half || stored == self.blob.size;
            fruitless = if progresses { 0 } else { fruitless + 1 };
            // `within_chunk` ensures that `stored` does not exceed the sent bytes.
            let taken = usize::try_from(stored - position.offset).unwrap_or(usize::MAX).min(unsent.len());
            position.advance(&unsent.split_to(taken), end.filter(|_| unsent.is_empty()));
            if stored == self.blob.size {
                // The recorded position is before the last chunk, because a later process must read this chunk to
                // verify the blob.
                self.report_progress(&feed, &before, ahead.as_ref()).await;
            } else if let Some(hashed) = position.hashed.clone() {
                self.report_progress(&feed, &store::UploadProgress { stored, hashed }, None).await;
            }
            if let Some(error) = error {
                sent.is_flawless = false;
                if fruitless > MAX_FRUITLESS_CHUNKS {
                    return Err(error);
                }
                tracing::debug!(trouble = %error, offset = position.offset, "a chunk failed; the upload resumes");
            }
        }
    }

    /// Finds the position of the first byte that the registry has not stored. Also returns bytes after this position
    /// that the client has already read from the source. If the session has bytes after the recorded position, the
    /// client reads the same bytes from the source. If the hash of these bytes differs from the recorded hash, returns
    /// an error, and the upload restarts.
    async fn find_start(&mut self, feed: &mut Feed) -> Result<(Position, Bytes), StoreError> {
        let hashes = feed.bytes.has_progress();
        let Some(store::UploadProgress { stored, mut hashed }) = self.confirmed.clone() else {
            let hashed = hashes.then(|| self.unhashed());
            return Ok((Position { offset: 0, hashed }, Bytes::new()));
        };
        let Some(Surplus { stored: has, end }) = self.surplus.take() else {
            return Ok((Position { offset: stored, hashed: hashes.then_some(hashed) }, Bytes::new()));
        };
        let length = usize::try_from(end.stored - stored).unwrap_or(usize::MAX);
        let mut unsent = feed.fill(Bytes::new(), length).await?;
        let mut all = hashed.clone();
        all.update(&unsent);
        if all.to_state() != end.hashed.to_state() {
            let detail = "the source's bytes differ from the bytes that an earlier process sent: the upload restarts";
            return Err(self.context(Step::SendBlob).error(ErrorKind::Unavailable, detail));
        }
        let surplus = unsent.split_to(usize::try_from(has - stored).unwrap_or(usize::MAX).min(unsent.len()));
        hashed.update(&surplus);
        Ok((Position { offset: has, hashed: hashes.then_some(hashed) }, unsent))
    }

    fn unhashed(&self) -> Digester {
        Digester::like(&self.blob.digest)
    }

    /// Reports the current progress of the session (`confirmed`), and its progress after the next chunk (`ahead`). A
    /// later process can resume if the session then has at least the bytes of `confirmed`, and at most the bytes of
    /// `ahead`.
    fn report_progress(
        &self,
        feed: &Feed,
        confirmed: &store::UploadProgress,
        ahead: Option<&store::UploadProgress>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let is_recorded = feed.bytes.has_progress() && self.repository.may_be_stored(&self.location);
        if feed.bytes.has_progress() && !is_recorded {
            self.repository.registry.facts().upload_strategy.log_once_that_uploads_restart(&self.repository.place);
        }
        let session = || self.location.to_string();
        let record = is_recorded.then(|| UploadSession {
            session: session(),
            confirmed: confirmed.clone(),
            ahead: ahead.cloned(),
        });
        let report = record.map(|record| feed.bytes.report_progress(record));
        async move {
            if let Some(report) = report {
                report.await;
            }
        }
    }

    fn chunk_size(&self) -> usize {
        match self.repository.registry.facts().upload_strategy.current_method() {
            UploadMethod::Chunks(size) => size,
            // A concurrent upload has just learned that the registry refuses chunks. The registry will also refuse this
            // chunk.
            UploadMethod::Whole => crate::registry::flavor::generic::DEFAULT_CHUNK,
        }
    }

    async fn send_chunk(&mut self, offset: u64, chunk: Bytes, fruitless: u32) -> Result<ChunkOutcome, SendError> {
        let context = self.context(Step::SendBlob);
        let length = chunk.len();
        let answer = match self.patch(&context, offset, chunk).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Unavailable => {
                if offset == 0 && fruitless > 0 {
                    // After a second failure, the client assumes that the chunk is too large: the registry possibly
                    // sent a refusal, and closed the connection before the client read the refusal.
                    if self.repository.registry.facts().upload_strategy.learn_chunk_is_too_large(length) {
                        context.budget.renew();
                    }
                }
                return self.query_stored(error, offset, length, fruitless).await;
            }
            Err(error) => return Err(error.into()),
        };
        match answer.status {
            // distribution-spec requires 202; Amazon ECR returns 201, other registries 204.
            status if status.is_success() => {
                self.update_location(&context, &answer)?;
                let stored = offset + length as u64;
                context.budget.record_progress(stored);
                self.check_range(&answer, stored);
                Ok(ChunkOutcome { stored, error: None })
            }
            _ if answer.failure() == Some(Failure::ServerError) => {
                self.query_stored(answer.refusal(&context), offset, length, fruitless).await
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.update_location(&context, &answer)?;
                match stored_after(&answer, offset) {
                    Some(stored) if stored != offset && !self.misstates => {
                        within_chunk(stored, offset, length, answer.refusal(&context)).map_err(SendError::Refused)
                    }
                    _ => self.handle_refused_chunk(&context, &answer, offset, length),
                }
            }
            _ => self.handle_refused_chunk(&context, &answer, offset, length),
        }
    }

    /// Compares the `Range` of a success with the sent bytes. If the `Range` is wrong, the client ignores this `Range`
    /// and all later ranges of the session.
    fn check_range(&mut self, answer: &Response, sent: u64) {
        if self.misstates || !answer.headers.contains_key(RANGE) || range_length(answer) == Some(sent) {
            return;
        }
        self.misstates = true;
        let stated = answer.header(&RANGE).unwrap_or_default();
        tracing::debug!(
            place = %self.repository.place, blob = %self.blob.digest, sent,
            stated = ?stated.chars().take(64).collect::<String>(),
            "the registry accepted a chunk, but its Range does not match the sent bytes: the digest decides at the end"
        );
    }

    async fn patch(&self, context: &Context, offset: u64, chunk: Bytes) -> Result<Response, StoreError> {
        context.budget.mark_offset(offset);
        let last = offset + chunk.len() as u64 - 1;
        let call = RegistryRequest::new(Operation::Chunk, Method::PATCH, self.location.clone(), self.scopes())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, chunk.len().into())
            .header(CONTENT_RANGE, header(context, &format!("{offset}-{last}"))?)
            .payload(Payload::Bytes(chunk));
        self.repository.registry.send(context, call).await
    }

    /// Updates the URL of the session, if the response states a new URL.
    fn update_location(&mut self, context: &Context, answer: &Response) -> Result<(), StoreError> {
        if let Some(next) = location(context, answer)? {
            self.location = next;
        }
        Ok(())
    }

    /// Queries the number of stored bytes after a failed chunk. If the number remains unknown, returns the error of the
    /// chunk, and the upload restarts.
    async fn query_stored(
        &mut self,
        error: StoreError,
        offset: u64,
        length: usize,
        fruitless: u32,
    ) -> Result<ChunkOutcome, SendError> {
        if self.misstates {
            return Err(error.into());
        }
        let registry = &self.repository.registry;
        tokio::time::sleep(registry.retry_policy().first_pause * 2u32.pow(fruitless)).await;
        let context = self.context(Step::SendBlob);
        let response =
            registry.send(&context, RegistryRequest::read(Method::GET, self.location.clone(), self.scopes())).await;
        let Ok(answer) = response else { return Err(error.into()) };
        let Some(stored) = stored_after(&answer, offset).filter(|_| answer.status.is_success()) else {
            return Err(error.into());
        };
        self.update_location(&context, &answer)?;
        Ok(within_chunk(stored, offset, length, error)?)
    }

    /// Returns true if the session reports that it has all bytes.
    pub(crate) async fn has_all_bytes(&mut self) -> bool {
        let registry = &self.repository.registry;
        tokio::time::sleep(registry.retry_policy().first_pause).await;
        let context = self.context(Step::CommitBlob);
        let response =
            registry.send(&context, RegistryRequest::read(Method::GET, self.location.clone(), self.scopes())).await;
        let Ok(answer) = response else { return false };
        let has_all = answer.status.is_success() && range_length(&answer) == Some(self.blob.size);
        has_all && !self.misstates && self.update_location(&context, &answer).is_ok()
    }

    /// Handles a chunk that the registry refused. If the chunk was too large, the next chunks are smaller. If the
    /// registry accepts no chunks at all, returns an error, and the upload restarts in one piece.
    fn handle_refused_chunk(
        &self,
        context: &Context,
        answer: &Response,
        offset: u64,
        length: usize,
    ) -> Result<ChunkOutcome, SendError> {
        let strategy = &self.repository.registry.facts().upload_strategy;
        let is_too_large = matches!(answer.status.as_u16(), 413 | 416);
        if offset == 0 && is_too_large && strategy.learn_chunk_is_too_large(length) {
            return Ok(ChunkOutcome { stored: 0, error: Some(answer.refusal(context)) });
        }
        if refuses_all_chunks(answer) && strategy.learn_chunks_are_refused(offset == 0) {
            let detail =
                format!("{}: the registry accepts no chunks; blobs are sent in one piece from now on", answer.detail());
            return Err(context.error(ErrorKind::Unavailable, detail).into());
        }
        let error = answer.refusal(context);
        let is_about_offset = self.misstates || matches!(answer.status.as_u16(), 400 | 405 | 409 | 416 | 422 | 501);
        Err(if is_about_offset { SendError::Refused(error) } else { SendError::Failed(error) })
    }
}

impl Position {
    /// Records that the registry has also stored the bytes `taken`. `hashed` is the hash of all bytes up to the end of
    /// `taken`, if this hash is known.
    fn advance(&mut self, taken: &[u8], hashed: Option<Digester>) {
        self.offset += taken.len() as u64;
        match (hashed, &mut self.hashed) {
            (Some(hashed), own) => *own = Some(hashed),
            (None, Some(own)) => own.update(taken),
            (None, None) => {}
        }
    }
}

/// Returns true if this refusal of a chunk can mean that the registry refuses all chunks.
fn refuses_all_chunks(answer: &Response) -> bool {
    match answer.status.as_u16() {
        400 | 405 | 416 | 501 => true,
        // These codes mean that the session no longer exists.
        404 => {
            let session_codes = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "NAME_UNKNOWN"];
            !answer.codes().iter().any(|code| session_codes.contains(&code.as_str()))
        }
        _ => false,
    }
}

/// Returns the state of a session after a failed chunk. If `stored` is outside the chunk in memory, returns `error`,
/// the error of the chunk.
fn within_chunk(stored: u64, offset: u64, length: usize, error: StoreError) -> Result<ChunkOutcome, StoreError> {
    if stored < offset || stored > offset + length as u64 {
        return Err(error);
    }
    Ok(ChunkOutcome { stored, error: Some(error) })
}

/// Returns the number of bytes that a session has. `known` is the number of bytes that the registry has certainly
/// stored. Before the first byte, some registries state no `Range`, and others state `0-0`. So both forms mean 0 bytes
/// if `known` is 0.
fn stored_after(answer: &Response, known: u64) -> Option<u64> {
    match range_length(answer) {
        None | Some(1) if known == 0 => Some(0),
        stored => stored,
    }
}

/// Returns the number of bytes that a session reports.
pub(crate) fn stored_bytes(answer: &Response) -> Option<u64> {
    range_length(answer)
}

/// Returns the length that `Range: 0-<last>` or `bytes=0-<last>` states.
fn range_length(answer: &Response) -> Option<u64> {
    let range = answer.header(&RANGE)?.trim();
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}
