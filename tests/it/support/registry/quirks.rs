//! Deviations of single registries from the specification. Each is a fault that can be set, and a row of
//! `docs/reference/registries.md`.

use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use base64::Engine as _;
use serde_json::Value;
use transship::oci::{Digest, MediaType};

use super::faults::Fault;
use super::route::{Object, ReceivedRequest};
use super::{Shared, answer};

/// Returns the refusal of a request that the deviating registry does not serve.
pub(super) fn refuse(shared: &Shared, object: &Object, request: &ReceivedRequest) -> Option<Response> {
    let repository = object.repository()?;
    if shared.faults.has(&Fault::NamesOfTwoParts) && repository.matches('/').count() > 1 {
        return Some(answer::error(400, "NAME_INVALID", repository));
    }
    let begins = request.method == Method::POST && matches!(object, Object::Upload(..));
    let is_unknown = shared.store.tags(repository).is_none();
    let denied =
        shared.faults.find(|fault| if let Fault::UnknownDenied(status) = fault { Some(*status) } else { None });
    let reads = matches!(request.method, Method::GET | Method::HEAD) && !matches!(object, Object::Upload(..));
    if let Some(status) = denied.filter(|_| reads && is_unknown) {
        return Some(answer::error(status, "DENIED", "requested access to the resource is denied"));
    }
    if begins && is_unknown && shared.faults.has(&Fault::RepositoriesMustExist) {
        return Some(answer::error(404, "NAME_UNKNOWN", repository));
    }
    if begins && is_unknown && shared.faults.has(&Fault::ProjectsMustExist) {
        return Some(answer::error(401, "UNAUTHORIZED", repository));
    }
    if shared.faults.has(&Fault::HugeRefusals) && matches!(object, Object::Manifest(..)) {
        let page = format!("<html>{}</html>", "<p>no</p>".repeat(1_000_000));
        return Some(answer::with(403, &[("content-type", "text/html".into())], page));
    }
    None
}

/// Returns the response of a registry that answers this kind of requests with one fixed status.
pub(super) fn answers(shared: &Shared, kind: &str, address: &str) -> Option<Response> {
    let status = shared.faults.find(|fault| match fault {
        Fault::Answers { kind: of, path, status } if *of == kind && address.contains(path) => Some(*status),
        _ => None,
    })?;
    Some(match status {
        204 | 304 => answer::empty(status, &[]),
        200..300 => answer::with(status, &[("content-type", "text/html".into())], "<html>hello</html>"),
        _ => answer::error(status, "UNKNOWN", "a fault of the test"),
    })
}

/// Returns the status of a response that repeats the request.
pub(super) fn echoes(shared: &Shared, kind: &str) -> Option<u16> {
    shared.faults.find(|fault| match fault {
        Fault::Echoes(of, status) if *of == kind => Some(*status),
        _ => None,
    })
}

/// Returns a response that repeats the request.
pub(super) fn echo(shared: &Shared, kind: &str, headers: &HeaderMap, address: &str) -> Option<Response> {
    let status = echoes(shared, kind)?;
    let sent = answer::text(headers, header::AUTHORIZATION);
    let decoded =
        sent.strip_prefix("Basic ").and_then(|login| base64::engine::general_purpose::STANDARD.decode(login).ok());
    let login = decoded.map(|login| String::from_utf8_lossy(&login).into_owned()).unwrap_or_default();
    let query: Vec<String> = address.split_once('?').into_iter().flat_map(|(_, query)| pairs(query)).collect();
    let message = format!("you sent {sent} {login} for {address} {}", query.join(" "));
    let body = serde_json::json!({"errors": [{"code": message, "message": message, "detail": message}]});
    Some(answer::with(status, &[("content-type", "application/json".into())], body.to_string()))
}

fn pairs(query: &str) -> Vec<String> {
    url::form_urlencoded::parse(query.as_bytes()).map(|(name, value)| format!("{name}={value}")).collect()
}

/// Returns the signature that an upload's `Location` contains beside its state.
pub(super) fn signature(shared: &Shared) -> Option<&'static str> {
    shared.faults.find(|fault| if let Fault::UploadSignature(signature) = fault { Some(*signature) } else { None })
}

/// Returns the refusal of a manifest that the deviating registry does not accept.
pub(super) fn refuse_manifest(shared: &Shared, repository: &str, tag: Option<&str>, json: &Value) -> Option<Response> {
    let of_docker = json["mediaType"].as_str().is_some_and(|text| text.starts_with("application/vnd.docker."));
    if of_docker && shared.faults.has(&Fault::OciOnly) {
        return Some(answer::empty(415, &[]));
    }
    let layers = json["layers"].as_array().into_iter().flatten();
    let mut types = layers.filter_map(|layer| layer["mediaType"].as_str());
    let status =
        shared.faults.find(|fault| if let Fault::ForeignLayersRefused(status) = fault { Some(*status) } else { None });
    if let Some(status) = status.filter(|_| types.any(|text| MediaType::new(text).is_nondistributable())) {
        let code = if status == 400 { "MANIFEST_INVALID" } else { "UNKNOWN" };
        return Some(answer::error(status, code, "invalid URL on layer"));
    }
    if shared.faults.replica_lags() {
        return Some(answer::error(404, "MANIFEST_BLOB_UNKNOWN", "the replica does not have it yet"));
    }
    let is_there = tag.is_some_and(|tag| shared.store.tag(repository, tag).is_some());
    if is_there && shared.faults.has(&Fault::TagsWrittenOnce) {
        return Some(answer::error(400, "TAG_INVALID", "the tag exists already and is immutable"));
    }
    None
}

/// Returns true if this blob can be mounted from this repository.
pub(super) fn mounts(shared: &Shared, from: &str, digest: &Digest) -> bool {
    let digest = digest.to_string();
    let refers = || {
        let texts =
            shared.store.manifests(from).into_iter().map(|one| String::from_utf8_lossy(&one.bytes).into_owned());
        texts.into_iter().any(|text| text.contains(&digest))
    };
    !shared.faults.has(&Fault::MountsCommittedOnly) || refers()
}

/// Returns the digest under a fallback tag that no client wrote.
pub(super) fn untagged_fallback_digest(shared: &Shared, reference: &str) -> Option<String> {
    let hex = reference.strip_prefix("sha256-").filter(|hex| hex.len() == 64)?;
    shared.faults.has(&Fault::FallbackTagIsTheImage).then(|| format!("sha256:{hex}"))
}
