//! Uploads (distribution-spec, "Pushing blobs"): mounting, sessions, their bytes in one piece, and the PUT that ends them.
//! Chunks are in [`super::chunks`], which of both it is in [`super::manner`].

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use url::Url;

use super::Repository;
use super::answer::{Answer, Context};
use super::chunks::Sent;
use super::locate;
use super::manner::{MAX_CHUNK, Way};
use super::outgoing::Outgoing;
use super::retry::{self, Failure, Kind};
use super::scope::Scopes;
use super::transport::{Call, Payload};
use crate::oci::{Descriptor, RepositoryName};
use crate::store::{Begun, ErrorKind, Standing, Step, StoreError, Upload, Verified};

/// Blobs up to this size are read whole before they are sent, so that the request can be repeated.
const HELD: u64 = 128 * 1024;

const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

impl Repository {
    /// Tries to mount; opens a session where that is not asked for or does not happen.
    pub(crate) async fn open_upload(
        &self,
        blob: &Descriptor,
        from: Option<&RepositoryName>,
    ) -> Result<Begun, StoreError> {
        if let Some(from) = from {
            if let Some(begun) = self.mount(blob, from).await? {
                return Ok(begun);
            }
            // Nobody has looked for the blob: a mount would have told. Who may not look either sends it.
            if matches!(self.head_blob(blob).await, Ok(true)) {
                return Ok(Begun::Mounted);
            }
        }
        let context = self.context(Step::BeginUpload, blob.digest);
        let url = self.url(&context, "blobs/uploads/")?;
        let answer = self.post(&context, url, Scopes::push(&self.name)).await?;
        match answer.status {
            StatusCode::ACCEPTED => self.session(&context, blob, &answer),
            status if status.is_success() => {
                Err(context.error(ErrorKind::Invalid, format!("{}, expected 202", answer.detail())))
            }
            _ => Err(answer.refusal(&context)),
        }
    }

