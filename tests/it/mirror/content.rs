//! Tests of unusual content in registries: tags with names of the referrers form, referrers that cannot be copied,
//! artifacts of other tools. The content decides, and the report names everything that is left behind.

use bytes::Bytes;
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
    fn with(keys: &str) -> Self {
        Self::between(Server::start(), Server::start(), keys)
    }

    fn between(source: Server, target: Server, keys: &str) -> Self {
        let comma = if keys.is_empty() { "" } else { ", " };
        let (from, to) = (source.host(), target.host());
        let entry = format!("- {{name: app, source: \"{from}/app\", target: \"{to}/app\"{comma}{keys}}}");
        let site = Site::with(&[from, to], &entry);
        Self { source, target, site }
    }

    fn put(&self, image: &Image, tag: &str) {
        image.put(&self.source, "app", Some(tag));
    }

    fn arrived(&self, tag: &str) -> Option<Digest> {
        self.target.store().tag("app", tag)
    }
}

fn without_api() -> Server {
    Server::with(Setup { referrers_api: false, ..Setup::default() })
}

fn digest_tag(digest: Digest) -> String {
    digest.to_string().replace(':', "-")
}

/// Puts an index with these entries under a tag.
fn put_index(server: &Server, entries: &[Value], tag: Option<&str>) -> Manifest {
    let body = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": entries});
    let list = Manifest::new(MediaType::new(MediaType::OCI_INDEX), format!("{body:#}").into());
    server.store().put_manifest("app", (&list).into(), tag);
    list
}

/// Returns an entry of a list of referrers, with this artifact type.
fn entry(referrer: &Image, artifact_type: &str) -> Value {
    let mut entry = referrer.descriptor();
    entry["artifactType"] = artifact_type.into();
    entry
}

fn stored(server: &Server, reference: &str) -> Value {
    serde_json::from_slice(&server.store().manifest("app", reference).unwrap().bytes).unwrap()
}

#[test]
fn images_under_tags_of_referrers_form_are_copied() {
    for keys in ["", "referrers: false"] {
        let pair = Pair::with(keys);
        let (own, other, many) =
            (images::small(Family::Oci, 1), images::small(Family::Oci, 2), images::two_platforms(Family::Oci, 3));
        let tags = [digest_tag(own.digest()), digest_tag(Digest::of(b"nothing")), format!("sha512-{}", "d".repeat(64))];
        pair.put(&own, &tags[0]);
        pair.put(&other, &tags[1]);
        pair.put(&many, &tags[2]);
        pair.site.once();
        let arrived: Vec<_> = tags.iter().map(|tag| pair.arrived(tag)).collect();
        assert_eq!(arrived, [&own, &other, &many].map(|image| Some(image.digest())), "{keys}");
        assert!(pair.site.once().starts_with("app: nothing changed (3 unchanged)"));
    }
}

#[test]
fn image_under_a_referrers_tag_obeys_the_overwrite_rule() {
    let pair = Pair::with("overwrite: never");
    let tag = digest_tag(Digest::of(b"nothing"));
    pair.put(&images::small(Family::Oci, 1), &tag);
    let old = images::small(Family::Oci, 2);
    old.put(&pair.target, "app", Some(&tag));
    assert_eq!(pair.site.run(&["once"]).code(), 4);
    assert_eq!(pair.arrived(&tag), Some(old.digest()));
}

#[test]
fn referrers_list_follows_its_subject_without_later_pulls() {
    let pair = Pair::between(without_api(), without_api(), "");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", None);
    let list = put_index(&pair.source, &[entry(&sbom, "application/spdx+json")], Some(&digest_tag(image.digest())));
    pair.site.once();
    assert_eq!(pair.arrived(&digest_tag(image.digest())), Some(list.digest()));
    pair.source.log().clear();
    assert!(pair.site.once().starts_with("app: nothing changed (1 unchanged)"));
    assert_eq!(pair.source.log().pulls(), 0, "the journal has the digest of the list");
}

#[test]
fn referrers_list_without_its_subject_is_reported_and_copied() {
    let pair = Pair::between(without_api(), without_api(), "");
    let gone = images::small(Family::Oci, 9);
    pair.put(&images::small(Family::Oci, 1), "v1");
    let sbom = images::sbom(&gone, 1);
    sbom.put(&pair.source, "app", None);
    let tag = digest_tag(gone.digest());
    let list = put_index(&pair.source, &[entry(&sbom, "application/spdx+json")], Some(&tag));
    let output = pair.site.run(&["once"]).expect_success();
    assert_eq!(pair.arrived(&tag), Some(list.digest()), "{}", output.stdout);
    let warning = "a list of referrers is copied without its subject";
    assert!(output.stderr.contains(warning) && output.stderr.contains(&gone.digest().to_string()), "{}", output.stderr);
    assert!(pair.site.once().starts_with("app: nothing changed (2 unchanged)"));
}

