//! Tests of the behaviour of single registries. Each test proves a row of `docs/reference/registries.md` that no other
//! test proves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use transship::oci::{Digest, ManifestRef};
use transship::registry::{Options, Registry, Uploads};
use transship::store::{ErrorKind, Source as _, Target as _, UploadStart};

use crate::support::front::{Authority, Front};
use crate::support::images::{self, Family, Image, linux};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

const MIB: usize = 1024 * 1024;

/// Two registries and an entry `app` that copies `app` of the source to `team/app` of the target.
struct Pair {
    source: Server,
    target: Server,
    site: Site,
}

impl Pair {
    fn new(target_keys: &str) -> Self {
        Self::between(Server::start(), Server::start(), target_keys)
    }

    fn between(source: Server, target: Server, target_keys: &str) -> Self {
        let pair = Self { source, target, site: Site::new() };
        pair.configure("team/app", target_keys);
        pair
    }

    fn configure(&self, repository: &str, target_keys: &str) {
        let (from, to) = (self.source.host(), self.target.host());
        let comma = if target_keys.is_empty() { "" } else { ", " };
        let registries =
            format!("\"{from}\": {{plain_http: true}}, \"{to}\": {{plain_http: true{comma}{target_keys}}}");
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/{repository}\"}}");
        self.site.configure_fully("status: off", &registries, &entry);
    }

    fn put(&self, image: &Image, tag: &str) {
        image.put(&self.source, "app", Some(tag));
    }

    fn at_target(&self, tag: &str) -> Option<Digest> {
        self.target.store().tag("team/app", tag)
    }

    /// Runs once, which must fail. Returns the message of its only failed tag or its only problem.
    #[track_caller]
    fn refusal(&self) -> String {
        let report = self.site.report(1);
        let messages = report.tags().into_iter().filter_map(|tag| tag["reason"].as_str()).map(str::to_owned);
        let all: Vec<String> = messages.chain(report.problems().into_iter().map(str::to_owned)).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }
}

/// Returns an image with one large layer, and the digest of the layer.
fn large(bytes: usize) -> (Image, Digest) {
    let layer = images::layer(Family::Oci, 5, bytes);
    let digest = layer.digest();
    (images::image(Family::Oci, linux("amd64"), &[layer]), digest)
}

#[tokio::test]
async fn registry_storing_only_the_last_chunk_gets_monolithic_uploads() {
    let server = Server::start();
    let upload = Uploads { chunk: Some(MIB as u64), ..Uploads::default() };
    let options = Options { plain_http: true, upload, ..Options::default() };
    let registry = Registry::new(server.host().parse().unwrap(), options).unwrap();
    let target = registry.repository("a/b".parse().unwrap());
    let bytes = images::noise(1, 3 * MIB + 7);
    let blob = images::blob_descriptor(&bytes);
    let send = || async {
        let UploadStart::Session(upload) = target.begin_upload(&blob, None).await? else {
            panic!("an unrequested mount")
        };
        upload.send(images::verified(&blob, bytes.clone())).await
    };
    // After two broken uploads, the program sends chunks.
    server.set(Fault::UploadBreaks { after: 2 * MIB, times: 2 });
    for _ in 0..2 {
        send().await.unwrap_err();
    }
    server.set(Fault::KeepsLastChunk);
    let error = send().await.unwrap_err();
    let message = "the registry reports that it stored the blob, but it has 7 bytes instead of 3145735: \
                blobs are sent to this registry in one piece from now on";
    assert_eq!((error.detail.as_str(), error.is_transient()), (message, true));
    server.log().clear();
    send().await.unwrap();
    assert_eq!(server.store().blob("a/b", &blob.digest), Some(bytes.clone()));
    let kinds: Vec<String> = server.log().requests().into_iter().map(|request| request.kind).collect();
    assert_eq!(kinds, ["upload POST", "upload PUT", "blob HEAD"], "the blob is checked after the commit");
}

