//! Tests of the registry client against faults of registries. Each fault was reported for a real registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use transship::oci::{Descriptor, Digest, ManifestRef, RepositoryName};
use transship::registry::{Credentials, Flavor, LimitSetting, Limits, Options, Registry, Repository, Secret};
use transship::store::{BlobLookup, ErrorKind, Source, StoreError, TagEntry, Target, UploadStart, Verified};

use crate::support::images::{self, Family, blob_descriptor, noise, push_blob, verified};
use crate::support::programs::DEADLINE;
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

fn open(server: &Server) -> Repository {
    with(server, Options::default())
}

fn with(server: &Server, options: Options) -> Repository {
    client(server, options).repository(name("a/b"))
}

fn client(server: &Server, options: Options) -> Arc<Registry> {
    Registry::new(server.host().parse().unwrap(), Options { plain_http: true, ..options }).unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn by_tag(text: &str) -> ManifestRef {
    ManifestRef::Tag(text.parse().unwrap())
}

fn as_user(password: &str) -> Options {
    let credentials =
        Credentials::Password { username: "mirror".into(), password: Secret::Value(password.to_owned().into()) };
    Options { credentials: Some(credentials), ..Options::default() }
}

fn bearer(anonymous_pull: bool) -> Server {
    let user = ("mirror".to_owned(), "s3cret".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull, lifetime: Duration::from_secs(300) };
    Server::with(Setup { auth, ..Setup::default() })
}

/// Starts a server with one image under `a/b:v1`. Returns both.
fn with_image(setup: Setup) -> (Server, images::Image) {
    let server = Server::with(setup);
    let image = images::small(Family::Oci, 1);
    image.put(&server, "a/b", Some("v1"));
    (server, image)
}

async fn tags(repository: &Repository) -> Result<Vec<TagEntry>, StoreError> {
    repository.tags().try_collect().await
}

async fn read(repository: &Repository, blob: &Descriptor, offset: u64) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = repository.blob(blob, offset).await?.try_collect().await?;
    Ok(pieces.concat())
}

#[tokio::test]
async fn blob_with_a_wrong_digest_is_never_read_completely() {
    let server = Server::start();
    let bytes = noise(1, 300_000);
    let blob = blob_descriptor(&bytes);
    server.store().put_blob("a/b", bytes);
    server.set(Fault::BlobBytesWrong(blob.digest));
    let stream = Verified::new(open(&server).blob(&blob, 0).await.unwrap(), blob.clone(), "a/b");
    let error = stream.try_collect::<Vec<Bytes>>().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.to_string().contains(&blob.digest.to_string()), "{error}");
}

