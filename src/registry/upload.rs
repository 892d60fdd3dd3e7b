//! Uploads (distribution-spec, "Pushing blobs"): mounting, sessions, and their bytes in one piece or in chunks.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::Repository;
use super::answer::{Answer, Context};
use super::locate;
use super::outgoing::Outgoing;
use super::retry::Kind;
use super::scope::Scopes;
use super::transport::{Call, Payload};
use crate::oci::{Descriptor, RepositoryName};
use crate::store::{Begun, ErrorKind, Step, StoreError, Upload, Verified};

/// Blobs up to this size are read whole before they are sent, so that the request can be repeated.
const HELD: u64 = 128 * 1024;

/// The largest chunk that a registry may insist on; each upload in flight holds one.
const MAX_CHUNK: usize = 64 * 1024 * 1024;

const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// How the bytes of a session go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadMode {
    /// One PUT with all bytes.
    Monolithic,
    /// PATCHes of this many bytes, then an empty PUT.
    Chunked(usize),
}

impl Repository {
    /// Tries to mount; opens a session where that is not asked for or does not happen.
    pub(crate) async fn open_upload(
        &self,
        blob: &Descriptor,
        from: Option<&RepositoryName>,
    ) -> Result<Begun, StoreError> {
        if let Some(from) = from
            && let Some(begun) = self.mount(blob, from).await?
        {
            return Ok(begun);
        }
        let context = self.context(Step::BeginUpload, blob.digest);
        let url = self.url(&context, "blobs/uploads/")?;
        let answer = self.post(&context, url, Scopes::push(&self.name)).await?;
        match answer.status {
            StatusCode::ACCEPTED => self.session(&context, blob, &answer),
            _ => Err(answer.refusal(&context)),
        }
    }

    /// Tries to mount, and takes the session that is opened where that does not happen. `None` where the registry refuses
    /// both: it may be the mounting alone.
    pub(crate) async fn mount(&self, blob: &Descriptor, from: &RepositoryName) -> Result<Option<Begun>, StoreError> {
        let context = self.context(Step::BeginUpload, blob.digest);
        let mut url = self.url(&context, "blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from.as_str());
        let answer = self.post(&context, url, Scopes::mount(&self.name, from)).await?;
        match answer.status {
            StatusCode::CREATED => Ok(Some(Begun::Mounted)),
            StatusCode::ACCEPTED => self.session(&context, blob, &answer).map(Some),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                tracing::debug!(place = %context.place, %from, digest = %blob.digest, "no mount: {}", answer.detail());
                Ok(None)
            }
            _ => Err(answer.refusal(&context)),
        }
    }

    async fn post(&self, context: &Context, url: Url, scopes: Scopes) -> Result<Answer, StoreError> {
        let call = Call::new(Kind::OpenUpload, Method::POST, url, scopes).payload(Payload::Bytes(Bytes::new()));
        self.registry.send(context, call.header(CONTENT_LENGTH, HeaderValue::from_static("0"))).await
    }

    fn session(&self, context: &Context, blob: &Descriptor, answer: &Answer) -> Result<Begun, StoreError> {
        let location = location(context, answer)?
            .ok_or_else(|| context.error(ErrorKind::Invalid, "the registry opened a session without saying where"))?;
        let least = answer.header(&OCI_CHUNK_MIN_LENGTH).and_then(|length| length.trim().parse::<usize>().ok());
        let mode = match (self.registry.upload, least) {
            (UploadMode::Chunked(size), Some(least)) if least > MAX_CHUNK.max(size) => {
                let detail =
                    format!("the registry wants chunks of {least} bytes, and at most {MAX_CHUNK} are held in memory");
                return Err(context.error(ErrorKind::Unsupported, detail));
            }
            (UploadMode::Chunked(size), Some(least)) => UploadMode::Chunked(size.max(least)),
            (mode, _) => mode,
        };
        Ok(Begun::Session(Box::new(Session { repository: self.clone(), blob: blob.clone(), location, mode })))
    }
}

/// Where an answer says that the session goes on.
fn location(context: &Context, answer: &Answer) -> Result<Option<Url>, StoreError> {
    let Some(location) = answer.header(&LOCATION) else { return Ok(None) };
    let url = locate::follow(&answer.url, location);
    url.map(Some).map_err(|astray| context.error(ErrorKind::Refused, format!("the upload's location: {astray}")))
}

/// An open session.
#[derive(Debug)]
struct Session {
    repository: Repository,
    blob: Descriptor,
    location: Url,
    mode: UploadMode,
}

#[async_trait]
impl Upload for Session {
    async fn send(mut self: Box<Self>, bytes: Verified) -> Result<(), StoreError> {
        match self.mode {
            _ if self.blob.size <= HELD => self.send_held(bytes).await,
            UploadMode::Monolithic => self.send_streamed(bytes).await,
            UploadMode::Chunked(size) => self.send_chunks(bytes, size).await,
        }
    }