#[test]
fn configured_chunks_retry_monolithic_if_only_last_is_stored() {
    let pair = Pair::new("upload: {mode: chunked, chunk: 1MiB}");
    let (image, layer) = large(3 * MIB);
    pair.put(&image, "v1");
    pair.target.set(Fault::KeepsLastChunk);
    pair.site.once();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    assert_eq!(pair.target.store().blob("team/app", &layer).map(|blob| Digest::of(&blob)), Some(layer));
    // The blob is sent once in chunks and once in one piece. Later blobs are sent in chunks, because the operator
    // configured chunks.
    assert_eq!(pair.target.log().count("upload PATCH"), 4);
}

#[test]
fn registry_refusing_chunks_and_large_bodies_gets_no_manifest() {
    let pair = Pair::new("upload: {mode: chunked, chunk: 1MiB}");
    let (image, layer) = large(3 * MIB);
    pair.put(&image, "v1");
    pair.target.set(Fault::KeepsLastChunk);
    pair.target.set(Fault::UploadBodyLimit(MIB));
    let message = pair.refusal();
    let why = format!(
        "sending blob {layer}: 413 Payload Too Large; the blob was sent in one piece, because the registry did not \
         assemble its chunks"
    );
    assert!(message.ends_with(&why), "{message}");
    assert_eq!(pair.target.log().count("manifest PUT"), 0);
    // A stored blob of another length is sent again as soon as the registry works correctly.
    pair.target.heal();
    pair.site.once();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    assert_eq!(pair.target.store().blob("team/app", &layer).map(|blob| Digest::of(&blob)), Some(layer));
}

#[test]
fn lagging_replica_is_retried_without_resending_blobs() {
    let pair = Pair::new("kind: acr");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    pair.target.set(Fault::ReplicaLags { times: 2 });
    pair.site.once();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    let log = pair.target.log();
    assert_eq!((log.count("manifest PUT"), log.count("upload PUT")), (3, image.blobs.len()), "{:?}", log.counts());
    assert_eq!(
        log.count("blob HEAD"),
        2 * image.blobs.len(),
        "each blob is checked before the manifest is written again"
    );
}

#[test]
fn missing_content_is_not_taken_for_a_lagging_replica() {
    let pair = Pair::new("kind: acr");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    pair.site.once();
    let blob = Digest::of(&image.blobs[1]);
    pair.target.store().remove_manifest("team/app", &image.digest().to_string());
    pair.target.set(Fault::BlobCollected(blob));
    pair.target.log().clear();
    pair.site.run(&["once"]);
    assert!(pair.target.log().count("upload PUT") > 0, "it is sent again: {:?}", pair.target.log().counts());
}

#[test]
fn amazon_responses_to_chunks_and_manifests_are_accepted() {
    let pair = Pair::new("kind: ecr");
    let (image, _) = large(9 * MIB);
    pair.put(&image, "v1");
    for fault in [Fault::ChunkCreated, Fault::NoManifestLocation, Fault::MountsCommittedOnly] {
        pair.target.set(fault);
    }
    pair.site.once();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    let chunks = pair.target.log().requests_of("upload PATCH");
    assert_eq!(chunks.iter().map(|chunk| (chunk.status, chunk.received >= 5 * MIB as u64)).next(), Some((201, true)));
    assert_eq!((chunks.len(), pair.target.log().count("upload PUT")), (2, 2), "{:?}", pair.target.log().counts());
}

#[test]
fn unreferenced_blob_that_cannot_be_mounted_is_sent() {
    let (source, target) = (Server::start(), Server::start());
    target.set(Fault::MountsCommittedOnly);
    let shared = images::layer(Family::Oci, 1, 1000);
    let images = ["a", "b"].map(|name| {
        let own = images::layer(Family::Oci, u64::from(name.as_bytes()[0]), 1000);
        let image = images::image(Family::Oci, linux("amd64"), &[shared.clone(), own]);
        image.put(&source, &format!("app/{name}"), Some("v1"));
        image
    });
    // Until a manifest is written, the second repository cannot mount the blob of the first one.
    target.set(Fault::Held("manifest PUT"));
    let entry = format!("- {{name: all, source: \"{}/app/**\", target: \"{}/to/**\"}}", source.host(), target.host());
    let site = Site::with(&[source.host(), target.host()], &entry);
    let mut run = site.start(&["once"]);
    run.wait_until("both manifests", |_| (target.log().count("manifest PUT") == 2).then_some(()));
    target.heal();
    run.wait(DEADLINE).expect_success();
    for (name, image) in ["a", "b"].iter().zip(images) {
        assert_eq!(target.store().tag(&format!("to/{name}"), "v1"), Some(image.digest()));
    }
    let mounts: Vec<u16> = target.log().requests_of("mount POST").iter().map(|mount| mount.status).collect();
    assert!(!mounts.is_empty() && mounts.iter().all(|status| *status == 202), "{mounts:?}");
    assert_eq!(target.log().count("upload POST"), 6 - mounts.len(), "the session of a mount is used");
}

