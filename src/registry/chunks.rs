//! The bytes of a session in chunks (distribution-spec, "Pushing a blob in chunks"): each held in memory until the registry
//! has it, so that a chunk that breaks off goes on from where the registry says that it stands.
//!
//! A success means that the registry took the whole chunk, whatever its `Range` states: Amazon's stays at the end of
//! the first chunk (aws/containers-roadmap#2831), others state that of the chunk alone, or one byte too many. The
//! digest of the commit decides. A `Range` counts only where a chunk was refused or broke off, and only in a session
//! that has not stated a wrong one.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, StatusCode};

use super::answer::{Answer, Context};
use super::feed::Feed;
use super::manner::Way;
use super::retry::{self, Failure, Kind};
use super::transport::{Call, Payload};
use super::upload::{OCTETS, Session, header, location};
use crate::oci::Digester;
use crate::store::{self, ErrorKind, Step, StoreError, Suspended, Verified};

/// How often in a row a chunk may come to grief without half of it having been stored: who stores a byte of each would be
/// sent chunks without end.
const FRUITLESS: u32 = 3;

/// Where a session stands after a chunk.
struct Standing {
    /// How many bytes it has.
    stored: u64,
    /// What went wrong, where something did.
    trouble: Option<StoreError>,
}

/// Why an upload does not go on behind a chunk.
enum Unsent {
    /// The registry refuses the chunk, or its place in the blob: it may take the blob in one piece.
    Refused(StoreError),
    /// Anything else.
    Failed(StoreError),
}

impl From<StoreError> for Unsent {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Bytes that a session has beyond those whose hash was noted: the chunk that was on its way when an earlier process
/// ended, or a part of it.
#[derive(Debug)]
pub(super) struct Surplus {
    /// Number of bytes that the session has.
    pub(super) stored: u64,
    /// The end of that chunk, and the hash of all bytes before it.
    pub(super) end: store::Standing,
}

/// How the bytes went.
pub(super) struct Sent {
    /// In so many chunks.
    pub(super) chunks: u32,
    /// All of them by this process, and without trouble.
    pub(super) is_smooth: bool,
}

/// The progress of an upload: an offset, and the hash of all bytes before it where somebody wants to know.
struct Course {
    offset: u64,
    hashed: Option<Digester>,
}

impl Session {
    /// Sends all bytes; the empty PUT that commits them is left.
    pub(super) async fn send_chunks(&mut self, bytes: Verified) -> Result<Sent, StoreError> {
        let is_resumed = self.standing.is_some();
        let mut sent = Sent { chunks: if is_resumed { 2 } else { 0 }, is_smooth: !is_resumed };
        let mut feed = Feed::new(bytes);
        let (mut course, mut waiting) = self.begin_course(&mut feed).await?;
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
            let before = store::Standing {
                stored: course.offset,
                hashed: course.hashed.clone().unwrap_or_else(|| self.unhashed()),
            };
            let ahead =
                end.clone().map(|hashed| store::Standing { stored: course.offset + chunk.len() as u64, hashed });
            self.note(&feed, &before, ahead.as_ref()).await;
            let Standing { stored, trouble } = match self.chunk(course.offset, chunk, fruitless).await {
                Ok(standing) => standing,
                Err(Unsent::Refused(error)) if course.offset > 0 && (self.misstates || sent.is_smooth) => {
                    return Err(self.in_one_piece_next(error));
                }
                Err(Unsent::Refused(error) | Unsent::Failed(error)) => return Err(error),
            };
            let gets_on = stored - course.offset >= half || stored == self.blob.size;
            fruitless = if gets_on { 0 } else { fruitless + 1 };
            // Never beyond what was sent: see `within`.
            let taken = usize::try_from(stored - course.offset).unwrap_or(usize::MAX).min(waiting.len());
            course.advance(&waiting.split_to(taken), end.filter(|_| waiting.is_empty()));
            if stored == self.blob.size {
                // The last chunk is what proves the whole to a later process, which reads it again.
                self.note(&feed, &before, ahead.as_ref()).await;
            } else if let Some(hashed) = course.hashed.clone() {
                self.note(&feed, &store::Standing { stored, hashed }, None).await;
            }
            if let Some(trouble) = trouble {
                sent.is_smooth = false;
                if fruitless > FRUITLESS {
                    return Err(trouble);
                }
                tracing::debug!(%trouble, offset = course.offset, "a chunk came to grief, and the upload goes on");
            }
        }
    }

