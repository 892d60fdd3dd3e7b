//! Tests of the in-process registry with skopeo, an independent client, and with plain requests.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use transship::oci::{Digest, MediaType};

use crate::support::images::{self, Family, linux};
use crate::support::programs::{DebianRegistry, skopeo, skopeo_copy, skopeo_manifest};
use crate::support::registry::{Auth, Fault, Server, Setup};

fn build_request(server: &Server, method: Method, path: &str) -> RequestBuilder {
    // A connection pool would hide the broken connection.
    let client = Client::builder().no_proxy().pool_max_idle_per_host(0).redirect(reqwest::redirect::Policy::none());
    let url = if path.starts_with("http") { path.to_owned() } else { server.url(path) };
    client.build().unwrap().request(method, url)
}

async fn get(server: &Server, path: &str) -> Response {
    build_request(server, Method::GET, path).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["errors"][0]["code"].as_str().unwrap().to_owned())
}

async fn open_upload(server: &Server, query: &str) -> Response {
    build_request(server, Method::POST, &format!("/v2/a/b/blobs/uploads/{query}")).send().await.unwrap()
}

fn with_tags(count: usize, page: usize) -> Server {
    let server = Server::with(Setup { page, ..Setup::default() });
    let image = images::small(Family::Oci, 1);
    for number in 0..count {
        image.put(&server, "a/b", Some(&format!("v{number}")));
    }
    server
}

#[test]
fn skopeo_copies_every_image_kind_with_its_digest() {
    let folder = TempDir::new().unwrap();
    let (server, debian) = (Server::start(), DebianRegistry::start());
    let cases = [
        ("oci", images::small(Family::Oci, 1)),
        ("docker", images::small(Family::Docker, 2)),
        ("index", images::two_platforms(Family::Oci, 3)),
        ("list", images::two_platforms(Family::Docker, 4)),
        ("empty", images::image(Family::Oci, linux("amd64"), &[images::empty_layer(Family::Oci)])),
        ("chart", images::helm_chart("web", "1.2.3")),
    ];
    for (tag, image) in &cases {
        image.put(&server, "from/here", Some(tag));
        let (there, back) =
            (format!("docker://{}/to/there:{tag}", debian.host()), format!("docker://{}/back", server.host()));
        skopeo_copy(&format!("docker://{}/from/here:{tag}", server.host()), &there);
        skopeo_copy(&there, &format!("{back}:{tag}"));
        assert_eq!(server.store().tag("back", tag), Some(image.digest()), "{tag}");
        assert_eq!(skopeo_manifest(&format!("{back}:{tag}")).as_bytes(), image.manifest.bytes(), "{tag}");
        for blob in image.all_blobs() {
            assert_eq!(server.store().blob("back", &Digest::of(&blob)), Some(blob), "{tag}");
        }
    }
    let layout = format!("oci:{}:index", folder.path().join("layout").display());
    skopeo_copy(&format!("docker://{}/from/here:index", server.host()), &layout);
    skopeo_copy(&layout, &format!("docker://{}/again:index", server.host()));
    assert_eq!(server.store().tag("again", "index"), Some(cases[2].1.digest()));
    assert!(debian.storage().join("data").is_dir() && !debian.log().contains("panic"));
    assert_eq!(server.open_sessions(), 0);
}

#[test]
fn skopeo_token_grants_only_the_needed_access() {
    let user = ("mirror".to_owned(), "secret".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: true, lifetime: Duration::from_secs(300) };
    let server = Server::with(Setup { auth, ..Setup::default() });
    images::small(Family::Oci, 1).put(&server, "a/b", Some("v1"));
    let (source, target) = (format!("docker://{}/a/b:v1", server.host()), format!("docker://{}/c/d:v1", server.host()));
    let plain = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let refused = skopeo(&[&plain[..], &[&source, &target]].concat());
    assert_ne!(refused.code(), 0, "{}", refused.stdout);
    skopeo(&[&plain[..], &["--dest-creds=mirror:secret", &source, &target]].concat()).expect_success();
    assert!(server.store().tag("c/d", "v1").is_some());
    assert!(server.log().count("token GET") >= 3);
}