#[test]
fn missing_repository_error_suggests_to_create_it() {
    let pair = Pair::new("kind: ecr");
    pair.put(&images::small(Family::Oci, 1), "v1");
    pair.target.set(Fault::RepositoriesMustExist);
    let message = pair.refusal();
    let way_out = "404 Not Found, NAME_UNKNOWN: name unknown; a push creates the repository only if a repository \
        creation template with CREATE_ON_PUSH matches its name: create a template, or create the repository first";
    assert!(message.ends_with(way_out), "{message}");
    images::small(Family::Oci, 2).put(&pair.target, "team/app", Some("other"));
    pair.site.once();
}

#[test]
fn denied_access_error_mentions_a_missing_project() {
    let pair = Pair::new("");
    pair.put(&images::small(Family::Oci, 1), "v1");
    pair.target.set(Fault::ProjectsMustExist);
    let message = pair.refusal();
    assert!(
        message.ends_with(
            "401 Unauthorized, UNAUTHORIZED: unauthorized; \
             the request was sent without credentials: set `credentials` for this registry, or run `docker login`; \
             some registries also send this answer if the project does not exist"
        ),
        "{message}"
    );
}

#[test]
fn too_deep_repository_name_fails_with_the_cause() {
    let pair = Pair::new("");
    pair.configure("team/deep/app", "");
    pair.put(&images::small(Family::Oci, 1), "v1");
    pair.target.set(Fault::NamesOfTwoParts);
    let message = pair.refusal();
    assert!(
        message.ends_with(
            "resolving v1: 400 Bad Request; \
             the registry may not accept this name; some registries allow only NAMESPACE/NAME"
        ),
        "{message}"
    );
}

#[test]
fn immutable_tag_with_the_right_digest_is_no_failure() {
    let pair = Pair::new("");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    image.put(&pair.target, "team/app", Some("v1"));
    pair.target.set(Fault::TagsWrittenOnce);
    // A run writes only tags that differ. So another client writes the tag between the comparison and the write of the
    // run.
    pair.target.set(Fault::Held("manifest PUT"));
    pair.target.store().remove_manifest("team/app", "v1");
    let mut run = pair.site.start(&["once"]);
    run.wait_until("the manifest", |_| (pair.target.log().count("manifest PUT") > 0).then_some(()));
    image.put(&pair.target, "team/app", Some("v1"));
    pair.target.heal();
    pair.target.set(Fault::TagsWrittenOnce);
    run.wait(DEADLINE).expect_success();
    assert_eq!(pair.target.log().requests_of("manifest PUT").iter().map(|put| put.status).collect::<Vec<_>>(), [400]);
}

#[test]
fn refused_foreign_layers_error_names_the_setting() {
    for (status, printed) in [(400, "400 Bad Request, MANIFEST_INVALID"), (500, "500 Internal Server Error, UNKNOWN")] {
        let pair = Pair::new("");
        let layers = [images::layer(Family::Docker, 1, 1000), images::foreign_layer(Family::Docker, 2)];
        pair.put(&images::image(Family::Docker, linux("amd64"), &layers), "v1");
        pair.target.set(Fault::ForeignLayersRefused(status));
        let message = pair.refusal();
        let way_out =
            "; the manifest has foreign layers; at distribution, `validation.manifests.urls` must allow their URLs";
        assert!(message.contains(printed) && message.ends_with(way_out), "{message}");
    }
}

