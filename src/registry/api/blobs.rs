//! Lookup of blobs, and reads of blobs from any offset (distribution-spec, "Pulling blobs"). The caller of a read
//! verifies the digest of the bytes.
//!
//! The client looks up a blob with a HEAD request. The status of the response shows whether the registry has the blob.
//! Some registries and proxies state a wrong length. If the stated length differs from the length in the descriptor,
//! the client checks the length with a GET request.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use crate::oci::Descriptor;
use crate::registry::Repository;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::http::blob_body::BlobBody;
use crate::registry::http::context::Context;
use crate::registry::http::request::Expects;
use crate::registry::http::response::{Body, Response};
use crate::registry::http::retry::Failure;
use crate::registry::limits::concurrency::RequestClass;
use crate::store::{ByteStream, ErrorKind, Step, StoreError};

/// Outcome of a lookup of a blob.
pub(crate) enum Looked {
    Absent,
    Present,
    /// The registry has a blob with this digest, but the stored length differs from the length in the descriptor. The
    /// value is the length at the registry, in bytes.
    OtherLength(u64),
}

impl Repository {
    /// Returns true if the registry has the blob with the length in the descriptor. If the stored length is different,
    /// logs a warning and returns false, so the caller uploads the blob again.
    pub(crate) async fn head_blob(&self, blob: &Descriptor) -> Result<bool, StoreError> {
        Ok(match self.look_for_blob(blob).await? {
            Looked::Absent => false,
            Looked::Present => true,
            Looked::OtherLength(stored) => {
                self.record_wrong_length(blob, stored);
                false
            }
        })
    }

    /// Looks up a blob at the registry.
    ///
    /// - If the registry denies the lookup, and the repository is a target, returns [`Looked::Absent`]. Some registries
    ///   deny reads in a repository that does not exist yet.
    /// - If the registry redirects the lookup to a storage service, returns [`Looked::Present`].
    /// - If the response is a web page, and its length differs from the length in the descriptor, returns an error: the
    ///   server is not a registry.
    ///
    /// # Errors
    /// Returns an error if the response does not show whether the registry has the blob.
    pub(crate) async fn look_for_blob(&self, blob: &Descriptor) -> Result<Looked, StoreError> {
        let found = match self.find_blob(blob).await {
            Err(error) if error.kind == ErrorKind::Denied && self.is_written() => {
                tracing::debug!(%error, "blob lookup is denied: uploading the blob");
                return Ok(Looked::Absent);
            }
            found => found,
        };
        if let (true, Err(error)) = (self.registry.facts().blob_heads.record_outcome(found.is_err()), &found) {
            tracing::warn!(
                place = %error.place,
                "the lookup of a blob failed ({}): uploading the blob again",
                error.detail
            );
        }
        found
    }

