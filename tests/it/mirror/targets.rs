//! Tests of targets with unexpected content or denied reads: no content of other tools is replaced, the images are
//! copied, and the report names everything that was left behind.

use serde_json::{Value, json};
use transship::oci::{Digest, Manifest, MediaType};

use crate::support::images::{self, Family, Image, linux};
use crate::support::registry::{Fault, Server, Setup};
use crate::support::site::Site;

/// Two registries and an entry `app` that copies the repository `app` from one to the other.
struct Pair {
    source: Server,
    target: Server,
    site: Site,
}

impl Pair {
    /// Starts a source with or without the referrers API, and a target without it. `keys` are further keys of the
    /// entry.
    fn new(source_has_api: bool, keys: &str) -> Self {
        let source = Server::with(Setup { referrers_api: source_has_api, ..Setup::default() });
        let target = Server::with(Setup { referrers_api: false, ..Setup::default() });
        let comma = if keys.is_empty() { "" } else { ", " };
        let (from, to) = (source.host(), target.host());
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"{comma}{keys}}}");
        let site = Site::with(&[from, to], &entry);
        Self { source, target, site }
    }

    fn has(&self, image: &Image) -> bool {
        self.target.store().manifest("app", &image.digest().to_string()).is_some()
    }

    /// Returns the digests in the target's referrers list of an image.
    fn listed(&self, subject: &Image) -> Vec<String> {
        let stored = self.target.store().manifest("app", &digest_tag(subject)).unwrap();
        let list: Value = serde_json::from_slice(&stored.bytes).unwrap();
        let digest = |entry: &Value| entry["digest"].as_str().unwrap_or_default().to_owned();
        list["manifests"].as_array().unwrap().iter().map(digest).collect()
    }

    /// Runs once, and asserts that the summary names this referrer as left behind and that nothing failed.
    #[track_caller]
    fn expect_left_behind(&self, referrer: &Image, subject: &Image) -> String {
        let output = self.site.run(&["once"]);
        assert_eq!(output.code(), 4, "{}{}", output.stdout, output.stderr);
        let line = format!(
            "  not copied to {}/app: referrer {} of {}: ",
            self.target.host(),
            referrer.digest(),
            subject.digest()
        );
        assert!(output.stdout.contains(&line), "{line} is not in {}", output.stdout);
        output.stdout
    }
}

fn digest_tag(image: &Image) -> String {
    image.digest().to_string().replace(':', "-")
}

/// Puts an index with these entries under a tag of `app`.
fn put_index(server: &Server, entries: &[Value], tag: &str) -> Digest {
    let body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    let index = Manifest::new(MediaType::new(MediaType::OCI_INDEX), body.to_string().into());
    server.store().put_manifest("app", (&index).into(), Some(tag));
    index.digest()
}

/// Puts an image under `v1` at the source, with an SBOM that the source lists as its referrer.
fn put_signed(pair: &Pair) -> (Image, Image) {
    let image = images::small(Family::Oci, 1);
    image.put(&pair.source, "app", Some("v1"));
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", None);
    (image, sbom)
}

/// Content that other tools put under a tag of the referrers form. Each function puts it at a target, for this image.
const FOREIGN_CONTENT: [fn(&Server, &Image) -> Digest; 5] = [
    |target, image| {
        let other = images::small(Family::Oci, 50);
        other.put(target, "app", Some(&digest_tag(image)));
        other.digest()
    },
    |target, image| {
        let other = images::small(Family::Docker, 51);
        other.put(target, "app", Some(&digest_tag(image)));
        other.digest()
    },
    |target, image| {
        let other = images::two_platforms(Family::Oci, 52);
        other.put(target, "app", Some(&digest_tag(image)));
        other.digest()
    },
    // A sparse index, whose images are missing.
    |target, image| {
        let mut entry = images::small(Family::Oci, 53).descriptor();
        entry["platform"] = linux("arm64");
        put_index(target, &[entry], &digest_tag(image))
    },
    // The image itself, as oc-mirror tags an image that is selected by digest.
    |target, image| {
        image.put(target, "app", Some(&digest_tag(image)));
        image.digest()
    },
];

#[test]
fn image_under_a_referrers_tag_is_never_replaced_by_lists() {
    for (at, put) in FOREIGN_CONTENT.into_iter().enumerate() {
        for source_has_api in [true, false] {
            let pair = Pair::new(source_has_api, "tags: {include: [v1]}");
            let (image, sbom) = put_signed(&pair);
            images::list_referrers(&pair.source, "app", &image, &[&sbom]);
            let other = put(&pair.target, &image);
            let there = || pair.target.store().tag("app", &digest_tag(&image));
            let message = pair.expect_left_behind(&sbom, &image);
            assert!(message.contains("not at a list of referrers: the tag was not changed"), "{message}");
            assert_eq!(there(), Some(other), "{at}, API: {source_has_api}");
            assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()));
            assert!(pair.has(&sbom), "the referrer is at the target by digest");
            pair.expect_left_behind(&sbom, &image);
            assert_eq!(there(), Some(other), "{at}, API: {source_has_api}");
            // After the other content is removed, the next run writes the list.
            pair.target.store().remove_manifest("app", &digest_tag(&image));
            pair.site.once();
            assert_eq!(pair.listed(&image), [sbom.digest().to_string()], "{at}, API: {source_has_api}");
        }
    }
}

