//! What a person can do about a refusal, where the registry itself says too little: added to what it said. Nothing is decided here.

use http::StatusCode;

use super::Kind;
use crate::oci::{Children, Manifest};
use crate::store::Step;

/// The way out of a refusal, as far as the kind of the registry, step, status and codes tell.
pub(crate) fn of_refusal(kind: Kind, step: Step, status: StatusCode, codes: &[String]) -> Option<&'static str> {
    let denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let said = |code: &str| codes.iter().any(|said| said == code);
    // Quay without its extended names, and Docker Hub. The answer to a HEAD has no code.
    let is_name = said("NAME_INVALID") || (step == Step::Resolve && status == StatusCode::BAD_REQUEST);
    match (step, status) {
        _ if is_name => Some("the registry may not take such a name; some allow no more than NAMESPACE/NAME"),
        _ if denied && kind == Kind::Acr => Some(role_at_azure(step)),
        (Step::BeginUpload, StatusCode::NOT_FOUND) if kind == Kind::Ecr => Some(
            "a push makes the repository only where a repository creation template is applied for CREATE_ON_PUSH: write such a \
             template, or create the repository first",
        ),
        // Harbor wants the project.
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

/// The role that Azure's registry may want. One whose role assignments go by repository (ABAC) ignores `AcrPull`, `AcrPush`
/// and `AcrDelete` ("Azure Container Registry Entra permissions and role assignments overview").
fn role_at_azure(step: Step) -> &'static str {
    match step {
        Step::ListRepositories => {
            "a registry with ABAC ignores AcrPull: the catalog needs the role Container Registry Repository Catalog Lister, which \
             has no conditions"
        }
        Step::BeginUpload | Step::SendBlob | Step::CommitBlob | Step::WriteManifest | Step::LinkReferrers => {
            "a registry with ABAC ignores AcrPush: there the role Container Registry Repository Writer counts"
        }
        Step::Delete => {
            "a registry with ABAC ignores AcrDelete: there the role Container Registry Repository Contributor counts"
        }
        _ => "a registry with ABAC ignores AcrPull: there the role Container Registry Repository Reader counts",
    }
}

/// The way out of a refusal of a manifest by Azure's registry, which takes no digest that was deleted softly
/// ("Enable soft delete policy in Azure Container Registry"). Its words for it are not documented.
pub(crate) fn of_soft_deletion(kind: Kind, status: StatusCode, body: &[u8]) -> Option<&'static str> {
    let body = String::from_utf8_lossy(body).to_lowercase();
    let soft = body.find("soft").is_some_and(|at| body[at..].contains("delet"));
    let is_deleted = soft || (body.contains("delet") && body.contains("restor"));
    // What it says where it does not say so: something stands in the way.
    let may_be = matches!(status, StatusCode::CONFLICT | StatusCode::METHOD_NOT_ALLOWED);
    match kind {
        Kind::Acr if status.is_client_error() && is_deleted => Some(
            "a digest that was deleted softly cannot be pushed: restore it (`az acr manifest restore`), or wait until its \
             retention ends",
        ),
        Kind::Acr if may_be => {
            Some("if the digest was deleted softly (`az acr manifest list-deleted`), restore it: it cannot be pushed")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, step: Step, status: u16) -> &'static str {
        of_refusal(kind, step, StatusCode::from_u16(status).unwrap(), &[]).unwrap_or_default()
    }

    #[test]
    fn a_denial_of_azures_names_the_role_that_counts_with_abac() {
        for (step, role) in [
            (Step::ListRepositories, "Catalog Lister"),
            (Step::ListTags, "Repository Reader"),
            (Step::Resolve, "Repository Reader"),
            (Step::BeginUpload, "Repository Writer"),
            (Step::WriteManifest, "Repository Writer"),
            (Step::Delete, "Repository Contributor"),
        ] {
            for status in [401, 403] {
                assert!(of(Kind::Acr, step, status).contains(role), "{step} {status}");
            }
            assert!(!of(Kind::Plain, step, 403).contains("ABAC"));
        }
        assert_eq!(of(Kind::Acr, Step::WriteManifest, 409), "");
    }

    #[test]
    fn a_repository_that_amazons_lacks_is_answered_with_the_template_that_makes_it() {
        assert!(of(Kind::Ecr, Step::BeginUpload, 404).contains("CREATE_ON_PUSH"));
        assert!(of(Kind::Plain, Step::BeginUpload, 404).contains("create it there first"));
    }

    #[test]
    fn a_digest_that_azures_deleted_softly_is_to_be_restored() {
        let of = |kind, status: u16, body: &str| {
            of_soft_deletion(kind, StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_or_default()
        };
        for body in ["The manifest is soft deleted", "SOFT-DELETED", "it was deleted; restore it first"] {
            for status in [400, 403, 405, 409] {
                assert!(of(Kind::Acr, status, body).contains("restore it (`az acr manifest restore`)"), "{body}");
            }
        }
        assert!(of(Kind::Acr, 409, "").contains("if the digest was deleted softly"));
        assert_eq!((of(Kind::Acr, 400, "no"), of(Kind::Plain, 409, "soft deleted")), ("", ""));
    }
}