    async fn find_blob(&self, blob: &Descriptor) -> Result<Looked, StoreError> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest))?;
        let call =
            RegistryRequest::new(self.registry.facts().blob_heads.operation(), Method::HEAD, url, self.reading());
        let answer = self.registry.send(&context, call.stopping_at_store()).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Looked::Absent),
            status if status.is_success() => {
                let Some(stated) = length(&answer).filter(|stated| *stated != blob.size) else {
                    return Ok(Looked::Present);
                };
                match answer.describe_web_page() {
                    // If a GET request finds the right length, the registry has the blob, and only the content type is
                    // wrong.
                    Some(page) if self.length_by_get(blob).await != Some(blob.size) => {
                        Err(context.error(ErrorKind::Invalid, page))
                    }
                    Some(_) => Ok(Looked::Present),
                    None => Ok(self.check_length(blob, stated).await),
                }
            }
            status if status.is_redirection() && answer.headers.contains_key(LOCATION) => Ok(Looked::Present),
            _ => Err(answer.refusal(&context)),
        }
    }

    /// Checks the length of a blob with a GET request. `stated` is the length in the HEAD response, which differs from
    /// the length in the descriptor. If the GET response states no length, returns [`Looked::Absent`], so the caller
    /// uploads the blob again.
    async fn check_length(&self, blob: &Descriptor, stated: u64) -> Looked {
        match self.length_by_get(blob).await {
            Some(stored) if stored == blob.size => {
                tracing::debug!(
                    place = %self.place, blob = %blob.digest, stated,
                    "HEAD stated a wrong length; GET stated the right length"
                );
                Looked::Present
            }
            Some(stored) => Looked::OtherLength(stored),
            None => {
                self.record_wrong_length(blob, stated);
                Looked::Absent
            }
        }
    }

    /// Logs that the registry has a blob with a wrong length, and records the wrong length for the upload strategy.
    pub(crate) fn record_wrong_length(&self, blob: &Descriptor, stored: u64) {
        tracing::warn!(
            place = %self.place, blob = %blob.digest, stored, wanted = blob.size,
            "the registry has the blob with a wrong length; uploading it again"
        );
        self.registry.facts().upload_strategy.record_wrong_length();
    }

    /// Returns the length in bytes of a blob that the caller has just uploaded. Returns `None` if the registry states
    /// no length, or if a request fails.
    pub(crate) async fn stored_length(&self, blob: &Descriptor) -> Option<u64> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest)).ok()?;
        let call =
            RegistryRequest::new(self.registry.facts().blob_heads.operation(), Method::HEAD, url, self.reading());
        let answer = self.registry.send(&context, call.stopping_at_store()).await.ok()?;
        let stated = length(&answer).filter(|_| answer.status.is_success())?;
        if stated == blob.size { Some(stated) } else { self.length_by_get(blob).await }
    }

    /// Returns the length of the whole blob; `None` if the request fails, or if the registry states no length. Requests
    /// only the first byte (`Range: bytes=0-0`). In the response, `Content-Range: bytes 0-0/LENGTH` states the length.
    pub(crate) async fn length_by_get(&self, blob: &Descriptor) -> Option<u64> {
        let context = self.context(Step::FindBlob, blob.digest);
        let url = self.url(&context, &format!("blobs/{}", blob.digest)).ok()?;
        let call = RegistryRequest::read(Method::GET, url, self.reading()).expects(Expects::Blob(RequestClass::Common));
        let call = call
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(RANGE, HeaderValue::from_static("bytes=0-0"));
        let answer = self.registry.send(&context, call).await.ok()?;
        let length_in_range = || answer.header(&CONTENT_RANGE)?.rsplit_once('/')?.1.trim().parse().ok();
        match answer.status {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => length_in_range(),
            status if status.is_success() => length(&answer),
            _ => None,
        }
    }

    /// Returns the bytes of a blob from `offset` to the end. If the registry refuses the range, or sends a range that
    /// does not start at `offset`, reads the whole blob and drops the bytes before `offset`.
    pub(crate) async fn get_blob(&self, blob: &Descriptor, offset: u64) -> Result<ByteStream, StoreError> {
        if offset > 0 && offset >= blob.size {
            return Ok(stream::empty().boxed());
        }
        let context = self.context(Step::ReadBlob, blob.digest);
        let mut answer = self.request_blob(&context, blob, offset).await?;
        let needs_whole_blob = match answer.status {
            StatusCode::PARTIAL_CONTENT => !starts_at(&answer, offset),
            status => status == StatusCode::BAD_REQUEST || status == StatusCode::RANGE_NOT_SATISFIABLE,
        };
        if offset > 0 && needs_whole_blob {
            tracing::debug!(
                place = %self.place, blob = %blob.digest, offset, status = %answer.status,
                "reading the blob without a range"
            );
            answer = self.request_blob(&context, blob, 0).await?;
        }
        let skip = match answer.status {
            StatusCode::PARTIAL_CONTENT if starts_at(&answer, offset) => 0,
            // The response contains the whole blob, because the registry ignored the range or the request had no range.
            status if status.is_success() && starts_at(&answer, 0) => offset,
            status if status.is_success() => {
                return Err(context.error(ErrorKind::Invalid, range_mismatch(&answer, offset)));
            }
            _ => return Err(answer.refusal(&context)),
        };
        match answer.body {
            Body::Streamed(body) => Ok(read_stream(context, body, offset, skip)),
            Body::Whole(bytes) => Ok(stream::iter([Ok(bytes)]).boxed()),
        }
    }

    async fn request_blob(&self, context: &Context, blob: &Descriptor, offset: u64) -> Result<Response, StoreError> {
        let url = self.url(context, &format!("blobs/{}", blob.digest))?;
        let class = if offset > 0 { RequestClass::BlobResumed } else { RequestClass::BlobRead };
        let mut call = RegistryRequest::new(self.reads, Method::GET, url, self.reading()).expects(Expects::Blob(class));
        call = call.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            call = call.header(RANGE, range.map_err(|error| context.error(ErrorKind::Invalid, error))?);
        }
        self.registry.send(context, call).await
    }
}

fn length(answer: &Response) -> Option<u64> {
    answer.header(&CONTENT_LENGTH)?.trim().parse().ok()
}

/// Returns true if the header `Content-Range` is missing, or if the header states `offset` as the first byte of the
/// response.
fn starts_at(answer: &Response, offset: u64) -> bool {
    let Some(range) = answer.header(&CONTENT_RANGE) else { return true };
    first_byte(range) == Some(offset)
}

fn range_mismatch(answer: &Response, offset: u64) -> String {
    let range: String = answer.header(&CONTENT_RANGE).unwrap_or_default().chars().take(64).collect();
    format!("requested the bytes from {offset} on, the registry sent {range:?}")
}

/// Returns `FIRST`, the offset of the first byte, from a header `Content-Range: bytes FIRST-LAST/LENGTH`.
pub(crate) fn first_byte(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes")?.trim().split('-').next()?.parse().ok()
}

/// State of a read of one blob. The read yields the bytes from the requested offset to the end of the blob.
struct BlobRead {
    context: Context,
    body: BlobBody,
    /// Number of bytes before the requested offset that the read must still receive and drop.
    skip: u64,
    /// Position in the blob of the next byte that the read yields, in bytes from the start of the blob.
    offset: u64,
    /// Number of received bytes, including the dropped bytes.
    received: u64,
    /// Time at which the read last yielded bytes. If the read has yielded no bytes, the start of the read.
    last_received: Instant,
}

fn read_stream(context: Context, body: BlobBody, offset: u64, skip: u64) -> ByteStream {
    let read = BlobRead { context, body, skip, offset, received: 0, last_received: Instant::now() };
    // After an error, the state is `None`, and the stream ends.
    stream::unfold(Some(read), |read| async {
        let mut read = read?;
        match read.next_piece().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(read))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl BlobRead {
    /// Records in the retry budget that the body ended too early, and creates the error.
    fn interruption(&self, why: &str) -> StoreError {
        self.context.budget.record_failure(Failure::Broken, self.last_received.elapsed());
        self.context.budget.mark_offset(self.offset);
        self.context.error(ErrorKind::Unavailable, format!("after {} bytes: {why}", self.received))
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let next = self.body.next_piece().await.map_err(|why| self.interruption(&why))?;
            let Some(mut piece) = next else { return Ok(None) };
            self.received += piece.len() as u64;
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(piece.len());
            self.skip -= skipped as u64;
            let piece = piece.split_off(skipped);
            if !piece.is_empty() {
                self.offset += piece.len() as u64;
                self.context.budget.record_progress(self.offset);
                self.last_received = Instant::now();
                return Ok(Some(piece));
            }
        }
    }
}