    /// The place where the bytes begin that the registry has not, and those of them that are read already. What the
    /// session has beyond the noted hash is read from the source once more: only where it is what the earlier process
    /// sent does the upload go on.
    async fn begin_course(&mut self, feed: &mut Feed) -> Result<(Course, Bytes), StoreError> {
        let hashes = feed.bytes.is_followed();
        let Some(store::Standing { stored, mut hashed }) = self.standing.clone() else {
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
        if all.saved() != end.hashed.saved() {
            let detail = "the source gives other bytes than an earlier process sent, so the upload restarts";
            return Err(self.context(Step::SendBlob).error(ErrorKind::Unavailable, detail));
        }
        let has_of_it = waiting.split_to(usize::try_from(has - stored).unwrap_or(usize::MAX).min(waiting.len()));
        hashed.update(&has_of_it);
        Ok((Course { offset: has, hashed: hashes.then_some(hashed) }, waiting))
    }

    fn unhashed(&self) -> Digester {
        Digester::like(&self.blob.digest)
    }

    /// Notes how much the session has, and how much it has when it has taken the chunk that is about to be sent:
    /// whichever a later process finds, it goes on from there.
    fn note(
        &self,
        feed: &Feed,
        standing: &store::Standing,
        ahead: Option<&store::Standing>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let is_kept = feed.bytes.is_followed() && self.repository.may_be_kept(&self.location);
        if feed.bytes.is_followed() && !is_kept {
            self.repository.registry.upload.say_once_that_sessions_are_not_kept(&self.repository.place);
        }
        let session = || self.location.to_string();
        let left = is_kept.then(|| Suspended { session: session(), standing: standing.clone(), ahead: ahead.cloned() });
        let told = left.map(|left| feed.bytes.tell(left));
        async move {
            if let Some(told) = told {
                told.await;
            }
        }
    }

    fn chunk_size(&self) -> usize {
        match self.repository.registry.upload.way() {
            Way::Chunks(size) => size,
            // Another upload has just learnt that chunks are refused; this one will be told so itself.
            Way::Whole => super::manner::DEFAULT_CHUNK,
        }
    }

    /// Sends a chunk that begins at `offset`.
    async fn chunk(&mut self, offset: u64, chunk: Bytes, fruitless: u32) -> Result<Standing, Unsent> {
        let context = self.context(Step::SendBlob);
        let length = chunk.len();
        let answer = match self.patch(&context, offset, chunk).await {
            Ok(answer) => answer,
            Err(error) if error.kind == ErrorKind::Unavailable => {
                if offset == 0 && fruitless > 0 {
                    // Twice: perhaps the answer that it is too large got lost, since the connection was closed behind it.
                    self.repository.registry.upload.learn_chunk_is_too_large(length);
                }
                return self.ask_after(error, offset, length, fruitless).await;
            }
            Err(error) => return Err(error.into()),
        };
        match answer.status {
            // distribution-spec says 202; ECR says 201, others 204.
            status if status.is_success() => {
                self.follow(&context, &answer)?;
                let stored = offset + length as u64;
                self.compare_range(&answer, stored);
                Ok(Standing { stored, trouble: None })
            }
            status if retry::failure_of(status, &answer.headers) == Some(Failure::Failing) => {
                self.ask_after(answer.refusal(&context), offset, length, fruitless).await
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.follow(&context, &answer)?;
                match stored(&answer, offset) {
                    Some(stored) if stored != offset && !self.misstates => {
                        within(stored, offset, length, answer.refusal(&context)).map_err(Unsent::Refused)
                    }
                    _ => self.chunk_refused(&context, &answer, offset, length),
                }
            }
            _ => self.chunk_refused(&context, &answer, offset, length),
        }
    }

    /// Compares the `Range` of a success with what was sent. Another one is not believed, and neither is any later one.
    fn compare_range(&mut self, answer: &Answer, sent: u64) {
        if self.misstates || !answer.headers.contains_key(RANGE) || range(answer) == Some(sent) {
            return;
        }
        self.misstates = true;
        let stated = answer.header(&RANGE).unwrap_or_default();
        tracing::debug!(
            place = %self.repository.place, blob = %self.blob.digest, sent, stated = ?stated.chars().take(64).collect::<String>(),
            "the registry took a chunk, and its Range is not the end of what was sent; the digest will decide"
        );
    }

    async fn patch(&self, context: &Context, offset: u64, chunk: Bytes) -> Result<Answer, StoreError> {
        let last = offset + chunk.len() as u64 - 1;
        let call = Call::new(Kind::Chunk, Method::PATCH, self.location.clone(), self.scopes())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, chunk.len().into())
            .header(CONTENT_RANGE, header(context, &format!("{offset}-{last}"))?)
            .payload(Payload::Bytes(chunk));
        self.repository.registry.send(context, call).await
    }

    /// Where the session goes on, if the answer tells.
    fn follow(&mut self, context: &Context, answer: &Answer) -> Result<(), StoreError> {
        if let Some(next) = location(context, answer)? {
            self.location = next;
        }
        Ok(())
    }