#[test]
fn referrers_list_is_merged_into_the_list_at_target() {
    let pair = Pair::between(without_api(), without_api(), "");
    let gone = images::small(Family::Oci, 9);
    let tag = digest_tag(gone.digest());
    let (theirs, ours) = (images::sbom(&gone, 1), images::sbom(&gone, 2));
    theirs.put(&pair.source, "app", None);
    put_index(&pair.source, &[entry(&theirs, "application/spdx+json")], Some(&tag));
    ours.put(&pair.target, "app", None);
    put_index(&pair.target, &[entry(&ours, "application/spdx+json")], Some(&tag));
    pair.site.once();
    let listed = stored(&pair.target, &tag)["manifests"].as_array().unwrap().clone();
    let digests: Vec<&str> = listed.iter().filter_map(|one| one["digest"].as_str()).collect();
    assert_eq!(digests, [ours.digest().to_string(), theirs.digest().to_string()]);
    pair.target.log().clear();
    pair.site.once();
    assert_eq!(pair.target.log().count("manifest PUT"), 0, "copied content is not copied again");
}

#[test]
fn disabled_referrers_are_copied_only_if_included_by_name() {
    let image = images::small(Family::Oci, 1);
    let (signature, sbom) = (images::signature(&image), images::sbom(&image, 1));
    let named = images::signature_tag(&image);
    let include = format!("referrers: false, tags: {{include: [v1, \"{named}\"]}}");
    for (keys, is_copied) in [("referrers: false", false), (include.as_str(), true)] {
        let pair = Pair::between(without_api(), without_api(), keys);
        pair.put(&image, "v1");
        pair.put(&signature, &named);
        sbom.put(&pair.source, "app", None);
        put_index(&pair.source, &[entry(&sbom, "application/spdx+json")], Some(&digest_tag(image.digest())));
        pair.site.once();
        assert_eq!(pair.arrived("v1"), Some(image.digest()));
        assert_eq!(pair.arrived(&named).is_some(), is_copied, "{keys}");
        assert_eq!(pair.arrived(&digest_tag(image.digest())), None);
    }
}

#[test]
fn tag_of_a_kept_previous_digest_is_not_copied() {
    let image = images::small(Family::Oci, 1);
    let kept = format!("v1.previous-{}", image.digest().short());
    let foreign = "v1.previous-0123456789ab";
    let include = "tags: {include: [\"*.previous-*\"]}";
    for (keys, is_copied) in [("", false), (include, true)] {
        let pair = Pair::with(keys);
        pair.put(&image, &kept);
        pair.put(&image, foreign);
        pair.site.once();
        assert_eq!(pair.arrived(&kept).is_some(), is_copied, "{keys}");
        assert_eq!(pair.arrived(foreign), Some(image.digest()), "the tag contains the digest of other content");
    }
}

#[test]
fn plan_explains_tags_with_reserved_names() {
    let pair = Pair::between(without_api(), without_api(), "");
    let (image, other) = (images::small(Family::Oci, 1), images::small(Family::Oci, 2));
    pair.put(&image, "v1");
    pair.put(&other, &digest_tag(other.digest()));
    pair.put(&other, &format!("v1.previous-{}", other.digest().short()));
    let sbom = images::sbom(&image, 1);
    sbom.put(&pair.source, "app", None);
    put_index(&pair.source, &[entry(&sbom, "application/spdx+json")], Some(&digest_tag(image.digest())));
    let plan = pair.site.run(&["plan", "--explain"]).expect_success().stdout;
    assert!(plan.starts_with("app: 2 to copy, "), "{plan}");
    assert!(
        plan.contains(&format!("the referrers list of {}, which is copied with its subject", image.digest())),
        "{plan}"
    );
    assert!(plan.contains("the tag keeps the previous digest of another tag"), "{plan}");
}

