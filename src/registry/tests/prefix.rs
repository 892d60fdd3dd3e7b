//! Tests of a registry whose API is below a path, and whose links and locations lack this path.

use futures_util::TryStreamExt as _;

use super::scripted::{Received, Server, answer, noise, plain, session, verified};
use crate::oci::RepositoryName;
use crate::registry::{Options, Transport};
use crate::store::{Source as _, TagEntry};

/// Answers like a registry behind a proxy that strips the prefix.
fn behind_a_prefix(request: &Received) -> axum::response::Response {
    let whole = request.own.clone() + "/v2/a/b/tags/list?n=1&last=v1";
    match request.line().as_str() {
        "POST /art/x/v2/a/b/blobs/uploads/" => answer(202, &[("location", "/v2/a/b/blobs/uploads/1?_state=s")], ""),
        line if line.starts_with("PUT /art/x/v2/a/b/blobs/uploads/1?_state=s&digest=") => answer(201, &[], ""),
        "GET /art/x/v2/_catalog?n=1000" => {
            answer(200, &[("link", "</v2/_catalog?last=a>; rel=next")], r#"{"repositories":["a"]}"#)
        }
        "GET /art/x/v2/_catalog?last=a" => answer(200, &[], r#"{"repositories":["b"]}"#),
        "GET /art/x/v2/a/b/tags/list?n=1&last=v1" => answer(200, &[], r#"{"tags":["v2"]}"#),
        line if line.starts_with("GET /art/x/v2/a/b/tags/list?n=") => {
            answer(200, &[("link", &format!("<{whole}>; rel=next"))], r#"{"tags":["v1"]}"#)
        }
        _ => answer(404, &[], ""),
    }
}

#[tokio::test]
async fn uploads_and_listings_stay_below_path_prefix() {
    let server = Server::start(behind_a_prefix).await;
    let transport = Transport { path_prefix: Some("/art/x".parse().unwrap()), ..Transport::default() };
    let registry = server.registry_as(Options { transport, ..plain() });
    let repository = registry.repository("a/b".parse().unwrap());
    let content = noise(1000);
    session(&repository, &content).await.unwrap().send(verified(&content)).await.unwrap();
    let tags: Vec<TagEntry> = repository.tags().try_collect().await.unwrap();
    assert_eq!(tags.len(), 2, "{tags:?}");
    let names: Vec<RepositoryName> = registry.catalog().try_collect().await.unwrap();
    assert_eq!(names.iter().map(RepositoryName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert!(server.lines().iter().all(|line| line.contains(" /art/x/v2/")), "{:?}", server.lines());
}
