//! Blobs (distribution-spec, "Pulling blobs"): found, and read from any offset. Nothing is verified here.
//!
//! A HEAD is a hint. Its status says whether the blob is there; a length that contradicts the descriptor is checked by
//! a GET before it is believed, since some registries and proxies state a wrong length or none with a HEAD.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

use super::answer::{Answer, Body, Context};
use super::permits::{Door, Permit};
use super::retry::{Failure, Kind};
use super::transport::{Call, Expects};
use super::trouble::broken_off;
use super::{Registry, Repository};
use crate::oci::Descriptor;
use crate::store::{ByteStream, ErrorKind, Step, StoreError};

/// Memory of whether the last HEAD of a blob at a registry failed. Then the next one is sent once only, so that a
/// registry without HEAD costs one request a blob.
#[derive(Debug, Default)]
pub(crate) struct Looks(AtomicBool);

impl Looks {
    fn kind(&self) -> Kind {
        if self.0.load(Ordering::Relaxed) { Kind::Glance } else { Kind::Look }
    }

    /// Notes how a look ended, and returns whether it is the first that failed.
    fn ended(&self, failed: bool) -> bool {
        !self.0.swap(failed, Ordering::Relaxed) && failed
    }
}

/// What a look for a blob has found.
pub(crate) enum Looked {
    Absent,
    Present,
    /// It is here in this length, which is not the one that the descriptor states.
    OtherLength(u64),
}

impl Repository {
    /// Whether the blob is here, with the length that it should have: see [`Repository::look_for_blob`]. With another one it is not, and
    /// is to be sent again.
    pub(crate) async fn head_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        Ok(match self.look_for_blob(blob).await? {
            Looked::Absent => false,
            Looked::Present => true,
            Looked::OtherLength(stored) => {
                self.note_wrong_length(blob, stored);
                false
            }
        })
    }

    /// Looks for a blob. One that may not be looked for where it is to be written counts as absent: a repository that is not there
    /// yet is denied to read at some registries, and the answer to the upload decides. A redirect to a store means that it is here.
    ///
    /// # Errors
    /// The registry did not say: nothing is known of the blob.
    pub(crate) async fn look_for_blob(&self, blob: &Descriptor) -> Result<Looked, StoreError> {
        let looked = match self.find_blob(blob).await {
            Err(error) if error.kind == ErrorKind::Denied && self.is_written() => {
                tracing::debug!(%error, "the blob may not be looked for: it is sent");
                return Ok(Looked::Absent);
            }
            looked => looked,
        };
        if let (true, Err(error)) = (self.registry.looks.ended(looked.is_err()), &looked) {
            tracing::warn!(
                place = %error.place,
                "the registry does not say whether it has a blob ({}); blobs that it may have are sent again", error.detail
            );
        }
        looked
    }

    async fn find_blob(&self, blob: &Descriptor) -> Result<Looked, StoreError> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest))?;
        let call = Call::new(self.registry.looks.kind(), Method::HEAD, url, self.reading());
        let answer = self.registry.send(&context, call.that_stops_at_store()).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Looked::Absent),
            status if status.is_success() => match length(&answer).filter(|stated| *stated != blob.size) {
                Some(stated) => Ok(self.check_length(blob, stated).await),
                None => Ok(Looked::Present),
            },
            status if status.is_redirection() && answer.headers.contains_key(LOCATION) => Ok(Looked::Present),
            _ => Err(answer.refusal(&context)),
        }
    }

    /// Checks the length of a blob of which a HEAD stated another one. Where a GET does not tell it, it is sent again.
    async fn check_length(&self, blob: &Descriptor, stated: u64) -> Looked {
        match self.length_by_get(blob).await {
            Some(stored) if stored == blob.size => {
                tracing::debug!(place = %self.place, blob = %blob.digest, stated, "a HEAD stated a wrong length, and GET the right one");
                Looked::Present
            }
            Some(stored) => Looked::OtherLength(stored),
            None => {
                self.note_wrong_length(blob, stated);
                Looked::Absent
            }
        }
    }

    /// Notes that the registry has a blob in a wrong length.
    pub(crate) fn note_wrong_length(&self, blob: &Descriptor, stored: u64) {
        tracing::warn!(
            place = %self.place, blob = %blob.digest, stored, wanted = blob.size,
            "the registry has a blob in another length than it should have; it is sent again"
        );
        self.registry.upload.learn_it_lies();
    }

    /// The length that a registry has of a blob, after it has said that it stored it. `None` where it does not say.
    pub(crate) async fn stored_length(&self, blob: &Descriptor) -> Option<u64> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest)).ok()?;
        let call = Call::new(self.registry.looks.kind(), Method::HEAD, url, self.reading());
        let answer = self.registry.send(&context, call.that_stops_at_store()).await.ok()?;
        let stated = length(&answer).filter(|_| answer.status.is_success())?;
        if stated == blob.size { Some(stated) } else { self.length_by_get(blob).await }
    }

    /// The length of a blob as a GET of its first byte states it. No more of it is read.
    pub(crate) async fn length_by_get(&self, blob: &Descriptor) -> Option<u64> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest)).ok()?;
        let call = Call::read(Method::GET, url, self.reading()).expects(Expects::Blob(Door::Common));
        let call = call
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(RANGE, HeaderValue::from_static("bytes=0-0"));
        let answer = self.registry.send(&context, call).await.ok()?;
        let of_range = || answer.header(&CONTENT_RANGE)?.rsplit_once('/')?.1.trim().parse().ok();
        match answer.status {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => of_range(),
            status if status.is_success() => length(&answer),
            _ => None,
        }
    }

    /// The bytes from `offset` on. Where the registry refuses the range, or sends another one, the whole blob is read
    /// and its beginning dropped.
    pub(crate) async fn get_blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        if offset > 0 && offset >= blob.size {
            return Ok(stream::empty().boxed());
        }
        let context = self.context(Step::ReadBlob, blob.digest);
        let mut answer = self.request_blob(&context, blob, offset).await?;
        let is_odd = match answer.status {
            StatusCode::PARTIAL_CONTENT => !begins_at(&answer, offset),
            status => status == StatusCode::BAD_REQUEST || status == StatusCode::RANGE_NOT_SATISFIABLE,
        };
        if offset > 0 && is_odd {
            tracing::debug!(place = %self.place, blob = %blob.digest, offset, status = %answer.status, "the blob is read without a range");
            answer = self.request_blob(&context, blob, 0).await?;
        }
        let skip = match answer.status {
            StatusCode::PARTIAL_CONTENT if begins_at(&answer, offset) => 0,
            // The range was ignored, or not asked for: this is the whole blob.
            status if status.is_success() && begins_at(&answer, 0) => offset,
            status if status.is_success() => {
                return Err(context.error(ErrorKind::Invalid, other_range(&answer, offset)));
            }
            _ => return Err(answer.refusal(&context)),
        };
        match answer.body {
            Body::Flowing(response, permit) => {
                Ok(flow(Arc::clone(&self.registry), context, (response, permit), offset, skip))
            }
            Body::Whole(bytes) => Ok(stream::iter([Ok(bytes)]).boxed()),
        }
    }

    async fn request_blob(&self, context: &Context, blob: &Descriptor, offset: u64) -> Result<Answer, StoreError> {
        let url = self.url(context, &format!("blobs/{}", blob.digest))?;
        let door = if offset > 0 { Door::BlobResumed } else { Door::BlobRead };
        let mut call = Call::new(self.reads, Method::GET, url, self.reading()).expects(Expects::Blob(door));
        call = call.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            call = call.header(RANGE, range.map_err(|error| context.error(ErrorKind::Invalid, error))?);
        }
        self.registry.send(context, call).await
    }
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header(&CONTENT_LENGTH)?.trim().parse().ok()
}