#[test]
fn refused_referrer_is_named_counted_and_retried() {
    let pair = Pair::with("");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    let (sbom, other) = (images::sbom(&image, 1), images::sbom(&image, 2));
    sbom.put(&pair.source, "app", None);
    other.put(&pair.source, "app", None);
    pair.target.set(Fault::ManifestPutFailsFor(sbom.digest().to_string()));
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 4, "{}{}", output.stdout, output.stderr);
    assert_eq!(pair.arrived("v1"), Some(image.digest()));
    assert!(output.stdout.starts_with("app: 1 copied, 1 left behind, "), "{}", output.stdout);
    let line =
        format!("  not copied to {}/app: referrer {} of {}: ", pair.target.host(), sbom.digest(), image.digest());
    assert!(output.stdout.contains(&line), "{line} is not in {}", output.stdout);
    let manifests = |digest: Digest| pair.target.store().manifest("app", &digest.to_string()).is_some();
    assert!(!manifests(sbom.digest()) && manifests(other.digest()));
    pair.target.heal();
    pair.site.once();
    assert!(manifests(sbom.digest()), "the next run copies the referrer");
}

#[test]
fn artifact_manifests_are_copied_with_blobs_and_subject() {
    let pair = Pair::with("");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    let alone = images::artifact_manifest("application/x-test", "alone", None);
    let sbom = images::artifact_manifest("application/spdx+json", "{\"spdx\":1}", Some(&image));
    pair.put(&alone, "artifact");
    sbom.put(&pair.source, "app", None);
    pair.site.once();
    assert_eq!(pair.arrived("artifact"), Some(alone.digest()));
    let referrers = pair.target.store().referrers("app", &image.digest());
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0]["digest"], sbom.digest().to_string());
    assert_eq!(referrers[0]["mediaType"], MediaType::OCI_ARTIFACT);
    assert!(pair.target.store().blob("app", &Digest::of(&sbom.blobs[0])).is_some());
}

#[test]
fn manifest_of_an_unknown_type_fails_alone() {
    let pair = Pair::with("");
    pair.put(&images::small(Family::Oci, 1), "v1");
    let odd = Manifest::new(MediaType::new("application/vnd.example.v9+json"), "{\"x\": 1}".into());
    pair.source.store().put_manifest("app", (&odd).into(), Some("odd"));
    let report = pair.site.report(1);
    let message = report.tag("odd")["reason"].as_str().unwrap();
    assert!(message.contains("the media type application/vnd.example.v9+json is not a manifest"), "{message}");
    assert!(pair.arrived("v1").is_some());
}

#[test]
fn cosign_3_bundles_follow_in_every_form_of_listing() {
    for (at_source, at_target) in [(true, true), (true, false), (false, true), (false, false)] {
        let server = |api| if api { Server::start() } else { without_api() };
        let pair = Pair::between(server(at_source), server(at_target), "");
        let image = images::two_platforms(Family::Oci, 1);
        pair.put(&image, "v1");
        let bundle = images::cosign_bundle(&image, 1);
        bundle.put(&pair.source, "app", None);
        let tag = digest_tag(image.digest());
        // In lists of referrers at GHCR, the artifact type is that of the empty configuration.
        let wrong = "application/vnd.oci.empty.v1+json";
        let list = (!at_source).then(|| put_index(&pair.source, &[entry(&bundle, wrong)], Some(&tag)));
        pair.site.once();
        let there = pair.target.store().manifest("app", &bundle.digest().to_string()).unwrap();
        assert_eq!(there.bytes, bundle.manifest.bytes());
        match (at_target, list) {
            (true, _) => {
                let listed = pair.target.store().referrers("app", &image.digest());
                assert_eq!(listed[0]["artifactType"], images::BUNDLE);
            }
            (false, Some(list)) => assert_eq!(pair.arrived(&tag), Some(list.digest()), "it goes over verbatim"),
            (false, None) => {
                let listed = stored(&pair.target, &tag);
                assert_eq!(listed["manifests"][0]["artifactType"], images::BUNDLE);
            }
        }
        assert!(pair.site.once().starts_with("app: nothing changed (1 unchanged)"), "{at_source} {at_target}");
    }
}

#[test]
fn list_entry_with_a_wrong_artifact_type_is_merged_unchanged() {
    let pair = Pair::between(without_api(), without_api(), "");
    let image = images::small(Family::Oci, 1);
    pair.put(&image, "v1");
    let tag = digest_tag(image.digest());
    let (theirs, ours) = (images::cosign_bundle(&image, 1), images::sbom(&image, 2));
    theirs.put(&pair.source, "app", None);
    let wrong = entry(&theirs, "application/vnd.oci.empty.v1+json");
    put_index(&pair.source, std::slice::from_ref(&wrong), Some(&tag));
    ours.put(&pair.target, "app", None);
    let right = entry(&ours, "application/spdx+json");
    put_index(&pair.target, std::slice::from_ref(&right), Some(&tag));
    pair.site.once();
    assert_eq!(stored(&pair.target, &tag)["manifests"], json!([right, wrong]));
}