#[tokio::test]
async fn wrong_digest_header_of_a_tag_is_detected() {
    let (server, image) = with_image(Setup::default());
    let lie = Digest::of(b"a lie");
    server.set(Fault::TagDigestWrong(lie));
    let error = open(&server).manifest(&by_tag("v1")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt);
    assert!(error.detail.contains(&lie.to_string()) && error.detail.contains(&image.digest().to_string()), "{error}");
    let stated = open(&server).resolve(&by_tag("v1")).await.unwrap().unwrap();
    assert_eq!(open(&server).manifest(&stated.digest.into()).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn tag_without_a_digest_header_is_read_completely() {
    let (server, image) = with_image(Setup::default());
    let repository = open(&server);
    assert_eq!(repository.resolve(&by_tag("v1")).await.unwrap().unwrap().digest, image.digest());
    assert_eq!((server.log().count("manifest HEAD"), server.log().pulls()), (1, 0), "a HEAD with a digest is enough");
    server.set(Fault::TagDigestMissing);
    assert_eq!(repository.resolve(&by_tag("v1")).await.unwrap().unwrap().digest, image.digest());
    assert_eq!(repository.manifest(&by_tag("v1")).await.unwrap(), image.manifest);
}

#[tokio::test]
async fn broken_list_is_an_error_and_not_its_end() {
    let (server, image) = with_image(Setup { page: 2, ..Setup::default() });
    for tag in ["v2", "v3"] {
        image.put(&server, "a/b", Some(tag));
    }
    assert_eq!(tags(&open(&server)).await.unwrap().len(), 3);
    for (fault, kind) in [
        (Fault::TagListCut, ErrorKind::Invalid),
        (Fault::TagPagesLoop, ErrorKind::Invalid),
        (Fault::TagPageFails, ErrorKind::Unavailable),
    ] {
        server.set(fault.clone());
        assert_eq!(tags(&open(&server)).await.unwrap_err().kind, kind, "{fault:?}");
        server.heal();
    }
}

#[tokio::test]
async fn listing_returns_invalid_names_and_digests() {
    let (server, image) = with_image(Setup::default());
    server.set(Fault::TagListHas("sha256:bad".into()));
    server.set(Fault::TagListWithDigests);
    server.set(Fault::RelativeLocation);
    let listed = tags(&open(&server)).await.unwrap();
    let v1 = TagEntry::Tag("v1".parse().unwrap(), Some(image.digest()));
    assert_eq!(listed, [TagEntry::Unusable("sha256:bad".into()), v1]);
}

/// Starts a registry with Azure's listing and 250 tags of one image under `a/b`. Returns both.
fn like_azures(setup: Setup) -> (Server, images::Image) {
    let (server, image) = with_image(setup);
    for number in 2..=250 {
        server.store().set_tag("a/b", &format!("v{number}"), image.digest());
    }
    server.set(Fault::AcrTagList);
    (server, image)
}

fn azures(options: Options) -> Options {
    Options { flavor: Some(Flavor::ACR), ..options }
}

#[tokio::test]
async fn azure_listing_returns_digests_page_by_page() {
    let (server, image) = like_azures(Setup::default());
    let repository = with(&server, azures(Options::default()));
    assert!(repository.lists_digests());
    let listed = tags(&repository).await.unwrap();
    assert_eq!(listed.len(), 250);
    assert!(listed.iter().all(|entry| matches!(entry, TagEntry::Tag(_, Some(digest)) if *digest == image.digest())));
    assert_eq!(server.log().counts(), BTreeMap::from([("acr-tags GET".to_owned(), 3)]));
    server.set(Fault::TagListCut);
    assert_eq!(tags(&repository).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(server.log().count("tags GET"), 0, "a broken list is no refusal");
}

#[tokio::test]
async fn azure_listing_requires_its_own_scope() {
    let user = ("mirror".to_owned(), "s3cret".to_owned());
    let auth = Auth::Bearer { user, anonymous_pull: true, lifetime: Duration::from_secs(300) };
    let (server, _) = like_azures(Setup { auth, ..Setup::default() });
    assert_eq!(tags(&with(&server, azures(as_user("s3cret")))).await.unwrap().len(), 250);
    assert_eq!(server.log().count("tags GET"), 0);
    // A client that may only pull is refused by Azure's listing, and uses the standard listing.
    server.log().clear();
    let repository = with(&server, azures(Options::default()));
    for _ in 0..2 {
        assert_eq!(tags(&repository).await.unwrap().len(), 250);
    }
    assert!(!repository.lists_digests());
    assert_eq!((server.log().count("acr-tags GET"), server.log().count("tags GET")), (2, 6));
}

#[tokio::test]
async fn missing_azure_listing_is_requested_only_once() {
    let (server, _) = like_azures(Setup::default());
    server.heal();
    let client = client(&server, azures(Options::default()));
    // A repository that is missing in both listings does not show whether the registry has Azure's listing.
    let none = client.repository(name("none"));
    assert_eq!(tags(&none).await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(none.lists_digests());
    for _ in 0..2 {
        assert_eq!(tags(&client.repository(name("a/b"))).await.unwrap().len(), 250);
    }
    assert!(!none.lists_digests());
    assert_eq!((server.log().count("acr-tags GET"), server.log().count("tags GET")), (2, 7));
    server.set(Fault::AcrTagList);
    server.set(Fault::Unavailable { next: 1 });
    let healthy = with(&server, azures(Options::default()));
    assert_eq!(tags(&healthy).await.unwrap().len(), 250);
    assert!(healthy.lists_digests(), "a temporary failure is no refusal");
}

#[test]
fn sync_between_azure_registries_costs_one_listing_per_side() {
    let (source, target) = (Server::start(), Server::start());
    for server in [&source, &target] {
        let image = images::small(Family::Oci, 1);
        image.put(server, "app", Some("v1"));
        for number in 2..=250 {
            server.store().set_tag("app", &format!("v{number}"), image.digest());
        }
        server.set(Fault::AcrTagList);
    }
    let site = Site::new();
    let registries = [&source, &target].map(|server| format!("\"{}\": {{plain_http: true, kind: acr}}", server.host()));
    let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
    site.configure_fully("status: off", &registries.join(", "), &entry);
    site.once();
    for server in [&source, &target] {
        server.log().clear();
    }
    assert!(site.once().starts_with("app: nothing changed (250 unchanged)"));
    for server in [&source, &target] {
        assert_eq!(server.log().counts(), BTreeMap::from([("acr-tags GET".to_owned(), 3)]));
    }
}

#[tokio::test]
async fn credentials_are_not_sent_to_a_redirected_origin() {
    let server = Server::with(Setup { auth: Auth::Basic("mirror".into(), "s3cret".into()), ..Setup::default() });
    let bytes = noise(1, 50_000);
    server.store().put_blob("a/b", bytes.clone());
    server.set(Fault::BlobRedirect);
    let repository = with(&server, as_user("s3cret"));
    assert_eq!(read(&repository, &blob_descriptor(&bytes), 0).await.unwrap(), bytes);
    assert_eq!(read(&repository, &blob_descriptor(&bytes), 40_000).await.unwrap(), bytes[40_000..]);
    let requested = server.log().requests_of("storage GET");
    assert!(requested.len() == 2 && requested.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn upload_follows_relative_locations_and_sends_its_length() {
    let server = Server::start();
    for fault in [Fault::RelativeLocation, Fault::UploadNeedsLength, Fault::NoChunks] {
        server.set(fault);
    }
    for bytes in [noise(1, 100), noise(2, 1_000_000), Bytes::new()] {
        push_blob(&open(&server), bytes.clone(), None).await.unwrap();
        assert_eq!(server.store().blob("a/b", &Digest::of(&bytes)), Some(bytes));
    }
    assert_eq!((server.log().count("upload POST"), server.log().count("upload PUT")), (3, 3));
}

#[tokio::test]
async fn refused_mount_continues_in_the_opened_session() {
    let server = Server::start();
    let bytes = noise(1, 1000);
    server.store().put_blob("other", bytes.clone());
    server.set(Fault::MountRefused);
    assert!(push_blob(&open(&server), bytes, Some(&name("other"))).await.unwrap());
    let counts = server.log().counts();
    assert_eq!((counts["mount POST"], counts.get("upload POST"), counts["upload PUT"]), (1, None, 1));
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test]
async fn mount_post_replaces_head_after_a_first_success() {
    for (fault, heads, mounts) in [(None, 1, 4), (Some(Fault::MountRefused), 4, 1)] {
        let server = bearer(false);
        server.store().put_blob("a/b", "here".into());
        fault.into_iter().for_each(|fault| server.set(fault));
        let repository = with(&server, as_user("s3cret"));
        for content in ["here", "here", "absent", "here"] {
            let sought = repository.find_or_begin(&blob_descriptor(content.as_bytes())).await.unwrap();
            match sought {
                BlobLookup::Found => assert_eq!(content, "here"),
                BlobLookup::Mounted => panic!("a mount without another repository"),
                BlobLookup::OtherLength(length) => panic!("it has {length} bytes"),
                BlobLookup::Session(session) => {
                    assert_eq!(content, "absent");
                    session.cancel().await;
                }
            }
        }
        let count = |kind: &str| server.log().requests_of(kind).iter().filter(|request| request.status != 401).count();
        assert_eq!((count("blob HEAD"), count("mount POST")), (heads, mounts));
        assert_eq!(server.open_sessions(), 0);
    }
}

#[tokio::test]
async fn mount_requests_both_scopes_in_one_token() {
    let server = bearer(false);
    let blob = blob_descriptor(b"shared");
    server.store().put_blob("other", "shared".into());
    let started = with(&server, as_user("s3cret")).begin_upload(&blob, Some(&name("other"))).await.unwrap();
    assert!(matches!(started, UploadStart::Mounted));
    assert!(server.log().count("token GET") <= 1, "{:?}", server.log().counts());
}

#[tokio::test]
async fn concurrent_requests_share_one_token_and_one_renewal() {
    let server = bearer(true);
    let image = images::small(Family::Oci, 1);
    image.put(&server, "a/b", Some("v1"));
    let repository = open(&server);
    let resolve_many = || async {
        let references = [(); 32].map(|()| by_tag("v1"));
        let found = futures_util::future::try_join_all(references.iter().map(|one| repository.resolve(one))).await;
        assert!(found.unwrap().iter().all(|found| found.as_ref().unwrap().digest == image.digest()));
    };
    resolve_many().await;
    assert_eq!(server.log().count("token GET"), 1);
    server.expire_tokens();
    resolve_many().await;
    assert_eq!(server.log().count("token GET"), 2);
}

#[tokio::test]
async fn one_token_covers_writing_and_deleting() {
    let server = bearer(true);
    let repository = with(&server, as_user("s3cret"));
    let image = images::small(Family::Oci, 1);
    image.push(&repository, Some("v1")).await.unwrap();
    assert_eq!(server.store().tag("a/b", "v1"), Some(image.digest()));
    repository.delete(&image.digest().into()).await.unwrap();
    assert_eq!(server.store().tag("a/b", "v1"), None);
    assert_eq!(repository.identity(), "mirror");
}

#[tokio::test]
async fn refused_login_is_denied_and_reveals_no_secret() {
    for server in
        [bearer(false), Server::with(Setup { auth: Auth::Basic("mirror".into(), "s3cret".into()), ..Setup::default() })]
    {
        images::small(Family::Oci, 1).put(&server, "a/b", Some("v1"));
        let error = with(&server, as_user("wr0ng")).resolve(&by_tag("v1")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(!format!("{error} {error:?}").contains("wr0ng"));
        let anonymous = open(&server).resolve(&by_tag("v1")).await.unwrap_err();
        assert_eq!(anonymous.kind, ErrorKind::Denied, "{anonymous}");
        assert!(server.log().requests().len() < 10, "a refusal is not repeated: {:?}", server.log().counts());
    }
}

#[tokio::test]
async fn retry_after_of_a_busy_registry_is_respected() {
    let (server, image) = with_image(Setup::default());
    server.set(Fault::TooManyRequests { next: 1, retry_after: Some(1) });
    let start = Instant::now();
    let found = open(&server).resolve(&by_tag("v1")).await.unwrap().unwrap();
    assert_eq!(found.digest, image.digest());
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    server.set(Fault::Unavailable { next: 2 });
    assert!(open(&server).resolve(&by_tag("v1")).await.unwrap().is_some());
    assert_eq!(server.log().count("manifest HEAD"), 2 + 3);
}

#[tokio::test]
async fn broken_read_is_an_error_and_resumes_at_its_offset() {
    let server = Server::start();
    let bytes = noise(1, 500_000);
    let blob = blob_descriptor(&bytes);
    server.store().put_blob("a/b", bytes.clone());
    server.set(Fault::BlobGetBreaks { after: 200_000, times: 1 });
    let repository = open(&server);
    let mut stream = repository.blob(&blob, 0).await.unwrap();
    let mut arrived = Vec::new();
    let error = loop {
        match stream.try_next().await {
            Ok(Some(piece)) => arrived.extend_from_slice(&piece),
            Ok(None) => panic!("the truncated blob ended without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(!arrived.is_empty());
    arrived.extend(read(&repository, &blob, arrived.len() as u64).await.unwrap());
    assert!(arrived == bytes);
    assert!(server.log().requests_of("blob GET")[1].headers["range"].starts_with("bytes="));
}

#[tokio::test]
async fn broken_upload_commits_nothing() {
    let server = Server::start();
    let repository = open(&server);
    for (seed, size) in [(1, 50_000), (2, 2_000_000)] {
        let bytes = noise(seed, size);
        let blob = blob_descriptor(&bytes);
        server.set(Fault::UploadBreaks { after: 10_000, times: 1 });
        let UploadStart::Session(upload) = repository.begin_upload(&blob, None).await.unwrap() else { panic!() };
        let error = upload.send(verified(&blob, bytes.clone())).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(!repository.has_blob(&blob).await.unwrap());
        push_blob(&repository, bytes, None).await.unwrap();
        assert!(repository.has_blob(&blob).await.unwrap());
    }
}

#[tokio::test]
async fn upload_over_the_body_limit_is_refused_permanently() {
    let server = Server::start();
    server.set(Fault::UploadBodyLimit(1000));
    let error = push_blob(&open(&server), noise(1, 5000), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused, "{error}");
}

#[tokio::test]
async fn garbage_collected_blob_is_missing_content() {
    let (server, image) = with_image(Setup::default());
    let layer = blob_descriptor(&image.blobs[1]);
    server.set(Fault::BlobCollected(layer.digest));
    let repository = open(&server);
    assert!(repository.has_blob(&layer).await.unwrap(), "the registry's cache still reports the blob");
    let error = repository.push_manifest(&image.manifest, Some(&"v2".parse().unwrap())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::MissingContent, "{error}");
    assert_eq!(read(&repository, &layer, 0).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn unwritable_tag_keeps_its_digest() {
    let (server, image) = with_image(Setup::default());
    let other = images::small(Family::Oci, 2);
    other.put(&server, "a/b", None);
    let repository = open(&server);
    let v1 = "v1".parse().unwrap();
    server.set(Fault::ImmutableTags);
    repository.push_manifest(&image.manifest, Some(&v1)).await.unwrap();
    let error = repository.push_manifest(&other.manifest, Some(&v1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Locked, "{error}");
    server.heal();
    server.set(Fault::ManifestPutFails { nth: 1 });
    let error = repository.push_manifest(&other.manifest, Some(&v1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(server.log().count("manifest PUT") > 3, "a server error is retried");
    server.set(Fault::NoDelete);
    assert_eq!(repository.delete(&v1.into()).await.unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(server.store().tag("a/b", "v1"), Some(image.digest()));
}

#[tokio::test]
async fn catalog_is_listed_over_all_pages_if_present() {
    let server = Server::with(Setup { page: 2, ..Setup::default() });
    for repository in ["a/one", "a/two", "b/three", "c"] {
        server.store().put_blob(repository, "x".into());
    }
    let list = |client: Arc<Registry>| async move { client.catalog().try_collect::<Vec<RepositoryName>>().await };
    let listed = list(client(&server, Options::default())).await.unwrap();
    assert_eq!(listed, ["a/one", "a/two", "b/three", "c"].map(name));
    server.set(Fault::NoCatalog);
    let error = list(client(&server, Options::default())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn burst_of_throttling_halves_the_requests_in_flight() {
    let (server, _) = with_image(Setup::default());
    server.set(Fault::Delay(Duration::from_millis(100)));
    let limits = Limits { concurrent: LimitSetting::Set(20), ..Limits::default() };
    let repository = with(&server, Options { limits, ..Options::default() });
    let most_of = async |requests: usize| {
        server.log().clear();
        let references = vec![by_tag("v1"); requests];
        futures_util::future::try_join_all(references.iter().map(|one| repository.resolve(one))).await.unwrap();
        server.log().most_at_once()
    };
    assert_eq!(most_of(30).await, 20, "no throttling yet");
    server.set(Fault::TooManyRequests { next: 5, retry_after: Some(0) });
    assert_eq!(most_of(20).await, 20);
    assert_eq!(server.log().requests().len(), 25, "five requests were repeated");
    // The five repeated requests raise the limit half of the way to eleven. The other requests were in flight when the
    // limit was halved, and do not count.
    assert_eq!(most_of(14).await, 10);
}

/// Reads that are in flight when the limit is halved wait for writes. These writes must get permits beside the reads.
#[test]
fn copy_within_a_throttled_registry_does_not_deadlock() {
    for kind in ["plain", "acr"] {
        let server = Server::start();
        server.set(Fault::MountRefused);
        server.set(Fault::Bandwidth(8_000_000));
        let layers: Vec<_> = (1..=8).map(|seed| images::layer(Family::Oci, seed as u64, 600_000 * seed)).collect();
        images::image(Family::Oci, images::linux("amd64"), &layers).put(&server, "app", Some("v1"));
        let host = server.host();
        let site = Site::new();
        let registry = format!("\"{host}\": {{plain_http: true, kind: {kind}, limits: {{concurrent: 6}}}}");
        let entry = format!("- {{name: app, source: \"{host}/app\", target: \"{host}/copy\"}}");
        site.configure_fully("status: off", &registry, &entry);
        let (running, began) = (site.start(&["once"]), Instant::now());
        while server.log().count("blob GET") < 4 {
            assert!(began.elapsed() < DEADLINE, "no four blobs are read: {:?}", server.log().counts());
            std::thread::sleep(Duration::from_millis(5));
        }
        server.set(Fault::TooManyRequests { next: 2, retry_after: Some(0) });
        running.wait(DEADLINE).expect_success();
        assert_eq!(server.store().tags("copy"), server.store().tags("app"), "{kind}");
    }
}

#[tokio::test]
async fn requests_in_flight_never_exceed_the_limit() {
    let (server, _) = with_image(Setup::default());
    server.set(Fault::Delay(Duration::from_millis(20)));
    let limits = Limits { concurrent: LimitSetting::Set(3), ..Limits::default() };
    let repository = with(&server, Options { limits, ..Options::default() });
    let references = [(); 20].map(|()| by_tag("v1"));
    futures_util::future::try_join_all(references.iter().map(|one| repository.resolve(one))).await.unwrap();
    assert_eq!(server.log().most_at_once(), 3);
}