    /// Asks how much of a chunk was stored when nobody said so. Where that cannot be told, what went wrong remains: the
    /// upload begins anew.
    async fn ask_after(
        &mut self,
        trouble: StoreError,
        offset: u64,
        length: usize,
        fruitless: u32,
    ) -> Result<Standing, Unsent> {
        if self.misstates {
            return Err(trouble.into());
        }
        let registry = &self.repository.registry;
        tokio::time::sleep(registry.tempo.first_pause * 2u32.pow(fruitless)).await;
        let context = self.context(Step::SendBlob);
        let asked = registry.send(&context, Call::read(Method::GET, self.location.clone(), self.scopes())).await;
        let Ok(answer) = asked else { return Err(trouble.into()) };
        let Some(stands) = stored(&answer, offset).filter(|_| answer.status.is_success()) else {
            return Err(trouble.into());
        };
        self.follow(&context, &answer)?;
        Ok(within(stands, offset, length, trouble)?)
    }

    /// True if the session says that it has all bytes, so that a commit can be sent again.
    pub(super) async fn stands_at_end(&mut self) -> bool {
        let registry = &self.repository.registry;
        tokio::time::sleep(registry.tempo.first_pause).await;
        let context = self.context(Step::CommitBlob);
        let asked = registry.send(&context, Call::read(Method::GET, self.location.clone(), self.scopes())).await;
        let Ok(answer) = asked else { return false };
        let has_all = answer.status.is_success() && range(&answer) == Some(self.blob.size);
        has_all && !self.misstates && self.follow(&context, &answer).is_ok()
    }

    /// A chunk of which the registry has said that it does not take it. Smaller ones may do; and a registry that does not
    /// take the first chunk may take no chunks.
    fn chunk_refused(
        &self,
        context: &Context,
        answer: &Answer,
        offset: u64,
        length: usize,
    ) -> Result<Standing, Unsent> {
        let manner = &self.repository.registry.upload;
        let is_too_large = matches!(answer.status.as_u16(), 413 | 416);
        if offset == 0 && is_too_large && manner.learn_chunk_is_too_large(length) {
            return Ok(Standing { stored: 0, trouble: Some(answer.refusal(context)) });
        }
        if takes_no_chunks(answer) && manner.learn_chunks_are_refused(offset == 0) {
            let detail =
                format!("{}: the registry takes no chunks, and gets blobs in one piece from now on", answer.detail());
            return Err(context.error(ErrorKind::Unavailable, detail).into());
        }
        let error = answer.refusal(context);
        let is_of_its_place = self.misstates || matches!(answer.status.as_u16(), 400 | 405 | 409 | 416 | 422 | 501);
        Err(if is_of_its_place { Unsent::Refused(error) } else { Unsent::Failed(error) })
    }
}

impl Course {
    /// Takes in that the registry has these bytes more. `hashed` is the hash of all before their end, where it is
    /// known.
    fn advance(&mut self, taken: &[u8], hashed: Option<Digester>) {
        self.offset += taken.len() as u64;
        match (hashed, &mut self.hashed) {
            (Some(hashed), own) => *own = Some(hashed),
            (None, Some(own)) => own.update(taken),
            (None, None) => {}
        }
    }
}

/// Whether a refusal of the first chunk means that all will be refused.
fn takes_no_chunks(answer: &Answer) -> bool {
    match answer.status.as_u16() {
        400 | 405 | 416 | 501 => true,
        // Else it is the session alone that is gone.
        404 => {
            let of_session = ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "NAME_UNKNOWN"];
            !answer.codes().iter().any(|code| of_session.contains(&code.as_str()))
        }
        _ => false,
    }
}

/// An upload goes on while its session stands somewhere in the chunk that is in memory.
fn within(stored: u64, offset: u64, length: usize, trouble: StoreError) -> Result<Standing, StoreError> {
    if stored < offset || stored > offset + length as u64 {
        return Err(trouble);
    }
    Ok(Standing { stored, trouble: Some(trouble) })
}

/// How many bytes a session has. Before the first byte registries say nothing, or `0-0` as after it: while nothing is known
/// to be stored, that is none.
fn stored(answer: &Answer, known: u64) -> Option<u64> {
    match range(answer) {
        None | Some(1) if known == 0 => Some(0),
        stored => stored,
    }
}

/// How many bytes a session says that it has.
pub(super) fn stored_bytes(answer: &Answer) -> Option<u64> {
    range(answer)
}

/// The length by `Range: 0-<last>`, or `bytes=0-<last>`.
fn range(answer: &Answer) -> Option<u64> {
    let range = answer.header(&RANGE)?.trim();
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}