#[test]
fn refused_docker_manifests_fail_with_a_remedy() {
    let pair = Pair::new("");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "oci");
    pair.put(&images::small(Family::Docker, 2), "docker");
    pair.target.set(Fault::OciOnly);
    let report = pair.site.report(1);
    let reported = report.tag("docker")["reason"].as_str().unwrap();
    let way_out = "415 Unsupported Media Type; \
        some registries accept no Docker manifests; zot accepts them with `compat: [docker2s2]`";
    assert!(reported.ends_with(way_out), "{reported}");
    assert_eq!(pair.at_target("oci"), Some(image.digest()));
}

#[test]
fn fallback_tag_that_returns_the_image_is_no_list() {
    let setup = || Setup { referrers_api: false, ..Setup::default() };
    let pair = Pair::between(Server::with(setup()), Server::with(setup()), "");
    // Tags that are named exactly need no listing, so the program requests the fallback tags.
    let text = std::fs::read_to_string(pair.site.path("sync.yaml")).unwrap();
    pair.site.write("sync.yaml", &text.replace("{name: app,", "{name: app, tags: {include: [image, index]},"));
    let images = [images::small(Family::Oci, 1), images::two_platforms(Family::Oci, 2)];
    pair.put(&images[0], "image");
    pair.put(&images[1], "index");
    pair.source.set(Fault::FallbackTagIsTheImage);
    pair.target.set(Fault::FallbackTagIsTheImage);
    pair.site.once();
    let requested =
        pair.source.log().requests_of("manifest GET").into_iter().filter(|request| request.path.contains("/sha256-"));
    assert!(requested.filter(|request| request.status == 200).count() >= 2, "{:?}", pair.source.log().counts());
    let tags = pair.target.store().tags("team/app").unwrap();
    assert_eq!(tags.into_keys().collect::<Vec<_>>(), ["image", "index"]);
    assert_eq!(pair.target.store().manifests("team/app").len(), 4);
}

#[test]
fn folder_listed_among_the_tags_is_skipped_by_name() {
    let pair = Pair::new("");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    pair.source.set(Fault::TagListHas("_uploads".into()));
    let output = pair.site.run(&["once"]).expect_success();
    assert!(
        output.stderr.contains("skipped a name that is not a valid tag") && output.stderr.contains("_uploads"),
        "{}",
        output.stderr
    );
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    assert!(pair.source.log().requests().iter().all(|request| !request.path.ends_with("_uploads")));
}

#[test]
fn token_request_covers_one_repository_or_one_mount() {
    let user = ("mirror".to_owned(), "s3cret".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: false, lifetime: Duration::from_secs(300) };
    let target = Server::with(Setup { auth, ..Setup::default() });
    target.set(Fault::ScopeLimit(2));
    let source = Server::start();
    let shared = images::layer(Family::Oci, 1, 200_000);
    for (name, seed) in [("a", 2), ("b", 3), ("c", 4)] {
        let layers = [shared.clone(), images::layer(Family::Oci, seed, 1000)];
        images::image(Family::Oci, linux("amd64"), &layers).put(&source, &format!("app/{name}"), Some("v1"));
    }
    let site = Site::new();
    let login = "credentials: {username: mirror, password: {file: password}}";
    site.write("password", "s3cret");
    let registries =
        format!("\"{}\": {{plain_http: true}}, \"{}\": {{plain_http: true, {login}}}", source.host(), target.host());
    let entry = format!("- {{name: all, source: \"{}/app/**\", target: \"{}/to/**\"}}", source.host(), target.host());
    site.configure_fully("status: off", &registries, &entry);
    site.once();
    assert_eq!(target.store().repositories().len(), 3);
    assert!(
        target.log().requests_of("mount POST").iter().any(|mount| mount.status == 201),
        "{:?}",
        target.log().counts()
    );
    assert!(target.log().requests_of("token GET").iter().all(|token| token.status == 200));
}

