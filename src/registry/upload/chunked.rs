//! Upload of a session's bytes in chunks (distribution-spec, "Pushing a blob in chunks"). The client holds each chunk
//! in memory until the registry has stored it, so that an interrupted chunk resumes at the offset that the registry
//! reports.
//!
//! A success means that the registry stored the whole chunk, whatever its `Range` states: Amazon ECR's stays at the end
//! of the first chunk (aws/containers-roadmap#2831), other registries state the range of the chunk alone, or one byte
//! too many. The digest of the commit decides. A `Range` counts only after a chunk was refused or interrupted, and only
//! in a session that has not stated a wrong one.

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

/// Number of times in a row that a chunk may fail without half of it having been stored. Without this bound, a registry
/// that stores one byte of each chunk would be sent chunks without end.
const FRUITLESS: u32 = 3;

/// State of a session after a chunk.
struct ChunkOutcome {
    /// Number of bytes that the session has stored.
    stored: u64,
    /// Error of the chunk, if it failed.
    trouble: Option<StoreError>,
}

/// Reason why an upload cannot continue after a chunk.
enum Unsent {
    /// The registry refuses the chunk or its offset. The registry may accept the blob in one piece.
    Refused(StoreError),
    /// Any other failure.
    Failed(StoreError),
}

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Bytes that a session has beyond those whose hash was recorded: the chunk that was in flight when an earlier process
/// ended, or a part of it.
#[derive(Debug)]
pub(crate) struct Surplus {
    /// Number of bytes that the session has.
    pub(crate) stored: u64,
    /// End of that chunk, and the hash of all bytes before it.
    pub(crate) end: store::UploadProgress,
}

/// Outcome of sending all bytes of a session.
pub(crate) struct Sent {
    /// Number of chunks.
    pub(crate) chunks: u32,
    /// True if this process sent all of them without a failure.
    pub(crate) is_smooth: bool,
}

/// Progress of an upload: an offset, and the hash of all bytes before it if a listener follows the upload.
struct Course {
    offset: u64,
    hashed: Option<Digester>,
}

impl Session {
    /// Sends all bytes. The caller still has to send the empty PUT that commits them.
    pub(crate) async fn send_chunks(&mut self, bytes: Verified) -> Result<Sent, StoreError> {
        let is_resumed = self.standing.is_some();
        let mut sent = Sent { chunks: if is_resumed { 2 } else { 0 }, is_smooth: !is_resumed };
        let mut feed = Feed::new(bytes);
        let (mut course, mut waiting) = self.start_course(&mut feed).await?;
        let mut fruitless = 0;
        loop {
            let size = self.chunk_size();
            let left = usize::try_from(self.blob.size - course.offset).unwrap_or(usize::MAX);
            waiting = feed.fill(waiting, size.min(left)).await?;
            if waiting.is_empty() {
                return Ok(sent);
            }
            let chunk = waiting.slice(..size.min(waiting.len()));
            let half = chunk.len().div_ceil(2) as u64;
            sent.chunks = sent.chunks.saturating_add(1);
            let end = feed.hashed().filter(|_| chunk.len() == waiting.len());
            let before = store::UploadProgress {
                stored: course.offset,
                hashed: course.hashed.clone().unwrap_or_else(|| self.unhashed()),
            };
            let ahead =
                end.clone().map(|hashed| store::UploadProgress { stored: course.offset + chunk.len() as u64, hashed });
            self.report_progress(&feed, &before, ahead.as_ref()).await;
            let ChunkOutcome { stored, trouble } = match self.send_chunk(course.offset, chunk, fruitless).await {
                Ok(outcome) => outcome,
                Err(Unsent::Refused(error)) if course.offset > 0 && (self.misstates || sent.is_smooth) => {
                    return Err(self.retry_in_one_piece(error));
                }
                Err(Unsent::Refused(error) | Unsent::Failed(error)) => return Err(error),
            };
            let progresses = stored - course.offset >= half || stored == self.blob.size;
            fruitless = if progresses { 0 } else { fruitless + 1 };
            // Never more than the sent bytes: see `within_chunk`.
            let taken = usize::try_from(stored - course.offset).unwrap_or(usize::MAX).min(waiting.len());
            course.advance(&waiting.split_to(taken), end.filter(|_| waiting.is_empty()));
            if stored == self.blob.size {
                // A later process reads the last chunk again, which proves the whole blob to it.
                self.report_progress(&feed, &before, ahead.as_ref()).await;
            } else if let Some(hashed) = course.hashed.clone() {
                self.report_progress(&feed, &store::UploadProgress { stored, hashed }, None).await;
            }
            if let Some(trouble) = trouble {
                sent.is_smooth = false;
                if fruitless > FRUITLESS {
                    return Err(trouble);
                }
                tracing::debug!(%trouble, offset = course.offset, "a chunk failed; the upload resumes");
            }
        }
    }

