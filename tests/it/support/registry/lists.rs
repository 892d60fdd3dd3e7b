//! List endpoints: tags, the catalog and referrers, in pages that are linked by `Link`.

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};
use transship::oci::{Digest, MediaType};

use super::faults::Fault;
use super::route::ReceivedRequest;
use super::{Shared, answer};

/// Answers `tags/list`.
pub(super) fn tags(shared: &Shared, repository: &str, request: &ReceivedRequest) -> Response {
    if request.method != Method::GET {
        return answer::not_allowed();
    }
    let Some(tags) = shared.store.tags(repository) else {
        return answer::error(404, "NAME_UNKNOWN", repository);
    };
    let false_name = |fault: &Fault| if let Fault::TagListHas(name) = fault { Some(name.clone()) } else { None };
    let mut names: Vec<String> = tags.keys().cloned().chain(shared.faults.find(false_name)).collect();
    names.sort();
    names.retain(|name| !shared.faults.has(&Fault::TagListLacks(name.clone())));
    if let Some(refusal) = refused_size(shared, request) {
        return refusal;
    }
    if request.parameter("last").is_some() && shared.faults.has(&Fault::TagPageFails) {
        return answer::error(500, "UNKNOWN", "the page cannot be read");
    }
    let path = format!("/v2/{repository}/tags/list");
    let (page, link) = page(shared, &names, request, &path);
    let mut body = json!({"name": repository, "tags": page});
    if shared.faults.has(&Fault::TagListWithDigests) {
        body["child"] = json!([]);
        body["manifest"] = digests(shared, repository, &page);
    }
    let mut text = body.to_string();
    if shared.faults.has(&Fault::TagListCut) {
        text.truncate(text.len() / 2);
    }
    list(&text, if shared.faults.has(&Fault::TagPagesLoop) { Some(format!("{path}?last=~")) } else { link }, shared)
}

/// Answers `_tags` of Azure's registries (its REST reference, "Tag - Get List").
pub(super) fn acr_tags(shared: &Shared, repository: &str, request: &ReceivedRequest) -> Response {
    if !shared.faults.has(&Fault::AcrTagList) {
        return answer::error(404, "UNSUPPORTED", "there is nothing under this path");
    }
    if request.method != Method::GET {
        return answer::not_allowed();
    }
    let Some(tags) = shared.store.tags(repository) else {
        return answer::error(404, "NAME_UNKNOWN", repository);
    };
    let names: Vec<String> = tags.keys().cloned().collect();
    let (page, link) = page(shared, &names, request, &format!("/acr/v1/{repository}/_tags"));
    let time = "2024-01-02T03:04:05.6789012Z";
    let about = |name: &String| {
        let locked = shared.faults.has(&Fault::TagLocked(name.clone()));
        let enabled =
            json!({"deleteEnabled": !locked, "writeEnabled": !locked, "readEnabled": true, "listEnabled": true});
        json!({
            "name": name, "digest": tags[name].to_string(), "createdTime": time, "lastUpdateTime": time,
            "signed": false, "changeableAttributes": enabled,
        })
    };
    let tags: Vec<Value> = page.iter().map(about).collect();
    let mut text = json!({"registry": shared.host, "imageName": repository, "tags": tags}).to_string();
    if shared.faults.has(&Fault::TagListCut) {
        text.truncate(text.len() / 2);
    }
    let mut stated = vec![("content-type", "application/json; charset=utf-8".to_owned())];
    stated.extend(link.map(|path| ("link", format!("<{path}&orderby=>; rel=\"next\""))));
    answer::with(200, &stated, text)
}

/// Returns the `manifest` map of Google's registries: the metadata of each digest.
fn digests(shared: &Shared, repository: &str, page: &[String]) -> Value {
    let mut map = serde_json::Map::new();
    for manifest in shared.store.manifests(repository) {
        let tagged = |tag: &&String| shared.store.tag(repository, tag) == Some(manifest.digest);
        let tags: Vec<&String> = page.iter().filter(tagged).collect();
        let about = json!({
            "imageSizeBytes": manifest.bytes.len().to_string(), "layerId": "", "mediaType": manifest.media_type,
            "tag": tags, "timeCreatedMs": "1700000000000", "timeUploadedMs": "1700000000000",
        });
        map.insert(manifest.digest.to_string(), about);
    }
    map.into()
}