#[test]
fn plain_text_429_counts_as_throttling() {
    let pair = Pair::new("");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    pair.source.set(Fault::PlainTextRefusals);
    pair.source.set(Fault::TooManyRequests { next: 2, retry_after: None });
    pair.site.once();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    let refused = pair.source.log().requests().iter().filter(|request| request.status == 429).count();
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn only_the_beginning_of_a_huge_error_is_read() {
    let server = Server::start();
    images::small(Family::Oci, 1).put(&server, "a/b", Some("v1"));
    server.set(Fault::HugeRefusals);
    let options = Options { plain_http: true, ..Options::default() };
    let registry = Registry::new(server.host().parse().unwrap(), options).unwrap();
    let repository = registry.repository("a/b".parse().unwrap());
    let error = repository.manifest(&ManifestRef::Tag("v1".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.detail.starts_with("403 Forbidden; ") && error.detail.len() < 300, "{}", error.detail);
    let received = registry.meter().bytes_in;
    assert!(received > 0 && received < MIB as u64, "{received}");
}

/// Starts a proxy in front of a registry. The proxy ends the connection after each response, and `version` is the HTTP
/// version of its responses.
fn closing_proxy(upstream: &str, version: &'static str) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (host, upstream) = (listener.local_addr().unwrap().to_string(), upstream.to_owned());
    std::thread::spawn(move || {
        // The thread ends with the process of the tests. No client connects after the test.
        for stream in listener.incoming().map_while(Result::ok) {
            let upstream = upstream.clone();
            std::thread::spawn(move || relay(stream, &upstream, version));
        }
    });
    host
}

/// Forwards one request and its response.
fn relay(client: TcpStream, upstream: &str, version: &str) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut server = TcpStream::connect(upstream).ok()?;
    server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    let rest = answer.strip_prefix(b"HTTP/1.1")?;
    let mut client = client;
    client.write_all(version.as_bytes()).ok()?;
    client.write_all(rest).ok()
}

/// Starts a server that ends each HTTP/2 connection with `ENHANCE_YOUR_CALM` (RFC 9113, section 7) after its first
/// request. Returns its address and the number of connections. The server reads the request first: if a connection ends
/// before the request is sent, the HTTP client opens another one without counting an attempt.
fn server_demanding_calm() -> (String, Arc<AtomicUsize>) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// Type of the frame that begins a request.
    const HEADERS: u8 = 1;
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb];
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (host, count) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).ok()?;
                stream.write_all(&SETTINGS).ok()?;
                let mut frame = [0; 9];
                while frame[3] != HEADERS {
                    stream.read_exact(&mut frame).ok()?;
                    let length = u64::from(u32::from_be_bytes([0, frame[0], frame[1], frame[2]]));
                    std::io::copy(&mut std::io::Read::by_ref(&mut stream).take(length), &mut std::io::sink()).ok()?;
                }
                stream.write_all(&GOAWAY).ok()?;
                std::io::copy(&mut stream, &mut std::io::sink()).ok()
            });
        }
    });
    (host, count)
}

#[test]
fn enhance_your_calm_is_retried_and_reported_with_a_remedy() {
    let authority = Authority::new("An authority of the tests");
    let own = authority.certify("127.0.0.1", 2099);
    let (upstream, connections) = server_demanding_calm();
    let front = Front::tls(&upstream, &own, None, &["h2"]);
    let site = Site::new();
    site.write("ca.pem", &authority.pem());
    let host = front.host();
    let entry = format!("- {{name: app, source: \"{host}/a/b\", target: \"oci-layout:out\"}}");
    site.configure_fully("status: off", &format!("\"{host}\": {{tls: {{ca: ca.pem}}}}"), &entry);
    let output = site.run(&["tags", &format!("{host}/a/b")]);
    let message = format!("https://{host} ended HTTP/2 with ENHANCE_YOUR_CALM; `http1_only: true` turns HTTP/2 off");
    assert!(output.code() == 1 && output.stderr.contains(&message), "{}", output.stderr);
    assert_eq!(connections.load(Ordering::SeqCst), 5, "after pauses");
}

#[test]
fn closing_or_http_1_0_registries_are_copied_from_and_to() {
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let (source, target) = (Server::start(), Server::start());
        // An absolute `Location` would bypass the proxy.
        target.set(Fault::RelativeLocation);
        source.set(Fault::RelativeLocation);
        let image = images::two_platforms(Family::Oci, 1);
        image.put(&source, "app", Some("v1"));
        let (from, to) = (closing_proxy(source.host(), version), closing_proxy(target.host(), version));
        let site = Site::with(&[&from, &to], &format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"}}"));
        site.once();
        assert_eq!(target.store().tag("app", "v1"), Some(image.digest()), "{version}");
    }
}
