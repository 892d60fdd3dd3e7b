//! Manifest requests (distribution-spec, "Pulling manifests", "Pushing Manifests", "Deleting Manifests"): lookup, read,
//! write and delete. The client never changes the bytes of a manifest. The client compares the digest of the bytes with
//! the digest that the registry states.

use futures_util::future::try_join_all;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, StatusCode};

use crate::oci::{ContentKind, Descriptor, Digest, Manifest, ManifestRef, MediaType};
use crate::registry::Repository;
use crate::registry::auth::request::RegistryRequest;
use crate::registry::auth::scope::Scopes;
use crate::registry::http::context::Context;
use crate::registry::http::hints;
use crate::registry::http::request::{Expects, Payload};
use crate::registry::http::response::Response;
use crate::registry::http::retry::Operation;
use crate::registry::limits::pull_quota::Reads;
use crate::store::{ErrorKind, ReferrerLink, Step, StoreError};

/// Maximum number of repeated writes of one manifest. The client repeats a write if a replica of the registry may not
/// have received the content that the manifest lists. The pauses before the repeated writes rise from 0.25 to 4
/// seconds.
const REPLICA_PAUSES: u32 = 5;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Repository {
    /// Returns the descriptor of a manifest; `None` if the manifest does not exist. Sends a HEAD request. If the
    /// registry does not support HEAD, or if the response lacks a required header, the client sends a GET request.
    pub(crate) async fn head_manifest(&self, reference: &ManifestRef) -> Result<Option<Descriptor>, StoreError> {
        let context = self.context(Step::Resolve, reference);
        let answer = self.registry.send(&context, self.manifest_call(&context, Method::HEAD, reference)?).await?;
        match answer.status {
            status if status.is_success() => match descriptor_from_head(&context, reference, &answer)? {
                Some(descriptor) => Ok(Some(descriptor)),
                None => {
                    self.find_manifest(&context, reference).await.map(|found| found.map(|found| found.descriptor()))
                }
            },
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                self.find_manifest(&context, reference).await.map(|found| found.map(|found| found.descriptor()))
            }
            _ => Err(answer.refusal(&context)),
        }
    }

    pub(crate) async fn get_manifest(
        &self,
        context: &Context,
        reference: &ManifestRef,
    ) -> Result<Manifest, StoreError> {
        let answer = self.registry.send(context, self.manifest_call(context, Method::GET, reference)?).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal(context));
        }
        manifest_from_get(context, reference, &answer)
    }

    /// Reads a manifest like [`Self::get_manifest`], but returns `None` if the manifest does not exist.
    pub(crate) async fn find_manifest(
        &self,
        context: &Context,
        reference: &ManifestRef,
    ) -> Result<Option<Manifest>, StoreError> {
        match self.get_manifest(context, reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn manifest_call(
        &self,
        context: &Context,
        method: Method,
        reference: &ManifestRef,
    ) -> Result<RegistryRequest, StoreError> {
        let url = self.url(context, &format!("manifests/{reference}"))?;
        // Some registries answer 404 if the request does not accept the media type of the manifest. With `*/*`, these
        // registries return a manifest of any media type.
        let accepted = HeaderValue::from_str(&format!("{}, */*", MediaType::ACCEPTED.join(", ")));
        let accepted = accepted.map_err(|error| context.error(ErrorKind::Invalid, error))?;
        let reads = match reference {
            _ if method == Method::HEAD => Reads::Free,
            ManifestRef::Tag(_) => Reads::Counted(None),
            ManifestRef::Digest(digest) => Reads::Counted(Some(*digest)),
        };
        let call = RegistryRequest::new(self.reads, method, url, self.reading()).reads(reads);
        Ok(call.header(ACCEPT, accepted).expects(Expects::Small(self.registry.max_manifest())))
    }

    pub(crate) async fn put_manifest(
        &self,
        context: &Context,
        manifest: &Manifest,
        reference: &ManifestRef,
    ) -> Result<ReferrerLink, StoreError> {
        let mut answer = self.send_manifest(context, manifest, reference).await?;
        for lag in 0..REPLICA_PAUSES {
            if !self.is_replica_lagging(context, manifest, &answer).await {
                break;
            }
            tracing::debug!(place = %context.place, "a replica may lag: writing the manifest again after a pause");
            tokio::time::sleep(self.registry.retry_policy().first_pause * 2u32.pow(lag)).await;
            answer = self.send_manifest(context, manifest, reference).await?;
        }
        if !answer.status.is_success() {
            if self.is_tag_current(manifest, reference, answer.status).await {
                return Ok(referrer_link(manifest, false));
            }
            let codes = answer.codes();
            let hint = hints::for_manifest(manifest, answer.status, &codes);
            let hint = hint.or_else(|| hints::for_soft_deletion(context.flavor, answer.status, &answer.bytes()));
            let hint = hint.or_else(|| hints::for_refusal(context.flavor, context.step, answer.status, &codes));
            return Err(answer.refusal_with(context, hint));
        }
        if let Some(stored) = answer.content_digest() {
            let sent = stored.same_algorithm_of(manifest.bytes());
            if stored != sent {
                let detail = format!("the registry reports that it stored {stored}, but {sent} was sent");
                return Err(context.error(ErrorKind::Corrupt, detail));
            }
        } else if answer.status != StatusCode::CREATED {
            self.verify_written(context, manifest, reference, answer.status).await?;
        }
        Ok(referrer_link(manifest, answer.headers.contains_key(OCI_SUBJECT)))
    }

    /// Looks up a manifest after a write. The caller uses this check if a successful response to the write states no
    /// digest and the status is not 201 (distribution-spec, "Pushing Manifests"). A proxy can send such a response. If
    /// the lookup fails, logs a warning and returns `Ok`.
    async fn verify_written(
        &self,
        context: &Context,
        manifest: &Manifest,
        reference: &ManifestRef,
        status: StatusCode,
    ) -> Result<(), StoreError> {
        match self.head_manifest(reference).await {
            Ok(Some(current)) if current.digest == current.digest.same_algorithm_of(manifest.bytes()) => Ok(()),
            Ok(_) => {
                let detail = format!("the registry answered {status} instead of 201 and does not have the manifest");
                Err(context.error(ErrorKind::Unavailable, detail))
            }
            Err(error) => {
                tracing::warn!(
                    place = %context.place, %reference, %status, %error,
                    "the registry did not answer the PUT with 201, and the lookup of the manifest failed"
                );
                Ok(())
            }
        }
    }

    async fn send_manifest(
        &self,
        context: &Context,
        manifest: &Manifest,
        reference: &ManifestRef,
    ) -> Result<Response, StoreError> {
        let url = self.url(context, &format!("manifests/{reference}"))?;
        let media_type = HeaderValue::from_str(manifest.media_type().as_str()).map_err(|_| {
            context.error(ErrorKind::Invalid, "the media type of the manifest is not a valid header value")
        })?;
        let call = RegistryRequest::new(Operation::WriteManifest, Method::PUT, url, Scopes::push(&self.name))
            .header(CONTENT_TYPE, media_type)
            .payload(Payload::Bytes(manifest.bytes().clone()));
        self.registry.send(context, call).await
    }

    /// Returns true if the registry refused a manifest because of missing content, although the registry has the
    /// content. In this case, the refusal can come from a replica that has not received the content yet.
    async fn is_replica_lagging(&self, context: &Context, manifest: &Manifest, answer: &Response) -> bool {
        let lacks = self.registry.flavor().replicas_lag
            && !answer.status.is_success()
            && answer.refusal(context).kind == ErrorKind::MissingContent;
        let (true, Ok(view)) = (lacks, manifest.view()) else { return false };
        let blobs = view.blobs().into_iter().filter(|blob| !blob.is_foreign()).map(|blob| self.head_blob(blob));
        if !try_join_all(blobs).await.is_ok_and(|found| found.into_iter().all(|found| found)) {
            return false;
        }
        let children = view.manifests();
        let found = try_join_all(children.iter().map(|child| self.has_child(child))).await;
        found.is_ok_and(|found| found.into_iter().all(|found| found))
    }

    /// Returns true if the registry has `child`, an entry of an index. Looks up the child as a manifest. If the
    /// registry has no manifest with the digest, and the type of the child is unknown, looks up the child as a blob.
    async fn has_child(&self, child: &Descriptor) -> Result<bool, StoreError> {
        let is_manifest = self.head_manifest(&child.digest.into()).await?.is_some();
        Ok(is_manifest || (child.kind() == ContentKind::Unknown && self.head_blob(child).await?))
    }

    /// Returns true if the registry refused to write a tag that already points at this manifest. Amazon ECR refuses a
    /// second write of an immutable tag, even with the same digest. If the response to the first write is lost, the
    /// client sends the write a second time.
    async fn is_tag_current(&self, manifest: &Manifest, reference: &ManifestRef, status: StatusCode) -> bool {
        let is_refusal = matches!(status.as_u16(), 400 | 403 | 409 | 412);
        if !is_refusal || matches!(reference, ManifestRef::Digest(_)) {
            return false;
        }
        let current = self.head_manifest(reference).await;
        current.is_ok_and(|current| current.is_some_and(|current| current.digest == manifest.digest()))
    }

    pub(crate) async fn delete_manifest(&self, reference: &ManifestRef) -> Result<(), StoreError> {
        let context = self.context(Step::Delete, reference);
        let url = self.url(&context, &format!("manifests/{reference}"))?;
        let call = RegistryRequest::new(Operation::Delete, Method::DELETE, url, Scopes::delete(&self.name));
        let answer = self.registry.send(&context, call).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            // distribution 2 parses the tag as a digest, and answers that the digest is invalid.
            StatusCode::BAD_REQUEST
                if matches!(reference, ManifestRef::Tag(_)) && answer.codes().iter().any(|c| c == "DIGEST_INVALID") =>
            {
                Err(context
                    .error(ErrorKind::Unsupported, format!("the registry does not delete tags: {}", answer.detail())))
            }
            _ => Err(answer.refusal(&context)),
        }
    }
}

