//! Tests of faults at registries: the affected tag of the target keeps its digest, the summary names the failure, and
//! all other tags are copied.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use transship::oci::Digest;

use crate::support::images::{self, Family, Image, linux};
use crate::support::programs::Output;
use crate::support::registry::{Auth, Fault, Server, Setup};
use crate::support::site::Site;

const NO_CREDENTIALS: &str = "the registry requires a user name and a password, and none are configured";

/// Two registries and an entry `app` from one to the other.
struct Pair {
    source: Server,
    target: Server,
    site: Site,
}

impl Pair {
    fn new() -> Self {
        Self::between(Server::start(), Server::start())
    }

    fn between(source: Server, target: Server) -> Self {
        let entry = format!("- {{name: app, source: \"{}/app\", target: \"{}/app\"}}", source.host(), target.host());
        let site = Site::with(&[source.host(), target.host()], &entry);
        Self { source, target, site }
    }

    /// Puts an index under each of `v1`, `v2`, `v3` at the source, and an older index under the same tags at the
    /// target.
    fn with_three_tags() -> (Self, [Image; 3]) {
        let pair = Self::new();
        let new = [1, 2, 3].map(|seed| images::two_platforms(Family::Oci, seed));
        for (image, tag) in new.iter().zip(["v1", "v2", "v3"]) {
            image.put(&pair.source, "app", Some(tag));
            older(tag).put(&pair.target, "app", Some(tag));
        }
        (pair, new)
    }

    /// Configures one entry, and a limit of concurrent requests for both registries.
    fn limit(&self, concurrent: usize, entry: &str) {
        let of = |host: &str| format!("\"{host}\": {{plain_http: true, limits: {{concurrent: {concurrent}}}}}");
        let registries = [self.source.host(), self.target.host()].map(of).join(", ");
        self.site.configure_fully("status: off", &registries, &format!("- {{name: app, {entry}}}"));
    }

    fn once(&self) -> Output {
        self.site.run(&["once"])
    }

    fn at_target(&self, tag: &str) -> Option<Digest> {
        self.target.store().tag("app", tag)
    }

    /// Asserts that `v2` failed with this message and kept its digest, and that the other tags were copied.
    #[track_caller]
    fn expect_only_v2_to_fail(&self, new: &[Image; 3], message: &str) {
        let output = self.once();
        assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
        let line = format!("  failed v2 at {}/app: {message}", self.target.host());
        assert!(output.stdout.contains(&line), "{line}\nis not in\n{}", output.stdout);
        assert!(output.stdout.starts_with("app: 2 replaced, 1 failed, "), "{}", output.stdout);
        assert_eq!(self.at_target("v2"), Some(older("v2").digest()), "the tag is unchanged");
        assert_eq!(self.at_target("v1"), Some(new[0].digest()));
        assert_eq!(self.at_target("v3"), Some(new[2].digest()));
        let history = self.site.history(&[]);
        assert_eq!((&history[0]["outcome"], &history[0]["counts"]["failed"]), (&"failed".into(), &1.into()));
    }

    /// Asserts that no tag moved and that the summary contains the reason.
    #[track_caller]
    fn expect_nothing_to_move(&self, message: &str) -> Output {
        let before = self.target.store().tags("app");
        let output = self.once();
        assert_eq!(output.code(), 1, "{}{}", output.stdout, output.stderr);
        assert!(output.stdout.contains(message), "{message}\nis not in\n{}", output.stdout);
        assert_eq!(self.target.store().tags("app"), before);
        output
    }

    /// Asserts that the next run without faults copies the remaining tags.
    #[track_caller]
    fn expect_recovery(&self) {
        self.source.heal();
        self.target.heal();
        let output = self.once().expect_success();
        for (tag, digest) in self.source.store().tags("app").unwrap() {
            assert_eq!(self.at_target(&tag), Some(digest), "{}", output.stdout);
        }
    }
}

fn older(tag: &str) -> Image {
    images::small(Family::Oci, 900 + u64::from(tag.as_bytes()[1]))
}

/// Returns an image with a large layer, whose transfer can break in the middle.
fn large() -> Image {
    images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 77, 3_000_000)])
}

/// Returns a digest as the summary prints it.
fn shorten(digest: &Digest) -> String {
    format!("sha256:{}…", &digest.to_string()[7..19])
}

