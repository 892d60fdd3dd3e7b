//! Tests of listings: pages, and incomplete lists.

use futures_util::TryStreamExt as _;

use super::scripted::{Server, answer, refusal};
use crate::oci::{Digest, MediaType};
use crate::store::{ErrorKind, Listed, Source as _, TagEntry};

async fn names(server: &Server) -> Result<Vec<String>, crate::store::StoreError> {
    let entries: Vec<TagEntry> = server.repository().tags().try_collect().await?;
    let name = |entry| match entry {
        TagEntry::Tag(tag, _) | TagEntry::Locked(tag, _) => tag.to_string(),
        TagEntry::Unusable(name) | TagEntry::Skipped(name) => format!("({name})"),
    };
    Ok(entries.into_iter().map(name).collect())
}

#[tokio::test]
async fn tag_pages_are_followed_to_the_last() {
    let server = Server::start(|request| match request.path.as_str() {
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
async fn overlapping_pages_report_every_tag_once() {
    let server = Server::start(|request| match request.path.contains("last") {
        false => answer(200, &[("link", "</v2/a/b/tags/list?last=v2>")], r#"{"tags":["v1","v2","v1"]}"#),
        true => answer(200, &[], r#"{"tags":["v2","v3"]}"#),
    })
    .await;
    assert_eq!(names(&server).await.unwrap(), ["v1", "v2", "v3"]);
}

/// Returns a page with the names `v000`, `v001` and so on. `range` contains the numbers.
fn numbered(range: std::ops::Range<usize>) -> String {
    let names: Vec<String> = range.map(|number| format!("\"v{number:03}\"")).collect();
    format!(r#"{{"tags":[{}]}}"#, names.join(","))
}

#[tokio::test]
async fn full_page_without_link_continues_after_last_name() {
    // The registry has pages of 100 names, and a proxy removes the links to the next page.
    let dropped = Server::start(|request| {
        let last = request.path.rsplit_once("last=v").and_then(|(_, last)| last.parse::<usize>().ok());
        let from = last.map_or(0, |last| last + 1);
        answer(200, &[], numbered(from..250.min(from + 100)))
    })
    .await;
    assert_eq!(names(&dropped).await.unwrap().len(), 250);
    // If a registry ignores or refuses `last`, the first page is the whole list.
    let again = Server::start(|_| answer(200, &[], numbered(0..100))).await;
    assert_eq!((names(&again).await.unwrap().len(), again.requests().len()), (100, 2));
    let refusing = Server::start(|request| match request.path.contains("last") {
        false => answer(200, &[], numbered(0..100)),
        true => refusal(400, "UNSUPPORTED"),
    })
    .await;
    assert_eq!(names(&refusing).await.unwrap().len(), 100);
    // If a registry fails at the second page, the first page is not the whole list.
    let failing = Server::start(|request| match request.path.contains("last") {
        false => answer(200, &[], numbered(0..100)),
        true => answer(500, &[], ""),
    })
    .await;
    assert_eq!(names(&failing).await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn refused_page_size_is_omitted_from_then_on() {
    let server = Server::start(|request| match request.path.as_str() {
        "/v2/a/b/tags/list" => {
            answer(200, &[("link", "</v2/a/b/tags/list?last=v1&n=1>; rel=next")], r#"{"tags":["v1"]}"#)
        }
        "/v2/a/b/tags/list?last=v1&n=1" => answer(200, &[], r#"{"tags":["v2"]}"#),
        "/v2/a/b/tags/list?last=v2" => answer(200, &[], r#"{"tags":null}"#),
        _ => refusal(400, "PAGINATION_NUMBER_INVALID"),
    })
    .await;
    let repository = server.repository();
    for _ in 0..2 {
        let listed: Vec<TagEntry> = repository.tags().try_collect().await.unwrap();
        assert_eq!(listed.len(), 2);
    }
    assert_eq!(server.count("GET /v2/a/b/tags/list?n=1000"), 1);
    let refused = Server::start(|_| refusal(400, "PAGINATION_NUMBER_INVALID")).await;
    assert_eq!(names(&refused).await.unwrap_err().detail, "400 Bad Request, PAGINATION_NUMBER_INVALID: said so");
}

#[tokio::test]
async fn incomplete_tag_list_is_an_error() {
    let cut = Server::start(|_| answer(200, &[], r#"{"tags":["v1","v"#)).await;
    let error = names(&cut).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.to_string().contains("a/b: listing tags: the list cannot be read: EOF"), "{error}");

    let short = Server::start(|_| answer(200, &[("content-length", "5000")], r#"{"tags":["v1"]}"#)).await;
    assert_eq!(names(&short).await.unwrap_err().kind, ErrorKind::Unavailable);

    let page = Server::start(|request| match request.path.contains("last") {
        false => answer(200, &[("link", "<list?last=v1>; rel=next")], r#"{"tags":["v1"]}"#),
        true => answer(500, &[], "<html>"),
    })
    .await;
    assert_eq!(names(&page).await.unwrap_err().detail, "500 Internal Server Error");

    let circle = Server::start(|_| answer(200, &[("link", "<?n=1000>; rel=next")], r#"{"tags":["v1"]}"#)).await;
    assert_eq!(names(&circle).await.unwrap_err().kind, ErrorKind::Invalid);

    let gone = Server::start(|_| refusal(404, "NAME_UNKNOWN")).await;
    let error = names(&gone).await.unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (
            ErrorKind::NotFound,
            "404 Not Found, NAME_UNKNOWN: said so; the registry does not have this repository, or hides it from this \
             user: check the name"
        )
    );
}

#[tokio::test]
async fn missing_catalog_error_names_the_remedy() {
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
async fn referrers_are_read_from_every_api_page() {
    let entry = |content: &str| {
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":1,"artifactType":"a/b"}}"#,
            MediaType::OCI_MANIFEST,
            Digest::of(content.as_bytes())
        )
    };
    let list = move |content: &str| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entry(content));
    let server = Server::start(move |request| {
        let own = [("content-type", MediaType::OCI_INDEX)];
        match request.path.contains("page=2") {
            false => answer(200, &[own[0], ("link", "<?page=2>; rel=next")], list("one")),
            true => answer(200, &own, list("two")),
        }
    })
    .await;
    let found = server.repository().referrers(&Digest::of(b"subject"), Listed::Possible).await.unwrap();
    let digests: Vec<Digest> = found.manifests.iter().map(|descriptor| descriptor.digest).collect();
    assert_eq!(digests, [Digest::of(b"one"), Digest::of(b"two")]);
    assert_eq!(found.manifests[0].artifact_type.as_deref(), Some("a/b"));
    assert_eq!(found.fallback, None);
}

#[tokio::test]
async fn missing_referrers_api_is_confirmed_once_then_skipped() {
    let image = concat!(
        r#"{"schemaVersion":2,"config":{"mediaType":"x/y","#,
        r#""digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"layers":[]}"#
    );
    let server = Server::start(move |request| match request.path.contains("/referrers/") {
        true => answer(404, &[], "404 page not found"),
        // The fallback tag names an image, as at GitLab.
        false => answer(200, &[("content-type", MediaType::OCI_MANIFEST)], image),
    })
    .await;
    let repository = server.repository();
    for _ in 0..2 {
        assert_eq!(repository.referrers(&Digest::of(b"subject"), Listed::Possible).await.unwrap(), Default::default());
    }
    assert_eq!(server.count("GET /v2/a/b/referrers/"), 2, "the API is tried once more before it counts as absent");
    assert_eq!(server.count("GET /v2/a/b/manifests/sha256-"), 2);
}

#[tokio::test]
async fn failed_referrers_lookup_is_never_an_empty_list() {
    const ANONYMOUS: &str = "the request was sent without credentials: set `credentials` for this registry, or run \
                             `docker login`";
    let twice =
        format!("403 Forbidden; {ANONYMOUS}; the fallback tag cannot be read either: 403 Forbidden; {ANONYMOUS}");
    for (api, tag, expected) in [
        (401, 404, format!("401 Unauthorized; {ANONYMOUS}")),
        (403, 403, twice),
        (500, 404, "500 Internal Server Error".to_owned()),
        (404, 500, "500 Internal Server Error".to_owned()),
    ] {
        let server =
            Server::start(move |request| answer(if request.path.contains("/referrers/") { api } else { tag }, &[], ""))
                .await;
        let found = server.repository().referrers(&Digest::of(b"subject"), Listed::Possible).await.unwrap();
        assert!(found.doubt.as_ref().is_some_and(|doubt| doubt.ends_with(&expected)), "{found:?}");
        assert_eq!(found.manifests, []);
    }
    // If the listing lacks the fallback tag, the client does not request this tag, and the referrers stay unknown.
    let server = Server::start(|_| answer(403, &[], "")).await;
    assert!(server.repository().referrers(&Digest::of(b"subject"), Listed::Absent).await.unwrap().doubt.is_some());
    assert_eq!(server.count("GET /v2/a/b/manifests/"), 0);
}

#[tokio::test]
async fn odd_answer_of_known_referrers_api_is_doubted() {
    let server = Server::start(|request| match request.path.contains("/referrers/") {
        true if request.nth == 0 => {
            answer(200, &[("content-type", MediaType::OCI_INDEX)], r#"{"schemaVersion":2,"manifests":null}"#)
        }
        true if request.nth < 3 => answer(404, &[], ""),
        true => answer(200, &[("content-type", "text/html")], "<html>"),
        false => answer(404, &[], ""),
    })
    .await;
    let repository = server.repository();
    let query = async || repository.referrers(&Digest::of(b"subject"), Listed::Possible).await.unwrap();
    assert_eq!(query().await, Default::default(), "an empty list is an answer");
    for expected in [
        "404 Not Found, but an earlier request to the referrers API succeeded",
        "200 OK without a list of referrers: the list cannot be read: expected value at line 1 column 1",
    ] {
        let doubt = query().await.doubt.unwrap_or_default();
        assert!(doubt.ends_with(expected), "{doubt}");
    }
}

#[tokio::test]
async fn success_without_list_never_means_missing_api() {
    let image = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{"size":1},"layers":[]}"#;
    for odd in ["<html>log in</html>", "", "{}", r#"{"errors":[]}"#, "[]", image] {
        // Two cases, each with a new server: a list of referrers under the fallback tag, and no fallback tag.
        for listed in [false, true] {
            let referrer = Digest::of(b"sbom");
            let list = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{referrer}","size":1}}]}}"#);
            let empty = r#"{"schemaVersion":2,"manifests":[]}"#;
            let server = Server::start(move |request| match request.path.contains("/referrers/") {
                true if request.nth < 2 => answer(200, &[("content-type", "text/html")], odd),
                true => answer(200, &[("content-type", MediaType::OCI_INDEX)], empty),
                false if listed => answer(200, &[("content-type", MediaType::OCI_INDEX)], list.clone()),
                false => answer(404, &[], ""),
            })
            .await;
            let repository = server.repository();
            let query = async || repository.referrers(&Digest::of(b"subject"), Listed::Possible).await.unwrap();
            let found = query().await;
            let digests: Vec<Digest> = found.manifests.iter().map(|descriptor| descriptor.digest).collect();
            assert_eq!(digests, if listed { vec![referrer] } else { vec![] }, "{odd}");
            assert!(found.doubt.is_some_and(|doubt| doubt.contains("200 OK without a list of referrers")), "{odd}");
            assert_eq!(query().await, Default::default(), "the API is queried again: {odd}");
        }
    }
}