    /// Tries to mount, and takes the session that is opened where that does not happen. `None` where the registry refuses
    /// both: it may be the mounting alone. Then it is not asked for that again for a while.
    pub(crate) async fn mount(&self, blob: &Descriptor, from: &RepositoryName) -> Result<Option<Begun>, StoreError> {
        if self.registry.unmountable.knows(from, &self.name) {
            return Ok(None);
        }
        let context = self.context(Step::BeginUpload, blob.digest);
        let mut url = self.url(&context, "blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from.as_str());
        let answer = match self.post(&context, url, Scopes::mount(&self.name, from)).await {
            Ok(answer) => answer,
            // Some token services give none at all to who may do part of what is asked.
            Err(error) if error.kind == ErrorKind::Denied => {
                tracing::debug!(place = %context.place, %from, blob = %blob.digest, "no mount: {error}");
                self.registry.unmountable.learn(from, &self.name);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match answer.status {
            StatusCode::CREATED => Ok(Some(Begun::Mounted)),
            StatusCode::ACCEPTED => {
                self.registry.mount_did_not_happen();
                self.session(&context, blob, &answer).map(Some)
            }
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                self.registry.mount_did_not_happen();
                tracing::debug!(place = %context.place, %from, blob = %blob.digest, "no mount: {}", answer.detail());
                if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                    self.registry.unmountable.learn(from, &self.name);
                }
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
        if let Some(Err(least)) = least.map(|least| self.registry.upload.learn_least(least)) {
            let detail =
                format!("the registry wants chunks of {least} bytes, and at most {MAX_CHUNK} are held in memory");
            return Err(context.error(ErrorKind::Unsupported, detail));
        }
        Ok(Begun::Session(Box::new(Session { repository: self.clone(), blob: blob.clone(), location, standing: None })))
    }
}

/// Where an answer says that the session goes on.
pub(super) fn location(context: &Context, answer: &Answer) -> Result<Option<Url>, StoreError> {
    let Some(location) = answer.header(&LOCATION) else { return Ok(None) };
    let url = locate::follow(&answer.url, location);
    url.map(Some).map_err(|astray| context.error(ErrorKind::Refused, format!("the upload's location: {astray}")))
}

/// An open session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) repository: Repository,
    pub(super) blob: Descriptor,
    pub(super) location: Url,
    /// What an earlier process has sent of the blob.
    pub(super) standing: Option<Standing>,
}

#[async_trait]
impl Upload for Session {
    async fn send(mut self: Box<Self>, bytes: Verified) -> Result<(), StoreError> {
        let chunks = match self.repository.registry.upload.way() {
            _ if self.standing.is_some() => self.send_in_chunks(bytes).await,
            _ if self.blob.size <= HELD => self.send_held(bytes).await.map(|()| 1),
            Way::Whole => self.send_streamed(bytes).await.map(|()| 1),
            Way::Chunks(_) => self.send_in_chunks(bytes).await,
        };
        self.prove(chunks?).await
    }

    fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
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
        let outcome = self.commit(Kind::Commit, Payload::Bytes(held.freeze()), self.blob.size).await;
        outcome.map_err(Uncommitted::error)
    }

    async fn send_streamed(&self, mut bytes: Verified) -> Result<(), StoreError> {
        bytes.begun().await;
        let outgoing = Outgoing::new(bytes, &self.repository.registry, self.repository.party);
        let watch = outgoing.watch();
        let guard = Closing(watch.clone());
        let outcome = self.commit(Kind::Streamed, Payload::Stream(outgoing), self.blob.size).await;
        let failure = watch.close();
        drop(guard);
        if let Some(failure) = failure {
            // The request failed because the source did.
            return Err(failure);
        }
        match outcome {
            Err(Uncommitted::Unanswered(_)) if watch.given() == 0 => {}
            Err(Uncommitted::Unanswered(_) | Uncommitted::Failed(_)) if self.is_there_after(watch.given()).await => {
                return Ok(());
            }
            Err(Uncommitted::Unanswered(_)) => {
                self.repository.registry.upload.learn_whole_broke_off(self.blob.digest, self.blob.size);
            }
            _ => {}
        }
        outcome.map_err(Uncommitted::error)
    }

    /// In how many chunks they went; in one where the whole has been seen.
    async fn send_in_chunks(&mut self, bytes: Verified) -> Result<u32, StoreError> {
        let Sent { chunks, is_smooth } = self.send_chunks(bytes).await?;
        let outcome = match self.commit(Kind::Commit, Payload::Bytes(Bytes::new()), 0).await {
            Err(Uncommitted::Unanswered(_) | Uncommitted::Failed(_)) if self.is_there_after(self.blob.size).await => {
                return Ok(1);
            }
            // What was sent is proven: a request that had broken off has still written into the session, or the registry has not
            // kept what an earlier process had sent.
            Err(Uncommitted::Refused(error)) if error.kind == ErrorKind::Corrupt && !is_smooth => {
                Err(StoreError { kind: ErrorKind::Unavailable, ..error })
            }
            outcome => outcome.map_err(Uncommitted::error),
        };
        outcome.map(|()| chunks)
    }

    /// Looks whether what is said to be stored is stored, where that is in doubt. A blob that cannot be seen yet is left to
    /// the manifest, which a registry does not take without it.
    async fn prove(&self, chunks: u32) -> Result<(), StoreError> {
        let (repository, blob) = (&self.repository, &self.blob);
        let manner = &repository.registry.upload;
        if !manner.is_to_be_proven(chunks) {
            return Ok(());
        }
        let Some(stored) = repository.stored_length(blob).await.filter(|stored| *stored != blob.size) else {
            return Ok(());
        };
        let lie =
            format!("the registry says that it stored the blob, and has {stored} bytes of it instead of {}", blob.size);
        let context = self.context(Step::CommitBlob);
        if chunks > 1 && manner.learn_chunks_are_lost() {
            let detail = format!("{lie}: it gets blobs in one piece from now on");
            return Err(context.error(ErrorKind::Unavailable, detail));
        }
        Err(context.error(ErrorKind::Corrupt, lie))
    }

    /// Whether the blob was committed although nobody said so. Where all bytes were sent, one HEAD may spare them all.
    async fn is_there_after(&self, sent: u64) -> bool {
        sent == self.blob.size && self.repository.head_blob(&self.blob).await.is_ok_and(|there| there)
    }

    /// The PUT that ends the session.
    async fn commit(&self, kind: Kind, payload: Payload, length: u64) -> Result<(), Uncommitted> {
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
        if !matches!(answer.status, StatusCode::CREATED | StatusCode::OK | StatusCode::NO_CONTENT) {
            return Err(Uncommitted::Refused(self.whole_refused(&context, &answer, length)));
        }
        match answer.content_digest() {
            Some(stored) if stored.algorithm() == self.blob.digest.algorithm() && stored != self.blob.digest => {
                let detail = format!("the registry says that it stored {stored}");
                Err(Uncommitted::Refused(context.error(ErrorKind::Corrupt, detail)))
            }
            _ => Ok(()),
        }
    }

    /// A body that is too large for the registry, or for what stands before it, may go in chunks: the caller begins again.
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

    pub(super) fn context(&self, step: Step) -> Context {
        self.repository.context(step, self.blob.digest)
    }

    pub(super) fn scopes(&self) -> Scopes {
        Scopes::push(&self.repository.name)
    }
}

/// Why an upload was not ended.
enum Uncommitted {
    /// The registry said no.
    Refused(StoreError),
    /// It said that it failed: it may have the blob.
    Failed(StoreError),
    /// It said nothing: it may have the blob.
    Unanswered(StoreError),
}

impl Uncommitted {
    fn error(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::Failed(error) | Self::Unanswered(error) => error,
        }
    }
}

/// Lets go of the source even when the sending is dropped in its midst.
struct Closing(super::outgoing::Watch);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

pub(super) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) fn header(context: &Context, text: &str) -> Result<HeaderValue, StoreError> {
    HeaderValue::from_str(text).map_err(|error| context.error(ErrorKind::Invalid, error))
}