#[tokio::test]
async fn upload_continues_only_at_its_current_offset() {
    let server = Server::start();
    server.set(Fault::ChunkMinimum(3));
    let opened = open_upload(&server, "").await;
    assert_eq!((opened.status().as_u16(), header(&opened, "oci-chunk-min-length")), (202, "3"));
    let first = header(&opened, "location").to_owned();
    let patch = |location: &str, range: &'static str, body: &'static str| {
        build_request(&server, Method::PATCH, location).header("content-range", range).body(body).send()
    };
    let second = patch(&first, "0-2", "abc").await.unwrap();
    assert_eq!((second.status().as_u16(), header(&second, "range")), (202, "0-2"));
    let second = header(&second, "location").to_owned();
    assert_eq!(patch(&first, "3-4", "de").await.unwrap().status(), 400, "an old Location is refused");
    let outside = patch(&second, "4-5", "ef").await.unwrap();
    assert_eq!((outside.status().as_u16(), header(&outside, "range")), (416, "0-2"));
    let stands = get(&server, &second).await;
    assert_eq!((stands.status().as_u16(), header(&stands, "range")), (204, "0-2"));
    let digest = Digest::of(b"abcde");
    let last = format!("{}&digest={digest}", header(&stands, "location"));
    let done =
        build_request(&server, Method::PUT, &last).header("content-range", "3-4").body("de").send().await.unwrap();
    assert_eq!((done.status().as_u16(), header(&done, "docker-content-digest")), (201, digest.to_string().as_str()));
    assert_eq!(server.store().blob("a/b", &digest).unwrap(), "abcde");
    assert_eq!(server.log().counts()["upload PATCH"], 3);
    assert_eq!(server.log().requests_of("upload PUT")[0].received, 2);
    assert!(second.ends_with("?_state=2") && server.log().requests_of("upload PUT")[0].path.ends_with("/session-0"));
    assert_eq!(server.log().requests_of("upload PUT")[0].headers["content-range"], "3-4");
}

#[tokio::test]
async fn bytes_with_a_wrong_digest_are_not_committed() {
    let server = Server::start();
    let digest = Digest::of(b"right");
    let at_once =
        build_request(&server, Method::POST, &format!("/v2/a/b/blobs/uploads/?digest={digest}")).body("wrong");
    assert_eq!(code(at_once.send().await.unwrap()).await, (400, "DIGEST_INVALID".into()));
    assert_eq!((server.store().blobs("a/b").len(), server.open_sessions()), (0, 0));
    let opened = open_upload(&server, "").await;
    let cancelled = build_request(&server, Method::DELETE, header(&opened, "location")).send().await.unwrap();
    assert_eq!((cancelled.status().as_u16(), server.open_sessions()), (204, 0));
}

#[tokio::test]
async fn sha512_digest_names_blobs_and_manifests() {
    let server = Server::start();
    let digest = Digest::Sha512([0; 64]).same_algorithm_of(b"x");
    let put = build_request(&server, Method::POST, &format!("/v2/a/b/blobs/uploads/?digest={digest}")).body("x");
    assert_eq!(put.send().await.unwrap().status(), 201);
    assert_eq!(get(&server, &format!("/v2/a/b/blobs/{digest}")).await.text().await.unwrap(), "x");
}

#[tokio::test]
async fn mount_succeeds_or_opens_an_upload_session() {
    let server = Server::start();
    let digest = server.store().put_blob("other", "abc".into());
    let mount = format!("?mount={digest}&from=other");
    assert_eq!(open_upload(&server, &mount).await.status(), 201);
    assert_eq!(server.store().blobs("a/b"), [digest]);
    server.set(Fault::MountRefused);
    let session = open_upload(&server, &mount).await;
    assert_eq!(session.status(), 202);
    assert!(header(&session, "location").starts_with("http://"));
    server.set(Fault::RelativeLocation);
    assert!(header(&open_upload(&server, "").await, "location").starts_with("/v2/a/b/blobs/uploads/"));
    assert_eq!((server.log().count("mount POST"), server.log().count("upload POST")), (2, 1));
}