/// True if the bytes of an answer begin there, as far as it says: a range from elsewhere would go unnoticed until the
/// whole blob has been sent.
fn begins_at(answer: &Answer, offset: u64) -> bool {
    let Some(range) = answer.header(&CONTENT_RANGE) else { return true };
    first_byte(range) == Some(offset)
}

fn other_range(answer: &Answer, offset: u64) -> String {
    let range: String = answer.header(&CONTENT_RANGE).unwrap_or_default().chars().take(64).collect();
    format!("asked for the bytes from {offset} on, the registry sends {range:?}")
}

/// The first byte of a `Content-Range: bytes FIRST-LAST/LENGTH`.
pub(super) fn first_byte(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes")?.trim().split('-').next()?.parse().ok()
}

/// A body being read.
struct Flow {
    registry: Arc<Registry>,
    context: Context,
    response: reqwest::Response,
    /// How many bytes are dropped before the first that is wanted, and where in the blob the next of those is.
    skip: u64,
    at: u64,
    received: u64,
    /// When the last bytes came.
    last: Instant,
    /// Let go with the body.
    _permit: Permit,
}

fn flow(
    registry: Arc<Registry>,
    context: Context,
    (response, permit): (reqwest::Response, Permit),
    offset: u64,
    skip: u64,
) -> ByteStream {
    let (at, received, last) = (offset, 0, Instant::now());
    let flow = Flow { registry, context, response, skip, at, received, last, _permit: permit };
    // `None` after an error: the stream has ended.
    stream::unfold(Some(flow), |flow| async {
        let mut flow = flow?;
        match flow.piece().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(flow))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Flow {
    /// The error of a body that ended too early, noted in the blob's retry budget.
    fn broke_off(&self, why: &str) -> StoreError {
        self.context.budget.draw(Failure::Broken, self.last.elapsed());
        self.context.budget.stands_at(self.at);
        self.context.error(ErrorKind::Unavailable, format!("after {} bytes: {why}", self.received))
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let idle = self.registry.tempo.idle;
            let next = match tokio::time::timeout(idle, self.response.chunk()).await {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => {
                    let why = broken_off(&error, self.response.url());
                    return Err(self.broke_off(why.detail()));
                }
                Err(_) => {
                    let why = format!("no more bytes for {}", humantime::format_duration(idle));
                    return Err(self.broke_off(&why));
                }
            };
            let Some(mut piece) = next else { return Ok(None) };
            self.received += piece.len() as u64;
            self.registry.meter.received(piece.len());
            self.registry.meter.throttled(self.registry.pace.spend(self.context.party, piece.len()).await);
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
            self.skip -= skipped as u64;
            let piece = piece.split_off(skipped);
            if !piece.is_empty() {
                self.at += piece.len() as u64;
                self.context.budget.reached(self.at);
                self.last = Instant::now();
                return Ok(Some(piece));
            }
        }
    }
}