    /// Finds the offset of the first byte that the registry has not stored, and the bytes after that offset that are
    /// read already. The bytes that the session has beyond the recorded hash are read from the source again. The upload
    /// resumes only if these bytes are the same that the earlier process sent.
    async fn start_course(&mut self, feed: &mut Feed) -> Result<(Course, Bytes), StoreError> {
        let hashes = feed.bytes.has_progress();
        let Some(store::UploadProgress { stored, mut hashed }) = self.standing.clone() else {
            let hashed = hashes.then(|| self.unhashed());
            return Ok((Course { offset: 0, hashed }, Bytes::new()));
        };
        let Some(Surplus { stored: has, end }) = self.surplus.take() else {
            return Ok((Course { offset: stored, hashed: hashes.then_some(hashed) }, Bytes::new()));
        };
        let length = usize::try_from(end.stored - stored).unwrap_or(usize::MAX);
        let mut waiting = feed.fill(Bytes::new(), length).await?;
        let mut all = hashed.clone();
        all.update(&waiting);
        if all.to_state() != end.hashed.to_state() {
            let detail = "the source's bytes differ from those that an earlier process sent, so the upload restarts";
            return Err(self.context(Step::SendBlob).error(ErrorKind::Unavailable, detail));
        }
        let has_of_it = waiting.split_to(usize::try_from(has - stored).unwrap_or(usize::MAX).min(waiting.len()));
        hashed.update(&has_of_it);
        Ok((Course { offset: has, hashed: hashes.then_some(hashed) }, waiting))
    }

    fn unhashed(&self) -> Digester {
        Digester::like(&self.blob.digest)
    }

    /// Reports the number of bytes that the session has, and the number that it will have after the chunk that is about
    /// to be sent. A later process resumes from the one of these two numbers that the session then has.
    fn report_progress(
        &self,
        feed: &Feed,
        standing: &store::UploadProgress,
        ahead: Option<&store::UploadProgress>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let is_kept = feed.bytes.has_progress() && self.repository.may_be_stored(&self.location);
        if feed.bytes.has_progress() && !is_kept {
            self.repository.registry.facts().upload_strategy.log_once_that_uploads_restart(&self.repository.place);
        }
        let session = || self.location.to_string();
        let left =
            is_kept.then(|| UploadSession { session: session(), standing: standing.clone(), ahead: ahead.cloned() });
        let report = left.map(|left| feed.bytes.report_progress(left));
        async move {
            if let Some(report) = report {
                report.await;
            }
        }
    }

    fn chunk_size(&self) -> usize {
        match self.repository.registry.facts().upload_strategy.current_method() {
            UploadMethod::Chunks(size) => size,
            // Another upload has just learned that the registry refuses chunks. This upload will get the same refusal.
            UploadMethod::Whole => crate::registry::flavor::generic::DEFAULT_CHUNK,
        }
    }

    /// Sends a chunk that starts at `offset`.
    async fn send_chunk(&mut self, offset: u64, chunk: Bytes, fruitless: u32) -> Result<ChunkOutcome, Unsent> {
        let context = self.context(Step::SendBlob);
        let length = chunk.len();
        let answer = match self.patch(&context, offset, chunk).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Unavailable => {
                if offset == 0 && fruitless > 0 {
                    // A second failure: the registry may have closed the connection before the client read the response
                    // that the chunk is too large.
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
                Ok(ChunkOutcome { stored, trouble: None })
            }
            _ if answer.failure() == Some(Failure::Failing) => {
                self.query_stored(answer.refusal(&context), offset, length, fruitless).await
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.update_location(&context, &answer)?;
                match stored_after(&answer, offset) {
                    Some(stored) if stored != offset && !self.misstates => {
                        within_chunk(stored, offset, length, answer.refusal(&context)).map_err(Unsent::Refused)
                    }
                    _ => self.handle_refused_chunk(&context, &answer, offset, length),
                }
            }
            _ => self.handle_refused_chunk(&context, &answer, offset, length),
        }
    }

