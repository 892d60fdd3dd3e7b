//! The bytes of a session in chunks (distribution-spec, "Pushing a blob in chunks"): each held in memory until the registry
//! has it, so that a chunk that breaks off goes on from where the registry says that it stands.

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{Method, StatusCode};

use super::answer::{Answer, Context};
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

/// How the bytes went.
pub(super) struct Sent {
    /// In so many chunks.
    pub(super) chunks: u32,
    /// All of them by this process, and without trouble.
    pub(super) is_smooth: bool,
}

impl Session {
    /// Sends all bytes; the empty PUT that commits them is left.
    pub(super) async fn send_chunks(&mut self, bytes: Verified) -> Result<Sent, StoreError> {
        let begun = self.standing.as_ref().map_or(0, |standing| standing.stored);
        let mut sent = Sent { chunks: u32::from(begun > 0), is_smooth: begun == 0 };
        let mut feed = Feed { bytes, piece: Bytes::new(), whole: Bytes::new() };
        let (mut offset, mut fruitless, mut waiting) = (begun, 0, Bytes::new());
        loop {
            let size = self.chunk_size();
            let left = usize::try_from(self.blob.size - offset).unwrap_or(usize::MAX);
            waiting = feed.fill(waiting, size.min(left)).await?;
            if waiting.is_empty() {
                return Ok(sent);
            }
            let chunk = waiting.slice(..size.min(waiting.len()));
            let half = chunk.len().div_ceil(2) as u64;
            sent.chunks = sent.chunks.saturating_add(1);
            let Standing { stored, trouble } = self.chunk(offset, chunk, fruitless).await?;
            // Never beyond what was sent: see `within`.
            waiting.advance(usize::try_from(stored - offset).unwrap_or(usize::MAX).min(waiting.len()));
            let gets_on = stored - offset >= half || stored == self.blob.size;
            fruitless = if gets_on { 0 } else { fruitless + 1 };
            offset = stored;
            if let Some(left) = self.left(&feed, offset).filter(|_| waiting.is_empty()) {
                feed.bytes.tell(left).await;
            }
            if let Some(trouble) = trouble {
                sent.is_smooth = false;
                if fruitless > FRUITLESS {
                    return Err(trouble);
                }
                tracing::debug!(%trouble, offset, "a chunk came to grief, and the upload goes on");
            }
        }
    }

    /// What is left for a later process to go on with when the registry has all that came out of the feed.
    fn left(&self, feed: &Feed, stored: u64) -> Option<Suspended> {
        if stored == self.blob.size || !self.repository.may_be_kept(&self.location) {
            return None;
        }
        let standing = store::Standing { stored, hashed: feed.hashed()? };
        Some(Suspended { session: self.location.to_string(), standing })
    }

    fn chunk_size(&self) -> usize {
        match self.repository.registry.upload.way() {
            Way::Chunks(size) => size,
            // Another upload has just learnt that chunks are refused; this one will be told so itself.
            Way::Whole => super::manner::DEFAULT_CHUNK,
        }
    }

    /// Sends a chunk that begins at `offset`.
    async fn chunk(&mut self, offset: u64, chunk: Bytes, fruitless: u32) -> Result<Standing, StoreError> {
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
            Err(error) => return Err(error),
        };
        match answer.status {
            // distribution-spec says 202; ECR says 201, others 204.
            StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                self.follow(&context, &answer)?;
                taken(&context, &answer, offset, length)
            }
            status if retry::failure_of(status, &answer.headers) == Some(Failure::Failing) => {
                self.ask_after(answer.refusal(&context), offset, length, fruitless).await
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.follow(&context, &answer)?;
                match stored(&answer, offset) {
                    Some(stored) if stored != offset => within(stored, offset, length, answer.refusal(&context)),
                    _ => self.chunk_refused(&context, &answer, offset, length),
                }
            }
            _ => self.chunk_refused(&context, &answer, offset, length),
        }
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
    ) -> Result<Standing, StoreError> {
        let registry = &self.repository.registry;
        tokio::time::sleep(registry.tempo.first_pause * 2u32.pow(fruitless)).await;
        let context = self.context(Step::SendBlob);
        let asked = registry.send(&context, Call::read(Method::GET, self.location.clone(), self.scopes())).await;
        let Ok(answer) = asked else { return Err(trouble) };
        let Some(stands) = stored(&answer, offset).filter(|_| answer.status.is_success()) else { return Err(trouble) };
        self.follow(&context, &answer)?;
        within(stands, offset, length, trouble)
    }

    /// A chunk of which the registry has said that it does not take it. Smaller ones may do; and a registry that does not
    /// take the first chunk may take no chunks.
    fn chunk_refused(
        &self,
        context: &Context,
        answer: &Answer,
        offset: u64,
        length: usize,
    ) -> Result<Standing, StoreError> {
        let manner = &self.repository.registry.upload;
        let is_too_large = matches!(answer.status.as_u16(), 413 | 416);
        if offset == 0 && is_too_large && manner.learn_chunk_is_too_large(length) {
            return Ok(Standing { stored: 0, trouble: Some(answer.refusal(context)) });
        }
        if takes_no_chunks(answer) && manner.learn_chunks_are_refused(offset == 0) {
            let detail =
                format!("{}: the registry takes no chunks, and gets blobs in one piece from now on", answer.detail());
            return Err(context.error(ErrorKind::Unavailable, detail));
        }
        Err(answer.refusal(context))
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

/// Where a session stands that has taken a chunk: at its end, unless it says otherwise.
fn taken(context: &Context, answer: &Answer, offset: u64, length: usize) -> Result<Standing, StoreError> {
    let end = offset + length as u64;
    match range(answer) {
        Some(stored) if stored != end => {
            let detail = format!("the registry has {stored} bytes after {end} were sent");
            within(stored, offset, length, context.error(ErrorKind::Unavailable, detail))
        }
        _ => Ok(Standing { stored: end, trouble: None }),
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

/// The bytes that are still to come.
struct Feed {
    bytes: Verified,
    /// What is left of the last piece.
    piece: Bytes,
    /// That piece as it came.
    whole: Bytes,
}

impl Feed {
    /// The hash of all that has been taken out; `None` where nobody wants to know.
    fn hashed(&self) -> Option<Digester> {
        let mut hashed = self.bytes.hashed_before_last()?.clone();
        hashed.update(&self.whole[..self.whole.len() - self.piece.len()]);
        Some(hashed)
    }

    /// Adds to what waits to be sent until that is so many bytes, or all there are: the last come when all are proven.
    async fn fill(&mut self, waiting: Bytes, size: usize) -> Result<Bytes, StoreError> {
        if !waiting.is_empty() && waiting.len() >= size {
            return Ok(waiting);
        }
        let mut chunk = BytesMut::with_capacity(size);
        chunk.extend_from_slice(&waiting);
        drop(waiting);
        while chunk.len() < size {
            if self.piece.is_empty() {
                let Some(piece) = self.bytes.next().await else { break };
                self.piece = piece?;
                self.whole = self.piece.clone();
            }
            let room = size - chunk.len();
            chunk.extend_from_slice(&self.piece.split_to(room.min(self.piece.len())));
        }
        Ok(chunk.freeze())
    }
}
