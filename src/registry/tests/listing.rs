//! Listings: pages, and what is no complete list.

use futures_util::TryStreamExt as _;

use super::scripted::{Server, answer, refusal};
use crate::oci::{Digest, MediaType};
use crate::store::{ErrorKind, Source as _, TagEntry};

async fn names(server: &Server) -> Result<Vec<String>, crate::store::StoreError> {
    let entries: Vec<TagEntry> = server.repository().tags().try_collect().await?;
    let name = |entry| match entry {
        TagEntry::Tag(tag, _) => tag.to_string(),
        TagEntry::Unusable(name) => format!("({name})"),
    };
    Ok(entries.into_iter().map(name).collect())
}

#[tokio::test]
async fn pages_are_followed_to_the_last() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v2/a/b/tags/list?n=1000" => {
            answer(200, &[("link", "</v2/a/b/tags/list?last=v2&n=1000>; rel=\"next\"")], r#"{"tags":["v1","v2"]}"#)
        }
        "/v2/a/b/tags/list?last=v2&n=1000" => answer(200, &[], r#"{"tags":["sha256:x"]}"#),
        _ => answer(404, &[], ""),
    })
    .await;
    assert_eq!(names(&server).await.unwrap(), ["v1", "v2", "(sha256:x)"]);
}

#[tokio::test]
async fn a_list_that_breaks_off_is_an_error() {
    let cut = Server::start(|_| answer(200, &[], r#"{"tags":["v1","v"#)).await;
    let error = names(&cut).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("a/b: listing tags: the list cannot be read: EOF"), "{error}");

    let short = Server::start(|_| answer(200, &[("content-length", "5000")], r#"{"tags":["v1"]}"#)).await;
    assert_eq!(names(&short).await.unwrap_err().kind, ErrorKind::Unavailable);

    let page = Server::start(|asked| match asked.path.contains("last") {
        false => answer(200, &[("link", "<list?last=v1>; rel=next")], r#"{"tags":["v1"]}"#),
        true => answer(500, &[], "<html>"),
    })
    .await;
    assert_eq!(names(&page).await.unwrap_err().detail, "500 Internal Server Error");

    let circle = Server::start(|_| answer(200, &[("link", "<?n=1000>; rel=next")], r#"{"tags":["v1"]}"#)).await;
    assert_eq!(names(&circle).await.unwrap_err().kind, ErrorKind::Invalid);

    let gone = Server::start(|_| refusal(404, "NAME_UNKNOWN")).await;
    let error = names(&gone).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::NotFound, "404 Not Found, NAME_UNKNOWN: said so"));
}

#[tokio::test]
async fn a_registry_without_a_catalog_says_what_to_do() {
    let server = Server::start(|_| refusal(404, "UNSUPPORTED")).await;
    let catalog = server.registry();
    let error = catalog.catalog().try_collect::<Vec<_>>().await.unwrap_err();
    let expected = format!(
        "{}: listing repositories: this registry has no catalog (404 Not Found, UNSUPPORTED: said so); \
         list the repositories in sync.yaml",
        server.host
    );
    assert_eq!((error.kind, error.to_string()), (ErrorKind::Unsupported, expected));

    let hub = crate::registry::Registry::new("docker.io".parse().unwrap(), Default::default()).unwrap();
    let error = hub.catalog().try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.detail, "this registry has no catalog; list the repositories in sync.yaml");
    assert_eq!(hub.meter(), Default::default());

    let server = Server::start(|_| answer(200, &[], r#"{"repositories":["a/b","UPPER","c"]}"#)).await;
    let names: Vec<_> = server.registry().catalog().map_ok(|name| name.to_string()).try_collect().await.unwrap();
    assert_eq!(names, ["a/b", "c"]);
}

#[tokio::test]
async fn referrers_come_by_pages_of_the_api() {
    let entry = |content: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":1,"artifactType":"a/b"}}"#,
            MediaType::OCI_MANIFEST,
            Digest::of(content.as_bytes())
        )
    };
    let list = move |content: &str| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entry(content));
    let server = Server::start(move |asked| {
        let own = [("content-type", MediaType::OCI_INDEX)];
        match asked.path.contains("page=2") {
            false => answer(200, &[own[0], ("link", "<?page=2>; rel=next")], list("one")),
            true => answer(200, &own, list("two")),
        }
    })
    .await;
    let found = server.repository().referrers(&Digest::of(b"subject")).await.unwrap();
    let digests: Vec<Digest> = found.manifests.iter().map(|descriptor| descriptor.digest).collect();
    assert_eq!(digests, [Digest::of(b"one"), Digest::of(b"two")]);
    assert_eq!(found.manifests[0].artifact_type.as_deref(), Some("a/b"));
    assert_eq!(found.fallback, None);
}

#[tokio::test]
async fn a_registry_without_the_referrers_api_is_asked_for_it_once() {
    let image = r#"{"schemaVersion":2,"config":{"mediaType":"x/y","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#;
    let server = Server::start(move |asked| match asked.path.contains("/referrers/") {
        true => answer(404, &[], "404 page not found"),
        // The tag answers with an image, as GitLab's does.
        false => answer(200, &[("content-type", MediaType::OCI_MANIFEST)], image),
    })
    .await;
    let repository = server.repository();
    for _ in 0..2 {
        assert_eq!(repository.referrers(&Digest::of(b"subject")).await.unwrap(), Default::default());
    }
    assert_eq!(server.count("GET /v2/a/b/referrers/"), 1);
    assert_eq!(server.count("GET /v2/a/b/manifests/sha256-"), 2);
}

#[tokio::test]
async fn a_failed_lookup_of_referrers_is_never_none() {
    for status in [401, 403, 500] {
        let server = Server::start(move |_| answer(status, &[], "")).await;
        assert!(server.repository().referrers(&Digest::of(b"subject")).await.is_err(), "{status}");
        assert_eq!(server.count("GET /v2/a/b/manifests/"), 0);
    }
    let server =
        Server::start(|asked| answer(if asked.path.contains("/referrers/") { 404 } else { 500 }, &[], "")).await;
    assert!(server.repository().referrers(&Digest::of(b"subject")).await.is_err());
}