#[tokio::test]
async fn blobs_are_read_by_range_and_deleted() {
    let server = Server::start();
    let digest = server.store().put_blob("a/b", "0123456789".into());
    let path = format!("/v2/a/b/blobs/{digest}");
    let range = |range: &str| build_request(&server, Method::GET, &path).header("range", range.to_owned()).send();
    let part = range("bytes=4-").await.unwrap();
    assert_eq!((part.status().as_u16(), header(&part, "content-range")), (206, "bytes 4-9/10"));
    assert_eq!(part.text().await.unwrap(), "456789");
    assert_eq!(range("bytes=2-3").await.unwrap().text().await.unwrap(), "23");
    assert_eq!(range("bytes=10-").await.unwrap().status(), 416);
    let head = build_request(&server, Method::HEAD, &path).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, "10"));
    server.set(Fault::BlobBytesWrong(digest));
    assert_eq!(get(&server, &path).await.text().await.unwrap(), "0123456788");
    server.heal();
    server.set(Fault::BlobCollected(digest));
    assert_eq!(code(get(&server, &path).await).await, (404, "BLOB_UNKNOWN".into()));
    assert_eq!(build_request(&server, Method::HEAD, &path).send().await.unwrap().status(), 200);
    server.set(Fault::NoDelete);
    assert_eq!(build_request(&server, Method::DELETE, &path).send().await.unwrap().status(), 405);
    server.heal();
    assert_eq!(build_request(&server, Method::DELETE, &path).send().await.unwrap().status(), 202);
    assert_eq!(build_request(&server, Method::HEAD, &path).send().await.unwrap().status(), 404);
}

async fn put_manifest(server: &Server, image: &images::Image, reference: &str) -> Response {
    let put = build_request(server, Method::PUT, &format!("/v2/a/b/manifests/{reference}"));
    let put = put.header("content-type", image.manifest.media_type().as_str()).body(image.manifest.bytes().clone());
    put.send().await.unwrap()
}

#[tokio::test]
async fn manifest_requires_its_references_except_foreign_layers() {
    let server = Server::start();
    let layers = [images::layer(Family::Oci, 1, 10), images::foreign_layer(Family::Oci, 2)];
    let image = images::image(Family::Oci, linux("amd64"), &layers);
    let nested = images::index(Family::Oci, &[images::index(Family::Oci, std::slice::from_ref(&image))]);
    server.store().put_blob("a/b", image.blobs[0].clone());
    assert_eq!(code(put_manifest(&server, &image, "v1").await).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));
    server.store().put_blob("a/b", image.blobs[1].clone());
    assert_eq!(layers[0].digest(), Digest::of(&image.blobs[1]));
    assert_eq!(put_manifest(&server, &image, "v1").await.status(), 201);
    assert_eq!(code(put_manifest(&server, &nested, "v2").await).await, (404, "MANIFEST_BLOB_UNKNOWN".into()));
    assert_eq!(
        put_manifest(&server, &nested.children[0], &nested.children[0].digest().to_string()).await.status(),
        201
    );
    assert_eq!(put_manifest(&server, &nested, "v2").await.status(), 201);
    assert_eq!(nested.manifests().len(), 3);
    let other = Digest::of(b"another").to_string();
    assert_eq!(code(put_manifest(&server, &image, &other).await).await, (400, "DIGEST_INVALID".into()));
    server.set(Fault::ImmutableTags);
    assert_eq!(put_manifest(&server, &image, "v1").await.status(), 201, "the same digest is accepted again");
    assert_eq!(code(put_manifest(&server, &image, "v2").await).await, (409, "TAG_IMMUTABLE".into()));
}

