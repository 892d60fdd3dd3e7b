//! What a person can do about a refusal, where the registry itself says too little: added to what it said. Nothing is decided here.

use http::StatusCode;

use crate::oci::{Children, Manifest};
use crate::store::Step;

/// The way out of a refusal, as far as step, status and codes tell.
pub(crate) fn of_refusal(step: Step, status: StatusCode, codes: &[String]) -> Option<&'static str> {
    let said = |code: &str| codes.iter().any(|said| said == code);
    // Quay without its extended names, and Docker Hub. The answer to a HEAD has no code.
    let is_name = said("NAME_INVALID") || (step == Step::Resolve && status == StatusCode::BAD_REQUEST);
    match (step, status) {
        _ if is_name => Some("the registry may not take such a name; some allow no more than NAMESPACE/NAME"),
        // Amazon's want the repository, Harbor the project.
        (Step::BeginUpload, StatusCode::NOT_FOUND) => {
            Some("it creates neither repositories nor projects by a push: create it there first")
        }
        // Harbor does not tell those who may not know which projects exist.
        (Step::BeginUpload, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Some("some registries say so of a project that does not exist, too")
        }
        _ => None,
    }
}

/// The way out of a refusal of this manifest.
pub(crate) fn of_manifest(manifest: &Manifest, status: StatusCode, codes: &[String]) -> Option<&'static str> {
    let is_of_docker = manifest.media_type().as_str().starts_with("application/vnd.docker.");
    let is_invalid = status == StatusCode::BAD_REQUEST && codes.iter().any(|code| code == "MANIFEST_INVALID");
    // distribution answers 500 where its own policy is what refuses.
    let may_be_policy = status == StatusCode::BAD_REQUEST || status == StatusCode::INTERNAL_SERVER_ERROR;
    if has_foreign_layers(manifest) && may_be_policy {
        return Some("it has foreign layers, whose addresses `validation.manifests.urls` of distribution must allow");
    }
    if is_of_docker && (status == StatusCode::UNSUPPORTED_MEDIA_TYPE || is_invalid) {
        return Some("some registries take no manifests of Docker's; zot does with `compat: [docker2s2]`");
    }
    None
}

fn has_foreign_layers(manifest: &Manifest) -> bool {
    manifest.view().is_ok_and(|view| match view.children {
        Children::Blobs { layers, .. } => layers.iter().any(|layer| layer.media_type.is_nondistributable()),
        Children::Manifests(_) => false,
    })
}