#[test]
fn blob_with_wrong_bytes_fails_its_tag_alone() {
    let (pair, new) = Pair::with_three_tags();
    let blob = Digest::of(&new[1].children[0].blobs[2]);
    pair.source.set(Fault::BlobBytesWrong(blob));
    let message = format!("source {}/app: reading blob {}: ", pair.source.host(), shorten(&blob));
    pair.expect_only_v2_to_fail(&new, &message);
    assert_eq!(pair.target.store().blob("app", &blob), None);
    pair.expect_recovery();
}

#[test]
fn source_stating_a_missing_digest_moves_no_tag() {
    let (pair, _) = Pair::with_three_tags();
    let lie = Digest::of(b"what nobody has");
    pair.source.set(Fault::TagDigestWrong(lie));
    let message = format!(
        "source {}/app: reading manifest: the registry states the digest {}, but the bytes have the digest …\n",
        pair.source.host(),
        shorten(&lie)
    );
    pair.expect_nothing_to_move(&message);
    pair.expect_recovery();
}

#[test]
fn source_stating_the_digest_of_another_tag_moves_no_tag() {
    let pair = Pair::new();
    let (one, two) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    one.put(&pair.source, "app", Some("v1"));
    two.put(&pair.source, "app", None);
    older("v1").put(&pair.target, "app", Some("v1"));
    pair.source.set(Fault::TagDigestWrong(two.digest()));
    let output = pair.expect_nothing_to_move(&format!("source {}/app: reading manifest ", pair.source.host()));
    assert!(output.stdout.contains(&shorten(&one.digest())), "{}", output.stdout);
    assert!(output.stdout.contains(&shorten(&two.digest())), "{}", output.stdout);
}

#[test]
fn truncated_tag_list_is_an_error() {
    let (pair, _) = Pair::with_three_tags();
    pair.source.set(Fault::TagListCut);
    pair.expect_nothing_to_move(&format!(
        "failed: source {}/app: listing tags: the list cannot be read: ",
        pair.source.host()
    ));
    pair.expect_recovery();
}

#[test]
fn missing_page_of_a_tag_list_is_an_error() {
    let source = Server::with(Setup { page: 2, ..Setup::default() });
    let pair = Pair::between(source, Server::start());
    for (seed, tag) in [(1, "v1"), (2, "v2"), (3, "v3")] {
        images::small(Family::Oci, seed).put(&pair.source, "app", Some(tag));
    }
    older("v3").put(&pair.target, "app", Some("v3"));
    pair.source.set(Fault::TagPageFails);
    pair.expect_nothing_to_move(&format!("failed: source {}/app: listing tags: ", pair.source.host()));
    pair.expect_recovery();
}

#[test]
fn tag_stays_if_last_manifest_write_fails() {
    let (pair, new) = Pair::with_three_tags();
    pair.target.set(Fault::ManifestPutFailsFor("v2".into()));
    let message =
        format!("target {}/app: writing manifest v2 ({}): 500 ", pair.target.host(), shorten(&new[1].digest()));
    pair.expect_only_v2_to_fail(&new, &message);
    let last =
        pair.target.log().requests_of("manifest PUT").into_iter().filter(|put| put.path.ends_with("/v2")).count();
    assert!(last > 1, "the request was repeated");
    let report = pair.site.report(1);
    let failed = report.tag("v2");
    assert_eq!((&failed["side"], &failed["step"]), (&"target".into(), &"write_manifest".into()));
    assert_eq!(failed["digest"], new[1].digest().to_string());
    pair.expect_recovery();
}

#[test]
fn tag_stays_if_a_child_manifest_write_fails() {
    let pair = Pair::new();
    images::two_platforms(Family::Oci, 1).put(&pair.source, "app", Some("v1"));
    older("v1").put(&pair.target, "app", Some("v1"));
    pair.target.set(Fault::ManifestPutFails { nth: 2 });
    pair.expect_nothing_to_move(&format!("target {}/app: writing manifest ", pair.target.host()));
    pair.expect_recovery();
}

#[test]
fn missing_credentials_are_reported() {
    let closed = || Setup { auth: Auth::Basic("robot".into(), "secret".into()), ..Setup::default() };
    let pair = Pair::between(Server::with(closed()), Server::start());
    images::small(Family::Oci, 1).put(&pair.source, "app", Some("v1"));
    let output = pair.expect_nothing_to_move(&format!("failed: source {}/app: listing tags: ", pair.source.host()));
    assert!(output.stdout.contains(NO_CREDENTIALS), "{}", output.stdout);

    let pair = Pair::between(Server::start(), Server::with(closed()));
    images::small(Family::Oci, 1).put(&pair.source, "app", Some("v1"));
    let output = pair.expect_nothing_to_move(&format!("target {}/app: ", pair.target.host()));
    assert!(output.stdout.contains(NO_CREDENTIALS), "{}", output.stdout);
}