#[tokio::test]
async fn manifest_is_served_only_for_an_accepted_type() {
    let server = Server::start();
    let image = images::small(Family::Docker, 1);
    image.put(&server, "a/b", Some("v1"));
    images::schema_1("a/b").put(&server, "a/b", Some("old"));
    let head = |accept: &'static str| {
        build_request(&server, Method::HEAD, "/v2/a/b/manifests/v1").header("accept", accept).send()
    };
    let found = head(MediaType::DOCKER_MANIFEST).await.unwrap();
    assert_eq!(header(&found, "docker-content-digest"), image.digest().to_string());
    assert_eq!(header(&found, "content-length"), image.manifest.bytes().len().to_string());
    assert_eq!(head(MediaType::OCI_MANIFEST).await.unwrap().status(), 404);
    assert_eq!(server.log().pulls(), 0, "HEAD is free");
    assert_eq!(get(&server, "/v2/a/b/manifests/v1").await.bytes().await.unwrap(), image.manifest.bytes());
    assert!(header(&get(&server, "/v2/a/b/manifests/old").await, "content-type").contains("manifest.v1"));
    assert_eq!(code(get(&server, "/v2/a/b/manifests/none").await).await, (404, "MANIFEST_UNKNOWN".into()));
    assert_eq!(code(get(&server, "/v2/none/manifests/v1").await).await, (404, "NAME_UNKNOWN".into()));
    assert_eq!(server.log().pulls(), 2);
    let wrong = Digest::of(b"a lie");
    server.set(Fault::TagDigestWrong(wrong));
    assert_eq!(header(&get(&server, "/v2/a/b/manifests/v1").await, "docker-content-digest"), wrong.to_string());
    server.set(Fault::TagDigestMissing);
    assert_eq!(header(&get(&server, "/v2/a/b/manifests/v1").await, "docker-content-digest"), "");
    server.log().clear();
    let deleted = build_request(&server, Method::DELETE, "/v2/a/b/manifests/v1").send().await.unwrap();
    assert_eq!((deleted.status().as_u16(), server.log().requests().len()), (202, 1));
}