#[test]
fn image_under_a_referrers_tag_replaces_no_list_at_target() {
    let pair = Pair::new(true, "");
    let (image, sbom) = put_signed(&pair);
    // At the source, another tool has an image under the tag that the target needs for the list.
    let other = images::small(Family::Oci, 50);
    other.put(&pair.source, "app", Some(&digest_tag(&image)));
    for _ in 0..2 {
        let report = pair.site.report(4);
        assert_eq!(report.outcomes()[&digest_tag(&image)], "blocked", "{:#}", report.0);
        assert_eq!(pair.listed(&image), [sbom.digest().to_string()]);
        assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()));
    }
    // If the target has other content under the tag, the tag is copied like any other tag.
    let pair = Pair::new(true, "");
    other.put(&pair.source, "app", Some(&digest_tag(&image)));
    images::small(Family::Oci, 51).put(&pair.target, "app", Some(&digest_tag(&image)));
    pair.site.once();
    assert_eq!(pair.target.store().tag("app", &digest_tag(&image)), Some(other.digest()));
}

#[test]
fn referrers_list_without_subject_replaces_no_image_at_target() {
    let pair = Pair::new(false, "");
    let gone = images::small(Family::Oci, 9);
    let sbom = images::sbom(&gone, 1);
    sbom.put(&pair.source, "app", None);
    put_index(&pair.source, &[sbom.descriptor()], &digest_tag(&gone));
    let other = images::small(Family::Oci, 50);
    other.put(&pair.target, "app", Some(&digest_tag(&gone)));
    for _ in 0..2 {
        pair.expect_left_behind(&sbom, &gone);
        assert_eq!(pair.target.store().tag("app", &digest_tag(&gone)), Some(other.digest()));
    }
}

#[test]
fn tagged_referrer_is_copied_if_its_list_is_unwritable() {
    let pair = Pair::new(true, "tags: {include: [sbom]}");
    let image = images::small(Family::Oci, 1);
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", Some("sbom"));
    let other = images::small(Family::Oci, 50);
    other.put(&pair.target, "app", Some(&digest_tag(&image)));
    pair.expect_left_behind(&sbom, &image);
    assert_eq!(pair.target.store().tag("app", "sbom"), Some(sbom.digest()));
    assert_eq!(pair.target.store().tag("app", &digest_tag(&image)), Some(other.digest()));
}

/// Makes the target deny this kind of manifest requests below this path.
fn deny(pair: &Pair, kind: &'static str, path: &'static str, status: u16) {
    pair.target.set(Fault::Answers { kind, path, status });
}

#[test]
fn target_that_denies_reads_gets_images_and_referrers() {
    for status in [401, 403] {
        let pair = Pair::new(false, "");
        let image = images::two_platforms(Family::Oci, 1);
        image.put(&pair.source, "app", Some("v1"));
        let (signature, signature_tag) = (images::signature(&image), images::signature_tag(&image));
        signature.put(&pair.source, "app", Some(&signature_tag));
        let (first, late) = (images::sbom(&image, 1), images::sbom(&image, 2));
        first.put(&pair.source, "app", None);
        images::list_referrers(&pair.source, "app", &image, &[&first]);
        // The repository exists, so denied content is not taken for absent.
        images::small(Family::Oci, 50).put(&pair.target, "app", Some("old"));
        deny(&pair, "manifest HEAD", "/manifests/", status);
        let output = pair.site.run(&["once"]).expect_success();
        assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()), "{}", output.stdout);
        assert_eq!(pair.target.store().tag("app", &signature_tag), Some(signature.digest()));
        assert_eq!(pair.listed(&image), [first.digest().to_string()]);
        // The list at the source grows while the target denies only reads of the list.
        pair.target.heal();
        deny(&pair, "manifest HEAD", "/manifests/sha256-", status);
        late.put(&pair.source, "app", None);
        images::list_referrers(&pair.source, "app", &image, &[&first, &late]);
        let output = pair.site.run(&["once"]).expect_success();
        assert_eq!(pair.listed(&image).len(), 2, "{status}: {}{}", output.stdout, output.stderr);
        let warning = "the target denies reads of its list of referrers";
        assert!(output.stderr.contains(warning) && output.stderr.contains(&digest_tag(&image)), "{}", output.stderr);
    }
}

#[test]
fn unreadable_referrers_list_is_not_written_and_is_reported() {
    for source_has_api in [true, false] {
        let pair = Pair::new(source_has_api, "");
        let (image, sbom) = put_signed(&pair);
        images::list_referrers(&pair.source, "app", &image, &[&sbom]);
        let other = images::sbom(&image, 7);
        other.put(&pair.target, "app", None);
        let list = put_index(&pair.target, &[other.descriptor()], &digest_tag(&image));
        deny(&pair, "manifest GET", "/manifests/sha256-", 403);
        deny(&pair, "manifest HEAD", "/manifests/sha256-", 403);
        for _ in 0..2 {
            pair.expect_left_behind(&sbom, &image);
            assert_eq!(pair.target.store().tag("app", &digest_tag(&image)), Some(list));
            assert_eq!(pair.target.store().tag("app", "v1"), Some(image.digest()));
        }
        pair.target.heal();
        pair.site.once();
        assert_eq!(pair.listed(&image), [other.digest().to_string(), sbom.digest().to_string()]);
    }
}