#[test]
fn unreachable_target_fails_alone() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (source, target) = (Server::start(), Server::start());
    let image = images::small(Family::Oci, 1);
    image.put(&source, "app", Some("v1"));
    let entries = format!(
        "- {{name: lost, source: \"{0}/app\", target: \"{nowhere}/app\"}}\n\
         - {{name: well, source: \"{0}/app\", target: \"{1}/app\"}}\n\
         - {{name: both, source: \"{0}/app\", targets: [\"{nowhere}/both\", \"{1}/both\"]}}",
        source.host(),
        target.host()
    );
    let site = Site::with(&[source.host(), target.host(), &nowhere], &entries);
    let output = site.run(&["once"]);
    assert_eq!(output.code(), 1);
    assert!(
        output.stdout.contains(&format!("  failed v1 at {nowhere}/app: target {nowhere}/app: ")),
        "{}",
        output.stdout
    );
    assert!(output.stdout.contains("well: 1 copied, "), "{}", output.stdout);
    assert!(output.stdout.contains("both: 1 copied, 1 failed, "), "{}", output.stdout);
    assert_eq!(target.store().tag("app", "v1"), Some(image.digest()));
    assert_eq!(target.store().tag("both", "v1"), Some(image.digest()));
}

#[test]
fn immutable_tag_is_blocked_alone() {
    let (pair, _) = Pair::with_three_tags();
    images::small(Family::Oci, 4).put(&pair.source, "app", Some("v4"));
    pair.target.set(Fault::ImmutableTags);
    let output = pair.once();
    assert_eq!(output.code(), 4);
    assert!(output.stdout.starts_with("app: 1 copied, 3 blocked, "), "{}", output.stdout);
    let message = format!("  blocked 3 tags at {}/app: writing manifest: 409 Conflict", pair.target.host());
    assert!(output.stdout.contains(&message), "{}", output.stdout);
    assert_eq!(pair.at_target("v2"), Some(older("v2").digest()));
    // An immutable tag that already has the right digest is no failure.
    pair.source.store().set_tag("app", "v4", images::small(Family::Oci, 4).digest());
    assert_eq!(pair.site.report(4).outcomes()["v4"], "unchanged");
}

#[test]
fn broken_read_resumes_at_its_offset() {
    let pair = Pair::new();
    let image = large();
    image.put(&pair.source, "app", Some("v1"));
    pair.source.set(Fault::BlobGetBreaks { after: 1_000_000, times: 1 });
    pair.once().expect_success();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    let reads = pair.source.log().requests_of("blob GET");
    let size: u64 = image.blobs.iter().map(|blob| blob.len() as u64).sum();
    let sent: u64 = reads.iter().map(|read| read.sent).sum();
    assert!(sent < size + 500_000, "{sent} bytes were read of {size}");
    assert!(reads.iter().any(|read| read.status == 206 && read.headers.contains_key("range")), "{reads:?}");
}

#[test]
fn blob_read_that_always_breaks_stops_after_nine_requests() {
    let pair = Pair::new();
    let shared = large();
    for tag in ["v1", "v2", "v3"] {
        shared.put(&pair.source, "app", Some(tag));
    }
    pair.source.set(Fault::BlobGetBreaks { after: 0, times: usize::MAX });
    let report = pair.site.report(1);
    assert!(report.outcomes().values().all(|outcome| outcome == "failed"), "{:?}", report.outcomes());
    let requested = pair.source.log().requests_of("blob GET").into_iter().fold(
        BTreeMap::<String, usize>::new(),
        |mut requested, read| {
            *requested.entry(read.path).or_default() += 1;
            requested
        },
    );
    assert!(!requested.is_empty() && requested.values().all(|times| *times <= 9 + 2), "{requested:?}");
}

#[test]
fn broken_upload_is_retried() {
    let pair = Pair::new();
    let image = large();
    image.put(&pair.source, "app", Some("v1"));
    pair.target.set(Fault::UploadBreaks { after: 1_000_000, times: 1 });
    pair.once().expect_success();
    assert_eq!(pair.at_target("v1"), Some(image.digest()));
    let began = pair.target.log().requests().iter().filter(|request| request.kind == "upload POST").count();
    assert!(began > image.blobs.len(), "{:?}", pair.target.log().counts());
}