#[test]
fn foreign_layers_are_copied_by_rule_or_without_urls() {
    let layer = images::foreign_layer(Family::Oci, 2);
    let with_urls = images::image(Family::Oci, linux("amd64"), &[images::layer(Family::Oci, 1, 1000), layer.clone()]);
    let without = images::without_urls(&with_urls);
    for (keys, image, is_copied) in
        [("", &with_urls, false), ("foreign_layers: copy", &with_urls, true), ("", &without, true)]
    {
        let pair = Pair::with(keys);
        pair.put(image, "v1");
        pair.source.store().put_blob_as("app", layer.digest(), images::foreign_bytes(Family::Oci, 2));
        pair.site.once();
        assert_eq!(pair.arrived("v1"), Some(image.digest()));
        assert_eq!(pair.target.store().blob("app", &layer.digest()).is_some(), is_copied, "{keys}");
    }
}

#[test]
fn many_tags_failing_for_one_reason_share_a_line() {
    let pair = Pair::with("");
    let layers = [images::layer(Family::Oci, 1, 1000), images::foreign_layer(Family::Oci, 2)];
    let image = images::image(Family::Oci, linux("amd64"), &layers);
    (0..60).for_each(|at| pair.put(&image, &format!("v{at}")));
    pair.target.set(Fault::ForeignLayersRefused(400));
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 1);
    let lines = |text: &str, word: &str| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!(lines(&output.stdout, "  failed 60 tags at "), 1, "{}", output.stdout);
    assert_eq!(lines(&output.stdout, " and 40 more (--json has all)"), 1, "{}", output.stdout);
    assert_eq!(output.stderr, "configuration: sync.yaml\n", "each fact is printed once");
    let output = pair.site.run(&["--log-format", "pretty", "once"]);
    assert_eq!(lines(&output.stderr, "ERROR failed"), 20, "{}", output.stderr);
    assert_eq!(lines(&output.stderr, "more tags failed for the same reason"), 1, "{}", output.stderr);
    assert!(output.stderr.contains("further=40"), "{}", output.stderr);
}

/// Content with BLAKE3 digests only: an index of one image.
struct Blake3 {
    index: Manifest,
    image: Manifest,
    blobs: Vec<Digest>,
}

impl Blake3 {
    fn put(server: &Server, tag: &str) -> Self {
        let like = Digest::Blake3([0; 32]);
        let contents = [
            ("application/vnd.oci.image.config.v1+json", Bytes::from_static(b"{}")),
            ("application/vnd.oci.image.layer.v1.tar", images::noise(1, 200_000)),
        ];
        let [config, layer] = contents.map(|(media_type, bytes)| {
            let (digest, size) = (like.same_algorithm_of(&bytes), bytes.len());
            server.store().put_blob_as("app", digest, bytes);
            (digest, json!({"mediaType": media_type, "digest": digest, "size": size}))
        });
        let body = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config.1, "layers": [layer.1],
        });
        let image = Manifest::received(None, body.to_string().into(), Some(&like));
        server.store().put_manifest("app", (&image).into(), None);
        let entry = json!({
            "mediaType": MediaType::OCI_MANIFEST, "digest": image.digest(), "size": image.bytes().len(),
            "platform": linux("amd64"),
        });
        Self { index: put_index(server, &[entry], Some(tag)), image, blobs: vec![config.0, layer.0] }
    }
}

#[test]
fn blake3_content_is_copied_through_a_layout_to_a_registry() {
    let (source, target) = (Server::start(), Server::start());
    let content = Blake3::put(&source, "v1");
    let (from, to) = (source.host(), target.host());
    let site = Site::with(
        &[from, to],
        &format!(
            "- {{name: out, source: \"{from}/app\", target: \"oci-layout:carried\"}}\n\
             - {{name: in, source: \"oci-layout:carried\", target: \"{to}/app\"}}"
        ),
    );
    site.run(&["once", "out"]).expect_success();
    for digest in content.blobs.iter().chain([&content.image.digest()]) {
        assert!(site.path("carried/blobs/blake3").join(digest.hex()).is_file(), "{digest}");
    }
    site.run(&["once", "in"]).expect_success();
    assert_eq!(target.store().tag("app", "v1"), Some(content.index.digest()));
    let image = target.store().manifest("app", &content.image.digest().to_string()).unwrap();
    assert_eq!(image.bytes, content.image.bytes());
    assert!(content.blobs.iter().all(|digest| target.store().blob("app", digest).is_some()));
    assert!(site.once().contains("nothing changed"));
}