    /// Compares the `Range` of a success with the sent bytes. The client ignores a differing `Range` and all later
    /// ones.
    fn check_range(&mut self, answer: &Response, sent: u64) {
        if self.misstates || !answer.headers.contains_key(RANGE) || range_length(answer) == Some(sent) {
            return;
        }
        self.misstates = true;
        let stated = answer.header(&RANGE).unwrap_or_default();
        tracing::debug!(
            place = %self.repository.place, blob = %self.blob.digest, sent,
            stated = ?stated.chars().take(64).collect::<String>(),
            "the registry accepted a chunk, but its Range is not the end of the sent bytes; the digest decides"
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

    /// Updates the URL of the session, if the response states a new one.
    fn update_location(&mut self, context: &Context, answer: &Response) -> Result<(), StoreError> {
        if let Some(next) = location(context, answer)? {
            self.location = next;
        }
        Ok(())
    }

    /// Queries how much of a chunk the registry has stored after a missing response. If that remains unknown, returns
    /// the original error, and the upload restarts.
    async fn query_stored(
        &mut self,
        trouble: StoreError,
        offset: u64,
        length: usize,
        fruitless: u32,
    ) -> Result<ChunkOutcome, Unsent> {
        if self.misstates {
            return Err(trouble.into());
        }
        let registry = &self.repository.registry;
        tokio::time::sleep(registry.retry_policy().first_pause * 2u32.pow(fruitless)).await;
        let context = self.context(Step::SendBlob);
        let response =
            registry.send(&context, RegistryRequest::read(Method::GET, self.location.clone(), self.scopes())).await;
        let Ok(answer) = response else { return Err(trouble.into()) };
        let Some(stored) = stored_after(&answer, offset).filter(|_| answer.status.is_success()) else {
            return Err(trouble.into());
        };
        self.update_location(&context, &answer)?;
        Ok(within_chunk(stored, offset, length, trouble)?)
    }

    /// Returns true if the session reports that it has all bytes, so that the commit can be sent again.
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

    /// Handles a chunk that the registry refused. Smaller chunks may succeed; a registry that refuses the first chunk
    /// may accept no chunks at all.
    fn handle_refused_chunk(
        &self,
        context: &Context,
        answer: &Response,
        offset: u64,
        length: usize,
    ) -> Result<ChunkOutcome, Unsent> {
        let strategy = &self.repository.registry.facts().upload_strategy;
        let is_too_large = matches!(answer.status.as_u16(), 413 | 416);
        if offset == 0 && is_too_large && strategy.learn_chunk_is_too_large(length) {
            return Ok(ChunkOutcome { stored: 0, trouble: Some(answer.refusal(context)) });
        }
        if refuses_all_chunks(answer) && strategy.learn_chunks_are_refused(offset == 0) {
            let detail =
                format!("{}: the registry accepts no chunks; blobs are sent in one piece from now on", answer.detail());
            return Err(context.error(ErrorKind::Unavailable, detail).into());
        }
        let error = answer.refusal(context);
        let is_about_offset = self.misstates || matches!(answer.status.as_u16(), 400 | 405 | 409 | 416 | 422 | 501);
        Err(if is_about_offset { Unsent::Refused(error) } else { Unsent::Failed(error) })
    }
}

impl Course {
    /// Records that the registry has stored `taken` in addition. `hashed` is the hash of all bytes before their end, if
    /// it is known.
    fn advance(&mut self, taken: &[u8], hashed: Option<Digester>) {
        self.offset += taken.len() as u64;
        match (hashed, &mut self.hashed) {
            (Some(hashed), own) => *own = Some(hashed),
            (None, Some(own)) => own.update(taken),
            (None, None) => {}
        }
    }
}

/// Returns true if a refusal of the first chunk means that the registry refuses all chunks.
fn refuses_all_chunks(answer: &Response) -> bool {
    match answer.status.as_u16() {
        400 | 405 | 416 | 501 => true,
        // With these codes only the session is gone.
        404 => {
            let of_session = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "NAME_UNKNOWN"];
            !answer.codes().iter().any(|code| of_session.contains(&code.as_str()))
        }
        _ => false,
    }
}

/// Returns the state of a session whose end is within the chunk in memory, where the upload can resume. Otherwise
/// returns the error of the chunk.
fn within_chunk(stored: u64, offset: u64, length: usize, trouble: StoreError) -> Result<ChunkOutcome, StoreError> {
    if stored < offset || stored > offset + length as u64 {
        return Err(trouble);
    }
    Ok(ChunkOutcome { stored, trouble: Some(trouble) })
}

/// Returns the number of bytes that a session has. Before the first byte, registries state nothing, or the same `0-0`
/// as after it. While no byte is known to be stored, both mean no bytes.
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