fn referrer_link(manifest: &Manifest, lists_referrers: bool) -> ReferrerLink {
    let has_subject = manifest.view().is_ok_and(|view| view.subject.is_some());
    if !has_subject || lists_referrers { ReferrerLink::Listed } else { ReferrerLink::Unlisted }
}

/// Creates a descriptor from the headers of a HEAD response. Returns `None` if the headers are incomplete.
fn descriptor_from_head(
    context: &Context,
    reference: &ManifestRef,
    answer: &Response,
) -> Result<Option<Descriptor>, StoreError> {
    let size = answer.header(&CONTENT_LENGTH).and_then(|length| length.trim().parse::<u64>().ok());
    let media_type = answer.header(&CONTENT_TYPE).map(MediaType::new);
    let stated = answer.content_digest();
    let digest = match reference {
        ManifestRef::Tag(_) => stated,
        ManifestRef::Digest(requested) => {
            if let Some(stated) = stated.filter(|stated| differs(stated, requested)) {
                return Err(context.error(ErrorKind::Corrupt, format!("the registry states the digest {stated}")));
            }
            Some(*requested)
        }
    };
    Ok(match (media_type, digest, size) {
        (Some(media_type), Some(digest), Some(size)) if size > 0 => Some(Descriptor::new(media_type, digest, size)),
        _ => None,
    })
}