#[test]
fn retry_after_of_a_registry_delays_the_run() {
    let pair = Pair::new();
    images::small(Family::Oci, 1).put(&pair.source, "app", Some("v1"));
    pair.source.set(Fault::TooManyRequests { next: 1, retry_after: Some(2) });
    pair.target.set(Fault::TooManyRequests { next: 1, retry_after: Some(2) });
    let began = Instant::now();
    pair.once().expect_success();
    // Both registries are queried concurrently, so both waits elapse concurrently.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let turned_away = |server: &Server| server.log().requests().iter().filter(|request| request.status == 429).count();
    assert_eq!((turned_away(&pair.source), turned_away(&pair.target)), (1, 1));
}

#[test]
fn briefly_unavailable_registry_is_retried() {
    let pair = Pair::new();
    images::small(Family::Oci, 1).put(&pair.source, "app", Some("v1"));
    pair.source.set(Fault::Unavailable { next: 2 });
    pair.target.set(Fault::Unavailable { next: 2 });
    pair.once().expect_success();
}

#[test]
fn timed_out_run_ends_and_moves_no_tag() {
    let pair = Pair::new();
    large().put(&pair.source, "app", Some("v1"));
    older("v1").put(&pair.target, "app", Some("v1"));
    pair.source.set(Fault::Bandwidth(50_000));
    let entry = format!(
        "- {{name: app, timeout: 1s, source: \"{}/app\", target: \"{}/app\"}}",
        pair.source.host(),
        pair.target.host()
    );
    pair.site.configure(&[pair.source.host(), pair.target.host()], &entry);
    pair.expect_nothing_to_move("app: timed out after ");
    assert_eq!(pair.site.history(&[])[0]["outcome"], "timed_out");
}

#[test]
fn blob_falsely_reported_by_the_target_is_sent() {
    let pair = Pair::new();
    let image = images::small(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    let layer = image.blobs[1].clone();
    pair.target.store().put_blob("app", layer.clone());
    pair.target.set(Fault::BlobCollected(Digest::of(&layer)));
    let output = pair.once();
    // The in-process registry continues to refuse the manifest. The test checks that the blob was sent and the tag did
    // not move.
    assert_eq!(output.code(), 1, "{}", output.stdout);
    let path = format!("/v2/app/blobs/{}", Digest::of(&layer));
    let sent: u64 = pair.target.log().requests().iter().map(|request| request.received).sum();
    assert!(sent >= layer.len() as u64, "{path}");
    assert_eq!(pair.at_target("v1"), None);
    pair.expect_recovery();
}

/// Returns three images, each with unique layers: many small ones and some large ones.
fn images_of_small_and_large_blobs() -> [Image; 3] {
    [0, 1, 2].map(|image: u64| {
        let size = |layer: u64| if layer.is_multiple_of(3) { 400_000 } else { 3_000 };
        let layers: Vec<_> = (0..12).map(|layer| images::layer(Family::Oci, image * 12 + layer, size(layer))).collect();
        images::image(Family::Oci, linux("amd64"), &layers)
    })
}

#[test]
fn reads_and_writes_at_a_low_limit_do_not_deadlock() {
    for concurrent in [1, 2, 3] {
        let pair = Pair::new();
        for (image, tag) in images_of_small_and_large_blobs().iter().zip(["v1", "v2", "v3"]) {
            image.put(&pair.source, "app", Some(tag));
        }
        pair.limit(
            concurrent,
            &format!("source: \"{}/app\", target: \"{}/app\"", pair.source.host(), pair.target.host()),
        );
        pair.site.once();
        assert_eq!(pair.target.log().count("upload PUT"), 36 + 3, "each layer and each configuration");
        assert!(pair.target.log().most_at_once() <= concurrent);
    }
}

#[test]
fn copy_within_a_registry_at_a_low_limit_succeeds() {
    for concurrent in [1, 2, 3] {
        let pair = Pair::new();
        pair.source.set(Fault::MountRefused);
        for (image, tag) in images_of_small_and_large_blobs().iter().zip(["v1", "v2", "v3"]) {
            image.put(&pair.source, "app", Some(tag));
        }
        pair.limit(concurrent, &format!("source: \"{0}/app\", target: \"{0}/copy\"", pair.source.host()));
        pair.site.once();
        assert_eq!(pair.source.store().tags("copy"), pair.source.store().tags("app"));
    }
}
