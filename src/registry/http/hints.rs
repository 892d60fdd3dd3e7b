//! Hints: remedies that an operator can apply after an error response. The error message appends the hint to the
//! registry's own text. Hints do not change what the program does.

use http::StatusCode;

use crate::oci::{Children, Manifest};
use crate::registry::Flavor;
use crate::store::Step;

/// Returns the remedy for an error response, if one is known for the registry's flavour, the step, the status and the
/// error codes.
pub(crate) fn for_refusal(flavor: &Flavor, step: Step, status: StatusCode, codes: &[String]) -> Option<&'static str> {
    let denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let has_code = |code: &str| codes.iter().any(|known| known == code);
    // Docker Hub, and Quay without extended names, accept only NAMESPACE/NAME. The response to a HEAD has no error
    // code, so the status 400 indicates a refused name.
    let is_name = has_code("NAME_INVALID") || (step == Step::Resolve && status == StatusCode::BAD_REQUEST);
    match (step, status) {
        _ if is_name => Some("the registry may not accept this name; some registries allow only NAMESPACE/NAME"),
        _ if denied && flavor.hints.denied.is_some() => flavor.hints.denied.map(|hint| hint(step)),
        (Step::ListTags | Step::Resolve | Step::ReadManifest, StatusCode::NOT_FOUND) if has_code("NAME_UNKNOWN") => {
            Some("the registry does not have this repository, or hides it from this user: check the name")
        }
        (Step::BeginUpload, StatusCode::NOT_FOUND) => Some(flavor.hints.missing_repository),
        // Harbor does not show unauthorized clients whether a project exists.
        (Step::BeginUpload, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Some("some registries also send this answer if the project does not exist")
        }
        _ => None,
    }
}

/// Returns the remedy for a write to a read-only registry. `states_it` is true if the registry reports that it is
/// read-only. Without this report, the status 405 for an upload indicates a read-only registry: distribution sends 405
/// in its read-only mode and as a pull-through cache.
pub(crate) fn for_read_only(step: Step, status: StatusCode, states_it: bool) -> Option<&'static str> {
    let is_upload = matches!(step, Step::BeginUpload | Step::SendBlob | Step::CommitBlob);
    let is_write = is_upload || matches!(step, Step::WriteManifest | Step::LinkReferrers | Step::Delete);
    match (states_it, status) {
        (true, _) if is_write => Some("the registry is read-only: let it accept writes, or choose another target"),
        (false, StatusCode::METHOD_NOT_ALLOWED) if is_upload => Some(
            "the registry accepts no uploads: it may be in read-only mode or a pull-through cache; let it accept \
             writes, or choose another target",
        ),
        _ => None,
    }
}

/// Returns the remedy if the registry refuses a manifest because the manifest's digest is soft-deleted.
pub(crate) fn for_soft_deletion(flavor: &Flavor, status: StatusCode, body: &[u8]) -> Option<&'static str> {
    let hints = flavor.hints.soft_deletion?;
    let body = String::from_utf8_lossy(body).to_lowercase();
    let soft = body.find("soft").is_some_and(|start| body[start..].contains("delet"));
    let says_deleted = soft || (body.contains("delet") && body.contains("restor"));
    // With these statuses, a registry can refuse a soft-deleted digest without a text about the deletion.
    let is_possible = matches!(status, StatusCode::CONFLICT | StatusCode::METHOD_NOT_ALLOWED);
    if status.is_client_error() && says_deleted { Some(hints.stated) } else { is_possible.then_some(hints.possible) }
}

/// Returns the remedy for a registry's refusal of this manifest.
pub(crate) fn for_manifest(manifest: &Manifest, status: StatusCode, codes: &[String]) -> Option<&'static str> {
    let is_docker_manifest = manifest.media_type().as_str().starts_with("application/vnd.docker.");
    let is_invalid = status == StatusCode::BAD_REQUEST && codes.iter().any(|code| code == "MANIFEST_INVALID");
    // distribution answers 500 if its own validation policy refuses the manifest.
    let may_be_policy = status == StatusCode::BAD_REQUEST || status == StatusCode::INTERNAL_SERVER_ERROR;
    if has_foreign_layers(manifest) && may_be_policy {
        return Some(
            "the manifest has foreign layers; at distribution, `validation.manifests.urls` must allow their URLs",
        );
    }
    if is_docker_manifest && (status == StatusCode::UNSUPPORTED_MEDIA_TYPE || is_invalid) {
        return Some("some registries accept no Docker manifests; zot accepts them with `compat: [docker2s2]`");
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

    fn refusal_hint(flavor: &Flavor, step: Step, status: u16) -> &'static str {
        for_refusal(flavor, step, StatusCode::from_u16(status).unwrap(), &[]).unwrap_or_default()
    }

    #[test]
    fn denial_by_azure_names_the_role_for_abac() {
        for (step, role) in [
            (Step::ListRepositories, "Catalog Lister"),
            (Step::ListTags, "Repository Reader"),
            (Step::Resolve, "Repository Reader"),
            (Step::BeginUpload, "Repository Writer"),
            (Step::WriteManifest, "Repository Writer"),
            (Step::Delete, "Repository Contributor"),
        ] {
            for status in [401, 403] {
                assert!(refusal_hint(Flavor::ACR, step, status).contains(role), "{step} {status}");
            }
            assert!(!refusal_hint(Flavor::GENERIC, step, 403).contains("ABAC"));
        }
        assert_eq!(refusal_hint(Flavor::ACR, Step::WriteManifest, 409), "");
    }

    #[test]
    fn refused_upload_names_the_read_only_registry() {
        let hint = |step, status: u16, states_it| {
            for_read_only(step, StatusCode::from_u16(status).unwrap(), states_it).unwrap_or_default()
        };
        assert!(hint(Step::BeginUpload, 405, false).contains("read-only mode or a pull-through cache"));
        assert!(hint(Step::BeginUpload, 403, true).starts_with("the registry is read-only"));
        assert!(hint(Step::WriteManifest, 405, true).starts_with("the registry is read-only"));
        assert_eq!((hint(Step::WriteManifest, 405, false), hint(Step::ReadBlob, 405, true)), ("", ""));
        assert_eq!(hint(Step::BeginUpload, 403, false), "");
    }

    #[test]
    fn missing_ecr_repository_names_the_creation_template() {
        assert!(refusal_hint(Flavor::ECR, Step::BeginUpload, 404).contains("CREATE_ON_PUSH"));
        assert!(
            refusal_hint(Flavor::GENERIC, Step::BeginUpload, 404).contains("create the repository or project first")
        );
    }

    #[test]
    fn soft_deleted_digest_at_azure_is_to_be_restored() {
        let hint = |flavor, status: u16, body: &str| {
            for_soft_deletion(flavor, StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_or_default()
        };
        for body in ["The manifest is soft deleted", "SOFT-DELETED", "it was deleted; restore it first"] {
            for status in [400, 403, 405, 409] {
                assert!(hint(Flavor::ACR, status, body).contains("restore it (`az acr manifest restore`)"), "{body}");
            }
        }
        assert!(hint(Flavor::ACR, 409, "").contains("list-deleted"));
        assert_eq!((hint(Flavor::ACR, 400, "no"), hint(Flavor::GENERIC, 409, "soft deleted")), ("", ""));
    }
}