/// Reads the manifest in a response, and hashes the bytes.
///
/// # Errors
/// Returns [`ErrorKind::Corrupt`] in these cases:
///
/// - The request names a digest, and the hash differs from this digest.
/// - The request names a tag, and the hash differs from the digest that the registry states.
fn manifest_from_get(context: &Context, reference: &ManifestRef, answer: &Response) -> Result<Manifest, StoreError> {
    let stated = answer.content_digest();
    let media_type = answer.header(&CONTENT_TYPE).map(MediaType::new);
    let requested = match reference {
        ManifestRef::Digest(digest) => Some(digest),
        ManifestRef::Tag(_) => stated.as_ref(),
    };
    let manifest = Manifest::received(media_type.as_ref(), answer.bytes(), requested);
    let actual = manifest.digest();
    match (reference, stated) {
        (ManifestRef::Digest(requested), _) if *requested != actual => {
            Err(context.error(ErrorKind::Corrupt, format!("the bytes hash to {actual}")))
        }
        (ManifestRef::Tag(_), Some(stated)) if stated != actual => Err(context.error(
            ErrorKind::Corrupt,
            format!(
                "the registry states the digest {stated}, but the bytes have the \
                    digest {actual}"
            ),
        )),
        (ManifestRef::Digest(_), Some(stated)) if differs(&stated, &actual) => {
            tracing::warn!(
                place = %context.place, %stated, %actual,
                "the registry states a wrong digest, but the bytes have the requested digest"
            );
            Ok(manifest)
        }
        _ => Ok(manifest),
    }
}

/// Returns true if two digests of the same algorithm differ. Returns false if the algorithms differ.
fn differs(a: &Digest, b: &Digest) -> bool {
    a.algorithm() == b.algorithm() && a != b
}
