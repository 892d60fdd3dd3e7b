//! Blobs (distribution-spec, "Pulling blobs"): found, and read from any offset. Nothing is verified here.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderValue, Method, StatusCode};
use std::sync::Arc;

use super::answer::{Answer, Body, Context};
use super::permits::{Door, Permit};
use super::transport::{Call, Expects};
use super::trouble::broken_off;
use super::{Registry, Repository};
use crate::oci::Descriptor;
use crate::store::{ByteStream, ErrorKind, Step, StoreError};

impl Repository {
    /// Whether the blob is here, with the length that it should have. With another one it is not, and is to be sent again; as
    /// is one that may not be looked for where it is to be written: a repository that is not there yet is denied to read at
    /// some registries, and the answer to the upload decides.
    pub(crate) async fn head_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        match self.find_blob(blob).await {
            Err(error) if error.kind == ErrorKind::Denied && self.is_written() => {
                tracing::debug!(%error, "the blob may not be looked for: it is sent");
                Ok(false)
            }
            found => found,
        }
    }

    async fn find_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest))?;
        let answer = self.registry.send(&context, Call::read(Method::HEAD, url, self.reading())).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => {
                let Some(stored) = length(&answer).filter(|stored| *stored != blob.size) else { return Ok(true) };
                tracing::warn!(
                    place = %context.place, blob = %blob.digest, stored, wanted = blob.size,
                    "the registry has a blob in another length than it should have; it is sent again"
                );
                self.registry.upload.learn_it_lies();
                Ok(false)
            }
            _ => Err(answer.refusal(&context)),
        }
    }

    /// What a registry says that it has, after it has said that it stored the blob. `None` where it does not say.
    pub(crate) async fn stored_length(&self, blob: &Descriptor) -> Option<u64> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest)).ok()?;
        let answer = self.registry.send(&context, Call::read(Method::HEAD, url, self.reading())).await.ok()?;
        // Some send no length with a HEAD, and who says nothing else says 0.
        length(&answer).filter(|stored| answer.status.is_success() && *stored > 0)
    }

    pub(crate) async fn get_blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        if offset > 0 && offset >= blob.size {
            return Ok(stream::empty().boxed());
        }
        let context = self.context(Step::ReadBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest))?;
        let door = if offset > 0 { Door::BlobResumed } else { Door::BlobRead };
        let mut call = Call::new(self.reads, Method::GET, url, self.reading()).expects(Expects::Blob(door));
        call = call.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            call = call.header(RANGE, range.map_err(|error| context.error(ErrorKind::Invalid, error))?);
        }
        let answer = self.registry.send(&context, call).await?;
        let skip = match answer.status {
            StatusCode::PARTIAL_CONTENT if offset > 0 => {
                begins_at(&context, &answer, offset)?;
                0
            }
            // The range was ignored: this is the whole blob.
            StatusCode::OK => offset,
            _ => return Err(answer.refusal(&context)),
        };
        match answer.body {
            Body::Flowing(response, permit) => Ok(flow(Arc::clone(&self.registry), context, response, permit, skip)),
            Body::Whole(bytes) => Ok(stream::iter([Ok(bytes)]).boxed()),
        }
    }
}

fn length(answer: &Answer) -> Option<u64> {
    answer.header(&CONTENT_LENGTH)?.trim().parse().ok()
}

/// A range that begins elsewhere would go unnoticed until the whole blob has been sent.
fn begins_at(context: &Context, answer: &Answer, offset: u64) -> Result<(), StoreError> {
    let Some(range) = answer.header(&CONTENT_RANGE) else { return Ok(()) };
    let first = range.trim().strip_prefix("bytes").and_then(|rest| rest.trim().split('-').next()?.parse::<u64>().ok());
    if first == Some(offset) {
        return Ok(());
    }
    let range: String = range.chars().take(64).collect();
    Err(context
        .error(ErrorKind::Invalid, format!("asked for the bytes from {offset} on, the registry sends {range:?}")))
}

/// A body being read.
struct Flow {
    registry: Arc<Registry>,
    context: Context,
    response: reqwest::Response,
    skip: u64,
    received: u64,
    /// Let go with the body.
    _permit: Permit,
}

fn flow(
    registry: Arc<Registry>,
    context: Context,
    response: reqwest::Response,
    permit: Permit,
    skip: u64,
) -> ByteStream {
    let flow = Flow { registry, context, response, skip, received: 0, _permit: permit };
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
    async fn piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let idle = self.registry.tempo.idle;
            let broken = |why: String, received| {
                self.context.error(ErrorKind::Unavailable, format!("after {received} bytes: {why}"))
            };
            let next = match tokio::time::timeout(idle, self.response.chunk()).await {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => {
                    let why = broken_off(&error, self.response.url());
                    return Err(broken(why.detail().to_owned(), self.received));
                }
                Err(_) => {
                    let why = format!("no more bytes for {}", humantime::format_duration(idle));
                    return Err(broken(why, self.received));
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
                return Ok(Some(piece));
            }
        }
    }
}
