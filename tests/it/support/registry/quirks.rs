//! What single registries do beyond or against the specification: each a fault that can be switched on, and a row of
//! `docs/registries.md`.

use axum::http::Method;
use axum::response::Response;
use serde_json::Value;
use transship::oci::{Digest, MediaType};

use super::faults::Fault;
use super::route::{Asked, Object};
use super::{Shared, answer};

/// The refusal of a request that such a registry does not answer.
pub(super) fn refuse(shared: &Shared, object: &Object, asked: &Asked) -> Option<Response> {
    let repository = object.repository()?;
    if shared.faults.has(&Fault::NamesOfTwoParts) && repository.matches('/').count() > 1 {
        return Some(answer::error(400, "NAME_INVALID", repository));
    }
    let begins = asked.method == Method::POST && matches!(object, Object::Upload(..));
    let is_unknown = shared.store.tags(repository).is_none();
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

/// The refusal of a manifest that such a registry does not take.
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
        return Some(answer::error(404, "MANIFEST_BLOB_UNKNOWN", "the replica has not heard of it"));
    }
    let is_there = tag.is_some_and(|tag| shared.store.tag(repository, tag).is_some());
    if is_there && shared.faults.has(&Fault::TagsWrittenOnce) {
        return Some(answer::error(400, "TAG_INVALID", "the tag exists already and is immutable"));
    }
    None
}

/// Whether a mount may take this blob from this repository.
pub(super) fn mounts(shared: &Shared, from: &str, digest: &Digest) -> bool {
    let digest = digest.to_string();
    let refers = || {
        let texts =
            shared.store.manifests(from).into_iter().map(|one| String::from_utf8_lossy(&one.bytes).into_owned());
        texts.into_iter().any(|text| text.contains(&digest))
    };
    !shared.faults.has(&Fault::MountsCommittedOnly) || refers()
}

/// What stands under a tag that nobody wrote.
pub(super) fn phantom(shared: &Shared, reference: &str) -> Option<String> {
    let hex = reference.strip_prefix("sha256-").filter(|hex| hex.len() == 64)?;
    shared.faults.has(&Fault::FallbackTagIsTheImage).then(|| format!("sha256:{hex}"))
}