/// Answers `_catalog`.
pub(super) fn catalog(shared: &Shared, request: &ReceivedRequest) -> Response {
    if request.method != Method::GET {
        return answer::not_allowed();
    }
    if shared.faults.has(&Fault::NoCatalog) {
        return answer::error(404, "UNSUPPORTED", "there is no catalog");
    }
    if let Some(refusal) = refused_size(shared, request) {
        return refusal;
    }
    let (page, link) = page(shared, &shared.store.repositories(), request, "/v2/_catalog");
    list(&json!({"repositories": page}).to_string(), link, shared)
}

/// Answers `referrers`, with a filter by artifact type.
pub(super) fn referrers(shared: &Shared, repository: &str, subject: &str, request: &ReceivedRequest) -> Response {
    if request.method != Method::GET {
        return answer::not_allowed();
    }
    if !shared.setup.referrers_api {
        return answer::with(404, &[("content-type", "text/plain".into())], "404 page not found\n");
    }
    match shared.faults.referrers_answered() {
        Some(200) => return answer::with(200, &[("content-type", "text/html".into())], "<html>log in</html>"),
        Some(status) => return answer::error(status, "UNKNOWN", "a fault of the test"),
        None => {}
    }
    let Ok(subject) = subject.parse::<Digest>() else {
        return answer::error(400, "DIGEST_INVALID", subject);
    };
    let wanted = request.parameter("artifactType");
    let is_wanted = |referrer: &Value| wanted.is_none_or(|wanted| referrer["artifactType"] == wanted);
    let found: Vec<Value> = shared.store.referrers(repository, &subject).into_iter().filter(is_wanted).collect();
    let digest = |referrer: &Value| referrer["digest"].as_str().unwrap_or_default().to_owned();
    let names: Vec<String> = found.iter().map(digest).collect();
    let path = format!("/v2/{repository}/referrers/{subject}");
    let (page, link) = page(shared, &names, request, &path);
    let manifests: Vec<&Value> = found.iter().filter(|referrer| page.contains(&digest(referrer))).collect();
    let body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests});
    let mut response = list(&body.to_string(), link, shared);
    response
        .headers_mut()
        .insert("content-type", MediaType::OCI_INDEX.parse().expect("a media type is a header value"));
    if wanted.is_some() {
        answer::add(response.headers_mut(), &[("oci-filters-applied", "artifactType".into())]);
    }
    response
}

/// Returns the page that `n` and `last` request, and the path of the next page.
fn page(shared: &Shared, sorted: &[String], request: &ReceivedRequest, path: &str) -> (Vec<String>, Option<String>) {
    let size = request.parameter("n").and_then(|n| n.parse().ok()).unwrap_or(shared.setup.page).min(shared.setup.page);
    let last = request.parameter("last").unwrap_or_default();
    let mut rest = sorted.iter().filter(|name| last.is_empty() || name.as_str() > last);
    let page: Vec<String> = rest.by_ref().take(size).cloned().collect();
    let more = rest.next().is_some();
    let filter = request.parameter("artifactType").map(|wanted| format!("&artifactType={wanted}")).unwrap_or_default();
    let link = page.last().filter(|_| more).map(|last| format!("{path}?n={size}&last={last}{filter}"));
    (page, link)
}

/// Returns the error of distribution for a page size above its limit.
fn refused_size(shared: &Shared, request: &ReceivedRequest) -> Option<Response> {
    let limit =
        shared.faults.find(|fault| if let Fault::PageSizeLimit(limit) = fault { Some(*limit) } else { None })?;
    let is_too_large = request.parameter("n").and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n > limit);
    is_too_large.then(|| answer::error(400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested"))
}

fn list(body: &str, link: Option<String>, shared: &Shared) -> Response {
    let mut stated = vec![("content-type", "application/json".to_owned())];
    if let Some(path) = link.filter(|_| !shared.faults.has(&Fault::LinksDropped)) {
        let host =
            if shared.faults.has(&Fault::RelativeLocation) { String::new() } else { format!("http://{}", shared.host) };
        stated.push(("link", format!("<{host}{path}>; rel=\"next\"")));
    }
    answer::with(200, &stated, body.to_owned())
}