#[test]
fn wrong_bytes_under_a_blake3_digest_are_never_copied() {
    let pair = Pair::with("");
    let content = Blake3::put(&pair.source, "v1");
    let layer = content.blobs[1];
    pair.source.set(Fault::BlobBytesWrong(layer));
    let output = pair.site.run(&["once"]);
    assert_eq!(output.code(), 1);
    assert!(output.stdout.contains(&layer.to_string()[..19]), "{}", output.stdout);
    assert_eq!((pair.arrived("v1"), pair.target.store().blob("app", &layer)), (None, None));
}

#[test]
fn blobs_of_a_misstated_size_are_copied_completely() {
    let pair = Pair::with("");
    let (layer, config) = (b"layer".repeat(2000), br#"{"os":"linux","architecture":"amd64"}"#.to_vec());
    let right = i64::try_from(layer.len()).unwrap();
    let sizes = [json!(0), json!(right + 7), json!(right - 7), json!(-1), json!(2.5), json!("many"), Value::Null];
    let mut put = Vec::new();
    for (at, size) in sizes.into_iter().enumerate() {
        // Each image has unique content, because the program does not query the size of a blob that the target has.
        let layer = [layer.as_slice(), &[u8::try_from(at).unwrap()]].concat();
        let of = |content: &[u8], media_type: &str, size: &Value| {
            let digest = pair.source.store().put_blob("app", Bytes::copy_from_slice(content));
            let mut descriptor = json!({"mediaType": media_type, "digest": digest});
            if !size.is_null() {
                descriptor["size"] = size.clone();
            }
            descriptor
        };
        let config_size = if at == 0 { json!(0) } else { json!(config.len()) };
        let body = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": of(&config, "application/vnd.oci.image.config.v1+json", &config_size),
            "layers": [of(&layer, "application/vnd.oci.image.layer.v1.tar", &size)],
        });
        let manifest = Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), body.to_string().into());
        let tag = format!("v{at}");
        pair.source.store().put_manifest("app", (&manifest).into(), Some(&tag));
        put.push((tag, manifest.digest(), Digest::of(&layer)));
    }
    pair.site.once();
    for (tag, digest, layer) in put {
        assert_eq!(pair.arrived(&tag), Some(digest), "{tag}");
        assert!(pair.target.store().blob("app", &layer).is_some(), "{tag}");
    }
}

#[test]
fn misstated_blob_is_not_resent_to_a_registry_with_it() {
    for stated in [0, 7, 10_001, 1 << 30] {
        let pair = Pair::with("");
        images::small(Family::Oci, 1).put(&pair.target, "app", Some("old"));
        let layer = b"layer".repeat(2000);
        put_misstated(&pair.source, &layer, stated, &["v1", "v2"]);
        pair.target.store().put_blob("app", layer.into());
        pair.site.once();
        assert!(pair.arrived("v1").is_some() && pair.arrived("v2").is_some(), "{stated}");
        assert_eq!(pair.target.log().count("upload POST"), 2, "only the configurations: {stated}");
    }
}

#[test]
fn misstated_blobs_are_copied_into_and_out_of_layouts() {
    let pair = Pair::with("");
    let layer = b"layer".repeat(2000);
    put_misstated(&pair.source, &layer, 7, &["v1", "v2"]);
    let folder = pair.site.path("layout").display().to_string();
    let (source, target) = (pair.source.host(), pair.target.host());
    let entries = format!(
        "- {{name: out, source: \"{source}/app\", target: \"oci-layout:{folder}\"}}\n\
         - {{name: in, source: \"oci-layout:{folder}\", target: \"{target}/app\"}}"
    );
    pair.site.configure(&[source, target], &entries);
    for entry in ["out", "in"] {
        pair.site.run(&["once", entry]).expect_success();
    }
    assert_eq!(pair.target.store().tags("app"), pair.source.store().tags("app"));
    assert!(pair.target.store().blob("app", &Digest::of(&layer)).is_some());
}

/// Puts an image for each tag. All images have this layer, with this size in their manifests.
fn put_misstated(server: &Server, layer: &[u8], stated: u64, tags: &[&str]) {
    let store = server.store();
    let layer = store.put_blob("app", Bytes::copy_from_slice(layer));
    for tag in tags {
        let config = format!("{{\"os\":\"linux\",\"architecture\":\"amd64\",\"author\":\"{tag}\"}}");
        let size = config.len();
        let config = store.put_blob("app", config.into());
        let body = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": stated}],
        });
        let manifest = Manifest::new(MediaType::new(MediaType::OCI_MANIFEST), body.to_string().into());
        store.put_manifest("app", (&manifest).into(), Some(tag));
    }
}