    async fn cancel(self: Box<Self>) {
        let context = self.context(Step::BeginUpload);
        let call = Call::new(Kind::Farewell, Method::DELETE, self.location.clone(), self.scopes());
        if let Err(error) = self.repository.registry.send(&context, call).await {
            tracing::debug!("a session stays open: {error}");
        }
    }
}

impl Session {
    async fn send_held(&self, mut bytes: Verified) -> Result<(), StoreError> {
        let mut held = BytesMut::new();
        while let Some(piece) = bytes.next().await {
            held.extend_from_slice(&piece?);
        }
        self.commit(Kind::Commit, Payload::Bytes(held.freeze()), self.blob.size).await
    }

    async fn send_streamed(&self, mut bytes: Verified) -> Result<(), StoreError> {
        bytes.begun().await;
        let outgoing = Outgoing::new(bytes, &self.repository.registry);
        let watch = outgoing.watch();
        let guard = Closing(watch.clone());
        let outcome = self.commit(Kind::Streamed, Payload::Stream(outgoing), self.blob.size).await;
        let failure = watch.close();
        drop(guard);
        match (outcome, failure) {
            // The request failed because the source did.
            (_, Some(failure)) => Err(failure),
            (outcome, None) => outcome,
        }
    }

    async fn send_chunks(&mut self, mut bytes: Verified, size: usize) -> Result<(), StoreError> {
        let mut offset = 0;
        let mut chunk = BytesMut::new();
        while let Some(piece) = bytes.next().await {
            let mut piece = piece?;
            while chunk.len() + piece.len() >= size {
                chunk.extend_from_slice(&piece.split_to(size - chunk.len()));
                // Taken before it is sent: one chunk is held at a time, not two.
                self.patch(&mut offset, std::mem::take(&mut chunk).freeze()).await?;
            }
            chunk.extend_from_slice(&piece);
        }
        if !chunk.is_empty() {
            self.patch(&mut offset, chunk.freeze()).await?;
        }
        self.commit(Kind::Commit, Payload::Bytes(Bytes::new()), 0).await
    }

    async fn patch(&mut self, offset: &mut u64, chunk: Bytes) -> Result<(), StoreError> {
        let context = self.context(Step::SendBlob);
        let (first, end) = (*offset, *offset + chunk.len() as u64);
        let call = Call::new(Kind::Chunk, Method::PATCH, self.location.clone(), self.scopes())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, chunk.len().into())
            .header(CONTENT_RANGE, header(&context, &format!("{first}-{}", end - 1))?)
            .payload(Payload::Bytes(chunk));
        let answer = self.repository.registry.send(&context, call).await?;
        // distribution-spec says 202; ECR says 201, others 204.
        if !matches!(answer.status, StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT) {
            return Err(answer.refusal(&context));
        }
        if let Some(stored) = stored(&answer).filter(|stored| *stored != end) {
            let detail = format!("the registry has {stored} bytes after {end} were sent");
            return Err(context.error(ErrorKind::Unavailable, detail));
        }
        if let Some(next) = location(&context, &answer)? {
            self.location = next;
        }
        *offset = end;
        Ok(())
    }

    /// The PUT that ends the session.
    async fn commit(&self, kind: Kind, payload: Payload, length: u64) -> Result<(), StoreError> {
        let context = self.context(Step::CommitBlob);
        let mut url = self.location.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let call = Call::new(kind, Method::PUT, url, self.scopes())
            .header(CONTENT_TYPE, OCTETS)
            .header(CONTENT_LENGTH, length.into())
            .payload(payload);
        let context = if length > 0 { context.at(Step::SendBlob) } else { context };
        let answer = self.repository.registry.send(&context, call).await?;
        if !matches!(answer.status, StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT) {
            return Err(answer.refusal(&context));
        }
        match answer.content_digest() {
            Some(stored) if stored.algorithm() == self.blob.digest.algorithm() && stored != self.blob.digest => {
                Err(context.error(ErrorKind::Corrupt, format!("the registry says that it stored {stored}")))
            }
            _ => Ok(()),
        }
    }

    fn context(&self, step: Step) -> Context {
        self.repository.context(step, self.blob.digest)
    }

    fn scopes(&self) -> Scopes {
        Scopes::push(&self.repository.name)
    }
}

/// Lets go of the source even when the sending is dropped in its midst.
struct Closing(super::outgoing::Watch);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

fn header(context: &Context, text: &str) -> Result<HeaderValue, StoreError> {
    HeaderValue::from_str(text).map_err(|error| context.error(ErrorKind::Invalid, error))
}

/// How many bytes a session has by its `Range: 0-<last>`, or `bytes=0-<last>`.
fn stored(answer: &Answer) -> Option<u64> {
    let range = answer.header(&RANGE)?.trim();
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    last.parse::<u64>().ok()?.checked_add(1)
}