async fn all_tags(server: &Server) -> Vec<String> {
    let (mut tags, mut path) = (Vec::new(), "/v2/a/b/tags/list?n=1000".to_owned());
    loop {
        let page = get(server, &path).await;
        let next = header(&page, "link")
            .strip_prefix('<')
            .and_then(|link| link.split_once('>'))
            .map(|(url, _)| url.to_owned());
        let body: Value = page.json().await.unwrap();
        tags.extend(body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        match next {
            Some(next) => path = next,
            None => return tags,
        }
    }
}

#[tokio::test]
async fn lists_are_served_in_linked_pages() {
    let server = with_tags(5, 2);
    assert_eq!(all_tags(&server).await, ["v0", "v1", "v2", "v3", "v4"]);
    server.set(Fault::RelativeLocation);
    server.set(Fault::TagListHas("sha256:bad".into()));
    assert_eq!(all_tags(&server).await[0], "sha256:bad");
    assert_eq!(server.log().count("tags GET"), 6);
    server.set(Fault::TagListWithDigests);
    let body: Value = get(&server, "/v2/a/b/tags/list").await.json().await.unwrap();
    let digest = server.store().tag("a/b", "v0").unwrap().to_string();
    assert_eq!(body["manifest"][digest.as_str()]["tag"][0], "v0");
    assert_eq!(code(get(&server, "/v2/none/tags/list").await).await, (404, "NAME_UNKNOWN".into()));
    let catalog: Value = get(&server, "/v2/_catalog").await.json().await.unwrap();
    assert_eq!(catalog["repositories"][0], "a/b");
    server.set(Fault::NoCatalog);
    assert_eq!(get(&server, "/v2/_catalog").await.status(), 404);
}

#[tokio::test]
async fn tag_list_faults_truncate_loop_and_fail_pages() {
    let server = with_tags(3, 2);
    server.set(Fault::TagListCut);
    assert!(get(&server, "/v2/a/b/tags/list").await.json::<Value>().await.is_err());
    server.heal();
    server.set(Fault::TagPageFails);
    assert_eq!(get(&server, "/v2/a/b/tags/list").await.status(), 200);
    assert_eq!(get(&server, "/v2/a/b/tags/list?last=v1").await.status(), 500);
    server.heal();
    server.set(Fault::TagPagesLoop);
    let page = get(&server, "/v2/a/b/tags/list?last=~").await;
    assert!(header(&page, "link").contains("last=~"));
}

#[tokio::test]
async fn referrers_api_lists_in_pages_and_by_type() {
    let server = Server::with(Setup { page: 2, ..Setup::default() });
    let subject = images::small(Family::Oci, 1);
    subject.put(&server, "a/b", Some("v1"));
    for seed in 0..3 {
        images::sbom(&subject, seed).put(&server, "a/b", None);
    }
    let path = format!("/v2/a/b/referrers/{}", subject.digest());
    let first = get(&server, &path).await;
    assert_eq!(header(&first, "content-type"), MediaType::OCI_INDEX);
    let next = header(&first, "link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    let first: Value = first.json().await.unwrap();
    let second: Value = get(&server, &next).await.json().await.unwrap();
    assert_eq!(first["manifests"].as_array().unwrap().len() + second["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(first["manifests"][0]["artifactType"], "application/spdx+json");
    let none = get(&server, &format!("{path}?artifactType=none")).await;
    assert_eq!(header(&none, "oci-filters-applied"), "artifactType");
    let listed = put_manifest(&server, &images::sbom(&subject, 0), "s").await;
    assert_eq!(header(&listed, "oci-subject"), subject.digest().to_string());
    let without = Server::with(Setup { referrers_api: false, ..Setup::default() });
    assert_eq!(get(&without, &path).await.status(), 404);
    images::signature(&subject).put(&without, "a/b", Some(&images::signature_tag(&subject)));
    assert_eq!(without.store().repositories(), ["a/b"]);
}

#[tokio::test]
async fn manifest_put_fails_by_number_or_name() {
    let server = Server::start();
    let image = images::small(Family::Oci, 1);
    image.put(&server, "a/b", None);
    server.set(Fault::ManifestPutFails { nth: 2 });
    let mut statuses = Vec::new();
    for tag in ["1", "2", "3"] {
        statuses.push(put_manifest(&server, &image, tag).await.status().as_u16());
    }
    assert_eq!(statuses, [201, 500, 500]);
    server.heal();
    server.set(Fault::ManifestPutFailsFor("2".into()));
    assert_eq!(put_manifest(&server, &image, "1").await.status(), 201);
    assert_eq!(put_manifest(&server, &image, "2").await.status(), 500);
    assert_eq!(server.store().tag("a/b", "2"), None);
    let digest = image.digest();
    server.store().set_tag("a/b", "moved", digest);
    assert!(server.store().remove_manifest("a/b", &digest.to_string()) && server.store().tag("a/b", "moved").is_none());
}

#[tokio::test]
async fn requests_are_refused_the_configured_number_of_times() {
    let server = Server::start();
    server.set(Fault::TooManyRequests { next: 2, retry_after: Some(7) });
    server.set(Fault::Unavailable { next: 1 });
    let first = get(&server, "/v2/").await;
    assert_eq!((first.status().as_u16(), header(&first, "retry-after")), (429, "7"));
    assert_eq!(get(&server, "/v2/").await.status(), 429);
    assert_eq!(get(&server, "/v2/").await.status(), 503);
    assert_eq!(get(&server, "/v2/").await.status(), 200);
    assert_eq!(server.log().count("ping GET"), 4);
}

#[tokio::test]
async fn broken_connections_count_the_transferred_bytes() {
    let server = Server::start();
    let blob = images::noise(1, 300_000);
    let digest = server.store().put_blob("a/b", blob.clone());
    server.set(Fault::BlobGetBreaks { after: 100_000, times: 1 });
    let mut broken = get(&server, &format!("/v2/a/b/blobs/{digest}")).await;
    let mut arrived = 0;
    while let Ok(Some(piece)) = broken.chunk().await {
        arrived += piece.len();
    }
    assert_eq!(arrived, 100_000);
    assert_eq!(get(&server, &format!("/v2/a/b/blobs/{digest}")).await.bytes().await.unwrap(), blob);

    server.set(Fault::UploadBreaks { after: 1000, times: 1 });
    let location = header(&open_upload(&server, "").await, "location").to_owned();
    assert!(build_request(&server, Method::PATCH, &location).body(blob.slice(..200_000)).send().await.is_err());
    assert_eq!(header(&get(&server, &location).await, "range"), "0-999");
}

#[tokio::test]
async fn uploads_are_refused_by_length_and_kind() {
    let server = Server::start();
    server.set(Fault::UploadBodyLimit(3));
    let put = |location: &str, body: &'static str| {
        build_request(&server, Method::PUT, &format!("{location}&digest={}", Digest::of(body.as_bytes())))
            .body(body)
            .send()
    };
    let location = header(&open_upload(&server, "").await, "location").to_owned();
    assert_eq!(put(&location, "abcd").await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(put(&location, "abc").await.unwrap().status(), 201);
    server.set(Fault::UploadNeedsLength);
    server.set(Fault::NoChunks);
    let location = header(&open_upload(&server, "").await, "location").to_owned();
    assert_eq!(build_request(&server, Method::PATCH, &location).body("abc").send().await.unwrap().status(), 405);
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>("abc")]));
    let put = build_request(&server, Method::PUT, &format!("{location}&digest={}", Digest::of(b"abc"))).body(stream);
    assert_eq!(put.send().await.unwrap().status(), 411);
}

#[tokio::test]
async fn redirect_target_refuses_requests_with_credentials() {
    let server = Server::with(Setup { auth: Auth::Basic("me".into(), "pw".into()), ..Setup::default() });
    let digest = server.store().put_blob("a/b", "abc".into());
    server.set(Fault::BlobRedirect);
    let path = format!("/v2/a/b/blobs/{digest}");
    let refused = get(&server, &path).await;
    assert_eq!((refused.status().as_u16(), header(&refused, "www-authenticate")), (401, "Basic realm=\"registry\""));
    let redirect = build_request(&server, Method::GET, &path).basic_auth("me", Some("pw")).send().await.unwrap();
    let storage = header(&redirect, "location").to_owned();
    assert_eq!(redirect.status(), 307);
    assert_eq!(
        build_request(&server, Method::GET, &storage).basic_auth("me", Some("pw")).send().await.unwrap().status(),
        400
    );
    assert_eq!(get(&server, &storage).await.text().await.unwrap(), "abc");
    assert_eq!(server.log().requests_of("storage GET")[0].headers["authorization"], "Basic");
}

#[tokio::test]
async fn tokens_grant_their_scopes_until_they_expire() {
    let user = ("me".to_owned(), "pw".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: true, lifetime: Duration::from_secs(300) };
    let server = Server::with(Setup { auth, ..Setup::default() });
    images::small(Family::Oci, 1).put(&server, "a/b", Some("v1"));
    let challenged = open_upload(&server, &format!("?mount={}&from=other", Digest::of(b"x"))).await;
    let challenge = header(&challenged, "www-authenticate");
    assert!(challenge.ends_with(r#"service="test-registry",scope="repository:a/b:pull,push repository:other:pull""#));
    let token = async |scope: &str| {
        let path = format!("/token?service=test-registry&scope={scope}");
        let body: Value = get(&server, &path).await.json().await.unwrap();
        body["token"].as_str().unwrap().to_owned()
    };
    let pull = token("repository:a/b:pull").await;
    let read = |token: String| build_request(&server, Method::GET, "/v2/a/b/manifests/v1").bearer_auth(token).send();
    assert_eq!(read(pull.clone()).await.unwrap().status(), 200);
    assert_eq!(read(token("repository:c/d:pull").await).await.unwrap().status(), 401);
    server.expire_tokens();
    assert_eq!(read(pull).await.unwrap().status(), 401);
    assert_eq!(
        build_request(&server, Method::GET, "/token?service=test-registry")
            .basic_auth("me", Some("no"))
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test]
async fn delay_and_bandwidth_faults_slow_responses() {
    let server = Server::start();
    let digest = server.store().put_blob("a/b", images::noise(1, 10_000));
    server.set(Fault::Delay(Duration::from_millis(50)));
    server.set(Fault::Bandwidth(100_000));
    let start = Instant::now();
    let path = format!("/v2/a/b/blobs/{digest}");
    let (one, two) = tokio::join!(get(&server, &path), get(&server, &path));
    assert_eq!(one.bytes().await.unwrap(), two.bytes().await.unwrap());
    assert!(start.elapsed() >= Duration::from_millis(140), "{:?}", start.elapsed());
    assert_eq!(server.log().most_at_once(), 2);
    assert_eq!(server.log().requests_of("blob GET")[0].sent, 10_000);
}

#[tokio::test]
async fn dropped_server_accepts_no_connection() {
    let server = Server::start();
    let url = server.url("/v2/");
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), server.host().starts_with("127.0.0.1:")), (200, true));
    drop(server);
    assert!(client.get(&url).send().await.is_err());
}
