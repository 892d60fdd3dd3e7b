//! Manifest endpoints: GET, HEAD, PUT and DELETE by tag and by digest.

use axum::body::Body;
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;
use transship::oci::{Digest, Tag};

use super::faults::Fault;
use super::route::ReceivedRequest;
use super::store::Stored;
use super::{Shared, answer, quirks, transmit};

/// Largest manifest in bytes, as at most registries.
const LIMIT: usize = 4 * 1024 * 1024;

/// Answers a request for a manifest.
pub(super) async fn answer(
    shared: &Shared,
    repository: &str,
    reference: &str,
    request: ReceivedRequest,
    body: Body,
) -> Response {
    let response = match request.method {
        Method::GET | Method::HEAD => {
            get(shared, repository, reference, &request.headers, request.method == Method::HEAD)
        }
        Method::PUT => match axum::body::to_bytes(body, LIMIT).await {
            Ok(bytes) => {
                request.progress.entry.received(bytes.len());
                put(shared, repository, reference, &request.headers, bytes)
            }
            Err(_) => answer::error(413, "MANIFEST_INVALID", "too large"),
        },
        Method::DELETE if shared.faults.has(&Fault::NoDelete) => answer::not_allowed(),
        Method::DELETE if shared.store.remove_manifest(repository, reference) => answer::empty(202, &[]),
        Method::DELETE => answer::error(404, "MANIFEST_UNKNOWN", reference),
        _ => answer::not_allowed(),
    };
    transmit::counted(response, request.progress)
}

fn get(shared: &Shared, repository: &str, reference: &str, headers: &HeaderMap, is_head: bool) -> Response {
    let odd = shared.faults.find(|fault| if let Fault::FallbackTagAnswered(odd) = fault { Some(*odd) } else { None });
    if let Some(status) = odd.filter(|_| !is_head && reference.starts_with("sha256-")) {
        return answer::error(status, "UNKNOWN", "a fault of the test");
    }
    if shared.faults.has(&Fault::ManifestAbsent(reference.to_owned())) {
        return answer::error(404, "MANIFEST_UNKNOWN", reference);
    }
    let phantom = || shared.store.manifest(repository, &quirks::untagged_fallback_digest(shared, reference)?);
    let Some(manifest) = shared.store.manifest(repository, reference).or_else(phantom) else {
        let known = shared.store.tags(repository).is_some();
        return answer::error(404, if known { "MANIFEST_UNKNOWN" } else { "NAME_UNKNOWN" }, reference);
    };
    // distribution sends schema 1, whatever the client accepts.
    if !manifest.media_type.contains(".manifest.v1+") && !accepts(headers, &manifest.media_type) {
        return answer::error(
            404,
            "MANIFEST_UNKNOWN",
            &format!("it is a {}, which Accept does not list", manifest.media_type),
        );
    }
    let mut stated =
        vec![("content-type", manifest.media_type.clone()), ("content-length", manifest.bytes.len().to_string())];
    let wrong =
        shared.faults.find(|fault| if let Fault::TagDigestWrong(digest) = fault { Some(*digest) } else { None });
    if let Some(limit) = shared.setup.pulls.filter(|_| !is_head)
        && let Some(turned_away) = shared.pulls.pull(&limit)
    {
        return turned_away;
    }
    let by_tag = reference.parse::<Digest>().is_err();
    if !shared.faults.has(&Fault::TagDigestMissing) {
        let digest = wrong.filter(|_| by_tag).unwrap_or(manifest.digest);
        stated.push(("docker-content-digest", digest.to_string()));
    }
    let mut response = answer::with(200, &stated, if is_head { Bytes::new() } else { manifest.bytes });
    if let Some(limit) = &shared.setup.pulls {
        shared.pulls.state(limit, response.headers_mut());
    }
    response
}

fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    accepted.peek().is_none()
        || accepted
            .flat_map(|value| value.split(','))
            .map(|one| one.split(';').next().unwrap_or_default().trim())
            .any(|one| one == media_type || one == "*/*" || one == "application/*")
}

fn put(shared: &Shared, repository: &str, reference: &str, headers: &HeaderMap, bytes: Bytes) -> Response {
    if shared.faults.manifest_put_fails(reference) {
        return answer::error(500, "UNKNOWN", "the storage failed");
    }
    let (digest, tag) = match (reference.parse::<Digest>(), reference.parse::<Tag>()) {
        (Ok(digest), _) => (digest, None),
        (_, Ok(_)) => (Digest::of(&bytes), Some(reference)),
        _ => return answer::error(400, "TAG_INVALID", reference),
    };
    if digest.same_algorithm_of(&bytes) != digest {
        return answer::error(400, "DIGEST_INVALID", "the manifest does not hash to the digest of its path");
    }
    let media_type = answer::text(headers, header::CONTENT_TYPE).to_owned();
    let json = match check(&bytes, &media_type) {
        Ok(json) => json,
        Err(detail) => return answer::error(400, "MANIFEST_INVALID", detail),
    };
    if let Some(refusal) = quirks::refuse_manifest(shared, repository, tag, &json) {
        return refusal;
    }
    if let Some(missing) = missing(shared, repository, &json) {
        return answer::error(404, "MANIFEST_BLOB_UNKNOWN", &missing);
    }
    if tag.is_some_and(|tag| shared.faults.has(&Fault::TagLocked(tag.to_owned()))) {
        let body = concat!(
            r#"{"errors":[{"code":"DENIED","#,
            r#""message":"The operation is disallowed on this registry, repository or image."}]}"#
        );
        return answer::with(405, &[("content-type", "application/json".into())], body);
    }
    if let Some(tag) = tag
        && shared.faults.has(&Fault::ImmutableTags)
        && shared.store.tag(repository, tag).is_some_and(|there| there != digest)
    {
        return answer::error(409, "TAG_IMMUTABLE", tag);
    }
    shared.store.put_manifest(repository, Stored { digest, media_type, bytes }, tag);
    let mut stated = vec![("docker-content-digest", digest.to_string())];
    if !shared.faults.has(&Fault::NoManifestLocation) {
        stated.push(("location", format!("/v2/{repository}/manifests/{digest}")));
    }
    if shared.setup.referrers_api
        && let Some(subject) = json["subject"]["digest"].as_str()
    {
        stated.push(("oci-subject", subject.to_owned()));
    }
    answer::empty(201, &stated)
}

/// Parses the body as JSON and checks that it agrees with its `Content-Type`.
fn check(bytes: &[u8], media_type: &str) -> Result<Value, &'static str> {
    let json: Value = serde_json::from_slice(bytes).map_err(|_| "the manifest is not JSON")?;
    if media_type.is_empty() {
        return Err("there is no Content-Type");
    }
    if json["mediaType"].as_str().is_some_and(|stated| stated != media_type) {
        return Err("mediaType and Content-Type differ");
    }
    Ok(json)
}

fn missing(shared: &Shared, repository: &str, json: &Value) -> Option<String> {
    let text = json.to_string();
    let collected = |digest: &Digest| {
        shared.faults.has(&Fault::BlobCollected(*digest)) && text.contains(digest.to_string().as_str())
    };
    let lost = shared.store.blobs(repository).into_iter().find(collected).map(|digest| digest.to_string());
    lost.or_else(|| shared.store.missing(repository, json).into_iter().next())
}
